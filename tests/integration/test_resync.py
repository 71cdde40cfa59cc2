"""After what the log cannot tell (TRUNCATE, a log that is gone) `resync` begins anew, and both sides agree."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import Terminal
from engine.runtime import daemon
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.pair import Pair, eventually

RULES = """
[[rules]]
name = "to_erp"
select = "SELECT a.ref AS ref, a.name AS name FROM crm.account AS a"
into = "erp.customer"
key = ["ref"]
baseline = "source"
[[rules]]
name = "to_crm"
select = "SELECT c.ref AS ref, c.name AS name FROM erp.customer AS c"
into = "crm.account"
key = ["ref"]
baseline = "target"
"""


@pytest.fixture
def pair(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path, mariadb.database(), postgres15.database(), RULES)
    made.crm.run("CREATE TABLE account (ref varchar(20) PRIMARY KEY, name varchar(80)) DEFAULT CHARSET utf8mb4")
    made.erp.run("CREATE TABLE customer (ref varchar(20) PRIMARY KEY, name varchar(80))")
    made.crm.run("INSERT INTO account VALUES ('1', 'one'), ('2', 'two')")
    made.settle()
    yield made
    made.close()


@pytest.mark.parametrize(("side", "table"), [("crm", "account"), ("erp", "customer")])
def test_truncate_stops_the_direction_and_resync_fills_the_table_again(pair: Pair, side: str, table: str) -> None:
    emptied = getattr(pair, side)
    emptied.run(f"TRUNCATE {table}")
    emptied.run(f"INSERT INTO {table} VALUES ('3', 'after')")
    for _ in range(2):
        with pytest.raises(Terminal, match="TRUNCATE"):
            pair.settle()
    daemon.resync(pair.settings, "to_erp")
    assert pair.erp.run("SELECT count(*) FROM customer") == [(3,)]
    pair.agree()
    pair.crm.run("UPDATE account SET name = 'crm goes on' WHERE ref = '1'")
    pair.erp.run("UPDATE customer SET name = 'erp goes on' WHERE ref = '2'")
    pair.settle()
    assert pair.crm.run("SELECT name FROM account ORDER BY ref") == [("crm goes on",), ("erp goes on",), ("after",)]
    pair.agree()
    assert pair.quarantine() == []


@pytest.mark.parametrize(("side", "table"), [("crm", "account"), ("erp", "customer")])
def test_a_truncate_that_the_rules_allow_deletes_the_rows_of_the_other_side_and_no_more(
    postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path, side: str, table: str
) -> None:
    allowed = Pair(tmp_path, mariadb.database(), postgres15.database(), RULES.replace("baseline", 'on_truncate = "delete"\nbaseline'))
    for here, name in ((allowed.crm, "account"), (allowed.erp, "customer")):
        here.run(f"CREATE TABLE {name} (ref varchar(20) PRIMARY KEY, name varchar(80))")
        here.run(f"CREATE TABLE note (id int PRIMARY KEY, ref varchar(20), FOREIGN KEY (ref) REFERENCES {name} (ref))")
    allowed.crm.run("INSERT INTO account VALUES ('1', 'one'), ('2', 'two'), ('3', 'three')")
    allowed.settle()
    emptied, other = (allowed.crm, allowed.erp) if side == "crm" else (allowed.erp, allowed.crm)
    other.run("INSERT INTO note VALUES (7, '2')")  # holds its row: what cannot be deleted is set aside, and nothing cascades
    emptied.run("DROP TABLE note")
    emptied.run(f"INSERT INTO {table} VALUES ('4', 'just before')")
    emptied.run(f"TRUNCATE {table}")
    emptied.run(f"INSERT INTO {table} VALUES ('1', 'again')")
    allowed.settle()
    assert other.run(f"SELECT ref, name FROM {'customer' if table == 'account' else 'account'} ORDER BY ref") == [("1", "again"), ("2", "two")]
    assert [(q["key"]["ref"], q["code"]) for q in allowed.quarantine()] == [("2", "foreign_key")]
    assert len(other.run("SELECT * FROM note")) == 1
    other.run("DELETE FROM note")
    allowed.settle()
    assert allowed.quarantine() == []
    allowed.agree()
    allowed.close()


def test_a_slot_that_was_dropped_is_made_again_by_resync(pair: Pair) -> None:
    slots = "FROM pg_replication_slots WHERE database = current_database()"
    eventually(lambda: not pair.erp.run(f"SELECT 1 {slots} AND active"))  # the server lets go of it after us
    pair.erp.run(f"SELECT pg_drop_replication_slot(slot_name) {slots}")
    pair.erp.run("UPDATE customer SET name = 'in the gap' WHERE ref = '1'")
    pair.crm.run("INSERT INTO account VALUES ('4', 'new')")
    with pytest.raises(Terminal):
        pair.settle()
    daemon.resync(pair.settings, "to_crm")
    pair.agree()
    assert pair.erp.run("SELECT count(*) FROM customer") == [(3,)]
    pair.erp.run("UPDATE customer SET name = 'goes on' WHERE ref = '2'")
    pair.settle()
    assert pair.crm.run("SELECT name FROM account WHERE ref = '2'") == [("goes on",)]
    pair.agree()


def test_a_resync_of_a_healthy_pair_writes_nothing(pair: Pair) -> None:
    marker = "SELECT source, batch FROM syncline_checkpoint"
    before = pair.crm.run(marker), pair.erp.run(marker)
    daemon.resync(pair.settings, "to_erp")
    assert (pair.crm.run(marker), pair.erp.run(marker)) == before
    pair.agree()


def test_what_nobody_can_read_in_a_log_is_passed_over_by_resync(pair: Pair) -> None:
    pair.erp.run("UPDATE customer SET name = 'before' WHERE ref = '2'")
    pair.crm.run("SET SESSION binlog_format = 'STATEMENT'")
    pair.crm.run("UPDATE account SET name = 'by a statement' WHERE ref = '1'")
    pair.crm.run("SET SESSION binlog_format = 'ROW'")
    pair.crm.run("INSERT INTO account VALUES ('3', 'after')")
    for _ in range(2):
        with pytest.raises(Terminal, match="by a statement"):
            pair.settle()
    daemon.resync(pair.settings, "to_erp")
    assert pair.erp.run("SELECT name FROM customer ORDER BY ref") == [("by a statement",), ("before",), ("after",)]
    pair.agree()
    pair.crm.run("UPDATE account SET name = 'goes on' WHERE ref = '1'")
    pair.settle()
    assert pair.erp.run("SELECT name FROM customer WHERE ref = '1'") == [("goes on",)]
    pair.agree()
