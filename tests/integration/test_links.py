"""Records whose key each side makes for itself, kept together by a link, in both orientations."""
from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.runtime import daemon
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.linked import create, same
from tests.pair import Pair, eventually

Made = Callable[..., Pair]


@pytest.fixture(params=["PostgreSQL to MariaDB", "MariaDB to PostgreSQL"])
def made(request: pytest.FixtureRequest, postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Made]:
    pairs: list[Pair] = []

    def make(more: str = "", back: bool = True) -> Pair:
        crm, erp = postgres15.database(), mariadb.database()
        if request.param.startswith("MariaDB"):
            crm, erp = erp, crm
        pair = create(tmp_path, crm, erp, more, back)
        pairs.append(pair)
        return pair

    yield make
    for pair in pairs:
        pair.close()


def test_one_way_the_target_makes_the_keys(made: Made) -> None:
    pair = made(back=False)
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Ada', 'A1'), ('Bob', 'B2')")
    pair.crm.run("INSERT INTO deals (account_id, total) SELECT id, 10 FROM accounts")
    pair.settle()
    assert len(same(pair)) == 2
    pair.crm.run("UPDATE accounts SET name = 'Ada L.' WHERE name = 'Ada'")
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Cy', 'C3')")
    pair.crm.run("INSERT INTO deals (account_id, total) SELECT id, 20 FROM accounts WHERE name = 'Cy'")
    pair.crm.run("DELETE FROM deals WHERE account_id = (SELECT id FROM accounts WHERE name = 'Bob')")
    pair.crm.run("DELETE FROM accounts WHERE name = 'Bob'")
    pair.settle()
    assert [row[0] for row in same(pair)] == ["Ada L.", "Cy"]
    assert pair.quarantine() == []


def test_both_ways_create_update_delete(made: Made) -> None:
    pair = made()
    pair.settle()
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Ada', 'A1')")
    pair.erp.run("INSERT INTO customers (title, vat) VALUES ('Bob', 'B2')")
    pair.erp.run("INSERT INTO orders (customer_no, amount) SELECT no, 7 FROM customers WHERE title = 'Bob'")
    pair.settle()
    assert len(same(pair)) == 2
    pair.crm.run("UPDATE accounts SET name = 'Bob B.' WHERE name = 'Bob'")
    pair.erp.run("UPDATE customers SET title = 'Ada L.' WHERE title = 'Ada'")
    pair.crm.run("INSERT INTO deals (account_id, total) SELECT id, 8 FROM accounts WHERE tax_id = 'A1'")
    pair.settle()
    assert [row[0] for row in same(pair)] == ["Ada L.", "Bob B."]
    # Our batches, not the ends of the logs: a server writes into its log by itself now and then.
    batches = "SELECT sum(batch) FROM syncline_checkpoint"
    before = pair.crm.run(batches), pair.erp.run(batches)
    pair.settle()
    assert (pair.crm.run(batches), pair.erp.run(batches)) == before, "no echo is written"
    pair.erp.run("DELETE FROM orders")
    pair.erp.run("DELETE FROM customers WHERE vat = 'A1'")
    pair.settle()
    assert [row[1] for row in same(pair)] == ["B2"]
    assert pair.quarantine() == []


def test_an_order_waits_for_its_customer_and_goes_on_at_once(made: Made) -> None:
    pair = made(back=False)
    pair.settle()
    pair.crm.run("INSERT INTO deals (account_id, total) VALUES (77, 5)")
    pair.settle()
    waiting = pair.quarantine()
    assert [(entry["rule"], entry["code"]) for entry in waiting] == [("orders", "foreign_key")]
    assert "waits for customer 77 to be linked" in waiting[0]["reason"]
    with pair.daemon() as daemon:
        pair.crm.run("INSERT INTO accounts (id, name, tax_id) VALUES (77, 'Late', 'L1')")
        eventually(lambda: pair.erp.run("SELECT amount FROM orders"))
        assert daemon.terminate() == 0
    assert pair.quarantine() == []
    assert len(same(pair)) == 1


def test_both_sides_filled_are_matched_and_the_rest_is_created(made: Made) -> None:
    pair = made('match = [["tax_id"], ["name"]]\nbaseline = "newest"\nclock = "seen"')
    for side, table in ((pair.crm, "accounts"), (pair.erp, "customers")):
        side.run(f"ALTER TABLE {table} ADD COLUMN seen timestamp NULL")
    pair.crm.run("INSERT INTO accounts (name, tax_id, seen) VALUES ('Ada', 'A1', '2026-01-01'), ('Bob', NULL, NULL), ('Cy', 'C3', NULL), ('Di', 'D4', NULL)")
    pair.erp.run("INSERT INTO customers (title, vat, seen) VALUES ('Eve', 'E5', NULL), ('Bob', NULL, NULL), ('ADA', 'A1', '2026-02-02')")
    pair.settle()
    assert [row[:2] for row in same(pair)] == [("ADA", "A1"), ("Bob", None), ("Cy", "C3"), ("Di", "D4"), ("Eve", "E5")]
    assert pair.quarantine() == []
    # both sides create the same customer at the same time
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Flo', 'F6')")
    pair.erp.run("INSERT INTO customers (title, vat) VALUES ('Flo', 'F6')")
    pair.settle()
    assert len(same(pair)) == 6


def test_an_ambiguous_match_waits_for_a_person_and_goes_on_when_it_is_clear(made: Made) -> None:
    pair = made('match = ["tax_id"]', back=False)
    pair.erp.run("INSERT INTO customers (title, vat) VALUES ('Ada', 'A1'), ('Ada again', 'A1')")
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Ada', 'A1'), ('Bob', 'B2')")
    pair.settle()
    waiting = pair.quarantine()
    assert [(entry["rule"], entry["code"], entry["key"]) for entry in waiting] == [("customers", "ambiguous_match", {"id": "1"})]
    assert waiting[0]["reason"].startswith("2 rows match by vat of erp.")
    assert pair.erp.run("SELECT count(*) FROM customers") == [(3,)]
    pair.erp.run("DELETE FROM customers WHERE title = 'Ada again'")
    pair.settle()
    assert pair.quarantine() == []
    assert len(same(pair)) == 2
    # a second account with the same number finds a record that has its account already
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Ada too', 'A1')")
    pair.settle()
    (waiting,) = pair.quarantine()
    assert "linked to another record already" in waiting["reason"]


def test_a_lost_state_folder_makes_no_duplicate(made: Made) -> None:
    pair = made()
    pair.settle()
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Ada', 'A1'), ('Bob', 'B2')")
    pair.erp.run("INSERT INTO customers (title, vat) VALUES ('Cy', 'C3')")
    pair.erp.run("INSERT INTO orders (customer_no, amount) SELECT no, 7 FROM customers WHERE title = 'Cy'")
    pair.settle()
    before = same(pair)
    shutil.rmtree(pair.folder / "state")
    daemon.resync_all(pair.settings)
    assert same(pair) == before and len(before) == 3


def test_two_accounts_become_one_and_none_of_their_orders_is_left_alone(made: Made) -> None:
    pair = made()
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Ada', 'A1'), ('Ada B.', 'A2')")
    pair.crm.run("INSERT INTO deals (account_id, total) SELECT id, id FROM accounts")
    pair.settle()
    pair.crm.transaction("UPDATE deals SET account_id = 1", "DELETE FROM accounts WHERE id = 2")
    pair.settle()
    assert [row[0] for row in same(pair)] == ["Ada", "Ada"]
    assert pair.quarantine() == []


def test_a_record_that_comes_back_after_its_delete_is_a_new_one(made: Made) -> None:
    pair = made()
    pair.crm.run("INSERT INTO accounts (id, name, tax_id) VALUES (5, 'Ada', 'A1')")
    pair.settle()
    first = pair.erp.run("SELECT no FROM customers")
    pair.crm.run("DELETE FROM accounts")
    pair.settle()
    assert pair.erp.run("SELECT no FROM customers") == []
    pair.crm.run("INSERT INTO accounts (id, name, tax_id) VALUES (5, 'Ada', 'A1')")
    pair.settle()
    assert len(same(pair)) == 1
    assert pair.erp.run("SELECT no FROM customers") != first


def test_a_changed_key_keeps_its_record(made: Made) -> None:
    pair = made()
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Ada', 'A1'), ('Bob', 'B2')")
    pair.settle()
    before = pair.erp.run("SELECT no, title FROM customers ORDER BY 2")
    pair.crm.run("UPDATE accounts SET id = id + 100")
    pair.erp.run("UPDATE customers SET no = no + 500 WHERE title = 'Bob'")
    pair.settle()
    pair.crm.run("UPDATE accounts SET name = 'Ada L.', id = id + 100 WHERE name = 'Ada'")
    pair.erp.run("INSERT INTO orders (customer_no, amount) SELECT no, 5 FROM customers WHERE title = 'Bob'")
    pair.settle()
    assert pair.erp.run("SELECT no, title FROM customers ORDER BY 2") == [(before[0][0], "Ada L."), (before[1][0] + 500, "Bob")]
    assert [row[2] for row in same(pair)] == [None, 5]
    assert pair.quarantine() == []
