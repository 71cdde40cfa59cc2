"""Carrying out a batch, so that a crash at any point leaves either all of it or nothing:

1. the target's transaction is opened, marker first, and written;
2. the intent (what the ledger will learn, the next position included) is put beside the ledger;
3. the target commits;
4. the intent becomes the ledger.

At the next start the target's marker tells whether an intent that was left over happened (`recover`). The source is told later, after a sync of the ledger.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import structlog

from engine.apply.applier import Applied, apply
from engine.apply.order import by_foreign_keys
from engine.apply.rekey import Key
from engine.errors import Transient
from engine.ledger import keys as row_keys
from engine.ledger.intent import Intent
from engine.ledger.ledger import Ledger
from engine.model.batch import DELETE, INSERT, UPDATE
from engine.model.hashing import UNKNOWN, hash_column
from engine.model.schema import TableName
from engine.model.state import NEVER, State, Writes
from engine.model.write import MANY_ROWS, NO_ROW, ROW_EXISTS, WROTE, LinkRow, Marker, Write
from engine.ports import Sink
from engine.runtime.failpoints import reach
from engine.runtime.flight import Flight
from engine.runtime.identity import ANY, from_rows, link_rows, settle, wake
from engine.runtime.proposal import Proposal, Proposer, quarantine
from engine.runtime.rekeys import forget, remember
from engine.runtime.topology import Lane, Topology

log = structlog.get_logger()
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Checkpoint:
    """sinks: by system. wait: called with the number of the attempt when a target is away; raises to give up (stop asked for)."""

    rule_set: str
    ledger: Ledger
    topology: Topology
    sinks: Mapping[str, Sink]
    proposer: Proposer
    wait: Callable[[str, int, Transient], None]
    flight: Flight

    _order: dict[TableName, int] = field(init=False)

    def __post_init__(self) -> None:
        tables = [lane.target.table for lane in self.topology.lanes.values()]
        self._order = {name: i for i, name in enumerate(by_foreign_keys(tables))}

    def carry_out(self, intent: Intent, proposals: Sequence[Proposal], source: str, position: str) -> None:
        """Writes the proposals and takes the intent over, in the background: see `Flight`. All proposals lead out of `source`."""
        keys = {table: set(rows) for table, (rows, _) in intent.rows.items()}
        keys |= {f"alias {table}": set(pairs) for table, pairs in intent.aliases.items()}
        keys |= {f"links {rule}": {*pairs, ANY} for rule, pairs in intent.links.items()}
        for proposal in proposals:
            if proposal.lane.rule.link and (proposal.op == INSERT).any():
                keys.setdefault(f"links {proposal.lane.crosswalk}", {ANY}).update(proposal.source_keys)
                keys.setdefault(f"links {proposal.lane.way_back}", {ANY})
            keys.setdefault(proposal.lane.target.name, set()).update(proposal.target_keys, (was for was in proposal.was or () if was is not None))
            keys.setdefault(proposal.lane.source.name, set()).update(proposal.source_keys)
        self.flight.depart(source, keys, lambda: self._carry_out(intent, proposals, source, position))

    def _carry_out(self, intent: Intent, proposals: Sequence[Proposal], source: str, position: str) -> None:
        linking = [lane for lane in self.topology.lanes.values() if lane.rule.link and lane.source.system == source and lane.crosswalk in intent.links]
        matched = intent.links
        targets = sorted({p.lane.target.system for p in proposals if len(p)} | {lane.target.system for lane in linking})
        # Each target has a checkpoint of its own. What the later ones are to get stands among the asks until then: a crash in between loses nothing.
        later = {(p.lane.name, key): p.lane.target.system for p in proposals if p.lane.target.system in targets[1:] for key in p.source_keys}
        kept = {ask for ask in later if intent.asks.get(ask) is not None}  # asked again anyhow, after what is written now
        intent.asks |= {ask: 0 for ask in later if ask not in kept}
        for p in proposals:
            if p.was is not None and p.lane.target.system in targets[1:]:
                for key, was, name in zip(p.source_keys, p.was, p.names or (), strict=True):
                    if was is not None:
                        remember(intent, p.lane, key, was, name)
        for rule, _ in later:
            intent.count(rule, waiting=1)
        for target in targets:
            mine = [part for p in proposals if p.lane.target.system == target and len(p) for part in p.parts()]
            mine.sort(key=lambda p: self._order[p.lane.target.table.name])
            mine = _one_insert(mine)
            self.ledger.take_over(self._one_target(intent, mine, source, target, position))
            reach("ledger.taken")
            done = targets.index(target) + 1
            now = [ask for ask, system in later.items() if system in targets[done : done + 1]]
            intent = Intent(asks={ask: None for ask in now if ask not in kept}, links=matched)
            for rule, _ in now:
                intent.count(rule, rows=1)
        if not targets:
            self.ledger.take_over(intent)

    def recover(self) -> dict[str, dict[str, int]]:
        """After a crash: an intent whose batch the target has is taken over, another one is dropped. Returns the targets that lack batches of ours, each with
        the last number that it has, by source: they were set back."""
        for intent in self.ledger.intents():
            if all(self._happened(*pair, number) for pair, number in intent.batches.items()):
                self.ledger.take_over(intent)
            else:
                self.ledger.drop_intent()
        self._recover_links()
        behind: dict[str, dict[str, int]] = {}
        for source, target in dict.fromkeys(lane.direction for lane in self.topology.lanes.values()):
            marker, known = self.sinks[target].marker(self.rule_set, source), self.ledger.batch(source, target)
            number = marker.batch if marker is not None else 0
            if number > known:
                # The state folder may be older than the target's marker: numbers never go back.
                self.ledger.put_meta(f"batch {source} {target}", number)
            elif number < known:
                behind.setdefault(target, {})[source] = number
        return behind

    def _recover_links(self) -> None:
        """Links of batches that the targets have and the ledger does not: the state folder is lost, or older than what was committed."""
        rows: list[LinkRow] = []
        for source, target in {lane.direction for lane in self.topology.lanes.values() if lane.rule.link}:
            marker, known = self.sinks[target].marker(self.rule_set, source), self.ledger.batch(source, target)
            if marker is not None and marker.batch > known:
                rows += [r for r in self.sinks[target].links(self.rule_set) if (r.source, r.target) == (source, target) and r.batch > known]
        if rows:
            self.ledger.take_over(Intent(links=from_rows(rows, self.ledger)))

    def _lanes(self, source: str, target: str) -> list[Lane]:
        return [lane for lane in self.topology.lanes.values() if lane.direction == (source, target)]

    def _happened(self, source: str, target: str, number: int) -> bool:
        marker = self.sinks[target].marker(self.rule_set, source)
        return marker is not None and marker.batch >= number

    def _one_target(self, intent: Intent, proposals: list[Proposal], source: str, target: str, position: str) -> Intent:
        sink, number = self.sinks[target], self.ledger.batch(source, target) + 1
        marker = Marker(rule_set=self.rule_set, source=source, batch=number, position=position)
        writes = [_write(p) for p in proposals]
        standing = [self._standing(p) for p in proposals]
        attempt = 0
        while True:
            attempt += 1
            try:
                sink.begin(marker)
                reach("apply.begin")
                owed = [self._owed(sink, proposal, write) for proposal, write in zip(proposals, writes, strict=True)]
                done = apply(sink, writes, owed, standing)
                reach("apply.wrote")
                filled = intent.forked()
                filled.batches[source, target] = number
                for proposal, applied in zip(proposals, done, strict=True):
                    self._learn(filled, proposal, applied, position)
                wake(filled, self.ledger)
                links = link_rows(filled, self._lanes(source, target), number, self.proposer.now_us(), self.ledger)
                if links:
                    sink.write_links(self.rule_set, links)
                self.ledger.announce(filled)
                reach("intent.announced")
            except Transient as error:
                sink.rollback()
                self.wait(target, attempt, error)
                continue
            except BaseException:
                sink.rollback()
                raise
            try:
                sink.commit()
                reach("target.committed")
                return filled
            except Transient as error:
                self.wait(target, attempt, error)
                if self._committed(source, target, number):
                    return filled

    def _owed(self, sink: Sink, proposal: Proposal, write: Write) -> Bools:
        """Rows of the target with a change that its log has yet to show us, where rules over several tables fetch them: writing over such a change would
        leave nothing to fetch when its event comes. The rows are locked, so none comes in between."""
        lane, owed = proposal.lane, np.zeros(len(proposal), dtype=np.bool_)
        rows = np.flatnonzero(proposal.op != INSERT)
        if not lane.target.captured or not len(rows) or not self.topology.looked_at(lane.target.name):
            return owed
        tracked, keys, write = lane.target, [proposal.target_keys[i] for i in rows], write.take(rows)
        if proposal.was is not None:
            keys = [proposal.was[i] or key for i, key in zip(rows.tolist(), keys, strict=True)]
            write = replace(write, values=row_keys.decode(keys, lane.rule.key, self.ledger.long_key))
        state = self.ledger.known(tracked.name, keys)
        self.ledger.pending.overlay(tracked.name, keys, state)
        found = sink.lock(write, (*tracked.identity, *tracked.cells))
        place = {key: i for i, key in enumerate(keys)}
        there = np.array([place.get(key or b"", -1) for key in row_keys.encode([found.column(c).combine_chunks() for c in tracked.identity])], dtype=np.int64)
        other = np.zeros(len(there), dtype=np.bool_)
        for c, name in enumerate(tracked.cells):
            known = state.hashes[there, c]
            other |= (known != UNKNOWN) & (known != hash_column(tracked.type(name), found.column(name), self.ledger.seed))
        other &= (there >= 0) & state.present[there]
        owed[rows[there[other]]] = True
        return owed

    def _committed(self, source: str, target: str, number: int) -> bool:
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._happened(source, target, number)
            except Transient as error:
                self.wait(target, attempt, error)

    def _learn(self, intent: Intent, proposal: Proposal, applied: Applied, position: str) -> None:
        lane, result = proposal.lane, applied.result
        if lane.rule.link:
            proposal = replace(proposal, target_keys=settle(intent, lane, proposal.source_keys, proposal.target_keys, applied))
        wrote = (result == WROTE) | ((result == NO_ROW) & (proposal.op == DELETE))
        rows = np.flatnonzero(wrote)
        known = np.union1d(rows, np.array(sorted(applied.rekeyed), dtype=np.int64)) if applied.rekeyed else rows
        if len(known):
            self._remember(intent, proposal.take(known), np.isin(known, rows), np.isin(known, list(applied.left)))
        self._follow_keys(intent, proposal, applied)
        if len(rows):
            intent.count(lane.name, applied=len(rows))
            intent.last_applied_us[lane.name] = self.proposer.now_us()
            if self.ledger.quarantine:
                for i in rows.tolist():
                    if (lane.name, proposal.source_keys[i]) in self.ledger.quarantine:
                        intent.quarantined[lane.name, proposal.source_keys[i]] = None
        for i in np.flatnonzero(~wrote).tolist():
            key = proposal.source_keys[i]
            why = applied.refused.get(i)
            alike = why is not None and why.reason == "unique" and proposal.op[i] == INSERT and (lane.name, key) not in intent.tried and lane.alike
            if why is not None and not alike:
                quarantine(self.proposer, intent, lane, key, why.reason, str(why), position)
            elif result[i] == MANY_ROWS:
                quarantine(self.proposer, intent, lane, key, "other", f"the key names several rows of {lane.target.name}", position)
            else:
                # The target is not as its log has shown it so far: the log still owes us an event, then the key is asked again.
                intent.asks[lane.name, key] = max(intent.tried.get((lane.name, key), 0), intent.asks.get((lane.name, key)) or 0) + 1
                intent.count(lane.name, waiting=1)
                if not lane.target.captured:
                    self._correct(intent, lane.target.name, proposal.target_keys[i], present=result[i] == ROW_EXISTS)

    def _standing(self, proposal: Proposal) -> dict[int, Key]:
        """Row -> under which key it stands, of the rows that are to get another one."""
        moving = {i: was for i, was in enumerate(proposal.was or ()) if was is not None and proposal.op[i] != DELETE}
        names = row_keys.decode(list(moving.values()), proposal.lane.rule.key, self.ledger.long_key).to_pylist() if moving else []
        return {i: tuple(name.values()) for i, name in zip(moving, names, strict=True)}

    def _follow_keys(self, intent: Intent, proposal: Proposal, applied: Applied) -> None:
        """What the ledger remembers of rows that stand, or stood, under another key than the rule gives them."""
        lane = proposal.lane
        for i, was in enumerate(proposal.was or ()):
            if was is None:
                continue
            stays = i in applied.refused if proposal.op[i] == DELETE else i not in applied.rekeyed or i in applied.left
            if stays and proposal.names is not None:
                remember(intent, lane, proposal.source_keys[i], was, proposal.names[i])
            else:
                forget(intent, self.ledger, lane, proposal.source_keys[i])

    def _remember(self, intent: Intent, proposal: Proposal, written: npt.NDArray[np.bool_], left: npt.NDArray[np.bool_]) -> None:
        """written: rows whose cells were written; of the others only the key was changed. left: rows that stand under their old key as well."""
        lane = proposal.lane
        cells = len(lane.target.cells)
        mask = np.zeros((len(proposal), cells), dtype=np.bool_)
        hashes, stamps = np.zeros(mask.shape, dtype=np.uint64), np.full(mask.shape, NEVER, dtype=np.int64)
        mask[:, lane.target_cell], hashes[:, lane.target_cell], stamps[:, lane.target_cell] = proposal.decided, proposal.hashes, proposal.stamps
        mask[~written] = False
        writes = Writes(
            keys=proposal.target_keys,
            present=proposal.op != DELETE,
            insert=proposal.op == INSERT,
            life=proposal.life,
            mask=mask,
            hashes=hashes,
            stamps=stamps,
        )
        if proposal.was is not None:
            writes = _rekeyed(writes, proposal, left)
        name = lane.source.system, lane.target.system, lane.target.name
        if not lane.target.captured:
            self._put_seen(intent, lane.target.name, writes)
        elif name in intent.writes:
            intent.writes[name] = intent.writes[name].joined(writes)
        else:
            intent.writes[name] = writes

    def _put_seen(self, intent: Intent, table: str, writes: Writes) -> None:
        """Without the target's log what we wrote counts as seen at once."""
        cells = writes.mask | writes.brought
        state = State(writes.present.copy(), writes.life, np.full(len(writes.keys), NEVER), np.where(cells, writes.hashes, UNKNOWN), writes.stamps)
        known = np.flatnonzero(~writes.insert)
        keys, states = intent.rows.get(table, ([], []))
        stored = dict(zip(keys, states, strict=True))  # by another rule of the same batch
        if len(known):
            names = [writes.keys[i] for i in known]
            before = self.ledger.known(table, names)
            again = np.array([i for i, name in enumerate(names) if name in stored], dtype=np.int64)
            if len(again):
                before.put(again, State.unpack([stored[names[i]] for i in again], before.hashes.shape[1]))
            writes.overlay(known, before, np.arange(len(known)))
            state.put(known, before)
        if stored:
            stored |= zip(writes.keys, state.pack(), strict=True)
            intent.rows[table] = (list(stored), list(stored.values()))
        else:
            intent.rows[table] = (list(writes.keys), state.pack())

    def _correct(self, intent: Intent, table: str, key: bytes, *, present: bool) -> None:
        state = State.unknown(1, len(self.topology.tracked[table].cells))
        state.present[0] = present
        keys, states = intent.rows.setdefault(table, ([], []))
        if key not in keys:
            keys.append(key)
            states += state.pack()


def _one_insert(proposals: Sequence[Proposal]) -> list[Proposal]:
    """Where several rules create the same row, the first inserts it and the others add their cells to it."""
    tables = Counter(p.lane.target.name for p in proposals)
    created: dict[str, set[bytes]] = {}
    done = []
    for p in proposals:
        if tables[p.lane.target.name] > 1:
            there = created.setdefault(p.lane.target.name, set())
            inserts = np.flatnonzero(p.op == INSERT).tolist()
            again = [i for i in inserts if p.target_keys[i] in there]
            if again:
                op = p.op.copy()
                op[again] = UPDATE
                p = replace(p, op=op)
            there.update(p.target_keys[i] for i in inserts)
        done.append(p)
    return done


def _rekeyed(writes: Writes, proposal: Proposal, left: npt.NDArray[np.bool_]) -> Writes:
    """With what a change of key is for who knows rows by their key: the row is gone under the old one, and came with all its cells under the new one."""
    came = np.array([i for i, was in enumerate(proposal.was or ()) if was is not None and writes.present[i]], dtype=np.intp)
    if len(came) == 0 or proposal.kept is None or proposal.gone is None:
        return writes
    brought, state = np.zeros_like(writes.mask), proposal.kept
    brought[came] = ~writes.mask[came] & (state.stamps[came] != NEVER)
    writes.hashes[brought], writes.stamps[brought] = state.hashes[brought], state.stamps[brought]
    writes.insert[came], writes.life[came] = True, proposal.gone[came]
    at = set(writes.keys)
    ends = [i for i in came.tolist() if not left[i] and (proposal.was or [])[i] not in at]
    nothing, marked = np.zeros((len(ends), brought.shape[1]), dtype=np.bool_), np.ones((len(ends), brought.shape[1]), dtype=np.bool_)
    no, shape = np.zeros(len(ends), dtype=np.bool_), nothing.shape
    return Writes(
        keys=writes.keys + [(proposal.was or [])[i] or b"" for i in ends],
        present=np.concatenate([writes.present, no]),
        insert=np.concatenate([writes.insert, no]),
        life=np.concatenate([writes.life, proposal.gone[ends]]),
        mask=np.concatenate([writes.mask, nothing]),
        hashes=np.concatenate([writes.hashes, np.zeros(shape, dtype=np.uint64)]),
        stamps=np.concatenate([writes.stamps, np.full(shape, NEVER, dtype=np.int64)]),
        kept=np.concatenate([brought, marked]),
    )


def _write(proposal: Proposal) -> Write:
    lane = proposal.lane
    names = proposal.values.column_names
    decided = np.zeros((len(proposal), len(names)), dtype=np.bool_)
    place = {name: i for i, name in enumerate(lane.cells)}
    for i, name in enumerate(names):
        decided[:, i] = proposal.decided[:, place[name]] if name in place else proposal.op == INSERT
    made = lane.rule.key[0] if lane.rule.link else ""
    return Write(table=lane.target.table, key=lane.rule.key, op=proposal.op, values=proposal.values, decided=decided, made=made)
