"""The whole engine on a MySQL with settings that change what its log says, and logging in the way MySQL does. Collected only where `SYNCLINE_TEST_MYSQL`
names a MySQL: there is none among the packages that the tests install."""
from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.mysql.connection import connect
from engine.errors import SynclineError, Terminal
from engine.runtime.check import check
from engine.throwaway import servers
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests import flavour
from tests.integration.test_mysql_reader import self_signed
from tests.integration.test_mysql_source import follow, opened_log, told
from tests.integration.test_scenarios import both, rule, stands_still
from tests.pair import Pair

ITEM = "id, name, doc, n"
RULES = (
    rule("to_erp", "crm", "erp", ITEM, table="item", more='baseline = "source"') + rule("to_crm", "erp", "crm", ITEM, table="item", more='baseline = "target"')
)
SETTINGS: dict[str, tuple[dict[str, servers.Setting], str]] = {
    "as it comes": ({}, ""),
    "file and offset": ({"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}, "gtid_mode is not ON"),
    "compressed transactions": ({"binlog_transaction_compression": "ON"}, ""),
    "minimal rows": ({"binlog_row_image": "MINIMAL"}, "binlog_row_image is MINIMAL"),
    "columns without names": ({"binlog_row_metadata": "MINIMAL"}, "binlog_row_metadata is not FULL"),
    "no checksum": ({"binlog_checksum": "NONE"}, ""),
}
"""Settings of the server, and what `check` warns of."""


@pytest.mark.parametrize("name", SETTINGS)
def test_both_sides_agree_whatever_the_log_leaves_out(name: str, postgres15: PostgresServer, tmp_path: Path) -> None:
    settings, warned = SETTINGS[name]
    with servers.mariadb(settings) as server:
        pair = Pair(tmp_path, server.database(), postgres15.database(), RULES)
        try:
            pair.crm.run("CREATE TABLE item (id int PRIMARY KEY, name varchar(50), doc json, n decimal(10,2))")
            pair.erp.run("CREATE TABLE item (id int PRIMARY KEY, name text, doc jsonb, n numeric(10,2))")
            warnings = [problem.what for problem in check(pair.settings) if problem.where.startswith("system crm")]
            assert any(warned in what for what in warnings) if warned else warnings == []
            doc = json.dumps({"a": 1, "text": "x" * 200, "list": [1.5, None]})
            for at in range(1, 7):
                pair.crm.run("INSERT INTO item VALUES (%s, %s, %s, %s)", at, f"name {at}", doc, at)
            pair.settle()
            pair.crm.run("UPDATE item SET doc = JSON_SET(doc, '$.a', id) WHERE id < 4")
            pair.crm.run("UPDATE item SET name = 'changed here', doc = JSON_REMOVE(doc, '$.list[0]') WHERE id = 2")
            pair.crm.transaction("UPDATE item SET n = n + 1 WHERE id = 4", "DELETE FROM item WHERE id = 5", "INSERT INTO item (id) VALUES (7)")
            pair.erp.run("UPDATE item SET name = 'changed there' WHERE id = 1")
            pair.erp.run("DELETE FROM item WHERE id = 6")
            pair.settle()
            found = pair.erp.run("SELECT id, name, doc ->> 'a', doc ->> 'list', n::text FROM item ORDER BY id")
            assert found == [
                (1, "changed there", "1", "[1.5, null]", "1.00"), (2, "changed here", "2", "[null]", "2.00"), (3, "name 3", "3", "[1.5, null]", "3.00"),
                (4, "name 4", "1", "[1.5, null]", "5.00"), (7, None, None, None, None),
            ]  # fmt: skip
            assert pair.quarantine() == []
            pair.agree()
            stands_still(pair)
        finally:
            pair.close()


def test_pieces_of_json_are_refused_and_stop_the_direction_where_a_session_sends_them(postgres15: PostgresServer, tmp_path: Path) -> None:
    with servers.mariadb() as server:
        pair = Pair(tmp_path, server.database(), postgres15.database(), RULES)
        try:
            pair.crm.run("CREATE TABLE item (id int PRIMARY KEY, name varchar(50), doc json, n decimal(10,2))")
            pair.erp.run("CREATE TABLE item (id int PRIMARY KEY, name text, doc jsonb, n numeric(10,2))")
            server.execute("SET GLOBAL binlog_row_value_options = 'PARTIAL_JSON'")
            told = [problem for problem in check(pair.settings) if problem.severity == "error"]
            assert ["PARTIAL_JSON" in problem.what for problem in told] == [True] and "SET GLOBAL" in told[0].fix
            with pytest.raises(Terminal, match="PARTIAL_JSON"):
                pair.settle()
            server.execute("SET GLOBAL binlog_row_value_options = ''")
            pair.crm.run("INSERT INTO item VALUES (1, 'a', %s, 1)", json.dumps({"a": 1, "text": "x" * 200}))
            pair.settle()
            pair.crm.run("SET SESSION binlog_row_value_options = 'PARTIAL_JSON'")
            pair.crm.run("UPDATE item SET doc = JSON_SET(doc, '$.a', 2), name = 'b'")
            with pytest.raises(Terminal, match="pieces of changed JSON"):
                pair.settle()
            assert pair.erp.run("SELECT name, doc ->> 'a' FROM item") == [("a", "1")]
            pair.crm.run("SET SESSION binlog_row_value_options = ''")
            assert pair.command("resync", "to_erp").returncode == 0
            pair.settle()
            assert pair.erp.run("SELECT name, doc ->> 'a' FROM item") == [("b", "2")]
            pair.agree()
        finally:
            pair.close()


@pytest.fixture(scope="module", params=["TLS", "no TLS"])
def login(request: pytest.FixtureRequest) -> Iterator[tuple[MariaDBServer, Path | None]]:
    """A server, and its certificate where it has one."""
    with tempfile.TemporaryDirectory() as name:  # not pytest's folder: the server's account cannot enter it
        Path(name).chmod(0o755)
        certificate, key = self_signed(Path(name)) if request.param == "TLS" else (None, None)
        settings: dict[str, servers.Setting] = {"ssl_cert": str(certificate), "ssl_key": str(key)} if certificate else {"tls_version": ""}
        with servers.mariadb(settings) as server:
            yield server, certificate


def test_a_password_of_caching_sha2_is_taken_with_and_without_tls(login: tuple[MariaDBServer, Path | None]) -> None:
    """Not in the server's cache, so that it asks for the whole password: over TLS, or enciphered with the server's public key."""
    server, certificate = login
    server.execute("CREATE USER 'sha'@'%' IDENTIFIED WITH caching_sha2_password BY 'pässwörd'")
    server.execute("GRANT ALL ON sys.* TO 'sha'@'%'")
    url = server.url("sys", user="sha", password="p%C3%A4ssw%C3%B6rd")
    checked = f"?ssl_ca={certificate}&ssl_verify_cert=true"
    for options in ("", "", *([checked] if certificate else [])):
        connection = connect(url + options, system="crm")
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
            assert bool(cursor.fetchall()[0][1]) is bool(certificate)
        connection.close()
    server.execute("FLUSH PRIVILEGES")
    with pytest.raises(SynclineError) as refused:
        connect(server.url("sys", user="sha", password="wrong"), system="crm")
    assert "password" in str(refused.value) and "wrong:" not in str(refused.value)


def test_reading_resumes_at_positions_with_tagged_gtids(mariadb: MariaDBServer) -> None:
    with opened_log(mariadb) as log:
        log.run("CREATE TABLE a (id int PRIMARY KEY)")
        watched = log.watch("a")
        source = log.open(watched)
        log.run("INSERT INTO a VALUES (1)", "SET SESSION gtid_next = 'AUTOMATIC:blue'", "INSERT INTO a VALUES (2)")
        place = follow(source, 2)[-1].high
        assert ":blue:1" in place.text
        log.run("INSERT INTO a VALUES (3)", "SET SESSION gtid_next = 'AUTOMATIC'", "INSERT INTO a VALUES (4)", "FLUSH BINARY LOGS")
        end = log.reader().end()
        log.run("SET SESSION gtid_next = 'AUTOMATIC:red'", "INSERT INTO a VALUES (5)")
        for at, left in ((place, ["3", "4", "5"]), (end, ["5"])):
            again = log.open(watched, at=at)
            assert [row[0] for _, _, row in told(follow(again, len(left)))] == left
            again.close()


def test_what_a_foreign_key_does_to_child_rows_is_followed(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    """By the log itself from MySQL 9.6 on, by asking again before."""
    pair = Pair(tmp_path, mariadb.database(), postgres15.database(), both(select="id, name", table="head", of="h") + both(select="id, p", table="line", of="l"))
    try:
        for side in (pair.crm, pair.erp):
            side.run("CREATE TABLE head (id int PRIMARY KEY, name varchar(9))")
        pair.crm.run("CREATE TABLE line (id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES head (id) ON DELETE CASCADE ON UPDATE CASCADE)")
        pair.erp.run("CREATE TABLE line (id int PRIMARY KEY, p int)")
        pair.crm.run("INSERT INTO head VALUES (1, 'a'), (2, 'b'), (3, 'c')")
        pair.crm.run("INSERT INTO line VALUES (10, 1), (11, 1), (20, 2), (30, 3)")
        pair.settle()
        pair.crm.transaction("DELETE FROM head WHERE id = 1", "UPDATE head SET id = 22 WHERE id = 2")
        pair.settle()
        assert pair.erp.run("SELECT id, p FROM line ORDER BY id") == [(20, 22), (30, 3)]
        pair.agree()
    finally:
        pair.close()


def test_the_server_is_a_mysql(mariadb: MariaDBServer) -> None:
    assert mariadb.kind == "MySQL" and flavour.MYSQL
