"""What stands in the target stays and goes back to the source; its counterpart in the opposite rule is `source_wins`."""
from __future__ import annotations

from engine.resolve.policies.owner import target_owns as decide

__all__ = ["decide"]
