"""Servers whose clocks are apart: measured, shown and warned of."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.mysql.reader import MySqlReader
from engine.observe.status import read_status
from engine.runtime.check import check
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.integration.test_scenarios import PERSON, both
from tests.pair import Pair


def test_clocks_that_are_apart_are_measured_and_told(
    postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pair = Pair(tmp_path, mariadb.database(), postgres15.database(), both())
    for side in (pair.crm, pair.erp):
        side.run(PERSON)
    pair.settle()
    status = read_status(pair.settings)
    assert all(abs(system["skew_ms"]) < 2_000 for system in status["systems"].values())
    assert "warnings" not in status
    assert [p for p in check(pair.settings) if p.where == "systems"] == []

    honest = MySqlReader.clock_us
    monkeypatch.setattr(MySqlReader, "clock_us", lambda self: honest(self) + 60_000_000)
    (told,) = [p for p in check(pair.settings) if p.where == "systems"]
    assert told.severity == "warning"
    assert "crm is 60" in told.what or "crm is 59" in told.what
    pair.settle()
    assert 58_000 < read_status(pair.settings)["systems"]["crm"]["skew_ms"] < 62_000
    output = capfd.readouterr()
    assert "clocks are apart" in output.err + output.out
    document = json.loads(pair.command("status", "--json").stdout)
    assert set(document["systems"]["crm"]) >= {"skew_ms", "position", "lag_seconds"}
    assert "ahead of that of erp" in document["warnings"][0]
    pair.config.write_text(pair.config.read_text().replace("[syncline]", '[syncline]\nmax_clock_skew = "2m"'))
    assert [p for p in check(pair.settings) if p.where == "systems"] == []
    assert "warnings" not in read_status(pair.settings)
    pair.close()
