"""Base rows and catalogue of one MySQL or MariaDB system, by plain SELECTs whose values come out as the log's decoder gives them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pymysql

from adapters.mysql.connection import connect, is_mariadb, quote, version, wrap
from adapters.mysql.gtid import order, position
from adapters.mysql.literal import compared, literals, ordered, place
from adapters.mysql.rows import Form, Result, select, select_some
from adapters.mysql.schema import BINARY_OPAQUE, Described, data_type, describe, read_table
from engine.errors import Oversized, SynclineError, Terminal
from engine.model.batch import Chunk, Position
from engine.model.schema import Table, TableName
from engine.model.types import DataType, Kind

CHUNK_BYTES = 32 << 20
"""A chunk of larger rows ends early, so that its size in memory is bounded."""

PATIENCE_SECONDS = 3600
"""So long the server may wait for us to take rows of a result that is read bit by bit."""
KEYS_PER_QUERY = 1000
"""Above that MariaDB turns an IN list into a join of its own and MySQL's range optimizer gives up its memory."""


class MySqlReader:
    """`engine.ports.Reader`. One connection, opened when first needed and again after it was lost."""

    def __init__(self, system: str, url: str) -> None:
        self._system = system
        self._url = url
        self._connection: pymysql.Connection | None = None
        self._described: dict[TableName, dict[str, Described]] = {}

    def table(self, schema: str, table: str) -> Table:
        with self._session(f"{self._system}.{table}") as connection:
            found = read_table(connection, self._system, schema, table)
            self._described[found.name] = {c.name: c for c in describe(connection, found.name.schema, found.name.table)}
            return found

    def read_chunk(self, table: Table, columns: Sequence[str], key: Sequence[str], after: tuple[str, ...] | None, limit: int,
                   null_in: Sequence[str] = ()) -> Chunk:  # fmt: skip
        with self._session(str(table.name)) as connection:
            described = self._columns(connection, table.name)
            wanted = [*columns, *(name for name in key if name not in columns)]
            keys = [_column(described, name, table.name) for name in key]
            not_null = [f"{quote(column.name)} IS NOT NULL" for column in keys if column.nullable]
            begin = [*not_null, *([_beyond(keys, after, ">")] if after is not None else [])]
            if null_in:
                begin.append(_null_in(null_in))
            by = ", ".join(ordered(column) for column in keys)
            with _snapshot(connection) as fence:
                rows, whole = self._select_some(connection, table, wanted, begin, f" ORDER BY {by} LIMIT {limit}", CHUNK_BYTES)
            last = _key(rows, key) if len(rows) == limit or not whole else None
        if last is not None and not any(set(columns) <= set(key) for columns in table.unique):
            # Rows of one key must not be cut apart: the next chunk would begin behind all of them. A snapshot of its own, since the first read may
            # have ended with the connection.
            with self._session(str(table.name)) as connection, _snapshot(connection) as fence:
                rows = self._select(connection, table, wanted, [*begin, _beyond(keys, last, "<")], f" ORDER BY {by}")
                if len(rows):
                    last = _key(rows, key)
                else:
                    rows = self._select(connection, table, wanted, [*begin, _equal(keys, last)], "")
        return Chunk(rows=rows.select(list(columns)), fence=fence, last=last)

    def read_unkeyed(self, table: Table, columns: Sequence[str], null_in: Sequence[str], limit: int) -> Iterator[Chunk]:
        apart = MySqlReader(self._system, self._url)
        try:
            with apart._session(str(table.name)) as connection:
                apart._columns(connection, table.name)
                connection.query(f"SET SESSION net_write_timeout = {PATIENCE_SECONDS}")
                described, query = _query(apart._described[table.name], table.name, columns, [_null_in(null_in)], "")
                with _snapshot(connection) as fence, Result(connection, query, columns, [form(column) for column in described]) as result:
                    whole = False
                    while not whole:
                        rows, whole = result.read(CHUNK_BYTES)
                        rows = _as_read(rows, described)
                        for at in range(0, len(rows), limit):
                            yield Chunk(rows=rows.slice(at, limit), fence=fence, last=None)
        finally:
            apart.close()

    def fetch(self, table: Table, columns: Sequence[str], key: Sequence[str], keys: pa.Table, bytes_at_most: int | None = None) -> pa.Table:
        with self._session(str(table.name)) as connection:
            described = self._columns(connection, table.name)
            found: list[pa.Table] = []
            whole = True
            for condition in conditions(described, table.name, key, keys):
                left = None if bytes_at_most is None else bytes_at_most - sum(rows.nbytes for rows in found)
                rows, whole = self._select_some(connection, table, columns, [condition], "", left)
                whole = whole and (left is None or rows.nbytes <= left)
                if not whole:
                    break
                found.append(rows)
        if not whole:
            raise Oversized
        empty = pa.table([pa.array([], type=pa.string())] * len(columns), names=list(columns))
        return pa.concat_tables(found).combine_chunks() if found else empty

    def end(self) -> Position:
        with self._session(f"system {self._system}") as connection:
            return log_end(connection, self._system)

    def clock_us(self) -> int:
        with self._session(f"system {self._system}") as connection:
            rows = select(connection, "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)", ["now"])
            return int(rows.column(0)[0].as_py())

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    @contextlib.contextmanager
    def _session(self, where: str) -> Iterator[pymysql.Connection]:
        """The connection, alive. A driver's exception leaves as one of ours, and the connection with it when its state is not known."""
        connection = self._alive()
        try:
            yield connection
        except Exception as error:
            if not connection.open or not isinstance(error, (pymysql.MySQLError, SynclineError)):
                self.close()
            raise wrap(error, where) from error

    def _alive(self) -> pymysql.Connection:
        if self._connection is not None:
            try:
                self._connection.ping(reconnect=False)
            except Exception:
                self.close()
        if self._connection is None:
            connection = connect(self._url, system=self._system)
            self._connection = connection
            with self._session(f"system {self._system}"):
                connection.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return self._connection

    def _columns(self, connection: pymysql.Connection, name: TableName) -> dict[str, Described]:
        if name not in self._described:
            self._described[name] = {c.name: c for c in describe(connection, name.schema, name.table)}
        return self._described[name]

    def _select(self, connection: pymysql.Connection, table: Table, columns: Sequence[str], where: Sequence[str], tail: str) -> pa.Table:
        return self._select_some(connection, table, columns, where, tail, None)[0]

    def _select_some(
        self, connection: pymysql.Connection, table: Table, columns: Sequence[str], where: Sequence[str], tail: str, bytes_at_most: int | None
    ) -> tuple[pa.Table, bool]:
        return select_rows(connection, self._described[table.name], table.name, columns, where, tail, bytes_at_most)


def select_rows(
    connection: pymysql.Connection, described: dict[str, Described], table: TableName, columns: Sequence[str], where: Sequence[str], tail: str,
    bytes_at_most: int | None = None,
) -> tuple[pa.Table, bool]:  # fmt: skip
    """Rows of a table as canonical text, and whether these are all of them: see `select_some`. described: its columns by name."""
    wanted, query = _query(described, table, columns, where, tail)
    rows, whole = select_some(connection, query, list(columns), [form(column) for column in wanted], bytes_at_most)
    return _as_read(rows, wanted), whole


def conditions(described: dict[str, Described], table: TableName, key: Sequence[str], keys: pa.Table) -> list[str]:
    """Conditions that name the rows of these keys, `KEYS_PER_QUERY` at most in each. Keys that cannot be in the table are left out."""
    compare = [_column(described, name, table) for name in key]
    wanted = pa.table([literals(column, keys.column(column.name)) for column in compare], names=list(key)).drop_null()
    return [_any_of(compare, wanted.slice(at, KEYS_PER_QUERY)) for at in range(0, len(wanted), KEYS_PER_QUERY)]


def _query(described: dict[str, Described], table: TableName, columns: Sequence[str], where: Sequence[str], tail: str) -> tuple[list[Described], str]:
    wanted = [_column(described, name, table) for name in columns]
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    return wanted, f"SELECT {', '.join(shown(column) for column in wanted)} FROM {quote(table.schema)}.{quote(table.table)}{condition}{tail}"


def log_end(connection: pymysql.Connection, system: str) -> Position:
    """The end of the binary log. Terminal when there is none or the right to see it is missing. Driver errors pass."""
    where = f"system {system}"
    if is_mariadb(connection):
        for _ in range(10):
            before = _row(connection, "SELECT @@GLOBAL.gtid_binlog_pos")
            status = _row(connection, "SHOW MASTER STATUS")
            if _row(connection, "SELECT @@GLOBAL.gtid_binlog_pos") == before:
                break
        else:
            # the log moves faster than three statements: let the server look the state up, at the price of reading the file
            before = _row(connection, f"SELECT BINLOG_GTID_POS('{status[0]}', {int(status[1])})") if status else None
        gtid = str(before[0] or "") if before else ""
    else:
        status = _row(connection, "SHOW BINARY LOG STATUS" if version(connection) >= (8, 4, 0) else "SHOW MASTER STATUS")
        gtid = str(status[4] or "").replace("\n", "") if status and len(status) > 4 else ""
    if not status:
        raise Terminal("the binary log is off", where=where, fix="set log_bin and server_id in the server's configuration and restart it")
    return position(str(status[0]), int(status[1]), gtid)


def shown(column: Described) -> str:
    """The SELECT expression whose text is canonical, as far as the server can make it."""
    name = quote(column.name)
    if column.base == "float":
        return f"{name} + 0e0"  # the server prints a FLOAT with six digits, a DOUBLE with all
    if column.base in ("bit", "year") or "zerofill" in column.declared.lower():
        return f"{name} + 0"
    return name


def form(column: Described) -> Form:
    """What is left to do with the text of `shown`."""
    kind = data_type(column)
    match kind.kind:
        case Kind.BOOL:
            return Form.BOOL
        case Kind.BYTES:
            return Form.HEX
        case Kind.OPAQUE if kind.name in BINARY_OPAQUE:
            return Form.HEX
        case Kind.TIME | Kind.DATETIME:
            return Form.FRACTION if kind.fraction else Form.PLAIN
        case Kind.INSTANT:
            return Form.INSTANT
    return Form.PLAIN


def _as_read(rows: pa.Table, described: Sequence[Described]) -> pa.Table:
    arrays = [_floats(rows.column(at), kind) for at, kind in enumerate(map(data_type, described))]
    return pa.table(arrays, names=rows.column_names)


def _floats(values: pa.ChunkedArray, kind: DataType) -> pa.ChunkedArray:
    if kind.kind is not Kind.FLOAT:
        return values
    numbers = pc.cast(values, pa.float32() if kind.bits == 32 else pa.float64())
    return pc.replace_substring_regex(pc.cast(numbers, pa.string()), pattern=r"\.0$", replacement="")


@contextlib.contextmanager
def _snapshot(connection: pymysql.Connection) -> Iterator[int]:
    """A read transaction; gives the place of the binary log it stands for. MariaDB alone can say that exactly:
    https://mariadb.com/kb/en/enhancements-for-start-transaction-with-consistent-snapshot/"""
    connection.query("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    try:
        yield _fence(connection)
    except BaseException:
        with contextlib.suppress(Exception):
            connection.query("ROLLBACK")
        raise
    if connection.open:
        connection.query("COMMIT")


def _fence(connection: pymysql.Connection) -> int:
    if not is_mariadb(connection):
        return -1
    with connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'binlog\\_snapshot\\_%'")
        status = {str(name).lower(): value for name, value in cursor.fetchall()}
    file, offset = status.get("binlog_snapshot_file"), status.get("binlog_snapshot_position")
    return order(str(file), int(offset)) if file and offset else -1


def _beyond(keys: Sequence[Described], values: Sequence[str], sign: str) -> str:
    """key > values (or <), part by part. The first comparison alone lets the server use an index of the key."""
    parts = [ordered(column) for column in keys]
    bounds = [_place(column, value) for column, value in zip(keys, values, strict=True)]
    either = []
    for last in range(len(parts)):
        same = [f"{part} = {bound}" for part, bound in zip(parts[:last], bounds[:last], strict=True)]
        either.append("(" + " AND ".join([*same, f"{parts[last]} {sign} {bounds[last]}"]) + ")")
    return either[0] if len(either) == 1 else f"{parts[0]} {sign}= {bounds[0]} AND ({' OR '.join(either)})"


def _equal(keys: Sequence[Described], values: Sequence[str]) -> str:
    return " AND ".join(f"{ordered(column)} = {_place(column, value)}" for column, value in zip(keys, values, strict=True))


def _any_of(keys: Sequence[Described], wanted: pa.Table) -> str:
    """The rows with one of these keys. For several columns an OR of ANDs: MariaDB finds no range for rows in an IN list."""
    names = [compared(column) for column in keys]
    if len(names) == 1:
        return f"{names[0]} IN ({', '.join(wanted.column(0).to_pylist())})"
    each = zip(*(column.to_pylist() for column in wanted.columns), strict=True)
    return "(" + " OR ".join("(" + " AND ".join(f"{n} = {v}" for n, v in zip(names, row, strict=True)) + ")" for row in each) + ")"


def _null_in(columns: Sequence[str]) -> str:
    return "(" + " OR ".join(f"{quote(name)} IS NULL" for name in columns) + ")"


def _place(column: Described, value: str) -> str:
    made = place(column, value)
    if made is None:
        raise Terminal("the key to read on from is none of this column", where=f"column {column.name}", fix="start reading the table anew")
    return made


def _key(rows: pa.Table, key: Sequence[str]) -> tuple[str, ...]:
    return tuple(rows.column(name)[len(rows) - 1].as_py() for name in key)


def _column(described: dict[str, Described], name: str, table: TableName) -> Described:
    if name not in described:
        mend = "run `syncline check` and adapt the rule"
        raise Terminal(f"there is no column {name} (any more)", where=str(table), fix=mend)
    return described[name]


def _row(connection: pymysql.Connection, sql: str) -> tuple[Any, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()
