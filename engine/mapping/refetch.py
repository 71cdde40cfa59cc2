"""The joined rows of some base rows of a rule, fetched table by table along the equal columns."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from engine.mapping.rule import CompiledRule
from engine.model.schema import Table

Fetch = Callable[[Table, Sequence[str], Sequence[str], pa.Table, int | None], pa.Table]
"""(table, wanted columns, columns to find rows by, their values, bytes at most) -> rows; `Reader.fetch`."""

AT_ONCE = 5_000


def gather(rule: CompiledRule, base: pa.Table, fetch: Fetch, bytes_at_most: int | None = None) -> dict[str, pa.Table]:
    """Alias -> the rows of that table that belong to `base`, each once. What the fetches raise goes through: Oversized when they hold more than
    `bytes_at_most` together."""
    found = {"": base}
    left = bytes_at_most
    for joined in rule.joined:
        around = found[joined.via].select(list(joined.there)).rename_columns(list(joined.here))
        keys = around.group_by(list(joined.here)).aggregate([]).drop_null()
        parts: list[pa.Table] = []
        for at in range(0, keys.num_rows, AT_ONCE):
            parts.append(fetch(joined.table, joined.columns, joined.here, keys.slice(at, AT_ONCE), left))
            left = None if left is None else left - parts[-1].nbytes
        found[joined.alias] = _table(parts, joined.columns)
    return {alias: rows for alias, rows in found.items() if alias}


def _table(parts: Sequence[pa.Table], columns: Sequence[str]) -> pa.Table:
    if not parts:
        return pa.table({c: pa.array([], pa.string()) for c in columns})
    return pa.concat_tables([part.select(list(columns)) for part in parts])


def constant_keys(rule: CompiledRule) -> tuple[str, ...]:
    """Key columns that do not derive from any column: every row of the rule has the same value there."""
    return tuple(c for c in rule.key if not (rule.origins[c] if rule.joined else rule.lineage[c]))


