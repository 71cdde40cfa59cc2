"""What a log reader hands to the engine: transactions, as columns."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.model.schema import Table, TableName

INSERT, UPDATE, DELETE = 1, 2, 3
MOVED = 4
"""In place of DELETE inside of an adapter: of an UPDATE that changed the key, see `Changes.moved`."""

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
UInt8s = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in one server's log. `text` is the adapter's durable form (LSN, GTID set, file and offset). `order` grows along the log and is
    compared only with positions of the same server and history."""

    text: str
    order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transactions:
    """The transactions of a batch in log order; arrays of one length.

    commit_us: commit time, microseconds since 1970 UTC, by that server's clock. order: `Position.order` of the commit.
    fence: compared with `Chunk.fence`: a transaction whose fence is at most the chunk's is already contained in the rows of that chunk.
    origin: index into `origins` (the source system whose changes this transaction of ours carries), -1 for an application's transaction.
    batch: our batch number where origin >= 0, else 0.
    """

    commit_us: Int64s
    order: Int64s
    fence: Int64s
    origin: Int32s
    batch: Int64s
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Row changes of one table, in log order; one element per change.

    seq: number of the change in the batch, ascending, unique over all tables. txn: index into the transactions. op: INSERT, UPDATE, DELETE.
    values: one string array (canonical text) per watched column, in the order of `Watched.columns`; null is SQL NULL.
    missing: shape (changes, columns); true where the event does not carry the value (unchanged TOAST, minimal row image); the value is null there.
    A DELETE carries the old row as far as the log gives it (the log key at least), the rest is missing. An UPDATE that changes a column of the
    primary key or of the watched identity (as far as the log shows the old value) comes as DELETE of the old row followed by INSERT of the new
    one, where unknown values are missing; `moved` is true for that DELETE. None where there is no such update.
    """

    table: Table
    seq: Int64s
    txn: Int32s
    op: UInt8s
    values: pa.Table
    missing: Bools
    moved: Bools | None = None

    def __len__(self) -> int:
        return len(self.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate:
    """The log says that a watched table was emptied."""

    table: TableName
    seq: int
    txn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Transactions of one system. `high` is the position to resume from once the batch is done; a batch without changes only moves it.

    open: the last transaction is a large one that goes on in the next batch. `high` names its part then: its order is that of the place before the
    transaction, and reading resumes within it. All parts have one `Transactions.order`, fence, origin and batch number."""

    system: str
    high: Position
    transactions: Transactions
    changes: tuple[Changes, ...] = ()
    truncates: tuple[Truncate, ...] = ()
    open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Rows read straight from a table. `rows`: string arrays in canonical text. `fence`: see `Transactions.fence`; -1 where the server cannot say.
    `last`: key of the last row, to continue after; None when the table is read to its end."""

    rows: pa.Table
    fence: int
    last: tuple[str, ...] | None


def told_apart(op: UInt8s) -> tuple[UInt8s, Bools | None]:
    """(op, moved) of an array in which MOVED stands for some of the DELETEs."""
    moved = op == MOVED
    return (np.where(moved, np.uint8(DELETE), op), moved) if moved.any() else (op, None)
