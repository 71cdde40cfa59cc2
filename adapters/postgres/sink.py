"""Writes into a PostgreSQL database: marker first, then rows in sets, one transaction at a time.

Rows arrive by COPY, either straight into the target (whole new rows) or in a temporary staging table from which a few statements move them
(`staging`). A savepoint around each write keeps the transaction usable when a row is refused.
Protocol: https://www.postgresql.org/docs/current/sql-copy.html, https://www.postgresql.org/docs/current/sql-savepoint.html
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
from psycopg import errors

from adapters.postgres import refusal, staging
from adapters.postgres.connection import Connection, connect, lost, wrap
from adapters.postgres.reader import LOCKED, askable, copy_out, fetch_query
from adapters.postgres.rekey import rekey
from adapters.postgres.schema import addresses_one, quoted_table
from adapters.postgres.statements import statement
from engine.errors import Poison, SynclineError, Terminal, Transient
from engine.model.batch import DELETE, INSERT, UPDATE
from engine.model.schema import Table, TableName
from engine.model.write import MANY_ROWS, NO_ROW, ROW_EXISTS, WROTE, LinkRow, Marker, Outcome, Write

LOCK_TIMEOUT, STATEMENT_TIMEOUT = 30.0, 600.0
"""Seconds; the options `lock_timeout` and `statement_timeout` of the system override them."""

DOUBTFUL = 20
"""After rows to insert turned out to stand there already, this many writes to the table look first."""

APART = 500
"""From so many new rows on it pays to send them by themselves, not through the staging table with the others."""

_SAVEPOINT = "SAVEPOINT syncline_write"
_BACK = "ROLLBACK TO SAVEPOINT syncline_write"
_RELEASE = "RELEASE SAVEPOINT syncline_write"


class PostgresSink:
    """The Sink port. It keeps its connection and staging tables between transactions and reconnects when the connection was lost."""

    def __init__(self, name: str, url: str, rule_set: str, options: Mapping[str, object]) -> None:
        self._name = name
        self._url = url
        self._rule_set = rule_set
        self._lock_timeout = _seconds(options, "lock_timeout", LOCK_TIMEOUT)
        self._statement_timeout = _seconds(options, "statement_timeout", STATEMENT_TIMEOUT)
        self._where = f"system {name}"
        self._connection: Connection | None = None
        self._stages: dict[tuple[Table, tuple[str, ...]], _Stage] = {}
        self._stage_count = 0
        self._in_transaction = False
        self._in_savepoint = False
        self._savepoint_is_new = False
        self._doubtful: dict[TableName, int] = {}

    def prepare(self) -> None:
        connection = self._connected()
        try:
            (there,) = connection.execute(statement("has_checkpoint_table")).fetchone() or (False,)
            if not there:
                connection.execute(statement("create_checkpoint_table"))
        except errors.InsufficientPrivilege as error:
            (schema,) = connection.execute("SELECT current_schema()").fetchone() or (None,)
            raise Terminal(
                f"user {connection.info.user} may not create the table syncline_checkpoint in schema {schema}",
                where=self._where,
                fix=f'GRANT CREATE ON SCHEMA "{schema}" TO "{connection.info.user}"; or create it yourself: '
                + " ".join(statement("create_checkpoint_table").split()),
            ) from error
        except psycopg.Error as error:
            raise self._failed(error, self._where) from error

    def marker(self, rule_set: str, source: str) -> Marker | None:
        connection = self._connected()
        try:
            row = connection.execute(statement("read_marker"), {"rule_set": rule_set, "source": source}).fetchone()
        except errors.UndefinedTable:
            return None
        except psycopg.Error as error:
            raise self._failed(error, self._where) from error
        return None if row is None else Marker(rule_set=rule_set, source=source, batch=row[0], position=row[1])

    def begin(self, marker: Marker) -> None:
        if self._in_transaction:
            self.rollback()
        held = self._connection is not None
        try:
            self._begin(marker)
        except Transient:
            if not held or self._connection is not None:
                raise
            self._begin(marker)  # the connection was lost while nothing was under way

    def lock(self, write: Write, columns: Sequence[str]) -> pa.Table:
        connection, table, key = self._connected(), write.table, write.key
        asked = askable(write.values.select(list(key)), key)
        try:
            self._savepoint()
            try:
                return copy_out(connection, fetch_query(table, columns, key, asked, typed=True) + LOCKED, columns)[0]
            except psycopg.DataError:  # as in the reader
                self._go_back(connection)
                return copy_out(connection, fetch_query(table, columns, key, asked, typed=False) + LOCKED, columns)[0]
        except psycopg.Error as error:
            raise self._failed(error, str(table.name)) from error

    def write(self, write: Write) -> Outcome:
        if not self._in_transaction:
            raise Terminal("write was called outside of a transaction", where=self._where, fix="this is a fault of Syncline: report it")
        if not len(write):
            return Outcome(result=np.zeros(0, dtype=np.uint8))
        if write.made:
            write = self._with_keys(write)
        outcome = self._write(write)
        return Outcome(result=outcome.result, keys=one_array(write.values.column(write.made))) if write.made else outcome

    def _with_keys(self, write: Write) -> Write:
        """The write with a fresh key for each new row that lacks one. Drawn values that are not used leave gaps, as a rolled back insert does."""
        place = write.values.column_names.index(write.made)
        keys = one_array(write.values.column(place))
        new = keys.is_null().to_numpy(zero_copy_only=False) & (write.op == INSERT)
        count = int(new.sum())
        if not count:
            return write
        connection = self._connected()
        table = quoted_table(write.table.name)
        try:
            (source,) = connection.execute(statement("made_key"), {"table": table, "column": write.made}).fetchone() or (None,)
            if source is None:
                mend = "run `syncline check` and adapt the rule"
                raise Terminal(f"the column {write.made} has no default (any more) that makes keys", where=str(write.table.name), fix=mend)
            rows = connection.execute(f"SELECT ({source})::text FROM generate_series(1, {count})").fetchall()
        except psycopg.Error as error:
            raise self._failed(error, str(write.table.name)) from error
        filled = keys.to_numpy(zero_copy_only=False).copy()
        filled[new] = [text for (text,) in rows]
        column = pa.array(filled, pa.string())
        return replace(write, values=write.values.set_column(place, write.made, column))

    def _write(self, write: Write) -> Outcome:
        refusal.refuse_nul(write)
        form = staging.Form(write)
        one_row_per_key = addresses_one(write.table, write.key)
        hopeful = one_row_per_key and form.inserts > 0 and self._hopeful(write.table.name)
        if hopeful and form.only_inserts:
            outcome = self._direct(form)
            if outcome is not None:
                return outcome
            hopeful = False
        if hopeful and form.inserts >= APART:
            outcome = self._apart(write)
            if outcome is not None:
                return outcome
        hopeful = hopeful and any(set(columns) == set(write.key) for columns in write.table.unique)
        while True:
            found = self._staged(form, one_row_per_key=one_row_per_key, look_first=not hopeful)
            if not isinstance(found, _Again):
                return found
            hopeful = False
            # several rows although the catalogue, as we knew it, has a unique index
            one_row_per_key = one_row_per_key and found is not _Again.SEVERAL_ROWS

    def rekey(self, table: Table, key: Sequence[str], before: Sequence[str], after: Sequence[str], *, copy: bool) -> int:
        where = str(table.name)
        try:
            self._savepoint()
            return rekey(self._connected(), table, key, before, after, copy=copy)
        except psycopg.Error as error:
            failure = wrap(error, where)
            connection = self._connection
            if not isinstance(failure, Poison) or connection is None or lost(connection):
                raise self._failed(error, where) from error
            try:
                self._go_back(connection)
            except psycopg.Error as again:
                raise self._failed(again, where) from again
            raise failure from error

    def prepare_links(self) -> None:
        connection = self._connected()
        try:
            (there,) = connection.execute(statement("has_link_table")).fetchone() or (False,)
            if not there:
                connection.execute(statement("create_link_table"))
        except errors.InsufficientPrivilege as error:
            raise Terminal(
                f"user {connection.info.user} may not create the table syncline_link",
                where=self._where,
                fix="create it yourself: " + " ".join(statement("create_link_table").split()),
            ) from error
        except psycopg.Error as error:
            raise self._failed(error, self._where) from error

    def write_links(self, rule_set: str, rows: Sequence[LinkRow]) -> None:
        connection = self._connected()
        try:
            with connection.cursor() as cursor:
                for name, some in (("remove_link", [r for r in rows if r.target_key is None]), ("write_link", [r for r in rows if r.target_key is not None])):
                    if some:
                        cursor.executemany(statement(name), [{"rule_set": rule_set, **asdict(row)} for row in some])
        except psycopg.Error as error:
            raise self._failed(error, self._where) from error

    def links(self, rule_set: str) -> list[LinkRow]:
        connection = self._connected()
        try:
            rows = connection.execute(statement("read_links"), {"rule_set": rule_set}).fetchall()
        except errors.UndefinedTable:
            return []
        except psycopg.Error as error:
            raise self._failed(error, self._where) from error
        names = ("link", "source", "source_key", "target", "target_key", "batch", "made_us")
        return [LinkRow(**dict(zip(names, row, strict=True))) for row in rows]

    def commit(self) -> None:
        connection = self._connected()
        try:
            done = connection.execute("COMMIT").statusmessage
        except psycopg.Error as error:
            failure = self._failed(error, self._where)
            if isinstance(failure, Poison):
                failure = Terminal(failure.what, where=self._where, fix="look at the deferred triggers of the target tables")
            raise failure from error
        self._in_transaction = self._in_savepoint = False
        for stage in self._stages.values():
            stage.fresh, stage.dirty = False, False
        if done != "COMMIT":
            raise Transient("the server rolled the transaction back", where=self._where, fix="it is tried again by itself")

    def rollback(self) -> None:
        self._in_transaction = self._in_savepoint = False
        self._stages = {key: stage for key, stage in self._stages.items() if not stage.fresh}
        for stage in self._stages.values():
            stage.dirty = False
        connection = self._connection
        if connection is None:
            return
        try:
            connection.rollback()
        except psycopg.Error:
            self.close()

    def close(self) -> None:
        self._in_transaction = self._in_savepoint = False
        self._stages.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        if self._connection is not None and lost(self._connection):
            self.close()
        if self._connection is None:
            connection = connect(self._url, system=self._name)
            try:
                connection.execute(f"SET lock_timeout = {self._lock_timeout:d}; SET statement_timeout = {self._statement_timeout:d}")
            except psycopg.Error as error:
                connection.close()
                raise wrap(error, self._where) from error
            self._connection = connection
        return self._connection

    def _begin(self, marker: Marker) -> None:
        connection = self._connected()
        values = {"rule_set": marker.rule_set, "source": marker.source, "batch": marker.batch, "position": marker.position}
        try:
            with psycopg.ClientCursor(connection) as cursor:
                cursor.execute(f"{statement('begin')};{statement('write_marker')};{_SAVEPOINT}", values)
        except errors.UndefinedTable as error:
            self.rollback()
            raise Terminal("the table syncline_checkpoint is missing", where=self._where, fix="start again: it is created then") from error
        except psycopg.Error as error:
            raise self._failed(error, self._where) from error
        self._in_transaction = self._in_savepoint = self._savepoint_is_new = True

    def _failed(self, error: psycopg.Error, where: str) -> SynclineError:
        """Ends the transaction, which cannot go on, and gives our error."""
        if self._connection is None or lost(self._connection):
            self.close()
        else:
            self.rollback()
        return wrap(error, where)

    def _refused(self, error: psycopg.Error, form: staging.Form) -> SynclineError:
        """After an error inside the savepoint: as `_failed`, or Poison with the transaction as it was before the write."""
        connection = self._connection
        write = form.write
        where = str(write.table.name)
        failure = wrap(error, where)
        if not isinstance(failure, Poison) or connection is None or lost(connection):
            return self._failed(error, where)
        try:
            self._go_back(connection)
            failure.rows = self._at_fault(connection, error, failure, form)
        except psycopg.Error as again:
            return self._failed(again, where)
        return failure

    def _at_fault(self, connection: Connection, error: psycopg.Error, failure: Poison, form: staging.Form) -> tuple[int, ...]:
        write = form.write
        if len(write) == 1:
            return (0,)
        if isinstance(error, errors.NotNullViolation):
            table = {"table": quoted_table(write.table.name)}
            (changing,) = connection.execute(statement("row_triggers_before"), table).fetchone() or (True,)
            if not changing:
                return refusal.without_value(write, error.diag.column_name)
        if isinstance(error, errors.ForeignKeyViolation):
            asked = {"table": quoted_table(write.table.name), "name": error.diag.constraint_name}
            columns = [name for (name,) in connection.execute(statement("foreign_key_columns"), asked).fetchall()]
            return self._staged_suspects(connection, form, lambda stage: form.without_parent(stage, columns))
        if isinstance(error, errors.UniqueViolation):
            return self._staged_suspects(connection, form, form.clashing)
        if failure.reason == "encoding":  # lines are converted ahead of those that are read
            return ()
        return refusal.named_line(write, error.diag.context or "")

    def _staged_suspects(self, connection: Connection, form: staging.Form, queries: Callable[[str], list[str]]) -> tuple[int, ...]:
        """The rows that the queries blame, all at once: splitting would take two writes for each. Leaves the transaction as it found it."""
        stage = self._stage(form).name
        asked = queries(stage)
        if not asked:
            return ()
        self._savepoint()
        self._copy(*form.staged_copy(stage))
        rows = {int(number) for query in asked for (number,) in connection.execute(query).fetchall()}
        self._go_back(connection)
        return tuple(sorted(rows))

    def _hopeful(self, table: TableName) -> bool:
        """Whether to assume that rows to insert are new, as they nearly always are."""
        pause = self._doubtful.get(table, 0)
        if pause:
            self._doubtful[table] = pause - 1
        return not pause

    def _direct(self, form: staging.Form) -> Outcome | None:
        """Whole new rows straight into the target; None when one of them stands there already, or the target takes no COPY."""
        sql, text = form.direct_copy()
        try:
            self._savepoint()
            taken = self._copy(sql, text)
        except (errors.UniqueViolation, errors.FeatureNotSupported, errors.WrongObjectType) as error:
            self._doubtful[form.write.table.name] = DOUBTFUL
            self._back_to_savepoint(error, form)
            return None
        except psycopg.Error as error:
            raise self._refused(error, form) from error
        if taken != len(form.write):  # a trigger kept rows out: the staged path finds out which
            self._doubtful[form.write.table.name] = DOUBTFUL
            self._back_to_savepoint(None, form)
            return None
        return Outcome(result=np.full(len(form.write), WROTE, dtype=np.uint8))

    def _apart(self, write: Write) -> Outcome | None:
        """Changes and deletes staged, then the new rows straight into the target. None, and all taken back, when the new rows do not go in as they
        are: the write as a whole, staged, finds out why."""
        is_new = write.op == INSERT
        others, new = np.flatnonzero(~is_new), np.flatnonzero(is_new)
        try:
            found = self._staged(staging.Form(write.take(others)), one_row_per_key=True, look_first=True)
        except Poison as poison:
            poison.rows = tuple(int(row) for row in others[list(poison.rows)])
            raise
        if isinstance(found, _Again):
            return None
        form = staging.Form(write.take(new))
        try:
            taken = self._copy(*form.direct_copy())
        except psycopg.Error as error:
            if not isinstance(wrap(error, ""), Poison) and not isinstance(error, errors.FeatureNotSupported | errors.WrongObjectType):
                raise self._refused(error, form) from error
            self._back_to_savepoint(error, form)
        else:
            if taken == len(new):
                result = np.full(len(write), WROTE, dtype=np.uint8)
                result[others] = found.result
                return Outcome(result=result)
            self._back_to_savepoint(None, form)
        self._doubtful[write.table.name] = DOUBTFUL
        return None

    def _staged(self, form: staging.Form, *, one_row_per_key: bool, look_first: bool) -> Outcome | _Again:
        """By way of the staging table."""
        write = form.write
        attempts = 2 if len(write) == 1 else 1
        stage = self._stage(form)
        sql, text = form.staged_copy(stage.name)
        steps = form.steps(stage.name, one_row_per_key=one_row_per_key, look_first=look_first)
        while True:
            attempts -= 1
            try:
                self._savepoint()
                self._copy(sql, text)
                return self._carry_out(form, stage.name, steps)
            except errors.UniqueViolation as error:
                if not attempts:
                    raise self._refused(error, form) from error
                # an application may have inserted the same key between our look and our insert; now it is seen
                self._back_to_savepoint(error, form)
            except (errors.ObjectNotInPrerequisiteState, errors.InvalidColumnReference) as error:
                if look_first:
                    raise self._refused(error, form) from error
                self._back_to_savepoint(error, form)  # the index is deferrable, or gone: it cannot skip rows
                return self._doubt(form, _Again.LOOK_FIRST)
            except psycopg.Error as error:
                raise self._refused(error, form) from error

    def _doubt(self, form: staging.Form, again: _Again) -> _Again:
        self._doubtful[form.write.table.name] = DOUBTFUL
        return again

    def _carry_out(self, form: staging.Form, stage: str, steps: list[staging.Step]) -> Outcome | _Again:
        connection = self._connected()
        write = form.write
        result = np.full(len(write), WROTE, dtype=np.uint8)
        expected = {"delete": form.deletes, "update": form.updates}
        inserts = form.inserts
        with connection.cursor() as cursor:
            cursor.execute(";\n".join(step.sql for step in steps))
            for place, step in enumerate(steps):
                if place:
                    cursor.nextset()
                if step.kind == "insert":
                    missing = inserts - cursor.rowcount
                    if missing and not any(step.kind == "exists" for step in steps):
                        self._back_to_savepoint(None, form)
                        return self._doubt(form, _Again.LOOK_FIRST)
                    break
                if step.kind in expected:
                    if cursor.rowcount == expected[step.kind]:
                        continue
                    if cursor.rowcount > expected[step.kind]:
                        self._back_to_savepoint(None, form)
                        return _Again.SEVERAL_ROWS
                    asked = write.op == (UPDATE if step.kind == "update" else DELETE)
                    asked[_numbers(cursor)] = False
                    result[asked & (result == WROTE)] = NO_ROW
                elif cursor.rowcount:
                    rows = _numbers(cursor)
                    result[rows] = MANY_ROWS if step.kind == "many" else ROW_EXISTS
                    inserts -= int((write.op[rows] == INSERT).sum())
            else:
                missing = 0
        if missing or (result == NO_ROW).any():
            self._look_for_dropped(form, stage, result, missing)
        return Outcome(result=result)

    def _look_for_dropped(self, form: staging.Form, stage: str, result: npt.NDArray[np.uint8], missing: int) -> None:
        """A row that came out of its statement unwritten, and nothing else explains it, was dropped by a trigger. Raises Poison then."""
        connection = self._connected()
        write = form.write
        dropped: list[int] = []
        if missing:
            dropped = [int(number) for (number,) in connection.execute(form.absent(stage, INSERT)).fetchall()]
        unwritten = np.flatnonzero(result == NO_ROW)
        if len(unwritten):
            table = {"table": quoted_table(write.table.name)}
            (changing,) = connection.execute(statement("row_triggers_before"), table).fetchone() or (False,)
            if changing:
                really: set[int] = set()
                for op in (UPDATE, DELETE):
                    really |= {int(number) for (number,) in connection.execute(form.absent(stage, op)).fetchall()}
                dropped += [int(row) for row in unwritten if int(row) not in really]
        if dropped:
            self._back_to_savepoint(None, form)
            raise Poison(
                "a trigger of the table drops the row without an error",
                reason="other",
                rows=tuple(sorted(dropped)),
                where=str(write.table.name),
                fix="look at the BEFORE triggers of the table",
            )

    def _stage(self, form: staging.Form) -> _Stage:
        """An empty staging table of the write's columns."""
        connection = self._connected()
        write = form.write
        key = (write.table, tuple(form.names))
        stage = self._stages.get(key)
        try:
            if stage is None:
                self._stage_count += 1
                stage = _Stage(f"{staging.STAGE}{self._stage_count}")
                self._outside_savepoint(connection, staging.create(stage.name, write.table, form.names))
                self._stages[key] = stage
            elif stage.dirty:
                self._outside_savepoint(connection, f"TRUNCATE {stage.name}")
        except psycopg.Error as error:
            raise self._failed(error, str(write.table.name)) from error
        stage.dirty = True
        return stage

    def _copy(self, sql: str, text: memoryview) -> int:
        with self._connected().cursor() as cursor:
            with cursor.copy(sql) as copy:
                copy.write(text)
            return cursor.rowcount

    def _savepoint(self) -> None:
        """Where a refused write goes back to. `begin` brings the first one along, which spares a small transaction a round trip."""
        if not (self._in_savepoint and self._savepoint_is_new):
            self._connected().execute(f"{_RELEASE}; {_SAVEPOINT}" if self._in_savepoint else _SAVEPOINT)
        self._in_savepoint, self._savepoint_is_new = True, False

    def _outside_savepoint(self, connection: Connection, sql: str) -> None:
        """Runs what a refused write must not take back."""
        connection.execute(f"{_RELEASE}; {sql}" if self._in_savepoint else sql)
        self._in_savepoint = False

    def _go_back(self, connection: Connection) -> None:
        """The savepoint stays, so the next write can use it."""
        connection.execute(_BACK)
        self._savepoint_is_new = True

    def _back_to_savepoint(self, error: psycopg.Error | None, form: staging.Form) -> None:
        connection = self._connection
        where = str(form.write.table.name)
        if connection is None or lost(connection):
            self.close()
            raise Transient("the connection to the server was lost", where=where, fix="it is tried again by itself") from error
        try:
            self._go_back(connection)
        except psycopg.Error as again:
            raise self._failed(again, where) from again


class _Again(enum.Enum):
    """Why a staged write, taken back whole, has to be made once more in another way."""

    LOOK_FIRST = enum.auto()
    SEVERAL_ROWS = enum.auto()


class _Stage:
    """fresh: made in the transaction under way, so gone when it is rolled back. dirty: may hold rows of an earlier write of it."""

    __slots__ = ("dirty", "fresh", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.fresh = True
        self.dirty = False


def _numbers(cursor: psycopg.Cursor[tuple[object, ...]]) -> npt.NDArray[np.int64]:
    return np.array([number for (number,) in cursor.fetchall()], dtype=np.int64)


def one_array(column: pa.ChunkedArray) -> pa.StringArray:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.string())


def _seconds(options: Mapping[str, object], name: str, default: float) -> int:
    """Milliseconds of an option in seconds."""
    value = options.get(name, default)
    return int(float(value) * 1000) if isinstance(value, int | float | str) else int(default * 1000)
