"""Failpoints: named places at which a test lets the engine die or fail, to show that no moment is a bad one for it.

Switched on by SYNCLINE_FAILPOINTS, for example `target.committed=kill@3;capture.read=error`: at the third pass the process kills itself as `kill -9` would;
`error` raises Transient, at every pass where no number is given. Off, a place costs one comparison.
"""
from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass

from engine.errors import ConfigError, SynclineError, Transient

VARIABLE = "SYNCLINE_FAILPOINTS"
POINTS = {
    "baseline.chunk": "a chunk of a first read is in the ledger, how far the read came is not",
    "baseline.asked": "a rule was asked about a chunk, and what it wants is on its way",
    "capture.read": "a batch was taken from a log, nothing is known of it",
    "observe.done": "a batch is laid over what was seen, nothing is decided",
    "apply.begin": "the target's transaction is open and has its marker",
    "apply.wrote": "the target's transaction has its rows",
    "intent.announced": "the intent is beside the ledger, the target has not committed",
    "target.committed": "the target has committed, the ledger does not know",
    "ledger.taken": "the intent became the ledger",
    "asks.done": "keys were asked again",
    "keeper.sync": "the ledger is about to be made durable",
    "capture.ack": "the ledger is durable, and a source was told",
}
"""Every place, in the order of a batch's way, and how things stand there."""


@dataclass(slots=True)
class _Armed:
    action: str
    nth: int
    passes: int = 0


_armed: dict[str, _Armed] = {}
_lock = threading.Lock()


def arm(text: str) -> None:
    """Sets the failpoints as `VARIABLE` says, in place of those before; none for an empty text. ConfigError for what it cannot mean."""
    found: dict[str, _Armed] = {}
    for part in filter(None, (item.strip() for item in text.split(";"))):
        name, _, what = part.partition("=")
        action, _, nth = what.partition("@")
        if name not in POINTS or action not in ("kill", "error") or not (nth or "1").isdigit():
            fix = f"write NAME=kill@3 or NAME=error; names are: {', '.join(POINTS)}"
            raise ConfigError([SynclineError(f"there is no failpoint {part}", where=VARIABLE, fix=fix)])
        found[name] = _Armed(action, int(nth or 0))
    _armed.clear()
    _armed.update(found)


def arm_from_environment() -> None:
    arm(os.environ.get(VARIABLE, ""))


def reach(name: str) -> None:
    """Says that the engine is at this place. Transient where `error` is set for it."""
    if _armed:
        _fire(name)


def _fire(name: str) -> None:
    armed = _armed.get(name)
    if armed is None:
        return
    with _lock:
        armed.passes += 1
        due = armed.nth in (0, armed.passes)
    if not due:
        return
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise Transient(f"failpoint {name}", where=VARIABLE, fix="it was asked for")
