"""A state folder that is lost is never begun anew in silence, and `resync --all` makes a new one from both databases."""
from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import Terminal
from engine.runtime.check import check
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.pair import Pair

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
MARKERS = "SELECT source, batch FROM syncline_checkpoint ORDER BY source"


@pytest.fixture(params=["crm on MariaDB", "crm on PostgreSQL"])
def pair(request: pytest.FixtureRequest, postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Pair]:
    urls = mariadb.database(), postgres15.database()
    pair = Pair(tmp_path, *(urls if request.param == "crm on MariaDB" else reversed(urls)), RULES)
    pair.crm.run("CREATE TABLE account (ref varchar(20) PRIMARY KEY, name varchar(80))")
    pair.erp.run("CREATE TABLE customer (ref varchar(20) PRIMARY KEY, name varchar(80))")
    pair.crm.run("INSERT INTO account VALUES " + ", ".join(f"('{n}', 'name {n}')" for n in range(20)))
    pair.settle()
    pair.erp.run("INSERT INTO customer VALUES ('e', 'from erp')")
    pair.settle()
    yield pair
    pair.close()


def markers(pair: Pair) -> tuple[object, object]:
    return pair.crm.run(MARKERS), pair.erp.run(MARKERS)


def test_a_lost_ledger_is_said_by_run_and_check_and_nothing_is_written(pair: Pair) -> None:
    state, away, before = pair.folder / "state", pair.folder / "away", markers(pair)
    state.rename(away)
    pair.crm.run("DELETE FROM account WHERE ref = '1'")
    for _ in range(2):
        with pytest.raises(Terminal, match="the ledger is lost") as stopped:
            pair.settle()
        assert "resync --all" in stopped.value.fix and "put the folder back" in stopped.value.fix
    assert [p.where for p in check(pair.settings) if p.severity == "error" and "the ledger is lost" in p.what] == [str(state)]
    assert pair.command("check").returncode == 1
    assert markers(pair) == before and len(pair.erp.run("SELECT ref FROM customer")) == 21
    shutil.rmtree(state)
    away.rename(state)
    pair.settle()
    assert len(pair.erp.run("SELECT ref FROM customer")) == 20
    pair.agree()
    assert not [p for p in check(pair.settings) if p.severity == "error"]


def test_a_new_ledger_of_sides_that_agree_writes_nothing_and_goes_on(pair: Pair) -> None:
    shutil.rmtree(pair.folder / "state")
    before = markers(pair)
    done = pair.command("resync", "--all")
    assert done.returncode == 0, done.stderr
    assert markers(pair) == before
    pair.agree()
    pair.crm.run("UPDATE account SET name = 'crm goes on' WHERE ref = '1'")
    pair.erp.run("DELETE FROM customer WHERE ref = '2'")
    pair.settle()
    assert pair.erp.run("SELECT name FROM customer WHERE ref IN ('1', '2')") == [("crm goes on",)]
    assert pair.crm.run("SELECT ref FROM account WHERE ref = '2'") == []
    pair.agree()
    refused = pair.command("resync", "--all")
    assert refused.returncode == 4 and "is not lost" in refused.stderr


def test_what_differs_follows_the_baseline_and_what_a_log_still_holds_of_the_time_before_is_no_news(pair: Pair) -> None:
    shutil.rmtree(pair.folder / "state")
    pair.erp.run("UPDATE customer SET name = 'older' WHERE ref = '1'")
    pair.erp.run("UPDATE customer SET name = 'erp says' WHERE ref = '1'")
    pair.crm.run("UPDATE account SET name = 'crm says' WHERE ref = '1'")
    pair.erp.run("UPDATE customer SET name = 'later, and beaten by the baseline' WHERE ref = '1'")
    pair.erp.run("INSERT INTO customer VALUES ('only here', 'x')")
    assert pair.command("resync", "--all").returncode == 0
    assert pair.erp.run("SELECT name FROM customer WHERE ref = '1'") == pair.crm.run("SELECT name FROM account WHERE ref = '1'") == [("crm says",)]
    assert pair.rule("to_erp")["applied"] == 1 and pair.rule("to_crm")["applied"] == 1
    pair.agree()
    assert pair.quarantine() == []
