"""The files of mistakes: blocks of SQL under a title, with what the compiler has to say about each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "fixtures" / "rules"


def cases(file: str) -> list[Any]:
    """(headers, sql) per case of the file; headers are (name, text)."""
    found = []
    for block in (FOLDER / file).read_text("utf-8").split("\n-- # ")[1:]:
        title, *lines = block.splitlines()
        headers = [line.removeprefix("-- ").partition(":")[::2] for line in lines if line.startswith("-- ")]
        sql = "\n".join(line for line in lines if not line.startswith("-- "))
        found.append(pytest.param([(name, value.strip()) for name, value in headers], sql, id=title))
    return found
