"""What a rule's settings must agree on with its compiled form, and what rules must agree on among each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from engine.mapping.extent import apart
from engine.mapping.rule import CompiledRule
from engine.model.schema import ForeignKey, Table, TableName
from engine.model.types import Kind
from engine.ports import Problem
from engine.runtime.topology import hidden_keys, identity_of
from engine.settings import RuleSettings, SetCells, Settings
from engine.settings.file import suggestion

_ONE_TEXT = frozenset(Kind) - {Kind.TEXT, Kind.ENUM, Kind.SET, Kind.JSON, Kind.OPAQUE}
"""Kinds whose values have one text each, without upper and lower case."""
_ONE_CASE = re.compile(r"\b(lower|upper|lcase|ucase)\s*\(", re.IGNORECASE)
_MIRRORED = {"newest": "newest", "source": "target", "target": "source"}
_CLOCKS = (Kind.DATETIME, Kind.INSTANT)


def unique_key(rule: CompiledRule) -> bool:
    """Whether the target itself makes sure that the rule's key names one row."""
    return any(set(unique) <= set(rule.key) for unique in rule.target.unique)


def rule_problems(settings: RuleSettings, rule: CompiledRule, whole: Settings) -> list[Problem]:
    """One rule on its own. Where it is an error, the rule cannot run."""
    where = f"rule {rule.name}"
    source, target = rule.source.name.system, rule.target.name.system
    found: list[Problem] = []
    if source == target:
        found.append(_error(where, f"reads and writes the same system, {source}", "a rule leads from one system to another"))
    elif not whole.systems[source].capture:
        fix = f"take capture = false out of [systems.{source}], or take the rule out"
        found.append(_error(where, f"reads {source}, whose log is not read", fix))
    for joined in rule.joined:
        if not (joined.table.primary_key or len(joined.table.log_key) < len(joined.table.columns)):
            what = f"joins {joined.table.name}, which has no primary key: its rows cannot be told apart"
            found.append(_error(where, what, f"give {joined.table.name} a primary key"))
    if rule.joined and settings.clock:
        what = "names a clock, but reads several tables: the clock of one row says nothing of the others"
        found.append(_error(where, what, "take clock out; the commit time is used"))
    if rule.joined and any(output.xref for output in rule.plan.outputs):
        what = "a rule over several tables has no xref() yet"
        found.append(_error(where, what, "read one table, with what it looks up in lookups, or name a key that both systems have"))
    found += _policies(settings, rule, where, (source, target))
    found += _actions(settings, rule, where)
    found += _clock(settings, rule, where)
    found += _alike_keys(settings, rule, where)
    if not unique_key(rule):
        key = ", ".join(rule.key)
        what = f"{rule.target.name} has no unique index over the key ({key})"
        fix = "add one, so that no second row can take the same key"
        found.append(Problem(severity="warning", where=where, what=what, fix=fix))
    return found


def set_problems(rules: Sequence[CompiledRule]) -> list[Problem]:
    """Rules that write the same table: one key, and each column from one source. Tables whose rows go along when we delete their parent."""
    found: list[Problem] = list(_taken_along(rules))
    by_target: dict[TableName, list[CompiledRule]] = {}
    for rule in rules:
        by_target.setdefault(rule.target.name, []).append(rule)
    found += _links(rules)
    for target, writers in by_target.items():
        first = writers[0]
        for other in writers[1:]:
            if set(other.key) != set(first.key):
                what = f"addresses the rows of {target} by ({', '.join(other.key)}), the rule {first.name} by ({', '.join(first.key)})"
                found.append(_error(f"rule {other.name}", what, "give both rules the same key"))
        found += _written_twice(target, writers)
    return found


def _taken_along(rules: Sequence[CompiledRule]) -> Iterator[Problem]:
    """Where a rule over several tables reads it, a row whose key changes goes over as a delete and an insert, and what hangs on it in the target meets the
    delete."""
    together = {table.name for rule in rules if rule.joined for table in (rule.source, *(joined.table for joined in rule.joined))}
    written = {rule.target.name: rule.name for rule in rules if rule.source.name in together}
    tables = {table.name: table for rule in rules for table in (rule.source, rule.target)}
    for table in tables.values():
        for foreign in table.foreign_keys:
            if foreign.parent in written and foreign.on_delete.upper() not in ("NO ACTION", "RESTRICT"):
                what = (
                    f"{table.name} refers to {foreign.parent} with ON DELETE {foreign.on_delete.upper()}: where a key of the source changes, the row is "
                    "deleted and made again under the new key, and the database does that to the rows which refer to it"
                )
                fix = "make the foreign key ON DELETE RESTRICT, or never change these keys"
                yield Problem(severity="warning", where=f"rule {written[foreign.parent]}", what=what, fix=fix)


def _links(rules: Sequence[CompiledRule]) -> Iterator[Problem]:
    """A link leads between one table of each system, and a table with such a rule has no other writer: who creates a row knows its key alone."""
    ends: dict[tuple[str, str], TableName] = {}
    for rule in rules:
        if not rule.link:
            continue
        where = f"rule {rule.name}, link"
        for side in (rule.source.name, rule.target.name):
            other = ends.setdefault((rule.link, side.system), side)
            if other != side:
                yield _error(where, f"the link {rule.link} is about {other} already, not {side}", "give each pair of tables a link of its own")
        rivals = [other.name for other in rules if other.target.name == rule.target.name and other.name != rule.name]
        if rivals:
            what = f"{rule.target.name} makes the key for this rule, but the rule {rivals[0]} writes the table as well"
            yield _error(where, what, "write the table by one rule, or give it a column for the other side's key")
        named = [back for back in rules if back.target.name == rule.source.name]
        if any(back.link != rule.link for back in named):
            what = f"the rule {next(back.name for back in named if back.link != rule.link)}, which writes {rule.source.name}, does not have this link"
            yield _error(where, what, f'give it link = "{rule.link}" in place of its key')
        if not named and rule.source.primary_key == ():
            yield _error(where, f"{rule.source.name} has no primary key by which its records can be linked", "add one")


def cascade_problems(rules: Sequence[CompiledRule], whole: Settings) -> list[Problem]:
    """Foreign keys by which a server changes rows without a word in its log, where the parent's log does not tell enough to follow them."""
    tables = {side.name: side for rule in rules for side in (rule.source, rule.target)}
    found: list[Problem] = []
    for table in tables.values():
        for foreign in hidden_keys(table, whole, rules):
            why = _not_followed(foreign, tables, rules)
            if why:
                action = f"ON DELETE {foreign.on_delete} ON UPDATE {foreign.on_update}"
                columns = ", ".join(foreign.columns)
                what = f"what the server does to rows of {table.name} by {action} of the foreign key on {columns} is not in its log, and {why}"
                fix = 'let the application change these rows itself and make the key RESTRICT, or write cascades = "ignore" to leave it to reconcile'
                read = [rule for rule in rules if rule.source.name == table.name]
                concerned = read or [rule for rule in rules if rule.target.name == table.name]
                found += [Problem(severity="error" if read else "warning", where=f"rule {rule.name}", what=what, fix=fix) for rule in concerned]
    return found


def _not_followed(foreign: ForeignKey, tables: Mapping[TableName, Table], rules: Sequence[CompiledRule]) -> str:
    """Why the effects of this foreign key cannot be followed; empty when they can."""
    parent = tables.get(foreign.parent)
    if parent is None:
        return f"no rule reads or writes its parent {foreign.parent.table}"
    if foreign.on_update.upper() not in {"RESTRICT", "NO ACTION"} and not set(foreign.parent_columns) <= set(parent.primary_key):
        return f"changes of ({', '.join(foreign.parent_columns)}) in {parent.name.table}, which are not its primary key, do not show the old value"
    identity = identity_of(parent, [r for r in rules if r.source.name == parent.name], [r for r in rules if r.target.name == parent.name])
    if any(above.hidden for above in parent.foreign_keys) and not set(foreign.parent_columns) <= set(identity):
        return f"{parent.name.table} is a child itself, whose lost rows are known by ({', '.join(identity)}) only"
    return ""


def pair_problems(rules: Sequence[CompiledRule], whole: Settings) -> list[Problem]:
    """Two rules that lead opposite ways between the same tables decide a pair of columns alike, or both systems would write to each other."""
    found: list[Problem] = []
    for rule in rules:
        way_back = any(rule.source.name == back.target.name and rule.target.name == back.source.name for back in rules)
        if whole.rule(rule.name).insert_insert != "newest" and not way_back:
            fix = 'take insert_insert out; conflict = "source_wins" or "target_wins" decides over all cells of a rule without a way back'
            found.append(_error(f"rule {rule.name}, insert_insert", "needs a rule for the way back", fix))
    for i, rule in enumerate(rules):
        for back in rules[:i]:
            if rule.source.name == back.target.name and rule.target.name == back.source.name:
                found += _decided_apart(rule, back, whole)
    return found


def _decided_apart(rule: CompiledRule, back: CompiledRule, whole: Settings) -> Iterator[Problem]:
    ours, theirs = whole.rule(rule.name), whole.rule(back.name)
    for column in rule.columns:
        sources = rule.lineage[column]
        if column in rule.key or len(sources) != 1 or sources[0] not in back.columns or back.lineage[sources[0]] != (column,):
            continue
        here, there = _policy(ours, rule, column), _policy(theirs, back, sources[0])
        if here != there:
            what = f"{column} is decided by {here} here, {sources[0]} by {there} in the rule {back.name}, its way back"
            fix = "give both rules the same policy or owner for the two columns"
            yield Problem(severity="warning", where=f"rule {rule.name}, column {column}", what=what, fix=fix)
    if ours.update_delete != theirs.update_delete:
        what = f'is "{ours.update_delete}" here and "{theirs.update_delete}" in the rule {back.name}, its way back: each side would undo the other'
        yield _error(f"rule {rule.name}, update_delete", what, "give both rules the same")
    if theirs.insert_insert != _MIRRORED[ours.insert_insert]:
        what = f'is "{ours.insert_insert}" here and "{theirs.insert_insert}" in the rule {back.name}, its way back, so that no side wins'
        yield _error(f"rule {rule.name}, insert_insert", what, f'write "{_MIRRORED[ours.insert_insert]}" in the rule {back.name}')
    if ours.baseline == theirs.baseline and ours.baseline in {"source", "target"}:
        what = f'baseline = "{ours.baseline}" stands in the rule {back.name}, its way back, too: each side would be overwritten by the other'
        yield _error(f"rule {rule.name}, baseline", what, 'write "source" in one of the two rules and "target" in the other')


def _policy(settings: RuleSettings, rule: CompiledRule, column: str) -> str:
    """The policy of a column, said so that both directions say the same: who owns it, where one side always wins."""
    if column in settings.owners:
        return f"owner:{settings.owners[column]}"
    policy = settings.policies.get(column, settings.conflict)
    sides = {"source_wins": rule.source.name.system, "target_wins": rule.target.name.system}
    return f"owner:{sides[policy]}" if policy in sides else policy


def _written_twice(target: TableName, writers: Sequence[CompiledRule]) -> Iterator[Problem]:
    for i, rule in enumerate(writers):
        for earlier in writers[:i]:
            both = [column for column in rule.columns if column in earlier.columns and column not in rule.key]
            one_table = rule.source.name == earlier.source.name
            if not both or set(rule.key) != set(earlier.key) or apart(rule.extent, earlier.extent, rule.key, one_table=one_table):
                continue
            where = f"rule {rule.name}"
            fix = "let one rule write a column, or let no row fulfil the WHERE of both, as with kind = 'a' and kind = 'b'"
            if not one_table:
                what = f"writes {_columns(both)} of {target} from {rule.source.name}, the rule {earlier.name} from {earlier.source.name}"
                yield _error(where, what, fix)
            elif not (_filters(rule) and _filters(earlier)):
                what = f"writes {_columns(both)} of {target} for rows of {rule.source.name} for which the rule {earlier.name} writes them as well"
                yield _error(where, what, fix)
            else:
                what = f"writes {_columns(both)} of {target} as the rule {earlier.name} does: a row that fulfils the WHERE of both would be written by both"
                yield Problem(severity="warning", where=where, what=what, fix="make sure that no row does")


def _filters(rule: CompiledRule) -> bool:
    return bool(rule.filter_reads or rule.filter_origins)


def _policies(settings: RuleSettings, rule: CompiledRule, where: str, sides: tuple[str, str]) -> Iterator[Problem]:
    named = {column: ("owners", f"owner:{system}") for column, system in settings.owners.items()}
    named |= {column: ("policies", policy) for column, policy in settings.policies.items()}
    for column, (table, policy) in named.items():
        place = f"{where}, {table}.{column}"
        if column not in rule.columns:
            yield _error(place, f"the rule does not write the column {column}", suggestion(column, rule.columns, "it writes"))
        elif column in rule.key:
            yield _error(place, f"{column} is part of the key, which no policy decides", f"take it out of {table}")
        yield from _side(place, policy, sides)
    yield from _side(f"{where}, conflict", settings.conflict, sides)


def _side(place: str, policy: str, sides: tuple[str, str]) -> Iterator[Problem]:
    kind, _, system = policy.partition(":")
    if kind == "owner" and system not in sides:
        yield _error(place, f"the owner {system} is on neither side of the rule", f"name {sides[0]} or {sides[1]}")


def _actions(settings: RuleSettings, rule: CompiledRule, where: str) -> Iterator[Problem]:
    for name, action in (("on_delete", settings.on_delete), ("on_exit", settings.on_exit)):
        for column in action.set if isinstance(action, SetCells) else ():
            place = f"{where}, {name}.set.{column}"
            if not rule.target.has(column):
                known = [c.name for c in rule.target.columns]
                yield _error(place, f"{rule.target.name} has no column {column}", suggestion(column, known, "it has"))
            elif column in rule.key:
                yield _error(place, f"{column} is part of the key", "set another column")
            elif rule.target.column(column).generated:
                yield _error(place, f"the database computes {column} by itself", "set another column")


def _clock(settings: RuleSettings, rule: CompiledRule, where: str) -> Iterator[Problem]:
    if settings.clock is None:
        return
    place = f"{where}, clock"
    if not rule.source.has(settings.clock):
        known = [c.name for c in rule.source.columns]
        yield _error(place, f"{rule.source.name} has no column {settings.clock}", suggestion(settings.clock, known, "it has"))
    elif rule.source.column(settings.clock).type.kind not in _CLOCKS:
        kind = rule.source.column(settings.clock).type.name
        fix = "name a timestamp column, or leave clock out to use the commit time"
        yield _error(place, f"{settings.clock} is {kind}, no date with time", fix)


def _alike_keys(settings: RuleSettings, rule: CompiledRule, where: str) -> Iterator[Problem]:
    """Key columns whose database takes different texts for equal, where the source can give such texts."""
    if _ONE_CASE.search(settings.statement):
        return
    for name in rule.key:
        alike = rule.target.column(name).alike
        texts = [c for c in rule.lineage[name] if rule.source.column(c).type.kind not in _ONE_TEXT]
        if alike and texts:
            what = f"{rule.target.name} takes keys for equal that differ in {alike} only; of such rows of {rule.source.name} all but one are set aside"
            fix = "write the keys alike in the rule, with lower(trim(...)) for example, or give the column a collation that tells them apart"
            yield Problem(severity="warning", where=f"{where}, key {name}", what=what, fix=fix)


def _columns(names: Iterable[str]) -> str:
    listed = list(names)
    return f"the column {listed[0]}" if len(listed) == 1 else f"the columns {', '.join(listed)}"


def _error(where: str, what: str, fix: str) -> Problem:
    return Problem(severity="error", where=where, what=what, fix=fix)
