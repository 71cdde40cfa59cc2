"""The engine over databases in memory: what may not be lost, doubled or go in circles."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.errors import Poison, Terminal, Transient
from engine.model.schema import Table
from engine.runtime import pipeline
from tests.unit.runtime import fakes


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


def test_a_record_in_quarantine_goes_when_the_other_side_settles_the_row(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path)
    crm, erp = world.databases["crm"], world.databases["erp"]
    crm.put("account", id="1", a="x", b="y")
    world.settle()
    crm.refuse = lambda _table, row: "check" if row["a"] == "bad" else ""
    erp.put("customer", id="1", a="bad")
    world.settle()
    assert [rule for rule, _ in world.ledger.quarantine] == ["to_crm"]
    crm.put("account", id="1", a="good")
    world.settle()
    assert not world.ledger.quarantine
    assert world.rows("crm", "account") == world.rows("erp", "customer") == [("1", "good", "y")]


def test_a_held_cell_is_let_go_on_both_sides_when_someone_decides_it_or_removes_the_row(tmp_path: Path) -> None:
    manual = {"policies": {"a": "manual"}}
    world = fakes.pair(tmp_path, erp=manual, crm=manual)
    crm, erp = world.databases["crm"], world.databases["erp"]
    for key in ("1", "2"):
        crm.put("account", id=key, a="x")
    world.settle()
    for key in ("1", "2"):
        crm.put("account", id=key, a="mine")
        erp.put("customer", id=key, a="yours")
    world.settle()
    assert {rule for rule, _ in world.ledger.held} == {"to_erp", "to_crm"}
    erp.put("customer", id="1", a="mine")
    crm.remove("account", "2")
    world.settle()
    assert not world.ledger.held


def test_long_keys_are_known_in_the_batch_that_brings_them(tmp_path: Path) -> None:
    columns = ("id", "part", "a")
    databases = {
        "crm": fakes.Database("crm", {"account": fakes.table("crm", "account", columns, ("id", "part"))}),
        "erp": fakes.Database("erp", {"customer": fakes.table("erp", "customer", columns, ("id", "part"))}),
    }
    statement = "SELECT t.id AS id, t.part AS part, t.a AS a FROM crm.account AS t"
    rules = [{"name": "a_rule_with_a_name_that_is_rather_long_" * 3, "statement": statement, "into": ("erp", "s", "customer"), "key": ("id", "part")}]
    world = fakes.World(tmp_path, databases, rules)
    world.first_read()
    crm, erp = world.databases["crm"], world.databases["erp"]
    erp.put("customer", id="", part="", a="stays")
    crm.put("account", id="k" * 600, part="1", a="x")
    crm.remove("account", "k" * 600, "1")
    crm.put("account", id="k" * 380, part="1", a="bad")
    crm.put("account", id="k" * 700, part="1", a="bad")
    erp.refuse = lambda _table, row: "check" if row["a"] == "bad" else ""
    world.settle()
    assert world.rows("erp", "customer") == [("", "", "stays")]
    assert {len(record["key"]["id"]) for record in world.ledger.quarantine.values()} == {380, 700}
    crm.put("account", id="k" * 700, part="1", a="good")
    world.settle()
    crm.remove("account", "k" * 700, "1")
    world.settle()
    assert len(world.rows("erp", "customer")) == 1


def test_a_table_with_no_column_besides_its_key(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path, columns=("id",))
    crm, erp = world.databases["crm"], world.databases["erp"]
    crm.put("account", id="1")
    erp.put("customer", id="2")
    world.settle()
    world.restart()
    crm.remove("account", "2")
    world.settle()
    assert world.rows("crm", "account") == world.rows("erp", "customer") == [("1",)]


def test_columns_may_come_and_go_while_writes_are_pending(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path, columns=("id", "a", "b"))
    crm = world.databases["crm"]
    crm.put("account", id="1", a="x", b="y")
    world.step("crm")
    world.stop()
    for rule in world.rules:
        rule["statement"] = rule["statement"].replace(", t.b AS b", "")
    world.start()
    world.first_read()
    world.settle()
    crm.put("account", id="1", a="z")
    world.step("crm")
    world.stop()
    for rule in world.rules:
        rule["statement"] = rule["statement"].replace("t.a AS a", "t.a AS a, t.b AS b")
    world.start()
    world.first_read()
    crm.put("account", id="1", b="w")
    world.settle()
    assert world.rows("crm", "account") == world.rows("erp", "customer") == [("1", "z", "w")]


def test_a_rule_that_was_away_for_a_while_asks_about_all_its_rows_again(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path, one_way=True)
    crm = world.databases["crm"]
    crm.put("account", id="1", a="x")
    world.settle()
    world.stop()
    rules, world.rules = world.rules, []
    world.start()
    crm.put("account", id="1", a="while the rule was away")
    crm.put("account", id="2", a="new")
    world.settle()
    world.stop()
    world.rules = rules
    world.start()
    world.first_read()
    world.settle()
    assert world.rows("erp", "customer") == [("1", "while the rule was away", None), ("2", "new", None)]


def test_rows_of_a_table_that_refers_to_itself_go_in_whatever_their_order(tmp_path: Path) -> None:
    """The fake checks row by row, as MySQL does."""
    target = fakes.table("erp", "customer", ("id", "a", "b"), parents={"b": "customer"})
    world = fakes.pair(tmp_path, one_way=True, erp_table=target)
    crm = world.databases["crm"]
    crm.commit([("account", None, {"id": key, "a": "x", "b": parent}) for key, parent in (("4", "3"), ("3", "2"), ("2", "1"), ("1", None), ("9", "8"))])
    world.settle()
    assert [row[0] for row in world.rows("erp", "customer")] == ["1", "2", "3", "4"]
    assert [record["reason"] for record in world.ledger.quarantine.values()] == ["foreign_key"]


def test_two_rules_into_one_table_that_is_not_captured(tmp_path: Path) -> None:
    databases = {
        "crm": fakes.Database("crm", {"account": fakes.table("crm", "account", ("id", "a")), "detail": fakes.table("crm", "detail", ("id", "b"))}),
        "erp": fakes.Database("erp", {"customer": fakes.table("erp", "customer", ("id", "a", "b"))}),
    }
    rules = [
        {"name": "one", "statement": "SELECT t.id AS id, t.a AS a FROM crm.account AS t", "into": ("erp", "s", "customer"), "key": ("id",)},
        {"name": "two", "statement": "SELECT t.id AS id, t.b AS b FROM crm.detail AS t", "into": ("erp", "s", "customer"), "key": ("id",)},
    ]
    world = fakes.World(tmp_path, databases, rules, uncaptured=frozenset({"erp"}))
    world.first_read()
    crm, erp = world.databases["crm"], world.databases["erp"]
    crm.commit([("account", None, {"id": "1", "a": "x"}), ("detail", None, {"id": "1", "b": "y"})])
    world.settle()
    crm.commit([("account", {"id": "1", "a": "x"}, {"id": "1", "a": "p"}), ("detail", {"id": "1", "b": "y"}, {"id": "1", "b": "q"})])
    world.settle()
    assert world.rows("erp", "customer") == [("1", "p", "q")]
    log = len(erp.log)
    crm.put("account", id="1", a="x")
    crm.put("account", id="1", a="p")
    crm.put("detail", id="1", b="y")
    crm.put("detail", id="1", b="q")
    world.settle()
    assert world.rows("erp", "customer") == [("1", "p", "q")]
    assert len(erp.log) == log


def test_a_key_is_not_given_up_while_the_log_that_owes_an_event_is_far_behind(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path, one_way=True)
    crm, erp = world.databases["crm"], world.databases["erp"]
    crm.put("account", id="1", a="x")
    world.settle()
    erp.remove("customer", "1")
    crm.put("account", id="1", a="y")
    world.clock += 3_600_000_000
    world.step("crm")
    for _ in range(20):
        world.ask()
    assert not world.ledger.quarantine
    world.settle()
    assert world.rows("erp", "customer") == [("1", "y", None)]
    erp.rows["customer"].clear()  # nothing in the log: this will never settle
    crm.put("account", id="1", a="z")
    world.step("crm")
    for _ in range(20):
        world.ask()
    assert [record["reason"] for record in world.ledger.quarantine.values()] == ["unsettled"]
    assert not world.ledger.asks


def test_a_database_that_is_away_during_the_first_read_is_waited_for(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path, one_way=True)
    crm = world.databases["crm"]
    crm.put("account", id="1", a="x")
    world.stop()
    (tmp_path / "ledger").rename(tmp_path / "lost")
    away = iter([True, True, False, True, False, False, False, False])

    def fault(step: str) -> None:
        if step == "read_chunk" and next(away):
            raise Transient("away")

    world.start()
    crm.fault = fault
    world.first_read()
    assert world.rows("erp", "customer") == [("1", "x", None)]


def test_base_rows_that_are_large_are_asked_in_lots_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runtime.pipeline.FETCH_BYTES", 1000)
    world = fakes.pair(tmp_path, one_way=True)
    crm, erp = world.databases["crm"], world.databases["erp"]
    erp.refuse = lambda _table, _row: "foreign_key"
    for n in range(30):
        crm.put("account", id=str(n), a="x" * (3000 if n == 7 else 100), b="y")
    world.settle()
    assert len(world.ledger.quarantine) == 30
    erp.refuse = lambda _table, _row: ""
    read: list[tuple[int, int]] = []
    fetch = crm.fetch

    def watched(*words: Any) -> Any:
        found = fetch(*words)
        read.append((found.num_rows, found.nbytes))
        return found

    monkeypatch.setattr(crm, "fetch", watched)
    world.pipeline.ask_dependants(now=True)
    world.settle()
    assert world.rows("erp", "customer") == world.rows("crm", "account") and not world.ledger.quarantine
    assert all(size <= 1000 or count == 1 for count, size in read)
    assert max(count for count, _ in read) > 3, "and not one by one"


def test_what_only_one_direction_tells_apart_is_no_difference_at_the_first_read_whatever_the_size_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runtime.baseline.FETCH_BYTES", 200)
    databases = {
        "crm": fakes.Database("crm", {"account": fakes.table("crm", "account", ("id", "a"))}),
        "erp": fakes.Database("erp", {"customer": fakes.table("erp", "customer", ("id", "a"))}),
    }
    rules = [
        {"name": "to_erp", "statement": "SELECT t.id AS id, lower(t.a) AS a FROM crm.account AS t", "into": ("erp", "s", "customer"), "key": ("id",)},
        {"name": "to_crm", "statement": "SELECT t.id AS id, t.a AS a FROM erp.customer AS t", "into": ("crm", "s", "account"), "key": ("id",)},
    ]
    for n in range(20):
        databases["crm"].put("account", id=str(n), a="X" * 100)
        databases["erp"].put("customer", id=str(n), a="x" * 100 if n != 7 else "another")
    world = fakes.World(tmp_path, databases, [{**rule, "baseline": "hold"} for rule in rules])
    world.first_read()
    assert {(rule, record["key"]["id"]) for (rule, _), record in world.ledger.held.items()} == {("to_erp", "7"), ("to_crm", "7")}


def test_a_truncate_stops_the_direction_until_a_resync_which_begins_anew(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path)
    crm, erp = world.databases["crm"], world.databases["erp"]
    for key in ("1", "2"):
        crm.put("account", id=key, a="x")
    world.settle()
    crm.put("account", id="1", a="before")
    crm.truncate("account")
    crm.put("account", id="2", a="after")
    for _ in range(2):
        with pytest.raises(Terminal, match="TRUNCATE"):
            world.step("crm")
        world.restart()
    world.baseline.again(world.topology.lanes["to_erp"])
    world.first_read()
    world.settle()
    assert world.rows("crm", "account") == world.rows("erp", "customer") == [("1", "x", None), ("2", "after", None)]
    erp.put("customer", id="1", a="goes on")
    crm.put("account", id="2", a="as ever")
    world.settle()
    assert world.rows("crm", "account") == world.rows("erp", "customer") == [("1", "goes on", None), ("2", "as ever", None)]
    assert not world.ledger.quarantine
    crm.truncate("account")
    with pytest.raises(Terminal, match="TRUNCATE"):
        world.step("crm")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_truncate_that_the_rules_allow_deletes_row_by_row_and_goes_on_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    monkeypatch.setattr(pipeline, "TRUNCATED_AT_ONCE", 2)
    world = fakes.pair(tmp_path, erp={"on_truncate": "delete"}, crm={"on_truncate": "delete"})
    crm, erp = world.databases["crm"], world.databases["erp"]
    for key in "12345":
        crm.put("account", id=key, a="x")
    world.settle()
    crm.put("account", id="1", a="before")
    crm.truncate("account")
    crm.put("account", id="2", a="after")
    crm.put("account", id="6", a="new")
    if restarted:
        steps = iter([False, False, True])

        def fault(step: str) -> None:
            if step == "before commit" and next(steps, False):
                raise fakes.Killed

        erp.fault = fault
        with pytest.raises(fakes.Killed):
            world.step("crm")
        assert 0 < len(erp.rows["customer"]) < 5
        world.restart()
    world.settle()
    assert world.rows("crm", "account") == world.rows("erp", "customer") == [("2", "after", None), ("6", "new", None)]
    erp.put("customer", id="1", a="made again")
    world.settle()
    assert world.rows("crm", "account") == world.rows("erp", "customer")
    assert not world.ledger.quarantine


def test_a_value_that_its_owner_restored_reaches_a_third_system_too(tmp_path: Path) -> None:
    columns = ("id", "a")
    databases = {
        "crm": fakes.Database("crm", {"account": fakes.table("crm", "account", columns)}),
        "erp": fakes.Database("erp", {"customer": fakes.table("erp", "customer", columns)}),
        "shop": fakes.Database("shop", {"buyer": fakes.table("shop", "buyer", columns)}),
    }
    forth = {"statement": "SELECT t.id AS id, t.a AS a FROM crm.account AS t", "key": ("id",)}
    back = {"statement": "SELECT t.id AS id, t.a AS a FROM erp.customer AS t", "key": ("id",), "baseline": "target"}
    rules = [
        {"name": "to_erp", "into": ("erp", "s", "customer"), "owners": {"a": "erp"}, **forth},
        {"name": "to_crm", "into": ("crm", "s", "account"), "owners": {"a": "erp"}, **back},
        {"name": "to_shop", "into": ("shop", "s", "buyer"), **forth},
    ]
    world = fakes.World(tmp_path, databases, rules, uncaptured=frozenset({"shop"}))
    world.first_read()
    databases["erp"].put("customer", id="1", a="owner's")
    world.settle()
    databases["crm"].put("account", id="1", a="not the owner's")
    world.settle()
    assert [world.rows(s, n) for s, n in (("crm", "account"), ("erp", "customer"), ("shop", "buyer"))] == [[("1", "owner's")]] * 3
    for rule in ("to_erp", "to_crm", "to_shop"):
        counters = dict(world.counters(rule))
        counters.pop("conflicts", None)
        assert counters.pop("rows") == sum(counters.values())


def test_a_value_that_the_last_event_leaves_out_reaches_the_second_target_too(tmp_path: Path) -> None:
    columns = ("id", "a", "b")
    databases = {
        "crm": fakes.Database("crm", {"account": fakes.table("crm", "account", columns)}, toast=frozenset({"b"})),
        "erp": fakes.Database("erp", {"customer": fakes.table("erp", "customer", columns)}),
        "shop": fakes.Database("shop", {"buyer": fakes.table("shop", "buyer", columns)}),
    }
    rules = [
        {"name": f"to_{s}", "statement": "SELECT t.id AS id, t.a AS a, t.b AS b FROM crm.account AS t", "into": (s, "s", n), "key": ("id",)}
        for s, n in (("erp", "customer"), ("shop", "buyer"))
    ]
    world = fakes.World(tmp_path, databases, rules)
    world.first_read()
    crm = world.databases["crm"]
    crm.put("account", id="1", a="x", b="old")
    world.settle()
    crm.put("account", id="1", b="new")
    crm.put("account", id="1", a="y")
    world.settle()
    assert world.rows("erp", "customer") == world.rows("shop", "buyer") == [("1", "y", "new")]


@pytest.mark.parametrize("step", ["begin", "before commit", "after commit"])
@pytest.mark.parametrize("target", ["erp", "shop"])
def test_a_key_changes_in_two_targets_with_a_kill_between(tmp_path: Path, step: str, target: str) -> None:
    databases = {
        "crm": fakes.Database("crm", {"account": fakes.table("crm", "account", ("id", "a"))}),
        "erp": fakes.Database("erp", {"customer": fakes.table("erp", "customer", ("id", "a", "own"))}),
        "shop": fakes.Database("shop", {"buyer": fakes.table("shop", "buyer", ("id", "a", "own"))}),
    }
    rules = [
        {"name": f"to_{system}", "statement": "SELECT t.id AS id, t.a AS a FROM crm.account AS t", "into": (system, "s", name), "key": ("id",)}
        for system, name in (("erp", "customer"), ("shop", "buyer"))
    ]
    world = fakes.World(tmp_path, databases, rules)
    world.first_read()
    crm = world.databases["crm"]
    crm.put("account", id="1", a="x")
    crm.put("account", id="2", a="y")
    world.settle()
    for system, name in (("erp", "customer"), ("shop", "buyer")):
        for key in ("1", "2"):
            world.databases[system].put(name, id=key, own=f"of {key}")
    world.settle()

    def kill(name: str) -> None:
        if name == step:
            raise fakes.Killed

    crm.move("account", ("1", "t"), ("2", "1"), ("t", "3"))
    world.databases[target].fault = kill
    with pytest.raises(fakes.Killed):
        world.settle()
    world.databases[target].fault = lambda _step: None
    world.restart()
    world.settle()
    for system, name in (("erp", "customer"), ("shop", "buyer")):
        assert world.rows(system, name) == [("1", "y", "of 2"), ("3", "x", "of 1")]
    assert not world.ledger.quarantine and not world.ledger.moved


def test_a_row_whose_change_of_key_is_refused_keeps_its_place_until_it_can(tmp_path: Path) -> None:
    world = fakes.pair(tmp_path)
    world.first_read()
    crm, erp = world.databases["crm"], world.databases["erp"]
    crm.put("account", id="1", a="x")
    world.settle()
    erp.refuse = lambda _table, row: "check" if row["id"] == "2" else ""
    refused = erp.refuse
    rekey = fakes.Sink.rekey

    def guarded(self: fakes.Sink, table: Table, key: tuple[str, ...], before: tuple[str, ...], after: tuple[str, ...], *, copy: bool) -> int:
        if self.database is erp and erp.refuse is refused and after == ("2",):
            raise Poison("refused: check", reason="check", rows=(0,))
        return rekey(self, table, key, before, after, copy=copy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fakes.Sink, "rekey", guarded)
        crm.move("account", ("1", "2"))
        world.settle()
        assert [row[0] for row in world.rows("erp", "customer")] == ["1"] and len(world.ledger.quarantine) == 1
        # a row that wants the old key waits, and takes nothing over
        crm.put("account", id="1", a="another")
        world.settle()
        assert [row[:2] for row in world.rows("erp", "customer")] == [("1", "x")]
        erp.refuse = lambda _table, _row: ""
        world.restart()
        crm.put("account", id="2", a="mended")
        world.settle()
        world.pipeline.ask_dependants(now=True)
        world.settle()
    assert [row[:2] for row in world.rows("erp", "customer")] == [("1", "another"), ("2", "mended")]
    assert not world.ledger.quarantine and not world.ledger.moved
    world.stop()
