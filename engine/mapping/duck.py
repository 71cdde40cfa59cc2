"""The DuckDB connection that rules run in, and the names of lookups inside it."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

from engine.mapping.lookups import Lookup

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "python_enable_replacements": "false",
    "arrow_large_buffer_size": "false",
}
"""A rule reads its batch and the lookups, and nothing else of this machine. One thread: two give no gain on batches of this size.
The optimizer is off: it has nothing to gain in a query over one batch, and it costs most of the fixed time of an evaluation (bench/evaluate.py)."""


def connect(lookups: Mapping[str, Lookup]) -> Any:
    """A fresh in-memory database that holds the lookups."""
    connection = duckdb.connect(config=_SETTINGS)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("PRAGMA disable_optimizer")
    for name, lookup in lookups.items():
        columns = ", ".join(f"{quote(column)} AS l{number}" for number, column in enumerate(lookup.columns))
        connection.register("incoming", lookup.rows)
        connection.execute(f"CREATE TABLE {lookup_relation(name)} AS SELECT TRUE AS __found, {columns} FROM incoming")
        connection.unregister("incoming")
    return connection


def lookup_relation(name: str) -> str:
    """Hexadecimal, so that names that differ in case or hold odd characters stay apart."""
    return f"lookup_{name.encode().hex()}"


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Batch:
    """A relation that gives DuckDB the rows of the moment each time it reads it, by
    https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html"""

    def __init__(self, none: pa.Table) -> None:
        self.rows = self.none = none

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.rows.__arrow_c_stream__(requested_schema)
