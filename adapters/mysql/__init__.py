"""MySQL and MariaDB as a system of Syncline: `connect` makes the adapter, its parts connect by themselves when they are first used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from engine.model.schema import Table
from engine.ports import Adapter, Problem, Reader, Sink, Source, Watched

if TYPE_CHECKING:
    from collections.abc import Callable


def connect(name: str, url: str, options: Mapping[str, object]) -> Adapter:
    """The adapter of system `name`. Connects to nothing yet. options: `server_id`, our number among the server's replicas."""
    return MySqlAdapter(name, url, options)


class MySqlAdapter:
    """The factory of one system's parts. Each part has connections of its own."""

    def __init__(self, name: str, url: str, options: Mapping[str, object]) -> None:
        self.name = name
        self._url = url
        self._options = dict(options)

    def source(self, rule_set: str) -> Source:
        from adapters.mysql.source import MySqlSource

        make: Callable[..., Source] = MySqlSource
        return make(self.name, self._url, rule_set, self._options)

    def reader(self) -> Reader:
        from adapters.mysql.reader import MySqlReader

        return MySqlReader(self.name, self._url)

    def sink(self, rule_set: str) -> Sink:
        from adapters.mysql.sink import MySqlSink

        return MySqlSink(self.name, self._url, rule_set)

    def preflight(self, rule_set: str, read: Sequence[Watched], written: Sequence[Table], linked: Sequence[Table] = ()) -> list[Problem]:
        from adapters.mysql.preflight import preflight

        return preflight(self.name, self._url, rule_set, read, written, linked)
