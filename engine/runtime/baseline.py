"""First start and resync: all rows of the rules, read in chunks without locks while the logs are kept.

Two passes. First every tracked table is read into the ledger, with stamp 0 and the chunk's fence, so that any logged change is newer and events that a
chunk contains already are not played again. Then each rule asks about all rows of its source, as `run` would. Both passes remember how far they came.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from engine.errors import Oversized, Transient
from engine.ledger import keys as row_keys
from engine.ledger.ledger import Ledger
from engine.model.batch import Chunk
from engine.model.hashing import UNKNOWN, hash_column
from engine.observe.progress import progress
from engine.ports import FETCH_BYTES, Reader
from engine.runtime.failpoints import reach
from engine.runtime.intake import clock_us, log_keys, unnamed
from engine.runtime.pipeline import Pipeline
from engine.runtime.topology import Lane, Topology, Tracked, index_name

log = structlog.get_logger()
Bools = npt.NDArray[np.bool_]
T = TypeVar("T")

Place = Any
"""How far a table is read, as the ledger keeps it: None at the beginning, the last identity as a list, then {"unnamed": last primary key or None} while
the rows without an identity are read, which are set aside by the rules (a person has to know of them), then DONE."""
DONE = "done"


@dataclass(slots=True)
class Baseline:
    """stop: asked between chunks; true ends the work, which goes on at the next start. wait: called with the number of the attempt when a database is away;
    raises to give up."""

    pipeline: Pipeline
    topology: Topology
    ledger: Ledger
    readers: dict[str, Reader]
    chunk_rows: int
    stop: Callable[[], bool]
    wait: Callable[[str, int, Transient], None]

    def due(self) -> bool:
        """Whether anything is left to read."""
        tables = any(self.ledger.meta(f"baseline {name}") != "done" for name in self.topology.tracked)
        return tables or any(self.ledger.meta(f"asked {lane.name}") != [fingerprint(lane), "done"] for lane in self.topology.lanes.values())

    def read(self) -> bool:
        """The first pass: tables into the ledger. False when it was stopped before the end."""
        with progress() as shown:
            for tracked in self.topology.tracked.values():
                if self.ledger.meta(f"baseline {tracked.name}") != "done":
                    with shown.task(f"reading {tracked.name}") as task:
                        if not self._read(tracked, task.advance):
                            return False
        return True

    def ask(self, between: Callable[[], None]) -> bool:
        """The second pass: each rule asks about all rows of its source. `between` is called after each chunk: the logs are followed meanwhile, or the
        echoes of what is written here would pile up. False when it was stopped before the end."""
        with progress() as shown:
            for lane in self.topology.lanes.values():
                if self.ledger.meta(f"asked {lane.name}") != [fingerprint(lane), "done"]:
                    with shown.task(f"comparing by rule {lane.name}") as task:
                        if not self._ask(lane, task.advance, between):
                            return False
        return True

    def anew(self, lane: Lane) -> None:
        """Begins with both tables of a rule as if for the first time, because a log has told us all it can (a gap, a TRUNCATE): without history on either
        side the rule's `baseline` decides what differs. What the logs held until now is contained in the rows that are read after this."""
        for tracked in lane.tables:
            if tracked.captured:
                self.ledger.put_meta(f"contained {tracked.name}", self.readers[tracked.system].end().order)
            self.ledger.forget(tracked.name)
            self.ledger.put_meta(f"truncated {tracked.name}", None)
            for other in self.topology.lanes.values():
                if tracked.name in [table.name for table in other.tables]:
                    self.ledger.put_meta(f"asked {other.name}", None)

    def again(self, lane: Lane) -> None:
        """Marks a rule and its tables to be read again."""
        if any(self.ledger.meta(f"truncated {tracked.name}") for tracked in lane.tables):
            self.anew(lane)
        for tracked in lane.tables:
            self.ledger.put_meta(f"baseline {tracked.name}", None)
        self.ledger.put_meta(f"asked {lane.name}", None)

    def _read(self, tracked: Tracked, advance: Callable[[int], None]) -> bool:
        name = f"baseline {tracked.name}"
        for chunk, place in self._chunks(tracked, self.ledger.meta(name)):
            if chunk.rows.num_rows:
                self._store(tracked, chunk)
                reach("baseline.chunk")
                advance(chunk.rows.num_rows)
            self.ledger.put_meta(name, place)
            if place != DONE and self.stop():
                return False
        return True

    def _store(self, tracked: Tracked, chunk: Chunk) -> None:
        keys = _keys(tracked, chunk, self.ledger)
        state = self.ledger.seen(tracked.name, keys)
        # What the log has shown of a row is newer than the chunk; only cells nobody has shown are filled in.
        fresh = ~state.present & (state.life < 0)
        state.present[fresh], state.life[fresh], state.fence[fresh] = True, 0, chunk.fence
        stamps = self._stamps(tracked, chunk)
        for c, column in enumerate(tracked.cells):
            hashes = hash_column(tracked.type(column), chunk.rows.column(column), self.ledger.seed)
            fill = state.present & (state.hashes[:, c] == UNKNOWN)
            state.hashes[fill, c] = hashes[fill]
            state.stamps[fill, c] = np.maximum(state.stamps[fill, c], stamps[fill])
        self.ledger.store(tracked.name, keys, state)
        for columns in tracked.indexes:
            index = index_name(tracked, columns)
            values = row_keys.encode([chunk.rows.column(c).combine_chunks() for c in columns], self.ledger.remember_long_key)
            known = self.ledger.join_values(index, keys)
            joins = [(key, new or b"") for key, new, old, there in zip(keys, values, known, state.present, strict=True) if there and old is None]
            self.ledger.store_joins(index, dict(joins))
        if tracked.aliased:
            self.ledger.store_aliases(tracked.name, log_keys(chunk.rows, tracked), keys)

    def _stamps(self, tracked: Tracked, chunk: Chunk) -> npt.NDArray[np.int64]:
        rows = chunk.rows.num_rows
        if tracked.clock is None:
            return np.zeros(rows, dtype=np.int64)
        clock = clock_us(chunk.rows.column(tracked.clock), np.zeros(rows, dtype=np.int64))
        return np.where(clock > 0, clock * 16 + self.topology.ranks[tracked.system], 0)

    def _ask(self, lane: Lane, advance: Callable[[int], None], between: Callable[[], None]) -> bool:
        name, mark = f"asked {lane.name}", fingerprint(lane)
        before = self.ledger.meta(name)
        begin: Place = before[1] if before and before[0] == mark and before[1] != DONE else None
        tie = lane.settings.baseline
        for chunk, place in self._chunks(lane.source, begin):
            self.pipeline.ask_rows(lane, _keys(lane.source, chunk, self.ledger), chunk.rows, tie, self._agree, {name: [mark, place]})
            reach("baseline.asked")
            advance(chunk.rows.num_rows)
            between()
            if place != DONE and self.stop():
                return False
        return True

    def _agree(self, lane: Lane, source_keys: Sequence[bytes], target_keys: Sequence[bytes], differ: Bools) -> Bools:
        """Cells on which the opposite rule, evaluated over the target's rows, finds the source's cells equal."""
        nothing = np.zeros_like(differ)
        if lane.link is None or lane.view is not None or self.topology.lanes[lane.link].view is not None:
            return nothing
        back = self.topology.lanes[lane.link]
        wanted = row_keys.decode(list(target_keys), lane.target.identity, self.ledger.long_key)
        columns = lane.target.watched.columns
        reader = self.readers[lane.target.system]
        most, half = FETCH_BYTES if len(source_keys) > 1 else None, len(source_keys) // 2
        try:
            images = self._patiently(lane.target, lambda: reader.fetch(lane.target.table, columns, lane.target.identity, wanted, most)).select(list(columns))
        except Oversized:
            first = self._agree(lane, source_keys[:half], target_keys[:half], differ[:half])
            return np.concatenate([first, self._agree(lane, source_keys[half:], target_keys[half:], differ[half:])])
        found = self.pipeline.proposer.evaluator.evaluate(back.rule, images)
        keys = row_keys.encode([found.values.column(c).combine_chunks() for c in back.rule.key])
        place = {key: i for i, key in enumerate(keys)}
        rows = np.array([place.get(key, -1) for key in source_keys], dtype=np.int64)
        state = self.ledger.seen(lane.source.name, list(source_keys))
        for c, cell in enumerate(lane.cells):
            counterparts = [name for name in lane.rule.lineage.get(cell, ()) if name in back.cells and cell in back.rule.lineage[name]]
            same = rows >= 0
            for name in counterparts:
                hashes = hash_column(lane.source.type(name), found.values.column(name), self.ledger.seed)
                same &= hashes[rows] == state.hashes[:, lane.source.cells.index(name)] if len(hashes) else False
            nothing[:, c] = same & bool(counterparts)
        return nothing

    def _chunks(self, tracked: Tracked, place: Place) -> Iterator[tuple[Chunk, Place]]:
        """The rows from a place of the table on, each chunk with the place behind it."""
        while place != DONE:
            if isinstance(place, dict) and not tracked.table.primary_key:
                yield from self._unkeyed(tracked)
                return
            chunk, place = self._chunk(tracked, place)
            yield chunk, place

    def _unkeyed(self, tracked: Tracked) -> Iterator[tuple[Chunk, Place]]:
        """Rows with neither an identity nor a primary key. There is no place among them: what breaks off begins anew, which changes nothing."""
        table, columns = tracked.table, tracked.watched.columns
        nullable = [c for c in tracked.identity if table.column(c).nullable]
        attempt = 0
        while True:
            attempt += 1
            try:
                for chunk in self.readers[tracked.system].read_unkeyed(table, columns, nullable, self.chunk_rows):
                    yield chunk, {"unnamed": None}
            except Transient as error:
                self.wait(tracked.system, attempt, error)
                continue
            yield Chunk(rows=pa.table({c: pa.array([], pa.string()) for c in columns}), fence=-1, last=None), DONE
            return

    def _chunk(self, tracked: Tracked, place: Place) -> tuple[Chunk, Place]:
        table, columns, reader = tracked.table, tracked.watched.columns, self.readers[tracked.system]
        nullable = [c for c in tracked.identity if table.column(c).nullable]
        unnamed_rows = isinstance(place, dict)
        at = place["unnamed"] if isinstance(place, dict) else place
        after = tuple(at) if at else None
        if unnamed_rows:
            chunk = self._patiently(tracked, lambda: reader.read_chunk(table, columns, table.primary_key, after, self.chunk_rows, nullable))
        else:
            chunk = self._patiently(tracked, lambda: reader.read_chunk(table, columns, tracked.identity, after, self.chunk_rows))
        if chunk.last is not None:
            return chunk, {"unnamed": list(chunk.last)} if unnamed_rows else list(chunk.last)
        return chunk, {"unnamed": None} if nullable and not unnamed_rows else DONE

    def _patiently(self, tracked: Tracked, read: Callable[[], T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                return read()
            except Transient as error:
                self.wait(tracked.system, attempt, error)


def fingerprint(lane: Lane) -> str:
    """Changes when the rule does: then all its rows are asked again."""
    text = f"{lane.settings.statement}|{lane.settings.into}|{lane.rule.key}|{lane.policy_names}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _keys(tracked: Tracked, chunk: Chunk, ledger: Ledger) -> list[bytes]:
    keys = row_keys.encode([chunk.rows.column(c).combine_chunks() for c in tracked.identity], ledger.remember_long_key)
    if None not in keys:
        return [key or b"" for key in keys]
    return [name if key is None else key for name, key in zip(unnamed(chunk.rows, tracked), keys, strict=True)]
