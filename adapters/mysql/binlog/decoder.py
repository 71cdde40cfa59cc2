"""The decoder of one dump connection: bytes are fed in, batches of whole transactions come out. No I/O; what it must ask of the server it asks through
`Catalogue`.

Bytes lie in the inbox, which rows point into until their batch is taken. Events from compressed parts lie in the arena. A transaction that is too large
for memory makes them mapped files, and is handed over in parts once its end is there: a log may break off within a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from adapters.mysql.binlog import event as e
from adapters.mysql.binlog import stream as s
from adapters.mysql.binlog.assemble import Assembler, Emptied, empty
from adapters.mysql.binlog.buffer import EVENTS, Arena, Inbox
from adapters.mysql.binlog.found import Found
from adapters.mysql.binlog.layout import Wanted
from adapters.mysql.binlog.parts import Parts
from adapters.mysql.binlog.place import Place
from adapters.mysql.binlog.statement import Kind, effect
from adapters.mysql.binlog.tables import Catalogue, Tables
from adapters.mysql.schema import Described
from engine.errors import SynclineError, Terminal
from engine.model.batch import Batch, Position

_LEAST_ROW = 8
_PIECE = 4 << 20
_COMPRESSED = range(e.WRITE_ROWS_COMPRESSED_V1, e.DELETE_ROWS_COMPRESSED + 1)


class Decoder:
    """rule_set: whose markers are ours. marker: the checkpoint table. described: columns of the watched tables as reading begins. charsets:
    character set by collation number. checksum: whether events before the first format description have one. start: where reading begins. rows, size:
    when a batch is full, the rows by what rows took so far, the size in bytes of row events. old_uuid: see `layout`. part_rows, part_bytes: a larger
    transaction comes in parts of this size. spill: where the file for it is made, None for the system's own place."""

    def __init__(
        self,
        system: str,
        rule_set: str,
        *,
        watched: Sequence[Wanted],
        marker: Wanted,
        described: Mapping[tuple[str, str], tuple[Described, ...]],
        catalogue: Catalogue,
        charsets: dict[int, str],
        mariadb: bool,
        checksum: bool,
        start: Position,
        rows: int = 10_000,
        size: int = 16 << 20,
        part_rows: int = 100_000,
        part_bytes: int = 32 << 20,
        spill: Path | None = None,
        old_uuid: bool = False,
    ) -> None:
        self.system = system
        self._watched = {(want.database, want.table) for want in watched}
        self._found = Found()
        self._state = self._found.state
        self._inbox, self._arena = Inbox(self._found, spill), Arena(spill)
        self._tables = Tables((*watched, marker), described, catalogue, charsets, mariadb=mariadb, old_uuid=old_uuid)
        self._place = Place(self._found, start, mariadb=mariadb)
        self._assembler = Assembler(system, rule_set)
        self._parts = Parts(self._found, self._tables, self._assembler, rows=part_rows, size=part_bytes, start=start)
        self._emptied: list[Emptied] = []
        self._failure: SynclineError | None = None
        self.full = False
        self._rows, self._size = rows, size
        self._state[s.CHECKSUM] = 4 if checksum else 0
        self._state[s.LIMIT] = min(rows * 24, size)
        # Where reading resumes within a transaction that has a batch of its own as well, however large it is by the settings of today.
        self._largest = min(part_bytes, part_rows * _LEAST_ROW)
        self._state[s.LARGEST] = -1 if self._parts.resumes else self._largest
        self.described = False

    # bytes in

    def room(self) -> memoryview:
        """Where the next bytes go; say with `feed` how many came."""
        return self._inbox.room()

    def feed(self, size: int, now_us: int) -> None:
        """`size` bytes were written to `room()`. now_us: when they came, by the server's clock. What is wrong in them is raised by `take`, after the
        transactions before it."""
        self._inbox.end += size
        self._state[s.NOW] = now_us
        self.run()

    @property
    def pending(self) -> bool:
        """Whether whole transactions of interest are waiting."""
        return self._found.pending

    @property
    def position(self) -> Position:
        """After the last whole transaction."""
        return self._place.position

    # events

    def run(self) -> None:
        """Goes through the events at hand until a batch is full or bytes are missing."""
        if self._failure is not None:
            return
        try:
            inbox = self._inbox
            while not self.full and (inbox.event < inbox.events or inbox.frame()):
                inbox.event, self.full = self._walk(inbox.data, inbox.offsets, inbox.sizes, inbox.event, inbox.events)
        except SynclineError as failure:
            self._failure = failure
        except (ArithmeticError, ValueError, LookupError) as wrong:
            # numbers that no server writes
            self._failure = e.damaged("an event")
            self._failure.__cause__ = wrong
        self.full = self.full or self._failure is not None

    def _walk(self, b: s.Bytes, offsets: s.Int64s, sizes: s.Int64s, at: int, count: int) -> tuple[int, bool]:
        found, place, tables = self._found, self._place, self._tables
        while True:
            why, at = s.walk(b, offsets, sizes, at, count, found.state, found.spans, found.txns, place.domains, tables.registry, tables.maps)
            if why == s.DONE:
                return at, False
            if why == s.FULL:
                return at, True
            if why == s.OWN_BATCH:
                if self.pending and not self._state[s.INNER]:
                    return at, True  # what came before it first
                self._state[s.LARGE] = 1
                self._parts.before = self.position
                continue
            if why == s.GROW:
                found.more_room()
                place.more_room()
                continue
            if why == s.TORN:
                raise e.damaged("an event")
            if why == s.NO_MAP:
                # two tables whose numbers share a cell push each other out
                body = tables.known.get(int.from_bytes(b[offsets[at] + e.HEADER :][:6].tobytes(), "little"))
                if body is None:
                    raise e.damaged("a rows event without the map of its table")
                tables.learn(body)
                continue
            start, size = int(offsets[at]), int(sizes[at])
            if b[start + 4] == e.TRANSACTION_PAYLOAD and self.pending:
                end = start + size - int(self._state[s.CHECKSUM])
                if e.transaction_payload(b[start + e.HEADER : end].tobytes()).size > self._state[s.LARGEST]:
                    return at, True
            self._rare(b, start, size)
            at += 1

    def _rare(self, b: s.Bytes, start: int, size: int) -> None:
        """An event that the kernel hands back."""
        kind = int(b[start + 4])
        inner = bool(self._state[s.INNER])
        end = start + size - (0 if inner else int(self._state[s.CHECKSUM]))
        head = b[start : start + e.HEADER].tobytes()
        body = b[start + e.HEADER : end].tobytes()
        seconds = int.from_bytes(head[:4], "little")
        match kind:
            case t_map if t_map == e.TABLE_MAP:
                self._tables.learn(body)
            case e.QUERY | e.QUERY_COMPRESSED | e.EXECUTE_LOAD_QUERY:
                self._query(e.query(kind, body), seconds)
            case _ if kind in _COMPRESSED:
                self._compressed_rows(kind, body)
            case e.ROTATE:
                self._place.rotate(body)
            case e.FORMAT_DESCRIPTION:
                # its own checksum is there even when other events have none
                whole = b[start + e.HEADER : start + size].tobytes()
                self._state[s.CHECKSUM] = 4 if e.format_description(whole).checksum == e.CRC32 else 0
                self.described = True
            case e.HEARTBEAT | e.HEARTBEAT_V2:
                self._place.heartbeat(int.from_bytes(head[13:17], "little"), body)
            case e.GTID:
                self._place.begin_xa(head, body)
            case e.GTID_LOG | e.ANONYMOUS_GTID_LOG | e.GTID_TAGGED_LOG:
                self._place.begin_mysql(e.tagged_gtid(body) if kind == e.GTID_TAGGED_LOG else e.mysql_gtid(kind, body))
            case e.TRANSACTION_PAYLOAD:
                self._payload(e.transaction_payload(body))
            case e.XA_PREPARE:
                self._xa_prepare(body, seconds)
            case e.GTID_LIST | e.STOP | e.BEGIN_LOAD_QUERY | 9 | 11:
                # a list of what came before; the end of a server's run; data of a LOAD whose statement follows
                pass
            case e.INCIDENT:
                raise Terminal(
                    "the server says that its log lost events here (incident event)", fix="resync: changes are missing from the log"
                )
            case e.START_ENCRYPTION:
                raise Terminal("the log is sent encrypted", fix="SET GLOBAL encrypt_binlog = OFF and FLUSH BINARY LOGS, then resync")
            case _:
                if not int.from_bytes(head[17:19], "little") & e.IGNORABLE_FLAG:
                    raise Terminal(f"the log holds an event of type {kind}, which is not known here", fix="report the server's version")

    # transactions

    def _xa_prepare(self, body: bytes, seconds: int) -> None:
        one_phase = bool(body[:1] and body[0])
        if not one_phase and self._found.rows_open:
            raise Terminal(
                "an XA transaction changed watched tables; whether it is committed is not known when its rows are in the log",
                fix="write these tables without XA (XA COMMIT ... ONE PHASE is fine), then resync",
            )
        self._place.close(seconds)

    def _payload(self, payload: e.Payload) -> None:
        """A whole transaction of MySQL, compressed."""
        begin = self._arena.end
        if payload.kind == 255:
            self._arena.keep(payload.data)
        elif payload.kind == 0 and pa.Codec.is_available("zstd"):
            # as a stream, for the frame does not tell its size
            stream = pa.CompressedInputStream(pa.BufferReader(payload.data), "zstd")
            while True:
                try:
                    raw = stream.read(_PIECE)
                except (pa.ArrowException, OSError) as wrong:
                    raise e.damaged("a compressed transaction") from wrong
                if not raw:
                    break
                self._arena.keep(raw)
            if self._arena.end - begin != payload.size:
                raise e.damaged("a compressed transaction")
        else:
            raise Terminal(
                "the log holds compressed transactions that cannot be read here", fix="SET GLOBAL binlog_transaction_compression = OFF, then resync"
            )
        offsets, sizes = np.empty(EVENTS, dtype=np.int64), np.empty(EVENTS, dtype=np.int64)
        end = self._arena.end
        self._state[s.INNER] = 1
        limit, self._state[s.LIMIT] = int(self._state[s.LIMIT]), np.iinfo(np.int64).max
        try:
            while begin < end:
                count, begin, why = s.unframed(self._arena.data, begin, end, offsets, sizes)
                if why == s.BROKEN:
                    raise e.damaged("a compressed transaction")
                self._walk(self._arena.data, offsets, sizes, 0, count)
        finally:
            self._state[s.INNER] = 0
            self._state[s.LIMIT] = limit

    def _compressed_rows(self, kind: int, body: bytes) -> None:
        """MariaDB: the rows are compressed, what stands before them is not."""
        cell = self._tables.registry[int.from_bytes(body[:6], "little") % s.REGISTRY]
        plain = kind - e.WRITE_ROWS_COMPRESSED_V1 + e.WRITE_ROWS_V1
        at = 8
        if kind >= e.WRITE_ROWS_COMPRESSED:
            plain = kind - e.WRITE_ROWS_COMPRESSED + e.WRITE_ROWS
            at += int.from_bytes(body[8:10], "little")
        width, at = e.length_encoded(body, at)
        at += (width + 7) // 8 * (2 if plain in (e.UPDATE_ROWS_V1, e.UPDATE_ROWS) else 1)
        raw = body[8:at] + e.inflate(body[at:])
        start = self._arena.keep(raw)
        s.add_span(self._state, self._found.spans, int(cell[1]), plain, start, start + len(raw), 1)

    def _query(self, query: e.Query, seconds: int) -> None:
        found = effect(query.text, query.database, self._watched)
        grouped = self._state[s.GROUP] == 1
        match found.kind:
            case Kind.BEGIN:
                self._place.begin(1)
                return
            case Kind.COMMIT:
                self._place.close(seconds)
                return
            case Kind.ROLLBACK | Kind.ROLLBACK_TO:
                if self._found.rows_open:
                    raise Terminal(
                        f"a transaction with watched tables holds a {found.kind.value} in the log, as it also changed tables without transactions",
                        fix="use InnoDB for all tables of such transactions, then resync",
                    )
                if found.kind is Kind.ROLLBACK:
                    self._place.close(seconds)
                return
            case Kind.XA_END:
                return
            case Kind.TRUNCATE:
                for database, table in found.tables:
                    watched = self._tables.wanted(database, table).watched
                    assert watched is not None
                    gone = Emptied(table=watched.table.name, txn=int(self._state[s.TXNS]), span=int(self._state[s.SPANS]))
                    self._emptied.append(gone)
                self._place.close(seconds, keep=True)
                return
            case Kind.DEFINITION:
                for database, table in found.tables:
                    self._tables.redefined(database, table)
            case Kind.STOP:
                where = ", ".join(f"{database}.{table}" for database, table in found.tables)
                raise Terminal(found.why, where=where, fix=_STATEMENT_FIX if "by a statement" in found.why else "check the table, then resync")
            case _:
                pass
        if not grouped:
            self._place.close(seconds)

    # batches out

    def take(self) -> Batch | None:
        """The whole transactions so far as a batch; None when there are none. Raises what stopped the decoder once all before it is taken."""
        if not self.pending:
            if self._failure is not None:
                raise self._failure
            return None
        self._place.settle()
        if self._parts.waiting:
            return self._part()
        spans = self._found.whole().copy()
        sizes = spans[:, s.END] - spans[:, s.START]
        large = bool(self._state[s.LARGE]) and not self._state[s.GROUP] and int(self._state[s.TXNS]) == 1
        if large and (self._parts.begun() or int(sizes.sum()) > self._parts.size):
            return self._first_part()
        batch = self._batch(spans, self.position)
        changes = sum(len(part) for part in batch.changes)
        if large and changes > self._parts.rows:
            return self._first_part()
        self._taken()
        if changes:
            self._state[s.LIMIT] = min(max(self._rows * int(sizes.sum()) // changes, 1), self._size)
        return batch

    def moved(self) -> Batch:
        """A batch that only tells how far the log was read."""
        self._place.settle()
        return empty(self.system, self.position)

    def _first_part(self) -> Batch:
        self._parts.cut(self._inbox, self._arena)
        self.full = True
        return self._part()

    def _part(self) -> Batch:
        part = self._parts.take()
        batch = self._batch(part.spans, part.position or self.position, is_open=self._parts.waiting)
        if not self._parts.waiting:
            self._taken()
        return batch

    def _batch(self, spans: s.Int64s, high: Position, *, is_open: bool = False) -> Batch:
        inner = spans[:, s.ARENA] == 1
        b = self._inbox.data
        if inner.all() and len(spans):
            b = self._arena.data
        elif inner.any():
            outer = spans[~inner]
            low, end = int(outer[:, s.START].min()), int(outer[:, s.END].max())
            inside = spans[inner]
            begin, until = int(inside[:, s.START].min()), int(inside[:, s.END].max())
            b = np.concatenate([self._inbox.data[low:end], self._arena.data[begin:until]])
            shift = np.where(inner, end - low - begin, -low)
            spans = spans.copy()
            spans[:, s.START] += shift
            spans[:, s.END] += shift
        txns = self._found.txns[: int(self._state[s.TXNS])]
        return self._assembler.batch(b, spans, txns, self._tables.layouts, self._emptied, high, is_open=is_open)

    def _taken(self) -> None:
        left = self._found.take()
        if not self._state[s.GROUP]:
            self._state[s.LARGE] = 0
            self._state[s.LARGEST] = self._largest
        self._emptied = []
        self.full = self._failure is not None
        if not (left[:, s.ARENA] == 1).any():
            self._arena.clear()
        self._inbox.tidy()


_STATEMENT_FIX = "SET GLOBAL binlog_format = ROW, and keep sessions from changing it; then resync"
