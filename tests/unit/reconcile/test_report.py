"""The report as JSON of the contract, as lines for a person, as an exit code."""
from __future__ import annotations

import json

import pytest

from engine.reconcile.report import Report, RowFinding, RuleFinding, Verdict

RULE = RuleFinding(rows=6, classes={"equal": 3, "value_drift": 2, "filtered": 1}, source_rows=6, target_rows=5)
DRIFT = RowFinding(rule="customers", key={"ref": "7"}, class_="value_drift", columns=("name", "city"))


@pytest.mark.parametrize(("verdict", "code"), [("equal", 0), ("different", 1), ("incomplete", 3)])
def test_exit_code_follows_the_verdict(verdict: Verdict, code: int) -> None:
    assert Report(verdict=verdict, rules={}).exit_code == code


def test_json_has_the_contracts_shape() -> None:
    document = Report(verdict="different", rules={"customers": RULE}, rows=(DRIFT,)).to_json()
    assert json.loads(json.dumps(document)) == document
    rule = document["rules"]["customers"]
    assert (rule["rows"], rule["equal"], rule["differences"]) == (6, 3, {"value_drift": 2, "filtered": 1})
    assert document["rows"] == [{"rule": "customers", "key": {"ref": "7"}, "class": "value_drift", "columns": ["name", "city"]}]


def test_lines_show_twenty_rows_and_count_the_others() -> None:
    rule = RuleFinding(rows=1025, classes={"missing": 1025}, source_rows=1025, target_rows=0, unlisted=25)
    rows = tuple(RowFinding(rule="customers", key={"ref": str(n)}, class_="missing") for n in range(1000))
    lines = Report(verdict="different", rules={"customers": rule}, rows=rows).lines()
    assert sum(line.startswith("customers: ref=") for line in lines) == 20
    assert "and 1,005 more" in lines
    assert lines[-1].startswith("verdict: different")


def test_lines_name_what_was_not_compared() -> None:
    lines = Report(verdict="incomplete", rules={}, problems=("customers: the table is gone",)).lines()
    assert "not compared: customers: the table is gone" in lines
