"""Update against delete, and insert against insert, where a rule says who wins whatever the clocks say (`update_delete`, `insert_insert`).

A change and a delete collide when neither side had seen the other's: the stamp of the one that has just come is moved before or behind what stands on the
other side. From then on everything goes by stamps as ever, in both directions and after any restart; see `docs/decisions/precedence.md`.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.model.state import State
from engine.settings import RuleSettings

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]
STEP = 16
"""One microsecond in a stamp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the log of a table did to rows in a batch, one element per row. created, deleted: by an application, seen as a whole. newest: stamp of the row
    before, as its own side knew it."""

    created: Bools
    deleted: Bools
    newest: Int64s

    def take(self, rows: npt.NDArray[np.intp]) -> Before:
        return Before(created=self.created[rows], deleted=self.deleted[rows], newest=self.newest[rows])


def wanted(settings: RuleSettings) -> bool:
    """Whether the rule has anything to say here."""
    return settings.update_delete != "newest" or settings.insert_insert != "newest"


def settle(settings: RuleSettings, state: State, changed: Bools, before: Before, have: State, rank: int) -> Bools:
    """Moves stamps of `state`, in place. changed: shape (rows, cells), changed by an application. have: what stands on the other side, only the cells that
    the rule writes. rank: of the side that `state` is of. Returns which rows were touched."""
    there = have.newest()
    moved = np.zeros(len(state), dtype=np.bool_)
    updated = state.present & changed.any(axis=1) & ~before.created
    gone = before.deleted & ~state.present & have.present & (there // STEP > before.newest // STEP)
    lost = updated & ~have.present & (have.life >= 0)
    if settings.update_delete == "delete":
        now = gone & (have.life // STEP <= before.newest // STEP) & (state.life <= there)  # not a row that was made anew there
        state.life[now] = _behind(there, rank)[now]
        late = lost & (state.life <= have.life)
        state.stamps[late] = np.where(changed[late] & (state.stamps[late] > have.life[late, None]), _ahead(have.life, rank)[late, None], state.stamps[late])
        moved |= now | late
    elif settings.update_delete == "update":
        now = gone & (state.life >= there)
        state.life[now] = _ahead(there, rank)[now]
        late = lost & (state.newest() <= have.life)
        state.stamps[late] = np.where(changed[late], _behind(have.life, rank)[late, None], state.stamps[late])
        moved |= now | late
    both = before.created & state.present & have.present & (have.life != state.life)
    if settings.insert_insert == "source":
        state.stamps[both] = np.maximum(state.stamps[both], _behind(there, rank)[both, None])
        moved |= both
    elif settings.insert_insert == "target":
        state.stamps[both] = 0
        moved |= both
    return moved


def _behind(stamp: Int64s, rank: int) -> Int64s:
    return (stamp // STEP + 1) * STEP + rank


def _ahead(stamp: Int64s, rank: int) -> Int64s:
    return (stamp // STEP - 1) * STEP + rank
