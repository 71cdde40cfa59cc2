"""A throwaway MariaDB from the system's own programs, with the row log that Syncline reads."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pymysql

from engine.throwaway.process import CannotStart, Server, Setting, output, run_as

PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/usr/libexec:/opt/homebrew/bin"

DEFAULTS: dict[str, Setting] = {
    "bind_address": "127.0.0.1",
    "log_bin": "binlog",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
    "gtid_strict_mode": True,
    "server_id": 1,
    "local_infile": True,
    "character_set_server": "utf8mb4",
    "collation_server": "utf8mb4_general_ci",
    "default_time_zone": "+00:00",
    "skip_name_resolve": True,
    "innodb_buffer_pool_size": "128M",
    "max_connections": 100,
    "performance_schema": False,
}
DURABLE: dict[str, Setting] = {"innodb_flush_log_at_trx_commit": 1, "sync_binlog": 1}
# survives the death of the process, not that of the machine
NOT_DURABLE: dict[str, Setting] = {"innodb_flush_log_at_trx_commit": 2, "sync_binlog": 0, "innodb_flush_method": "nosync"}


def program(*names: str) -> Path:
    """The first of `names` that is installed. CannotStart when none is."""
    for name in names:
        found = shutil.which(name, path=os.environ.get("PATH", "") + ":" + PLACES)
        if found:
            return Path(found)
    raise CannotStart("MariaDB's server programs are not installed (apt-get install mariadb-server)")


class MariaDBServer(Server):
    """MariaDB on 127.0.0.1 and a unix socket in `folder`. The user `root` needs no password."""

    kind = "MariaDB"
    accounts = ("mysql",)

    def __init__(self, *, settings: Mapping[str, Setting] | None = None, durable: bool = False, keep: bool = False) -> None:
        self.daemon, self.installer = self.programs()
        super().__init__(settings={**DEFAULTS, **(DURABLE if durable else NOT_DURABLE), **(settings or {})}, durable=durable, keep=keep)

    def programs(self) -> tuple[Path, Path]:
        """(server, program that makes a data folder). CannotStart when they are missing."""
        return program("mariadbd", "mysqld"), program("mariadb-install-db", "mysql_install_db")

    def template_name(self) -> str:
        said = output([self.daemon, "--no-defaults", "--version"])
        version = re.search(r"Ver (\S+)", said)
        return "mariadb-" + re.sub(r"[^0-9A-Za-z.]+", "-", version.group(1) if version else said)

    def initialise(self, data: Path) -> None:
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        run_as([self.installer, "--no-defaults", f"--datadir={data}", *options], self._account, data.parent)

    def command(self) -> list[str]:
        # A server that starts clears its temporary files out of tmpdir, so it must not be shared with another one.
        places: dict[str, Setting] = {
            "socket": str(self.folder / "mariadb.sock"), "pid_file": str(self.folder / "mariadb.pid"), "tmpdir": str(self.folder),
        }  # fmt: skip
        settings = {**self.settings, **places, "port": self.port}
        given = [f"--{name.replace('_', '-')}={_text(value)}" for name, value in settings.items() if value is not None]
        return [str(self.daemon), "--no-defaults", f"--datadir={self.data}", *given]

    def ready(self) -> bool:
        with contextlib.suppress(pymysql.Error, OSError):
            pymysql.connect(host="127.0.0.1", port=self.port, user="root", connect_timeout=5, ssl_disabled=self._plain).close()
            return True
        return False

    @property
    def _plain(self) -> bool:
        """Without TLS a connection takes 5 ms instead of 90."""
        return not self.settings.get("require_secure_transport")

    def url(self, database: str, *, user: str | None = None, password: str | None = None) -> str:
        who = (user or "root") + (f":{password}" if password else "")
        return f"mysql://{who}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> None:
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")

    def execute(self, statement: str, *, database: str | None = None) -> list[tuple[object, ...]]:
        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", database=database, autocommit=True, charset="utf8mb4", ssl_disabled=self._plain
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def login(self, user: str = "sync", password: str = "secret", *, rights: bool = True) -> None:
        self.execute(f"CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")
        if rights:
            self.execute(f"GRANT ALL PRIVILEGES ON *.* TO '{user}'@'%'")


def _text(value: Setting) -> str:
    return ("1" if value else "0") if isinstance(value, bool) else str(value)
