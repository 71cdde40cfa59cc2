"""The batch that is on its way into a target while the next one is being decided.

One worker thread carries out one batch at a time, in order. The deciding thread goes on meanwhile; where it needs to know of a row (or a batch number) that
is in flight it waits for the landing. So what is decided is the same as if one had waited every time.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from engine.errors import SynclineError


class FlightFailed(Exception):
    """Carrying out a batch out of `system` ended with `error`; nothing of it happened."""

    def __init__(self, system: str, error: SynclineError) -> None:
        super().__init__(str(error))
        self.system = system
        self.error = error


class Flight:
    """At most one batch at a time. `land` and `depart` belong to the deciding thread."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="apply")
        self._future: Future[None] | None = None
        self._system = ""
        self._keys: dict[str, set[bytes]] = {}

    def depart(self, system: str, keys: dict[str, set[bytes]], carry_out: Callable[[], None]) -> None:
        """Lets the batch before land, then starts this one. keys: table -> the row keys it changes what is known of."""
        self.land()
        self._system, self._keys = system, keys
        self._future = self._worker.submit(carry_out)

    def land(self) -> None:
        """Waits until nothing is in flight. FlightFailed when the last batch failed in a way that stops its direction."""
        future, self._future = self._future, None
        if future is None:
            return
        try:
            future.result()
        except SynclineError as error:
            raise FlightFailed(self._system, error) from error
        finally:
            self._keys = {}

    def wait_for(self, table: str, keys: Iterable[bytes]) -> None:
        """Lands when any of these rows is in flight."""
        if self._future is not None and not self._keys.get(table, set()).isdisjoint(keys):
            self.land()

    @property
    def under_way(self) -> bool:
        return self._future is not None

    def close(self) -> None:
        """Ends the thread; what is in flight lands first."""
        self._worker.shutdown(wait=True)
