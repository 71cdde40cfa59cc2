"""Asks DuckDB about a rule before it runs: does it know every function, of what type is each expression, are the lookups' keys unique."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from engine.mapping.duck import connect, lookup_relation
from engine.mapping.findings import Findings
from engine.mapping.lookups import Lookup
from engine.mapping.query import Computed, QueryWriter, ResolvedJoin
from engine.mapping.rule import Query
from engine.mapping.scope import Resolved
from engine.model.schema import Table

_FIX = "correct the expression; a CAST(... AS ...) settles types"
_INTERNAL = re.compile(r"\"?\b(?:t|j\d+)\"?\.\"?([ct]\d+|l\d+)\b\"?")
_SUGGESTION = re.compile(r"Did you mean \"([^\"]+)\"")


class Binder:
    """A DuckDB connection with the lookups and a batch of one row, all of it null."""

    def __init__(self, source: Table, lookups: Mapping[str, Lookup], joins: Mapping[int, ResolvedJoin], findings: Findings) -> None:
        self._source = source
        self._findings = findings
        self._connection: Any = connect(lookups)
        self._joins = joins
        columns = "".join(f", c{number} VARCHAR" for number in range(len(source.columns)))
        self._connection.execute(f"CREATE TABLE batch (__row BIGINT{columns})")
        self._connection.execute("INSERT INTO batch (__row) VALUES (0)")

    def __enter__(self) -> Binder:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def joins(self) -> dict[int, ResolvedJoin] | None:
        """The joins with `many` found out. None when DuckDB cannot run one of them."""
        found = {}
        for number, join in self._joins.items():
            keys = ", ".join(f"({right.sql})" for _, right in join.equalities)
            present = " AND ".join(f"({right.sql}) IS NOT NULL" for _, right in join.equalities)
            one = QueryWriter(source=self._source, joins=self._until(number), outputs=(), where=None)
            try:
                self._connection.execute(f"SELECT 1 FROM {one.typed()}{one.joined()}").fetchall()
                twice = self._connection.execute(
                    f"SELECT count(*) FROM (SELECT 1 FROM {lookup_relation(join.lookup)} AS j{number} WHERE {present} "
                    f"GROUP BY {keys} HAVING count(*) > 1)"
                ).fetchone()[0]
            except duckdb.Error as error:
                self._tell(error, f"lookup {join.lookup}: ", "", [side for pair in join.equalities for side in pair])
                return None
            if twice:
                self._findings.warning(
                    f"lookup {join.lookup}: {twice} of the values it is joined by occur more than once; rows that meet them are set aside",
                    f"leave each value once in the file of lookup {join.lookup}",
                )
            found[number] = ResolvedJoin(lookup=join.lookup, inner=join.inner, equalities=join.equalities, many=bool(twice))
        return found

    def check_condition(self, where: Resolved) -> None:
        """Tells when WHERE is neither true nor false."""
        found = self.type_of(where, before="WHERE: ")
        if found not in (None, "BOOLEAN", '"NULL"'):
            self._findings.error(f"WHERE gives {found}, not true or false", "write a comparison, as in a.column = 'x'")

    def type_of(self, value: Resolved, column: str = "", *, before: str = "") -> str | None:
        """DuckDB's type of an expression; None, with the finding told after the words `before`, when DuckDB refuses it."""
        writer = QueryWriter(source=self._source, joins=self._joins, outputs=(Computed(column=column, value=value),), where=None)
        try:
            self._connection.execute(f"SELECT ({value.sql}) AS v FROM {writer.typed()}{writer.joined()} LIMIT 0")
            return str(self._connection.description[0][1])
        except duckdb.Error as error:
            self._tell(error, before, column, [value])
            return None

    def runs(self, query: Query) -> bool:
        """Whether the whole query runs over a row of nulls; if not, that is told."""
        try:
            self._connection.execute(f"CREATE VIEW {query.relation} AS SELECT * FROM batch")
            self._connection.execute(query.sql).fetchall()
        except duckdb.Error as error:
            self._tell(error, "", "", [])
            return False
        return True

    def _until(self, number: int) -> dict[int, ResolvedJoin]:
        return {other: join for other, join in self._joins.items() if other <= number}

    def _tell(self, error: duckdb.Error, before: str, column: str, values: Sequence[Resolved]) -> None:
        self._findings.error(f"{before}{_sentence(error, values)}", _fix(error), column=column)


def _sentence(error: duckdb.Error, values: Sequence[Resolved]) -> str:
    """DuckDB's first line with the user's names. Errors of running, not of reading, quote values: those are told by their kind."""
    if not isinstance(error, (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException, duckdb.SyntaxException)):
        return f"DuckDB cannot compute it: {fault_kind(error)}"
    names = {reference.sql.partition(".")[2]: reference for value in values for reference in value.references}

    def named(found: re.Match[str]) -> str:
        reference = names.get(found[1])
        return found[1] if reference is None else reference.column.name if reference.column else reference.field

    line = str(error).partition("\n")[0].partition(": ")[2]
    return f"DuckDB says: {_INTERNAL.sub(named, line)}"


def _fix(error: duckdb.Error) -> str:
    near = _SUGGESTION.search(str(error))
    return f"did you mean {near[1]}?" if near else _FIX


def fault_kind(error: duckdb.Error) -> str:
    """What went wrong with a value, without the value."""
    match error:
        case duckdb.ConversionException():
            return "a value cannot be converted to the type that the expression asks for"
        case duckdb.OutOfRangeException():
            return "a number is out of range"
        case duckdb.InvalidInputException():
            return "a function does not take a value"
        case _:
            return "the expression cannot be computed"
