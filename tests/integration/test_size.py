"""A transaction far larger than memory should hold, and rows of many megabytes, through a daemon whose memory is watched.

As it runs with the other tests the bound is set low and the transaction is moderate; SYNCLINE_SOAK=1 (`make soak`) takes the full size: 2 million rows and
rows of 10 MB with the settings as they come, under 1 GB.
"""
from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.throwaway import servers
from tests import flavour
from tests.pair import Daemon, Pair, Side, eventually

SOAK = bool(os.environ.get("SYNCLINE_SOAK"))
ROWS = 2_000_000 if SOAK else 30_000
BOUND_MB = 1000 if SOAK else 250
LONG_ROWS, LONG_BYTES = (60, 10 << 20) if SOAK else (24, 2 << 20)
PATIENCE = 3600.0 if SOAK else 120.0
MORE = "" if SOAK else "transaction_rows = 2500\nchunk_rows = 2000\n"
RULES = """
[[rules]]
name = "to_erp"
select = "SELECT a.id, a.name, a.note FROM crm.{crm}account AS a"
into = "erp.{erp}account"
key = ["id"]
baseline = "source"
[[rules]]
name = "to_crm"
select = "SELECT a.id, a.name, a.note FROM erp.{erp}account AS a"
into = "crm.{crm}account"
key = ["id"]
baseline = "target"
"""


class Memory(threading.Thread):
    """peak_mb: the most anonymous memory that a process held."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.status, self.peak_mb, self.over = Path(f"/proc/{pid}/status"), 0.0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            try:
                found = re.search(r"RssAnon:\s+(\d+) kB", self.status.read_text())
            except OSError:
                return
            self.peak_mb = max(self.peak_mb, int(found.group(1)) / 1024 if found else 0.0)


@contextmanager
def watched(daemon: Daemon) -> Iterator[Memory]:
    memory = Memory(daemon.process.pid)
    memory.start()
    try:
        yield memory
    finally:
        memory.over.set()
        memory.join()


@contextmanager
def made(folder: Path, crm: str, erp: str, streaming: bool = False) -> Iterator[Pair]:
    rules = RULES.format(crm="public." if crm.startswith("postgresql") else "", erp="public." if erp.startswith("postgresql") else "")
    pair = Pair(folder, crm, erp, rules, MORE)
    if streaming:
        text = pair.config.read_text(encoding="utf-8")
        pair.config.write_text(text.replace('adapter = "postgres"', 'adapter = "postgres"\nstreaming = true'), encoding="utf-8")
    for side in (pair.crm, pair.erp):
        side.run(f"CREATE TABLE account (id int PRIMARY KEY, name varchar(80), note {'text' if side.adapter == 'postgres' else 'longtext'})")
    try:
        yield pair
    finally:
        pair.close()


def fill(side: Side, first: int, last: int) -> None:
    """One transaction of (last - first + 1) rows of about 300 bytes."""
    if side.adapter == "postgres":
        side.run(f"INSERT INTO account SELECT n, 'name ' || n, repeat(encode(sha256(n::text::bytea), 'hex'), 4) FROM generate_series({first}, {last}) n")
    else:
        numbers = flavour.sequence(first, last) if flavour.MYSQL else f"seq_{first}_to_{last}"
        side.run(f"INSERT INTO account SELECT seq, concat('name ', seq), repeat(sha2(seq, 256), 4) FROM {numbers}")


def count(side: Side, where: str = "1 = 1") -> int:
    return int(side.run(f"SELECT count(*) FROM account WHERE {where}")[0][0])


def digest(side: Side) -> tuple[Any, ...]:
    """Of all rows, the same on both databases."""
    here = side.adapter == "postgres"
    hashed = "encode(sha256((name || note)::bytea), 'hex')" if here else "sha2(concat(name, note), 256)"
    number = f"('x' || substr({hashed}, 1, 8))::bit(32)::bigint" if here else f"conv(substr({hashed}, 1, 8), 16, 10)"
    return tuple(int(value or 0) for value in side.run(f"SELECT count(*), sum(id), sum({number}) FROM account")[0])


@pytest.mark.parametrize("form", ["postgres", "streaming", "mariadb"])
def test_a_huge_transaction_passes_in_bounded_memory_and_a_kill_in_between_loses_and_doubles_nothing(
    form: str, postgres18: servers.PostgresServer, mariadb: servers.MariaDBServer, tmp_path: Path
) -> None:
    source, target = (mariadb, postgres18) if form == "mariadb" else (postgres18, mariadb)
    with made(tmp_path, source.database(), target.database(), form == "streaming") as pair:
        with pair.daemon() as daemon, watched(daemon) as memory:
            pair.crm.run("INSERT INTO account VALUES (-1, 'before', 'x')")
            eventually(lambda: count(pair.erp) == 1, PATIENCE)
            fill(pair.crm, 1, ROWS)
            eventually(lambda: count(pair.erp) > 1, PATIENCE)
            daemon.kill()
        assert count(pair.erp) < ROWS, "the parts are seen one by one"
        with pair.daemon() as daemon, watched(daemon) as again:
            eventually(lambda: count(pair.erp) == ROWS + 1, PATIENCE)
            pair.crm.run("INSERT INTO account VALUES (0, 'after', 'x')")
            eventually(lambda: count(pair.erp, "id = 0") == 1, PATIENCE)
            assert daemon.terminate() == 0
        assert digest(pair.crm) == digest(pair.erp)
        assert pair.rule("to_erp")["applied"] == ROWS + 2, "no part was written twice"
        assert pair.rule("to_crm")["applied"] == 0 and not pair.quarantine() and not pair.conflicts()
        print(f"{form}: {ROWS} rows in one transaction, at most {max(memory.peak_mb, again.peak_mb):.0f} MB of anonymous memory")
        assert max(memory.peak_mb, again.peak_mb) < BOUND_MB


@pytest.mark.parametrize("form", ["postgres", "mariadb"])
def test_long_rows_pass_in_bounded_memory(form: str, postgres18: servers.PostgresServer, mariadb: servers.MariaDBServer, tmp_path: Path) -> None:
    """Read when the daemon first starts, changed in one transaction while it runs, and compared."""
    source, target = (mariadb, postgres18) if form == "mariadb" else (postgres18, mariadb)
    with made(tmp_path, source.database(), target.database()) as pair:
        for n in range(LONG_ROWS):
            pair.crm.run(f"INSERT INTO account VALUES ({n}, 'n', repeat('{chr(97 + n % 26)}', {LONG_BYTES}))")
        with pair.daemon() as daemon, watched(daemon) as memory:
            eventually(lambda: count(pair.erp) == LONG_ROWS, PATIENCE)
            pair.crm.run("UPDATE account SET name = 'm', note = concat('y', note)")
            eventually(lambda: count(pair.erp, "name = 'm'") == LONG_ROWS, PATIENCE)
            assert daemon.terminate() == 0
        assert digest(pair.crm) == digest(pair.erp)
        assert not pair.quarantine() and not pair.conflicts()
        pair.agree()
        print(f"{form}: {LONG_ROWS} rows of {LONG_BYTES >> 20} MB, at most {memory.peak_mb:.0f} MB of anonymous memory")
        assert memory.peak_mb < BOUND_MB + (0 if SOAK else 200)


@pytest.mark.parametrize("local_infile", ["ON", "OFF"])
def test_a_row_larger_than_a_packet_of_the_target_passes_by_load_data_and_is_set_aside_otherwise(
    local_infile: str, postgres18: servers.PostgresServer, tmp_path: Path
) -> None:
    with (
        servers.mariadb({"max_allowed_packet": 1 << 17, "local_infile": local_infile}) as small,
        made(tmp_path, postgres18.database(), small.database()) as pair,
    ):
        pair.crm.run("INSERT INTO account VALUES (1, 'short', 'x'), (2, 'long', repeat('y', 3000000)), (3, 'short', 'z')")
        pair.settle()
        if local_infile == "ON":
            assert not pair.quarantine()
            pair.agree()
            return
        assert pair.erp.run("SELECT id FROM account ORDER BY id") == [(1,), (3,)]
        (aside,) = pair.quarantine()
        assert "max_allowed_packet" in aside["reason"]
        pair.crm.run("UPDATE account SET note = repeat('w', 2000000) WHERE id = 1")
        pair.crm.run("UPDATE account SET note = repeat('w', 2000) WHERE id = 2")
        pair.crm.run("UPDATE account SET note = 'last' WHERE id = 3")
        pair.settle()
        assert [row["key"] for row in pair.quarantine()] == [{"id": "1"}], "the one that was shortened is done"
        assert pair.erp.run("SELECT id, length(note) FROM account ORDER BY id") == [(1, 1), (2, 2000), (3, 4)]
