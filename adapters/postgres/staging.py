"""The set-based form of one write: what is sent by COPY, and the statements that move it from the staging table into the target.

The staging table has the target's columns (types and collations included) and three of ours: the row's number in the write, its operation,
and one bit per column that only some of the updated rows decide. Everything here is text and columns; the sink does the talking.

The planner guesses that few staged rows have a given operation, whatever their number, and so looks the target's rows up by index one by one
where there is an index, and reads the target once where there is none. Both are what we want; analysed statistics would spoil it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from adapters import copytext
from adapters.postgres.schema import quoted, quoted_table
from engine.model.batch import DELETE, INSERT, UPDATE
from engine.model.schema import Table
from engine.model.write import Write

NUMBER, OP, DECIDED = "_syncline_n", "_syncline_op", "_syncline_decided"
_OURS = ((NUMBER, "integer"), (OP, "smallint"), (DECIDED, "bit varying"))

STAGE = "_syncline_stage_"
"""What the names of staging tables begin with; a number follows."""

SET_ASIDE = 0
"""Operation of a staged row that is not carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One statement. `kind` says what its returned row numbers mean: `many`, `delete`, `update`, `exists`; `insert` returns none."""

    kind: str
    sql: str


@dataclass(frozen=True, slots=True)
class Form:
    """One write taken apart. `plain`: value columns that all updated rows decide; `mixed`: those that some do; a column nobody decides is
    neither sent nor named."""

    write: Write
    inserts: int = field(init=False)
    updates: int = field(init=False)
    deletes: int = field(init=False)
    plain: tuple[int, ...] = field(init=False)
    mixed: tuple[int, ...] = field(init=False)
    sent: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        op, decided = self.write.op, self.write.decided
        is_update = op == UPDATE
        put = object.__setattr__
        put(self, "inserts", int((op == INSERT).sum()))
        put(self, "updates", int(is_update.sum()))
        put(self, "deletes", int((op == DELETE).sum()))
        counts = decided[is_update].sum(axis=0) if self.updates else np.zeros(decided.shape[1], dtype=np.int64)
        columns = range(decided.shape[1])
        put(self, "plain", tuple(place for place in columns if self.updates and counts[place] == self.updates))
        put(self, "mixed", tuple(place for place in columns if 0 < counts[place] < self.updates))
        keys = {self.names.index(name) for name in self.write.key}
        put(self, "sent", tuple(place for place in columns if self.inserts or counts[place] or place in keys))

    @property
    def names(self) -> list[str]:
        return list(self.write.values.column_names)

    @property
    def only_inserts(self) -> bool:
        """Whole new rows, nothing else."""
        return self.inserts == len(self.write) and bool(self.write.decided.all())

    def direct_copy(self) -> tuple[str, memoryview]:
        """The rows straight into the target."""
        columns = ", ".join(quoted(name) for name in self.names)
        return f"COPY {quoted_table(self.write.table.name)} ({columns}) FROM STDIN", copytext.encode(self.write.values.columns)

    def staged_copy(self, stage: str) -> tuple[str, memoryview]:
        """The rows into the staging table. Cells that are not decided go as null, so that nothing in them can be refused."""
        write = self.write
        columns: list[pa.Array | pa.ChunkedArray] = [pa.array(np.arange(len(write), dtype=np.int32)), pa.array(write.op)]
        names = [NUMBER, OP]
        if self.mixed:
            columns.append(_bits(write.decided[:, list(self.mixed)]))
            names.append(DECIDED)
        for place in self.sent:
            name, values = self.names[place], write.values.column(place)
            wanted = write.decided[:, place]
            if name not in write.key and not wanted.all():
                values = pc.if_else(pa.array(wanted), values, pa.scalar(None, values.type))
            columns.append(values)
            names.append(name)
        return f"COPY {stage} ({', '.join(quoted(name) for name in names)}) FROM STDIN", copytext.encode(columns)

    def steps(self, stage: str, *, one_row_per_key: bool, look_first: bool) -> list[Step]:
        """Deletes before updates before inserts: a unique value may move from a row that goes to one that comes.

        look_first: rows to insert that stand there already are looked up and set aside. Without, the key's own unique index skips them, which
        is faster and does not tell which they were; a clash with any other index is an error either way."""
        write = self.write
        target = f"{quoted_table(write.table.name)} AS t"
        same = self._same()
        found: list[Step] = []
        if not one_row_per_key:
            many = f"SELECT s.{NUMBER} FROM {stage} AS s JOIN {target} ON {same} GROUP BY s.{NUMBER} HAVING count(*) > 1"
            found.append(
                Step(
                    kind="many",
                    sql=f"UPDATE {stage} AS s SET {OP} = {SET_ASIDE} FROM ({many}) AS m WHERE s.{NUMBER} = m.{NUMBER} RETURNING s.{NUMBER}",
                )
            )
        if self.deletes:
            sql = f"DELETE FROM {target} USING {stage} AS s WHERE s.{OP} = {DELETE} AND {same} RETURNING s.{NUMBER}"
            found.append(Step(kind="delete", sql=sql))
        if self.updates:
            found.append(Step(kind="update", sql=self._update(stage, target, same)))
        if self.inserts:
            if look_first:
                sql = f"UPDATE {stage} AS s SET {OP} = {SET_ASIDE} FROM {target} WHERE s.{OP} = {INSERT} AND {same} RETURNING s.{NUMBER}"
                found.append(Step(kind="exists", sql=sql))
            columns = ", ".join(quoted(name) for name in self.names)
            chosen = ", ".join(f"s.{quoted(name)}" for name in self.names)
            skip = "" if look_first else f" ON CONFLICT ({', '.join(quoted(name) for name in write.key)}) DO NOTHING"
            sql = (
                f"INSERT INTO {quoted_table(write.table.name)} ({columns}) OVERRIDING SYSTEM VALUE"
                f" SELECT {chosen} FROM {stage} AS s WHERE s.{OP} = {INSERT}{skip}"
            )
            found.append(Step(kind="insert", sql=sql))
        return found

    def absent(self, stage: str, op: int) -> str:
        """Numbers of the staged rows of this operation that have no row in the target."""
        same = self._same()
        table = quoted_table(self.write.table.name)
        return f"SELECT s.{NUMBER} FROM {stage} AS s WHERE s.{OP} = {op} AND NOT EXISTS (SELECT FROM {table} AS t WHERE {same})"

    def without_parent(self, stage: str, columns: Collection[str]) -> list[str]:
        """Numbers of the staged rows that refer to a row which neither stands in the parent table nor comes with this write. columns: those of the
        foreign key in question. A reference that is not decided is null in the staging table, and so is none."""
        table = self.write.table
        sent = {self.names[place] for place in self.sent}
        foreign = next((foreign for foreign in table.foreign_keys if set(foreign.columns) == set(columns)), None)
        if foreign is None or not set(columns) <= sent:
            return []
        pairs = list(zip(foreign.columns, foreign.parent_columns, strict=True))
        refers = " AND ".join(f"p.{quoted(theirs)} = s.{quoted(own)}" for own, theirs in pairs)
        given = " AND ".join(f"s.{quoted(own)} IS NOT NULL" for own, _ in pairs)
        absent = f"NOT EXISTS (SELECT FROM {quoted_table(foreign.parent)} AS p WHERE {refers})"
        if foreign.parent == table.name and set(foreign.parent_columns) <= sent:
            absent += f" AND NOT EXISTS (SELECT FROM {stage} AS p WHERE {refers})"
        return [f"SELECT s.{NUMBER} FROM {stage} AS s WHERE {self._to_be_written()} AND {given} AND {absent}"]

    def clashing(self, stage: str) -> list[str]:
        """Numbers of the staged rows whose unique value belongs to another row of the target that this write leaves alone; one query per unique
        index beside the key. Two rows of the write that clash with each other are not among them."""
        table, key = self.write.table, self.write.key
        sent = {self.names[place] for place in self.sent}
        touched = " AND ".join(f"u.{quoted(name)} = o.{quoted(name)}" for name in key)
        return [
            f"SELECT s.{NUMBER} FROM {stage} AS s JOIN {quoted_table(table.name)} AS u"
            f" ON {' AND '.join(f'u.{quoted(name)} = s.{quoted(name)}' for name in unique)}"
            f" WHERE {self._to_be_written()} AND NOT EXISTS (SELECT FROM {stage} AS o WHERE {touched})"
            for unique in table.unique
            if set(unique) <= sent and not set(unique) <= set(key)
        ]

    def _to_be_written(self) -> str:
        """Of a staged row `s`: an insert whose row is absent, or an update whose row is there."""
        there = f"EXISTS (SELECT FROM {quoted_table(self.write.table.name)} AS t WHERE {self._same()})"
        return f"(s.{OP} = {INSERT} AND NOT {there} OR s.{OP} = {UPDATE} AND {there})"

    def _same(self) -> str:
        return " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in self.write.key)

    def _update(self, stage: str, target: str, same: str) -> str:
        names = self.names
        changed = [f"{quoted(names[place])} = s.{quoted(names[place])}" for place in self.plain]
        for bit, place in enumerate(self.mixed):
            name = quoted(names[place])
            changed.append(f"{name} = CASE WHEN get_bit(s.{DECIDED}, {bit}) = 1 THEN s.{name} ELSE t.{name} END")
        if not changed:
            return f"SELECT s.{NUMBER} FROM {stage} AS s JOIN {target} ON {same} WHERE s.{OP} = {UPDATE}"
        return f"UPDATE {target} SET {', '.join(changed)} FROM {stage} AS s WHERE s.{OP} = {UPDATE} AND {same} RETURNING s.{NUMBER}"


def create(stage: str, table: Table, columns: Sequence[str]) -> str:
    """A staging table that empties itself at the end of each transaction, without a trace in the catalogues. Its columns have the base type
    of a domain: one that is NOT NULL would refuse rows that leave the column out."""
    ours = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _OURS)
    theirs = ", ".join(f"t.{quoted(name)}::{table.column(name).type.name} AS {quoted(name)}" for name in columns)
    return f"CREATE TEMPORARY TABLE {stage} ON COMMIT DELETE ROWS AS SELECT {ours}, {theirs} FROM {quoted_table(table.name)} AS t WITH NO DATA"


def _bits(matrix: npt.NDArray[np.bool_]) -> pa.StringArray:
    """One string of 0 and 1 per row."""
    rows, width = matrix.shape
    digits = np.ascontiguousarray(matrix.astype(np.uint8) + 48)
    offsets = np.arange(rows + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets.tobytes()), pa.py_buffer(digits.tobytes()))
