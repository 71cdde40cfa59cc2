"""How fast the MySQL sink writes, beside what the server could do at most.

    python -m bench.mysql_apply [--url URL] [--rows 1000000] [--batch 10000] [--batches 10]

Limit: INSERT .. SELECT .. ON DUPLICATE KEY UPDATE from a temporary table that is loaded already, batch by batch, on a table of `--rows` rows and 13
columns. Ours: the whole transaction of a batch (begin with marker, load, write, commit). Prints rows per second, the median over the batches, and
the ratio to the limit. The contestants take turns, so that all meet the same noise.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pymysql

from adapters import copytext
from adapters.mysql import connect
from adapters.mysql.connection import connect as open_connection
from adapters.mysql.load import load_local
from adapters.mysql.sink import MySqlSink
from engine.model.batch import INSERT, UPDATE
from engine.model.schema import Table
from engine.model.write import WROTE, Marker, Write
from engine.ports import Sink
from engine.throwaway import servers

COLUMNS = "id bigint PRIMARY KEY, name varchar(100), email varchar(100), phone varchar(30), city varchar(50), street varchar(100), zip varchar(10), \
country char(2), credit decimal(12,2), active bit(1), score int, born date, changed timestamp(6) NULL"


def rows(first: int, count: int, step: int, salt: int) -> pa.Table:
    ids = np.arange(first, first + count * step, step)
    return pa.table(
        {
            "id": pa.array([str(i) for i in ids]),
            "name": pa.array([f"Customer number {i} of {salt}" for i in ids]),
            "email": pa.array([f"customer{i}@example{salt % 7}.com" for i in ids]),
            "phone": pa.array([f"+43 1 {i % 10000000:07d}" for i in ids]),
            "city": pa.array([f"City {i % 977}" for i in ids]),
            "street": pa.array([f"Long Street {i % 400} / {salt}" for i in ids]),
            "zip": pa.array([f"{i % 10000:04d}" for i in ids]),
            "country": pa.array(["AT"] * count),
            "credit": pa.array([f"{i % 9973}.{salt % 100:02d}" for i in ids]),
            "active": pa.array(["t" if i % 3 else "f" for i in ids]),
            "score": pa.array([str((i + salt) % 1000) for i in ids]),
            "born": pa.array([f"19{i % 90 + 10}-0{i % 9 + 1}-1{i % 9}" for i in ids]),
            "changed": pa.array([f"2026-0{salt % 9 + 1}-11 12:13:14.{i % 999999 + 1:06d}".rstrip("0") + "+00" for i in ids]),
        }
    )


def write(table: Table, values: pa.Table, op: int, which: str) -> Write:
    count = values.num_rows
    decided = np.ones((count, len(values.column_names)), dtype=np.bool_)
    if op == UPDATE:
        decided[:, 0] = False
    if which == "one":
        decided[:, 2:] = False
    if which == "mixed":
        decided[:, 1:] = np.random.default_rng(1).random((count, decided.shape[1] - 1)) < 0.3
    return Write(table=table, key=("id",), op=np.full(count, op, dtype=np.uint8), values=values, decided=decided)


def apply(sink: Sink, batch: int, wanted: Write) -> float:
    start = time.perf_counter()
    sink.begin(Marker(rule_set="bench", source="nowhere", batch=batch, position="0"))
    outcome = sink.write(wanted)
    sink.commit()
    seconds = time.perf_counter() - start
    assert (outcome.result == WROTE).all()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--batches", type=int, default=10)
    given = parser.parse_args()
    with ExitStack() as stack:
        url = given.url or stack.enter_context(servers.mariadb({"innodb_buffer_pool_size": "1G", "innodb_log_file_size": "1G"})).database()
        measure(url, given.rows, given.batch, given.batches)


def measure(url: str, total: int, size: int, batches: int) -> None:
    connection = open_connection(url, system="bench", local_infile=True)
    connection.query("DROP TABLE IF EXISTS bench_customers")
    connection.query(f"CREATE TABLE bench_customers ({COLUMNS})")
    adapter = connect("bench", url, {})
    sink, table = cast(MySqlSink, adapter.sink("bench")), adapter.reader().table("", "bench_customers")
    sink.prepare()
    for first in range(0, total, 50_000):
        apply(sink, 1, write(table, rows(first, min(50_000, total - first), 1, 0), INSERT, "all"))
    connection.query(f"CREATE TEMPORARY TABLE loaded ({COLUMNS})")
    names = [column.name for column in table.columns]
    changes = ", ".join(f"{name} = VALUES({name})" for name in names[1:])
    upsert = f"INSERT INTO bench_customers SELECT * FROM loaded ON DUPLICATE KEY UPDATE {changes}"
    step = max(1, total // size // 2)
    fields = ", ".join("@active" if name == "active" else "@changed" if name == "changed" else name for name in names)
    load = (
        f"LOAD DATA LOCAL INFILE 'x' INTO TABLE loaded CHARACTER SET utf8mb4 ({fields}) "
        "SET active = IF(@active = 't', 1, 0), changed = LEFT(@changed, LENGTH(@changed) - 3)"
    )

    def limit(values: pa.Table) -> float:
        connection.query("TRUNCATE loaded")
        load_local(connection, load, copytext.encode(values.columns), {})
        return timed(connection, upsert)

    def updates(which: str, offset: int) -> Callable[[int], float]:
        return lambda salt: apply(sink, salt, write(table, rows(offset, size, step, salt), UPDATE, which))

    def inserts(salt: int) -> float:
        return apply(sink, salt, write(table, rows(total * 2 + salt * size, size, 1, salt), INSERT, "all"))

    def staged(salt: int) -> float:
        cast(Any, sink)._pause[table.name] = 1
        return apply(sink, salt, write(table, rows(total * 4 + salt * size, size, 1, salt), INSERT, "all"))

    contestants: dict[str, Callable[[int], float]] = {
        "limit: upsert, rows exist": lambda salt: limit(rows(0, size, step, salt)),
        "update, all columns": updates("all", 1),
        "update, one column": updates("one", 2),
        "update, mixed columns": updates("mixed", 3),
        "limit: upsert, new rows": lambda salt: limit(rows(total * 6 + salt * size, size, 1, salt)),
        "insert, direct": inserts,
        "insert, staged": staged,
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for salt in range(1, batches + 2):
        for name, run in contestants.items():
            seconds = run(salt)
            if salt > 1:  # the first round warms up
                times[name].append(seconds)
    print(f"{size} rows a batch, {batches} batches, table of {total} rows")
    for name, seconds_of in times.items():
        rate = size / statistics.median(seconds_of)
        base = times["limit: upsert, new rows" if "new" in name or "insert" in name else "limit: upsert, rows exist"]
        print(f"{name:28} {rate:>10,.0f} rows/s   {statistics.median(base) / statistics.median(seconds_of):5.2f} of the limit")


def timed(connection: pymysql.Connection, sql: str) -> float:
    start = time.perf_counter()
    connection.query(sql)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
