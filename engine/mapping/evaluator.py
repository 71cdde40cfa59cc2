"""Evaluates compiled rules over batches of rows: DuckDB computes what the rule computes, Arrow takes over what it only renames."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.mapping.binding import fault_kind
from engine.mapping.duck import connect
from engine.mapping.lookups import Lookup
from engine.mapping.rule import CompiledRule, Output, Plan, Query

Rows = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_FEW = 256
"""Up to so many rows fetching tuples is faster than DuckDB's way to Arrow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An input row that has no place in the target. column: the target column, empty when the whole row is meant. reason: the words of
    `Poison.reason`. what: a sentence without the value."""

    row: int
    column: str
    reason: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """row: index of the input row each result row came from, ascending; each at most once; rows excluded by WHERE and rejected rows do not
    occur. values: one string column per target column, canonical text in the target column's type. rejected: ascending by row, each row once."""

    row: Rows
    values: pa.Table
    rejected: tuple[Rejected, ...]


class Evaluator:
    """Owns one in-memory DuckDB connection, in which each rule's query is prepared once. Used by one thread at a time."""

    def __init__(self, lookups: Mapping[str, Lookup]) -> None:
        self._connection: Any = connect(lookups)
        self._prepared: dict[str, tuple[Query, _Batch]] = {}

    def evaluate(self, rule: CompiledRule, rows: pa.Table, missing: Bools | None = None) -> Evaluated:
        """rows: string columns named as source columns, at least `rule.reads`, canonical text. missing: shape (rows, columns of `rows`); where a
        column derives from a missing value it is null in the result and never a reason to reject."""
        return self._run(rule.plan, rows, missing)

    def keys(self, rule: CompiledRule, rows: pa.Table) -> Evaluated:
        """Only the key columns, in the order of `rule.key`; WHERE ignored. Needs only the source columns the key derives from."""
        return self._run(rule.key_plan, rows, None)

    def close(self) -> None:
        self._connection.close()

    def _run(self, plan: Plan, rows: pa.Table, missing: Bools | None) -> Evaluated:
        rejects = _Rejects(rows.num_rows)
        if plan.query is None:
            row, computed = np.arange(rows.num_rows, dtype=np.int64), iter(())
            every = True
        else:
            row, columns = self._compute(plan.query, rows, rejects)
            every = len(row) == rows.num_rows
            computed = iter(columns)
        lacking = None if missing is None else missing[row]
        values = []
        for output in plan.outputs:
            if output.direct:
                text = _one_array(rows.column(output.direct))
                text = text if every else text.take(pa.array(row))
            else:
                text = next(computed)
            values.append(_fit(output, text, row, _lacks(output, rows.column_names, lacking), rejects))
        names = [output.column.name for output in plan.outputs]
        if rejects.any:
            keep = ~rejects.mask[row]
            row, chosen = row[keep], pa.array(keep)
            values = [column.filter(chosen) for column in values]
        return Evaluated(row=row, values=pa.Table.from_arrays(values, names=names), rejected=rejects.sorted())

    # -- what DuckDB computes

    def _compute(self, query: Query, rows: pa.Table, rejects: _Rejects) -> tuple[Rows, list[pa.StringArray]]:
        """Row numbers, ascending, each once, and the computed outputs. Rows that cannot be computed are rejected and left out."""
        given = np.arange(rows.num_rows, dtype=np.int64)
        try:
            result = self._query(query, f"EXECUTE run_{query.relation}", rows, given)
        except duckdb.Error as error:
            result = self._without_faults(query, rows, rejects, error)
        row, bad = result[0].to_numpy(), result[1].to_numpy()
        columns = list(result[2:])
        if bad.any():
            for at in np.flatnonzero(bad):
                column, name = query.casts[bad[at] - 1]
                rejects.add(int(row[at]), "", "range", f"the source column {column} holds a value that cannot be computed with as {name}")
        if len(row) > 1 and not (np.diff(row) > 0).all():
            row, columns = _once(query, row, columns, rejects)
        if rejects.any:
            keep = ~rejects.mask[row]
            row, columns = row[keep], [column.filter(pa.array(keep)) for column in columns]
        return row, columns

    def _query(self, query: Query, sql: str, rows: pa.Table, number: Rows) -> list[pa.Array]:
        """The columns of a result over `rows`, which are the input rows of these numbers."""
        columns = [rows.column(name) for name, _ in query.reads]
        batch = pa.Table.from_arrays([pa.array(number), *columns], names=["__row", *(name for _, name in query.reads)])
        relation = self._relation(query, batch)
        relation.rows = batch
        try:
            return self._fetch(sql, len(number))
        finally:
            relation.rows = relation.none

    def _fetch(self, sql: str, size: int) -> list[pa.Array]:
        if size > _FEW:
            return [_one_array(column) for column in self._connection.sql(sql).to_arrow_table().columns]
        cursor = self._connection.execute(sql)
        width = len(cursor.description)
        fetched = cursor.fetchall()
        cells = list(zip(*fetched, strict=True)) if fetched else [()] * width
        return [pa.array(column, type=pa.int64() if at < 2 else pa.string()) for at, column in enumerate(cells)]

    def _relation(self, query: Query, like: pa.Table) -> _Batch:
        """The relation that the query reads; at first sight it is registered and the query prepared. To do so for each batch would cost several
        times as much as the query over a few rows."""
        known, relation = self._prepared.get(query.relation, (None, None))
        if relation is not None and known is query:
            return relation
        if relation is not None:
            self._connection.execute(f"DEALLOCATE run_{query.relation}")
        relation = _Batch(like.schema.empty_table())
        self._connection.register(query.relation, relation)
        self._connection.execute(f"PREPARE run_{query.relation} AS {query.sql}")
        self._prepared[query.relation] = (query, relation)
        return relation

    def _without_faults(self, query: Query, rows: pa.Table, rejects: _Rejects, error: duckdb.Error) -> list[pa.Array]:
        """The result without the rows at fault, which are rejected. First DuckDB is asked which these are; where it does not say, halving finds
        them."""
        try:
            number, part = self._query(query, query.faults, rows, np.arange(rows.num_rows, dtype=np.int64))[:2]
            for row, at in zip(number.to_pylist(), part.to_pylist(), strict=True):
                if at:
                    rejects.add(row, query.parts[at - 1], "other", _fault(query.parts[at - 1], error))
        except duckdb.Error:
            pass
        return self._halve(query, rows, np.flatnonzero(~rejects.mask).astype(np.int64), rejects)

    def _halve(self, query: Query, rows: pa.Table, number: Rows, rejects: _Rejects) -> list[pa.Array]:
        try:
            return self._query(query, f"EXECUTE run_{query.relation}", rows.take(pa.array(number)), number)
        except duckdb.Error as error:
            if len(number) <= 1:
                for row in number:
                    rejects.add(int(row), "", "other", _fault("", error))
                return self._query(query, f"EXECUTE run_{query.relation}", rows.slice(0, 0), number[:0])
            middle = len(number) // 2
            halves = [self._halve(query, rows, part, rejects) for part in (number[:middle], number[middle:])]
            return [pa.concat_arrays(columns) for columns in zip(*halves, strict=True)]


class _Batch:
    """Gives DuckDB the rows of the moment each time it reads the relation, by https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html"""

    def __init__(self, none: pa.Table) -> None:
        self.rows = self.none = none

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.rows.__arrow_c_stream__(requested_schema)


class _Rejects:
    """The first reason of each rejected row."""

    def __init__(self, rows: int) -> None:
        self.mask: Bools = np.zeros(rows, dtype=np.bool_)
        self._found: list[Rejected] = []

    @property
    def any(self) -> bool:
        return bool(self._found)

    def add(self, row: int, column: str, reason: str, what: str) -> None:
        if not self.mask[row]:
            self.mask[row] = True
            self._found.append(Rejected(row=row, column=column, reason=reason, what=f"column {column}: {what}" if column else what))

    def sorted(self) -> tuple[Rejected, ...]:
        return tuple(sorted(self._found, key=lambda rejected: rejected.row))


def _fault(column: str, error: duckdb.Error) -> str:
    return fault_kind(error) if column else f"WHERE or a join condition: {fault_kind(error)}"


def _once(query: Query, row: Rows, columns: Sequence[pa.StringArray], rejects: _Rejects) -> tuple[Rows, list[pa.StringArray]]:
    """In ascending order. Rows that came several times are rejected."""
    order = np.argsort(row, kind="stable")
    row = row[order]
    same = row[1:] == row[:-1]
    for repeated in np.unique(row[1:][same]):
        what = f"lookup {' or '.join(query.many)} matches several rows" if query.many else "the rule gives several rows for one"
        rejects.add(int(repeated), "", "other", what)
    first = np.concatenate([[True], ~same])
    chosen = pa.array(order[first])
    return row[first], [column.take(chosen) for column in columns]


def _fit(output: Output, text: pa.StringArray, row: Rows, lacks: Bools | None, rejects: _Rejects) -> pa.StringArray:
    """The text in the target column's type; rows that have no place there are rejected."""
    if lacks is not None:
        text = pc.if_else(pa.array(lacks), None, text)
    if output.refuse_null and text.null_count:
        null = text.is_null().to_numpy(zero_copy_only=False)
        for at in np.flatnonzero(null & ~lacks if lacks is not None else null):
            rejects.add(int(row[at]), output.column.name, "not_null", "no value, the target needs one")
    for step in output.steps:
        refused = step.refuses(text)
        if refused is not None and pc.any(refused).as_py():
            for at in np.flatnonzero(pc.fill_null(refused, False).to_numpy(zero_copy_only=False)):
                rejects.add(int(row[at]), output.column.name, step.reason, step.what(text[at].as_py()))
            text = pc.if_else(pc.fill_null(refused, False), None, text)
        text = step.change(text)
    return text


def _lacks(output: Output, names: Sequence[str], lacking: Bools | None) -> Bools | None:
    """Per result row: whether the output derives from a value that is missing."""
    if lacking is None:
        return None
    found: Bools = np.any(lacking[:, [names.index(name) for name in output.lineage if name in names]], axis=1)
    return found if found.any() else None


def _one_array(values: pa.ChunkedArray) -> pa.Array:
    if values.num_chunks == 1:
        return values.chunk(0)
    return values.combine_chunks() if values.num_chunks else pa.array([], type=values.type)
