"""The databases Syncline knows: one entry each. A new database is a folder beside this file and a line in `ENTRIES`.

Importing this module imports no driver; `connect` imports the one adapter that is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from engine.ports import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """module: the package whose `connect(name, url, options)` makes the adapter. schemes: what its URLs begin with, the usual one first.
    port: the server's usual port. options: further keys of the system's table in the configuration, each with its type."""

    module: str
    schemes: tuple[str, ...]
    port: int
    options: Mapping[str, type] = field(default_factory=dict)


ENTRIES: Mapping[str, Entry] = {
    "postgres": Entry(
        module="adapters.postgres",
        schemes=("postgresql", "postgres"),
        port=5432,
        options={"slot": str, "publication": str, "streaming": bool, "lock_timeout": int, "statement_timeout": int},
    ),
    "mysql": Entry(module="adapters.mysql", schemes=("mysql", "mariadb"), port=3306, options={"server_id": int}),
}


def connect(adapter: str, name: str, url: str, options: Mapping[str, object]) -> Adapter:
    """The adapter of system `name`. Connects to nothing yet. Raises KeyError when `adapter` is no entry (settings have checked it)."""
    module = importlib.import_module(ENTRIES[adapter].module)
    return cast("Adapter", module.connect(name, url, options))
