"""The loop of the daemon: one direction that stops leaves the other one alone."""
from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Terminal, Transient
from engine.runtime import daemon
from engine.runtime.daemon import Engine
from tests.unit.runtime import fakes


class Tail:
    def taken(self) -> None: ...


def engine_of(world: fakes.World) -> Engine:
    nothing: Any = None
    return Engine(world.settings, nothing, world.ledger, world.topology, world.pipeline, world.baseline, {}, threading.Event())


def take(engine: Engine, world: fakes.World, system: str) -> None:
    log = world.databases[system].log
    progress = world.ledger.progress(system)
    assert progress is not None
    tails: Any = {"crm": Tail(), "erp": Tail()}
    engine._take(system, world.databases[system].batch(world.topology.watched(system), progress.order, len(log), system), tails)


def refuses(step: str) -> None:
    if step == "begin":
        raise Terminal("no right to write")


def test_a_batch_that_comes_while_the_one_before_fails_is_not_lost(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path)
    crm, erp = world.databases["crm"], world.databases["erp"]
    engine = engine_of(world)
    crm.put("account", id="1", a="x")
    erp.put("customer", id="2", a="y")
    erp.fault = refuses
    take(engine, world, "crm")
    take(engine, world, "erp")
    engine._land()
    assert list(engine.stopped) == ["crm"]
    assert ("2", "y", None) in world.rows("crm", "account")


def test_asks_of_a_direction_that_stopped_wait_and_the_others_go_on(tmp_path: Path) -> None:
    owners = {"owners": {"a": "crm"}}
    world = fakes.pair(tmp_path, erp=owners, crm=owners)
    crm, erp = world.databases["crm"], world.databases["erp"]
    engine = engine_of(world)
    crm.put("account", id="1", a="x", b="y")
    world.settle()
    erp.put("customer", id="1", a="not yours")
    take(engine, world, "erp")
    engine._land()
    erp.fault = refuses
    for _ in range(5):
        world.pipeline._due = dict.fromkeys(world.ledger.asks, 0.0)
        engine._ask_again()
    assert list(engine.stopped) == ["crm"]
    assert world.ledger.asks
    assert not world.pipeline.asks_due(time.monotonic() + 100, engine.stopped)


def test_a_database_away_during_an_ask_is_asked_later(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path, erp={"owners": {"a": "crm"}}, crm={"owners": {"a": "crm"}})
    crm, erp = world.databases["crm"], world.databases["erp"]
    engine = engine_of(world)
    engine.stop.set()
    crm.put("account", id="1", a="x", b="y")
    world.settle()
    erp.put("customer", id="1", a="not yours")
    world.step("erp")

    def away(step: str) -> None:
        if step == "fetch":
            raise Transient("away")

    crm.fault = away
    world.pipeline._due = dict.fromkeys(world.ledger.asks, 0.0)
    engine._ask_again()
    assert not engine.stopped
    crm.fault = lambda _step: None
    world.settle()
    assert world.rows("erp", "customer") == [("1", "x", "y")]


@pytest.mark.parametrize("attempt", [1, 100, 5_000])
def test_the_pause_before_another_attempt_has_a_bound_however_long_a_database_is_away(attempt: int) -> None:
    class Stop(threading.Event):
        waited = 0.0

        def wait(self, timeout: float | None = None) -> bool:
            self.waited = timeout or 0.0
            return False

    stop = Stop()
    daemon._waiter(stop, None)("erp", attempt, Transient("away"))
    assert 0 < stop.waited <= daemon.LONGEST_PAUSE


def test_a_gap_in_the_log_is_bridged_by_resync(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path)
    crm, erp = world.databases["crm"], world.databases["erp"]
    for key in ("1", "2", "3"):
        crm.put("account", id=key, a="x")
    world.settle()
    erp.put("customer", id="3", a="from erp")
    world.step("erp")  # its echo will not be seen
    crm.put("account", id="1", a="in the gap")
    crm.remove("account", "2")
    crm.put("account", id="4", a="also")

    class Gone:
        def open(self, _watched: Any, position: Any) -> None:
            if position.order < len(crm.log):
                raise Terminal("the log is purged")

        def renew(self, _watched: Any) -> Any:
            return crm.end()

        def close(self) -> None: ...

    engine = engine_of(world)
    engine.sources = {"crm": Gone()}  # type: ignore[dict-item]
    engine.bridge_gaps(("crm", "erp"))
    world.first_read()
    world.settle()
    assert world.rows("crm", "account") == world.rows("erp", "customer")
    assert [row[:2] for row in world.rows("erp", "customer")] == [("1", "in the gap"), ("2", "x"), ("3", "from erp"), ("4", "also")]
    assert not world.ledger.quarantine
