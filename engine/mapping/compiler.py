"""A rule's SELECT becomes a checked `CompiledRule`, or the list of what is wrong with it."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from engine.mapping.lookups import Lookup
from engine.mapping.rule import CompiledRule
from engine.model.schema import Table, TableName
from engine.ports import Problem


def compile_rule(
    *,
    name: str,
    sql: str,
    into: TableName,
    key: Sequence[str],
    table: Callable[[str, str, str], Table],
    lookups: Mapping[str, Lookup],
    adapters: Mapping[str, str] | None = None,
) -> tuple[CompiledRule | None, list[Problem]]:
    """Never raises for a mistake of the user: every problem found is in the list, and the rule is None when one of them is an error.

    table: (system, schema, table) -> the live table; raises SynclineError when there is none. adapters: system -> adapter name ("postgres", "mysql"), by
    which it is known which dates and numbers a system cannot hold.
    """
    raise NotImplementedError
