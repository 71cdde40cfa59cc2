"""Keys that name several rows are counted right, wherever a chunk ends, with and without a primary key."""

from __future__ import annotations

import contextlib

import pytest

from adapters import registry
from engine.observe.progress import progress
from engine.runtime.check import repeated_keys
from engine.throwaway import servers


@pytest.mark.parametrize("primary", ["id serial PRIMARY KEY,", ""])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_repeated_keys(postgres15: servers.PostgresServer, primary: str, limit: int) -> None:
    url = postgres15.database()
    database = url.rpartition("/")[2]
    postgres15.execute(f"CREATE TABLE t ({primary} a integer, b char(5))", database=database)
    postgres15.execute("INSERT INTO t (a, b) SELECT g, 'x' FROM generate_series(1, 10) g", database=database)
    with contextlib.closing(registry.connect("postgres", "erp", url, {}).reader()) as reader, progress() as shown:

        def count(*key: str) -> int:
            with shown.task("keys") as task:
                return repeated_keys(reader.table("", "t"), key, reader, limit, task)

        assert count("a", "b") == 0
        assert count("a") == 0
        postgres15.execute("INSERT INTO t (a, b) VALUES (3, 'x'), (3, 'x'), (10, 'y'), (NULL, 'z'), (NULL, 'z')", database=database)
        assert count("a") == 2
        assert count("a", "b") == 1
