"""The read model of a state folder: what the command line and a dashboard show. Works while the daemon runs and after it stopped; writes nothing."""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from engine.ledger import keys as row_keys
from engine.ledger.ledger import Ledger, locked
from engine.observe.clocks import too_far_apart
from engine.settings import Settings


def read_status(settings: Settings) -> dict[str, Any]:
    """The contract's `status` document; `warnings` only where there are any. `state`: new, starting, first read, running or stopped."""
    systems: dict[str, Any] = {name: {"position": None, "lag_seconds": None, "skew_ms": None} for name in settings.systems}
    rules: dict[str, Any] = {
        rule.name: {"applied": 0, "conflicts": 0, "quarantined": 0, "last_applied_at": None} for rule in settings.rules
    }
    ledger = _open(settings)
    if ledger is None:
        return {"state": "new", "systems": systems, "rules": rules}
    running = locked(settings.state)
    for name, system in systems.items():
        progress = ledger.progress(name)
        system["position"] = progress.text if progress is not None else None
        system["lag_seconds"] = ledger.meta(f"lag {name}")
        system["skew_ms"] = ledger.meta(f"skew {name}")
        stopped = ledger.meta(f"stopped {name}")
        if stopped:
            system["stopped"] = stopped
    for name, rule in rules.items():
        counters = ledger.meta(f"counters {name}") or {}
        # rows = applied + equal + decided_against + echo + ignored + waiting (asked again) + refused (each time; `quarantined` are those that wait now)
        rule |= {key: counters.get(key, 0) for key in ("rows", "applied", "conflicts", "equal", "decided_against", "echo", "ignored", "waiting")}
        rule["refused"] = counters.get("quarantined", 0)
        rule["quarantined"] = sum(1 for owner, _ in ledger.quarantine if owner == name)
        rule["held"] = sum(1 for owner, _ in ledger.held if owner == name)
        applied = ledger.meta(f"applied {name}")
        rule["last_applied_at"] = None if applied is None else _iso(applied)
    phase = ledger.meta("phase") or "starting"
    ledger.close()
    apart = too_far_apart({name: s["skew_ms"] for name, s in systems.items() if s["skew_ms"] is not None}, settings.max_clock_skew_ms)
    warnings = {"warnings": [apart]} if apart else {}
    return {"state": phase if running else "stopped", "systems": systems, "rules": rules, **warnings}


def list_quarantine(settings: Settings) -> list[dict[str, Any]]:
    """Rows set aside, oldest first. `reason` is a sentence, `code` its short word, `id` stays the same for a row of a rule."""
    ledger = _open(settings)
    if ledger is None:
        return []
    found = [
        {
            "id": record_id(rule, key),
            "rule": rule,
            "key": record["key"],
            "reason": record["what"],
            "code": record["reason"],
            "since": _iso(record["since"]),
            "attempts": record["attempts"],
            "position": record["position"],
        }
        for (rule, key), record in sorted(ledger.quarantine.items(), key=lambda item: item[1]["since"])
    ]
    ledger.close()
    return found


def list_conflicts(settings: Settings, limit: int = 1_000) -> list[dict[str, Any]]:
    """Cells held for a person first (`state` "held"), then the newest decided conflicts ("decided")."""
    ledger = _open(settings)
    if ledger is None:
        return []
    held = [
        {"state": "held", "id": record_id(rule, key), "rule": rule, "key": record["key"], "columns": record["columns"], "why": record["why"]}
        | {"since": _iso(record["since"])}
        for (rule, key), record in ledger.held.items()
    ]
    decided = [
        {"state": "decided", "rule": c["rule"], "key": c["key"], "columns": [c["column"]], "policy": c["policy"], "winner": c["winner"]}
        | {"source_time": _stamp(c["source_stamp"]), "target_time": _stamp(c["target_stamp"]), "since": _iso(c["at"])}
        for c in ledger.conflicts(limit)
    ]
    ledger.close()
    return held + decided


def deleted_rows(settings: Settings, table: str, keys: pa.Table) -> Sequence[bool]:
    """Which of these rows the ledger knows as deleted. keys: their identity, in the order in which the ledger has it."""
    ledger = _open(settings)
    if ledger is None:
        return [False] * keys.num_rows
    try:
        if table not in ledger.columns:
            return [False] * keys.num_rows
        names = [key or b"" for key in row_keys.encode([keys.column(c).combine_chunks() for c in keys.column_names])]
        state = ledger.known(table, names)
        gone: list[bool] = (~state.present & (state.life >= 0)).tolist()
        return gone
    finally:
        ledger.close()


def linked(settings: Settings, crosswalk: str, keys: pa.Table) -> list[str | None]:
    """Key texts of the records that these keys are linked to; None where there is no link."""
    ledger = _open(settings)
    if ledger is None:
        return [None] * keys.num_rows
    names = row_keys.encode([keys.column(c).combine_chunks() for c in keys.column_names])
    found = ledger.link(crosswalk, [key or row_keys.NO_KEY for key in names])
    texts = iter(row_keys.decode([key for key in found if key is not None], ("key",), ledger.long_key).column(0).to_pylist())
    ledger.close()
    return [None if key is None else next(texts) for key in found]


def record_id(rule: str, key: bytes) -> str:
    """Short stable name of a row of a rule, for the command line."""
    return hashlib.sha256(rule.encode() + b"\x00" + key).hexdigest()[:10]


def _open(settings: Settings) -> Ledger | None:
    if not (settings.state / "ledger" / "data.mdb").exists():
        return None
    return Ledger(settings.state, readonly=True)


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stamp(stamp: int) -> str | None:
    return _iso(stamp // 16) if stamp > 0 else None
