"""The vectorised observe, overlay and resolve make the decisions of the executable model, over random histories with crashes, skew and owners."""
from __future__ import annotations

import copy
import random

import agreement_model as model
import numpy as np
import pyarrow as pa
import pytest

from engine.model.batch import DELETE, INSERT, UPDATE
from engine.model.hashing import UNKNOWN, hash_text
from engine.model.state import Ours, State, Writes
from engine.resolve.observe import Events, observe
from engine.resolve.policies import policy
from engine.resolve.resolver import Want, resolve

COLS = model.COLS


def hashed(value: str) -> int:
    return int(hash_text(pa.array([value]), 7)[0])


def to_state(entries: list[model.State]) -> State:
    state = State.unknown(len(entries), len(COLS))
    for i, entry in enumerate(entries):
        state.present[i], state.life[i] = entry.present, entry.life
        for c, name in enumerate(COLS):
            if name in entry.cells:
                value, stamp = entry.cells[name]
                state.hashes[i, c], state.stamps[i, c] = hashed(value), stamp
    return State.unpack(state.pack(), len(COLS))


def to_writes(write: model.State) -> Writes:
    mask = np.array([[c in write.cells for c in COLS]])
    return Writes(
        keys=[b"k"],
        present=np.array([write.present]),
        insert=np.array([write.present and len(write.cells) == len(COLS)]),
        life=np.array([write.life]),
        mask=mask,
        hashes=np.array([[hashed(write.cells[c][0]) if c in write.cells else UNKNOWN for c in COLS]], dtype=np.uint64),
        stamps=np.array([[write.cells[c][1] if c in write.cells else -1 for c in COLS]]),
    )


def same(state: State, row: int, expected: model.State) -> None:
    other = to_state([expected])
    assert bool(state.present[row]) == expected.present
    assert int(state.life[row]) == expected.life
    assert state.hashes[row].tolist() == other.hashes[0].tolist()
    assert state.stamps[row].tolist() == other.stamps[0].tolist()


class Checked(model.Engine):
    """The model's engine, each step of which is also taken by the vectorised functions."""

    compared = 0

    def observe(self, side: int, time: int, batch: int, key: int, image: model.Image) -> None:
        entry = self.entry(side, key)
        state = to_state([model.State(), copy.deepcopy(entry.seen)])
        pending = entry.pending.get(batch) if batch else None
        ours = None
        if pending is not None:
            w = to_writes(pending)
            ours = Ours(known=np.array([True]), life=w.life, mask=w.mask, hashes=w.hashes, stamps=w.stamps, present=w.present)
        events = Events(
            row=np.array([1]),
            op=np.array([DELETE if image is None else UPDATE], dtype=np.uint8),
            stamp=np.array([time * 16 + side]),
            fence=np.array([time]),
            hashes=np.array([[hashed(image[c]) if image else UNKNOWN for c in COLS]], dtype=np.uint64),
            missing=np.array([[image is None] * len(COLS)]),
        )
        observe(state, events, ours)
        super().observe(side, time, batch, key, image)
        same(state, 1, self.entry(side, key).seen)
        Checked.compared += 1

    def resolve(self, target: int, key: int) -> model.State | None:
        source = 1 - target
        want, entry = to_state([self.entry(source, key).seen]), self.entry(target, key)
        have = to_state([entry.seen])
        for _, write in sorted(entry.pending.items()):
            to_writes(write).overlay(np.array([0]), have, np.array([0]))
        same(have, 0, entry.actual())
        names = ["last_writer_wins" if c not in self.owners else f"owner:{self.owners[c]}" for c in COLS]
        decision = resolve(
            Want(
                present=want.present,
                newest=want.newest(),
                life=want.life,
                hashes=want.hashes,
                stamps=want.stamps,
                known=np.ones((1, len(COLS)), dtype=bool),
            ),
            have,
            [policy(name, str(source)) for name in names],
            empty=[0] * len(COLS),
        )
        asked = set(self.ask)
        self.ask.discard((source, key))
        expected = super().resolve(target, key)
        lost = (source, key) in self.ask
        self.ask |= asked
        assert bool(decision.lost[0]) == lost
        if expected is None:
            assert decision.op[0] == 0
        elif not expected.present:
            assert decision.op[0] == DELETE
        else:
            assert decision.op[0] == (UPDATE if have.present[0] else INSERT)
            assert {c for i, c in enumerate(COLS) if decision.decided[0, i]} == set(expected.cells)
        return expected


@pytest.mark.parametrize("part", range(8))
def test_vectorised_engine_decides_as_the_model(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "Engine", Checked)
    Checked.compared = 0
    for seed in range(part * 1_000, part * 1_000 + 60):
        model.history(seed)
    assert Checked.compared > 500


def test_sides_agree_where_the_log_of_one_knows_whole_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that an older write of ours covered is restored; what replaced the write within the same second is newer than it."""
    monkeypatch.setattr(model, "Engine", Checked)
    for seed in [*range(240, 320), *range(930, 960)]:
        model.history(seed, second=8)


def test_a_change_is_newer_than_the_value_that_an_older_write_of_ours_covered() -> None:
    state = State.unknown(1, 1)
    second, ours = 1_000 * 16, 900 * 16 + 1

    def event(value: int, stamp: int) -> Events:
        return Events(row=np.array([0]), op=np.array([UPDATE], dtype=np.uint8), stamp=np.array([stamp]), fence=np.array([1]),
                      hashes=np.array([[value]], dtype=np.uint64), missing=np.array([[False]]))

    observe(state, event(5, second), None)
    covered = int(state.stamps[0, 0])
    written = Ours(known=np.array([True]), life=np.array([0]), mask=np.array([[True]]), hashes=np.array([[6]], dtype=np.uint64),
                   stamps=np.array([[ours]]), present=np.array([True]))
    observe(state, event(6, second), written)
    assert state.stamps[0, 0] == ours
    observe(state, event(7, second), None)
    assert state.stamps[0, 0] > covered


def test_many_events_of_a_row_in_one_call_equal_one_call_each() -> None:
    rng = random.Random(4)
    for _ in range(200):
        count, rows = rng.randint(1, 30), rng.randint(1, 4)
        row = np.array([rng.randrange(rows) for _ in range(count)])
        op = np.array([rng.choice((INSERT, UPDATE, UPDATE, DELETE)) for _ in range(count)], dtype=np.uint8)
        hashes = np.array([[rng.randint(2, 5) for _ in COLS] for _ in range(count)], dtype=np.uint64)
        missing = np.array([[rng.random() < 0.2 for _ in COLS] for _ in range(count)])
        stamp = np.arange(count) * 16 + 160

        def events(chosen: list[int], row: np.ndarray = row, op: np.ndarray = op, hashes: np.ndarray = hashes,
                   missing: np.ndarray = missing, stamp: np.ndarray = stamp) -> Events:
            return Events(row=row[chosen], op=op[chosen], stamp=stamp[chosen], fence=stamp[chosen], hashes=hashes[chosen], missing=missing[chosen])

        together, apart = State.unknown(rows, len(COLS)), State.unknown(rows, len(COLS))
        seen = observe(together, events(list(range(count))), None)
        for i in range(count):
            observe(apart, events([i]), None)
        assert together.pack() == apart.pack()
        assert seen.last.tolist() == [max((i for i in range(count) if row[i] == r), default=-1) for r in range(rows)]


def test_events_contained_in_a_baseline_chunk_are_not_played_again() -> None:
    state = State.unknown(1, len(COLS))
    state.present[0], state.life[0], state.fence[0], state.hashes[0], state.stamps[0] = True, 0, 50, 9, 0
    old = Events(row=np.array([0]), op=np.array([UPDATE], dtype=np.uint8), stamp=np.array([700]), fence=np.array([50]),
                 hashes=np.full((1, 3), 8, dtype=np.uint64), missing=np.zeros((1, 3), dtype=bool))
    assert observe(state, old, None).last.tolist() == [-1]
    assert state.hashes[0].tolist() == [9, 9, 9]
