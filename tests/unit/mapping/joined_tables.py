"""Tables for tests of rules with joins, as on MariaDB: parties with addresses and lines, countries, and a heap without a key."""

from __future__ import annotations

from typing import Any

from engine.model.schema import Column, Table, TableName
from engine.model.types import DataType, Kind

INT = DataType(kind=Kind.INT, name="int", bits=32)
TEXT = DataType(kind=Kind.TEXT, name="varchar", length=40)
DOUBLE = DataType(kind=Kind.FLOAT, name="double", bits=64)


def _decimal(scale: int) -> DataType:
    return DataType(kind=Kind.DECIMAL, name=f"decimal(12,{scale})", precision=12, scale=scale)


def _table(name: str, columns: dict[str, DataType], key: tuple[str, ...] = ("id",)) -> Table:
    found = tuple(Column(name=column, type=of, nullable=column not in key) for column, of in columns.items())
    return Table(name=TableName("crm", "crm", name), columns=found, primary_key=key, unique=(key,) if key else (), log_key=key)


TABLES = {
    ("crm", table.name.table): table
    for table in (
        _table("parties", {"id": INT, "name": TEXT, "boss": INT, "limit": _decimal(4), "weight": DOUBLE}),
        _table("addresses", {"id": INT, "party_id": INT, "kind": TEXT, "city": TEXT, "country": TEXT, "moved": DataType(kind=Kind.INSTANT, name="timestamp")}),
        _table("countries", {"code": TEXT, "name": TEXT}, ("code",)),
        _table("lines", {"party_id": INT, "nr": INT, "amount": _decimal(2), "weight": DOUBLE}, ("party_id", "nr")),
        _table("heap", {"id": INT}, ()),
    )
}


def compiled(compile_sql: Any, sql: str, key: tuple[str, ...] = ("ref",)) -> Any:
    rule, problems = compile_sql(sql, tables=TABLES, key=key)
    assert rule is not None, problems
    return rule
