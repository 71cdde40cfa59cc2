"""What is known of many rows at once: present or not, since when, and hash and stamp of every tracked cell.

The vectorised form of `State` in `agreement_model.py`: one array element per row, one matrix column per tracked column.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.model import packed
from engine.model.hashing import UNKNOWN

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

NEVER = -1
"""Stamp and life of what nobody has shown us."""


@dataclass(slots=True)
class State:
    """present, life, fence: shape (rows,); hashes, stamps: shape (rows, columns). The arrays are owned and may be changed in place.

    life: stamp of the insert, or of the delete where the row is gone (a tombstone); NEVER for a row never heard of.
    fence: the chunk a baseline row was read in (`Chunk.fence`); events up to it are contained in the row already.
    """

    present: Bools
    life: Int64s
    fence: Int64s
    hashes: UInt64s
    stamps: Int64s

    def __len__(self) -> int:
        return len(self.present)

    @classmethod
    def unknown(cls, rows: int, columns: int) -> State:
        return cls(
            present=np.zeros(rows, dtype=np.bool_),
            life=np.full(rows, NEVER, dtype=np.int64),
            fence=np.full(rows, NEVER, dtype=np.int64),
            hashes=np.full((rows, columns), UNKNOWN, dtype=np.uint64),
            stamps=np.full((rows, columns), NEVER, dtype=np.int64),
        )

    def take(self, rows: Rows) -> State:
        """A copy of a choice of rows."""
        return State(self.present[rows], self.life[rows], self.fence[rows], self.hashes[rows], self.stamps[rows])

    def put(self, rows: Rows, other: State) -> None:
        """Overwrites a choice of rows, in the order of `rows`."""
        self.present[rows], self.life[rows], self.fence[rows] = other.present, other.life, other.fence
        self.hashes[rows], self.stamps[rows] = other.hashes, other.stamps

    def copy(self) -> State:
        return State(self.present.copy(), self.life.copy(), self.fence.copy(), self.hashes.copy(), self.stamps.copy())

    def newest(self) -> Int64s:
        """Newest stamp of each row, its life included."""
        if self.stamps.shape[1] == 0:
            return self.life.copy()
        newest: Int64s = np.maximum(self.stamps.max(axis=1), self.life)
        return newest

    def pack(self) -> list[bytes]:
        """The stored form of each row, see `packed`. Most rows were written by one or two commits, so distinct stamps are kept once."""
        return packed.pack(self.present, self.life, self.fence, self.hashes, self.stamps)

    @classmethod
    def unpack(cls, values: list[bytes | None], columns: int) -> State:
        """The inverse of `pack`; None becomes an unknown row."""
        state = cls.unknown(len(values), columns)
        if any(values):
            packed.unpack(values, state.present, state.life, state.fence, state.hashes, state.stamps)
        return state


@dataclass(slots=True)
class Writes:
    """What one batch wrote into one table, not yet echoed: one element per row.

    mask: cells that were written. insert: the row was created (all its cells are ours). present False: the row was deleted.
    kept: cells that a row brought along under a new key: they stand there, but are not ours. None where no row did.
    """

    keys: list[bytes]
    present: Bools
    insert: Bools
    life: Int64s
    mask: Bools
    hashes: UInt64s
    stamps: Int64s
    kept: Bools | None = None

    def reshaped(self, place: Int64s) -> Writes:
        """The same over other columns: place says for each which old one it was, -1 for none."""
        had = place >= 0
        mask, hashes, stamps = (
            np.where(had, a[:, place] if a.shape[1] else np.zeros((len(a), len(place)), a.dtype), a.dtype.type(empty))
            for a, empty in ((self.mask, False), (self.hashes, UNKNOWN), (self.stamps, NEVER))
        )
        kept = None if self.kept is None else np.where(had, self.kept[:, place], False)
        return Writes(self.keys, self.present, self.insert, self.life, mask, hashes, stamps, kept)

    def joined(self, other: Writes) -> Writes:
        """Both as one: where they wrote cells of the same row, the row has the cells of both."""
        place = {key: i for i, key in enumerate(self.keys)}
        shared = np.array([place.get(key, -1) for key in other.keys], dtype=np.int64)
        mine, theirs = shared[shared >= 0], np.flatnonzero(shared >= 0)
        own = Writes(list(self.keys), *(getattr(self, f).copy() for f in ("present", "insert", "life", "mask", "hashes", "stamps")))
        written = other.mask[theirs]
        own.mask[mine] |= written
        own.hashes[mine] = np.where(written, other.hashes[theirs], own.hashes[mine])
        own.stamps[mine] = np.where(written, other.stamps[theirs], own.stamps[mine])
        own.insert[mine] |= other.insert[theirs]
        rest = np.flatnonzero(shared < 0)
        kept = None
        if self.kept is not None or other.kept is not None:
            kept = np.concatenate([self.brought, other.brought[rest]])
            kept[mine] |= other.brought[theirs]
            kept[mine] &= ~own.mask[mine]
        present, insert, life, mask, hashes, stamps = (
            np.concatenate([getattr(own, f), getattr(other, f)[rest]]) for f in ("present", "insert", "life", "mask", "hashes", "stamps")
        )
        return Writes(own.keys + [other.keys[i] for i in rest], present, insert, life, mask, hashes, stamps, kept)

    @property
    def brought(self) -> Bools:
        """`kept`, shape as `mask`."""
        return np.zeros_like(self.mask) if self.kept is None else self.kept

    def overlay(self, mine: Int64s, state: State, rows: Int64s) -> None:
        """Puts the writes number `mine` over `rows` of `state`: what stands there as far as we know. An update never creates a row."""
        live = state.present[rows] | self.insert[mine] | ~self.present[mine]
        mine, rows = mine[live], rows[live]
        same = self.present[mine] == state.present[rows]
        state.life[rows] = np.where(same, np.maximum(state.life[rows], self.life[mine]), self.life[mine])
        state.present[rows] = self.present[mine]
        written = self.mask[mine] if self.kept is None else self.mask[mine] | self.kept[mine]
        state.hashes[rows] = np.where(written, self.hashes[mine], state.hashes[rows])
        state.stamps[rows] = np.where(written, self.stamps[mine], state.stamps[rows])
        gone = rows[~self.present[mine]]
        state.hashes[gone] = UNKNOWN
        state.stamps[gone] = NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """For the events that echo a write of ours: the written cells, aligned with the events. known: the write is still pending."""

    known: Bools
    life: Int64s
    mask: Bools
    hashes: UInt64s
    stamps: Int64s
    present: Bools
