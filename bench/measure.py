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


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """rows: transferred. seconds: from the moment the slot was streaming until the last row could be read from the target.
    whole_seconds: from the start of the process, or of ALTER SUBSCRIPTION ENABLE. cpu_seconds: by part, `start` until the slot was streaming.
    peak_rss_mb: of the daemon."""

    rows: int
    seconds: float
    whole_seconds: float
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    peak_rss_mb: float | None = None

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


def peak_rss_mb(pid: int) -> float:
    """Highest resident memory so far, MB of 10^6 bytes; 0 when the process is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return 0.0


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
