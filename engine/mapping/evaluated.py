"""What evaluating a rule gives: the rows of the target, and the rows that have no place there, each with its reason."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.mapping.rule import Output

Rows = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Linked = Callable[[str, pa.StringArray], pa.StringArray]
"""What xref() asks: (crosswalk, keys of one system) -> keys of the other, null where there is no link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An input row that has no place in the target. column: the target column, empty when the whole row is meant. reason: the words of
    `Poison.reason`. what: a sentence without the value. waits: for a link that is not made yet: (crosswalk, key text)."""

    row: int
    column: str
    reason: str
    what: str
    waits: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """row: index of the input row each result row came from, ascending; each at most once; rows excluded by WHERE and rejected rows do not
    occur. values: one string column per target column, canonical text in the target column's type. rejected: ascending by row, each row once."""

    row: Rows
    values: pa.Table
    rejected: tuple[Rejected, ...]


class Rejects:
    """The first reason of each rejected row."""

    def __init__(self, rows: int) -> None:
        self.mask: Bools = np.zeros(rows, dtype=np.bool_)
        self._found: list[Rejected] = []

    @property
    def any(self) -> bool:
        return bool(self._found)

    def add(self, row: int, column: str, reason: str, what: str, waits: tuple[str, str] | None = None) -> None:
        if not self.mask[row]:
            self.mask[row] = True
            what = f"column {column}: {what}" if column else what
            self._found.append(Rejected(row=row, column=column, reason=reason, what=what, waits=waits))

    def sorted(self) -> tuple[Rejected, ...]:
        return tuple(sorted(self._found, key=lambda rejected: rejected.row))


def once(row: Rows, columns: Sequence[pa.StringArray], rejects: Rejects, what: str) -> tuple[Rows, list[pa.StringArray]]:
    """In ascending order. Rows that came several times are rejected with the sentence `what`."""
    order = np.argsort(row, kind="stable")
    row = row[order]
    same = row[1:] == row[:-1]
    for repeated in np.unique(row[1:][same]):
        rejects.add(int(repeated), "", "other", what)
    first = np.concatenate([[True], ~same])
    chosen = pa.array(order[first])
    return row[first], [column.take(chosen) for column in columns]


def value(output: Output, text: pa.StringArray, row: Rows, lacks: Bools | None, rejects: Rejects, linked: Linked) -> pa.StringArray:
    """The output in the target column's type, by way of the crosswalk where it is an xref(). Rows whose link is not made yet wait: they are rejected."""
    xref = output.xref
    if xref is None:
        return fit(output, text, row, lacks, rejects)
    keys = fit(replace(output, refuse_null=False), text, row, lacks, rejects)
    there = linked(xref.crosswalk, keys)
    for at in np.flatnonzero(pc.and_(keys.is_valid(), there.is_null()).to_numpy(zero_copy_only=False)):
        key = keys[at].as_py()
        rejects.add(int(row[at]), output.column.name, "foreign_key", f"waits for {xref.link} {key} to be linked", (xref.crosswalk, key))
    waiting = rejects.mask[row]
    return fit(replace(output, steps=xref.steps), there, row, waiting if lacks is None else waiting | lacks, rejects)


def fit(output: Output, text: pa.StringArray, row: Rows, lacks: Bools | None, rejects: Rejects) -> pa.StringArray:
    """The text in the target column's type; rows that have no place there are rejected."""
    if lacks is not None:
        text = pc.if_else(pa.array(lacks), None, text)
    if output.refuse_null and text.null_count:
        null = text.is_null().to_numpy(zero_copy_only=False)
        for at in np.flatnonzero(null & ~lacks if lacks is not None else null):
            rejects.add(int(row[at]), output.column.name, "not_null", "no value, the target needs one")
    for step in output.steps:
        refused = step.refuses(text)
        if refused is not None and pc.any(refused).as_py():
            for at in np.flatnonzero(pc.fill_null(refused, False).to_numpy(zero_copy_only=False)):
                rejects.add(int(row[at]), output.column.name, step.reason, step.what(text[at].as_py()))
            text = pc.if_else(pc.fill_null(refused, False), None, text)
        text = step.change(text)
    return text


def lacks_values(output: Output, names: Sequence[str], lacking: Bools | None) -> Bools | None:
    """Per result row: whether the output derives from a value that is missing."""
    if lacking is None:
        return None
    found: Bools = np.any(lacking[:, [names.index(name) for name in output.lineage if name in names]], axis=1)
    return found if found.any() else None


def one_array(values: pa.ChunkedArray) -> pa.Array:
    if values.num_chunks == 1:
        return values.chunk(0)
    return values.combine_chunks() if values.num_chunks else pa.array([], type=values.type)
