"""What each error of the server means for the engine: one table from error number to class, reason and a sentence for the operator.

The server's own message is never repeated: it quotes values. From it only names of columns and the number of a row are taken.
Numbers: https://mariadb.com/kb/en/mariadb-error-codes/ and https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
"""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from typing import Literal

import pymysql

from engine.errors import Poison, SynclineError, Terminal, Transient


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What an error number stands for. `reason` is that of `Poison`, empty for the other classes."""

    kind: Literal["transient", "terminal", "poison"]
    what: str
    fix: str = ""
    reason: str = ""


def _transient(what: str, fix: str = "") -> Meaning:
    return Meaning(kind="transient", what=what, fix=fix)


def _terminal(what: str, fix: str = "") -> Meaning:
    return Meaning(kind="terminal", what=what, fix=fix)


def _poison(reason: str, what: str, fix: str = "") -> Meaning:
    return Meaning(kind="poison", what=what, fix=fix, reason=reason)


_AWAY = _transient("the connection to the server was lost", "it is opened again by itself; look at the server when this lasts")
_PASSWORD = _terminal("the server refuses the login: wrong user name or password", "correct user and password in the system's url")
_RIGHT = _terminal("the user lacks a right that this needs", "run `syncline check`: it names the missing GRANT")
_TOO_LONG = _poison("too_long", "a value is longer than its column", "widen the column, or shorten the value in the rule")
_RANGE = _poison("range", "a number or time is outside the range of its column", "widen the column, or bound the value in the rule")
_TYPE = _poison("type", "a value does not fit its column's type", "convert the value in the rule, or change the column's type")
_ENCODING = _poison("encoding", "a text holds a character that its column's character set lacks", "convert the column to utf8mb4")
_NOT_NULL = _poison("not_null", "a column that must not be NULL got no value", "give the column a value in the rule, e.g. with coalesce()")
_PARENT = _poison("foreign_key", "the row points to a parent row that is not there", "replicate the parent table too")
_CHILD = _poison("foreign_key", "other rows still point to this row", "delete or move its child rows first")
_UNIQUE = _poison("unique", "another row already holds a value that must be unique", "decide which of the two rows is right")
_CHECK = _poison("check", "a CHECK constraint of the table refuses the row", "make the rule deliver what the constraint asks for")
_DISK = _transient("the server has no room left", "free disk space on the server")
_GRANT = "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES ON database.* TO the user"
_FILE = _transient("the server has trouble with one of its files", "look at disk space and the server's error log")
_TLS = _terminal("the encrypted connection could not be made", "check the ssl_ files in the system's url")
_NO_COLUMN = _terminal("a table or column is not as it was when the rules were checked", "run `syncline check` and adapt the rule")
_READ_ONLY = _transient("the server is read-only", "point the url at the primary server, or SET GLOBAL read_only = 0")

PIECES_FIX = "SET GLOBAL binlog_row_value_options = '', and the same in the server's configuration; reconnect the applications, then resync"
"""For a log that holds pieces of JSON values."""

MEANINGS: dict[int, Meaning] = {
    # the server is away or busy
    2002: _transient("the server does not answer", "check host and port in the system's url and that the server runs"),
    2003: _transient("the server does not answer", "check host and port in the system's url and that the server runs"),
    2005: _transient("the name of the server's host is not known", "check the host in the system's url"),
    2006: _AWAY,
    2013: _AWAY,
    2055: _AWAY,
    1053: _transient("the server is shutting down"),
    1077: _transient("the server is shutting down"),
    1079: _transient("the server is shutting down"),
    1927: _transient("the connection was killed"),
    4031: _transient("the server closed the connection because it was idle"),
    1159: _AWAY,
    1160: _AWAY,
    1161: _AWAY,
    1158: _AWAY,
    1040: _transient("the server has no free connection", "raise max_connections"),
    1203: _transient("the user has too many connections", "raise max_user_connections"),
    1226: _transient("the user has used up its resource limit", "raise the limit of this user (GRANT ... WITH MAX_...)"),
    1213: _transient("deadlock with another transaction", "it is tried again by itself"),
    1205: _transient("a row was locked by another transaction for too long", "it is tried again by itself; look for long transactions"),
    1020: _transient("a row was changed by another transaction meanwhile", "it is tried again by itself"),
    1317: _transient("the statement was cancelled on the server"),
    1969: _transient("the statement took longer than max_statement_time", "raise max_statement_time for this user"),
    3024: _transient("the statement took longer than max_execution_time", "raise max_execution_time for this user"),
    1180: _transient("the server could not commit"),
    1412: _transient("the table's definition changed while a transaction was open"),
    1290: _READ_ONLY,
    1836: _READ_ONLY,
    1021: _DISK,
    1114: _DISK,
    1030: _transient("the storage engine reports an error", "look at the server's error log"),
    1034: _terminal("a table is damaged", "look at the server's error log and repair the table"),
    # a person has to act
    1045: _PASSWORD,
    1698: _PASSWORD,
    1130: _terminal("the server does not let this machine in", "CREATE USER for this host, or use '%' as the host of the user"),
    1129: _terminal("the server blocks this machine after too many failed connections", "FLUSH HOSTS on the server"),
    1820: _terminal("the user's password has expired", "ALTER USER ... IDENTIFIED BY ..."),
    1862: _terminal("the user's password has expired", "ALTER USER ... IDENTIFIED BY ..."),
    3118: _terminal("the user is locked", "ALTER USER ... ACCOUNT UNLOCK"),
    4151: _terminal("the user is locked", "ALTER USER ... ACCOUNT UNLOCK"),
    1251: _terminal("the server asks for an old way of logging in", "give the user mysql_native_password or caching_sha2_password"),
    2059: _terminal("the user's way of logging in is not supported", "give the user mysql_native_password or caching_sha2_password"),
    2061: _terminal("the login needs an encrypted connection or the server's public key", "add ssl_ca to the system's url"),
    3159: _terminal("the server accepts encrypted connections only", "add ssl_ca=/path/to/ca.pem to the system's url"),
    2026: _TLS,
    1049: _terminal("there is no such database", "correct the database in the system's url, or CREATE DATABASE"),
    1044: _terminal("the user may not use this database, or make temporary tables in it", _GRANT),
    1046: _terminal("no database is named", "name the database in the system's url: mysql://host/database"),
    1142: _RIGHT,
    1143: _RIGHT,
    1227: _RIGHT,
    1370: _RIGHT,
    1410: _RIGHT,
    1146: _NO_COLUMN,
    1051: _NO_COLUMN,
    1054: _NO_COLUMN,
    1072: _NO_COLUMN,
    1136: _NO_COLUMN,
    1348: _terminal("the target column cannot be written", "write the table behind the view"),
    1471: _terminal("the target cannot take new rows", "write the table behind the view"),
    1906: _terminal("a generated column cannot be written", "leave the column out of the rule"),
    3105: _terminal("a generated column cannot be written", "leave the column out of the rule"),
    1467: _terminal("the table's AUTO_INCREMENT values are used up", "widen the column"),
    1236: _terminal("the server cannot send its binary log from the wanted position", "run `syncline resync`"),
    1785: _terminal("enforce_gtid_consistency forbids these tables in one transaction", "ALTER TABLE ... ENGINE = InnoDB"),
    # the row is refused
    1406: _TOO_LONG,
    1153: _poison("too_long", "a row is larger than the server accepts", "raise max_allowed_packet"),
    1118: _TOO_LONG,
    1301: _TOO_LONG,
    1264: _RANGE,
    1690: _RANGE,
    1441: _RANGE,
    1265: _TYPE,
    1292: _TYPE,
    1366: _TYPE,
    1367: _TYPE,
    1411: _TYPE,
    1416: _TYPE,
    1525: _TYPE,
    1210: _TYPE,
    3037: _TYPE,
    3140: _TYPE,
    3150: _TOO_LONG,
    3151: _TOO_LONG,
    3156: _TYPE,
    3157: _TYPE,
    4037: _TYPE,
    4038: _TYPE,
    1300: _ENCODING,
    1267: _ENCODING,
    1977: _ENCODING,
    3854: _ENCODING,
    3988: _ENCODING,
    1048: _NOT_NULL,
    1263: _NOT_NULL,
    1364: _NOT_NULL,
    1452: _PARENT,
    1216: _PARENT,
    1451: _CHILD,
    1217: _CHILD,
    1761: _poison("foreign_key", "the row's key is still used by rows that point to it", "delete or move its child rows first"),
    1762: _poison("foreign_key", "the row's key is still used by rows that point to it", "delete or move its child rows first"),
    1062: _UNIQUE,
    1169: _UNIQUE,
    1586: _UNIQUE,
    1859: _UNIQUE,
    4025: _CHECK,
    3819: _CHECK,
    1369: _poison("check", "the view's CHECK OPTION refuses the row", "write the table behind the view"),
    1526: _poison("range", "the table has no partition for the row", "add a partition"),
    1644: _poison("other", "a trigger of the table refuses the row", "see what the trigger asks for (SHOW TRIGGERS)"),
}

_COLUMN = re.compile(r"column (?:`[^`]*`\.`[^`]*`\.)?[`']([^`']+)[`'](?: at row \d+)?$")
_FIELD = re.compile(r"^Field '([^']+)' doesn't have a default value$")
_CHECKED = re.compile(r"^CONSTRAINT `(?P<table>[^`]+)\.(?P<column>[^`]+)` failed for `[^`]*`\.`(?P=table)`$")
"""MariaDB names the check of a column, that of JSON included, `table.column`."""
_ROW = re.compile(r" at row (\d+)$")


def wrap(error: BaseException, where: str) -> SynclineError:
    """The error that an operator gets for a driver's exception; raise it `from` the cause. `where` names system, table or column."""
    if isinstance(error, SynclineError):
        return error
    cause = getattr(error, "original_exception", error)
    if isinstance(cause, ssl.SSLError):
        return _made(_TLS, where)
    if isinstance(cause, socket.gaierror):
        return _made(MEANINGS[2005], where)
    if isinstance(error, pymysql.err.InterfaceError):
        return _made(_AWAY, where)
    if isinstance(error, OSError):
        return _made(_AWAY, where)
    if not isinstance(error, pymysql.MySQLError):
        return Terminal(f"unexpected {type(error).__name__} in the database driver", where=where, fix="report this with the log")
    number = number_of(error)
    return named(number, text_of(error), where)


def named(number: int, message: str, where: str) -> SynclineError:
    """The same for an error or warning of the server given by number and message."""
    column = column_of(message)
    place = f"{where}, column {column}" if column else where
    if number == 1366 and message.startswith("Incorrect string value"):
        return _made(_ENCODING, place)
    meaning = MEANINGS.get(number, _FILE if 0 < number < 200 else None)
    if meaning is None:
        return Terminal(f"the server reports error {number}", where=where, fix="look the number up in the server's manual")
    return _made(meaning, place)


def number_of(error: BaseException) -> int:
    """The server's error number; 0 when there is none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def text_of(error: BaseException) -> str:
    return str(error.args[1]) if len(error.args) > 1 else ""


def column_of(message: str) -> str:
    """The column that a message of the server names; empty when none. Never a value."""
    if checked := _CHECKED.match(message):
        return checked["column"]
    found = _COLUMN.search(message) or _FIELD.match(message)
    return found.group(1) if found else ""


def row_of(message: str) -> int:
    """The number of the row that a message ends with, counted from 1; 0 when none."""
    found = _ROW.search(message)
    return int(found.group(1)) if found else 0


def _made(meaning: Meaning, where: str) -> SynclineError:
    match meaning.kind:
        case "transient":
            return Transient(meaning.what, where=where, fix=meaning.fix)
        case "terminal":
            return Terminal(meaning.what, where=where, fix=meaning.fix)
        case _:
            return Poison(meaning.what, reason=meaning.reason, where=where, fix=meaning.fix)
