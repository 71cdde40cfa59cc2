"""Apply: writes of one transaction into one target, row by row accounted for.

A write that the database refuses is split until the rows at fault stand alone; the others go through. Rows that a foreign key refuses are tried again
at the end of the transaction, when their parents may be there.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.apply.rekey import Key, Rekeying, rows_left
from engine.errors import Poison
from engine.model.batch import DELETE
from engine.model.write import WROTE, Write
from engine.ports import Sink

REFUSED = 255
"""In `Applied.result`, beside the results of `engine.model.write`: the database refused the row."""
OWED = 254
"""The same: the row was left out, since the target's log still owes us a change of it."""

Rows = npt.NDArray[np.int64]


@dataclass(slots=True)
class Applied:
    """result: one element per row of the write. keys: the key that the target made, by row number. refused: why, by row number. rekeyed: rows that have
    their new key, whatever became of their cells. left: those of them that stand under the old key as well, because the database does not let it go."""

    result: npt.NDArray[np.uint8]
    keys: dict[int, str] = field(default_factory=dict)
    refused: dict[int, Poison] = field(default_factory=dict)
    rekeyed: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)


def apply(
    sink: Sink, writes: Sequence[Write], owed: Sequence[npt.NDArray[np.bool_]] | None = None, standing: Sequence[Mapping[int, Key]] = ()
) -> list[Applied]:
    """Writes into the transaction that is open, in the order given, parents before children. Deletes go first, in the opposite order; but those of which a
    foreign key takes rows along that are written here go last, when these have been led elsewhere.
    owed: per write, the rows to leave out, see `OWED`. standing: for each write the rows that are to get the key they are written with, and the one under
    which they stand. Transient passes through."""
    owed = owed or [np.zeros(len(write), dtype=np.bool_) for write in writes]
    done = [Applied(np.where(late, OWED, WROTE).astype(np.uint8)) for late in owed]
    rekeyings = [Rekeying(write, standing[i] if standing else {}) for i, write in enumerate(writes)]
    last = [_takes_along(write, writes) for write in writes]
    parts = [*zip(writes, done, owed, last, strict=True)]
    for write, applied, out, late in reversed(parts):
        if not late:
            _isolated(sink, write, np.flatnonzero((write.op == DELETE) & ~out), applied)
    for rekeying, applied, out in zip(rekeyings, done, owed, strict=True):
        _put(sink, rekeying, np.flatnonzero((rekeying.write.op != DELETE) & ~out), applied)
    waiting, count = _waiting(rekeyings, done), -1
    while sum(len(rows) for _, _, rows in waiting) != count:  # as long as it helps: in a chain of parents each round may let one more in
        count = sum(len(rows) for _, _, rows in waiting)
        for rekeying, applied, rows in waiting:
            _put(sink, rekeying, rows[rekeying.write.op[rows] != DELETE], applied)
        for rekeying, applied, rows in reversed(waiting):
            _isolated(sink, rekeying.write, rows[rekeying.write.op[rows] == DELETE], applied)
        waiting = _waiting(rekeyings, done)
    for write, applied, out, late in reversed(parts):
        if late:
            _isolated(sink, write, np.flatnonzero((write.op == DELETE) & ~out), applied)
    for rekeying, applied in [*zip(reversed(rekeyings), reversed(done), strict=True)]:
        applied.rekeyed = rekeying.done
        for row, poison in rekeying.let_go(sink).items():
            applied.result[row], applied.refused[row] = REFUSED, poison
            applied.left.add(row)
    if any(last) or any(rekeying.copied for rekeying in rekeyings):  # what went last may have been in the way
        for rekeying, applied, rows in _waiting(rekeyings, done, "unique"):
            _put(sink, rekeying, rows[rekeying.write.op[rows] != DELETE], applied)
    return done


def _put(sink: Sink, rekeying: Rekeying, rows: Rows, applied: Applied) -> None:
    """Inserts and updates, of rows that get another key that first."""
    if rekeying.standing:
        rekeying.run(sink, rows.tolist())
        for row in rows.tolist():
            applied.refused.pop(row, None)
            applied.result[row] = rekeying.results.get(row, WROTE)
        for row, poison in rekeying.refused.items():
            applied.result[row], applied.refused[row] = REFUSED, poison
        rows = rows_left(rows, rekeying)
    _isolated(sink, rekeying.write, rows, applied)


def _takes_along(write: Write, writes: Sequence[Write]) -> bool:
    """Whether a delete out of this table takes rows along, or changes them, of a table into which rows are written here."""
    if not (write.op == DELETE).any():
        return False
    foreign = [f for other in writes if (other.op != DELETE).any() for f in other.table.foreign_keys if f.parent == write.table.name]
    return any(f.on_delete.upper() not in ("NO ACTION", "RESTRICT") for f in foreign)


def _waiting(rekeyings: Sequence[Rekeying], done: Sequence[Applied], reason: str = "foreign_key") -> list[tuple[Rekeying, Applied, Rows]]:
    refused = [np.array(sorted(row for row, why in a.refused.items() if why.reason == reason), dtype=np.int64) for a in done]
    return [(r, a, rows) for r, a, rows in zip(rekeyings, done, refused, strict=True) if len(rows)]


def _isolated(sink: Sink, write: Write, rows: Rows, applied: Applied, named_before: int = 0) -> None:
    if len(rows) == 0:
        return
    try:
        outcome = sink.write(write if len(rows) == len(write) else write.take(rows))
    except Poison as poison:
        named = rows[list(poison.rows)] if poison.rows else rows if len(rows) == 1 else rows[:0]
        for row in named.tolist():
            applied.result[row], applied.refused[row] = REFUSED, poison
        rest = np.setdiff1d(rows, named)
        # A database that names one row at a time would have the whole batch sent once per bad row; halves bound that.
        halves = [rest] if len(named) and named_before < 2 else np.array_split(rest, 2)
        for half in halves:
            _isolated(sink, write, half, applied, named_before + 1 if len(named) else 0)
        return
    applied.result[rows] = outcome.result
    if outcome.keys is not None:
        applied.keys |= zip(rows.tolist(), outcome.keys.to_pylist(), strict=True)
    for row in rows.tolist() if applied.refused else ():
        applied.refused.pop(row, None)
