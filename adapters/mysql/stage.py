"""The staging table: rows of one write, typed as the target's columns are, in a temporary table that lives as long as the connection.

Columns: `_n` number of the row, `_op` what is to be done with it, `_m0`, `_m1` ... bits of the decided cells (60 a word), `c0`, `c1` ... the values.
Neither creating a temporary table nor deleting from it commits the transaction that is open (TRUNCATE does:
https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/), so it is emptied by DELETE in a transaction, by TRUNCATE outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pymysql

from adapters.copytext import encode
from adapters.mysql.connection import quote
from adapters.mysql.failure import number_of, text_of
from adapters.mysql.fit import assignment, loaded
from adapters.mysql.load import load_local, refuse_warnings, refused, refuses_local
from adapters.mysql.schema import Described
from engine.errors import Poison, Terminal
from engine.model.schema import Column
from engine.model.write import Write

WORD_BITS = 60
_INSERT_BYTES = 1 << 20
_ROOM = 4096
"""Bytes of an INSERT that are not the row's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A staging table for some columns of one target table. packet: the server's `max_allowed_packet`, bytes."""

    name: str
    columns: tuple[Column, ...]
    described: tuple[Described, ...]
    packet: int

    @property
    def words(self) -> int:
        return (len(self.columns) + WORD_BITS - 1) // WORD_BITS

    def cell(self, column: str) -> str:
        """The staged value of a target column, as SQL; the staging table's alias is s."""
        return f"s.c{self.place(column)}"

    def place(self, column: str) -> int:
        return next(at for at, known in enumerate(self.columns) if known.name == column)

    def decided(self, column: str) -> str:
        """The condition under which the cell is to be written."""
        word, bit = divmod(self.place(column), WORD_BITS)
        return f"s._m{word} & {1 << bit}"

    def create(self, key: Sequence[str], *, wide: bool = False) -> str:
        """wide: long texts outside of the row, for a table whose rows are near the largest size a row may have."""
        words = [f"_m{word} bigint unsigned NOT NULL" for word in range(self.words)]
        cells = [f"c{at} {_declared(column, wide and column.name not in key)}" for at, column in enumerate(self.described)]
        parts = ", ".join(["_n int NOT NULL PRIMARY KEY", "_op tinyint NOT NULL", *words, *cells])
        return f"CREATE TEMPORARY TABLE {quote(self.name)} ({parts}) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4"

    def fill(self, connection: pymysql.Connection, write: Write, *, local: bool, into: str = "") -> bool:
        """Puts the rows in. into: straight into this table, values only. Poison naming the rows that do not fit. False when the server does not allow
        LOAD DATA LOCAL (nothing was done then)."""
        values = [self._sent(write, column) for column in self.columns]
        numbers = [] if into else [pa.array(np.arange(len(write), dtype=np.int32)), pa.array(write.op), *map(pa.array, self._masks(write))]
        if not local:
            self._insert(connection, numbers, values)
            return True
        names = [column.name for column in self.columns] if into else [f"c{at}" for at in range(len(self.columns))]
        known = dict(zip(names, self.columns, strict=True))
        try:
            count = load_local(connection, self._load(into, names), encode([*numbers, *values]), known, self.packet)
        except pymysql.MySQLError as error:
            if refuses_local(error):
                return False
            raise
        if count != len(write):
            raise Terminal(f"the server loaded {count} of {len(write)} rows", where="mysql", fix="report this with the server's version")
        return True

    def _sent(self, write: Write, column: Column) -> pa.StringArray:
        """The column as it is sent: NULL where the cell is not to be written, so that what stands there cannot be refused."""
        sent = loaded(column.type, write.values.column(column.name))
        decided = write.decided[:, self.place(column.name)]
        return sent if column.name in write.key or decided.all() else pc.if_else(pa.array(decided), sent, None)

    def _too_large(self, row: int) -> Poison:
        """Sent all the same, the row would end the connection, again and again."""
        what = f"as an INSERT the row is longer than the server takes (max_allowed_packet is {self.packet} bytes)"
        return Poison(what, reason="too_long", rows=(row,), fix="SET GLOBAL local_infile = 1, which has no such bound, or raise max_allowed_packet")

    def _names(self) -> dict[str, Column]:
        return {f"c{at}": column for at, column in enumerate(self.columns)}

    def _masks(self, write: Write) -> Iterator[npt.NDArray[np.uint64]]:
        for word in range(self.words):
            bits = write.decided[:, word * WORD_BITS : (word + 1) * WORD_BITS].astype(np.uint64)
            yield bits @ (np.uint64(1) << np.arange(bits.shape[1], dtype=np.uint64))

    def _load(self, into: str, names: Sequence[str]) -> str:
        fields, sets = [] if into else ["_n", "_op", *(f"_m{word}" for word in range(self.words))], []
        for at, (name, column, described) in enumerate(zip(names, self.columns, self.described, strict=True)):
            expression = assignment(column.type, described, f"@v{at}")
            fields.append(f"@v{at}" if expression else quote(name))
            if expression:
                sets.append(f"{quote(name)} = {expression}")
        tail = f" SET {', '.join(sets)}" if sets else ""
        return (
            f"LOAD DATA LOCAL INFILE 'syncline' INTO TABLE {into or quote(self.name)} CHARACTER SET utf8mb4 "
            rf"FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n' ({', '.join(fields)}){tail}"
        )

    def _insert(self, connection: pymysql.Connection, numbers: Sequence[pa.Array], values: Sequence[pa.Array]) -> None:
        """Without LOAD DATA LOCAL: multi-row INSERTs. The first row that does not fit ends it."""
        parts = [pc.cast(number, pa.string()) for number in numbers]
        for column, described, array in zip(self.columns, self.described, values, strict=True):
            literal = _literal(array)
            expression = assignment(column.type, described, "\n")
            if expression:
                before, after = expression.split("\n")
                literal = pc.binary_join_element_wise(before, literal, after, "")
            parts.append(pc.fill_null(literal, "NULL"))
        rows = pc.binary_join_element_wise("(", pc.binary_join_element_wise(*parts, ","), ")", "")
        for first, last in _blocks(rows, min(_INSERT_BYTES, self.packet // 2)):
            if last == first + 1 and len(rows[first].as_buffer()) > self.packet - _ROOM:
                raise self._too_large(first)
            try:
                connection.query(f"INSERT INTO {quote(self.name)} VALUES {','.join(rows.slice(first, last - first).to_pylist())}")
            except pymysql.MySQLError as error:
                poison = refused([(number_of(error), text_of(error))], self._names(), first)
                if poison is not None and poison.rows:
                    raise poison from error
                raise
            refuse_warnings(connection, self._names(), first)


def _declared(column: Described, wide: bool) -> str:
    declared = {"varchar": "mediumtext", "varbinary": "mediumblob"}.get(column.base, column.declared) if wide else column.declared
    text = f"{declared} CHARACTER SET {column.charset} COLLATE {column.collation}" if column.charset else declared
    return f"{text} NULL DEFAULT NULL"


def _literal(text: pa.StringArray) -> pa.StringArray:
    escaped = pc.replace_substring(pc.replace_substring(text, "\\", "\\\\"), "'", "\\'")
    return pc.binary_join_element_wise("'", pc.replace_substring(escaped, "\0", "\\0"), "'", "")


def _blocks(rows: pa.StringArray, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows of about `size` bytes of SQL."""
    ends = np.cumsum(pc.binary_length(rows).to_numpy(zero_copy_only=False))
    first = 0
    while first < len(rows):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + size)))
        yield first, last
        first = last
