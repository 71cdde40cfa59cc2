"""PostgreSQL 13 and later as a source and as a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.model.schema import Table
from engine.ports import Adapter, Problem, Reader, Sink, Source, Watched


class PostgresAdapter:
    """One configured PostgreSQL database; the parts connect when they are first used."""

    def __init__(self, name: str, url: str, options: Mapping[str, object]) -> None:
        self.name = name
        self._url = url
        self._options = dict(options)

    def source(self, rule_set: str) -> Source:
        from adapters.postgres.source import PostgresSource

        return PostgresSource(self.name, self._url, rule_set, self._options)

    def reader(self) -> Reader:
        from adapters.postgres.reader import PostgresReader

        return PostgresReader(self.name, self._url)

    def sink(self, rule_set: str) -> Sink:
        from adapters.postgres.sink import PostgresSink

        return PostgresSink(self.name, self._url, rule_set, self._options)

    def preflight(self, rule_set: str, read: Sequence[Watched], written: Sequence[Table], linked: Sequence[Table] = ()) -> list[Problem]:
        from adapters.postgres.preflight import examine

        return examine(self.name, self._url, rule_set, self._options, read, written, linked)


def connect(name: str, url: str, options: Mapping[str, object]) -> Adapter:
    """The adapter of system `name`. options: slot, publication (the source); lock_timeout, statement_timeout in seconds (the sink)."""
    return PostgresAdapter(name, url, options)
