"""Makes the ledger durable about once a second, beside the work, and only then lets the sources forget."""
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from engine.capture.tail import Tail
from engine.errors import SynclineError, Terminal
from engine.ledger.ledger import Ledger
from engine.model.batch import Position
from engine.runtime.failpoints import reach

SYNC_SECONDS = 1.0


class Keeper(threading.Thread):
    """under_way: system -> commit time of what is being carried over, 0 when nothing is; its age is the lag that `status` shows.
    failure: why the ledger cannot be made durable any more; then nothing is
    acknowledged and the engine has to stop."""

    def __init__(self, ledger: Ledger, tails: Mapping[str, Tail], under_way: Callable[[], Mapping[str, float]]) -> None:
        super().__init__(name="keeper", daemon=True)
        self._ledger, self._tails, self._under_way = ledger, tails, under_way
        self._stopping = threading.Event()
        self.failure: SynclineError | None = None

    def run(self) -> None:
        while not self._stopping.wait(SYNC_SECONDS) and self.failure is None:
            self._keep()

    def stop(self) -> None:
        """Ends the thread, with everything durable and acknowledged once more."""
        self._stopping.set()
        if self.is_alive():
            self.join()
        if self.failure is None:
            self._keep()

    def _keep(self) -> None:
        try:
            positions = {system: position_of(self._ledger, system) for system in self._tails}
            reach("keeper.sync")
            self._ledger.sync()
            for system, tail in self._tails.items():
                tail.acknowledge(positions[system])
                reach("capture.ack")
            for system in self._tails:
                since = self._under_way().get(system, 0.0)
                self._ledger.put_meta(f"lag {system}", round(max(0.0, time.time() - since), 3) if since else 0.0)
        except SynclineError as error:
            self.failure = error
        except Exception as error:
            self.failure = Terminal(f"the ledger cannot be made durable: {error}", where="state folder", fix="check the disk")
            self.failure.__cause__ = error


def position_of(ledger: Ledger, system: str) -> Position:
    """Where the ledger is in this system's log."""
    progress = ledger.progress(system)
    if progress is None:
        raise Terminal("the ledger has no position", where=f"system {system}", fix="move the state folder away and start anew")
    return Position(progress.text, progress.order)
