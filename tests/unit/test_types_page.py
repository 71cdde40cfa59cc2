"""`docs/types.md` lists what the type round trip tests: `python tests/type_cases.py` prints its tables."""
from __future__ import annotations

from pathlib import Path

import pytest

from engine.model.types import Kind
from tests.type_cases import ROUTES, pairs

PAGE = (Path(__file__).parents[2] / "docs" / "types.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("route", ROUTES)
def test_the_page_has_the_table(route: str) -> None:
    assert f"### {route}\n\n{pairs(ROUTES[route])}\n" in PAGE


def test_the_page_explains_every_kind() -> None:
    assert [kind for kind in Kind if f"| {kind.name} |" not in PAGE] == []
