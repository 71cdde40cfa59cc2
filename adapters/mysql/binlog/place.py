"""How far a log was read, as a position that reading can resume from: file, offset, and the GTIDs that are done."""

from __future__ import annotations

import numpy as np

from adapters.mysql import gtid
from adapters.mysql.binlog import event as e
from adapters.mysql.binlog import stream as s
from adapters.mysql.binlog.found import Found, doubled
from engine.model.batch import Position


class Place:
    """start: where reading begins. domains: the last GTID of each domain of MariaDB, kept up to date by the kernel. log_file: the one that is read."""

    def __init__(self, found: Found, start: Position, *, mariadb: bool) -> None:
        self._found = found
        self._start = start
        self._mariadb = mariadb
        self._gtids: gtid.MySqlGtids | None = None
        self._open: e.Gtid | None = None
        self.domains = np.zeros((8, 3), dtype=np.int64)
        self.log_file = ""
        file, offset, state = gtid.parts(start)
        self._file(file, offset)
        self._state[s.DONE_POS] = offset
        if state and mariadb:
            domains = gtid.MariaGtids.parse(state).domains
            self.domains = np.zeros((len(domains) + 8, 3), dtype=np.int64)
            for k, (domain, (server, sequence)) in enumerate(domains.items()):
                self.domains[k] = domain, server, sequence
            self._state[s.DOMAINS] = len(domains)
        elif state:
            self._gtids = gtid.MySqlGtids.parse(state)

    @property
    def _state(self) -> s.Int64s:
        return self._found.state

    @property
    def position(self) -> Position:
        """After the last whole transaction."""
        if self._mariadb:
            rows = self.domains[: self._state[s.DOMAINS]].tolist()
            state = str(gtid.MariaGtids({domain: (server, sequence) for domain, server, sequence in rows}))
        else:
            state = "" if self._gtids is None else str(self._gtids)
        now = gtid.position(self.log_file, int(self._state[s.DONE_POS]), state)
        # a server asked by GTID begins before the place, without sending anything of it
        return self._start if now.order < self._start.order and state == gtid.parts(self._start)[2] else now

    def more_room(self) -> None:
        self.domains = doubled(self.domains)

    def rotate(self, body: bytes) -> None:
        file, offset = e.rotate(body)
        if file != self.log_file or not self._state[s.DONE_POS]:
            self._file(file, offset)
        self._state[s.POS] = offset
        if not self._state[s.GROUP]:
            self._state[s.DONE_POS] = offset

    def heartbeat(self, place: int, body: bytes) -> None:
        if place and not self._state[s.GROUP] and self.log_file.encode() in body:
            ahead = (place - int(self._state[s.POS])) & 0xFFFFFFFF
            if ahead < 1 << 31:
                self._state[s.POS] += ahead
                self._state[s.DONE_POS] = self._state[s.POS]

    def begin(self, group: int) -> None:
        """A transaction begins."""
        self._state[s.GROUP] = group
        s.forget_open(self._state)

    def begin_mysql(self, found: e.Gtid) -> None:
        """A GTID of MySQL announces one."""
        self.settle()  # the commit of the transaction before was seen by the kernel
        self._open = found
        self._state[s.COMMIT_US] = found.commit_us
        self.begin(3)

    def begin_xa(self, head: bytes, body: bytes) -> None:
        """A GTID of MariaDB whose group prepares or ends an XA transaction."""
        self._state[s.SEQUENCE] = int.from_bytes(body[:8], "little")
        self._state[s.DOMAIN] = int.from_bytes(body[8:12], "little")
        self._state[s.SERVER] = int.from_bytes(head[5:9], "little")
        self.begin(1 if body[12] & e.PREPARED_XA else 2)

    def close(self, seconds: int, *, keep: bool = False) -> None:
        """The open transaction ends. keep: it counts even without rows."""
        s.close(self._state, self._found.txns, self.domains, seconds, keep)
        self._done()

    def settle(self) -> None:
        """Where the kernel saw the end of the transaction, its GTID of MySQL is done, too."""
        if not self._state[s.GROUP]:
            self._done()

    def _done(self) -> None:
        if self._open is not None and self._gtids is not None and self._open.sid:
            self._gtids.add(self._open.sid, self._open.tag, self._open.number)
        self._open = None

    def _file(self, file: str, offset: int) -> None:
        self.log_file = file
        self._state[s.FILE] = gtid.order(file, 0) >> 40
        self._state[s.POS] = offset
