"""A throwaway MySQL in MariaDB's place, for running the tests against a MySQL whose mysqld the environment names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from engine.throwaway.mariadb import MariaDBServer, program
from engine.throwaway.process import CannotStart, Setting, output, run_as

OTHER = "SYNCLINE_TEST_MYSQL"
DIFFERENT: dict[str, Setting] = {
    "gtid_strict_mode": None,
    "gtid_mode": "ON",
    "enforce_gtid_consistency": "ON",
    "collation_server": "utf8mb4_0900_ai_ci",
    "mysqlx": "OFF",
    "secure_file_priv": "",
    "skip_name_resolve": None,  # else root@localhost is not the one who comes from 127.0.0.1
}
"""Settings of the throwaway MariaDB that MySQL does not know, or that MySQL needs besides. None leaves one out."""


def other() -> Path | None:
    """The mysqld that the environment names, if any. CannotStart when it is none of MySQL's."""
    named = os.environ.get(OTHER)
    if not named:
        return None
    daemon = Path(named)
    if not os.access(daemon, os.X_OK) or "MariaDB" in output([daemon, "--no-defaults", "--version"]):
        raise CannotStart(f"{OTHER} must name the mysqld of a MySQL")
    return daemon


class MySqlServer(MariaDBServer):
    """MySQL on 127.0.0.1 and a unix socket in `folder`. The user `root` needs no password."""

    kind = "MySQL"

    def __init__(self, *, settings: Mapping[str, Setting] | None = None, durable: bool = False, keep: bool = False) -> None:
        super().__init__(settings={**DIFFERENT, **(settings or {})}, durable=durable, keep=keep)

    def programs(self) -> tuple[Path, Path]:
        daemon = other() or program("mysqld")
        return daemon, daemon

    def template_name(self) -> str:
        version = re.search(r"Ver (\S+)", output([self.daemon, "--no-defaults", "--version"]))
        return "mysql-" + re.sub(r"[^0-9A-Za-z.]+", "-", version.group(1) if version else "unknown")

    def initialise(self, data: Path) -> None:
        run_as([self.daemon, "--no-defaults", "--initialize-insecure", f"--datadir={data}", f"--tmpdir={data.parent}"], self._account, data.parent)
