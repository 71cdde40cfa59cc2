"""Character sets of MySQL and MariaDB: which are UTF-8 already, which have one byte per character, and the Python codec of the others."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

UTF8 = frozenset({"utf8mb4", "utf8mb3", "utf8", "ascii"})
BINARY_COLLATION = 63

_SINGLE = {
    "latin1": "cp1252", "latin2": "iso8859_2", "latin5": "iso8859_9", "latin7": "iso8859_13", "cp1250": "cp1250", "cp1251": "cp1251",
    "cp1256": "cp1256", "cp1257": "cp1257", "cp850": "cp850", "cp852": "cp852", "cp866": "cp866", "koi8r": "koi8_r", "koi8u": "koi8_u",
    "greek": "iso8859_7", "hebrew": "iso8859_8", "tis620": "tis_620", "macroman": "mac_roman", "macce": "mac_latin2", "hp8": "hp_roman8",
}  # fmt: skip
_WIDE = {
    "ucs2": "utf_16_be", "utf16": "utf_16_be", "utf16le": "utf_16_le", "utf32": "utf_32_be", "big5": "cp950", "gbk": "gbk", "gb2312": "gb2312",
    "gb18030": "gb18030", "sjis": "shift_jis", "cp932": "cp932", "ujis": "euc_jp", "eucjpms": "euc_jp", "euckr": "cp949",
}  # fmt: skip


@functools.cache
def code_points(charset: str) -> npt.NDArray[np.int32] | None:
    """The code point of each byte of a single-byte character set, -1 where it has none; None for any other character set. What cp1252 leaves open,
    MySQL's latin1 takes as the control characters U+0081 to U+009D."""
    codec = _SINGLE.get(charset)
    if codec is None:
        return None
    points = np.full(256, -1, dtype=np.int32)
    for byte in range(256):
        text = bytes([byte]).decode(codec, "ignore")
        if text:
            points[byte] = ord(text)
        elif charset == "latin1":
            points[byte] = byte
    return points


def codec(charset: str) -> str | None:
    """The Python codec of a multi-byte character set that is not UTF-8; None when there is none."""
    return _WIDE.get(charset)


def decode_label(data: bytes, charset: str) -> str:
    """A label of ENUM or SET as the log gives it."""
    name = "utf-8" if charset in UTF8 else _SINGLE.get(charset) or _WIDE.get(charset) or "latin-1"
    return data.decode(name, "replace")
