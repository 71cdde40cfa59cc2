"""Relation and Truncate messages of pgoutput, and the check that a table in the log still is the table we were told to watch.

Rare messages, so plain Python. Formats: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import Terminal
from engine.model.schema import Table

_NUMERIC = 1700


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedColumn:
    name: str
    key: bool
    type_oid: int
    modifier: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table as the log describes it from here on. `identity`: `d` default, `n` nothing, `f` full, `i` index."""

    oid: int
    schema: str
    table: str
    identity: str
    columns: tuple[LoggedColumn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A table as the catalogue described it when reading began: its oid, and type oid and modifier by column."""

    oid: int
    columns: Mapping[str, tuple[int, int]]


def parse_relation(body: bytes) -> Relation:
    """The content after the kind byte (and the xid of a streamed one). Terminal when malformed."""
    try:
        (oid,) = struct.unpack_from("!I", body)
        schema, at = _text(body, 4)
        table, at = _text(body, at)
        identity, count = struct.unpack_from("!sH", body, at)
        at += 3
        columns = []
        for _ in range(count):
            flags = body[at]
            name, at = _text(body, at + 1)
            type_oid, modifier = struct.unpack_from("!Ii", body, at)
            at += 8
            columns.append(LoggedColumn(name=name, key=bool(flags & 1), type_oid=type_oid, modifier=modifier))
        relation = Relation(oid=oid, schema=schema or "pg_catalog", table=table, identity=identity.decode("ascii"), columns=tuple(columns))
    except (struct.error, IndexError, ValueError) as error:
        raise Terminal("the description of a table in the log is malformed") from error
    if at != len(body):
        raise Terminal("the description of a table in the log goes on after its content")
    return relation


def parse_truncate(body: bytes) -> tuple[int, ...]:
    """Oids of the tables that were emptied. Terminal when malformed."""
    try:
        (count,) = struct.unpack_from("!I", body)
        if len(body) != 5 + 4 * count:
            raise ValueError(count)
        return struct.unpack_from(f"!{count}I", body, 5)
    except (struct.error, ValueError) as error:
        raise Terminal("a truncate in the log is malformed") from error


def check_relation(relation: Relation, table: Table, columns: tuple[str, ...], shape: Shape | None) -> None:
    """Terminal when a wanted column is gone or has another type than the catalogue said, or when the log no longer gives the log key of old
    rows. Further columns and their order do not matter."""
    logged = {column.name: column for column in relation.columns}
    lost = [name for name in table.log_key if name in logged and not logged[name].key]
    if lost:
        raise Terminal(
            f"the replica identity of table {table.name} was changed: the log no longer tells {', '.join(lost)} of a deleted row",
            where=str(table.name),
            fix="set it back, or restart and resync the rules that read this table",
        )
    for name in columns:
        column = logged.get(name)
        if column is None:
            if table.has(name) and table.column(name).generated:
                continue
            raise Terminal(
                f'the log no longer carries column "{name}" of table {table.name}',
                where=str(table.name),
                fix="it was dropped, renamed or left out of the publication: adapt the rules that read it, then resync them",
            )
        if shape is None or name not in shape.columns:
            continue
        type_oid, modifier = shape.columns[name]
        if column.type_oid != type_oid or (type_oid == _NUMERIC and column.modifier != modifier):
            raise Terminal(
                f'column "{name}" of table {table.name} has another type in the log than in the catalogue read at the start',
                where=str(table.name),
                fix="its type was altered: restart, and resync the rules that read it when the log before the change cannot be read",
            )


def _text(body: bytes, at: int) -> tuple[str, int]:
    end = body.index(0, at)
    return body[at:end].decode("utf-8"), end + 1
