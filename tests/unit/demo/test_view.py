"""Numbers of the live view."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from engine.demo import view
from engine.demo.view import Direction, Moment, Rate, View, milliseconds


def test_a_rate_is_that_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(float(second) for second in range(10))
    monkeypatch.setattr(view.time, "monotonic", lambda: next(clock))
    rate = Rate()
    rates = [rate(total) for total in (0, 100, 200, 300, 400, 400, 400, 400, 400)]
    assert rates[4] == 100 and rates[8] == 0


def test_times_are_median_and_99th_percentile() -> None:
    assert milliseconds([0.001] * 98 + [0.5, 0.5]) == "1 / 500 ms"
    assert milliseconds([]) == "–"


def test_without_a_terminal_a_plain_line_holds_all_numbers() -> None:
    out = io.StringIO()
    moment = Moment(
        phase="people are working",
        done=0.5,
        directions=(Direction(label="CRM → ERP", changed=7, carried=5, seconds=(0.02,), lag=0.1),),
        conflicts=3,
        quarantined=1,
        memory_mb=None,
    )
    with View(Console(file=out, force_terminal=False)) as shown:
        shown.show(moment)
    assert "people are working" in out.getvalue() and "CRM → ERP" in out.getvalue() and "20 / 20 ms" in out.getvalue()
    assert "conflicts 3, set aside 1" in out.getvalue() and "\x1b" not in out.getvalue()
