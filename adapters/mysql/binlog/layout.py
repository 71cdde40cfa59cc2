"""Matches a table of the log with a watched table: which column of the event is which wanted column, and how its values become text.

With binlog_row_metadata=FULL the log names its columns. Without, the catalogue's order counts, if number and types of the columns agree with it; else
reading stops: a wrong guess would put values into wrong columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapters.mysql.binlog import table_map as t
from adapters.mysql.binlog.charset import UTF8
from adapters.mysql.binlog.field import INT_SIZE, UUID_PLAIN, UUID_SWAPPED, Field, field, storage
from adapters.mysql.binlog.rows import Int32s
from adapters.mysql.schema import Described
from engine.errors import Terminal
from engine.model.types import DataType, Kind
from engine.ports import Watched

_TEXTS = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}
_BASES: dict[int, set[str]] = {
    t.TINY: {"tinyint"},
    t.SHORT: {"smallint"},
    t.INT24: {"mediumint"},
    t.LONG: {"int"},
    t.LONGLONG: {"bigint"},
    t.FLOAT: {"float"},
    t.DOUBLE: {"double", "real"},
    t.NEWDECIMAL: {"decimal", "numeric"},
    t.BIT: {"bit"},
    t.YEAR: {"year"},
    t.DATE: {"date"},
    t.NEWDATE: {"date"},
    t.TIME: {"time"},
    t.TIME2: {"time"},
    t.DATETIME: {"datetime"},
    t.DATETIME2: {"datetime"},
    t.TIMESTAMP: {"timestamp"},
    t.TIMESTAMP2: {"timestamp"},
    t.VARCHAR: {"varchar", "varbinary"},
    t.VARCHAR_COMPRESSED: {"varchar", "varbinary"},
    t.ENUM: {"enum"},
    t.SET: {"set"},
    t.STRING: {"char", "binary", "uuid", "inet4", "inet6", "enum", "set"},
    t.BLOB: {name for name in _TEXTS if "text" in name or "blob" in name} | {"json"},
    t.BLOB_COMPRESSED: {name for name in _TEXTS if "text" in name or "blob" in name},
    t.JSON: {"json"},
    t.VECTOR: {"vector"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be had of a table: names and types in order of delivery, and the columns whose change re-keys a row. watched: None for our marker."""

    database: str
    table: str
    columns: tuple[str, ...]
    types: tuple[DataType, ...]
    keys: frozenset[str]
    watched: Watched | None = None

    @classmethod
    def of(cls, watched: Watched) -> Wanted:
        table = watched.table
        return cls(
            database=table.name.schema,
            table=table.name.table,
            columns=watched.columns,
            types=tuple(table.column(name).type for name in watched.columns),
            # where the log key is the whole row for want of a primary key, an update stays an update
            keys=frozenset(watched.identity) | (frozenset(table.log_key) & frozenset(table.primary_key)),
            watched=watched,
        )


MARKER_COLUMNS = ("rule_set", "source", "batch")


def marker(database: str, table: str) -> Wanted:
    """The checkpoint table, whose rows mark a transaction as ours."""
    text = DataType(kind=Kind.TEXT, name="varchar", length=100)
    number = DataType(kind=Kind.INT, name="bigint", bits=64)
    return Wanted(database=database, table=table, columns=MARKER_COLUMNS, types=(text, text, number), keys=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """For `rows.split`: columns, keys; for the text: one field per wanted column."""

    wanted: Wanted
    columns: Int32s
    keys: Int32s
    fields: tuple[Field, ...]


def layout(
    wanted: Wanted,
    logged: t.TableMap,
    described: Sequence[Described],
    charsets: Mapping[int, str],
    old_uuid: bool = False,
) -> Layout:
    """old_uuid: the server stores all UUIDs in swapped order. Terminal, with what changed, when the log's table does not have the wanted columns."""
    where = f"{wanted.database}.{wanted.table}"
    names = _names(logged, described, where)
    places = {name.lower(): place for place, name in enumerate(names)}
    by_name = {column.name.lower(): column for column in described}
    columns = np.empty((len(names), 4), dtype=np.int32)
    for place, column in enumerate(logged.columns):
        store = storage(column)
        if store is None:
            raise _changed(where, f"column {names[place]} has a type ({column.type}) in the log that is not known here")
        columns[place] = (store.size, store.prefix, -1, column.type == t.JSON)
    fields = []
    for out, (name, kind) in enumerate(zip(wanted.columns, wanted.types, strict=True)):
        place = places.get(name.lower(), -1)
        if place < 0:
            raise _changed(where, f"the log has no column {name}: it was dropped, renamed, or added later")
        column = logged.columns[place]
        now = by_name.get(name.lower())
        if column.type in (t.TIME, t.DATETIME, t.TIMESTAMP) and kind.fraction:
            fix = f"SET GLOBAL mysql56_temporal_format = ON; ALTER TABLE {where} FORCE; then resync"
            raise Terminal(f"column {name} has fractional seconds in a storage format that the log does not describe", where=where, fix=fix)
        swapped = old_uuid or (now is not None and "old" in now.declared.lower() and now.base == "uuid")
        uuid_order = UUID_SWAPPED if swapped else UUID_PLAIN
        made = field(name, column, kind, _charset(column, now, charsets, kind), uuid_order)
        if made is None:
            raise _changed(where, f"column {name} is of another type in the log than in the catalogue")
        columns[place, 2] = out
        fields.append(made)
    keys = np.array([out for out, name in enumerate(wanted.columns) if name in wanted.keys], dtype=np.int32)
    return Layout(wanted=wanted, columns=columns, keys=keys, fields=tuple(fields))


def _changed(where: str, what: str) -> Terminal:
    return Terminal(what, where=where, fix="start again, so that the rules are checked against the new table; if this stays, resync")


def _charset(column: t.LoggedColumn, now: Described | None, charsets: Mapping[int, str], kind: DataType) -> str:
    # of compressed columns the log says that they are binary
    compressed = column.type in (t.BLOB_COMPRESSED, t.VARCHAR_COMPRESSED)
    if column.collation is not None and column.collation in charsets and not compressed:
        return charsets[column.collation]
    if now is not None and now.charset:
        return now.charset
    return next(iter(sorted(UTF8))) if kind.kind in (Kind.TEXT, Kind.JSON) and now is None else "utf8mb4"


def _names(logged: t.TableMap, described: Sequence[Described], where: str) -> list[str]:
    if logged.named:
        return [column.name or "" for column in logged.columns]
    fix = "SET GLOBAL binlog_row_metadata = FULL, so that the log names its columns; then resync"
    if len(described) != len(logged.columns):
        told = f"the log has {len(logged.columns)} columns where the catalogue has {len(described)}, and does not name them"
        raise Terminal(told, where=where, fix=fix)
    for now, column in zip(described, logged.columns, strict=True):
        bases = _BASES.get(column.type)
        if bases is not None and now.base not in bases:
            raise Terminal(f"column {now.name} has another type in the log than in the catalogue, and the log does not name it", where=where, fix=fix)
        if column.type in INT_SIZE and "unsigned" in now.declared and column.unsigned is False:
            raise Terminal(f"column {now.name} is signed in the log and unsigned in the catalogue", where=where, fix=fix)
    return [column.name for column in described]
