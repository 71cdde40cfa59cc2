"""From cells to canonical text, one kernel per family of types. Each takes the buffer and the cells (start, length; a negative length is no value) and
fills text and offsets of an Arrow string array. Storage formats: mysql-server sql-common/my_time.cc, strings/decimal.cc, MariaDB sql/field.cc.

All kernels trust that a cell lies within the buffer and has the size its type needs; `adapters.mysql.binlog.rows` has made sure of it.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from adapters.mysql.binlog.stream import Bytes, Int, Int64s

Int32s = npt.NDArray[np.int32]

DATE, TIME2, DATETIME2, TIMESTAMP2, OLD_TIME, OLD_DATETIME, OLD_TIMESTAMP = 0, 1, 2, 3, 4, 5, 6

_POWERS = np.array([10**k for k in range(10)], dtype=np.int64)
_DIGIT_BYTES = np.array([0, 1, 1, 2, 2, 3, 3, 4, 4, 4], dtype=np.int64)


@nb.njit(cache=True)
def _big(b: Bytes, at: Int, size: Int) -> Int:
    value = np.int64(0)
    for k in range(size):
        value = value << np.int64(8) | np.int64(b[at + k])
    return value


@nb.njit(cache=True)
def _unsigned(value: np.uint64, text: Bytes, at: Int) -> Int:
    """Writes the decimal digits, returns the place after them."""
    digits = 1
    rest = value
    while rest >= np.uint64(10):
        rest = rest // np.uint64(10)
        digits += 1
    k = at + digits - 1
    rest = value
    while k >= at:
        next_rest = rest // np.uint64(10)
        text[k] = np.uint8(48) + np.uint8(rest - next_rest * np.uint64(10))
        rest = next_rest
        k -= 1
    return at + digits


@nb.njit(cache=True)
def _fixed(value: Int, digits: Int, text: Bytes, at: Int) -> Int:
    """`value` with leading zeros."""
    rest = np.int64(value)
    for k in range(digits - 1, -1, -1):
        next_rest = rest // 10
        text[at + k] = np.uint8(48 + rest - next_rest * 10)
        rest = next_rest
    return at + digits


@nb.njit(cache=True, nogil=True)
def integers(b: Bytes, starts: Int64s, lengths: Int32s, text: Bytes, offsets: Int32s, signed: bool, big: bool, plus: Int) -> None:
    """Of 1 to 8 bytes, low byte first (`big`: high byte first). `plus` is added to a value other than 0 (1900 for YEAR)."""
    at = 0
    for i in range(len(lengths)):
        size = lengths[i]
        if size >= 0:
            value = np.uint64(0)
            for k in range(size):
                shift = size - 1 - k if big else k
                value |= np.uint64(b[starts[i] + k]) << np.uint64(8 * shift)
            if signed and size > 0 and value >> np.uint64(8 * size - 1) & np.uint64(1):
                value = ~value + np.uint64(1)
                if size < 8:
                    value &= (np.uint64(1) << np.uint64(8 * size)) - np.uint64(1)
                text[at] = 45
                at += 1
            elif value != np.uint64(0):
                value += np.uint64(plus)
            at = _unsigned(value, text, at)
        offsets[i + 1] = at


@nb.njit(cache=True, nogil=True)
def bools(b: Bytes, starts: Int64s, lengths: Int32s, text: Bytes, offsets: Int32s) -> None:
    at = 0
    for i in range(len(lengths)):
        if lengths[i] >= 0:
            text[at] = 116 if b[starts[i]] else 102
            at += 1
        offsets[i + 1] = at


@nb.njit(cache=True, nogil=True)
def decimals(b: Bytes, starts: Int64s, lengths: Int32s, text: Bytes, offsets: Int32s, precision: Int, scale: Int) -> None:
    """Groups of 9 digits in 4 bytes, high byte first, a shorter group at either end; the top bit is set for a positive number, all bits are inverted
    for a negative one."""
    at = 0
    whole = precision - scale
    first = whole % 9
    for i in range(len(lengths)):
        if lengths[i] >= 0:
            p = starts[i]
            flip = np.int64(0) if b[p] & 0x80 else np.int64(-1)
            begin = at
            if flip != 0:
                text[at] = 45
                at += 1
            digits = at
            top = True
            written = False
            something = np.int64(0)
            for group in range(-1, whole // 9):
                count = first if group < 0 else 9
                if count == 0:
                    continue
                size = _DIGIT_BYTES[count]
                value = _big(b, p, size)
                if top:
                    value ^= np.int64(0x80) << np.int64(8 * (size - 1))
                    top = False
                value = (value ^ flip) & ((np.int64(1) << np.int64(8 * size)) - 1)
                p += size
                something |= value
                if written:
                    at = _fixed(value, 9, text, at)
                elif value != 0:
                    at = _unsigned(np.uint64(value), text, at)
                    written = True
            if at == digits:
                text[at] = 48
                at += 1
            if scale > 0:
                text[at] = 46
                at += 1
                left = scale
                while left > 0:
                    count = min(left, 9)
                    size = _DIGIT_BYTES[count]
                    value = _big(b, p, size)
                    if top:
                        value ^= np.int64(0x80) << np.int64(8 * (size - 1))
                        top = False
                    value = (value ^ flip) & ((np.int64(1) << np.int64(8 * size)) - 1)
                    p += size
                    something |= value
                    at = _fixed(value, count, text, at)
                    left -= count
            if flip != 0 and something == 0:
                for k in range(begin, at - 1):
                    text[k] = text[k + 1]
                at -= 1
        offsets[i + 1] = at


@nb.njit(cache=True)
def _two(value: Int, text: Bytes, at: Int) -> Int:
    tens = value // 10
    text[at] = np.uint8(48 + tens)
    text[at + 1] = np.uint8(48 + value - tens * 10)
    return at + 2


@nb.njit(cache=True)
def _date(year: Int, month: Int, day: Int, text: Bytes, at: Int) -> Int:
    at = _two(year // 100, text, at)
    at = _two(year % 100, text, at)
    text[at] = 45
    at = _two(month, text, at + 1)
    text[at] = 45
    return _two(day, text, at + 1)


@nb.njit(cache=True)
def _clock(hour: Int, minute: Int, second: Int, micro: Int, text: Bytes, at: Int) -> Int:
    if hour > 99:
        text[at] = np.uint8(48 + hour // 100)
        hour = hour % 100
        at += 1
    at = _two(hour, text, at)
    text[at] = 58
    at = _two(minute, text, at + 1)
    text[at] = 58
    at = _two(second, text, at + 1)
    if micro > 0:
        text[at] = 46
        at = _fixed(micro, 6, text, at + 1)
        while text[at - 1] == 48:
            at -= 1
    return at


@nb.njit(cache=True)
def _instant(seconds: Int, micro: Int, text: Bytes, at: Int) -> Int:
    """UTC; 0 is the zero date. Civil date from days: Howard Hinnant, chrono-compatible low-level date algorithms."""
    if seconds == 0 and micro == 0:
        at = _date(0, 0, 0, text, at)
        text[at] = 32
        at = _clock(0, 0, 0, 0, text, at + 1)
    else:
        days = seconds // 86400
        rest = seconds - days * 86400
        z = days + 719468
        era = z // 146097
        doe = z - era * 146097
        yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
        doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
        mp = (5 * doy + 2) // 153
        day = doy - (153 * mp + 2) // 5 + 1
        month = mp + 3 if mp < 10 else mp - 9
        year = yoe + era * 400 + (1 if month <= 2 else 0)
        at = _date(year, month, day, text, at)
        text[at] = 32
        at = _clock(rest // 3600, rest // 60 % 60, rest % 60, micro, text, at + 1)
    text[at] = 43
    text[at + 1] = 48
    text[at + 2] = 48
    return at + 3


@nb.njit(cache=True, nogil=True)
def moments(b: Bytes, starts: Int64s, lengths: Int32s, text: Bytes, offsets: Int32s, kind: Int, digits: Int) -> None:
    """DATE, TIME2, DATETIME2, TIMESTAMP2 with `digits` of fraction, and the forms from before MySQL 5.6 (no fraction). Zero and partial dates come out
    as they stand."""
    at = 0
    tail = (digits + 1) // 2
    scale = _POWERS[6 - 2 * tail]
    for i in range(len(lengths)):
        if lengths[i] >= 0:
            p = starts[i]
            if kind == DATE:
                value = np.int64(b[p]) | np.int64(b[p + 1]) << np.int64(8) | np.int64(b[p + 2]) << np.int64(16)
                at = _date(value >> 9, value >> 5 & 15, value & 31, text, at)
            elif kind == DATETIME2:
                value = _big(b, p, 5) - np.int64(0x8000000000)
                months = value >> 22 & 0x1FFFF
                at = _date(months // 13, months % 13, value >> 17 & 31, text, at)
                text[at] = 32
                at = _clock(value >> 12 & 31, value >> 6 & 63, value & 63, _big(b, p + 5, tail) * scale, text, at + 1)
            elif kind == TIMESTAMP2:
                at = _instant(_big(b, p, 4), _big(b, p + 4, tail) * scale, text, at)
            elif kind == TIME2:
                # one number, offset by half its range, of which the fraction is the lowest part
                size = 3 + tail
                value = _big(b, p, size) - (np.int64(0x800000) << np.int64(8 * tail))
                if value < 0:
                    value = -value
                    text[at] = 45
                    at += 1
                micro = (value & ((np.int64(1) << np.int64(8 * tail)) - 1)) * scale
                value >>= np.int64(8 * tail)
                at = _clock(value >> 12 & 1023, value >> 6 & 63, value & 63, micro, text, at)
            elif kind == OLD_TIME:
                value = np.int64(b[p]) | np.int64(b[p + 1]) << np.int64(8) | np.int64(b[p + 2]) << np.int64(16)
                if value >= 0x800000:
                    value = 0x1000000 - value
                    text[at] = 45
                    at += 1
                at = _clock(value // 10000, value // 100 % 100, value % 100, 0, text, at)
            elif kind == OLD_DATETIME:
                value = np.int64(0)
                for k in range(8):
                    value |= np.int64(b[p + k]) << np.int64(8 * k)
                day = value // 1000000
                clock = value % 1000000
                at = _date(day // 10000 % 10000, day // 100 % 100, day % 100, text, at)
                text[at] = 32
                at = _clock(clock // 10000, clock // 100 % 100, clock % 100, 0, text, at + 1)
            else:
                value = np.int64(0)
                for k in range(4):
                    value |= np.int64(b[p + k]) << np.int64(8 * k)
                at = _instant(value, 0, text, at)
        offsets[i + 1] = at


@nb.njit(cache=True, nogil=True)
def texts(b: Bytes, starts: Int64s, lengths: Int32s, text: Bytes, offsets: Int32s, padded: bool) -> None:
    """Bytes that are UTF-8 already. `padded`: without blanks at the end."""
    at = 0
    for i in range(len(lengths)):
        size = lengths[i]
        if size > 0:
            p = starts[i]
            if padded:
                while size > 0 and b[p + size - 1] == 32:
                    size -= 1
            for k in range(size):
                text[at + k] = b[p + k]
            at += size
        offsets[i + 1] = at


@nb.njit(cache=True, nogil=True)
def single_byte(b: Bytes, starts: Int64s, lengths: Int32s, text: Bytes, offsets: Int32s, points: Int32s, padded: bool) -> Int:
    """Text of one byte per character; `points`: the code point of each byte, -1 for none. Returns the first row with such a byte, -1 when all is good."""
    at = 0
    for i in range(len(lengths)):
        size = lengths[i]
        if size > 0:
            p = starts[i]
            if padded:
                while size > 0 and b[p + size - 1] == 32:
                    size -= 1
            for k in range(size):
                point = points[b[p + k]]
                if point < 0:
                    return i
                if point < 0x80:
                    text[at] = point
                    at += 1
                elif point < 0x800:
                    text[at] = 0xC0 | point >> 6
                    text[at + 1] = 0x80 | point & 63
                    at += 2
                else:
                    text[at] = 0xE0 | point >> 12
                    text[at + 1] = 0x80 | point >> 6 & 63
                    text[at + 2] = 0x80 | point & 63
                    at += 3
        offsets[i + 1] = at
    return -1


@nb.njit(cache=True)
def _hex(value: Int, text: Bytes, at: Int) -> Int:
    high = value >> 4
    low = value & 15
    text[at] = 48 + high if high < 10 else 87 + high
    text[at + 1] = 48 + low if low < 10 else 87 + low
    return at + 2


@nb.njit(cache=True, nogil=True)
def hexes(b: Bytes, starts: Int64s, lengths: Int32s, text: Bytes, offsets: Int32s, width: Int) -> None:
    """`\\x` and hex; zero bytes up to `width`, which the log cuts off."""
    at = 0
    for i in range(len(lengths)):
        size = lengths[i]
        if size >= 0:
            text[at] = 92
            text[at + 1] = 120
            at += 2
            for k in range(size):
                at = _hex(np.int64(b[starts[i] + k]), text, at)
            for _ in range(width - size):
                at = _hex(0, text, at)
        offsets[i + 1] = at


@nb.njit(cache=True, nogil=True)
def uuids(b: Bytes, starts: Int64s, lengths: Int32s, text: Bytes, offsets: Int32s, order: Int32s) -> None:
    """16 bytes, zero bytes at the end cut off. `order`: which stored byte is the k-th of the text."""
    at = 0
    for i in range(len(lengths)):
        size = lengths[i]
        if size >= 0:
            for k in range(16):
                if k in (4, 6, 8, 10):
                    text[at] = 45
                    at += 1
                j = order[k]
                at = _hex(np.int64(b[starts[i] + j]) if j < size else 0, text, at)
        offsets[i + 1] = at


@nb.njit(cache=True, nogil=True)
def labels(b: Bytes, starts: Int64s, lengths: Int32s, text: Bytes, offsets: Int32s, names: Bytes, ends: Int32s, many: bool) -> Int:
    """ENUM: number of the label, 0 is the empty error value. SET (`many`): a bit for each label. names: all labels joined; ends: where each ends, after
    a leading 0. Returns the first row that has a number without label, -1 when all is good."""
    at = 0
    count = len(ends) - 1
    for i in range(len(lengths)):
        size = lengths[i]
        if size >= 0:
            value = np.uint64(0)
            for k in range(size):
                value |= np.uint64(b[starts[i] + k]) << np.uint64(8 * k)
            if many:
                if count < 64 and value >> np.uint64(count):
                    return i
                comma = False
                for k in range(count):
                    if value >> np.uint64(k) & np.uint64(1):
                        if comma:
                            text[at] = 44
                            at += 1
                        comma = True
                        length = ends[k + 1] - ends[k]
                        for byte in range(length):
                            text[at + byte] = names[ends[k] + byte]
                        at += length
            elif value > np.uint64(count):
                return i
            elif value > np.uint64(0):
                label = np.int64(value) - 1
                length = ends[label + 1] - ends[label]
                for byte in range(length):
                    text[at + byte] = names[ends[label] + byte]
                at += length
        offsets[i + 1] = at
    return -1


@nb.njit(cache=True, nogil=True)
def gather(b: Bytes, starts: Int64s, lengths: Int32s, out: Bytes, size: Int) -> None:
    """Values of a fixed size side by side, zero where there is none."""
    for i in range(len(lengths)):
        if lengths[i] >= 0:
            for k in range(size):
                out[i * size + k] = b[starts[i] + k]
        else:
            for k in range(size):
                out[i * size + k] = 0
