"""The main job on real servers: an unseen pair of schemas, from a configuration alone, in either direction."""
from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runtime import daemon
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.pair import Pair, Side

POSTGRES_SIDE = """
CREATE SCHEMA sales;
CREATE TABLE sales.account (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, email text, city varchar(80), balance numeric(12, 2), active boolean NOT NULL
    DEFAULT true, updated_at timestamptz, notes text, internal_remark text DEFAULT 'crm only'
)"""
MARIADB_SIDE = """
CREATE TABLE customer (
    id int unsigned AUTO_INCREMENT PRIMARY KEY, crm_ref char(36), cust_name varchar(60) NOT NULL, mail varchar(120), town varchar(80),
    saldo decimal(12, 2), is_active tinyint NOT NULL DEFAULT 1, changed datetime(6), remark text, UNIQUE KEY (crm_ref)
) DEFAULT CHARSET utf8mb4"""

TO_MARIADB = """
[[rules]]
name = "to_mariadb"
select = \"\"\"SELECT CAST(a.id AS VARCHAR) AS crm_ref, a.name AS cust_name, a.email AS mail, a.city AS town, a.balance AS saldo,
CASE WHEN a.active THEN 1 ELSE 0 END AS is_active, a.updated_at AT TIME ZONE 'UTC' AS changed, a.notes AS remark FROM {pg}.sales.account AS a\"\"\"
into = "{my}.customer"
key = ["crm_ref"]
baseline = "{to_mariadb}"
owners = {{ saldo = "{my}" }}
"""
TO_POSTGRES = """
[[rules]]
name = "to_postgres"
select = \"\"\"SELECT CAST(c.crm_ref AS UUID) AS id, c.cust_name AS name, c.mail AS email, c.town AS city, c.saldo AS balance,
c.is_active <> 0 AS active, c.changed AT TIME ZONE 'UTC' AS updated_at, c.remark AS notes FROM {my}.customer AS c\"\"\"
into = "{pg}.sales.account"
key = ["id"]
baseline = "{to_postgres}"
owners = {{ balance = "{my}" }}
"""
NAMES = ["Šimůnek & synové", "Ångström AB", "株式会社山田", "O'Neil \\ Söhne\tKG", "😀 Smile", "Łódź-Handel"]


class Account:
    """The same record on both sides."""

    def __init__(self, pair: Pair, postgres: Side, mariadb: Side) -> None:
        self.pair, self.postgres, self.mariadb = pair, postgres, mariadb

    def in_postgres(self, ref: str, column: str) -> object:
        rows = self.postgres.run(f"SELECT {column} FROM sales.account WHERE id = %s", ref)
        return rows[0][0] if rows else None

    def in_mariadb(self, ref: str, column: str) -> object:
        rows = self.mariadb.run(f"SELECT {column} FROM customer WHERE crm_ref = %s", ref)
        return rows[0][0] if rows else None

    def add_to_postgres(self, count: int) -> list[str]:
        refs = [str(uuid.uuid4()) for _ in range(count)]
        for i, ref in enumerate(refs):
            self.postgres.run(
                "INSERT INTO sales.account (id, name, email, city, balance, active, updated_at, notes) VALUES (%s, %s, %s, %s, %s, %s, now(), %s)",
                ref, NAMES[i % len(NAMES)], None if i % 4 == 0 else f"a{i}@x.example", "Žilina", i * 1.25, i % 2 == 0, "dlouhý text " * (i % 50),
            )  # fmt: skip
        return refs

    def add_to_mariadb(self, count: int) -> list[str]:
        refs = [str(uuid.uuid4()) for _ in range(count)]
        for i, ref in enumerate(refs):
            self.mariadb.run(
                "INSERT INTO customer (crm_ref, cust_name, mail, saldo, is_active, changed) VALUES (%s, %s, %s, %s, %s, '2026-02-03 04:05:06.789')",
                ref, NAMES[i % len(NAMES)], None if i % 3 == 0 else f"b{i}@y.example", i / 4, i % 2,
            )  # fmt: skip
        return refs

    def count(self) -> tuple[int, int]:
        return self.postgres.run("SELECT count(*) FROM sales.account")[0][0], self.mariadb.run("SELECT count(*) FROM customer")[0][0]


@pytest.fixture(params=["crm on PostgreSQL", "crm on MariaDB"])
def account(request: pytest.FixtureRequest, postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Account]:
    postgres, maria = postgres15.database(), mariadb.database()
    pg, my = ("crm", "erp") if request.param == "crm on PostgreSQL" else ("erp", "crm")
    to_mariadb, to_postgres = ("source", "target") if pg == "crm" else ("target", "source")
    rules = (TO_MARIADB + TO_POSTGRES).format(pg=pg, my=my, to_mariadb=to_mariadb, to_postgres=to_postgres)
    pair = Pair(tmp_path, *((postgres, maria) if pg == "crm" else (maria, postgres)), rules)
    sides = (pair.crm, pair.erp) if pg == "crm" else (pair.erp, pair.crm)
    sides[0].run(POSTGRES_SIDE)
    sides[1].run(MARIADB_SIDE)
    yield Account(pair, *sides)
    pair.close()


def test_first_start_fills_both_sides_and_changes_of_either_side_arrive(account: Account) -> None:
    pair = account.pair
    ours, theirs = account.add_to_postgres(40), account.add_to_mariadb(30)
    pair.settle()
    assert account.count() == (70, 70)
    pair.agree()

    account.postgres.run("UPDATE sales.account SET email = 'new@x.example', notes = NULL WHERE id = %s", ours[0])
    account.mariadb.run("UPDATE customer SET town = 'Brno 😀' WHERE crm_ref = %s", ours[1])
    account.postgres.run("DELETE FROM sales.account WHERE id = %s", theirs[0])
    account.mariadb.run("DELETE FROM customer WHERE crm_ref = %s", ours[2])
    account.postgres.run("UPDATE sales.account SET internal_remark = 'not mapped' WHERE id = %s", ours[3])
    pair.settle()
    assert account.in_mariadb(ours[0], "mail") == "new@x.example"
    assert account.in_mariadb(ours[0], "remark") is None
    assert account.in_postgres(ours[1], "city") == "Brno 😀"
    assert account.in_mariadb(theirs[0], "id") is None
    assert account.in_postgres(ours[2], "id") is None
    pair.agree()
    assert pair.quarantine() == []


def test_rows_present_on_both_sides_follow_baseline_and_equal_rows_are_not_written(account: Account) -> None:
    pair = account.pair
    refs = account.add_to_postgres(20)
    pair.settle()
    (pair.folder / "state").rename(pair.folder / "lost")
    account.postgres.run("UPDATE sales.account SET city = 'said by PostgreSQL' WHERE id = %s", refs[0])
    account.mariadb.run("UPDATE customer SET town = 'said by MariaDB' WHERE crm_ref = %s", refs[0])
    daemon.resync_all(pair.settings)
    winner = "said by PostgreSQL" if pair.crm is account.postgres else "said by MariaDB"
    assert account.in_postgres(refs[0], "city") == account.in_mariadb(refs[0], "town") == winner
    assert pair.rule("to_mariadb")["applied"] + pair.rule("to_postgres")["applied"] == 1
    pair.agree()


def test_the_later_commit_wins_on_both_sides_when_a_cell_changed_on_both_while_we_were_down(account: Account) -> None:
    pair = account.pair
    first, second = account.add_to_postgres(2)
    pair.settle()
    account.postgres.run("UPDATE sales.account SET city = 'earlier' WHERE id = %s", first)
    account.mariadb.run("UPDATE customer SET town = 'earlier' WHERE crm_ref = %s", second)
    account.mariadb.run("SELECT sleep(1.1)")  # MariaDB logs whole seconds
    account.mariadb.run("UPDATE customer SET town = 'later', mail = 'also@y.example' WHERE crm_ref = %s", first)
    account.postgres.run("UPDATE sales.account SET city = 'later', notes = 'also' WHERE id = %s", second)
    pair.settle()
    for ref in (first, second):
        assert account.in_postgres(ref, "city") == account.in_mariadb(ref, "town") == "later"
    assert account.in_postgres(first, "email") == "also@y.example"
    assert account.in_mariadb(second, "remark") == "also"
    assert pair.rule("to_mariadb")["conflicts"] + pair.rule("to_postgres")["conflicts"] == 2
    assert {c["columns"][0] for c in pair.conflicts()} <= {"city", "town"}
    pair.agree()


def test_an_owned_cell_changed_on_the_wrong_side_is_restored(account: Account) -> None:
    pair = account.pair
    ref = account.add_to_mariadb(3)[2]
    pair.settle()
    account.postgres.run("UPDATE sales.account SET balance = 999, city = 'goes through' WHERE id = %s", ref)
    pair.settle()
    assert float(str(account.in_postgres(ref, "balance"))) == float(str(account.in_mariadb(ref, "saldo"))) == 0.5
    assert account.in_mariadb(ref, "town") == "goes through"
    account.mariadb.run("UPDATE customer SET saldo = 12.34 WHERE crm_ref = %s", ref)
    pair.settle()
    assert str(account.in_postgres(ref, "balance")) == "12.34"
    pair.agree()


def test_with_no_writer_both_logs_stand_still(account: Account) -> None:
    pair = account.pair
    account.add_to_postgres(10)
    account.add_to_mariadb(10)
    pair.settle()
    written = [pair.rule(rule)["applied"] for rule in ("to_mariadb", "to_postgres")]
    marker = "SELECT batch FROM syncline_checkpoint"
    batches = pair.crm.run(marker), pair.erp.run(marker)
    for _ in range(2):
        pair.settle()
    assert [pair.rule(rule)["applied"] for rule in ("to_mariadb", "to_postgres")] == written
    assert (pair.crm.run(marker), pair.erp.run(marker)) == batches


def test_a_refused_row_is_in_quarantine_with_its_reason_and_all_others_arrive(account: Account) -> None:
    pair = account.pair
    refs = account.add_to_postgres(30)
    pair.settle()
    account.mariadb.run(
        "ALTER TABLE customer ADD CONSTRAINT no_spam CHECK (locate('spam', mail) = 0)"
    )
    account.postgres.run("UPDATE sales.account SET name = repeat('ž', 61), email = 'long@x.example' WHERE id = %s", refs[4])
    account.postgres.run("UPDATE sales.account SET email = 'spam@x.example' WHERE id = %s", refs[7])
    account.postgres.run("UPDATE sales.account SET notes = 'fine' WHERE id <> ALL(%s)", [refs[4], refs[7]])
    pair.settle()
    found = {entry["key"]["id"]: entry for entry in pair.quarantine()}
    assert set(found) == {refs[4], refs[7]}
    assert found[refs[4]]["code"] == "too_long" and "cust_name" in found[refs[4]]["reason"]
    assert found[refs[7]]["code"] == "check"
    assert {entry["rule"] for entry in found.values()} == {"to_mariadb"}
    assert account.mariadb.run("SELECT count(*) FROM customer WHERE remark = 'fine'")[0][0] == 28

    account.postgres.run("UPDATE sales.account SET name = 'short again' WHERE id = %s", refs[4])
    account.postgres.run("UPDATE sales.account SET email = 'good@x.example' WHERE id = %s", refs[7])
    pair.settle()
    assert pair.quarantine() == []
    assert account.in_mariadb(refs[4], "mail") == "long@x.example"
    pair.agree()
