"""One system owns the column: its value is written wherever it differs, and what others write is restored from it."""
from __future__ import annotations

import numpy as np

from engine.resolve.policies.cells import Cells, Verdict, verdict


def source_owns(cells: Cells) -> Verdict:
    return verdict(cells.differ, np.zeros_like(cells.differ))


def target_owns(cells: Cells) -> Verdict:
    return verdict(np.zeros_like(cells.differ), cells.differ)
