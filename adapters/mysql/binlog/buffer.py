"""The bytes of a log that rows point into until their batch is taken: as they came from the connection, and those that had to be decompressed. What is too
large for memory is a mapped file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adapters.mysql.binlog import event as e
from adapters.mysql.binlog import stream as s
from adapters.mysql.binlog.found import Found
from adapters.mysql.binlog.refusal import server_error
from adapters.spill import SpillFile
from engine.errors import SynclineError, Transient

_BUFFER = 8 << 20
_LEAST_ROOM = 64 << 10
_IN_MEMORY = 64 << 20
"""A larger array is a mapped file."""
EVENTS = 1 << 16


class Growing:
    """Bytes that grow. folder: where the file is made, None for the system's own place."""

    def __init__(self, size: int, folder: Path | None) -> None:
        self.data: s.Bytes = np.empty(size, dtype=np.uint8)
        self._folder = folder
        self._file: SpillFile | None = None

    @property
    def on_disk(self) -> bool:
        return self._file is not None

    def grow(self, used: int, size: int) -> None:
        """To `size`; the first `used` bytes stay."""
        if self._file is not None:
            self.data = self._file.mapped(size)
            return
        if size <= _IN_MEMORY:
            bigger = np.empty(size, dtype=np.uint8)
        else:
            self._file = SpillFile(self._folder)
            bigger = self._file.mapped(size)
        bigger[:used] = self.data[:used]
        self.data = bigger

    def renew(self, size: int) -> None:
        """Small again, and empty."""
        self.data = np.empty(size, dtype=np.uint8)
        self._file = None


class Inbox:
    """The bytes of the connection, and where the next events in them lie: `event` of `events`, by `offsets` and `sizes`. found: what points into them."""

    def __init__(self, found: Found, folder: Path | None) -> None:
        self._found = found
        self.content = Growing(_BUFFER, folder)
        self.end = 0
        self._scanned = 0
        self.offsets = np.empty(EVENTS, dtype=np.int64)
        self.sizes = np.empty(EVENTS, dtype=np.int64)
        self.event, self.events = 0, 0

    @property
    def data(self) -> s.Bytes:
        return self.content.data

    def room(self) -> memoryview:
        """Where the next bytes go."""
        if len(self.data) - self.end < _LEAST_ROOM:
            used = self._used()
            if used >= len(self.data) // 4:
                self._drop(used)
            else:
                self.content.grow(self.end, 2 * len(self.data))
        return self.data.data[self.end :]

    def frame(self) -> bool:
        """Finds the next events; whether there are any. Raises what the server says instead."""
        self.events, self._scanned, why = s.frame(self.data, self._scanned, self.end, self.offsets, self.sizes)
        self.event = 0
        if self.events or why == s.MORE:
            return self.events > 0
        raise self._refused(why)

    def tidy(self) -> None:
        """Gives up what nothing needs any more, where that is much."""
        used = self._used()
        if used > len(self.data) // 2 or used == self.end:
            self._drop(used)

    def _used(self) -> int:
        """Bytes at the start that nothing needs any more."""
        next_byte = int(self.offsets[self.event]) - 5 if self.event < self.events else self._scanned
        spans, mine = self._found.in_inbox()
        first = spans[mine][:1, s.START]
        return min(next_byte, int(first[0])) if len(first) else next_byte

    def _drop(self, used: int) -> None:
        left = self.data[used : self.end].copy()
        if len(self.data) > _BUFFER and len(left) < _BUFFER // 2:
            self.content.renew(_BUFFER)
        self.data[: len(left)] = left
        self.end -= used
        self._scanned -= used
        self.offsets[: self.events] -= used
        spans, mine = self._found.in_inbox()
        spans[mine, s.START] -= used
        spans[mine, s.END] -= used

    def _refused(self, why: int) -> SynclineError:
        if why == s.SERVER_ERROR:
            size = int.from_bytes(self.data[self._scanned : self._scanned + 3].tobytes(), "little")
            packet = self.data[self._scanned + 4 : self._scanned + 4 + size].tobytes()
            return server_error(int.from_bytes(packet[1:3], "little"), packet[3:].decode("utf-8", "replace"))
        if why == s.END_OF_DATA:
            return Transient("the server ended the log stream", fix="it is opened again by itself; look whether another reader uses the same server_id")
        return e.damaged("a packet")


class Arena:
    """Bytes that were compressed in the log."""

    def __init__(self, folder: Path | None) -> None:
        self.content = Growing(0, folder)
        self.end = 0

    @property
    def data(self) -> s.Bytes:
        return self.content.data

    def keep(self, raw: bytes) -> int:
        """Copies these in; where they begin."""
        start, end = self.end, self.end + len(raw)
        if end > len(self.data):
            self.content.grow(start, max(2 * len(self.data), end, 1 << 20))
        self.data[start:end] = np.frombuffer(raw, dtype=np.uint8)
        self.end = end
        return start

    def clear(self) -> None:
        """Nothing points into it any more."""
        self.end = 0
        if len(self.data) > _BUFFER:
            self.content.renew(0)
