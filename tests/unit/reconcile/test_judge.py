"""Which cells a rule answers for, and what excuses them."""
from __future__ import annotations

from collections.abc import Mapping

from engine.mapping.rule import CompiledRule, Plan
from engine.model.schema import Column, Table, TableName
from engine.model.types import DataType, Kind
from engine.reconcile.compare import choose
from engine.reconcile.judge import Judged, Subject, judged, opposite, siblings

TEXT = DataType(kind=Kind.TEXT, name="text")
NOTHING = Plan(outputs=(), query=None)


def table(system: str, name: str, *columns: str) -> Table:
    return Table(name=TableName(system, "s", name), columns=tuple(Column(name=c, type=TEXT) for c in columns), primary_key=columns[:1])


ACCOUNTS = table("crm", "accounts", "id", "first", "last", "state", "credit")
CUSTOMERS = table("erp", "customers", "ref", "name", "code", "credit")
OTHERS = table("crm", "partners", "id", "name")


def rule(name: str, source: Table, target: Table, lineage: Mapping[str, tuple[str, ...]]) -> CompiledRule:
    columns = tuple(lineage)
    return CompiledRule(name=name, source=source, target=target, key=columns[:1], columns=columns, reads=(), filter_reads=(), lineage=lineage,
                        plan=NOTHING, key_plan=NOTHING)


FORTH = rule("forth", ACCOUNTS, CUSTOMERS, {"ref": ("id",), "name": ("first", "last"), "code": ("state",), "credit": ("credit",)})
BACK = rule("back", CUSTOMERS, ACCOUNTS, {"id": ("ref",), "first": ("name",), "last": ("name",), "state": ("code",), "credit": ("credit",)})
MORE = rule("more", OTHERS, CUSTOMERS, {"ref": ("id",), "name": ("name",)})


def test_a_one_way_rule_judges_every_column_but_the_key_without_excuse() -> None:
    assert judged(Subject(rule=FORTH), None) == (Judged(column="name"), Judged(column="code"), Judged(column="credit"))


def test_in_a_link_the_columns_that_lead_back_excuse() -> None:
    found = {j.column: j.excuses for j in judged(Subject(rule=FORTH), Subject(rule=BACK))}
    assert found == {"name": ("first", "last"), "code": ("state",), "credit": ("credit",)}
    assert {j.column: j.excuses for j in judged(Subject(rule=BACK), Subject(rule=FORTH))}["last"] == ("name",)


def test_a_column_that_does_not_lead_back_has_no_excuse() -> None:
    back = rule("back", CUSTOMERS, ACCOUNTS, {"id": ("ref",), "state": ("name",)})
    assert {j.column: j.excuses for j in judged(Subject(rule=FORTH), Subject(rule=back))}["code"] == ()


def test_the_owners_direction_judges_and_nothing_excuses() -> None:
    forth, back = Subject(rule=FORTH, owners={"credit": "erp"}), Subject(rule=BACK)
    assert "credit" not in [j.column for j in judged(forth, back)]
    assert Judged(column="credit", owned=True) in judged(back, forth)
    assert "credit" not in [j.column for j in judged(forth, None)]


def test_directions_and_siblings_are_told_by_their_tables() -> None:
    subjects = [Subject(rule=r) for r in (FORTH, MORE, BACK)]
    assert [opposite(subjects, i) for i in range(3)] == [2, None, 0]
    assert [siblings(subjects, i) for i in range(3)] == [(1,), (0,), ()]


def test_a_selected_rule_brings_those_it_is_judged_with() -> None:
    subjects = [Subject(rule=r) for r in (FORTH, MORE, BACK)]
    assert [(s.rule.name, s.selected) for s in choose(subjects, ["back"])] == [("forth", False), ("back", True)]
    assert [(s.rule.name, s.selected) for s in choose(subjects, ["more"])] == [("forth", False), ("more", True)]
    assert all(s.selected for s in choose(subjects, []))
