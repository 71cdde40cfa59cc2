"""Evaluates compiled rules over batches of rows: DuckDB computes what the rule computes, Arrow takes over what it only renames."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.mapping.binding import fault_kind
from engine.mapping.duck import Batch, connect
from engine.mapping.evaluated import Bools, Evaluated, Linked, Rejected, Rejects, Rows, lacks_values, once, one_array, value
from engine.mapping.joined_evaluator import JoinedEvaluator
from engine.mapping.lookups import Lookup
from engine.mapping.rule import Checks, CompiledRule, Plan, Query

__all__ = ["Evaluated", "Evaluator", "Rejected"]

_FEW = 256
"""Up to so many rows fetching tuples is faster than DuckDB's way to Arrow."""


class Evaluator:
    """Owns one in-memory DuckDB connection, in which each rule's query is prepared once. Used by one thread at a time."""

    def __init__(self, lookups: Mapping[str, Lookup]) -> None:
        self._connection: Any = connect(lookups)
        self._prepared: dict[str, tuple[Query, Batch]] = {}
        # `linked` is set later, so it is looked up at each call.
        self._joined = JoinedEvaluator(self._connection, lambda crosswalk, keys: self.linked(crosswalk, keys))  # noqa: PLW0108
        self.linked: Linked = lambda _crosswalk, keys: pa.nulls(len(keys), pa.string())

    def evaluate(self, rule: CompiledRule, rows: pa.Table, missing: Bools | None = None) -> Evaluated:
        """rows: string columns named as source columns, at least `rule.reads`, canonical text. missing: shape (rows, columns of `rows`); where a
        column derives from a missing value it is null in the result and never a reason to reject."""
        return self._run(rule.plan, rows, missing)

    def evaluate_joined(self, rule: CompiledRule, base: pa.Table, joined: Mapping[str, pa.Table]) -> Evaluated:
        """For rules with `joined` tables. base: rows of `rule.source`, at least `rule.reads`; `Evaluated.row` counts these. joined: alias -> rows, at least the
        columns of that `JoinedTable`; all rows that belong to the base rows, more do no harm. All as canonical text."""
        return self._joined.evaluate(rule, base, joined)

    def keys(self, rule: CompiledRule, rows: pa.Table) -> Evaluated:
        """Only the key columns, in the order of `rule.key`; WHERE ignored. Needs only the source columns the key derives from."""
        return self._run(rule.key_plan, rows, None)

    def broken(self, checks: Checks, rows: pa.Table) -> dict[int, str]:
        """Rows that break a check, or for which one cannot be computed: number of the row -> a sentence without the value. rows: as a rule has made them,
        at least the columns `checks.reads`."""
        found = self._run(checks.plan, rows, None)
        why = {}
        for refused in found.rejected:
            why[refused.row] = f"a check of the rule cannot be computed for this row: {refused.what.replace('the source column', 'the column')}"
        for text, truth in zip(checks.texts, found.values.columns, strict=True):
            for row in found.row[pc.fill_null(pc.equal(truth, "f"), False).to_numpy()].tolist():
                why.setdefault(row, f"the row breaks the rule's check {text}: mend it in the source, and it goes on by itself")
        return why

    def close(self) -> None:
        self._connection.close()

    def _run(self, plan: Plan, rows: pa.Table, missing: Bools | None) -> Evaluated:
        rejects = Rejects(rows.num_rows)
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
                text = one_array(rows.column(output.direct))
                text = text if every else text.take(pa.array(row))
            else:
                text = next(computed)
            values.append(value(output, text, row, lacks_values(output, rows.column_names, lacking), rejects, self.linked))
        names = [output.column.name for output in plan.outputs]
        if rejects.any:
            keep = ~rejects.mask[row]
            row, chosen = row[keep], pa.array(keep)
            values = [column.filter(chosen) for column in values]
        return Evaluated(row=row, values=pa.Table.from_arrays(values, names=names), rejected=rejects.sorted())

    # -- what DuckDB computes

    def _compute(self, query: Query, rows: pa.Table, rejects: Rejects) -> tuple[Rows, list[pa.StringArray]]:
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
            what = f"lookup {' or '.join(query.many)} matches several rows" if query.many else "the rule gives several rows for one"
            row, columns = once(row, columns, rejects, what)
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
            return [one_array(column) for column in self._connection.sql(sql).to_arrow_table().columns]
        cursor = self._connection.execute(sql)
        width = len(cursor.description)
        fetched = cursor.fetchall()
        cells = list(zip(*fetched, strict=True)) if fetched else [()] * width
        return [pa.array(column, type=pa.int64() if at < 2 else pa.string()) for at, column in enumerate(cells)]

    def _relation(self, query: Query, like: pa.Table) -> Batch:
        """The relation that the query reads; at first sight it is registered and the query prepared. To do so for each batch would cost several
        times as much as the query over a few rows."""
        known, relation = self._prepared.get(query.relation, (None, None))
        if relation is not None and known is query:
            return relation
        if relation is not None:
            self._connection.execute(f"DEALLOCATE run_{query.relation}")
        relation = Batch(like.schema.empty_table())
        self._connection.register(query.relation, relation)
        self._connection.execute(f"PREPARE run_{query.relation} AS {query.sql}")
        self._prepared[query.relation] = (query, relation)
        return relation

    def _without_faults(self, query: Query, rows: pa.Table, rejects: Rejects, error: duckdb.Error) -> list[pa.Array]:
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

    def _halve(self, query: Query, rows: pa.Table, number: Rows, rejects: Rejects) -> list[pa.Array]:
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


def _fault(column: str, error: duckdb.Error) -> str:
    return fault_kind(error) if column else f"WHERE or a join condition: {fault_kind(error)}"
