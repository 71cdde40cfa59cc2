"""Databases in memory that fulfil the ports, and a whole engine over them: for faults that a real server cannot be made to show at will.

A database has tables of text cells, a log of whole transactions, triggers, and `fault`, which is called with the name of each step of a sink and may raise.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import SecretStr

from engine.errors import Oversized, Poison
from engine.ledger.ledger import Ledger
from engine.mapping.compiler import compile_rule
from engine.mapping.evaluator import Evaluator
from engine.model.batch import DELETE, INSERT, UPDATE, Batch, Changes, Chunk, Position, Transactions, Truncate
from engine.model.schema import Column, ForeignKey, Table, TableName
from engine.model.types import DataType, Kind
from engine.model.write import NO_ROW, ROW_EXISTS, WROTE, LinkRow, Marker, Outcome, Write
from engine.ports import Watched
from engine.runtime.baseline import Baseline
from engine.runtime.checkpoint import Checkpoint
from engine.runtime.flight import Flight
from engine.runtime.pipeline import Pipeline
from engine.runtime.proposal import Proposer
from engine.runtime.topology import Topology, build
from engine.runtime.views import Views
from engine.settings import RuleSettings, Settings, SystemSettings

TRUNCATE = 9
TEXT = DataType(kind=Kind.TEXT, name="text")
Row = dict[str, str | None]
Key = tuple[str | None, ...]


class Killed(BaseException):
    """kill -9"""


@dataclass
class Commit:
    order: int
    us: int
    origin: str
    batch: int
    changes: list[tuple[str, int, Row | None, Row | None]]


def table(system: str, name: str, columns: Sequence[str], key: Sequence[str] = ("id",), *, log_key: Sequence[str] | None = None,
          parents: Mapping[str, str] | None = None, default: Sequence[str] = ()) -> Table:  # fmt: skip
    """All columns are text. parents: column -> table of the same system whose `id` it names. default: columns the database numbers by itself."""
    return Table(
        name=TableName(system, "s", name),
        columns=tuple(Column(name=c, type=TEXT, nullable=c not in key, default=c in default) for c in columns),
        primary_key=tuple(key),
        unique=(tuple(key),),
        log_key=tuple(log_key if log_key is not None else key),
        foreign_keys=tuple(ForeignKey(columns=(c,), parent=TableName(system, "s", p), parent_columns=("id",)) for c, p in (parents or {}).items()),
    )


@dataclass
class Database:
    """One system. toast: columns whose value the log leaves out where an update did not change it.
    logs_unchanged: an update that changes nothing is logged all the same (PostgreSQL does, MySQL does not). trigger: (table, old, new) -> the row as stored."""

    name: str
    tables: dict[str, Table]
    rows: dict[str, dict[Key, Row]] = field(default_factory=dict)
    log: list[Commit] = field(default_factory=list)
    markers: dict[tuple[str, str], Marker] = field(default_factory=dict)
    toast: frozenset[str] = frozenset()
    logs_unchanged: bool = True
    trigger: Callable[[str, Row | None, Row], Row] = lambda _table, _old, new: new
    refuse: Callable[[str, Row], str] = lambda _table, _row: ""
    fault: Callable[[str], None] = lambda _step: None
    now: Callable[[], int] = lambda: 0

    def __post_init__(self) -> None:
        for name in self.tables:
            self.rows.setdefault(name, {})

    def key(self, name: str, row: Mapping[str, str | None]) -> Key:
        return tuple(row[c] for c in self.tables[name].log_key)

    def commit(self, changes: list[tuple[str, Row | None, Row | None]], origin: str = "", batch: int = 0, us: int | None = None) -> None:
        """changes: (table, old row, new row)."""
        logged = []
        for name, old, new in changes:
            if old is not None and (new is None or self.key(name, old) != self.key(name, new)):
                del self.rows[name][self.key(name, old)]
            if new is not None:
                self.rows[name][self.key(name, new)] = new
            logged.append((name, DELETE if new is None else INSERT if old is None else UPDATE, old, new))
        self.log.append(Commit(len(self.log) + 1, self.now() if us is None else us, origin, batch, logged))

    def put(self, name: str, us: int | None = None, **row: str | None) -> None:
        """An application inserts or updates a row; columns left out keep their value."""
        key = self.key(name, row)
        old = self.rows[name].get(key)
        blank: Row = {c.name: None for c in self.tables[name].columns}
        self.commit([(name, old, {**blank, **(old or {}), **row})], us=us)

    def remove(self, name: str, *key: str, us: int | None = None) -> None:
        self.commit([(name, self.rows[name][key], None)], us=us)

    def move(self, name: str, *steps: tuple[str, str], us: int | None = None) -> None:
        """An application changes the `id` of rows, (old, new), one after the other in one transaction."""
        rows = dict(self.rows[name])
        changes: list[tuple[str, Row | None, Row | None]] = []
        for old, new in steps:
            row = rows.pop((old,))
            rows[new,] = {**row, "id": new}
            changes.append((name, row, rows[new,]))
        self.commit(changes, us=us)

    def truncate(self, name: str) -> None:
        self.rows[name].clear()
        self.log.append(Commit(len(self.log) + 1, self.now(), "", 0, [(name, TRUNCATE, None, None)]))

    # --- Source

    def batch(self, watched: Sequence[Watched], after: int, upto: int, system: str, rule_set: str = "x") -> Batch:
        assert rule_set == "x"
        commits = self.log[after:upto]
        origins = tuple(sorted({c.origin for c in commits if c.origin}))
        changes = []
        for watch in watched:
            found = [(i, op, old, new) for i, c in enumerate(commits) for name, op, old, new in c.changes if name == watch.table.name.table and op != TRUNCATE]
            if found:
                changes.append(self._changes(watch, found))
        transactions = Transactions(
            commit_us=np.array([c.us for c in commits], dtype=np.int64),
            order=np.array([c.order for c in commits], dtype=np.int64),
            fence=np.array([c.order for c in commits], dtype=np.int64),
            origin=np.array([origins.index(c.origin) if c.origin else -1 for c in commits], dtype=np.int32),
            batch=np.array([c.batch for c in commits], dtype=np.int64),
            origins=origins,
        )
        emptied = tuple(
            Truncate(table=self.tables[c.changes[0][0]].name, seq=0, txn=i) for i, c in enumerate(commits) if c.changes and c.changes[0][1] == TRUNCATE
        )
        return Batch(system=system, high=Position(str(upto), upto), transactions=transactions, changes=tuple(changes), truncates=emptied)

    def _changes(self, watch: Watched, found: list[tuple[int, int, Row | None, Row | None]]) -> Changes:
        events: list[tuple[int, int, Row, set[str]]] = []
        moved: list[int] = []
        for txn, op, old, new in found:
            if op == DELETE or old is None:
                row = new or old or {}
                events.append((txn, op, row, set() if op == INSERT else set(watch.columns) - set(watch.table.log_key)))
                continue
            assert new is not None
            absent = {c for c in self.toast if old[c] == new[c]}
            if self.key(watch.table.name.table, old) != self.key(watch.table.name.table, new):
                moved.append(len(events))
                events.append((txn, DELETE, old, set(watch.columns) - set(watch.table.log_key)))
                events.append((txn, INSERT, new, absent))
            else:
                events.append((txn, UPDATE, new, absent))
        columns = {c: pa.array([None if c in absent else row.get(c) for _, _, row, absent in events], pa.string()) for c in watch.columns}
        return Changes(
            table=watch.table,
            seq=np.arange(len(events), dtype=np.int64),
            txn=np.array([e[0] for e in events], dtype=np.int32),
            op=np.array([e[1] for e in events], dtype=np.uint8),
            values=pa.table(columns),
            missing=np.array([[c in absent for c in watch.columns] for *_, absent in events], dtype=np.bool_).reshape(len(events), len(watch.columns)),
            moved=np.isin(np.arange(len(events)), moved) if moved else None,
        )

    # --- Reader

    def read_chunk(self, table: Table, columns: Sequence[str], key: Sequence[str], after: tuple[str, ...] | None, limit: int,
                   null_in: Sequence[str] = ()) -> Chunk:  # fmt: skip
        self.fault("read_chunk")
        named = sorted((tuple(str(row[c]) for c in key), row) for row in self.rows[table.name.table].values() if all(row[c] is not None for c in key)
                       and (not null_in or any(row[c] is None for c in null_in)))  # fmt: skip
        chosen = [(k, row) for k, row in named if after is None or k > after][:limit]
        return Chunk(rows=_texts([row for _, row in chosen], columns), fence=len(self.log), last=chosen[-1][0] if key and len(chosen) == limit else None)

    def read_unkeyed(self, table: Table, columns: Sequence[str], null_in: Sequence[str], limit: int) -> Iterator[Chunk]:
        self.fault("read_unkeyed")
        found = [row for row in self.rows[table.name.table].values() if any(row[c] is None for c in null_in)]
        for at in range(0, len(found), limit):
            yield Chunk(rows=_texts(found[at : at + limit], columns), fence=len(self.log), last=None)

    def fetch(self, table: Table, columns: Sequence[str], key: Sequence[str], keys: pa.Table, bytes_at_most: int | None = None) -> pa.Table:
        self.fault("fetch")
        wanted = {tuple(row[c] for c in key) for row in keys.to_pylist()}
        found = _texts([row for row in self.rows[table.name.table].values() if tuple(row[c] for c in key) in wanted], columns)
        if bytes_at_most is not None and found.nbytes > bytes_at_most:
            raise Oversized
        return found

    def end(self) -> Position:
        return Position(str(len(self.log)), len(self.log))

    def clock_us(self) -> int:
        return self.now()

    def close(self) -> None: ...


def _texts(rows: Sequence[Row], columns: Sequence[str]) -> pa.Table:
    return pa.table({c: pa.array([row[c] for row in rows], pa.string()) for c in columns})


@dataclass
class Sink:
    database: Database
    _marker: Marker | None = None
    _changes: list[tuple[str, Row | None, Row | None]] = field(default_factory=list)
    _rows: dict[str, dict[Key, Row]] = field(default_factory=dict)

    def prepare(self) -> None: ...

    def marker(self, rule_set: str, source: str) -> Marker | None:
        self.database.fault("marker")
        return self.database.markers.get((rule_set, source))

    def begin(self, marker: Marker) -> None:
        self.database.fault("begin")
        self._marker, self._changes = marker, []
        self._rows = {name: dict(rows) for name, rows in self.database.rows.items()}

    def lock(self, write: Write, columns: Sequence[str]) -> pa.Table:
        return self.database.fetch(write.table, columns, write.key, write.values)

    def write(self, write: Write) -> Outcome:
        self.database.fault("write")
        before = ({name: dict(rows) for name, rows in self._rows.items()}, list(self._changes))
        try:
            return Outcome(result=np.array([self._one(write, i) for i in range(len(write))], dtype=np.uint8))
        except Poison:
            self._rows, self._changes = before
            raise

    def _one(self, write: Write, i: int) -> int:
        name = write.table.name.table
        values = {c: write.values.column(c)[i].as_py() for c in write.values.column_names}
        at = [row for row in self._rows[name].values() if all(row[c] == values[c] for c in write.key)]
        old = at[0] if at else None
        if write.op[i] == DELETE:
            if old is None:
                return NO_ROW
            for child in self.database.tables.values():
                for foreign in child.foreign_keys:
                    if foreign.parent == write.table.name and any(r[foreign.columns[0]] == old["id"] for r in self._rows[child.name.table].values()):
                        raise Poison("a child is there", reason="foreign_key", rows=(i,))
            del self._rows[name][self.database.key(name, old)]
            self._changes.append((name, old, None))
            return WROTE
        if (write.op[i] == INSERT) == (old is not None):
            return ROW_EXISTS if old is not None else NO_ROW
        blank: Row = {c.name: f"n{len(self._changes)}.{len(self.database.log)}" if c.default else None for c in write.table.columns}
        decided = {c: values[c] for n, c in enumerate(write.values.column_names) if write.decided[i, n]}
        new = self.database.trigger(name, old, {**blank, **(old or {}), **decided})
        why = self.database.refuse(name, new)
        for foreign in write.table.foreign_keys:
            value = new[foreign.columns[0]]
            if value is not None and not any(r["id"] == value for r in self._rows[foreign.parent.table].values()):
                why = "foreign_key"
        if why:
            raise Poison(f"refused: {why}", reason=why, rows=(i,))
        if new != old or self.database.logs_unchanged:
            self._changes.append((name, old, new))
        self._rows[name][self.database.key(name, new)] = new
        return WROTE

    def rekey(self, table: Table, key: Sequence[str], before: Sequence[str], after: Sequence[str], *, copy: bool) -> int:
        self.database.fault("rekey")
        name, rows = table.name.table, self._rows[table.name.table]
        old, taken = ([row for row in rows.values() if tuple(row[c] for c in key) == tuple(texts)] for texts in (before, after))
        if not old or taken:
            return ROW_EXISTS if old else NO_ROW
        new = {**old[0], **dict(zip(key, after, strict=True))}
        for child in self.database.tables.values():
            for foreign in child.foreign_keys:
                if foreign.parent == table.name and any(r[foreign.columns[0]] == old[0]["id"] for r in self._rows[child.name.table].values()) and not copy:
                    raise Poison("a child is there", reason="foreign_key", rows=(0,))
        if not copy:
            del rows[self.database.key(name, old[0])]
        rows[self.database.key(name, new)] = new
        self._changes.append((name, None if copy else old[0], new))
        return WROTE

    def prepare_links(self) -> None: ...

    def write_links(self, _rule_set: str, _rows: Sequence[LinkRow]) -> None: ...

    def links(self, _rule_set: str) -> list[LinkRow]:
        return []

    def commit(self) -> None:
        self.database.fault("before commit")
        assert self._marker is not None
        self.database.commit(self._changes, self._marker.source, self._marker.batch)
        self.database.markers[self._marker.rule_set, self._marker.source] = self._marker
        self.database.fault("after commit")

    def rollback(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class World:
    """Databases, rules, and an engine that can be killed and started again. rules: keyword arguments of `RuleSettings`."""

    folder: Path
    databases: dict[str, Database]
    rules: list[dict[str, Any]]
    uncaptured: frozenset[str] = frozenset()
    clock: int = 1_000_000
    chunk_rows: int = 3

    def __post_init__(self) -> None:
        for database in self.databases.values():
            database.now = self.tick
        self.start()

    def tick(self) -> int:
        self.clock += 10
        return self.clock

    def start(self) -> None:
        rules = tuple(RuleSettings.model_validate({"statement": "", "baseline": "source", **rule}) for rule in self.rules)
        systems = {
            name: SystemSettings(name=name, adapter="postgres", url=SecretStr("postgresql://h/x"), options={"capture": name not in self.uncaptured})
            for name in self.databases
        }
        self.settings = Settings(
            path=self.folder / "x.toml", name="x", state=self.folder, systems=systems, lookups={}, rules=rules, batch_rows=1, batch_ms=1,
            chunk_rows=self.chunk_rows,
        )  # fmt: skip
        compiled = []
        for rule in rules:
            into = TableName(rule.into[0], rule.into[1] or "s", rule.into[2])
            found, problems = compile_rule(name=rule.name, sql=rule.statement, into=into, key=rule.key, table=self._table, lookups={})
            assert found is not None, problems
            compiled.append(found)
        self.ledger = Ledger(self.folder)
        self.topology: Topology = build(self.settings, compiled, self.ledger.seed)
        self.flight = Flight()
        self.ledger.wait_for = self.flight.wait_for
        proposer = Proposer(self.ledger, Evaluator({}), lambda: self.clock, self.topology.ranks)
        sinks = {name: Sink(database) for name, database in self.databases.items()}
        self.checkpoint = Checkpoint("x", self.ledger, self.topology, sinks, proposer, self._wait, self.flight)
        self.checkpoint.recover()
        self.ledger.follow(self.topology.columns(), self.topology.lanes)
        for name, database in self.databases.items():
            if self.ledger.progress(name) is None:
                self.ledger.put_meta(f"progress {name}", [str(len(database.log)), len(database.log), -1])
        readers: Any = self.databases
        views = Views(self.ledger, self.topology, readers, proposer)
        self.pipeline = Pipeline(self.topology, self.ledger, readers, proposer, self.checkpoint, views)
        self.baseline = Baseline(self.pipeline, self.topology, self.ledger, readers, self.chunk_rows, lambda: False, self._wait)

    def _wait(self, _system: str, _attempt: int, error: Exception) -> None:
        if _attempt > 3:
            raise error

    def _table(self, system: str, _schema: str, name: str) -> Table:
        return self.databases[system].tables[name]

    def restart(self) -> None:
        """After a kill or an orderly end alike: memory is gone, the state folder stays."""
        self.stop()
        self.start()

    def stop(self) -> None:
        self.flight.close()
        self.ledger.close()

    def first_read(self) -> None:
        self.baseline.read()
        self.baseline.ask(lambda: None)
        self.flight.land()

    def step(self, system: str, count: int | None = None) -> None:
        """One batch of a system's log: all that is left of it, or the next `count` transactions after the stored position."""
        progress = self.ledger.progress(system)
        assert progress is not None
        log = self.databases[system].log
        upto = len(log) if count is None else min(progress.order + count, len(log))
        self.pipeline.process(self.databases[system].batch(self.topology.watched(system), progress.order, upto, system))
        self.flight.land()

    def ask(self) -> None:
        self.pipeline._due.clear()
        self.pipeline.process_asks()
        self.flight.land()

    def settle(self, rounds: int = 60) -> None:
        """Until nothing is left to do. Fails when the sides do not come to rest."""
        for _ in range(rounds):
            for system in self.databases:
                if system not in self.uncaptured:
                    self.step(system)
            if self.ledger.asks:
                self.ask()
            done = all((p := self.ledger.progress(s)) is not None and p.order == len(d.log) for s, d in self.databases.items() if s not in self.uncaptured)
            if done and not self.ledger.asks and not self.ledger.pending:
                return
        raise AssertionError(f"no rest: asks {list(self.ledger.asks)}, pending {bool(self.ledger.pending)}")

    def rows(self, system: str, name: str) -> list[tuple[str | None, ...]]:
        return sorted((tuple(row.values()) for row in self.databases[system].rows[name].values()), key=str)

    def counters(self, rule: str) -> dict[str, int]:
        found: dict[str, int] = self.ledger.meta(f"counters {rule}") or {}
        return found


def pair(folder: Path, *, columns: Sequence[str] = ("id", "a", "b"), erp: Mapping[str, Any] | None = None, crm: Mapping[str, Any] | None = None,
         one_way: bool = False, erp_table: Table | None = None) -> World:  # fmt: skip
    """crm.account and erp.customer with the same columns, led both ways; `erp` and `crm` are settings of the rules that lead there."""
    databases = {
        "crm": Database("crm", {"account": table("crm", "account", columns)}),
        "erp": Database("erp", {"customer": erp_table or table("erp", "customer", columns)}),
    }
    listed = ", ".join(f"t.{c} AS {c}" for c in columns)
    rules: list[dict[str, Any]] = [
        {"name": "to_erp", "statement": f"SELECT {listed} FROM crm.account AS t", "into": ("erp", "s", "customer"), "key": ("id",), **(erp or {})}
    ]
    if not one_way:
        rules.append(
            {"name": "to_crm", "statement": f"SELECT {listed} FROM erp.customer AS t", "into": ("crm", "s", "account"), "key": ("id",),
             "baseline": "target", **(crm or {})}
        )  # fmt: skip
    world = World(folder, databases, rules)
    world.first_read()
    return world
