"""TRUNCATE: what a table that was emptied becomes where its rules allow it, one delete for each row that the ledger knows, in bounded lots."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from engine.errors import Terminal
from engine.ledger.ledger import Ledger
from engine.model.batch import DELETE, Batch, Changes
from engine.runtime.intake import Arrivals
from engine.runtime.topology import Topology, Tracked


def refuse(topology: Topology, ledger: Ledger, table: str) -> None:
    """Terminal unless all rules of the table take a TRUNCATE as deletes: those that read it, or those that write it where none reads it."""
    lanes = topology.lanes_from(table) or [lane for lane in topology.lanes.values() if lane.target.name == table]
    if lanes and all(lane.settings.on_truncate == "delete" for lane in lanes):
        return
    ledger.put_meta(f"truncated {table}", True)
    raise Terminal(
        "the table was emptied by TRUNCATE, which is not replicated",
        where=table,
        fix="delete the rows of the other side yourself or restore these, then `syncline resync` the rules that read the table; with "
        'on_truncate = "delete" in these rules a TRUNCATE deletes the rows on the other side',
    )


def without_emptied(batch: Batch, low: int) -> Batch:
    """The batch without rows that its own TRUNCATE removed in the same transaction, from transaction `low` on: nobody has seen them."""
    last = {(str(t.table), t.txn): t.seq for t in sorted(batch.truncates, key=lambda t: t.seq) if t.txn >= low}
    changes = []
    for change in batch.changes:
        gone = np.zeros(len(change), dtype=np.bool_)
        for (table, txn), seq in last.items():
            if table == str(change.table.name):
                gone |= (change.txn == txn) & (change.seq < seq)
        keep = np.flatnonzero(~gone)
        changes.append(change if len(keep) == len(change) else _take(change, keep))
    return replace(batch, changes=tuple(changes))


def deletes(batch: Batch, txn: int, tracked: Tracked, ledger: Ledger, count: int) -> Iterator[Arrivals]:
    """A delete event in transaction `txn` for each row the log has shown to be there, at most `count` at a time. What has been taken over in between, and
    what a chunk of the first read found later than the TRUNCATE, is left out by the ledger."""
    after = b""
    while names := ledger.some_keys(tracked.name, after, count):
        after = names[-1]
        keys = [name for name, there in zip(names, ledger.seen(tracked.name, names).present.tolist(), strict=True) if there]
        if keys:
            yield _part(batch, txn, tracked, keys)


def _part(batch: Batch, txn: int, tracked: Tracked, keys: list[bytes]) -> Arrivals:
    rows, columns = len(keys), tracked.watched.columns
    change = np.arange(rows, dtype=np.int64)
    op = np.full(rows, DELETE, dtype=np.uint8)
    changes = Changes(
        table=tracked.table, seq=change, txn=np.full(rows, txn, dtype=np.int32), op=op,
        values=pa.table({c: pa.nulls(rows, pa.string()) for c in columns}), missing=np.ones((rows, len(columns)), dtype=np.bool_),
    )  # fmt: skip
    cells = (rows, len(tracked.cells))
    stamp_us = np.full(rows, batch.transactions.commit_us[txn], dtype=np.int64)
    return Arrivals(
        tracked, changes, change, changes.txn.astype(np.int64), op, keys, {}, {}, np.zeros(cells, dtype=np.uint64), np.ones(cells, dtype=np.bool_), stamp_us
    )


def _take(change: Changes, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Changes:
    return replace(
        change, seq=change.seq[rows], txn=change.txn[rows], op=change.op[rows], values=change.values.take(pa.array(rows)), missing=change.missing[rows],
        moved=None if change.moved is None else change.moved[rows],
    )  # fmt: skip
