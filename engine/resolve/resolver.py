"""Resolve: desired cells against what stands in the target, for many rows of one rule at once. Pure; `agreement_model.py`, `Engine.resolve`."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from engine.model.batch import DELETE, INSERT, UPDATE
from engine.model.hashing import NULL
from engine.model.state import State
from engine.resolve.policies import Cells, Policy

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]

NOTHING = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """The desired rows. present False: the source row is gone. newest, life: of the source row, shape (rows,).
    hashes, stamps: shape (rows, columns), the rule's columns without its key; known: false where a cell could not be evaluated and is left out."""

    present: Bools
    newest: Int64s
    life: Int64s
    hashes: npt.NDArray[np.uint64]
    stamps: Int64s
    known: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """op: NOTHING, INSERT, UPDATE or DELETE per row. decided: the cells to write. lost: something stands in the target that has to go back to the
    source. hold: cells kept for a person. lost_cells: cells whose source value lost. incomplete: an insert that lacks cells. unclear: a cell
    that is newer than the target's, but whose value is not known here (the event left it out)."""

    op: npt.NDArray[np.uint8]
    decided: Bools
    lost: Bools
    hold: Bools
    lost_cells: Bools
    incomplete: Bools
    unclear: Bools


def resolve(
    want: Want, have: State, policies: Sequence[Policy], *, empty: Sequence[int], tie: Literal["source", "target", "hold", "newest"] | None = None
) -> Decision:
    """`have` holds the columns of `want`, pending writes overlaid. empty: per column the hash of empty text. tie: what happens to cells that differ with
    equal stamps: only at a baseline, where neither side has a history. Later an equal stamp says that one value is what became of the other (a trigger,
    a column that rounds): that is no difference, whoever owns the cell, else the two would be written for ever."""
    rows, columns = want.hashes.shape
    both = want.present & have.present
    differ = both[:, None] & want.known & (want.hashes != have.hashes)
    if tie is None:
        differ &= want.stamps != have.stamps
    decided = np.zeros((rows, columns), dtype=np.bool_)
    lost_cells, hold = decided.copy(), decided.copy()
    for c in range(columns):
        cells = Cells(
            differ=differ[:, c],
            want=want.stamps[:, c],
            have=have.stamps[:, c],
            want_empty=(want.hashes[:, c] == NULL) | (want.hashes[:, c] == np.uint64(empty[c])),
            have_empty=(have.hashes[:, c] == NULL) | (have.hashes[:, c] == np.uint64(empty[c])),
        )
        if not cells.differ.any():
            continue
        verdict = policies[c](cells)
        decided[:, c], lost_cells[:, c], hold[:, c] = verdict.take, verdict.lose, verdict.hold
        if tie is not None and tie != "newest":
            open_cells = cells.differ & ~(verdict.take | verdict.lose | verdict.hold) & (cells.want == cells.have)
            {"source": decided, "target": lost_cells, "hold": hold}[tie][:, c] |= open_cells
    create = want.present & ~have.present & (want.newest > have.life)
    complete = want.known.all(axis=1)
    remove = ~want.present & have.present & (want.life > have.newest())
    op = np.full(rows, NOTHING, dtype=np.uint8)
    op[decided.any(axis=1)] = UPDATE
    op[create & complete] = INSERT
    op[remove] = DELETE
    decided[create & complete] = True
    lost = lost_cells.any(axis=1)
    lost |= want.present & ~have.present & ~create
    lost |= ~want.present & have.present & ~remove & (want.life >= 0)
    unclear: Bools = np.any(both[:, None] & ~want.known & (want.stamps > have.stamps), axis=1)
    return Decision(op=op, decided=decided, lost=lost, hold=hold, lost_cells=lost_cells, incomplete=create & ~complete, unclear=unclear)
