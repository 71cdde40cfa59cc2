"""One reader thread per system: keeps its log open and hands over batches; reconnects with backoff when the connection is lost."""
from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

import structlog

from engine.errors import SynclineError, Terminal, Transient
from engine.model.batch import Batch, Position
from engine.ports import Source, Watched

log = structlog.get_logger()

AHEAD = 2
"""Batches of one system that may wait; then its log is read no further, which makes the next batch larger."""
LONGEST_PAUSE = 30.0


class Tail(threading.Thread):
    """Puts `(system, Batch)` into `out`, and `(system, Terminal)` as its last word when the log cannot be read on.

    The consumer calls `taken` for each batch it has finished with."""

    def __init__(
        self, system: str, source: Source, watched: Sequence[Watched], position: Position, out: queue.Queue[tuple[str, Batch | SynclineError]]
    ) -> None:
        super().__init__(name=f"tail {system}", daemon=True)
        self._system, self._source, self._watched, self._position, self._out = system, source, watched, position, out
        self._room = threading.Semaphore(AHEAD)
        self._stopping = threading.Event()

    def taken(self) -> None:
        self._room.release()

    def acknowledge(self, position: Position) -> None:
        """Everything up to here is durable with us."""
        self._source.acknowledge(position)

    def stop(self) -> None:
        """Ends the thread and the connection; returns when both are gone."""
        self._stopping.set()
        self._room.release()
        if self.is_alive():
            self.join()
        self._source.close()

    def run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            try:
                self._source.open(self._watched, self._position)
                if attempt:
                    log.info("reading the log again", system=self._system)
                attempt = 0
                self._read()
            except Transient as error:
                attempt += 1
                pause = min(0.1 * 2.0 ** min(attempt, 10), LONGEST_PAUSE)
                log.warning("log not readable, trying again", system=self._system, error=error, seconds=pause)
                self._source.close()
                self._stopping.wait(pause)
            except SynclineError as error:
                self._out.put((self._system, error))
                return
            except Exception as error:  # an adapter let something through: the direction stops with a reason instead of falling silent
                stopped = Terminal(f"reading the log failed: {type(error).__name__}", where=f"system {self._system}", fix="report this")
                stopped.__cause__ = error
                self._out.put((self._system, stopped))
                return

    def _read(self) -> None:
        while not self._stopping.is_set():
            # Room first: what waits in the socket meanwhile comes as one larger batch, instead of standing in a queue of small ones.
            if not self._room.acquire(timeout=0.2):
                continue
            batch = self._source.read(0.2)
            if batch is None:
                self._room.release()
                continue
            self._position = batch.high
            self._out.put((self._system, batch))
