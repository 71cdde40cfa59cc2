"""The newest value wins; equal stamps are the same change and need nothing."""
from __future__ import annotations

from engine.resolve.policies.cells import Cells, Verdict, verdict


def decide(cells: Cells) -> Verdict:
    return verdict(cells.differ & (cells.want > cells.have), cells.differ & (cells.want < cells.have))
