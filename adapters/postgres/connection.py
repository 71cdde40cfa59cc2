"""Connections to PostgreSQL, and the one place where its errors become ours.

`connect` fixes the session settings on which canonical text rests (`engine.model.types`). `wrap` reads SQLSTATE and keeps what may hold a
row's values (DETAIL, messages of class 22) out of sentences.
Protocol: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg import conninfo

from engine.errors import Poison, SynclineError, Terminal, Transient

Connection = psycopg.Connection[tuple[Any, ...]]

_DEFAULTS: dict[str, Any] = {
    "application_name": "syncline",
    "client_encoding": "UTF8",
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

# row_security off: a policy that would hide rows from us is an error, not a smaller result. lc_monetary: money has one text everywhere.
_SESSION = """
SET DateStyle = 'ISO, YMD'; SET TimeZone = 'UTC'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1; SET bytea_output = 'hex';
SET standard_conforming_strings = on; SET lc_monetary = 'C'; SET xmloption = 'content'; SET row_security = off; SET jit = off;
SET client_min_messages = error
"""

_FRESH = "check host and port, and that the server runs; the direction goes on by itself when the server is back"


def connect(url: str, *, system: str, replication: bool = False, autocommit: bool = True) -> Connection:
    """A connection whose session prints and reads canonical text.

    replication: a walsender connection for logical replication; it takes simple queries (without parameters) and replication commands.
    Parameters given in the URL (sslmode, connect_timeout, ...) win over ours. Raises Transient when the server is away or full, Terminal
    when it refuses us. Nothing of the URL but host, port, user and database gets into a sentence.
    """
    where = f"system {system}"
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.Error as error:
        raise Terminal(
            "the database URL cannot be read",
            where=where,
            fix="write postgresql://user:password@host:5432/database; in a password write @ as %40, / as %2F, # as %23, % as %25",
        ) from error
    parameters = {**_DEFAULTS, **given}
    if replication:
        parameters["replication"] = "database"
    try:
        connection = psycopg.connect(**parameters, autocommit=True)
    except psycopg.Error as error:
        raise _refused(error, where, given) from error
    try:
        connection.execute(_SESSION)
        connection.autocommit = autocommit
    except psycopg.Error as error:
        connection.close()
        raise wrap(error, where) from error
    connection.prepare_threshold = None  # a plan kept over a change of the table fails with "cached plan must not change result type"
    return connection


# What the server says while connecting comes as text only (libpq gives no SQLSTATE there), in English unless lc_messages is set otherwise.
# fmt: off
_REFUSALS: tuple[tuple[str, type[SynclineError], str, str], ...] = (
    (r"password authentication failed|no password supplied|authentication failed", Terminal,
     "the server refuses user {user}: wrong password", "put the right password into the URL of this system"),
    (r"no pg_hba\.conf entry|pg_hba\.conf rejects", Terminal,
     "the server does not let user {user} in from this machine", "add a line for it to the server's pg_hba.conf and reload it"),
    (r'database ".*" does not exist', Terminal,
     "there is no database {dbname} on the server", "correct the database name in the URL, or create it"),
    (r'role ".*" does not exist', Terminal,
     "there is no user {user} on the server", "correct the user in the URL, or CREATE ROLE {user} LOGIN"),
    (r'role ".*" is not permitted to log in', Terminal, "user {user} may not log in", "ALTER ROLE {user} LOGIN"),
    (r"permission denied for database", Terminal,
     "user {user} may not connect to database {dbname}", "GRANT CONNECT ON DATABASE {dbname} TO {user}"),
    (r"must be (superuser or replication role|.*REPLICATION attribute)|permission denied to start WAL sender", Terminal,
     "user {user} may not read the log", "ALTER ROLE {user} REPLICATION"),
    (r"number of requested standby connections exceeds", Transient,
     "all walsenders of the server are taken", "raise max_wal_senders, or end a replication that is no longer needed"),
    (r"too many (clients|connections)|remaining connection slots are reserved", Transient,
     "the server has no free connection", "raise max_connections, or close other clients"),
    (r"does not support SSL|SSL error|certificate|sslmode", Terminal,
     "no encrypted connection as the URL asks for it could be made", "check sslmode and the certificates on both ends"),
    (r"starting up|shutting down|recovery mode|not yet accepting", Transient, "the server is starting or stopping", _FRESH),
    (r"failed to resolve|could not translate host name", Transient,
     "host {host} cannot be found", "check the host in the URL and the name service"),
    (r"refused|No such file or directory", Transient, "nothing answers at {host}:{port}", _FRESH),
    (r"timeout|timed out|unreachable", Transient, "{host}:{port} does not answer in time", _FRESH),
)
# fmt: on


def _refused(error: psycopg.Error, where: str, given: dict[str, Any]) -> SynclineError:
    text = str(error)
    names = {"user": given.get("user", "(default)"), "dbname": given.get("dbname", given.get("user", "(default)"))}
    names |= {"host": given.get("host", given.get("hostaddr", "localhost")), "port": given.get("port", 5432)}
    for pattern, kind, what, fix in _REFUSALS:
        if re.search(pattern, text, re.IGNORECASE):
            return kind(what.format(**names), where=where, fix=fix.format(**names))
    return Transient("no connection: " + " ".join(text.split()), where=where, fix=_FRESH)


# Longest prefix wins: whole SQLSTATE before class.
_TRANSIENT = {
    "08": "the connection to the server was lost",
    "40": "the server gave up the transaction for another one (deadlock or serialization)",
    "40P01": "the server ended a deadlock with another transaction at our cost",
    "53": "the server is short of resources",
    "53100": "the server's disk is full",
    "53300": "the server has no free connection",
    "55P03": "a lock was not granted in time: another transaction holds the rows or the table",
    "55006": "the object is in use by another session",
    "57014": "the statement took longer than statement_timeout, or was cancelled by an administrator",
    "57P": "the server is shutting down or ended our session",
    "25P03": "the server ended our session because it waited too long inside a transaction",
    "25P04": "the server ended our transaction because it took too long",
    "58": "the server met a system error",
    "XX": "the server met an internal error",
}
_POISON = {
    "21": ("other", "a statement of the table's triggers or functions fails for this row"),
    "22": ("type", "a value does not suit its column"),
    "22001": ("too_long", "a value is too long for its column"),
    "22003": ("range", "a number is out of the range of its column"),
    "22007": ("type", "a value is no date or time"),
    "22008": ("range", "a date or time is out of the range of its column"),
    "22021": ("encoding", "a value has characters that the database's encoding cannot hold"),
    "22P02": ("type", "a value cannot be read as the type of its column"),
    "22P03": ("type", "a value cannot be read as the type of its column"),
    "22P05": ("encoding", "a value has characters that the database's encoding cannot hold"),
    "23": ("other", "a constraint refuses the row"),
    "23001": ("foreign_key", "rows of another table still refer to this row"),
    "23502": ("not_null", "a column that must not be null has no value"),
    "23503": ("foreign_key", "a foreign key refuses the row: the row it refers to is missing, or others still refer to it"),
    "23505": ("unique", "another row already has this value in a unique index"),
    "23514": ("check", "a CHECK constraint refuses the row"),
    "23P01": ("unique", "an exclusion constraint refuses the row"),
    "27": ("other", "a trigger changed the row while it was being written"),
    "2F": ("other", "a trigger or function of the table fails for this row"),
    "38": ("other", "a trigger or function of the table fails for this row"),
    "39": ("other", "a trigger or function of the table fails for this row"),
    "44": ("check", "the view's CHECK OPTION refuses the row"),
    "54": ("too_long", "the row or an index entry would be larger than the server can hold"),
    "P0": ("other", "a trigger or function of the table refuses the row"),
}
_TERMINAL = {
    "25006": ("the database takes no writes (standby, or default_transaction_read_only)", "let the URL name the primary server"),
    "28": ("the server refuses the user", "check user and password in the URL"),
    "3D": ("there is no such database", "correct the database name in the URL"),
    "42501": ("{message}", "GRANT the right to the user of this system"),
    "42P01": ("{message}", "check the table name, or create the table"),
    "55000": ("{message}", "see the server's documentation of this state"),
    "57P04": ("the database was dropped", "correct the database name in the URL, or create it"),
}


def wrap(error: BaseException, where: str) -> SynclineError:
    """Our error for a driver's: Transient, Terminal, or Poison with its reason word. `raise wrap(error, where) from error`.

    The sentence names constraint, table and column where the server does, and the SQLSTATE. It quotes the server only in classes whose
    messages name objects, not values.
    """
    if isinstance(error, SynclineError):
        return error
    state = getattr(error, "sqlstate", None) or ""
    if not state:
        if isinstance(error, psycopg.OperationalError | OSError):
            return Transient("the connection to the server was lost", where=where, fix=_FRESH)
        return Terminal(f"the database driver failed ({type(error).__name__})", where=where, fix="this is a fault of Syncline: report it")
    assert isinstance(error, psycopg.Error)
    code = f"SQLSTATE {state}"
    if (terminal := _TERMINAL.get(state)) is not None:
        return Terminal(f"{terminal[0].format(message=_message(error))} ({code})", where=where, fix=terminal[1])
    if "cached plan must not change" in _message(error):
        return Transient(f"the table was altered while we used it ({code})", where=where)
    for length in (5, 3, 2):
        if (what := _TRANSIENT.get(state[:length])) is not None:
            said = f": {_message(error)}" if state[:2] in ("53", "58", "XX") else ""
            return Transient(f"{what}{said} ({code})", where=where, fix="it is tried again by itself")
        if (found := _POISON.get(state[:length])) is not None:
            return Poison(f"{found[1]}{_objects(error)} ({code})", reason=found[0], where=where, fix=_mend(found[0]))
    if (terminal := _TERMINAL.get(state[:2])) is not None:
        return Terminal(f"{terminal[0]} ({code})", where=where, fix=terminal[1])
    return Terminal(f"{_message(error)} ({code})", where=where, fix="check the table's definition and the user's rights")


def lost(connection: Connection) -> bool:
    """Whether the connection can no longer be used."""
    return connection.closed or connection.broken


def _message(error: psycopg.Error) -> str:
    return error.diag.message_primary or "the server refuses the statement"


def _objects(error: psycopg.Error) -> str:
    """Names of constraint, table, column, function; never DETAIL, which quotes the row."""
    diag = error.diag
    context = diag.context or ""
    parts: list[str] = []
    if diag.column_name:
        parts.append(f"column {diag.column_name}")
    elif (column := re.search(r"^COPY .*, column ([^:,\n]+)(:|$)", context, re.MULTILINE)) is not None:
        parts.append(f"column {column[1]}")
    if diag.constraint_name:
        parts.append(f"constraint {diag.constraint_name}")
    if diag.table_name:
        parts.append(f"table {diag.table_name}")
    if (function := re.search(r"^PL/\w+ function (\w[\w.]*)\(", context, re.MULTILINE)) is not None:
        parts.append(f"function {function[1]}")
    return f" ({', '.join(parts)})" if parts else ""


def _mend(reason: str) -> str:
    return {
        "too_long": "shorten the value at its origin or in the rule, or widen the column",
        "range": "correct the value at its origin or in the rule, or widen the column",
        "not_null": "give the column a value in the rule (coalesce), or a value at its origin",
        "foreign_key": "bring the row it refers to across first, or correct the reference",
        "unique": "correct one of the two rows: they share a value that must be unique",
        "check": "correct the value at its origin or in the rule",
        "type": "correct the value at its origin, or cast it in the rule",
        "encoding": "remove the characters at their origin or in the rule",
    }.get(reason, "look at the triggers and constraints of the table")
