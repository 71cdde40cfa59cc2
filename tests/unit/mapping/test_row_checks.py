"""Conditions over the mapped row."""
from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from engine.mapping.evaluator import Evaluator
from engine.mapping.row_checks import compile_checks
from engine.mapping.rule import CompiledRule
from engine.model.schema import Table
from engine.model.types import DataType, Kind
from tests.unit.mapping.conftest import Compile


@pytest.fixture
def rule(compile_sql: Compile) -> CompiledRule:
    found, problems = compile_sql('SELECT a.id AS ref, a.Name AS name, a.credit, a.born, a.flag AS active, a.Name AS "Short" FROM crm.accounts AS a')
    assert found is not None, problems
    return found


def test_rows_that_break_a_check_are_told_with_its_text_and_unknown_passes(rule: CompiledRule, evaluator: Evaluator) -> None:
    checks, problems = compile_checks(rule, ["credit >= 0 -- never owed", "length(name) > 1\n  OR SHORT = 'x'", "(active)"])
    assert problems == []
    assert checks is not None
    assert checks.reads == ("name", "credit", "active", "Short")
    rows = {
        "name": ["ok", "y", None, "y", "ok"], "Short": ["", "x", None, "z", ""], "credit": ["1.00", "-0.01", None, "0", "0"],
        "active": ["t", "t", None, "f", "f"],
    }  # fmt: skip
    found = evaluator.broken(checks, pa.table({"other": ["1"] * 5, **{name: pa.array(cells, pa.string()) for name, cells in rows.items()}}))
    assert sorted(found) == [1, 3, 4]
    assert "credit >= 0" in found[1]
    assert "length(name) > 1 OR SHORT = 'x'" in found[3]
    assert "(active)" in found[4]


def test_a_check_that_cannot_be_computed_sets_that_row_aside_and_no_other(rule: CompiledRule, evaluator: Evaluator) -> None:
    checks, problems = compile_checks(rule, ["CAST(name AS INT) > 0", "born < DATE '2100-01-01'"])
    assert problems == []
    assert checks is not None
    rows = {"name": ["1", "word", "2", "-3"], "born": ["2000-01-01", "2000-01-01", "0000-00-00", None]}
    found = evaluator.broken(checks, pa.table({name: pa.array(cells, pa.string()) for name, cells in rows.items()}))
    assert sorted(found) == [1, 2, 3]
    assert "cannot be computed" in found[1]
    assert "column born" in found[2]
    assert "word" not in found[1]
    assert "0000" not in found[2]


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("crdit >= 0", "did you mean credit"), ("region <> ''", "does not write a column region"), ("r.credit > 0", "credit alone"),
        ("credit >=", "no condition"), ("credit", "gives DECIMAL(14,4)"), ("name || 'x'", "gives VARCHAR"), ("NULL", "not true or false"), ("name + true", ""),
        ("credit > random()", "random()"), ("born < current_date", "another value each time"), ("born < now()", "now()"), ("sum(credit) > 0", "sums up"),
        ("credit > 0) OR (name = 'x'", "no condition"), ("credit > 0, name = 'x'", "no condition"), ("TRUE) AS x FROM (SELECT 1", "no condition"),
        ("credit > 0; SELECT 1", "no condition"), ("EXISTS (SELECT 1)", "subqueries"), ("credit IN (SELECT 1)", "subqueries"), ("-- nothing", "no condition"),
        ("no_such_function(credit)", "no_such_function"), ("count(*) OVER () > 1", "window"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_number_of_the_check(rule: CompiledRule, check: str, said: str) -> None:
    compiled, problems = compile_checks(rule, ["credit >= 0", check, "name <> ''"])
    assert compiled is None
    assert {(p.where, p.severity) for p in problems} == {("rule r, checks[2]", "error")}
    assert any(said in f"{p.what} {p.fix}" for p in problems), problems


def test_numbers_without_a_bound_are_not_compared_as_text(compile_sql: Compile, evaluator: Evaluator, make: Callable[..., Table]) -> None:
    open_ended = make("erp", "public", "bills", {"ref": DataType(kind=Kind.INT, name="int8", bits=64), "sum": DataType(kind=Kind.DECIMAL, name="numeric")})
    rule, _ = compile_sql("SELECT a.id AS ref, a.credit AS sum FROM crm.accounts AS a", into="bills", tables={("erp", "bills"): open_ended})
    assert rule is not None
    refused, problems = compile_checks(rule, ["sum >= 0"])
    assert refused is None
    assert "CAST(sum AS DECIMAL(38, 10))" in problems[0].fix
    checks, _ = compile_checks(rule, ["CAST(sum AS DECIMAL(38, 10)) >= 0"])
    assert checks is not None
    assert list(evaluator.broken(checks, pa.table({"ref": ["1", "2"], "sum": ["-0.3", "0.3"]}))) == [0]
