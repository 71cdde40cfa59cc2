"""How many rows are asked for at once, where nobody knows beforehand how large they are."""
from __future__ import annotations

from dataclasses import dataclass, field

BEFORE_LARGER = 3
"""So many lots go well before a larger one is tried: what was read of one that is too large is read again."""


@dataclass(slots=True)
class Lot:
    """size: what to try next, at most `most`; begins with that."""

    most: int
    size: int = field(init=False)
    _well: int = 0

    def __post_init__(self) -> None:
        self.size = self.most

    def fitted(self) -> None:
        """What was asked for came."""
        self._well += 1
        if self._well > BEFORE_LARGER and self.size < self.most:
            self.size, self._well = min(2 * self.size, self.most), 0

    def too_large(self, count: int) -> None:
        """`count` rows were too much."""
        self.size, self._well = max(1, count // 4), 0
