"""Writes batches into one MySQL or MariaDB system: rows are staged, then one DELETE, one UPDATE and one INSERT per table do the work.

Each statement joins the staging table with the target by the write's key, so the key column's own collation and index decide. Where a unique
index guarantees that a key names one row at most, the statements run straight away and the numbers of rows they report are the proof; where
the numbers do not come out even, or there is no such index, the rows are looked up and locked first. A write of inserts alone is loaded
straight into the target where all of it fits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pymysql
from pymysql.constants import CLIENT

from adapters.mysql import made
from adapters.mysql.connection import connect, quote, wrap
from adapters.mysql.failure import number_of
from adapters.mysql.fit import one_array, refuse_unfit
from adapters.mysql.reader import conditions, select_rows
from adapters.mysql.refused import name_rows
from adapters.mysql.rekey import rekey
from adapters.mysql.rows import select
from adapters.mysql.schema import Described, describe
from adapters.mysql.stage import Stage
from adapters.mysql.statements import statement
from adapters.mysql.work import Uneven, Work
from engine.errors import Poison, Terminal, Transient
from engine.model.batch import INSERT
from engine.model.schema import Column, Table, TableName
from engine.model.write import MANY_ROWS, NO_ROW, ROW_EXISTS, WROTE, LinkRow, Marker, Outcome, Write

_Ints = npt.NDArray[np.int64]

LOCK_SECONDS = 10
ATTEMPTS = 3
PAUSE = 20
_DUPLICATE, _NO_TABLE, _DENIED, _CANNOT_SET = 1062, 1146, 1142, 1227
_ROW_TOO_LARGE, _NO_DEFAULT = 1118, 1364
_FOREIGN = frozenset((1216, 1217, 1451, 1452))


class MySqlSink:
    """`engine.ports.Sink`. One connection with one transaction at a time; staging tables live as long as the connection."""

    def __init__(self, system: str, url: str, rule_set: str) -> None:
        self._system = system
        self._url = url
        self._rule_set = rule_set
        self._connection: pymysql.Connection | None = None
        self._stages: dict[tuple[TableName, tuple[str, ...]], Stage] = {}
        self._begun: Marker | None = None
        self._done: list[tuple[Write | _Rekeyed, Outcome]] = []
        self._dirty: set[str] = set()
        self._local = True
        self._pause: dict[TableName, int] = {}
        self._locked: list[tuple[Write, Sequence[str], pa.Table]] = []
        self._open = False
        self._described: dict[TableName, dict[str, Described]] = {}

    def prepare(self) -> None:
        connection = self._alive()
        try:
            with self._errors(f"{self._system}.syncline_checkpoint"):
                connection.query("SELECT rule_set, source, batch, position, updated_at FROM syncline_checkpoint LIMIT 0")
        except Terminal as missing:
            if missing.__cause__ is None or number_of(missing.__cause__) not in (_NO_TABLE, _DENIED):
                raise
            try:
                with self._errors(f"{self._system}.syncline_checkpoint"):
                    connection.query(statement("create_checkpoint"))
            except Terminal as error:
                raise Terminal(
                    "the table syncline_checkpoint is missing and the user may not create it",
                    where=f"system {self._system}",
                    fix=f"run as an administrator: {create_checkpoint()}",
                ) from error

    def marker(self, rule_set: str, source: str) -> Marker | None:
        connection = self._connection if self._open and self._connection else self._alive()
        with self._errors(f"{self._system}.syncline_checkpoint"), connection.cursor() as cursor:
            try:
                cursor.execute(statement("read_checkpoint"), (rule_set, source))
            except pymysql.MySQLError as error:
                if number_of(error) == _NO_TABLE:
                    return None
                raise
            row = cursor.fetchone()
        return None if row is None else Marker(rule_set=rule_set, source=source, batch=int(row[0]), position=str(row[1]))

    def begin(self, marker: Marker) -> None:
        connection = self._alive()
        with self._errors(f"{self._system}.syncline_checkpoint"):
            for name in sorted(self._dirty):
                connection.query(f"TRUNCATE TABLE {quote(name)}")
            self._dirty.clear()
            self._start(connection, marker)

    def lock(self, write: Write, columns: Sequence[str]) -> pa.Table:
        connection, table = self._in_transaction(), write.table.name
        with self._errors(str(table)):
            if self._place(write) not in self._stages:
                self._make_stage(connection, write)  # not later: it would let the locks go
            if table not in self._described:
                self._described[table] = {column.name: column for column in describe(connection, table.schema, table.table)}
            described = self._described[table]
            named = conditions(described, table, write.key, write.values.select(list(write.key)))
            lots = [select_rows(connection, described, table, columns, [condition], " FOR UPDATE")[0] for condition in named]
            found = pa.concat_tables(lots) if lots else pa.table({name: pa.array([], pa.string()) for name in columns})
            self._locked.append((write, columns, found))
            return found

    def write(self, write: Write) -> Outcome:
        if not len(write):
            return Outcome(result=np.zeros(0, dtype=np.uint8))
        connection = self._in_transaction()
        with self._errors(str(write.table.name)):
            if write.made:
                return self._write_made(connection, write)
            if self._place(write) not in self._stages:
                self._make_stage(connection, write)
            outcome = self._write(connection, write)
            self._done.append((write, outcome))
            return outcome

    def _write_made(self, connection: pymysql.Connection, write: Write) -> Outcome:
        """A write some of whose new rows get their key here. It is remembered with these keys: played again, it is the same."""
        known, new = made.split(write)
        fresh = made.without_key(write.take(new))
        rest = made.with_keys(write.take(known), one_array(write.values.column(write.made)).take(pa.array(known)))
        for part in (rest, fresh):
            if self._place(part) not in self._stages:
                self._make_stage(connection, part)
        connection.query("SAVEPOINT syncline_made")
        keys = one_array(write.values.column(write.made)).to_numpy(zero_copy_only=False).copy()
        result = np.full(len(write), WROTE, dtype=np.uint8)
        chosen = known
        try:
            if len(rest):
                result[known] = self._write(connection, rest).result
            chosen = new
            if len(fresh):
                keys[new] = self._insert_made(connection, fresh)
        except Poison as error:
            connection.query("ROLLBACK TO SAVEPOINT syncline_made")
            error.rows = tuple(int(chosen[row]) for row in error.rows)
            raise
        outcome = Outcome(result=result, keys=pa.array(keys, pa.string()))
        self._done.append((made.with_keys(write, outcome.keys), outcome))
        return outcome

    def _insert_made(self, connection: pymysql.Connection, write: Write) -> list[str]:
        stage = self._stages[self._place(write)]
        try:
            refuse_unfit(stage.columns, stage.described, write.values, write.decided)
            self._fill(connection, stage, write)
            return made.insert(connection, stage, write)
        except Exception as error:
            refused = wrap(error, str(write.table.name))
            if not isinstance(refused, Poison):
                raise
            raise _placed(refused, write.table) from error

    def rekey(self, table: Table, key: Sequence[str], before: Sequence[str], after: Sequence[str], *, copy: bool) -> int:
        connection = self._in_transaction()
        with self._errors(str(table.name)):
            result = rekey(connection, table, key, before, after, copy=copy)
            self._done.append((_Rekeyed(table, tuple(key), tuple(before), tuple(after), copy), Outcome(result=np.array([result], dtype=np.uint8))))
            return result

    def prepare_links(self) -> None:
        where = f"{self._system}.syncline_link"
        if not self._there("SELECT rule_set FROM syncline_link LIMIT 0", where):
            try:
                with self._errors(where):
                    self._alive().query(statement("create_link"))
            except Terminal as error:
                raise Terminal(
                    "the table syncline_link is missing and the user may not create it",
                    where=f"system {self._system}",
                    fix=f"run as an administrator: {' '.join(statement('create_link').split())}",
                ) from error

    def _there(self, sql: str, where: str) -> bool:
        """Whether a table of ours can be read."""
        try:
            with self._errors(where):
                self._alive().query(sql)
        except Terminal as missing:
            if missing.__cause__ is None or number_of(missing.__cause__) not in (_NO_TABLE, _DENIED):
                raise
            return False
        return True

    def write_links(self, rule_set: str, rows: Sequence[LinkRow]) -> None:
        connection = self._in_transaction()
        gone = [(rule_set, r.link, r.source, r.target, r.source_key) for r in rows if r.target_key is None]
        put = [(rule_set, r.link, r.source, r.source_key, r.target, r.target_key, r.batch, r.made_us) for r in rows if r.target_key is not None]
        with self._errors(f"{self._system}.syncline_link"), connection.cursor() as cursor:
            for name, some in (("remove_link", gone), ("write_link", put)):
                if some:
                    cursor.executemany(statement(name), some)

    def links(self, rule_set: str) -> list[LinkRow]:
        where = f"{self._system}.syncline_link"
        if not self._there("SELECT rule_set FROM syncline_link LIMIT 0", where):
            return []
        with self._errors(where), self._alive().cursor() as cursor:
            cursor.execute(statement("read_links"), (rule_set,))
            return [
                LinkRow(link=str(link), source=str(source), source_key=str(key), target=str(target), target_key=str(there), batch=int(batch), made_us=int(us))
                for link, source, key, target, there, batch, us in cursor.fetchall()
            ]

    def commit(self) -> None:
        connection = self._in_transaction()
        with self._errors(f"system {self._system}"):
            connection.query("COMMIT")
            self._open = False
            self._done.clear()
            self._locked.clear()

    def rollback(self) -> None:
        self._open = False
        self._done.clear()
        self._locked.clear()
        if self._connection is not None:
            try:
                self._connection.query("ROLLBACK")
            except Exception:
                self._forget()

    def close(self) -> None:
        self._forget()

    def _start(self, connection: pymysql.Connection, marker: Marker) -> None:
        connection.query("START TRANSACTION")
        self._open, self._begun = True, marker
        with connection.cursor() as cursor:
            cursor.execute(statement("write_checkpoint"), (marker.rule_set, marker.source, marker.batch, marker.position))

    def _write(self, connection: pymysql.Connection, write: Write) -> Outcome:
        stage = self._stages[self._place(write)]
        chosen = write.decided.copy()
        chosen[:, [write.values.column_names.index(name) for name in write.key]] = True
        try:
            refuse_unfit(stage.columns, stage.described, write.values, chosen)
        except Poison as error:
            raise _placed(error, write.table) from error
        connection.query("SAVEPOINT syncline_write")
        try:
            return self._apply(connection, stage, write)
        except Exception as error:
            refused = wrap(error, str(write.table.name))
            if not isinstance(refused, Poison):
                raise
            if not refused.rows:
                all_alike = number_of(error) == _NO_DEFAULT  # a column that the write does not have: every new row is at fault
                rows = tuple(np.flatnonzero(write.op == INSERT).tolist()) if all_alike else name_rows(connection, stage, write, refused.reason)
                refused = Poison(refused.what, reason=refused.reason, rows=rows, where=refused.where, fix=refused.fix)
            self._back(connection)
            raise _placed(refused, write.table) from error

    def _apply(self, connection: pymysql.Connection, stage: Stage, write: Write) -> Outcome:
        single = any(set(columns) <= set(write.key) for columns in write.table.unique)
        if single and self._direct(connection, stage, write):
            return Outcome(result=np.full(len(write), WROTE, dtype=np.uint8))
        self._fill(connection, stage, write)
        if single:
            with contextlib.suppress(Uneven):
                self._run(connection, stage, write, np.arange(len(write)))
                return Outcome(result=np.full(len(write), WROTE, dtype=np.uint8))
            self._back(connection)
            self._fill(connection, stage, write)
        for _ in range(ATTEMPTS):
            result = _judge(write, self._probe(connection, stage, write))
            left_out = np.flatnonzero(result != WROTE)
            if len(left_out):
                connection.query(f"DELETE FROM {quote(stage.name)} WHERE _n IN ({', '.join(map(str, left_out.tolist()))})")
            with contextlib.suppress(Uneven):
                self._run(connection, stage, write, np.flatnonzero(result == WROTE))
                return Outcome(result=result)
            self._back(connection)
            self._fill(connection, stage, write)
        colliding = name_rows(connection, stage, write, "key")
        if colliding:
            raise Poison(
                "the database holds the row's key for the same as that of another row of the batch",
                reason="unique",
                rows=colliding,
                where=str(write.table.name),
                fix="map the key so that it differs by more than case, accents or trailing blanks",
            )
        raise Transient("rows were changed by another transaction meanwhile", where=str(write.table.name), fix="it is tried again by itself")

    def _direct(self, connection: pymysql.Connection, stage: Stage, write: Write) -> bool:
        """Loads a write of inserts alone straight into the target. The server leaves out what does not fit or stands there already, with a warning:
        at the first one all of it is taken back, and the staged way has to find out. After that the table's next writes do not try."""
        if not self._local or not (write.op == INSERT).all() or not write.decided.all():
            return False
        table = write.table.name
        if any(_must_be_given(column) and column.name not in write.values.column_names for column in write.table.columns):
            return False  # MySQL's LOAD DATA would make up a value, without a warning
        if self._pause.get(table, 0):
            self._pause[table] -= 1
            return False
        try:
            self._local = stage.fill(connection, write, local=True, into=f"{quote(table.schema)}.{quote(table.table)}")
            return self._local
        except (Poison, Uneven):
            self._pause[table] = PAUSE
            self._back(connection)
            return False

    def _back(self, connection: pymysql.Connection) -> None:
        """To where the write began. The staged rows are gone with it."""
        connection.query("ROLLBACK TO SAVEPOINT syncline_write")

    def _fill(self, connection: pymysql.Connection, stage: Stage, write: Write) -> None:
        if stage.name in self._dirty:
            connection.query(f"DELETE FROM {quote(stage.name)}")
        self._dirty.add(stage.name)
        if not stage.fill(connection, write, local=self._local):
            self._local = False
            stage.fill(connection, write, local=False)

    def _run(self, connection: pymysql.Connection, stage: Stage, write: Write, rows: _Ints) -> None:
        """Deletes, updates, inserts the staged rows. Uneven when a number of rows is not as expected, a clash of the key included."""
        work = Work(connection, stage, write, rows)
        try:
            work.delete()
            work.update()
            work.insert()
        except pymysql.MySQLError as error:
            number = number_of(error)
            if number == _DUPLICATE and np.any(self._probe(connection, stage, write)[rows[write.op[rows] == INSERT]]):
                raise Uneven from error
            if number not in _FOREIGN or not work.hierarchy:
                raise
            # rows point to rows of the same table: each after those it points to, then it can be pointed away, then it can go
            left_out = np.setdiff1d(np.arange(len(write)), rows)
            self._back(connection)
            self._fill(connection, stage, write)
            if len(left_out):
                connection.query(f"DELETE FROM {quote(stage.name)} WHERE _n IN ({', '.join(map(str, left_out.tolist()))})")
            work.insert_in_rounds()
            work.update()
            work.delete_in_rounds()

    def _probe(self, connection: pymysql.Connection, stage: Stage, write: Write) -> _Ints:
        """How many rows of the target each staged key names; they are locked."""
        target = f"{quote(write.table.name.schema)}.{quote(write.table.name.table)}"
        join = " AND ".join(f"t.{quote(name)} = {stage.cell(name)}" for name in write.key)
        sql = f"SELECT s._n FROM {quote(stage.name)} AS s STRAIGHT_JOIN {target} AS t ON {join} FOR UPDATE"
        numbers = select(connection, sql, ["n"]).column(0).cast("int64").to_numpy()
        return np.bincount(numbers, minlength=len(write)).astype(np.int64)

    def _place(self, write: Write) -> tuple[TableName, tuple[str, ...]]:
        return write.table.name, tuple(write.values.column_names)

    def _make_stage(self, connection: pymysql.Connection, write: Write) -> None:
        """Makes the staging table outside of the transaction, and plays again what had been written in it.

        Once a transaction has created a temporary table, MariaDB writes each ROLLBACK TO SAVEPOINT into the binary log, after the rows that it takes
        back, and a reader of the log must not see such rows: they never were.
        """
        begun, done, locked = self._begun, list(self._done), list(self._locked)
        assert begun is not None
        self.rollback()
        table, names = self._place(write)
        described = {column.name: column for column in describe(connection, table.schema, table.table)}
        if lost := [name for name in names if name not in described]:
            mend = "run `syncline check` and adapt the rule"
            raise Terminal(f"there is no column {lost[0]} (any more)", where=str(table), fix=mend)
        stage = Stage(
            name=f"syncline_stage_{len(self._stages)}",
            columns=tuple(write.table.column(name) for name in names),
            described=tuple(described[name] for name in names),
            packet=_packet(connection),
        )
        _create(connection, stage, write)
        self._stages[self._place(write)] = stage
        self._start(connection, begun)
        for seen, columns, found in locked:
            if not self.lock(seen, columns).equals(found):
                raise Transient("rows were changed by another transaction meanwhile", where=str(seen.table.name))
        for earlier, outcome in done:
            try:
                again = self._write(connection, earlier) if isinstance(earlier, Write) else earlier.again(connection)
            except Poison as error:
                raise Transient("rows were changed by another transaction meanwhile", where=str(table)) from error
            if not np.array_equal(again.result, outcome.result):
                raise Transient("rows were changed by another transaction meanwhile", where=str(table))
            self._done.append((earlier, outcome))

    def _in_transaction(self) -> pymysql.Connection:
        if self._connection is None or not self._open:
            raise Transient("the transaction is gone", where=f"system {self._system}", fix="it is begun again by itself")
        return self._connection

    @contextlib.contextmanager
    def _errors(self, where: str) -> Iterator[None]:
        """A driver's exception leaves as one of ours; anything but Poison takes the transaction with it."""
        try:
            yield
        except Exception as error:
            wrapped = wrap(error, where)
            if not isinstance(wrapped, Poison) and self._open:
                self.rollback()
            if self._connection is not None and not self._connection.open:
                self._forget()
            if wrapped is error:
                raise
            raise wrapped from error

    def _alive(self) -> pymysql.Connection:
        if self._open:
            self.rollback()
        if self._connection is not None:
            try:
                self._connection.ping(reconnect=False)
            except Exception:
                self._forget()
        if self._connection is None:
            flags = CLIENT.FOUND_ROWS  # an UPDATE reports the rows it found, not those it changed
            connection = connect(self._url, system=self._system, local_infile=True, client_flag=flags)
            self._connection = connection
            with self._errors(f"system {self._system}"):
                prepare_session(connection)
        return self._connection

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        self._open = False
        self._locked.clear()
        self._described.clear()
        self._stages.clear()
        self._done.clear()
        self._dirty.clear()
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()


def prepare_session(connection: pymysql.Connection) -> None:
    """READ COMMITTED: no gap locks on keys that are not there, and each statement sees what is committed."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION VARIABLES LIKE 'binlog_format'")
        row = cursor.fetchone()
    isolation = "READ COMMITTED"
    if row is not None and str(row[1]).upper() == "STATEMENT":
        try:
            connection.query("SET SESSION binlog_format = ROW")
        except pymysql.MySQLError as error:
            if number_of(error) != _CANNOT_SET:
                raise
            isolation = "REPEATABLE READ"  # InnoDB refuses READ COMMITTED with a log of statements
    connection.query(f"SET SESSION TRANSACTION ISOLATION LEVEL {isolation}")
    connection.query(f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}, group_concat_max_len = 1000000")
    try:
        connection.query("SET SESSION max_error_count = 65535")
    except pymysql.MySQLError as error:
        if number_of(error) != _CANNOT_SET:  # MySQL asks for a right of its own here; without it fewer rows at fault are named at once
            raise


def _must_be_given(column: Column) -> bool:
    return not (column.nullable or column.default or column.generated)


def _packet(connection: pymysql.Connection) -> int:
    return int(select(connection, "SELECT @@max_allowed_packet", ["bytes"]).column(0)[0].as_py())


def _create(connection: pymysql.Connection, stage: Stage, write: Write) -> None:
    try:
        try:
            connection.query(stage.create(write.key))
        except pymysql.MySQLError as error:
            if number_of(error) != _ROW_TOO_LARGE:
                raise
            connection.query(stage.create(write.key, wide=True))
    except pymysql.MySQLError as error:
        wrapped = wrap(error, str(write.table.name))
        if isinstance(wrapped, Poison):  # no row is at fault here
            wrapped = Terminal(f"no staging table can be made: {wrapped.what}", where=wrapped.where, fix="report this with the table's definition")
        raise wrapped from error


@dataclass(frozen=True, slots=True)
class _Rekeyed:
    """A change of key that was carried out, to play it again."""

    table: Table
    key: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    copy: bool

    def again(self, connection: pymysql.Connection) -> Outcome:
        return Outcome(result=np.array([rekey(connection, self.table, self.key, self.before, self.after, copy=self.copy)], dtype=np.uint8))


def create_checkpoint() -> str:
    """The SQL that makes our side table, on one line."""
    return " ".join(statement("create_checkpoint").split())


def _judge(write: Write, found: _Ints) -> npt.NDArray[np.uint8]:
    """Outcome per row from the number of rows that stand in the target."""
    result = np.full(len(write), WROTE, dtype=np.uint8)
    inserts = write.op == INSERT
    result[inserts & (found > 0)] = ROW_EXISTS
    result[~inserts & (found == 0)] = NO_ROW
    result[~inserts & (found > 1)] = MANY_ROWS
    return result


def _placed(error: Poison, table: Table) -> Poison:
    """The same with the table's name in front."""
    name = str(table.name)
    where = error.where if error.where.startswith(name) else f"{name}, {error.where}" if error.where else name
    return Poison(error.what, reason=error.reason, rows=_sequence(error.rows), where=where, fix=error.fix)


def _sequence(rows: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(row) for row in rows)
