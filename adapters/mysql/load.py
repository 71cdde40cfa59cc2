"""LOAD DATA LOCAL from memory, and what the server had to say about the rows.

The server asks for a file by name; whatever name it asks for, it gets the bytes in hand, never a file.
Protocol: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_local_infile_request.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pymysql
from pymysql.constants import COMMAND
from pymysql.protocol import OKPacketWrapper

from adapters.mysql.failure import column_of, named, row_of
from engine.errors import Poison, Terminal
from engine.model.schema import Column
from engine.model.types import Kind

_SLICE = 256 << 10
_REFUSED = frozenset((1148, 2068, 3948, 4166))
_HARMLESS = frozenset((1592,))
"""A statement that is unsafe for statement-based logging: says nothing of its rows."""
_TRUNCATED, _TOO_LONG, _OUT_OF_RANGE, _WRONG = 1265, 1406, 1264, 1292
_LONGER = ("too_long", "a value is longer than its column", "widen the column, or shorten the value in the rule")
_CUT = {
    Kind.TEXT: _LONGER,
    Kind.JSON: _LONGER,
    Kind.BYTES: _LONGER,
    Kind.DECIMAL: ("range", "a number has more digits than its column keeps", "round it in the rule, or widen the column"),
}


def refuses_local(error: BaseException) -> bool:
    """The server does not allow LOAD DATA LOCAL."""
    return isinstance(error, pymysql.MySQLError) and bool(error.args) and error.args[0] in _REFUSED


def load_local(connection: pymysql.Connection, sql: str, data: memoryview, columns: Mapping[str, Column], packet: int) -> int:
    """Runs a LOAD DATA LOCAL statement over `data`; returns the number of rows loaded. columns: the target's column by its name in the table.
    packet: the server's max_allowed_packet; it bounds the slices that are sent, not the rows.
    Poison, with rows counted from 0, when a value had to be bent to make it fit. Driver errors and OSError pass."""
    wire: Any = connection
    wire._execute_command(COMMAND.COM_QUERY, sql)
    request = wire._read_packet()
    if not request.is_load_local_packet():
        raise Terminal("the server did not ask for the rows of LOAD DATA LOCAL", where="mysql", fix="SET GLOBAL local_infile = 1")
    size = min(_SLICE, packet // 2)
    for at in range(0, len(data), size):
        wire.write_packet(bytes(data[at : at + size]))
    wire.write_packet(b"")
    done = OKPacketWrapper(wire._read_packet())
    if done.warning_count:
        _refuse(connection, columns)
    return int(done.affected_rows)


def refuse_warnings(connection: pymysql.Connection, columns: Mapping[str, Column], first: int = 0) -> None:
    """The same for the statement that ran last; `first`: number of its first row."""
    result: Any = connection._result  # type: ignore[attr-defined]
    if result is not None and result.warning_count:
        _refuse(connection, columns, first)


def refused(said: Sequence[tuple[int, str]], columns: Mapping[str, Column], first: int = 0) -> Poison | None:
    """What warnings, given as number and message, say of the rows: the first of them, and all rows of which the same is said. None when they
    say nothing of rows."""
    said = [(number, message) for number, message in said if number not in _HARMLESS]
    if not said:
        return None
    number, message = said[0]
    alike = (text for other, text in said if other == number and column_of(text) == column_of(message))
    rows = tuple(sorted({row_of(text) - 1 + first for text in alike if row_of(text)}))
    column = columns.get(column_of(message))
    where = f"column {column.name}" if column else ""
    if number == _TRUNCATED and column is not None and column.type.kind in _CUT:
        reason, what, fix = _CUT[column.type.kind]
        return Poison(what, reason=reason, rows=rows, where=where, fix=fix)
    if number == _TOO_LONG and column is not None and column.type.kind not in (Kind.TEXT, Kind.JSON, Kind.BYTES):
        number = _OUT_OF_RANGE  # a BIT
    if number == _WRONG and column is not None and column.type.kind in (Kind.INSTANT, Kind.TIME):
        number = _OUT_OF_RANGE  # its form has been looked at before: a time that the type does not reach
    meant = named(number, message, "")
    return Poison(meant.what, reason=meant.reason if isinstance(meant, Poison) else "other", rows=rows, where=where, fix=meant.fix)


def _refuse(connection: pymysql.Connection, columns: Mapping[str, Column], first: int = 0) -> None:
    """Warnings and notes become Poison: with LOCAL the server makes warnings of errors and goes on."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW WARNINGS")
        error = refused([(int(number), str(message)) for _, number, message in cursor.fetchall()], columns, first)
    if error is not None:
        raise error
