"""One rule over rows of its source: evaluate, compare with the target, decide. What every command that asks about rows has in common.

Nothing is written here, into a database or the ledger: the result is a proposal for the target and additions to the intent.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.ledger import keys as row_keys
from engine.ledger.intent import Intent
from engine.ledger.ledger import Ledger
from engine.mapping.evaluator import Evaluated, Evaluator
from engine.model.batch import INSERT, UPDATE
from engine.model.hashing import UNKNOWN, hash_column
from engine.model.state import NEVER, State
from engine.model.types import DataType, Kind
from engine.ports import Reader
from engine.resolve.policies import REGISTRY, Policy
from engine.resolve.resolver import NOTHING, Decision, Want, resolve
from engine.runtime import precedence
from engine.runtime.identity import Crosswalk
from engine.runtime.moves import Moves
from engine.runtime.precedence import Before
from engine.runtime.rekeys import Rekeys, forget, plan, remember, standing, vacate
from engine.runtime.topology import LIFE, Lane, Tracked
from engine.settings.model import Action, SetCells

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]
Tie = Literal["source", "target", "hold", "newest"]
Agrees = Callable[[Lane, Sequence[bytes], Sequence[bytes], Bools], Bools]
"""(lane, source keys, target keys, differing cells) -> the cells on which the opposite rule finds both sides equal."""

CONFLICTS_LISTED = 1_000


@dataclass(slots=True)
class Touched:
    """Rows of one source table that are asked about; one element per row.

    state: what the log has shown of them. images: the watched columns, null where the row is gone. missing: shape (rows, watched columns), true
    where the image has no value or one that the log has not shown yet. changed, before: see `Observed`. exact: see `Observed`. asked: the rows do not come
    from the log but were asked for again; attempts counts how often. found: for a rule over several tables, what it gives for the rows that are there;
    state, changed and before are then those of its view.
    """

    tracked: Tracked
    keys: list[bytes]
    state: State
    images: pa.Table
    missing: Bools
    changed: Bools
    before: Int64s
    exact: Bools
    again: Bools | None = None
    """Rows with several events in the batch: what they were in between is not told."""
    asked: bool = False
    attempts: dict[bytes, int] | None = None
    found: Evaluated | None = None
    came: Before | None = None
    """Only where a rule has something to say of it."""
    moves: Moves | None = None
    """Keys that were changed; None where none was."""

    def attempt(self, row: int) -> int:
        return 0 if self.attempts is None else self.attempts.get(self.keys[row], 0)


@dataclass(slots=True)
class Proposal:
    """What a lane would write. One element per row. source_row: number in `Touched`. decided, hashes, stamps: shape (rows, lane cells).
    values: the rule's columns, and those that only a mark writes.

    was: the target key which a row gives up for its new one, None for others (of a DELETE its own, where its source row has another one by now); None where no
    row does. kept, gone, names: as long as it: what stands under the old key, all its tracked cells; the stamp of its end; the source key then.
    """

    lane: Lane
    source_row: Rows
    source_keys: list[bytes]
    target_keys: list[bytes]
    op: npt.NDArray[np.uint8]
    decided: Bools
    values: pa.Table
    hashes: npt.NDArray[np.uint64]
    stamps: Int64s
    life: Int64s
    was: list[bytes | None] | None = None
    kept: State | None = None
    gone: Int64s | None = None
    names: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self.target_keys)

    def take(self, rows: Rows) -> Proposal:
        was = None if self.was is None else [self.was[i] for i in rows]
        return Proposal(
            self.lane, self.source_row[rows], [self.source_keys[i] for i in rows], [self.target_keys[i] for i in rows], self.op[rows],
            self.decided[rows], self.values.take(pa.array(rows)), self.hashes[rows], self.stamps[rows], self.life[rows],
            was, None if self.kept is None else self.kept.take(rows), None if self.gone is None else self.gone[rows],
            None if self.names is None else [self.names[i] for i in rows],
        )  # fmt: skip

    def parts(self) -> list[Proposal]:
        """Marked rows apart: an insert must not name columns that only a mark writes, they have the database's default."""
        own = self.lane.own
        if own == len(self.lane.cells):
            return [self]
        marked = self.decided[:, own:].any(axis=1)
        rest = self.take(np.flatnonzero(~marked))
        rest.values = rest.values.select(list(self.lane.rule.written))
        return [part for part in (rest, self.take(np.flatnonzero(marked))) if len(part)]


@dataclass(slots=True)
class Proposer:
    """ledger: read only. now_us: for records a person reads. ranks: of the systems, in stamps. readers: to find records that a link's `match` describes.
    bases: (rule, alias, keys of rows of that table) -> source keys of the rule, see `Views.bases`."""

    ledger: Ledger
    evaluator: Evaluator
    now_us: Callable[[], int]
    ranks: Mapping[str, int] = field(default_factory=dict)
    bases: Callable[[str, str, Sequence[bytes]], list[bytes]] = lambda _rule, _alias, keys: list(keys)
    readers: Mapping[str, Reader] = field(default_factory=dict)
    crosswalk: Crosswalk = field(init=False)

    def __post_init__(self) -> None:
        self.crosswalk = Crosswalk(self.ledger, self.readers)
        self.evaluator.linked = self.crosswalk.linked

    def propose(self, lane: Lane, touched: Touched, intent: Intent, *, position: str, tie: Tie | None = None, agrees: Agrees | None = None) -> Proposal:
        """The rows of `touched` through one rule. Rows that cannot be judged now are asked again, rows the rule refuses go to quarantine."""
        return _Proposing(self, lane, touched, intent, position, tie, agrees).run()

    def long_key(self, intent: Intent) -> Callable[[bytes], bytes]:
        """The text of a long key, also of one that this very batch brought."""
        return lambda digest: intent.long_keys.get(digest) or self.ledger.long_key(digest)


@dataclass(slots=True)
class _Proposing:
    by: Proposer
    lane: Lane
    touched: Touched
    intent: Intent
    position: str
    tie: Tie | None
    agrees: Agrees | None
    actions: list[Action] = field(default_factory=list)
    """What becomes of the target rows of rows that are gone, one element for each."""
    old: dict[int, bytes] = field(default_factory=dict)
    """Rows -> target keys under which they stand, see `rekeys.standing`."""

    def run(self) -> Proposal:
        lane, touched = self.lane, self.touched
        if touched.came is not None and precedence.wanted(lane.settings) and self.tie is None:
            self._precede(touched.came)
        skip = self._unchanged()
        present = self._staying(np.flatnonzero(touched.state.present & ~skip))
        gone = np.flatnonzero(~touched.state.present & ~skip & (touched.state.life >= 0))
        self.intent.count(lane.name, echo=int(skip.sum()))
        self.old = standing(self.by.ledger, lane, touched.keys, touched.moves, present, self._keys_of)
        rows, keys, values, excluded = self._evaluated(self._judgeable(present))
        rows, keys, values, moving = self._moving(rows, keys, values, excluded)
        gone_rows, gone_keys = self._gone(gone, excluded, moving.taken, moving.taken | (set(self.old.values()) - moving.strangers))
        ends = [i for i, _ in moving.ends]
        gone_rows, gone_keys = np.concatenate([gone_rows, rows[ends]]).astype(np.intp), gone_keys + [key for _, key in moving.ends]
        self.actions += ["delete"] * len(ends)
        # Each of these ends as one of: applied, equal, decided_against, echo, ignored, waiting (asked again), quarantined.
        self.intent.count(lane.name, rows=int(skip.sum()) + len(present) + len(gone) + len(ends))
        want, have, kept = self._want(rows, keys, values, gone_rows, gone_keys, moving)
        return self._decide(np.concatenate([rows, gone_rows]).astype(np.intp), keys + gone_keys, values, want, have, moving, kept)

    def _precede(self, came: Before) -> None:
        """What the rule says of updates against deletes and of inserts against inserts goes into the stamps, before anything is compared."""
        lane, touched, ledger = self.lane, self.touched, self.by.ledger
        rows = np.flatnonzero(came.created | came.deleted | touched.changed.any(axis=1))
        keys = self._target_keys(rows)
        known = np.array([key is not None for key in keys], dtype=np.bool_)
        rows, named = rows[known], [key for key in keys if key is not None]
        if len(rows) == 0:
            return
        have = ledger.actual(lane.target.name, named)
        have = State(have.present, have.life, have.fence, have.hashes[:, lane.target_cell], have.stamps[:, lane.target_cell])
        state = touched.state.take(rows)
        rank = self.by.ranks[lane.source.system]
        moved = np.flatnonzero(precedence.settle(lane.settings, state, touched.changed[rows], came.take(rows), have, rank))
        if len(moved):
            touched.state.put(rows[moved], state.take(moved))
            packed = state.take(moved).pack()
            _, stored = self.intent.rows[lane.source.name]
            for row, value in zip(rows[moved].tolist(), packed, strict=True):
                stored[row] = value

    # --- which rows

    def _unchanged(self) -> Bools:
        """Echoes that show just what we wrote, while the other side stands where it stood: the stamps say so, no value is needed."""
        touched, lane = self.touched, self.lane
        skip = np.zeros(len(touched.keys), dtype=np.bool_)
        exact = np.flatnonzero(touched.exact)
        if touched.asked or len(exact) == 0:
            return skip
        keys = self._target_keys(exact)
        known = np.array([key is not None for key in keys], dtype=np.bool_)
        have = self.by.ledger.actual(lane.target.name, [key or row_keys.NO_KEY for key in keys])
        state = touched.state.take(exact)
        alike = known & (have.present == state.present)
        alike &= ~state.present | (have.stamps[:, lane.target_cell] == self._stamps(state))[:, : lane.own].all(axis=1)
        ledger = self.by.ledger
        if ledger.quarantine or ledger.held:
            # What stood aside in this direction is settled by what we wrote the other way, and has to hear of it.
            names = [(lane.name, touched.keys[i]) for i in exact]
            alike &= np.array([name not in ledger.quarantine and name not in ledger.held for name in names], dtype=np.bool_)
        skip[exact[alike]] = True
        return skip

    def _judgeable(self, present: Rows) -> Rows:
        """Rows without a value that the WHERE, a lookup or the key depends on are asked again with their base row."""
        columns = self._columns([*self.lane.rule.filter_reads, *(c for part in self.lane.rule.key for c in self.lane.rule.lineage[part])])
        unclear = self.touched.missing[np.ix_(present, columns)].any(axis=1)
        self._ask_again(present[unclear])
        return present[~unclear]

    def _evaluated(self, rows: Rows) -> tuple[Rows, list[bytes], pa.Table, Rows]:
        """(rows, their target keys, their values, rows outside the WHERE)."""
        lane, touched = self.lane, self.touched
        if len(rows) == 0:
            return rows, [], pa.table({c: pa.array([], pa.string()) for c in lane.rule.written}), rows
        found = touched.found
        if found is None:
            whole = len(rows) == len(touched.keys)
            images = touched.images if whole else touched.images.take(pa.array(rows))
            missing = touched.missing if whole else touched.missing[rows]
            found = self.by.evaluator.evaluate(lane.rule, images, missing if missing.any() else None)
        for refused in found.rejected:
            self._quarantine(int(rows[refused.row]), refused.reason, refused.what, refused.waits)
        chosen = rows[found.row]
        accounted = np.concatenate([chosen, rows[[r.row for r in found.rejected]]]) if found.rejected else chosen
        outside = np.setdiff1d(rows, accounted) if len(accounted) < len(rows) else rows[:0]
        if lane.rule.link:
            return self._linked(chosen, found.values, outside)
        keys = self._encode(found.values)
        if len(set(keys)) < len(keys):
            first: dict[bytes, int] = {}
            keep = [i for i, key in enumerate(keys) if first.setdefault(key, i) == i]
            for i in sorted(set(range(len(keys))) - set(keep)):
                self._quarantine(int(chosen[i]), "unique", "another source row leads to the same target row")
            chosen, keys = chosen[keep], [keys[i] for i in keep]
            return chosen, keys, found.values.take(pa.array(keep)), outside
        return chosen, keys, found.values, outside

    def _linked(self, rows: Rows, values: pa.Table, outside: Rows) -> tuple[Rows, list[bytes], pa.Table, Rows]:
        """The same for a rule with a link: target keys from the crosswalk, or found by `match`; a row that is to be created gets a stand-in."""
        lane, touched = self.lane, self.touched
        unknown = np.zeros(len(rows), dtype=np.bool_)
        if lane.settings.match and lane.view is None:
            columns = self._columns(c for part in lane.settings.match for name in part for c in lane.rule.lineage[name])
            unknown |= touched.missing[np.ix_(rows, columns)].any(axis=1)
        names = [touched.keys[i] for i in rows]
        placed = self.by.crosswalk.place(lane, names, touched.state.life[rows], values, self.intent, unknown, fetch=touched.asked)
        self._ask_again(rows[placed.later])
        for i, what in placed.ambiguous.items():
            self._quarantine(int(rows[i]), "ambiguous_match", what)
        keep = np.array(placed.settled, dtype=np.intp)
        return rows[keep], [placed.keys[i] or b"" for i in placed.settled], placed.values.take(pa.array(keep)), outside

    def _staying(self, present: Rows) -> Rows:
        """Without rows that a write of ours, not shown by their log yet, puts under another key: what they are now is told with that."""
        touched = self.touched
        away = self.by.ledger.pending.moved_away(touched.tracked.name, [touched.keys[i] for i in present])
        if away is None:
            return present
        self.intent.count(self.lane.name, rows=int(away.sum()))
        self._ask_again(present[away])
        return present[~away]

    def _moving(self, rows: Rows, keys: list[bytes], values: pa.Table, excluded: Rows) -> tuple[Rows, list[bytes], pa.Table, Rekeys]:
        """Which rows get another key in the target, and the rows without those that have to wait for another one's."""
        lane, touched, ledger = self.lane, self.touched, self.by.ledger
        ledger.wait_for(lane.target.name, keys)  # what is on its way may leave a row under its old key
        if (lane.keyed or lane.rule.link) and not self.old and not ledger.moved:
            return rows, keys, values, Rekeys([None] * len(rows), taken=set(keys))
        names = [touched.keys[i] for i in rows]
        if not (lane.keyed or lane.rule.link) and len(rows):
            links = self.intent.links.setdefault(lane.name, {})
            links.update({name: key for i, name, key in zip(rows.tolist(), names, keys, strict=True) if self.old.get(i) != key or touched.moves is not None})
        out = set(excluded.tolist())
        moving = plan(ledger, lane, names, rows, keys, {row: key for row, key in self.old.items() if row not in out}, touched.moves, self._rekeyed(rows))
        for row in moving.waiting:
            self._quarantine(int(rows[row]), "foreign_key", "waits until the row that stands under this key in the target gets its own new one")
        left = np.setdiff1d(np.arange(len(rows)), moving.waiting)
        for was in (touched.moves.was if touched.moves is not None and ledger.moved else ()):
            forget(self.intent, ledger, lane, was or b"")
        decided = set(rows[left].tolist())
        for row, key in self.old.items():
            if row not in decided and (lane.keyed or touched.moves is not None):
                remember(self.intent, lane, touched.keys[row], key, self._name_before(row))
        for i in left.tolist() if ledger.moved else ():
            if moving.was[i] is None:
                forget(self.intent, ledger, lane, names[i])
        if moving.waiting:
            rows, keys, values = rows[left], [keys[i] for i in left], values.take(pa.array(left))
            moving = moving.take(left)
        return rows, keys, values, moving

    def _name_before(self, row: int) -> bytes:
        """The source key that was right for the target key under which a row stands."""
        moves, name = self.touched.moves, self.touched.keys[row]
        was = moves.was[row] if moves is not None else None
        remembered = self.by.ledger.moved.get((self.lane.name, was or name))
        return bytes.fromhex(remembered[1]) if remembered is not None else was or name

    def _gone(self, gone: Rows, excluded: Rows, taken: set[bytes], moved: set[bytes]) -> tuple[Rows, list[bytes]]:
        """Rows whose target row is to go, by their rule's `on_delete` and `on_exit`; a target row that another source row has now stays. moved: target keys
        that are not for those that are gone to give up, taken ones included."""
        out_rows: list[int] = []
        out_keys: list[bytes] = []
        for row in gone.tolist() if self.by.ledger.moved else ():
            forget(self.intent, self.by.ledger, self.lane, self.touched.keys[row])
        for rows, action, stay in ((gone, self.lane.settings.on_delete, moved), (excluded, self.lane.settings.on_exit, taken)):
            for row in rows.tolist():
                self._release(row)
                self._let_go(row)
            if action == "ignore" or len(rows) == 0:
                self.intent.count(self.lane.name, ignored=len(rows))
                continue
            for row, key in zip(rows.tolist(), self._target_keys(rows), strict=True):
                if key is not None and key not in stay:
                    out_rows.append(row)
                    out_keys.append(key)
                    self.actions.append(action)
                else:
                    self.intent.count(self.lane.name, equal=1)
        return np.array(out_rows, dtype=np.intp), out_keys

    def _target_keys(self, rows: Rows) -> list[bytes | None]:
        """Keys in the target of source rows, from their identity alone; those under which they still stand, where their keys were changed."""
        found = self._keys_of([self.touched.keys[i] for i in rows])
        if not self.old and not self.by.ledger.moved:
            return found
        names = [(self.lane.name, self.touched.keys[i]) for i in rows]
        moved = [self.by.ledger.moved.get(name) for name in names]
        remembered = [key if text is None else bytes.fromhex(text[0]) for key, text in zip(found, moved, strict=True)]
        return [self.old.get(row, key) for row, key in zip(rows.tolist(), remembered, strict=True)]

    def _keys_of(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The same from the keys of the source."""
        if not self.lane.keyed:
            return self.by.crosswalk.there(self.lane.crosswalk, keys, self.intent)
        named = [i for i, key in enumerate(keys) if not key.startswith(row_keys.NO_KEY)]
        out: list[bytes | None] = [None] * len(keys)
        if named:
            identity = row_keys.decode([keys[i] for i in named], self.lane.source.identity, self._long_key)
            found = self.by.evaluator.keys(self.lane.rule, identity)
            for place, key in zip(found.row.tolist(), self._encode(found.values), strict=True):
                out[named[place]] = key
        return out

    # --- what they ask for

    def _want(
        self, rows: Rows, keys: list[bytes], values: pa.Table, gone: Rows, gone_keys: list[bytes], moving: Rekeys
    ) -> tuple[Want, State, State | None]:
        """(desired rows, present ones first; what stands there; the same with all tracked cells, where rows move)."""
        lane, touched = self.lane, self.touched
        count, cells = len(rows) + len(gone), len(lane.cells)
        hashes = np.full((count, cells), UNKNOWN, dtype=np.uint64)
        known = np.zeros((count, cells), dtype=np.bool_)
        for c, name in enumerate(lane.cells[: lane.own]):
            hashes[: len(rows), c] = hash_column(lane.target.type(name), values.column(name), self.by.ledger.seed)
            known[: len(rows), c] = ~touched.missing[np.ix_(rows, self._columns(lane.rule.lineage[name]))].any(axis=1)
        state = touched.state.take(np.concatenate([rows, gone]).astype(np.intp))
        stamps = self._stamps(state)
        # Who deletes the row on the way back minds all of its cells, whatever this rule reads of it: both have to say the same of who was later.
        reads = state.stamps if any(alias == "" for _, alias in lane.returns) and lane.view is None else state.stamps[:, lane.reads]
        newest = np.maximum(state.life, reads.max(axis=1)) if reads.shape[1] else state.life.copy()
        places = keys
        if moving.any:
            places = [key if was is None else was for key, was in zip(keys, moving.was, strict=True)]
        have = self.by.ledger.actual(lane.target.name, places + gone_keys)
        vacate(have, moving.vacant)
        kept = have if moving.any else None
        have = State(have.present, have.newest(), have.fence, have.hashes[:, lane.target_cell], have.stamps[:, lane.target_cell])
        present = np.arange(count) < len(rows)
        # Cells that only a mark writes stay as they are, unless they are marked.
        hashes[: len(rows), lane.own :] = have.hashes[: len(rows), lane.own :]
        known[: len(rows), lane.own :] = True
        # A row that left the WHERE is still there; the moment it left counts as its delete.
        life = np.where(present, state.life, newest)
        want = Want(present=present, newest=newest, life=life, hashes=hashes, stamps=stamps, known=known)
        for i, action in enumerate(self.actions, start=len(rows)):
            if isinstance(action, SetCells) and have.present[i]:
                self._mark(want, i, action)
        if moving.ends:
            want.life[count - len(moving.ends) :] = self._rekeyed(rows[[i for i, _ in moving.ends]])
        return want, have, kept

    def _mark(self, want: Want, row: int, action: SetCells) -> None:
        """`{ set = ... }` in place of a delete: the target row stays and gets these cells."""
        want.present[row] = True
        want.stamps[row] = NEVER  # of the other cells nothing is asked
        for name, value in action.set.items():
            c = self.lane.cells.index(name)
            type_ = self.lane.target.type(name)
            want.hashes[row, c] = hash_column(type_, pa.array([as_text(value, type_)], pa.string()), self.by.ledger.seed)[0]
            want.known[row, c], want.stamps[row, c] = True, want.newest[row]

    def _columns(self, names: Iterable[str]) -> npt.NDArray[np.intp]:
        """Numbers of these columns in the images."""
        wanted = set(names)
        return np.array([i for i, name in enumerate(self.touched.images.column_names) if name in wanted], dtype=np.intp)

    def _stamps(self, state: State) -> Int64s:
        """Stamp of each target cell: the newest of the source cells it derives from. Shape (rows, lane cells)."""
        out = np.empty((len(state), len(self.lane.cells)), dtype=np.int64)
        for c, lineage in enumerate(self.lane.lineage):
            cells = lineage[lineage != LIFE]
            out[:, c] = state.stamps[:, cells].max(axis=1) if len(cells) else state.life
            if len(cells) < len(lineage):
                out[:, c] = np.maximum(out[:, c], state.life)
        return out

    # --- and what becomes of it

    def _decide(
        self, rows: Rows, keys: list[bytes], values: pa.Table, want: Want, have: State, moving: Rekeys, kept: State | None
    ) -> Proposal:
        lane = self.lane
        decision = resolve(want, have, self._policies(), empty=lane.empty, tie=self.tie)
        decision.decided[decision.op == INSERT, lane.own :] = False
        if decision.hold.any() and self.agrees is not None:
            self._agree(rows, keys, decision)
        if moving.any:
            leaving = np.flatnonzero(np.array([was is not None for was in moving.was], dtype=np.bool_))
            decision.op[leaving[decision.op[leaving] == NOTHING]] = UPDATE
            # What stands there is of a row that is gone: no policy compares it with its heir.
            decision.decided[moving.heirs] = want.known[moving.heirs] & (want.hashes[moving.heirs] != have.hashes[moving.heirs])
            decision.op[moving.heirs] = np.where(decision.decided[moving.heirs].any(axis=1), UPDATE, decision.op[moving.heirs])
            decision.lost[moving.heirs] = decision.lost_cells[moving.heirs] = decision.hold[moving.heirs] = False
        broken, untold = self._checked(rows, values, want.known, decision)
        decision.op[broken | untold] = NOTHING
        stays = self._stay(rows, broken | untold, moving)
        decision.op[stays] = NOTHING
        # Unclear: a change that a later event of the batch covered, or that was refused before, and that the last event does not carry. The base row has it.
        writes = decision.op != NOTHING
        waiting = decision.incomplete | untold | decision.unclear & ~writes & ~broken
        self._ask_again(rows[waiting])
        waiting |= broken  # set aside: neither equal nor decided against
        waiting[stays] = True
        for row in rows[decision.unclear & writes].tolist():
            self.intent.asks[lane.name, self.touched.keys[row]] = self._attempt(row)
        self._lost(rows, keys, decision)
        self._hold(rows, keys, decision, want, have)
        self._conflicts(rows, keys, decision, want, have)
        if self.by.ledger.quarantine:
            for row in rows[~writes & ~waiting].tolist():
                self._release(row)
            self._way_back(keys)
        against = (decision.lost | decision.hold.any(axis=1)) & ~writes & ~waiting
        self.intent.count(lane.name, decided_against=int(against.sum()))
        self.intent.count(lane.name, equal=int((~writes & ~against & ~waiting).sum()))
        chosen = np.flatnonzero(writes)
        gone = len(rows) - values.num_rows
        for name in lane.cells[lane.own :]:
            values = values.append_column(name, pa.nulls(values.num_rows, pa.string()))
        if gone:
            values = pa.concat_tables([values, self._gone_values(keys[len(rows) - gone :])])
        life = np.where(decision.op == INSERT, want.life, np.where(want.present, have.life, want.life))
        everything = Proposal(
            lane, rows, [self.touched.keys[i] for i in rows], keys, decision.op, decision.decided, values, want.hashes, want.stamps, life
        )
        if moving.any:
            ended: list[bytes | None] = [None] * (len(rows) - len(moving.was) - len(moving.ends))
            everything.was = [*moving.was, *ended, *(key for _, key in moving.ends)]
            everything.kept, everything.gone, everything.names = kept, self._rekeyed(rows), [self._name_before(row) for row in rows.tolist()]
        return everything if len(chosen) == len(rows) else everything.take(chosen)

    def _rekeyed(self, rows: Rows) -> Int64s:
        """When rows got the key they have: the stamp of the end of the old one."""
        state = self.touched.state
        if self.lane.view is not None:
            return state.newest()[rows]
        columns = {c for part in self.lane.rule.key for c in self.lane.rule.lineage[part]}
        named = [i for i, name in enumerate(self.lane.source.cells) if name in columns]
        cells = np.array(named, dtype=np.intp)
        return np.maximum(state.life[rows], state.stamps[np.ix_(rows, cells)].max(axis=1)) if named else state.life[rows]

    def _checked(self, rows: Rows, values: pa.Table, known: Bools, decision: Decision) -> tuple[Bools, Bools]:
        """Of the rows to write: those that break a check of the rule, which are set aside, and those that lack a value it needs. Shape (rows,) each."""
        broken, untold = np.zeros(len(rows), dtype=np.bool_), np.zeros(len(rows), dtype=np.bool_)
        checks, op = self.lane.rule.checks, decision.op[: values.num_rows]  # behind these stand rows that go
        if checks is None:
            return broken, untold
        written = np.flatnonzero((op == INSERT) | (op == UPDATE))
        needed = np.array([c for c, name in enumerate(self.lane.cells) if name in checks.reads], dtype=np.intp)
        unknown = ~known[np.ix_(written, needed)].all(axis=1)
        untold[written[unknown]] = True
        asked = written[~unknown]
        if len(asked):
            whole = len(asked) == values.num_rows
            for place, why in self.by.evaluator.broken(checks, values if whole else values.take(pa.array(asked))).items():
                broken[asked[place]] = True
                self._quarantine(int(rows[asked[place]]), "check", why)
        return broken, untold

    def _stay(self, rows: Rows, aside: Bools, moving: Rekeys) -> list[int]:
        """Rows set aside that were to get another key stay under the old one until they are written; returns which deletes of old keys are off for that."""
        first = len(rows) - len(moving.ends)
        off = [(first + n, i, key) for n, (i, key) in enumerate(moving.ends) if aside[i]]
        moved = [(i, was) for i, was in enumerate(moving.was) if was is not None and aside[i]]
        for i, key in [*moved, *((i, key) for _, i, key in off)]:
            remember(self.intent, self.lane, self.touched.keys[rows[i]], key, self._name_before(int(rows[i])))
        self.intent.count(self.lane.name, waiting=len(off))
        return [n for n, _, _ in off]

    def _policies(self) -> tuple[Policy, ...]:
        """Where nobody tells us of changes in the target, what stands there is what we wrote: a value that its owner restored in the source is older, and
        right all the same."""
        lane = self.lane
        if self.tie is not None or lane.target.captured or lane.settings.baseline == "newest":
            return lane.policies
        right = REGISTRY["source_wins"]
        return tuple(right if name == "last_writer_wins" else given for name, given in zip(lane.policy_names, lane.policies, strict=True))

    def _gone_values(self, keys: list[bytes]) -> pa.Table:
        """Values of rows to delete: their key; of rows to mark, the cells that are set."""
        named = row_keys.decode(keys, self.lane.rule.key, self._long_key)
        cells = [action.set if isinstance(action, SetCells) else {} for action in self.actions]
        columns = {
            name: named.column(name)
            if name in self.lane.rule.key
            else pa.chunked_array([pa.array([as_text(cell.get(name), self.lane.target.type(name)) for cell in cells], pa.string())])
            for name in (*self.lane.rule.written, *self.lane.cells[self.lane.own :])
        }
        return pa.table(columns)

    def _agree(self, rows: Rows, keys: list[bytes], decision: Decision) -> None:
        """A cell on which the opposite rule finds both sides equal is no difference: the map loses detail in this direction."""
        held = np.flatnonzero(decision.hold.any(axis=1))
        equal = self.agrees(self.lane, [self.touched.keys[i] for i in rows[held]], [keys[i] for i in held], decision.hold[held])  # type: ignore[misc]
        decision.hold[held] &= ~equal

    def _way_back(self, keys: list[bytes]) -> None:
        """What stood aside on the way back may have been settled by a change of this side, which nobody there hears of when both are equal now."""
        if self.lane.link is not None and not self.touched.asked:
            for key in keys:
                if (self.lane.link, key) in self.by.ledger.quarantine:
                    self.intent.asks.setdefault((self.lane.link, key), 0)

    def _lost(self, rows: Rows, keys: list[bytes], decision: Decision) -> None:
        lost = np.flatnonzero(decision.lost).tolist() if self.lane.returns else []
        for i in lost:
            for rule, key in self._backward(keys[i]):
                # Two rows that are refused in both directions would ask each other in turn.
                if not (self.touched.asked and (rule, key) in self.by.ledger.quarantine):
                    self.intent.asks.setdefault((rule, key), self._attempt(int(rows[i])))

    def _backward(self, key: bytes) -> list[tuple[str, bytes]]:
        """What to ask for a target row the other way round."""
        return [(rule, base) for rule, alias in self.lane.returns for base in self.by.bases(rule, alias, [key])]

    def _hold(self, rows: Rows, keys: list[bytes], decision: Decision, want: Want, have: State) -> None:
        held = decision.hold.any(axis=1)
        for i in np.flatnonzero(held).tolist():
            columns = [self.lane.cells[c] for c in np.flatnonzero(decision.hold[i]).tolist()]
            key = row_keys.display(self.touched.keys[rows[i]], self.lane.source.identity, self._long_key)
            record = {"key": key, "columns": columns, "since": self.by.now_us(), "why": "baseline" if self.tie else "policy"}
            self.intent.held[self.lane.name, self.touched.keys[rows[i]]] = record
        for i in np.flatnonzero(~held).tolist() if self.by.ledger.held else ():
            if self._still_held(i, int(rows[i]), decision, want, have):
                continue
            self._let_go(int(rows[i]))
            for ask in self._backward(keys[i]):
                if ask in self.by.ledger.held:
                    self.intent.asks.setdefault(ask, self._attempt(int(rows[i])))

    def _still_held(self, i: int, row: int, decision: Decision, want: Want, have: State) -> bool:
        """Cells that a first read holds have the same stamp, so a change of another cell of the row finds no difference in them: they are held all the same."""
        record = self.by.ledger.held.get((self.lane.name, self.touched.keys[row]))
        if record is None or record["why"] != "baseline" or not (want.present[i] and have.present[i]):
            return False
        cells = [self.lane.cells.index(column) for column in record["columns"] if column in self.lane.cells]
        differ = (want.hashes[i, cells] != have.hashes[i, cells]) | ~want.known[i, cells]
        return bool((differ & ~decision.decided[i, cells] & ~decision.lost_cells[i, cells]).any())

    def _conflicts(self, rows: Rows, keys: list[bytes], decision: Decision, want: Want, have: State) -> None:
        """A conflict is a cell that both sides changed since they last agreed: it lost, or it was written over a change that its writer had not seen."""
        if (self.touched.asked and self.lane.view is None) or self.tie is not None:
            return
        if not ((decision.op == UPDATE).any() or decision.lost_cells.any() or decision.hold.any()):
            return
        for c, lineage in enumerate(self.lane.lineage):
            cells = lineage[lineage != LIFE]
            if len(cells) == 0:
                continue
            changed = self.touched.changed[np.ix_(rows, cells)].any(axis=1)
            before = self.touched.before[np.ix_(rows, cells)].max(axis=1)
            over = decision.decided[:, c] & (decision.op == UPDATE) & (have.stamps[:, c] > before) & (have.stamps[:, c] > 0)
            conflict = np.flatnonzero(changed & (over | decision.lost_cells[:, c] | decision.hold[:, c]))
            self.intent.count(self.lane.name, conflicts=len(conflict))
            for i in conflict[:CONFLICTS_LISTED].tolist():
                self.intent.conflicts.append(
                    {
                        "rule": self.lane.name,
                        "key": row_keys.display(keys[i], self.lane.rule.key, self._long_key),
                        "column": self.lane.cells[c],
                        "policy": self.lane.policy_names[c],
                        "winner": "held" if decision.hold[i, c] else "source" if decision.decided[i, c] else "target",
                        "source_stamp": int(want.stamps[i, c]),
                        "target_stamp": int(have.stamps[i, c]),
                        "at": self.by.now_us(),
                    }
                )

    def _ask_again(self, rows: Iterable[Any]) -> None:
        for row in rows:
            self.intent.asks[self.lane.name, self.touched.keys[row]] = self._attempt(row)
            self.intent.count(self.lane.name, waiting=1)

    def _attempt(self, row: int) -> int:
        """What an ask that comes out of this row starts with: those that come out of asks count on, so that no chain of them is endless."""
        return self.touched.attempt(row) + 1 if self.touched.asked else 0

    def _long_key(self, digest: bytes) -> bytes:
        return self.by.long_key(self.intent)(digest)

    def _quarantine(self, row: int, reason: str, what: str, waits: tuple[str, str] | None = None) -> None:
        quarantine(self.by, self.intent, self.lane, self.touched.keys[row], reason, what, self.position, waits)

    def _release(self, row: int) -> None:
        key = self.lane.name, self.touched.keys[row]
        if key in self.by.ledger.quarantine:
            self.intent.quarantined[key] = None

    def _let_go(self, row: int) -> None:
        key = self.lane.name, self.touched.keys[row]
        if key in self.by.ledger.held:
            self.intent.held[key] = None

    def _encode(self, values: pa.Table) -> list[bytes]:
        columns = [values.column(c).combine_chunks() for c in self.lane.rule.key]
        return [key or b"" for key in row_keys.encode(columns, self.intent.long_keys.__setitem__)]


def quarantine(
    by: Proposer, intent: Intent, lane: Lane, key: bytes, reason: str, what: str, position: str, waits: tuple[str, str] | None = None
) -> None:
    """Sets a source row of a rule aside, with all a person needs to know. waits: (crosswalk, key text) of the link it goes on with."""
    before = by.ledger.quarantine.get((lane.name, key))
    intent.quarantined[lane.name, key] = {
        **({"waits": [waits[0], row_keys.one(waits[1].encode()).hex()]} if waits else {}),
        "key": row_keys.display(key, lane.source.identity, by.long_key(intent)),
        "reason": reason,
        "what": what,
        "since": before["since"] if before else by.now_us(),
        "last": by.now_us(),
        "attempts": (before["attempts"] if before else 0) + 1,
        "position": position,
    }
    intent.count(lane.name, quarantined=1)


def as_text(value: Any, type_: DataType) -> str | None:
    """Canonical text of a value written in the configuration, for a column of this type. MySQL's booleans are numbers."""
    if value is None:
        return None
    if type_.kind == Kind.BOOL and isinstance(value, bool | int):
        return "t" if value else "f"
    if isinstance(value, bool):
        return str(value).lower() if type_.kind == Kind.TEXT else str(int(value))
    return str(value).removesuffix(":00") if isinstance(value, datetime) and value.tzinfo else str(value)
