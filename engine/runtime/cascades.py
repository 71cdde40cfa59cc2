"""What a server does to child rows by ON DELETE and ON UPDATE of a foreign key without a word in its log (InnoDB: https://bugs.mysql.com/bug.php?id=32506).

When the delete of a parent comes, or its change of key (which comes as a delete and an insert), its children are looked up: in the ledger, which knows hashes
of their foreign key, and in the same batch. Those rows are asked of the table. What is gone becomes a delete and what has another foreign key an update, in
the parent's transaction; rows that a changed key made become inserts. Children of children follow in the same way. That the table may be ahead of the log
does no harm: what is told here too early comes again as an event of its own. The price is one pass over the ledger of the children for each batch in which
parents go.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.ledger import keys as row_keys
from engine.ledger.ledger import Ledger
from engine.model.batch import DELETE, INSERT, UPDATE, Batch, Changes
from engine.model.hashing import hash_column
from engine.model.schema import ForeignKey
from engine.ports import Reader
from engine.runtime.topology import Topology, Tracked

LOT = 50_000
_NULL = "\x00NULL"
Key = tuple[str, ...]
Row = dict[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """A change that the log does not have. missing: columns whose value it does not carry."""

    txn: int
    op: int
    row: Row
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gone:
    """Rows of a parent that were deleted: `rows` of `changes`."""

    table: str
    changes: Changes
    rows: npt.NDArray[np.intp]


def with_cascades(batch: Batch, low: int, topology: Topology, ledger: Ledger, readers: Mapping[str, Reader]) -> Batch:
    """The batch with the changes that the server made by itself, from transaction number `low` on."""
    children = [(child, foreign) for child in topology.tracked.values() if child.system == batch.system for foreign in child.hidden]
    parents = {str(foreign.parent) for _, foreign in children}
    if not any(str(change.table.name) in parents and (change.op == DELETE).any() for change in batch.changes):
        return batch
    work = _Work(batch=batch, ledger=ledger, reader=readers[batch.system])
    todo = [_Gone(table=str(c.table.name), changes=c, rows=np.flatnonzero((c.op == DELETE) & (c.txn >= low))) for c in batch.changes]
    while todo:
        gone = todo.pop()
        for child, foreign in children:
            if str(foreign.parent) == gone.table and len(gone.rows):
                made = work.follow(child, foreign, gone)
                if made is not None:
                    todo.append(_Gone(table=child.name, changes=made, rows=np.flatnonzero(made.op == DELETE)))
    return work.merged()


@dataclass(slots=True, kw_only=True)
class _Work:
    batch: Batch
    ledger: Ledger
    reader: Reader
    made: dict[str, list[Changes]] = field(default_factory=dict)
    told: set[tuple[str, int, Key]] = field(default_factory=set)
    """(child, operation, key) of the events made."""
    looked: set[tuple[str, Key]] = field(default_factory=set)
    """(child, key) of rows whose children were looked for: so that a cycle of foreign keys ends."""

    def follow(self, child: Tracked, foreign: ForeignKey, gone: _Gone) -> Changes | None:
        """What became of the children of these parents. Gives those whose own children are to be looked at, as deletes and inserts: also rows that are there,
        since they may have gone and come again. None when there are none."""
        parents = gone.changes.values.select(list(foreign.parent_columns)).take(pa.array(gone.rows))
        txns = {key: txn for key, txn in zip(_tuples(parents), gone.changes.txn[gone.rows].tolist(), strict=True) if None not in key}
        if not txns:
            return None
        known = self._known(child, foreign, list(txns))
        there = {_of(row, child.identity): row for row in self._fetch(child, child.identity, list(known))}
        columns = frozenset(child.watched.columns)
        latest = max(txns.values())
        events: list[_Event] = []
        perhaps: list[_Event] = []
        for key, parent in known.items():
            row, txn = there.get(key), latest if parent is None else txns[parent]
            deleted = _Event(txn=txn, op=DELETE, row=dict(zip(child.identity, key, strict=True)), missing=columns - set(child.identity))
            if row is None or _of(row, foreign.columns) in txns:
                perhaps.append(deleted)
            if row is None:
                events.append(deleted)
            elif _of(row, foreign.columns) not in txns:
                shown = {*child.identity, *foreign.columns, *child.table.log_key}
                events.append(_Event(txn=txn, op=UPDATE, row={c: row[c] for c in shown}, missing=columns - shown))
        if not set(foreign.columns).isdisjoint(child.identity):
            # Under the parent's new key the children have other names: for us they are new rows.
            new = self._fetch(child, foreign.columns, self._inserted(foreign, gone))
            events += [_Event(txn=latest, op=INSERT, row=row) for row in new if _of(row, child.identity) not in there]
        self._add(child, events)
        fresh = [event for event in perhaps if (child.name, _of(event.row, child.identity)) not in self.looked]
        self.looked.update((child.name, _of(event.row, child.identity)) for event in fresh)
        return _changes(child, [*fresh, *(event for event in events if event.op == INSERT)]) if fresh else None

    def _known(self, child: Tracked, foreign: ForeignKey, parents: Sequence[Key]) -> dict[Key, Key | None]:
        """Identities of rows that may have had one of these parents, with the parent where it is known for sure."""
        found: dict[Key, Key | None] = {}
        wanted = {c: pa.array(sorted({key[i] for key in parents}), pa.string()) for i, c in enumerate(foreign.columns)}
        hashes = {child.cells.index(c): hash_column(child.type(c), texts, self.ledger.seed) for c, texts in wanted.items() if c in child.cells}
        for keys, state in self.ledger.rows(child.name, LOT):
            chosen = state.present.copy()
            for cell, values in hashes.items():
                chosen &= np.isin(state.hashes[:, cell], values)
            some = [keys[i] for i in np.flatnonzero(chosen) if not keys[i].startswith(row_keys.NO_KEY)]
            names = row_keys.decode(some, child.identity, self.ledger.long_key)
            for column in set(foreign.columns) & set(child.identity):
                names = names.filter(pc.is_in(names.column(column), value_set=wanted[column]))
            for row in names.to_pylist():
                parent = _of(row, foreign.columns) if set(foreign.columns) <= set(child.identity) else None
                if parent is None or parent in parents:
                    found[_of(row, child.identity)] = parent
        listed = set(parents)
        for change in self.batch.changes:
            if change.table.name == child.table.name:
                rows = zip(_tuples(change.values.select(list(child.identity))), _tuples(change.values.select(list(foreign.columns))), change.op, strict=True)
                found |= {key: parent for key, parent, op in rows if op != DELETE and parent in listed and None not in key}
        return found

    def _inserted(self, foreign: ForeignKey, gone: _Gone) -> list[Key]:
        """Keys that parents got in the transactions in which these lost theirs."""
        new = np.flatnonzero((gone.changes.op == INSERT) & np.isin(gone.changes.txn, gone.changes.txn[gone.rows]))
        return list(_tuples(gone.changes.values.select(list(foreign.parent_columns)).take(pa.array(new))))

    def _fetch(self, child: Tracked, by: Sequence[str], keys: Sequence[Key]) -> list[Row]:
        if not keys:
            return []
        wanted = pa.table({c: pa.array([key[i] for key in keys], pa.string()) for i, c in enumerate(by)})
        rows: list[Row] = self.reader.fetch(child.table, child.watched.columns, by, wanted).to_pylist()
        return rows

    def _add(self, child: Tracked, events: Sequence[_Event]) -> None:
        fresh = {(child.name, event.op, _of(event.row, child.identity)): event for event in events}
        chosen = sorted((event for name, event in fresh.items() if name not in self.told), key=lambda event: event.txn)
        self.told.update(fresh)
        if chosen:
            self.made.setdefault(child.name, []).append(_changes(child, chosen))

    def merged(self) -> Batch:
        """The batch, in each table the changes made here behind those of the same transaction."""
        changes = {str(change.table.name): [change] for change in self.batch.changes}
        for name, made in self.made.items():
            changes.setdefault(name, []).extend(made)
        return replace(self.batch, changes=tuple(_joined(parts) for parts in changes.values()))


def _changes(child: Tracked, events: Sequence[_Event]) -> Changes:
    columns = child.watched.columns
    return Changes(
        table=child.table,
        seq=np.full(len(events), np.iinfo(np.int64).max),
        txn=np.array([event.txn for event in events], dtype=np.int32),
        op=np.array([event.op for event in events], dtype=np.uint8),
        values=pa.table({c: pa.array([event.row.get(c) for event in events], pa.string()) for c in columns}),
        missing=np.array([[c in event.missing for c in columns] for event in events], dtype=np.bool_).reshape(len(events), len(columns)),
    )


def _joined(parts: Sequence[Changes]) -> Changes:
    if len(parts) == 1:
        return parts[0]
    txn = np.concatenate([part.txn for part in parts])
    order = np.argsort(txn, kind="stable")
    return Changes(
        table=parts[0].table,
        seq=np.concatenate([part.seq for part in parts])[order],
        txn=txn[order],
        op=np.concatenate([part.op for part in parts])[order],
        values=pa.concat_tables([part.values for part in parts]).take(pa.array(order)).combine_chunks(),
        missing=np.concatenate([part.missing for part in parts])[order],
        moved=np.concatenate([np.zeros(len(part), dtype=np.bool_) if part.moved is None else part.moved for part in parts])[order],
    )


def _tuples(values: pa.Table) -> Iterator[Key]:
    return zip(*(column.to_pylist() for column in values.columns), strict=True)


def _of(row: Row, columns: Sequence[str]) -> Key:
    return tuple(_NULL if (text := row[c]) is None else text for c in columns)
