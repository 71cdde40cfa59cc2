"""Reads TABLE_MAP events: what the log says of a table's columns (mysql-server libs/mysql/binlog/event/rows_event.h, Table_map_event and its
optional metadata). Bytes in, values or `Terminal` out."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.mysql.binlog.event import damaged, length_encoded

TINY, SHORT, LONG, FLOAT, DOUBLE, TIMESTAMP, LONGLONG, INT24, DATE, TIME, DATETIME, YEAR = 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13
NEWDATE, VARCHAR, BIT, TIMESTAMP2, DATETIME2, TIME2 = 14, 15, 16, 17, 18, 19
BLOB_COMPRESSED, VARCHAR_COMPRESSED, VECTOR, JSON, NEWDECIMAL, ENUM, SET = 140, 141, 242, 245, 246, 247, 248
TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, VAR_STRING, STRING, GEOMETRY = 249, 250, 251, 252, 253, 254, 255

_NUMERIC = {TINY, SHORT, INT24, LONG, LONGLONG, FLOAT, DOUBLE, NEWDECIMAL, YEAR}
_TWO_BYTES = {VARCHAR, VARCHAR_COMPRESSED, BIT, NEWDECIMAL, VAR_STRING, STRING, ENUM, SET}
_ONE_BYTE = {FLOAT, DOUBLE, BLOB, BLOB_COMPRESSED, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, GEOMETRY, JSON, VECTOR, TIMESTAMP2, DATETIME2, TIME2}
_NO_BYTES = {TINY, SHORT, LONG, LONGLONG, INT24, YEAR, DATE, NEWDATE, TIME, DATETIME, TIMESTAMP}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedColumn:
    """`name`, `unsigned`, `collation`, `labels` are None where the server does not log them (binlog_row_metadata other than FULL).
    `labels` are bytes in the column's charset. `meta`: the type's own parameter, see `columns`."""

    type: int
    meta: int
    name: str | None = None
    unsigned: bool | None = None
    collation: int | None = None
    labels: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMap:
    id: int
    database: str
    table: str
    columns: tuple[LoggedColumn, ...]

    @property
    def named(self) -> bool:
        return bool(self.columns) and self.columns[0].name is not None


def names(body: bytes) -> tuple[int, str, str, int]:
    """Table id, database, table and the place after them."""
    if len(body) < 9:
        raise damaged("a table map event")
    at = 9 + body[8]
    if at + 1 >= len(body):
        raise damaged("a table map event")
    database = body[9:at]
    end = at + 2 + body[at + 1]
    if end >= len(body):
        raise damaged("a table map event")
    return int.from_bytes(body[:6], "little"), database.decode("utf-8", "replace"), body[at + 2 : end].decode("utf-8", "replace"), end + 1


def table_map(body: bytes, *, mariadb: bool) -> TableMap:
    """`body` after the header, without checksum. mariadb: which server wrote it; they count different columns among those with a character set."""
    table_id, database, table, at = names(body)
    count, at = length_encoded(body, at)
    types = body[at : at + count]
    size, at = length_encoded(body, at + count)
    metas = _metas(types, body[at : at + size])
    at += size + (count + 7) // 8
    if len(types) != count or at > len(body):
        raise damaged("a table map event")
    columns = [
        LoggedColumn(type=kind, meta=meta) for kind, meta in (_real(kind, meta) for kind, meta in zip(types, metas, strict=True))
    ]
    return TableMap(id=table_id, database=database, table=table, columns=tuple(_extended(columns, body, at, mariadb)))


def _metas(types: bytes, data: bytes) -> list[int]:
    out, at = [], 0
    for kind in types:
        if kind in _TWO_BYTES:
            width = 2
        elif kind in _ONE_BYTE:
            width = 1
        elif kind in _NO_BYTES:
            width = 0
        else:
            width = 2
        big = kind in {STRING, ENUM, SET, NEWDECIMAL, VAR_STRING}
        if at + width > len(data):
            raise damaged("a table map event")
        out.append(int.from_bytes(data[at : at + width], "big" if big else "little"))
        at += width
    return out


def _real(kind: int, meta: int) -> tuple[int, int]:
    """CHAR, ENUM and SET share the type STRING: the high byte of their parameter is the real type, except that two bits of CHAR's length, inverted, are
    hidden in it. Returns type and length."""
    if kind != STRING or meta < 256:
        return kind, meta
    high, low = meta >> 8, meta & 0xFF
    if high & 0x30 != 0x30:
        return high | 0x30, low | ((high & 0x30) ^ 0x30) << 4
    return high, low


def _extended(columns: list[LoggedColumn], body: bytes, at: int, mariadb: bool) -> list[LoggedColumn]:
    numeric = [c for c, column in enumerate(columns) if column.type in _NUMERIC]
    charset = [c for c, column in enumerate(columns) if column.type in _CHARACTER or (mariadb and column.type == GEOMETRY)]
    labelled = [c for c, column in enumerate(columns) if column.type in (ENUM, SET)]
    unsigned: dict[int, bool] = {}
    collation: dict[int, int] = {}
    label: dict[int, tuple[bytes, ...]] = {}
    name: dict[int, str] = {}
    while at < len(body):
        field = body[at]
        size, at = length_encoded(body, at + 1)
        data = body[at : at + size]
        at += size
        if len(data) != size:
            raise damaged("a table map event")
        match field:
            case 1:
                if len(data) * 8 < len(numeric):
                    raise damaged("a table map event")
                unsigned = {c: bool(data[k >> 3] >> (7 - (k & 7)) & 1) for k, c in enumerate(numeric)}
            case 2 | 10:
                collation |= _default_charset(data, charset if field == 2 else labelled)
            case 3 | 11:
                places, numbers = charset if field == 3 else labelled, _numbers(data)
                # a server that counts otherwise: the catalogue's character sets are used instead
                collation |= dict(zip(places, numbers, strict=True)) if len(places) == len(numbers) else {}
            case 4:
                name = dict(enumerate(text.decode("utf-8", "replace") for text in _strings(data)))
            case 5 | 6:
                lists = _lists(data)
                label |= dict(zip([c for c in labelled if columns[c].type == (SET if field == 5 else ENUM)], lists, strict=False))
            case _:
                continue
    if name and len(name) != len(columns):
        raise damaged("a table map event")
    return [
        LoggedColumn(
            type=column.type,
            meta=column.meta,
            name=name.get(c),
            unsigned=unsigned.get(c),
            collation=collation.get(c),
            labels=label.get(c),
        )
        for c, column in enumerate(columns)
    ]


_CHARACTER = {STRING, VAR_STRING, VARCHAR, BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB_COMPRESSED, VARCHAR_COMPRESSED}


def _numbers(data: bytes) -> list[int]:
    out, at = [], 0
    while at < len(data):
        value, at = length_encoded(data, at)
        out.append(value)
    return out


def _default_charset(data: bytes, places: list[int]) -> dict[int, int]:
    """The collation that most columns have, then index and collation of each other one."""
    numbers = _numbers(data)
    if not numbers:
        raise damaged("a table map event")
    others = dict(zip(numbers[1::2], numbers[2::2], strict=False))
    if any(k >= len(places) for k in others):
        # a server that counts otherwise: the catalogue's character sets are used instead
        return {}
    return {c: others.get(k, numbers[0]) for k, c in enumerate(places)}


def _strings(data: bytes) -> list[bytes]:
    out, at = [], 0
    while at < len(data):
        size, at = length_encoded(data, at)
        out.append(data[at : at + size])
        at += size
    return out


def _lists(data: bytes) -> list[tuple[bytes, ...]]:
    out, at = [], 0
    while at < len(data):
        count, at = length_encoded(data, at)
        items = []
        for _ in range(count):
            size, at = length_encoded(data, at)
            items.append(data[at : at + size])
            at += size
        out.append(tuple(items))
    return out
