"""Who leads where: the tables the ledger tracks, and one lane per rule with the opposite rule it forms a link with."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.mapping.rule import CompiledRule
from engine.model.hashing import hash_column
from engine.model.schema import Table, TableName
from engine.model.types import DataType
from engine.ports import Watched
from engine.resolve.policies import Policy, policy
from engine.settings import RuleSettings, SetCells, Settings

LIFE = -1
"""In place of a cell's number: the value is part of the row's identity, so its stamp is the row's life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """A table as the ledger knows it.

    identity: the columns that name a row; rule keys where rules write the table. cells: the tracked columns besides. aliased: the log may name a
    deleted row by other columns than the identity, so the ledger keeps both. clock: the column used as the clock instead of the commit time.
    peers: per cell the cells that feed the same target cells, see `observe`.
    """

    table: Table
    identity: tuple[str, ...]
    cells: tuple[str, ...]
    clock: str | None
    captured: bool
    peers: tuple[npt.NDArray[np.int64], ...] | None

    @property
    def name(self) -> str:
        return str(self.table.name)

    @property
    def system(self) -> str:
        return self.table.name.system

    @property
    def aliased(self) -> bool:
        return not set(self.identity) <= set(self.table.log_key)

    @property
    def watched(self) -> Watched:
        wanted = {*self.identity, *self.cells, *self.table.log_key, *([self.clock] if self.clock else [])}
        return Watched(table=self.table, columns=tuple(c.name for c in self.table.columns if c.name in wanted), identity=self.identity)

    def type(self, column: str) -> DataType:
        return self.table.column(column).type


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One rule in its place.

    cells: the target columns it decides on: `own` columns of the rule (all but its key), then those that only a `{ set = ... }` writes; policies,
    lineage and target_cell have one element for each of them. lineage: numbers of the source's tracked cells, or LIFE. reads: the same for all
    columns the rule reads. link: the name of the opposite rule, if any.
    keyed: the key follows from the source row's identity alone. empty: the hash of an empty text per cell.
    """

    rule: CompiledRule
    settings: RuleSettings
    source: Tracked
    target: Tracked
    cells: tuple[str, ...]
    own: int
    policies: tuple[Policy, ...]
    policy_names: tuple[str, ...]
    lineage: tuple[npt.NDArray[np.int64], ...]
    reads: npt.NDArray[np.int64]
    target_cell: npt.NDArray[np.int64]
    empty: tuple[int, ...]
    keyed: bool
    link: str | None

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def direction(self) -> tuple[str, str]:
        return self.source.system, self.target.system


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """tracked: by table name as text. lanes: by rule name, in the order of the file. ranks: system -> its rank in stamps."""

    tracked: Mapping[str, Tracked]
    lanes: Mapping[str, Lane]
    ranks: Mapping[str, int]

    def watched(self, system: str) -> tuple[Watched, ...]:
        return tuple(t.watched for t in self.tracked.values() if t.system == system)

    def lanes_from(self, table: str) -> list[Lane]:
        return [lane for lane in self.lanes.values() if lane.source.name == table]

    def columns(self) -> dict[str, tuple[str, ...]]:
        return {name: tracked.cells for name, tracked in self.tracked.items()}


def build(settings: Settings, rules: Sequence[CompiledRule], seed: int) -> Topology:
    """`seed`: of the ledger's hashes."""
    tracked = track(settings, rules)
    lanes = {rule.name: _lane(rule, settings.rule(rule.name), rules, tracked, seed) for rule in rules}
    return Topology(tracked=tracked, lanes=lanes, ranks={name: rank for rank, name in enumerate(settings.systems)})


def track(settings: Settings, rules: Sequence[CompiledRule]) -> dict[str, Tracked]:
    """The tables that rules read or write."""
    tables: dict[TableName, Table] = {side.name: side for rule in rules for side in (rule.source, rule.target)}
    found: dict[str, Tracked] = {}
    for name, table in sorted(tables.items()):
        reading = [rule for rule in rules if rule.source.name == name]
        writing = [rule for rule in rules if rule.target.name == name]
        identity = identity_of(table, reading, writing)
        wanted = {c for rule in reading for c in rule.reads} | {c for rule in writing for c in (*rule.columns, *_marks(settings.rule(rule.name)))}
        cells = tuple(c.name for c in table.columns if c.name in wanted - set(identity))
        clocks = [settings.rule(rule.name).clock for rule in reading]
        found[str(name)] = Tracked(
            table=table,
            identity=identity,
            cells=cells,
            clock=next((clock for clock in clocks if clock), None),
            captured=settings.systems[name.system].capture,
            peers=_peers(cells, reading),
        )
    return found


def _peers(cells: Sequence[str], reading: Sequence[CompiledRule]) -> tuple[npt.NDArray[np.int64], ...] | None:
    """Cells that make one value together; what a WHERE or a lookup depends on decides over the whole row. None when each stands alone."""
    groups = [set(lineage) for rule in reading for lineage in rule.lineage.values()]
    together = {c: {c}.union(*(group for group in groups if c in group)) for c in cells}
    for rule in reading:
        for c in rule.filter_reads:
            together[c] = {*rule.reads, *together.get(c, ())}
    if all(len(together[c]) == 1 for c in cells):
        return None
    return tuple(np.array([i for i, name in enumerate(cells) if name in together[c]], dtype=np.int64) for c in cells)


def identity_of(table: Table, reading: Sequence[CompiledRule], writing: Sequence[CompiledRule]) -> tuple[str, ...]:
    """The columns by which the ledger names a row: the key of the rules that write the table; for a table that is only read its primary key, what the
    log gives of old rows, or what the rule's key derives from."""
    if writing:
        return writing[0].key
    if table.primary_key:
        return table.primary_key
    if table.log_key and len(table.log_key) < len(table.columns):
        return table.log_key
    return tuple(dict.fromkeys(column for rule in reading for part in rule.key for column in rule.lineage[part]))


def _lane(rule: CompiledRule, settings: RuleSettings, rules: Sequence[CompiledRule], tracked: Mapping[str, Tracked], seed: int) -> Lane:
    source, target = tracked[str(rule.source.name)], tracked[str(rule.target.name)]
    opposite = [r.name for r in rules if r.source.name == rule.target.name and r.target.name == rule.source.name]
    own = tuple(c for c in rule.columns if c not in rule.key)
    cells = (*own, *sorted(_marks(settings) - set(rule.columns)))
    # A row that comes back into the WHERE takes back the cells that were set when it left.
    marked = set(settings.on_exit.set) if isinstance(settings.on_exit, SetCells) else set()
    origins = {cell: (*rule.lineage[cell], *(rule.filter_reads if cell in marked else ())) for cell in own}
    place = {name: i for i, name in enumerate(source.cells)}
    names = tuple(
        f"owner:{settings.owners[c]}" if c in settings.owners else settings.policies.get(c, settings.conflict) for c in cells
    )
    return Lane(
        rule=rule,
        settings=settings,
        source=source,
        target=target,
        cells=cells,
        own=len(own),
        policies=tuple(policy(name, source.system) for name in names),
        policy_names=names,
        lineage=tuple(np.array([place.get(c, LIFE) for c in dict.fromkeys(origins.get(cell, ()))], dtype=np.int64) for cell in cells),
        reads=np.array([place[c] for c in rule.reads if c in place], dtype=np.int64),
        target_cell=np.array([target.cells.index(c) for c in cells], dtype=np.int64),
        empty=tuple(int(hash_column(target.type(c), pa.array([""]), seed)[0]) if target.type(c).kind == "text" else 0 for c in cells),
        keyed={c for part in rule.key for c in rule.lineage[part]} <= set(source.identity),
        link=opposite[0] if opposite else None,
    )


def _marks(settings: RuleSettings) -> set[str]:
    """Target columns that the rule's `{ set = ... }` write."""
    return {column for action in (settings.on_delete, settings.on_exit) if isinstance(action, SetCells) for column in action.set}
