"""Rows that get another key in the target, each in place: in an order in which every new key is free, by way of a parking place where rows change about.

Where a foreign key keeps a row from leaving its key, a copy of it is put under the new one; the row itself goes when all else is written, and the rows that
refer to it have had their own changes.
"""
from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import Poison
from engine.model.batch import DELETE
from engine.model.schema import Table
from engine.model.types import Kind
from engine.model.write import ROW_EXISTS, WROTE, Write
from engine.ports import Sink

Key = tuple[str, ...]
PLACES = 3
"""Parking places that are tried."""


@dataclass(slots=True)
class Rekeying:
    """The rows of one write whose key changes: row -> the key under which it stands. done: rows that have the new one. copied: those of which the old row is
    still to go. results, refused: of the others that were tried."""

    write: Write
    standing: Mapping[int, Key]
    done: set[int] = field(default_factory=set)
    copied: set[int] = field(default_factory=set)
    results: dict[int, int] = field(default_factory=dict)
    refused: dict[int, Poison] = field(default_factory=dict)

    def run(self, sink: Sink, rows: Sequence[int]) -> None:
        """Tries those of these rows that have not their new key yet."""
        left = [row for row in rows if row in self.standing and row not in self.done]
        after = dict(zip(left, keys_of(self.write, left), strict=True))
        for row in left:
            self.results.pop(row, None), self.refused.pop(row, None)
        for part in _ordered({row: self.standing[row] for row in left}, after):
            if len(part) == 1:
                self._one(sink, part[0], after[part[0]])
            else:
                self._around(sink, part, after)

    def let_go(self, sink: Sink) -> dict[int, Poison]:
        """Deletes what was copied. Rows that the database does not let go, with its reason."""
        kept = {}
        for row in sorted(self.copied):
            values = pa.table({name: pa.array([text], pa.string()) for name, text in zip(self.write.key, self.standing[row], strict=True)})
            op, decided = np.array([DELETE], dtype=np.uint8), np.zeros((1, len(self.write.key)), dtype=np.bool_)
            try:
                sink.write(Write(table=self.write.table, key=self.write.key, op=op, values=values, decided=decided))
            except Poison as poison:
                kept[row] = poison
        return kept

    def _one(self, sink: Sink, row: int, after: Key) -> None:
        try:
            result = self._step(sink, self.standing[row], after)
        except Poison as poison:
            self.refused[row] = poison
            if poison.reason != "foreign_key":
                return
            try:
                result = sink.rekey(self.write.table, self.write.key, self.standing[row], after, copy=True)
            except Poison:
                return
            del self.refused[row]
            if result == WROTE:
                self.copied.add(row)
        if result == WROTE:
            self.done.add(row)
        else:
            self.results[row] = result

    def _around(self, sink: Sink, rows: Sequence[int], after: Mapping[int, Key]) -> None:
        """Rows of which each takes the key of the next, and the last one that of the first: all of them or none."""
        steps: list[tuple[Key, Key]] = []
        try:
            parked, result = self._park(sink, rows[-1])
            if result == WROTE:
                steps.append((self.standing[rows[-1]], parked))
                for row in reversed(rows[:-1]):
                    result = self._step(sink, self.standing[row], after[row])
                    if result != WROTE:
                        break
                    steps.append((self.standing[row], after[row]))
                else:
                    result = self._step(sink, parked, after[rows[-1]])
        except Poison as poison:
            self.refused |= dict.fromkeys(rows, poison)
            result = ROW_EXISTS
        if result == WROTE:
            self.done.update(rows)
            return
        for here, there in reversed(steps):
            self._step(sink, there, here)
        self.results |= {row: result for row in rows if row not in self.refused}

    def _park(self, sink: Sink, row: int) -> tuple[Key, int]:
        result = ROW_EXISTS
        for place in _places(self.write.table, self.write.key, self.standing[row]):
            result = self._step(sink, self.standing[row], place)
            if result != ROW_EXISTS:
                return place, result
        raise Poison(
            "rows change their keys about, and there is no free key to do it by",
            reason="unique",
            where=str(self.write.table.name),
            fix="change the keys one after the other, in transactions of their own",
        )

    def _step(self, sink: Sink, before: Key, after: Key) -> int:
        return sink.rekey(self.write.table, self.write.key, before, after, copy=False)


def keys_of(write: Write, rows: Sequence[int]) -> list[Key]:
    """Key texts of these rows of a write."""
    chosen = write.values.select(list(write.key)).take(pa.array(rows, pa.int64()))
    return [tuple(row.values()) for row in chosen.to_pylist()]


def _ordered(before: Mapping[int, Key], after: Mapping[int, Key]) -> Iterator[list[int]]:
    """Single rows in an order in which the new key of each is free by then; then what is left, in circles: each row takes the key of the next."""
    at = {key: row for row, key in before.items()}
    blocker = {row: at[key] for row, key in after.items() if key in at and at[key] != row}
    behind = {block: row for row, block in blocker.items()}
    left = dict.fromkeys(before)
    for first in [row for row in before if row not in blocker]:
        row: int | None = first
        while row is not None:
            yield [row]
            del left[row]
            row = behind.get(row)
    while left:
        first = next(iter(left))
        circle = [first]
        while blocker[circle[-1]] != first:
            circle.append(blocker[circle[-1]])
        for row in circle:
            del left[row]
        yield circle


def _places(table: Table, key: Sequence[str], before: Key) -> Iterator[Key]:
    """Keys that hardly any row has: one column is exchanged, if possible not one that refers to other rows. None below the smallest number that a column
    without a sign has besides 0: a larger one could move the counter that makes keys."""
    referring = {name for foreign in table.foreign_keys for name in foreign.columns}
    for name in sorted(key, key=lambda name: name in referring):
        type_ = table.column(name).type
        place = key.index(name)
        for _ in range(PLACES):
            match type_.kind:
                case Kind.INT if type_.signed:
                    text = str(-random.randint(1, 2 ** (type_.bits - 1) - 1))
                case Kind.INT:
                    text = "0"
                case Kind.DECIMAL if type_.precision is None or type_.precision - (type_.scale or 0) > 2:
                    digits = min(12, 12 if type_.precision is None else type_.precision - (type_.scale or 0))
                    text = f"-{random.randint(1, 10**digits - 1)}" + (f".{'0' * type_.scale}" if type_.scale else "")
                case Kind.TEXT | Kind.UUID:
                    text = str(uuid.uuid4())[: type_.length]
                case _:
                    break
            yield (*before[:place], text, *before[place + 1 :])


def rows_left(rows: npt.NDArray[np.int64], rekeying: Rekeying) -> npt.NDArray[np.int64]:
    """Those that are still to be written: rows whose key is right, unless there is nothing to write but the key."""
    write = rekeying.write
    ready = [row not in rekeying.standing or (row in rekeying.done and bool(write.decided[row].any())) for row in rows.tolist()]
    return rows[np.array(ready, dtype=np.bool_)] if len(rows) else rows
