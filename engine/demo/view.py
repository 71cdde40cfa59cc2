"""What a person sees while the demo runs: a live table on a terminal, one plain line every two seconds elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_EVERY = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction at a moment. changed, carried: rows so far. seconds: measured times from commit to visible. lag: as Syncline says, seconds."""

    label: str
    changed: int
    carried: int
    seconds: Sequence[float]
    lag: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """done: 0 to 1, of the phase."""

    phase: str
    done: float
    directions: tuple[Direction, ...]
    conflicts: int
    quarantined: int
    memory_mb: float | None


class Rate:
    """Per second, over the last few seconds."""

    WINDOW = 2.5

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def __call__(self, total: int) -> float:
        now = time.monotonic()
        self._seen.append((now, total))
        while len(self._seen) > 2 and self._seen[1][0] < now - self.WINDOW:
            self._seen.pop(0)
        (then, before), (_, after) = self._seen[0], self._seen[-1]
        return (after - before) / (now - then) if now > then else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(values: Sequence[float]) -> str:
    """Median and 99th percentile."""
    if not values:
        return "–"
    return f"{percentile(values, 0.5) * 1000:.0f} / {percentile(values, 0.99) * 1000:.0f} ms"


class View:
    """`show` may be called as often as one likes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._rates: dict[tuple[str, str], Rate] = {}
        self._said = 0.0
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=8, transient=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the last table standing. Idempotent."""
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(Exception):
                live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, moment: Moment) -> None:
        rates = {(d.label, what): self._rate(d.label, what, n) for d in moment.directions for what, n in (("changed", d.changed), ("carried", d.carried))}
        if self._live is not None:
            self._live.update(_drawn(moment, rates))
        elif time.monotonic() - self._said >= PLAIN_EVERY:
            self._said = time.monotonic()
            self.console.print(_line(moment, rates, time.monotonic() - self._start), highlight=False, markup=False, soft_wrap=True)

    def _rate(self, label: str, what: str, total: int) -> float:
        return self._rates.setdefault((label, what), Rate())(total)


def _drawn(moment: Moment, rates: dict[tuple[str, str], float]) -> Group:
    table = Table(title=None, expand=False)
    table.add_column("")
    for name in ("people change", "Syncline carries", "carried so far", "visible after (median / 99 %)", "lag"):
        table.add_column(name, justify="right")
    for d in moment.directions:
        lag = "–" if d.lag is None else f"{d.lag:.1f} s"
        changed, carried = (f"{rates[d.label, what]:,.0f} rows/s" for what in ("changed", "carried"))
        table.add_row(Text(d.label, style="bold"), changed, carried, f"{d.carried:,}", milliseconds(d.seconds), lag)
    memory = "" if moment.memory_mb is None else f"   memory of syncline run {moment.memory_mb:.0f} MB"
    foot = Text(f"conflicts decided {moment.conflicts:,}   set aside {moment.quarantined:,}{memory}")
    return Group(Text(moment.phase, style="bold cyan"), ProgressBar(total=1.0, completed=moment.done, width=60), table, foot)


def _line(moment: Moment, rates: dict[tuple[str, str], float], seconds: float) -> str:
    parts = [f"[{seconds:5.1f} s] {moment.phase} {moment.done:4.0%}"]
    for d in moment.directions:
        changed, carried = rates[d.label, "changed"], rates[d.label, "carried"]
        parts.append(f"{d.label}: {changed:,.0f} changed/s, {carried:,.0f} carried/s, visible after {milliseconds(d.seconds)}")
    parts.append(f"conflicts {moment.conflicts:,}, set aside {moment.quarantined:,}")
    return " | ".join(parts)
