"""The target's side of a rule: which columns the SELECT list writes, the key, and how each value gets into its column's type."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from engine.mapping.conversion import DUCKDB, Impossible, conversion
from engine.mapping.duck_type import engine_type, fits_decimal
from engine.mapping.findings import Findings, nearest
from engine.mapping.scope import Resolved
from engine.mapping.statement import Projection
from engine.mapping.step import Step
from engine.model.schema import Column, Table
from engine.model.types import Kind

Bound = Callable[[Resolved], int | None]
"""Most characters of a text; None when unknown."""


class MadeKey(tuple[str, ...]):
    """A key that the target makes by itself: the rule does not write it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """One entry of the SELECT list whose names are known. target: None when there is no such column."""

    name: str
    value: Resolved
    target: Column | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """steps: bring the value into the column's type. type: DuckDB's type of a computed value; empty for one that is taken over."""

    column: Column
    steps: tuple[Step, ...]
    type: str


class TargetSide:
    """`sql` and `projections` are the rule's text and its SELECT list, `source` the system it reads."""

    def __init__(
        self, *, target: Table | None, source: str, adapters: Mapping[str, str], sql: str, projections: Sequence[Projection], findings: Findings
    ) -> None:
        self.target = target
        self.unclear = False
        """Which target columns the SELECT names is not known."""
        self._source = adapters.get(source, "")
        self._adapter = adapters.get(target.name.system, "") if target else ""
        self._sql = sql
        self._projections = projections
        self._findings = findings

    # -- names

    def selected(self, entries: Iterable[tuple[str, Resolved]]) -> list[Selected]:
        """The SELECT list with its target columns."""
        found: list[Selected] = []
        for name, value in entries:
            target = self._column(name)
            if target is not None and any(target == other.target for other in found):
                self._findings.error("the target column is written twice", "leave one of the two entries", column=target.name)
                continue
            found.append(Selected(name=name, value=value, target=target))
        return found

    def _column(self, name: str) -> Column | None:
        if self.target is None:
            return None
        found = _named(self.target, name)
        if found is None:
            hint = nearest(name, [column.name for column in self.target.columns])
            self._findings.error(f"{self.target.name} has no column {name}", hint, column=name)
        elif found.generated:
            self._findings.error(f"{self.target.name} computes this column by itself", "leave it out of the SELECT", column=found.name)
        return found

    def key(self, key: Sequence[str], selected: Sequence[Selected]) -> list[str]:
        """The key's columns as the target names them."""
        if isinstance(key, MadeKey):
            return list(key)
        if not key:
            self._findings.error("the rule has no key", "name the target columns that identify a row, as in key = [\"id\"]")
        if self.target is None:
            return list(key)
        names: list[str] = []
        written = {entry.target.name for entry in selected if entry.target}
        for name in key:
            column = _named(self.target, name)
            if column is None:
                hint = nearest(name, [other.name for other in self.target.columns])
                self._findings.error(f"the key names {name}, which {self.target.name} does not have", hint)
            elif column.name in names:
                self._findings.error(f"the key names {name} twice", "leave it once")
            else:
                names.append(column.name)
                if column.name not in written and not self._tried(column.name):
                    self._findings.error(
                        f"the key column {column.name} is not in the SELECT", f"add an expression AS {column.name}", column=column.name
                    )
        return names

    def supplied(self, selected: Sequence[Selected]) -> None:
        """Tells of columns that an insert would lack."""
        written = {entry.target.name for entry in selected if entry.target}
        for column in self.target.columns if self.target else ():
            if column.nullable or column.default or column.generated or column.name in written or self._tried(column.name):
                continue
            self._findings.error(
                "the target column is NOT NULL and has no default, but the rule does not write it",
                f"add an expression AS {column.name}, or give the column a default",
                column=column.name,
            )

    def _tried(self, name: str) -> bool:
        """The SELECT has, or may have, an entry for the column, though with a mistake that has been told."""
        return self.unclear or any(projection.name.lower() == name.lower() for projection in self._projections)

    # -- values

    def fit(self, entry: Selected, duckdb_type: str | None, bound: Bound) -> Fitted | None:
        """How the entry gets into its column; None, with the findings told, when it does not, or when there is no such column. duckdb_type: of a
        computed value, None when it is not known."""
        target, bare = entry.target, entry.value.bare
        name = target.name if target else entry.name
        if bare is not None:
            have, maker, duckdb_type = bare.type, self._source, ""
        else:
            if not duckdb_type:
                return None
            made = engine_type(duckdb_type)
            if duckdb_type == '"NULL"' and target is not None:
                made, duckdb_type = target.type, "VARCHAR"
            if made is None:
                what = f"the expression gives {duckdb_type}, which has no counterpart in a database"
                self._findings.error(what, "cast it, as in CAST(... AS VARCHAR)", column=name)
                return None
            longest = bound(entry.value) if made.kind is Kind.TEXT else None
            have, maker = replace(made, length=longest) if longest is not None else made, DUCKDB
        if target is None:
            return None
        fitted = conversion(have, target.type, source=maker, target=self._adapter)
        if isinstance(fitted, Impossible):
            self._findings.error(fitted.what, fitted.fix.format(self._text(entry.value)), column=name)
            return None
        if fitted.warning:
            self._findings.warning(fitted.warning, "widen the target column, or make the value fit in the rule", column=name)
        return Fitted(column=target, steps=fitted.steps, type=duckdb_type)

    def unreadable(self, value: Resolved, column: str) -> None:
        """Numbers beyond DuckDB's widest decimal are text inside an expression, unless it casts them."""
        for source in beyond_decimals(value) if value.bare is None else ():
            self._findings.warning(
                f"{source.name} ({source.type.name}) has no bound that DuckDB's numbers hold, so the expression sees its text",
                f"write CAST({source.name} AS DECIMAL(38, 10)) with the digits you need, or DOUBLE",
                column=column,
            )

    def _text(self, value: Resolved) -> str:
        """The user's own text of an expression."""
        for projection in self._projections:
            if projection.piece.node is value.node:
                return self._sql[projection.piece.start : projection.piece.end]
        return value.node.sql("duckdb")


def beyond_decimals(value: Resolved) -> list[Column]:
    """Columns of numbers beyond DuckDB's widest decimal that an expression uses without a cast."""
    cast = {node.parts[0].meta.get("start") for node in value.node.find_all(exp.Column) if isinstance(node.parent, exp.Cast)}
    columns = [reference.column for reference in value.references if reference.column is not None and reference.start not in cast]
    return [column for column in columns if column.type.kind is Kind.DECIMAL and not fits_decimal(column.type)]


def _named(table: Table, name: str) -> Column | None:
    """Exactly, else the only one that differs in case alone."""
    if table.has(name):
        return table.column(name)
    found = [column for column in table.columns if column.name.lower() == name.lower()]
    return found[0] if len(found) == 1 else None
