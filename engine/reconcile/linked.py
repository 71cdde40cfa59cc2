"""Keys of rules with a link, and xref(), as reconcile asks for them: out of the ledger's crosswalks.

A row that is not linked has no target key; it gets a text in place of one that no key has, so that it is told apart and counted as missing.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.mapping.evaluator import Evaluated, Evaluator
from engine.mapping.lookups import Lookup
from engine.mapping.rule import CompiledRule, crosswalk
from engine.reconcile.keytext import join_keys
from engine.settings import Settings

Links = Callable[[str, pa.Table], list[str | None]]
"""(crosswalk, keys) -> key texts of the linked records."""

STAND_IN = "\x01not linked:"
"""Begins what an unlinked row has in place of a target key."""


class LinkedEvaluator(Evaluator):
    """An evaluator whose results have the key also where the target makes it."""

    def __init__(self, lookups: Mapping[str, Lookup], links: Links) -> None:
        super().__init__(lookups)
        self._links = links
        self.linked = lambda name, keys: pa.array(links(name, pa.table({"key": keys})), pa.string())

    def evaluate(self, rule: CompiledRule, rows: pa.Table, missing: npt.NDArray[np.bool_] | None = None) -> Evaluated:
        return self._with_key(rule, rows, super().evaluate(rule, rows, missing))

    def evaluate_joined(self, rule: CompiledRule, base: pa.Table, joined: Mapping[str, pa.Table]) -> Evaluated:
        return self._with_key(rule, base, super().evaluate_joined(rule, base, joined))

    def keys(self, rule: CompiledRule, rows: pa.Table) -> Evaluated:
        if not rule.link:
            return super().keys(rule, rows)
        return Evaluated(row=np.arange(rows.num_rows), values=pa.table({rule.key[0]: self._keys(rule, rows)}), rejected=())

    def _with_key(self, rule: CompiledRule, rows: pa.Table, found: Evaluated) -> Evaluated:
        if not rule.link:
            return found
        keys = self._keys(rule, rows.take(pa.array(found.row)))
        return Evaluated(row=found.row, values=found.values.append_column(rule.key[0], keys), rejected=found.rejected)

    def _keys(self, rule: CompiledRule, rows: pa.Table) -> pa.StringArray:
        key = rule.source.primary_key
        plain = join_keys([rule.source.column(c).type for c in key], [rows.column(c) for c in key])
        plain = pc.binary_join_element_wise(STAND_IN, plain, "")
        there = self._links(crosswalk(rule.link, rule.source.name.system, rule.target.name.system), rows.select(list(key)))
        return pc.coalesce(pa.array(there, pa.string()), plain)


def no_links(_crosswalk: str, keys: pa.Table) -> list[str | None]:
    return [None] * keys.num_rows


def links_in(settings: Settings) -> Links:
    """What the state folder of a configuration says."""
    from engine.observe.status import linked

    return lambda crosswalk, keys: linked(settings, crosswalk, keys)
