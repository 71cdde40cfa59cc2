"""kill -9 in the middle of a load, a database that goes away, SIGTERM: nothing is lost, nothing doubled."""
from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.throwaway.servers import MariaDBServer, PostgresServer, mariadb, postgres
from tests.pair import Pair, eventually
from tests.recovery.load import Load, both_equal, made, nothing_lost

KILLS = int(os.environ.get("SYNCLINE_KILLS", "6"))
"""`make soak` asks for 50."""
PATIENCE = 180.0
"""Seconds for a start and some batches: what was written meanwhile has to be caught up with, on a machine that is busy with other things."""


@pytest.fixture
def pair(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Pair]:
    pair = made(tmp_path, mariadb.database(), postgres15.database())
    yield pair
    pair.close()


def test_killed_again_and_again_under_load(pair: Pair) -> None:
    rng = random.Random(11)
    crm, erp = Load(pair.crm.url, "account", 1), Load(pair.erp.url, "customer", 2)
    for load in (crm, erp):
        load.start()
    for _ in range(KILLS):
        with pair.daemon() as daemon:
            applied = lambda: sum(side.run("SELECT coalesce(sum(batch), 0) FROM syncline_checkpoint")[0][0] for side in (pair.crm, pair.erp))  # noqa: E731
            eventually(lambda: "syncline_checkpoint" in table_names(pair), PATIENCE)
            before = applied()
            goal = rng.randint(3, 25)
            eventually(lambda before=before, goal=goal, applied=applied: applied() >= before + goal, PATIENCE)
            daemon.kill()
    for load in (crm, erp):
        load.end()
    pair.settle()
    nothing_lost(pair, crm, erp)
    pair.agree()
    assert pair.quarantine() == []


def table_names(pair: Pair) -> str:
    return str(pair.crm.run("SHOW TABLES")) if pair.erp.run("SELECT to_regclass('syncline_checkpoint')")[0][0] else ""


def test_sigterm_ends_with_a_checkpoint_and_exit_code_0(pair: Pair) -> None:
    load = Load(pair.crm.url, "account", 3)
    load.start()
    with pair.daemon() as daemon:
        eventually(lambda: pair.erp.run("SELECT to_regclass('syncline_checkpoint')")[0][0] and pair.erp.run("SELECT 1 FROM customer LIMIT 1"))
        assert daemon.terminate() == 0
        assert "Traceback" not in daemon.text()
    load.end()
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
