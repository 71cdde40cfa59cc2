"""From a batch of a log to row events: every change gets the key under which the ledger knows its row, and the batch is cut where it must be.

A batch is cut before a transaction of ours that touches a row which came earlier in the batch: changes of a key coalesce, but never across a write of
ours (a newer value that our write covered lives only in its event, so it is resolved before the echo is observed).
"""
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.ledger import keys as row_keys
from engine.ledger.ledger import Ledger
from engine.model.batch import DELETE, INSERT, Batch, Changes
from engine.model.hashing import hash_column
from engine.runtime.topology import Tracked

Int64s = npt.NDArray[np.int64]


@dataclass(slots=True)
class Arrivals:
    """The changes of one table of a batch, row keys found. One element per event: change: the number of the change in `changes` it came from (a change
    whose identity moved is a delete and an insert); txn, op; keys. moved: see `Changes`."""

    tracked: Tracked
    changes: Changes
    change: Int64s
    txn: Int64s
    op: npt.NDArray[np.uint8]
    keys: list[bytes]
    aliases: dict[bytes, bytes | None]
    long_keys: dict[bytes, bytes]
    hashes: npt.NDArray[np.uint64]
    missing: npt.NDArray[np.bool_]
    stamp_us: Int64s
    moved: npt.NDArray[np.bool_] | None = None

    def part(self, low: int, high: int) -> Arrivals:
        """The events of the transactions low <= number < high."""
        first, last = np.searchsorted(self.txn, [low, high])
        if first == 0 and last == len(self.txn):
            return self
        cut = slice(int(first), int(last))
        return self._choice(cut, self.keys[cut])

    def take(self, events: npt.NDArray[np.intp]) -> Arrivals:
        """A choice of the events, in order."""
        return self._choice(events, [self.keys[i] for i in events])

    def _choice(self, events: slice | npt.NDArray[np.intp], keys: list[bytes]) -> Arrivals:
        return Arrivals(
            self.tracked, self.changes, self.change[events], self.txn[events], self.op[events], keys, self.aliases, self.long_keys,
            self.hashes[events], self.missing[events], self.stamp_us[events], None if self.moved is None else self.moved[events],
        )  # fmt: skip


def arrivals(batch: Batch, changes: Changes, tracked: Tracked, ledger: Ledger) -> Arrivals:
    """Finds the keys of all changes of one table. hashes, missing: shape (events, tracked cells)."""
    long_keys: dict[bytes, bytes] = {}
    values = changes.values
    columns = {name: i for i, name in enumerate(values.column_names)}
    keys = row_keys.encode([_text(values, c) for c in tracked.identity], long_keys.__setitem__)
    change, op = np.arange(len(changes), dtype=np.int64), changes.op
    aliases: dict[bytes, bytes | None] = {}
    moved = changes.moved
    if tracked.aliased:
        absent = np.logical_or.reduce([changes.missing[:, columns[c]] for c in tracked.identity])
        change, op, keys, aliases, moved = _through_aliases(changes, tracked, ledger, keys, absent)
    elif any(key is None for key in keys):
        names = unnamed(values, tracked)
        keys = [name if key is None else key for name, key in zip(names, keys, strict=True)]
    hashes = np.empty((len(changes), len(tracked.cells)), dtype=np.uint64)
    missing = np.empty(hashes.shape, dtype=np.bool_)
    for c, name in enumerate(tracked.cells):
        hashes[:, c] = hash_column(tracked.type(name), values.column(name), ledger.seed)
        missing[:, c] = changes.missing[:, columns[name]]
    stamp_us = batch.transactions.commit_us[changes.txn]
    if tracked.clock is not None:
        stamp_us = clock_us(values.column(tracked.clock), stamp_us)
    return Arrivals(
        tracked, changes, change, changes.txn[change].astype(np.int64), op, [k or b"" for k in keys], aliases, long_keys,
        hashes[change], missing[change], stamp_us[change], _between_names(moved, op, keys),
    )  # fmt: skip


def cuts(batch: Batch, parts: list[Arrivals]) -> list[int]:
    """Transaction numbers before which the batch is cut, ascending, the end included."""
    count = len(batch.transactions.commit_us)
    suspects: list[tuple[int, int]] = []
    for part in parts:
        if not (batch.transactions.origin[part.txn] >= 0).any():
            continue
        last: dict[bytes, int] = {}
        for key, txn in zip(part.keys, part.txn.tolist(), strict=True):
            before = last.get(key)
            if before is not None and before < txn and batch.transactions.origin[txn] >= 0:
                suspects.append((txn, before))
            last[key] = txn
    found, low = [], 0
    for txn, before in sorted(suspects):
        if before >= low and txn > low:
            found.append(txn)
            low = txn
    return [*found, count]


def clock_us(column: pa.ChunkedArray, otherwise: Int64s) -> Int64s:
    """Microseconds since 1970 UTC of a clock column in canonical text; `otherwise` where it is null or no time."""
    text = pc.replace_substring_regex(column, pattern=r"\+00$", replacement="")
    plain = pc.match_substring_regex(text, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?$")
    text = pc.if_else(plain, text, pa.scalar(None, pa.string()))
    try:
        times = pc.cast(pc.cast(text, pa.timestamp("us")), pa.int64())
    except pa.ArrowInvalid:  # a zero date of MySQL, the 30th of February: no time
        times = pa.array([_time(value) for value in text.to_pylist()], pa.int64())
    known = pc.is_valid(times).to_numpy(zero_copy_only=False) if not isinstance(times, pa.ChunkedArray) else pc.is_valid(times).to_numpy()
    filled = pc.fill_null(times, 0).to_numpy()
    return np.where(known, filled, otherwise).astype(np.int64)


def _time(text: str | None) -> int | None:
    try:
        return None if text is None else (datetime.fromisoformat(text) - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    except ValueError:
        return None


def _text(values: pa.Table, column: str) -> pa.Array:
    chunked = values.column(column)
    return chunked.chunk(0) if chunked.num_chunks == 1 else pa.concat_arrays(chunked.chunks) if chunked.num_chunks else pa.array([], pa.string())


def log_keys(values: pa.Table, tracked: Tracked) -> list[bytes]:
    found = row_keys.encode([pc.fill_null(_text(values, c), "") for c in tracked.table.log_key])
    return [key or b"" for key in found]


def unnamed(values: pa.Table, tracked: Tracked) -> list[bytes]:
    """Keys for rows whose identity is NULL: the log's name for them. It can be shown to a person, and is found again when the row gets an identity."""
    if tracked.aliased:
        return [row_keys.NO_KEY + key for key in log_keys(values, tracked)]
    columns = [values.column(c).to_pylist() for c in tracked.table.log_key or values.column_names]
    return [row_keys.NO_KEY + row_keys.one("\x1f".join(map(str, row)).encode()) for row in zip(*columns, strict=True)]


def _through_aliases(
    changes: Changes,
    tracked: Tracked,
    ledger: Ledger,
    keys: list[bytes | None],
    absent: npt.NDArray[np.bool_],
) -> tuple[Int64s, npt.NDArray[np.uint8], list[bytes | None], dict[bytes, bytes | None], npt.NDArray[np.bool_]]:
    """Row keys where the log names rows by other columns: a delete finds its row, and an update that changed the identity becomes delete and insert, of which
    the former is marked as moved.

    A loop over rows, because each event may change what the next one finds; measured at about one microsecond a row."""
    names = log_keys(changes.values, tracked)
    known = dict(zip(names, ledger.alias(tracked.name, names), strict=True))
    updated: dict[bytes, bytes | None] = {}
    out: list[tuple[int, int, bytes, bool]] = []
    moved = np.zeros(len(names), dtype=np.bool_) if changes.moved is None else changes.moved
    for i, (log_key, key, op, unknown) in enumerate(zip(names, keys, changes.op.tolist(), absent.tolist(), strict=True)):
        before = known.get(log_key)
        if op == DELETE:
            out.append((i, DELETE, before or key or row_keys.NO_KEY + log_key, bool(moved[i])))
            known[log_key] = updated[log_key] = None
            continue
        now = before if unknown and before is not None else key or row_keys.NO_KEY + log_key
        if before is not None and before != now:
            out.append((i, DELETE, before, op != INSERT))
            op = INSERT
        out.append((i, op, now, False))
        if before != now:
            known[log_key] = updated[log_key] = now
    return (
        np.array([i for i, *_ in out], dtype=np.int64),
        np.array([op for _, op, *_ in out], dtype=np.uint8),
        [key for _, _, key, _ in out],
        updated,
        np.array([moved for *_, moved in out], dtype=np.bool_),
    )


def _between_names(moved: npt.NDArray[np.bool_] | None, op: npt.NDArray[np.uint8], keys: list[bytes | None]) -> npt.NDArray[np.bool_] | None:
    """Only changes from one key to another; a row that gets or loses its key begins or ends with it."""
    if moved is None or not moved.any():
        return None
    moved = moved.copy()
    for i in np.flatnonzero(moved).tolist():
        new = keys[i + 1] if i + 1 < len(keys) and op[i + 1] == INSERT else None
        moved[i] = new is not None and not any((key or row_keys.NO_KEY).startswith(row_keys.NO_KEY) for key in (keys[i], new))
    return moved
