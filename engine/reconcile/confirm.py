"""A second look at rows that seem different: while the engine runs, a row may have been read on one side before its change arrived there.

The keys are read again on both sides and judged by the same code; what agrees then was in flight. While the daemon runs this is repeated
with growing pauses, about six seconds in all.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa

from engine.errors import Oversized
from engine.mapping.evaluator import Evaluator
from engine.model.lot import Lot
from engine.model.schema import TableName
from engine.ports import FETCH_BYTES, Reader
from engine.reconcile.aside import Aside, TargetKeys
from engine.reconcile.judge import opposite, siblings
from engine.reconcile.keytext import join_keys
from engine.reconcile.linked import STAND_IN
from engine.reconcile.reading import Plan, distinct_rows, fetch_keys, fetching
from engine.reconcile.workspace import DIFFERENT, DOUBTED, Class, Workspace

_SLICE = 10_000
_FETCH = 5_000
PAUSES = (0.25, 0.5, 1.0, 2.0, 2.0)
"""Seconds before each further look while the daemon runs."""

_PATIENCE_ROWS = 50_000
"""More differences than this are no changes on their way: one second look is enough."""


class Confirmation:
    """Reads the doubted rows of `first` again and writes into it what became of them. skip: numbers of rules that cannot be judged."""

    def __init__(
        self, first: Workspace, evaluator: Evaluator, readers: Mapping[str, Reader], plans: Sequence[Plan], seed: int, aside: Aside,
        running: Callable[[], bool], pauses: Sequence[float] = PAUSES,
        skip: Sequence[int] = (),
    ) -> None:
        self._first = first
        self._evaluator = evaluator
        self._readers = readers
        self._plans = {plan.table.name: plan for plan in plans}
        self._seed = seed
        self._aside = aside
        self._running = running
        self._pauses = pauses
        self._skip = skip
        self._bytes: int | None = None

    def run(self) -> int:
        """The number of rows that were different at first and are not now. Raises what the readers raise."""
        before = self._different()
        if before == 0:
            return 0
        self._look_again()
        for pause in self._pauses:
            left = self._different()
            if left == 0 or left > _PATIENCE_ROWS or not self._running():
                break
            time.sleep(pause)
            self._look_again()
        return max(0, before - self._different())

    def _different(self) -> int:
        counts = [f"(SELECT count(*) FROM u{i} WHERE class IN {_codes(DIFFERENT)} AND k IS NOT NULL)" for i in self._judged()]
        return int(self._first.db.execute(f"SELECT {' + '.join(counts) or '0'}").fetchall()[0][0])

    def _judged(self) -> list[int]:
        return [i for i, subject in enumerate(self._first.subjects) if subject.selected and i not in self._skip]

    def _look_again(self) -> None:
        quarantined, held = self._aside()
        for i in self._judged():
            self._first.db.execute(f"CREATE OR REPLACE TEMP TABLE doubted AS SELECT row_number() OVER () AS n, k FROM u{i} "
                                   f"WHERE class IN {_codes(DOUBTED)} AND k IS NOT NULL")
            start, lot = 0, Lot(_SLICE)
            while keys := self._doubted(start, lot.size):
                try:
                    self._look(i, keys, quarantined, held)
                except Oversized:
                    lot.too_large(len(keys))
                    continue
                start += len(keys)
                lot.fitted()

    def _doubted(self, start: int, size: int) -> list[str]:
        """Some of the keys that a second look may change."""
        return [key for (key,) in self._first.db.execute(f"SELECT k FROM doubted WHERE n > {start} AND n <= {start + size}").fetchall()]

    def _look(self, i: int, keys: list[str], quarantined: TargetKeys, held: TargetKeys) -> None:
        """Judges these keys of rule `i` anew and replaces their units. Oversized when their rows are too large to be read at once."""
        self._bytes = FETCH_BYTES if len(keys) > 1 else None
        space = Workspace(self._first.subjects, self._evaluator, self._seed, fetching(self._readers))
        try:
            for name, parts in self._read(i, keys).items():
                plan = self._plans[name]
                space.load(name, plan.identity, distinct_rows(plan, parts))
            space.classify(quarantined, held, self._aside.kept)
            space.db.register("looked", pa.table({"k": pa.array(keys, type=pa.string())}))
            chosen = f"SELECT * REPLACE (NULL::BIGINT AS dn, NULL::BIGINT AS an) FROM u{i} WHERE k IN (SELECT k FROM looked)"
            units = space.db.sql(chosen).to_arrow_table()
        finally:
            space.close()
        db = self._first.db
        db.register("looked", pa.table({"k": pa.array(keys, type=pa.string())}))
        db.register("units", units)
        db.execute(f"DELETE FROM u{i} WHERE k IN (SELECT k FROM looked)")
        db.execute(f"INSERT INTO u{i} SELECT * FROM units")
        db.unregister("looked")
        db.unregister("units")

    def _read(self, i: int, keys: list[str]) -> dict[TableName, list[pa.Table]]:
        """The rows that decide about these target keys: the target rows, the source rows known to map to them, and what both lead to by the
        opposite rule."""
        subjects = self._first.subjects
        rule = subjects[i].rule
        source, target = rule.source.name, rule.target.name
        parts: dict[TableName, list[pa.Table]] = {target: self._fetch(target, rule.key, keys)}
        for number in (i, *siblings(subjects, i)):
            name = subjects[number].rule.source.name
            parts.setdefault(name, []).extend(self._fetch(name, self._plans[name].identity, self._source_identities(number, keys)))
        copied = _copied_key(self._first, i)
        if copied:
            parts.setdefault(source, []).extend(self._fetch(source, copied, keys))
        back = opposite(subjects, i)
        if back is not None:
            there = subjects[back].rule
            led = [self._mapped(back, rows) for rows in parts[target]]
            ahead = [self._mapped(i, rows) for rows in parts[source]]
            parts[source].extend(self._fetch(source, there.key, sorted({k for texts in led for k in texts})))
            parts[target].extend(self._fetch(target, rule.key, sorted({k for texts in ahead for k in texts} - set(keys))))
        return {name: found for name, found in parts.items() if found}

    def _source_identities(self, number: int, keys: list[str]) -> list[str]:
        db = self._first.db
        db.register("looked", pa.table({"k": pa.array(keys, type=pa.string())}))
        found = db.execute(f"SELECT sid FROM d{number} WHERE k IN (SELECT k FROM looked) AND sid IS NOT NULL "
                           f"UNION SELECT sid FROM u{number} WHERE k IN (SELECT k FROM looked) AND sid IS NOT NULL").fetchall()
        db.unregister("looked")
        return [row[0] for row in found]

    def _mapped(self, number: int, rows: pa.Table) -> list[str]:
        """The target keys that rule `number` gives these source rows."""
        rule = self._first.subjects[number].rule
        values = self._evaluator.keys(rule, rows).values
        texts = join_keys([rule.target.column(c).type for c in rule.key], [values.column(c) for c in rule.key])
        return [text for text in texts.to_pylist() if text is not None]

    def _fetch(self, name: TableName, by: Sequence[str], texts: Sequence[str]) -> list[pa.Table]:
        reader = self._readers[name.system]
        plan = self._plans[name]
        texts = [text for text in texts if not text.startswith(STAND_IN)]
        return [fetch_keys(reader, plan, by, texts[start : start + _FETCH], self._bytes) for start in range(0, len(texts), _FETCH)]


def _copied_key(space: Workspace, i: int) -> tuple[str, ...]:
    """The source columns that the rule copies unchanged into its key, when they identify a source row; else nothing."""
    rule = space.subjects[i].rule
    direct = {output.column.name: output for output in rule.key_plan.outputs}
    columns = []
    for name in rule.key:
        output = direct.get(name)
        if output is None or not output.direct or rule.source.column(output.direct).type.kind != output.column.type.kind:
            return ()
        columns.append(output.direct)
    unique = [set(rule.source.primary_key), *[set(u) for u in rule.source.unique]]
    return tuple(columns) if any(u and u <= set(columns) for u in unique) else ()


def _codes(classes: Iterable[Class]) -> str:
    return "(" + ", ".join(str(int(c)) for c in classes) + ")"
