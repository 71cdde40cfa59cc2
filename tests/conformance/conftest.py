"""One database system of each kind behind one face, so that a port's tests are written once."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psycopg
import pyarrow as pa
import pymysql
import pytest

from adapters import registry
from engine.model.batch import INSERT, UPDATE
from engine.model.schema import Table
from engine.model.write import Marker, Write
from engine.ports import Adapter, Reader, Sink

Row = tuple[str | None, ...]


@dataclass
class Side:
    """A fresh database and our adapter for it."""

    kind: str
    server: Any
    url: str
    name: str = "side"
    opened: list[Any] = field(default_factory=list)

    @property
    def is_postgres(self) -> bool:
        return self.kind.startswith("postgres")

    def adapter(self, url: str | None = None, **options: object) -> Adapter:
        return registry.connect("postgres" if self.is_postgres else "mysql", self.name, url or self.url, options)

    def reader(self) -> Reader:
        self.opened.append(self.adapter().reader())
        return self.opened[-1]

    def sink(self, rule_set: str = "rules", **options: object) -> Sink:
        """Prepared already."""
        sink = self.adapter(**options).sink(rule_set)
        self.opened.append(sink)
        sink.prepare()
        return sink

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        if not self.is_postgres:
            return list(self.server.execute(statement, database=urlsplit(self.url).path.strip("/")))
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return list(cursor.fetchall()) if cursor.description else []

    def table(self, name: str, columns: str) -> Table:
        """Creates the table and reads it back."""
        quoted = f'"{name}"' if self.is_postgres else f"`{name}`"
        self.execute(f"CREATE TABLE {quoted} ({columns})")
        return self.reader().table("", name)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.execute(query)

    def kill_connections(self) -> None:
        """Every connection to this database is ended by the server."""
        if self.is_postgres:
            of_ours = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            while self.execute(f"SELECT pg_terminate_backend(pid) {of_ours}"):
                pass  # until the last one is gone: before 14 it cannot be waited for
            return
        for (number,) in self.execute("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"):
            with contextlib.suppress(pymysql.err.OperationalError):  # it may have ended by itself
                self.execute(f"KILL {number}")

    @staticmethod
    def marker(batch: int = 1, *, rule_set: str = "rules", source: str = "crm") -> Marker:
        return Marker(rule_set=rule_set, source=source, batch=batch, position=f"position {batch}")

    @staticmethod
    def write(table: Table, key: Sequence[str], columns: Sequence[str], rows: Sequence[tuple[int, Row]], decided: Any = None) -> Write:
        """rows: (operation, values). decided: shape (rows, columns); left out: all of an insert, all but the key of an update."""
        op = np.array([kind for kind, _ in rows], dtype=np.uint8)
        values = pa.table({name: pa.array([row[place] for _, row in rows], pa.string()) for place, name in enumerate(columns)})
        if decided is None:
            decided = [[kind == INSERT or (kind == UPDATE and name not in key) for name in columns] for kind, _ in rows]
        return Write(table=table, key=tuple(key), op=op, values=values, decided=np.array(decided, dtype=np.bool_).reshape(len(rows), len(columns)))


DATABASES: dict[int, str] = {}
NUMBERS = itertools.count(1)


def _place(server: Any) -> str:
    """A fresh schema, the default one of its URL: making a database takes longer than a test."""
    if server.port not in DATABASES:
        DATABASES[server.port] = server.database()
    url, schema = DATABASES[server.port], f"side_{next(NUMBERS)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
    return f"{url}?options=-csearch_path%3D{schema}"


@pytest.fixture(params=["postgres15", "postgres18", "mariadb"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    server = request.getfixturevalue(request.param)
    made = Side(kind=request.param, server=server, url=_place(server) if request.param.startswith("postgres") else server.database())
    yield made
    for part in made.opened:
        part.close()
