"""Gives mapped pages of the ledger back: they are the system's file cache, but they count as memory of the process and would alarm whoever watches it.

madvise(MADV_DONTNEED) on a shared file mapping loses nothing: the pages stay in the cache, or on disk, and are mapped again when they are read.
"""
from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_DONTNEED = 4
_SMALL = 32 << 20


def let_go(file: Path) -> None:
    """Unmaps what is resident of `file` in this process. Does nothing on other systems than Linux."""
    if not sys.platform.startswith("linux") or file.stat().st_size < _SMALL:
        return
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    path = str(file.resolve())
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            if line.rstrip().endswith(path):
                low, high = (int(part, 16) for part in line.split(None, 1)[0].split("-"))
                libc.madvise(low, min(high - low, file.stat().st_size), _DONTNEED)
