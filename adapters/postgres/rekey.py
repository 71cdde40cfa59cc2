"""One row under another key: an UPDATE of the key, so that the foreign keys that refer to it do what they say, or a copy of the row."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.postgres.connection import Connection
from adapters.postgres.schema import quoted, quoted_table
from engine.model.schema import Table
from engine.model.write import MANY_ROWS, NO_ROW, ROW_EXISTS, WROTE


def rekey(connection: Connection, table: Table, key: Sequence[str], before: Sequence[str], after: Sequence[str], *, copy: bool) -> int:
    """See `engine.ports.Sink.rekey`. The server's errors pass through."""
    name = quoted_table(table.name)
    at = " AND ".join(f"{quoted(column)} = %s" for column in key)
    old = connection.execute(f"SELECT FROM {name} WHERE {at} FOR UPDATE", before).rowcount
    taken = connection.execute(f"SELECT FROM {name} WHERE {at} AND NOT ({at}) FOR UPDATE", (*after, *before)).rowcount
    if old != 1 or taken:
        return MANY_ROWS if old > 1 else ROW_EXISTS if old else NO_ROW
    if copy:
        others = [c for c in table.columns if not c.generated and not c.made and c.name not in key]
        columns = ", ".join(quoted(column) for column in (*key, *(c.name for c in others)))
        cells = ", ".join([*(["%s"] * len(key)), *(quoted(c.name) for c in others)])
        connection.execute(f"INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE SELECT {cells} FROM {name} WHERE {at}", (*after, *before))
        return WROTE
    cells = ", ".join(f"{quoted(column)} = %s" for column in key)
    return WROTE if connection.execute(f"UPDATE {name} SET {cells} WHERE {at}", (*after, *before)).rowcount else NO_ROW
