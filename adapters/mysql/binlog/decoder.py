"""The decoder of one dump connection: bytes are fed in, batches of whole transactions come out. No I/O; what it must ask of the server it asks through
`Catalogue`.

Bytes lie in one buffer that rows point into until their batch is taken. Events from compressed parts lie in a second one. A transaction that is too large
for memory makes the buffer a mapped file, and is handed over in parts once its end is there: a log may break off within a transaction.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from adapters.mysql import gtid
from adapters.mysql.binlog import event as e
from adapters.mysql.binlog import stream as s
from adapters.mysql.binlog import table_map as t
from adapters.mysql.binlog.assemble import Assembler, Emptied, empty
from adapters.mysql.binlog.layout import Layout, Wanted, layout
from adapters.mysql.binlog.statement import Kind, effect
from adapters.mysql.schema import Described
from adapters.spill import SpillFile
from engine.errors import SynclineError, Terminal, Transient
from engine.model.batch import Batch, Position

Catalogue = Callable[[str, str], tuple[Described, ...]]
"""Columns of a table as they are now, by database and name; empty when there is no such table."""

_BUFFER = 8 << 20
_LEAST_ROOM = 64 << 10
_EVENTS = 1 << 16
_MAPS = 1 << 16
_IN_MEMORY = 64 << 20
"""A larger buffer is a mapped file."""
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
        self._wanted = {(want.database.lower(), want.table.lower()): want for want in (*watched, marker)}
        self._watched = {(want.database, want.table) for want in watched}
        self._catalogue = catalogue
        self._described = dict(described)
        self._charsets = charsets
        self._old_uuid = old_uuid
        self._assembler = Assembler(system, rule_set)
        self._mariadb = mariadb
        self._gtids: gtid.MySqlGtids | None = None
        self._open_gtid: e.Gtid | None = None

        self._spill = spill
        self._files: dict[str, SpillFile] = {}
        self._part_rows, self._part_bytes = part_rows, part_bytes
        self._resume = gtid.part_of(start)
        self._before = start
        self._parts: deque[tuple[int, int]] = deque()
        self._buffer = np.empty(_BUFFER, dtype=np.uint8)
        self._end = 0
        self._scanned = 0
        self._arena = np.empty(0, dtype=np.uint8)
        self._arena_end = 0
        self._offsets = np.empty(_EVENTS, dtype=np.int64)
        self._sizes = np.empty(_EVENTS, dtype=np.int64)
        self._event, self._events = 0, 0

        self._state = np.zeros(s.STATE, dtype=np.int64)
        self._spans = np.empty((4096, s.SPAN), dtype=np.int64)
        self._txns = np.empty((4096, 2), dtype=np.int64)
        self._domains = np.zeros((8, 3), dtype=np.int64)
        self._registry = np.full((s.REGISTRY, 4), -1, dtype=np.int64)
        self._maps = np.empty(_MAPS, dtype=np.uint8)
        self._known: dict[int, bytes] = {}
        self._maps_end = 0
        self._layouts: list[Layout] = []
        self._slots: dict[bytes, int] = {}
        self._emptied: list[Emptied] = []
        self._failure: SynclineError | None = None
        self.full = False
        self.log_file = ""
        self._rows, self._size = rows, size
        self._state[s.CHECKSUM] = 4 if checksum else 0
        self._state[s.LIMIT] = min(rows * 24, size)
        # Where reading resumes within a transaction that has a batch of its own as well, however large it is by the settings of today.
        self._largest = min(part_bytes, part_rows * _LEAST_ROW)
        self._state[s.LARGEST] = -1 if self._resume else self._largest
        self._state[s.SEQUENCE] = -1
        self.described = False
        self._start = start
        self._begin(*gtid.parts(start))

    def _begin(self, file: str, offset: int, state: str) -> None:
        self._file(file, offset)
        self._state[s.DONE_POS] = offset
        if not state:
            return
        if self._mariadb:
            domains = gtid.MariaGtids.parse(state).domains
            self._domains = np.zeros((len(domains) + 8, 3), dtype=np.int64)
            for k, (domain, (server, sequence)) in enumerate(domains.items()):
                self._domains[k] = domain, server, sequence
            self._state[s.DOMAINS] = len(domains)
        else:
            self._gtids = gtid.MySqlGtids.parse(state)

    def _file(self, file: str, offset: int) -> None:
        self.log_file = file
        self._state[s.FILE] = gtid.order(file, 0) >> 40
        self._state[s.POS] = offset

    # bytes in

    def room(self) -> memoryview:
        """Where the next bytes go; say with `feed` how many came."""
        if len(self._buffer) - self._end < _LEAST_ROOM:
            self._make_room()
        return self._buffer.data[self._end :]

    def _make_room(self) -> None:
        used = self._used()
        if used >= len(self._buffer) // 4:
            self._drop(used)
        else:
            self._buffer = self._grown("buffer", self._buffer, self._end, 2 * len(self._buffer))

    def _grown(self, name: str, array: s.Bytes, used: int, size: int) -> s.Bytes:
        """A larger array that begins with the `used` first bytes of this one; a mapped file where it is too large for memory."""
        if size <= _IN_MEMORY:
            bigger = np.empty(size, dtype=np.uint8)
        elif name in self._files:
            return self._files[name].mapped(size)
        else:
            self._files[name] = SpillFile(self._spill)
            bigger = self._files[name].mapped(size)
        bigger[:used] = array[:used]
        return bigger

    def _used(self) -> int:
        """Bytes at the start of the buffer that nothing needs any more."""
        next_byte = int(self._offsets[self._event]) - 5 if self._event < self._events else self._scanned
        spans = self._spans[: self._state[s.SPANS]]
        outer = spans[spans[:, s.ARENA] == 0]
        return min(next_byte, int(outer[0, s.START])) if len(outer) else next_byte

    def _drop(self, used: int) -> None:
        left = self._buffer[used : self._end].copy()
        if len(self._buffer) > _BUFFER and len(left) < _BUFFER // 2:
            self._buffer = np.empty(_BUFFER, dtype=np.uint8)
            self._files.pop("buffer", None)
        self._buffer[: len(left)] = left
        self._end -= used
        self._scanned -= used
        self._offsets[: self._events] -= used
        spans = self._spans[: self._state[s.SPANS]]
        outer = spans[:, s.ARENA] == 0
        spans[outer, s.START] -= used
        spans[outer, s.END] -= used

    def feed(self, size: int, now_us: int) -> None:
        """`size` bytes were written to `room()`. now_us: when they came, by the server's clock. What is wrong in them is raised by `take`, after the
        transactions before it."""
        self._end += size
        self._state[s.NOW] = now_us
        self.run()

    @property
    def pending(self) -> bool:
        """Whether whole transactions of interest are waiting."""
        return bool(self._state[s.TXNS])

    @property
    def position(self) -> Position:
        """After the last whole transaction."""
        if self._mariadb:
            rows = self._domains[: self._state[s.DOMAINS]].tolist()
            state = str(gtid.MariaGtids({domain: (server, sequence) for domain, server, sequence in rows}))
        else:
            state = "" if self._gtids is None else str(self._gtids)
        now = gtid.position(self.log_file, int(self._state[s.DONE_POS]), state)
        # a server asked by GTID begins before the place, without sending anything of it
        return self._start if now.order < self._start.order and state == gtid.parts(self._start)[2] else now

    # events

    def run(self) -> None:
        """Goes through the events at hand until a batch is full or bytes are missing."""
        if self._failure is not None:
            return
        try:
            while not self.full and (self._event < self._events or self._frame()):
                self._event, self.full = self._walk(self._buffer, self._offsets, self._sizes, self._event, self._events)
        except SynclineError as failure:
            self._failure = failure
        except (ArithmeticError, ValueError, LookupError) as wrong:
            # numbers that no server writes
            self._failure = e.damaged("an event")
            self._failure.__cause__ = wrong
        self.full = self.full or self._failure is not None

    def _frame(self) -> bool:
        self._events, self._scanned, why = s.frame(self._buffer, self._scanned, self._end, self._offsets, self._sizes)
        self._event = 0
        if self._events or why == s.MORE:
            return self._events > 0
        raise self._refused(why)

    def _refused(self, why: int) -> SynclineError:
        if why == s.SERVER_ERROR:
            size = int.from_bytes(self._buffer[self._scanned : self._scanned + 3].tobytes(), "little")
            packet = self._buffer[self._scanned + 4 : self._scanned + 4 + size].tobytes()
            return server_error(int.from_bytes(packet[1:3], "little"), packet[3:].decode("utf-8", "replace"))
        if why == s.END_OF_DATA:
            return Transient("the server ended the log stream", fix="it is opened again by itself; look whether another reader uses the same server_id")
        return e.damaged("a packet")

    def _walk(self, b: s.Bytes, offsets: s.Int64s, sizes: s.Int64s, at: int, count: int) -> tuple[int, bool]:
        while True:
            why, at = s.walk(
                b, offsets, sizes, at, count, self._state, self._spans, self._txns, self._domains, self._registry, self._maps
            )
            if why == s.DONE:
                return at, False
            if why == s.FULL:
                return at, True
            if why == s.OWN_BATCH:
                if self.pending and not self._state[s.INNER]:
                    return at, True  # what came before it first
                self._state[s.LARGE] = 1
                self._before = self.position
                continue
            if why == s.GROW:
                self._spans = _doubled(self._spans)
                self._txns = _doubled(self._txns)
                self._domains = _doubled(self._domains)
                continue
            if why == s.TORN:
                raise e.damaged("an event")
            if why == s.NO_MAP:
                # two tables whose numbers share a cell push each other out
                body = self._known.get(int.from_bytes(b[offsets[at] + e.HEADER :][:6].tobytes(), "little"))
                if body is None:
                    raise e.damaged("a rows event without the map of its table")
                self._table_map(body)
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
                self._table_map(body)
            case e.QUERY | e.QUERY_COMPRESSED | e.EXECUTE_LOAD_QUERY:
                self._query(e.query(kind, body), seconds)
            case _ if kind in _COMPRESSED:
                self._compressed_rows(kind, body)
            case e.ROTATE:
                self._rotate(body)
            case e.FORMAT_DESCRIPTION:
                # its own checksum is there even when other events have none
                whole = b[start + e.HEADER : start + size].tobytes()
                self._state[s.CHECKSUM] = 4 if e.format_description(whole).checksum == e.CRC32 else 0
                self.described = True
            case e.HEARTBEAT | e.HEARTBEAT_V2:
                self._heartbeat(int.from_bytes(head[13:17], "little"), body)
            case e.GTID:
                self._xa_gtid(head, body)
            case e.GTID_LOG | e.ANONYMOUS_GTID_LOG | e.GTID_TAGGED_LOG:
                self._mysql_gtid(e.tagged_gtid(body) if kind == e.GTID_TAGGED_LOG else e.mysql_gtid(kind, body))
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

    def _rotate(self, body: bytes) -> None:
        file, offset = e.rotate(body)
        if file != self.log_file or not self._state[s.DONE_POS]:
            self._file(file, offset)
        self._state[s.POS] = offset
        if not self._state[s.GROUP]:
            self._state[s.DONE_POS] = offset

    def _heartbeat(self, place: int, body: bytes) -> None:
        if place and not self._state[s.GROUP] and self.log_file.encode() in body:
            ahead = (place - int(self._state[s.POS])) & 0xFFFFFFFF
            if ahead < 1 << 31:
                self._state[s.POS] += ahead
                self._state[s.DONE_POS] = self._state[s.POS]

    # transactions

    def _close(self, seconds: int, *, keep: bool = False) -> None:
        s.close(self._state, self._txns, self._domains, seconds, keep)
        if self._open_gtid is not None:
            if self._gtids is not None and self._open_gtid.sid:
                self._gtids.add(self._open_gtid.sid, self._open_gtid.tag, self._open_gtid.number)
            self._open_gtid = None

    def _mysql_gtid(self, found: e.Gtid) -> None:
        # the commit of the transaction before was seen by the kernel
        self._settle()
        self._open_gtid = found
        self._state[s.COMMIT_US] = found.commit_us
        self._begin_group(3)

    def _begin_group(self, group: int) -> None:
        self._state[s.GROUP] = group
        s.forget_open(self._state)

    def _settle(self) -> None:
        if self._open_gtid is not None and not self._state[s.GROUP]:
            if self._gtids is not None and self._open_gtid.sid:
                self._gtids.add(self._open_gtid.sid, self._open_gtid.tag, self._open_gtid.number)
            self._open_gtid = None

    def _xa_gtid(self, head: bytes, body: bytes) -> None:
        """A GTID of MariaDB whose group prepares or ends an XA transaction."""
        self._state[s.SEQUENCE] = int.from_bytes(body[:8], "little")
        self._state[s.DOMAIN] = int.from_bytes(body[8:12], "little")
        self._state[s.SERVER] = int.from_bytes(head[5:9], "little")
        self._begin_group(1 if body[12] & e.PREPARED_XA else 2)

    def _xa_prepare(self, body: bytes, seconds: int) -> None:
        one_phase = bool(body[:1] and body[0])
        if not one_phase and self._rows_open():
            raise Terminal(
                "an XA transaction changed watched tables; whether it is committed is not known when its rows are in the log",
                fix="write these tables without XA (XA COMMIT ... ONE PHASE is fine), then resync",
            )
        self._close(seconds)

    def _rows_open(self) -> bool:
        return bool(self._state[s.SPANS] > self._state[s.OPEN_SPAN])

    def _payload(self, payload: e.Payload) -> None:
        """A whole transaction of MySQL, compressed."""
        begin = self._arena_end
        if payload.kind == 255:
            self._keep(payload.data)
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
                self._keep(raw)
            if self._arena_end - begin != payload.size:
                raise e.damaged("a compressed transaction")
        else:
            raise Terminal(
                "the log holds compressed transactions that cannot be read here", fix="SET GLOBAL binlog_transaction_compression = OFF, then resync"
            )
        offsets, sizes = np.empty(_EVENTS, dtype=np.int64), np.empty(_EVENTS, dtype=np.int64)
        end = self._arena_end
        self._state[s.INNER] = 1
        limit, self._state[s.LIMIT] = int(self._state[s.LIMIT]), np.iinfo(np.int64).max
        try:
            while begin < end:
                count, begin, why = s.unframed(self._arena, begin, end, offsets, sizes)
                if why == s.BROKEN:
                    raise e.damaged("a compressed transaction")
                self._walk(self._arena, offsets, sizes, 0, count)
        finally:
            self._state[s.INNER] = 0
            self._state[s.LIMIT] = limit

    def _compressed_rows(self, kind: int, body: bytes) -> None:
        """MariaDB: the rows are compressed, what stands before them is not."""
        cell = self._registry[int.from_bytes(body[:6], "little") % s.REGISTRY]
        plain = kind - e.WRITE_ROWS_COMPRESSED_V1 + e.WRITE_ROWS_V1
        at = 8
        if kind >= e.WRITE_ROWS_COMPRESSED:
            plain = kind - e.WRITE_ROWS_COMPRESSED + e.WRITE_ROWS
            at += int.from_bytes(body[8:10], "little")
        width, at = e.length_encoded(body, at)
        at += (width + 7) // 8 * (2 if plain in (e.UPDATE_ROWS_V1, e.UPDATE_ROWS) else 1)
        raw = body[8:at] + e.inflate(body[at:])
        start = self._keep(raw)
        s.add_span(self._state, self._spans, int(cell[1]), plain, start, start + len(raw), 1)

    def _keep(self, raw: bytes) -> int:
        """Copies into the second buffer."""
        start, end = self._arena_end, self._arena_end + len(raw)
        if end > len(self._arena):
            self._arena = self._grown("arena", self._arena, start, max(2 * len(self._arena), end, 1 << 20))
        self._arena[start:end] = np.frombuffer(raw, dtype=np.uint8)
        self._arena_end = end
        return start

    # tables

    def _table_map(self, body: bytes) -> None:
        table_id, database, table, _ = t.names(body)
        wanted = self._wanted.get((database.lower(), table.lower()))
        slot = -1
        if wanted is not None:
            # the same definition under a new number is the same layout
            slot = self._slots.get(body[6:], -1)
            if slot < 0:
                parsed = t.table_map(body, mariadb=self._mariadb)
                self._layouts.append(layout(wanted, parsed, self._columns(wanted, parsed), self._charsets, self._old_uuid))
                slot = self._slots[body[6:]] = len(self._layouts) - 1
        self._known.pop(table_id, None)
        self._known[table_id] = body
        if len(self._known) > s.REGISTRY:
            del self._known[next(iter(self._known))]
        if self._maps_end + len(body) > len(self._maps):
            self._tidy_maps(len(body))
        start, end = self._maps_end, self._maps_end + len(body)
        self._maps[start:end] = np.frombuffer(body, dtype=np.uint8)
        self._maps_end = end
        self._registry[table_id % s.REGISTRY] = table_id, slot, start, len(body)

    def _tidy_maps(self, more: int) -> None:
        """Keeps what the registry points to. A server gives a table a new number whenever it opens it anew."""
        live = [(cell, self._maps[at : at + size].copy()) for cell, (number, _, at, size) in enumerate(self._registry.tolist()) if number >= 0]
        room = sum(len(data) for _, data in live) + more
        self._maps = np.empty(max(2 * room, _MAPS), dtype=np.uint8)
        end = 0
        for cell, data in live:
            self._maps[end : end + len(data)] = data
            self._registry[cell, 2] = end
            end += len(data)
        self._maps_end = end

    def _columns(self, wanted: Wanted, parsed: t.TableMap) -> tuple[Described, ...]:
        key = (wanted.database, wanted.table)
        known = self._described.get(key)
        if known is None or (wanted.watched is None and not parsed.named):
            known = self._described[key] = self._catalogue(*key)
        return known

    def _query(self, query: e.Query, seconds: int) -> None:
        found = effect(query.text, query.database, self._watched)
        grouped = self._state[s.GROUP] == 1
        match found.kind:
            case Kind.BEGIN:
                self._begin_group(1)
                return
            case Kind.COMMIT:
                self._close(seconds)
                return
            case Kind.ROLLBACK | Kind.ROLLBACK_TO:
                if self._rows_open():
                    raise Terminal(
                        f"a transaction with watched tables holds a {found.kind.value} in the log, as it also changed tables without transactions",
                        fix="use InnoDB for all tables of such transactions, then resync",
                    )
                if found.kind is Kind.ROLLBACK:
                    self._close(seconds)
                return
            case Kind.XA_END:
                return
            case Kind.TRUNCATE:
                for database, table in found.tables:
                    watched = self._wanted[(database.lower(), table.lower())].watched
                    assert watched is not None
                    gone = Emptied(table=watched.table.name, txn=int(self._state[s.TXNS]), span=int(self._state[s.SPANS]))
                    self._emptied.append(gone)
                self._close(seconds, keep=True)
                return
            case Kind.DEFINITION:
                for database, table in found.tables:
                    self._redefined(database, table)
            case Kind.STOP:
                where = ", ".join(f"{database}.{table}" for database, table in found.tables)
                raise Terminal(found.why, where=where, fix=_STATEMENT_FIX if "by a statement" in found.why else "check the table, then resync")
            case _:
                pass
        if not grouped:
            self._close(seconds)

    def _redefined(self, database: str, table: str) -> None:
        """After DDL: the watched columns must be as they were."""
        wanted = self._wanted[(database.lower(), table.lower())]
        where = f"{wanted.database}.{wanted.table}"
        before = {column.name.lower(): column for column in self._columns(wanted, _NO_MAP)}
        fresh = self._catalogue(wanted.database, wanted.table)
        after = {column.name.lower(): column for column in fresh}
        for name in wanted.columns:
            was, now = before.get(name.lower()), after.get(name.lower())
            if now is None:
                raise _redefinition(where, f"column {name} was dropped or renamed")
            if was is not None and (was.declared, was.charset) != (now.declared, now.charset):
                raise _redefinition(where, f"column {name} is now of another type")
        self._described[(wanted.database, wanted.table)] = fresh

    # batches out

    def take(self) -> Batch | None:
        """The whole transactions so far as a batch; None when there are none. Raises what stopped the decoder once all before it is taken."""
        if not self.pending:
            if self._failure is not None:
                raise self._failure
            return None
        self._settle()
        if self._parts:
            return self._part()
        count, txn_count = int(self._state[s.OPEN_SPAN]), int(self._state[s.TXNS])
        spans = self._spans[:count].copy()
        sizes = spans[:, s.END] - spans[:, s.START]
        large = bool(self._state[s.LARGE]) and not self._state[s.GROUP] and txn_count == 1
        if large and (self._resumed(spans) or int(sizes.sum()) > self._part_bytes):
            return self._first_part(spans)
        batch = self._batch(spans, self.position)
        changes = sum(len(part) for part in batch.changes)
        if large and changes > self._part_rows:
            return self._first_part(spans)
        self._taken(count, txn_count)
        if changes:
            self._state[s.LIMIT] = min(max(self._rows * int(sizes.sum()) // changes, 1), self._size)
        return batch

    def _batch(self, spans: s.Int64s, high: Position, *, is_open: bool = False) -> Batch:
        inner = spans[:, s.ARENA] == 1
        b = self._buffer
        if inner.all() and len(spans):
            b = self._arena
        elif inner.any():
            outer = spans[~inner]
            low, end = int(outer[:, s.START].min()), int(outer[:, s.END].max())
            inside = spans[inner]
            begin, until = int(inside[:, s.START].min()), int(inside[:, s.END].max())
            b = np.concatenate([self._buffer[low:end], self._arena[begin:until]])
            shift = np.where(inner, end - low - begin, -low)
            spans = spans.copy()
            spans[:, s.START] += shift
            spans[:, s.END] += shift
        txns = self._txns[: int(self._state[s.TXNS])]
        return self._assembler.batch(b, spans, txns, self._layouts, self._emptied, high, is_open=is_open)

    def _resumed(self, spans: s.Int64s) -> bool:
        """Whether parts of this transaction were handed over before we began to read."""
        return self._resume is not None and self._resume[0] == int(self._txns[0, 1]) and len(spans) > 0

    def _first_part(self, spans: s.Int64s) -> Batch:
        """Cuts the one transaction that is waiting between its rows events."""
        bounds = [0]
        rows, size = 0, 0
        if self._resumed(spans):
            assert self._resume is not None
            bounds = [int(np.searchsorted(spans[:, s.EVENT_NUMBER], self._resume[1], side="right"))]
        counts = self._assembler.count(self._bytes_of, spans, self._layouts)
        sizes = spans[:, s.END] - spans[:, s.START]
        for n in range(bounds[0], len(spans)):
            if n > bounds[-1] and (rows + counts[n] > self._part_rows or size + sizes[n] > self._part_bytes):
                bounds.append(n)
                rows, size = 0, 0
            rows += int(counts[n])
            size += int(sizes[n])
        bounds.append(len(spans))
        self._parts.extend(itertools.pairwise(bounds))
        self.full = True
        return self._part()

    def _bytes_of(self, arena: int) -> s.Bytes:
        return self._arena if arena else self._buffer

    def _part(self) -> Batch:
        first, last = self._parts.popleft()
        spans = self._spans[: self._state[s.OPEN_SPAN]]
        # The marker, which is in the first part, tells of all of them whose they are.
        marks = np.array([self._layouts[slot].wanted.watched is None for slot in range(len(self._layouts))], dtype=np.bool_)
        chosen = np.flatnonzero(marks[spans[:, s.SLOT]] | ((np.arange(len(spans)) >= first) & (np.arange(len(spans)) < last)))
        high = self.position
        if self._parts:
            file, offset, state = gtid.parts(self._before)
            high = gtid.position(file, offset, state, (int(self._txns[0, 1]), int(spans[last - 1, s.EVENT_NUMBER])))
        batch = self._batch(spans[chosen].copy(), high, is_open=bool(self._parts))
        if not self._parts:
            self._taken(int(self._state[s.OPEN_SPAN]), 1)
        return batch

    def _taken(self, count: int, txn_count: int) -> None:
        left = self._spans[count : self._state[s.SPANS]].copy()
        self._spans[: len(left)] = left
        self._spans[: len(left), s.TXN] -= txn_count
        self._state[s.SPANS] = len(left)
        self._state[s.OPEN_SPAN] = 0
        self._state[s.TXNS] = 0
        self._state[s.SIZE] = 0
        if not self._state[s.GROUP]:
            self._state[s.LARGE] = 0
            self._state[s.LARGEST] = self._largest
        self._emptied = []
        self.full = self._failure is not None
        if not (left[:, s.ARENA] == 1).any():
            self._arena_end = 0
            if len(self._arena) > _BUFFER:
                self._arena = np.empty(0, dtype=np.uint8)
                self._files.pop("arena", None)
        used = self._used()
        if used > len(self._buffer) // 2 or used == self._end:
            self._drop(used)

    def moved(self) -> Batch:
        """A batch that only tells how far the log was read."""
        self._settle()
        return empty(self.system, self.position)


_NO_MAP = t.TableMap(id=0, database="", table="", columns=(t.LoggedColumn(type=0, meta=0, name=""),))
_STATEMENT_FIX = "SET GLOBAL binlog_format = ROW, and keep sessions from changing it; then resync"


def _redefinition(where: str, what: str) -> Terminal:
    return Terminal(what, where=where, fix="start again, so that the rules are checked against the new table")


def _doubled(array: s.Int64s) -> s.Int64s:
    bigger = np.zeros((2 * len(array), array.shape[1]), dtype=np.int64)
    bigger[: len(array)] = array
    return bigger


def server_error(number: int, message: str) -> SynclineError:
    """An error packet in the stream. The server's text names files and GTIDs, never values."""
    text = message[6:] if message.startswith("#") else message
    if number == 1236 and "same server" in text:
        return Terminal("another reader of this server's log uses the same server_id", fix="give each its own server_id")
    if number in (1236, 1373, 1789):
        gone = "purged" in text or "Could not find" in text or "not found" in text or "could not find" in text or "missing" in text
        what = "the server no longer has the log from the position that was reached" if gone else "the server cannot send its log from here"
        return Terminal(f"{what} (it says: {text[:300]})", fix="resync: the changes in between can only be had from the tables themselves")
    if number in (1227, 1045):
        return Terminal("the user may not read the log", fix="GRANT REPLICATION SLAVE ON *.* TO the user")
    return Transient(f"the server ended the log stream with error {number}", fix="it is opened again by itself")
