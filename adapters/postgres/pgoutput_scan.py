"""The compiled part of the pgoutput decoder: bytes in, places of values out. Does no I/O and never reads outside of a message.

Protocol: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html, inside the envelopes of
https://www.postgresql.org/docs/current/protocol-replication.html (`w` XLogData, `k` keepalive). `pgoutput.Decoder` holds the arrays and
handles the rare messages at which `scan` stops.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

# Places in the state vector.
STOP, IN_TXN, TXNS, CHANGES, CELLS, SEQ, TXN_SEQ, ROWS, SIZE, MAX_ROWS, MAX_SIZE, WAL_END, REPLY, COMMIT_END, CURSOR = range(15)
# A transaction past PART_ROWS or PART_SIZE (since TXN_SEQ, TXN_SIZE) is handed over in parts. READ: row messages of the open transaction so far, those of
# all tables; SKIP: how many of them were handed over before, if its commit record lies at RESUME. PARTS: it is handed over in parts.
TXN_SIZE, PART_ROWS, PART_SIZE, READ, SKIP, RESUME, RESUME_READ, PARTS = range(15, 23)
STATE_LENGTH = 24

# Why `scan` stopped. Negative: the message at the returned index is malformed.
DONE, FULL, GROW, RELATION, TRUNCATE, STREAM, TWO_PHASE = 0, 1, 2, 3, 4, 5, 6
SHORT, UNKNOWN_KIND, OUTSIDE, NO_RELATION, COLUMN_COUNT, BINARY = -1, -2, -3, -4, -5, -6
TUPLE_KIND, ORDER, ENVELOPE, TRAILING, RANGE = -7, -8, -9, -10, -11

REASONS = {
    SHORT: "a message ends before its content",
    UNKNOWN_KIND: "a kind of message that this version does not know",
    OUTSIDE: "a row change outside of a transaction",
    NO_RELATION: "a change of a table that was not described before",
    COLUMN_COUNT: "a row with another number of columns than its table",
    BINARY: "a value in binary form, though text was asked for",
    TUPLE_KIND: "a kind of value that this version does not know",
    ORDER: "a begin or commit that does not fit the one before",
    ENVELOPE: "a message outside of the replication protocol",
    TRAILING: "a message goes on after its content",
    RANGE: "a place or a time that cannot be",
}

# Flags of a column: part of the log key; compared to see whether a row with full old values changed its key; blanks are cut.
KEY, COMPARED, PADDED = 1, 2, 4
# Length of a cell that is no text.
NULL_CELL, MISSING_CELL = -1, -2

_OPS_INSERT, _OPS_UPDATE, _OPS_DELETE, _OPS_MOVED = 1, 2, 3, 4
_HEADER = 25
_POSTGRES_EPOCH_US = 946_684_800_000_000


@nb.njit(cache=True, inline="always")
def _int(raw: Bytes, at: int, size: int) -> Any:
    value = np.int64(0)
    for k in range(size):
        value = (value << 8) | np.int64(raw[at + k])
    return value


@nb.njit(cache=True, nogil=True)
def split_frames(raw: Bytes, at: int, end: int, starts: Ints, ends: Ints, count: int) -> Any:
    """Finds whole CopyData frames in raw[at:end]; their payloads are appended to starts, ends.

    Returns (place of the first byte not taken, new count, kind of a frame that is no CopyData or 0).
    """
    while end - at >= 5:
        size = _int(raw, at + 1, 4)
        if size < 4:
            return at, count, -1
        if end - at < size + 1 or count == len(starts):
            break
        if raw[at] != 100:
            return at, count, np.int64(raw[at])
        starts[count] = at + 5
        ends[count] = at + 1 + size
        count += 1
        at += 1 + size
    return at, count, 0


@nb.njit(cache=True, inline="always")
def _find(oids: Ints, oid: int) -> int:
    low, high = 0, len(oids)
    while low < high:
        middle = (low + high) // 2
        if oids[middle] < oid:
            low = middle + 1
        else:
            high = middle
    if low < len(oids) and oids[low] == oid:
        return low
    return -1


@nb.njit(cache=True, nogil=True)
def _tuple(
    raw: Bytes,
    at: int,
    end: int,
    columns: int,
    base: int,
    slots: Ints,
    flags: Bytes,
    width: int,
    cell: int,
    starts: Ints,
    lengths: Ints,
    key_only: bool,
) -> int:
    """Reads one TupleData into the cells from `cell` on. Returns the place after it, or a reason to stop."""
    for k in range(width):
        lengths[cell + k] = MISSING_CELL
        starts[cell + k] = 0
    if end - at < 2:
        return SHORT
    if _int(raw, at, 2) != columns:
        return COLUMN_COUNT
    at += 2
    for k in range(columns):
        if at >= end:
            return SHORT
        kind = raw[at]
        at += 1
        slot = slots[base + k]
        wanted = slot >= 0 and (not key_only or (flags[base + k] & KEY) != 0)
        if kind == 110:  # n
            if wanted:
                lengths[cell + slot] = NULL_CELL
        elif kind == 116 or kind == 98:  # t, b  # noqa: PLR1714 - numba
            if end - at < 4:
                return SHORT
            size = _int(raw, at, 4)
            at += 4
            if size > end - at:
                return SHORT
            if wanted:
                if kind == 98:
                    return BINARY
                starts[cell + slot] = at
                if flags[base + k] & PADDED:
                    cut = size
                    while cut > 0 and raw[at + cut - 1] == 32:
                        cut -= 1
                    lengths[cell + slot] = cut
                else:
                    lengths[cell + slot] = size
            at += size
        elif kind != 117:  # u: the value was not logged, the cell stays missing
            return TUPLE_KIND
    return at


@nb.njit(cache=True, nogil=True)
def _moved(raw: Bytes, columns: int, base: int, slots: Ints, flags: Bytes, wanted: int, old: int, new: int, starts: Ints, lengths: Ints) -> bool:
    """Whether a column with the flag `wanted` differs between the old and the new row, where both are known."""
    for k in range(columns):
        slot = slots[base + k]
        if slot < 0 or (flags[base + k] & wanted) == 0:
            continue
        a, b = lengths[old + slot], lengths[new + slot]
        if a == MISSING_CELL or b == MISSING_CELL:  # noqa: PLR1714 - numba
            continue
        if a != b:
            return True
        for x in range(a):
            if raw[starts[old + slot] + x] != raw[starts[new + slot] + x]:
                return True
    return False


@nb.njit(cache=True, inline="always")
def _add(state: Ints, table: int, op: int, cell: int, c_table: Ints, c_txn: Ints, c_seq: Ints, c_cell: Ints, c_op: Bytes) -> None:
    n = state[CHANGES]
    c_table[n] = table
    c_txn[n] = state[TXNS]
    c_seq[n] = state[SEQ]
    c_cell[n] = cell
    c_op[n] = op
    state[CHANGES] = n + 1
    state[SEQ] += 1
    state[ROWS] += 1


@nb.njit(cache=True, nogil=True)
def open_transaction(state: Ints, committed: int) -> None:
    """A transaction begins whose commit record lies at `committed`."""
    state[TXN_SEQ] = state[SEQ]
    state[TXN_SIZE] = state[SIZE]
    state[READ] = 0
    state[SKIP] = state[RESUME_READ] if committed == state[RESUME] else 0
    state[PARTS] = 1 if state[SKIP] > 0 else 0


@nb.njit(cache=True, nogil=True)
def scan(
    raw: Bytes,
    starts: Ints,
    ends: Ints,
    first: int,
    count: int,
    skip: int,
    state: Ints,
    r_oid: Ints,
    r_table: Ints,
    r_base: Ints,
    r_columns: Ints,
    slots: Ints,
    flags: Bytes,
    widths: Ints,
    t_commit: Ints,
    t_xid: Ints,
    t_order: Ints,
    c_table: Ints,
    c_txn: Ints,
    c_seq: Ints,
    c_cell: Ints,
    c_op: Bytes,
    cell_start: Ints,
    cell_length: Ints,
) -> int:
    """Reads the messages first..count (payloads of CopyData at raw[starts[i]:ends[i]]) and returns the index of the first one not taken;
    state[STOP] says why. skip: 4 inside a streamed transaction, whose messages carry an xid after their kind, else 0."""
    for i in range(first, count):
        begin, end = starts[i], ends[i]
        if end <= begin:
            state[STOP] = SHORT
            return i
        envelope = raw[begin]
        if envelope == 107:  # k
            if end - begin < 18:
                state[STOP] = SHORT
                return i
            if state[IN_TXN] == 0:
                # Everything before this place was sent, so it is a place to resume from. Inside a transaction it says nothing new.
                state[WAL_END] = max(state[WAL_END], _int(raw, begin + 1, 8))
            if raw[begin + 17]:
                state[REPLY] = 1
            continue
        if envelope != 119:  # w
            state[STOP] = ENVELOPE
            return i
        if end - begin < _HEADER + 1 + skip:
            state[STOP] = SHORT
            return i
        kind = raw[begin + _HEADER]
        at = begin + _HEADER + 1 + skip
        if kind == 73 or kind == 85 or kind == 68:  # I, U, D  # noqa: PLR1714 - numba
            if state[IN_TXN] == 0:
                state[STOP] = OUTSIDE
                return i
            if end - at < 5:
                state[STOP] = SHORT
                return i
            r = _find(r_oid, _int(raw, at, 4))
            if r < 0:
                state[STOP] = NO_RELATION
                return i
            table = r_table[r]
            # The marker, which is the last table, tells of the whole transaction whose it is.
            if table < 0 or (state[READ] < state[SKIP] and table != len(widths) - 1):
                state[READ] += 1
                continue
            if state[SEQ] - state[TXN_SEQ] >= state[PART_ROWS] or state[SIZE] - state[TXN_SIZE] >= state[PART_SIZE]:
                state[STOP] = FULL
                return i
            width, base, columns = widths[table], r_base[r], r_columns[r]
            cell = state[CELLS]
            if cell + 2 * width > len(cell_start) or state[CHANGES] + 2 > len(c_op):
                state[STOP] = GROW
                return i
            state[READ] += 1
            state[SIZE] += end - begin
            tag = raw[at + 4]
            at += 5
            old_tag = np.uint8(0)
            if kind != 73 and (tag == 75 or tag == 79):  # K, O  # noqa: PLR1714 - numba
                old_tag = tag
                old_cell = cell if kind == 68 else cell + width
                at = _tuple(raw, at, end, columns, base, slots, flags, width, old_cell, cell_start, cell_length, old_tag == 75)
                if at < 0:
                    state[STOP] = at
                    return i
                if kind == 85:
                    if at >= end:
                        state[STOP] = SHORT
                        return i
                    tag = raw[at]
                    at += 1
            if kind == 68:
                if old_tag == 0:
                    state[STOP] = TUPLE_KIND
                    return i
                if at != end:
                    state[STOP] = TRAILING
                    return i
                _add(state, table, _OPS_DELETE, cell, c_table, c_txn, c_seq, c_cell, c_op)
                state[CELLS] = cell + width
                continue
            if tag != 78:  # N
                state[STOP] = TUPLE_KIND
                return i
            at = _tuple(raw, at, end, columns, base, slots, flags, width, cell, cell_start, cell_length, False)
            if at < 0:
                state[STOP] = at
                return i
            if at != end:
                state[STOP] = TRAILING
                return i
            if kind == 73:
                _add(state, table, _OPS_INSERT, cell, c_table, c_txn, c_seq, c_cell, c_op)
                state[CELLS] = cell + width
                continue
            if old_tag == 0:
                _add(state, table, _OPS_UPDATE, cell, c_table, c_txn, c_seq, c_cell, c_op)
                state[CELLS] = cell + width
                continue
            for k in range(width):
                if cell_length[cell + k] == MISSING_CELL and cell_length[cell + width + k] != MISSING_CELL:
                    cell_length[cell + k] = cell_length[cell + width + k]
                    cell_start[cell + k] = cell_start[cell + width + k]
            watched_key = KEY if old_tag == 75 else COMPARED
            if _moved(raw, columns, base, slots, flags, watched_key, cell + width, cell, cell_start, cell_length):
                _add(state, table, _OPS_MOVED, cell + width, c_table, c_txn, c_seq, c_cell, c_op)
                _add(state, table, _OPS_INSERT, cell, c_table, c_txn, c_seq, c_cell, c_op)
                state[CELLS] = cell + 2 * width
            else:
                _add(state, table, _OPS_UPDATE, cell, c_table, c_txn, c_seq, c_cell, c_op)
                state[CELLS] = cell + width
        elif kind == 66:  # B
            if skip or state[IN_TXN]:
                state[STOP] = ORDER
                return i
            if end - at != 20:
                state[STOP] = SHORT
                return i
            n = state[TXNS]
            if n + 1 > len(t_commit):
                state[STOP] = GROW
                return i
            t_order[n] = _int(raw, at, 8)
            t_commit[n] = _int(raw, at + 8, 8) + _POSTGRES_EPOCH_US
            t_xid[n] = _int(raw, at + 16, 4)
            if t_commit[n] < 0:
                state[STOP] = RANGE
                return i
            state[IN_TXN] = 1
            open_transaction(state, t_order[n])
        elif kind == 67:  # C
            if skip or not state[IN_TXN]:
                state[STOP] = ORDER
                return i
            if end - at != 25:
                state[STOP] = SHORT
                return i
            state[IN_TXN] = 0
            state[COMMIT_END] = _int(raw, at + 9, 8)
            if state[COMMIT_END] < 0:
                state[STOP] = RANGE
                return i
            if state[PARTS]:
                t_order[state[TXNS]] += 1  # as of the parts before
            else:
                t_order[state[TXNS]] = state[COMMIT_END]
            if state[PARTS] or state[SEQ] > state[TXN_SEQ]:
                state[TXNS] += 1
            if state[ROWS] >= state[MAX_ROWS] or state[TXNS] >= state[MAX_ROWS] or state[SIZE] >= state[MAX_SIZE]:
                state[STOP] = FULL
                return i + 1
        elif kind == 82:  # R
            state[STOP] = RELATION
            return i
        elif kind == 84:  # T
            if not state[IN_TXN]:
                state[STOP] = OUTSIDE
                return i
            state[STOP] = TRUNCATE
            return i
        elif kind == 83 or kind == 69 or kind == 99 or kind == 65:  # S, E, c, A  # noqa: PLR1714 - numba
            if skip or state[IN_TXN]:
                state[STOP] = ORDER
                return i
            state[STOP] = STREAM
            return i
        elif kind == 98 or kind == 80 or kind == 75 or kind == 114 or kind == 112:  # b, P, K, r, p  # noqa: PLR1714 - numba
            state[STOP] = TWO_PHASE
            return i
        elif kind == 79 or kind == 89 or kind == 77:  # O, Y, M carry nothing for us  # noqa: PLR1714 - numba
            continue
        else:
            state[STOP] = UNKNOWN_KIND
            return i
    state[STOP] = DONE
    return count


@nb.njit(cache=True, nogil=True)
def stream_block(raw: Bytes, starts: Ints, ends: Ints, first: int, count: int, xids: Ints) -> tuple[int, int]:
    """The messages of a streamed block from `first` on, until its stop (`E`). Fills xids[i - first] with the (sub)transaction of each.

    Returns (index of the stop or of the first message not there yet, reason to stop: 0 found, 1 more to come, or malformed).
    """
    for i in range(first, count):
        begin, end = starts[i], ends[i]
        xids[i - first] = -1
        if end <= begin:
            return i, SHORT
        if raw[begin] == 107:
            continue
        if raw[begin] != 119:
            return i, ENVELOPE
        if end - begin < _HEADER + 1:
            return i, SHORT
        kind = raw[begin + _HEADER]
        if kind == 69:
            return i, 0
        if kind == 79:  # origin: no xid before it
            continue
        if not (kind == 73 or kind == 85 or kind == 68 or kind == 82 or kind == 89 or kind == 84 or kind == 77):  # noqa: PLR1714 - numba
            return i, ORDER
        if end - begin < _HEADER + 5:
            return i, SHORT
        xids[i - first] = _int(raw, begin + _HEADER + 1, 4)
    return count, 1


@nb.njit(cache=True, nogil=True)
def measure(rows: Ints, c_cell: Ints, width: int, cell_length: Ints, sizes: Ints, nulls: Ints) -> None:
    """Bytes and absent values (null or missing) per column of the given changes."""
    for k in range(width):
        sizes[k] = 0
        nulls[k] = 0
    for n in range(len(rows)):
        cell = c_cell[rows[n]]
        for k in range(width):
            length = cell_length[cell + k]
            if length >= 0:
                sizes[k] += length
            else:
                nulls[k] += 1


@nb.njit(cache=True, nogil=True)
def gather(
    raw: Bytes,
    rows: Ints,
    c_cell: Ints,
    column: int,
    cell_start: Ints,
    cell_length: Ints,
    offsets: Any,
    data: Bytes,
    valid: Bytes,
    missing: Any,
) -> None:
    """Copies one column's text together. offsets: int32, one more than rows. valid: Arrow's bitmap, zeroed, or empty."""
    at = 0
    with_nulls = len(valid) > 0
    for n in range(len(rows)):
        cell = c_cell[rows[n]] + column
        length = cell_length[cell]
        offsets[n] = at
        if length >= 0:
            begin = cell_start[cell]
            for x in range(length):
                data[at + x] = raw[begin + x]
            at += length
            if with_nulls:
                valid[n >> 3] |= np.uint8(1 << (n & 7))
        elif length == MISSING_CELL:
            missing[n, column] = True
    offsets[len(rows)] = at
