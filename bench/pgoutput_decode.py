"""How fast the PostgreSQL source drains a backlog, beside pg_recvlogical writing the same log to /dev/null.

    python -m bench.pgoutput_decode [--rows 200000] [--transactions 20000] [--repeat 3] [--version 15]

Prints one JSON document: per workload (bulk inserts of 1000 rows a transaction, one-row updates) and method the median rows per second, CPU
seconds of the reader, and the ratio to pg_recvlogical. Every run of ours counts its changes; a wrong number ends the benchmark.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import psycopg

from adapters.postgres.schema import read_table
from adapters.postgres.source import PostgresSource
from engine.model.batch import Position
from engine.ports import Watched
from engine.throwaway import servers

_TABLE = """CREATE TABLE customers (id bigint PRIMARY KEY, code text, name text, street text, city text, zip varchar(10), country char(2), phone text,
  email text, credit numeric(12,2), active boolean, born date, changed timestamptz)"""
_INSERT = """INSERT INTO customers SELECT n, 'C' || n, 'Customer name ' || n, 'Some street ' || n %% 977, 'City ' || n %% 311, lpad((n %% 99999)::text, 5, '0'),
  'DE', '+49 30 ' || n, 'person' || n || '@example.org', n %% 100000 / 7.0, n %% 3 = 0, date '1960-01-01' + (n %% 15000)::int,
  timestamptz '2024-01-01 00:00:00+00' + n * interval '1.000001 second' FROM generate_series(%s::bigint, %s::bigint) AS n"""

Measure = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--transactions", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--version", choices=["15", "18"], default="15")
    given = parser.parse_args()
    with servers.postgres(given.version, {"synchronous_commit": "off", "max_wal_size": "4GB", "shared_buffers": "512MB"}) as server:
        json.dump(run(server, given.rows, given.transactions, given.repeat), sys.stdout, indent=2)
        print()


def run(server: servers.PostgresServer, rows: int, transactions: int, repeat: int) -> dict[str, object]:
    url = server.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TABLE)
        watched = _watched(url)
        bulk = _workload(server, url, connection, watched, repeat, rows, lambda: _bulk(connection, rows))
        single = _workload(server, url, connection, watched, repeat, transactions, lambda: _single(connection, rows, transactions))
    return {"server": server.kind, "repeat": repeat, "bulk": bulk, "one_row": single}


def _bulk(connection: psycopg.Connection, rows: int) -> None:
    for first in range(1, rows + 1, 1000):
        connection.execute(_INSERT, (first, min(first + 999, rows)))


def _single(connection: psycopg.Connection, rows: int, transactions: int) -> None:
    connection.execute("CREATE PROCEDURE touch(rows bigint, times int) LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..times LOOP "
                       "UPDATE customers SET credit = i, changed = changed + interval '1 second' WHERE id = 1 + (i * 7919::bigint) % rows; "
                       "COMMIT; END LOOP; END $$")  # fmt: skip
    connection.execute("CALL touch(%s, %s)", (rows, transactions))


def _watched(url: str) -> list[Watched]:
    with psycopg.connect(url) as connection:
        table = read_table(connection, "erp", "public", "customers")
    return [Watched(table=table, columns=tuple(c.name for c in table.columns), identity=("id",))]


def _workload(
    server: servers.PostgresServer,
    url: str,
    connection: psycopg.Connection,
    watched: list[Watched],
    repeat: int,
    changes: int,
    load: Callable[[], None],
) -> dict[str, object]:
    slot = f"bench_{changes}"
    start = PostgresSource("erp", url, "bench", {"slot": slot}).prepare(watched)
    load()
    connection.execute("SELECT pg_switch_wal()")
    (end,) = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone() or ("",)
    methods: dict[str, Callable[[], Measure]] = {
        "pg_recvlogical": lambda: _recvlogical(server, url, connection, slot, end),
        "socket": lambda: _drain(url, watched, slot, start, changes, "auto"),
        "libpq": lambda: _drain(url, watched, slot, start, changes, "libpq"),
    }
    _drain(url, watched, slot, start, changes, "auto")  # compiles, and warms the server's cache
    runs = {name: [] for name in methods}  # type: dict[str, list[Measure]]
    for _ in range(repeat):
        for name, measure in methods.items():
            runs[name].append(measure())
    limit = statistics.median(seconds for seconds, _ in runs["pg_recvlogical"])
    return {
        name: {
            "rows_per_second": round(changes / statistics.median(seconds for seconds, _ in measured)),
            "seconds": [round(seconds, 3) for seconds, _ in measured],
            "cpu_seconds": round(statistics.median(cpu for _, cpu in measured), 3),
            "ratio": round(limit / statistics.median(seconds for seconds, _ in measured), 2),
        }
        for name, measured in runs.items()
    }


def _recvlogical(server: servers.PostgresServer, url: str, connection: psycopg.Connection, slot: str, end: str) -> Measure:
    copy = f"{slot}_copy"
    connection.execute("SELECT pg_copy_logical_replication_slot(%s, %s)", (slot, copy))
    command = [
        str(server.programs / "pg_recvlogical"), "-d", url, "--slot", copy, "--start", "-f", "/dev/null", f"--endpos={end}", "--no-loop",
        "-o", "proto_version=1", "-o", "publication_names=syncline_bench",
    ]  # fmt: skip
    before, began = _cpu(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True)
    seconds, cpu = time.perf_counter() - began, _cpu(resource.RUSAGE_CHILDREN) - before
    connection.execute("SELECT pg_drop_replication_slot(%s)", (copy,))
    return seconds, cpu


def _drain(url: str, watched: list[Watched], slot: str, start: Position, changes: int, transport: str) -> Measure:
    source = PostgresSource("erp", url, "bench", {"slot": slot, "transport": transport})
    before, began = _cpu(resource.RUSAGE_SELF), time.perf_counter()
    source.open(watched, start)
    seen, heard = 0, time.monotonic()
    while seen < changes:
        batch = source.read(1.0)
        if batch is not None and batch.changes:
            seen, heard = seen + sum(len(change) for change in batch.changes), time.monotonic()
        elif time.monotonic() - heard > 60:
            raise SystemExit(f"{transport}: only {seen} of {changes} changes came")
    seconds, cpu = time.perf_counter() - began, _cpu(resource.RUSAGE_SELF) - before
    source.close()
    if seen != changes:
        raise SystemExit(f"{transport}: {seen} changes came, expected {changes}")
    return seconds, cpu


def _cpu(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
