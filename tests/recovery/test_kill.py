"""kill -9 in the middle of a load, a database that goes away, SIGTERM: nothing is lost, nothing doubled."""
from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.throwaway.servers import MariaDBServer, PostgresServer, mariadb, postgres
from tests.pair import Pair, Side, eventually, rows_json

CRM = """
CREATE TABLE account (
    ref char(36) PRIMARY KEY, name varchar(80) NOT NULL, phone varchar(40), credit decimal(12, 2), note text
) DEFAULT CHARSET utf8mb4"""
ERP = "CREATE TABLE customer (no serial PRIMARY KEY, ref uuid NOT NULL UNIQUE, name text NOT NULL, phone text, credit numeric(12, 2), note text)"
RULES = """
[[rules]]
name = "to_erp"
select = "SELECT CAST(a.ref AS UUID) AS ref, a.name AS name, a.phone AS phone, a.credit AS credit, a.note AS note FROM crm.account AS a"
into = "erp.customer"
key = ["ref"]
owners = { credit = "erp" }
[[rules]]
name = "to_crm"
select = "SELECT CAST(c.ref AS VARCHAR) AS ref, c.name AS name, c.phone AS phone, c.credit AS credit, c.note AS note FROM erp.customer AS c"
into = "crm.account"
key = ["ref"]
owners = { credit = "erp" }
"""
COLUMNS = "ref, name, phone, credit, note"


@pytest.fixture
def pair(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Pair]:
    pair = made(tmp_path, mariadb.database(), postgres15.database())
    yield pair
    pair.close()


def made(folder: Path, crm: str, erp: str) -> Pair:
    pair = Pair(folder, crm, erp, RULES)
    pair.crm.run(CRM)
    pair.erp.run(ERP)
    return pair


class Load(threading.Thread):
    """An application on one side: inserts, updates and deletes rows of a shared range of keys until told to stop."""

    def __init__(self, url: str, table: str, seed: int, changes: int) -> None:
        super().__init__(daemon=True)
        self._side, self._table, self._random, self._changes = Side(url), table, random.Random(seed), changes
        self.stopping = threading.Event()
        self.done = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set() and self.done < self._changes:
                self._change()
                self.done += 1
                self.stopping.wait(0.003)
        except Exception as error:
            self.failure = error
        finally:
            self._side.close()

    def _change(self) -> None:
        rng = self._random
        ref = f"00000000-0000-4000-8000-{rng.randrange(150):012d}"
        found = self._side.run(f"SELECT 1 FROM {self._table} WHERE ref = %s", ref)
        value = f"{self._table} {self.done} čž"
        if not found:
            ignore = "INSERT IGNORE" if self._table == "account" else "INSERT"
            unless = "" if self._table == "account" else " ON CONFLICT DO NOTHING"
            self._side.run(f"{ignore} INTO {self._table} (ref, name, phone) VALUES (%s, %s, %s){unless}", ref, value, value)
        elif rng.random() < 0.05:
            self._side.run(f"DELETE FROM {self._table} WHERE ref = %s", ref)
        else:
            column = rng.choice(("name", "phone", "note", "credit"))
            self._side.run(f"UPDATE {self._table} SET {column} = %s WHERE ref = %s", rng.randrange(9_999) if column == "credit" else value, ref)


def both_equal(pair: Pair) -> None:
    """By plain SQL: the same rows, each once."""
    crm, erp = (rows_json(side, f"SELECT {COLUMNS} FROM {table}") for side, table in ((pair.crm, "account"), (pair.erp, "customer")))
    assert crm == erp
    assert pair.crm.run("SELECT count(*), count(DISTINCT ref) FROM account")[0] == pair.erp.run("SELECT count(*), count(DISTINCT ref) FROM customer")[0]


def test_killed_again_and_again_under_load(pair: Pair) -> None:
    rng = random.Random(11)
    loads = [Load(pair.crm.url, "account", 1, 40_000), Load(pair.erp.url, "customer", 2, 40_000)]
    for load in loads:
        load.start()
    for _ in range(6):
        with pair.daemon() as daemon:
            applied = lambda: sum(side.run("SELECT coalesce(sum(batch), 0) FROM syncline_checkpoint")[0][0] for side in (pair.crm, pair.erp))  # noqa: E731
            eventually(lambda: "syncline_checkpoint" in table_names(pair))
            before = applied()
            goal = rng.randint(3, 25)
            eventually(lambda before=before, goal=goal, applied=applied: applied() >= before + goal)
            daemon.kill()
    for load in loads:
        load.stopping.set()
        load.join()
        assert load.failure is None
        assert load.done > 100
    pair.settle()
    both_equal(pair)
    pair.agree()
    assert pair.quarantine() == []


def table_names(pair: Pair) -> str:
    return str(pair.crm.run("SHOW TABLES")) if pair.erp.run("SELECT to_regclass('syncline_checkpoint')")[0][0] else ""


def test_sigterm_ends_with_a_checkpoint_and_exit_code_0(pair: Pair) -> None:
    load = Load(pair.crm.url, "account", 3, 10_000)
    load.start()
    with pair.daemon() as daemon:
        eventually(lambda: pair.erp.run("SELECT to_regclass('syncline_checkpoint')")[0][0] and pair.erp.run("SELECT 1 FROM customer LIMIT 1"))
        assert daemon.terminate() == 0
        assert "Traceback" not in daemon.text()
    load.stopping.set()
    load.join()
    pair.settle()
    both_equal(pair)


def test_databases_that_go_away_are_reconnected_to_and_nothing_is_lost(tmp_path: Path) -> None:
    with mariadb() as crm_server, postgres("15") as erp_server:
        pair = made(tmp_path, crm_server.database(), erp_server.database())
        pair.crm.run("INSERT INTO account (ref, name) VALUES ('00000000-0000-4000-8000-000000000001', 'first')")
        with pair.daemon() as daemon:
            eventually(lambda: pair.erp.run("SELECT to_regclass('customer')") and pair.erp.run("SELECT 1 FROM customer"))
            erp_server.stop()
            pair.erp.reconnect()
            pair.crm.run("INSERT INTO account (ref, name) VALUES ('00000000-0000-4000-8000-000000000002', 'while the ERP was away')")
            eventually(lambda: "trying again" in daemon.text())
            erp_server.start()
            eventually(lambda: len(pair.erp.run("SELECT 1 FROM customer")) == 2)
            crm_server.stop()
            pair.crm.reconnect()
            pair.erp.run("UPDATE customer SET phone = 'while the CRM was away'")
            crm_server.start()
            eventually(lambda: len(pair.crm.run("SELECT 1 FROM account WHERE phone = 'while the CRM was away'")) == 2)
            assert daemon.terminate() == 0
            assert "Traceback" not in daemon.text()
        both_equal(pair)
        pair.close()
