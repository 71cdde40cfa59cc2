"""Which servers stand behind the fixtures: `mariadb` is MariaDB, or the MySQL that `SYNCLINE_TEST_MYSQL` names, and `postgres15` any PostgreSQL from 13
on. What a test asks of all is written once; what a server does not have is not asked of it (the parameter is not generated: nothing is skipped)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from engine.throwaway.mysql import other
from engine.throwaway.postgres import programs
from engine.throwaway.process import CannotStart, output

T = TypeVar("T")


def _version(text: str) -> tuple[int, int]:
    found = re.search(r"(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


_OTHER = other()
MYSQL = _OTHER is not None
LOG_STATUS = "SHOW BINARY LOG STATUS" if MYSQL else "SHOW MASTER STATUS"
MONITOR = "REPLICATION CLIENT" if MYSQL else "BINLOG MONITOR"
"""The right to ask where the log ends."""
NO_NAMES = "MINIMAL" if MYSQL else "NO_LOG"
"""The binlog_row_metadata that leaves out the names of the columns and says least besides."""
NO_PAD = "utf8mb4_0900_bin" if MYSQL else "utf8mb4_nopad_bin"
"""A collation by which trailing blanks count."""
CASCADES_LOGGED = _OTHER is not None and _version(output([_OTHER, "--no-defaults", "--version"]).split("Ver ")[-1]) >= (9, 6)
"""Whether the log holds what foreign keys do to child rows."""
ONLY_MARIADB, ONLY_MYSQL = ("uuid", "inet4", "inet6"), ("vector",)
"""Types; MySQL also lacks `... COMPRESSED` and decimals of more than 30 digits after the point. MariaDB has vectors since 11.7."""


def known(declared: str) -> bool:
    """Whether the server has this type."""
    base = declared.split(" ", maxsplit=1)[0].split("(", maxsplit=1)[0].lower()
    if not MYSQL:
        return base not in ONLY_MYSQL
    return not (base in ONLY_MARIADB or " COMPRESSED" in declared or declared == "decimal(38,38)")


def cases(given: Sequence[T], declared: Callable[[Any], str] = lambda case: str(case[0])) -> list[T]:
    """Those of the cases whose type the server has."""
    return [case for case in given if known(declared(case))]


def sequence(first: int, last: int) -> str:
    """A derived table with the numbers from first to last in its column `seq`; MariaDB alone has such tables ready made."""
    return f"(SELECT n + {first - 1} AS seq FROM JSON_TABLE(CONCAT('[', REPEAT('0,', {last - first}), '0]'), '$[*]' COLUMNS (n FOR ORDINALITY)) AS j) AS s"


def user(name: str, password: str) -> tuple[str, str]:
    """The statements that make a user anew."""
    return f"DROP USER IF EXISTS '{name}'@'%'", f"CREATE USER '{name}'@'%' IDENTIFIED BY '{password}'"


def dumps(rows: Sequence[Sequence[Any]]) -> list[int]:
    """The numbers of the connections that are sent the log, of the rows of SHOW PROCESSLIST."""
    return [int(row[0]) for row in rows if str(row[4]).startswith("Binlog Dump")]


def _postgres() -> int:
    """The major version behind `postgres15`."""
    try:
        return _version(output([programs("15") / "postgres", "--version"]))[0]
    except CannotStart:
        return 15


POSTGRES = _postgres()


def in_postgres(kind: str, literals: Iterable[str], version: int = POSTGRES) -> list[str]:
    """Those of the values of a type that this version of PostgreSQL has; none where it lacks the type."""
    if (version < 14 and "multirange" in kind) or (version < 15 and kind in ("numeric(3,-2)", "numeric(2,5)")):
        return []
    return [literal for literal in literals if version >= 14 or not (kind == "numeric" and "Infinity" in literal)]
