"""The log: one event per line on stderr, for people on a terminal, as JSON otherwise. Ids, names and counts; no cell value, no secret.

Everybody logs with `structlog.get_logger()`; the command line calls `configure` once. Errors are given as `error=…` and come out as their
sentence; of exceptions that are not ours only the class is told, because a driver's text may quote rows.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from engine.errors import SynclineError

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_PASSWORD = re.compile(r"(\w+://[^\s:/@]*):[^\s@/]+@")

Event = MutableMapping[str, Any]


def configure(level: str | None = None, *, as_json: bool | None = None) -> None:
    """Sets the log up for this process. level: debug, info, warning or error; else $SYNCLINE_LOG, else info.
    as_json: by default when stderr is no terminal."""
    chosen = LEVELS.get(level or os.environ.get("SYNCLINE_LOG", "info").lower(), LEVELS["info"])
    machine = not sys.stderr.isatty() if as_json is None else as_json
    last: Any = structlog.processors.JSONRenderer(ensure_ascii=False, default=str) if machine else _human
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if machine else "%H:%M:%S", utc=machine),
            _errors,
            _secrets,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(chosen),
        logger_factory=lambda *_: structlog.WriteLogger(_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )


class _Stderr:
    """sys.stderr as it is at the moment of writing: a progress bar puts itself in its place while it runs."""

    def write(self, text: str) -> int:
        return self._stream().write(text)

    def flush(self) -> None:
        self._stream().flush()

    @staticmethod
    def _stream() -> TextIO:
        return sys.stderr


def _errors(_: object, __: str, event: Event) -> Event:
    """Exceptions become what, where and fix; those of others become the name of their class."""
    error = event.pop("exc_info", None)
    if isinstance(error, tuple):
        error = error[1]
    elif error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event.setdefault("error", error)
    for key, value in list(event.items()):
        if isinstance(value, SynclineError):
            event[key] = value.what
            event.update({name: part for name, part in (("where", value.where), ("fix", value.fix)) if part and name not in event})
        elif isinstance(value, BaseException):
            event[key] = type(value).__name__
    return event


def _secrets(_: object, __: str, event: Event) -> Event:
    """The last line of defence: no password of a URL leaves, whoever logged it."""
    for key, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[key] = _PASSWORD.sub(r"\1:***@", value)
    return event


def _human(_: object, __: str, event: Event) -> str:
    time, level, text = event.pop("timestamp", ""), str(event.pop("level", "")), event.pop("event", "")
    mark = {"warning": "warning: ", "error": "error: ", "critical": "error: "}.get(level, "")
    details = " ".join(f"{key}={value}" for key, value in event.items() if value is not None)
    return f"{time} {mark}{text}{'  ' + details if details else ''}"
