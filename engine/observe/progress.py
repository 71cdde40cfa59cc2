"""Progress of long work: bars while a terminal is attached, else a log line now and then.

    with progress() as shown, shown.task("first read of customers", total=400_000) as task:
        task.advance(10_000)
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

import structlog

PLAIN_SECONDS = 5.0
"""A task without a terminal says a word this often."""


class Task(AbstractContextManager["Task"], Protocol):
    """One piece of work. Any thread may advance it. Leaving the block ends it."""

    def advance(self, count: int) -> None: ...

    def total(self, count: int) -> None:
        """The whole amount has become known, or has changed."""


class Progress(AbstractContextManager["Progress"], Protocol):
    def task(self, what: str, total: int | None = None, unit: str = "rows") -> Task: ...


def progress() -> Progress:
    """Bars when stderr is a terminal, log lines otherwise. stdout is left alone."""
    return _Bars() if sys.stderr.isatty() else _Lines()


class _Lines:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def task(self, what: str, total: int | None = None, unit: str = "rows") -> Task:
        return _Line(what, total, unit)


class _Line:
    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = 0
        self._lock = threading.Lock()
        self._spoke = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._say("stopped" if kind else "done")

    def advance(self, count: int) -> None:
        with self._lock:
            self._done += count
            due = time.monotonic() - self._spoke >= PLAIN_SECONDS
            if due:
                self._spoke = time.monotonic()
        if due:
            self._say("under way")

    def total(self, count: int) -> None:
        self._total = count

    def _say(self, state: str) -> None:
        share = {"percent": min(100, 100 * self._done // self._total)} if self._total and state == "under way" else {}
        structlog.get_logger().info(self._what, state=state, **{self._unit: self._done}, **share)


class _Bars:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Rich

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[unit]}"))
        self._rich = Rich(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), redirect_stdout=False)

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rich.stop()

    def task(self, what: str, total: int | None = None, unit: str = "rows") -> Task:
        rich, number = self._rich, self._rich.add_task(what, total=total, unit=unit)

        class Bar:
            def __enter__(self) -> Self:
                return self

            def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
                if kind is None:
                    rich.update(number, total=rich.tasks[rich.task_ids.index(number)].completed)
                rich.stop_task(number)

            def advance(self, count: int) -> None:
                rich.advance(number, count)

            def total(self, count: int) -> None:
                rich.update(number, total=count)

        return Bar()
