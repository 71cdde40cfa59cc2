"""`docs/guarantees.md` names tests that exist, for each of the cases."""
from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| (\d+) \|(.*)\|$", (ROOT / "docs" / "guarantees.md").read_text("utf-8"), re.MULTILINE)


def test_every_case_has_a_row_of_its_own() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, 63))


def test_every_test_that_is_named_exists() -> None:
    for number, row in ROWS:
        shown = row.rsplit("|", 1)[1]
        named = re.findall(r"`([a-z_0-9/]+\.py)(?:::(test_\w+))?`", shown)
        assert named or "**open**" in shown, number
        for file, test in named:
            text = (ROOT / "tests" / file).read_text("utf-8")
            assert not test or f"def {test}(" in text, (number, file, test)
