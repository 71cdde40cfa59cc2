"""Runs `syncline` as a user would, in a process of its own, and measures it."""
from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.measure import Drain, GaveUpError, Memory, cpu_seconds, until_there


def toml(value: object) -> str:
    """A value as TOML (JSON's text form is TOML for what is used here)."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def write_config(folder: Path, *, name: str, systems: Mapping[str, Mapping[str, object]], rules: list[dict[str, object]]) -> Path:
    """syncline.toml in `folder`, state beside it."""
    lines = ["[syncline]", f"name = {toml(name)}", 'state = "./state"', ""]
    for system, keys in systems.items():
        lines += [f"[systems.{system}]", *[f"{k} = {toml(v)}" for k, v in keys.items()], ""]
    for rule in rules:
        lines += ["[[rules]]", *[f"{k} = {toml(v)}" for k, v in rule.items()], ""]
    path = folder / "syncline.toml"
    path.write_text("\n".join(lines))
    return path


class Syncline:
    """One configuration. `run` starts the daemon; what it says goes to `log`."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.log = config.with_name("syncline.log")

    def command(self, *arguments: str) -> list[str]:
        program = Path(sys.executable).with_name("syncline")
        start = [str(program)] if program.exists() else [sys.executable, "-c", "from engine.cli.main import main; main()"]
        return [*start, *arguments, "--config", str(self.config)]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self.log, "ab") as log:
            return subprocess.Popen(self.command("run", *arguments), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def finish(self, process: subprocess.Popen[bytes], patience: float) -> int:
        """Waits for its own end; GaveUpError with the end of its log when it does not come or is not 0."""
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            self.stop(process)
            raise GaveUpError(f"`syncline run` did not end within {patience:.0f} s: {self.tail()}") from None
        if code != 0:
            raise GaveUpError(f"`syncline run` ended with exit code {code}: {self.tail()}")
        return code

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """SIGTERM, and SIGKILL after 20 s."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def until_idle(self, patience: float) -> None:
        """A whole `run --until-idle`, not measured."""
        self.finish(self.start("--until-idle"), patience)

    def json(self, *arguments: str, patience: float = 600) -> dict[str, Any]:
        """The document of `syncline COMMAND --json`."""
        command = self.command(*arguments, "--json")
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience, check=False)
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            said = done.stderr[-1500:].decode(errors="replace")
            raise GaveUpError(f"`syncline {arguments[0]}` ended with exit code {done.returncode}: {said}") from None
        return found

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:].strip() if self.log.exists() else "it said nothing"


class OneWay:
    """PostgreSQL to PostgreSQL by one mapping rule. capture: the target's own log is read as well."""

    def __init__(self, source: str, target: str, rule: str, *, capture: bool, folder: Path) -> None:
        self.name = "Syncline, target's log captured" if capture else "Syncline, target's log not captured"
        self._source = source
        self._target = target
        self._slot = "bench_both" if capture else "bench_one"
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", dir=folder)
        log = {"slot": self._slot + "_erp", "publication": self._slot + "_erp"} if capture else {"capture": False}
        erp = {"adapter": "postgres", "url": target, **log}
        crm = {"adapter": "postgres", "url": source, "slot": self._slot, "publication": self._slot}
        config = write_config(
            Path(self._folder.name),
            name=self._slot,
            systems={"crm": crm, "erp": erp},
            rules=[{"name": "customers", "select": rule, "into": "erp.public.customers", "key": ["id"], "conflict": "last_writer_wins"}],
        )
        self.program = Syncline(config)
        self.program.until_idle(120)

    def drain(self, *, rows: int, done: str, patience: float) -> Drain:
        """`syncline run --until-idle`, from the start of the process to its end."""
        started = time.monotonic()
        process = self.program.start("--until-idle")
        memory = Memory()
        used = {"daemon": 0.0, "start": 0.0}

        def sample(streaming: bool) -> None:
            memory.sample(process.pid)
            now = cpu_seconds(process.pid)
            if now:  # 0 once it has ended
                used["start"] = used["start"] if streaming else now
                used["daemon"] = now - used["start"]
            if process.poll() not in (None, 0):
                raise GaveUpError(f"`syncline run` ended with exit code {process.returncode}: {self.program.tail()}")

        try:
            seconds, whole = until_there(
                source=self._source, slot=self._slot, target=self._target, done=done, started=started, patience=patience, each_poll=sample
            )
            while process.poll() is None and time.monotonic() - started < patience:
                sample(True)
                time.sleep(0.02)
            self.program.finish(process, 1)
        finally:
            self.program.stop(process)
        return Drain(rows=rows, seconds=seconds, whole_seconds=whole, cpu_seconds=used, memory=memory)

    def close(self) -> None:
        self._folder.cleanup()
