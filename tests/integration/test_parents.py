"""A child that comes before its parent waits in quarantine and goes on by itself when the parent arrives."""
from __future__ import annotations

from pathlib import Path

from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.pair import Pair, eventually

RULES = """
[[rules]]
name = "orders"
select = "SELECT o.id AS id, o.note AS note FROM crm.orders AS o WHERE o.released"
into = "erp.orders"
key = ["id"]
[[rules]]
name = "lines"
select = "SELECT l.id AS id, l.order_id AS order_id, l.qty AS qty FROM crm.lines AS l"
into = "erp.lines"
key = ["id"]
"""


def made(folder: Path, crm: str, erp: str) -> Pair:
    pair = Pair(folder, crm, erp, RULES)
    pair.crm.run("CREATE TABLE orders (id int PRIMARY KEY, note text, released boolean NOT NULL)")
    pair.crm.run("CREATE TABLE lines (id int PRIMARY KEY, order_id int NOT NULL REFERENCES orders, qty numeric(8, 2))")
    pair.erp.run("CREATE TABLE orders (id int PRIMARY KEY, note text)")
    pair.erp.run("CREATE TABLE `lines` (id int PRIMARY KEY, order_id int NOT NULL, qty decimal(8, 2), FOREIGN KEY (order_id) REFERENCES orders (id))")
    return pair


def test_parents_and_children_of_one_transaction_arrive_in_order(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    pair = made(tmp_path, postgres15.database(), mariadb.database())
    pair.settle()
    for order in range(1, 6):
        pair.crm.transaction(
            f"INSERT INTO orders VALUES ({order}, 'o', true)",
            f"INSERT INTO lines SELECT {order} * 100 + i, {order}, i / 4.0 FROM generate_series(1, 20) AS i",
        )
    pair.settle()
    assert pair.erp.run("SELECT count(*) FROM `lines`")[0][0] == 100
    pair.crm.transaction("DELETE FROM lines WHERE order_id = 3", "DELETE FROM orders WHERE id = 3")
    pair.settle()
    assert pair.erp.run("SELECT count(*) FROM orders")[0][0] == 4
    assert pair.quarantine() == []
    pair.agree()
    pair.close()


def test_a_child_waits_for_its_parent_and_goes_on_by_itself(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    pair = made(tmp_path, postgres15.database(), mariadb.database())
    pair.crm.run("INSERT INTO orders VALUES (1, 'not yet', false)")
    pair.crm.run("INSERT INTO lines VALUES (7, 1, 2.5)")
    pair.settle()
    waiting = pair.quarantine()
    assert [(entry["rule"], entry["code"], entry["key"]) for entry in waiting] == [("lines", "foreign_key", {"id": "7"})]
    with pair.daemon() as daemon:
        pair.crm.run("UPDATE orders SET released = true")
        eventually(lambda: pair.erp.run("SELECT qty FROM `lines` WHERE id = 7"))
        assert daemon.terminate() == 0
    assert pair.quarantine() == []
    pair.agree()
    pair.close()
