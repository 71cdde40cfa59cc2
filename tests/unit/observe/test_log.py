"""The log: JSON lines for machines, short lines for people, no secrets and no text of foreign errors."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from engine.errors import Terminal
from engine.observe import log


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_json_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    structlog.get_logger().info("batch applied", rule="customers", rows=3)
    (line,) = lines(capsys)
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "batch applied", "level": "info", "rule": "customers", "rows": 3}


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(as_json=False)
    structlog.get_logger().warning("clock skew", seconds=4)
    (line,) = lines(capsys)
    assert line.endswith("warning: clock skew  seconds=4")


def test_level_from_the_environment(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCLINE_LOG", "WARNING")
    log.configure()
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [json.loads(line)["event"] for line in lines(capsys)] == ["loud"]


def test_our_errors_are_told_in_parts(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    structlog.get_logger().error("stopped", error=Terminal("no right", where="crm", fix="GRANT"))
    event = json.loads(lines(capsys)[0])
    assert (event["error"], event["where"], event["fix"]) == ("no right", "crm", "GRANT")


def test_foreign_errors_are_told_by_class_only(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    try:
        raise ValueError("Key (id)=(4711) already exists")
    except ValueError as error:
        structlog.get_logger().exception("odd")
        structlog.get_logger().error("odd", error=error)
    found = [json.loads(line) for line in lines(capsys)]
    assert [event["error"] for event in found] == ["ValueError", "ValueError"]
    assert "4711" not in json.dumps(found)


@pytest.mark.parametrize("as_json", [True, False])
def test_passwords_in_urls_are_masked(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    log.configure(as_json=as_json)
    structlog.get_logger().info("connecting to mysql://sync:geheim@h/db", url="postgresql://a:geheim@h:5432/x and mysql://b:geheim@h")
    (line,) = lines(capsys)
    assert "geheim" not in line
    assert "sync:***@h/db" in line
