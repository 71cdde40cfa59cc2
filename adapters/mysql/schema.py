"""Tables of MySQL and MariaDB as `information_schema` describes them, in the engine's types.

https://mariadb.com/kb/en/information-schema-columns-table/ and https://dev.mysql.com/doc/refman/8.4/en/information-schema-columns-table.html
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pymysql

from adapters.mysql.connection import is_mariadb, version, wrap
from adapters.mysql.statements import statement
from engine.errors import Terminal
from engine.model.schema import Column, ForeignKey, Table, TableName
from engine.model.types import DataType, Kind
from engine.ports import Watched

Row = tuple[Any, ...]

INT_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
GEOMETRY = frozenset(
    ("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection", "geomcollection")
)
BINARY_OPAQUE = GEOMETRY | {"vector"}
"""Opaque types whose values travel as `\\x` and hex."""

_LONG = 4294967295
_FOLLOWED = frozenset(("CASCADE", "SET NULL", "SET DEFAULT"))
_LABEL = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_ESCAPED = re.compile(r"''|\\(.)", re.DOTALL)
_JSON_CHECK = re.compile(r"^json_valid\(`((?:[^`]|``)+)`\)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One column as the catalogue has it. `declared`: the full type text (`decimal(10,2) unsigned`). Character set and collation are empty
    where the type has none. length: characters or bytes; fraction: digits after the second."""

    name: str
    base: str
    declared: str
    nullable: bool = True
    default: str | None = None
    extra: str = ""
    charset: str = ""
    collation: str = ""
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    fraction: int | None = None
    json: bool = False


def data_type(column: Described) -> DataType:
    """The engine's type of a column."""
    base, declared = column.base.lower(), column.declared.lower()
    name = f"{base} unsigned" if " unsigned" in declared else base
    unsigned = name.endswith(" unsigned")
    if column.json:
        return DataType(kind=Kind.JSON, name="json")
    match base:
        case "tinyint" | "smallint" | "mediumint" | "int" | "bigint":
            return DataType(kind=Kind.INT, name=name, bits=INT_BITS[base], signed=not unsigned)
        case "year":
            return DataType(kind=Kind.INT, name=base, bits=16, signed=False)
        case "bit":
            if (column.precision or 1) == 1:
                return DataType(kind=Kind.BOOL, name=base)
            return DataType(kind=Kind.INT, name=base, bits=64, signed=False)
        case "decimal" | "numeric":
            return DataType(kind=Kind.DECIMAL, name=name, precision=column.precision, scale=column.scale or 0, signed=not unsigned)
        case "float" | "double" | "real":
            return DataType(kind=Kind.FLOAT, name=name, bits=32 if base == "float" else 64, signed=not unsigned)
        case "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext":
            return DataType(kind=Kind.TEXT, name=base, length=_bounded(column.length), padded=base == "char")
        case "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob":
            return DataType(kind=Kind.BYTES, name=base, length=_bounded(column.length), padded=base == "binary")
        case "enum" | "set":
            return DataType(kind=Kind(base), name=base, labels=labels(column.declared))
        case "date":
            return DataType(kind=Kind.DATE, name=base)
        case "time" | "datetime" | "timestamp":
            kind = {"time": Kind.TIME, "datetime": Kind.DATETIME, "timestamp": Kind.INSTANT}[base]
            return DataType(kind=kind, name=base, fraction=column.fraction or 0)
        case "json":
            return DataType(kind=Kind.JSON, name=base)
        case "uuid":
            return DataType(kind=Kind.UUID, name=base)
        case _:
            return DataType(kind=Kind.OPAQUE, name=base)


def labels(declared: str) -> tuple[str, ...]:
    """The labels of an `enum('a','it''s')` or `set(...)`, where quotes are doubled and control characters escaped."""
    return tuple(_ESCAPED.sub(_unescape, quoted) for quoted in _LABEL.findall(declared))


def _unescape(match: re.Match[str]) -> str:
    return "'" if match[0] == "''" else {"n": "\n", "r": "\r", "0": "\0"}.get(match[0][1], match[0][1])


def read_table(connection: pymysql.Connection, system: str, schema: str, table: str) -> Table:
    """The table's description. An empty schema means the connection's database. Terminal when it is not there or may not be seen."""
    where = f"{system}.{schema}.{table}" if schema else f"{system}.{table}"
    try:
        return _read(connection, system, schema or _current(connection, where), table)
    except pymysql.MySQLError as error:
        raise wrap(error, where) from error


def describe(connection: pymysql.Connection, schema: str, table: str) -> tuple[Described, ...]:
    """The columns as the catalogue has them; empty when there is no such table. Driver errors pass."""
    json = _json_columns(connection, schema, table)
    return tuple(
        Described(
            name=_text(name),
            base=_text(base).lower(),
            declared=_text(declared),
            nullable=_text(nullable).upper() == "YES",
            default=None if default is None else _text(default),
            extra=_text(extra or ""),
            charset=_text(charset or ""),
            collation=_text(collation or ""),
            length=_number(length),
            precision=_number(precision),
            scale=_number(scale),
            fraction=_number(fraction),
            json=_text(name) in json and _text(base).lower() == "longtext",
        )
        for name, base, declared, nullable, default, extra, charset, collation, length, precision, scale, fraction in _rows(
            connection, statement("columns"), schema, table
        )
    )


def has_json(watched: Watched) -> bool:
    """Whether values of type JSON are wanted of the table."""
    return any(watched.table.column(name).type.kind is Kind.JSON for name in watched.columns)


def _read(connection: pymysql.Connection, system: str, schema: str, table: str) -> Table:
    real, kind = _find(connection, system, schema, table)
    described = describe(connection, schema, real)
    mariadb = is_mariadb(connection)
    primary, unique = _indexes(connection, schema, real)
    return Table(
        name=TableName(system, schema, real),
        columns=tuple(_column(column, mariadb) for column in described),
        primary_key=primary,
        unique=unique,
        log_key=() if kind == "VIEW" else primary or _whole_row(connection, described),
        foreign_keys=tuple(_foreign_keys(connection, system, schema, real)),
    )


def _column(column: Described, mariadb: bool) -> Column:
    extra = column.extra.upper()
    given = column.default is not None and not (mariadb and column.default == "NULL")
    return Column(
        name=column.name,
        type=data_type(column),
        nullable=column.nullable,
        default=given or "AUTO_INCREMENT" in extra or "DEFAULT_GENERATED" in extra,
        made="AUTO_INCREMENT" in extra,
        generated=bool(re.search(r"\b(VIRTUAL|STORED|PERSISTENT)( GENERATED)?\b", extra)),
        alike=alike(column),
    )


def alike(column: Described) -> str:
    """What the column's collation takes for equal, by its name: https://mariadb.com/kb/en/supported-character-sets-and-collations/ and
    https://dev.mysql.com/doc/refman/8.4/en/charset-collation-names.html. Blanks at the end of a CHAR are not part of its text for us."""
    kind, name = data_type(column), column.collation.lower()
    if kind.kind is not Kind.TEXT or not name or name == "binary":
        return ""
    words = re.split("_", name)
    found = []
    if "bin" not in words and "cs" not in words:
        found.append("upper and lower case")
    if "bin" not in words and "as" not in words and "cs" not in words:
        found.append("accents")
    if not kind.padded and "nopad" not in words and "0900" not in words:
        found.append("blanks at the end")
    return ", ".join(found)


def _find(connection: pymysql.Connection, system: str, schema: str, table: str) -> tuple[str, str]:
    """Real name and kind of a table."""
    tables = {_text(name): _text(kind) for name, kind in _rows(connection, statement("tables"), schema)}
    if table in tables:
        return table, tables[table]
    ((lower,),) = _rows(connection, "SELECT @@lower_case_table_names")
    if lower:
        for name, kind in tables.items():
            if name.lower() == table.lower():
                return name, kind
    near = difflib.get_close_matches(table.lower(), [name.lower() for name in tables], n=3, cutoff=0.6)
    names = [name for name in tables if name.lower() in near]
    mend = f"did you mean {' or '.join(names)}?" if names else "check the name, and GRANT SELECT on the table to the user"
    raise Terminal("there is no such table, or the user may not see it", where=f"{system}.{schema}.{table}", fix=mend)


def _indexes(connection: pymysql.Connection, schema: str, table: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Primary key, and the column sets of all unique indexes over whole columns."""
    found: dict[str, list[str]] = {}
    partial = set()
    for index, column, prefix in _rows(connection, statement("unique_indexes"), schema, table):
        if column is None or prefix is not None:
            partial.add(_text(index))
        else:
            found.setdefault(_text(index), []).append(_text(column))
    whole = {index: tuple(columns) for index, columns in found.items() if index not in partial}
    return whole.get("PRIMARY", ()), tuple(dict.fromkeys(whole.values()))


def _whole_row(connection: pymysql.Connection, described: Sequence[Described]) -> tuple[str, ...]:
    """The log key of a table without primary key: all columns, when the server logs whole old rows."""
    ((image,),) = _rows(connection, "SELECT @@GLOBAL.binlog_row_image")
    if not _text(image).upper().startswith("FULL"):
        return ()
    return tuple(column.name for column in described if "VIRTUAL" not in column.extra.upper())


def _foreign_keys(connection: pymysql.Connection, system: str, schema: str, table: str) -> Iterator[ForeignKey]:
    found: dict[str, list[Row]] = {}
    for row in _rows(connection, statement("foreign_keys"), schema, table):
        found.setdefault(_text(row[0]), []).append(row)
    unlogged = is_mariadb(connection) or version(connection) < (9, 6, 0)  # https://bugs.mysql.com/bug.php?id=32506
    for rows in found.values():
        _, _, parent_schema, parent, _, on_delete, on_update = rows[0]
        yield ForeignKey(
            columns=tuple(_text(row[1]) for row in rows),
            parent=TableName(system, _text(parent_schema), _text(parent)),
            parent_columns=tuple(_text(row[4]) for row in rows),
            on_delete=_text(on_delete),
            on_update=_text(on_update),
            hidden=unlogged and not _FOLLOWED.isdisjoint((_text(on_delete).upper(), _text(on_update).upper())),
        )


def _json_columns(connection: pymysql.Connection, schema: str, table: str) -> frozenset[str]:
    """MariaDB's JSON is LONGTEXT with a check: https://mariadb.com/kb/en/json-data-type/"""
    if not is_mariadb(connection):
        return frozenset()
    clauses = (_text(clause) for (clause,) in _rows(connection, statement("mariadb_checks"), schema, table))
    return frozenset(match.group(1).replace("``", "`") for clause in clauses if (match := _JSON_CHECK.match(clause)))


def _current(connection: pymysql.Connection, where: str) -> str:
    ((database,),) = _rows(connection, "SELECT DATABASE()")
    if database is None:
        raise Terminal("no database is named", where=where, fix="name it in the system's url: mysql://host/database")
    return _text(database)


def _rows(connection: pymysql.Connection, sql: str, *arguments: object) -> Sequence[Row]:
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)
        return cursor.fetchall()


def _bounded(length: int | None) -> int | None:
    return None if length is None or length >= _LONG else length


def _number(value: object) -> int | None:
    return None if value is None else int(str(value))


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
