"""What reconcile found, for programs (JSON of the contract) and for people (a small table)."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["equal", "different", "incomplete"]
LISTED_ROWS = 1000
_SHOWN_ROWS = 20
_EXIT = {"equal": 0, "different": 1, "incomplete": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFinding:
    """A row that is not equal. key: target column -> text; where the rule gives the row no key, source columns written
    `system.schema.table.column`. class_: value_drift, missing, extra, duplicate (these make it different), quarantined, conflict_pending,
    unrepresentable, filtered, kept. columns: target columns that differ, or that cannot hold the value."""

    rule: str
    key: Mapping[str, str]
    class_: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFinding:
    """rows: units compared, the sum of `classes`, where a unit is a pair of rows, a row alone, or a key with several rows. source_rows,
    target_rows: rows in these units; they add up to what was read. elsewhere: target rows counted with another rule."""

    rows: int
    classes: Mapping[str, int]
    source_rows: int
    target_rows: int
    elsewhere: int = 0
    unlisted: int = 0

    @property
    def equal(self) -> int:
        return self.classes.get("equal", 0)

    @property
    def differences(self) -> dict[str, int]:
        """Every class but `equal` that has rows."""
        return {name: count for name, count in self.classes.items() if name != "equal" and count}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """resolved: rows that looked different at first and did not on a second look (changes on their way). problems: why rules are not in
    `rules`."""

    verdict: Verdict
    rules: Mapping[str, RuleFinding]
    rows: tuple[RowFinding, ...] = ()
    resolved: int = 0
    seconds: float = 0.0
    problems: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        return _EXIT[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """The document of `reconcile --json`. `rows` lists at most 1,000 per rule, real differences first; `unlisted` says how many more
        there are."""
        return {
            "verdict": self.verdict,
            "rules": {
                name: {
                    "rows": rule.rows, "equal": rule.equal, "differences": rule.differences,
                    "source_rows": rule.source_rows, "target_rows": rule.target_rows,
                    "counted_elsewhere": rule.elsewhere, "unlisted": rule.unlisted,
                }
                for name, rule in self.rules.items()
            },
            "rows": [{"rule": row.rule, "key": dict(row.key), "class": row.class_, "columns": list(row.columns)} for row in self.rows],
            "resolved": self.resolved,
            "seconds": round(self.seconds, 3),
            "problems": list(self.problems),
        }

    def lines(self) -> list[str]:
        """For a person: a table of the rules, the first 20 rows that are not equal, the verdict."""
        lines = [*self._table(), ""]
        for row in self.rows[:_SHOWN_ROWS]:
            key = ", ".join(f"{column}={text}" for column, text in row.key.items())
            columns = f" ({', '.join(row.columns)})" if row.columns else ""
            lines.append(f"{row.rule}: {key}: {_words(row.class_)}{columns}")
        more = len(self.rows) - _SHOWN_ROWS + sum(rule.unlisted for rule in self.rules.values())
        if more > 0:
            lines.append(f"and {more:,} more")
        if self.rows:
            lines.append("")
        lines += [f"not compared: {problem}" for problem in self.problems]
        if self.resolved:
            lines.append(f"{self.resolved:,} rows differed at first because a change was on its way; on a second look they agree")
        lines.append(f"verdict: {self.verdict} ({self.seconds:.1f} s)")
        return lines

    def _table(self) -> list[str]:
        classes = sorted({name for rule in self.rules.values() for name in rule.differences})
        head = ["rule", "source rows", "target rows", "compared", "equal", *[_words(c) for c in classes]]
        body = [
            [name, f"{rule.source_rows:,}", f"{rule.target_rows:,}", f"{rule.rows:,}", f"{rule.equal:,}",
             *[f"{rule.classes.get(c, 0):,}" for c in classes]]
            for name, rule in self.rules.items()
        ]
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
        table = []
        for line in [head, *body]:
            cells = zip(line, widths, strict=True)
            table.append("  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(cells)).rstrip())
        counted = [(name, rule.elsewhere) for name, rule in self.rules.items() if rule.elsewhere]
        return table + [f"{name}: {count:,} target rows are counted with another rule" for name, count in counted]


def _words(name: str) -> str:
    return name.replace("_", " ")
