"""The SQL texts of the adapters: named statements of `sql/<database>/*.sql`, in the source tree or in an installed wheel."""

from __future__ import annotations

import functools
import re
from importlib import resources
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def statement(database: str, name: str) -> str:
    """The text of one statement, without comments. KeyError when there is none of that name."""
    return _all(database)[name]


@functools.cache
def _all(database: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in _texts(database):
        pieces = _NAME.split(text)
        for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
            lines = (line for line in body.splitlines() if line.strip() and not line.startswith("--"))
            found[name] = "\n".join(lines).rstrip(";")
    return found


def _texts(database: str) -> list[str]:
    tree = Path(__file__).parents[1] / "sql" / database
    if tree.is_dir():
        return [file.read_text(encoding="utf-8") for file in sorted(tree.glob("*.sql"))]
    packed = resources.files("engine") / "_data" / "sql" / database
    return [file.read_text(encoding="utf-8") for file in packed.iterdir() if file.name.endswith(".sql")]
