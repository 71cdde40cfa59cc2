"""How fast the MySQL source reads a binary log, beside mysql-replication reading the same events of the same server.

    python -m bench.binlog_decode [--rows 200000] [--transactions 20000] [--peer-rows 20000] [--repeat 3]

Prints one JSON document: per workload (bulk inserts of 1000 rows a transaction, one-row updates) the median rows per second and CPU seconds of the
reader for ours and for the peer, and their ratio. The peer reads only the first `--peer-rows` of it, as it takes minutes for the whole; ours is
measured on the same stretch too. Before that a run checks that both deliver the same keys in the same order, and ours as many rows as were written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pymysql

from adapters.mysql import gtid
from adapters.mysql.connection import connect
from adapters.mysql.schema import read_table
from adapters.mysql.source import MySqlSource
from engine.model.batch import Position
from engine.ports import Watched
from engine.throwaway import servers

_TABLE = """CREATE TABLE customers (id bigint PRIMARY KEY, code varchar(20), name varchar(60), street varchar(60), city varchar(40), zip varchar(10),
  country char(2), phone varchar(30), email varchar(80), credit decimal(12,2), active tinyint, born date, changed datetime(6))"""
_INSERT = """INSERT INTO customers SELECT seq, concat('C', seq), concat('Customer name ', seq), concat('Some street ', seq % 977), concat('City ', seq % 311),
  lpad(seq % 99999, 5, '0'), 'DE', concat('+49 30 ', seq), concat('person', seq, '@example.org'), seq % 100000 / 7, seq % 3 = 0,
  '1960-01-01' + INTERVAL seq % 15000 DAY, '2024-01-01' + INTERVAL seq * 1000001 MICROSECOND FROM seq_{first}_to_{last}"""

Measure = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--transactions", type=int, default=20_000)
    parser.add_argument("--peer-rows", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    with servers.mariadb({"innodb_buffer_pool_size": "512M", "max_binlog_size": "1G"}) as server:
        json.dump(run(server, given.rows, given.transactions, given.peer_rows, given.repeat), sys.stdout, indent=2)
        print()


def run(server: servers.MariaDBServer, rows: int, transactions: int, peer_rows: int, repeat: int) -> dict[str, object]:
    url = server.database()
    connection = connect(url, system="bench", autocommit=True)
    try:
        _run(connection, _TABLE)
        watched = Watched(
            table=(table := read_table(connection, "crm", urlsplit(url).path[1:], "customers")),
            columns=tuple(column.name for column in table.columns),
            identity=table.primary_key,
        )
        start = _end(url, watched)
        for first in range(1, rows + 1, 1000):
            _run(connection, _INSERT.format(first=first, last=min(first + 999, rows)))
        bulk = _workload(url, watched, start, rows, min(peer_rows, rows), repeat)
        start = _end(url, watched)
        for k in range(transactions):
            _run(connection, f"UPDATE customers SET credit = credit + 1, city = 'City {k}' WHERE id = {k * 7919 % rows + 1}")
        single = _workload(url, watched, start, transactions, min(peer_rows, transactions), repeat)
    finally:
        connection.close()
    return {"server": server.kind, "repeat": repeat, "bulk": bulk, "one_row": single}


def _workload(url: str, watched: Watched, start: Position, rows: int, peer_rows: int, repeat: int) -> dict[str, object]:
    """Ours and the peer take turns, so that a busy machine slows both."""
    ours, same, peer = [], [], []
    _check(url, watched, start, rows, peer_rows)
    for _ in range(repeat):
        ours.append(_ours(url, watched, start, rows))
        same.append(_ours(url, watched, start, peer_rows))
        peer.append(_peer(url, start, peer_rows))
    told = {"rows": rows, "ours": _told(rows, ours), "peer_rows": peer_rows, "ours_same_rows": _told(peer_rows, same), "peer": _told(peer_rows, peer)}
    wall = [theirs[0] / mine[0] for mine, theirs in zip(same, peer, strict=True)]
    told["ratio_same_rows"] = round(statistics.median(wall), 1)
    told["ratio"] = round(statistics.median(rows / mine[0] / (peer_rows / theirs[0]) for mine, theirs in zip(ours, peer, strict=True)), 1)
    return told


def _check(url: str, watched: Watched, start: Position, rows: int, peer_rows: int) -> None:
    """Both deliver the same rows in the same order, and ours as many as there are up to the end of the log. Also warms up."""
    source = MySqlSource("crm", url, "bench", {})
    try:
        end = source.prepare([watched])
        source.open([watched], start)
        mine: list[str] = []
        reached = start.order
        while reached < end.order:
            batch = source.read(1.0)
            if batch is not None:
                mine += [key for part in batch.changes for key in part.values.column("id").to_pylist()]
                reached = batch.high.order
    finally:
        source.close()
    if len(mine) != rows:
        raise SystemExit(f"our reader delivered {len(mine)} rows of {rows}")
    theirs: list[str] = []
    with _peer_reader(url, start) as reader:
        for event in reader:
            theirs += [str((row.get("values") or row["after_values"])["id"]) for row in event.rows]
            if len(theirs) >= peer_rows:
                break
    if theirs != mine[: len(theirs)]:
        raise SystemExit("the peer delivered other rows than our reader")


def _told(rows: int, measured: list[Measure]) -> dict[str, float]:
    wall = statistics.median(seconds for seconds, _ in measured)
    return {"rows_per_second": round(rows / wall), "cpu_seconds": round(statistics.median(cpu for _, cpu in measured), 3)}


def _ours(url: str, watched: Watched, start: Position, rows: int) -> Measure:
    """Reads at least `rows` changes, as columns of text. Opening is not measured (nor is it for the peer)."""
    source = MySqlSource("crm", url, "bench", {})
    try:
        source.open([watched], start)
        cpu, wall, came = _cpu(), time.perf_counter(), 0
        while came < rows:
            batch = source.read(1.0)
            if batch is None:
                raise SystemExit(f"our reader stopped at {came} of {rows} rows")
            came += sum(len(part) for part in batch.changes)
        measured = time.perf_counter() - wall, _cpu() - cpu
        return measured[0] * rows / came, measured[1] * rows / came
    finally:
        source.close()


def _peer(url: str, start: Position, rows: int) -> Measure:
    with _peer_reader(url, start) as reader:
        events = iter(reader)
        cpu, wall, came = _cpu(), time.perf_counter(), 0
        while came < rows:
            came += sum(1 for _ in next(events).rows)
        measured = time.perf_counter() - wall, _cpu() - cpu
        return measured[0] * rows / came, measured[1] * rows / came


@contextlib.contextmanager
def _peer_reader(url: str, start: Position) -> Iterator[Any]:
    from pymysqlreplication import BinLogStreamReader  # type: ignore[import-untyped]
    from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent  # type: ignore[import-untyped]

    parts = urlsplit(url)
    file, offset, _ = gtid.parts(start)
    reader = BinLogStreamReader(
        connection_settings={"host": parts.hostname, "port": parts.port, "user": parts.username, "passwd": parts.password or ""},
        server_id=4_100_000_000,
        log_file=file,
        log_pos=offset,
        resume_stream=True,
        blocking=True,
        is_mariadb=False,  # else it begins at the first log file
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
    )
    try:
        yield reader
    finally:
        reader.close()


def _end(url: str, watched: Watched) -> Position:
    source = MySqlSource("crm", url, "bench", {})
    try:
        return source.prepare([watched])
    finally:
        source.close()


def _run(connection: pymysql.Connection, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
