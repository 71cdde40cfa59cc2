"""Which rows of a write are at fault, as far as the write itself or the server's words tell it."""

from __future__ import annotations

import re

import numpy as np

from adapters import copytext
from adapters.postgres.staging import STAGE
from engine.errors import Poison
from engine.model.batch import INSERT
from engine.model.write import Write


def refuse_nul(write: Write) -> None:
    """PostgreSQL has no text with a NUL character."""
    bad: set[int] = set()
    names: list[str] = []
    for place, (name, values) in enumerate(zip(write.values.column_names, write.values.columns, strict=True)):
        rows = copytext.with_nul(values)
        if len(rows):
            wanted = rows if name in write.key else rows[write.decided[rows, place]]
            bad.update(int(row) for row in wanted)
            names.extend([name] if len(wanted) else [])
    if bad:
        raise Poison(
            f"a value holds the character NUL, which PostgreSQL cannot store (column {', '.join(names)})",
            reason="encoding",
            rows=tuple(sorted(bad)),
            where=str(write.table.name),
            fix="remove the character at its origin, or in the rule with replace(column, chr(0), '')",
        )


def without_value(write: Write, column: str | None) -> tuple[int, ...]:
    """Rows that would put null into the column."""
    inserted = write.op == INSERT
    if column not in write.values.column_names:
        return tuple(int(row) for row in np.flatnonzero(inserted))
    place = write.values.column_names.index(column)
    null = write.values.column(place).is_null().to_numpy()
    return tuple(int(row) for row in np.flatnonzero(null & write.decided[:, place]))


def named_line(write: Write, context: str) -> tuple[int, ...]:
    """The row whose line COPY was reading. context: of the server's error, in whatever language it speaks."""
    line = re.search(rf"^COPY (?:{re.escape(write.table.name.table)}|{STAGE}\d+), \D*(\d+)", context, re.MULTILINE)
    row = int(line[1]) - 1 if line is not None else -1
    return (row,) if 0 <= row < len(write) else ()
