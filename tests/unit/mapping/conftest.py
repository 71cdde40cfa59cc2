"""Tables, lookups and a compiler for tests of rules: `crm.accounts` as on MariaDB, `erp.customers` as on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
import pytest

from engine.errors import Terminal
from engine.mapping.compiler import compile_rule
from engine.mapping.evaluator import Evaluator
from engine.mapping.lookups import Lookup
from engine.mapping.rule import CompiledRule
from engine.model.schema import Column, Table, TableName
from engine.model.types import DataType, Kind
from engine.ports import Problem

Compile = Callable[..., tuple[CompiledRule | None, list[Problem]]]
ADAPTERS = {"crm": "mysql", "erp": "postgres"}


def _type(kind: Kind, name: str, **fields: object) -> DataType:
    return DataType(kind=kind, name=name, **fields)  # type: ignore[arg-type]


def _column(name: str, kind: Kind, type_name: str, *, nullable: bool = True, default: bool = False, generated: bool = False, **fields: object) -> Column:
    return Column(name=name, type=_type(kind, type_name, **fields), nullable=nullable, default=default, generated=generated)


def make_table(system: str, schema: str, name: str, columns: tuple[Column, ...], key: tuple[str, ...]) -> Table:
    return Table(name=TableName(system, schema, name), columns=columns, primary_key=key, unique=(key,), log_key=key)


ACCOUNTS = make_table(
    "crm",
    "crm",
    "accounts",
    (
        _column("id", Kind.INT, "int unsigned", nullable=False, bits=32, signed=False),
        _column("Name", Kind.TEXT, "varchar", nullable=False, length=40),
        _column("state", Kind.TEXT, "varchar", length=30),
        _column("credit", Kind.DECIMAL, "decimal", precision=12, scale=2),
        _column("born", Kind.DATE, "date"),
        _column("created", Kind.DATETIME, "datetime", fraction=6),
        _column("touched", Kind.INSTANT, "timestamp", fraction=0),
        _column("status", Kind.ENUM, "enum", labels=("approved", "new", "closed")),
        _column("huge", Kind.DECIMAL, "decimal", precision=65, scale=10),
        _column("photo", Kind.BYTES, "varbinary", length=16),
        _column("flag", Kind.INT, "tinyint", bits=8),
        _column("select", Kind.TEXT, "text", length=65535),
    ),
    ("id",),
)
CUSTOMERS = make_table(
    "erp",
    "public",
    "customers",
    (
        _column("ref", Kind.INT, "int8", nullable=False, bits=64),
        _column("name", Kind.TEXT, "varchar", length=40),
        _column("region", Kind.TEXT, "bpchar", length=30, padded=True),
        _column("credit", Kind.DECIMAL, "numeric", precision=14, scale=4),
        _column("born", Kind.DATE, "date"),
        _column("created", Kind.DATETIME, "timestamp", fraction=6),
        _column("touched", Kind.INSTANT, "timestamptz", fraction=6),
        _column("active", Kind.BOOL, "bool"),
        _column("points", Kind.INT, "int2", bits=16),
        _column("grade", Kind.ENUM, "grade", labels=("approved", "new")),
        _column("Short", Kind.TEXT, "varchar", length=3),
        _column("total", Kind.DECIMAL, "numeric", generated=True),
    ),
    ("ref",),
)
STRICT = make_table(
    "erp",
    "public",
    "strict",
    (
        _column("ref", Kind.INT, "int8", nullable=False, bits=64),
        _column("must", Kind.TEXT, "text", nullable=False),
        _column("filled", Kind.TEXT, "text", nullable=False, default=True),
    ),
    ("ref",),
)
TABLES = {(table.name.system, table.name.table): table for table in (ACCOUNTS, CUSTOMERS, STRICT)}
LOOKUPS = {
    "us_states": Lookup(
        name="us_states",
        columns=("name", "code"),
        rows=pa.table({"name": ["California", "New York", None], "code": ["CA", "NY", "XX"]}),
    ),
    "twice": Lookup(name="twice", columns=("name", "code"), rows=pa.table({"name": ["a", "a", "b"], "code": ["1", "2", "3"]})),
}


def find_table(system: str, schema: str, table: str) -> Table:
    found = TABLES.get((system, table))
    if found is None or schema not in ("", found.name.schema):
        raise Terminal("there is no such table", where=f"{system}.{schema}.{table}", fix="did you mean accounts?")
    return found


@pytest.fixture(scope="session")
def compile_sql() -> Compile:
    """(sql, into="customers", key=("ref",)) -> rule and problems."""

    def build(
        sql: str, into: str = "customers", key: tuple[str, ...] = ("ref",), tables: Mapping[tuple[str, str], Table] | None = None
    ) -> tuple[CompiledRule | None, list[Problem]]:
        known = tables or {}
        return compile_rule(
            name="r",
            sql=sql,
            into=TableName("erp", "public", into),
            key=key,
            table=lambda system, schema, table: known.get((system, table)) or find_table(system, schema, table),
            lookups=LOOKUPS,
            adapters=ADAPTERS,
        )

    return build


@pytest.fixture(scope="session")
def evaluator() -> Evaluator:
    return Evaluator(LOOKUPS)


@pytest.fixture(scope="session")
def accounts() -> Callable[..., pa.Table]:
    """Rows of crm.accounts out of mappings; what a mapping leaves out is null, the id is its place."""

    def rows(*given: Mapping[str, str | None]) -> pa.Table:
        full = [{"id": str(number), "Name": "Anna", **row} for number, row in enumerate(given, start=1)]
        return pa.table({column.name: pa.array([row.get(column.name) for row in full], type=pa.string()) for column in ACCOUNTS.columns})

    return rows


@pytest.fixture(scope="session")
def make() -> Callable[..., Table]:
    """(system, schema, table, {column: type}): a table whose first column is its key and NOT NULL."""

    def build(system: str, schema: str, name: str, columns: Mapping[str, DataType]) -> Table:
        first = next(iter(columns))
        return make_table(
            system, schema, name, tuple(Column(name=column, type=of, nullable=column != first) for column, of in columns.items()), (first,)
        )

    return build
