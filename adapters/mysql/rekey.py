"""One row under another key: an UPDATE of the key, so that the foreign keys that refer to it do what they say, or a copy of the row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pymysql

from adapters.mysql.connection import quote, quoted
from adapters.mysql.fit import refuse_unfit
from adapters.mysql.literal import compared, literals
from adapters.mysql.rows import select
from adapters.mysql.schema import describe
from engine.errors import Terminal
from engine.model.schema import Table
from engine.model.write import MANY_ROWS, NO_ROW, ROW_EXISTS, WROTE


def rekey(connection: pymysql.Connection, table: Table, key: Sequence[str], before: Sequence[str], after: Sequence[str], *, copy: bool) -> int:
    """See `engine.ports.Sink.rekey`. The server's errors pass through; it takes back a statement that fails."""
    described = {column.name: column for column in describe(connection, table.name.schema, table.name.table)}
    if lost := [name for name in key if name not in described]:
        raise Terminal(f"there is no column {lost[0]} (any more)", where=str(table.name), fix="run `syncline check` and adapt the rule")
    columns = [described[name] for name in key]
    refuse_unfit([table.column(name) for name in key], columns, pa.table({n: [v] for n, v in zip(key, after, strict=True)}), np.ones((1, len(key)), np.bool_))
    given = [[literals(column, pa.array([text], pa.string()))[0].as_py() for column, text in zip(columns, texts, strict=True)] for texts in (before, after)]
    if None in given[0]:
        return NO_ROW
    name = f"{quote(table.name.schema)}.{quote(table.name.table)}"
    here, there = (" AND ".join(f"{compared(column)} = {text}" for column, text in zip(columns, texts, strict=True)) for texts in given)
    old = len(select(connection, f"SELECT 1 AS n FROM {name} WHERE {here} FOR UPDATE", ["n"]))
    taken = len(select(connection, f"SELECT 1 AS n FROM {name} WHERE {there} AND NOT ({here}) FOR UPDATE", ["n"]))
    if old != 1 or taken:
        return MANY_ROWS if old > 1 else ROW_EXISTS if old else NO_ROW
    if copy:
        others = [c.name for c in table.columns if not c.generated and not c.made and c.name not in key]
        cells = ", ".join([*map(str, given[1]), *map(quote, others)])
        connection.query(f"INSERT INTO {name} ({quoted([*key, *others])}) SELECT {cells} FROM {name} WHERE {here}")
        return WROTE
    cells = ", ".join(f"{quote(column)} = {text}" for column, text in zip(key, given[1], strict=True))
    return WROTE if connection.query(f"UPDATE {name} SET {cells} WHERE {here}") else NO_ROW
