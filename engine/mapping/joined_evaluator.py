"""Evaluates compiled rules that join several tables, over base rows and the rows of the other tables that belong to them."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from engine.mapping.binding import fault_kind
from engine.mapping.duck import Batch
from engine.mapping.evaluated import Evaluated, Linked, Rejects, Rows, once, one_array, value
from engine.mapping.rule import CompiledRule, JoinedQuery, JoinedRelation

_SEVERAL = "the rule gives several rows for one; join over a key of the other table, or sum its rows up by GROUP BY"


@dataclass(slots=True)
class _Prepared:
    query: JoinedQuery
    batches: list[Batch]


class JoinedEvaluator:
    """Works in a DuckDB connection that belongs to another; each rule's query is prepared once in it."""

    def __init__(self, connection: Any, linked: Linked) -> None:
        self._connection = connection
        self._linked = linked
        self._prepared: dict[str, _Prepared] = {}

    def evaluate(self, rule: CompiledRule, base: pa.Table, joined: Mapping[str, pa.Table]) -> Evaluated:
        """See `Evaluator.evaluate_joined`."""
        query = rule.joined_query
        assert query is not None
        rejects = Rejects(base.num_rows)
        rows = [_numbered(relation, base if not relation.alias else joined[relation.alias]) for relation in query.relations]
        try:
            result = self._run(query, f"EXECUTE {_name(query)}", rows)
        except duckdb.Error:
            result = self._without_faults(query, rows, rejects)
        row, columns = result[0].to_numpy(), result[1:]
        if len(row) > 1 and not (np.diff(row) > 0).all():
            row, columns = once(row, columns, rejects, _SEVERAL)
        values = [value(output, text, row, None, rejects, self._linked) for output, text in zip(rule.plan.outputs, columns, strict=True)]
        if rejects.any:
            keep = ~rejects.mask[row]
            row, values = row[keep], [column.filter(pa.array(keep)) for column in values]
        names = [output.column.name for output in rule.plan.outputs]
        return Evaluated(row=row, values=pa.Table.from_arrays(values, names=names), rejected=rejects.sorted())

    def _run(self, query: JoinedQuery, sql: str, rows: list[pa.Table]) -> list[pa.Array]:
        """The columns of a result over these rows of the query's relations."""
        batches = self._batches(query, rows)
        for batch, given in zip(batches, rows, strict=True):
            batch.rows = given
        try:
            return [one_array(column) for column in self._connection.sql(sql).to_arrow_table().columns]
        finally:
            for batch in batches:
                batch.rows = batch.none

    def _batches(self, query: JoinedQuery, like: list[pa.Table]) -> list[Batch]:
        """The relations that the query reads, registered and with the query prepared over them at first sight."""
        known = self._prepared.get(query.name)
        if known is not None and known.query is query:
            return known.batches
        if known is not None:
            self._connection.execute(f"DEALLOCATE {_name(query)}")
        batches = [Batch(rows.schema.empty_table()) for rows in like]
        for relation, batch in zip(query.relations, batches, strict=True):
            self._connection.register(relation.relation, batch)
        self._connection.execute(f"PREPARE {_name(query)} AS {query.sql}")
        self._prepared[query.name] = _Prepared(query, batches)
        return batches

    # -- rows that cannot be computed

    def _without_faults(self, query: JoinedQuery, rows: list[pa.Table], rejects: Rejects) -> list[pa.Array]:
        """The result without the base rows at fault, which are rejected: halving finds them, and rows of other tables are looked at only with a base row
        that they belong to."""
        pairs = [self._run(query, relation.reach, rows) for relation in query.relations[1:]]
        belongs = [(left.to_numpy(), right.to_numpy()) for left, right in pairs]

        def part(of: Rows) -> list[pa.Table]:
            mine = [np.unique(right[np.isin(left, of)]) for left, right in belongs]
            return [table.take(pa.array(chosen)) for table, chosen in zip(rows, [of, *mine], strict=True)]

        def halve(of: Rows) -> Iterator[list[pa.Array]]:
            if len(of) == 0:
                return
            given = part(of)
            try:
                yield self._run(query, f"EXECUTE {_name(query)}", given)
            except duckdb.Error as error:
                if len(of) == 1:
                    rejects.add(int(of[0]), *self._fault(query, given, error))
                    return
                middle = len(of) // 2
                yield from halve(of[:middle])
                yield from halve(of[middle:])

        nothing = self._run(query, f"EXECUTE {_name(query)}", [table.slice(0, 0) for table in rows])
        found = [nothing, *halve(np.arange(rows[0].num_rows, dtype=np.int64))]
        return [pa.concat_arrays(columns) for columns in zip(*found, strict=True)]

    def _fault(self, query: JoinedQuery, rows: list[pa.Table], error: duckdb.Error) -> tuple[str, str, str]:
        """(column, reason, sentence): which part of the rule fails."""
        for column, sql in query.parts:
            try:
                self._run(query, sql, rows)
            except duckdb.Error as found:
                kind = fault_kind(found)
                return column, "other", kind if column else f"WHERE, GROUP BY or a join condition: {kind}"
        return "", "other", fault_kind(error)


def _numbered(relation: JoinedRelation, rows: pa.Table) -> pa.Table:
    number = pa.array(np.arange(rows.num_rows, dtype=np.int64))
    return pa.Table.from_arrays([number, *(rows.column(name) for name, _ in relation.reads)], names=["__row", *(name for _, name in relation.reads)])


def _name(query: JoinedQuery) -> str:
    return f"run_joined_{query.name.encode().hex()}"
