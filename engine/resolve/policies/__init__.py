"""Conflict policies: one pure function a file.

A policy looks at the cells of many rows at once (`Cells`, arrays of shape (rows,)) and says where the source's value is taken and where it loses, that is,
where the value that stands in the target has to go back to the source. Where neither holds nothing happens. A policy must be total and
deterministic, and the same policy asked in the other direction must take what lost here: then both sides come to rest.
`tests/property/test_policies.py` proves that for every policy registered in `REGISTRY`.
"""
from __future__ import annotations

from collections.abc import Callable

from engine.resolve.policies import last_writer_wins, manual, non_empty, owner, source_wins, target_wins
from engine.resolve.policies.cells import Cells, Verdict

Policy = Callable[[Cells], Verdict]

REGISTRY: dict[str, Policy] = {
    "last_writer_wins": last_writer_wins.decide,
    "source_wins": source_wins.decide,
    "target_wins": target_wins.decide,
    "non_empty": non_empty.decide,
    "manual": manual.decide,
}


def policy(name: str, source: str) -> Policy:
    """The policy called `name` for a rule that leads out of system `source`. Raises KeyError for an unknown name."""
    if name.startswith("owner:"):
        return owner.source_owns if name.removeprefix("owner:") == source else owner.target_owns
    return REGISTRY[name]


__all__ = ["REGISTRY", "Cells", "Policy", "Verdict", "policy"]
