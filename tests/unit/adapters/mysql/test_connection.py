"""URLs of MySQL systems, and what errors of the server become for an operator."""

from __future__ import annotations

import socket
import ssl

import pymysql
import pytest

from adapters.mysql.connection import connect, parse_url, quote
from adapters.mysql.failure import MEANINGS, wrap
from engine.errors import Poison, SynclineError, Terminal, Transient

REASONS = {"too_long", "not_null", "foreign_key", "unique", "check", "range", "type", "encoding", "other"}


def test_a_url_is_taken_apart_and_decoded() -> None:
    address = parse_url("mysql://us%40er:p%3Aw%2F%23@[::1]:3307/my%20db?ssl_ca=/a/b.pem&ssl-verify-cert=true&read_timeout=7", system="crm")
    assert (address.host, address.port, address.user, address.password, address.database) == ("::1", 3307, "us@er", "p:w/#", "my db")
    assert address.extra == {"ssl_ca": "/a/b.pem", "ssl_verify_cert": True, "read_timeout": 7}
    assert "p:w/#" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hunter2@host:99999999/db",
        "postgresql://user:hunter2@host/db",
        "mysql://user:hunter2@host/db?hunter2=1",
        "mysql://user:hunter2@host/db?ssl_verify_cert=hunter2",
        "mysql://user:hunter2@host/db?read_timeout=hunter2",
        "mysql://user:hunter2@[host/db",
        "mysql://user:hunter2@host/db?nonsense",
    ],
)
def test_a_wrong_url_is_terminal_and_never_quoted(url: str) -> None:
    with pytest.raises(Terminal) as wrong:
        parse_url(url, system="crm")
    assert "hunter2" not in str(wrong.value)
    assert wrong.value.where == "systems.crm.url" and wrong.value.fix


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Transient) as away:
            connect(f"mysql://u:hunter2@127.0.0.1:{taken.getsockname()[1]}/db", system="crm")
    assert "does not answer" in away.value.what and "hunter2" not in str(away.value)


@pytest.mark.parametrize(
    ("error", "expected", "reason"),
    [
        (pymysql.err.DataError(1406, "Data too long for column 'name' at row 3"), Poison, "too_long"),
        (pymysql.err.DataError(1366, "Incorrect string value: '\\xF0secret' for column `db`.`t`.`name` at row 1"), Poison, "encoding"),
        (pymysql.err.DataError(1366, "Incorrect integer value: 'secret' for column `db`.`t`.`n` at row 1"), Poison, "type"),
        (pymysql.err.IntegrityError(1062, "Duplicate entry 'secret' for key 'mail'"), Poison, "unique"),
        (pymysql.err.IntegrityError(1452, "Cannot add or update a child row: secret"), Poison, "foreign_key"),
        (pymysql.err.OperationalError(4025, "CONSTRAINT `x` failed for `db`.`t`"), Poison, "check"),
        (pymysql.err.OperationalError(1213, "Deadlock found"), Transient, ""),
        (pymysql.err.OperationalError(1205, "Lock wait timeout exceeded"), Transient, ""),
        (pymysql.err.OperationalError(2013, "Lost connection secret"), Transient, ""),
        (pymysql.err.InterfaceError(0, ""), Transient, ""),
        (TimeoutError("timed out"), Transient, ""),
        (ConnectionResetError("secret"), Transient, ""),
        (pymysql.err.OperationalError(1045, "Access denied for user 'secret'"), Terminal, ""),
        (pymysql.err.ProgrammingError(1146, "Table 'secret' doesn't exist"), Terminal, ""),
        (pymysql.err.ProgrammingError(1064, "You have an error near 'secret'"), Terminal, ""),
        (ssl.SSLError("secret"), Terminal, ""),
        (RuntimeError("secret"), Terminal, ""),
    ],
)
def test_errors_get_their_class_and_lose_their_values(error: Exception, expected: type[SynclineError], reason: str) -> None:
    wrapped = wrap(error, "crm.db.t")
    assert type(wrapped) is expected
    assert "secret" not in str(wrapped) and wrapped.what and wrapped.where.startswith("crm.db.t")
    assert getattr(wrapped, "reason", "") == reason


@pytest.mark.parametrize(
    ("message", "column"),
    [
        ("Data too long for column 'name' at row 3", ", column name"),
        ("CONSTRAINT `t.doc` failed for `db`.`t`", ", column doc"),
        ("CONSTRAINT `u.doc` failed for `db`.`t`", ""),
        ("CONSTRAINT `positive` failed for `db`.`t`", ""),
    ],
)
def test_the_column_is_named(message: str, column: str) -> None:
    assert wrap(pymysql.err.DataError(4025, message), "crm.db.t").where == f"crm.db.t{column}"


def test_every_meaning_has_a_sentence_and_a_known_reason() -> None:
    for number, meaning in MEANINGS.items():
        assert meaning.what, number
        assert meaning.reason in REASONS if meaning.kind == "poison" else not meaning.reason, number
        assert meaning.fix or meaning.kind == "transient", number


def test_names_are_quoted() -> None:
    assert quote("we`ird") == "`we``ird`"
