"""Cells that differ are held for a person; nothing is written."""
from __future__ import annotations

import numpy as np

from engine.resolve.policies.cells import Cells, Verdict


def decide(cells: Cells) -> Verdict:
    nothing = np.zeros_like(cells.differ)
    return Verdict(take=nothing, lose=nothing, hold=cells.differ)
