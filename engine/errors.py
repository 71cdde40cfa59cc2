"""Every failure the engine can name, and what an operator does about it.

The class decides what happens next: `Transient` is retried with backoff, `Terminal` stops the direction it concerns, `Poison` sets one row
aside. Adapters wrap driver errors once, at their edge, and keep the driver's error as `__cause__`. No message may hold a cell value or a secret.
"""
from __future__ import annotations


class SynclineError(Exception):
    """What happened, where, and what to do next; each part is a sentence or a name for a person."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        mend = f" ({self.fix})" if self.fix else ""
        return f"{place}{self.what}{mend}"


class Oversized(Exception):
    """What was asked for holds more bytes than the caller wants at once: ask for less of it. A signal between parts of the engine, never for a person."""


class ConfigError(SynclineError):
    """The configuration file is wrong; exit code 2. `problems` holds every problem of the file, not the first one."""

    def __init__(self, problems: list[SynclineError]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = problems


class Transient(SynclineError):
    """The other side is away or busy (connection lost, deadlock, lock timeout). Trying the same thing again later may work."""


class Terminal(SynclineError):
    """Trying again cannot help: a person has to act (wrong password, missing right, lost log position). Stops the direction it concerns."""


BRIDGE = (
    "`syncline resync` a rule of this system: its log is then read from its end, and all its rules read all rows again; where the sides differ `baseline` "
    "decides, and a row that was deleted on one side meanwhile comes back"
)


class Gap(Terminal):
    """A system's log does not go on where we left it: what changed there in between can be had from its tables alone.

    set_back: the database itself is not as far as it was with us, or another one (restored from a backup, failed over with loss), so that what it holds may
    be older than what we know."""

    def __init__(self, what: str, *, where: str = "", fix: str = BRIDGE, set_back: bool = False) -> None:
        super().__init__(what, where=where, fix=fix)
        self.set_back = set_back


class Poison(SynclineError):
    """The target refuses one row, or a batch that contains one. The transaction stands as it did before the refused call.

    `rows` holds the indices (into the refused write) of the rows known to be at fault; empty when the target did not say which.
    `reason` is a short stable word for programs: `too_long`, `not_null`, `foreign_key`, `unique`, `check`, `range`, `type`, `encoding`, `other`.
    """

    def __init__(self, what: str, *, reason: str, rows: tuple[int, ...] = (), where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.reason = reason
        self.rows = rows
