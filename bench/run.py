"""`make bench`: Syncline against PostgreSQL's own logical replication on one server, one load and one run, then latency in both directions.

    python -m bench.run [--scale 1] [--samples 1] [--only native,syncline,captured,latency] [--json]
"""
from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import psycopg

from bench import latency, native, workload
from bench.daemon import OneWay
from bench.measure import Drain, GaveUpError
from bench.report import Figure, Outcome, machine, median
from bench.workload import Size
from engine.errors import SynclineError
from engine.throwaway import servers

PARTS = ("native", "syncline", "captured", "latency")
BULK, SINGLE = "bulk insert, 1,000 rows a transaction", "one-row update transactions"
SETTINGS: dict[str, servers.Setting] = {
    "synchronous_commit": "off", "shared_buffers": "512MB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "max_replication_slots": 20,
    "max_wal_senders": 20, "logical_decoding_work_mem": "64MB",
}


class Replication(Protocol):
    """What is measured. `drain` works off the backlog that gathered since the last one."""

    name: str

    def drain(self, *, rows: int, done: str, patience: float) -> Drain: ...

    def close(self) -> None: ...


def main(*, scale: float = 1.0, samples: int = 1, only: Sequence[str] = PARTS, as_json: bool = False) -> int:
    """Measures and prints. Exit code 0, or 4 when a measurement failed or ended with different rows."""
    outcome = measure(scale=scale, samples=samples, only=only)
    if as_json:
        print(json.dumps(outcome.to_json(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(outcome.lines()))
    return 4 if outcome.failures or not all(f.equal for f in outcome.figures) else 0


def measure(*, scale: float, samples: int, only: Sequence[str]) -> Outcome:
    """All chosen parts. A part that fails is named in `failures`; the others are measured anyway."""
    facts = machine()
    size = Size.scaled(scale)
    failures: list[str] = []
    runs: dict[tuple[str, str], list[tuple[Drain, bool]]] = {}
    commands: dict[str, str] = {}
    if set(only) & {"native", "syncline", "captured"}:
        facts["workload"] = f"{size.rows:,} rows inserted, {size.updates:,} one-row updates; table of {len(workload.COLUMNS)} columns"
        for _ in range(samples):  # each on a server of its own: slots and the log of one run are no burden to the next
            with servers.postgres("15", SETTINGS) as server, tempfile.TemporaryDirectory(prefix="bench-") as folder:
                facts["server"] = _settings(server)
                _throughput(server, Path(folder), size, only, runs, commands, failures, scale)
    figures = _figures(runs, commands, samples)
    latencies = []
    if "latency" in only:
        try:
            latencies = latency.measure(rate=200, seconds=max(3.0, min(30.0, 30 * scale * 3)))
        except (GaveUpError, SynclineError, OSError) as error:
            failures.append(f"latency: {error}")
    return Outcome(facts=facts, figures=figures, latencies=latencies, failures=failures)


def _throughput(
    server: servers.PostgresServer, folder: Path, size: Size, only: Sequence[str], runs: dict[tuple[str, str], list[tuple[Drain, bool]]],
    commands: dict[str, str], failures: list[str], scale: float,
) -> None:
    source = server.database()
    workload.create_table(source)
    replications: list[tuple[Replication, str]] = []
    for part in ("native", "syncline", "captured"):
        if part not in only:
            continue
        target = server.database()
        workload.create_table(target)
        try:
            made: Replication = native.Native(source, target) if part == "native" else OneWay(
                source, target, workload.RULE, capture=part == "captured", folder=folder)
        except (GaveUpError, SynclineError, psycopg.Error) as error:
            failures.append(f"{part}: {error}")
            continue
        commands[made.name] = f"python -m bench.run --scale {scale:g} --only {part}"
        replications.append((made, target))
    try:
        last = workload.last_updated(size)
        workload.bulk_load(source, size)
        bulk_done = f"SELECT 1 FROM customers WHERE id = {size.rows}"
        replications = _drain_all(BULK, size.rows, bulk_done, source, replications, runs, failures)
        workload.one_row_updates(source, size)
        with psycopg.connect(source, autocommit=True) as connection:
            row = connection.execute(f"SELECT updated_at::text FROM customers WHERE id = {last}".encode()).fetchone()
        assert row is not None
        single_done = f"SELECT 1 FROM customers WHERE id = {last} AND updated_at = timestamptz '{row[0]}'"
        replications = _drain_all(SINGLE, size.updates, single_done, source, replications, runs, failures)
    finally:
        for made, _ in replications:
            made.close()


def _drain_all(
    what: str, rows: int, done: str, source: str, replications: list[tuple[Replication, str]],
    runs: dict[tuple[str, str], list[tuple[Drain, bool]]], failures: list[str],
) -> list[tuple[Replication, str]]:
    """Drains one after the other, so that they do not share the machine; those that failed are left out from then on."""
    expected = workload.checksum(source)
    good = []
    for made, target in replications:
        try:
            drain = made.drain(rows=rows, done=done, patience=60 + rows / 2_000)
            equal = workload.checksum(target) == expected
            runs.setdefault((what, made.name), []).append((drain, equal))
            good.append((made, target))
        except (GaveUpError, SynclineError, psycopg.Error) as error:
            failures.append(f"{made.name}, {what}: {error}")
            made.close()
    return good


def _figures(runs: dict[tuple[str, str], list[tuple[Drain, bool]]], commands: dict[str, str], samples: int) -> list[Figure]:
    figures = []
    for (what, name), found in runs.items():
        drain = median([d for d, _ in found])
        peers = runs.get((what, native.Native.name))
        ratio = drain.rows_per_second / median([d for d, _ in peers]).rows_per_second if peers else None
        figures.append(Figure(workload=what, system=name, drain=drain, equal=all(equal for _, equal in found), command=commands[name],
                              ratio=ratio, samples=samples))
    return figures


def _settings(server: servers.PostgresServer) -> str:
    version = server.execute("SHOW server_version")[0][0]
    shown = [f"{name}={server.execute(f'SHOW {name}')[0][0]}" for name in ("fsync", "full_page_writes", *SETTINGS)]
    return f"PostgreSQL {version}, one server, source and each target a database of its own, the same for all: " + ", ".join(shown)


def cli(argv: Sequence[str] | None = None) -> int:
    """`python -m bench.run`."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 1M rows and 100k updates")
    parser.add_argument("--samples", type=int, default=1, help="runs of the whole, medians are reported")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas: " + ", ".join(PARTS))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    only = [part.strip() for part in given.only.split(",")]
    if not set(only) <= set(PARTS):
        parser.error("--only takes " + ", ".join(PARTS))
    return main(scale=given.scale, samples=given.samples, only=only, as_json=given.json)


if __name__ == "__main__":
    sys.exit(cli())
