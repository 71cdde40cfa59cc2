"""Writes of ours that the target's log has not shown yet, in memory; the ledger keeps the same on disk."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.model.state import Ours, State, Writes


@dataclass(slots=True)
class _Batch:
    name: bytes
    source: str
    target: str
    number: int
    table: str
    writes: Writes
    places: dict[bytes, int]


class Pending:
    """Batches in the order they were committed."""

    def __init__(self) -> None:
        self._batches: list[_Batch] = []

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, name: bytes, source: str, target: str, number: int, table: str, writes: Writes) -> None:
        places = {key: i for i, key in enumerate(writes.keys)}
        self._batches.append(_Batch(name, source, target, number, table, writes, places))

    def names(self, source: str, target: str, upto: int) -> list[bytes]:
        """Store keys of the batches from source to target up to a number."""
        return [b.name for b in self._batches if _is(b, source, target) and b.number <= upto]

    def knows(self, source: str, target: str, number: int) -> bool:
        """Whether this batch waits for its echo."""
        return any(_is(b, source, target) and b.number == number for b in self._batches)

    def drop(self, source: str, target: str, upto: int) -> None:
        """The target's log has passed this batch: whatever of it was not echoed changed nothing there."""
        self._batches = [b for b in self._batches if not (_is(b, source, target) and b.number <= upto)]

    def reshape(self, table: str, place: npt.NDArray[np.int64]) -> list[tuple[bytes, Writes]]:
        """Gives writes to a table other columns: place says for each which old one it was, -1 for none. The batches that changed, by store key."""
        changed = [b for b in self._batches if b.table == table]
        for batch in changed:
            batch.writes = batch.writes.reshaped(place)
        return [(b.name, b.writes) for b in changed]

    def overlay(self, table: str, keys: Sequence[bytes], state: State) -> None:
        """Lays what is pending for these rows over `state`, oldest batch first."""
        for batch in self._batches:
            if batch.table != table or batch.places.keys().isdisjoint(keys):
                continue
            found = np.fromiter((batch.places.get(key, -1) for key in keys), dtype=np.int64, count=len(keys))
            rows = np.flatnonzero(found >= 0)
            if len(rows):
                batch.writes.overlay(found[rows], state, rows)

    def moved_away(self, table: str, keys: Sequence[bytes]) -> npt.NDArray[np.bool_] | None:
        """Rows that a pending write puts under another key; None where no write of this table does."""
        away: set[bytes] = set()
        for batch in self._batches:
            kept = batch.writes.kept
            if batch.table == table and kept is not None:
                away |= {key for key, row in batch.places.items() if not batch.writes.present[row] and kept[row].any()}
        return np.array([key in away for key in keys], dtype=np.bool_) if away else None

    def ours(self, table: str, source: str, number: int, keys: Sequence[bytes]) -> tuple[Writes, npt.NDArray[np.int64]] | None:
        """The writes of a batch to a table, and for each key its row in them, -1 where the batch did not write it."""
        for batch in self._batches:
            if batch.table == table and batch.source == source and batch.number == number:
                found = np.fromiter((batch.places.get(key, -1) for key in keys), dtype=np.int64, count=len(keys))
                return batch.writes, found
        return None


def gather(parts: Sequence[tuple[Writes, npt.NDArray[np.int64], npt.NDArray[np.int64]]], events: int, columns: int) -> Ours:
    """Aligns writes with events: each part is (writes, rows in them, event numbers); rows of -1 are not ours."""
    ours = Ours(
        known=np.zeros(events, dtype=np.bool_),
        life=np.zeros(events, dtype=np.int64),
        mask=np.zeros((events, columns), dtype=np.bool_),
        hashes=np.zeros((events, columns), dtype=np.uint64),
        stamps=np.zeros((events, columns), dtype=np.int64),
        present=np.zeros(events, dtype=np.bool_),
    )
    for writes, rows, numbers in parts:
        hit = rows >= 0
        rows, numbers = rows[hit], numbers[hit]
        ours.known[numbers] = True
        ours.life[numbers], ours.present[numbers] = writes.life[rows], writes.present[rows]
        ours.mask[numbers], ours.hashes[numbers], ours.stamps[numbers] = writes.mask[rows], writes.hashes[rows], writes.stamps[rows]
    return ours


def _is(batch: _Batch, source: str, target: str) -> bool:
    return batch.source == source and batch.target == target
