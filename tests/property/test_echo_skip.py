"""Leaving out exact echoes changes nothing: the model of `agreement_model.py` comes to the same agreement without evaluating them."""
from __future__ import annotations

import copy

import agreement_model as model
import pytest


class Skipping(model.Engine):
    """The model's engine, which does not resolve a key whose event shows just what we wrote while the other side stands where it stood."""

    left_out = 0
    careful = True
    """False: without the look at the other side's stamps. Then histories must end apart."""

    def step(self, side: int, time: int, upto: int, crash: str = "") -> None:
        keys: dict[int, None] = {}
        for place in range(self.position[side], upto):
            when, batch, changes = self.sides[side].log[place]
            if batch and any(key in keys for key, _ in changes):
                self.position[side] = place
                self.write(1 - side, time, list(keys))
                keys.clear()
            for key, image in changes:
                entry = self.entry(side, key)
                before, ours = copy.deepcopy(entry.seen), copy.deepcopy(entry.pending.get(batch)) if batch else None
                self.observe(side, when, batch, key, image)
                if ours is not None and self.exact(before, ours, entry.seen) and self.stands(1 - side, key, entry.seen):
                    Skipping.left_out += 1
                else:
                    keys[key] = None
        self.position[side] = upto
        self.write(1 - side, time, list(keys), crash)

    @staticmethod
    def exact(before: model.State, ours: model.State, seen: model.State) -> bool:
        expected = {**before.cells, **ours.cells} if ours.present else {}
        return seen.present == ours.present and {c: v for c, (v, _) in seen.cells.items()} == {c: v for c, (v, _) in expected.items()}

    def stands(self, other: int, key: int, seen: model.State) -> bool:
        there = self.entry(other, key).actual()
        return not self.careful or (there.present == seen.present and {c: s for c, (_, s) in there.cells.items()} == {c: s for c, (_, s) in seen.cells.items()})


def all_histories() -> None:
    for seed in range(600):
        model.history(seed)


def test_histories_end_in_agreement_without_exact_echoes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "Engine", Skipping)
    monkeypatch.setattr(Skipping, "left_out", 0)
    all_histories()
    assert Skipping.left_out > 1_000


def test_the_other_sides_stamps_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "Engine", Skipping)
    monkeypatch.setattr(Skipping, "careful", False)
    with pytest.raises(AssertionError):
        all_histories()
