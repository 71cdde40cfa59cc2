"""New rows whose key the server makes (AUTO_INCREMENT), and which key each of them got.

Where the server holds the table's counter for a whole statement (innodb_autoinc_lock_mode 0 or 1), the rows of one INSERT ... SELECT get consecutive
values in the order of the SELECT; else each row is inserted by itself. https://mariadb.com/kb/en/auto_increment-handling-in-innodb/
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pymysql

from adapters.mysql.connection import quote, quoted
from adapters.mysql.stage import Stage
from engine.model.batch import INSERT
from engine.model.write import Write


def split(write: Write) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(rows with a key, new rows without)."""
    new = write.values.column(write.made).is_null().to_numpy() & (write.op == INSERT)
    return np.flatnonzero(~new), np.flatnonzero(new)


def without_key(write: Write) -> Write:
    """The write of new rows without the column that the server fills."""
    place = write.values.column_names.index(write.made)
    return Write(table=write.table, key=(), op=write.op, values=write.values.remove_column(place), decided=np.delete(write.decided, place, axis=1))


def with_keys(write: Write, keys: pa.StringArray) -> Write:
    """The write with the keys that its rows have now."""
    place = write.values.column_names.index(write.made)
    return Write(table=write.table, key=write.key, op=write.op, values=write.values.set_column(place, write.made, keys), decided=write.decided)


def insert(connection: pymysql.Connection, stage: Stage, write: Write) -> list[str]:
    """Inserts the staged rows; their keys in the order of the write."""
    target = f"{quote(write.table.name.schema)}.{quote(write.table.name.table)}"
    names = list(write.values.column_names)
    cells = ", ".join(stage.cell(name) for name in names)
    sql = f"INSERT INTO {target} ({quoted(names)}) SELECT {cells} FROM {quote(stage.name)} AS s"
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.innodb_autoinc_lock_mode, @@SESSION.auto_increment_increment")
        mode, step = cursor.fetchone() or (2, 1)
    if int(mode) < 2:
        connection.query(f"{sql} ORDER BY s._n")
        first = int(connection.insert_id())  # type: ignore[no-untyped-call]
        return [str(first + at * int(step)) for at in range(len(write))]
    found = []
    for at in range(len(write)):
        connection.query(f"{sql} WHERE s._n = {at}")
        found.append(str(connection.insert_id()))  # type: ignore[no-untyped-call]
    return found
