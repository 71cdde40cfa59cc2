"""Apply: writes of one transaction into one target, row by row accounted for.

A write that the database refuses is split until the rows at fault stand alone; the others go through. Rows that a foreign key refuses are tried again
at the end of the transaction, when their parents may be there.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.errors import Poison
from engine.model.batch import DELETE
from engine.model.write import WROTE, Write
from engine.ports import Sink

REFUSED = 255
"""In `Applied.result`, beside the results of `engine.model.write`: the database refused the row."""
OWED = 254
"""The same: the row was left out, since the target's log still owes us a change of it."""

Rows = npt.NDArray[np.int64]


@dataclass(slots=True)
class Applied:
    """result: one element per row of the write. keys: the key that the target made, by row number. refused: why, by row number."""

    result: npt.NDArray[np.uint8]
    keys: dict[int, str] = field(default_factory=dict)
    refused: dict[int, Poison] = field(default_factory=dict)


def apply(sink: Sink, writes: Sequence[Write], owed: Sequence[npt.NDArray[np.bool_]] | None = None) -> list[Applied]:
    """Writes into the transaction that is open, in the order given, parents before children. Deletes go first, in the opposite order.
    owed: per write, the rows to leave out, see `OWED`. Transient passes through."""
    owed = owed or [np.zeros(len(write), dtype=np.bool_) for write in writes]
    done = [Applied(np.where(late, OWED, WROTE).astype(np.uint8)) for late in owed]
    for write, applied, late in reversed([*zip(writes, done, owed, strict=True)]):
        _isolated(sink, write, np.flatnonzero((write.op == DELETE) & ~late), applied)
    for write, applied, late in zip(writes, done, owed, strict=True):
        _isolated(sink, write, np.flatnonzero((write.op != DELETE) & ~late), applied)
    waiting, before = _waiting(writes, done), -1
    while sum(len(rows) for _, _, rows in waiting) != before:  # as long as it helps: in a chain of parents each round may let one more in
        before = sum(len(rows) for _, _, rows in waiting)
        for write, applied, rows in waiting:
            _isolated(sink, write, rows[write.op[rows] != DELETE], applied)
        for write, applied, rows in reversed(waiting):
            _isolated(sink, write, rows[write.op[rows] == DELETE], applied)
        waiting = _waiting(writes, done)
    return done


def _waiting(writes: Sequence[Write], done: Sequence[Applied]) -> list[tuple[Write, Applied, Rows]]:
    return [(w, a, rows) for w, a in zip(writes, done, strict=True) if len(rows := _refused_by_foreign_key(a))]


def _refused_by_foreign_key(applied: Applied) -> Rows:
    return np.array(sorted(row for row, why in applied.refused.items() if why.reason == "foreign_key"), dtype=np.int64)


def _isolated(sink: Sink, write: Write, rows: Rows, applied: Applied, named_before: int = 0) -> None:
    if len(rows) == 0:
        return
    try:
        outcome = sink.write(write if len(rows) == len(write) else write.take(rows))
    except Poison as poison:
        named = rows[list(poison.rows)] if poison.rows else rows if len(rows) == 1 else rows[:0]
        for row in named.tolist():
            applied.result[row], applied.refused[row] = REFUSED, poison
        rest = np.setdiff1d(rows, named)
        # A database that names one row at a time would have the whole batch sent once per bad row; halves bound that.
        halves = [rest] if len(named) and named_before < 2 else np.array_split(rest, 2)
        for half in halves:
            _isolated(sink, write, half, applied, named_before + 1 if len(named) else 0)
        return
    applied.result[rows] = outcome.result
    if outcome.keys is not None:
        applied.keys |= zip(rows.tolist(), outcome.keys.to_pylist(), strict=True)
    for row in rows.tolist() if applied.refused else ():
        applied.refused.pop(row, None)
