"""Deletes against changes, rows made again, rows that are not there, rows that leave the WHERE and come back, children that change their parent."""
from __future__ import annotations

import pytest

from engine.runtime.check import check
from tests.integration.test_scenarios import ORDERS, PERSON, Made, both, made, rule, same, stands_still  # noqa: F401
from tests.pair import Side


def later(side: Side) -> None:
    """MariaDB logs whole seconds."""
    side.run("SELECT pg_sleep(1.1)" if side.adapter == "postgres" else "SELECT sleep(1.1)")


@pytest.mark.parametrize("wins", ["delete", "update"])
def test_the_rule_says_who_wins_of_an_update_and_a_delete(made: Made, wins: str) -> None:  # noqa: F811
    pair = made(PERSON, both(more=f"update_delete = '{wins}'"))
    pair.crm.run("INSERT INTO person (id, name, phone) VALUES (1, 'a', '1'), (2, 'b', '2'), (3, 'c', '3'), (4, 'd', '4')")
    pair.settle()
    pair.crm.run("DELETE FROM person WHERE id = 1")
    pair.erp.run("UPDATE person SET name = 'before' WHERE id = 2")
    later(pair.crm)
    pair.erp.run("UPDATE person SET name = 'after' WHERE id = 1")
    pair.crm.run("DELETE FROM person WHERE id = 2")
    pair.erp.run("DELETE FROM person WHERE id = 3")
    pair.settle()
    same(pair)
    assert dict(pair.crm.run("SELECT id, name FROM person")) == ({4: "d"} if wins == "delete" else {1: "after", 2: "before", 4: "d"})
    assert pair.quarantine() == []
    pair.agree()
    stands_still(pair)


@pytest.mark.parametrize("wins", ["crm", "erp"])
def test_the_rule_says_who_wins_of_two_rows_with_one_key(made: Made, wins: str) -> None:  # noqa: F811
    forth, back = ("source", "target") if wins == "crm" else ("target", "source")
    pair = made(PERSON, rule("to_erp", "crm", "erp", more=f"insert_insert = '{forth}'") + rule("to_crm", "erp", "crm", more=f"insert_insert = '{back}'"))
    pair.settle()
    pair.crm.run("INSERT INTO person (id, name) VALUES (1, 'crm first')")
    pair.erp.run("INSERT INTO person (id, name) VALUES (2, 'erp first')")
    later(pair.crm)
    pair.erp.run("INSERT INTO person (id, name) VALUES (1, 'erp second')")
    pair.crm.run("INSERT INTO person (id, name) VALUES (2, 'crm second')")
    pair.settle()
    same(pair)
    assert dict(pair.crm.run("SELECT id, name FROM person")) == (
        {1: "crm first", 2: "crm second"} if wins == "crm" else {1: "erp second", 2: "erp first"}
    )
    pair.agree()
    stands_still(pair)


def test_check_refuses_two_directions_that_decide_apart(made: Made) -> None:  # noqa: F811
    rules = rule("to_erp", "crm", "erp", more="update_delete = 'delete'\ninsert_insert = 'source'") + rule("to_crm", "erp", "crm")
    places = {p.where for p in check(made(PERSON, rules).settings) if p.severity == "error"}
    assert places == {"rule to_crm, update_delete", "rule to_crm, insert_insert"}


def test_a_row_deleted_and_made_again_is_another_row(made: Made) -> None:  # noqa: F811
    pair = made(PERSON, both())
    pair.crm.run("INSERT INTO person (id, name, phone) VALUES (1, 'first', '1'), (2, 'second', '2')")
    pair.settle()
    pair.erp.run("UPDATE person SET phone = 'of the old row' WHERE id = 1")
    later(pair.erp)
    pair.crm.run("DELETE FROM person WHERE id = 1")
    pair.crm.run("INSERT INTO person (id, name) VALUES (1, 'again')")
    pair.crm.transaction("DELETE FROM person WHERE id = 2", "INSERT INTO person (id, name, phone) VALUES (2, 'second', '2')", "DELETE FROM person WHERE id = 2")
    pair.settle()
    assert pair.erp.run("SELECT id, name, phone FROM person") == pair.crm.run("SELECT id, name, phone FROM person")
    assert [tuple(row) for row in pair.crm.run("SELECT id, name, phone FROM person")] == [(1, "again", None)]
    pair.agree()
    stands_still(pair)


def test_an_update_and_a_delete_of_a_row_that_is_not_there_are_counted_and_harm_nobody(made: Made) -> None:  # noqa: F811
    pair = made(PERSON, rule("to_erp", "crm", "erp"))
    pair.crm.run("INSERT INTO person (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    pair.settle()
    pair.erp.run("DELETE FROM person WHERE id IN (1, 2)")
    later(pair.erp)
    pair.crm.run("UPDATE person SET name = 'made again' WHERE id = 1")
    pair.crm.run("DELETE FROM person WHERE id = 2")
    pair.crm.run("UPDATE person SET name = 'innocent' WHERE id = 3")
    pair.settle()
    assert dict(pair.erp.run("SELECT id, name FROM person")) == {1: "made again", 3: "innocent"}
    assert pair.quarantine() == []
    counted = pair.rule("to_erp")
    assert counted["rows"] == sum(counted[name] for name in ("applied", "equal", "decided_against", "echo", "ignored", "waiting", "refused"))
    pair.agree()


@pytest.mark.parametrize("on_exit", ["'delete'", "'ignore'"])
def test_a_row_that_leaves_the_where_and_comes_back(made: Made, on_exit: str) -> None:  # noqa: F811
    pair = made(PERSON, both(more=f"kind = 'A'|on_exit = {on_exit}"))
    pair.crm.run("INSERT INTO person (id, name, kind) VALUES (1, 'a', 'A'), (2, 'b', 'B'), (3, 'c', 'A')")
    pair.settle()
    assert [row[0] for row in pair.erp.run("SELECT id FROM person ORDER BY id")] == [1, 3]
    pair.crm.run("UPDATE person SET kind = 'B', name = 'outside' WHERE id = 1")
    pair.erp.run("UPDATE person SET kind = 'B' WHERE id = 3")
    pair.crm.run("UPDATE person SET kind = 'A' WHERE id = 2")
    pair.settle()
    there, here = {row[0] for row in pair.erp.run("SELECT id FROM person")}, {row[0] for row in pair.crm.run("SELECT id FROM person")}
    assert (there, here) == (({2, 3}, {1, 2}) if on_exit == "'delete'" else ({1, 2, 3}, {1, 2, 3}))
    assert pair.reconcile().verdict == "equal"
    stands_still(pair)

    pair.crm.run("UPDATE person SET kind = 'A', name = 'back' WHERE id = 1")
    pair.erp.run("UPDATE person SET kind = 'A', name = 'back too' WHERE id = 3")
    pair.settle()
    same(pair)
    assert dict(pair.crm.run("SELECT id, name FROM person")) == {1: "back", 2: "b", 3: "back too"}
    pair.agree()
    # out and in again in one transaction is no exit; in and out again no entry
    pair.crm.transaction("UPDATE person SET kind = 'B' WHERE id = 1", "UPDATE person SET kind = 'A' WHERE id = 1")
    pair.crm.transaction("INSERT INTO person (id, kind) VALUES (9, 'A')", "UPDATE person SET kind = 'B' WHERE id = 9")
    pair.settle()
    assert {row[0] for row in pair.erp.run("SELECT id FROM person")} == {1, 2, 3}
    pair.agree()


def test_a_child_that_changes_its_parent_takes_its_row_along(made: Made) -> None:  # noqa: F811
    pair = made(ORDERS, both(select="id, no", table="head", of="head_") + both(select="head, n, item", key="head n", table="line", of="line_"))
    pair.crm.transaction("INSERT INTO head (id, no) VALUES (1, 'a'), (2, 'b')", "INSERT INTO line VALUES (1, 1, 'x'), (1, 2, 'y'), (2, 1, 'z')")
    pair.settle()
    pair.erp.run("UPDATE line SET head = 2, n = 7 WHERE head = 1 AND n = 2")
    pair.crm.transaction("INSERT INTO head (id, no) VALUES (3, 'new')", "UPDATE line SET head = 3 WHERE head = 1 AND n = 1")
    pair.crm.run("UPDATE line SET head = 1 WHERE head = 2 AND n = 1")
    pair.settle()
    same(pair, "SELECT head, n, item FROM line")
    assert sorted(pair.crm.run("SELECT head, n, item FROM line")) == [(1, 1, "z"), (2, 7, "y"), (3, 1, "x")]
    assert pair.quarantine() == []
    pair.agree()
    stands_still(pair)
