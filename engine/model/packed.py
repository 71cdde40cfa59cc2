"""A row of the ledger in bytes, for many rows at once.

    byte 0: 1 when the row is present. byte 1: n, how many distinct stamps its cells have (0: one for each cell, in order). byte 2: 1 with a fence.
    bytes 3 to 7: zero. Then words of eight bytes, little-endian: life, fence (if any), a hash for each cell, the distinct stamps in ascending
    order; then, for n > 1, one byte for each cell: which of them it has.

Rows of one shape are packed together, as a matrix; there are few shapes, since a row was mostly written by one, two or three commits.
"""
from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

_MOST = 6
"""More distinct stamps than this are not looked for."""


def pack(present: Bools, life: Int64s, fence: Int64s, hashes: UInt64s, stamps: Int64s) -> list[bytes]:
    """One value per row; the arguments as in `State`."""
    rows, columns = hashes.shape
    ordered = np.sort(stamps, axis=1)
    fresh = np.ones(stamps.shape, dtype=np.bool_)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    distinct = fresh.sum(axis=1)
    distinct[distinct > min(_MOST, columns)] = 0
    shape = distinct * 2 + (fence >= 0)
    out: list[bytes] = [b""] * rows
    for one in np.unique(shape).tolist():
        chosen = np.flatnonzero(shape == one)
        n, fenced = divmod(one, 2)
        head = np.zeros((len(chosen), 8), dtype=np.uint8)
        head[:, 0], head[:, 1], head[:, 2] = present[chosen], n, fenced
        kept = stamps[chosen] if n == 0 else ordered[chosen][fresh[chosen]].reshape(len(chosen), n)
        parts = [head, _bytes(life[chosen, None]), _bytes(fence[chosen, None]) if fenced else head[:, :0], _bytes(hashes[chosen]), _bytes(kept)]
        if n > 1:
            parts.append((stamps[chosen][:, :, None] > kept[:, None, :]).sum(axis=2, dtype=np.uint8))
        matrix = np.concatenate(parts, axis=1)
        raw, width = matrix.tobytes(), matrix.shape[1]
        pieces = [raw[i : i + width] for i in range(0, len(raw), width)]
        if len(pieces) == rows:
            return pieces
        for row, piece in zip(chosen.tolist(), pieces, strict=True):
            out[row] = piece
    return out


def unpack(values: list[bytes | None], present: Bools, life: Int64s, fence: Int64s, hashes: UInt64s, stamps: Int64s) -> None:
    """Fills the arrays, in place, for the rows that have a value."""
    columns = hashes.shape[1]
    shape = np.fromiter((-1 if value is None else value[1] * 2 + value[2] for value in values), dtype=np.int64, count=len(values))
    for one in np.unique(shape).tolist():
        if one < 0:
            continue
        chosen = np.flatnonzero(shape == one)
        n, fenced = divmod(one, 2)
        raw = b"".join([values[i] for i in chosen.tolist()])  # type: ignore[misc]
        matrix = np.frombuffer(raw, dtype=np.uint8).reshape(len(chosen), -1)
        present[chosen] = matrix[:, 0] != 0
        place = 8
        life[chosen] = _words(matrix, place, 1)[:, 0]
        place += 8
        if fenced:
            fence[chosen] = _words(matrix, place, 1)[:, 0]
            place += 8
        hashes[chosen] = _words(matrix, place, columns).view(np.uint64)
        place += 8 * columns
        kept = _words(matrix, place, n or columns)
        if n == 1:
            kept = np.broadcast_to(kept, (len(chosen), columns))
        elif n > 1:
            kept = np.take_along_axis(kept, matrix[:, place + 8 * n :].astype(np.intp), axis=1)
        stamps[chosen] = kept


def _bytes(words: npt.NDArray[np.int64] | npt.NDArray[np.uint64]) -> Bytes:
    return np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)


def _words(matrix: Bytes, place: int, count: int) -> Int64s:
    return np.ascontiguousarray(matrix[:, place : place + 8 * count]).view(np.int64).reshape(len(matrix), count)
