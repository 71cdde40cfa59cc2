"""What is measured of clocks, and from when on it is told."""
from __future__ import annotations

from typing import Any

import pytest

from engine.observe.clocks import too_far_apart
from engine.runtime.clocks import skew_ms
from engine.settings.file import milliseconds


def test_half_of_the_quickest_way_there_and_back_is_taken_off() -> None:
    class Reader:
        def clock_us(self) -> int:
            return next(there)

    ours, there = iter([0, 90_000, 100_000, 104_000, 200_000, 280_000]), iter([5_000_000, 1_102_000, 7_000_000])
    reader: Any = Reader()
    assert skew_ms(reader, lambda: next(ours)) == 1_000


def test_only_what_is_past_the_bound_is_told() -> None:
    assert too_far_apart({"a": -3_000, "b": 2_000}, 5_000) == ""
    assert too_far_apart({"a": 90_000}, 5_000) == ""
    assert "b is 5.1 s ahead of that of a" in too_far_apart({"a": -3_000, "b": 2_100, "c": 0}, 5_000)


@pytest.mark.parametrize(("text", "found"), [("500ms", 500), ("5s", 5_000), ("2 m", 120_000), ("1h", 3_600_000), ("5", None), ("-5s", None), ("5 days", None)])
def test_lengths_of_time(text: str, found: int | None) -> None:
    assert milliseconds(text) == found
