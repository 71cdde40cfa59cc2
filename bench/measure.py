"""Watches a replication work off its backlog: when the server began to stream, when the last row was there, what the processes used."""
from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

_POLL_SECONDS = 0.01
_TICK = os.sysconf("SC_CLK_TCK")


class GaveUpError(Exception):
    """The replication did not finish in time, or its process ended early."""


@dataclass(slots=True)
class Memory:
    """Resident memory of a process, MB of 10^6 bytes. peak: the kernel's own record (VmHWM), which counts pages of mapped files, the ledger's among
    them, that the kernel takes back when it needs them. own: the highest sample without those (RssAnon)."""

    peak: float = 0.0
    own: float = 0.0

    def sample(self, pid: int) -> None:
        """Nothing when the process is gone."""
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return
        found = {name: int(rest.split()[0]) * 1024 / 1e6 for name, _, rest in (line.partition(":") for line in lines) if rest.endswith("kB")}
        self.peak = max(self.peak, found.get("VmHWM", 0.0))
        self.own = max(self.own, found.get("RssAnon", 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """rows: transferred. seconds: from the moment the slot was streaming until the last row could be read from the target.
    whole_seconds: from the start of the process, or of ALTER SUBSCRIPTION ENABLE. cpu_seconds: by part, `start` until the slot was streaming.
    memory: of the daemon."""

    rows: int
    seconds: float
    whole_seconds: float
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    memory: Memory | None = None

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def until_there(
    *, source: str, slot: str, target: str, done: str, started: float, patience: float, each_poll: Callable[[bool], None]
) -> tuple[float, float]:
    """Seconds from streaming, and from `started` (time.monotonic), until the query `done` gives a row on the target.

    each_poll: called at every look with whether the slot streams, to sample processes; may raise GaveUpError.
    """
    streaming: float | None = None
    with psycopg.connect(source, autocommit=True) as there, psycopg.connect(target, autocommit=True) as here:
        while True:
            now = time.monotonic()
            if streaming is None:
                row = there.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", (slot,)).fetchone()
                if row is not None and row[0]:
                    streaming = now
            if streaming is not None and here.execute(done.encode()).fetchone() is not None:
                seen = time.monotonic()
                return seen - streaming, seen - started
            if now - started > patience:
                raise GaveUpError(f"not finished after {patience:.0f} s")
            each_poll(streaming is not None)
            time.sleep(_POLL_SECONDS)
