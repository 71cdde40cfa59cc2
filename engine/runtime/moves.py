"""Rows whose key was changed: the events of a batch by row instead of by key, so that what is known of a row goes with it.

A log tells a change of key as a delete of the old key and an insert of the new one, marked as belonging together (`Changes.moved`). Such a row keeps its
state; under the old key a tombstone is left. In one batch a row may move several times, and rows may move after or around each other. A row that moves to
where another one still is (a deferred unique key) displaces it: the next move away from there is that of the displaced one.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.model.batch import DELETE, UPDATE

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Bodies:
    """One element per row that the events leave. key: number of the key it has at the end, of every key at most one. start: number of the key with whose
    state it begins, -1 for what is left behind where a row moved away. moved: an application gave it another key, after all. heir: its new key was that
    of a row that was deleted.

    row: body of each event, -1 where the event concerns none that is left. op: as given, but UPDATE for a row that arrives under a new key: arrived.
    pairs: (old, new) numbers of the keys of all that moved, also of what this could not follow; they happened at the same time.
    """

    key: Int64s
    start: Int64s
    moved: Bools
    heir: Bools
    row: Int64s
    op: npt.NDArray[np.uint8]
    arrived: Bools
    pairs: list[tuple[int, int]]


@dataclass(slots=True)
class _Body:
    start: int
    alive: bool
    by_application: bool = False
    heir: bool = False


@dataclass(slots=True)
class _Following:
    present: Bools
    at: dict[int, _Body] = field(default_factory=dict)
    displaced: dict[int, list[_Body]] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    """Keys whose rows, those that had them when the batch began, were deleted."""
    pairs: list[tuple[int, int]] = field(default_factory=list)

    def body(self, key: int) -> _Body:
        if key not in self.at:
            self.at[key] = _Body(key, bool(self.present[key]))
        return self.at[key]

    def leave(self, key: int) -> _Body:
        waiting = self.displaced.get(key)
        return waiting.pop(0) if waiting else self.body(key)

    def end(self, body: _Body, key: int) -> None:
        """The row that had the key when the batch began was deleted."""
        if self.at[key] is not body:
            self.at[key].heir = True
        elif body.alive:
            self.gone.add(key)

    def arrive(self, body: _Body, key: int) -> None:
        if self.body(key).alive:
            self.displaced.setdefault(key, []).append(self.at[key])
        body.heir = key in self.gone
        self.gone.discard(key)
        self.at[key] = body


def follow(row: Int64s, op: npt.NDArray[np.uint8], moved: Bools, ours: Bools, contained: Bools, present: Bools) -> Bodies:
    """row: number of the key of each event; moved, ours (an echo), contained (the state has it already): of each event. present: of each key."""
    world = _Following(present)
    out: list[_Body | None] = [None] * len(row)
    new_op, arrived = op.copy(), np.zeros(len(row), dtype=np.bool_)
    keys, ops, pairs = row.tolist(), op.tolist(), moved.tolist()
    i = 0
    while i < len(keys):
        key = keys[i]
        if not (pairs[i] and i + 1 < len(keys)):
            body = world.leave(key) if ops[i] == DELETE else world.body(key)
            if body.start == key:
                world.end(body, key) if ops[i] == DELETE else world.gone.discard(key)
            body.alive = ops[i] != DELETE
            out[i] = body
            i += 1
            continue
        to = keys[i + 1]
        body = world.leave(key)
        if not body.alive or contained[i] or contained[i + 1]:
            world.pairs.append((key, to))
            out[i], out[i + 1] = world.body(key), world.body(to)
            world.body(key).alive, world.body(to).alive = False, True
        elif to == key:
            out[i + 1], new_op[i + 1] = body, UPDATE
        else:
            if world.body(key) is body:
                world.at[key] = out[i] = _Body(-1, alive=False)
            world.arrive(body, to)
            body.by_application = not ours[i + 1]
            out[i + 1], new_op[i + 1], arrived[i + 1] = body, UPDATE, True
        i += 2
    left = list(world.at.items())
    numbers = {id(body): n for n, (_, body) in enumerate(left)}
    before = {new: old for old, new in world.pairs}
    moves = {body.start: key for key, body in left if body.alive and body.start not in (-1, key)}
    return Bodies(
        key=np.array([key for key, _ in left], dtype=np.int64),
        start=np.array([body.start for _, body in left], dtype=np.int64),
        moved=np.array([body.by_application and body.alive and body.start not in (-1, key) for key, body in left], dtype=np.bool_),
        heir=np.array([body.heir for _, body in left], dtype=np.bool_),
        row=np.array([-1 if body is None else numbers.get(id(body), -1) for body in out], dtype=np.int64),
        op=new_op,
        arrived=arrived,
        pairs=[(before.pop(start, start), key) for start, key in moves.items()] + [(old, new) for new, old in before.items()],
    )



@dataclass(slots=True)
class Moves:
    """One element per row. was: the key it had before an application gave it another one, None where it kept its own. heir: see `Bodies`."""

    was: list[bytes | None]
    heir: Bools

    def take(self, rows: npt.NDArray[np.intp]) -> Moves:
        return Moves([self.was[i] for i in rows], self.heir[rows])
