"""Gives mapped pages of the ledger back: they are the system's file cache, but they count as memory of the process and would alarm whoever watches it.

madvise(MADV_DONTNEED) on a shared file mapping loses nothing: the pages stay in the cache, or on disk, and are mapped again when they are read.
"""
from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_DONTNEED = 4
_SMALL = 32 << 20
KEYS = 500
"""So many keys, in their order, are read or written between two calls: each may map the pages around it, 64 kB and more."""


class Unmap:
    """For one mapped file. Does nothing on other systems than Linux."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._low: int | None = None
        self._touched = 0
        if sys.platform.startswith("linux"):
            self._madvise = ctypes.CDLL(None).madvise
            self._madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
            self._low = _mapped_at(str(file.resolve()))

    def touched(self, keys: int) -> None:
        """Unmaps what is resident once `KEYS` keys have been touched since the last time."""
        self._touched += keys
        if self._low is None or self._touched < KEYS:
            return
        self._touched = 0
        size = self._file.stat().st_size
        if size > _SMALL:
            self._madvise(self._low, size, _DONTNEED)


def _mapped_at(path: str) -> int | None:
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            if line.rstrip().endswith(path):
                return int(line.partition("-")[0], 16)
    return None
