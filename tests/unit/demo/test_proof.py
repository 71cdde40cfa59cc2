"""Which differences the demo accepts: those of records that are set aside, and no others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.demo.proof import judge

QUARANTINE = [{"id": 1, "rule": "accounts_to_customers", "key": {"account_ref": "a-1"}, "reason": "too long", "since": "", "attempts": 1}]


def document(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"verdict": "different" if rows else "equal", "rules": {}, "rows": list(rows)}


def row(rule: str, key: Any) -> dict[str, Any]:
    return {"rule": rule, "key": key, "class": "missing", "columns": []}


def test_equal_is_good() -> None:
    result = judge(0, document(), [])
    assert result.equal and result.good


@pytest.mark.parametrize("key", [{"id": "a-1"}, ["a-1"], "a-1", json.dumps({"id": "a-1"})], ids=["table", "list", "text", "json"])
def test_a_record_that_is_set_aside_explains_its_difference_in_both_directions(key: Any) -> None:
    result = judge(1, document(row("accounts_to_customers", key), row("customers_to_accounts", key)), QUARANTINE)
    assert result.good and not result.equal


def test_any_other_difference_is_named() -> None:
    result = judge(1, document(row("accounts_to_customers", {"account_ref": "a-2"})), QUARANTINE)
    assert not result.good and "a-2" in result.unexplained[0]


def test_an_incomplete_comparison_is_not_good() -> None:
    assert not judge(3, document(), []).good


def test_differences_without_rows_are_not_good() -> None:
    assert not judge(1, document(), QUARANTINE).good
