"""When two JSON documents are the same value."""
from __future__ import annotations

import pytest

from engine.model.hashing import canonical_json


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ('{"a": 1, "b": [true, null]}', '{"b":[true,null],"a":1}'),
        ("[1.50, 1e2, -0.0]", "[1.5, 100, 0]"),
        ("1e500", "1" + "0" * 500),
        (r'"\u00e9 \ud83c\udf89"', '"é 🎉"'),
        (r'["\ud800", "é"]', r'["\ud800","\u00e9"]'),
    ],
)
def test_documents_that_are_the_same(left: str, right: str) -> None:
    assert canonical_json(left) == canonical_json(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("0.12345678901234567890123456789012345", "0.12345678901234567890123456789012346"),
        ("1e500", "1e501"),
        ("1e99999999999999999999", "2e99999999999999999999"),
        ("12345678901234567890123", "12345678901234567890124"),
        (r'"\ud800"', r'"\ud801"'),
        ('"1"', "1"),
        ("{", "[1"),
    ],
)
def test_documents_that_differ(left: str, right: str) -> None:
    assert canonical_json(left) != canonical_json(right)
