"""Which cells a rule answers for, and what excuses a cell that looks different.

Two rules that lead opposite ways between the same two tables are the directions of one link. An owned column is judged by its owner's
direction alone. Elsewhere a map may lose something on the way (many codes to one), so a cell of one direction is excused where the other
direction agrees about the columns it came from. Pure; the workspace turns the answer into SQL.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.mapping.rule import CompiledRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A rule and what of its settings decides how it is compared. owners: target column -> system. keeps: rows whose source is gone stay
    (`on_delete` is not "delete"). selected: to be reported; the others are read because a selected one cannot be judged without them."""

    rule: CompiledRule
    owners: Mapping[str, str] = field(default_factory=dict)
    keeps: bool = False
    selected: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A target column to compare. excuses: columns of the opposite rule that stand for the same cells; when all of them agree, so does this
    one. owned: the source system owns the column; nothing excuses it then."""

    column: str
    excuses: tuple[str, ...] = ()
    owned: bool = False


def opposite(subjects: Sequence[Subject], index: int) -> int | None:
    """The other direction of the link that subject `index` belongs to; None for a one-way rule."""
    rule = subjects[index].rule
    for number, other in enumerate(subjects):
        if other.rule.source.name == rule.target.name and other.rule.target.name == rule.source.name:
            return number
    return None


def siblings(subjects: Sequence[Subject], index: int) -> tuple[int, ...]:
    """Other rules that write the same table by the same key: a target row may be theirs."""
    rule = subjects[index].rule
    return tuple(
        number
        for number, other in enumerate(subjects)
        if number != index and other.rule.target.name == rule.target.name and other.rule.key == rule.key
    )


def judged(subject: Subject, other: Subject | None) -> tuple[Judged, ...]:
    """The columns of `subject` to compare, in the rule's order; key columns agree by being joined on. `other`: the opposite direction."""
    rule = subject.rule
    result = []
    for column in rule.columns:
        if column in rule.key:
            continue
        twins = _twins(rule, column, other.rule) if other else ()
        owner = subject.owners.get(column) or next((other.owners[t] for t in twins if other and t in other.owners), None)
        if owner is None:
            excuses = tuple(t for t in twins if other and t not in other.rule.key)
            result.append(Judged(column=column, excuses=excuses))
        elif owner == rule.source.name.system:
            result.append(Judged(column=column, owned=True))
    return tuple(result)


def _twins(rule: CompiledRule, column: str, other: CompiledRule) -> tuple[str, ...]:
    """Columns of the opposite rule that derive from `column` and that `column` derives from."""
    comes_from = rule.lineage.get(column, ())
    return tuple(c for c in other.columns if c in comes_from and column in other.lineage.get(c, ()))
