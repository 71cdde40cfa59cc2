"""The intent of a batch: all that the ledger will learn when the batch has happened, its next position included.

It is written beside the ledger before the target commits; afterwards, or at the next start when the target's marker says that the batch happened,
it becomes the ledger (`Ledger.take_over`). A batch that did not happen leaves nothing.
"""
from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any

from engine.ledger import frame
from engine.model.state import Writes

RowKey = tuple[str, bytes]
"""A rule's name, or a table's, and a row key."""


@dataclass(slots=True)
class Progress:
    """How far a system's log is done: resume after `text`, and of what comes then leave out transactions up to `done`. us: the last commit time that was
    given to a transaction, see `Pipeline.process`."""

    text: str
    order: int
    done: int = -1
    us: int = 0


@dataclass(slots=True)
class Intent:
    """Filled while a batch is worked on.

    batches: (source, target) -> batch number of ours. rows: table -> (keys, packed states). writes: what we wrote, by (source, target, table).
    echoed: (source, target, batch): everything up to this batch was shown by the target's log. asks: (rule, key) -> attempts, None when done.
    quarantined: (rule, key) -> record, None when released. held: the same for cells held for a person.
    moved: (rule, key) -> [target key under which a row still stands whose key was changed, its source key then], in hex; None when it has the new one.
    aliases: table -> {log key: row key, None when gone}. links: rule or crosswalk -> {key here: key there, None when taken back}.
    counters: rule -> {counter: added}.
    joins: index (see `Ledger.joined`) -> {row key: the row's value there, empty when it is null, None when the row is gone}.
    meta: further named values of the ledger. tried: attempts of the keys that are asked here (needed while the batch is worked on, not kept).
    """

    batches: dict[tuple[str, str], int] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)
    rows: dict[str, tuple[list[bytes], list[bytes]]] = field(default_factory=dict)
    writes: dict[tuple[str, str, str], Writes] = field(default_factory=dict)
    echoed: list[tuple[str, str, int]] = field(default_factory=list)
    asks: dict[RowKey, int | None] = field(default_factory=dict)
    quarantined: dict[RowKey, dict[str, Any] | None] = field(default_factory=dict)
    held: dict[RowKey, dict[str, Any] | None] = field(default_factory=dict)
    moved: dict[RowKey, list[str] | None] = field(default_factory=dict)
    aliases: dict[str, dict[bytes, bytes | None]] = field(default_factory=dict)
    links: dict[str, dict[bytes, bytes | None]] = field(default_factory=dict)
    joins: dict[str, dict[bytes, bytes | None]] = field(default_factory=dict)
    long_keys: dict[bytes, bytes] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    tried: dict[RowKey, int] = field(default_factory=dict)
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    last_applied_us: dict[str, int] = field(default_factory=dict)

    def forked(self) -> Intent:
        """A copy that can be added to without changing this one: an attempt that fails must leave no trace."""
        fork = Intent(**{name: copy.copy(getattr(self, name)) for name in self.__slots__})
        fork.counters = {rule: dict(counters) for rule, counters in self.counters.items()}
        fork.links = {name: dict(pairs) for name, pairs in self.links.items()}
        fork.rows = {table: (list(keys), list(states)) for table, (keys, states) in self.rows.items()}
        return fork

    def count(self, rule: str, **added: int) -> None:
        """Adds to a rule's counters."""
        counters = self.counters.setdefault(rule, {})
        for name, amount in added.items():
            if amount:
                counters[name] = counters.get(name, 0) + int(amount)

    def pack(self) -> bytes:
        fields: dict[str, Any] = {
            "batches": [[*k, v] for k, v in self.batches.items()],
            "progress": {s: [p.text, p.order, p.done, p.us] for s, p in self.progress.items()},
            "echoed": [list(e) for e in self.echoed],
            "asks": _listed(self.asks),
            "quarantined": _listed(self.quarantined),
            "held": _listed(self.held),
            "moved": _listed(self.moved),
            "aliases": {t: [[k.hex(), None if v is None else v.hex()] for k, v in d.items()] for t, d in self.aliases.items()},
            "links": {r: [[k.hex(), None if v is None else v.hex()] for k, v in d.items()] for r, d in self.links.items()},
            "joins": {i: [[k.hex(), None if v is None else v.hex()] for k, v in d.items()] for i, d in self.joins.items()},
            "long_keys": [[k.hex(), v.hex()] for k, v in self.long_keys.items()],
            "meta": self.meta,
            "conflicts": self.conflicts,
            "counters": self.counters,
            "last_applied_us": self.last_applied_us,
        }
        for table, (keys, states) in self.rows.items():
            fields[f"keys {table}"], fields[f"states {table}"] = keys, states
        for key, writes in self.writes.items():
            fields["writes " + json.dumps(key)] = writes
        return frame.pack(fields)

    @classmethod
    def unpack(cls, blob: bytes | memoryview) -> Intent:
        fields = frame.unpack(blob)
        intent = cls(
            batches={(s, t): n for s, t, n in fields["batches"]},
            progress={s: Progress(*p) for s, p in fields["progress"].items()},
            echoed=[(s, t, n) for s, t, n in fields["echoed"]],
            asks=_unlisted(fields["asks"]),
            quarantined=_unlisted(fields["quarantined"]),
            held=_unlisted(fields["held"]),
            moved=_unlisted(fields.get("moved", [])),
            aliases={
                t: {bytes.fromhex(k): None if v is None else bytes.fromhex(v) for k, v in d} for t, d in fields["aliases"].items()
            },
            links={r: {bytes.fromhex(k): None if v is None else bytes.fromhex(v) for k, v in d} for r, d in fields["links"].items()},
            joins={i: {bytes.fromhex(k): None if v is None else bytes.fromhex(v) for k, v in d} for i, d in fields["joins"].items()},
            long_keys={bytes.fromhex(k): bytes.fromhex(v) for k, v in fields["long_keys"]},
            meta=fields["meta"],
            conflicts=fields["conflicts"],
            counters=fields["counters"],
            last_applied_us=fields["last_applied_us"],
        )
        for name, value in fields.items():
            kind, _, rest = name.partition(" ")
            if kind == "keys" and rest:
                intent.rows[rest] = (value, fields[f"states {rest}"])
            elif kind == "writes" and rest:
                source, target, table = json.loads(rest)
                intent.writes[source, target, table] = value
        return intent


def _listed(items: dict[RowKey, Any]) -> list[list[Any]]:
    return [[name, key.hex(), value] for (name, key), value in items.items()]


def _unlisted(items: list[list[Any]]) -> dict[RowKey, Any]:
    return {(name, bytes.fromhex(key)): value for name, key, value in items}
