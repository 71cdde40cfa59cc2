"""`check`: everything that would keep the configuration from working, found without changing anything.

The assembly's problems, each system's own preflight, and the keys that no unique index protects.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from engine.errors import SynclineError
from engine.mapping.rule import CompiledRule
from engine.model.hashing import Hashes, hash_column
from engine.model.schema import Table
from engine.observe.clocks import too_far_apart
from engine.observe.progress import Progress, Task, progress
from engine.ports import Problem, Reader
from engine.runtime import resume
from engine.runtime.assembly import Assembly, assemble, error_problem
from engine.runtime.clocks import measure
from engine.runtime.rule_checks import unique_key
from engine.settings import Settings


def check(settings: Settings) -> list[Problem]:
    """All findings, errors first. Never raises for what a user can mend."""
    with assemble(settings) as assembly:
        found = list(assembly.problems)
        for system, adapter in assembly.adapters.items():
            if system not in assembly.unreachable:
                found += adapter.preflight(settings.name, assembly.watched(system), assembly.written(system), assembly.linked(system))
        found += _unused(assembly)
        found += resume.problems(assembly)
        found += _duplicates(assembly)
        found += _clocks(assembly)
    return sorted(dict.fromkeys(found), key=lambda problem: problem.severity != "error")


def _unused(assembly: Assembly) -> list[Problem]:
    if assembly.errors:
        return []
    used = {side.name.system for rule in assembly.rules for side in (rule.source, rule.target)}
    fix = "add a rule, or take the system out"
    return [
        Problem(severity="warning", where=f"system {system}", what="no rule reads or writes it", fix=fix)
        for system in assembly.settings.systems
        if system not in used
    ]


def _clocks(assembly: Assembly) -> list[Problem]:
    readers = {system: reader for system, reader in assembly.readers.items() if system not in assembly.unreachable}
    apart = too_far_apart(measure(readers), assembly.settings.max_clock_skew_ms)
    fix = "set the clocks of the servers by NTP, or raise max_clock_skew"
    return [Problem(severity="warning", where="systems", what=apart, fix=fix)] if apart else []


def _duplicates(assembly: Assembly) -> list[Problem]:
    """Keys without a unique index that name several rows already."""
    found: list[Problem] = []
    open_keys = {(rule.target.name, frozenset(rule.key)): rule for rule in assembly.rules if not unique_key(rule)}
    if not open_keys:
        return found
    with progress() as shown:
        for rule in open_keys.values():
            where = f"rule {rule.name}"
            try:
                count = _count(shown, rule, assembly.readers[rule.target.name.system], assembly.settings.chunk_rows)
            except SynclineError as error:
                found.append(error_problem(error, where))
                continue
            if count:
                key = ", ".join(rule.key)
                many = "one key of more than one row" if count == 1 else f"{count} keys of more than one row"
                what = f"{rule.target.name} holds {many} ({key})"
                fix = f"merge or remove these rows, see: SELECT {key} FROM {rule.target.name.table} GROUP BY {key} HAVING count(*) > 1"
                found.append(Problem(severity="error", where=where, what=what, fix=fix))
    return found


def _count(shown: Progress, rule: CompiledRule, reader: Reader, limit: int) -> int:
    with shown.task(f"keys of {rule.target.name}") as task:
        return repeated_keys(rule.target, rule.key, reader, limit, task)


def repeated_keys(table: Table, key: tuple[str, ...], reader: Reader, limit: int, task: Task) -> int:
    """How many keys stand in more than one row. Rows with a null in the key do not count.

    Reads in the order of the primary key where there is one, so that no row is passed over; else in that of `key` itself, where rows equal
    to the last one of a chunk are not in the next, so that key is asked for by itself."""
    order = table.primary_key or key
    columns = list(dict.fromkeys([*key, *order]))
    hashes: list[Hashes] = []
    repeated: set[int] = set()
    after: tuple[str, ...] | None = None
    while True:
        chunk = reader.read_chunk(table, columns, order, after, limit)
        hashed = _hashes(table, key, chunk.rows)
        hashes.append(hashed)
        task.advance(chunk.rows.num_rows)
        if chunk.last is None:
            break
        if order == key and chunk.rows.num_rows:
            last = chunk.rows.select(list(key)).slice(chunk.rows.num_rows - 1, 1)
            if reader.fetch(table, list(key), key, last).num_rows > 1:
                repeated.add(int(_hashes(table, key, last)[0]))
        after = chunk.last
    values, counts = np.unique(np.concatenate(hashes), return_counts=True)
    return len(repeated | set(values[counts > 1].tolist()))


def _hashes(table: Table, key: tuple[str, ...], rows: pa.Table) -> Hashes:
    """One hash per row over its key columns; rows with a null in the key are left out."""
    whole = np.zeros(rows.num_rows, dtype=np.uint64)
    filled = np.ones(rows.num_rows, dtype=np.bool_)
    for column in key:
        values = rows.column(column)
        whole = whole * np.uint64(0x9E3779B97F4A7C15) + hash_column(table.column(column).type, values, 0)
        filled &= values.is_valid().to_numpy()
    return whole[filled]
