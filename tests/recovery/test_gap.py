"""A log that does not go on where we left it: nothing is written on a guess, and `run` and `check` say what is not known."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import Gap
from engine.observe.status import read_status
from engine.runtime.check import check
from engine.throwaway.servers import MariaDBServer, PostgresServer, mariadb, postgres
from tests.pair import Pair, Side, eventually

RULES = """
[[rules]]
name = "to_erp"
select = "SELECT a.ref AS ref, a.name AS name, a.phone AS phone FROM crm.account AS a"
into = "erp.customer"
key = ["ref"]
baseline = "source"
[[rules]]
name = "to_crm"
select = "SELECT c.ref AS ref, c.name AS name, c.phone AS phone FROM erp.customer AS c"
into = "crm.account"
key = ["ref"]
baseline = "target"
"""
MARKERS = "SELECT source, batch FROM syncline_checkpoint ORDER BY source"
SLOT = "FROM pg_replication_slots WHERE database = current_database()"


def made(folder: Path, crm: str, erp: str) -> Pair:
    pair = Pair(folder, crm, erp, RULES)
    pair.crm.run("CREATE TABLE account (ref varchar(20) PRIMARY KEY, name varchar(80), phone varchar(40)) DEFAULT CHARSET utf8mb4")
    pair.erp.run("CREATE TABLE customer (ref varchar(20) PRIMARY KEY, name varchar(80), phone varchar(40))")
    pair.crm.run("INSERT INTO account VALUES " + ", ".join(f"('{n}', 'name {n}', 'phone {n}')" for n in range(30)))
    pair.settle()
    return pair


@pytest.fixture
def pair(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Pair]:
    pair = made(tmp_path, mariadb.database(), postgres15.database())
    yield pair
    pair.close()


def change(side: Side, table: str) -> None:
    """What happens in the gap: an update of one cell, a delete, an insert."""
    side.run(f"UPDATE {table} SET name = 'in the gap' WHERE ref = '1'")
    side.run(f"DELETE FROM {table} WHERE ref = '2'")
    side.run(f"INSERT INTO {table} VALUES ('new', 'in the gap', NULL)")


def stands_still(pair: Pair, system: str, why: str) -> None:
    """No direction writes a thing, and every command says why."""
    before = pair.crm.run(MARKERS), pair.erp.run(MARKERS)
    for _ in range(2):
        with pytest.raises(Gap, match=why) as stopped:
            pair.settle()
        assert "is not known" in str(stopped.value)
        assert "syncline resync" in stopped.value.fix
    assert (pair.crm.run(MARKERS), pair.erp.run(MARKERS)) == before
    systems = read_status(pair.settings)["systems"]
    assert all(why in systems[name]["stopped"] for name in ("crm", "erp"))
    assert {p.where for p in check(pair.settings) if p.severity == "error" and why in p.what} == {f"system {system}"}


def drop_slot(pair: Pair) -> str:
    eventually(lambda: not pair.erp.run(f"SELECT 1 {SLOT} AND active"))  # the server lets go of it after us
    return str(pair.erp.run(f"SELECT slot_name, pg_drop_replication_slot(slot_name) {SLOT}")[0][0])


def test_a_pair_without_a_gap_is_not_stopped(pair: Pair) -> None:
    pair.erp.run("UPDATE customer SET name = 'meanwhile' WHERE ref = '1'")
    assert not [p for p in check(pair.settings) if p.severity == "error"]
    pair.settle()
    assert pair.crm.run("SELECT name FROM account WHERE ref = '1'") == [("meanwhile",)]


@pytest.mark.parametrize("again", [False, True], ids=["dropped", "made again by somebody"])
def test_a_slot_that_is_lost(pair: Pair, again: bool) -> None:
    slot = drop_slot(pair)
    change(pair.erp, "customer")
    if again:
        pair.erp.run("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", slot)
    pair.crm.run("UPDATE account SET phone = 'meanwhile' WHERE ref = '1'")
    stands_still(pair, "erp", "ahead of our position" if again else "is gone")


def test_a_slot_that_the_server_gave_up_for_its_disk(tmp_path: Path, mariadb: MariaDBServer) -> None:
    with postgres("15", {"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}) as server:
        pair = made(tmp_path, mariadb.database(), server.database())
        change(pair.erp, "customer")
        for _ in range(6):
            pair.erp.run("SELECT pg_switch_wal()")
            pair.erp.run("UPDATE customer SET phone = 'x' WHERE ref = '9'")
            pair.erp.run("CHECKPOINT")
        pair.crm.run("UPDATE account SET phone = 'meanwhile' WHERE ref = '1'")
        stands_still(pair, "erp", "is invalid")
        pair.close()


def test_a_database_that_was_dropped_and_made_again_is_another_one(pair: Pair, postgres15: PostgresServer) -> None:
    drop_slot(pair)
    name = pair.erp.run("SELECT current_database()")[0][0]
    pair.erp.close()
    pair.erp.reconnect()
    admin = Side(postgres15.url("postgres"))
    admin.run(f'ALTER DATABASE "{name}" RENAME TO "{name}_old"')
    admin.run(f'CREATE DATABASE "{name}" TEMPLATE "{name}_old"')
    admin.close()
    stands_still(pair, "erp", "another database than before")


def purge(side: Side) -> None:
    side.run("FLUSH BINARY LOGS")
    name = side.log_end()[0]

    def done() -> bool:  # the server lets a file go only after a checkpoint of its own
        side.run(f"PURGE BINARY LOGS TO '{name}'")
        return len(side.run("SHOW BINARY LOGS")) == 1

    eventually(done)


def test_a_binary_log_that_was_purged(tmp_path: Path, postgres15: PostgresServer) -> None:
    with mariadb() as server:
        pair = made(tmp_path, server.database(), postgres15.database())
        change(pair.crm, "account")
        purge(pair.crm)
        pair.erp.run("UPDATE customer SET phone = 'meanwhile' WHERE ref = '1'")
        stands_still(pair, "crm", "no longer has")
        pair.close()


@pytest.mark.parametrize("grown", [False, True], ids=["reset", "reset and grown past our place"])
def test_a_binary_log_that_was_reset_is_another_history(tmp_path: Path, postgres15: PostgresServer, grown: bool) -> None:
    with mariadb() as server:
        pair = made(tmp_path, server.database(), postgres15.database())
        pair.crm.run("RESET MASTER")
        for number in range(200 if grown else 1):
            pair.crm.run("UPDATE account SET name = %s WHERE ref = '1'", f"after the reset {number}")
        stands_still(pair, "crm", "another one than we have read" if grown else "ends before the place where we left off")
        pair.close()


@pytest.mark.parametrize("target", ["crm", "erp"])
def test_a_database_without_batches_that_it_had_was_set_back(pair: Pair, target: str) -> None:
    pair.erp.run("UPDATE customer SET name = 'newer' WHERE ref = '1'")
    pair.crm.run("UPDATE account SET name = 'newer' WHERE ref = '2'")
    pair.settle()
    getattr(pair, target).run("UPDATE syncline_checkpoint SET batch = batch - 1")
    with pytest.raises(Gap, match="restored from a backup"):
        pair.settle()
