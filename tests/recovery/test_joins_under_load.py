"""One row in the CRM, three tables in the ERP, both written all the time, the daemon killed again and again: at the end both sides say the same."""
from __future__ import annotations

import random
import threading
from pathlib import Path

import psycopg
import pymysql

from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.integration.test_joins import PARTY, crm_rows, erp_rows, party_tables
from tests.pair import Pair, Side, eventually

PEOPLE = 60
REFUSED = (psycopg.IntegrityError, pymysql.err.IntegrityError, psycopg.errors.DeadlockDetected, pymysql.err.OperationalError)
"""What the application itself did wrong, as two of them write at once."""


class Writer(threading.Thread):
    """An application on one side, until told to stop."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.side, self.random = Side(url), random.Random(seed)
        self.stopping = threading.Event()
        self.done = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                try:
                    self.change(self.random.randrange(PEOPLE))
                except REFUSED:
                    self.side.run("ROLLBACK")
                self.done += 1
                self.stopping.wait(0.004)
        except Exception as error:
            self.failure = error
        finally:
            self.side.close()

    def change(self, who: int) -> None:
        raise NotImplementedError

    def value(self) -> str | None:
        return None if self.random.random() < 0.15 else f"{type(self).__name__} {self.done} ř"


class Crm(Writer):
    def change(self, who: int) -> None:
        dice = self.random.random()
        if dice < 0.04:
            self.side.run("DELETE FROM customers WHERE id = %s", who)
        elif not self.side.run("SELECT 1 FROM customers WHERE id = %s", who):
            self.side.run("INSERT INTO customers VALUES (%s, %s, 'CZ', %s, %s, %s)", who, f"crm {self.done}", self.value(), None, self.value())
        else:
            column = self.random.choice(("street", "phone", "name"))
            self.side.run(f"UPDATE customers SET {column} = %s WHERE id = %s", f"crm {self.done}" if column == "name" else self.value(), who)


class Erp(Writer):
    def change(self, who: int) -> None:
        dice = self.random.random()
        if dice < 0.04:
            self.side.transaction(*(f"DELETE FROM {table} WHERE party_id = {who}" for table in ("contact_mechanism", "address", "party")))
        elif not self.side.run("SELECT 1 FROM party WHERE party_id = %s", who):
            self.side.run("INSERT INTO party VALUES (%s, %s, 'DE')", who, f"erp {self.done}")
        elif dice < 0.3:
            self.side.run("UPDATE party SET name = %s WHERE party_id = %s", f"erp {self.done}", who)
        else:
            table, kind, column, name = self.random.choice((("address", "kind", "street", "billing"), ("contact_mechanism", "means", "value", "phone")))
            if self.side.run(f"SELECT 1 FROM {table} WHERE party_id = %s", who):
                if dice > 0.9:
                    self.side.run(f"DELETE FROM {table} WHERE party_id = %s", who)
                else:
                    self.side.run(f"UPDATE {table} SET {column} = %s WHERE party_id = %s", f"erp {self.done}", who)
            else:
                self.side.run(f"INSERT INTO {table} (party_id, {kind}, {column}) VALUES (%s, %s, %s)", who, name, f"erp {self.done}")


def test_a_joined_record_agrees_after_kills_under_load(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    pair = Pair(tmp_path, mariadb.database(), postgres15.database(), PARTY)
    party_tables(pair.crm, pair.erp)
    pair.settle()
    written = lambda: sum(side.run("SELECT coalesce(sum(batch), 0) FROM syncline_checkpoint")[0][0] for side in (pair.crm, pair.erp))  # noqa: E731
    writers: list[Writer] = [Crm(pair.crm.url, 5), Erp(pair.erp.url, 6)]
    for writer in writers:
        writer.start()
    rng = random.Random(17)
    for _ in range(4):
        with pair.daemon() as daemon:
            goal = written() + rng.randint(10, 40)
            eventually(lambda goal=goal: any(w.failure for w in writers) or written() >= goal, 90)
            daemon.kill()
    for writer in writers:
        writer.stopping.set()
        writer.join()
        assert writer.failure is None
    pair.settle()
    assert pair.quarantine() == []
    there, here = dict.fromkeys(erp_rows(pair)), dict.fromkeys(crm_rows(pair))
    assert there == here
    assert len(here) > 10
    pair.agree()
    pair.close()
