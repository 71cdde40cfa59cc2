"""Reads tables and rows of a PostgreSQL database as canonical text.

Rows come by COPY in CSV form: there, and only there, NULL (nothing) and the empty string ("") stay apart for Arrow's CSV reader. The text
of a value is that of the type's output function, the same that logical replication sends.
Protocol: https://www.postgresql.org/docs/current/sql-copy.html; snapshots: https://www.postgresql.org/docs/current/functions-info.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg import sql

from adapters import copytext
from adapters.postgres.connection import Connection, connect, lost, wrap
from adapters.postgres.schema import addresses_one, key_type, quoted, quoted_table, read_table
from adapters.postgres.statements import statement
from engine.errors import Oversized, Poison, SynclineError, Terminal
from engine.model.batch import Chunk, Position
from engine.model.schema import Table
from engine.model.types import Kind

T = TypeVar("T")

LOCKED = " FOR NO KEY UPDATE OF t"
"""Behind a `fetch_query`, where its rows are to be kept from changing."""

CHUNK_BYTES = 32 << 20
"""A chunk of larger rows ends early, so that its size in memory is bounded."""

class PostgresReader:
    """The Reader port over one connection. A chunk may end before `limit` rows when it grows past `CHUNK_BYTES`, and may pass `limit` where
    the key is not unique: rows of one key are never torn apart, because the next chunk starts behind that key."""

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._url = url
        self._connection: Connection | None = None

    def table(self, schema: str, table: str) -> Table:
        return self._run(lambda connection: read_table(connection, self._name, schema, table), f"{self._name}.{schema}.{table}")

    def read_chunk(self, table: Table, columns: Sequence[str], key: Sequence[str], after: tuple[str, ...] | None, limit: int,
                   null_in: Sequence[str] = ()) -> Chunk:  # fmt: skip
        wanted = list(dict.fromkeys((*columns, *key)))
        query = _Query(table, wanted, key, after, null_in)

        def read(connection: Connection) -> Chunk:
            fence, rows, whole = _in_snapshot(connection, query.first(limit), wanted, CHUNK_BYTES)
            more = rows.num_rows and (not whole or rows.num_rows >= limit)
            last = _last(rows, key) if more else None
            if last is not None and not whole and not addresses_one(table, key):
                # rows of one key must not be cut apart: the next chunk would begin behind all of them
                fence, rows, _ = _in_snapshot(connection, query.bounded("<", last), wanted)
                if rows.num_rows:
                    last = _last(rows, key)
                else:
                    fence, rows, _ = _in_snapshot(connection, query.bounded("=", last), wanted)
            return Chunk(rows=rows.select(list(columns)), fence=fence, last=last)

        return self._run(read, str(table.name))

    def read_unkeyed(self, table: Table, columns: Sequence[str], null_in: Sequence[str], limit: int) -> Iterator[Chunk]:
        where, query = str(table.name), _Query(table, columns, (), None, null_in).all()
        connection = connect(self._url, system=self._name)
        try:
            fence = _begin_snapshot(connection)
            with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv)") as copy:
                whole = False
                while not whole:
                    rows, whole = _some(copy, columns, CHUNK_BYTES, limit)
                    if rows.num_rows:
                        yield Chunk(rows=rows, fence=fence, last=None)
        except psycopg.Error as error:
            raise wrap(error, where) from error
        finally:
            connection.close()

    def fetch(self, table: Table, columns: Sequence[str], key: Sequence[str], keys: pa.Table, bytes_at_most: int | None = None) -> pa.Table:
        asked = askable(keys, key)
        if asked[0].null_count == len(asked[0]):
            return pa.table({name: pa.array([], type=pa.string()) for name in columns})

        def read(connection: Connection) -> pa.Table:
            try:
                rows, whole = copy_out(connection, fetch_query(table, columns, key, asked, typed=True), columns, bytes_at_most)
            except psycopg.DataError:
                # a key that cannot be one of this table: compare as text, slowly, so that the others are found
                rows, whole = copy_out(connection, fetch_query(table, columns, key, asked, typed=False), columns, bytes_at_most)
            if not whole:
                raise Oversized
            return rows

        return self._run(read, str(table.name))

    def end(self) -> Position:
        """Where everything is flushed, the end as it stands, without writing. Else (asynchronous commits, busy server) the flushed end may
        lie before a commit and the written one may never be sent, so a mark is committed and its place returned."""

        def read(connection: Connection) -> Position:
            flushed, lsn, server = connection.execute(statement("log_end")).fetchone() or (True, "0/0", "")
            if not flushed:
                cursor = connection.execute(statement("log_mark"))
                cursor.nextset(), cursor.nextset()
                (lsn,) = cursor.fetchone() or (lsn,)
            high, low = lsn.split("/")
            return Position(f"{lsn}@{server}", (int(high, 16) << 32) | int(low, 16))

        return self._run(read, f"system {self._name}")

    def clock_us(self) -> int:
        def read(connection: Connection) -> int:
            (now,) = connection.execute(statement("clock")).fetchone() or (0,)
            return int(now)

        return self._run(read, f"system {self._name}")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(self, work: Callable[[Connection], T], where: str) -> T:
        """Once more on a new connection when the old one turns out to be lost: nothing here changes a row, so repeating is harmless."""
        while True:
            held = self._connection
            if held is None or lost(held):
                held = self._connection = connect(self._url, system=self._name)
                is_new = True
            else:
                is_new = False
            try:
                return work(held)
            except (psycopg.Error, SynclineError) as error:
                if lost(held):
                    self.close()
                    if not is_new:
                        continue
                else:
                    _leave_transaction(held)
                failure = wrap(error, where)
                if isinstance(failure, Poison):  # a refused row is a matter of writing; here the question itself was wrong
                    failure = Terminal(failure.what, where=where, fix="check the key columns of the rule against the table")
                raise failure from (error.__cause__ if failure is error else error)
            except BaseException:
                _leave_transaction(held)
                raise


def _leave_transaction(connection: Connection) -> None:
    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()


class _Query:
    """The SELECTs of a chunk that begins behind `after`."""

    def __init__(self, table: Table, columns: Sequence[str], key: Sequence[str], after: tuple[str, ...] | None, null_in: Sequence[str]) -> None:
        self._table, self._key = table, key
        self._names = ", ".join(f"t.{quoted(name)}" for name in key)
        self._select = f"SELECT {_selected(table, columns)} FROM {quoted_table(table.name)} AS t"
        self._conditions = [f"t.{quoted(name)} IS NOT NULL" for name in key if table.column(name).nullable]
        if after is not None:
            self._conditions.append(self._compared(">", after))
        if null_in:
            self._conditions.append("(" + " OR ".join(f"t.{quoted(name)} IS NULL" for name in null_in) + ")")

    def first(self, limit: int) -> str:
        """So many rows in order of the key, and those that share the key of the last one."""
        ties = "ONLY" if addresses_one(self._table, self._key) else "WITH TIES"
        return f"{self._select}{self._where()} ORDER BY {self._names} FETCH FIRST {limit:d} ROWS {ties}"

    def all(self) -> str:
        """All rows, in no order."""
        return self._select + self._where()

    def bounded(self, sign: str, bound: tuple[str, ...]) -> str:
        """All rows with key < bound, or = bound, in order of the key."""
        return f"{self._select}{self._where(self._compared(sign, bound))} ORDER BY {self._names}"

    def _compared(self, sign: str, key: tuple[str, ...]) -> str:
        values = ", ".join(f"{_literal(value)}::{key_type(self._table.column(name).type)}" for name, value in zip(self._key, key, strict=True))
        return f"({self._names}) {sign} ({values})"

    def _where(self, *more: str) -> str:
        conditions = [*self._conditions, *more]
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _last(rows: pa.Table, key: Sequence[str]) -> tuple[str, ...]:
    return tuple(rows.column(name)[-1].as_py() for name in key)


def fetch_query(table: Table, columns: Sequence[str], key: Sequence[str], keys: list[pa.Array], *, typed: bool) -> str:
    arrays = ", ".join(f"{_literal(_array_text(values))}::text[]" for values in keys)
    plain = ", ".join(f"k{place}" for place in range(len(key)))
    if typed:
        asked = ", ".join(f"k{place}::{key_type(table.column(name).type)} AS k{place}" for place, name in enumerate(key))
        same = " AND ".join(f"t.{quoted(name)} = q.k{place}" for place, name in enumerate(key))
    else:
        asked = plain
        same = " AND ".join(f"t.{quoted(name)}::text = q.k{place}" for place, name in enumerate(key))
    return (
        f"SELECT {_selected(table, columns)} FROM (SELECT DISTINCT {asked} FROM unnest({arrays}) AS u ({plain})) AS q"
        f" JOIN {quoted_table(table.name)} AS t ON {same}"
    )


def _selected(table: Table, columns: Sequence[str]) -> str:
    """CHAR(n) as text, which drops the padding."""
    parts = []
    for name in columns:
        kind = table.column(name).type
        parts.append(f"t.{quoted(name)}::text" if kind.kind is Kind.TEXT and kind.padded else f"t.{quoted(name)}")
    return ", ".join(parts)


def _literal(text: str) -> str:
    return sql.quote(text)


def askable(keys: pa.Table, key: Sequence[str]) -> list[pa.Array]:
    """The key columns, without rows that cannot be in any table: a null in the key, or a NUL character."""
    named = set(key) <= set(keys.column_names)
    columns = [keys.column(name) if named else keys.column(place) for place, name in enumerate(key)]
    columns = [pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=pa.string()) for column in columns]
    keep = pa.array([True] * len(columns[0])) if len(columns[0]) else pa.array([], type=pa.bool_())
    for column in columns:
        keep = pc.and_(keep, column.is_valid())
        if len(bad := copytext.with_nul(column)):
            keep = pc.and_(keep, pc.invert(pc.is_in(pa.array(range(len(column)), pa.int64()), pa.array(bad))))
    return [column.filter(keep) for column in columns]


def _array_text(values: pa.Array) -> str:
    """PostgreSQL's text of a text array (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO)."""
    escaped = pc.replace_substring(pc.replace_substring(values, "\\", "\\\\"), '"', '\\"')
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(escaped)], pa.int32()), escaped), '","')
    return '{"' + joined[0].as_py() + '"}' if len(escaped) else "{}"


def _in_snapshot(connection: Connection, query: str, columns: Sequence[str], bytes_at_most: int | None = None) -> tuple[int, pa.Table, bool]:
    """Place of the log that the snapshot stands for, rows, whether they are all."""
    fence = _begin_snapshot(connection)
    rows, whole = copy_out(connection, query, columns, bytes_at_most)
    connection.execute("COMMIT" if whole else "ROLLBACK")
    return fence, rows, whole


def _begin_snapshot(connection: Connection) -> int:
    cursor = connection.execute(statement("begin_snapshot"))
    cursor.nextset()
    (fence,) = cursor.fetchone() or (-1,)
    return int(fence)


class _Enough(Exception):
    """Ends a COPY early; a signal, not a failure."""


def copy_out(connection: Connection, query: str, columns: Sequence[str], bytes_at_most: int | None = None) -> tuple[pa.Table, bool]:
    """The rows of a query as string columns, and whether they are all."""
    rows, whole = pa.table({}), False
    with contextlib.suppress(_Enough), connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv)") as copy:
        rows, whole = _some(copy, columns, bytes_at_most)
        if not whole:
            raise _Enough
    return rows, whole


def _some(copy: psycopg.Copy, columns: Sequence[str], bytes_at_most: int | None, limit: int | None = None) -> tuple[pa.Table, bool]:
    """The next rows of a COPY, and whether it has ended. The server sends a whole row per message, so stopping tears none."""
    parts: list[bytes | bytearray | memoryview] = []
    size = 0
    while data := copy.read():
        parts.append(data)
        size += len(data)
        if (bytes_at_most is not None and size > bytes_at_most) or len(parts) == limit:
            return _parse(b"".join(parts), columns), False
    return _parse(b"".join(parts), columns), True


def _parse(text: bytes, columns: Sequence[str]) -> pa.Table:
    if not text:
        return pa.table({name: pa.array([], type=pa.string()) for name in columns})
    return pyarrow.csv.read_csv(
        pa.py_buffer(text),
        read_options=pyarrow.csv.ReadOptions(column_names=list(columns), block_size=len(text) + 1, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in columns},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            check_utf8=False,
        ),
    )
