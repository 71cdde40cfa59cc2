"""Whether Syncline's decoders have been compiled on this machine: numba does it at first use, which takes half a minute, once per installation."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from engine.throwaway.process import cache_folder

_ROOT = Path(__file__).resolve().parents[2]
"""Both packages are in it, in a checkout and where a wheel is installed."""


def _marker() -> Path:
    """Another one when a file that holds compiled functions changes, as numba's own cache."""
    seen = hashlib.sha256()
    for package in ("engine", "adapters"):
        for source in sorted((_ROOT / package).rglob("*.py")):
            if b"njit" in source.read_bytes():
                stat = source.stat()
                seen.update(f"{source} {stat.st_mtime_ns} {stat.st_size}\n".encode())
    return cache_folder().parent / f"compiled-{seen.hexdigest()[:16]}"


def is_compiled() -> bool:
    return _marker().exists()


def remember() -> None:
    marker = _marker()
    with contextlib.suppress(OSError):  # then it is found out again
        marker.parent.mkdir(parents=True, exist_ok=True)
        for old in marker.parent.glob("compiled-*"):
            old.unlink()
        marker.touch()
