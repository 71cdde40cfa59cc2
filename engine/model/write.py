"""What the engine asks a target to write, and what the target answers."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.model.schema import Table

WROTE, NO_ROW, ROW_EXISTS, MANY_ROWS = 0, 1, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """The row of `syncline_checkpoint` that is written first in each of our transactions: our position for restart, and the sign by which the
    reader of the target's log knows the transaction as ours."""

    rule_set: str
    source: str
    batch: int
    position: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Rows for one table. One element per row everywhere.

    op: INSERT, UPDATE or DELETE of `engine.model.batch`; a key occurs once. key: the columns that address a row.
    values: string arrays in canonical text, the key columns included; key columns are never null.
    decided: shape (rows, columns of `values`): the cells to write. All of them for an INSERT; for an UPDATE never a key column; for a DELETE none.
    made: the key column that the target itself fills in an INSERT whose value there is null; empty where no such row may come.
    """

    table: Table
    key: tuple[str, ...]
    op: npt.NDArray[np.uint8]
    values: pa.Table
    decided: npt.NDArray[np.bool_]
    made: str = ""

    def __len__(self) -> int:
        return len(self.op)

    def take(self, rows: npt.NDArray[np.int64]) -> Write:
        """The same write for a choice of its rows."""
        return Write(table=self.table, key=self.key, op=self.op[rows], values=self.values.take(pa.array(rows)), decided=self.decided[rows], made=self.made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Per row of a write: WROTE; NO_ROW (an update or delete found no row); ROW_EXISTS (an insert found one and left it alone);
    MANY_ROWS (the key names several rows: nothing was written for it).
    keys: where the write says `made`, the key column as it stands now, one element per row."""

    result: npt.NDArray[np.uint8]
    keys: pa.StringArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRow:
    """A row of `syncline_link`: a record of `source` (system) and the one of `target` that it was linked to, by their key texts; target_key None takes the link
    back. made_us: when, microseconds since 1970 UTC by our clock; batch: in which of our batches from source to target."""

    link: str
    source: str
    source_key: str
    target: str
    target_key: str | None
    batch: int
    made_us: int
