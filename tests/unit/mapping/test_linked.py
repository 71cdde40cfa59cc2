"""Rules with a link and xref(): what they compile to, and what is refused."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from engine.mapping.evaluator import Evaluator
from engine.mapping.linked import compile_linked
from engine.mapping.rule import CompiledRule
from engine.model.schema import Column, Table, TableName
from engine.model.types import DataType, Kind
from engine.ports import Problem

BIG, SMALL = DataType(kind=Kind.INT, name="bigint", bits=64), DataType(kind=Kind.INT, name="smallint", bits=16)
TEXT = DataType(kind=Kind.TEXT, name="text")


def table(system: str, name: str, *columns: Column) -> Table:
    return Table(name=TableName(system, "s", name), columns=columns, primary_key=(columns[0].name,), unique=((columns[0].name,),), log_key=(columns[0].name,))


ACCOUNTS = table("crm", "accounts", Column(name="id", type=BIG, nullable=False, default=True, made=True), Column(name="name", type=TEXT))
NOTE = Column(name="note", type=TEXT)
DEALS = table("crm", "deals", Column(name="id", type=BIG, nullable=False), Column(name="account_id", type=BIG), Column(name="note", type=TEXT))
CUSTOMERS = table("erp", "customers", Column(name="no", type=BIG, nullable=False, default=True, made=True), Column(name="title", type=TEXT))
ORDERS = table("erp", "orders", Column(name="id", type=BIG, nullable=False), Column(name="customer_no", type=SMALL, nullable=False), NOTE)
TABLES = {(t.name.system, t.name.table): t for t in (ACCOUNTS, DEALS, CUSTOMERS, ORDERS)}
ENDS = {"customer": {"crm": ACCOUNTS, "erp": CUSTOMERS}}


def compiled(sql: str, into: str = "orders", key: tuple[str, ...] = ("id",), link: str = "", match: tuple[tuple[str, ...], ...] = (), **tables: Table
             ) -> tuple[CompiledRule | None, list[Problem]]:
    def live(system: str, _schema: str, name: str) -> Table:
        return tables.get(name, TABLES[system, name])

    return compile_linked(
        name="r", sql=sql, into=TableName("erp", "s", into), key=key, link=link, match=match, ends=ENDS, table=live, lookups={},
        adapters={"crm": "postgres", "erp": "postgres"},
    )  # fmt: skip


def test_a_link_takes_the_key_from_the_target() -> None:
    rule, problems = compiled("SELECT a.name AS title FROM crm.accounts AS a", "customers", (), "customer", (("title",),))
    assert rule is not None, problems
    assert (rule.key, rule.columns, rule.written, rule.link) == (("no",), ("title",), ("title", "no"), "customer")


@pytest.mark.parametrize("argument", ["d.account_id", "d.account_id + 0", "coalesce(d.account_id, 7)"])
def test_xref_gives_the_key_of_the_other_side_null_for_null_and_waits_where_there_is_no_link(argument: str) -> None:
    rule, problems = compiled(f"SELECT d.id AS id, xref('customer', 'erp', {argument}) AS customer_no, d.note AS note FROM crm.deals AS d",
                              orders=replace(ORDERS, columns=(*ORDERS.columns[:1], Column(name="customer_no", type=SMALL), *ORDERS.columns[2:])))
    assert rule is not None, problems
    assert rule.lineage["customer_no"] == ("account_id",)
    evaluator = Evaluator({})
    pairs = {"7": "70", "8": "80", "9": "70000"}

    def linked(name: str, keys: pa.StringArray) -> pa.StringArray:
        assert name == "customer:crm:erp"
        return pa.array([pairs.get(key) for key in keys.to_pylist()], pa.string())

    evaluator.linked = linked
    rows = pa.table({"id": ["1", "2", "3", "4"], "account_id": ["7", None, "5", "9"], "note": ["a", "b", "c", "d"]})
    found = evaluator.evaluate(rule, rows)
    assert found.values.column("customer_no").to_pylist() == ["70", "70" if "coalesce" in argument else None]
    assert [(r.row, r.reason, r.waits) for r in found.rejected] == [(2, "foreign_key", ("customer:crm:erp", "5")), (3, "range", None)]
    assert "waits for customer 5 to be linked" in found.rejected[0].what


def test_a_missing_argument_leaves_the_cell_out_and_does_not_wait() -> None:
    rule, problems = compiled("SELECT d.id AS id, xref('customer', 'erp', d.account_id) AS customer_no FROM crm.deals AS d")
    assert rule is not None, problems
    rows = pa.table({"id": pa.array(["1"]), "account_id": pa.array([None], pa.string())})
    found = Evaluator({}).evaluate(rule, rows, np.array([[False, True]]))
    assert found.values.column("customer_no").to_pylist() == [None] and found.rejected == ()
    assert [r.reason for r in Evaluator({}).evaluate(rule, rows).rejected] == ["not_null"]


DEAL = "SELECT d.id AS id, {} AS customer_no FROM crm.deals AS d"


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"sql": DEAL.format("xref('client', 'erp', d.account_id)")}, "there is no link client"),
        ({"sql": DEAL.format("xref('customer', 'crm', d.account_id)")}, "but the rule writes into erp"),
        ({"sql": DEAL.format("xref('customer', 'erp', d.account_id) + 1")}, "xref() stands for a whole column only"),
        ({"sql": DEAL.format("xref('customer', 'erp', d.nothing)")}, "nothing"),
        ({"sql": "SELECT a.id AS no FROM crm.accounts AS a", "into": "customers", "key": (), "link": "customer"}, "makes this column by itself"),
        ({"sql": "SELECT d.note AS note FROM crm.deals AS d", "key": (), "link": "order"}, "does not make its key id by itself"),
        ({"sql": "SELECT a.name AS title FROM crm.accounts AS a", "into": "customers", "key": (), "link": "customer", "match": (("vat",),)}, "match names vat"),
    ],
)  # fmt: skip
def test_refused_with_the_reason(given: dict[str, object], what: str) -> None:
    rule, problems = compiled(**given)  # type: ignore[arg-type]
    assert rule is None
    assert [p for p in problems if p.severity == "error" and what in p.what], problems
