"""Progress without a terminal: a line at the end, a line now and then in between; bars with one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from engine.observe import log, progress


@pytest.fixture(autouse=True)
def _json_log() -> Iterator[None]:
    log.configure(as_json=True)
    yield
    structlog.reset_defaults()


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [{k: v for k, v in json.loads(line).items() if k not in {"timestamp", "level"}} for line in err.splitlines()]


def test_short_work_says_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress() as shown, shown.task("first read of customers", total=100) as task:
        task.advance(40)
        task.advance(60)
    assert events(capsys) == [{"event": "first read of customers", "state": "done", "rows": 100}]


def test_long_work_says_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    with progress.progress() as shown, shown.task("compare", unit="keys") as task:
        task.total(200)
        task.advance(50)
    assert events(capsys) == [
        {"event": "compare", "state": "under way", "keys": 50, "percent": 25},
        {"event": "compare", "state": "done", "keys": 50},
    ]


def test_broken_work_is_not_called_done(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with progress.progress() as shown, shown.task("read") as task:
            task.advance(1)
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        work()
    assert events(capsys) == [{"event": "read", "state": "stopped", "rows": 1}]


def test_bars_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with progress.progress() as shown, shown.task("first read", total=10) as task:
        task.advance(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert "first read" in err
    assert "10/10" in err
