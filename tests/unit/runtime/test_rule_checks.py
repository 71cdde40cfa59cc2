"""What settings and compiled rules must agree on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sqlglot
from pydantic import SecretStr

from engine.mapping.extent import extent_of
from engine.mapping.rule import CompiledRule, JoinedTable, Output, Plan, Xref
from engine.model.schema import Column, ForeignKey, Table, TableName
from engine.model.types import DataType, Kind
from engine.runtime.assembly import named_tables
from engine.runtime.rule_checks import pair_problems, rule_problems, set_problems, unique_key
from engine.settings import RuleSettings, SetCells, Settings, SystemSettings

TEXT = DataType(kind=Kind.TEXT, name="text")
STAMP = DataType(kind=Kind.INSTANT, name="timestamptz")
EMPTY = Plan(outputs=(), query=None)


def table(system: str, name: str, *, unique: tuple[tuple[str, ...], ...] = (("id",),)) -> Table:
    columns = (
        Column(name="id", type=TEXT, nullable=False),
        Column(name="name", type=TEXT),
        Column(name="updated_at", type=STAMP),
        Column(name="upper_name", type=TEXT, generated=True),
    )
    return Table(name=TableName(system, "public", name), columns=columns, primary_key=("id",), unique=unique, log_key=("id",))


def compiled(name: str = "customers", source: Table | None = None, target: Table | None = None, key: tuple[str, ...] = ("id",)) -> CompiledRule:
    columns = ("id", "name")
    return CompiledRule(
        name=name,
        source=source or table("crm", "accounts"),
        target=target or table("erp", "customers"),
        key=key,
        columns=columns,
        reads=columns,
        filter_reads=(),
        lineage={column: (column,) for column in columns},
        plan=EMPTY,
        key_plan=EMPTY,
    )


def configured(**given: object) -> RuleSettings:
    return RuleSettings.model_validate({"name": "customers", "statement": "SELECT", "into": ("erp", "", "customers"), "key": ("id",), **given})


def whole(capture: bool = True, rules: tuple[RuleSettings, ...] = ()) -> Settings:
    systems = {
        name: SystemSettings(name=name, adapter="postgres", url=SecretStr("postgresql://h/x"), options={"capture": capture}) for name in ("crm", "erp", "shop")
    }
    return Settings(path=Path("/x.toml"), name="x", state=Path("/s"), systems=systems, lookups={}, rules=rules, batch_rows=1, batch_ms=1, chunk_rows=1)


def found(settings: RuleSettings, rule: CompiledRule | None = None, *, capture: bool = True) -> list[tuple[str, str, str]]:
    return [(p.severity, p.where, f"{p.what} | {p.fix}") for p in rule_problems(settings, rule or compiled(), whole(capture))]


def test_a_sound_rule_has_no_problem() -> None:
    settings = configured(owners={"name": "erp"}, on_exit=SetCells(set={"name": None}), on_delete="ignore", clock="updated_at", conflict="owner:crm")
    assert found(settings) == []


@pytest.mark.parametrize(
    ("given", "where", "words"),
    [
        ({"owners": {"nam": "erp"}}, "rule customers, owners.nam", "does not write the column nam | did you mean name?"),
        ({"owners": {"id": "erp"}}, "rule customers, owners.id", "part of the key"),
        ({"owners": {"name": "shop"}}, "rule customers, owners.name", "on neither side of the rule | name crm or erp"),
        ({"policies": {"phone": "manual"}}, "rule customers, policies.phone", "does not write the column phone"),
        ({"policies": {"name": "owner:shop"}}, "rule customers, policies.name", "on neither side"),
        ({"conflict": "owner:shop"}, "rule customers, conflict", "on neither side"),
        ({"on_delete": SetCells(set={"nam": 1})}, "rule customers, on_delete.set.nam", "has no column nam | did you mean name?"),
        ({"on_exit": SetCells(set={"id": 1})}, "rule customers, on_exit.set.id", "part of the key"),
        ({"on_exit": SetCells(set={"upper_name": 1})}, "rule customers, on_exit.set.upper_name", "computes upper_name by itself"),
        ({"clock": "updated"}, "rule customers, clock", "has no column updated | did you mean updated_at?"),
        ({"clock": "name"}, "rule customers, clock", "name is text, no date with time"),
    ],
)
def test_settings_that_do_not_fit_the_rule(given: dict[str, object], where: str, words: str) -> None:
    ((severity, place, said),) = found(configured(**given))
    assert (severity, place) == ("error", where)
    assert words in said


def test_a_rule_within_one_system_is_refused() -> None:
    ((severity, _, said),) = found(configured(), compiled(target=table("crm", "copies")))
    assert severity == "error"
    assert "reads and writes the same system, crm" in said


def test_a_source_whose_log_is_not_read_is_refused() -> None:
    ((severity, _, said),) = found(configured(), capture=False)
    assert severity == "error"
    assert "capture = false" in said


@pytest.mark.parametrize(
    ("key", "unique", "protected"),
    [
        (("id",), (("id",),), True),
        (("id", "name"), (("id",),), True),
        (("id", "name"), (("name", "id"),), True),
        (("id",), (("id", "name"),), False),
        (("id",), (), False),
    ],
)
def test_a_key_without_a_unique_index_is_a_warning(key: tuple[str, ...], unique: tuple[tuple[str, ...], ...], protected: bool) -> None:
    rule = compiled(target=table("erp", "customers", unique=unique), key=key)
    assert unique_key(rule) == protected
    assert [severity for severity, _, _ in found(configured(), rule)] == ([] if protected else ["warning"])


def test_two_rules_on_one_table_need_one_key_and_do_not_share_columns() -> None:
    first, other_source = compiled("a"), compiled("b", source=table("shop", "accounts"))
    (problem,) = set_problems([first, other_source])
    assert (problem.severity, problem.where) == ("error", "rule b")
    assert "writes the column name of erp.public.customers from shop.public.accounts, the rule a from crm.public.accounts" in problem.what
    (problem,) = set_problems([first, compiled("c", key=("name",))])
    assert "by (name), the rule a by (id)" in problem.what
    (problem,) = set_problems([first, compiled("d"), compiled("e", target=table("erp", "others"))])
    assert (problem.severity, problem.where) == ("error", "rule d")
    assert "for which the rule a writes them as well" in problem.what


@pytest.mark.parametrize(
    ("one", "other", "severity"),
    [
        ("WHERE a.kind = 'billing'", "WHERE b.kind = 'shipping' AND b.city <> ''", None),
        ("WHERE a.kind IN ('x', 'y') AND a.city <> ''", "WHERE 'z' = b.kind", None),
        ("WHERE a.kind IS NULL", "WHERE b.kind = 'z'", None),
        ("WHERE a.active", "WHERE NOT b.active", None),
        ("WHERE lower(a.kind) = 'x'", "WHERE LOWER(b.kind) = 'y'", None),
        ("WHERE a.kind IN ('x', 'y')", "WHERE b.kind IN ('y', 'z')", "warning"),
        ("WHERE a.kind = 'x' OR a.active", "WHERE b.kind = 'y'", "warning"),
        ("WHERE a.kind = 'x'", "WHERE b.city = 'y'", "warning"),
        ("", "WHERE b.kind = 'x'", "error"),
        ("JOIN crm.kinds AS k ON k.id = a.kind WHERE k.name = 'x'", "WHERE b.name = 'y'", "warning"),
    ],
)
def test_two_rules_may_write_one_column_where_no_row_belongs_to_both(one: str, other: str, severity: str | None) -> None:
    def rule(name: str, alias: str, where: str) -> CompiledRule:
        select = sqlglot.parse_one(f"SELECT {alias}.id AS id, {alias}.name AS name FROM crm.accounts AS {alias} {where}", dialect="duckdb")
        return replace(compiled(name), extent=extent_of(select, ("id", "name")), filter_reads=("kind",) if where else ())  # type: ignore[arg-type]

    assert [p.severity for p in set_problems([rule("a", "a", one), rule("b", "b", other)])] == ([severity] if severity else [])


def test_a_constant_in_the_key_keeps_rules_apart_whatever_they_read() -> None:
    def rule(name: str, kind: str, source: Table) -> CompiledRule:
        select = sqlglot.parse_one(f"SELECT a.id AS id, '{kind}' AS kind, a.name AS name FROM crm.x AS a", dialect="duckdb")
        return replace(compiled(name, source=source, key=("id", "kind")), extent=extent_of(select, ("id", "kind", "name")))  # type: ignore[arg-type]

    billing, shipping = rule("a", "billing", table("crm", "accounts")), rule("b", "shipping", table("crm", "depots"))
    assert set_problems([billing, shipping]) == []
    assert [p.severity for p in set_problems([billing, rule("c", "billing", table("crm", "depots"))])] == ["error"]


JOINED = JoinedTable(alias="p", table=table("crm", "party"), columns=("id",), via="", here=("id",), there=("id",))


@pytest.mark.parametrize(
    ("action", "joins", "warned"),
    [("CASCADE", True, True), ("SET NULL", True, True), ("NO ACTION", True, False), ("RESTRICT", True, False), ("CASCADE", False, False)],
)
def test_rows_that_a_delete_of_their_parent_would_take_along_are_told(action: str, joins: bool, warned: bool) -> None:
    parent = replace(compiled("a"), joined=(JOINED,) if joins else ())
    foreign = ForeignKey(columns=("name",), parent=parent.target.name, parent_columns=("id",), on_delete=action)
    child = compiled("b", source=table("crm", "orders"), target=replace(table("erp", "orders"), foreign_keys=(foreign,)))
    found = set_problems([parent, child])
    assert [(p.severity, p.where) for p in found] == ([("warning", "rule a")] if warned else [])
    assert all(f"erp.public.orders refers to erp.public.customers with ON DELETE {action}" in p.what for p in found)
    assert set_problems([child]) == []  # nobody writes the parent


BACK = {"name": "accounts", "into": ("crm", "", "accounts")}


@pytest.mark.parametrize(
    ("there", "back", "words"),
    [
        ({}, {}, None),
        ({"owners": {"name": "erp"}}, {"owners": {"name": "erp"}}, None),
        ({"owners": {"name": "erp"}}, {"conflict": "source_wins"}, None),
        ({"conflict": "source_wins"}, {"conflict": "target_wins"}, None),
        ({"baseline": "source"}, {"baseline": "target"}, None),
        ({"owners": {"name": "erp"}}, {}, "name is decided by last_writer_wins here, name by owner:erp in the rule customers"),
        ({"conflict": "source_wins"}, {"conflict": "source_wins"}, "name is decided by owner:erp here, name by owner:crm"),
        ({"policies": {"name": "manual"}}, {"policies": {"name": "non_empty"}}, "name is decided by non_empty here, name by manual"),
        ({"baseline": "target"}, {"baseline": "target"}, "each side would be overwritten"),
    ],
)
def test_the_two_directions_of_a_link_decide_alike(there: dict[str, object], back: dict[str, object], words: str | None) -> None:
    rules = [compiled(), compiled("accounts", source=table("erp", "customers"), target=table("crm", "accounts"))]
    problems = pair_problems(rules, whole(rules=(configured(**there), configured(**{**BACK, **back}))))
    if words is None:
        assert problems == []
    else:
        (problem,) = problems
        assert words in problem.what
        assert problem.where.startswith("rule accounts, ")


def test_tables_named_by_a_statement() -> None:
    sql = "SELECT 1 FROM crm.accounts a JOIN erp.public.x ON true LEFT JOIN lookups.l ON true WHERE EXISTS (SELECT 1 FROM crm.accounts)"
    assert named_tables(sql) == [("crm", "", "accounts"), ("erp", "public", "x"), ("lookups", "", "l")]
    assert named_tables("SELECT FROM WHERE (") == []


def linked(name: str, source: Table, target: Table, link: str = "customer") -> CompiledRule:
    return replace(compiled(name, source, target), link=link, columns=("name",))


def test_a_link_is_about_one_table_of_each_system_and_nobody_else_creates_its_rows() -> None:
    accounts, customers, leads = table("crm", "accounts"), table("erp", "customers"), table("crm", "leads")
    there, back = linked("there", accounts, customers), linked("back", customers, accounts)
    assert set_problems([there, back]) == []
    for rules, what in (
        ([there, linked("leads", leads, table("erp", "leads"))], "is about crm.public.accounts already"),
        ([there, linked("leads", leads, customers, "lead")], "the rule leads writes the table as well"),
        ([there, compiled("back", customers, accounts)], "does not have this link"),
    ):
        assert any(p.severity == "error" and what in p.what for p in set_problems(rules)), what


def test_a_rule_over_several_tables_may_have_a_link_but_no_xref() -> None:
    rule = replace(linked("customers", table("crm", "accounts"), table("erp", "customers")), joined=(JOINED,))
    assert not any("xref" in words for _, _, words in found(configured(link="customer"), rule))
    asked = Output(
        column=Column(name="name", type=TEXT), direct="", steps=(), lineage=(), refuse_null=False, xref=Xref(link="customer", crosswalk="x", steps=())
    )
    rule = replace(compiled(), joined=(JOINED,), plan=Plan(outputs=(asked,), query=None))
    assert any(severity == "error" and "has no xref() yet" in words for severity, _, words in found(configured(), rule))
