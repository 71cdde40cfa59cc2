"""Executable model of how Syncline keeps two sides in agreement (design.md, section 3).

Plain dictionaries, no I/O, no speed: it states the rules of observe, resolve, apply, reassert and restart, and tries to break them with random
histories: writers on both sides, lag, batches of any length, skewed clocks, owners, deletes, crashes.   python agreement_model.py [histories]

A change is never older than what it replaced (`after`): clocks are skewed, and MariaDB's log knows whole seconds only. Nor is it older than what an older
write of ours covered on its way (`COVERED`): that value is being restored, and would have the same stamp within one second.

Sides are 0 and 1, the side number is the rank in a stamp. The rule is the identity. Shown: after the writers stop and both logs are read to their
end, both sides are equal, the ledger believes what is there, and every cell holds the value with the newest stamp, or its owner's newest.
"""
from __future__ import annotations

import copy
import random
import sys
from dataclasses import dataclass, field

COLS = ("a", "b", "c")
Cells = dict[str, tuple[str, int]]                      # column -> (value, stamp); the real ledger keeps a hash in place of the value
COVERED = 8                                             # added to the stamp of a value that an older write of ours covered; no system has this rank
Image = dict[str, str] | None                           # a row, or None where it was deleted


def after(stamp: int, old: int) -> int:
    """The stamp of a change made on top of a value with stamp `old`: its commit's, unless that would make it older than what it replaced."""
    return stamp if stamp > old else (old // 16 + 1) * 16 + stamp % 16


@dataclass
class Database:
    """One side: rows, its log, and the checkpoint marker that every transaction of ours writes first."""
    rows: dict[int, dict[str, str]] = field(default_factory=dict)
    log: list[tuple[int, int, list[tuple[int, Image]]]] = field(default_factory=list)     # (commit time, our batch number or 0, [(key, image)])
    marker: int = 0
    floor: dict[int, int] = field(default_factory=dict)                 # newest stamp that an older write of ours covered in this row
    stamps: dict[tuple[int, str], int] = field(default_factory=dict)    # what the stamp of each cell must come out as; only the test looks at it

    def commit(self, time: int, batch: int, changes: list[tuple[int, Image]]) -> None:
        for key, image in changes:
            if image is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = dict(image)
        self.marker = batch or self.marker
        self.log.append((time, batch, copy.deepcopy(changes)))


@dataclass
class State:
    """A row: there or not since `life`, and its cells."""
    present: bool = False
    life: int = -1                                      # stamp of the tombstone or of the insert
    cells: Cells = field(default_factory=dict)

    def newest(self) -> int:
        return max([s for _, s in self.cells.values()] + [self.life])

    def image(self) -> Image:
        return {c: v for c, (v, _) in self.cells.items()} if self.present else None


@dataclass
class Entry:
    """The ledger's knowledge of one row on one side.

    seen:    what this side's log has shown us. Only this is propagated.
    pending: what we wrote and the log has not yet echoed, by batch number. seen overlaid with pending is what stands there now, as far as we
             know; only that is compared against. Mixing the two up makes an older event look like a change of cells it never touched.
    """
    seen: State = field(default_factory=State)
    pending: dict[int, State] = field(default_factory=dict)

    def actual(self) -> State:
        now = copy.deepcopy(self.seen)
        for _, write in sorted(self.pending.items()):
            if write.present and not now.present and len(write.cells) < len(COLS):
                continue                                # an update never creates a row
            now.present, now.life = write.present, max(now.life, write.life) if write.present == now.present else write.life
            now.cells = {**now.cells, **write.cells} if write.present else {}
        return now


class Engine:
    def __init__(self, sides: tuple[Database, Database], owners: dict[str, int]) -> None:
        self.sides, self.owners = sides, owners
        self.ledger: list[dict[int, Entry]] = [{}, {}]
        self.position = [0, 0]
        self.ask: set[tuple[int, int]] = set()          # (target, key) still to be resolved; part of the ledger
        for side in (0, 1):                             # baseline: stamp 0, so any logged change is newer
            for key, row in sides[side].rows.items():
                self.ledger[side][key] = Entry(State(True, 0, {c: (v, 0) for c, v in row.items()}))
            self.position[side] = len(sides[side].log)
        self.save()

    def entry(self, side: int, key: int) -> Entry:
        return self.ledger[side].setdefault(key, Entry())

    def observe(self, side: int, time: int, batch: int, key: int, image: Image) -> None:
        """The log of `side` shows a row as one commit left it. Cells that really changed get the commit's stamp; cells that we wrote keep the
        stamp of their origin, also where a trigger or the column type made another value of ours: that is the new base and does not bounce."""
        entry, stamp = self.entry(side, key), time * 16 + side
        seen, ours = entry.seen, entry.pending.pop(batch, None) if batch else None
        if image is None:
            life = ours.life if ours else after(stamp, seen.newest())
            entry.seen = State(False, life if seen.present else max(life, seen.life), {})
            return
        if not seen.present:
            entry.seen = seen = State(True, ours.life if ours else after(stamp, seen.life), dict.fromkeys(image, ("", -1)))
        for c, value in image.items():
            if ours and c in ours.cells:
                if seen.cells[c][1] > ours.cells[c][1]:
                    seen.life = max(seen.life, seen.cells[c][1] + COVERED)
                seen.cells[c] = (value, ours.cells[c][1])
            elif value != seen.cells[c][0]:
                seen.cells[c] = (value, after(stamp, max(seen.cells[c][1], seen.life - 1)))

    def resolve(self, target: int, key: int) -> State | None:
        """What to write into `target` for this key, or None. Whoever loses here is asked the other way round."""
        source = 1 - target
        want, have = self.entry(source, key).seen, self.entry(target, key).actual()
        if not want.present:
            if have.present and want.life > have.newest():
                return State(False, want.life)
            if have.present and want.life >= 0:
                self.ask.add((source, key))             # the target's row is newer than the delete: it goes back to the source
            return None
        if not have.present:
            if want.newest() > have.life:
                return copy.deepcopy(want)
            self.ask.add((source, key))                 # the target's delete is newer: it goes back to the source
            return None
        cells: Cells = {}
        for c in COLS:
            (v, s), (hv, hs) = want.cells[c], have.cells[c]
            owner = self.owners.get(c)
            if v != hv and (owner == source or (owner is None and s > hs)):
                cells[c] = (v, s)
            elif v != hv and (owner == target or s < hs):
                self.ask.add((source, key))             # the source lost: the winner goes back to it
        return State(True, have.life, cells) if cells else None

    def write(self, target: int, time: int, keys: list[int], crash: str = "") -> None:
        """One batch, in this order: 1 the intent (all that the ledger will learn, the position included) is made durable beside the ledger;
        2 the target commits, marker first; 3 the intent becomes the ledger. After a crash the marker tells whether the intent happened."""
        number, changes, rows = self.sides[target].marker + 1, [], self.sides[target].rows
        carried: dict[tuple[int, str], int] = {}
        for key in keys:
            decision, physical = self.resolve(target, key), rows.get(key)
            if decision is None:
                continue
            inserts = decision.present and not self.entry(target, key).actual().present
            if decision.present and inserts == (physical is not None):
                self.ask.add((target, key))             # an insert never overwrites, an update never creates: the log still owes us an event
                continue
            self.entry(target, key).pending[number] = decision
            changes.append((key, {**(physical or {}), **{c: v for c, (v, _) in decision.cells.items()}} if decision.present else None))
            carried |= {(key, c): s for c, (_, s) in decision.cells.items()}
        if changes and crash == "before":
            raise Crash                                 # the marker will say: it never happened
        if changes:
            self.sides[target].commit(time, number, changes)
            side = self.sides[target]
            for (key, c), s in carried.items():
                if side.stamps.get((key, c), 0) > s:
                    side.floor[key] = max(side.floor.get(key, 0), side.stamps[key, c])
            side.stamps |= carried
            if crash == "after":
                self.save()                             # the marker will say: it happened, the intent is taken over at restart
                raise Crash
        self.save()

    def save(self) -> None:
        self.durable = copy.deepcopy((self.ledger, self.position, self.ask))

    def restart(self) -> None:
        self.ledger, self.position, self.ask = copy.deepcopy(self.durable)

    def step(self, side: int, time: int, upto: int, crash: str = "") -> None:
        """One batch of this side's log. Changes of a key coalesce, but not across a write of ours: a newer value that our write covered lives
        only in its event, so it is resolved before the echo is observed."""
        keys: dict[int, None] = {}
        for place in range(self.position[side], upto):
            when, batch, changes = self.sides[side].log[place]
            if batch and any(key in keys for key, _ in changes):
                self.position[side] = place
                self.write(1 - side, time, list(keys))
                keys.clear()
            for key, image in changes:
                self.observe(side, when, batch, key, image)
                keys[key] = None
        self.position[side] = upto
        self.write(1 - side, time, list(keys), crash)

    def settle(self, time: int) -> None:
        for _ in range(60):
            for side in (0, 1):
                self.step(side, time, len(self.sides[side].log))
            asked, self.ask = self.ask, set()
            for target, key in sorted(asked):
                self.write(target, time, [key])
            if not self.ask and all(self.position[s] == len(self.sides[s].log) for s in (0, 1)):
                return
        raise AssertionError("no rest: ping-pong")


class Crash(Exception):
    """kill -9"""


def application(rng: random.Random, sides: tuple[Database, Database], clock: int, side: int, now: int) -> tuple[int, Image, list[str]]:
    key, row = rng.randint(0, 3), None
    row = sides[side].rows.get(key)
    if row and rng.random() < 0.12:
        sides[side].commit(clock, 0, [(key, None)])
        return key, None, []
    cols = rng.sample(COLS, rng.randint(1, 3)) if row else list(COLS)
    new = {**(row or {}), **{c: f"{side}.{now}.{c}" for c in cols}}
    sides[side].commit(clock, 0, [(key, new)])
    return key, new, cols


def history(seed: int, second: int = 1) -> None:
    """second: how coarse the clock of side 0 is."""
    rng = random.Random(seed)
    owners = {"c": rng.choice((0, 1))} if rng.random() < 0.5 else {}
    start = {k: {c: f"{c}{k}" for c in COLS} for k in range(3)}
    sides = (Database(copy.deepcopy(start)), Database(copy.deepcopy(start)))
    engine, skew = Engine(sides, owners), rng.choice((0, 0, 3, -3))
    newest: dict[tuple[int, str], tuple[int, str]] = {}
    simple = True                                       # no delete, no insert: then the winner of every cell is known
    for now in range(10, 10 + rng.randint(3, 25)):
        if rng.random() < 0.6:
            side = rng.randint(0, 1)
            clock = now + skew if side else now // second * second
            key, image, cols = application(rng, sides, clock, side, now)
            simple &= image is not None and key in start
            for c in cols:
                if image is not None:
                    stamp = sides[side].stamps[key, c] = after(clock * 16 + side, max(sides[side].stamps.get((key, c), 0), sides[side].floor.get(key, 0)))
                    if owners.get(c, side) == side:
                        newest[key, c] = max(newest.get((key, c), (-1, "")), (stamp, image[c]))
            continue
        side = rng.randint(0, 1)
        crash = rng.choice(("", "", "", "before", "after"))
        try:
            engine.step(side, now, rng.randint(engine.position[side], len(sides[side].log)), crash)
            if engine.ask and rng.random() < 0.5:
                target, key = rng.choice(sorted(engine.ask))
                engine.ask.discard((target, key))
                engine.write(target, now, [key])
        except Crash:
            engine.restart()
    engine.settle(1000)
    assert sides[0].rows == sides[1].rows, (seed, sides[0].rows, sides[1].rows)
    for side in (0, 1):
        for key in range(4):
            assert engine.entry(side, key).actual().image() == sides[side].rows.get(key), (seed, side, key, "the ledger believes another value")
    if simple:
        for (key, c), (_, value) in newest.items():
            assert sides[0].rows[key][c] == value, (seed, key, c, sides[0].rows[key][c], value)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    for number in range(count):
        history(number)
    print(f"{count} passed, 0 failed")
