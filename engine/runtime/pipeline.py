"""Wiring of the stages: one batch of a log, or one lot of keys that are asked again, from observe to checkpoint."""
from __future__ import annotations

import time
import unicodedata
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import Oversized
from engine.ledger import keys as row_keys
from engine.ledger.intent import Intent, Progress
from engine.ledger.ledger import Ledger
from engine.ledger.pending import gather
from engine.model.batch import INSERT, Batch, Transactions
from engine.model.hashing import UNKNOWN, hash_column
from engine.model.lot import Lot
from engine.model.state import State
from engine.ports import FETCH_BYTES, Reader
from engine.resolve.observe import Events, observe
from engine.runtime.cascades import with_cascades
from engine.runtime.checkpoint import Checkpoint
from engine.runtime.emptied import deletes, refuse, without_emptied
from engine.runtime.failpoints import reach
from engine.runtime.intake import Arrivals, arrivals, cuts
from engine.runtime.moves import Moves, follow
from engine.runtime.precedence import Before, wanted
from engine.runtime.proposal import Agrees, Proposal, Proposer, Tie, Touched, quarantine
from engine.runtime.rekeys import vacate
from engine.runtime.topology import Lane, Topology, Tracked
from engine.runtime.views import Views

ASKED_AT_ONCE = 5_000
TRUNCATED_AT_ONCE = 10_000
TOGETHER_SECONDS = 0.03
CLOCK_SET_BACK_US = 5_000_000
ATTEMPTS = 14
"""How often a key is asked again, with growing pauses (about two minutes in all), before a person has to look at it; longer while a log is far behind."""
BEHIND_SECONDS = 60
PASSING = ("foreign_key", "ambiguous_match", "unsettled")
"""Reasons of a quarantine that may be gone by themselves: the parent arrives, the log catches up."""


@dataclass(slots=True)
class Pipeline:
    """readers: by system. Not thread-safe: one thread works on batches of all systems in turn."""

    topology: Topology
    ledger: Ledger
    readers: dict[str, Reader]
    proposer: Proposer
    checkpoint: Checkpoint
    views: Views
    _due: dict[tuple[str, bytes], float] = field(default_factory=dict)
    _reached: dict[str, Progress] = field(default_factory=dict)
    """How far each log is decided; the ledger follows when the batch has landed."""
    _committed_us: dict[str, int] = field(default_factory=dict)
    _lots: dict[str, Lot] = field(default_factory=dict)
    """By rule, how many keys are asked at once."""

    # --- from a log

    def process(self, batch: Batch) -> None:
        """A batch of a system's log through all rules that read it. Transactions that are done already (after a restart) are left out."""
        orders = batch.transactions.order
        progress = self._progress(batch.system)
        low = int(np.searchsorted(orders, progress.done, side="right")) if progress.done >= 0 else 0
        emptied: dict[int, set[str]] = {}
        for truncate in batch.truncates:
            table = str(truncate.table)
            if orders[truncate.txn] > self._contained(table) and truncate.txn >= low:
                refuse(self.topology, self.ledger, table)
                emptied.setdefault(truncate.txn, set()).add(table)
        batch = _rising(batch, low, progress.us)
        if emptied:
            batch = without_emptied(batch, low)
        if any(tracked.hidden for tracked in self.topology.tracked.values()):
            batch = with_cascades(batch, low, self.topology, self.ledger, self.readers)
        parts = [
            arrivals(batch, changes, self.topology.tracked[str(changes.table.name)], self.ledger).part(
                int(np.searchsorted(orders, self._contained(str(changes.table.name)), side="right")), len(orders)
            )
            for changes in batch.changes
            if len(changes)
        ]
        for high in sorted({*cuts(batch, parts), *emptied}):
            if high <= low and high < len(orders):
                continue
            if low in emptied:
                self._empty(batch, low, emptied[low])
            last = high == len(orders)
            # After a restart a batch may end before the place that is done already.
            done = progress.done if progress.done > batch.high.order else -1
            us = int(batch.transactions.commit_us[high - 1]) if high > low else progress.us
            reached = Progress(batch.high.text, batch.high.order, done, us)
            if not last:
                reached = Progress(progress.text, progress.order, int(orders[high - 1]), us)
            self._segment(batch, [part.part(low, high) for part in parts], range(low, high), reached, last=last)
            self._reached[batch.system] = reached
            if high:
                self._committed_us[batch.system] = int(batch.transactions.commit_us[high - 1])
            low = high

    def _empty(self, batch: Batch, txn: int, tables: set[str]) -> None:
        """The deletes that a TRUNCATE stands for, each lot as a checkpoint of its own that leaves the position where it is: after a crash the rest follows."""
        for table in sorted(tables):
            self.checkpoint.flight.land()
            for part in deletes(batch, txn, self.topology.tracked[table], self.ledger, TRUNCATED_AT_ONCE):
                intent = Intent()
                self._answer([self._observe(part, batch.transactions, intent)], intent, batch.system, self._progress(batch.system).text)
                self.checkpoint.flight.land()

    def _contained(self, table: str) -> int:
        """Up to where in the log the rows hold everything that were read when the table was begun anew; -1 otherwise."""
        return int(self.ledger.meta(f"contained {table}") or -1)

    def _segment(self, batch: Batch, parts: Sequence[Arrivals], txns: range, reached: Progress, *, last: bool) -> None:
        intent = Intent(progress={batch.system: reached})
        if last:
            # Not sooner: after a crash in between the batch is read again, and its events are named as they were the first time.
            intent.aliases = {part.tracked.name: dict(part.aliases) for part in parts if part.aliases}
        transactions = batch.transactions
        if any(not self.ledger.pending.knows(*echo) for echo in _echoes(batch, txns)):
            self.checkpoint.flight.land()  # the echo may be of the very batch in flight
        touched = [self._observe(part, transactions, intent) for part in parts if len(part.txn)]
        joined = [rows for rows in touched if self.topology.views_over(rows.tracked.name)]
        if joined:
            self.checkpoint.flight.land()  # join values may be in flight
            self.views.concern(joined, intent)
        intent.echoed = _echoes(batch, txns, ended=True)
        if touched:
            reach("observe.done")
        self._answer(touched, intent, batch.system, reached.text)

    def _observe(self, part: Arrivals, transactions: Transactions, intent: Intent) -> Touched:
        tracked, ledger = part.tracked, self.ledger
        keys, row = _distinct(part.keys)
        state = ledger.seen(tracked.name, keys)
        rank = self.topology.ranks[tracked.system]
        moves = None
        if part.moved is not None:
            part, keys, row, state, moves = self._moved(part, keys, row, state, transactions, intent)
        count = len(keys)
        events = Events(
            row=row,
            op=part.op,
            stamp=part.stamp_us * 16 + rank,
            fence=transactions.fence[part.txn],
            hashes=part.hashes,
            missing=part.missing,
            computed=np.array([tracked.table.column(name).generated for name in tracked.cells], dtype=np.bool_),
            moved=None if moves is None else part.moved,
        )
        origin, number = transactions.origin[part.txn], transactions.batch[part.txn]
        ours = None
        if (origin >= 0).any():
            found = []
            for source, batch in sorted(set(zip(origin[origin >= 0].tolist(), number[origin >= 0].tolist(), strict=True))):
                mine = np.flatnonzero((origin == source) & (number == batch))
                written = ledger.pending.ours(tracked.name, transactions.origins[source], batch, [part.keys[i] for i in mine])
                if written is not None:
                    found.append((*written, mine))
            ours = gather(found, len(part.keys), len(tracked.cells))
        before = state.copy() if any(wanted(lane.settings) for lane in self.topology.lanes_from(tracked.name)) else None
        seen = observe(state, events, ours, tracked.peers)
        intent.long_keys |= part.long_keys
        rows = np.flatnonzero(seen.last >= 0)
        last = part.change[seen.last[rows]]
        state = state.take(rows)
        keys = keys if len(rows) == len(keys) else [keys[i] for i in rows]
        intent.rows[tracked.name] = (keys, state.pack())
        whole = len(last) == len(part.changes) and bool((last == np.arange(len(last))).all())
        touched = Touched(
            tracked=tracked,
            keys=keys,
            state=state,
            images=part.changes.values if whole else part.changes.values.take(pa.array(last)),
            missing=part.changes.missing if whole else part.changes.missing[last],
            changed=seen.changed[rows],
            before=seen.before[rows],
            exact=seen.exact[rows],
            again=np.bincount(row, minlength=count)[rows] > 1,
            came=None if before is None else _came(before.take(rows), state, seen.exact[rows], seen.changed[rows]),
            moves=None if moves is None else moves.take(rows),
        )
        if tracked.indexes:
            self.views.note_joins(touched, intent)
        return touched

    def _moved(
        self, part: Arrivals, keys: list[bytes], row: npt.NDArray[np.int64], state: State, transactions: Transactions, intent: Intent
    ) -> tuple[Arrivals, list[bytes], npt.NDArray[np.int64], State, Moves | None]:
        """Events, keys, row of each event and states by row instead of by key, where keys were changed; the links of these rows go with them."""
        assert part.moved is not None
        ours = transactions.origin[part.txn] >= 0
        bodies = follow(row, part.op, part.moved, ours, transactions.fence[part.txn] <= state.fence[row], state.present)
        self.proposer.crosswalk.follow(self.topology.lanes.values(), part.tracked.name, [(keys[old], keys[new]) for old, new in bodies.pairs], intent)
        if self.topology.views_over(part.tracked.name):
            return part, keys, row, state, None
        chosen = np.flatnonzero(bodies.row >= 0)
        moves = Moves(
            was=[keys[start] if moved else None for start, moved in zip(bodies.start.tolist(), bodies.moved.tolist(), strict=True)],
            heir=bodies.heir,
        )
        part.op, part.moved = bodies.op, bodies.arrived
        state = state.take(np.maximum(bodies.start, 0).astype(np.intp))
        vacate(state, np.flatnonzero(bodies.start < 0).tolist())
        return part.take(chosen), [keys[i] for i in bodies.key], bodies.row[chosen], state, moves

    # --- asked again

    def asks_due(self, now: float, stopped: Container[str] = ()) -> bool:
        """Whether keys wait to be asked again whose time has come. New ones wait a moment for each other, since every lot costs a look at the source.
        stopped: systems out of which nothing is led any more; their asks wait for the next start."""
        return any(self._due.setdefault(key, now + TOGETHER_SECONDS) <= now for key in list(self.ledger.asks) if not self._out_of(key[0], stopped))

    def process_asks(self, stopped: Container[str] = ()) -> int:
        """Asks again what waits and is due, at most `ASKED_AT_ONCE` keys of a rule and as many as hold `FETCH_BYTES`. Returns how many keys were asked."""
        self.checkpoint.flight.land()
        now, count = time.monotonic(), 0
        due: dict[str, dict[bytes, int]] = {}
        for (rule, key), attempts in list(self.ledger.asks.items()):
            if self._due.get((rule, key), 0.0) <= now and not self._out_of(rule, stopped):
                due.setdefault(rule, {})[key] = attempts
        self._due = {key: at for key, at in self._due.items() if key in self.ledger.asks}
        for rule, keys in due.items():
            lane = self.topology.lanes.get(rule)
            if lane is None:
                self.ledger.take_over(Intent(asks={(rule, key): None for key in keys}))
                count += len(keys)
                continue
            some = self._ask_some(lane, keys)
            count += len(some)
            self.checkpoint.flight.land()
            for key in some:
                attempts = self.ledger.asks.get((rule, key), 0)
                if attempts:
                    self._due[rule, key] = time.monotonic() + min(0.02 * 2.0**attempts, 20.0)
        if count:
            reach("asks.done")
        return count

    def _out_of(self, rule: str, systems: Container[str]) -> bool:
        lane = self.topology.lanes.get(rule)
        return lane is not None and lane.source.system in systems

    def ask_dependants(self, *, now: bool = False) -> int:
        """Rows in quarantine for a reason that may go by itself are asked again, less and less often (after 1, 2, 4 ... 300 s); all of them where `now`.
        Returns how many."""
        self.checkpoint.flight.land()
        at = self.proposer.now_us()
        due = [
            key
            for key, record in self.ledger.quarantine.items()
            if record["reason"] in PASSING and (now or at - record["last"] > min(2 ** (record["attempts"] - 1), 300) * 1_000_000)
        ]
        if due:
            self.ledger.take_over(Intent(asks=dict.fromkeys(due, 0)))
        return len(due)

    def ask_rechecked(self) -> None:
        """Rows that a rule's checks refused are asked again when these were changed since."""
        for name, lane in self.topology.lanes.items():
            texts = list(lane.rule.checks.texts) if lane.rule.checks is not None else []
            if texts != (self.ledger.meta(f"checks {name}") or []):
                due = [key for key, record in self.ledger.quarantine.items() if key[0] == name and record["reason"] == "check"]
                self.ledger.take_over(Intent(asks=dict.fromkeys(due, 0), meta={f"checks {name}": texts}))

    def _ask_some(self, lane: Lane, due: dict[bytes, int]) -> list[bytes]:
        """Asks the first of these keys and returns them."""
        lot = self._lots.setdefault(lane.name, Lot(ASKED_AT_ONCE))
        while True:
            some = list(due)[: lot.size]
            try:
                self._ask(lane, {key: due[key] for key in some}, FETCH_BYTES if len(some) > 1 else None)
            except Oversized:
                lot.too_large(len(some))
                continue
            lot.fitted()
            return some

    def _ask(self, lane: Lane, keys: dict[bytes, int], bytes_at_most: int | None) -> None:
        """Asks these keys again. Nothing was done yet when it raises Oversized: the rows of a table are larger together than `bytes_at_most`."""
        intent = Intent(asks={(lane.name, key): None for key in keys})
        last = [key for key, attempts in keys.items() if attempts >= ATTEMPTS]
        if last and (self._behind(lane.source) or self._behind(lane.target)):
            keys |= dict.fromkeys(last, ATTEMPTS - 1)
        intent.tried = {(lane.name, key): attempts for key, attempts in keys.items()}
        for key in [key for key in last if keys[key] > ATTEMPTS]:
            del keys[key]
            what = f"{lane.source.name} or {lane.target.name} is not as its log says, after {ATTEMPTS} looks"
            quarantine(self.proposer, intent, lane, key, "unsettled", what, "")
            intent.count(lane.name, rows=1)
        touched = self.fetch(lane.source, list(keys), intent, lane.name, keys, bytes_at_most)
        touched = touched if lane.view is None else self.views.look(lane, touched, intent, bytes_at_most)
        self._answer([touched], intent, lane.source.system, self._position(lane), only=lane)

    def _behind(self, tracked: Tracked) -> bool:
        """Whether the events of this table that are still to come may be old ones: we are catching up with the log."""
        system = tracked.system
        late = self.proposer.now_us() - self._committed_us.get(system, 0) > BEHIND_SECONDS * 1_000_000
        return tracked.captured and late and self._progress(system).order < self.readers[system].end().order

    def ask_rows(self, lane: Lane, keys: list[bytes], images: pa.Table, tie: Tie | None, agrees: Agrees | None, meta: dict[str, Any]) -> None:
        """Asks about rows just read (first start, resync): the same, without another look at the source. Rows the log has not shown are left to the log.
        meta: what the ledger notes with it, in the same checkpoint."""
        intent = Intent(meta=meta)
        touched = self._fresh(lane.source, keys, images, intent)
        present = np.flatnonzero(touched.state.present)
        self._again_where_stale(touched, lane.name, intent, {})
        touched = touched if len(present) == len(touched.keys) else _choose(touched, present)
        if lane.view is not None:
            try:
                touched = self.views.look(lane, touched, intent, FETCH_BYTES if len(keys) > 1 else None)
            except Oversized:
                half = len(keys) // 2
                self.ask_rows(lane, keys[:half], images.slice(0, half), tie, agrees, {})
                self.checkpoint.flight.land()
                self.ask_rows(lane, keys[half:], images.slice(half), tie, agrees, meta)
                return
        self._answer([touched], intent, lane.source.system, self._position(lane), only=lane, tie=tie, agrees=agrees)

    def fetch(self, tracked: Tracked, keys: list[bytes], intent: Intent, rule: str, attempts: dict[bytes, int], bytes_at_most: int | None = None) -> Touched:
        """Base rows of these keys; Oversized when they hold more than `bytes_at_most`. Those that the log says are there but are not, or the other way round,
        are asked again: the log owes an event."""
        state = self.ledger.seen(tracked.name, keys)
        columns = tracked.watched.columns
        named = [i for i, key in enumerate(keys) if state.present[i] and not key.startswith(row_keys.NO_KEY)]
        rows = np.full(len(keys), -1, dtype=np.int64)
        images = pa.table({c: pa.array([], pa.string()) for c in columns})
        if named:
            wanted = row_keys.decode([keys[i] for i in named], tracked.identity, self.ledger.long_key)
            images = self.readers[tracked.system].fetch(tracked.table, columns, tracked.identity, wanted, bytes_at_most).select(list(columns))
            if images.num_rows:
                place = {key: i for i, key in enumerate(row_keys.encode([images.column(c).combine_chunks() for c in tracked.identity]))}
                rows = np.array([place.get(key, -1) for key in keys], dtype=np.int64)
        owed = np.flatnonzero(state.present & (rows < 0))
        for i in owed.tolist():
            intent.asks[rule, keys[i]] = attempts[keys[i]] + 1
        keep = np.flatnonzero(~state.present | (rows >= 0))
        chosen = pa.array(rows[keep], mask=rows[keep] < 0)
        touched = self._fresh(tracked, [keys[i] for i in keep], images.take(chosen) if images.num_rows else _nulls(images, len(keep)), intent)
        touched.attempts = attempts
        self._again_where_stale(touched, rule, intent, attempts)
        return touched

    def _fresh(self, tracked: Tracked, keys: list[bytes], images: pa.Table, intent: Intent) -> Touched:
        """Rows read from the table beside what the log has shown: a cell whose hash is another one is left out, because its event is on its way."""
        state = self.ledger.seen(tracked.name, keys)
        missing = np.zeros((len(keys), images.num_columns), dtype=np.bool_)
        learned = np.zeros(len(keys), dtype=np.bool_)
        for c, name in enumerate(tracked.cells):
            hashes = hash_column(tracked.type(name), images.column(name), self.ledger.seed)
            unknown = state.present & (state.hashes[:, c] == UNKNOWN)
            state.hashes[unknown, c] = hashes[unknown]
            learned |= unknown
            missing[:, images.column_names.index(name)] = state.present & (hashes != state.hashes[:, c])
        if learned.any():
            rows = np.flatnonzero(learned)
            intent.rows[tracked.name] = ([keys[i] for i in rows], state.take(rows).pack())
        nothing = np.zeros((len(keys), len(tracked.cells)), dtype=np.bool_)
        return Touched(
            tracked=tracked, keys=keys, state=state, images=images, missing=missing, changed=nothing, before=state.stamps,
            exact=np.zeros(len(keys), dtype=np.bool_), asked=True,
        )  # fmt: skip

    def _again_where_stale(self, touched: Touched, rule: str, intent: Intent, attempts: dict[bytes, int]) -> None:
        for i in np.flatnonzero(touched.missing.any(axis=1)).tolist():
            intent.asks[rule, touched.keys[i]] = attempts.get(touched.keys[i], 0) + 1

    def _progress(self, system: str) -> Progress:
        return self._reached.get(system) or self.ledger.progress(system) or Progress("", -1)

    def _position(self, lane: Lane) -> str:
        return self._progress(lane.source.system).text

    # --- both

    def _answer(
        self,
        touched: Sequence[Touched],
        intent: Intent,
        system: str,
        position: str,
        *,
        only: Lane | None = None,
        tie: Tie | None = None,
        agrees: Agrees | None = None,
    ) -> None:
        proposals = [
            self.proposer.propose(lane, rows, intent, position=position, tie=tie, agrees=agrees)
            for rows in touched
            if rows.keys
            for lane in ([only] if only is not None else self.topology.lanes_from(rows.tracked.name))
        ]
        if intent.tried:
            proposals = [self._told_apart(proposal, intent, position) for proposal in proposals]
        self.checkpoint.carry_out(intent, proposals, system, position)

    def _told_apart(self, proposal: Proposal, intent: Intent, position: str) -> Proposal:
        """An insert that found a row which its log does not show: by the key's collation another key may name it. Those are set aside with that reason."""
        lane = proposal.lane
        again = [i for i in np.flatnonzero(proposal.op == INSERT).tolist() if intent.tried.get((lane.name, proposal.source_keys[i]))]
        why = lane.alike
        if not again or not why:
            return proposal
        wanted = row_keys.decode([proposal.target_keys[i] for i in again], lane.rule.key, self.proposer.long_key(intent))
        found = self.readers[lane.target.system].fetch(lane.target.table, lane.rule.key, lane.rule.key, wanted).select(list(lane.rule.key))
        there = {tuple(row.values()) for row in found.to_pylist()}
        folded = {_folded(row) for row in there}
        apart = []
        for i, row in zip(again, wanted.to_pylist(), strict=True):
            key = tuple(row.values())
            if key not in there and _folded(key) in folded:
                apart.append(i)
                what = (
                    f"{lane.target.name} has a row whose key it takes for equal to this one, but which is written otherwise ({why}): write them alike "
                    "on both sides, or in the rule with lower(trim(...)) for example, or give the column a collation that tells them apart"
                )
                quarantine(self.proposer, intent, lane, proposal.source_keys[i], "key_equal_by_collation", what, position)
        return proposal.take(np.setdiff1d(np.arange(len(proposal)), apart)) if apart else proposal


def _came(before: State, state: State, exact: npt.NDArray[np.bool_], changed: npt.NDArray[np.bool_]) -> Before:
    created = state.present & ~before.present & ~exact & (changed.any(axis=1) | (changed.shape[1] == 0))
    return Before(created=created, deleted=before.present & ~state.present & ~exact, newest=before.newest())


def _folded(key: tuple[str, ...]) -> tuple[str, ...]:
    """Roughly what collations make of a text: only used to find which of the rows that the database gave for many keys belongs to which."""
    plain = (unicodedata.normalize("NFKD", part) for part in key)
    return tuple("".join(c for c in part if not unicodedata.combining(c)).casefold().rstrip(" ") for part in plain)


def _rising(batch: Batch, low: int, before: int) -> Batch:
    """The batch with commit times that rise from transaction to transaction, from number `low` on and after `before`: log order is commit order, and no two
    changes of a system may have one stamp (MariaDB's log knows whole seconds; numbering them anew after a restart would give a time twice). A clock that
    was set back by more than `CLOCK_SET_BACK_US` is believed."""
    given = batch.transactions.commit_us[low:]
    if len(given) == 0:
        return batch
    start = before if before - int(given[0]) < CLOCK_SET_BACK_US else 0
    steps = np.arange(len(given))
    rising = np.maximum.accumulate(np.maximum(given, start + 1) - steps) + steps
    commit_us = np.concatenate([batch.transactions.commit_us[:low], rising])
    return replace(batch, transactions=replace(batch.transactions, commit_us=commit_us))


def _echoes(batch: Batch, txns: range, *, ended: bool = False) -> list[tuple[str, str, int]]:
    """(source, target, batch number) of the transactions of ours among these, in log order. ended: without one of which more is to come."""
    transactions = batch.transactions
    last = len(transactions.order) - 1
    ours = [txn for txn in np.flatnonzero(transactions.origin >= 0).tolist() if txn in txns and not (ended and batch.open and txn == last)]
    return [(transactions.origins[transactions.origin[txn]], batch.system, int(transactions.batch[txn])) for txn in ours]


def _distinct(keys: list[bytes]) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    """(each key once, in order of appearance; for every key its number among them)."""
    if len(set(keys)) == len(keys):
        return keys, np.arange(len(keys))
    places: dict[bytes, int] = {}
    row = np.fromiter((places.setdefault(key, len(places)) for key in keys), dtype=np.int64, count=len(keys))
    return list(places), row


def _choose(touched: Touched, rows: npt.NDArray[np.intp]) -> Touched:
    return Touched(
        touched.tracked, [touched.keys[i] for i in rows], touched.state.take(rows), touched.images.take(pa.array(rows)), touched.missing[rows],
        touched.changed[rows], touched.before[rows], touched.exact[rows], asked=touched.asked, attempts=touched.attempts,
        came=None if touched.came is None else touched.came.take(rows),
    )  # fmt: skip


def _nulls(images: pa.Table, count: int) -> pa.Table:
    return pa.table({name: pa.nulls(count, pa.string()) for name in images.column_names})


