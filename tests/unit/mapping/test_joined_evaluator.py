"""Rules with joins over rows: the same as their own SQL over typed tables, from the rows that belong together alone; and each fault with the row it is of."""

from __future__ import annotations

import collections
import functools
from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.mapping.evaluator import Evaluated
from engine.mapping.rule import CompiledRule
from engine.model.schema import Table
from tests.unit.mapping.conftest import LOOKUPS
from tests.unit.mapping.joined_tables import TABLES, compiled

BY_NAME = {table.name.table: table for table in TABLES.values()}
TYPES = {
    "parties": "id INT, name VARCHAR, boss INT, \"limit\" DECIMAL(12,4), weight DOUBLE",
    "addresses": "id INT, party_id INT, kind VARCHAR, city VARCHAR, country VARCHAR, moved TIMESTAMPTZ",
    "countries": "code VARCHAR, name VARCHAR",
    "lines": "party_id INT, nr INT, amount DECIMAL(12,2), weight DOUBLE",
}
RULES = [
    "SELECT p.id AS ref, a.city AS name FROM crm.parties AS p LEFT JOIN crm.addresses AS a ON a.party_id = p.id AND a.kind = 'x'",
    "SELECT p.id AS ref, upper(a.city) AS name FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id WHERE a.kind <> 'y'",
    "SELECT p.id AS ref, c.name AS name FROM crm.parties AS p LEFT JOIN crm.addresses AS a ON p.id = a.party_id AND a.kind = 'x' "
    "LEFT JOIN crm.countries AS c ON c.code = a.country",
    "SELECT p.id AS ref, b.name || '/' || p.name AS name FROM crm.parties AS p JOIN crm.parties AS b ON b.id = p.boss",
    "SELECT p.id AS ref, coalesce(max(CASE WHEN a.kind = 'x' THEN a.city END), p.name) AS name, count(a.id) AS points FROM crm.parties AS p "
    "LEFT JOIN crm.addresses AS a ON a.party_id = p.id GROUP BY p.id, p.name",
    "SELECT p.id AS ref, sum(l.amount) AS credit, count(*) AS points FROM crm.parties AS p JOIN crm.lines AS l ON l.party_id = p.id "
    "WHERE l.nr > 1 GROUP BY 1 HAVING sum(l.amount) > 0",
    "SELECT p.id AS ref, sum(l.amount) FILTER (WHERE l.nr = 2) AS credit, count(DISTINCT a.city) AS points FROM crm.parties AS p "
    "LEFT JOIN crm.lines AS l ON l.party_id = p.id LEFT JOIN crm.addresses AS a ON a.party_id = p.id GROUP BY ref",
    "SELECT p.id AS ref, string_agg(a.city, ',' ORDER BY a.city DESC) AS name FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id GROUP BY p.id",
    "SELECT p.id AS ref, first(a.city ORDER BY a.id, a.city) AS name FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id GROUP BY p.id",
    "SELECT p.id AS ref, (SELECT sum(l.amount) FROM crm.lines AS l WHERE l.party_id = p.id AND l.nr > 1) AS credit FROM crm.parties AS p",
    "SELECT p.id AS ref, q.s AS credit FROM crm.parties AS p LEFT JOIN (SELECT l.party_id, sum(l.amount) AS s FROM crm.lines AS l GROUP BY l.party_id "
    "HAVING count(*) > 1) AS q ON q.party_id = p.id",
    "SELECT p.id AS ref, q.c AS name FROM crm.parties AS p JOIN (SELECT a.party_id AS pid, max(c.name) AS c FROM crm.addresses AS a "
    "LEFT JOIN crm.countries AS c ON c.code = a.country GROUP BY 1) AS q ON p.boss = q.pid",
    "SELECT p.id AS ref, p.name AS name FROM crm.parties AS p WHERE EXISTS (SELECT 1 FROM crm.addresses AS a WHERE a.party_id = p.id AND a.kind = 'x')",
    "SELECT p.id AS ref, p.name AS name FROM crm.parties AS p WHERE NOT EXISTS (SELECT * FROM crm.addresses AS a JOIN crm.countries AS c ON c.code = a.country "
    "WHERE a.party_id = p.id AND c.name = p.name)",
    "SELECT p.id AS ref, p.name AS name FROM crm.parties AS p WHERE p.id IN (SELECT party_id FROM crm.addresses WHERE kind = 'x') AND p.boss > 0",
    "SELECT p.id AS ref, CASE WHEN EXISTS (SELECT 1 FROM crm.lines AS l WHERE l.party_id = p.boss AND l.amount > (SELECT avg(m.amount) FROM crm.lines AS m "
    "WHERE m.party_id = p.id)) THEN 1 ELSE 0 END AS points FROM crm.parties AS p",
    "SELECT p.id AS ref, a.city AS name FROM crm.parties AS p, crm.addresses AS a WHERE a.party_id = p.id AND a.kind = 'x'",
    "SELECT p.id AS ref, max(s.code) AS name FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id "
    "LEFT JOIN lookups.us_states AS s ON s.name = a.city GROUP BY p.id",
    "SELECT p.id AS ref, p.name AS name, (SELECT count(*) FROM crm.addresses AS a WHERE a.party_id = p.id AND a.city = p.name) AS points FROM crm.parties AS p "
    "LEFT JOIN crm.lines AS l ON l.party_id = p.id GROUP BY p.id, p.name",
    "SELECT p.id AS ref, l.amount AS credit FROM crm.parties AS p LEFT JOIN crm.lines AS l ON l.party_id = p.id AND l.nr = p.boss",
    "SELECT p.id AS ref, count(*) AS points FROM crm.parties AS p LEFT JOIN crm.addresses AS a ON a.party_id = p.id LEFT JOIN crm.addresses AS o "
    "ON o.city = a.city AND o.id <> a.id GROUP BY p.id",
]  # fmt: skip
OUTPUTS = {"ref": "BIGINT", "name": "VARCHAR", "credit": "DECIMAL(14,4)", "points": "SMALLINT"}

number = st.sampled_from([None, "1", "2", "3", "4"])
text = st.sampled_from([None, "", "a", "New York", "California"])
kind = st.sampled_from([None, "x", "y"])
amount = st.sampled_from([None, "1.50", "-2.00", "0.25"])


def _rows(**columns: st.SearchStrategy[str | None]) -> st.SearchStrategy[list[dict[str, str | None]]]:
    return st.lists(st.fixed_dictionaries(columns), max_size=8)


def _ids(rows: list[dict[str, str | None]]) -> list[dict[str, str | None]]:
    return [row | {"id": str(at)} for at, row in enumerate(rows, start=1)]


database = st.fixed_dictionaries(
    {
        "parties": st.lists(st.fixed_dictionaries({"name": text, "boss": number}), max_size=4).map(_ids),
        "addresses": _rows(party_id=number, kind=kind, city=text, country=st.sampled_from([None, "IT", "DE"])).map(_ids),
        "countries": st.just([{"code": "IT", "name": "a"}, {"code": "DE", "name": "Germany"}]),
        "lines": st.lists(st.fixed_dictionaries({"party_id": number, "nr": number, "amount": amount}), max_size=8),
    }
)


def arrow(table: Table, rows: list[dict[str, str | None]]) -> pa.Table:
    return pa.table({column.name: pa.array([row.get(column.name) for row in rows], type=pa.string()) for column in table.columns})


@functools.cache
def _reference() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("CREATE SCHEMA crm; CREATE SCHEMA lookups")
    for name, types in TYPES.items():
        connection.execute(f"CREATE TABLE crm.{name} ({types})")
    for name, lookup in LOOKUPS.items():
        connection.register("incoming", lookup.rows)
        connection.execute(f"CREATE TABLE lookups.{name} AS SELECT * FROM incoming")
    return connection


def by_sql(sql: str, rows: Mapping[str, list[dict[str, str | None]]]) -> collections.Counter[tuple[str | None, ...]]:
    """The rule's own text in DuckDB, over typed tables."""
    connection = _reference()
    for name in TYPES:
        connection.register("incoming", arrow(BY_NAME[name], rows[name]))
        connection.execute(f"DELETE FROM crm.{name}; INSERT INTO crm.{name} SELECT * FROM incoming")
    outputs = connection.sql(sql).columns
    texts = ", ".join(f"CAST(CAST({name} AS {OUTPUTS[name]}) AS VARCHAR)" for name in outputs)
    return collections.Counter(connection.sql(f"SELECT {texts} FROM ({sql})").fetchall())


def outcome(evaluated: Evaluated, base: pa.Table) -> tuple[dict[str, tuple[str | None, ...]], set[str]]:
    """By the base row's id: what became of it; and the ids of the rejected."""
    ids = base.column("id").to_pylist()
    assert all(one.reason == "other" and "several rows" in one.what for one in evaluated.rejected)
    values = list(zip(*evaluated.values.to_pydict().values(), strict=True))
    return {ids[at]: row for at, row in zip(evaluated.row, values, strict=True)}, {ids[one.row] for one in evaluated.rejected}


def belonging(rule: CompiledRule, base: pa.Table, tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """The rows that `rule.joined` says belong to the base rows."""
    found = {"": base}
    for joined in rule.joined:
        near = {tuple(row[name] for name in joined.there) for row in found[joined.via].to_pylist()}
        rows = tables[joined.table.name.table]
        chosen = [at for at, row in enumerate(rows.to_pylist()) if None not in (key := tuple(row[name] for name in joined.here)) and key in near]
        found[joined.alias] = rows.take(pa.array(chosen, type=pa.int64())).select(list(joined.columns))
    return found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("sql", RULES)
@given(rows=database)
def test_the_same_as_its_own_sql_from_the_rows_that_belong_together(
    compile_sql: Any, evaluator: Any, rules: dict[str, CompiledRule], sql: str, rows: dict[str, list[dict[str, str | None]]]
) -> None:
    rule = rules.setdefault(sql, rules.get(sql) or compiled(compile_sql, sql))
    tables = {name: arrow(BY_NAME[name], given) for name, given in rows.items()}
    base = tables["parties"].select(list(dict.fromkeys(["id", *rule.reads])))
    whole = outcome(evaluator.evaluate_joined(rule, base, {joined.alias: tables[joined.table.name.table] for joined in rule.joined}), base)
    expected = by_sql(sql, rows)
    several = {ref for ref, count in collections.Counter(row[0] for row in expected.elements()).items() if count > 1}
    assert whole == ({str(row[0]): row for row in expected if row[0] not in several}, several)
    together = outcome(evaluator.evaluate_joined(rule, base, belonging(rule, base, tables)), base)
    assert together == whole
    for at in range(base.num_rows):
        one = base.slice(at, 1)
        alone = outcome(evaluator.evaluate_joined(rule, one, belonging(rule, one, tables)), one)
        key = one.column("id")[0].as_py()
        assert alone == ({key: whole[0][key]} if key in whole[0] else {}, {key} & whole[1])


@pytest.fixture(scope="module")
def rules() -> dict[str, CompiledRule]:
    return {}


PARTIES = [{"id": str(at), "name": f"n{at}"} for at in range(1, 101)]


def evaluate(evaluator: Any, rule: CompiledRule, parties: list[Any], **joined: list[Any]) -> Evaluated:
    aliases = {one.alias: one.table for one in rule.joined}
    return evaluator.evaluate_joined(rule, arrow(BY_NAME["parties"], parties), {alias: arrow(aliases[alias], rows) for alias, rows in joined.items()})


def test_a_value_that_cannot_be_read_is_a_fault_of_the_rows_that_use_it(compile_sql: Any, evaluator: Any) -> None:
    rule = compiled(
        compile_sql,
        "SELECT p.id AS ref, max(a.moved) AS touched FROM crm.parties AS p LEFT JOIN crm.addresses AS a ON a.party_id = p.id AND a.kind = 'x' GROUP BY p.id",
    )
    rows = [{"id": "1", "party_id": str(at), "kind": "x", "moved": "2024-01-01 10:00:00+00"} for at in range(1, 101)]
    rows[6]["moved"] = rows[50]["moved"] = "0000-00-00 00:00:00+00"
    rows[60] |= {"moved": "0000-00-00 00:00:00+00", "kind": "y"}
    rows.append({"id": "2", "party_id": "700", "kind": "x", "moved": "0000-00-00 00:00:00+00"})
    evaluated = evaluate(evaluator, rule, PARTIES, a=rows)
    assert [one.row for one in evaluated.rejected] == [6, 50]
    assert {(one.column, one.reason) for one in evaluated.rejected} == {("touched", "other")}
    assert evaluated.row.tolist() == [at for at in range(100) if at not in (6, 50)]
    assert evaluated.values["touched"].to_pylist()[0] == "2024-01-01 10:00:00+00"
    assert evaluated.values["touched"].to_pylist()[58] is None
    assert not any("0000" in one.what for one in evaluated.rejected)


def test_a_value_that_stands_alone_is_taken_over_as_it_is(compile_sql: Any, evaluator: Any) -> None:
    rule = compiled(compile_sql, "SELECT p.id AS ref, a.country AS name FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id AND a.moved IS NULL")
    assert evaluate(evaluator, rule, PARTIES[:1], a=[{"party_id": "1", "country": " Ω "}]).values.to_pylist() == [{"ref": "1", "name": " Ω "}]


def test_a_fault_in_where_or_a_join_is_told_without_a_column(compile_sql: Any, evaluator: Any) -> None:
    rule = compiled(compile_sql, "SELECT p.id AS ref FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id WHERE CAST(a.city AS INTEGER) > 5")
    rows = [{"party_id": "1", "city": "9"}, {"party_id": "2", "city": "secret"}, {"party_id": "3", "city": "1"}]
    evaluated = evaluate(evaluator, rule, PARTIES[:3], a=rows)
    assert evaluated.row.tolist() == [0]
    ((row, column, what),) = [(one.row, one.column, one.what) for one in evaluated.rejected]
    assert (row, column) == (1, "") and what.startswith("WHERE, GROUP BY or a join condition: ") and "secret" not in what


def test_order_of_the_rows_does_not_matter(compile_sql: Any, evaluator: Any) -> None:
    rule = compiled(
        compile_sql,
        "SELECT p.id AS ref, first(a.city ORDER BY a.kind) AS name FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id GROUP BY p.id",
    )
    rows = [{"party_id": "1", "kind": "x", "city": city} for city in ("c", "a", "b")]
    for order in (rows, rows[::-1]):
        assert evaluate(evaluator, rule, PARTIES[:1], a=order).values["name"].to_pylist() == ["a"]


def test_several_rows_for_one_are_rejected_and_the_others_are_not(compile_sql: Any, evaluator: Any) -> None:
    rule = compiled(compile_sql, "SELECT p.id AS ref, a.city AS name FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id")
    rows = [{"party_id": at, "city": at} for at in ("3", "2", "2", "1")]
    evaluated = evaluate(evaluator, rule, PARTIES[:3], a=rows)
    assert evaluated.values.to_pydict() == {"ref": ["1", "3"], "name": ["1", "3"]}
    assert [(one.row, one.what[:36]) for one in evaluated.rejected] == [(1, "the rule gives several rows for one;")]


def test_values_are_fitted_into_the_target(compile_sql: Any, evaluator: Any) -> None:
    rule = compiled(compile_sql, "SELECT p.id AS ref, l.amount AS credit, l.nr AS points FROM crm.parties AS p LEFT JOIN crm.lines AS l ON l.party_id = p.id")
    rows = [{"party_id": "1", "nr": "5", "amount": "1.50"}, {"party_id": "2", "nr": "70000", "amount": "1.00"}]
    evaluated = evaluate(evaluator, rule, PARTIES[:3], l=rows)
    assert evaluated.values.to_pylist() == [{"ref": "1", "credit": "1.5000", "points": "5"}, {"ref": "3", "credit": None, "points": None}]
    assert [(one.row, one.column, one.reason) for one in evaluated.rejected] == [(1, "points", "range")]


def test_no_rows(compile_sql: Any, evaluator: Any) -> None:
    rule = compiled(compile_sql, "SELECT p.id AS ref, a.city AS name FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id")
    evaluated = evaluate(evaluator, rule, [], a=[])
    assert len(evaluated.row) == 0 and evaluated.rejected == ()
    assert evaluated.values.schema == pa.schema([("ref", pa.string()), ("name", pa.string())])


def test_two_rules_of_one_name_take_turns(compile_sql: Any, evaluator: Any) -> None:
    join = "FROM crm.parties AS p JOIN crm.addresses AS a ON a.party_id = p.id"
    first, second = compiled(compile_sql, f"SELECT p.id AS ref, a.city AS name {join}"), compiled(compile_sql, f"SELECT p.id AS ref, a.kind AS name {join}")
    rows = [{"party_id": "1", "city": "c", "kind": "k"}]
    for _ in range(2):
        assert evaluate(evaluator, first, PARTIES[:1], a=rows).values["name"].to_pylist() == ["c"]
        assert evaluate(evaluator, second, PARTIES[:1], a=rows).values["name"].to_pylist() == ["k"]


def test_tables_that_stand_side_by_side_are_joined_before_they_are_filtered(compile_sql: Any, evaluator: Any) -> None:
    rule = compiled(compile_sql, "SELECT p.id AS ref, a.city AS name FROM crm.parties AS p, crm.addresses AS a WHERE a.party_id = p.id")
    parties = [{"id": str(at)} for at in range(20_000)]
    evaluated = evaluate(evaluator, rule, parties, a=[{"party_id": str(at), "city": "c"} for at in range(20_000)])
    assert len(evaluated.row) == 20_000
