"""`update_delete` and `insert_insert`: the same side wins whatever the clocks say and whichever log is read first, and both sides come to rest."""
from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from tests.unit.runtime import fakes

ORDERS = [("crm", "erp"), ("erp", "crm")]
Row = tuple[str, str | None, str | None]


def alike(world: fakes.World) -> list[tuple[str | None, ...]]:
    """The rows, the same on both sides, and no writing any more."""
    world.settle()
    rows = world.rows("crm", "account")
    assert rows == world.rows("erp", "customer")
    logs = [len(database.log) for database in world.databases.values()]
    world.restart()
    world.settle()
    assert [len(database.log) for database in world.databases.values()] == logs
    assert not world.ledger.quarantine
    return rows


def linked(folder: Path, **rule: str) -> fakes.World:
    world = fakes.pair(folder, erp=rule, crm=rule)
    world.databases["crm"].put("account", id="1", a="x", b="y")
    world.settle()
    return world


@pytest.mark.parametrize(("rule", "order", "later"), list(product(["newest", "delete", "update"], ORDERS, ["update", "delete"])))
def test_an_update_and_a_delete_that_do_not_know_of_each_other(tmp_path: Path, rule: str, order: tuple[str, str], later: str) -> None:
    world = linked(tmp_path, update_delete=rule)
    now = world.clock
    world.databases["crm"].remove("account", "1", us=now + (50 if later == "update" else 500))
    world.databases["erp"].put("customer", us=now + (500 if later == "update" else 50), id="1", a="changed")
    world.clock += 1000
    for system in order:
        world.step(system)
    wins = later if rule == "newest" else rule
    assert alike(world) == ([] if wins == "delete" else [("1", "changed", "y")])
    world.databases["crm"].put("account", id="1", a="again", b=None) if wins == "delete" else world.databases["erp"].put("customer", id="1", a="again")
    assert alike(world) == [("1", "again", None if wins == "delete" else "y")]


@pytest.mark.parametrize("rule", ["newest", "delete", "update"])
def test_what_has_arrived_is_no_collision(tmp_path: Path, rule: str) -> None:
    world = linked(tmp_path, update_delete=rule)
    world.databases["erp"].put("customer", id="1", a="changed")
    world.settle()
    world.databases["crm"].remove("account", "1")
    assert alike(world) == []
    world.databases["erp"].put("customer", id="1", a="made anew")
    assert alike(world) == [("1", "made anew", None)]


@pytest.mark.parametrize(("wins", "order", "later"), list(product(["crm", "erp"], ORDERS, ["crm", "erp"])))
def test_two_rows_with_one_key(tmp_path: Path, wins: str, order: tuple[str, str], later: str) -> None:
    forth, back = ("source", "target") if wins == "crm" else ("target", "source")
    world = fakes.pair(tmp_path, erp={"insert_insert": forth}, crm={"insert_insert": back})
    now = world.clock
    world.databases["crm"].put("account", us=now + (500 if later == "crm" else 50), id="1", a="of crm", b=None)
    world.databases["erp"].put("customer", us=now + (500 if later == "erp" else 50), id="1", a="of erp", b="b")
    world.clock += 1000
    for system in order:
        world.step(system)
    assert alike(world) == [("1", "of crm", None) if wins == "crm" else ("1", "of erp", "b")]
    loser = ("erp", "customer") if wins == "crm" else ("crm", "account")
    world.databases[loser[0]].put(loser[1], id="1", b="later")
    assert alike(world) == [("1", f"of {wins}", "later")]
