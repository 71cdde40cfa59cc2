"""Keeps the messages of a transaction that the server streams before its commit (pgoutput protocol 2), until that or its abort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adapters.spill import SpillFile

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

IN_MEMORY = 8 << 20
"""What a transaction may take before it goes to a file."""


class Streamed:
    """Messages in the order in which they came; those of aborted subtransactions are left out on the way back. folder: see `SpillFile`."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._parts: list[tuple[Bytes | tuple[int, int], Ints, Ints, Ints]] = []
        self._file: SpillFile | None = None
        self._size = 0

    def keep(self, raw: Bytes, starts: Ints, ends: Ints, xids: Ints) -> None:
        """Copies the messages raw[starts[i]:ends[i]]; xids[i] is the (sub)transaction of each, -1 for one to forget."""
        if len(starts) == 0:
            return
        low, high = int(starts[0]), int(ends[-1])
        self._size += high - low
        kept: Bytes | tuple[int, int] = raw[low:high]
        if self._size > IN_MEMORY:
            self._file = self._file or SpillFile(self._folder)
            kept = (self._file.append(raw[low:high].data), high - low)
        else:
            kept = raw[low:high].copy()
        self._parts.append((kept, starts - low, ends - low, xids.copy()))

    def drop(self, xid: int) -> None:
        """The subtransaction was rolled back."""
        for _, _, _, xids in self._parts:
            xids[xids == xid] = -1

    def parts(self) -> Iterator[tuple[Bytes, Ints, Ints]]:
        """Bytes and places of what is left, part by part."""
        for kept, starts, ends, xids in self._parts:
            wanted = xids >= 0
            if isinstance(kept, tuple):
                assert self._file is not None
                kept = np.frombuffer(self._file.read(*kept), dtype=np.uint8)
            yield kept, starts[wanted], ends[wanted]

    def close(self) -> None:
        """Gives the file back. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
