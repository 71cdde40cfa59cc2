"""Syncline as the demo uses it: the real command line in a process of its own, with `run` in the background."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

PATIENCE = 120.0


class Failed(Exception):
    """A command did not do what it had to; the sentence holds the end of what it said."""


class Syncline:
    """Calls `syncline COMMAND -c CONFIG`. `log`: what `run` writes."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self.log = config.with_name("run.log")
        self._daemon: subprocess.Popen[bytes] | None = None
        script = Path(sys.executable).with_name("syncline")
        self.program = [str(script)] if script.exists() else [sys.executable, "-c", "from engine.cli.main import main; main()"]

    def start(self) -> None:
        watch = shutil.which("setpriv")  # the daemon must not outlive a demo that is killed
        prefix = [watch, "--pdeathsig", "TERM"] if watch else []
        with self.log.open("ab") as log:
            self._daemon = subprocess.Popen(
                [*prefix, *self.program, "run", "-c", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    @property
    def running(self) -> bool:
        return self._daemon is not None and self._daemon.poll() is None

    def memory_mb(self) -> float | None:
        """Resident memory of the daemon; None where the system does not say."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            for line in Path(f"/proc/{self._daemon.pid}/status").read_text().splitlines():  # type: ignore[union-attr]
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        return None

    def stop(self) -> None:
        """SIGTERM, and waits. Failed when it ends with anything but 0 (also when it had ended by itself)."""
        if self._daemon is None:
            return
        daemon, self._daemon = self._daemon, None
        ended_before = daemon.poll() is not None
        with contextlib.suppress(ProcessLookupError):
            daemon.send_signal(signal.SIGTERM)
        try:
            code = daemon.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
            raise Failed(f"syncline run did not end within {PATIENCE:.0f} s of SIGTERM. {self.tail()}") from None
        if code or ended_before:
            raise Failed(f"syncline run ended {'by itself ' if ended_before else ''}with exit code {code}. {self.tail()}")

    def kill(self) -> None:
        """For the ways out where nothing matters any more."""
        if self._daemon is not None:
            with contextlib.suppress(ProcessLookupError):
                self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def tail(self, lines: int = 12) -> str:
        text = self.log.read_text(errors="replace").splitlines()[-lines:] if self.log.exists() else []
        return "Its last words:\n  " + "\n  ".join(text) if text else "It said nothing."

    def call(self, *arguments: str, good: tuple[int, ...] = (0,)) -> tuple[int, str]:
        """Runs one command to its end: exit code and stdout. Failed when the code is not among `good`."""
        argv = [*self.program, *arguments, "-c", str(self._config)]
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            said = (error.stderr or b"")[-1500:].decode(errors="replace")
            raise Failed(f"syncline {' '.join(arguments)} did not end within {PATIENCE:.0f} s: {said}") from None
        if done.returncode not in good:
            said = (done.stderr.strip() or done.stdout.strip())[-1500:]
            raise Failed(f"syncline {' '.join(arguments)} ended with exit code {done.returncode}: {said}")
        return done.returncode, done.stdout

    def ask(self, *arguments: str, good: tuple[int, ...] = (0,)) -> Any:
        """The JSON document of a command."""
        _, said = self.call(*arguments, "--json", good=good)
        try:
            return json.loads(said)
        except ValueError:
            raise Failed(f"syncline {' '.join(arguments)} --json printed something else: {said[:300]}") from None


class Watch(threading.Thread):
    """Reads what `status` prints, again and again, without the cost of a new process each time. `latest`: the last document, None before the first."""

    def __init__(self, config: Path, every: float) -> None:
        super().__init__(name="status", daemon=True)
        self._config = config
        self._every = every
        self._stop_asked = threading.Event()
        self.latest: dict[str, Any] | None = None

    def run(self) -> None:
        from engine.observe.status import read_status  # late: it takes the processor from the daemon that is starting
        from engine.settings import load

        settings = load(self._config)
        while not self._stop_asked.wait(self._every):
            with contextlib.suppress(Exception):  # the state folder is being made at this moment; the next look succeeds
                self.latest = read_status(settings)

    def stop(self) -> None:
        self._stop_asked.set()
        if self.is_alive():
            self.join(10)
