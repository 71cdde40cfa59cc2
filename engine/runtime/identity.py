"""Which record of one system is which of the other, where a target makes its own keys.

The ledger keeps each link both ways: crosswalk `link:a:b` leads from row keys of a to row keys of b, `link:b:a` back. A link is made when the row is created
(its key is known once it is written), or before that when `match` finds the record. It outlives its rows, so a late change finds the same record; a row that
is created anew after its delete is a new record.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.apply.applier import Applied
from engine.ledger import keys as row_keys
from engine.ledger.intent import Intent
from engine.ledger.ledger import Ledger, waits_for
from engine.mapping.rule import crosswalk
from engine.model.hashing import comparable
from engine.model.types import Kind
from engine.model.write import WROTE, LinkRow
from engine.ports import Reader
from engine.runtime.topology import Lane

STAND_IN = b"\xffnew:"
"""Begins the target key of a row that is still to be created; the source key follows."""
ANY = b"*"
"""In place of a row key, for `Ledger.wait_for`: a link is being made whose keys are not known yet."""
LONGEST = row_keys.LIMIT
"""Bytes. Longer key texts have no place in `syncline_link`."""

Pairs = dict[str, dict[bytes, bytes | None]]


@dataclass(slots=True)
class Placed:
    """Numbers are those of the rows given. keys: their target keys, stand-ins for rows to create. settled: rows that go on. later: rows to be asked again.
    ambiguous: why nobody can say which record it is, by number. values: with the key column, null where the target is to make it."""

    keys: list[bytes | None]
    values: pa.Table
    settled: list[int] = field(default_factory=list)
    later: list[int] = field(default_factory=list)
    ambiguous: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Crosswalk:
    """ledger: read only. readers: by system, to find records by `match`."""

    ledger: Ledger
    readers: Mapping[str, Reader]

    def there(self, name: str, keys: Sequence[bytes], intent: Intent) -> list[bytes | None]:
        """Keys on the other side, as the ledger and this very batch know them."""
        found = self.ledger.link(name, keys)
        fresh = intent.links.get(name)
        return found if not fresh else [fresh.get(key, old) for key, old in zip(keys, found, strict=True)]

    def linked(self, name: str, keys: pa.StringArray) -> pa.StringArray:
        """The same for key texts: what xref() gives. Null where there is no link, or no key."""
        names = row_keys.encode([keys])
        found = self.ledger.link(name, [key or row_keys.NO_KEY for key in names])
        there = [i for i, key in enumerate(found) if key is not None]
        texts: list[str | None] = [None] * len(found)
        for i, text in zip(there, row_keys.decode([found[i] or b"" for i in there], ("key",), self.ledger.long_key).column(0).to_pylist(), strict=True):
            texts[i] = text
        return pa.array(texts, pa.string())

    def place(
        self, lane: Lane, keys: Sequence[bytes], life: npt.NDArray[np.int64], values: pa.Table, intent: Intent, unknown: npt.NDArray[np.bool_], *, fetch: bool
    ) -> Placed:
        """The target rows of some source rows. life: of the source rows. unknown: rows whose value of a match column is not known.
        fetch: whether the target may be looked at; where not, rows that have to be matched are for later."""
        found = self.there(lane.crosswalk, keys, intent)
        self._forget_reborn(lane, keys, life, found, intent)
        placed = Placed(found, values)
        new = [i for i, key in enumerate(found) if key is None]
        if new and lane.settings.match:
            self._match(lane, keys, new, placed, intent, unknown, fetch=fetch)
        away = {*placed.later, *placed.ambiguous}
        placed.settled = [i for i in range(len(keys)) if i not in away]
        known = [key or b"" for key in found if key is not None]
        texts = iter(row_keys.decode(known, lane.rule.key, self.ledger.long_key).column(0).to_pylist())
        column = pa.array([None if key is None else next(texts) for key in found], pa.string())
        placed.values = values.append_column(lane.rule.key[0], column)
        placed.keys = [STAND_IN + mine if key is None else key for mine, key in zip(keys, found, strict=True)]
        return placed

    def _forget_reborn(self, lane: Lane, keys: Sequence[bytes], life: npt.NDArray[np.int64], found: list[bytes | None], intent: Intent) -> None:
        """A row that was deleted on both sides and came after that is a record of its own."""
        linked = [i for i, key in enumerate(found) if key is not None]
        if not linked:
            return
        have = self.ledger.actual(lane.target.name, [found[i] or b"" for i in linked])
        for at in np.flatnonzero(~have.present & (have.life >= 0) & (life[linked] > have.life)).tolist():
            old = found[linked[at]]
            if old is not None and self.there(lane.way_back, [old], intent) == [keys[linked[at]]]:
                intent.links.setdefault(lane.way_back, {})[old] = None
            found[linked[at]] = None

    def follow(self, lanes: Iterable[Lane], table: str, moves: Sequence[tuple[bytes, bytes]], intent: Intent) -> None:
        """Rows of a table whose key was changed, (old, new) in log order: their links go with them."""
        from_here = {(lane.crosswalk, lane.way_back) for lane in lanes if lane.rule.link and lane.source.name == table}
        from_here |= {(lane.way_back, lane.crosswalk) for lane in lanes if lane.rule.link and lane.target.name == table}
        for ahead, back in from_here:
            for old, new in moves:
                (there,) = self.there(ahead, [old], intent)
                if there is not None:
                    intent.links.setdefault(ahead, {}).update({old: None, new: there})
                    intent.links.setdefault(back, {})[there] = new

    # --- match

    def _match(
        self, lane: Lane, keys: Sequence[bytes], new: list[int], placed: Placed, intent: Intent, unknown: npt.NDArray[np.bool_], *, fetch: bool
    ) -> None:
        if not fetch:
            placed.later = new
            return
        for name in (lane.crosswalk, lane.way_back):
            self.ledger.wait_for(f"links {name}", [ANY])
        placed.later = [i for i in new if unknown[i]]
        rest = [i for i in new if not unknown[i]]
        for alternative in lane.settings.match:
            candidates = self._candidates(lane, alternative, rest, placed.values)
            for i, there in candidates.items():
                why = self._link(lane, keys[i], there, alternative, intent)
                if why:
                    placed.ambiguous[i] = why
                else:
                    placed.keys[i] = there[0]
            rest = [i for i in rest if i not in candidates]

    def _link(self, lane: Lane, key: bytes, there: list[bytes], alternative: Sequence[str], intent: Intent) -> str:
        """Links the row to the one candidate; else why not."""
        named = f"{' and '.join(alternative)} of {lane.target.name}"
        if len(there) > 1:
            return f"{len(there)} rows match by {named}; make one of them differ, or link it by filling the other side"
        (other,) = self.there(lane.way_back, there, intent)
        if other is not None and other != key:
            if self.ledger.seen(lane.source.name, [other]).present[0]:
                return f"1 row matches by {named}, but it is linked to another record already"
            intent.links.setdefault(lane.crosswalk, {})[other] = None
        intent.links.setdefault(lane.crosswalk, {})[key] = there[0]
        intent.links.setdefault(lane.way_back, {})[there[0]] = key
        return ""

    def _candidates(self, lane: Lane, alternative: Sequence[str], rows: Sequence[int], values: pa.Table) -> dict[int, list[bytes]]:
        """Row -> keys of the target rows that have its values in these columns; rows without any, or with a null among the values, are left out."""
        wanted = values.select(list(alternative)).take(pa.array(rows, pa.int64()))
        given = [tuple(row.values()) for row in wanted.to_pylist()]
        complete = [at for at, row in enumerate(given) if None not in row]
        if not complete:
            return {}
        asked = wanted.take(pa.array(complete)).group_by(list(alternative)).aggregate([])
        columns = [lane.rule.key[0], *(c for c in alternative if c != lane.rule.key[0])]
        found = self.readers[lane.target.system].fetch(lane.target.table, columns, list(alternative), asked)
        keys = row_keys.encode([found.column(lane.rule.key[0]).combine_chunks()])
        exact, alike = _grouped(lane, alternative, found, keys, fold=False), _grouped(lane, alternative, found, keys, fold=True)
        mine, folded = (_texts(lane, alternative, wanted, fold=fold) for fold in (False, True))
        result = {rows[at]: exact.get(mine[at]) or alike.get(folded[at]) or [] for at in complete}
        return {i: there for i, there in result.items() if there}


def _grouped(lane: Lane, columns: Sequence[str], rows: pa.Table, keys: Sequence[bytes | None], *, fold: bool) -> dict[tuple[str, ...], list[bytes]]:
    found: dict[tuple[str, ...], list[bytes]] = {}
    for text, key in zip(_texts(lane, columns, rows, fold=fold), keys, strict=True):
        found.setdefault(text, []).append(key or b"")
    return found


def _texts(lane: Lane, columns: Sequence[str], rows: pa.Table, *, fold: bool) -> list[tuple[str, ...]]:
    """Comparable text of some columns. fold: rows that the database took for equal by its collation find each other as well."""
    texts = []
    for name in columns:
        kind = lane.target.type(name)
        column = comparable(kind, rows.column(name).combine_chunks()).to_pylist()
        texts.append([(v or "").casefold().rstrip() for v in column] if fold and kind.kind is Kind.TEXT else [v or "" for v in column])
    return list(zip(*texts, strict=True))


# --- what becomes of it


def settle(intent: Intent, lane: Lane, source_keys: Sequence[bytes], target_keys: list[bytes], applied: Applied) -> list[bytes]:
    """Target keys with those of the rows that were created; these are linked."""
    keys = list(target_keys)
    for i, key in enumerate(keys):
        if key.startswith(STAND_IN) and applied.result[i] == WROTE:
            keys[i] = row_keys.one(applied.keys[i].encode(), intent.long_keys.__setitem__)
            intent.links.setdefault(lane.crosswalk, {})[source_keys[i]] = keys[i]
            intent.links.setdefault(lane.way_back, {})[keys[i]] = source_keys[i]
    return keys


def wake(intent: Intent, ledger: Ledger) -> None:
    """Rows that waited for links which this batch makes are asked again at once."""
    made = {(name, key) for name, pairs in intent.links.items() for key, there in pairs.items() if there is not None}
    if not made:
        return
    for awaited in made & ledger.waiting.keys():
        for row in ledger.waiting[awaited]:
            if intent.quarantined.get(row, {}) is not None:  # not released by this batch
                intent.asks[row] = intent.asks.get(row) or 0
    for (rule, key), record in list(intent.quarantined.items()):
        if record is not None and record.get("waits") and waits_for(record) in made:
            if (rule, key) not in ledger.quarantine:
                del intent.quarantined[rule, key]
                intent.count(rule, quarantined=-1, waiting=1)
            intent.asks[rule, key] = intent.asks.get((rule, key)) or 0


def link_rows(intent: Intent, lanes: Iterable[Lane], number: int, now_us: int, ledger: Ledger) -> list[LinkRow]:
    """What this batch says of the links of some lanes, for the side table of their target."""
    rows: dict[tuple[str, str, bytes], LinkRow] = {}
    for lane in lanes:
        for key, there in intent.links.get(lane.crosswalk, {}).items() if lane.rule.link else ():
            mine, theirs = _text(key, intent, ledger), None if there is None else _text(there, intent, ledger)
            if len(mine.encode()) <= LONGEST and len((theirs or "").encode()) <= LONGEST:
                rows[lane.rule.link, lane.target.system, key] = LinkRow(
                    link=lane.rule.link, source=lane.source.system, source_key=mine, target=lane.target.system, target_key=theirs, batch=number, made_us=now_us
                )  # fmt: skip
    return list(rows.values())


def _text(key: bytes, intent: Intent, ledger: Ledger) -> str:
    text: str = row_keys.decode([key], ("key",), lambda digest: intent.long_keys.get(digest) or ledger.long_key(digest)).column(0)[0].as_py()
    return text


def from_rows(rows: Iterable[LinkRow], ledger: Ledger) -> Pairs:
    """The crosswalks that rows of `syncline_link` make, later ones over earlier ones, and over what the ledger knows of their records."""
    found: Pairs = {}
    for row in sorted(rows, key=lambda row: (row.made_us, row.batch)):
        names = crosswalk(row.link, row.source, row.target), crosswalk(row.link, row.target, row.source)
        keys = row_keys.one(row.source_key.encode()), row_keys.one((row.target_key or "").encode())
        for here, (name, key) in enumerate(zip(names, keys, strict=True)):
            pairs, back = found.setdefault(name, {}), found.setdefault(names[1 - here], {})
            before = pairs[key] if key in pairs else ledger.link(name, [key])[0]
            if before is not None and before != keys[1 - here]:
                back[before] = None
        for here, (name, key) in enumerate(zip(names, keys, strict=True)):
            found[name][key] = keys[1 - here]
    return found
