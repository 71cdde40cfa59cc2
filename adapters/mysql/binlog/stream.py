"""From the bytes of a dump connection to a list of row events by transaction: packets are found, events told apart, transactions closed. Compiled,
without I/O; what comes rarely (rotation, DDL, a table seen first) is handed back to `adapters.mysql.binlog.decoder`.

Commit times. MariaDB writes whole seconds (when the last statement began); docs/decisions/mariadb-commit-time.md says what is made of them, `_close`
does it. MySQL gives microseconds in its GTID events.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

Int = Any
"""An integer inside of a kernel: Python's or NumPy's."""
Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

# cells of the state
POS = 0  # offset in the file after the last event
DONE_POS = 1  # the same after the last whole transaction
GROUP = 2  # 0 outside of a transaction, 1 inside, 2 inside one that ends with its only statement, 3 announced by a GTID of MySQL
DOMAIN, SERVER, SEQUENCE = 3, 4, 5  # MariaDB: GTID of the open transaction; SEQUENCE -1: none
COMMIT_US = 6  # MySQL: of the open transaction; 0 unknown
NOW = 7  # when the bytes at hand were received, by the server's clock
PREVIOUS_US = 8  # commit time given to the transaction before
CHECKSUM = 9  # bytes of checksum at the end of each event
SPANS, TXNS = 10, 11  # how many are filled
OPEN_SPAN = 12  # first span of the open transaction
DOMAINS = 13  # how many are filled
SIZE, OPEN_SIZE = 14, 15  # bytes of the spans of whole transactions, of the open one
FILE = 16  # number of the log file
INNER = 17  # 1: events from inside a compressed transaction: no checksum, no positions
LIMIT = 18  # SIZE at which a batch is full
EVENT = 19  # rows events of the open transaction so far, those of all tables
LARGEST = 20  # OPEN_SIZE past which a transaction gets a batch of its own
LARGE = 21  # 1: the open transaction, or the one just closed, is so large
STATE = 22

# columns of a span: the rows of one event of a watched table. EVENT_NUMBER: which rows event of its transaction, counted from 1
SLOT, TYPE, TXN, START, END, ARENA, EVENT_NUMBER = 0, 1, 2, 3, 4, 5, 6
SPAN = 7

# why `frame` stopped
MORE, FILLED, SERVER_ERROR, END_OF_DATA, BROKEN = 0, 1, 2, 3, 4
# why `walk` stopped
DONE, FULL, RARE, GROW, TORN, NO_MAP, OWN_BATCH = 0, 1, 2, 3, 4, 5, 6

REGISTRY = 4096


@nb.njit(cache=True)
def _little(b: Bytes, at: Int, size: Int) -> Int:
    value = np.int64(0)
    for k in range(size):
        value |= np.int64(b[at + k]) << np.int64(8 * k)
    return value


@nb.njit(cache=True, nogil=True)
def frame(b: Bytes, start: Int, end: Int, offsets: Int64s, sizes: Int64s) -> tuple[int, int, int]:
    """Packets between `start` and `end`: 3 bytes length, 1 byte number, 1 byte status, event. An event of 16 MB and more comes in several packets; they
    are put together in place once all are there. Returns events found, where to go on, why it stopped."""
    n = 0
    p = start
    while True:
        if n == len(offsets):
            return n, p, FILLED
        if p + 5 > end:
            return n, p, MORE
        size = _little(b, p, 3)
        if p + 4 + size > end:
            return n, p, MORE
        if size == 0:
            return n, p, BROKEN
        if b[p + 4] == 255:
            return n, p, SERVER_ERROR
        if b[p + 4] == 254 and size < 9:
            return n, p, END_OF_DATA
        if b[p + 4] != 0:
            return n, p, BROKEN
        after = p + 4 + size
        total = size
        if size == 0xFFFFFF:
            part = after
            more = True
            while more:
                if part + 4 > end:
                    return n, p, MORE
                length = _little(b, part, 3)
                part += 4 + length
                if part > end:
                    return n, p, MORE
                more = length == 0xFFFFFF
            more = True
            while more:
                length = _little(b, after, 3)
                target = p + 4 + total
                for k in range(length):
                    b[target + k] = b[after + 4 + k]
                total += length
                after += 4 + length
                more = length == 0xFFFFFF
            # the packets are one now: should this be read again, no part is seen
        at = p + 5
        if total - 1 < 19 or _little(b, at + 9, 4) != total - 1:
            return n, p, BROKEN
        offsets[n] = at
        sizes[n] = total - 1
        n += 1
        p = after


@nb.njit(cache=True, nogil=True)
def unframed(b: Bytes, start: Int, end: Int, offsets: Int64s, sizes: Int64s) -> tuple[int, int, int]:
    """The same for events that lie one after the other without packets (the inside of a compressed transaction)."""
    n = 0
    p = start
    while p < end:
        if n == len(offsets):
            return n, p, FILLED
        if p + 19 > end:
            return n, p, BROKEN
        size = _little(b, p + 9, 4)
        if size < 19 or p + size > end:
            return n, p, BROKEN
        offsets[n] = p
        sizes[n] = size
        n += 1
        p += size
    return n, p, MORE


@nb.njit(cache=True, nogil=True)
def close(state: Int64s, txns: Int64s, domains: Int64s, seconds: Int, keep: bool) -> None:
    """Ends the open transaction. `keep`: it counts even without rows."""
    now = state[NOW]
    commit = state[COMMIT_US]
    if commit == 0:
        second = seconds * np.int64(1_000_000)
        commit = now if now < second + 1_000_000 else second + 500_000
        commit = max(commit, state[PREVIOUS_US] + 1)  # two changes of a cell in one second are told apart
    state[PREVIOUS_US] = commit
    if keep or state[SPANS] > state[OPEN_SPAN]:
        n = state[TXNS]
        txns[n, 0] = commit
        txns[n, 1] = state[FILE] << np.int64(40) | state[POS]
        state[TXNS] = n + 1
        state[SIZE] += state[OPEN_SIZE]
    if state[SEQUENCE] >= 0:
        known = -1
        for k in range(state[DOMAINS]):
            if domains[k, 0] == state[DOMAIN]:
                known = k
        if known < 0:
            known = state[DOMAINS]
            state[DOMAINS] += 1
        domains[known, 0] = state[DOMAIN]
        domains[known, 1] = state[SERVER]
        domains[known, 2] = state[SEQUENCE]
    state[DONE_POS] = state[POS]
    state[OPEN_SPAN] = state[SPANS]
    state[OPEN_SIZE] = 0
    state[EVENT] = 0
    state[GROUP] = 0
    state[SEQUENCE] = -1
    state[COMMIT_US] = 0


@nb.njit(cache=True)
def forget_open(state: Int64s) -> None:
    """A transaction begins; rows of one that a crash of the server cut off are dropped."""
    state[SPANS] = state[OPEN_SPAN]
    state[OPEN_SIZE] = 0
    state[EVENT] = 0
    state[LARGE] = 0


@nb.njit(cache=True)
def _word(b: Bytes, at: Int, end: Int) -> Int:
    """1 for BEGIN, 2 for COMMIT, 0 for anything else, of a QUERY event's body."""
    if at + 13 > end:
        return 0
    p = at + 13 + _little(b, at + 11, 2) + np.int64(b[at + 8]) + 1
    size = end - p
    if size == 5 and b[p] == 66 and b[p + 1] == 69 and b[p + 2] == 71 and b[p + 3] == 73 and b[p + 4] == 78:
        return 1
    if size == 6 and b[p] == 67 and b[p + 1] == 79 and b[p + 2] == 77 and b[p + 3] == 77 and b[p + 4] == 73 and b[p + 5] == 84:
        return 2
    return 0


@nb.njit(cache=True, nogil=True)
def walk(
    b: Bytes,
    offsets: Int64s,
    sizes: Int64s,
    first: Int,
    count: Int,
    state: Int64s,
    spans: Int64s,
    txns: Int64s,
    domains: Int64s,
    registry: Int64s,
    maps: Bytes,
) -> tuple[int, int]:
    """Events `first` to `count` of `frame`. Returns why it stopped and at which event; the position is then already that of the event.

    registry: per hash of the table id: id, slot (-1: not watched), where its TABLE_MAP starts in `maps`, how long it is. A TABLE_MAP that is byte for
    byte the known one costs a comparison."""
    for i in range(first, count):
        if state[SPANS] + 1 >= len(spans) or state[TXNS] + 1 >= len(txns) or state[DOMAINS] + 1 >= len(domains):
            return GROW, i
        if state[GROUP] == 0 and (state[SIZE] >= state[LIMIT] or (state[LARGE] and state[TXNS] > 0)):
            return FULL, i
        if state[OPEN_SIZE] > state[LARGEST] and state[GROUP] != 0 and not state[LARGE]:
            return OWN_BATCH, i
        p = offsets[i]
        end = p + sizes[i] - state[CHECKSUM] * (1 - state[INNER])
        body = p + 19
        if end < body:
            return TORN, i
        kind = np.int64(b[p + 4])
        flags = _little(b, p + 17, 2)
        if state[INNER] == 0 and kind not in (4, 15, 27, 41) and flags & 0x20 == 0:
            place = _little(b, p + 13, 4)
            if place != 0:
                state[POS] += (place - state[POS]) & np.int64(0xFFFFFFFF)
        if kind == 162:
            if body + 13 > end:
                return TORN, i
            if b[body + 12] & 192:
                return RARE, i
            state[SEQUENCE] = _little(b, body, 8)
            state[DOMAIN] = _little(b, body + 8, 4)
            state[SERVER] = _little(b, p + 5, 4)
            state[GROUP] = 2 if b[body + 12] & 1 else 1
            forget_open(state)
        elif kind == 16:
            close(state, txns, domains, _little(b, p, 4), False)
        elif kind == 2:
            word = _word(b, body, end) if state[GROUP] != 2 else 0
            if word == 1:
                state[GROUP] = 1
                forget_open(state)
            elif word == 2:
                close(state, txns, domains, _little(b, p, 4), False)
            else:
                return RARE, i
        elif kind == 19:
            if body + 8 > end:
                return TORN, i
            table = _little(b, body, 6)
            cell = table % REGISTRY
            size = end - body
            same = registry[cell, 0] == table and registry[cell, 3] == size
            if same:
                there = registry[cell, 2]
                for k in range(size):
                    if maps[there + k] != b[body + k]:
                        same = False
                        break
            if not same:
                return RARE, i
        elif 23 <= kind <= 25 or 30 <= kind <= 32 or kind == 39 or 166 <= kind <= 171:
            if body + 8 > end:
                return TORN, i
            table = _little(b, body, 6)
            if table == 0xFFFFFF:
                continue
            cell = table % REGISTRY
            if registry[cell, 0] != table:
                return NO_MAP, i
            state[EVENT] += 1
            if registry[cell, 1] < 0:
                continue
            if kind >= 166:
                return RARE, i
            add_span(state, spans, registry[cell, 1], kind, body + 8, end, state[INNER])
        elif kind in (160, 161, 29, 5, 13, 14, 35, 36, 37):
            continue
        else:
            return RARE, i
    return DONE, count


@nb.njit(cache=True, nogil=True)
def add_span(state: Int64s, spans: Int64s, slot: Int, kind: Int, start: Int, end: Int, arena: Int) -> None:
    n = state[SPANS]
    spans[n, SLOT] = slot
    spans[n, TYPE] = kind
    spans[n, TXN] = state[TXNS]
    spans[n, START] = start
    spans[n, END] = end
    spans[n, ARENA] = arena
    spans[n, EVENT_NUMBER] = state[EVENT]
    state[SPANS] = n + 1
    state[OPEN_SIZE] += end - start
