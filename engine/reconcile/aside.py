"""What the state folder knows that the rows do not show: rows that wait (set aside in quarantine, or held for a person), which the ledger names by their
source row while reconcile needs their target keys; and rows that were deleted, but whose counterpart stays."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from engine.mapping.evaluator import Evaluator
from engine.ports import Reader
from engine.reconcile.judge import Subject, opposite
from engine.reconcile.keytext import join_keys, key_table
from engine.settings import Settings

SourceKeys = Mapping[str, Sequence[Mapping[str, str]]]
"""Rule name -> source rows, each as source column -> text."""

Waiting = Callable[[], tuple[SourceKeys, SourceKeys]]
"""The rows in quarantine and the rows held for a person, as of now."""

TargetKeys = Mapping[int, Sequence[str]]
"""Rule number -> joined target keys."""


Deleted = Callable[[str, pa.Table], Sequence[bool]]
"""(table, keys in the order in which the ledger names its rows) -> which of them the ledger knows as deleted."""


def nothing_is_deleted(_table: str, keys: pa.Table) -> Sequence[bool]:
    return [False] * keys.num_rows


def deleted_in(settings: Settings) -> Deleted:
    """The tombstones in the state folder of a configuration."""
    from engine.observe.status import deleted_rows

    return lambda table, keys: deleted_rows(settings, table, keys)


def nothing_waits() -> tuple[SourceKeys, SourceKeys]:
    return {}, {}


def waiting_in(settings: Settings) -> Waiting:
    """What the state folder of a configuration says."""
    from engine.observe.status import list_conflicts, list_quarantine

    def look() -> tuple[SourceKeys, SourceKeys]:
        quarantined: dict[str, list[Mapping[str, str]]] = {}
        held: dict[str, list[Mapping[str, str]]] = {}
        for record in list_quarantine(settings):
            quarantined.setdefault(record["rule"], []).append(record["key"])
        for record in list_conflicts(settings, limit=0):
            if record["state"] == "held":
                held.setdefault(record["rule"], []).append(record["key"])
        return quarantined, held

    return look


class Aside:
    """Called, it gives the target keys of the rows that wait now, quarantined and held. Rows whose key cannot be told are left out."""

    def __init__(self, subjects: Sequence[Subject], readers: Mapping[str, Reader], evaluator: Evaluator, waiting: Waiting, deleted: Deleted) -> None:
        self._subjects = subjects
        self._readers = readers
        self._evaluator = evaluator
        self._waiting = waiting
        self._deleted = deleted

    def __call__(self) -> tuple[TargetKeys, TargetKeys]:
        quarantined, held = self._waiting()
        return self._target_keys(quarantined), self._target_keys(held)

    def kept(self, i: int, texts: Sequence[str]) -> list[str]:
        """Those target keys of rule `i` whose row was deleted, or left the WHERE, while the way back keeps the source row: the opposite rule's `on_delete` is
        not "delete". Not one of them is a difference. A source row that changed since is brought back by the engine, and is then there."""
        back = opposite(self._subjects, i)
        if back is None or not self._subjects[back].keeps or not texts:
            return []
        target = self._subjects[i].rule.target.name
        named = next(s.rule.key for s in self._subjects if s.rule.target.name == target)  # as the ledger names the rows of the table
        keys = key_table(texts, self._subjects[i].rule.key)
        if not set(named) <= set(keys.column_names):
            return []
        return [text for text, gone in zip(texts, self._deleted(str(target), keys.select(list(named))), strict=True) if gone]

    def _target_keys(self, waiting: SourceKeys) -> TargetKeys:
        return {i: self._of_rule(s, waiting[s.rule.name]) for i, s in enumerate(self._subjects) if s.rule.name in waiting}

    def _of_rule(self, subject: Subject, keys: Sequence[Mapping[str, str]]) -> list[str]:
        rule = subject.rule
        by_columns: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
        for key in keys:
            by_columns.setdefault(tuple(key), []).append(key)
        found: list[str] = []
        for columns, rows in by_columns.items():
            if not all(rule.source.has(c) for c in columns):
                continue
            table = pa.table({c: pa.array([row[c] for row in rows], type=pa.string()) for c in columns})
            needed = {c for part in rule.key for c in rule.lineage[part]}
            if not needed <= set(columns):
                wanted = [c.name for c in rule.source.columns if c.name in needed]
                table = self._readers[rule.source.name.system].fetch(rule.source, wanted, columns, table)
            values = self._evaluator.keys(rule, table).values
            texts = join_keys([rule.target.column(c).type for c in rule.key], [values.column(c) for c in rule.key])
            found += [text for text in texts.to_pylist() if text is not None]
        return found
