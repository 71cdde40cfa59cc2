"""What the compiler says to each mistake, and what it finds out about a rule without one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.model.types import DataType, Kind
from tests.unit.mapping.mistakes import cases


@pytest.mark.parametrize(("headers", "sql"), cases("mistakes.sql"))
def test_each_mistake_is_told_and_nothing_else(compile_sql: Any, headers: list[tuple[str, str]], sql: str) -> None:
    given = dict(headers)
    key = tuple(name for name in given.get("key", "ref").split() if name)
    rule, problems = compile_sql(sql, into=given.get("into", "customers"), key=key)
    wanted = [(severity, *text.partition(" | ")[::2]) for severity, text in headers if severity in ("error", "warning")]
    for severity, what, fix in wanted:
        assert [p for p in problems if p.severity == severity and what in p.what and fix in p.fix], problems
    errors = [p for p in problems if p.severity == "error"]
    assert len(errors) == sum(severity == "error" for severity, *_ in wanted), errors
    assert (rule is None) == bool(errors)


def test_all_mistakes_of_a_rule_are_told_at_once(compile_sql: Any) -> None:
    sql = "SELECT a.idd AS ref, trimm(a.name) AS name, now() AS touched, a.photo AS points FROM crm.accounts AS a WHERE a.nope = 1"
    rule, problems = compile_sql(sql)
    assert rule is None
    text = "\n".join(f"{p.where}: {p.what}" for p in problems)
    for part in ("no column idd", "column name: DuckDB says", "column touched: now()", "column points: varbinary(16) does not go", "no column nope"):
        assert part in text


def test_lineage_goes_through_conditions_and_lookups(compile_sql: Any) -> None:
    rule, problems = compile_sql(
        "SELECT a.id AS ref, CASE WHEN a.flag = 1 THEN trim(a.name) END AS name, coalesce(s.code, 'x') AS region, 'c' AS short "
        "FROM crm.accounts AS a LEFT JOIN lookups.us_states AS s ON lower(s.name) = lower(a.state) WHERE a.status = 'new'"
    )
    assert rule is not None, problems
    assert rule.lineage == {"ref": ("id",), "name": ("Name", "flag"), "region": ("state",), "Short": ()}
    assert rule.reads == ("id", "Name", "state", "status", "flag")
    assert rule.filter_reads == ("status",)
    assert rule.columns == ("ref", "name", "region", "Short")


def test_inner_join_and_lookups_in_where_decide_about_the_row(compile_sql: Any) -> None:
    rule, _ = compile_sql("SELECT a.id AS ref FROM crm.accounts AS a JOIN lookups.us_states AS s ON s.name = a.state")
    assert rule.filter_reads == ("state",)
    rule, _ = compile_sql(
        "SELECT a.id AS ref FROM crm.accounts AS a LEFT JOIN lookups.us_states AS s ON s.name = a.state "
        "LEFT JOIN lookups.us_states AS q ON q.code = s.code WHERE q.name IS NOT NULL"
    )
    assert rule.filter_reads == ("state",)


def test_names_match_exactly_first_and_then_without_regard_to_case(compile_sql: Any) -> None:
    rule, problems = compile_sql('SELECT A.ID AS REF, a.NAME AS Name, a."select" AS region, STATE AS short FROM CRM.accounts AS a'.replace("CRM", "crm"))
    assert rule is not None, problems
    assert [(output.column.name, output.direct) for output in rule.plan.outputs] == [
        ("ref", "id"),
        ("name", "Name"),
        ("region", "select"),
        ("Short", "state"),
    ]


def test_columns_that_differ_in_case_alone_stay_apart(compile_sql: Any, make: Any) -> None:
    text = DataType(kind=Kind.TEXT, name="text")
    source = make("crm", "crm", "odd", {"id": DataType(kind=Kind.INT, name="int", bits=32), "Aa": text, "aA": text})
    rule, problems = compile_sql('SELECT o.id AS ref, o."Aa" || o."aA" AS name FROM crm.odd AS o', tables={("crm", "odd"): source})
    assert rule is not None, problems
    assert rule.lineage["name"] == ("Aa", "aA")
    rule, problems = compile_sql("SELECT o.id AS ref, o.AA AS name FROM crm.odd AS o", tables={("crm", "odd"): source})
    assert rule is None and "no column AA" in problems[-1].what


def test_star_of_the_table_is_its_columns(compile_sql: Any, make: Any) -> None:
    source = make("crm", "crm", "small", {"ref": DataType(kind=Kind.INT, name="int", bits=32), "name": DataType(kind=Kind.TEXT, name="t", length=9)})
    rule, problems = compile_sql("SELECT s.* FROM crm.small AS s", tables={("crm", "small"): source})
    assert rule is not None, problems
    assert rule.columns == ("ref", "name")


def test_column_may_be_written_with_the_table_in_front(compile_sql: Any) -> None:
    for written in ("accounts.id", "crm.accounts.id", "id"):
        rule, problems = compile_sql(f"SELECT {written} AS ref FROM crm.accounts")
        assert rule is not None, problems


def test_comments_and_odd_characters_do_not_shift_names(compile_sql: Any) -> None:
    rule, problems = compile_sql(
        "-- čeština 😀\nSELECT a.id AS ref, -- first, FROM here\n 'ž😀' || a.name -- the name\n AS name /* b */ "
        "FROM crm.accounts AS a WHERE a.state IS DISTINCT FROM 'x' -- end"
    )
    assert rule is not None, problems
    assert rule.lineage["name"] == ("Name",)


def test_variables_of_lambdas_and_comprehensions_are_no_columns(compile_sql: Any) -> None:
    rule, problems = compile_sql(
        "SELECT a.id AS ref, list_transform([a.name], lambda z: upper(z))[1] AS name, [q || a.state FOR q IN ['x']][1] AS region "
        "FROM crm.accounts AS a"
    )
    assert rule is not None, problems
    assert rule.lineage["name"] == ("Name",)
    assert rule.lineage["region"] == ("state",)


def test_rule_without_computation_needs_no_query(compile_sql: Any) -> None:
    rule, _ = compile_sql("SELECT (a.id) AS ref, a.name AS name FROM crm.accounts AS a LEFT JOIN lookups.us_states AS s ON s.name = a.state")
    assert rule.plan.query is None


def test_values_that_always_fit_are_not_checked(compile_sql: Any) -> None:
    rule, problems = compile_sql("SELECT a.id AS ref, a.name AS name, a.credit AS credit, a.state AS region FROM crm.accounts AS a")
    assert problems == []
    steps = {output.column.name: [type(step).__name__ for step in output.steps] for output in rule.plan.outputs}
    # NUL can stand in MariaDB's text only, CHAR(n) loses its blanks
    assert steps == {"ref": [], "name": ["NoNul"], "credit": ["PadScale"], "region": ["Trimmed", "NoNul"]}


def test_a_decimal_beyond_duckdbs_that_is_cast_is_no_cause_for_a_warning(compile_sql: Any) -> None:
    sql = "SELECT a.id AS ref, CAST(CAST(a.huge AS DECIMAL(20, 4)) + 1 AS DECIMAL(14, 4)) AS credit FROM crm.accounts AS a WHERE a.huge::DOUBLE > 1"
    rule, problems = compile_sql(sql)
    assert rule is not None and problems == []


def test_a_key_column_that_may_be_null_is_allowed(compile_sql: Any) -> None:
    rule, problems = compile_sql("SELECT a.flag AS ref FROM crm.accounts AS a")
    assert rule is not None, problems
    assert rule.plan.outputs[0].refuse_null


def test_a_missing_target_table_does_not_hide_mistakes_in_the_rule(compile_sql: Any) -> None:
    rule, problems = compile_sql("SELECT a.idd AS ref FROM crm.accounts AS a", into="nowhere")
    assert rule is None
    assert [p.what for p in problems] == ["erp.public.nowhere: there is no such table", "crm.crm.accounts has no column idd"]


def test_types_of_the_same_name_are_compared_by_their_bounds(compile_sql: Any, make: Any) -> None:
    wide = DataType(kind=Kind.TEXT, name="varchar", length=50)
    source = make("crm", "crm", "t", {"id": DataType(kind=Kind.INT, name="int", bits=32), "x": wide})
    _, problems = compile_sql("SELECT t.id AS ref, t.x AS name FROM crm.t AS t", tables={("crm", "t"): source})
    assert [p.severity for p in problems] == ["warning"]
    narrow = replace(source, columns=(source.columns[0], replace(source.columns[1], type=replace(wide, length=40))))
    _, problems = compile_sql("SELECT t.id AS ref, t.x AS name FROM crm.t AS t", tables={("crm", "t"): narrow})
    assert problems == []
