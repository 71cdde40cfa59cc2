"""Rules over several tables: which of their rows a change concerns, and what these rows are now.

The base table's rows name the view's rows. A change in any table leads over the join values, old and new, to the base rows it concerns; these are asked
again: their rows and those joined to them are fetched by key and the rule is evaluated over them. The ledger keeps join values by row key and back, as the
logs have shown them (`Ledger.joined`), so that what is fetched can be told to be just that: where a row is gone, or is another one than the log has shown,
its event is on its way and the base row waits for it.

A cell of the view has the stamp of the newest row that it is computed from, taken when its value changes. A row that a base row lost (deleted, moved away) is
no longer there to give its stamp: that is kept apart, see `View.cells`.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.ledger import keys as row_keys
from engine.ledger.intent import Intent
from engine.ledger.ledger import Ledger
from engine.mapping.evaluator import Evaluated
from engine.model.hashing import UNKNOWN, hash_column
from engine.model.state import NEVER, State
from engine.ports import Reader
from engine.runtime.proposal import Proposer, Touched
from engine.runtime.topology import LIFE, Lane, Member, Topology, Tracked, View, index_name

Int64s = npt.NDArray[np.int64]
OUTSIDE, INSIDE = np.uint64(1), np.uint64(2)


@dataclass(slots=True)
class Views:
    """readers: by system. The ledger is read only."""

    ledger: Ledger
    topology: Topology
    readers: Mapping[str, Reader]
    proposer: Proposer
    _waiting: dict[tuple[str, bytes], set[str]] = field(default_factory=dict)
    """Base rows that were concerned and not looked at since, with the tables (aliases) by which."""

    # --- from a change to the base rows it concerns

    def note_joins(self, touched: Touched, intent: Intent) -> None:
        """What a log shows of the join values of these rows goes into the intent."""
        for columns in touched.tracked.indexes:
            places = [touched.images.column_names.index(c) for c in columns]
            values = row_keys.encode([_one(touched.images, c) for c in columns], intent.long_keys.__setitem__)
            shown = np.asarray(~touched.missing[:, places].any(axis=1)).tolist()
            pairs = intent.joins.setdefault(index_name(touched.tracked, columns), {})
            for i, key in enumerate(touched.keys):
                if not touched.state.present[i]:
                    pairs[key] = None
                elif shown[i]:
                    pairs[key] = values[i] or b""

    def concern(self, touched: Sequence[Touched], intent: Intent) -> None:
        """Asks the views again whose rows these changes concern, and notes what they lost. Nothing may be in flight."""
        notes: dict[str, _Notes] = {}
        for rows in touched:
            for lane, alias in self.topology.views_over(rows.tracked.name):
                assert lane.view is not None
                mine = notes.setdefault(lane.name, _Notes(lane.name, self._waiting))
                if not alias:
                    for row, base in enumerate(rows.keys):
                        mine.concerned(alias, base, again=_again(rows, row))
                    continue
                member = lane.view.member(alias)
                old = self._values(rows.tracked, member.here, rows.keys)
                new = intent.joins.get(index_name(rows.tracked, member.here), {}) if member.here != rows.tracked.identity else {}
                now = [(new.get(key, before) if present else None) for key, before, present in zip(rows.keys, old, rows.state.present.tolist(), strict=True)]
                for row, base in self._up(lane, member, now):
                    mine.concerned(alias, base, again=_again(rows, row))
                left = [before if before != after else None for before, after in zip(old, now, strict=True)]
                newest = rows.state.newest()
                for row, base in self._up(lane, member, left):
                    mine.concerned(alias, base, again=_again(rows, row))
                    mine.lost(alias, base, int(newest[row]))
        for rule, found in notes.items():
            intent.asks |= {(rule, base): 0 for base in found.bases}
            for base, aliases in found.bases.items():
                self._waiting.setdefault((rule, base), set()).update(aliases)
            self._note(self.topology.lanes[rule].view, found, intent)

    def _note(self, view: View | None, notes: _Notes, intent: Intent) -> None:
        """Losses, and values that are unknown because the view may have had another one that nobody looked at."""
        assert view is not None
        keys = list(dict.fromkeys([*notes.losses, *notes.unclear]))
        if not keys:
            return
        state = self.ledger.seen(view.name, keys)
        for i, key in enumerate(keys):
            for alias, stamp in notes.losses.get(key, {}).items():
                state.stamps[i, view.lost(alias)] = max(state.stamps[i, view.lost(alias)], stamp)
            aliases = notes.unclear.get(key, set())
            state.hashes[i, [c for c, origins in enumerate(view.origins) if aliases & {alias for alias, _ in origins}]] = UNKNOWN
        intent.rows[view.name] = (keys, state.pack())

    def bases(self, rule: str, alias: str, keys: Sequence[bytes]) -> list[bytes]:
        """The base rows of a view that rows of one of its tables concern, as far as the log has shown."""
        lane = self.topology.lanes[rule]
        if lane.view is None or not alias:
            return list(keys)
        member = lane.view.member(alias)
        found = self._up(lane, member, self._values(member.tracked, member.here, keys))
        return list(dict.fromkeys(base for _, base in found))

    def _values(self, tracked: Tracked, columns: tuple[str, ...], keys: Sequence[bytes]) -> list[bytes | None]:
        return list(keys) if columns == tracked.identity else self.ledger.join_values(index_name(tracked, columns), keys)

    def _rows(self, tracked: Tracked, columns: tuple[str, ...], values: Sequence[bytes]) -> list[list[bytes]]:
        return [[value] for value in values] if columns == tracked.identity else self.ledger.joined(index_name(tracked, columns), values)

    def _up(self, lane: Lane, member: Member, values: Sequence[bytes | None]) -> Iterable[tuple[int, bytes]]:
        """(number of the value, key of a base row) for rows of the member that are joined by these values."""
        assert lane.view is not None
        found = [(i, value) for i, value in enumerate(values) if value is not None]
        while found:
            neighbour = lane.view.member(member.via) if member.via else None
            tracked = neighbour.tracked if neighbour else lane.source
            rows = self._rows(tracked, member.there, [value for _, value in found])
            found = [(i, key) for (i, _), keys in zip(found, rows, strict=True) for key in keys]
            if neighbour is None:
                return found
            there = self._values(neighbour.tracked, neighbour.here, [key for _, key in found])
            found = [(i, value) for (i, _), value in zip(found, there, strict=True) if value is not None]
            member = neighbour
        return found

    # --- what base rows are now

    def look(self, lane: Lane, base: Touched, intent: Intent, bytes_at_most: int | None) -> Touched:
        """The view's rows of these base rows, which were just read. Those that cannot be judged yet are asked again and left out. Oversized when the joined
        rows of one table hold more than `bytes_at_most`."""
        view = lane.view
        assert view is not None
        gathered = _Gathered(self, lane, base, bytes_at_most)
        ready = ~base.missing.any(axis=1)  # asked again already
        for i in np.flatnonzero(gathered.stale & ready).tolist():
            intent.asks[lane.name, base.keys[i]] = base.attempt(i) + 1
        chosen = np.flatnonzero(ready & ~gathered.stale)
        keys = [base.keys[i] for i in chosen]
        for key in keys:
            self._waiting.pop((lane.name, key), None)
        there = np.flatnonzero(base.state.present[chosen])
        found = self.proposer.evaluator.evaluate_joined(lane.rule, base.images.take(pa.array(chosen[there])), gathered.images)
        stored = self.ledger.seen(view.name, keys)
        state = stored.copy()
        base_state = base.state.take(chosen)
        state.present, state.life, state.fence = base_state.present.copy(), base_state.life.copy(), base_state.fence.copy()
        anew = (stored.life != state.life) | ~stored.present
        changed = np.zeros(state.hashes.shape, dtype=np.bool_)
        hashes = self._hashes(lane, found, there, state)
        known = hashes != UNKNOWN
        changed[:, : view.own + 1] = known & ((hashes != stored.hashes[:, : view.own + 1]) | anew[:, None])
        newest = gathered.stamps(chosen, stored)
        # What a record that came back lacks of its joined rows, it lacks since it was deleted.
        born = np.where(stored.present, state.life, np.maximum(state.life, stored.life))
        newest = np.where(anew[:, None], np.maximum(newest, born[:, None]), newest)
        state.hashes[:, : view.own + 1] = np.where(known, hashes, stored.hashes[:, : view.own + 1])
        state.stamps[changed] = np.maximum(stored.stamps, newest)[changed]
        state.hashes[~state.present], state.stamps[~state.present] = UNKNOWN, NEVER
        intent.rows[view.name] = (keys, state.pack())
        return Touched(
            tracked=base.tracked, keys=keys, state=state, images=base.images.take(pa.array(chosen)), missing=base.missing[chosen],
            changed=changed & ~anew[:, None], before=stored.stamps, exact=np.zeros(len(keys), dtype=np.bool_), asked=True, attempts=base.attempts, found=found,
        )  # fmt: skip

    def _hashes(self, lane: Lane, found: Evaluated, there: npt.NDArray[np.intp], state: State) -> npt.NDArray[np.uint64]:
        """Of the rule's values and of FILTER, per row; UNKNOWN where the row is gone, outside, or rejected."""
        view = lane.view
        assert view is not None
        hashes = np.full((len(state), view.own + 1), UNKNOWN, dtype=np.uint64)
        rows = there[found.row]
        for c, name in enumerate(view.cells[: view.own]):
            hashes[rows, c] = hash_column(lane.target.type(name), found.values.column(name), self.ledger.seed)
        hashes[there, view.own] = OUTSIDE
        hashes[rows, view.own] = INSIDE
        hashes[there[[rejected.row for rejected in found.rejected]], view.own] = UNKNOWN
        return hashes


@dataclass(slots=True)
class _Notes:
    """What the events of a batch mean for one view. A base row that one table concerns again before it was looked at may have had a value in between that it
    has no longer: nobody would notice that it changed twice, so what hangs on that table is unclear then. What another table was changed for stays clear: it
    must not take the time of a change that did not touch it. waiting: see `Views`."""

    rule: str
    waiting: Mapping[tuple[str, bytes], set[str]]
    bases: dict[bytes, set[str]] = field(default_factory=dict)
    losses: dict[bytes, dict[str, int]] = field(default_factory=dict)
    unclear: dict[bytes, set[str]] = field(default_factory=dict)

    def concerned(self, alias: str, base: bytes, *, again: bool) -> None:
        before = self.bases.setdefault(base, set())
        if again or alias in before or alias in self.waiting.get((self.rule, base), ()):
            self.unclear.setdefault(base, set()).add(alias)
        before.add(alias)

    def lost(self, alias: str, base: bytes, stamp: int) -> None:
        losses = self.losses.setdefault(base, {})
        losses[alias] = max(losses.get(alias, NEVER), stamp)


@dataclass(slots=True)
class _Gathered:
    """The joined rows of base rows.

    images: by alias. stale: base rows with a joined row that is not as the log has shown it. pairs: by alias, (number of the base row, number of the joined
    row) for each that belong together."""

    views: Views
    lane: Lane
    base: Touched
    bytes_at_most: int | None
    images: dict[str, pa.Table] = field(default_factory=dict)
    stale: npt.NDArray[np.bool_] = field(init=False)
    pairs: dict[str, tuple[Int64s, Int64s]] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        view = self.lane.view
        assert view is not None
        self.stale = np.zeros(len(self.base.keys), dtype=np.bool_)
        present = np.flatnonzero(self.base.state.present)
        # alias -> (keys of its rows, pairs (base row, row))
        reached: dict[str, tuple[list[bytes], Int64s, Int64s]] = {"": (self.base.keys, present, present)}
        for member in view.members:
            reached[member.alias] = self._gather(member, *reached[member.via], tracked=view.member(member.via).tracked if member.via else self.lane.source)

    def _gather(self, member: Member, keys: list[bytes], base: Int64s, row: Int64s, *, tracked: Tracked) -> tuple[list[bytes], Int64s, Int64s]:
        views = self.views
        values = views._values(tracked, member.there, keys)
        named = list(dict.fromkeys(value for value in values if value is not None))
        places: dict[bytes, int] = {}
        joined = {
            value: [places.setdefault(key, len(places)) for key in found]
            for value, found in zip(named, views._rows(member.tracked, member.here, named), strict=True)
        }
        mine = list(places)
        images, state, fresh = self._fetch(member, mine)
        pairs = [(b, j) for b, r in zip(base.tolist(), row.tolist(), strict=True) if (value := values[r]) is not None for j in joined[value]]
        together = np.array(sorted(set(pairs)), dtype=np.int64).reshape(-1, 2)
        # An index built of the identity also names rows that are not there.
        together = together[state.present[together[:, 1]]] if mine else together
        self.stale[together[~fresh[together[:, 1]], 0]] = True
        self.images[member.alias], self.states[member.alias] = images, state
        self.pairs[member.alias] = together[:, 0], together[:, 1]
        return mine, together[:, 0], together[:, 1]

    def _fetch(self, member: Member, keys: list[bytes]) -> tuple[pa.Table, State, npt.NDArray[np.bool_]]:
        """(rows that are there, what the log has shown per key, whether the row is just that)."""
        tracked, ledger = member.tracked, self.views.ledger
        state = ledger.seen(tracked.name, keys)
        columns = tracked.watched.columns
        fresh = ~state.present
        wanted = [i for i in range(len(keys)) if state.present[i]]
        if not wanted:
            return pa.table({c: pa.array([], pa.string()) for c in columns}), state, fresh
        named = row_keys.decode([keys[i] for i in wanted], tracked.identity, ledger.long_key)
        images = self.views.readers[tracked.system].fetch(tracked.table, columns, tracked.identity, named, self.bytes_at_most).select(list(columns))
        found = row_keys.encode([_one(images, c) for c in tracked.identity])
        place = {key: i for i, key in enumerate(keys)}
        rows = np.array([place.get(key or b"", -1) for key in found], dtype=np.int64)
        same = rows >= 0
        for c, name in enumerate(tracked.cells):
            hashes = hash_column(tracked.type(name), images.column(name), ledger.seed)
            same &= (state.hashes[rows, c] == UNKNOWN) | (state.hashes[rows, c] == hashes)
        fresh[rows[same]] = True
        return images, state, fresh

    def stamps(self, chosen: npt.NDArray[np.intp], stored: State) -> Int64s:
        """Per view cell the newest stamp among the rows it is computed from, those lost included. Shape (chosen rows, view cells)."""
        view = self.lane.view
        assert view is not None
        out = np.full((len(chosen), len(view.cells)), NEVER, dtype=np.int64)
        for c, origins in enumerate(view.origins):
            if not origins:
                out[:, c] = self.base.state.life[chosen]
            for alias, cells in origins:
                if alias == "":
                    out[:, c] = np.maximum(out[:, c], _newest(self.base.state, cells)[chosen])
                    continue
                newest = np.full(len(self.base.keys), NEVER, dtype=np.int64)
                base, row = self.pairs[alias]
                np.maximum.at(newest, base, np.maximum(_newest(self.states[alias], cells), self.states[alias].life)[row])
                out[:, c] = np.maximum(out[:, c], np.maximum(newest[chosen], stored.stamps[:, view.lost(alias)]))
        return out


def _again(rows: Touched, row: int) -> bool:
    return rows.again is not None and bool(rows.again[row])


def _newest(state: State, cells: Int64s) -> Int64s:
    newest = state.life.copy() if LIFE in cells else np.full(len(state), NEVER, dtype=np.int64)
    columns = cells[cells != LIFE]
    return np.maximum(newest, state.stamps[:, columns].max(axis=1)) if len(columns) else newest


def _one(table: pa.Table, column: str) -> pa.Array:
    chunks = table.column(column).chunks
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())
