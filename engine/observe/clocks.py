"""How far the servers' clocks are apart, in words."""
from __future__ import annotations

from collections.abc import Mapping


def too_far_apart(skews: Mapping[str, int], bound_ms: int) -> str:
    """The sentence for a person when two clocks are further apart than `bound_ms`; empty otherwise. skews: by system, in milliseconds against one clock."""
    if len(skews) < 2:
        return ""
    late, early = max(skews, key=lambda s: skews[s]), min(skews, key=lambda s: skews[s])
    apart = skews[late] - skews[early]
    if apart <= bound_ms:
        return ""
    return f"the clock of {late} is {apart / 1000:.1f} s ahead of that of {early}: where the later change wins, those made in {late} seem later than they are"
