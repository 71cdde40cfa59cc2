"""A key that is changed in the source is changed in the target, in place: what refers to the row stays with it, in both orientations."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.changed_keys import CHILDREN, FOREIGN, create, fill, move, remarks, same
from tests.pair import Pair

Made = Callable[..., Pair]


@pytest.fixture(params=["PostgreSQL to MariaDB", "MariaDB to PostgreSQL"])
def made(request: pytest.FixtureRequest, postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Made]:
    pairs: list[Pair] = []

    def make(crm: str = "", erp: str = "") -> Pair:
        urls = postgres15.database(), mariadb.database()
        pairs.append(create(tmp_path, *(urls if request.param.startswith("PostgreSQL") else urls[::-1]), crm, erp))
        return pairs[-1]

    yield make
    for pair in pairs:
        pair.close()


def test_children_under_on_delete_cascade_stay_with_their_parent(made: Made) -> None:
    pair = made(FOREIGN, FOREIGN)
    fill(pair, "a", "b")
    pair.crm.run("UPDATE party SET ref = 'c', name = 'now c' WHERE ref = 'a'")
    pair.settle()
    assert same(pair) == ([("b", "was b"), ("c", "now c")], [(1, "c"), (2, "b")])
    assert remarks(pair) == [("b", "of b"), ("c", "of a")]
    pair.erp.run("UPDATE client SET code = 'd' WHERE code = 'b'")
    pair.settle()
    assert same(pair) == ([("c", "now c"), ("d", "was b")], [(1, "c"), (2, "d")])
    before = [pair.rule(name)["applied"] for name in ("there", "back", "orders_there", "orders_back")]
    pair.settle()
    assert [pair.rule(name)["applied"] for name in ("there", "back", "orders_there", "orders_back")] == before, "no echo is written"
    assert pair.quarantine() == []


def test_where_the_target_restricts_its_children_are_moved_first(made: Made) -> None:
    pair = made("none", "ON DELETE RESTRICT ON UPDATE RESTRICT")
    fill(pair, "a", "b")
    move(pair.crm, "party", "ref", "orders", "a", "c")
    pair.settle()
    assert same(pair) == ([("b", "was b"), ("c", "was a")], [(1, "c"), (2, "b")])
    assert remarks(pair) == [("b", "of b"), ("c", "of a")]
    # children that only the target has keep the old row: it waits, and goes when they are gone
    pair.erp.run("ALTER TABLE orders ADD note varchar(20)")
    pair.erp.run("CREATE TABLE visits (code varchar(20) REFERENCES client (code))" if pair.erp.adapter == "postgres" else
                 "CREATE TABLE visits (code varchar(20), FOREIGN KEY (code) REFERENCES client (code))")  # fmt: skip
    pair.erp.run("INSERT INTO visits VALUES ('b')")
    move(pair.crm, "party", "ref", "orders", "b", "d")
    pair.settle()
    assert [(entry["rule"], entry["code"], entry["key"]) for entry in pair.quarantine()] == [("there", "foreign_key", {"ref": "d"})]
    assert pair.erp.run(CHILDREN[1]) == [(1, "c"), (2, "d")]
    pair.erp.run("DELETE FROM visits")
    pair.settle()
    assert same(pair) == ([("c", "was a"), ("d", "was b")], [(1, "c"), (2, "d")])
    assert pair.quarantine() == []


def test_chains_and_swaps_in_one_transaction(made: Made) -> None:
    pair = made("none", FOREIGN)
    fill(pair, "a", "b", "c")
    pair.crm.transaction(
        *(f"UPDATE party SET ref = '{new}' WHERE ref = '{old}'" for old, new in (("c", "d"), ("b", "c"), ("a", "b"))),
        "UPDATE orders SET ref = CASE ref WHEN 'a' THEN 'b' WHEN 'b' THEN 'c' ELSE 'd' END",
    )
    pair.settle()
    assert same(pair) == ([("b", "was a"), ("c", "was b"), ("d", "was c")], [(1, "b"), (2, "c"), (3, "d")])
    assert remarks(pair) == [("b", "of a"), ("c", "of b"), ("d", "of c")]
    pair.crm.transaction(
        *(f"UPDATE party SET ref = '{new}' WHERE ref = '{old}'" for old, new in (("b", "x"), ("c", "b"), ("d", "c"), ("x", "d"))),
        "UPDATE orders SET ref = CASE ref WHEN 'b' THEN 'd' WHEN 'c' THEN 'b' ELSE 'c' END",
    )
    pair.settle()
    assert same(pair) == ([("b", "was b"), ("c", "was c"), ("d", "was a")], [(1, "d"), (2, "b"), (3, "c")])
    assert remarks(pair) == [("b", "of b"), ("c", "of c"), ("d", "of a")]
    # the place of one that was deleted, and a new row where it came from
    pair.crm.transaction(
        "DELETE FROM orders WHERE ref = 'b'", "DELETE FROM party WHERE ref = 'b'", "UPDATE party SET ref = 'b' WHERE ref = 'c'",
        "UPDATE orders SET ref = 'b' WHERE ref = 'c'", "INSERT INTO party (ref, name) VALUES ('c', 'new')",
    )  # fmt: skip
    pair.settle()
    assert same(pair) == ([("b", "was c"), ("c", "new"), ("d", "was a")], [(1, "d"), (3, "b")])
    assert remarks(pair) == [("b", "of b"), ("c", "of c"), ("d", "of a")], "who takes over a key takes over its row"
    assert pair.quarantine() == []


def test_where_another_row_has_the_new_key_they_become_one_as_for_two_inserts(made: Made) -> None:
    pair = made("none", FOREIGN)
    fill(pair, "a")
    move(pair.crm, "party", "ref", "orders", "a", "z")
    pair.erp.run("INSERT INTO client (code, title) VALUES ('z', 'by the ERP')")
    pair.settle()
    parents, children = same(pair)
    assert [key for key, _ in parents] == ["z"] and children == [(1, "z")]
    assert pair.quarantine() == []


def test_a_change_of_another_cell_on_the_other_side_is_kept(made: Made) -> None:
    pair = made(FOREIGN, FOREIGN)
    fill(pair, "a", "b")
    pair.erp.run("UPDATE client SET title = 'by the ERP' WHERE code = 'a'")
    pair.crm.run("UPDATE party SET ref = 'c' WHERE ref = 'a'")
    pair.crm.run("UPDATE party SET ref = 'd' WHERE ref = 'b'")
    pair.erp.run("UPDATE client SET title = 'by the ERP later' WHERE code = 'b'")
    pair.settle()
    assert same(pair) == ([("c", "by the ERP"), ("d", "by the ERP later")], [(1, "c"), (2, "d")])
    assert pair.quarantine() == []


def test_children_that_are_led_elsewhere_survive_the_delete_of_their_parent(made: Made) -> None:
    pair = made("none", FOREIGN)
    pair.erp.run("CREATE UNIQUE INDEX by_title ON client (title)")
    fill(pair, "a", "b", "c")
    pair.crm.transaction(
        "UPDATE orders SET ref = 'a' WHERE ref = 'b'", "DELETE FROM party WHERE ref = 'b'", "INSERT INTO party (ref, name) VALUES ('n', 'was b')",
    )  # fmt: skip
    pair.settle()
    assert same(pair) == ([("a", "was a"), ("c", "was c"), ("n", "was b")], [(1, "a"), (2, "a"), (3, "c")])
    # and two become one, which goes on under the key of the one that goes
    pair.crm.transaction(
        "UPDATE orders SET ref = 'c' WHERE ref = 'a'", "DELETE FROM party WHERE ref = 'a'", "UPDATE party SET ref = 'a' WHERE ref = 'c'",
        "UPDATE orders SET ref = 'a' WHERE ref = 'c'",
    )  # fmt: skip
    pair.settle()
    assert same(pair) == ([("a", "was c"), ("n", "was b")], [(1, "a"), (2, "a"), (3, "a")])
    assert pair.quarantine() == []
