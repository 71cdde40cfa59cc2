"""A rule once it is compiled: what the rest of the engine knows of it, and the plan the evaluator follows."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.model.schema import Column, Table
from engine.model.types import DataType


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One target column of a plan.

    direct: the source column whose text is taken over; None when DuckDB computes the value. type: the type of the text before it is brought into
    the target column's. key: a null is refused, whatever the column allows.
    """

    column: Column
    direct: str | None
    type: DataType
    lineage: tuple[str, ...]
    key: bool
    maybe_null: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulty:
    """SQL of one part of the rule and a word for a person. The SQL is true for rows on which the part cannot be computed."""

    column: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What DuckDB computes. `sql` reads the relation `batch`, whose columns are `__row` (BIGINT, the number of the input row) and `c0`, `c1` ... (the
    text of `reads`), and gives `__row`, `__bad` (number in `casts` plus 1 of the source column that cannot be read in its type; 0) and `o0`, `o1` ... (text
    of the computed outputs, in order). `faults` does the same for rows on which `sql` fails as a whole."""

    sql: str
    reads: tuple[str, ...]
    casts: tuple[tuple[str, str], ...]
    parts: tuple[Faulty, ...]
    faults: str
    lookups: tuple[str, ...]
    many: tuple[str, ...]
    """Lookups that may match one row twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`query` is None when every output is taken over as it stands and no row is filtered."""

    outputs: tuple[Output, ...]
    query: Query | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRule:
    """source: the table after FROM. key: the target columns that address a row. columns: the target columns the rule writes, the key included, in SELECT order.

    reads: source columns used anywhere, in table order. filter_reads: those that WHERE and lookup joins depend on: while one is missing the row cannot
    be judged. lineage: target column -> the source columns it derives from, conditions and lookup joins included, in table order.
    """

    name: str
    source: Table
    target: Table
    key: tuple[str, ...]
    columns: tuple[str, ...]
    reads: tuple[str, ...]
    filter_reads: tuple[str, ...]
    lineage: Mapping[str, tuple[str, ...]]
    plan: Plan
    key_plan: Plan
