"""What is known of many rows at once: present or not, since when, and hash and stamp of every tracked cell.

The vectorised form of `State` in `agreement_model.py`: one array element per row, one matrix column per tracked column.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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

    # One row in the store: present, life, fence, then hashes, then stamps, eight bytes each; stamps once only where all are alike.

    def pack(self) -> list[bytes]:
        """The stored form of each row. Most rows were written by one commit, so equal stamps are kept once: half the bytes for bulk loads."""
        rows, columns = self.hashes.shape
        if rows == 0:
            return []
        alike = (self.stamps == self.stamps[:, :1]).all(axis=1) if columns else np.ones(rows, dtype=np.bool_)
        out: list[bytes] = [b""] * rows
        for choice, stamps in ((np.flatnonzero(alike), self.stamps[:, :1]), (np.flatnonzero(~alike), self.stamps)):
            if len(choice) == 0:
                continue
            words = np.concatenate(
                [
                    self.present[choice, None].astype(np.int64),
                    self.life[choice, None],
                    self.fence[choice, None],
                    self.hashes[choice].view(np.int64),
                    stamps[choice],
                ],
                axis=1,
            )
            width = words.shape[1] * 8
            raw = words.tobytes()
            pieces = [raw[i : i + width] for i in range(0, len(raw), width)]
            if len(choice) == rows:
                return pieces
            for row, piece in zip(choice.tolist(), pieces, strict=True):
                out[row] = piece
        return out

    @classmethod
    def unpack(cls, values: list[bytes | None], columns: int) -> State:
        """The inverse of `pack`; None becomes an unknown row."""
        state = cls.unknown(len(values), columns)
        short, full = (3 + columns + min(columns, 1)) * 8, (3 + 2 * columns) * 8
        if not any(values):
            return state
        sizes = np.fromiter((-1 if v is None else len(v) for v in values), dtype=np.int64, count=len(values))
        for size, uniform in {short: True, full: full == short}.items():
            choice = np.flatnonzero(sizes == size)
            if len(choice) == 0:
                continue
            raw = b"".join(values if len(choice) == len(values) else [values[i] for i in choice.tolist()])  # type: ignore[arg-type, misc]
            words = np.frombuffer(raw, dtype=np.int64).reshape(len(choice), size // 8)
            state.present[choice] = words[:, 0] != 0
            state.life[choice] = words[:, 1]
            state.fence[choice] = words[:, 2]
            state.hashes[choice] = words[:, 3 : 3 + columns].view(np.uint64) if columns else state.hashes[choice]
            if columns:
                state.stamps[choice] = words[:, 3 + columns :] if not uniform else words[:, 3 + columns : 4 + columns]
        return state


@dataclass(slots=True)
class Writes:
    """What one batch wrote into one table, not yet echoed: one element per row.

    mask: cells that were written. insert: the row was created (all its cells are ours). present False: the row was deleted.
    """

    keys: list[bytes]
    present: Bools
    insert: Bools
    life: Int64s
    mask: Bools
    hashes: UInt64s
    stamps: Int64s

    def reshaped(self, place: Int64s) -> Writes:
        """The same over other columns: place says for each which old one it was, -1 for none."""
        had = place >= 0
        mask, hashes, stamps = (
            np.where(had, a[:, place] if a.shape[1] else np.zeros((len(a), len(place)), a.dtype), a.dtype.type(empty))
            for a, empty in ((self.mask, False), (self.hashes, UNKNOWN), (self.stamps, NEVER))
        )
        return Writes(self.keys, self.present, self.insert, self.life, mask, hashes, stamps)

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
        return Writes(
            own.keys + [other.keys[i] for i in rest],
            *(np.concatenate([getattr(own, f), getattr(other, f)[rest]]) for f in ("present", "insert", "life", "mask", "hashes", "stamps")),
        )

    def overlay(self, mine: Int64s, state: State, rows: Int64s) -> None:
        """Puts the writes number `mine` over `rows` of `state`: what stands there as far as we know. An update never creates a row."""
        live = state.present[rows] | self.insert[mine] | ~self.present[mine]
        mine, rows = mine[live], rows[live]
        same = self.present[mine] == state.present[rows]
        state.life[rows] = np.where(same, np.maximum(state.life[rows], self.life[mine]), self.life[mine])
        state.present[rows] = self.present[mine]
        written = self.mask[mine]
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
