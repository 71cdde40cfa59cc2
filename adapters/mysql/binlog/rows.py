"""From rows events to cells: where in the buffer each watched value of each row lies. Compiled, without I/O; every length is checked before it is used.

A rows event (mysql-server libs/mysql/binlog/event/rows_event.h) is: for version 2 an extra part, the number of columns, a bitmap of the columns that
are present (two for an update), then rows of null bitmap and values. A partial update also says which JSON values are only differences.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from adapters.mysql.binlog.stream import END, START, TYPE, Bytes, Int, Int64s
from engine.model.batch import DELETE, INSERT, MOVED, UPDATE

Int32s = npt.NDArray[np.int32]

# columns of a column's description
SIZE, PREFIX, OUT, JSON = 0, 1, 2, 3
VARIABLE = -1
# a cell's length when there is no value
NULL, MISSING = -1, -2
_PARTIAL = -3
# why `split` stopped
GOOD, NO_ROOM, TORN, OTHER_WIDTH, PIECES = 0, 1, 2, 3, 4


@nb.njit(cache=True, nogil=True)
def _image(
    b: Bytes,
    p: Int,
    end: Int,
    columns: Int32s,
    present: Int,
    partial: Int,
    starts: Int64s,
    lengths: Int32s,
    row: Int,
) -> Int:
    """Reads one row image at `p`; `present` is where its bitmap lies, `partial` where the one of partial JSON values lies (-1: none). Returns the place
    after the image, -1 when it goes past `end`."""
    count = 0
    for c in range(len(columns)):
        if b[present + (c >> 3)] >> (c & 7) & 1:
            count += 1
    nulls = p
    p += (count + 7) >> 3
    if p > end:
        return -1
    bit = 0
    json = 0
    for c in range(len(columns)):
        out = columns[c, OUT]
        is_partial = False
        if columns[c, JSON] and partial >= 0:
            is_partial = (b[partial + (json >> 3)] >> (json & 7) & 1) != 0
            json += 1
        if not b[present + (c >> 3)] >> (c & 7) & 1:
            if out >= 0:
                lengths[out, row] = MISSING
            continue
        null = b[nulls + (bit >> 3)] >> (bit & 7) & 1
        bit += 1
        if null:
            if out >= 0:
                lengths[out, row] = NULL
            continue
        prefix = columns[c, PREFIX]
        if p + prefix > end:
            return -1
        size = np.int64(columns[c, SIZE])
        if size < 0:
            size = np.int64(0)
            for k in range(prefix):
                size |= np.int64(b[p + k]) << np.int64(8 * k)
        p += prefix
        if size > end - p:
            return -1
        if out >= 0:
            starts[out, row] = p
            lengths[out, row] = _PARTIAL if is_partial else size
        p += size
    return p


@nb.njit(cache=True)
def _differ(b: Bytes, starts: Int64s, lengths: Int32s, c: Int, before: Int, after: Int) -> bool:
    size = lengths[c, after]
    if size < NULL or lengths[c, before] < NULL:
        return False
    if size != lengths[c, before]:
        return True
    same = np.int64(0)
    while same < size and b[starts[c, before] + same] == b[starts[c, after] + same]:
        same += 1
    return bool(same < size)


@nb.njit(cache=True, nogil=True)
def split(
    b: Bytes,
    spans: Int64s,
    columns: Int32s,
    keys: Int32s,
    starts: Int64s,
    lengths: Int32s,
    op: Bytes,
    span: Int32s,
) -> tuple[int, int]:
    """All rows of `spans` (events of one table).

    columns: per column of the log's table: size in bytes (VARIABLE: told by `prefix` bytes before the value), prefix, which output or -1, is it JSON.
    keys: outputs whose change makes an UPDATE a DELETE and an INSERT. Filled: starts, lengths shape (outputs, rows): NULL and MISSING are negative
    lengths; op; span: index into `spans`. An after-image takes values that it leaves out from the before-image, where they did not change.
    Returns the number of changes and GOOD or what is wrong; PIECES: of a JSON value only what changed in it is there."""
    n = 0
    width = len(columns)
    room = len(op)
    json = 0
    for c in range(width):
        json += columns[c, JSON]
    for s in range(len(spans)):
        kind = spans[s, TYPE]
        p = spans[s, START]
        end = spans[s, END]
        if kind >= 30:
            if p + 2 > end:
                return n, TORN
            extra = np.int64(b[p]) | np.int64(b[p + 1]) << np.int64(8)
            if extra < 2:
                return n, TORN
            p += extra
        if p + 1 > end:
            return n, TORN
        told = np.int64(b[p])
        p += 1
        if told == 252:
            if p + 2 > end:
                return n, TORN
            told = np.int64(b[p]) | np.int64(b[p + 1]) << np.int64(8)
            p += 2
        if told != width:
            return n, OTHER_WIDTH
        size = (width + 7) >> 3
        update = kind in (24, 31, 39)
        first = p
        p += size
        second = first
        if update:
            second = p
            p += size
        if p > end:
            return n, TORN
        while p < end:
            if n + 2 > room:
                return n, NO_ROOM
            begin = p
            p = _image(b, p, end, columns, first, -1, starts, lengths, n)
            if p <= begin:
                return n, TORN
            if not update:
                op[n] = DELETE if kind in (25, 32) else INSERT
                span[n] = s
                n += 1
                continue
            partial = -1
            if kind == 39:
                if p + 1 > end:
                    return n, TORN
                options = b[p]
                p += 1
                if options > 1:
                    return n, TORN
                if options == 1:
                    partial = p
                    p += (json + 7) >> 3
                    if p > end:
                        return n, TORN
            after = n + 1
            p = _image(b, p, end, columns, second, partial, starts, lengths, after)
            if p < 0:
                return n, TORN
            moved = False
            for k in range(len(keys)):
                if _differ(b, starts, lengths, keys[k], n, after):
                    moved = True
                    break
            target = after if moved else n
            for c in range(len(lengths)):
                length = lengths[c, after]
                if length == _PARTIAL:
                    return n, PIECES  # not MISSING, which says that nothing changed
                if length == MISSING:
                    length = lengths[c, n]
                    starts[c, after] = starts[c, n]
                lengths[c, target] = length
                starts[c, target] = starts[c, after]
            if moved:
                op[n] = MOVED
                span[n] = s
                n += 1
                op[n] = INSERT
            else:
                op[n] = UPDATE
            span[n] = s
            n += 1
    return n, GOOD
