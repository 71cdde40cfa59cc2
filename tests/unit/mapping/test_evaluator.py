"""What becomes of rows: the cases of rows.sql, each row alone and all together, and what the evaluator promises about its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.mapping.evaluator import Evaluated

ROWS = Path(__file__).parents[2] / "fixtures" / "rules" / "rows.sql"


def cases() -> list[Any]:
    """([(row, what becomes of it)], sql) per case of the file."""
    found = []
    for block in ROWS.read_text("utf-8").split("\n-- # ")[1:]:
        title, *lines = block.splitlines()
        headers = [line.removeprefix("-- ") for line in lines if line.startswith("-- ")]
        given = [json.loads(line.removeprefix("in: ")) for line in headers if line.startswith("in: ")]
        become = [line for line in headers if not line.startswith("in: ")]
        sql = "\n".join(line for line in lines if not line.startswith("-- "))
        found.append(pytest.param(list(zip(given, become, strict=True)), sql, id=title))
    return found


def become_of(evaluated: Evaluated, row: int) -> str | dict[str, str | None] | tuple[str, str, str]:
    rejected = [one for one in evaluated.rejected if one.row == row]
    kept = np.flatnonzero(evaluated.row == row)
    assert len(rejected) + len(kept) <= 1
    if rejected:
        return rejected[0].column, rejected[0].reason, rejected[0].what
    return evaluated.values.slice(int(kept[0]), 1).to_pylist()[0] if len(kept) else "filtered"


def check(evaluated: Evaluated, row: int, wanted: str) -> None:
    found = become_of(evaluated, row)
    kind, _, text = wanted.partition(": ")
    if kind == "rejected":
        column, reason, *words = text.split(" ")
        assert isinstance(found, tuple), found
        assert found[:2] == (column.strip("-"), reason)
        assert " ".join(words) in found[2]
    else:
        assert found == (json.loads(text) if kind == "out" else "filtered")


@pytest.mark.parametrize(("rows", "sql"), cases())
def test_rows_become_what_the_rule_says(compile_sql: Any, evaluator: Any, accounts: Any, rows: list[Any], sql: str) -> None:
    rule, problems = compile_sql(sql)
    assert rule is not None, problems
    together = evaluator.evaluate(rule, accounts(*(given for given, _ in rows)))
    for number, (_, wanted) in enumerate(rows):
        check(together, number, wanted)
    many = evaluator.evaluate(rule, accounts(*(given | {"id": str(at % len(rows) + 1)} | given for at in range(100) for given, _ in rows)))
    for number in range(100 * len(rows)):
        assert (become_of(many, number) == "filtered") == (rows[number % len(rows)][1] == "filtered")
        assert isinstance(become_of(many, number), tuple) == rows[number % len(rows)][1].startswith("rejected")


def test_empty_batch(compile_sql: Any, evaluator: Any, accounts: Any) -> None:
    for sql in ("SELECT a.id AS ref, a.name AS name FROM crm.accounts AS a", "SELECT a.id AS ref, trim(a.name) AS name FROM crm.accounts AS a"):
        rule, _ = compile_sql(sql)
        evaluated = evaluator.evaluate(rule, accounts().slice(0, 0))
        assert len(evaluated.row) == 0 and evaluated.rejected == ()
        assert evaluated.values.schema == pa.schema([("ref", pa.string()), ("name", pa.string())])


def test_result_is_string_columns_in_the_rules_order(compile_sql: Any, evaluator: Any, accounts: Any) -> None:
    rule, _ = compile_sql("SELECT trim(a.name) AS name, a.flag + 1 AS points, a.id AS ref FROM crm.accounts AS a")
    for count in (1, 1000):
        evaluated = evaluator.evaluate(rule, accounts(*[{"flag": "1"}] * count))
        assert evaluated.values.schema == pa.schema([("name", pa.string()), ("points", pa.string()), ("ref", pa.string())])
        assert evaluated.row.dtype == np.int64
        assert evaluated.values.column_names == list(rule.columns)


def test_rows_may_have_more_columns_and_several_chunks(compile_sql: Any, evaluator: Any, accounts: Any) -> None:
    rule, _ = compile_sql("SELECT a.id AS ref, a.name || a.state AS name FROM crm.accounts AS a")
    rows = accounts({"state": "1"}, {"state": "2"}, {"state": "3"})
    chunked = pa.concat_tables([rows.slice(0, 1), rows.slice(1)]).append_column("more", pa.array(["x"] * 3))
    assert evaluator.evaluate(rule, chunked).values.to_pydict()["name"] == ["Anna1", "Anna2", "Anna3"]
    few = rows.select(list(rule.reads))
    assert evaluator.evaluate(rule, few).values.to_pydict()["name"] == ["Anna1", "Anna2", "Anna3"]


def test_missing_values_never_reject_and_are_null(compile_sql: Any, evaluator: Any, accounts: Any) -> None:
    rule, _ = compile_sql("SELECT a.id AS ref, coalesce(a.state, 'none') AS region, a.name AS must FROM crm.accounts AS a", into="strict2", tables=STRICT)
    rows = accounts({"Name": None}, {"Name": None}, {"Name": "x"})
    missing = np.zeros((3, rows.num_columns), dtype=np.bool_)
    missing[0, [rows.column_names.index("Name"), rows.column_names.index("state")]] = True
    evaluated = evaluator.evaluate(rule, rows, missing)
    assert evaluated.row.tolist() == [0, 2]
    assert evaluated.values.to_pylist() == [
        {"ref": "1", "region": None, "must": None},
        {"ref": "3", "region": "none", "must": "x"},
    ]
    assert [(one.row, one.column, one.reason) for one in evaluated.rejected] == [(1, "must", "not_null")]


def test_keys_need_only_what_the_key_derives_from(compile_sql: Any, evaluator: Any, accounts: Any) -> None:
    rule, _ = compile_sql(
        "SELECT a.name AS name, CAST(a.id AS BIGINT) + 1 AS ref, s.code AS region FROM crm.accounts AS a "
        "JOIN lookups.us_states AS s ON s.name = a.state WHERE a.status = 'approved'"
    )
    keys = evaluator.keys(rule, accounts({"id": "1"}, {"id": "7"}).select(["id"]))
    assert keys.row.tolist() == [0, 1]
    assert keys.values.to_pydict() == {"ref": ["2", "8"]}


def test_key_columns_come_in_the_keys_order(compile_sql: Any, evaluator: Any, accounts: Any) -> None:
    rule, _ = compile_sql("SELECT trim(a.name) AS name, upper(a.state) AS region, a.id AS ref FROM crm.accounts AS a", key=("ref", "region", "name"))
    keys = evaluator.keys(rule, accounts({"Name": " x ", "state": "y"}))
    assert keys.values.column_names == ["ref", "region", "name"]
    assert keys.values.to_pylist() == [{"ref": "1", "region": "Y", "name": "x"}]


def test_keys_through_a_lookup(compile_sql: Any, evaluator: Any, accounts: Any) -> None:
    rule, _ = compile_sql(
        "SELECT a.id AS ref, s.code AS region, a.name AS name FROM crm.accounts AS a LEFT JOIN lookups.us_states AS s ON s.name = a.state",
        key=("region",),
    )
    keys = evaluator.keys(rule, accounts({"state": "New York"}, {"state": "Bavaria"}).select(["state"]))
    assert keys.values.to_pydict() == {"region": ["NY"]}
    assert [(one.row, one.reason) for one in keys.rejected] == [(1, "not_null")]


def test_several_rules_take_turns(compile_sql: Any, evaluator: Any, accounts: Any) -> None:
    first, _ = compile_sql("SELECT a.id AS ref, upper(a.name) AS name FROM crm.accounts AS a")
    second, _ = compile_sql("SELECT a.id AS ref, a.state || '!' AS region FROM crm.accounts AS a")
    for _ in range(2):
        assert evaluator.evaluate(first, accounts({})).values.to_pylist() == [{"ref": "1", "name": "ANNA"}]
        assert evaluator.evaluate(second, accounts({"state": "x"})).values.to_pylist() == [{"ref": "1", "region": "x!"}]


def test_no_row_at_fault_costs_the_others_theirs(compile_sql: Any, evaluator: Any, accounts: Any) -> None:
    rule, _ = compile_sql("SELECT a.id AS ref, CAST(a.state AS SMALLINT) AS points FROM crm.accounts AS a WHERE CAST(a.\"select\" AS INTEGER) > 0")
    rows = [{"state": str(at) if at % 3 else "secret", "select": "1" if at % 5 else "hidden"} for at in range(1000)]
    evaluated = evaluator.evaluate(rule, accounts(*rows))
    assert evaluated.row.tolist() == [at for at in range(1000) if at % 3 and at % 5]
    assert [one.row for one in evaluated.rejected] == [at for at in range(1000) if not (at % 3 and at % 5)]
    assert not any("secret" in one.what or "hidden" in one.what for one in evaluated.rejected)


def test_rule_that_reads_nothing(compile_sql: Any, evaluator: Any, accounts: Any) -> None:
    rule, _ = compile_sql("SELECT 1 AS ref, 'x' AS name FROM crm.accounts AS a")
    assert evaluator.evaluate(rule, accounts({}, {})).values.to_pylist() == [{"ref": "1", "name": "x"}] * 2


def _strict() -> dict[tuple[str, str], Any]:
    from engine.model.schema import Column, Table, TableName
    from engine.model.types import DataType, Kind

    text = DataType(kind=Kind.TEXT, name="text")
    number = DataType(kind=Kind.INT, name="int8", bits=64)
    columns = (Column(name="ref", type=number, nullable=False), Column(name="region", type=text), Column(name="must", type=text, nullable=False))
    return {("erp", "strict2"): Table(name=TableName("erp", "public", "strict2"), columns=columns, unique=(("ref",),))}


STRICT = _strict()
