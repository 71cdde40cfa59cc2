"""The tables of a log by the numbers that the server gives them: which are watched, and how their rows are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from adapters.mysql.binlog import stream as s
from adapters.mysql.binlog import table_map as t
from adapters.mysql.binlog.layout import Layout, Wanted, layout
from adapters.mysql.schema import Described
from engine.errors import Terminal

Catalogue = Callable[[str, str], tuple[Described, ...]]
"""Columns of a table as they are now, by database and name; empty when there is no such table."""

_MAPS = 1 << 16


class Tables:
    """described: columns of the watched tables as reading begins. charsets: character set by collation number. old_uuid: see `layout`.

    registry, maps: see `stream.walk`. layouts: by slot. known: table maps by the table's number, at most as many as the registry has cells."""

    def __init__(
        self,
        wanted: Sequence[Wanted],
        described: Mapping[tuple[str, str], tuple[Described, ...]],
        catalogue: Catalogue,
        charsets: dict[int, str],
        *,
        mariadb: bool,
        old_uuid: bool,
    ) -> None:
        self._wanted = {(want.database.lower(), want.table.lower()): want for want in wanted}
        self._described = dict(described)
        self._catalogue = catalogue
        self._charsets = charsets
        self._mariadb = mariadb
        self._old_uuid = old_uuid
        self.registry = np.full((s.REGISTRY, 4), -1, dtype=np.int64)
        self.maps: s.Bytes = np.empty(_MAPS, dtype=np.uint8)
        self._maps_end = 0
        self.known: dict[int, bytes] = {}
        self.layouts: list[Layout] = []
        self._slots: dict[bytes, int] = {}

    def wanted(self, database: str, table: str) -> Wanted:
        return self._wanted[(database.lower(), table.lower())]

    def learn(self, body: bytes) -> None:
        """A table map of the log."""
        table_id, database, table, _ = t.names(body)
        wanted = self._wanted.get((database.lower(), table.lower()))
        slot = -1
        if wanted is not None:
            # the same definition under a new number is the same layout
            slot = self._slots.get(body[6:], -1)
            if slot < 0:
                parsed = t.table_map(body, mariadb=self._mariadb)
                self.layouts.append(layout(wanted, parsed, self._columns(wanted, parsed), self._charsets, self._old_uuid))
                slot = self._slots[body[6:]] = len(self.layouts) - 1
        self.known.pop(table_id, None)
        self.known[table_id] = body
        if len(self.known) > s.REGISTRY:
            del self.known[next(iter(self.known))]
        if self._maps_end + len(body) > len(self.maps):
            self._tidy_maps(len(body))
        start, end = self._maps_end, self._maps_end + len(body)
        self.maps[start:end] = np.frombuffer(body, dtype=np.uint8)
        self._maps_end = end
        self.registry[table_id % s.REGISTRY] = table_id, slot, start, len(body)

    def redefined(self, database: str, table: str) -> None:
        """After DDL: the watched columns must be as they were."""
        wanted = self.wanted(database, table)
        where = f"{wanted.database}.{wanted.table}"
        before = {column.name.lower(): column for column in self._columns(wanted, _NO_MAP)}
        fresh = self._catalogue(wanted.database, wanted.table)
        after = {column.name.lower(): column for column in fresh}
        for name in wanted.columns:
            was, now = before.get(name.lower()), after.get(name.lower())
            if now is None:
                raise _redefinition(where, f"column {name} was dropped or renamed")
            if was is not None and (was.declared, was.charset) != (now.declared, now.charset):
                raise _redefinition(where, f"column {name} is now of another type")
        self._described[(wanted.database, wanted.table)] = fresh

    def _tidy_maps(self, more: int) -> None:
        """Keeps what the registry points to. A server gives a table a new number whenever it opens it anew."""
        live = [(cell, self.maps[at : at + size].copy()) for cell, (number, _, at, size) in enumerate(self.registry.tolist()) if number >= 0]
        room = sum(len(data) for _, data in live) + more
        self.maps = np.empty(max(2 * room, _MAPS), dtype=np.uint8)
        end = 0
        for cell, data in live:
            self.maps[end : end + len(data)] = data
            self.registry[cell, 2] = end
            end += len(data)
        self._maps_end = end

    def _columns(self, wanted: Wanted, parsed: t.TableMap) -> tuple[Described, ...]:
        key = (wanted.database, wanted.table)
        known = self._described.get(key)
        if known is None or (wanted.watched is None and not parsed.named):
            known = self._described[key] = self._catalogue(*key)
        return known


_NO_MAP = t.TableMap(id=0, database="", table="", columns=(t.LoggedColumn(type=0, meta=0, name=""),))


def _redefinition(where: str, what: str) -> Terminal:
    return Terminal(what, where=where, fix="start again, so that the rules are checked against the new table")
