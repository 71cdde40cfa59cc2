"""What `check` says of a MySQL or MariaDB system. Each finding carries the SQL to run. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.mysql.connection import connect
from engine.errors import SynclineError
from engine.model.schema import Table
from engine.ports import Problem, Watched


def preflight(system: str, url: str, rule_set: str, read: Sequence[Watched], written: Sequence[Table]) -> list[Problem]:
    """Never raises."""
    del rule_set, read, written
    try:
        connect(url, system=system).close()
    except SynclineError as error:
        return [Problem(severity="error", where=f"system {system}", what=error.what, fix=error.fix)]
    return []
