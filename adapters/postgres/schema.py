"""Tables and column types as PostgreSQL's catalogues describe them.

Domains take their base type (their constraints are the server's business when we write). Protocol for type modifiers: the `*typmodin`
functions, e.g. https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/numeric.c
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from adapters.postgres.connection import Connection, wrap
from adapters.postgres.statements import statement
from engine.errors import Terminal
from engine.model.schema import Column, ForeignKey, Table, TableName
from engine.model.types import DataType, Kind

_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
_NOT_TABLES = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}

_INTS = {"int2": 16, "int4": 32, "int8": 64}
_FLOATS = {"float4": 32, "float8": 64}
_TIMES = {"time": Kind.TIME, "timestamp": Kind.DATETIME, "timestamptz": Kind.INSTANT}
_SIMPLE = {
    "bool": Kind.BOOL,
    "text": Kind.TEXT,
    "bytea": Kind.BYTES,
    "date": Kind.DATE,
    "uuid": Kind.UUID,
    "json": Kind.JSON,
    "jsonb": Kind.JSON,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    oid: int
    schema: str
    table: str
    replica_identity: str


def read_table(connection: Connection, system: str, schema: str, table: str) -> Table:
    """The table as it stands now. An empty schema means what the search path finds.

    Terminal when there is no such table (the sentence names near ones), when it is no table, or when we may not see it.
    """
    where = f"{system}.{schema}.{table}" if schema else f"{system}.{table}"
    try:
        found = _find(connection, where, schema, table)
        key = {"oid": found.oid}
        columns = tuple(_column(row) for row in connection.execute(statement("table_columns"), key).fetchall())
        indexes = connection.execute(statement("table_indexes"), key).fetchall()
        foreign = connection.execute(statement("table_foreign_keys"), key).fetchall()
    except psycopg.Error as error:
        raise wrap(error, where) from error
    primary = next((tuple(names) for is_primary, _, names in indexes if is_primary), ())
    return Table(
        name=TableName(system, found.schema, found.table),
        columns=columns,
        primary_key=primary,
        unique=tuple(dict.fromkeys(tuple(names) for _, _, names in indexes)),
        log_key=_log_key(found.replica_identity, columns, primary, indexes),
        foreign_keys=tuple(
            ForeignKey(
                columns=tuple(own),
                parent=TableName(system, parent_schema, parent),
                parent_columns=tuple(theirs),
                on_delete=_ACTIONS[on_delete],
                on_update=_ACTIONS[on_update],
            )
            for parent_schema, parent, on_delete, on_update, own, theirs in foreign
        ),
    )


def data_type(*, name: str, builtin: bool, is_enum: bool, modifier: int, printed: str, labels: tuple[str, ...] = ()) -> DataType:
    """The engine's type for a base type. modifier: atttypmod, -1 where none was given. printed: format_type's text, the type's name."""
    if is_enum:
        return DataType(kind=Kind.ENUM, name=printed, labels=labels)
    if name == "citext":
        return DataType(kind=Kind.TEXT, name=printed)
    if not builtin:
        return DataType(kind=Kind.OPAQUE, name=printed)
    if name in _INTS:
        return DataType(kind=Kind.INT, name=printed, bits=_INTS[name])
    if name in _FLOATS:
        return DataType(kind=Kind.FLOAT, name=printed, bits=_FLOATS[name])
    if name in _TIMES:
        return DataType(kind=_TIMES[name], name=printed, fraction=modifier if modifier >= 0 else 6)
    if name in _SIMPLE:
        return DataType(kind=_SIMPLE[name], name=printed)
    match name:
        case "oid":
            return DataType(kind=Kind.INT, name=printed, bits=32, signed=False)
        case "numeric":
            return _numeric(printed, modifier)
        case "varchar" | "bpchar":
            length = modifier - 4 if modifier >= 4 else None
            return DataType(kind=Kind.TEXT, name=printed, length=length, padded=name == "bpchar")
        case "name":
            return DataType(kind=Kind.TEXT, name=printed, length=63)
        case "char":
            return DataType(kind=Kind.TEXT, name=printed, length=1)
        case _:
            return DataType(kind=Kind.OPAQUE, name=printed)


def _numeric(printed: str, modifier: int) -> DataType:
    if modifier < 4:
        return DataType(kind=Kind.DECIMAL, name=printed)
    precision = ((modifier - 4) >> 16) & 0xFFFF
    scale = (((modifier - 4) & 0x7FF) ^ 1024) - 1024
    if scale < 0:  # numeric(3, -2) holds hundreds up to 99900: whole numbers of five digits
        precision, scale = precision - scale, 0
    return DataType(kind=Kind.DECIMAL, name=printed, precision=precision, scale=scale)


def _column(row: tuple[Any, ...]) -> Column:
    name, not_null, has_default, identity, generated, made, type_name, builtin, type_kind, modifier, printed, labels, nondeterministic = row
    return Column(
        name=name,
        type=data_type(
            name=type_name, builtin=builtin, is_enum=type_kind == "e", modifier=modifier, printed=printed, labels=tuple(labels or ())
        ),
        nullable=not not_null,
        default=(has_default and not generated) or bool(identity),
        generated=bool(generated),
        always=identity == "a",
        made=made,
        alike="upper and lower case" if type_name == "citext" else f"what the collation {nondeterministic} ignores" if nondeterministic else "",
    )


def _log_key(identity: str, columns: tuple[Column, ...], primary: tuple[str, ...], indexes: list[tuple[Any, ...]]) -> tuple[str, ...]:
    """The columns of the old row that the log carries under this replica identity."""
    match identity:
        case "d":
            return primary
        case "f":
            return tuple(column.name for column in columns if not column.generated)
        case "i":
            return next((tuple(names) for _, is_identity, names in indexes if is_identity), ())
        case _:
            return ()


def _find(connection: Connection, where: str, schema: str, table: str) -> _Found:
    row = connection.execute(statement("find_table"), {"schema": schema, "table": table}).fetchone()
    if row is None:
        raise Terminal("there is no such table", where=where, fix=_near(connection, schema, table))
    oid, real_schema, real_table, kind, identity, may_enter, may_read = row
    if kind in _NOT_TABLES:
        raise Terminal(f"is {_NOT_TABLES[kind]}; only tables have a log", where=where, fix="name the table behind it")
    user = connection.info.user
    quoted = f'"{real_schema}"."{real_table}"'
    if not may_enter:
        raise Terminal(
            f"user {user} may not enter schema {real_schema}", where=where, fix=f'GRANT USAGE ON SCHEMA "{real_schema}" TO "{user}"'
        )
    if not may_read:
        raise Terminal(f"user {user} may not read the table", where=where, fix=f'GRANT SELECT ON {quoted} TO "{user}"')
    return _Found(oid=oid, schema=real_schema, table=real_table, replica_identity=identity)


def _near(connection: Connection, schema: str, table: str) -> str:
    names = connection.execute(statement("table_names")).fetchall()
    known = {f"{of_schema}.{name}" for of_schema, name in names}
    same_name = sorted(f"{of_schema}.{name}" for of_schema, name in names if name.lower() == table.lower())
    near = same_name or difflib.get_close_matches(f"{schema or 'public'}.{table}", known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near[:3])}?" if near else "check the name, and that the URL names the right database"


def quoted(name: str) -> str:
    """An identifier as SQL text."""
    return '"' + name.replace('"', '""') + '"'


def quoted_table(name: TableName) -> str:
    return f"{quoted(name.schema)}.{quoted(name.table)}"


def key_type(kind: DataType) -> str:
    """The type that a key's text is read as: without length or scale, because an explicit cast would cut or round, and find another row."""
    if kind.kind is Kind.ENUM:
        return kind.name
    bare = re.sub(r"\(\d+(,-?\d+)?\)", "", kind.name)
    return {"character": "bpchar", "bit": "bit varying"}.get(bare, bare)


def addresses_one(table: Table, key: Sequence[str]) -> bool:
    """Whether a unique index sees to it that these columns, when none is null, name at most one row."""
    return any(set(columns) <= set(key) for columns in table.unique)
