"""How the rows of each joined table are found from the base: by columns that must be equal, from table to table.

A condition leads to a table when rows that do not fulfil it never matter: in the ON of its own join, in the ON of inner joins and the WHERE of the SELECT
it stands in, and in `x IN (SELECT y ...)`. It does not lead from a subquery or out of the right side of a LEFT JOIN to the tables outside of it.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from engine.mapping.conversion import describe
from engine.mapping.findings import Findings
from engine.mapping.joined_scope import JoinedScope, Place
from engine.model.schema import Column
from engine.model.types import DataType, Kind

_TEXTS = {Kind.TEXT, Kind.ENUM}
_ALIKE = {Kind.INT, Kind.UUID, Kind.BOOL, Kind.DATE, Kind.TIME, Kind.DATETIME, Kind.INSTANT, Kind.BYTES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """place is reached from via: its `here` columns equal via's `there` columns."""

    place: int
    via: int
    here: tuple[str, ...]
    there: tuple[str, ...]


@dataclass(slots=True)
class _Paths:
    scope: JoinedScope
    findings: Findings
    edges: dict[tuple[int, int], dict[tuple[str, str], None]] = field(default_factory=dict)
    """(place, via) -> (here, there)."""
    why_not: dict[int, tuple[str, str]] = field(default_factory=dict)
    """place -> what was wrong with a condition that could have led there, and what to write."""
    led: list[exp.Expr] = field(default_factory=list)
    """The IN (SELECT ...) that stand where they lead."""
    told: set[int] = field(default_factory=set)
    """Places that need no further word."""

    def read(self) -> None:
        for select in self.scope.selects:
            places = self.scope.of(select)
            where = select.args.get("where")
            if where is not None:
                self._conditions(where.this, places)
            for place in places:
                if place.on is not None:
                    self._conditions(place.on, places if place.inner_join else [place])
        for node in self.scope.select.find_all(exp.In):
            if node.args.get("query") is not None and all(node is not other for other in self.led):
                self.findings.error(
                    "IN (SELECT ...) stands under NOT, OR or inside an expression, where a NULL among all rows of the other table would count",
                    "write EXISTS or NOT EXISTS (SELECT 1 FROM ... WHERE t.column = a.column)",
                )
                self.told |= {place.number for inner in node.args["query"].find_all(exp.Select) for place in self.scope.of(inner)}

    def _conditions(self, condition: exp.Expr, places: Sequence[Place]) -> None:
        for node in _conjuncts(condition):
            if isinstance(node, exp.EQ):
                self._equal(node.this, node.expression, places)
            elif isinstance(node, exp.In) and node.args.get("query") is not None:
                self.led.append(node)
                inner = node.args["query"].find(exp.Select)
                if inner is not None and len(inner.expressions) == 1:
                    entry = inner.expressions[0]
                    self._equal(node.this, entry.this if isinstance(entry, exp.Alias) else entry, [*places, *self.scope.of(inner)])

    def _equal(self, one: exp.Expr, other: exp.Expr, places: Sequence[Place]) -> None:
        sides = [self._column(one), self._column(other)]
        for (here, there), expression in zip((sides, sides[::-1]), (one, other), strict=True):
            if here is None:
                self._not_a_column(expression, places)
            elif there is not None and any(place is here[0] for place in places) and here[1] is not there[1]:
                self._edge(here[1], here[2], there[1], there[2])

    def _edge(self, place: Place, here: Column, via: Place, there: Column) -> None:
        if comparable(here.type, there.type):
            self.edges.setdefault((place.number, via.number), {})[here.name, there.name] = None
        else:
            kinds = f"{here.name} ({describe(here.type)}) with {there.name} ({describe(there.type)})"
            what = f"cast is not possible in a join: it compares {kinds}, whose values are written differently"
            self.why_not[place.number] = what, "join over columns of one type"

    def _not_a_column(self, expression: exp.Expr, places: Sequence[Place]) -> None:
        """A cast or another expression in place of a column."""
        for column in expression.find_all(exp.Column):
            reference = self.scope.find(column)
            place = self.scope.places[reference.place] if reference else None
            if place is not None and any(place is other for other in places):
                what = f"cast is not possible in a join: {expression.sql('duckdb')} is not a column alone"
                self.why_not.setdefault(place.number, (what, "compare the columns as they are stored"))

    def _column(self, node: exp.Expr) -> tuple[Place, Place, Column] | None:
        """The table's column that the expression is, with the entry of FROM by which it is seen (the table itself, or a subquery) before it."""
        node = _plain(node)
        reference = self.scope.find(node) if isinstance(node, exp.Column) else None
        if reference is None:
            return None
        place = self.scope.places[reference.place]
        if reference.column is not None:
            return place, place, reference.column
        output = place.output(reference.field)
        inside = self._column(output) if output is not None else None
        return None if inside is None else (place, inside[1], inside[2])


def find_paths(scope: JoinedScope, findings: Findings) -> list[Step]:
    """One step for each further table, the nearer ones first. Tells of tables that no path leads to."""
    paths = _Paths(scope, findings)
    paths.read()
    wanted = [place for place in scope.places if place.table is not None]
    reached = [0]
    steps: list[Step] = []
    for via in reached:
        for place in wanted:
            pairs = paths.edges.get((place.number, via))
            if pairs and place.number not in reached:
                here, there = zip(*pairs, strict=True)
                steps.append(Step(place=place.number, via=via, here=here, there=there))
                reached.append(place.number)
    for place in wanted:
        if place.number not in reached and place.number not in paths.told:
            _tell(place, paths, findings)
    return steps


def _tell(place: Place, paths: _Paths, findings: Findings) -> None:
    if place.number in paths.why_not:
        findings.error(*paths.why_not[place.number])
        return
    assert place.table is not None
    base = paths.scope.places[0]
    where = "JOIN ... ON" if place.on is not None or place.select is paths.scope.select else "the subquery's WHERE"
    findings.error(
        f"nothing says which rows of {place.table.name} ({place.alias}) belong to a row of {base.written[0][-1]}: there is no path of equal columns "
        "from one to the other, so a change in one row could change all",
        f"add {place.alias}.column = a.column to {where}",
    )


def comparable(one: DataType, other: DataType) -> bool:
    """Whether equal values of the two types have equal canonical text."""
    if one.kind in _TEXTS and other.kind in _TEXTS:
        return True
    if one.kind is Kind.DECIMAL and other.kind is Kind.DECIMAL:
        return one.scale is not None and one.scale == other.scale
    return one.kind is other.kind and one.kind in _ALIKE


def _conjuncts(condition: exp.Expr) -> list[exp.Expr]:
    condition = _plain(condition)
    if isinstance(condition, exp.And):
        return [*_conjuncts(condition.this), *_conjuncts(condition.expression)]
    return [condition]


def _plain(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Paren):
        node = node.this
    return node
