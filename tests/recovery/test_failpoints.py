"""The daemon dies at each named place of its work, under load on both sides, and again while it takes up what the death before has left."""
from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import ConfigError, Transient
from engine.runtime import failpoints
from engine.runtime.failpoints import POINTS, VARIABLE, arm, reach
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.pair import Pair, Side
from tests.recovery.load import Load, made, nothing_lost

LATER = {"capture.read": 6, "observe.done": 3, "intent.announced": 3, "target.committed": 2, "keeper.sync": 2}
"""At which pass, where not at the first: in the middle of the work."""


@pytest.fixture
def pair(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Pair]:
    pair = made(tmp_path, mariadb.database(), postgres15.database(), "chunk_rows = 100")
    yield pair
    pair.close()


def test_killed_at_each_place_under_load_both_sides_agree_and_no_write_is_lost(pair: Pair) -> None:
    for number in range(250):
        pair.crm.run("INSERT INTO account (ref, name) VALUES (%s, 'before the first start')", f"00000000-0000-4000-8000-9{number:011d}")
    crm, erp = Load(pair.crm.url, "account", 1, rate=100), Load(pair.erp.url, "customer", 2, rate=100)
    for load in (crm, erp):
        load.start()
    for name in POINTS:
        with pair.daemon(environment={VARIABLE: f"{name}=kill@{LATER.get(name, 1)}"}) as daemon:
            assert daemon.process.wait(30) == -signal.SIGKILL, f"{name} was not reached: {daemon.text()}"
    for load in (crm, erp):
        load.end()
    pair.settle()
    nothing_lost(pair, crm, erp)
    pair.agree()
    assert pair.quarantine() == []


HUB_RULES = "".join(
    f"""
[[rules]]
name = "{table}_to_{target}"
select = "SELECT x.id AS id, x.name AS name{more} FROM crm.{table} AS x"
into = "{target}.{table}"
key = ["id"]
"""
    for target in ("erp", "shop")
    for table, more in (("party", ""), ("address", ", x.party AS party"))
)
PARTIES = "CREATE TABLE party (id varchar(20) PRIMARY KEY, name varchar(80))"
ADDRESSES = "CREATE TABLE address (id varchar(20) PRIMARY KEY, party varchar(20) REFERENCES party (id), name varchar(80))"


@pytest.fixture
def hub(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[tuple[Pair, Side]]:
    """One source, two targets, two tables each."""
    shop = mariadb.database()
    more = f'[systems.shop]\nadapter = "mysql"\nurl = "{shop}"\n'
    pair = Pair(tmp_path, mariadb.database(), postgres15.database(), more + HUB_RULES)
    third = Side(shop)
    for side in (pair.crm, pair.erp, third):
        side.run(PARTIES)
        side.run(ADDRESSES)
    yield pair, third
    third.close()
    pair.close()


PARTIAL = ("apply.begin", "apply.wrote", "intent.announced", "target.committed", "ledger.taken")


def test_a_batch_is_taken_up_after_every_partial_commit_into_two_targets(hub: tuple[Pair, Side]) -> None:
    pair, third = hub
    pair.settle()
    expected = []
    for name, nth in [(name, nth) for name in PARTIAL for nth in (1, 2)]:  # the second pass is the second target's
        row, before = f"{name}{nth}", expected[-1][0] if expected else ""
        pair.crm.transaction(
            f"INSERT INTO party VALUES ('{row}', 'new')", f"INSERT INTO address VALUES ('{row}', '{row}', 'new')",
            f"UPDATE party SET name = 'changed' WHERE id = '{before}'", f"DELETE FROM address WHERE id = '{before}'",
        )  # fmt: skip
        expected = [(old, "changed") for old, _ in expected] + [(row, "new")]
        with pair.daemon("--until-idle", environment={VARIABLE: f"{name}=kill@{nth}"}) as daemon:
            assert daemon.process.wait(30) == -signal.SIGKILL, daemon.text()
    pair.settle()
    for side in (pair.crm, pair.erp, third):
        assert sorted(side.run("SELECT id, name FROM party")) == sorted(expected)
        assert side.run("SELECT id, party, name FROM address") == [(row, row, "new")]
    assert pair.quarantine() == []


def test_a_place_may_fail_in_place_of_dying_and_the_batch_is_tried_again(pair: Pair) -> None:
    pair.settle()
    pair.crm.run("INSERT INTO account (ref, name) VALUES ('00000000-0000-4000-8000-000000000001', 'tried twice')")
    with pair.daemon("--until-idle", environment={VARIABLE: "apply.wrote=error@1"}) as daemon:
        assert daemon.process.wait(30) == 0, daemon.text()
        assert "failpoint apply.wrote" in daemon.text()
    assert pair.erp.run("SELECT name FROM customer") == [("tried twice",)]
    pair.agree()


def test_off_a_place_does_nothing_and_a_name_that_is_none_is_refused() -> None:
    reach("capture.read")
    for wrong in ("capture.raed=kill", "capture.read", "capture.read=explode", "capture.read=kill@soon"):
        with pytest.raises(ConfigError, match="names are: baseline"):
            arm(wrong)
    arm("observe.done=error@2; asks.done=error")
    try:
        reach("observe.done")
        with pytest.raises(Transient):
            reach("observe.done")
        reach("observe.done")
        for _ in range(2):
            with pytest.raises(Transient):
                reach("asks.done")
    finally:
        failpoints.arm("")
    reach("asks.done")
