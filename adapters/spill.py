"""Disk in place of memory for a transaction that is too large for it: a file that only this process sees and that ends with it.

Such a file has no name, so that a crash leaves nothing behind; the log brings its content again. A full disk is `Transient`: the log is read again from
our position, once there is room.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from engine.errors import Transient

T = TypeVar("T")


class SpillFile:
    """folder: where the file is made, created when absent; None for the system's place for temporary files."""

    def __init__(self, folder: Path | None) -> None:
        self._where = str(folder or tempfile.gettempdir())
        self._size = 0

        def make() -> int:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix="transaction-", dir=folder)
            os.unlink(name)
            return handle

        self._handle: int = self._tried(make)

    def append(self, data: memoryview) -> int:
        """Writes behind what is there; the offset it got."""
        at = self._size
        view = data.cast("B")
        while view:
            done = self._tried(lambda view=view: os.pwrite(self._handle, view, self._size))  # type: ignore[misc]
            self._size += done
            view = view[done:]
        return at

    def read(self, offset: int, size: int) -> bytes:
        """What `append` was given."""
        return self._tried(lambda: os.pread(self._handle, size, offset))

    def mapped(self, size: int) -> npt.NDArray[np.uint8]:
        """The first `size` bytes of the file as an array; it grows as needed and keeps what is in it. Space is taken beforehand: a disk that is full
        when a mapped page is written would end the process."""

        def make() -> npt.NDArray[np.uint8]:
            os.posix_fallocate(self._handle, 0, size)
            return np.frombuffer(mmap.mmap(self._handle, size), dtype=np.uint8)

        return self._tried(make)

    def close(self) -> None:
        """Gives the space back, once no array of `mapped` is in use any more. Idempotent."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        if getattr(self, "_handle", -1) >= 0:
            self.close()

    def _tried(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            raise Transient(
                f"a large transaction cannot be kept on disk: {error.strerror}", where=self._where, fix="make room there; it is read again by itself"
            ) from error
