"""From the spans of whole transactions to a `Batch`: rows split into cells, cells made text, changes numbered, own transactions recognised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from adapters.mysql.binlog import rows
from adapters.mysql.binlog.event import damaged
from adapters.mysql.binlog.layout import Layout
from adapters.mysql.binlog.rows import Int32s
from adapters.mysql.binlog.stream import ARENA, END, SLOT, START, TXN, Bytes, Int64s
from adapters.mysql.failure import PIECES_FIX
from engine.errors import SynclineError, Terminal
from engine.model.batch import DELETE, Batch, Changes, Position, Transactions, Truncate, told_apart
from engine.model.schema import TableName

_PIECE_BYTES = 256 << 20
_COUNTED_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptied:
    """A TRUNCATE; `span`: how many spans came before it."""

    table: TableName
    txn: int
    span: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """All changes of some spans of one table. starts, lengths: shape (outputs, changes). span: index into the spans of the batch."""

    starts: Int64s
    lengths: Int32s
    op: Bytes
    span: Int64s

    def __len__(self) -> int:
        return len(self.op)


def cells(b: Bytes, spans: Int64s, which: npt.NDArray[np.int64], layout: Layout, row_bytes: float) -> Cells:
    """Splits the spans `which` of one table. `row_bytes`: a guess, for the first size of the arrays."""
    chosen = np.ascontiguousarray(spans[which])
    size = int((chosen[:, END] - chosen[:, START]).sum())
    room = int(size / max(row_bytes, 1.0) * 1.3) + 64
    outputs = len(layout.fields)
    while True:
        starts = np.empty((outputs, room), dtype=np.int64)
        lengths = np.empty((outputs, room), dtype=np.int32)
        op, span = np.empty(room, dtype=np.uint8), np.empty(room, dtype=np.int32)
        n, code = rows.split(b, chosen, layout.columns, layout.keys, starts, lengths, op, span)
        if code != rows.NO_ROOM:
            break
        room *= 2
    if code == rows.PIECES:
        where = f"{layout.wanted.database}.{layout.wanted.table}"
        raise Terminal("the log holds only pieces of changed JSON values (binlog_row_value_options is PARTIAL_JSON)", where=where, fix=PIECES_FIX)
    if code != rows.GOOD:
        where = f"{layout.wanted.database}.{layout.wanted.table}"
        raise Terminal("the log holds a rows event that does not fit its table map", where=where, fix="check the server's log, then resync")
    return Cells(starts=starts[:, :n], lengths=lengths[:, :n], op=op[:n], span=which[span[:n]])


def text(b: Bytes, found: Cells, layout: Layout) -> pa.Table:
    """One string column per wanted column."""
    columns = []
    try:
        for out, field in enumerate(layout.fields):
            columns.append(pa.chunked_array(field.convert(b, found.starts[out], found.lengths[out]), type=pa.string()))
    except SynclineError as wrong:
        wrong.where = f"{layout.wanted.database}.{layout.wanted.table}" + (f", {wrong.where}" if wrong.where else "")
        raise
    return pa.table(columns, names=list(layout.wanted.columns))


class Assembler:
    """Keeps, from batch to batch, what a row of each table takes."""

    def __init__(self, system: str, rule_set: str) -> None:
        self._system = system
        self._rule_set = rule_set
        self._row_bytes: dict[tuple[str, str], float] = {}

    def batch(
        self, b: Bytes, spans: Int64s, txns: Int64s, layouts: Sequence[Layout], emptied: Sequence[Emptied], high: Position, *, is_open: bool = False
    ) -> Batch:
        """`spans`: of whole transactions, or of a part of one, in log order, offsets into `b`. `txns`: commit time, order."""
        by_slot: dict[int, list[npt.NDArray[np.int64]]] = {}
        if len(spans):
            order = np.argsort(spans[:, SLOT], kind="stable")
            cuts = np.flatnonzero(np.diff(spans[order, SLOT])) + 1
            for which in np.split(order, cuts):
                by_slot[int(spans[which[0], SLOT])] = self._pieces(spans, which)
        per_span = np.zeros(len(spans) + 1, dtype=np.int64)
        origin = np.full(len(txns), -1, dtype=np.int32)
        own_batch = np.zeros(len(txns), dtype=np.int64)
        origins: list[str] = []
        found: list[tuple[Layout, Cells]] = []
        for slot, pieces in by_slot.items():
            layout = layouts[slot]
            for which in pieces:
                got = self._cells(b, spans, which, layout)
                if layout.wanted.watched is None:
                    self._own(b, got, layout, spans, origin, own_batch, origins)
                elif len(got):
                    found.append((layout, got))
                    per_span[:-1] += np.bincount(got.span, minlength=len(spans))
        for gone in emptied:
            per_span[gone.span] += 1
        # a truncate comes before the rows of the span it names
        base = np.concatenate([[0], np.cumsum(per_span[:-1])])
        truncates = []
        shift = np.zeros(len(spans) + 1, dtype=np.int64)
        for gone in emptied:
            truncates.append(Truncate(table=gone.table, seq=int(base[gone.span] + shift[gone.span]), txn=gone.txn))
            shift[gone.span] += 1
        return Batch(
            system=self._system,
            high=high,
            transactions=Transactions(
                commit_us=txns[:, 0].copy(),
                order=txns[:, 1].copy(),
                fence=txns[:, 1].copy(),
                origin=origin,
                batch=own_batch,
                origins=tuple(origins),
            ),
            changes=tuple(self._changes(b, spans, base + shift, found)),
            truncates=tuple(truncates),
            open=is_open,
        )

    def count(self, bytes_of: Callable[[int], Bytes], spans: Int64s, layouts: Sequence[Layout]) -> Int64s:
        """Changes of each span. bytes_of: the bytes that the spans of an arena point into."""
        counts = np.zeros(len(spans), dtype=np.int64)
        kinds = spans[:, SLOT] * 2 + spans[:, ARENA]
        for kind in np.unique(kinds).tolist():
            for which in self._pieces(spans, np.flatnonzero(kinds == kind), _COUNTED_BYTES):
                counts += np.bincount(self._cells(bytes_of(kind % 2), spans, which, layouts[kind // 2]).span, minlength=len(spans))
        return counts

    def _pieces(self, spans: Int64s, which: npt.NDArray[np.int64], size: int = _PIECE_BYTES) -> list[npt.NDArray[np.int64]]:
        """Many spans are decoded in pieces."""
        sizes = np.cumsum(spans[which, END] - spans[which, START])
        if sizes[-1] <= size:
            return [which]
        return [part for part in np.split(which, np.flatnonzero(np.diff(sizes // size)) + 1) if len(part)]

    def _cells(self, b: Bytes, spans: Int64s, which: npt.NDArray[np.int64], layout: Layout) -> Cells:
        key = (layout.wanted.database, layout.wanted.table)
        got = cells(b, spans, which, layout, self._row_bytes.get(key, 24.0))
        if len(got):
            size = int((spans[which, END] - spans[which, START]).sum())
            self._row_bytes[key] = max(1.0, size / len(got))
        return got

    def _own(
        self,
        b: Bytes,
        got: Cells,
        layout: Layout,
        spans: Int64s,
        origin: npt.NDArray[np.int32],
        own_batch: Int64s,
        origins: list[str],
    ) -> None:
        """Rows of the checkpoint table: those of our rule set mark their transaction."""
        marks = text(b, got, layout).to_pylist()
        for k, mark in enumerate(marks):
            if got.op[k] == DELETE or mark["rule_set"] != self._rule_set:
                continue
            if mark["source"] is None or mark["batch"] is None:
                raise damaged("a row of syncline_checkpoint")
            if mark["source"] not in origins:
                origins.append(mark["source"])
            txn = int(spans[got.span[k], TXN])
            origin[txn] = origins.index(mark["source"])
            own_batch[txn] = int(mark["batch"])

    def _changes(self, b: Bytes, spans: Int64s, base: Int64s, found: Sequence[tuple[Layout, Cells]]) -> list[Changes]:
        by_table: dict[TableName, list[Changes]] = {}
        for layout, got in found:
            watched = layout.wanted.watched
            assert watched is not None
            # the rows of a span lie side by side: number within the span = place - place of its first row
            first = np.flatnonzero(np.concatenate([[True], got.span[1:] != got.span[:-1]]))
            within = np.arange(len(got)) - np.repeat(first, np.diff(np.append(first, len(got))))
            op, moved = told_apart(got.op.copy())
            made = Changes(
                table=watched.table,
                seq=base[got.span] + within,
                txn=spans[got.span, TXN].astype(np.int32),
                op=op,
                values=text(b, got, layout),
                missing=np.ascontiguousarray((got.lengths == rows.MISSING).T),
                moved=moved,
            )
            by_table.setdefault(watched.table.name, []).append(made)
        return [parts[0] if len(parts) == 1 else _joined(parts) for parts in by_table.values()]


def _joined(parts: Sequence[Changes]) -> Changes:
    seq = np.concatenate([part.seq for part in parts])
    values = pa.concat_tables([part.values for part in parts])
    txn = np.concatenate([part.txn for part in parts])
    op = np.concatenate([part.op for part in parts])
    missing = np.concatenate([part.missing for part in parts])
    moved = None
    if any(part.moved is not None for part in parts):
        moved = np.concatenate([np.zeros(len(part), dtype=np.bool_) if part.moved is None else part.moved for part in parts])
    if np.any(np.diff(seq) < 0):
        order = np.argsort(seq, kind="stable")
        seq, txn, op, missing, values = seq[order], txn[order], op[order], missing[order], values.take(pa.array(order))
        moved = None if moved is None else moved[order]
    return Changes(table=parts[0].table, seq=seq, txn=txn, op=op, values=values, missing=missing, moved=moved)


def empty(system: str, high: Position) -> Batch:
    """A batch that only moves the position."""
    none = np.empty(0, dtype=np.int64)
    transactions = Transactions(commit_us=none, order=none, fence=none, origin=none.astype(np.int32), batch=none)
    return Batch(system=system, high=high, transactions=transactions)
