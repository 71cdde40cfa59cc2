"""What the parts of a rule with joins derive from: columns of its tables, with the conditions and the paths by which their rows are found."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlglot import exp

from engine.mapping.join_path import Step
from engine.mapping.joined_scope import JoinedScope
from engine.mapping.scope import is_variable

Columns = set[tuple[int, str]]
"""(place, column of its table)."""


class Origins:
    """`find` follows names into subqueries and each table that is met to the base."""

    def __init__(self, scope: JoinedScope, steps: Iterable[Step], group: Sequence[exp.Expr]) -> None:
        """group: the expressions after GROUP BY."""
        self._scope = scope
        self._group = group
        self._steps: Mapping[int, Step] = {step.place: step for step in steps}

    def of_output(self, node: exp.Expr, *, aggregates: bool) -> Columns:
        """aggregates: the expression sums up rows; then which rows there are counts too."""
        return self.find([node, *(self._membership() if aggregates else ())], every=aggregates)

    def of_filter(self, *, aggregates: bool) -> Columns:
        """What decides whether a base row belongs to the rule: WHERE, HAVING, inner joins. aggregates: HAVING sums up rows."""
        select = self._scope.select
        nodes = [select.args[clause] for clause in ("where", "having") if select.args.get(clause)]
        inner = [place.number for place in self._scope.of(select) if place.inner_join]
        return self.find([*nodes, *(self._membership() if aggregates else ())], inner, every=aggregates)

    def _membership(self) -> list[exp.Expr]:
        where = self._scope.select.args.get("where")
        return [*self._group, *([where] if where else ())]

    def find(self, nodes: Iterable[exp.Expr], places: Iterable[int] = (), *, every: bool = False) -> Columns:
        """Of these parts of the tree and these places. every: of all tables after FROM."""
        found: Columns = set()
        to_read = list(nodes)
        to_visit = [*places, *([place.number for place in self._scope.of(self._scope.select)] if every else [])]
        visited: set[int] = {0}
        while to_read or to_visit:
            if to_visit:
                number = to_visit.pop()
                if number not in visited:
                    visited.add(number)
                    place = self._scope.places[number]
                    to_read += [part for part in (place.on, place.inner) if part is not None]
                    step = self._steps.get(number)
                    if step is not None:
                        found |= {(number, name) for name in step.here} | {(step.via, name) for name in step.there}
                        to_visit.append(step.via)
                continue
            node = to_read.pop()
            for column in node.find_all(exp.Column):
                if is_variable(column) or isinstance(column.this, exp.Star):
                    continue
                reference = self._scope.find(column)
                if reference is not None:
                    to_visit.append(reference.place)
                    if reference.column is not None:
                        found.add((reference.place, reference.column.name))
            for select in node.find_all(exp.Select):
                to_visit += [place.number for place in self._scope.of(select)]
        return found
