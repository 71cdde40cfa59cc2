"""From settings to a working set: adapters, readers, the live tables, the compiled rules, and everything that is wrong with them.

Asks the databases for their catalogue only. A system that cannot be reached is one problem; what does not need it is assembled anyway.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from adapters import registry
from engine.errors import ConfigError, SynclineError
from engine.mapping.linked import base_table, compile_linked
from engine.mapping.lookups import Lookup, read_lookup
from engine.mapping.row_checks import compile_checks
from engine.mapping.rule import CompiledRule
from engine.model.schema import Table, TableName
from engine.ports import Adapter, Problem, Reader, Watched
from engine.runtime.rule_checks import cascade_problems, pair_problems, rule_problems, set_problems
from engine.runtime.topology import track
from engine.settings import RuleSettings, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """adapters, readers: by system; `unreachable` systems have an entry as well. tables: every live table that a rule names.
    rules: those without an error, in the order of the file. beside: the tables named by rules that could not be compiled, as far as they are
    there; beside_targets: the written ones of them. Close it, or use it in `with`."""

    settings: Settings
    adapters: Mapping[str, Adapter]
    readers: Mapping[str, Reader]
    unreachable: Mapping[str, SynclineError]
    lookups: Mapping[str, Lookup]
    tables: Mapping[TableName, Table]
    rules: tuple[CompiledRule, ...]
    problems: tuple[Problem, ...]
    beside: tuple[Table, ...] = ()
    beside_targets: tuple[Table, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")

    def insist(self) -> None:
        """Raises when there is an error: the one that keeps us from a system as it came (Transient, Terminal), or a ConfigError of all."""
        for error in self.unreachable.values():
            raise error
        if self.errors:
            raise ConfigError([SynclineError(problem.what, where=problem.where, fix=problem.fix) for problem in self.errors])

    def watched(self, system: str) -> tuple[Watched, ...]:
        """The tables whose changes are followed in this system's log: all that rules read or write there. Nothing with `capture = false`."""
        if not self.settings.systems[system].capture:
            return ()
        tracked = track(self.settings, self.rules).values()
        rest = [table for table in self.beside if str(table.name) not in {t.name for t in tracked}]
        return tuple(t.watched for t in tracked if t.system == system) + tuple(
            Watched(table=table, columns=tuple(c.name for c in table.columns), identity=table.primary_key or table.log_key)
            for table in rest
            if table.name.system == system
        )

    def written(self, system: str) -> tuple[Table, ...]:
        """The tables of this system that rules write."""
        targets = {rule.target.name: rule.target for rule in self.rules} | {table.name: table for table in self.beside_targets}
        return tuple(table for name, table in targets.items() if name.system == system)

    def linked(self, system: str) -> tuple[Table, ...]:
        """The tables of this system whose keys the system makes for rules with a link."""
        return tuple(rule.target for rule in self.rules if rule.link and rule.target.name.system == system)

    def close(self) -> None:
        for reader in self.readers.values():
            reader.close()

    def __enter__(self) -> Assembly:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def assemble(settings: Settings, rules: Sequence[str] = ()) -> Assembly:
    """Never raises for what a user can mend: see `problems`. rules: only these, all when empty; ConfigError for an unknown name."""
    chosen = tuple(rule for rule in settings.rules if not rules or rule.name in rules)
    known = {rule.name for rule in chosen}
    unknown = [name for name in rules if name not in known]
    if unknown:
        names = ", ".join(rule.name for rule in settings.rules)
        fix = f"rules are: {names}"
        raise ConfigError([SynclineError(f"there is no rule {name}", where=settings.path.name, fix=fix) for name in unknown])
    return _Assembling(settings).all(chosen)


def error_problem(error: SynclineError, where: str) -> Problem:
    """An error as a finding; `where` unless the error knows better."""
    return Problem(severity="error", where=error.where or where, what=error.what, fix=error.fix)


@dataclass
class _Assembling:
    """One assembly in the making."""

    settings: Settings
    problems: list[Problem] = field(default_factory=list)
    adapters: dict[str, Adapter] = field(default_factory=dict)
    readers: dict[str, Reader] = field(default_factory=dict)
    unreachable: dict[str, SynclineError] = field(default_factory=dict)
    tables: dict[tuple[str, str, str], Table | SynclineError] = field(default_factory=dict)
    beside: dict[TableName, Table] = field(default_factory=dict)
    beside_targets: dict[TableName, Table] = field(default_factory=dict)

    def all(self, rules: Sequence[RuleSettings]) -> Assembly:
        try:
            return self._all(rules)
        except BaseException:
            for reader in self.readers.values():
                reader.close()
            raise

    def _all(self, rules: Sequence[RuleSettings]) -> Assembly:
        for name in self.settings.systems:
            self._system(name)
        lookups = self._lookups()
        compiled: list[CompiledRule] = []
        for rule in rules:
            ready = self._rule(rule, lookups)
            if ready is not None:
                compiled.append(ready)
            else:
                self._keep_beside(rule)
        self.problems += set_problems(compiled) + pair_problems(compiled, self.settings) + cascade_problems(compiled, self.settings)
        refused = {problem.where for problem in self.problems if problem.severity == "error"}
        return Assembly(
            settings=self.settings,
            adapters=self.adapters,
            readers=self.readers,
            unreachable=self.unreachable,
            lookups=lookups,
            tables={table.name: table for table in self.tables.values() if isinstance(table, Table)},
            rules=tuple(rule for rule in compiled if f"rule {rule.name}" not in refused),
            problems=tuple(dict.fromkeys(self.problems)),
            beside=tuple(self.beside.values()),
            beside_targets=tuple(self.beside_targets.values()),
        )

    def _system(self, name: str) -> None:
        system = self.settings.systems[name]
        options = {
            "batch_rows": self.settings.batch_rows, "batch_ms": self.settings.batch_ms, "transaction_rows": self.settings.transaction_rows,
            "spill": str(self.settings.state / "spill"), **system.options,
        }  # fmt: skip
        adapter = registry.connect(system.adapter, name, system.url.get_secret_value(), options)
        self.adapters[name] = adapter
        self.readers[name] = adapter.reader()
        try:
            self.readers[name].clock_us()
        except SynclineError as error:
            self.unreachable[name] = error
            self.problems.append(error_problem(error, f"system {name}"))

    def _lookups(self) -> dict[str, Lookup]:
        found: dict[str, Lookup] = {}
        for name, lookup in self.settings.lookups.items():
            try:
                found[name] = read_lookup(name, lookup.file)
            except SynclineError as error:
                self.problems.append(error_problem(error, f"lookup {name}"))
        return found

    def _rule(self, rule: RuleSettings, lookups: Mapping[str, Lookup]) -> CompiledRule | None:
        named = named_tables(rule.statement)
        away = {system for system, _, _ in (*named, rule.into)} & set(self.unreachable)
        if away:
            self._look_at(rule, [table for table in (*named, rule.into) if table[0] not in away])
            return None
        if any(problem.where == f"lookup {name}" for problem in self.problems for system, _, name in named if system == "lookups"):
            return None
        system, schema, table = rule.into
        into = TableName(system, schema, table)
        compiled, problems = compile_linked(
            name=rule.name, sql=rule.statement, into=into, key=rule.key, link=rule.link, match=rule.match, ends=self._ends(), table=self._table,
            lookups=lookups, adapters=self._adapter_names(),
        )  # fmt: skip
        self.problems += problems
        if compiled is None:
            return None
        checks, told = compile_checks(compiled, rule.checks)
        found = rule_problems(rule, compiled, self.settings) + told
        self.problems += found
        return None if any(problem.severity == "error" for problem in found) else replace(compiled, checks=checks)

    def _ends(self) -> dict[str, dict[str, Table]]:
        """Link -> system -> the table that it is about there, as far as these can be read."""
        found: dict[str, dict[str, Table]] = {}
        for rule in self.settings.rules:
            for named in (base_table(rule.statement), rule.into) if rule.link else ():
                if named is not None and named[0] in self.readers and named[0] not in self.unreachable:
                    with contextlib.suppress(SynclineError):
                        found.setdefault(rule.link, {})[named[0]] = self._table(*named)
        return found

    def _look_at(self, rule: RuleSettings, tables: Sequence[tuple[str, str, str]]) -> None:
        """What can be said of a rule while one of its systems is away: whether its tables on the others exist."""
        for table in tables:
            if table[0] not in self.readers:
                continue
            try:
                self._table(*table)
            except SynclineError as error:
                self.problems.append(error_problem(error, f"rule {rule.name}"))

    def _keep_beside(self, rule: RuleSettings) -> None:
        """The tables of a rule that is out of order, so that the check of their systems looks at them all the same."""
        for named in (*named_tables(rule.statement), rule.into):
            table = self.tables.get(named)
            if isinstance(table, Table):
                self.beside[table.name] = table
                if named == rule.into:
                    self.beside_targets[table.name] = table

    def _table(self, system: str, schema: str, table: str) -> Table:
        """The live table, asked for once. SynclineError when there is none."""
        at = (system, schema, table)
        if at not in self.tables:
            try:
                self.tables[at] = self.readers[system].table(schema, table)
            except SynclineError as error:
                self.tables[at] = error
        found = self.tables[at]
        if isinstance(found, SynclineError):
            raise found
        return found

    def _adapter_names(self) -> dict[str, str]:
        return {name: system.adapter for name, system in self.settings.systems.items()}


def named_tables(statement: str) -> list[tuple[str, str, str]]:
    """(system, schema or "", table) of every qualified table that a statement names; nothing when it cannot be parsed."""
    try:
        tree = sqlglot.parse_one(statement, dialect="duckdb")
    except (SqlglotError, RecursionError):
        return []
    found = []
    for table in tree.find_all(exp.Table):
        parts = [part.name for part in table.parts]
        if len(parts) in (2, 3):
            found.append((parts[0], parts[1] if len(parts) == 3 else "", parts[-1]))
    return list(dict.fromkeys(found))
