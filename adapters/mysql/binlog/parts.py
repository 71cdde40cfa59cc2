"""A transaction that is too large for one batch is handed over in parts, which are cut between its rows events."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass

import numpy as np

from adapters.mysql import gtid
from adapters.mysql.binlog import stream as s
from adapters.mysql.binlog.assemble import Assembler
from adapters.mysql.binlog.buffer import Arena, Inbox
from adapters.mysql.binlog.found import Found
from adapters.mysql.binlog.tables import Tables
from engine.model.batch import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """spans: the marker of a transaction of ours included. position: from which the next part is read; None behind the last part."""

    spans: s.Int64s
    position: Position | None


class Parts:
    """rows, size: of a part at most, the size in bytes of row events. start: where reading begins, within a transaction perhaps. before: the position
    before the large transaction."""

    def __init__(self, found: Found, tables: Tables, assembler: Assembler, *, rows: int, size: int, start: Position) -> None:
        self._found = found
        self._tables = tables
        self._assembler = assembler
        self.rows, self.size = rows, size
        self._resume = gtid.part_of(start)
        self.before = start
        self._bounds: deque[tuple[int, int]] = deque()

    @property
    def resumes(self) -> bool:
        """Whether reading begins within a transaction."""
        return self._resume is not None

    @property
    def waiting(self) -> bool:
        """Whether parts are left of the transaction that was cut."""
        return bool(self._bounds)

    def begun(self) -> bool:
        """Whether parts of the transaction that is waiting were handed over before we began to read."""
        return self._resume is not None and self._resume[0] == int(self._found.txns[0, 1]) and len(self._found.whole()) > 0

    def cut(self, inbox: Inbox, arena: Arena) -> None:
        """The one transaction that is waiting."""
        spans = self._found.whole()
        bounds = [0]
        rows, size = 0, 0
        if self.begun():
            assert self._resume is not None
            bounds = [int(np.searchsorted(spans[:, s.EVENT_NUMBER], self._resume[1], side="right"))]
        counts = self._assembler.count(lambda inner: arena.data if inner else inbox.data, spans, self._tables.layouts)
        sizes = spans[:, s.END] - spans[:, s.START]
        for n in range(bounds[0], len(spans)):
            if n > bounds[-1] and (rows + counts[n] > self.rows or size + sizes[n] > self.size):
                bounds.append(n)
                rows, size = 0, 0
            rows += int(counts[n])
            size += int(sizes[n])
        bounds.append(len(spans))
        self._bounds.extend(itertools.pairwise(bounds))

    def take(self) -> Part:
        first, last = self._bounds.popleft()
        spans = self._found.whole()
        # The marker, which is in the first part, tells of all of them whose they are.
        marks = np.array([layout.wanted.watched is None for layout in self._tables.layouts], dtype=np.bool_)
        chosen = np.flatnonzero(marks[spans[:, s.SLOT]] | ((np.arange(len(spans)) >= first) & (np.arange(len(spans)) < last)))
        high = None
        if self._bounds:
            file, offset, state = gtid.parts(self.before)
            high = gtid.position(file, offset, state, (int(self._found.txns[0, 1]), int(spans[last - 1, s.EVENT_NUMBER])))
        return Part(spans=spans[chosen].copy(), position=high)
