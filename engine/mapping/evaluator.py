"""Evaluates compiled rules over batches of rows: DuckDB computes what the rule computes, Arrow takes over what it only renames."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.mapping.lookups import Lookup
from engine.mapping.rule import CompiledRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An input row that has no place in the target. reason: the words of `Poison.reason`. what: a sentence without the value."""

    row: int
    column: str
    reason: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """row: index of the input row each result row came from, ascending; each at most once; rows excluded by WHERE and rejected rows do not occur.
    values: one string column per target column, canonical text in the target column's type. rejected: ascending by row, each row once."""

    row: npt.NDArray[np.int64]
    values: pa.Table
    rejected: tuple[Rejected, ...]


class Evaluator:
    """Owns one in-memory DuckDB connection. Used by one thread at a time."""

    def __init__(self, lookups: Mapping[str, Lookup]) -> None:
        raise NotImplementedError

    def evaluate(self, rule: CompiledRule, rows: pa.Table, missing: npt.NDArray[np.bool_] | None = None) -> Evaluated:
        """rows: string columns named as source columns, at least `rule.reads`, canonical text. missing: shape (rows, columns of `rows`); where a column
        derives from a missing value it is null in the result and never a reason to reject."""
        raise NotImplementedError

    def keys(self, rule: CompiledRule, rows: pa.Table) -> Evaluated:
        """Only the key columns, WHERE ignored; needs only the source columns the key derives from."""
        raise NotImplementedError
