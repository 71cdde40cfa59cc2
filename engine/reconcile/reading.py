"""Reads whole tables, or the rows of chosen keys, for the rules that need them."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import Terminal, Transient
from engine.mapping.refetch import Fetch
from engine.model.schema import Table, TableName
from engine.ports import Reader
from engine.reconcile.judge import Subject
from engine.reconcile.keytext import join_keys, key_table

_T = TypeVar("_T")
_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A table to read once for all rules. columns: what they need of it. identity: the columns it is read in the order of and told apart
    by. unique: no two rows share an identity."""

    table: Table
    columns: tuple[str, ...]
    identity: tuple[str, ...]
    unique: bool


def plan_tables(subjects: Sequence[Subject]) -> tuple[Plan, ...]:
    """One plan per table, targets before the tables they are fed from: a row that arrives meanwhile then looks missing, and a second look
    finds it. Terminal when a table has no key to read it by."""
    tables: dict[TableName, Table] = {}
    needed: dict[TableName, set[str]] = {}
    feeds: dict[TableName, list[TableName]] = {}
    for subject in subjects:
        rule = subject.rule
        tables[rule.source.name] = rule.source
        tables[rule.target.name] = rule.target
        needed.setdefault(rule.source.name, set()).update(rule.reads)
        needed.setdefault(rule.target.name, set()).update(rule.columns)
        feeds.setdefault(rule.source.name, []).append(rule.target.name)
    plans = []
    for name in _targets_first(tables, feeds):
        table = tables[name]
        identity, unique = _identity(table, subjects)
        wanted = needed[name] | set(identity)
        columns = tuple(c.name for c in table.columns if c.name in wanted)
        plans.append(Plan(table=table, columns=columns, identity=identity, unique=unique))
    return tuple(plans)


def _targets_first(tables: Mapping[TableName, Table], feeds: Mapping[TableName, Sequence[TableName]]) -> list[TableName]:
    order: list[TableName] = []
    seen: set[TableName] = set()

    def visit(name: TableName) -> None:
        if name not in seen:
            seen.add(name)
            for target in feeds.get(name, ()):
                visit(target)
            order.append(name)

    for name in tables:
        visit(name)
    return order


def _identity(table: Table, subjects: Sequence[Subject]) -> tuple[tuple[str, ...], bool]:
    if table.primary_key:
        return table.primary_key, True
    for columns in sorted(table.unique, key=len):
        if all(not table.column(c).nullable for c in columns):
            return columns, True
    for subject in subjects:
        if subject.rule.target.name == table.name:
            return subject.rule.key, False
    raise Terminal("the table has neither a primary key nor a unique index over NOT NULL columns", where=f"table {table.name}",
                   fix="add one; without it rows cannot be read in order or told apart")


def read_all(reader: Reader, plan: Plan, limit: int) -> Iterator[pa.Table]:
    """All rows, in chunks; those with a null in the identity at the end. A lost connection is tried again from the last chunk on; not so for the rows with a
    null, which have no place to go on from: then the error goes through."""
    after: tuple[str, ...] | None = None
    while True:
        place = after
        chunk = _patiently(lambda place=place: reader.read_chunk(plan.table, plan.columns, plan.identity, place, limit))  # type: ignore[misc]
        if chunk.rows.num_rows:
            yield chunk.rows
        if chunk.last is None:
            break
        after = chunk.last
    nullable = [c for c in plan.identity if plan.table.column(c).nullable]
    if nullable:
        yield from (chunk.rows for chunk in reader.read_unkeyed(plan.table, plan.columns, nullable, limit))


def fetch_keys(reader: Reader, plan: Plan, by: Sequence[str], texts: Sequence[str], bytes_at_most: int | None) -> pa.Table:
    """The rows whose columns `by` equal one of the joined keys. Oversized when they hold more than `bytes_at_most`."""
    keys = key_table(texts, by)
    return _patiently(lambda: reader.fetch(plan.table, plan.columns, by, keys, bytes_at_most)).select(list(plan.columns))


def fetching(readers: Mapping[str, Reader]) -> Fetch:
    """Reads joined rows of any system."""

    def fetch(table: Table, columns: Sequence[str], by: Sequence[str], keys: pa.Table, bytes_at_most: int | None) -> pa.Table:
        return _patiently(lambda: readers[table.name.system].fetch(table, columns, by, keys, bytes_at_most))

    return fetch


def distinct_rows(plan: Plan, parts: Sequence[pa.Table]) -> pa.Table:
    """The rows of several fetches; those of one identity are taken from the first fetch that has them."""
    types = [plan.table.column(c).type for c in plan.identity]
    taken: list[pa.Table] = []
    seen: pa.Array = pa.array([], type=pa.string())
    for part in parts:
        text = join_keys(types, [part.column(c) for c in plan.identity])
        fresh = pc.invert(pc.is_in(text, value_set=seen))
        taken.append(part.filter(fresh))
        seen = pa.concat_arrays([seen, text.filter(fresh)])
    return pa.concat_tables(taken)


def _patiently(call: Callable[[], _T]) -> _T:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return call()
        except Transient:
            if attempt == _ATTEMPTS:
                raise
            time.sleep(_PAUSE_SECONDS)
    raise AssertionError
