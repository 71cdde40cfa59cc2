"""Opening connections to MySQL and MariaDB: the URL taken apart, and a session whose settings make values mean the same everywhere.

The session speaks utf8mb4 and UTC. Its sql_mode refuses what does not fit, but admits zero dates and a zero in an AUTO_INCREMENT column,
since both stand in real tables.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from pymysql.constants import CLIENT

from adapters.mysql.failure import wrap
from engine.errors import Terminal

__all__ = ["SQL_MODE", "Address", "connect", "is_mariadb", "parse_url", "quote", "quoted", "version", "wrap"]

SQL_MODE = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO,ERROR_FOR_DIVISION_BY_ZERO"
CONNECT_SECONDS = 10
READ_SECONDS = 300
WRITE_SECONDS = 60

_SHAPE = 'write url = "mysql://user:${PASSWORD}@host:3306/database"'
_FILES = ("ssl_ca", "ssl_cert", "ssl_key")
_FLAGS = ("ssl_disabled", "ssl_verify_cert", "ssl_verify_identity")
_SECONDS = ("connect_timeout", "read_timeout", "write_timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL taken apart. `extra` holds further arguments of `pymysql.connect`: TLS files and flags, timeouts in seconds, unix_socket."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    extra: Mapping[str, object]


def parse_url(url: str, *, system: str) -> Address:
    """`mysql://user:password@host:port/database?ssl_ca=...`; parts are percent-decoded.

    Terminal when it cannot be read; the URL is not quoted."""
    try:
        parts = urlsplit(url)
        port = parts.port or 3306
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise Terminal("the url cannot be read", where=f"systems.{system}.url", fix=_SHAPE) from None
    if parts.scheme not in ("mysql", "mariadb"):
        raise Terminal("the url does not begin with mysql://", where=f"systems.{system}.url", fix=_SHAPE)
    return Address(
        host=parts.hostname or "127.0.0.1",
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.strip("/")),
        extra=dict(_parameter(name.replace("-", "_"), value, system) for name, value in pairs),
    )


def _parameter(name: str, value: str, system: str) -> tuple[str, object]:
    where = f"systems.{system}.url"
    if name in _FILES or name in ("ssl_key_password", "unix_socket"):
        return name, value
    if name in _FLAGS:
        if value.lower() not in ("1", "0", "true", "false", "yes", "no", "on", "off"):
            raise Terminal(f"{name} has to be true or false", where=where, fix=f"write {name}=true")
        return name, value.lower() in ("1", "true", "yes", "on")
    if name in _SECONDS:
        if not value.isdecimal() or not 0 < int(value) <= 86400:
            raise Terminal(f"{name} has to be a number of seconds", where=where, fix=f"write {name}=60")
        return name, int(value)
    known = ", ".join((*_FILES, "ssl_key_password", *_FLAGS, *_SECONDS, "unix_socket"))
    # not named: behind an unencoded ? it may be the rest of a password
    raise Terminal("the url has a parameter that is not known", where=where, fix=f"known ones: {known}")


def connect(url: str, *, system: str, **overrides: object) -> pymysql.Connection:
    """A connection with our session settings; `overrides` are arguments of `pymysql.connect` that go before those of the URL.

    `local_infile=True` tells the server that we can send LOAD DATA LOCAL, but not pymysql: `adapters.mysql.load` answers such a request
    itself, from memory, so that no server can ask for a file of this machine. Raises Transient or Terminal.
    """
    address = parse_url(url, system=system)
    flags = int(str(overrides.pop("client_flag", 0)))
    if overrides.pop("local_infile", False):
        flags |= CLIENT.LOCAL_FILES
    arguments: dict[str, object] = {
        "host": address.host,
        "port": address.port,
        "user": address.user,
        "password": address.password.encode(),  # bytes: pymysql would write text as latin1
        "database": address.database or None,
        "charset": "utf8mb4",
        "sql_mode": SQL_MODE,
        "init_command": "SET SESSION time_zone = '+00:00', sql_auto_is_null = 0, foreign_key_checks = 1, unique_checks = 1, sql_notes = 1",
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "write_timeout": WRITE_SECONDS,
        "autocommit": True,
        "program_name": "syncline",
        "client_flag": flags,
        **address.extra,
        **overrides,
    }
    try:
        if any(name.startswith("ssl") for name in arguments):
            return pymysql.connect(**arguments)  # type: ignore[call-overload,no-any-return]
        return _opportunistic(arguments)
    except FileNotFoundError as error:
        place = f"systems.{system}.url"
        raise Terminal("a file named in the url is not there", where=place, fix="check ssl_ca, ssl_cert and ssl_key") from error
    except Exception as error:
        raise wrap(error, f"system {system} ({address.host}:{address.port})") from error


def _opportunistic(arguments: Mapping[str, object]) -> pymysql.Connection:
    """Encrypted where the server can, unchecked: what pymysql does when nothing is said of TLS, but without its reading of all the machine's
    certificates, which takes a tenth of a second of each connection and is of no use here."""
    made: Any = pymysql.connect(**arguments, ssl_disabled=True, defer_connect=True)  # type: ignore[call-overload]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    made.ssl, made._ssl_required, made.ctx = True, False, context
    made.connect()
    return made  # type: ignore[no-any-return]


def is_mariadb(connection: pymysql.Connection) -> bool:
    return "mariadb" in _server(connection).lower()


def version(connection: pymysql.Connection) -> tuple[int, int, int]:
    """Major, minor and patch number of the server. MariaDB may put "5.5.5-" before its own version."""
    text = _server(connection).removeprefix("5.5.5-")
    numbers = [int(part) if part.isdecimal() else 0 for part in text.split("-", 1)[0].split(".")[:3]]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def _server(connection: pymysql.Connection) -> str:
    return str(connection.server_version)  # type: ignore[attr-defined]


def quote(name: str) -> str:
    """A name as SQL identifier."""
    return "`" + name.replace("`", "``") + "`"


def quoted(names: Iterable[str]) -> str:
    """Several names as SQL identifiers, joined by commas."""
    return ", ".join(quote(name) for name in names)
