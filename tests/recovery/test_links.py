"""kill -9 while records are created whose keys the targets make: no record is made twice."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.linked import create, same
from tests.pair import Pair


@pytest.fixture
def pair(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Pair]:
    pair = create(tmp_path, mariadb.database(), postgres15.database())
    pair.settle()
    yield pair
    pair.close()


def records(pair: Pair, name: str) -> None:
    """Ten new ones on each side, each with a child of its own."""
    for number in range(10):
        for side, parent, child in (
            (pair.crm, f"accounts (name, tax_id) VALUES ('{name} crm {number}', 'c')", "deals (account_id, total) SELECT max(id), 1 FROM accounts"),
            (pair.erp, f"customers (title, vat) VALUES ('{name} erp {number}', 'e')", "orders (customer_no, amount) SELECT max(no), 1 FROM customers"),
        ):
            side.transaction(f"INSERT INTO {parent}", f"INSERT INTO {child}")


@pytest.mark.parametrize("point", ["apply.wrote@1", "intent.announced@2", "target.committed@1", "target.committed@3", "ledger.taken@2"])
def test_killed_while_links_are_made(pair: Pair, point: str) -> None:
    records(pair, "a")
    with pair.daemon(environment={"SYNCLINE_FAILPOINTS": point.replace("@", "=kill@")}) as daemon:
        assert daemon.process.wait(60) == -9, daemon.text()
    pair.settle()
    assert len(same(pair)) == 20
    assert pair.quarantine() == []
