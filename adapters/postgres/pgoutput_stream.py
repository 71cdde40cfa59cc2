"""Keeps the messages of a transaction that the server streams before its commit (pgoutput protocol 2), until that or its abort."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


class Streamed:
    """Messages in the order in which they came; those of aborted subtransactions are left out on the way back."""

    def __init__(self) -> None:
        self._parts: list[tuple[Bytes, Ints, Ints, Ints]] = []

    def keep(self, raw: Bytes, starts: Ints, ends: Ints, xids: Ints) -> None:
        """Copies the messages raw[starts[i]:ends[i]]; xids[i] is the (sub)transaction of each, -1 for one to forget."""
        if len(starts):
            low, high = int(starts[0]), int(ends[-1])
            self._parts.append((raw[low:high].copy(), starts - low, ends - low, xids.copy()))

    def drop(self, xid: int) -> None:
        """The subtransaction was rolled back."""
        for _, _, _, xids in self._parts:
            xids[xids == xid] = -1

    def parts(self) -> Iterator[tuple[Bytes, Ints, Ints]]:
        """Bytes and places of what is left, part by part."""
        for raw, starts, ends, xids in self._parts:
            kept = xids >= 0
            yield raw, starts[kept], ends[kept]
