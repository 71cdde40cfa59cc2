"""Decodes pgoutput messages into batches of columns. No I/O: the caller hands over bytes and places, and takes batches.

Message formats: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html, protocol versions 1 and 2 (streamed
transactions are kept until their commit). A transaction that is too large for memory is handed over in parts. Two-phase messages are recognised and
refused; an unknown message stops the decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from adapters.postgres import pgoutput_scan as scanner
from adapters.postgres.pgoutput_relation import Relation, Shape, check_relation, parse_relation, parse_truncate
from adapters.postgres.pgoutput_stream import Streamed
from engine.errors import Terminal
from engine.model.batch import DELETE, Batch, Bools, Changes, Int32s, Int64s, Position, Transactions, Truncate, UInt8s, told_apart
from engine.model.schema import Table
from engine.model.types import Kind
from engine.ports import Watched

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_BODY = 26
_POSTGRES_EPOCH_US = 946_684_800_000_000
_scan: Any = scanner.scan
_MARKER_COLUMNS = ("rule_set", "source", "batch")


def position(order: int, system_id: str, part: tuple[int, int] | None = None) -> Position:
    """`0/16B3748@7301234567890`: the place in the log and the server whose log it is. Within a transaction that is handed over in parts the place is
    that before it, and `+0/16B9F00:1200` says which one (where its commit record lies) and how many of its row messages are done."""
    inside = "" if part is None else f"+{_lsn(part[0])}:{part[1]}"
    return Position(text=f"{_lsn(order)}@{system_id}{inside}", order=order)


def server_of(at: Position) -> str:
    """The server whose log it is; empty when the position does not say."""
    return at.text.partition("@")[2].partition("+")[0]


def part_of(at: Position) -> tuple[int, int] | None:
    """(where the transaction's commit record lies, row messages of it that are done) of a position within a transaction."""
    _, inside, text = at.text.partition("+")
    if not inside:
        return None
    committed, _, done = text.partition(":")
    return lsn_order(committed), int(done)


def _lsn(order: int) -> str:
    return f"{order >> 32:X}/{order & 0xFFFFFFFF:X}"


def lsn_order(text: str) -> int:
    """The place behind `0/16B3748`. ValueError when it is none."""
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


@dataclass(frozen=True, slots=True)
class _Segment:
    """Changes of one table that no longer refer to the input."""

    seq: Int64s
    txn: Int32s
    op: UInt8s
    columns: list[pa.StringArray]
    missing: Bools


@dataclass(slots=True)
class _Replay:
    """A streamed transaction on its way out: the blocks to come, the one at hand and the next message in it."""

    streamed: Streamed
    blocks: Iterator[tuple[Bytes, Ints, Ints]]
    end: int
    block: tuple[Bytes, Ints, Ints] | None = None
    first: int = 0


class Decoder:
    """Feed messages, then take a batch when `full`, or when `transactions` is not 0 and `inside` is false. Then `go_on`, while `replaying`.

    watched: the tables to deliver. marker: schema and name of this system's checkpoint table; its rows of `rule_set` mark a transaction
    as ours and are not delivered. shapes: the catalogue's types by (schema, table), to notice altered columns. xid: a recent 64-bit
    transaction id of the server, from which those of the log are widened. verify: check that text is UTF-8 (encoding SQL_ASCII).
    part_rows, part_bytes: a transaction that is larger is handed over in parts of this size. resume: see `part_of`. spill: where files for
    streamed transactions are made, None for the system's own place.
    """

    def __init__(
        self,
        system: str,
        watched: Sequence[Watched],
        *,
        rule_set: str = "",
        marker: tuple[str, str] | None = None,
        system_id: str = "",
        shapes: Mapping[tuple[str, str], Shape] | None = None,
        xid: int = 0,
        max_rows: int = 10_000,
        max_bytes: int = 16 << 20,
        part_rows: int = 100_000,
        part_bytes: int = 32 << 20,
        resume: tuple[int, int] | None = None,
        spill: Path | None = None,
        verify: bool = False,
    ) -> None:
        self._system, self._system_id, self._rule_set, self._verify = system, system_id, rule_set, verify
        self._watched = tuple(watched)
        self._marker, self._marker_index = marker, len(self._watched)
        self._shapes = shapes or {}
        self._names = {(w.table.name.schema, w.table.name.table): n for n, w in enumerate(self._watched)}
        self._known_oids = {shape.oid: key for key, shape in self._shapes.items() if key in self._names}
        self._xid = xid
        widths = [len(w.columns) for w in self._watched] + [len(_MARKER_COLUMNS)]
        self._widths = np.array(widths, dtype=np.int64)
        self._relations: dict[int, tuple[Relation, int]] = {}
        self._place_relations()
        self._state = np.zeros(scanner.STATE_LENGTH, dtype=np.int64)
        self._state[scanner.MAX_ROWS], self._state[scanner.MAX_SIZE] = max_rows, max_bytes
        self._state[scanner.PART_ROWS], self._state[scanner.PART_SIZE] = part_rows, part_bytes
        self._state[scanner.RESUME], self._state[scanner.RESUME_READ] = resume or (-1, 0)
        self._t: Any = [np.zeros(1024, dtype=np.int64) for _ in range(3)]
        self._c: Any = [np.zeros(4096, dtype=np.int64) for _ in range(4)]
        self._op = np.zeros(4096, dtype=np.uint8)
        self._cells: Any = [np.zeros(max(65536, 4 * max(widths)), dtype=np.int64) for _ in range(2)]
        self._raw: Bytes = np.zeros(0, dtype=np.uint8)
        self._segments: list[list[_Segment]] = [[] for _ in widths]
        self._truncates: list[Truncate] = []
        self._streams: dict[int, Streamed] = {}
        self._open_stream: int | None = None
        self._spill = spill
        self._replaying: _Replay | None = None
        self._open_own: tuple[str, int] | None = None

    @property
    def transactions(self) -> int:
        """Complete transactions that wait to be taken."""
        return int(self._state[scanner.TXNS])

    @property
    def inside(self) -> bool:
        """The last message read belongs to a transaction whose commit did not come yet."""
        return bool(self._state[scanner.IN_TXN])

    @property
    def full(self) -> bool:
        state = self._state
        if self.inside:
            rows, size = state[scanner.SEQ] - state[scanner.TXN_SEQ], state[scanner.SIZE] - state[scanner.TXN_SIZE]
            return bool(rows >= state[scanner.PART_ROWS] or size >= state[scanner.PART_SIZE])
        rows, size = state[scanner.ROWS] >= state[scanner.MAX_ROWS], state[scanner.SIZE] >= state[scanner.MAX_SIZE]
        return self.transactions > 0 and bool(rows or size or self.transactions >= state[scanner.MAX_ROWS])

    @property
    def replaying(self) -> bool:
        """A streamed transaction was committed and is not handed over to its end: `go_on` comes before any further message."""
        return self._replaying is not None

    @property
    def order(self) -> int:
        """The place up to which everything was read: the last commit, or what the server said since."""
        return int(max(self._state[scanner.COMMIT_END], self._state[scanner.WAL_END]))

    def reply_wanted(self) -> bool:
        """Whether the server asked for a reply since the last call."""
        wanted = bool(self._state[scanner.REPLY])
        self._state[scanner.REPLY] = 0
        return wanted

    def feed(self, raw: Bytes, starts: Ints, ends: Ints, first: int, count: int) -> int:
        """Reads the messages first..count, each the payload of one CopyData at raw[starts[i]:ends[i]], until there is no more or the batch
        is full. Returns the index of the first message not taken. Until `settle` or `take`, the bytes must stay where they are (a larger
        array may take over). Terminal on a message that is malformed or not known; then the decoder is of no more use."""
        self._raw = raw
        while first < count and not self.replaying:
            if self._open_stream is not None:
                first = self._keep_streamed(raw, starts, ends, first, count)
                continue
            first = self._scan(raw, starts, ends, first, count, 0)
            stop = int(self._state[scanner.STOP])
            if stop in (scanner.DONE, scanner.FULL):
                return first
            if stop != scanner.STREAM:
                raise self._malformed(stop, raw, int(starts[first]), int(ends[first]))
            self._stream(raw, bytes(raw[starts[first] + _BODY - 1 : ends[first]]))
            first += 1
            if self.full:
                return first
        return first

    def settle(self) -> None:
        """Copies what was read out of the input, so that the input may move."""
        count = int(self._state[scanner.CHANGES])
        if count == 0:
            return
        table_of, txn, seq, cell = self._c
        tables = table_of[:count]
        for index in np.unique(tables):
            rows = np.flatnonzero(tables == index)
            columns, missing = self._gather(rows, cell, int(self._widths[index]))
            self._segments[index].append(_Segment(seq[rows], txn[rows].astype(np.int32), self._op[rows], columns, missing))
        self._state[scanner.CHANGES] = self._state[scanner.CELLS] = 0

    def take(self) -> Batch:
        """Everything read so far as one batch. Inside a transaction: its part so far is the last one of the batch, which is `open` then."""
        self.settle()
        is_open, state = self.inside, self._state
        count = self.transactions + is_open
        commit, xid, order = (values[:count].copy() for values in self._t)
        part = None
        if is_open:
            part = int(order[-1]), int(state[scanner.READ])
            # Its end is not known yet. All parts have this place: past every commit before, and before every later one.
            order[-1] += 1
        origin, batch, origins = self._own(count)
        self._open_own = (origins[origin[-1]], int(batch[-1])) if is_open and origin[-1] >= 0 else None
        transactions = Transactions(commit_us=commit, order=order, fence=self._widen(xid), origin=origin, batch=batch, origins=origins)
        changes = tuple(_joined(watched.table, watched.columns, segments) for watched, segments in zip(self._watched, self._segments, strict=False) if segments)
        out = Batch(
            system=self._system,
            high=position(self.order, self._system_id, part),
            transactions=transactions,
            changes=changes,
            truncates=tuple(self._truncates),
            open=is_open,
        )
        if is_open:
            for values in self._t:
                values[0] = values[count - 1]
            state[scanner.PARTS] = 1
        self._segments = [[] for _ in self._segments]
        self._truncates = []
        for place in (scanner.TXNS, scanner.SEQ, scanner.TXN_SEQ, scanner.ROWS, scanner.SIZE, scanner.TXN_SIZE):
            state[place] = 0
        return out

    def _scan(self, raw: Bytes, starts: Ints, ends: Ints, first: int, count: int, skip: int) -> int:
        """Scans on over the messages that this class handles itself; stops for all others."""
        while True:
            first = _scan(
                raw,
                starts,
                ends,
                first,
                count,
                skip,
                self._state,
                *self._relation_arrays,
                self._slots,
                self._flags,
                self._widths,
                *self._t,
                *self._c,
                self._op,
                *self._cells,
            )
            stop = self._state[scanner.STOP]
            if stop == scanner.GROW:
                self._grow()
                continue
            if stop not in (scanner.RELATION, scanner.TRUNCATE):
                return first
            body = bytes(raw[starts[first] + _BODY + skip : ends[first]])
            if stop == scanner.RELATION:
                self._relation(parse_relation(body))
            else:
                self._truncate(parse_truncate(body))
            first += 1

    def _relation(self, relation: Relation) -> None:
        name = (relation.schema, relation.table)
        index = self._names.get(name, -1)
        if index >= 0:
            watched = self._watched[index]
            check_relation(relation, watched.table, watched.columns, self._shapes.get(name))
            self._known_oids[relation.oid] = name
        elif name == self._marker:
            index = self._marker_index
        if self._known_oids.get(relation.oid, name) != name:
            what = f"table {'.'.join(self._known_oids[relation.oid])} was renamed to {relation.schema}.{relation.table}"
            raise Terminal(what, where=self._system, fix="adapt the rules that read it, then resync them")
        self._relations[relation.oid] = (relation, index)
        self._place_relations()

    def _place_relations(self) -> None:
        """Lays the known relations out for the scanner, ordered by oid."""
        oids = sorted(self._relations)
        tables, bases, counts = [], [], []
        slots: list[int] = []
        flags: list[int] = []
        for oid in oids:
            relation, index = self._relations[oid]
            tables.append(index)
            bases.append(len(slots))
            counts.append(len(relation.columns))
            if index < 0:
                continue  # its rows are passed over
            wanted: tuple[str, ...] = _MARKER_COLUMNS
            compared: set[str] = set()
            padded: set[str] = set()
            if index < self._marker_index:
                watched = self._watched[index]
                wanted, compared = watched.columns, {*watched.identity, *watched.table.primary_key}
                padded = {c.name for c in watched.table.columns if c.type.padded and c.type.kind is Kind.TEXT}
            place = {name: n for n, name in enumerate(wanted)}
            for column in relation.columns:
                slots.append(place.get(column.name, -1))
                flags.append(scanner.KEY * column.key | scanner.COMPARED * (column.name in compared) | scanner.PADDED * (column.name in padded))
        self._relation_arrays: Any = tuple(np.array(values, dtype=np.int64) for values in (oids, tables, bases, counts))
        self._slots, self._flags = np.array(slots, dtype=np.int64), np.array(flags, dtype=np.uint8)

    def _truncate(self, oids: Sequence[int]) -> None:
        for oid in oids:
            if oid not in self._relations:
                raise Terminal(f"the log cannot be read: {scanner.REASONS[scanner.NO_RELATION]}", where=self._system)
            index = self._relations[oid][1]
            if 0 <= index < self._marker_index:
                seq, txn = int(self._state[scanner.SEQ]), self.transactions
                self._truncates.append(Truncate(table=self._watched[index].table.name, seq=seq, txn=txn))
                self._state[scanner.SEQ] += 1
                self._state[scanner.ROWS] += 1

    def _grow(self) -> None:
        if self._state[scanner.TXNS] + 1 > len(self._t[0]):
            self._t = [np.concatenate([values, np.zeros_like(values)]) for values in self._t]
            return
        if self._state[scanner.CHANGES] + 2 > len(self._op):
            self._c = [np.concatenate([values, np.zeros_like(values)]) for values in self._c]
            self._op = np.concatenate([self._op, np.zeros_like(self._op)])
        else:
            self._cells = [np.concatenate([values, np.zeros_like(values)]) for values in self._cells]

    def _gather(self, rows: Ints, cell: Ints, width: int) -> tuple[list[pa.StringArray], Bools]:
        starts, lengths = self._cells
        sizes, nulls = np.zeros(width, dtype=np.int64), np.zeros(width, dtype=np.int64)
        scanner.measure(rows, cell, width, lengths, sizes, nulls)
        missing = np.zeros((len(rows), width), dtype=np.bool_)
        columns = []
        for column in range(width):
            offsets, data = np.empty(len(rows) + 1, dtype=np.int32), np.empty(sizes[column], dtype=np.uint8)
            valid = np.zeros((len(rows) + 7) // 8 if nulls[column] else 0, dtype=np.uint8)
            scanner.gather(self._raw, rows, cell, column, starts, lengths, offsets, data, valid, missing)
            bitmap = pa.py_buffer(valid) if nulls[column] else None
            array = pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(data), bitmap, int(nulls[column]))
            if self._verify:
                try:
                    array.validate(full=True)
                except pa.ArrowInvalid as error:
                    what = "a text is not UTF-8, and the database has encoding SQL_ASCII"
                    fix = "convert the database to UTF8, or mend the rows"
                    raise Terminal(what, where=self._system, fix=fix) from error
            columns.append(array)
        return columns, missing

    def _own(self, count: int) -> tuple[Int32s, Int64s, tuple[str, ...]]:
        """Which transactions are ours: one look per marker row, of which each of our transactions has one. The first one may go on from a batch before."""
        origin, batch = np.full(count, -1, dtype=np.int32), np.zeros(count, dtype=np.int64)
        origins: dict[str, int] = {}
        if self._open_own is not None and count:
            origin[0], batch[0] = origins.setdefault(self._open_own[0], 0), self._open_own[1]
        for segment in self._segments[self._marker_index]:
            rows = zip(segment.op, segment.txn, *(column.to_pylist() for column in segment.columns), strict=True)
            for op, txn, rule_set, source, number in rows:
                if op != DELETE and rule_set == self._rule_set and source is not None and number is not None:
                    origin[txn] = origins.setdefault(source, len(origins))
                    batch[txn] = int(number)
        return origin, batch, tuple(origins)

    def _widen(self, xids: Ints) -> Int64s:
        """32-bit transaction ids of the log as 64-bit ones, by nearness to the last one known."""
        if len(xids) == 0:
            return xids
        near = (xids - self._xid + (1 << 31)) % (1 << 32) - (1 << 31)
        wide = np.maximum(near + self._xid, xids)
        self._xid = max(self._xid, int(wide.max()))
        return wide

    def _stream(self, raw: Bytes, message: bytes) -> None:
        """Start, commit and abort of a transaction that the server sends before it is committed."""
        kind, body = message[:1], message[1:]
        try:
            if kind == b"S":
                (xid, _) = struct.unpack("!IB", body)
                if xid not in self._streams:
                    self._streams[xid] = Streamed(self._spill)
                self._open_stream = xid
            elif kind == b"c":
                xid, _, committed, end, at = struct.unpack("!IBQqq", body)
                if end < 0 or committed >= 1 << 62 or not 0 <= at + _POSTGRES_EPOCH_US < 1 << 63:
                    raise Terminal(f"the log cannot be read: {scanner.REASONS[scanner.RANGE]}", where=self._system)
                self._replay(xid, committed, end, at + _POSTGRES_EPOCH_US)
                self._raw = raw
            elif kind == b"A":
                xid, part = struct.unpack_from("!II", body)
                if xid == part:
                    gone = self._streams.pop(xid, None)
                    if gone is not None:
                        gone.close()
                elif xid in self._streams:
                    self._streams[xid].drop(part)
            else:
                raise Terminal("the log cannot be read: a stream stops that did not start", where=self._system)
        except struct.error as error:
            raise Terminal("the log cannot be read: a message of a streamed transaction is malformed", where=self._system) from error

    def _keep_streamed(self, raw: Bytes, starts: Ints, ends: Ints, first: int, count: int) -> int:
        assert self._open_stream is not None
        xids = np.empty(count - first, dtype=np.int64)
        stop, why = scanner.stream_block(raw, starts, ends, first, count, xids)
        if why < 0:
            raise self._malformed(why, raw, int(starts[stop]), int(ends[stop]))
        self._streams[self._open_stream].keep(raw, starts[first:stop], ends[first:stop], xids[: stop - first])
        self._state[scanner.REPLY] |= int((raw[starts[first:stop]] == ord("k")).any())
        if why == 0:
            self._open_stream = None
            return int(stop) + 1
        return int(stop)

    def _replay(self, xid: int, committed: int, end: int, committed_us: int) -> None:
        """A streamed transaction was committed: it takes its place in the order of commits."""
        self.settle()
        streamed = self._streams.pop(xid, None)
        if streamed is None:
            raise Terminal("the log cannot be read: a streamed transaction is committed that did not start", where=self._system)
        if self.transactions + 1 > len(self._t[0]):
            self._grow()
        at, state = self.transactions, self._state
        self._t[0][at], self._t[1][at], self._t[2][at] = committed_us, xid, committed
        state[scanner.IN_TXN] = 1
        scanner.open_transaction(state, committed)
        self._replaying = _Replay(streamed, streamed.parts(), end)
        self.go_on()

    def go_on(self) -> None:
        """Reads on in the streamed transaction that is `replaying`, until its end or until the batch is full."""
        replay, state = self._replaying, self._state
        assert replay is not None
        while True:
            if replay.block is None:
                replay.block, replay.first = next(replay.blocks, None), 0
            if replay.block is None:
                break
            raw, starts, ends = replay.block
            self._raw = raw
            replay.first = self._scan(raw, starts, ends, replay.first, len(starts), 4)
            self.settle()
            if state[scanner.STOP] == scanner.FULL:
                return
            if state[scanner.STOP] != scanner.DONE:
                raise self._malformed(int(state[scanner.STOP]), raw, int(starts[replay.first]), int(ends[replay.first]))
            replay.block = None
        self._replaying = None
        replay.streamed.close()
        state[scanner.IN_TXN], state[scanner.COMMIT_END] = 0, replay.end
        self._t[2][self.transactions] = self._t[2][self.transactions] + 1 if state[scanner.PARTS] else replay.end
        if state[scanner.PARTS] or state[scanner.SEQ] > state[scanner.TXN_SEQ]:
            state[scanner.TXNS] += 1

    def close(self) -> None:
        """Gives up what was streamed and not committed."""
        for streamed in self._streams.values():
            streamed.close()
        if self._replaying is not None:
            self._replaying.streamed.close()

    def _malformed(self, reason: int, raw: Bytes, start: int, end: int) -> Terminal:
        kind = raw[start + _BODY - 1] if end - start >= _BODY else raw[start] if end > start else 0
        name = chr(kind) if 32 < kind < 127 else f"0x{kind:02x}"
        if reason == scanner.TWO_PHASE:
            what = f"the log brings a prepared transaction (message {name}), and the slot was made for two-phase decoding"
            return Terminal(what, where=self._system, fix="drop the slot and let Syncline create its own")
        why = scanner.REASONS.get(reason, "it is not understood")
        what = f"the log cannot be read: {why} (message {name})"
        return Terminal(what, where=self._system, fix="report this with the version of the server")


def _joined(table: Table, names: tuple[str, ...], segments: list[_Segment]) -> Changes:
    if len(segments) == 1:
        only = segments[0]
        seq, txn, op, missing, columns = only.seq, only.txn, only.op, only.missing, only.columns
    else:
        seq, txn = np.concatenate([s.seq for s in segments]), np.concatenate([s.txn for s in segments])
        op, missing = np.concatenate([s.op for s in segments]), np.concatenate([s.missing for s in segments])
        columns = [pa.chunked_array([s.columns[n] for s in segments]).combine_chunks() for n in range(len(names))]
    op, moved = told_apart(op)
    return Changes(table=table, seq=seq, txn=txn, op=op, values=pa.Table.from_arrays(columns, names=list(names)), missing=missing, moved=moved)
