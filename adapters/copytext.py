"""Rows as the text that bulk loading takes: PostgreSQL's COPY text format, which is also the default format of MySQL's LOAD DATA.

Fields are separated by a tab, rows end with a newline, NULL is `\\N`; backslash, tab, newline, carriage return and NUL are escaped.
Protocol: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2 and https://dev.mysql.com/doc/refman/8.0/en/load-data.html
(PostgreSQL has no text with NUL: a caller refuses such rows first, see `with_nul`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_Bytes = npt.NDArray[np.uint8]
_Ints = npt.NDArray[np.int64]

_TAB, _NEWLINE, _RETURN, _BACKSLASH, _N, _ZERO = 9, 10, 13, 92, 78, 48


@dataclass(frozen=True, slots=True)
class _Flat:
    """One column's buffers. starts: (rows + 1,) offsets into data. nulls: (rows,) or empty when there are none."""

    starts: npt.NDArray[np.int32]
    data: _Bytes
    nulls: npt.NDArray[np.bool_]


def encode(columns: Sequence[pa.Array | pa.ChunkedArray]) -> memoryview:
    """The rows of these columns of one length, in order. String and binary arrays are taken as they are, others as pyarrow casts them to text.

    Two passes over Arrow's buffers: the size of each row, then the bytes. Raises ValueError when the columns differ in length.
    """
    if not columns:
        return memoryview(b"")
    rows = len(columns[0])
    if any(len(column) != rows for column in columns):
        raise ValueError("columns of one length are needed")
    flats = [_flat(column) for column in columns]
    ends = np.full(rows, len(columns), dtype=np.int64)  # separators and the newline
    plain = [_sizes(flat.starts, flat.data, flat.nulls, ends) for flat in flats]
    cursor = np.empty(rows, dtype=np.int64)
    total = _cursors(ends, cursor)
    out = np.empty(total, dtype=np.uint8)
    for flat, is_plain in zip(flats, plain, strict=True):
        _fill(flat.starts, flat.data, flat.nulls, is_plain, cursor, out)
    _end_rows(cursor, out)
    return out.data


def with_nul(column: pa.Array | pa.ChunkedArray) -> _Ints:
    """Rows of a string array that hold a NUL character, ascending."""
    flat = _flat(column)
    first, last = int(flat.starts[0]), int(flat.starts[-1])
    places = np.flatnonzero(flat.data[first:last] == 0)
    if not len(places):
        return places.astype(np.int64)
    return np.unique(np.searchsorted(flat.starts, places + first, side="right") - 1).astype(np.int64)


def _flat(column: pa.Array | pa.ChunkedArray) -> _Flat:
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
    if not (pa.types.is_string(column.type) or pa.types.is_binary(column.type)):
        column = pc.cast(column, pa.binary() if pa.types.is_large_binary(column.type) else pa.string())
    _, offsets, data = column.buffers()
    count = len(column)
    starts = np.frombuffer(offsets, dtype=np.int32, count=count + 1, offset=4 * column.offset) if count else np.zeros(1, dtype=np.int32)
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(1, dtype=np.uint8)
    nulls = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else np.zeros(0, dtype=np.bool_)
    return _Flat(starts, raw, nulls)


@nb.njit(cache=True, nogil=True, inline="always")
def _escaped(byte: int) -> bool:
    return byte == _BACKSLASH or (byte <= _RETURN and (byte in (_TAB, _NEWLINE, _RETURN, 0)))


@nb.njit(cache=True, nogil=True)
def _sizes(starts: npt.NDArray[np.int32], data: _Bytes, nulls: npt.NDArray[np.bool_], sizes: _Ints) -> bool:
    """Adds each field's size to `sizes`. True when no byte of the column needs an escape."""
    extra_all = 0
    some_null = len(nulls) > 0
    for row in range(len(sizes)):
        if some_null and nulls[row]:
            sizes[row] += 2
            continue
        extra = 0
        for i in range(starts[row], starts[row + 1]):
            extra += _escaped(data[i])
        sizes[row] += starts[row + 1] - starts[row] + extra
        extra_all += extra
    return extra_all == 0


@nb.njit(cache=True, nogil=True)
def _cursors(sizes: _Ints, cursor: _Ints) -> int:
    total = 0
    for row in range(len(sizes)):
        cursor[row] = total
        total += sizes[row]
    return total


@nb.njit(cache=True, nogil=True)
def _fill(starts: npt.NDArray[np.int32], data: _Bytes, nulls: npt.NDArray[np.bool_], plain: bool, cursor: _Ints, out: _Bytes) -> None:
    """Writes the field of each row at its cursor, a tab behind it, and moves the cursor on."""
    some_null = len(nulls) > 0
    for row in range(len(cursor)):
        at = cursor[row]
        if some_null and nulls[row]:
            out[at] = _BACKSLASH
            out[at + 1] = _N
            at += 2
        elif plain:
            for i in range(starts[row], starts[row + 1]):
                out[at] = data[i]
                at += 1
        else:
            for i in range(starts[row], starts[row + 1]):
                byte = data[i]
                if _escaped(byte):
                    out[at] = _BACKSLASH
                    at += 1
                    if byte == _TAB:
                        byte = 116
                    elif byte == _NEWLINE:
                        byte = 110
                    elif byte == _RETURN:
                        byte = 114
                    elif byte == 0:
                        byte = _ZERO
                out[at] = byte
                at += 1
        out[at] = _TAB
        cursor[row] = at + 1


@nb.njit(cache=True, nogil=True)
def _end_rows(cursor: _Ints, out: _Bytes) -> None:
    for row in range(len(cursor)):
        out[cursor[row] - 1] = _NEWLINE
