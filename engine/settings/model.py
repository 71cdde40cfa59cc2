"""The settings as the engine sees them: complete, checked, paths absolute, variables resolved, frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SecretStr

from engine.settings.url import describe


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)


class SystemSettings(_Frozen):
    """One database. `options`: the further keys of its table in the file, as `adapters.registry` allows them."""

    name: str
    adapter: str
    url: SecretStr
    options: dict[str, Any] = {}

    @property
    def capture(self) -> bool:
        """False: its log is not read; the system is only written to."""
        return bool(self.options.get("capture", True))

    @property
    def address(self) -> str:
        """user@host:port/database, for messages: the URL without its password and parameters."""
        return describe(self.url.get_secret_value())


class LookupSettings(_Frozen):
    """A value map: a CSV file with a header, usable in rules as `lookups.<name>`."""

    name: str
    file: Path


class SetCells(_Frozen):
    """What a delete or an exit does in place of deleting: these target columns get these values."""

    set: dict[str, Any]


Action = Literal["delete", "ignore"] | SetCells


class RuleSettings(_Frozen):
    """One rule. `statement`: the text of its SELECT. `into`: (system, schema or "", table). `link`: name of the link where the target makes its own
    key, then `key` is empty; `match`: alternatives in order, each a set of target columns. `conflict`: default policy of its columns;
    `owners` (column -> system) and `policies` (column -> policy) say otherwise for single columns. `checks`: conditions over the mapped row."""

    name: str
    statement: str
    sql_file: Path | None = None
    into: tuple[str, str, str]
    key: tuple[str, ...] = ()
    link: str = ""
    match: tuple[tuple[str, ...], ...] = ()
    conflict: str = "last_writer_wins"
    owners: dict[str, str] = {}
    policies: dict[str, str] = {}
    on_delete: Action = "delete"
    on_exit: Action = "ignore"
    checks: tuple[str, ...] = ()
    update_delete: Literal["newest", "delete", "update"] = "newest"
    insert_insert: Literal["newest", "source", "target"] = "newest"
    cascades: Literal["follow", "ignore"] = "follow"
    on_truncate: Literal["stop", "delete"] = "stop"
    baseline: Literal["source", "target", "newest", "hold"] = "hold"
    clock: str | None = None


class Settings(_Frozen):
    """A whole configuration. `name`: the rule set, under which both databases keep our position. `systems` stand in the order of the file;
    the place in it is the rank of a system in stamps.

    batch_rows, batch_ms: a batch is closed after so many rows or milliseconds, whichever comes first.
    transaction_rows: a transaction that changes more rows is carried over in parts.
    chunk_rows: rows per chunk of a first read. max_clock_skew_ms: how far the clocks of two systems may be apart before there is a warning."""

    path: Path
    name: str
    state: Path
    systems: dict[str, SystemSettings]
    lookups: dict[str, LookupSettings]
    rules: tuple[RuleSettings, ...]
    batch_rows: int
    batch_ms: int
    chunk_rows: int
    transaction_rows: int = 100_000
    max_clock_skew_ms: int = 5_000

    def rule(self, name: str) -> RuleSettings:
        """Raises KeyError when there is no such rule."""
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise KeyError(name)
