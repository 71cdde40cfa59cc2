"""What a policy sees and what it answers."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """One column of many rows that stand on both sides; arrays of shape (rows,).

    differ: the values are not the same. want, have: stamps of the source's and the target's value. want_empty, have_empty: NULL or empty text.
    """

    differ: Bools
    want: Int64s
    have: Int64s
    want_empty: Bools
    have_empty: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """take: write the source's value. lose: the target's value goes back to the source. hold: a person decides. At most one holds per cell."""

    take: Bools
    lose: Bools
    hold: Bools


def verdict(take: Bools, lose: Bools) -> Verdict:
    """A verdict that holds nothing back."""
    return Verdict(take=take, lose=lose, hold=np.zeros(len(take), dtype=np.bool_))
