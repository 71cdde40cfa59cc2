"""In which order tables are written: parents before children, as the foreign keys say."""
from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from engine.model.schema import Table, TableName


def by_foreign_keys(tables: Iterable[Table]) -> list[TableName]:
    """Parents first. In a cycle the order of the names decides; rows that come too early are tried again at the end of their transaction."""
    known = {table.name: table for table in tables}
    parents = {name: {key.parent for key in table.foreign_keys if key.parent in known and key.parent != name} for name, table in sorted(known.items())}
    while True:
        try:
            return list(TopologicalSorter(parents).static_order())
        except CycleError as error:
            cycle: list[TableName] = error.args[1]
            for name in cycle:
                parents[name] -= set(cycle)
