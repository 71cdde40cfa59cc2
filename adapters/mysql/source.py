"""The `Source` of MySQL and MariaDB: asks the server for its binary log as a replica would and hands the bytes to `adapters.mysql.binlog`.

Protocol: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication.html, https://mariadb.com/kb/en/replication-protocol/.
The connection is made and logged in by pymysql; then bytes are read from its socket, many packets at a time. Reading resumes by GTID where the
position has one, else by file and offset. A second connection answers questions about the catalogue and the clock.
"""

from __future__ import annotations

import contextlib
import random
import select
import ssl
import struct
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import COMMAND

from adapters.mysql import gtid
from adapters.mysql.binlog.decoder import Decoder
from adapters.mysql.binlog.layout import Wanted, marker
from adapters.mysql.connection import connect, is_mariadb, parse_url, version, wrap
from adapters.mysql.failure import PIECES_FIX
from adapters.mysql.reader import log_end
from adapters.mysql.schema import Described, data_type, describe, has_json
from engine.errors import Gap, SynclineError, Terminal, Transient
from engine.model.batch import Batch, Position
from engine.ports import Watched

MARKER_TABLE = "syncline_checkpoint"
HEARTBEAT_SECONDS = 1
SILENCE_SECONDS = 20
LINGER = 0.020
NAP = 0.0005
FULL_READ = 128 << 10
CLOCK_SECONDS = 60.0
_COM_BINLOG_DUMP, _COM_REGISTER_SLAVE, _COM_BINLOG_DUMP_GTID = COMMAND.COM_BINLOG_DUMP, COMMAND.COM_REGISTER_SLAVE, 30
_THROUGH_GTID = 4


class MySqlSource:
    """Tails one server's binary log. options: `server_id`, our number among its replicas (a random high one when absent), `batch_rows`,
    `transaction_rows`, `transaction_bytes` (a larger transaction comes in parts), `spill` (folder for what does not fit in memory)."""

    def __init__(self, name: str, url: str, rule_set: str, options: Mapping[str, object]) -> None:
        self._name = name
        self._url = url
        self._rule_set = rule_set
        self._server_id = int(str(options.get("server_id") or random.randrange(3_000_000_000, 4_000_000_000)))
        self._rows = int(str(options.get("batch_rows") or 10_000))
        self._part_rows = int(str(options.get("transaction_rows") or 100_000))
        self._part_bytes = int(str(options.get("transaction_bytes") or 32 << 20))
        self._spill = Path(str(options["spill"])) if options.get("spill") else None
        self._where = f"system {name}"
        self._asking: pymysql.Connection | None = None
        self._dump: pymysql.Connection | None = None
        self._decoder: Decoder | None = None
        self._offset_us = 0
        self._clock_at = 0.0
        self._heard = 0.0
        self._read_at = 0.0
        self._told = 0.0
        self._told_order = 0
        self._first = 0.0
        self._received = 0.0
        self._size = 0

    def prepare(self, watched: Sequence[Watched]) -> Position:
        """Checks that the server logs rows and lets us read them, and returns the end of its log. Changes nothing.

        Terminal with the setting or GRANT that is missing."""
        asking = self._ask_on()
        try:
            settings = {str(k).lower(): str(v) for k, v in _rows(asking, "SHOW GLOBAL VARIABLES LIKE '%bin%'")}
            if settings.get("log_bin", "OFF").upper() not in ("ON", "1"):
                raise self._terminal("the server keeps no binary log", "set log_bin in the server's configuration and restart it")
            if settings.get("binlog_format", "ROW").upper() != "ROW":
                what = f"binlog_format is {settings['binlog_format']}, so the log does not hold rows"
                raise self._terminal(what, "SET GLOBAL binlog_format = ROW, and set it in the server's configuration")
            pieces = "PARTIAL_JSON" in settings.get("binlog_row_value_options", "").upper()
            if pieces and any(map(has_json, watched)):
                raise self._terminal("binlog_row_value_options is PARTIAL_JSON, so the log holds only pieces of changed JSON values", PIECES_FIX)
            end = log_end(asking, self._name)
            self._may_read()
        except pymysql.MySQLError as error:
            raise self._right(error) from error
        for item in watched:
            if not item.table.log_key:
                raise Terminal(
                    "the log does not tell which row was changed, as the table has no primary key",
                    where=str(item.table.name),
                    fix="give the table a primary key, or SET GLOBAL binlog_row_image = FULL",
                )
        return end

    def holds(self, position: Position) -> None:
        """As the port says. The server is asked for its log and let go again: nobody else knows what it still has."""
        self.open((), position)
        self.close()

    def renew(self, watched: Sequence[Watched]) -> Position:
        """As the port says; the server keeps its log by its own settings."""
        self.close()
        return self.prepare(watched)

    def open(self, watched: Sequence[Watched], position: Position) -> None:
        """As the port says. Waits until the server sends its log or says why it does not."""
        self.close()
        try:
            asking = self._ask_on()
            mariadb = is_mariadb(asking)
            settings = {str(k).lower(): str(v) for k, v in _rows(asking, "SHOW GLOBAL VARIABLES LIKE 'binlog_checksum'")}
            checksum = settings.get("binlog_checksum", "NONE").upper() == "CRC32"
            file, offset, state = gtid.parts(position)
            self._still_there(asking, mariadb, file, offset, state)
            default = parse_url(self._url, system=self._name).database or next((w.table.name.schema for w in watched), "")
            self._decoder = Decoder(
                self._name,
                self._rule_set,
                watched=[Wanted.of(item) for item in watched],
                marker=marker(default, MARKER_TABLE),
                described={(w.table.name.schema, w.table.name.table): self._as_checked(w) for w in watched},
                catalogue=self._catalogue,
                charsets=_charsets(asking),
                mariadb=mariadb,
                checksum=checksum,
                start=position,
                rows=self._rows,
                part_rows=self._part_rows,
                part_bytes=self._part_bytes,
                spill=self._spill,
                old_uuid=mariadb and _old_uuid(version(asking)),
            )
            self._measure_clock()
            self._dump = self._request(mariadb, checksum, file, offset, state)
            self._heard = time.monotonic()
            self._told, self._told_order = 0.0, position.order
            self._await_log()
        except Gap as gap:
            # Log files count up: one that is gone, with later ones there, was purged. Else this is another log, and perhaps another database.
            gap.set_back = gap.set_back or not self._purged(file)
            gap.where = self._where
            self.close()
            raise
        except (pymysql.MySQLError, OSError) as error:
            self.close()
            raise wrap(error, self._where) from error
        except SynclineError:
            self.close()
            raise

    def read(self, timeout: float) -> Batch | None:
        decoder = self._decoder
        if decoder is None or self._dump is None:
            raise Transient("the log is not open", where=self._where, fix="it is opened again by itself")
        started = time.monotonic()
        if started - self._read_at > SILENCE_SECONDS / 2:
            # it was us who were silent
            self._heard = started
        deadline = started + timeout
        decoder.run()
        try:
            return self._next(decoder, deadline)
        finally:
            self._read_at = time.monotonic()

    def _next(self, decoder: Decoder, deadline: float) -> Batch | None:
        while True:
            now = time.monotonic()
            if decoder.full or (decoder.pending and now >= self._first + LINGER):
                batch = self._take(decoder)
                if batch is not None:
                    self._told, self._told_order = now, batch.high.order
                    return batch
                decoder.run()
                continue
            left = (self._first + LINGER if decoder.pending else deadline) - now
            if left <= 0:
                return self._idle(decoder, now)
            was_pending = decoder.pending
            self._receive(decoder, left)
            if decoder.pending and not was_pending:
                self._first = time.monotonic()

    def acknowledge(self, position: Position) -> None:
        """Nothing to tell: the server keeps its log by its own settings (expire_logs_days, binlog_expire_logs_seconds)."""

    def close(self) -> None:
        dump, self._dump = self._dump, None
        asking, self._asking = self._asking, None
        self._decoder = None
        if dump is not None:
            number = dump.thread_id()  # type: ignore[no-untyped-call]
            with contextlib.suppress(Exception):
                _socket(dump).close()
            dump._force_close()  # type: ignore[attr-defined]
            # else the server would notice only when it next has something to send
            with contextlib.suppress(Exception):
                if asking is not None:
                    _rows(asking, f"KILL CONNECTION {int(number)}")
        if asking is not None:
            with contextlib.suppress(Exception):
                asking.close()

    # reading

    def _take(self, decoder: Decoder) -> Batch | None:
        try:
            return decoder.take()
        except SynclineError as failure:
            failure.where = f"{self._where}, {failure.where}" if failure.where and self._where not in failure.where else self._where
            raise

    def _idle(self, decoder: Decoder, now: float) -> Batch | None:
        """Nothing came in time: tells the position now and then, watches the clock."""
        if now - self._heard > SILENCE_SECONDS:
            raise Transient("the server has been silent for too long", where=self._where, fix="it is opened again by itself")
        if now - self._clock_at > CLOCK_SECONDS:
            with contextlib.suppress(SynclineError, pymysql.MySQLError, OSError):
                self._measure_clock()
        if now - self._told >= 1.0:
            moved = decoder.moved()
            self._told = now
            if moved.high.order != self._told_order:
                self._told_order = moved.high.order
                return moved
        return None

    def _receive(self, decoder: Decoder, timeout: float) -> None:
        """Reads what the socket has, waits up to `timeout` seconds for it. Transient when the connection is gone."""
        assert self._dump is not None
        link = _socket(self._dump)
        try:
            if not (isinstance(link, ssl.SSLSocket) and link.pending()):
                poll = select.poll()
                poll.register(link, select.POLLIN)
                if not poll.poll(max(1.0, timeout * 1000)):
                    return
            if self._size < FULL_READ and time.monotonic() - self._received < 4 * NAP:
                # a busy log comes in small packets: one read of many is much cheaper than many reads
                time.sleep(NAP)
            size = link.recv_into(decoder.room())
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, InterruptedError):
            return
        except (OSError, ValueError) as error:
            raise Transient("the connection to the server was lost", where=self._where, fix="it is opened again by itself") from error
        if size == 0:
            raise Transient("the server closed the connection", where=self._where, fix="it is opened again by itself")
        self._received = self._heard = time.monotonic()
        self._size = size
        decoder.feed(size, time.time_ns() // 1000 + self._offset_us)

    def _await_log(self) -> None:
        """Until the server sent the description of its log's format, or refused."""
        assert self._decoder is not None
        end = time.monotonic() + SILENCE_SECONDS
        try:
            while not self._decoder.described:
                if self._decoder.full:
                    self._take(self._decoder)
                if time.monotonic() > end:
                    raise Transient("the server does not send its log", where=self._where, fix="it is asked again by itself")
                self._receive(self._decoder, 0.2)
        except SynclineError:
            self.close()
            raise

    # asking

    def _request(self, mariadb: bool, checksum: bool, file: str, offset: int, state: str) -> pymysql.Connection:
        dump = connect(self._url, system=self._name, read_timeout=None, write_timeout=None)
        period = HEARTBEAT_SECONDS * 1_000_000_000
        named = {"master_heartbeat_period": str(period), "master_binlog_checksum": "'CRC32'" if checksum else "'NONE'"}
        if mariadb:
            named |= {"mariadb_slave_capability": "4"}
            if state:
                named |= {"slave_connect_state": f"'{gtid.MariaGtids.parse(state)}'", "slave_gtid_strict_mode": "1"}
                named |= {"slave_gtid_ignore_duplicates": "0"}
        else:
            named |= {"source_heartbeat_period": str(period), "source_binlog_checksum": named["master_binlog_checksum"]}
            named |= {name: f"'{uuid.uuid4()}'" for name in ("slave_uuid", "replica_uuid")}
        _rows(dump, "SET " + ", ".join(f"@{name} = {value}" for name, value in named.items()))
        # when the target is slow we read slowly, and the server should wait
        _rows(dump, "SET SESSION net_write_timeout = 3600")
        self._register(dump)
        if not mariadb and state:
            data = gtid.MySqlGtids.parse(state).encode()
            head = struct.pack("<HIIQI", _THROUGH_GTID, self._server_id, 0, 4, len(data))
            _send(dump, _COM_BINLOG_DUMP_GTID, head + data)
        else:
            # MariaDB takes the place from @slave_connect_state when that is set
            place, name = (4, b"") if state else (offset, file.encode())
            if place >= 1 << 32:
                what = "the position lies beyond 4 GB in its log file, where only a GTID can name it"
                raise self._terminal(what, "lower max_binlog_size and avoid such large transactions, then resync")
            _send(dump, _COM_BINLOG_DUMP, struct.pack("<IHI", place, 0, self._server_id) + name)
        _socket(dump).settimeout(0)
        return dump

    def _register(self, connection: pymysql.Connection) -> None:
        """COM_REGISTER_SLAVE: server id, our host, user and password (empty), port, rank, source's id."""
        _send(connection, _COM_REGISTER_SLAVE, struct.pack("<IBBBHII", self._server_id, 0, 0, 0, 0, 0, 0))
        connection._read_ok_packet()  # type: ignore[attr-defined]

    def _may_read(self) -> None:
        trial = connect(self._url, system=self._name)
        try:
            self._register(trial)
        finally:
            trial.close()

    def _right(self, error: pymysql.MySQLError) -> SynclineError:
        number = error.args[0] if error.args else 0
        if number in (1045, 1227, 1142):
            client = "BINLOG MONITOR" if self._asking is not None and is_mariadb(self._asking) else "REPLICATION CLIENT"
            what = "the user may not read the server's binary log"
            return self._terminal(what, f"GRANT REPLICATION SLAVE, {client} ON *.* TO the user")
        return wrap(error, self._where)

    def _still_there(self, asking: pymysql.Connection, mariadb: bool, file: str, offset: int, state: str) -> None:
        """Gap when the log is not the one that the position was taken from, as far as the server's files and GTIDs tell. With a GTID it may go on in other
        files (another server took over), and whether the server still has what follows it says itself."""
        logs = {_str(row[0]): int(row[1]) for row in _rows(asking, "SHOW BINARY LOGS")}
        if not state:
            if file not in logs:
                raise self._gap(f"the server no longer has its log file {file}, where we left off (it was purged, or the log was reset)")
            if offset > logs[file]:
                raise self._gap(f"the server's log file {file} ends before the place where we left off (the log was reset)", set_back=True)
            return
        if not self._executed(asking, mariadb, state):
            raise self._gap("the server's log ends before the place where we left off: it was reset, or the server restored from a backup", set_back=True)
        if mariadb and file in logs and offset <= logs[file] and self._own(asking, state):
            # The same file with another history: the log was reset and has grown past our place since. MySQL's GTIDs tell that by themselves.
            # NULL where no event ends at this place.
            at, end = _rows(asking, f"SELECT BINLOG_GTID_POS('{file}', {offset}), BINLOG_GTID_POS('{file}', {logs[file]})")[0]
            other = end is not None if at is None else gtid.MariaGtids.parse(_str(at)) != gtid.MariaGtids.parse(state)
            if other:
                raise self._gap("the server's log is another one than we have read: it was reset, or the server restored from a backup", set_back=True)

    @staticmethod
    def _executed(asking: pymysql.Connection, mariadb: bool, state: str) -> bool:
        """Whether all that we have read has happened on this server."""
        if mariadb:
            reached = gtid.MariaGtids.parse(_str(_rows(asking, "SELECT @@GLOBAL.gtid_binlog_pos")[0][0] or ""))
            return reached.reaches(gtid.MariaGtids.parse(state))
        return bool(_rows(asking, f"SELECT GTID_SUBSET('{gtid.MySqlGtids.parse(state)}', @@GLOBAL.gtid_executed)")[0][0])

    @staticmethod
    def _own(asking: pymysql.Connection, state: str) -> bool:
        """Whether the transactions we read last were this server's own, so that its files are those we know."""
        number = int(_rows(asking, "SELECT @@server_id")[0][0])
        return all(server == number for server, _ in gtid.MariaGtids.parse(state).domains.values())

    def _purged(self, file: str) -> bool:
        logs = [_str(row[0]) for row in self._asked(lambda connection: _rows(connection, "SHOW BINARY LOGS"))]
        return bool(logs) and all(gtid.order(file, 0) < gtid.order(name, 0) for name in logs)

    def _gap(self, what: str, *, set_back: bool = False) -> Gap:
        return Gap(what, where=self._where, set_back=set_back)

    def _terminal(self, what: str, fix: str) -> Terminal:
        return Terminal(what, where=self._where, fix=fix)

    def _ask_on(self) -> pymysql.Connection:
        if self._asking is None:
            self._asking = connect(self._url, system=self._name)
        return self._asking

    def _catalogue(self, database: str, table: str) -> tuple[Described, ...]:
        found: tuple[Described, ...] = self._asked(lambda connection: describe(connection, database, table))
        return found

    def _as_checked(self, watched: Watched) -> tuple[Described, ...]:
        """The columns now; they must be those that the rules were checked against."""
        name = watched.table.name
        found = self._catalogue(name.schema, name.table)
        types = {column.name: data_type(column) for column in found}
        for column in watched.columns:
            if types.get(column) != watched.table.column(column).type:
                what = f"column {column} was changed while we started"
                raise Terminal(what, where=str(name), fix="start again, so that the rules are checked against the table as it is")
        return found

    def _asked(self, ask: Callable[[pymysql.Connection], Any]) -> Any:
        """The answer of `ask`, with a new connection when the old one was closed for being idle."""
        try:
            try:
                return ask(self._ask_on())
            except (pymysql.err.OperationalError, pymysql.err.InterfaceError, OSError):
                self._asking = None
                return ask(self._ask_on())
        except (pymysql.MySQLError, OSError) as error:
            raise wrap(error, self._where) from error

    def _measure_clock(self) -> None:
        """How far the server's clock is ahead of ours."""

        def ask(connection: pymysql.Connection) -> int:
            best = (1 << 62, 0)
            for _ in range(3):
                before = time.time_ns()
                ((then,),) = _rows(connection, "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)")
                after = time.time_ns()
                best = min(best, (after - before, int(then) - (before + after) // 2000))
            return best[1]

        self._offset_us = int(self._asked(ask))
        self._clock_at = time.monotonic()


def _old_uuid(release: tuple[int, int, int]) -> bool:
    """Whether MariaDB stores UUIDs in swapped order (MDEV-29959)."""
    fixed = {(10, 10): 6, (10, 11): 5, (11, 0): 3, (11, 1): 2}
    series = release[:2]
    return release[2] < fixed[series] if series in fixed else series < (10, 10)


def _charsets(connection: pymysql.Connection) -> dict[int, str]:
    """Character set by collation number."""
    found: dict[int, str] = {}
    for table in ("COLLATIONS", "COLLATION_CHARACTER_SET_APPLICABILITY"):
        # only newer servers of MariaDB have numbers in the second one, which lists more
        with contextlib.suppress(pymysql.MySQLError):
            pairs = _rows(connection, f"SELECT ID, CHARACTER_SET_NAME FROM information_schema.{table}")
            found |= {int(number): _str(charset) for number, charset in pairs if number is not None and charset is not None}
    return found


def _send(connection: pymysql.Connection, command: int, payload: bytes) -> None:
    connection._execute_command(command, payload)  # type: ignore[attr-defined]


def _socket(connection: pymysql.Connection) -> Any:
    return connection._sock  # type: ignore[attr-defined]


def _rows(connection: pymysql.Connection, sql: str) -> Sequence[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def _str(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
