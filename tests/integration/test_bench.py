"""The benchmark at a small size: it measures what it says, and says when something is wrong."""
from __future__ import annotations

import json

import pytest

from bench import run, workload
from bench.native import Native
from bench.workload import Size
from engine.throwaway.servers import PostgresServer

SMALL = Size(rows=2_000, updates=200)


@pytest.fixture
def pair(postgres15: PostgresServer) -> tuple[str, str]:
    urls = postgres15.database(), postgres15.database()
    for url in urls:
        workload.create_table(url)
    return urls


def test_the_load_is_the_same_every_time_and_the_checksum_sees_one_cell(pair: tuple[str, str], postgres15: PostgresServer) -> None:
    for url in pair:
        workload.bulk_load(url, SMALL)
        workload.one_row_updates(url, SMALL)
    assert workload.checksum(pair[0]) == workload.checksum(pair[1])
    assert workload.checksum(pair[0]).startswith("2000 rows")
    postgres15.execute(f"UPDATE customers SET balance = balance + 0.01 WHERE id = {workload.last_updated(SMALL)}", database=pair[1].rpartition("/")[2])
    assert workload.checksum(pair[0]) != workload.checksum(pair[1])


def test_native_replication_drains_what_gathered_while_it_was_off(pair: tuple[str, str], postgres15: PostgresServer) -> None:
    native = Native(*pair)
    try:
        workload.bulk_load(pair[0], SMALL)
        drain = native.drain(rows=SMALL.rows, done=f"SELECT 1 FROM customers WHERE id = {SMALL.rows}", patience=60)
        assert workload.checksum(pair[1]) == workload.checksum(pair[0])
        assert 0 < drain.seconds <= drain.whole_seconds
    finally:
        native.close()
    name = pair[0].rpartition("/")[2]
    postgres15.execute("SELECT pg_drop_replication_slot('bench_native')", database=name)


def test_a_whole_run_reports_both_replications_on_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(scale=0.002, only=("native", "syncline"), as_json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["failures"] == []
    figures = {(f["workload"], f["system"].split(",")[0]): f for f in report["throughput"]}
    assert len(figures) == 4
    for (_, system), figure in figures.items():
        assert figure["equal"]
        assert figure["rows_per_second"] > 0
        assert figure["ratio_to_native"] > 0
        assert (figure["peak_rss_mb"] or 0) > (50 if system == "Syncline" else -1)
        assert figure["command"].startswith("python -m bench.run")
    assert "PostgreSQL 15" in report["facts"]["server"]
