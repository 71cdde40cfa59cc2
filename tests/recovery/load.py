"""Applications that write on both sides, and what must be true of their writes afterwards, told by plain SQL and their own memory alone."""
from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pymysql

from tests.pair import Pair, Side, rows_json

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
SHARED, DELETED = 150, 75
"""Keys that both sides write; of those below DELETED rows come and go."""
NOTHING = "None"
"""What an insert gives to the columns that it leaves out."""
SLACK = 1.2
"""MariaDB's log knows whole seconds: two writes nearer than that may be taken in either order."""


def made(folder: Path, crm: str, erp: str, more: str = "") -> Pair:
    """more: further lines of [syncline]."""
    pair = Pair(folder, crm, erp, RULES, more)
    pair.crm.run(CRM)
    pair.erp.run(ERP)
    return pair


@dataclass(frozen=True, slots=True)
class Wrote:
    """A write of one cell and when it happened at the earliest and the latest, seconds of this machine's clock."""

    value: str
    since: float
    until: float


class Load(threading.Thread):
    """An application on one side, until told to stop. Most of its statements go to keys that the other side writes too; some add a row of its own, which is
    updated once, and which nobody else ever touches: of those every single write has to be there in the end."""

    def __init__(self, url: str, table: str, seed: int, changes: int = 1_000_000, rate: float = 300.0) -> None:
        super().__init__(daemon=True)
        self._side, self.table, self._random, self._changes, self._pause = Side(url), table, random.Random(seed), changes, 1 / rate
        self._mine, self._fresh = f"{seed:08d}-0000-4000-8000-", list[str]()
        self.own: dict[str, dict[str, str]] = {}
        self.shared: dict[tuple[str, str], list[Wrote]] = {}
        self.stopping = threading.Event()
        self.done = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        start = time.monotonic()
        try:
            while not self.stopping.is_set() and self.done < self._changes:
                try:
                    self._change()
                except Exception as error:
                    if not deadlock(error):
                        raise
                self.done += 1
                self.stopping.wait(max(0.0, start + self.done * self._pause - time.monotonic()))
        except Exception as error:
            self.failure = error
        finally:
            self._side.close()

    def end(self) -> None:
        self.stopping.set()
        self.join()
        assert self.failure is None, self.failure
        assert self.done > 100

    def _change(self) -> None:
        value, dice = f"{self.table} {self.done} čž", self._random.random()
        if dice < 0.04:
            ref = f"{self._mine}{len(self.own):012d}"
            self._side.run(f"INSERT INTO {self.table} (ref, name, phone) VALUES (%s, %s, %s)", ref, value, "first")
            self.own[ref] = {"name": value, "phone": "first"}
            self._fresh.append(ref)
        elif dice < 0.07 and self._fresh:
            ref = self._fresh.pop(self._random.randrange(len(self._fresh)))
            self._side.run(f"UPDATE {self.table} SET phone = %s WHERE ref = %s", value, ref)
            self.own[ref]["phone"] = value
        else:
            self._shared(value)

    def _shared(self, value: str) -> None:
        rng = self._random
        number = rng.randrange(SHARED)
        ref, since = f"00000000-0000-4000-8000-{number:012d}", time.time()
        if not self._side.run(f"SELECT 1 FROM {self.table} WHERE ref = %s", ref):
            ignore = "INSERT IGNORE" if self.table == "account" else "INSERT"
            unless = "" if self.table == "account" else " ON CONFLICT DO NOTHING"
            if self._count(f"{ignore} INTO {self.table} (ref, name, phone) VALUES (%s, %s, %s){unless}", ref, value, value):
                self._remember(ref, ("name", "phone"), value, since)
                self._remember(ref, ("note", "credit"), NOTHING, since)
        elif rng.random() < 0.05 and number < DELETED:
            self._side.run(f"DELETE FROM {self.table} WHERE ref = %s", ref)
        else:
            column = rng.choice(("name", "phone", "note", "credit"))
            given = f"{rng.randrange(9_999)}.00" if column == "credit" else value
            if self._count(f"UPDATE {self.table} SET {column} = %s WHERE ref = %s", given, ref):
                self._remember(ref, (column,), given, since)

    def _remember(self, ref: str, columns: tuple[str, ...], value: str, since: float) -> None:
        for column in columns:
            self.shared.setdefault((ref, column), []).append(Wrote(value, since, time.time()))

    def _count(self, sql: str, *values: str) -> int:
        with self._side.connection.cursor() as cursor:
            cursor.execute(sql, values)
            return int(cursor.rowcount)


def deadlock(error: Exception) -> bool:
    """The server gave the statement up for somebody else's sake, as it may: an application goes on."""
    return isinstance(error, psycopg.errors.DeadlockDetected) or (isinstance(error, pymysql.OperationalError) and error.args[0] == 1213)


def both_equal(pair: Pair) -> None:
    """By plain SQL: the same rows, each once."""
    crm, erp = (rows_json(side, f"SELECT {COLUMNS} FROM {table}") for side, table in ((pair.crm, "account"), (pair.erp, "customer")))
    assert crm == erp, sorted(set(map(str, json.loads(crm))) ^ set(map(str, json.loads(erp))))[:20]
    assert pair.crm.run("SELECT count(*), count(DISTINCT ref) FROM account")[0] == pair.erp.run("SELECT count(*), count(DISTINCT ref) FROM customer")[0]


def nothing_lost(pair: Pair, crm: Load, erp: Load) -> None:
    """Every write is the value on both sides, or was beaten: by a later one, or by one of the side that owns the column."""
    both_equal(pair)
    standing = {str(row[0]): dict(zip(COLUMNS.split(", ")[1:], row[1:], strict=True)) for row in pair.erp.run(f"SELECT {COLUMNS} FROM customer")}
    for load in (crm, erp):
        for ref, cells in load.own.items():
            found = standing.get(ref)
            assert found is not None, f"{load.table} inserted {ref}, and it is gone"
            assert {name: found[name] for name in cells} == cells, f"{load.table} wrote {cells} to {ref}, and there is {found}"
    foreign = set(standing) - set(crm.own) - set(erp.own)
    assert all(ref.startswith("00000000") for ref in foreign)
    for number in range(DELETED, SHARED):
        ref = f"00000000-0000-4000-8000-{number:012d}"
        for column in ("name", "phone", "note", "credit"):
            writes = [*crm.shared.get((ref, column), []), *erp.shared.get((ref, column), [])]
            if column == "credit":
                writes = erp.shared.get((ref, column), [])
            if not writes:
                continue
            value = standing[ref][column]
            mine = [wrote for wrote in writes if wrote.value == str(value)]
            assert mine, f"{column} of {ref} holds what nobody wrote there"
            last = max(wrote.since for wrote in writes)
            assert max(wrote.until for wrote in mine) + SLACK >= last, f"{column} of {ref} holds a value older than the last write by more than {SLACK} s"
