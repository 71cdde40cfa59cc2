"""Rows of a rule with joins are compared some at a time where what is joined to them is large."""
from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from engine.errors import Oversized
from engine.mapping.compiler import compile_rule
from engine.mapping.evaluator import Evaluator
from engine.model.schema import Table, TableName
from engine.reconcile.judge import Subject
from engine.reconcile.workspace import Workspace
from tests.unit.runtime import fakes

TABLES = {
    "account": fakes.table("crm", "account", ("id", "name")),
    "address": fakes.table("crm", "address", ("id", "account", "street")),
    "customer": fakes.table("erp", "customer", ("id", "name", "street")),
}
SQL = "SELECT a.id AS id, a.name AS name, d.street AS street FROM crm.account AS a LEFT JOIN crm.address AS d ON d.id = a.id"


@pytest.mark.parametrize("most", [None, 500])
def test_joined_rows_that_are_large_together_are_fetched_in_lots_with_the_same_verdict(most: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if most is not None:
        monkeypatch.setattr("engine.reconcile.workspace.FETCH_BYTES", most)
    read: list[pa.Table] = []

    def fetch(_table: Table, columns: Sequence[str], by: Sequence[str], keys: pa.Table, bytes_at_most: int | None) -> pa.Table:
        ids = keys.column(by[0]).to_pylist()
        found = pa.table({"id": ids, "account": ids, "street": [id * (400 if id == "9" else 50) for id in ids]}).select(list(columns))
        if bytes_at_most is not None and found.nbytes > bytes_at_most:
            raise Oversized
        read.append(found)
        return found

    rule, problems = compile_rule(
        name="r", sql=SQL, into=TableName("erp", "s", "customer"), key=("id",), table=lambda _system, _schema, name: TABLES[name], lookups={}
    )
    assert rule is not None, problems
    space = Workspace([Subject(rule=rule)], Evaluator({}), 1, fetch)
    ids = [str(n) for n in range(10, 30)] + ["9"]
    space.load(TABLES["account"].name, ("id",), pa.table({"id": ids, "name": ["n"] * 21}))
    space.load(TABLES["customer"].name, ("id",), pa.table({"id": ids, "name": ["n"] * 21, "street": [id * (400 if id == "9" else 50) for id in ids]}))
    space.classify({}, {})
    assert space.db.execute("SELECT class, count(*) FROM u0 GROUP BY class").fetchall() == [(0, 21)]
    space.close()
    if most is None:
        assert len(read) == 1
    else:
        assert len(read) > 5 and all(rows.nbytes <= most or len(rows) == 1 for rows in read)
