"""Which kernel makes the canonical text of a column: from the type in the log and the column's type in the engine to a `Field`."""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.mysql.binlog import table_map as t
from adapters.mysql.binlog import values
from adapters.mysql.binlog.charset import UTF8, code_points, codec, decode_label
from adapters.mysql.binlog.json_document import document
from adapters.mysql.binlog.stream import Bytes, Int64s
from adapters.mysql.binlog.values import Int32s
from engine.errors import Terminal
from engine.model.types import DataType, Kind

Fill = Callable[[Bytes, Int64s, Int32s, Bytes, Int32s], int | None]
"""A kernel with its parameters: buffer, starts, lengths, text, offsets. Returns the first bad row, or -1 or None."""
Python = Callable[[bytes], bytes]
"""One value that is rare enough for Python, or a format that is too involved for a kernel. ValueError when it cannot be read."""

INT_SIZE = {t.TINY: 1, t.SHORT: 2, t.INT24: 3, t.LONG: 4, t.LONGLONG: 8}
_MOMENTS = {
    t.DATE: (values.DATE, 3),
    t.NEWDATE: (values.DATE, 3),
    t.TIME2: (values.TIME2, 3),
    t.DATETIME2: (values.DATETIME2, 5),
    t.TIMESTAMP2: (values.TIMESTAMP2, 4),
    t.TIME: (values.OLD_TIME, 3),
    t.DATETIME: (values.OLD_DATETIME, 8),
    t.TIMESTAMP: (values.OLD_TIMESTAMP, 4),
}
_MOMENT_KINDS = {
    Kind.DATE: {t.DATE, t.NEWDATE},
    Kind.TIME: {t.TIME2, t.TIME},
    Kind.DATETIME: {t.DATETIME2, t.DATETIME},
    Kind.INSTANT: {t.TIMESTAMP2, t.TIMESTAMP},
}
_BLOBS = {t.BLOB, t.TINY_BLOB, t.MEDIUM_BLOB, t.LONG_BLOB}
_STRINGS = {t.STRING, t.VARCHAR, t.VAR_STRING} | _BLOBS
_COMPRESSED = {t.BLOB_COMPRESSED, t.VARCHAR_COMPRESSED}
_BINARY = _STRINGS | _COMPRESSED | {t.GEOMETRY, t.VECTOR}
UUID_PLAIN = tuple(range(16))
UUID_SWAPPED = (12, 13, 14, 15, 10, 11, 8, 9, 6, 7, 0, 1, 2, 3, 4, 5)
"""Which stored byte is the k-th of the text. Swapped until MariaDB 10.11.5, and in tables from then (MDEV-29959): type `uuid /* old */`."""
_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Makes one column's text. `room(lengths)`: bytes of text that `fill` may need at most."""

    name: str
    fill: Fill | None = None
    python: Python | None = None
    floats: int = 0
    each: int = 0
    per_byte: int = 0

    def convert(self, b: Bytes, starts: Int64s, lengths: Int32s) -> list[pa.Array]:
        """String arrays that together hold all rows (several when one would be over 2 GB). Terminal when a value is not valid; the sentence names the
        column, never the value."""
        if self.floats:
            return [self._floats(b, starts, lengths)]
        if self.python is not None:
            return [self._python(b, starts, lengths)]
        assert self.fill is not None
        room = self.each * len(lengths)
        if self.per_byte:
            room += self.per_byte * int(np.maximum(lengths, 0).sum(dtype=np.int64))
        if room > _LIMIT:
            if len(lengths) == 1:
                raise Terminal("a value is too large: its text would be over 2 GB", where=f"column {self.name}", fix="leave the column out")
            half = len(lengths) // 2
            return self.convert(b, starts[:half], lengths[:half]) + self.convert(b, starts[half:], lengths[half:])
        text = np.empty(max(room, 1), dtype=np.uint8)
        offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
        bad = self.fill(b, starts, lengths, text, offsets)
        if bad is not None and bad >= 0:
            raise self._invalid()
        size = int(offsets[-1])
        if size * 4 < room:
            text = text[:size].copy()
        nulls = int(np.count_nonzero(lengths < 0))
        validity = pa.py_buffer(np.packbits(lengths >= 0, bitorder="little")) if nulls else None
        buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(text)]
        array = pa.Array.from_buffers(
            pa.string(), len(lengths), buffers, nulls
        )
        if self.per_byte == 1:
            try:
                array.validate(full=True)
            except pa.ArrowInvalid as wrong:
                raise self._invalid() from wrong
        return [array]

    def _invalid(self) -> Terminal:
        return Terminal(
            "the log holds a value that is not valid in its column's type or character set",
            where=f"column {self.name}",
            fix="correct the row in the database, then resync; or leave the column out",
        )

    def _floats(self, b: Bytes, starts: Int64s, lengths: Int32s) -> pa.Array:
        raw = np.empty(self.floats * len(lengths), dtype=np.uint8)
        values.gather(b, starts, lengths, raw, self.floats)
        numbers = pa.array(raw.view(np.float32 if self.floats == 4 else np.float64), mask=lengths < 0)
        return pc.replace_substring_regex(pc.cast(numbers, pa.string()), pattern=r"\.0$", replacement="")

    def _python(self, b: Bytes, starts: Int64s, lengths: Int32s) -> pa.Array:
        assert self.python is not None
        out: list[str | None] = []
        try:
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
                out.append(None if length < 0 else self.python(b[start : start + length].tobytes()).decode("utf-8"))
        except (ValueError, RecursionError) as wrong:
            raise self._invalid() from wrong
        return pa.array(out, type=pa.string())


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How a value lies in a row: fixed `size`, or `prefix` bytes that tell it (then `size` is -1)."""

    size: int
    prefix: int


def storage(column: t.LoggedColumn) -> Storage | None:
    """None for a type that is not known."""
    kind, meta = column.type, column.meta
    if kind in INT_SIZE:
        return Storage(size=INT_SIZE[kind], prefix=0)
    if kind in (t.FLOAT, t.DOUBLE):
        return Storage(size=4 if kind == t.FLOAT else 8, prefix=0)
    if kind == t.YEAR:
        return Storage(size=1, prefix=0)
    if kind == t.NEWDECIMAL:
        return Storage(size=_decimal_size(meta >> 8, meta & 0xFF), prefix=0) if meta >> 8 >= meta & 0xFF else None
    if kind in _MOMENTS:
        digits = meta if kind in (t.TIME2, t.DATETIME2, t.TIMESTAMP2) else 0
        return Storage(size=_MOMENTS[kind][1] + (digits + 1) // 2, prefix=0) if digits <= 6 else None
    if kind == t.BIT:
        bits, whole = meta & 0xFF, meta >> 8
        return Storage(size=whole + (1 if bits else 0), prefix=0) if 1 <= whole * 8 + bits <= 64 and bits < 8 else None
    if kind in (t.ENUM, t.SET):
        return Storage(size=meta, prefix=0) if 1 <= meta <= 8 else None
    if kind == t.STRING:
        return Storage(size=-1, prefix=2 if meta > 255 else 1)
    if kind in (t.VARCHAR, t.VAR_STRING, t.VARCHAR_COMPRESSED):
        return Storage(size=-1, prefix=2 if meta > 255 else 1)
    if kind in _BLOBS or kind in (t.GEOMETRY, t.JSON, t.VECTOR, t.BLOB_COMPRESSED):
        return Storage(size=-1, prefix=meta) if 1 <= meta <= 4 else None
    return None


def _decimal_size(precision: int, scale: int) -> int:
    digits = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
    whole = precision - scale
    return whole // 9 * 4 + digits[whole % 9] + scale // 9 * 4 + digits[scale % 9]


def field(name: str, column: t.LoggedColumn, kind: DataType, charset: str, uuid_order: tuple[int, ...]) -> Field | None:
    """None when a column of the log's type cannot hold the engine's type: then the table was altered. charset: of text, empty for none."""
    made = _number(name, column, kind)
    if made is None and column.type in _MOMENT_KINDS.get(kind.kind, set()):
        digits = column.meta if column.type in (t.TIME2, t.DATETIME2, t.TIMESTAMP2) else 0
        code = _MOMENTS[column.type][0]
        made = Field(name=name, each=32, fill=lambda b, s, n, out, at: values.moments(b, s, n, out, at, code, digits))
    if made is None and kind.kind in (Kind.ENUM, Kind.SET):
        made = _labels(name, column, kind, charset)
    if made is None and kind.kind is Kind.JSON and column.type == t.JSON:
        made = Field(name=name, python=document)
    if made is None and kind.kind in (Kind.TEXT, Kind.JSON) and column.type in _STRINGS | _COMPRESSED:
        made = _text(name, column, kind, charset)
    if made is None and kind.kind in (Kind.BYTES, Kind.OPAQUE, Kind.UUID) and column.type in _BINARY:
        made = _binary(name, column, kind, uuid_order)
    return made


def _number(name: str, column: t.LoggedColumn, kind: DataType) -> Field | None:
    signed = kind.signed if column.unsigned is None else not column.unsigned
    logged, meta = column.type, column.meta
    match kind.kind:
        case Kind.BOOL if logged == t.BIT and meta in (1, 0x100):
            return Field(name=name, each=1, fill=values.bools)
        case Kind.INT if logged == t.BIT:
            return Field(name=name, each=21, fill=lambda b, s, n, out, at: values.integers(b, s, n, out, at, False, True, 0))
        case Kind.INT if logged == t.YEAR:
            return Field(name=name, each=21, fill=lambda b, s, n, out, at: values.integers(b, s, n, out, at, False, False, 1900))
        case Kind.INT if logged in INT_SIZE:
            return Field(name=name, each=21, fill=lambda b, s, n, out, at: values.integers(b, s, n, out, at, signed, False, 0))
        case Kind.DECIMAL if logged == t.NEWDECIMAL and (kind.scale is None or kind.scale == meta & 0xFF):
            precision, scale = meta >> 8, meta & 0xFF
            return Field(name=name, each=2 * precision + 12, fill=lambda b, s, n, out, at: values.decimals(b, s, n, out, at, precision, scale))
        case Kind.FLOAT if logged in (t.FLOAT, t.DOUBLE):
            return Field(name=name, floats=4 if logged == t.FLOAT else 8)
    return None


def _labels(name: str, column: t.LoggedColumn, kind: DataType, charset: str) -> Field | None:
    if column.type != (t.ENUM if kind.kind is Kind.ENUM else t.SET):
        return None
    labels = kind.labels if column.labels is None else tuple(decode_label(label, charset) for label in column.labels)
    raw = [label.encode() for label in labels]
    names = np.frombuffer(bytearray(b"".join(raw) or b"\0"), dtype=np.uint8)
    ends = np.concatenate([[0], np.cumsum([len(label) for label in raw], dtype=np.int64)]).astype(np.int32)
    many = kind.kind is Kind.SET
    each = sum(len(label) + 1 for label in raw) if many else max((len(label) for label in raw), default=0)
    return Field(name=name, each=each, fill=lambda b, s, n, out, at: values.labels(b, s, n, out, at, names, ends, many))


def _text(name: str, column: t.LoggedColumn, kind: DataType, charset: str) -> Field | None:
    padded = kind.padded and column.type == t.STRING
    points, wide = code_points(charset), codec(charset)
    if column.type in _COMPRESSED:
        name_of_codec = wide or ("utf-8" if charset in UTF8 else None)
        return Field(name=name, python=lambda data: _column_inflate(data).decode(name_of_codec).encode()) if name_of_codec else None
    if charset in UTF8:
        return Field(name=name, per_byte=1, fill=lambda b, s, n, out, at: values.texts(b, s, n, out, at, padded))
    if points is not None:
        return Field(name=name, per_byte=3, fill=lambda b, s, n, out, at: values.single_byte(b, s, n, out, at, points, padded))
    if wide is not None:
        return Field(name=name, python=lambda data: (data.decode(wide).rstrip(" ") if padded else data.decode(wide)).encode())
    return None


def _binary(name: str, column: t.LoggedColumn, kind: DataType, uuid_order: tuple[int, ...]) -> Field | None:
    if column.type in _COMPRESSED:
        return Field(name=name, python=lambda data: b"\\x" + _column_inflate(data).hex().encode())
    if kind.kind is Kind.UUID:
        order = np.array(uuid_order, dtype=np.int32)
        return Field(name=name, each=36, fill=lambda b, s, n, out, at: values.uuids(b, s, n, out, at, order))
    if kind.name == "inet6":
        return Field(name=name, python=lambda data: _inet6(data.ljust(16, b"\0")))
    if kind.name == "inet4":
        return Field(name=name, python=lambda data: str(ipaddress.IPv4Address(data.ljust(4, b"\0"))).encode())
    width = column.meta if kind.padded and column.type == t.STRING else 0
    each = 2 + 2 * width
    return Field(name=name, each=each, per_byte=2, fill=lambda b, s, n, out, at: values.hexes(b, s, n, out, at, width))


def _inet6(data: bytes) -> bytes:
    """As MariaDB prints it: addresses that hold an IPv4 one end in its dotted form (sql/sql_type_inet.cc)."""
    address = ipaddress.IPv6Address(data)
    if data[:10] == bytes(10) and (data[10:12] == b"\xff\xff" or (data[10:12] == b"\0\0" and data[12:14] != b"\0\0")):
        lead = "::ffff:" if data[10] else "::"
        return f"{lead}{ipaddress.IPv4Address(data[12:])}".encode()
    return str(address).encode()


def _column_inflate(data: bytes) -> bytes:
    """MariaDB's compressed column: a byte 0 and the plain value, or method << 4 | flags | bytes of the size, the size (high byte first), then raw
    deflate data or zlib's (sql/field_comp.cc)."""
    if not data:
        return b""
    if data[0] == 0:
        return data[1:]
    if data[0] >> 4 != 8:
        raise ValueError("unknown compression")
    skip = 1 + (data[0] & 7)
    unpacker = zlib.decompressobj(-15 if data[0] & 8 else 15)
    size = int.from_bytes(data[1:skip], "big")
    try:
        text = unpacker.decompress(data[skip:], size + 1)
    except zlib.error as wrong:
        raise ValueError("damaged compression") from wrong
    if len(text) != size:
        raise ValueError("damaged compression")
    return text
