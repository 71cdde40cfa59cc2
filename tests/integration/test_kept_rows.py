"""Rows that stay on one side by `on_delete` and `on_exit` of a two-way link: reconcile knows them, and nothing moves on account of them."""
from __future__ import annotations

import pytest

from tests.integration.test_scenarios import PERSON, Made, both, made, rule, stands_still  # noqa: F401


@pytest.mark.parametrize(
    ("on_delete", "on_exit"),
    [("'ignore'", "'ignore'"), ("{ set = { phone = 'gone' } }", "'delete'"), ("'ignore'", "{ set = { phone = 'left' } }")],
)
def test_a_row_that_stays_on_purpose_is_no_difference(made: Made, on_delete: str, on_exit: str) -> None:  # noqa: F811
    forth = rule("to_erp", "crm", "erp", more=f"kind = 'A'|on_delete = {on_delete}\non_exit = {on_exit}")
    pair = made(PERSON, forth + rule("to_crm", "erp", "crm", more="kind = 'A'|"))
    pair.crm.run("INSERT INTO person (id, name, kind) VALUES (1, 'stays', 'A'), (2, 'deleted', 'A'), (3, 'leaves', 'A'), (4, 'b', 'B')")
    pair.settle()
    pair.crm.run("DELETE FROM person WHERE id = 2")
    pair.crm.run("UPDATE person SET kind = 'B' WHERE id = 3")
    pair.settle()
    assert pair.quarantine() == []
    assert [row[0] for row in pair.crm.run("SELECT id FROM person ORDER BY id")] == [1, 3, 4]
    left = [1, 2] if on_exit == "'delete'" else [1, 2, 3]
    assert [row[0] for row in pair.erp.run("SELECT id FROM person ORDER BY id")] == left

    report = pair.reconcile()
    assert report.verdict == "equal", report.to_json()
    assert report.rules["to_crm"].differences["kept"] == 1
    for name, side in (("to_erp", pair.crm), ("to_crm", pair.erp)):
        assert report.rules[name].source_rows == side.run("SELECT count(*) FROM person")[0][0]
    assert not {"missing", "extra", "value_drift"} & {kind for found in report.rules.values() for kind in found.classes}
    stands_still(pair)

    pair.erp.run("UPDATE person SET name = 'changed there' WHERE id = 2")  # later than the delete: the row comes back
    pair.settle()
    assert pair.crm.run("SELECT name FROM person WHERE id = 2") == pair.erp.run("SELECT name FROM person WHERE id = 2")
    pair.agree()


def test_a_row_that_nobody_deleted_is_still_missing(made: Made) -> None:  # noqa: F811
    pair = made(PERSON, both(more="on_delete = 'ignore'"))
    pair.erp.run("INSERT INTO person (id, name) VALUES (1, 'a')")
    pair.settle()
    pair.erp.run("INSERT INTO person (id, name) VALUES (2, 'not led yet')")
    report = pair.reconcile()
    assert (report.verdict, report.rules["to_crm"].differences) == ("different", {"missing": 1})
