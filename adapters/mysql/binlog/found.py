"""What the walk over a log has found and not handed on yet: rows events of watched tables, as spans of bytes, and the transactions they belong to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from adapters.mysql.binlog import stream as s


class Found:
    """state: the cells that `stream` names. spans: shape (n, SPAN). txns: shape (n, 2): commit time, place in the log."""

    def __init__(self) -> None:
        self.state = np.zeros(s.STATE, dtype=np.int64)
        self.state[s.SEQUENCE] = -1
        self.spans = np.empty((4096, s.SPAN), dtype=np.int64)
        self.txns = np.empty((4096, 2), dtype=np.int64)

    @property
    def pending(self) -> bool:
        """Whether whole transactions of interest are waiting."""
        return bool(self.state[s.TXNS])

    @property
    def rows_open(self) -> bool:
        """Whether the open transaction has rows of watched tables."""
        return bool(self.state[s.SPANS] > self.state[s.OPEN_SPAN])

    def more_room(self) -> None:
        self.spans = doubled(self.spans)
        self.txns = doubled(self.txns)

    def whole(self) -> s.Int64s:
        """The spans of whole transactions; not a copy."""
        return self.spans[: self.state[s.OPEN_SPAN]]

    def in_inbox(self) -> tuple[s.Int64s, npt.NDArray[np.bool_]]:
        """All spans, those of the open transaction included, and which of them point into the bytes as they came; not a copy."""
        spans = self.spans[: self.state[s.SPANS]]
        return spans, spans[:, s.ARENA] == 0

    def take(self) -> s.Int64s:
        """Forgets the whole transactions; the spans that are left."""
        left = self.spans[self.state[s.OPEN_SPAN] : self.state[s.SPANS]].copy()
        self.spans[: len(left)] = left
        self.spans[: len(left), s.TXN] -= int(self.state[s.TXNS])
        self.state[s.SPANS] = len(left)
        self.state[s.OPEN_SPAN] = 0
        self.state[s.TXNS] = 0
        self.state[s.SIZE] = 0
        return left


def doubled(array: s.Int64s) -> s.Int64s:
    bigger = np.zeros((2 * len(array), array.shape[1]), dtype=np.int64)
    bigger[: len(array)] = array
    return bigger
