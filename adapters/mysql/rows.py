"""Result sets straight from the wire into Arrow string columns: the driver sends the query, this module takes the rows.

The text protocol's row is one packet of length-encoded strings: https://mariadb.com/kb/en/resultset-row/ and
https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset.html
Bytes are read in large blocks through the connection's own file object, so TLS works too; the kernels below find the fields and copy them.
It relies on private parts of pymysql 1.x.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pymysql
from pymysql.protocol import MysqlPacket

from engine.errors import Terminal

_Bytes = npt.NDArray[np.uint8]
_Ints = npt.NDArray[np.int64]

BLOCK_BYTES = 4 << 20
_LONGEST = 0xFFFFFF
_MAX_COLUMN_BYTES = (1 << 31) - 1
_MORE, _END, _ERROR, _SPLIT, _FULL, _MALFORMED = 0, 1, 2, 3, 4, 5


class Form(IntEnum):
    """How a field becomes canonical text. PLAIN: as it is. FRACTION: trailing zeros after a point cut. INSTANT: that, and `+00`.
    HEX: bytes as `\\x6162`. BOOL: `0` as `f`, else `t`."""

    PLAIN = 0
    FRACTION = 1
    INSTANT = 2
    HEX = 3
    BOOL = 4


def select(connection: pymysql.Connection, sql: str, names: Sequence[str], forms: Sequence[Form] | None = None) -> pa.Table:
    """The rows of one query, a string column per result column. Errors of the driver and OSError pass through; after one that leaves the
    result half read the connection is closed. Terminal when a text is not UTF-8."""
    return select_some(connection, sql, names, forms, None)[0]


def select_some(
    connection: pymysql.Connection, sql: str, names: Sequence[str], forms: Sequence[Form] | None, bytes_at_most: int | None
) -> tuple[pa.Table, bool]:
    """The same, but at most about `bytes_at_most` bytes of it (one row at least), and whether that is all. When it is not, the connection is closed:
    nothing else keeps the server from sending the rest."""
    with Result(connection, sql, names, forms) as result:
        return result.read(bytes_at_most)


class Result:
    """The rows of one query, some at a time. The connection can do nothing else until it is closed; that also closes the connection where rows are left."""

    def __init__(self, connection: pymysql.Connection, sql: str, names: Sequence[str], forms: Sequence[Form] | None = None) -> None:
        self._names = list(names)
        self._forms = forms or [Form.PLAIN] * len(names)
        self._whole = False
        connection.query(sql, unbuffered=True)
        self._connection: Any = connection
        self._result: Any = connection._result  # type: ignore[attr-defined]
        if not self._result.unbuffered_active or self._result.field_count != len(names):
            raise Terminal(f"the query gave {self._result.field_count} columns where {len(names)} were asked for", where="mysql")
        self._reader = _Reader(connection, self._forms)

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *_: object) -> None:
        self._result.unbuffered_active = False
        self._result.connection = None
        if not self._whole:
            self._connection._force_close()

    def read(self, bytes_at_most: int | None) -> tuple[pa.Table, bool]:
        """At most about so many bytes of the rows that are left (one row at least), a string column per result column, and whether these are all."""
        chunks, whole = self._reader.read(bytes_at_most)
        self._whole = whole
        columns = [pa.chunked_array([chunk[place] for chunk in chunks], type=pa.string()) for place in range(len(self._names))]
        for name, form, column in zip(self._names, self._forms, columns, strict=True):
            if form is Form.PLAIN:
                _check_utf8(name, column)
        return pa.table(columns, names=self._names).combine_chunks(), whole


class _Reader:
    """Reads the rows of the one result that is under way on the connection."""

    def __init__(self, connection: pymysql.Connection, forms: Sequence[Form]) -> None:
        self._connection: Any = connection
        self._forms = forms
        self._buffer = np.empty(256 << 10, dtype=np.uint8)
        self._filled = 0
        self._scanned = np.int64(0)
        self._rows = 0
        self._places = np.empty((1024, len(forms), 2), dtype=np.int64)
        self._chunks: list[list[pa.Array]] = []
        self._size = 0

    def read(self, bytes_at_most: int | None) -> tuple[list[list[pa.Array]], bool]:
        """(arrays by block and column, whether these are all rows that are left)."""
        self._chunks, self._size = [], 0
        while True:
            if bytes_at_most is not None and self._chunks and self._size > bytes_at_most:
                self._flush()
                return self._chunks, False
            self._scanned, self._rows, state = _scan(self._buffer, self._scanned, self._filled, self._rows, self._places)
            if state == _MORE:
                self._receive(self._filled - int(self._scanned) + 1)
            elif state == _FULL:
                self._places = np.concatenate([self._places, np.empty_like(self._places)])
            elif state == _SPLIT:
                self._flush()
                self._long_row()
            elif state == _END:
                self._flush()
                return self._chunks, True
            else:
                self._fail(state)

    def _receive(self, wanted: int) -> None:
        """More bytes into the buffer, so that at least `wanted` stand behind the scanned ones."""
        while self._filled - self._scanned < wanted:
            if self._filled == len(self._buffer):
                self._make_room()
            # not readinto1: that waits for the socket although it has bytes to give
            got = self._connection._rfile.read1(len(self._buffer) - self._filled)
            if not got:
                raise pymysql.OperationalError(2013, "Lost connection to MySQL server during query")
            self._buffer[self._filled : self._filled + len(got)] = np.frombuffer(got, dtype=np.uint8)
            self._filled += len(got)

    def _make_room(self) -> None:
        if len(self._buffer) < BLOCK_BYTES:
            self._buffer = np.concatenate([self._buffer, np.empty_like(self._buffer)])
            return
        self._flush()
        rest = self._filled - self._scanned
        if rest > len(self._buffer) // 2:
            larger = np.empty(len(self._buffer) * 2, dtype=np.uint8)
            larger[:rest] = self._buffer[self._scanned : self._filled]
            self._buffer = larger
        else:
            self._buffer[:rest] = self._buffer[self._scanned : self._filled].copy()
        self._filled, self._scanned = int(rest), np.int64(0)

    def _flush(self) -> None:
        """The rows found so far become arrays; the buffer may be reused."""
        if self._rows:
            self._keep([_array(self._buffer, self._places[: self._rows, place], form) for place, form in enumerate(self._forms)])
            self._rows = 0

    def _keep(self, arrays: list[pa.Array]) -> None:
        self._chunks.append(arrays)
        self._size += sum(array.nbytes for array in arrays)

    def _long_row(self) -> None:
        """A row of 16 MB or more comes in several packets; all but the last are of the greatest length."""
        parts, size = [], _LONGEST
        while size == _LONGEST:
            self._receive(4)
            head = self._buffer[self._scanned : self._scanned + 4]
            size = int(head[0]) | int(head[1]) << 8 | int(head[2]) << 16
            self._receive(4 + size)
            parts.append(self._buffer[self._scanned + 4 : self._scanned + 4 + size].copy())
            self._scanned += 4 + size
        row = np.concatenate(parts)
        if not _fields(row, np.int64(0), np.int64(len(row)), self._places[0]):
            self._fail(_MALFORMED)
        self._keep([_array(row, self._places[:1, place], form) for place, form in enumerate(self._forms)])

    def _fail(self, state: int) -> None:
        if state == _ERROR:
            size = int(self._buffer[self._scanned]) | int(self._buffer[self._scanned + 1]) << 8 | int(self._buffer[self._scanned + 2]) << 16
            payload = self._buffer[self._scanned + 4 : self._scanned + 4 + size].tobytes()
            MysqlPacket(payload, "utf8").raise_for_error()
        raise Terminal("the server sent a row that cannot be read", where="mysql", fix="report this with the server's version")


def _array(buffer: _Bytes, places: npt.NDArray[np.int64], form: Form) -> pa.Array:
    count = len(places)
    offsets = np.empty(count + 1, dtype=np.int32)
    total = _measure(buffer, places, int(form), offsets)
    if total > _MAX_COLUMN_BYTES:
        raise Terminal("a block of rows holds more than 2 GB in one column", where="mysql", fix="leave the column out of the rule")
    data = np.empty(total, dtype=np.uint8)
    valid = np.zeros((count + 7) // 8, dtype=np.uint8)
    nulls = _copy(buffer, places, int(form), offsets, data, valid)
    buffers = [pa.py_buffer(valid) if nulls else None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), count, buffers, nulls)


def _check_utf8(name: str, column: pa.ChunkedArray) -> None:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        mend = "find the rows with CONVERT(column USING utf8mb4) and correct them"
        raise Terminal("holds bytes that are no text in its character set", where=f"column {name}", fix=mend) from None


@nb.njit(cache=True, nogil=True)
def _fields(buffer: _Bytes, at: np.int64, end: np.int64, places: npt.NDArray[np.int64]) -> bool:
    """Start and length of each field of the row in buffer[at:end]; length -1 for NULL. False when they do not fill the row exactly."""
    for field in range(len(places)):
        if at >= end:
            return False
        head = np.int64(buffer[at])
        at += 1
        if head == 0xFB:
            places[field, 0] = at
            places[field, 1] = -1
            continue
        size = head
        if head >= 0xFC:
            wide = 2 if head == 0xFC else 3 if head == 0xFD else 8
            if at + wide > end:
                return False
            size = np.int64(0)
            for k in range(wide):
                size |= np.int64(buffer[at + k]) << (8 * k)
            at += wide
        if size < 0 or at + size > end:
            return False
        places[field, 0] = at
        places[field, 1] = size
        at += size
    return bool(at == end)


@nb.njit(cache=True, nogil=True)
def _scan(buffer: _Bytes, at: np.int64, filled: int, rows: int, places: npt.NDArray[np.int64]) -> tuple[np.int64, int, int]:
    """Whole packets from `at` on. Returns where it stopped, the number of rows, and why. `places`: (rows, fields, 2)."""
    while True:
        if at + 4 > filled:
            return at, rows, _MORE
        size = np.int64(buffer[at]) | (np.int64(buffer[at + 1]) << 8) | (np.int64(buffer[at + 2]) << 16)
        if size == _LONGEST:
            return at, rows, _SPLIT
        end = at + 4 + size
        if end > filled:
            return at, rows, _MORE
        if size == 0:
            return at, rows, _MALFORMED
        first = buffer[at + 4]
        if first == 0xFF:
            return at, rows, _ERROR
        if first == 0xFE and size < 9:
            return end, rows, _END
        if rows == len(places):
            return at, rows, _FULL
        if not _fields(buffer, at + 4, end, places[rows]):
            return at, rows, _MALFORMED
        rows += 1
        at = end


@nb.njit(cache=True, nogil=True)
def _without_zeros(buffer: _Bytes, at: int, size: int) -> int:
    """The length of a text without the trailing zeros of its fraction."""
    point = False
    for i in range(at, at + size):
        if buffer[i] == 46:
            point = True
            break
    if point:
        while size and buffer[at + size - 1] == 48:
            size -= 1
        if size and buffer[at + size - 1] == 46:
            size -= 1
    return size


@nb.njit(cache=True, nogil=True)
def _measure(buffer: _Bytes, places: npt.NDArray[np.int64], form: int, offsets: npt.NDArray[np.int32]) -> np.int64:
    """Offsets of the texts of one column; returns their sum (offsets are meaningless when it does not fit 32 bits)."""
    total = np.int64(0)
    for row in range(len(places)):
        offsets[row] = total
        size = places[row, 1]
        if size < 0:
            continue
        if form in (1, 2):
            size = _without_zeros(buffer, places[row, 0], size) + (3 if form == 2 else 0)
        elif form == 3:
            size = 2 + 2 * size
        elif form == 4:
            size = 1
        total += size
    offsets[len(places)] = total
    return total


@nb.njit(cache=True, nogil=True)
def _copy(buffer: _Bytes, places: npt.NDArray[np.int64], form: int, offsets: npt.NDArray[np.int32], data: _Bytes, valid: _Bytes) -> int:
    """Writes the texts of one column and its validity bits; returns the number of NULLs."""
    nulls = 0
    for row in range(len(places)):
        at, size = places[row, 0], places[row, 1]
        if size < 0:
            nulls += 1
            continue
        valid[row >> 3] |= np.uint8(1 << (row & 7))
        to = offsets[row]
        if form == 4:
            data[to] = 102 if size == 1 and buffer[at] == 48 else 116
        elif form == 3:
            data[to] = 92
            data[to + 1] = 120
            for i in range(size):
                high, low = buffer[at + i] >> 4, buffer[at + i] & 15
                data[to + 2 + 2 * i] = high + (48 if high < 10 else 87)
                data[to + 3 + 2 * i] = low + (48 if low < 10 else 87)
        else:
            end = offsets[row + 1] - (3 if form == 2 else 0)
            for i in range(end - to):
                data[to + i] = buffer[at + i]
            if form == 2:
                data[end] = 43
                data[end + 1] = 48
                data[end + 2] = 48
    return nulls
