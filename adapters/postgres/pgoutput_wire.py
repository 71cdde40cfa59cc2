"""Carries the replication protocol: starts it, collects its messages in one buffer, sends status updates. Understands no content.

Two ways of the same protocol: through libpq (TLS, GSS), and straight from the socket once libpq has logged in, which takes half the CPU.
https://www.postgresql.org/docs/current/protocol-replication.html, https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import time
from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from adapters.postgres.connection import Connection
from adapters.postgres.pgoutput_scan import split_frames
from engine.errors import Gap, SynclineError, Terminal, Transient

_EPOCH_US = 946_684_800_000_000
_ROOM = 256 << 10
_AT_ONCE = 2 << 20
_MESSAGES_AT_ONCE = 20_000
_SEND_SECONDS = 10.0
_GONE = "the publication did not exist at this place of the log: it was dropped and created again, and changes are lost to us"


class Inbox:
    """Bytes as they came, and the places of whole messages in them: message i is raw[starts[i]:ends[i]] for first <= i < count."""

    def __init__(self) -> None:
        self.raw: npt.NDArray[np.uint8] = np.zeros(4 << 20, dtype=np.uint8)
        self.end = 0
        self.split = 0
        self.starts: npt.NDArray[np.int64] = np.zeros(32768, dtype=np.int64)
        self.ends: npt.NDArray[np.int64] = np.zeros(32768, dtype=np.int64)
        self.first = 0
        self.count = 0

    @property
    def waiting(self) -> bool:
        return self.first < self.count

    def room(self, size: int) -> memoryview:
        """Free space of at least `size` bytes behind the end."""
        if len(self.raw) - self.end < size:
            grown = np.zeros(max(2 * len(self.raw), self.end + size), dtype=np.uint8)
            grown[: self.end] = self.raw[: self.end]
            self.raw = grown
        return memoryview(self.raw.data)[self.end :]

    def places(self, more: int) -> None:
        if self.count + more > len(self.starts):
            size = max(2 * len(self.starts), self.count + more)
            self.starts, self.ends = (np.concatenate([old, np.zeros(size - len(old), dtype=np.int64)]) for old in (self.starts, self.ends))

    def forget(self) -> None:
        """Drops the bytes before the first message that was not read; what was read from them must be settled."""
        base = int(self.starts[self.first]) - 5 if self.waiting else self.split
        base = max(base, 0)
        left, kept = self.end - base, self.count - self.first
        self.raw[:left] = self.raw[base : self.end].copy()
        for places in (self.starts, self.ends):
            places[:kept] = places[self.first : self.count] - base
        self.end, self.split, self.first, self.count = left, self.split - base, 0, kept
        if len(self.raw) > (32 << 20) and left < (4 << 20):
            self.raw = self.raw[: 8 << 20].copy()


class Wire(ABC):
    """One replication connection after `start`. Transient when it is lost, Terminal when the server refuses to go on."""

    def __init__(self, connection: Connection, where: str) -> None:
        self.where, self.inbox = where, Inbox()
        self._connection = connection
        self._poll = select.poll()

    @abstractmethod
    def start(self, command: str) -> None:
        """Sends START_REPLICATION. Raises Busy when the slot is in use."""

    @abstractmethod
    def pull(self) -> int:
        """Takes what has come, without waiting; bytes taken, 0 when there is nothing."""

    @abstractmethod
    def _send(self, message: bytes) -> None: ...

    def wait(self, seconds: float) -> bool:
        """Until something comes; false when nothing did."""
        return bool(self._poll.poll(max(seconds, 0) * 1000))

    def status(self, flushed: int, *, reply: bool) -> None:
        """Standby status update: everything up to `flushed` is durable with us. reply: ask for a keepalive."""
        now = time.time_ns() // 1000 - _EPOCH_US
        self._send(struct.pack("!cQQQqB", b"r", flushed, flushed, flushed, now, reply))

    def close(self) -> None:
        self._connection.close()

    def _lost(self) -> Transient:
        return Transient("the connection to the server was lost", where=self.where, fix="it is tried again by itself")


class Busy(Exception):
    """The slot is in use by another connection."""


class LibpqWire(Wire):
    """Through libpq: any connection."""

    @property
    def _pgconn(self) -> PGconn:
        return self._connection.pgconn

    def start(self, command: str) -> None:
        self._notices: list[bytes] = []
        self._pgconn.notice_handler = self._notice
        result = self._pgconn.exec_(command.encode())
        if result.status != ExecStatus.COPY_BOTH:
            raise self._error(result)
        self._pgconn.nonblocking = 1
        self._poll.register(self._pgconn.socket, select.POLLIN)

    def _notice(self, result: PGresult) -> None:
        self._notices.append(result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"")

    def pull(self) -> int:
        parts: list[memoryview] = []
        add = parts.append
        pgconn = self._pgconn
        try:
            get, size = pgconn.get_copy_data, 1
            while size >= 0 and len(parts) < _MESSAGES_AT_ONCE:
                # Encrypted, each call takes in one record, which the server makes of every message.
                pgconn.consume_input()
                before = len(parts)
                while True:
                    size, data = get(1)
                    if size <= 0:
                        break
                    add(data)
                if len(parts) == before:
                    break
        except psycopg.Error as error:
            raise self._lost() from error
        if parts:
            self._append(parts)
        if any(map(_skips_publication, self._notices)):
            raise Terminal(_GONE, where=self.where, fix="resync the rules that read this system")
        self._notices.clear()
        if size < 0 and not parts:
            raise self._ended()
        return sum(map(len, parts))

    def _append(self, parts: list[memoryview]) -> None:
        inbox = self.inbox
        joined = b"".join(parts)
        sizes = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
        inbox.room(len(joined))
        inbox.raw[inbox.end : inbox.end + len(joined)] = np.frombuffer(joined, dtype=np.uint8)
        inbox.places(len(parts))
        ends = inbox.end + np.cumsum(sizes)
        into = slice(inbox.count, inbox.count + len(parts))
        inbox.ends[into], inbox.starts[into] = ends, ends - sizes
        inbox.count += len(parts)
        inbox.end += len(joined)
        inbox.split = inbox.end

    def _ended(self) -> SynclineError | Busy:
        try:
            result = self._pgconn.get_result()
        except psycopg.Error:
            return self._lost()
        return self._lost() if result is None else self._error(result)

    def _error(self, result: PGresult) -> SynclineError | Busy:
        state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
        return refused(state, (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode("utf-8", "replace"), self.where)

    def _send(self, message: bytes) -> None:
        try:
            self._pgconn.put_copy_data(message)
            writable = select.poll()
            writable.register(self._pgconn.socket, select.POLLOUT)
            while self._pgconn.flush():
                if not writable.poll(_SEND_SECONDS * 1000):
                    raise self._lost()
        except psycopg.Error as error:
            raise self._lost() from error


class SocketWire(Wire):
    """Straight from the socket: connections without encryption, after libpq has logged in and has nothing left to read."""

    _socket: socket.socket
    _ended = False

    def start(self, command: str) -> None:
        if not hasattr(self, "_socket"):
            self._socket = socket.socket(fileno=os.dup(self._connection.pgconn.socket))
            self._socket.setblocking(False)
            self._poll.register(self._socket, select.POLLIN)
        query = command.encode() + b"\0"
        self._write(b"Q" + struct.pack("!I", len(query) + 4) + query)
        problem: SynclineError | Busy | None = None
        while True:
            kind, body = self._frame()
            if kind == b"W":
                return
            if kind == b"E":
                problem = refused(*error_fields(body), self.where)
            elif kind == b"Z":
                raise problem or self._lost()

    def _frame(self) -> tuple[bytes, bytes]:
        """The next frame before the stream begins."""
        inbox = self.inbox
        while True:
            have = inbox.end - inbox.split
            head = bytes(inbox.raw[inbox.split : inbox.split + 5])
            if have >= 5 and have >= 1 + (size := struct.unpack("!I", head[1:])[0]):
                body = bytes(inbox.raw[inbox.split + 5 : inbox.split + 1 + size])
                inbox.split += 1 + size
                return head[:1], body
            if self._ended or not self.wait(60):
                raise self._lost()
            self._receive(_ROOM)

    def _receive(self, limit: int) -> int:
        inbox, total = self.inbox, 0
        try:
            while total < limit:
                got = self._socket.recv_into(inbox.room(_ROOM))
                if got == 0:
                    self._ended = True
                    break
                inbox.end += got
                total += got
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._lost() from error
        return total

    def pull(self) -> int:
        inbox = self.inbox
        total, before = self._receive(_AT_ONCE), inbox.count
        while True:
            inbox.places(4096)
            inbox.split, inbox.count, kind = split_frames(inbox.raw, inbox.split, inbox.end, inbox.starts, inbox.ends, inbox.count)
            if kind == 0 and inbox.count < len(inbox.starts):
                break
            if kind < 0:
                raise self._lost()
            if kind > 0:
                if inbox.count > before:
                    return total  # what came before it is read first
                self._other()
        if self._ended and inbox.count == before:
            raise self._lost()
        return total

    def _other(self) -> None:
        kind, body = self._frame()
        if kind == b"E":
            problem = refused(*error_fields(body), self.where)
            raise self._lost() if isinstance(problem, Busy) else problem
        if kind == b"N" and _skips_publication(error_fields(body)[1].encode()):
            raise Terminal(_GONE, where=self.where, fix="resync the rules that read this system")
        if kind in (b"c", b"C", b"Z"):
            raise Transient("the server ended the replication: it is shutting down", where=self.where, fix="it is tried again by itself")
        if kind not in (b"N", b"S", b"A"):
            raise Terminal("the server sent something that is not part of the replication protocol", where=self.where)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        writable = select.poll()
        writable.register(self._socket, select.POLLOUT)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                if not writable.poll(_SEND_SECONDS * 1000):
                    raise self._lost() from None
            except OSError as error:
                raise self._lost() from error

    def _send(self, message: bytes) -> None:
        self._write(b"d" + struct.pack("!I", len(message) + 4) + message)

    def close(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()
        super().close()


def error_fields(body: bytes) -> tuple[str, str]:
    """SQLSTATE and primary message of an ErrorResponse or NoticeResponse."""
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    return fields.get(b"C", ""), fields.get(b"M", "")


def refused(state: str, message: str, where: str) -> SynclineError | Busy:
    """What an error of the walsender means for us."""
    if state == "55006":
        return Busy()
    code = f"SQLSTATE {state or 'unknown'}"
    if state == "42704" and "publication" in message:
        return Terminal(_GONE, where=where, fix="resync the rules that read this system")
    if state[:2] in ("08", "40", "53", "57", "XX") or not state:
        return Transient(f"the server ended the replication ({code})", where=where, fix="it is tried again by itself")
    if state == "58P01":
        what = f"the server no longer has the log from our position on ({code})"
        return Gap(what, where=where)
    if state[:2] == "58":
        return Transient(f"the server met a system error ({code})", where=where, fix="it is tried again by itself")
    shown = "" if state[:2] == "22" else f": {message}"
    return Terminal(f"the server refuses to send its log{shown} ({code})", where=where, fix="see the server's log")


def _skips_publication(message: bytes) -> bool:
    """PostgreSQL 18 goes on without a publication that does not exist; we must not."""
    return re.search(rb"skipped loading publication", message) is not None
