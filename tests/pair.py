"""Two throwaway databases, a configuration between them, and plain SQL on both: what tests of the whole engine have in common."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymysql

from engine.observe.status import list_conflicts, list_quarantine, read_status
from engine.reconcile import Report, reconcile
from engine.runtime import daemon
from engine.settings import Settings, load
from tests import flavour

PROGRAM = [str(Path(sys.executable).with_name("syncline"))]


class Side:
    """One database by plain SQL, without Syncline. Placeholders are %s on both."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.adapter = "postgres" if url.startswith("postgresql") else "mysql"
        self._connection: Any = None

    @property
    def connection(self) -> Any:
        if self._connection is None:
            if self.adapter == "postgres":
                self._connection = psycopg.connect(self.url, autocommit=True)
            else:
                at = urlsplit(self.url)
                self._connection = pymysql.connect(
                    host=at.hostname, port=at.port or 3306, user=at.username, password=at.password or "", database=at.path[1:],
                    autocommit=True, charset="utf8mb4", init_command="SET time_zone = '+00:00'",
                )  # fmt: skip
        return self._connection

    def reconnect(self) -> None:
        self._connection = None

    def run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """One statement; the rows it gives."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def transaction(self, *statements: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute("BEGIN")
            for statement in statements:
                cursor.execute(statement)
            cursor.execute("COMMIT")

    def log_end(self) -> Any:
        """Where the log ends, heartbeats aside."""
        if self.adapter == "postgres":
            return self.run("SELECT count(*) FROM pg_stat_activity"), self.run("SELECT pg_current_wal_lsn()")
        return self.run(flavour.LOG_STATUS)[0][:2]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Pair:
    """crm and erp, and a state folder. `rules`: the TOML of the rules."""

    def __init__(self, folder: Path, crm: str, erp: str, rules: str, more: str = "") -> None:
        self.folder, self.crm, self.erp = folder, Side(crm), Side(erp)
        self.config = folder / "syncline.toml"
        self.config.write_text(
            f'[syncline]\nstate = "./state"\n{more}\n'
            f'[systems.crm]\nadapter = "{self.crm.adapter}"\nurl = "{crm}"\n[systems.erp]\nadapter = "{self.erp.adapter}"\nurl = "{erp}"\n{rules}',
            encoding="utf-8",
        )

    @property
    def settings(self) -> Settings:
        return load(self.config)

    def settle(self) -> None:
        """`syncline run --until-idle`, in this process."""
        daemon.run(self.settings, until_idle=True)

    def reconcile(self) -> Report:
        return reconcile(self.settings)

    def agree(self) -> None:
        """Asserts that reconcile says equal, with nothing left over."""
        report = self.reconcile()
        assert report.verdict == "equal", report.to_json()

    def quarantine(self) -> list[dict[str, Any]]:
        return list_quarantine(self.settings)

    def conflicts(self) -> list[dict[str, Any]]:
        return list_conflicts(self.settings)

    def rule(self, name: str) -> dict[str, Any]:
        """The rule's part of `status`."""
        found: dict[str, Any] = read_status(self.settings)["rules"][name]
        return found

    def command(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """The command line, as a user types it."""
        return subprocess.run([*PROGRAM, *words, "-c", str(self.config)], capture_output=True, text=True, timeout=timeout, check=False)

    def daemon(self, *words: str, environment: dict[str, str] | None = None) -> Daemon:
        return Daemon([*PROGRAM, "run", *words, "-c", str(self.config)], self.folder / "daemon.log", environment)

    def close(self) -> None:
        self.crm.close()
        self.erp.close()


class Daemon:
    """`syncline run` as a process of its own; leaving the block ends it."""

    def __init__(self, words: list[str], log: Path, environment: dict[str, str] | None) -> None:
        self.log = log
        self._out = log.open("ab")
        self.process = subprocess.Popen(words, stdout=self._out, stderr=self._out, env={**os.environ, **(environment or {})})

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._out.close()

    def kill(self) -> None:
        """kill -9"""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def eventually(check: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Polls another process's effect until `check` gives something true; what it gives. Fails with the last value after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found or time.monotonic() > end:
            assert found, f"not within {seconds} s"
            return found
        time.sleep(0.02)


def rows_json(side: Side, sql: str) -> str:
    """Rows of a query as text, to compare both sides."""
    return json.dumps(sorted([str(v) if v is not None else None for v in row] for row in side.run(sql)), default=str)
