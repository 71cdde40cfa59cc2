"""Rows that stand in the target under another key than the rule gives them now: which of them get the new one in place, and what that makes of the others.

A row whose key was changed is to keep its place in the target, with all that refers to it. Until it has (it is refused, or cannot be judged yet) the ledger
remembers under which key it stands, and nobody else may use that.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.ledger.intent import Intent
from engine.ledger.ledger import Ledger
from engine.model.state import State
from engine.runtime.moves import Moves
from engine.runtime.topology import Lane

Rows = npt.NDArray[np.intp]
Int64s = npt.NDArray[np.int64]
KeysOf = Callable[[Sequence[bytes]], list[bytes | None]]
"""Source keys -> target keys, of a rule whose key follows from them."""


@dataclass(slots=True)
class Rekeys:
    """What becomes of some rows of a lane; numbers are those of the rows given. was: the target key under which the row stands and which it gives up, or None.
    ends: (row, target key) where the row under the old key goes, because there is one under the new key already, or there was a newer one. waiting: rows whose
    key another row still stands under. vacant: rows to be created where another row makes room. heirs: rows whose new key a row had that was deleted; its
    values are theirs from now on (the target's row itself stays: a delete would take along what refers to it, which may have been led to the heir).
    taken: target keys that must not be deleted. strangers: old target keys under which another row stands by now."""

    was: list[bytes | None]
    ends: list[tuple[int, bytes]] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    vacant: list[int] = field(default_factory=list)
    heirs: list[int] = field(default_factory=list)
    taken: set[bytes] = field(default_factory=set)
    strangers: set[bytes] = field(default_factory=set)
    any: bool = False
    """Whether any of this is not as ever."""

    def take(self, rows: Rows) -> Rekeys:
        """Of a choice of the rows, none of which wait."""
        place = {old: new for new, old in enumerate(rows.tolist())}
        vacant, heirs = ([place[i] for i in some if i in place] for some in (self.vacant, self.heirs))
        ends = [(place[i], key) for i, key in self.ends if i in place]
        return Rekeys([self.was[i] for i in rows], ends, [], vacant, heirs, self.taken, self.strangers, self.any)


def standing(ledger: Ledger, lane: Lane, keys: Sequence[bytes], moves: Moves | None, rows: Rows, keys_of: KeysOf) -> dict[int, bytes]:
    """Row (of `rows`, which count `keys`) -> the target key under which it stands, as far as that is not the one that its key gives."""
    if lane.rule.link:
        return {}
    if not lane.keyed:
        names = [(moves.was[i] if moves is not None else None) or keys[i] for i in rows]
        return {row: key for row, key in zip(rows.tolist(), ledger.link(lane.name, names), strict=True) if key is not None}
    found: dict[int, bytes] = {}
    if moves is not None:
        moved = [row for row in rows.tolist() if moves.was[row] is not None]
        found = {row: key for row, key in zip(moved, keys_of([moves.was[row] or b"" for row in moved]), strict=True) if key is not None}
    if ledger.moved:
        for row in rows.tolist():
            remembered = ledger.moved.get((lane.name, (moves.was[row] if moves is not None else None) or keys[row]))
            if remembered is not None:
                found[row] = bytes.fromhex(remembered[0])
    return found


def plan(
    ledger: Ledger, lane: Lane, names: Sequence[bytes], rows: Rows, keys: Sequence[bytes], old: dict[int, bytes], moves: Moves | None, when: Int64s
) -> Rekeys:
    """names: source keys of `rows`; keys: the target keys that they are to have. old: see `standing`, also of rows that are not among these. when: the stamp
    of the last change of their key."""
    chosen = Rekeys([None] * len(rows), taken=set(keys))
    mine = set(rows.tolist())
    own = {(lane.name, name) for name in names}
    reserved = {key for row, key in old.items() if row not in mine}
    reserved |= {bytes.fromhex(key) for row, (key, _) in ledger.moved.items() if row[0] == lane.name and row not in own}
    chosen.taken |= reserved
    place = {row: i for i, row in enumerate(rows.tolist())}
    candidates = {place[row]: key for row, key in old.items() if row in place and key != keys[place[row]]}
    if reserved:
        chosen.waiting = [i for i, key in enumerate(keys) if key in reserved]
        candidates = {i: key for i, key in candidates.items() if i not in set(chosen.waiting)}
    if not candidates:
        return chosen
    here, there = (ledger.actual(lane.target.name, some) for some in (list(candidates.values()), [keys[i] for i in candidates]))
    # A row that came under the old key after the change is another one.
    standing = {i: key for n, (i, key) in enumerate(candidates.items()) if here.present[n] and when[i] > here.life[n]}
    chosen.strangers = set(candidates.values()) - set(standing.values())
    occupied = {i for n, i in enumerate(candidates) if there.present[n]}
    barred = {i for n, i in enumerate(candidates) if not there.present[n] and there.life[n] >= when[i]}
    in_place = set(standing) - barred
    while True:
        vacated = {standing[i] for i in in_place}
        blocked = {i for i in in_place if i in occupied and keys[i] not in vacated}
        if not blocked:
            break
        in_place -= blocked
    for i, key in standing.items():
        if i in in_place:
            chosen.was[i] = key
        elif key not in chosen.taken:
            chosen.ends.append((i, key))
    chosen.vacant = [i for i, key in enumerate(keys) if i not in in_place and key in vacated]
    chosen.heirs = [i for i in standing if i in occupied - in_place and moves is not None and moves.heir[rows[i]]]
    chosen.any = bool(in_place or chosen.ends or chosen.vacant or chosen.heirs)
    return chosen


def remember(intent: Intent, lane: Lane, name: bytes, key: bytes, before: bytes) -> None:
    """The row of this source key still stands under that target key, which was right for the source key it had before."""
    if lane.keyed:
        intent.moved[lane.name, name] = [key.hex(), before.hex()]
    else:
        intent.links.setdefault(lane.name, {})[name] = key


def forget(intent: Intent, ledger: Ledger, lane: Lane, name: bytes) -> None:
    """The row of this source key has the key that the rule gives it, or is gone. What has the key it had before is asked about: it was left alone so far."""
    known = intent.moved.get((lane.name, name)) or ledger.moved.get((lane.name, name))
    if known is not None:
        intent.moved[lane.name, name] = None
        intent.asks.setdefault((lane.name, bytes.fromhex(known[1])), 0)


def vacate(have: State, rows: Sequence[int]) -> None:
    """Rows of `have` whose place another row gives up: nothing stands there."""
    nothing = State.unknown(len(rows), have.hashes.shape[1])
    have.put(np.array(rows, dtype=np.intp), nothing)
