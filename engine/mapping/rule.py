"""A rule once it is compiled: what the rest of the engine knows of it, and the plan the evaluator follows."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.mapping.extent import Extent
from engine.mapping.step import Step
from engine.model.schema import Column, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Xref:
    """The output is the key that a linked record has in the target's system. link: its name. crosswalk: name of the ledger's pairs that are looked up.
    steps: bring the linked key into the target column's type."""

    link: str
    crosswalk: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One target column of a plan.

    direct: the source column whose text is taken over; empty when DuckDB computes the value. steps: bring the text into the target column's
    type. lineage: the source columns the value derives from. refuse_null: a null has no place (key columns, NOT NULL).
    xref: then text and steps give the key of the linked record in the source's system.
    """

    column: Column
    direct: str
    steps: tuple[Step, ...]
    lineage: tuple[str, ...]
    refuse_null: bool
    xref: Xref | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What DuckDB computes from the relation `relation`, whose columns are `__row` (number of the input row) and, per entry of `reads` (source
    column, DuckDB's name), its text.

    sql: gives `__row`, `__bad` and `o0`, `o1` ... (text of the computed outputs, in order). `__bad` is 0, or n when the n-th of `casts` (source
    column, name of the type) holds a value that cannot be read in its type.
    faults: gives `__row` and `__part`: 0, or n when the n-th of `parts` cannot be computed for this row; asked when `sql` fails. The parts are
    target columns, or empty for WHERE and joins.
    lookups: names of the joined ones. many: those that may match one row twice.
    """

    relation: str
    sql: str
    faults: str
    reads: tuple[tuple[str, str], ...]
    casts: tuple[tuple[str, str], ...]
    parts: tuple[str, ...]
    lookups: tuple[str, ...]
    many: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`query` is None when every output is taken over as it stands and no row is filtered."""

    outputs: tuple[Output, ...]
    query: Query | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedTable:
    """One occurrence of a further table in a rule with joins.

    alias: as the rule writes it, made unique. columns: all that are read of it anywhere in the rule, in table order. via: the alias of its neighbour
    nearer to the base, empty for the base itself. A row belongs to those rows of the neighbour whose `there` columns equal its `here` columns;
    other rows never matter to the rule.
    """

    alias: str
    table: Table
    columns: tuple[str, ...]
    via: str
    here: tuple[str, ...]
    there: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedRelation:
    """A table of a rule with joins inside DuckDB: `relation` has `__row` (number of the row) and, per entry of `reads` (column, DuckDB's name), its text.

    alias: as in `JoinedTable`, empty for the base. reach: SQL of the pairs (`__row` of the base, `__row` here) of rows that belong together.
    """

    alias: str
    relation: str
    reads: tuple[tuple[str, str], ...]
    reach: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedQuery:
    """What DuckDB computes for a rule with joins.

    sql: gives `__row` of the base and `o0`, `o1` ... (text of the outputs, in order). parts: SQL that fails when this target column cannot be computed;
    the first is for what stands after FROM, its column is empty. relations: the base first.
    """

    name: str
    sql: str
    parts: tuple[tuple[str, str], ...]
    relations: tuple[JoinedRelation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Conditions over the row that a rule makes. texts: as the user wrote them, in order. reads: the target columns they look at.
    plan: gives the truth of each, from rows in the target's columns."""

    texts: tuple[str, ...]
    reads: tuple[str, ...]
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRule:
    """source: the table after FROM, the base: each target row comes from one of its rows. key: the target columns that address a row. columns: the target
    columns the rule writes, the key included, in SELECT order.

    reads: source columns used anywhere, in table order. filter_reads: those that decide whether the row belongs to the rule (WHERE, with the
    joins it looks at, and INNER JOIN): while one is missing the row cannot be judged. lineage: target column -> the source columns it derives
    from, conditions and lookup joins included, in table order. plan is for whole rows, key_plan for `Evaluator.keys`.

    joined: the further tables of the same system, each after its neighbour; where there are any, `Evaluator.evaluate_joined` evaluates the rule, and
    reads, filter_reads and lineage are the base's part alone. origins: target column -> (alias, column) it derives from, "" is the base; the conditions
    and the path to the base of every table it looks at are included. filter_origins: the same for WHERE, HAVING and INNER JOIN. `key_plan` is
    empty where the key does not follow from the base row alone.

    extent: what the text says of the rows it gives, see `engine.mapping.extent`.

    checks: what must not be false of a row that is written; None where there is nothing.

    link: where the target makes the key itself, the name of the link; the key is then the target's primary key, which the rule does not write.
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
    extent: Extent = field(default_factory=dict)
    joined: tuple[JoinedTable, ...] = ()
    origins: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    filter_origins: tuple[tuple[str, str], ...] = ()
    joined_query: JoinedQuery | None = None
    link: str = ""
    checks: Checks | None = None

    @property
    def written(self) -> tuple[str, ...]:
        """The target columns of a write: `columns`, and the key where that is not among them."""
        return (*self.columns, *(c for c in self.key if c not in self.columns))

    @property
    def looks_up_key(self) -> bool:
        """Whether a key column is an xref()."""
        return any(output.xref is not None and output.column.name in self.key for output in self.plan.outputs)


def crosswalk(link: str, source: str, target: str) -> str:
    """Name of the ledger's pairs that lead from keys of one system to those of another."""
    return f"{link}:{source}:{target}"
