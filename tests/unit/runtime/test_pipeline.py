"""The engine over databases in memory: what may not be lost, doubled or go in circles."""
from __future__ import annotations

from pathlib import Path

from tests.unit.runtime import fakes
import pytest


def test_changes_travel_both_ways_and_come_to_rest(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path)
    crm, erp = world.databases["crm"], world.databases["erp"]
    crm.put("account", id="1", a="x", b="y")
    erp.put("customer", id="2", a="p", b=None)
    world.settle()
    erp.put("customer", id="1", a="z")
    crm.remove("account", "2")
    world.settle()
    assert world.rows("crm", "account") == world.rows("erp", "customer") == [("1", "z", "y")]


@pytest.mark.parametrize("one_way", [True, False])
def test_a_value_that_a_later_event_of_the_batch_leaves_out_still_arrives(tmp_path: Path, one_way: bool) -> None:
    world = fakes.pair(tmp_path, one_way=one_way)
    crm = world.databases["crm"]
    crm.toast = frozenset({"b"})
    crm.put("account", id="1", a="x", b="old")
    world.settle()
    crm.put("account", id="1", b="new and long")
    crm.put("account", id="1", a="changed")
    world.settle()
    assert world.rows("erp", "customer") == [("1", "changed", "new and long")]


def test_a_trigger_on_an_owned_column_does_not_make_a_circle(tmp_path: Path) -> None:
    owners = {"owners": {"a": "crm"}}
    world = fakes.pair(tmp_path, erp=owners, crm=owners)
    world.databases["erp"].trigger = lambda _table, _old, new: {**new, "a": str(new["a"]).upper()}
    world.databases["crm"].put("account", id="1", a="x", b="y")
    world.settle()
    world.databases["crm"].put("account", id="1", a="z")
    world.settle()
    assert world.rows("erp", "customer") == [("1", "Z", "y")]
    assert world.rows("crm", "account") == [("1", "z", "y")]


def test_a_value_that_was_refused_arrives_when_a_later_event_that_leaves_it_out_mends_the_row(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path, one_way=True)
    crm, erp = world.databases["crm"], world.databases["erp"]
    crm.toast = frozenset({"b"})
    erp.refuse = lambda _table, row: "check" if row["a"] == "bad" else ""
    crm.put("account", id="1", a="x", b="old")
    world.settle()
    crm.put("account", id="1", a="bad", b="new and long")
    world.settle()
    assert len(world.ledger.quarantine) == 1
    crm.put("account", id="1", a="good")
    world.settle()
    assert world.rows("erp", "customer") == [("1", "good", "new and long")]
    assert not world.ledger.quarantine


def test_a_restart_in_the_middle_of_a_batch_goes_on_there_even_if_the_batch_comes_shorter(tmp_path: Path) -> None:
    """A batch is cut at an echo; what was done before the cut is never played again over newer values."""
    world = fakes.pair(tmp_path)
    crm, erp = world.databases["crm"], world.databases["erp"]
    crm.put("account", id="1", a="x", b="y")
    world.settle()
    crm.put("account", id="1", a="one")
    crm.put("account", id="1", a="two")
    erp.put("customer", id="1", b="z")
    world.step("erp")  # our write of b stands in the log of crm after a = two
    count = 0

    def kill(step: str) -> None:
        nonlocal count
        count += step == "begin"
        if count == 2:
            raise fakes.Killed

    crm.put("account", id="1", a="three")
    erp.fault = kill
    with pytest.raises(fakes.Killed):
        world.step("crm")
    erp.fault = lambda _step: None
    world.restart()
    progress = world.ledger.progress("crm")
    assert progress is not None and progress.done > 0
    world.step("crm", 1)
    assert world.rows("erp", "customer")[0][1] == "two"
    world.settle()
    assert world.rows("crm", "account") == world.rows("erp", "customer") == [("1", "three", "z")]


def test_an_alias_outlives_a_kill_between_two_parts_of_a_batch(tmp_path: Path) -> None:
    """The log names the row by `no`, the ledger by `id`: the delete finds its row after a restart too."""
    numbered = fakes.table("crm", "account", ("no", "id", "a"), ("no",), default=("no",))
    databases = {
        "crm": fakes.Database("crm", {"account": numbered}),
        "erp": fakes.Database("erp", {"customer": fakes.table("erp", "customer", ("id", "a"))}),
    }
    rules = [
        {"name": "to_erp", "statement": "SELECT t.id AS id, t.a AS a FROM crm.account AS t", "into": ("erp", "s", "customer"), "key": ("id",)},
        {"name": "to_crm", "statement": "SELECT t.id AS id, t.a AS a FROM erp.customer AS t", "into": ("crm", "s", "account"), "key": ("id",),
         "baseline": "target"},
    ]  # fmt: skip
    world = fakes.World(tmp_path, databases, rules)
    world.first_read()
    crm, erp = world.databases["crm"], world.databases["erp"]
    crm.put("account", no="7", id="1", a="x")
    crm.put("account", no="8", id="2", a="x")
    world.settle()
    crm.put("account", no="8", id="2", a="changed")
    erp.put("customer", id="2", a="newer")
    world.step("erp")
    crm.remove("account", "7")

    def kill(step: str) -> None:
        if step == "begin":  # the first part lost against the newer value, the second one deletes
            raise fakes.Killed

    erp.fault = kill
    with pytest.raises(fakes.Killed):
        world.step("crm")
    progress = world.ledger.progress("crm")
    assert progress is not None and progress.done > 0
    erp.fault = lambda _step: None
    world.restart()
    world.settle()
    assert world.rows("erp", "customer") == [("2", "newer")]


@pytest.mark.parametrize("step", ["begin", "before commit", "after commit"])
@pytest.mark.parametrize("target", ["erp", "shop"])
def test_a_kill_between_two_targets_loses_nothing_in_either(tmp_path: Path, step: str, target: str) -> None:
    databases = {
        "crm": fakes.Database("crm", {"account": fakes.table("crm", "account", ("id", "a"))}),
        "erp": fakes.Database("erp", {"customer": fakes.table("erp", "customer", ("id", "a"))}),
        "shop": fakes.Database("shop", {"buyer": fakes.table("shop", "buyer", ("id", "a"))}),
    }
    rules = [
        {"name": f"to_{system}", "statement": "SELECT t.id AS id, t.a AS a FROM crm.account AS t", "into": (system, "s", name), "key": ("id",)}
        for system, name in (("erp", "customer"), ("shop", "buyer"))
    ]
    world = fakes.World(tmp_path, databases, rules, uncaptured=frozenset({"shop"}))
    world.first_read()
    crm = world.databases["crm"]
    crm.put("account", id="1", a="x")
    world.settle()

    def kill(name: str) -> None:
        if name == step:
            raise fakes.Killed

    crm.put("account", id="1", a="y")
    crm.put("account", id="2", a="y")
    world.databases[target].fault = kill
    with pytest.raises(fakes.Killed):
        world.settle()
    world.databases[target].fault = lambda _step: None
    world.restart()
    world.settle()
    assert world.rows("erp", "customer") == world.rows("shop", "buyer") == [("1", "y"), ("2", "y")]
    assert not world.ledger.quarantine


@pytest.mark.parametrize("step", ["begin", "before commit", "after commit"])
def test_a_kill_during_the_first_read_loses_no_row(tmp_path: Path, step: str) -> None:
    world = fakes.pair(tmp_path, one_way=True)
    crm, erp = world.databases["crm"], world.databases["erp"]
    for number in range(10):
        crm.put("account", id=str(number), a="x")
    world.stop()
    (tmp_path / "ledger").rename(tmp_path / "lost")
    world.start()
    count = 0

    def kill(name: str) -> None:
        nonlocal count
        count += name == step
        if count == 2:
            raise fakes.Killed

    erp.fault = kill
    with pytest.raises(fakes.Killed):
        world.first_read()
    erp.fault = lambda _step: None
    world.restart()
    world.first_read()
    world.settle()
    assert len(world.rows("erp", "customer")) == 10
