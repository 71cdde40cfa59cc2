"""Observe: what a log shows of rows, laid over what was seen before.

Cells that really changed get the stamp of the commit. Cells that we wrote ourselves keep the stamp of the change they carry, also where a trigger or
the column type made another value of ours: that value is the new base and does not bounce. `agreement_model.py`, `Engine.observe`.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.model.batch import DELETE
from engine.model.hashing import UNKNOWN
from engine.model.state import NEVER, Ours, State

Int64s = npt.NDArray[np.int64]

COVERED = 8
"""Added to the stamp of a value that an older write of ours covered; no system has this rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Row events of one table in log order; one element per event.

    row: which row of the `State` they concern. op: INSERT, UPDATE, DELETE. stamp: of the commit (shape (events,), or (events, 1)). fence: see `Chunk.fence`.
    moved: the event gives the row another key, under which it begins to live now. hashes: shape (events, columns); missing: the same shape, true where the
    event has no value. computed: shape (columns,), columns that the database
    computes: what an update does to them is not known where the log leaves them out.
    """

    row: Int64s
    op: npt.NDArray[np.uint8]
    stamp: Int64s
    fence: Int64s
    hashes: npt.NDArray[np.uint64]
    missing: npt.NDArray[np.bool_]
    computed: npt.NDArray[np.bool_] | None = None
    moved: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.row)


@dataclass(slots=True)
class Observed:
    """Per row of the state. last: index of the last event that concerned it, -1 where every event was contained in the baseline already.
    changed: shape (rows, columns), cells that an application changed. before: stamps of the cells before their first change here.
    exact: every event of the row was an echo that shows just what we wrote."""

    last: Int64s
    changed: npt.NDArray[np.bool_]
    before: Int64s
    exact: npt.NDArray[np.bool_]


def after(stamp: Int64s, old: Int64s) -> Int64s:
    """Stamps of changes made on top of values with stamps `old`: their commits', unless that would make them older than what they replaced (clocks are
    skewed, and MariaDB's log knows whole seconds only)."""
    newer = stamp > old
    if newer.all():
        return np.broadcast_to(stamp, newer.shape)
    return np.where(newer, stamp, (old // 16 + 1) * 16 + stamp % 16)


def observe(state: State, events: Events, ours: Ours | None, peers: Sequence[Int64s] | None = None) -> Observed:
    """Lays the events over `state`, in place. Events of one row keep their order; different rows are independent, so they go in rounds: the first
    event of every row, then the second, and so on.

    peers: per column the columns that feed the same target cells, itself included: a change of one is newer than all of them, since it makes a
    new value of what they gave together. Itself alone when None."""
    rows, columns = state.hashes.shape
    seen = Observed(
        last=np.full(rows, -1, dtype=np.int64),
        changed=np.zeros((rows, columns), dtype=np.bool_),
        before=state.stamps.copy(),
        exact=np.ones(rows, dtype=np.bool_),
    )
    for chosen in rounds(events.row):
        chosen = chosen[events.fence[chosen] > state.fence[events.row[chosen]]]
        if len(chosen):
            _one_each(state, events, ours, chosen, seen, peers)
    return seen


def rounds(row: Int64s) -> list[npt.NDArray[np.intp]]:
    """Splits event numbers so that each row occurs at most once per part, in order."""
    count = len(row)
    if count == 0:
        return []
    order = np.argsort(row, kind="stable")
    ordered = row[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    if len(starts) == count:
        return [np.arange(count)]
    nth = np.arange(count) - np.repeat(starts, np.diff(np.r_[starts, count]))
    by_nth = np.argsort(nth, kind="stable")
    bounds = np.searchsorted(nth[by_nth], np.arange(1, nth.max() + 1))
    return [np.sort(order[part]) for part in np.split(by_nth, bounds)]


def _one_each(
    state: State, events: Events, ours: Ours | None, chosen: npt.NDArray[np.intp], seen: Observed, peers: Sequence[Int64s] | None
) -> None:
    row, stamp = events.row[chosen], events.stamp[chosen]
    echo = ours.known[chosen] if ours is not None else np.zeros(len(chosen), dtype=np.bool_)
    life = after(stamp, np.maximum(state.life[row], state.stamps[row].max(axis=1)) if state.stamps.shape[1] else state.life[row])
    life = np.where(echo, ours.life[chosen], life) if ours is not None else life
    seen.last[row] = chosen
    deleted = events.op[chosen] == DELETE
    if deleted.any():
        gone = row[deleted]
        state.life[gone] = np.where(state.present[gone], life[deleted], np.maximum(life[deleted], state.life[gone]))
        state.present[gone] = False
        state.hashes[gone], state.stamps[gone] = UNKNOWN, NEVER
        seen.exact[gone] &= echo[deleted] & ~ours.present[chosen[deleted]] if ours is not None else False
        chosen, row, stamp, life, echo = chosen[~deleted], row[~deleted], stamp[~deleted], life[~deleted], echo[~deleted]
    if len(chosen) == 0:
        return
    created = ~state.present[row]
    born = created if events.moved is None else created | events.moved[chosen]
    state.life[row[born]] = life[born]
    state.present[row] = True
    old_hash, old_stamp = state.hashes[row], state.stamps[row]
    old_hash[created], old_stamp[created] = UNKNOWN, NEVER
    shown = ~events.missing[chosen]
    value = events.hashes[chosen]
    differs = shown & ((value != old_hash) | created[:, None])
    floor = old_stamp if peers is None else np.stack([old_stamp[:, p].max(axis=1) for p in peers], axis=1)
    if ours is not None and echo.any():
        # What our insert left to the database (a default) is as old as the insert it carries, not as its echo: a later change of the source is newer.
        stamp = np.where(echo & created, state.life[row] // 16 * 16 + stamp % 16, stamp)
    fresh = after(stamp[:, None], np.maximum(floor, state.life[row][:, None] - 1))
    new_stamp = np.where(differs, fresh, old_stamp)
    by_application = differs
    exact = echo.copy()
    if ours is not None and echo.any():
        mine = ours.mask[chosen] & shown & echo[:, None]
        # A newer value that an older write of ours covered is on its way back: no later change of the row may get its stamp (whole seconds!).
        covered = np.where(mine & (old_stamp > ours.stamps[chosen]), old_stamp + COVERED, NEVER)
        if covered.size:
            state.life[row] = np.maximum(state.life[row], covered.max(axis=1))
        new_stamp = np.where(mine, ours.stamps[chosen], new_stamp)
        by_application = differs & ~mine
        exact &= ~((mine & (value != ours.hashes[chosen])) | by_application).any(axis=1) & ours.present[chosen]
    # A cell the insert did not carry is not known yet; its stamp is that of the insert all the same.
    if not shown.all():
        new_stamp = np.where(~shown & created[:, None], fresh, new_stamp)
    if events.computed is not None and events.computed.any():
        hidden = ~shown & events.computed
        old_hash = np.where(hidden, np.uint64(UNKNOWN), old_hash)
        new_stamp = np.where(hidden, fresh, new_stamp)
        exact &= ~hidden.any(axis=1)
    state.hashes[row] = np.where(shown, value, old_hash)
    state.stamps[row] = new_stamp
    seen.changed[row] |= by_application
    seen.exact[row] &= exact
