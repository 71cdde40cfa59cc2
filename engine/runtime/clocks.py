"""Measures how far the servers' clocks are from ours, and so from each other: they tell which of two changes was the later one."""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from engine.errors import SynclineError
from engine.ports import Reader

LOOKS = 3
EVERY_SECONDS = 60.0


def skew_ms(reader: Reader, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> int:
    """The server's clock minus ours in milliseconds: half of the way there and back is taken off, and the quickest of a few looks counts."""
    looks = []
    for _ in range(LOOKS):
        before = now_us()
        there = reader.clock_us()
        after = now_us()
        looks.append((after - before, there - (before + after) // 2))
    return round(min(looks)[1] / 1000)


def measure(readers: Mapping[str, Reader]) -> dict[str, int]:
    """Skew in milliseconds by system; a system that cannot be asked now is left out."""
    found: dict[str, int] = {}
    for system, reader in readers.items():
        try:
            found[system] = skew_ms(reader)
        except SynclineError:
            continue
    return found
