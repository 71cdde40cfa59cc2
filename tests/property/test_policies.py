"""Every policy is total, deterministic and convergent: asked in both directions, two sides come to rest on one value for any pair of cells."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from engine.resolve.policies import REGISTRY, Cells, policy

OPPOSITE = {"source_wins": "target_wins", "target_wins": "source_wins"}
NAMES = [*REGISTRY, "owner:crm", "owner:erp"]
Cell = tuple[str, int]
VALUES: list[Cell] = [(value, stamp) for value in ("", "a", "b") for stamp in (-1, 0, 7, 8, 1_000)]


def cells(pairs: list[tuple[Cell, Cell]]) -> Cells:
    return Cells(
        differ=np.array([want[0] != have[0] for want, have in pairs]),
        want=np.array([want[1] for want, _ in pairs], dtype=np.int64),
        have=np.array([have[1] for _, have in pairs], dtype=np.int64),
        want_empty=np.array([want[0] == "" for want, _ in pairs]),
        have_empty=np.array([have[0] == "" for _, have in pairs]),
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_answers_for_every_cell_once_and_alike(name: str) -> None:
    pairs = list(itertools.product(VALUES, VALUES))
    decide = policy(name, "crm")
    verdict, again = decide(cells(pairs)), decide(cells(pairs))
    for field in ("take", "lose", "hold"):
        answer = getattr(verdict, field)
        assert answer.dtype == np.bool_ and answer.shape == (len(pairs),)
        assert (answer == getattr(again, field)).all()
        assert not (answer & ~cells(pairs).differ).any(), "equal values need nothing"
        one_by_one = np.concatenate([getattr(decide(cells([pair])), field) for pair in pairs])
        assert (answer == one_by_one).all(), "a cell is judged by itself"
    assert (verdict.take.astype(int) + verdict.lose + verdict.hold <= 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_both_directions_come_to_rest_on_one_value(name: str) -> None:
    forth, back = policy(name, "crm"), policy(OPPOSITE.get(name, name), "erp")
    for crm, erp in itertools.product(VALUES, VALUES):
        if name == "manual" or crm[1] == erp[1]:
            continue  # a person decides; equal stamps are told apart at the first start only, by `baseline`
        ends = set()
        for first in (0, 1):
            sides = [crm, erp]
            for turn in range(6):
                source = (first + turn) % 2
                verdict = (forth, back)[source](cells([(sides[source], sides[1 - source])]))
                if verdict.take[0]:
                    sides[1 - source] = sides[source]
                assert not verdict.hold[0]
            assert sides[0][0] == sides[1][0], (name, crm, erp, sides)
            ends.add(sides[0][0])
        assert len(ends) == 1, (name, crm, erp, "the order of asking decides")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "manual"])
def test_what_loses_in_one_direction_is_taken_in_the_other(name: str) -> None:
    forth, back = policy(name, "crm"), policy(OPPOSITE.get(name, name), "erp")
    pairs = list(itertools.product(VALUES, VALUES))
    lost = forth(cells(pairs)).lose
    taken = back(cells([(have, want) for want, have in pairs])).take
    assert (lost == taken).all()


def test_an_owner_wins_whatever_the_stamps_say() -> None:
    verdict = policy("owner:erp", "crm")(cells([(("a", 1_000), ("b", 7))]))
    assert verdict.lose[0] and not verdict.take[0]


def test_a_value_beats_an_empty_one_that_is_newer() -> None:
    verdict = policy("non_empty", "crm")(cells([(("", 1_000), ("b", 7)), (("a", 7), ("", 1_000))]))
    assert verdict.lose.tolist() == [True, False]
    assert verdict.take.tolist() == [False, True]
