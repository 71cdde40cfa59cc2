"""Who leads where: the tables the ledger tracks, and one lane per rule with the opposite rule it forms a link with."""
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.mapping.rule import CompiledRule, crosswalk
from engine.model.hashing import hash_column
from engine.model.schema import ForeignKey, Table, TableName
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
    deleted row by other columns than the identity, so the ledger keeps both. hidden: foreign keys to tracked tables
    by which the database changes rows unseen. clock: the column used as the clock instead of the commit time.
    peers: per cell the cells that feed the same target cells, see `observe`.
    """

    table: Table
    identity: tuple[str, ...]
    cells: tuple[str, ...]
    clock: str | None
    captured: bool
    peers: tuple[npt.NDArray[np.int64], ...] | None
    indexes: tuple[tuple[str, ...], ...] = ()
    """Columns by which joined rules find rows of it, where these are not the identity."""
    hidden: tuple[ForeignKey, ...] = ()

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


FILTER = " filter"
"""In place of a column's name: whether a row belongs to the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A table that a rule joins. via: alias of the neighbour nearer to the base table, empty for that. A row's columns `here` equal the neighbour's `there`.
    columns: numbers of the tracked cells the rule reads."""

    alias: str
    tracked: Tracked
    via: str
    here: tuple[str, ...]
    there: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A rule over several tables, as the ledger knows it: one row per row of the base table, named by its key.

    name: of its rows in the ledger. cells: the target columns the rule gives, then FILTER, then the aliases of the members (the stamp is that of the last row
    that a base row lost there). members: neighbours before those that hang on them. origins: per target column and FILTER the (alias, numbers of tracked
    cells or LIFE) it is computed from, "" for the base table.
    """

    name: str
    cells: tuple[str, ...]
    own: int
    members: tuple[Member, ...]
    origins: tuple[tuple[tuple[str, npt.NDArray[np.int64]], ...], ...]

    def member(self, alias: str) -> Member:
        return next(member for member in self.members if member.alias == alias)

    def lost(self, alias: str) -> int:
        """Number of the cell that keeps when a base row last lost a row of this member."""
        return self.own + 1 + [member.alias for member in self.members].index(alias)


def index_name(table: Tracked, columns: Sequence[str]) -> str:
    """Name of the ledger's index of a table's rows by these columns."""
    return json.dumps([table.name, *columns], ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One rule in its place.

    cells: the target columns it decides on: `own` columns of the rule (all but its key), then those that only a `{ set = ... }` writes; policies,
    lineage and target_cell have one element for each of them. lineage: numbers of the source's tracked cells, or LIFE. reads: the same for all
    columns the rule reads. link: the name of the opposite rule, if any.
    keyed: the key follows from the source row's identity alone. empty: the hash of an empty text per cell.
    view: for a rule over several tables; then `source` is the base table, and lineage and reads count the view's cells.
    returns: the rules that lead back from the target, and by which of their tables (alias, "" for the one after FROM).
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
    view: View | None = None
    returns: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def crosswalk(self) -> str:
        """Under which name the ledger keeps the target keys of source rows, where these do not follow from their identity."""
        return crosswalk(self.rule.link, *self.direction) if self.rule.link else self.rule.name

    @property
    def way_back(self) -> str:
        """Name of the same pairs, the other way round; of a rule with a link."""
        return crosswalk(self.rule.link, *reversed(self.direction))

    @property
    def tables(self) -> tuple[Tracked, ...]:
        """All it reads, and the one it writes."""
        return (*_read(self).values(), self.target)

    @property
    def alike(self) -> str:
        """What the target takes for equal in keys that differ, see `Column`; empty where keys are equal by their text alone."""
        return ", ".join(dict.fromkeys(found for c in self.rule.key if (found := self.target.table.column(c).alike)))

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
        """Rules that read this table alone."""
        return [lane for lane in self.lanes.values() if lane.source.name == table and lane.view is None]

    def views_over(self, table: str) -> list[tuple[Lane, str]]:
        """Rules over several tables that read this one, and as what: alias, "" for the base table."""
        views = [lane for lane in self.lanes.values() if lane.view is not None]
        return [(lane, alias) for lane in views for alias, tracked in _read(lane).items() if tracked.name == table]

    def looked_at(self, table: str) -> bool:
        """Whether rules over several tables fetch its rows: a value that stood there when its event was written may be all that they ever see of it."""
        return bool(self.views_over(table))

    def columns(self) -> dict[str, tuple[str, ...]]:
        """What the ledger keeps rows of, with their cells: tables and views."""
        views = {lane.view.name: lane.view.cells for lane in self.lanes.values() if lane.view is not None}
        return {name: tracked.cells for name, tracked in self.tracked.items()} | views

    def indexes(self) -> dict[str, tuple[str, ...]]:
        """Table -> names of the indexes the ledger keeps of its rows."""
        return {name: tuple(index_name(tracked, columns) for columns in tracked.indexes) for name, tracked in self.tracked.items()}


def _read(lane: Lane) -> dict[str, Tracked]:
    return {"": lane.source, **({member.alias: member.tracked for member in lane.view.members} if lane.view is not None else {})}


def build(settings: Settings, rules: Sequence[CompiledRule], seed: int) -> Topology:
    """`seed`: of the ledger's hashes."""
    tracked = track(settings, rules)
    lanes = {rule.name: _lane(rule, settings.rule(rule.name), rules, tracked, seed) for rule in rules}
    lanes = {name: replace(lane, returns=_returns(lane, lanes.values())) for name, lane in lanes.items()}
    return Topology(tracked=tracked, lanes=lanes, ranks={name: rank for rank, name in enumerate(settings.systems)})


def track(settings: Settings, rules: Sequence[CompiledRule]) -> dict[str, Tracked]:
    """The tables that rules read or write."""
    tables: dict[TableName, Table] = {
        side.name: side for rule in rules for side in (rule.source, rule.target, *(joined.table for joined in rule.joined))
    }
    found: dict[str, Tracked] = {}
    for name, table in sorted(tables.items()):
        reading = [rule for rule in rules if rule.source.name == name]
        writing = [rule for rule in rules if rule.target.name == name]
        identity = identity_of(table, reading, writing)
        joined = [(rule, table) for rule in rules for table in rule.joined if table.table.name == name]
        wanted = {c for rule in reading for c in rule.reads} | {c for _, found in joined for c in found.columns}
        wanted |= {c for rule in writing for c in (*rule.columns, *_marks(settings.rule(rule.name)))}
        wanted |= _cascaded(name, tables, settings, rules)
        cells = tuple(c.name for c in table.columns if c.name in wanted - set(identity))
        clocks = [settings.rule(rule.name).clock for rule in reading]
        found[str(name)] = Tracked(
            table=table,
            identity=identity,
            cells=cells,
            clock=next((clock for clock in clocks if clock), None),
            captured=settings.systems[name.system].capture,
            peers=_peers(cells, [rule for rule in reading if not rule.joined]),
            indexes=_indexes(rules, name, identity),
            hidden=tuple(foreign for foreign in hidden_keys(table, settings, rules) if foreign.parent in tables),
        )
    return found


def _indexes(rules: Sequence[CompiledRule], name: TableName, identity: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    found = []
    for rule in rules:
        tables = {"": rule.source.name, **{joined.alias: joined.table.name for joined in rule.joined}}
        for joined in rule.joined:
            found += [joined.here] if tables[joined.alias] == name else []
            found += [joined.there] if tables[joined.via] == name else []
    return tuple(columns for columns in dict.fromkeys(found) if columns != identity)


def hidden_keys(table: Table, settings: Settings, rules: Sequence[CompiledRule]) -> tuple[ForeignKey, ...]:
    """The foreign keys of a table whose effects the log does not show and the rules of the table do not ignore."""
    if not settings.systems[table.name.system].capture:
        return ()
    concerned = [rule for rule in rules if table.name in (rule.source.name, rule.target.name)]
    ignored = concerned and all(settings.rule(rule.name).cascades == "ignore" for rule in concerned)
    return () if ignored else tuple(foreign for foreign in table.foreign_keys if foreign.hidden)


def _cascaded(name: TableName, tables: Mapping[TableName, Table], settings: Settings, rules: Sequence[CompiledRule]) -> set[str]:
    """Columns by which children are found when their parent goes: of the children, and of the parents."""
    found: set[str] = set()
    for child in tables.values():
        for foreign in hidden_keys(child, settings, rules):
            if foreign.parent in tables:
                found.update(foreign.columns if child.name == name else (), foreign.parent_columns if foreign.parent == name else ())
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
    view = _view(rule, own, tracked) if rule.joined else None
    lineage = tuple(np.array([place.get(c, LIFE) for c in dict.fromkeys(origins.get(cell, ()))], dtype=np.int64) for cell in cells)
    reads = np.array([place[c] for c in rule.reads if c in place], dtype=np.int64)
    if view is not None:
        lineage = tuple(np.array([i] if i < len(own) else [], dtype=np.int64) for i in range(len(cells)))
        lineage = tuple(np.append(numbers, len(own)) if cell in marked and len(numbers) else numbers for cell, numbers in zip(cells, lineage, strict=True))
        reads = np.arange(len(own) + 1)
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
        lineage=lineage,
        reads=reads,
        target_cell=np.array([target.cells.index(c) for c in cells], dtype=np.int64),
        empty=tuple(int(hash_column(target.type(c), pa.array([""]), seed)[0]) if target.type(c).kind == "text" else 0 for c in cells),
        keyed=bool(rule.key_plan.outputs)
        and not (rule.link or rule.looks_up_key)
        and {c for part in rule.key for c in rule.lineage[part]} <= set(source.identity),
        link=opposite[0] if opposite else None,
        view=view,
    )


def _view(rule: CompiledRule, own: Sequence[str], tracked: Mapping[str, Tracked]) -> View:
    members = tuple(
        Member(alias=joined.alias, tracked=tracked[str(joined.table.name)], via=joined.via, here=joined.here, there=joined.there) for joined in rule.joined
    )
    tables = {"": tracked[str(rule.source.name)], **{member.alias: member.tracked for member in members}}
    origins = []
    for found in (*(rule.origins[cell] for cell in own), rule.filter_origins):
        columns: dict[str, list[int]] = {}
        for alias, column in found:
            cells = tables[alias].cells
            columns.setdefault(alias, []).append(cells.index(column) if column in cells else LIFE)
        origins.append(tuple((alias, np.array(sorted(set(numbers)), dtype=np.int64)) for alias, numbers in columns.items()))
    return View(
        name=f"rule {rule.name}", cells=(*own, FILTER, *(member.alias for member in members)), own=len(own), members=members, origins=tuple(origins)
    )


def _returns(lane: Lane, lanes: Iterable[Lane]) -> tuple[tuple[str, str], ...]:
    """Rules that read what this one writes and write what it reads."""
    mine = {tracked.name for tracked in _read(lane).values()}
    return tuple(
        (other.name, alias)
        for other in lanes
        if other.target.name in mine
        for alias, tracked in _read(other).items()
        if tracked.name == lane.target.name
    )


def _marks(settings: RuleSettings) -> set[str]:
    """Target columns that the rule's `{ set = ... }` write."""
    return {column for action in (settings.on_delete, settings.on_exit) if isinstance(action, SetCells) for column in action.set}
