"""The Source port for PostgreSQL 13 and later: one slot, one publication, whole transactions as batches."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from adapters.postgres import slot
from adapters.postgres.connection import Connection, connect
from adapters.postgres.pgoutput import Decoder, part_of
from adapters.postgres.pgoutput_wire import Busy, LibpqWire, SocketWire, Wire
from engine.errors import Terminal, Transient
from engine.model.batch import Batch, Position
from engine.ports import Watched

_BUSY_SECONDS = 10.0
_FEEDBACK_SECONDS = 10.0
_MOVE_SECONDS = 1.0
"""How often a batch without changes may carry the position on."""
_QUIET_SECONDS = 0.008
"""Silence after which complete transactions are handed over."""
_LINGER_SECONDS = 0.02
"""How long complete transactions may wait for more to come."""
_NAP_SECONDS = 0.0005
"""Under load: so that one read finds many messages. A longer one lets the socket's buffer fill."""
_ASK_SECONDS = 0.05
_SETTLE_BYTES = 8 << 20


class PostgresSource:
    """Options: `publication`, `slot` (names), `streaming` (bool: let the server send large transactions before their commit; we keep them
    instead of it), `transport` (`auto`, `libpq`: how the stream is read), `batch_rows`, `batch_bytes`, `transaction_rows`, `transaction_bytes` (a larger
    transaction comes in parts), `spill` (folder for what does not fit in memory). See `engine.ports.Source`."""

    def __init__(self, name: str, url: str, rule_set: str, options: Mapping[str, object]) -> None:
        self._name, self._url, self._rule_set, self._options = name, url, rule_set, dict(options)
        self._where = f"system {name}"
        self._wire: Wire | None = None
        self._acknowledged = 0  # a place where reading begins is not yet durable with us: only `acknowledge` tells
        self._told = 0

    def prepare(self, watched: Sequence[Watched]) -> Position:
        """See the port. The position of a new slot is its consistent point, of an existing one what we confirmed last."""
        with connect(self._url, system=self._name, replication=True) as connection:
            return slot.prepare(connection, self._name, watched, self._names(connection))

    def holds(self, position: Position) -> None:
        """See the port."""
        with connect(self._url, system=self._name, replication=True) as connection:
            slot.check_position(connection, self._name, self._names(connection), position, slot.identify(connection, self._where))

    def renew(self, watched: Sequence[Watched]) -> Position:
        """See the port."""
        self.close()
        self._acknowledged = 0
        with connect(self._url, system=self._name, replication=True) as connection:
            return slot.renew(connection, self._name, watched, self._names(connection))

    def open(self, watched: Sequence[Watched], position: Position) -> None:
        """See the port. Waits some seconds for a slot that an earlier connection of ours still holds."""
        self.close()
        connection = connect(self._url, system=self._name, replication=True)
        wire: Wire | None = None
        try:
            chosen = self._names(connection)
            server = slot.identify(connection, self._where)
            slot.check_resume(connection, self._name, watched, chosen, position, server)
            self._decoder = Decoder(
                self._name,
                watched,
                rule_set=self._rule_set,
                marker=(server.schema, slot.CHECKPOINT),
                system_id=server.identity,
                shapes=slot.shapes(connection, self._where, watched),
                xid=server.next_xid,
                verify=not server.utf8,
                max_rows=_number(self._options, "batch_rows", 10_000),
                max_bytes=_number(self._options, "batch_bytes", 16 << 20),
                part_rows=_number(self._options, "transaction_rows", 100_000),
                part_bytes=_number(self._options, "transaction_bytes", 32 << 20),
                resume=part_of(position),
                spill=Path(str(self._options["spill"])) if self._options.get("spill") else None,
            )
            wire = self._wire_for(connection)
            self._start(wire, server.version, chosen, position)
        except BaseException:
            connection.close() if wire is None else wire.close()
            raise
        self._wire = wire
        self._high, self._told = position.order, 0
        now = time.monotonic()
        self._told_at = self._moved_at = self._heard_at = now
        self._prompt = self._ask_soon = True
        self._since: float | None = None

    def read(self, timeout: float) -> Batch | None:
        """See the port."""
        wire, decoder = self._opened(), self._decoder
        deadline = time.monotonic() + timeout
        while True:
            self._decode()
            got = 0
            if not decoder.full:
                got = wire.pull()
                self._decode()
            now = time.monotonic()
            self._answer(now)
            if decoder.full:
                return self._take(now)
            if self._complete():
                self._since = self._since or now
                if now - self._since >= _LINGER_SECONDS or (not got and not wire.wait(_QUIET_SECONDS)):
                    return self._take(now)
            elif self._may_move(now):
                return self._take(now)
            elif not got and now >= deadline:
                return None
            if got:
                self._heard_at = now
                time.sleep(_NAP_SECONDS)
            elif not self._complete():
                wire.wait(self._pause(now, deadline))

    def acknowledge(self, position: Position) -> None:
        """See the port."""
        self._acknowledged = max(self._acknowledged, position.order)

    def close(self) -> None:
        """See the port."""
        wire, self._wire = self._wire, None
        if wire is not None:
            self._decoder.close()
            try:
                if self._acknowledged > self._told:
                    wire.status(self._acknowledged, reply=False)
            except (Transient, Terminal):
                pass
            wire.close()

    def _names(self, connection: Connection) -> slot.Names:
        return slot.names(self._name, self._rule_set, self._options, connection.info.dbname)

    def _opened(self) -> Wire:
        if self._wire is None:
            raise Transient("the log is not open", where=self._where)
        return self._wire

    def _wire_for(self, connection: Connection) -> Wire:
        plain = not connection.pgconn.ssl_in_use
        if plain:
            statement = "SELECT coalesce(bool_or(encrypted), false) FROM pg_stat_gssapi WHERE pid = pg_backend_pid()"
            plain = not slot.query(connection, statement, self._where)[0][0]
        # A session hides warnings from its user; here one of them tells of lost changes.
        slot.query(connection, "SET client_min_messages = warning", self._where)
        if plain and self._options.get("transport", "auto") != "libpq":
            return SocketWire(connection, self._where)
        return LibpqWire(connection, self._where)

    def _start(self, wire: Wire, version: int, chosen: slot.Names, start: Position) -> None:
        # The name stands in a list of identifiers, which itself is a string.
        options = ["publication_names " + slot.quote('"' + chosen.publication.replace('"', '""') + '"')]
        if self._options.get("streaming") and version >= 14:
            options += ["proto_version '2'", "streaming 'on'"]
        else:
            options += ["proto_version '1'"]
        lsn = f"{start.order >> 32:X}/{start.order & 0xFFFFFFFF:X}"
        command = f"START_REPLICATION SLOT {chosen.slot} LOGICAL {lsn} ({', '.join(options)})"
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                return wire.start(command)
            except Busy as busy:
                if time.monotonic() > deadline:
                    raise Transient(
                        f'replication slot "{chosen.slot}" is in use by another connection',
                        where=self._where,
                        fix="stop the other Syncline with this rule set; the server lets a dead connection go after wal_sender_timeout",
                    ) from busy
                time.sleep(0.1)

    def _decode(self) -> None:
        """Lets the decoder read what has come, until its batch is full."""
        inbox, decoder = self._opened().inbox, self._decoder
        if decoder.replaying and not decoder.full:
            decoder.go_on()
        if inbox.waiting and not decoder.full:
            inbox.first = decoder.feed(inbox.raw, inbox.starts, inbox.ends, inbox.first, inbox.count)
        if inbox.end > _SETTLE_BYTES and not decoder.full:
            decoder.settle()
            inbox.forget()

    def _complete(self) -> bool:
        return self._decoder.transactions > 0 and not self._decoder.inside

    def _take(self, now: float) -> Batch:
        batch = self._decoder.take()
        self._opened().inbox.forget()
        self._prompt = self._ask_soon = bool(batch.changes) or len(batch.transactions.order) > 0
        self._high, self._moved_at, self._since = batch.high.order, now, None
        return batch

    def _may_move(self, now: float) -> bool:
        """Nothing is under way and the log went on without us: soon after changes, else once a second."""
        if self._decoder.inside or self._decoder.order <= self._high:
            return False
        return now >= self._moved_at + (_ASK_SECONDS if self._prompt else _MOVE_SECONDS)

    def _ask_at(self) -> float:
        """When to ask for the end of the log, should the server stay silent (it speaks by itself when its log moves)."""
        return max(self._told_at, self._heard_at) + (_ASK_SECONDS if self._ask_soon else _MOVE_SECONDS)

    def _answer(self, now: float) -> None:
        """Status updates: when there is something new to confirm, when asked, and with a question when the server was silent."""
        confirmed = self._acknowledged
        fresh, ask = confirmed > self._told, now >= self._ask_at()
        if self._decoder.reply_wanted() or fresh or ask or now - self._told_at >= _FEEDBACK_SECONDS:
            self._opened().status(confirmed, reply=fresh or ask)
            self._told, self._told_at = confirmed, now
            self._ask_soon = self._ask_soon and not ask

    def _pause(self, now: float, deadline: float) -> float:
        """How long nothing is due."""
        due = min(deadline, self._ask_at())
        if self._decoder.order > self._high and not self._decoder.inside:
            due = min(due, self._moved_at + (_ASK_SECONDS if self._prompt else _MOVE_SECONDS))
        return max(due - now, 0.001)


def _number(options: Mapping[str, object], name: str, default: int) -> int:
    value = options.get(name, default)
    if not isinstance(value, int) or value < 1:
        raise Terminal(f"option {name} must be a positive number", where=name)
    return value
