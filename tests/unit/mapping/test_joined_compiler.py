"""Rules with joins: what is refused and in which words, the tree of joined tables, and what each column derives from."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tests.unit.mapping.joined_tables import INT, TABLES, TEXT, compiled
from tests.unit.mapping.mistakes import cases


@pytest.mark.parametrize(("headers", "sql"), cases("joined_mistakes.sql"))
def test_each_mistake_is_told_and_nothing_else(compile_sql: Any, headers: list[tuple[str, str]], sql: str) -> None:
    rule, problems = compile_sql(sql, tables=TABLES)
    wanted = [(severity, *text.partition(" | ")[::2]) for severity, text in headers]
    for severity, what, fix in wanted:
        assert [p for p in problems if p.severity == severity and what in p.what and fix in p.fix], problems
    errors = [p for p in problems if p.severity == "error"]
    assert len(errors) == sum(severity == "error" for severity, *_ in wanted), errors
    assert (rule is None) == bool(errors)


def test_the_tree_of_joined_tables(compile_sql: Any) -> None:
    rule = compiled(
        compile_sql,
        "SELECT p.id AS ref, b.name AS name, c.name AS region FROM crm.parties AS p LEFT JOIN crm.addresses AS a ON p.id = (a.party_id) "
        "AND a.kind = 'billing' LEFT JOIN crm.countries AS c ON c.code = a.country LEFT JOIN crm.parties AS b ON b.id = p.boss",
    )
    assert [(j.alias, j.table.name.table, j.columns, j.via, j.here, j.there) for j in rule.joined] == [
        ("a", "addresses", ("party_id", "kind", "country"), "", ("party_id",), ("id",)),
        ("b", "parties", ("id", "name"), "", ("id",), ("boss",)),
        ("c", "countries", ("code", "name"), "a", ("code",), ("country",)),
    ]
    assert rule.source.name.table == "parties"
    assert rule.reads == ("id", "boss")


def test_a_table_that_occurs_twice_has_two_aliases(compile_sql: Any) -> None:
    rule = compiled(
        compile_sql,
        "SELECT p.id AS ref FROM crm.parties AS p WHERE EXISTS (SELECT 1 FROM crm.addresses AS a WHERE a.party_id = p.id AND a.kind = 'x') "
        "AND EXISTS (SELECT 1 FROM crm.addresses AS a WHERE a.party_id = p.id AND a.kind = 'y') AND p.boss IN (SELECT id FROM crm.parties AS p)",
    )
    assert [(j.alias, j.via, j.here, j.there) for j in rule.joined] == [
        ("a", "", ("party_id",), ("id",)),
        ("a_2", "", ("party_id",), ("id",)),
        ("p", "", ("id",), ("boss",)),
    ]


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("FROM crm.parties AS p, crm.addresses AS a WHERE a.party_id = p.id", [("a", "", ("party_id",), ("id",))]),
        ("FROM crm.parties AS p CROSS JOIN crm.addresses AS a WHERE (p.id = a.party_id AND TRUE)", [("a", "", ("party_id",), ("id",))]),
        ("FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id AND a.city = p.name", [("a", "", ("party_id", "city"), ("id", "name"))]),
        (
            "FROM crm.parties AS p JOIN (SELECT l.party_id AS pid, sum(l.amount) AS s FROM crm.lines AS l GROUP BY l.party_id) AS q ON q.pid = p.id",
            [("l", "", ("party_id",), ("id",))],
        ),
        (
            "FROM crm.parties AS p LEFT JOIN (SELECT l.party_id AS pid, max(a.city) AS c FROM crm.lines AS l JOIN crm.addresses AS a "
            "ON a.id = l.nr GROUP BY l.party_id) AS q ON q.pid = p.id",
            [("l", "", ("party_id",), ("id",)), ("a", "l", ("id",), ("nr",))],
        ),
        (
            "FROM crm.parties AS p WHERE EXISTS (SELECT 1 FROM crm.addresses AS a JOIN crm.countries AS c ON c.code = a.country WHERE a.party_id = p.id)",
            [("a", "", ("party_id",), ("id",)), ("c", "a", ("code",), ("country",))],
        ),
        ("FROM crm.parties AS p JOIN crm.addresses AS a ON p.id IN (SELECT a.party_id)", [("a", "", ("party_id",), ("id",))]),
    ],
)
def test_ways_to_say_which_rows_belong_together(compile_sql: Any, sql: str, wanted: list[tuple[Any, ...]]) -> None:
    rule = compiled(compile_sql, f"SELECT p.id AS ref {sql}")
    assert [(j.alias, j.via, j.here, j.there) for j in rule.joined] == wanted


def test_a_text_that_is_no_column_leads_nowhere_but_conditions_beside_the_path_are_free(compile_sql: Any) -> None:
    rule = compiled(
        compile_sql,
        "SELECT p.id AS ref FROM crm.parties AS p LEFT JOIN crm.addresses AS a ON a.party_id = p.id AND lower(a.city) = lower(p.name) AND a.id > p.id",
    )
    assert [(j.here, j.there) for j in rule.joined] == [(("party_id",), ("id",))]


def test_origins(compile_sql: Any) -> None:
    rule = compiled(
        compile_sql,
        "SELECT p.id AS ref, upper(c.name) AS region, p.name AS name, 7 AS points FROM crm.parties AS p "
        "LEFT JOIN crm.addresses AS a ON a.party_id = p.id AND a.kind = p.name LEFT JOIN crm.countries AS c ON c.code = a.country "
        "LEFT JOIN crm.lines AS l ON l.party_id = p.id WHERE EXISTS (SELECT 1 FROM crm.parties AS q WHERE q.boss = p.id)",
    )
    path = (("", "id"), ("", "name"), ("a", "party_id"), ("a", "kind"), ("a", "country"), ("c", "code"))
    assert rule.origins == {"ref": (("", "id"),), "region": (*path, ("c", "name")), "name": (("", "name"),), "points": ()}
    assert rule.lineage == {"ref": ("id",), "region": ("id", "name"), "name": ("name",), "points": ()}
    assert rule.filter_origins == (("", "id"), ("q", "boss"))
    assert rule.filter_reads == ("id",)


def test_origins_of_an_inner_join_filter(compile_sql: Any) -> None:
    rule = compiled(compile_sql, "SELECT p.id AS ref, p.name AS name FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id AND a.kind = 'x'")
    assert rule.filter_origins == (("", "id"), ("a", "party_id"), ("a", "kind"))
    assert rule.origins["name"] == (("", "name"),)


def test_origins_of_a_sum_are_all_that_decides_which_rows_there_are(compile_sql: Any) -> None:
    rule = compiled(
        compile_sql,
        "SELECT p.id AS ref, CAST(sum(l.amount) AS DECIMAL(14, 4)) AS credit, p.name AS name, count(*) AS points FROM crm.parties AS p "
        "JOIN crm.lines AS l ON l.party_id = p.id LEFT JOIN crm.addresses AS a ON a.party_id = p.id AND a.kind = 'x' "
        "WHERE l.nr > 1 GROUP BY ref, p.name HAVING max(a.city) > 'b'",
    )
    rows = (("", "id"), ("", "name"), ("l", "party_id"), ("l", "nr"), ("a", "party_id"), ("a", "kind"))
    assert rule.origins["points"] == rows
    assert rule.origins["credit"] == (*rows[:4], ("l", "amount"), *rows[4:])
    assert rule.origins["name"] == (("", "name"),)
    assert rule.filter_origins == (*rows, ("a", "city"))


def test_origins_go_through_subqueries(compile_sql: Any) -> None:
    rule = compiled(
        compile_sql,
        "SELECT p.id AS ref, q.s AS credit, (SELECT max(a.city) FROM crm.addresses AS a WHERE a.party_id = p.boss) AS region FROM crm.parties AS p LEFT JOIN "
        "(SELECT l.party_id, CAST(sum(l.amount) AS DECIMAL(14, 4)) AS s FROM crm.lines AS l WHERE l.nr > 1 GROUP BY l.party_id) AS q ON q.party_id = p.id",
    )
    assert rule.origins["credit"] == (("", "id"), ("l", "party_id"), ("l", "nr"), ("l", "amount"))
    assert rule.origins["region"] == (("", "boss"), ("a", "party_id"), ("a", "city"))
    assert rule.filter_origins == ()


def test_the_key_follows_from_the_base_or_it_does_not(compile_sql: Any, evaluator: Any) -> None:
    join = "FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id"
    rule = compiled(compile_sql, f"SELECT p.id + 1 AS ref {join}")
    assert evaluator.keys(rule, pa.table({"id": ["1", "5"]})).values.to_pydict() == {"ref": ["2", "6"]}
    rule = compiled(compile_sql, f"SELECT max(p.id) AS ref {join} GROUP BY p.id")
    assert rule.key_plan.outputs == ()
    rule = compiled(compile_sql, f"SELECT a.id AS ref {join}")
    assert rule.key_plan.outputs == () and rule.origins["ref"] == (("", "id"), ("a", "id"), ("a", "party_id"))


def test_star_of_a_joined_table(compile_sql: Any, make: Any) -> None:
    tables = TABLES | {("crm", "extra"): make("crm", "crm", "extra", {"ref": INT, "name": TEXT})}
    rule, problems = compile_sql("SELECT e.* FROM crm.parties AS p JOIN crm.extra AS e ON e.ref = p.id", tables=tables)
    assert rule is not None, problems
    assert rule.columns == ("ref", "name")
    assert rule.joined[0].columns == ("ref", "name")
