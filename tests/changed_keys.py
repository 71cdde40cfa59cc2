"""Parents and children with the same keys on both sides, and how these keys are changed."""
from __future__ import annotations

from pathlib import Path

from tests.pair import Pair, Side

RULES = """
[[rules]]
name = "there"
select = "SELECT p.ref AS code, p.name AS title FROM crm.party AS p"
into = "erp.client"
key = ["code"]
[[rules]]
name = "back"
select = "SELECT c.code AS ref, c.title AS name FROM erp.client AS c"
into = "crm.party"
key = ["ref"]
[[rules]]
name = "orders_there"
select = "SELECT o.id AS id, o.ref AS code FROM crm.orders AS o"
into = "erp.orders"
key = ["id"]
[[rules]]
name = "orders_back"
select = "SELECT o.id AS id, o.code AS ref FROM erp.orders AS o"
into = "crm.orders"
key = ["id"]
"""
PARENTS = "SELECT ref, name FROM party ORDER BY 1", "SELECT code, title FROM client ORDER BY 1"
CHILDREN = "SELECT id, ref FROM orders ORDER BY 1", "SELECT id, code FROM orders ORDER BY 1"


def create(folder: Path, crm_url: str, erp_url: str, crm: str = "", erp: str = "") -> Pair:
    """crm, erp: what the foreign keys of the orders say beyond REFERENCES; none at all where it is "none"."""
    pair = Pair(folder, crm_url, erp_url, RULES)
    for side, (parent, key, child), more in ((pair.crm, ("party", "ref", "name"), crm), (pair.erp, ("client", "code", "title"), erp)):
        side.run(f"CREATE TABLE {parent} ({key} varchar(20) PRIMARY KEY, {child} varchar(50), remark varchar(50))")
        foreign = "" if more == "none" else f", FOREIGN KEY ({key}) REFERENCES {parent} ({key}) {more}"
        side.run(f"CREATE TABLE orders (id int PRIMARY KEY, {key} varchar(20){foreign})")
    return pair


def fill(pair: Pair, *names: str) -> None:
    """Parents with one child each, and a remark in the ERP that the rules know nothing of."""
    for number, name in enumerate(names, start=1):
        pair.crm.run(f"INSERT INTO party (ref, name) VALUES ('{name}', 'was {name}')")
        pair.crm.run(f"INSERT INTO orders VALUES ({number}, '{name}')")
    pair.settle()
    pair.erp.run("UPDATE client SET remark = concat('of ', code)")
    pair.settle()


def same(pair: Pair) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    parents, children = ([side.run(sql) for side, sql in zip((pair.crm, pair.erp), sqls, strict=True)] for sqls in (PARENTS, CHILDREN))
    assert (parents[0], children[0]) == (parents[1], children[1]), (parents, children)
    pair.agree()
    return parents[0], children[0]


def remarks(pair: Pair) -> list[tuple[object, ...]]:
    return pair.erp.run("SELECT code, remark FROM client ORDER BY 1")


def move(side: Side, table: str, key: str, child: str, old: str, new: str) -> None:
    """A change of key with its children, whatever the foreign key says on this side."""
    side.transaction(f"UPDATE {table} SET {key} = '{new}' WHERE {key} = '{old}'", f"UPDATE {child} SET {key} = '{new}' WHERE {key} = '{old}'")


FOREIGN = "ON DELETE CASCADE ON UPDATE CASCADE"
