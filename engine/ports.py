"""What an adapter fulfils. The docstrings are the contract: what may repeat, what is ordered, what is durable. `tests/conformance` checks them.

Values cross these ports as canonical text (`engine.model.types`) in Arrow string arrays. Errors cross them as `Transient`, `Terminal` or `Poison`
with a sentence for the operator (and `Oversized` where said); a driver's exception never does. Objects are used by one thread at a time unless said.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa

from engine.model.batch import Batch, Chunk, Position
from engine.model.schema import Table
from engine.model.write import LinkRow, Marker, Outcome, Write

FETCH_BYTES = 16 << 20
"""So much of a table is fetched by key at once, as long as that is more than one key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A table to follow. `columns`: the ones whose values are wanted, in the order they are delivered. `identity`: the columns by which the ledger
    knows the row (a subset of `columns`, as is the table's log key)."""

    table: Table
    columns: tuple[str, ...]
    identity: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A finding of `check`. `where` names system, table, column or rule."""

    severity: Literal["error", "warning"]
    where: str
    what: str
    fix: str


class Source(Protocol):
    """Tails one system's log.

    Ordered: transactions come in commit order, whole or in parts (`Batch.open`), never twice within one `open`, and only once they are committed. May
    repeat: after `open(p)` everything committed after `p` comes, also when it had been delivered before. Durable: the server keeps its log from the last
    `acknowledge`d position on.
    """

    def prepare(self, watched: Sequence[Watched]) -> Position:
        """Makes sure that the log of these tables is kept from now on (publication, slot) and returns the position from which it is complete.
        Idempotent. Terminal, with the SQL to run, when a right is missing."""

    def holds(self, position: Position) -> None:
        """Gap when the log does not go on from `position` (purged, slot gone, invalid or recreated, the server set back). Changes nothing."""

    def renew(self, watched: Sequence[Watched]) -> Position:
        """Gives up what the log held for us, makes sure that it is kept from now on, and returns from where: for after a gap."""

    def open(self, watched: Sequence[Watched], position: Position) -> None:
        """Starts reading after `position`. Gap when the log does not go on from there, see `holds`."""

    def read(self, timeout: float) -> Batch | None:
        """The next batch, or None after `timeout` seconds (0.05-1) without news. A batch is bounded in rows, bytes and time; a transaction is split only
        where it is larger than memory should hold. When the log moves without changes of ours, a batch without changes carries the new position now and
        then (at most once a second). Transient when the connection is lost: the caller opens again at its own position. Terminal on an event that is not
        understood."""

    def acknowledge(self, position: Position) -> None:
        """Everything up to here is durable with us: the server may forget it. Any thread; takes effect with the next `read`."""

    def close(self) -> None:
        """Idempotent. Keeps slot and publication."""


class Reader(Protocol):
    """Reads the catalogue and base rows. Has its own connection, which it reopens by itself when it was lost between calls."""

    def table(self, schema: str, table: str) -> Table:
        """An empty schema means the default one. Terminal when there is no such table (the sentence names near ones) or no right to see it."""

    def read_chunk(self, table: Table, columns: Sequence[str], key: Sequence[str], after: tuple[str, ...] | None, limit: int,
                   null_in: Sequence[str] = ()) -> Chunk:  # fmt: skip
        """At most `limit` rows with key greater than `after`, in the database's own order of the key. Rows with a null in the key are left out.
        null_in: only rows with a null in one of these columns.
        Rows of one key are never torn apart: a chunk takes as many as there are, and otherwise ends early when its rows are large.
        Each chunk is read in one snapshot of its own; no locks are held afterwards."""

    def read_unkeyed(self, table: Table, columns: Sequence[str], null_in: Sequence[str], limit: int) -> Iterator[Chunk]:
        """The rows with a null in one of `null_in`, where there is no key to read them by: in one snapshot, in no order, at most `limit` rows at a time.
        It lasts until the iterator ends or is closed, on a connection of its own; what breaks off has to be begun anew."""

    def fetch(self, table: Table, columns: Sequence[str], key: Sequence[str], keys: pa.Table, bytes_at_most: int | None = None) -> pa.Table:
        """The rows whose `key` columns equal a row of `keys` (canonical text). Absent ones are left out. In no particular order.
        Oversized, as soon as that is seen, when they hold more than about `bytes_at_most`."""

    def end(self) -> Position:
        """The end of the log now: everything committed before this call is at or before it."""

    def clock_us(self) -> int:
        """The server's clock, microseconds since 1970 UTC."""

    def close(self) -> None: ...


class Sink(Protocol):
    """Writes into one system. One transaction at a time: begin, any number of write and delete calls, then commit or rollback."""

    def prepare(self) -> None:
        """Creates `syncline_checkpoint` when absent. Idempotent. Terminal, with the SQL to run, when the right is missing."""

    def marker(self, rule_set: str, source: str) -> Marker | None:
        """The last committed marker of this direction."""

    def begin(self, marker: Marker) -> None:
        """Opens the transaction and writes the marker, before anything else."""

    def lock(self, write: Write, columns: Sequence[str]) -> pa.Table:
        """The rows that stand there under the keys of this write, as `Reader.fetch` gives them, before it is made in the open transaction: nobody else
        changes or deletes them before its end. Rows that are absent are not kept from being made. Transient as `write`."""

    def write(self, write: Write) -> Outcome:
        """Writes the decided cells, set-based, addressing rows by `write.key` alone. An insert never touches a row that stands there, an update never
        creates one. Afterwards every row of the write is accounted for in the outcome.
        Poison when the database refuses a row; then the transaction is as it was before this call and can go on.
        Transient (deadlock, lost connection): the whole transaction is gone; the caller begins again."""

    def rekey(self, table: Table, key: Sequence[str], before: Sequence[str], after: Sequence[str], *, copy: bool) -> int:
        """Gives one row another key, in place: the database carries the rows along that refer to it, or refuses, as its foreign keys say. WROTE; NO_ROW;
        ROW_EXISTS (rows stand under both keys, nothing was changed); MANY_ROWS. before, after: canonical texts.
        copy: the row stays, and a copy of it is put under the new key; columns that the database makes are made anew.
        Errors as `write`."""

    def prepare_links(self) -> None:
        """Creates `syncline_link` when absent; asked for only where rules have links. Idempotent. Terminal as `prepare`."""

    def write_links(self, rule_set: str, rows: Sequence[LinkRow]) -> None:
        """Puts rows of `syncline_link` into the open transaction: one for each link, source system, target system and source key."""

    def links(self, rule_set: str) -> list[LinkRow]:
        """All of them, outside of a transaction; none where there is no such table."""

    def commit(self) -> None:
        """Durable as far as the server makes it. Transient when the connection broke: whether it was committed is then told by `marker`."""

    def rollback(self) -> None:
        """Never raises."""

    def close(self) -> None: ...


class Adapter(Protocol):
    """One configured system; the factory of its parts. Connecting happens in the parts, lazily, with errors as above."""

    name: str

    def source(self, rule_set: str) -> Source: ...

    def reader(self) -> Reader: ...

    def sink(self, rule_set: str) -> Sink: ...

    def preflight(self, rule_set: str, read: Sequence[Watched], written: Sequence[Table], linked: Sequence[Table] = ()) -> list[Problem]:
        """What `check` has to say of this system: reachable, login, version, log settings, rights for tailing, reading and writing, replica identity.
        linked: those of the written tables whose key the database makes for us.
        Never raises; everything becomes a problem. Changes nothing in the database."""
