"""Throwaway servers leave nothing behind, whatever ends the process that started them, and keep their data over stop and kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pymysql
import pytest

from engine.throwaway import process, servers
from tests import flavour
from tests.conftest import need

KINDS: dict[servers.Kind, Callable[[], servers.Server]] = {
    "postgres15": lambda: servers.postgres("15"),
    "postgres18": lambda: servers.postgres("18"),
    "mariadb": servers.mariadb,
}
EACH = pytest.mark.parametrize("kind", list(KINDS))


def make(kind: servers.Kind) -> servers.Server:
    need(kind)
    return KINDS[kind]()


def gone(pids: list[int], within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while any(process.alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)  # nobody tells us of the end of a process that is not our child
    return not any(process.alive(pid) for pid in pids)


@EACH
def test_a_closed_server_leaves_no_process_and_no_folder(kind: servers.Kind) -> None:
    with make(kind) as server:
        pids = [server.pid, *process.descendants(server.pid)]
        folder = server.folder
        assert server.pid and folder.exists()
    assert gone(pids, 0) and not folder.exists() and server.pid == 0


@EACH
def test_data_survive_stop_and_kill_and_the_port_stays(kind: servers.Kind) -> None:
    with make(kind) as server:
        port = server.port
        server.database("kept")
        server.execute("CREATE TABLE t (a int)", database="kept")
        server.execute("INSERT INTO t VALUES (1)", database="kept")
        server.stop()
        server.start()
        server.execute("INSERT INTO t VALUES (2)", database="kept")
        pids = [server.pid, *process.descendants(server.pid)]
        server.kill()
        assert gone(pids, 0)
        server.start()
        assert server.port == port
        assert server.execute("SELECT a FROM t ORDER BY a", database="kept") == [(1,), (2,)]


@EACH
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_a_server_dies_with_its_starter(kind: servers.Kind, how: signal.Signals) -> None:
    need(kind)
    # started in a thread that ends at once: the server must outlive the thread, not the process
    code = f"""
import sys, threading
from engine.throwaway import process, servers
server = {"servers.mariadb()" if kind == "mariadb" else f"servers.postgres({kind[-2:]!r})"}
starter = threading.Thread(target=server.start); starter.start(); starter.join()
server.database()
print(*[server.pid, *process.descendants(server.pid)], server.folder, flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        *pids, folder = child.stdout.readline().split()
        assert process.alive(int(pids[0]))
    finally:
        child.send_signal(how)
        child.communicate()
    assert gone([int(pid) for pid in pids])
    with make(kind):  # the next start clears the folder away
        assert not Path(folder).exists()


def test_a_server_is_not_run_as_root(postgres15: servers.PostgresServer, mariadb: servers.MariaDBServer) -> None:
    for server in (postgres15, mariadb):
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0 or os.geteuid() != 0


def test_only_loopback_is_listened_on(postgres15: servers.PostgresServer, mariadb: servers.MariaDBServer) -> None:
    assert postgres15.execute("SHOW listen_addresses") == [("127.0.0.1",)]
    assert mariadb.execute("SELECT @@bind_address") == [("127.0.0.1",)]


def test_the_log_holds_what_replication_needs(
    postgres15: servers.PostgresServer, postgres18: servers.PostgresServer, mariadb: servers.MariaDBServer
) -> None:
    for server in (postgres15, postgres18):
        assert server.execute("SHOW wal_level") == [("logical",)]
    gtids, value = ("gtid_mode", "ON") if flavour.MYSQL else ("gtid_strict_mode", 1)
    asked = f"SELECT @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata, @@{gtids}"
    assert mariadb.execute(asked) == [(1, "ROW", "FULL", "FULL", value)]


def test_a_login_needs_its_password(postgres15: servers.PostgresServer, mariadb: servers.MariaDBServer) -> None:
    postgres15.database("locked")
    postgres15.login("reader", "right", rights=False)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres15.url("locked", user="reader", password="wrong"))
    psycopg.connect(postgres15.url("locked", user="reader", password="right")).close()

    mariadb.login("reader", "right", rights=False)
    with pytest.raises(pymysql.err.OperationalError):
        pymysql.connect(host="127.0.0.1", port=mariadb.port, user="reader", password="wrong")
    pymysql.connect(host="127.0.0.1", port=mariadb.port, user="reader", password="right").close()


def test_a_setting_of_the_caller_wins_over_a_default() -> None:
    with make("mariadb") as server:
        server.stop()
        server.settings["binlog_format"] = "STATEMENT"
        server.start()
        assert server.execute("SELECT @@binlog_format") == [("STATEMENT",)]


def test_a_wrong_setting_is_reported_with_the_end_of_the_log() -> None:
    need("postgres15")
    with pytest.raises(servers.CannotStart, match="no_such_parameter"):
        servers.postgres("15", {"no_such_parameter": 1}).start()
