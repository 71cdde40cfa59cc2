"""The rule's source is always right; its counterpart in the opposite rule is `target_wins`."""
from __future__ import annotations

from engine.resolve.policies.owner import source_owns as decide

__all__ = ["decide"]
