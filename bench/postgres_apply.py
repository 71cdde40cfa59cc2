"""How fast the PostgreSQL sink writes, beside what the server could do at most.

    python bench/postgres_apply.py [--url URL] [--rows 1000000] [--batch 10000] [--batches 10]

Limit: INSERT .. SELECT .. ON CONFLICT from a temporary table that is loaded already, batch by batch, on a table of `--rows` rows and 13 columns.
Ours: the whole transaction of a batch (begin with marker, write, commit) for updates of all columns, of one column, of mixed columns, and for
new rows. Prints rows per second, the median over the batches, and the ratio to the limit. The two take turns, so that both meet the same noise.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pyarrow as pa

from adapters.postgres import connect
from adapters.postgres.connection import connect as connect_postgres
from engine.model.batch import INSERT, UPDATE
from engine.model.schema import Table
from engine.model.write import WROTE, Marker, Write
from engine.ports import Sink
from engine.throwaway import servers

COLUMNS = "id bigint PRIMARY KEY, name text, email text, phone text, city text, street text, zip varchar(10), country char(2), credit numeric(12,2), \
active boolean, score integer, born date, changed timestamptz"


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
            "changed": pa.array([f"2026-0{salt % 9 + 1}-11 12:13:14.{i % 1000000:06d}+00" for i in ids]),
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


def joined(one: Write, other: Write) -> Write:
    return Write(
        table=one.table,
        key=one.key,
        op=np.concatenate([one.op, other.op]),
        values=pa.concat_tables([one.values, other.values]),
        decided=np.concatenate([one.decided, other.decided]),
    )


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
        url = given.url
        if url is None:
            settings: dict[str, servers.Setting] = {"shared_buffers": "1GB", "max_wal_size": "8GB", "synchronous_commit": "off"}
            url = stack.enter_context(servers.postgres("15", settings)).database()
        measure(url, given.rows, given.batch, given.batches)


def measure(url: str, total: int, size: int, batches: int) -> None:
    connection = connect_postgres(url, system="bench")
    connection.execute("DROP TABLE IF EXISTS bench_customers")
    connection.execute(f"CREATE TABLE bench_customers ({COLUMNS})")
    adapter = connect("bench", url, {})
    sink, table = adapter.sink("bench"), adapter.reader().table("", "bench_customers")
    sink.prepare()
    for first in range(0, total, 100_000):
        apply(sink, 1, write(table, rows(first, min(100_000, total - first), 1, 0), INSERT, "all"))
    connection.execute("VACUUM ANALYZE bench_customers")
    connection.execute(f"CREATE TEMPORARY TABLE loaded ({COLUMNS.replace('PRIMARY KEY', '')})")
    names = [column.name for column in table.columns]
    changes = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
    upsert = f"INSERT INTO bench_customers SELECT * FROM loaded ON CONFLICT (id) DO UPDATE SET {changes}"
    step = max(1, total // size // 2)
    loader = adapter.sink("bench")

    def limit(values: pa.Table) -> float:
        from adapters import copytext

        connection.execute("TRUNCATE loaded")
        with connection.cursor() as cursor, cursor.copy("COPY loaded FROM STDIN") as copy:
            copy.write(copytext.encode(values.columns))
        start = time.perf_counter()
        connection.execute(upsert)
        return time.perf_counter() - start

    def updates(which: str, offset: int) -> Callable[[int], float]:
        return lambda salt: apply(sink, salt, write(table, rows(offset, size, step, salt), UPDATE, which))

    def inserts(salt: int) -> float:
        return apply(sink, salt, write(table, rows(total * 2 + salt * size, size, 1, salt), INSERT, "all"))

    def staged(salt: int) -> float:
        new = write(table, rows(total * 4 + salt * size, size, 1, salt), INSERT, "all")
        changed = write(table, rows(4, 1, 1, salt), UPDATE, "all")
        return apply(sink, salt, joined(new, changed))

    contestants: dict[str, Callable[[int], float]] = {
        "limit: upsert, rows exist": lambda salt: limit(rows(0, size, step, salt)),
        "update, all columns": updates("all", 1),
        "update, one column": updates("one", 2),
        "update, mixed columns": updates("mixed", 3),
        "limit: upsert, new rows": lambda salt: limit(rows(total * 6 + salt * size, size, 1, salt)),
        "insert, direct": inserts,
        "insert, and one update": staged,
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for salt in range(1, batches + 2):
        for name, run in contestants.items():
            seconds = run(salt)
            if salt > 1:  # the first round warms up
                times[name].append(seconds)
    base = 0.0
    for name, measured in times.items():
        middle = statistics.median(measured)
        if name.startswith("limit"):
            base = middle
        print(f"{name:28} {size / middle:10.0f} rows/s  [{size / max(measured):.0f} - {size / min(measured):.0f}]  {base / middle:5.2f} of the limit")
    loader.close()
    sink.close()
    connection.execute("DROP TABLE bench_customers")
    connection.close()


if __name__ == "__main__":
    main()
