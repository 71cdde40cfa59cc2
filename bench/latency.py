"""Two-way between PostgreSQL and MariaDB at a steady rate: how long from a commit until the row is visible on the other side.

Writers on both sides change rows of their own; a reader on the other side asks for the changed keys every few milliseconds. Commit and
sight are taken from the same clock, that of this process, so the figures hold no clock skew; they include up to one interval of looking.

    python -m bench.latency [--rate 200] [--seconds 30]
"""
from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import numpy as np
import psycopg
import pymysql

from bench.daemon import Syncline, write_config
from bench.measure import GaveUpError, Memory, cpu_seconds
from bench.report import Latency, Outcome, machine
from engine.throwaway import servers

ROWS = 4_000
"""Rows per side that its writer changes in turn: more than the changes that are on their way at any time."""

SETTINGS: dict[str, servers.Setting] = {"synchronous_commit": "on"}
"""A log can be read up to where it is flushed; commits that do not wait for it are flushed up to three times `wal_writer_delay` (200 ms) later."""

_LOOK_SECONDS = 0.010
_LINGER_SECONDS = 20.0

TO_ERP = "SELECT a.id AS ref, trim(a.name) AS name, a.note AS note, a.amount AS amount FROM crm.accounts AS a"
TO_CRM = "SELECT c.ref AS id, c.name AS name, c.note AS note, c.amount AS amount FROM erp.customers AS c"


class Side(Protocol):
    """A connection to one database."""

    def change(self, key: int, note: int) -> None:
        """Updates one row and commits."""

    def notes(self, keys: Sequence[int]) -> dict[int, int]:
        """The rows' notes as they can be seen now."""

    def close(self) -> None: ...


class Postgres:
    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def change(self, key: int, note: int) -> None:
        self._connection.execute("UPDATE customers SET note = %s, amount = amount + 1 WHERE ref = %s", (note, key))

    def notes(self, keys: Sequence[int]) -> dict[int, int]:
        return dict(self._connection.execute("SELECT ref, note FROM customers WHERE ref = ANY(%s)", (list(keys),)).fetchall())

    def close(self) -> None:
        self._connection.close()


class MariaDB:
    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._connection = pymysql.connect(
            host="127.0.0.1", port=address.port or 3306, user=address.username, database=address.path[1:],
            autocommit=True, charset="utf8mb4",
        )

    def change(self, key: int, note: int) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute("UPDATE accounts SET note = %s, amount = amount + 1 WHERE id = %s", (note, key))

    def notes(self, keys: Sequence[int]) -> dict[int, int]:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT id, note FROM accounts WHERE id IN %s", (list(keys),))
            return dict(cursor.fetchall())

    def close(self) -> None:
        self._connection.close()


class Direction:
    """Writes on one side at a rate, looks on the other."""

    def __init__(self, name: str, here: Side, there: Side, first: int) -> None:
        self.name = name
        self.delays: list[float] = []
        self.changes = 0
        self._here = here
        self._there = there
        self._first = first
        self._waiting: dict[int, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._written = threading.Event()
        self.failure: BaseException | None = None

    def write(self, rate: float, seconds: float) -> None:
        """`rate` commits a second; a late one is not made up for by a burst later than a second."""
        try:
            began = time.monotonic()
            while (now := time.monotonic()) - began < seconds:
                due = began + self.changes / rate
                if due > now:
                    time.sleep(due - now)
                self._one(self._first + self.changes % ROWS)
        except BaseException as error:
            self.failure = error
        finally:
            self._written.set()

    def _one(self, key: int) -> None:
        self.changes += 1
        note = self.changes
        self._here.change(key, note)
        with self._lock:
            self._waiting[key] = (note, time.monotonic())

    def look(self) -> None:
        """Until every change was seen, or some time after the last one."""
        try:
            deadline = float("inf")
            while time.monotonic() < deadline:
                if self._written.is_set() and deadline == float("inf"):
                    deadline = time.monotonic() + _LINGER_SECONDS
                with self._lock:
                    waiting = dict(self._waiting)
                if not waiting and self._written.is_set():
                    return
                if waiting:
                    seen = self._there.notes(list(waiting))
                    now = time.monotonic()
                    for key, (note, committed) in waiting.items():
                        if seen.get(key) == note:
                            self.delays.append(now - committed)
                            with self._lock:
                                if self._waiting[key][0] == note:
                                    del self._waiting[key]
                time.sleep(_LOOK_SECONDS)
        except BaseException as error:
            self.failure = error

    @property
    def lost(self) -> int:
        return len(self._waiting)


def measure(*, rate: float = 200.0, seconds: float = 30.0) -> list[Latency]:
    """Half of `rate` on each side for `seconds`. GaveUpError when the daemon does not come up or ends early."""
    with servers.postgres("15", SETTINGS) as erp, servers.mariadb() as crm, tempfile.TemporaryDirectory() as folder:
        erp_url, crm_url = erp.database(), crm.database()
        _fill(erp, erp_url, crm, crm_url)
        config = write_config(
            Path(folder), name="latency",
            systems={"crm": {"adapter": "mysql", "url": crm_url}, "erp": {"adapter": "postgres", "url": erp_url}},
            rules=[
                {"name": "to_erp", "select": TO_ERP, "into": "erp.public.customers", "key": ["ref"], "conflict": "last_writer_wins"},
                {"name": "to_crm", "select": TO_CRM, "into": "crm.accounts", "key": ["id"], "conflict": "last_writer_wins"},
            ],
        )
        program = Syncline(config)
        program.until_idle(120)  # the first read
        with _sides(erp_url, crm_url) as sides:
            process = program.start()
            try:
                _come_up(program, process.poll, sides)
                before = cpu_seconds(process.pid)
                memory = Memory()
                directions = [
                    Direction("MariaDB to PostgreSQL", sides[0], sides[1], 1),
                    Direction("PostgreSQL to MariaDB", sides[2], sides[3], ROWS + 1),
                ]
                _all([(d.write, (rate / 2, seconds)) for d in directions] + [(d.look, ()) for d in directions])
                if process.poll() is not None:
                    raise GaveUpError(f"`syncline run` ended with exit code {process.returncode}: {program.tail()}")
                for direction in directions:
                    if direction.failure:
                        raise GaveUpError(f"{direction.name}: {type(direction.failure).__name__}") from direction.failure
                used = cpu_seconds(process.pid) - before
                memory.sample(process.pid)
            finally:
                program.stop(process)
    command = f"python -m bench.latency --rate {rate:g} --seconds {seconds:g}"
    return [_figure(d, seconds, used, memory, command) for d in directions]


def _figure(direction: Direction, seconds: float, used: float, memory: Memory, command: str) -> Latency:
    delays = np.array(direction.delays or [float("nan")]) * 1000
    return Latency(
        direction=direction.name,
        changes=direction.changes,
        per_second=direction.changes / seconds,
        p50=float(np.percentile(delays, 50)),
        p99=float(np.percentile(delays, 99)),
        worst=float(delays.max()),
        lost=direction.lost,
        memory=memory,
        cpu_seconds=used,
        command=command,
    )


def _fill(erp: servers.PostgresServer, erp_url: str, crm: servers.MariaDBServer, crm_url: str) -> None:
    """The same rows on both sides."""
    erp_name, crm_name = urlsplit(erp_url).path[1:], urlsplit(crm_url).path[1:]
    rest = "name varchar(100) NOT NULL, note int NOT NULL, amount decimal(12, 2) NOT NULL"
    erp.execute(f"CREATE TABLE customers (ref bigint PRIMARY KEY, {rest})", database=erp_name)
    crm.execute(f"CREATE TABLE accounts (id bigint PRIMARY KEY, {rest})", database=crm_name)
    erp.execute(f"INSERT INTO customers SELECT i, 'Kunde ' || i, 0, 10 FROM generate_series(1, {2 * ROWS}) AS i", database=erp_name)
    crm.execute(f"INSERT INTO accounts SELECT seq, CONCAT('Kunde ', seq), 0, 10 FROM seq_1_to_{2 * ROWS}", database=crm_name)


@contextmanager
def _sides(erp_url: str, crm_url: str) -> Iterator[tuple[Side, Side, Side, Side]]:
    """Per direction a writing and a looking connection."""
    made: tuple[Side, Side, Side, Side] = (MariaDB(crm_url), Postgres(erp_url), Postgres(erp_url), MariaDB(crm_url))
    try:
        yield made
    finally:
        for side in made:
            side.close()


def _come_up(program: Syncline, ended: Callable[[], int | None], sides: tuple[Side, Side, Side, Side]) -> None:
    """Waits until a change of each side has arrived on the other: both logs are tailed, the code is compiled."""
    deadline = time.monotonic() + 120

    def wait(what: str) -> None:
        if ended() is not None:
            raise GaveUpError(f"`syncline run` ended early: {program.tail()}")
        if time.monotonic() > deadline:
            raise GaveUpError(f"{what} within 120 s: {program.tail()}")
        time.sleep(0.1)

    for name, here, there, key in (("MariaDB to PostgreSQL", *sides[:2], 1), ("PostgreSQL to MariaDB", *sides[2:], ROWS + 1)):
        here.change(key, -1)
        while there.notes([key]).get(key) != -1:
            wait(f"{name}: no change arrived")


def _all(jobs: Sequence[tuple[object, tuple[float, ...]]]) -> None:
    threads = [threading.Thread(target=job, args=arguments, daemon=True) for job, arguments in jobs]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def cli(argv: Sequence[str] | None = None) -> int:
    """`python -m bench.latency`."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=200.0, help="changes a second, both sides together")
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args(argv)
    facts = machine()
    try:
        outcome = Outcome(facts=facts, latencies=measure(rate=given.rate, seconds=given.seconds))
    except GaveUpError as error:
        outcome = Outcome(facts=facts, failures=[str(error)])
    print("\n".join(outcome.lines()))
    return 4 if outcome.failures or any(x.lost for x in outcome.latencies) else 0


if __name__ == "__main__":
    sys.exit(cli())
