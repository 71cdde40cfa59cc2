"""The whole engine over databases in memory, random histories: writers on both sides, lag, batches of any length, coarse clocks, owners, triggers' rounding,
values the log leaves out, refused rows, kills at every step. In the end both sides hold the same, nothing is left over, and the counters add up."""
from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.unit.runtime import fakes

COUNTED = ("applied", "equal", "decided_against", "echo", "ignored", "waiting", "quarantined")


def history(folder: Path, seed: int, moves: bool = False) -> None:
    """moves: keys are changed as well."""
    rng = random.Random(seed)
    owners = {"owners": {"b": rng.choice(("crm", "erp"))}} if rng.random() < 0.4 else {}
    world = fakes.pair(folder, columns=("id", "a", "b", "c"), erp=owners, crm=owners)
    sides = (world.databases["crm"], world.databases["erp"])
    names = ("account", "customer")
    second = rng.choice((1, 1, 200))
    sides[0].now = lambda: world.tick() // second * second
    for side in sides:
        side.logs_unchanged = rng.random() < 0.5
        side.toast = frozenset({"c"}) if rng.random() < 0.5 else frozenset()
    bad = rng.random() < 0.4
    if bad:
        sides[1].refuse = lambda _table, row: "check" if row["a"] is not None and row["a"].endswith("7") else ""
    for now in range(rng.randint(5, 40)):
        side = rng.randint(0, 1)
        if rng.random() < 0.6:
            write(rng, sides[side], names[side], f"{side}.{now}", moves)
            continue
        kill(world, rng)
        try:
            if world.ledger.asks and rng.random() < 0.4:
                world.ask()
            else:
                world.step(("crm", "erp")[side], rng.choice((None, 1, 2, 5)))
        except fakes.Killed:
            world.restart()
    for database in sides:
        database.fault = lambda _step: None
    if rng.random() < 0.3:
        world.restart()
    world.settle()
    if bad:
        for key, row in [*sides[0].rows["account"].items()]:
            if str(row["a"]).endswith("7"):
                sides[0].put("account", id=key[0], a="good")
        world.settle()
    assert world.rows("crm", "account") == world.rows("erp", "customer"), seed
    assert not world.ledger.quarantine, (seed, world.ledger.quarantine)
    lengths = [len(side.log) for side in sides]
    world.settle()
    assert [len(side.log) for side in sides] == lengths, "with nobody writing the logs stand still"
    for rule in ("to_erp", "to_crm"):
        counters = world.counters(rule)
        assert counters.get("rows", 0) == sum(counters.get(name, 0) for name in COUNTED), (seed, rule, counters)
    world.stop()


def write(rng: random.Random, side: fakes.Database, name: str, value: str, moves: bool) -> None:
    key = str(rng.randint(0, 3))
    there = (key,) in side.rows[name]
    free = [other for other in map(str, range(5)) if (other,) not in side.rows[name]]
    if moves and there and rng.random() < 0.25 and free:
        other = rng.choice([k for (k,) in side.rows[name]])
        if other != key and rng.random() < 0.5:
            side.move(name, (key, "x"), (other, key), ("x", rng.choice((other, free[0]))))
        else:
            side.move(name, (key, free[0]))
    elif there and rng.random() < 0.12:
        side.remove(name, key)
    else:
        columns = rng.sample(("a", "b", "c"), rng.randint(1, 3)) if there else ("a", "b", "c")
        side.put(name, id=key, **{c: f"{value}{c}" if c != "a" else value for c in columns})


def kill(world: fakes.World, rng: random.Random) -> None:
    """At a random step of a random sink, or not at all."""
    step, left = rng.choice(("begin", "write", "before commit", "after commit", "never", "never")), rng.randint(1, 2)

    def fault(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                raise fakes.Killed

    for database in world.databases.values():
        database.fault = fault


@pytest.mark.parametrize("part", range(4))
def test_both_sides_agree_after_any_history(tmp_path: Path, part: int) -> None:
    for seed in range(part * 1_000, part * 1_000 + 25):
        history(tmp_path / str(seed), seed)


@pytest.mark.parametrize("part", range(4))
def test_both_sides_agree_after_any_history_in_which_keys_change(tmp_path: Path, part: int) -> None:
    for seed in range(part * 1_000, part * 1_000 + 25):
        history(tmp_path / str(seed), seed, moves=True)
