"""Writes the SQL that DuckDB runs for a rule, out of the pieces of the rule's own text."""
from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.mapping.duck import lookup_relation
from engine.mapping.duck_type import printing, reading
from engine.mapping.rule import Query
from engine.mapping.scope import Resolved, seen_name
from engine.model.schema import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedJoin:
    """equalities: (side of the rows before it, side of the lookup)."""

    lookup: str
    inner: bool
    equalities: tuple[tuple[Resolved, Resolved], ...]
    many: bool = False

    @property
    def columns(self) -> frozenset[str]:
        return frozenset().union(*(left.columns for left, _ in self.equalities))

    @property
    def joins(self) -> frozenset[int]:
        return frozenset().union(*(left.joins for left, _ in self.equalities))


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """An output that DuckDB computes. type: DuckDB's."""

    column: str
    value: Resolved
    type: str = "VARCHAR"


def needed_joins(start: Iterable[int], joins: Mapping[int, ResolvedJoin]) -> list[int]:
    """These joins, and those that their conditions look at."""
    found: set[int] = set()
    open_ends = set(start)
    while open_ends:
        number = open_ends.pop()
        found.add(number)
        open_ends |= (joins[number].joins if number in joins else frozenset()) - found
    return sorted(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryWriter:
    """joins: by their number in the rule. where: None where there is none, or where it is to be ignored. Without `filters` INNER JOIN does not
    leave rows out either. relation: DuckDB's name of the batch."""

    source: Table
    joins: Mapping[int, ResolvedJoin]
    outputs: Sequence[Computed]
    where: Resolved | None
    filters: bool = True
    relation: str = "batch"

    def write(self) -> Query:
        """The query; its `lookups` and `many` follow from the joins."""
        return Query(
            relation=self.relation,
            sql=self._sql(),
            faults=self._faults(),
            reads=self._reads(),
            casts=tuple((name, self.source.column(name).type.name) for name in self._fallible(self._columns())),
            parts=tuple([""] * len(self._conditions()) + [""] * (self.where is not None) + [output.column for output in self.outputs]),
            lookups=tuple(join.lookup for join in self.joins.values()),
            many=tuple(join.lookup for join in self.joins.values() if join.many),
        )

    def typed(self) -> str:
        """The batch with typed columns beside the text, for `FROM`."""
        columns = self._columns()
        names = ["__row"]
        for column, text in self._reads():
            number = self._number(column)
            names.append(text)
            seen = seen_name(self.source.columns[number], number)
            if seen != text:
                names.append(f"{reading(self.source.columns[number].type, text)[0]} AS {seen}")
        names.append(f"{self._first_bad(columns)} AS __bad")
        return f"(SELECT {', '.join(names)} FROM {self.relation}) AS t"

    def joined(self, *, safe: bool = False) -> str:
        """The joins. safe: values that cannot be computed count as null."""
        return "".join(
            f" LEFT JOIN {lookup_relation(join.lookup)} AS j{number} ON "
            + " AND ".join(f"{'TRY' if safe else ''}({left.sql}) = ({right.sql})" for left, right in join.equalities)
            for number, join in self.joins.items()
        )

    def _sql(self) -> str:
        values = "".join(f", ({output.value.sql}) AS v{number}" for number, output in enumerate(self.outputs))
        texts = "".join(f", {printing(output.type, f'v{number}')} AS o{number}" for number, output in enumerate(self.outputs))
        condition = self._condition()
        inner = f"SELECT t.__row, t.__bad{values} FROM {self.typed()}{self.joined()}{f' WHERE {condition}' if condition else ''}"
        return f"SELECT __row, __bad{texts} FROM ({inner})"

    def _faults(self) -> str:
        checks = [f"TRY([{left.sql}]) IS NULL" for left in self._conditions()]
        if self.where is not None:
            checks.append(f"TRY([{self.where.sql}]) IS NULL")
        cases = [f"WHEN {check} THEN {number}" for number, check in enumerate(checks, start=1)]
        if self.where is not None:
            cases.append(f"WHEN NOT coalesce(TRY({self.where.sql}), FALSE) THEN 0")
        for number, output in enumerate(self.outputs, start=len(checks) + 1):
            cases.append(f"WHEN TRY([{output.value.sql}]) IS NULL THEN {number}")
        part = f"CASE {' '.join(cases)} ELSE 0 END" if cases else "0"
        return f"SELECT t.__row, {part} AS __part FROM {self.typed()}{self.joined(safe=True)}"

    def _conditions(self) -> list[Resolved]:
        return [left for join in self.joins.values() for left, _ in join.equalities]

    def _condition(self) -> str:
        """What a row must fulfil. A row whose deciding values cannot be read stays, so that it is rejected and not left out in silence."""
        found = [f"j{number}.__found" for number, join in self.joins.items() if join.inner and self.filters]
        where = f"({self.where.sql})" if self.where is not None else ""
        if found:
            where = f"CASE WHEN {' AND '.join(found)} THEN {where or 'TRUE'} ELSE FALSE END"
        if not where:
            return ""
        unsure = self._fallible(self._deciding())
        return f"{where} OR {self._is_bad(unsure)}" if unsure else where

    def _deciding(self) -> set[str]:
        columns = set(self.where.columns if self.where is not None else ())
        for number in needed_joins(self._deciding_joins(), self.joins):
            columns |= self.joins[number].columns
        return columns

    def _deciding_joins(self) -> set[int]:
        inner = {number for number, join in self.joins.items() if join.inner and self.filters}
        return inner | set(self.where.joins if self.where is not None else ())

    def _columns(self) -> list[str]:
        used = set(self.where.columns if self.where is not None else ())
        used = used.union(*(join.columns for join in self.joins.values()), *(output.value.columns for output in self.outputs))
        return [column.name for column in self.source.columns if column.name in used]

    def _reads(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, f"c{self._number(name)}") for name in self._columns())

    def _number(self, column: str) -> int:
        return [other.name for other in self.source.columns].index(column)

    def _fallible(self, columns: Collection[str]) -> list[str]:
        return [column.name for column in self.source.columns if column.name in columns and reading(column.type, "x")[1]]

    def _is_bad(self, columns: Iterable[str]) -> str:
        numbers = [self._number(name) for name in columns]
        return "(" + " OR ".join(f"(c{number} IS NOT NULL AND t{number} IS NULL)" for number in numbers) + ")"

    def _first_bad(self, columns: Collection[str]) -> str:
        cases = [f"WHEN {self._is_bad([name])} THEN {number}" for number, name in enumerate(self._fallible(columns), start=1)]
        return f"CASE {' '.join(cases)} ELSE 0 END" if cases else "0"
