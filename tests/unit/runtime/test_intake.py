"""Where a batch is cut, and what a clock column says."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.runtime.intake import clock_us, cuts


def cut(events: str) -> list[int]:
    """events: one word per transaction, its letters are the keys it touches; words in capitals are transactions of ours."""
    words = events.split()
    batch: Any = SimpleNamespace(
        transactions=SimpleNamespace(commit_us=np.zeros(len(words)), origin=np.array([0 if word.isupper() else -1 for word in words], dtype=np.int32))
    )
    named = [(letter.lower().encode(), txn) for txn, word in enumerate(words) for letter in word if letter.isalpha()]
    part: Any = SimpleNamespace(keys=[key for key, _ in named], txn=np.array([txn for _, txn in named], dtype=np.int64))
    return cuts(batch, [part])


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("a b a", [3]),
        ("a A", [1, 2]),
        ("A a", [2]),
        ("a B A b B", [2, 4, 5]),
        ("A A", [1, 2]),
        ("ab AB c", [1, 3]),
        ("a A a A", [1, 3, 4]),
        ("a b C", [3]),
        ("a B A", [2, 3]),
        ("AA", [1]),
    ],
)
def test_a_batch_is_cut_before_a_write_of_ours_over_a_row_that_came_before(events: str, expected: list[int]) -> None:
    assert cut(events) == expected


def test_a_clock_column_is_read_as_utc_and_what_is_no_time_leaves_the_commit_time() -> None:
    values = ["1970-01-01 00:00:01", "1970-01-01 00:00:01.5+00", "1970-01-01 00:00:00.000001", None, "infinity", "0000-00-00 00:00:00", "2026-02-30 00:00:00",
              "0044-03-15 00:00:00 BC", "12026-01-01 00:00:00"]  # fmt: skip
    otherwise = np.arange(100, 100 + len(values))
    expected = [1_000_000, 1_500_000, 1, 103, 104, 105, 106, 107, 108]
    assert clock_us(pa.chunked_array([values]), otherwise).tolist() == expected
    good = pa.chunked_array([pa.array(values[:2]), pa.array(values[2:4])])
    assert clock_us(good, otherwise[:4]).tolist() == expected[:4]
