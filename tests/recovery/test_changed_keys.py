"""kill -9 at each step of a batch that changes keys, with children under ON DELETE CASCADE: nothing is lost, and nothing stands twice."""
from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.changed_keys import FOREIGN, create, fill, move, remarks, same
from tests.pair import Pair


@pytest.fixture
def pair(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Pair]:
    pair = create(tmp_path, mariadb.database(), postgres15.database(), "none", FOREIGN)
    yield pair
    pair.close()


@pytest.mark.parametrize("point", ["observe.done", "apply.wrote", "intent.announced", "target.committed", "ledger.taken"])
def test_killed_while_keys_change(pair: Pair, point: str) -> None:
    fill(pair, "a", "b", "c")
    pair.erp.run("UPDATE client SET title = 'by the ERP' WHERE code = 'c'")
    pair.crm.transaction(  # a swap, and children that go along
        *(f"UPDATE party SET ref = '{new}' WHERE ref = '{old}'" for old, new in (("a", "x"), ("b", "a"), ("x", "b"))),
        "UPDATE orders SET ref = CASE ref WHEN 'a' THEN 'b' WHEN 'b' THEN 'a' ELSE ref END",
    )
    move(pair.crm, "party", "ref", "orders", "c", "d")
    with pair.daemon(environment={"SYNCLINE_FAILPOINTS": f"{point}=kill@1"}) as daemon:
        assert daemon.process.wait(60) == -signal.SIGKILL, daemon.text()
    pair.settle()
    assert same(pair) == ([("a", "was b"), ("b", "was a"), ("d", "by the ERP")], [(1, "b"), (2, "a"), (3, "d")])
    assert remarks(pair) == [("a", "of b"), ("b", "of a"), ("d", "of c")]
    assert pair.quarantine() == []
