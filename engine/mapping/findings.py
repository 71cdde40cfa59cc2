"""Collects what is wrong with one rule, worded for the person who wrote it."""
from __future__ import annotations

import difflib
from collections.abc import Iterable

from engine.ports import Problem


class Findings:
    """The problems of one rule. A problem that would be said twice is said once."""

    def __init__(self, rule: str) -> None:
        self._rule = rule
        self.problems: list[Problem] = []

    @property
    def failed(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

    def error(self, what: str, fix: str, *, column: str = "") -> None:
        self._add(Problem(severity="error", where=self._where(column), what=what, fix=fix))

    def warning(self, what: str, fix: str, *, column: str = "") -> None:
        self._add(Problem(severity="warning", where=self._where(column), what=what, fix=fix))

    def _where(self, column: str) -> str:
        return f"rule {self._rule}, column {column}" if column else f"rule {self._rule}"

    def _add(self, problem: Problem) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def nearest(name: str, among: Iterable[str]) -> str:
    """A hint: the nearest of the names there are, else all of them when they are few."""
    names = list(among)
    folded = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if near:
        return f"did you mean {folded[near[0]]}?"
    return f"there are: {', '.join(names)}" if 0 < len(names) <= 30 else "compare the names with the table"
