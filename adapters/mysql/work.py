"""The statements that bring staged rows into their target table, each proved by the number of rows it touched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pymysql

from adapters.mysql.connection import quote, quoted
from adapters.mysql.rows import select
from adapters.mysql.stage import Stage
from engine.errors import Poison
from engine.model.batch import DELETE, INSERT, UPDATE
from engine.model.schema import ForeignKey
from engine.model.write import Write

_Ints = npt.NDArray[np.int64]


class Uneven(Exception):
    """A statement did not touch the number of rows it was to touch: what stands in the target is not what was assumed."""


class Work:
    """What is to be done with the staged rows of one write. rows: the numbers of those that are staged; each is to touch exactly one row."""

    def __init__(self, connection: pymysql.Connection, stage: Stage, write: Write, rows: _Ints) -> None:
        self._connection = connection
        self._stage = stage
        self._write = write
        self._rows = {op: rows[write.op[rows] == op] for op in (DELETE, UPDATE, INSERT)}
        self._target = f"{quote(write.table.name.schema)}.{quote(write.table.name.table)}"
        self._staged = f"{quote(stage.name)} AS s"
        self._matched = f"{self._staged} STRAIGHT_JOIN {self._target} AS t ON {self._same('t')}"

    @property
    def hierarchy(self) -> Sequence[ForeignKey]:
        """Foreign keys from the table to itself."""
        return [foreign for foreign in self._write.table.foreign_keys if foreign.parent == self._write.table.name]

    def delete(self, only: Sequence[int] | None = None) -> None:
        self._expect(f"DELETE t FROM {self._matched} WHERE {self._which(DELETE, only)}", self._count(DELETE, only))

    def update(self) -> None:
        """Only the decided cells: plain where all rows have the cell decided, by its bit where some have."""
        rows = self._rows[UPDATE]
        sets = []
        for at, name in enumerate(self._write.values.column_names):
            decided = self._write.decided[rows, at]
            if name in self._write.key or not decided.any():
                continue
            cell, own = self._stage.cell(name), f"t.{quote(name)}"
            sets.append(f"{own} = {cell}" if decided.all() else f"{own} = IF({self._stage.decided(name)}, {cell}, {own})")
        if sets:
            self._expect(f"UPDATE {self._matched} SET {', '.join(sets)} WHERE {self._which(UPDATE, None)}", len(rows))
        elif len(rows):
            found = select(self._connection, f"SELECT s._n FROM {self._matched} WHERE {self._which(UPDATE, None)} FOR UPDATE", ["n"])
            if len(found) != len(rows):
                raise Uneven

    def insert(self, only: Sequence[int] | None = None) -> None:
        decided = self._write.decided[self._rows[INSERT]]
        names = [name for at, name in enumerate(self._write.values.column_names) if decided[:, at].any() or name in self._write.key]
        cells = ", ".join(self._stage.cell(name) for name in names)
        which = self._which(INSERT, only)
        sql = f"INSERT INTO {self._target} ({quoted(names)}) SELECT {cells} FROM {self._staged} WHERE {which} ORDER BY s._n"
        self._expect(sql, self._count(INSERT, only))

    def insert_in_rounds(self) -> None:
        """Rows whose parents stand in the table, then those whose parents came in the round before, and so on."""
        rest = set(self._rows[INSERT].tolist())
        while rest:
            ready = self._numbers(f"SELECT s._n FROM {self._staged} WHERE {self._which(INSERT, sorted(rest))} AND {self._rooted()}")
            if not ready:
                raise Poison(
                    "the row points to a parent row of the same table that is not there, or to one that points back to it",
                    reason="foreign_key",
                    rows=tuple(sorted(rest)),
                    where=str(self._write.table.name),
                    fix="let the parent arrive first; a circle can only be closed by an update",
                )
            self.insert(ready)
            rest -= set(ready)

    def delete_in_rounds(self) -> None:
        """Rows that no other row points to, then those that only pointed to each other through them, and so on."""
        rest = set(self._rows[DELETE].tolist())
        while rest:
            ready = self._numbers(f"SELECT s._n FROM {self._matched} WHERE {self._which(DELETE, sorted(rest))} AND {self._childless()}")
            self.delete(ready or sorted(rest))  # none is ready: let the server say why
            rest -= set(ready or rest)

    def _rooted(self) -> str:
        conditions = []
        for foreign in self.hierarchy:
            if not set(foreign.columns) <= set(self._write.values.column_names):
                continue
            pairs = list(zip(foreign.columns, foreign.parent_columns, strict=True))
            empty = [f"{self._stage.cell(here)} IS NULL" for here, _ in pairs]
            parent = " AND ".join(f"p.{quote(there)} = {self._stage.cell(here)}" for here, there in pairs)
            either = [*empty, f"EXISTS (SELECT 1 FROM {self._target} AS p WHERE {parent})"]
            if set(foreign.parent_columns) <= set(self._write.values.column_names):
                either.append("(" + " AND ".join(f"{self._stage.cell(here)} = {self._stage.cell(there)}" for here, there in pairs) + ")")
            conditions.append(f"({' OR '.join(either)})")
        return " AND ".join(conditions) or "TRUE"

    def _childless(self) -> str:
        conditions = []
        for foreign in self.hierarchy:
            child = " AND ".join(f"c.{quote(here)} = t.{quote(there)}" for here, there in zip(foreign.columns, foreign.parent_columns, strict=True))
            conditions.append(f"NOT EXISTS (SELECT 1 FROM {self._target} AS c WHERE {child})")
        return " AND ".join(conditions) or "TRUE"

    def _same(self, alias: str) -> str:
        return " AND ".join(f"{alias}.{quote(name)} = {self._stage.cell(name)}" for name in self._write.key)

    def _which(self, op: int, only: Sequence[int] | None) -> str:
        return f"s._op = {op}" if only is None else f"s._op = {op} AND s._n IN ({', '.join(map(str, only))})"

    def _count(self, op: int, only: Sequence[int] | None) -> int:
        return len(self._rows[op]) if only is None else len(only)

    def _numbers(self, sql: str) -> list[int]:
        return [int(number) for number in select(self._connection, sql, ["n"]).column(0).to_pylist()]

    def _expect(self, sql: str, rows: int) -> None:
        if rows and self._connection.query(sql) != rows:
            raise Uneven
