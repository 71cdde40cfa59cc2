"""A value beats NULL and empty text whatever the stamps say; between two of a kind the newest wins."""
from __future__ import annotations

from engine.resolve.policies.cells import Cells, Verdict, verdict


def decide(cells: Cells) -> Verdict:
    alike = cells.want_empty == cells.have_empty
    take = ~alike & cells.have_empty | alike & (cells.want > cells.have)
    lose = ~alike & cells.want_empty | alike & (cells.want < cells.have)
    return verdict(cells.differ & take, cells.differ & lose)
