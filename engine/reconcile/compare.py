"""Compares both sides through the rules: every row of every rule gets exactly one class, every difference a second look.

Each table is read once, in chunks, through its `Reader`; the rules run in the engine's own evaluator; hashes are joined in DuckDB.
"""
from __future__ import annotations

import contextlib
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from engine.errors import ConfigError, SynclineError
from engine.mapping.lookups import Lookup
from engine.model.schema import TableName
from engine.ports import Reader
from engine.reconcile.aside import Aside, Deleted, Waiting, deleted_in, nothing_is_deleted, nothing_waits, waiting_in
from engine.reconcile.confirm import PAUSES, Confirmation
from engine.reconcile.judge import Subject, opposite, siblings
from engine.reconcile.keytext import split_key
from engine.reconcile.linked import STAND_IN, LinkedEvaluator, Links, links_in, no_links
from engine.reconcile.reading import Plan, fetching, plan_tables, read_all
from engine.reconcile.report import LISTED_ROWS, Report, RowFinding, RuleFinding
from engine.reconcile.workspace import DIFFERENT, Class, Workspace
from engine.settings import Settings

Progress = Callable[[str, int], None]
"""Called with the table's name and the rows read of it so far."""


def choose(subjects: Sequence[Subject], selected: Sequence[str]) -> tuple[Subject, ...]:
    """The rules to report and the rules without which those cannot be judged, in the given order. Everything when nothing is selected."""
    if not selected:
        return tuple(subjects)
    wanted = {i for i, s in enumerate(subjects) if s.rule.name in selected}
    needed = set(wanted)
    for i in wanted:
        needed.update(siblings(subjects, i))
        back = opposite(subjects, i)
        if back is not None:
            needed.add(back)
    return tuple(
        Subject(rule=s.rule, owners=s.owners, keeps=s.keeps, selected=i in wanted) for i, s in enumerate(subjects) if i in needed
    )


def compare(
    subjects: Sequence[Subject],
    readers: Mapping[str, Reader],
    lookups: Mapping[str, Lookup],
    *,
    chunk_rows: int = 10_000,
    waiting: Waiting = nothing_waits,
    deleted: Deleted = nothing_is_deleted,
    running: Callable[[], bool] = lambda: False,
    folder: Path | None = None,
    progress: Progress | None = None,
    pauses: Sequence[float] = PAUSES,
    links: Links = no_links,
) -> Report:
    """Compares the rules of `subjects`. readers: per system. waiting, deleted, running: what the state folder says of quarantine, held
    cells, tombstones and the daemon. folder: where a temporary folder for DuckDB is made. pauses: see `Confirmation`. links: crosswalks.

    A table that cannot be read leaves its rules out and makes the report incomplete. Raises that error when no rule could be compared.
    """
    started = time.monotonic()
    evaluator = LinkedEvaluator(lookups, links)
    seed = secrets.randbits(64)
    with _scratch(folder) as place:
        failed = _Failed()
        plans = plan_tables(subjects)
        space = Workspace(subjects, evaluator, seed, fetching(readers), place)
        try:
            for plan in plans:
                try:
                    _load(space, readers[plan.table.name.system], plan, chunk_rows, progress)
                except SynclineError as error:
                    failed.tables[plan.table.name] = error
            if failed.all_of(subjects):
                raise next(iter(failed.tables.values()))
            aside = Aside(subjects, readers, evaluator, waiting, deleted)
            space.classify(*aside(), aside.kept)
            second = Confirmation(space, evaluator, readers, plans, seed, aside, running, pauses, failed.numbers(subjects))
            resolved = second.run()
            return _report(space, plans, failed, resolved, time.monotonic() - started)
        finally:
            space.close()


class _Failed:
    """Tables that could not be read, and the rules that cannot be judged for it."""

    def __init__(self) -> None:
        self.tables: dict[TableName, SynclineError] = {}

    def of(self, subjects: Sequence[Subject], i: int) -> SynclineError | None:
        rules = [subjects[i].rule, *[subjects[s].rule for s in siblings(subjects, i)]]
        names = [name for rule in rules for name in (rule.source.name, rule.target.name)]
        return next((self.tables[name] for name in names if name in self.tables), None)

    def numbers(self, subjects: Sequence[Subject]) -> list[int]:
        return [i for i in range(len(subjects)) if self.of(subjects, i) is not None]

    def all_of(self, subjects: Sequence[Subject]) -> bool:
        return all(self.of(subjects, i) is not None for i, s in enumerate(subjects) if s.selected)


@contextlib.contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="reconcile-", dir=folder if folder and folder.is_dir() else None) as name:
        yield Path(name)


def _load(space: Workspace, reader: Reader, plan: Plan, chunk_rows: int, progress: Progress | None) -> None:
    done = 0
    for rows in read_all(reader, plan, chunk_rows):
        space.load(plan.table.name, plan.identity, rows)
        done += rows.num_rows
        if progress:
            progress(str(plan.table.name), done)


def _report(space: Workspace, plans: Sequence[Plan], failed: _Failed, resolved: int, seconds: float) -> Report:
    rules: dict[str, RuleFinding] = {}
    rows: list[RowFinding] = []
    problems = [f"{space.subjects[i].rule.name}: {failed.of(space.subjects, i)}" for i in failed.numbers(space.subjects) if space.subjects[i].selected]
    identities = {plan.table.name: plan.identity for plan in plans}
    for i, subject in enumerate(space.subjects):
        if not subject.selected or failed.of(space.subjects, i):
            continue
        listed = list(_rows(space, i, identities[subject.rule.source.name]))
        rules[subject.rule.name] = _counts(space, i, len(listed))
        rows += listed
    different = any(rule.classes.get(c.name.lower(), 0) for rule in rules.values() for c in DIFFERENT)
    return Report(
        verdict="incomplete" if problems else "different" if different else "equal",
        rules=rules,
        rows=tuple(rows),
        resolved=resolved,
        seconds=seconds,
        problems=tuple(dict.fromkeys(problems)),
    )


def _counts(space: Workspace, i: int, listed: int) -> RuleFinding:
    found = space.db.execute(f"SELECT class, count(*), sum(nsrc), sum(ntgt) FROM u{i} GROUP BY class ORDER BY class").fetchall()
    classes = {Class(code).name.lower(): int(units) for code, units, _, _ in found if code != Class.ELSEWHERE}
    elsewhere = sum(int(units) for code, units, _, _ in found if code == Class.ELSEWHERE)
    rows = sum(classes.values())
    return RuleFinding(
        rows=rows,
        classes=classes,
        source_rows=sum(int(n) for _, _, n, _ in found),
        target_rows=sum(int(n) for *_, n in found),
        elsewhere=elsewhere,
        unlisted=rows - classes.get("equal", 0) - listed,
    )


def _rows(space: Workspace, i: int, identity: tuple[str, ...]) -> Iterator[RowFinding]:
    """Units to list, the classes that make a difference first."""
    rule = space.subjects[i].rule
    found = space.db.execute(f"SELECT k, sid, tid, class, cols FROM u{i} WHERE class NOT IN ({Class.EQUAL:d}, {Class.ELSEWHERE:d}) "
                             f"ORDER BY class, k LIMIT {LISTED_ROWS}").fetchall()
    for k, sid, tid, code, columns in found:
        if k is not None and not (rule.link and k.startswith(STAND_IN)):
            key = dict(zip(rule.key, split_key(k, len(rule.key)), strict=True))
        elif sid is not None:
            key = {f"{rule.source.name}.{c}": text for c, text in zip(identity, split_key(sid, len(identity)), strict=True)}
        elif tid is not None:
            key = {"": tid}
        else:
            key = {f"{rule.source.name}.{c}": "NULL" for c in identity}
        yield RowFinding(rule=rule.name, key=key, class_=Class(code).name.lower(), columns=tuple(columns))


def is_running(settings: Settings) -> bool:
    """Whether a daemon works on this configuration now."""
    from engine.observe.status import read_status

    return read_status(settings)["state"] not in ("new", "stopped")


def reconcile(settings: Settings, rules: Sequence[str] = ()) -> Report:
    """`syncline reconcile`: compares the rules of a configuration, all of them when none is named.

    ConfigError for an unknown name or a rule that cannot be compiled; Transient or Terminal when a side cannot be read at all."""
    from engine.observe import progress as observe
    from engine.runtime.assembly import assemble

    unknown = [name for name in rules if all(rule.name != name for rule in settings.rules)]
    if unknown:
        fix = "rules are: " + ", ".join(rule.name for rule in settings.rules)
        raise ConfigError([SynclineError(f"there is no rule {name}", where=settings.path.name, fix=fix) for name in unknown])
    with assemble(settings) as assembly:
        compiled = {rule.name for rule in assembly.rules}
        if not rules or any(name not in compiled for name in rules):
            assembly.insist()
        subjects = [
            Subject(rule=rule, owners=settings.rule(rule.name).owners, keeps=settings.rule(rule.name).on_delete != "delete")
            for rule in assembly.rules
        ]
        with observe.progress() as shown, contextlib.ExitStack() as tasks:
            tracked: dict[str, tuple[observe.Task, int]] = {}

            def tell(table: str, done: int) -> None:
                task, before = tracked.get(table) or (tasks.enter_context(shown.task(f"reading {table}")), 0)
                task.advance(done - before)
                tracked[table] = (task, done)

            return compare(
                choose(subjects, rules), assembly.readers, assembly.lookups,
                chunk_rows=settings.chunk_rows, waiting=waiting_in(settings), deleted=deleted_in(settings), running=lambda: is_running(settings),
                folder=settings.state, progress=tell,
                links=links_in(settings),
            )
