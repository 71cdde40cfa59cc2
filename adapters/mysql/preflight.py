"""What `check` says of a MySQL or MariaDB system: each finding with the SQL or the setting that mends it.

Rights are tried, not guessed: EXPLAIN asks for the same rights as the statement it explains and changes nothing. What cannot be tried (reading
the log, creating a table) is looked up in SHOW GRANTS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import pymysql

from adapters.mysql.connection import connect, is_mariadb, parse_url, quote, quoted, version, wrap
from adapters.mysql.failure import PIECES_FIX, number_of
from adapters.mysql.schema import has_json
from adapters.mysql.sink import create_checkpoint
from adapters.mysql.statements import statement
from engine.errors import SynclineError, Terminal
from engine.model.schema import Table
from engine.ports import Problem, Watched

SHORT_LOG_SECONDS = 3 * 86400
_OLDEST = {True: (10, 5, 0), False: (8, 0, 0)}
_NO_TABLE, _DENIED = 1146, frozenset((1142, 1143, 1044, 1227))
_GRANT = re.compile(r"^GRANT (?P<rights>.+?) ON (?P<scope>\S+) TO ", re.IGNORECASE)


def preflight(
    system: str, url: str, rule_set: str, read: Sequence[Watched], written: Sequence[Table], linked: Sequence[Table] = ()
) -> list[Problem]:
    """See `engine.ports.Adapter.preflight`. Never raises."""
    del rule_set
    where = f"system {system}"
    try:
        if not parse_url(url, system=system).database:
            raise Terminal("the url names no database", where=where, fix="write mysql://user:${PASSWORD}@host:3306/database")
        connection = connect(url, system=system, read_timeout=60)
    except SynclineError as error:
        return [Problem(severity="error", where=error.where or where, what=error.what, fix=error.fix)]
    try:
        return _Examination(connection, system, read, written, linked).run()
    finally:
        connection.close()


class _Examination:
    """One look at one server over one connection."""

    def __init__(
        self, connection: pymysql.Connection, system: str, read: Sequence[Watched], written: Sequence[Table], linked: Sequence[Table]
    ) -> None:
        self._connection = connection
        self._where = f"system {system}"
        self._read = read
        self._written = written
        self._linked = linked
        self._found: list[Problem] = []

    def run(self) -> list[Problem]:
        steps: list[Callable[[], None]] = [self._version]
        if self._read:
            steps += [self._log, self._log_rights, self._log_filters, self._log_kept, self._read_tables]
        if self._written:
            steps += [self._server_takes_writes, self._bulk_load, self._checkpoint, self._written_tables]
        if self._linked:
            steps.append(self._links)
        for step in steps:
            try:
                step()
            except Exception as error:
                wrapped = wrap(error, self._where)
                self._error(wrapped.where, wrapped.what, wrapped.fix)
                if not self._connection.open:
                    break
        return self._found

    # --- the server ---

    def _version(self) -> None:
        mariadb = is_mariadb(self._connection)
        self._mariadb, self._number = mariadb, version(self._connection)
        if self._number < _OLDEST[mariadb]:
            name, oldest = ("MariaDB" if mariadb else "MySQL"), ".".join(map(str, _OLDEST[mariadb][:2]))
            told = f"{name} {'.'.join(map(str, self._number))} is older than what Syncline is tested with"
            self._warning(self._where, told, f"upgrade to {name} {oldest} or later")
        self._user = "'" + str(self._one("SELECT CURRENT_USER()")).replace("@", "'@'") + "'"
        self._database = str(self._one("SELECT DATABASE()"))
        self._grants = [str(row[0]) for row in self._rows("SHOW GRANTS FOR CURRENT_USER()")]
        if not mariadb and (roles := str(self._one("SELECT CURRENT_ROLE()"))) != "NONE":
            self._grants += [str(row[0]) for row in self._rows(f"SHOW GRANTS FOR CURRENT_USER() USING {roles}")]

    # --- its log ---

    def _log(self) -> None:
        config = "in the [mysqld] section of the server's configuration, then restart it"
        if not int(self._variable("log_bin") or 0):
            self._error(self._where, "the binary log is off: changes cannot be followed", f"set log_bin = binlog and server_id = 1 {config}")
            return
        if not int(self._variable("server_id") or 0):
            self._error(self._where, "server_id is 0: the server gives its log to nobody", f"SET GLOBAL server_id = 1, and the same {config}")
        form = str(self._variable("binlog_format") or "ROW").upper()
        if form != "ROW":
            what = f"binlog_format is {form}: the log holds statements, not rows"
            self._error(self._where, what, f"SET GLOBAL binlog_format = 'ROW', and the same {config}; reconnect the applications")
        image = str(self._variable("binlog_row_image") or "FULL").upper()
        if not image.startswith("FULL"):
            what = f"binlog_row_image is {image}: rows have to be read again for what the log leaves out"
            self._warning(self._where, what, "SET GLOBAL binlog_row_image = 'FULL'")
        if str(self._variable("binlog_row_metadata") or "").upper() != "FULL":
            what = "binlog_row_metadata is not FULL: the log does not name its columns, so a changed table stops reading"
            self._warning(self._where, what, f"SET GLOBAL binlog_row_metadata = 'FULL', and the same {config}")
        json = [watched.table.name for watched in self._read if has_json(watched)]
        if json and "PARTIAL_JSON" in str(self._variable("binlog_row_value_options") or "").upper():
            what = "binlog_row_value_options is PARTIAL_JSON: of a changed JSON value the log holds pieces only"
            self._error(self._where, f"{what} (tables {', '.join(sorted(name.table for name in json))})", PIECES_FIX)
        logged = self._variable("log_slave_updates") or self._variable("log_replica_updates") or 0
        if int(self._variable("read_only") or 0) and not int(logged):
            what = "the server looks like a replica that does not log what it replicates (log_slave_updates is off)"
            self._warning(self._where, what, f"set log_slave_updates = ON {config}, or point the url at the primary")
        if not self._mariadb and str(self._variable("gtid_mode") or "OFF").upper() != "ON":
            what = "gtid_mode is not ON: the position is a file and an offset, which another server after a failover does not know"
            self._warning(self._where, what, "set gtid_mode = ON and enforce_gtid_consistency = ON")

    def _log_rights(self) -> None:
        monitor = "BINLOG MONITOR" if self._mariadb and self._number >= (10, 5, 2) else "REPLICATION CLIENT"
        missing = [right for right in ("REPLICATION SLAVE", monitor) if not self._granted(right, "*")]
        if missing:
            what = f"user {self._user} may not read the binary log: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
            self._error(self._where, what, f"GRANT {', '.join(missing)} ON *.* TO {self._user}")

    def _log_filters(self) -> None:
        sql = "SHOW BINARY LOG STATUS" if not self._mariadb and self._number >= (8, 4, 0) else "SHOW MASTER STATUS"
        try:
            status = self._rows(sql)
        except pymysql.MySQLError as error:
            if number_of(error) in _DENIED:
                return  # said by _log_rights
            raise
        if not status:
            return
        only, never = ({name for name in str(status[0][at] or "").split(",") if name} for at in (2, 3))
        for schema in sorted({watched.table.name.schema for watched in self._read}):
            if schema in never or (only and schema not in only):
                what = f"changes of database {schema} are left out of the binary log (binlog_do_db, binlog_ignore_db)"
                self._error(self._where, what, "take the filter out of the server's configuration and restart it")

    def _log_kept(self) -> None:
        seconds = self._variable("binlog_expire_logs_seconds")
        if seconds is None:
            seconds = float(self._variable("expire_logs_days") or 0) * 86400
        if 0 < float(seconds) < SHORT_LOG_SECONDS:
            hours = float(seconds) / 3600
            what = f"the binary log is kept for {hours:g} hours only: after a longer stop of Syncline all rows have to be read again"
            setting = "binlog_expire_logs_seconds = 604800" if not self._mariadb or self._number >= (10, 6, 1) else "expire_logs_days = 7"
            self._warning(self._where, what, f"SET GLOBAL {setting}, and the same in the server's configuration")

    # --- tables ---

    def _read_tables(self) -> None:
        for watched in self._read:
            table = watched.table
            name = f"{quote(table.name.schema)}.{quote(table.name.table)}"
            columns = quoted(watched.columns) or "1"
            self._try(f"SELECT {columns} FROM {name} LIMIT 0", str(table.name), f"GRANT SELECT ON {name} TO {self._user}")
            if not table.log_key:
                what = "the table has no primary key and the log holds no whole old rows: updates and deletes cannot be followed"
                self._error(str(table.name), what, f"ALTER TABLE {name} ADD PRIMARY KEY (...), or SET GLOBAL binlog_row_image = 'FULL'")

    def _server_takes_writes(self) -> None:
        if int(self._variable("read_only") or 0) and not self._granted("SUPER", "*") and not self._granted("READ_ONLY ADMIN", "*"):
            self._error(self._where, "the server is read-only", "point the url at the primary server, or SET GLOBAL read_only = 0")

    def _bulk_load(self) -> None:
        if not int(self._variable("local_infile") or 0):
            what = "local_infile is off: rows are sent as INSERT statements, which is slower"
            self._warning(self._where, what, "SET GLOBAL local_infile = 1, and the same in the server's configuration")
        form = str(self._variable("binlog_format") or "ROW").upper()
        if form == "ROW" or not int(self._variable("log_bin") or 0):  # else a temporary table would be written to the log
            mend = f"GRANT CREATE TEMPORARY TABLES ON {quote(self._database)}.* TO {self._user}"
            self._try("CREATE TEMPORARY TABLE syncline_check (n int) ENGINE = InnoDB", self._where, mend)
            self._connection.query("DROP TEMPORARY TABLE IF EXISTS syncline_check")

    def _checkpoint(self) -> None:
        values = "('', '', 0, '', UTC_TIMESTAMP(6))"
        self._side_table(
            "syncline_checkpoint",
            create_checkpoint(),
            "SELECT, INSERT, UPDATE",
            (
                "SELECT rule_set, source, batch, position, updated_at FROM syncline_checkpoint LIMIT 0",
                f"EXPLAIN INSERT INTO syncline_checkpoint (rule_set, source, batch, position, updated_at) VALUES {values}",
                "EXPLAIN UPDATE syncline_checkpoint SET batch = 0 WHERE rule_set = ''",
            ),
        )

    def _links(self) -> None:
        self._side_table(
            "syncline_link",
            " ".join(statement("create_link").split()),
            "SELECT, INSERT, UPDATE, DELETE",
            (
                "SELECT link, source, source_key, target, target_key, batch, made_us FROM syncline_link LIMIT 0",
                "EXPLAIN INSERT INTO syncline_link (rule_set, link, source, source_key, target, target_key, batch, made_us) "
                "VALUES ('', '', '', '', '', '', 0, 0)",
                "EXPLAIN UPDATE syncline_link SET batch = 0 WHERE rule_set = ''",
                "EXPLAIN DELETE FROM syncline_link WHERE rule_set = ''",
            ),
        )

    def _side_table(self, table: str, create: str, rights: str, tries: Sequence[str]) -> None:
        """Whether a table of ours is there and can be used, or can be made. tries: the first one reads it."""
        name = f"{quote(self._database)}.{table}"
        where = f"{self._where}, table {table}"
        grant = f"GRANT {rights} ON {name} TO {self._user}"
        try:
            self._rows(tries[0])
        except pymysql.MySQLError as error:
            number = number_of(error)
            if number not in (_NO_TABLE, *_DENIED):
                raise
            if not self._granted("CREATE", self._database):
                what = f"our side table is not there and user {self._user} may not create it" if number == _NO_TABLE else "no right to our side table"
                self._error(where, what, f"as an administrator: USE {quote(self._database)}; {create}; {grant}")
            return
        for sql in tries[1:]:
            self._try(sql, where, grant)

    def _written_tables(self) -> None:
        for table in self._written:
            name = f"{quote(table.name.schema)}.{quote(table.name.table)}"
            grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {self._user}"
            cell = next(quote(column.name) for column in table.columns if not column.generated)
            cells = quoted(column.name for column in table.columns if not column.generated)
            for sql in (
                f"SELECT {quoted(column.name for column in table.columns)} FROM {name} LIMIT 0",
                f"EXPLAIN INSERT INTO {name} ({cells}) SELECT {cells} FROM {name} WHERE 1 = 0",
                f"EXPLAIN UPDATE {name} SET {cell} = {cell} WHERE 1 = 0",
                f"EXPLAIN DELETE FROM {name} WHERE 1 = 0",
            ):
                if not self._try(sql, str(table.name), grant):
                    break
            self._engine(table, name)
            self._triggers(table)

    def _engine(self, table: Table, name: str) -> None:
        sql = "SELECT engine, table_type FROM information_schema.tables WHERE table_schema = %s AND table_name = %s"
        for engine, kind in self._rows(sql, table.name.schema, table.name.table):
            if str(kind).upper() == "VIEW":
                self._error(str(table.name), "the target is a view", "name the table behind it in the rule's `into`")
            elif str(engine).upper() != "INNODB":
                what = f"the table's engine is {engine}: it has no transactions, so a batch that fails would stay half written"
                self._error(str(table.name), what, f"ALTER TABLE {name} ENGINE = InnoDB")

    def _triggers(self, table: Table) -> None:
        sql = "SELECT trigger_name FROM information_schema.triggers WHERE event_object_schema = %s AND event_object_table = %s"
        names = [str(row[0]) for row in self._rows(sql, table.name.schema, table.name.table)]
        if names:
            what = f"the table has triggers ({', '.join(names)}): they run for our writes too, and what they change counts as the new value"
            self._warning(str(table.name), what, "see that they do not undo what the rule writes")

    # --- tools ---

    def _try(self, sql: str, where: str, grant: str) -> bool:
        """Runs it; a missing right becomes an error with its GRANT."""
        try:
            self._rows(sql)
        except pymysql.MySQLError as error:
            wrapped = wrap(error, where)
            denied = number_of(error) in _DENIED
            what = f"user {self._user} lacks a right: {_verb(sql)}" if denied else wrapped.what
            self._error(where, what, grant if denied else wrapped.fix)
            return False
        return True

    def _granted(self, right: str, database: str) -> bool:
        """Whether a GRANT on everything or on the whole database holds the right."""
        return any(right in rights or "ALL PRIVILEGES" in rights for rights, scope in _scopes(self._grants) if _covers(scope, database))

    def _variable(self, name: str) -> Any:
        """A global variable; None when this server does not know it."""
        rows = self._rows("SHOW GLOBAL VARIABLES WHERE variable_name = %s", name)
        value = rows[0][1] if rows else None
        return {"ON": "1", "OFF": "0"}.get(str(value).upper(), value) if name not in _WORDS else value

    def _one(self, sql: str) -> Any:
        return self._rows(sql)[0][0]

    def _rows(self, sql: str, *arguments: object) -> Sequence[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, arguments or None)
            return cursor.fetchall()

    def _error(self, where: str, what: str, fix: str) -> None:
        self._add("error", where, what, fix)

    def _warning(self, where: str, what: str, fix: str) -> None:
        self._add("warning", where, what, fix)

    def _add(self, severity: Literal["error", "warning"], where: str, what: str, fix: str) -> None:
        problem = Problem(severity=severity, where=where, what=what, fix=fix)
        if problem not in self._found:
            self._found.append(problem)


_WORDS = frozenset(("gtid_mode",))
"""Variables whose ON and OFF are words among others."""


def _scopes(grants: Sequence[str]) -> Iterator[tuple[frozenset[str], str]]:
    for grant in grants:
        if found := _GRANT.match(grant):
            yield frozenset(right.strip().upper() for right in re.sub(r"\([^)]*\)", "", found["rights"]).split(",")), found["scope"]


def _covers(scope: str, database: str) -> bool:
    """scope: `*.*` or `` `name`.* ``, where % and _ are wildcards unless a backslash stands before them. database `*`: only everything will do."""
    if scope == "*.*":
        return True
    if database == "*" or not scope.endswith(".*"):
        return False
    name = scope.removesuffix(".*").strip("`").replace("``", "`")
    pieces = re.findall(r"\\.|.", name)
    pattern = "".join({"%": ".*", "_": "."}.get(piece, re.escape(piece.lstrip("\\"))) for piece in pieces)
    return re.fullmatch(pattern, database) is not None


def _verb(sql: str) -> str:
    words = sql.removeprefix("EXPLAIN ").split()
    return " ".join(words[:3]) if words[0] == "CREATE" else words[0]
