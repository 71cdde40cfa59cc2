"""The figures with what is needed to trust them: the machine, the versions, the settings, and the command that made each."""
from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.measure import Drain, Memory

PACKAGES = ("duckdb", "lmdb", "numba", "numpy", "psycopg", "pyarrow", "pymysql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured system on one workload. equal: both sides had the same rows afterwards. ratio: rows/s against native. Medians of
    `samples`."""

    workload: str
    system: str
    drain: Drain
    equal: bool
    command: str
    ratio: float | None = None
    samples: int = 1

    def cells(self) -> list[str]:
        drain = self.drain
        return [
            self.workload, self.system, f"{drain.rows_per_second:,.0f}", "-" if self.ratio is None else f"{self.ratio:.2f}",
            f"{drain.seconds:.2f}", f"{drain.whole_seconds:.2f}", ", ".join(f"{v:.1f} {k}" for k, v in drain.cpu_seconds.items()),
            _memory(drain.memory), "equal" if self.equal else "DIFFERENT",
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload, "system": self.system, "rows": self.drain.rows, "seconds": round(self.drain.seconds, 3),
            "whole_seconds": round(self.drain.whole_seconds, 3), "rows_per_second": round(self.drain.rows_per_second),
            "ratio_to_native": None if self.ratio is None else round(self.ratio, 3),
            "cpu_seconds": {k: round(v, 2) for k, v in self.drain.cpu_seconds.items()},
            "peak_rss_mb": self.drain.memory and round(self.drain.memory.peak), "peak_own_mb": self.drain.memory and round(self.drain.memory.own),
            "equal": self.equal, "samples": self.samples, "command": self.command,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds from commit to visible on the other side. lost: changes that did not arrive in time."""

    direction: str
    changes: int
    per_second: float
    p50: float
    p99: float
    worst: float
    lost: int
    memory: Memory
    cpu_seconds: float
    command: str

    def to_json(self) -> dict[str, Any]:
        return {
            "direction": self.direction, "changes": self.changes, "changes_per_second": round(self.per_second, 1),
            "p50_ms": round(self.p50, 1),
            "p99_ms": round(self.p99, 1), "max_ms": round(self.worst, 1), "lost": self.lost,
            "peak_rss_mb": round(self.memory.peak), "peak_own_mb": round(self.memory.own),
            "cpu_seconds": round(self.cpu_seconds, 2), "command": self.command,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    facts: Mapping[str, str]
    figures: Sequence[Figure] = field(default=())
    latencies: Sequence[Latency] = field(default=())
    failures: Sequence[str] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return {
            "facts": dict(self.facts), "throughput": [f.to_json() for f in self.figures], "latency": [x.to_json() for x in self.latencies],
            "failures": list(self.failures),
        }

    def lines(self) -> list[str]:
        """For a person."""
        said = [f"{name}: {text}" for name, text in self.facts.items()]
        if self.figures:
            said += ["", *_table(
                ["workload", "system", "rows/s", "to native", "seconds", "with start", "CPU s", "MB own/peak", "both sides"],
                [f.cells() for f in self.figures],
            )]
        if self.latencies:
            said += ["", *_table(
                ["commit to visible", "changes", "per second", "p50 ms", "p99 ms", "max ms", "lost", "MB own/peak", "CPU s"],
                [[x.direction, f"{x.changes:,}", f"{x.per_second:.0f}", f"{x.p50:.0f}", f"{x.p99:.0f}", f"{x.worst:.0f}", str(x.lost),
                  _memory(x.memory), f"{x.cpu_seconds:.1f}"] for x in self.latencies],
            )]
        commands = dict.fromkeys([*[f"{f.workload}, {f.system}: {f.command}" for f in self.figures],
                                  *[f"{x.direction}: {x.command}" for x in self.latencies]])
        if commands:
            said += ["", "made by:", *[f"  {c}" for c in commands]]
        return said + [f"failed: {failure}" for failure in self.failures]


def machine() -> dict[str, str]:
    """What the figures depend on besides the code."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    return {
        "machine": f"{cores} cores ({_processor()}), {_memory_gb():.0f} GB, load before {load}, {platform.system()} {platform.release()}",
        "versions": f"Python {platform.python_version()}, " + ", ".join(f"{p} {version(p)}" for p in PACKAGES),
    }


def median(drains: Sequence[Drain]) -> Drain:
    """The run with the median time (the lower one of two)."""
    middle = statistics.median_low([d.seconds for d in drains])
    return next(d for d in drains if d.seconds == middle)


def _memory(memory: Memory | None) -> str:
    return "-" if memory is None else f"{memory.own:.0f}/{memory.peak:.0f}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def _table(head: list[str], body: list[list[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    left = {0, 1} if head[1] == "system" else {0}
    return ["  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))).rstrip()
            for line in [head, *body]]
