"""Keys that one database takes for equal and the other tells apart: said by `check`, and set aside at once with the reason."""
from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests import flavour
from tests.integration.test_scenarios import rule
from tests.pair import Pair, rows_json

Made = Callable[..., Pair]


@pytest.fixture
def made(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Made]:
    pairs: list[Pair] = []

    def make(crm_ddl: str, erp_ddl: str, rules: str) -> Pair:
        pair = Pair(tmp_path, postgres15.database(), mariadb.database(), rules)
        pair.crm.run(crm_ddl)
        pair.erp.run(erp_ddl)
        pairs.append(pair)
        return pair

    yield make
    for pair in pairs:
        pair.close()


CRM = "CREATE TABLE item (code text PRIMARY KEY, name text)"
ERP = "CREATE TABLE item (code varchar(40) PRIMARY KEY, name varchar(40)) CHARACTER SET utf8mb4 COLLATE {}"
TO_ERP = rule("to_erp", "crm", "erp", "code, name", "code", "item")
TO_CRM = rule("to_crm", "erp", "crm", "code, name", "code", "item")


def aside(pair: Pair) -> set[tuple[str, str, str]]:
    return {(q["rule"], q["key"]["code"], q["code"]) for q in pair.quarantine()}


def warned(pair: Pair) -> list[str]:
    document = json.loads(pair.command("check", "--json").stdout)
    assert document["ok"], document
    return [p["what"] for p in document["problems"] if p["where"].startswith("rule ") and "takes keys for equal" in p["what"]]


@pytest.mark.parametrize(
    ("collation", "other", "said"),
    [("utf8mb4_general_ci", "ABC", "upper and lower case"), ("utf8mb4_unicode_ci", "äbc", "accents"), ("utf8mb4_bin", "abc  ", "blanks at the end")],
)
def test_a_key_that_the_target_takes_for_another_is_named_at_once(made: Made, collation: str, other: str, said: str) -> None:
    pair = made(CRM, ERP.format(collation), TO_ERP + TO_CRM)
    assert said in " ".join(warned(pair))
    pair.settle()
    pair.crm.run("INSERT INTO item VALUES ('abc', 'first'), ('xyz', 'innocent')")
    pair.settle()
    began = time.monotonic()
    pair.crm.run("INSERT INTO item VALUES (%s, 'second'), ('uvw', 'innocent too')", other)
    pair.settle()
    assert time.monotonic() - began < 20  # it was two minutes of asking again
    assert aside(pair) == {("to_erp", other, "key_equal_by_collation")}
    assert said in pair.quarantine()[0]["reason"]
    assert sorted(pair.erp.run("SELECT code, name FROM item")) == [("abc", "first"), ("uvw", "innocent too"), ("xyz", "innocent")]

    pair.crm.run("UPDATE item SET code = 'mended' WHERE name = 'second'")
    pair.settle()
    assert pair.quarantine() == []
    assert rows_json(pair.crm, "SELECT code, name FROM item") == rows_json(pair.erp, "SELECT code, name FROM item")
    pair.agree()


def test_both_spellings_in_one_transaction_and_at_the_first_read(made: Made) -> None:
    pair = made(CRM, ERP.format("utf8mb4_general_ci"), TO_ERP + TO_CRM)
    pair.crm.run("INSERT INTO item VALUES ('a', '1'), ('A', '2'), ('b', '3')")
    pair.erp.run("INSERT INTO item VALUES ('B', '4')")
    pair.settle()
    pair.crm.run("INSERT INTO item VALUES ('c', '5'), ('C', '6'), ('d', '7')")
    pair.settle()
    found = aside(pair)
    assert all(code == "key_equal_by_collation" for *_, code in found)
    assert len({key for _, key, _ in found} & {"a", "A"}) == 1
    assert len({key for _, key, _ in found} & {"c", "C"}) == 1
    assert ("to_erp", "b", "key_equal_by_collation") in found
    assert len(found) == 3
    # B went to the side that tells them apart, where it stands beside b
    assert {row[0] for row in pair.crm.run("SELECT code FROM item")} == {"a", "A", "b", "B", "c", "C", "d"}


def test_spelled_alike_in_the_rule_they_are_one_row_and_nothing_is_said(made: Made) -> None:
    lower = rule("to_erp", "crm", "erp", "lower(trim(code)) AS code, name", "code", "item")
    pair = made(CRM, ERP.format("utf8mb4_general_ci"), lower)
    assert warned(pair) == []
    pair.crm.run("INSERT INTO item VALUES ('ABC ', 'one')")
    pair.settle()
    assert pair.erp.run("SELECT code, name FROM item") == [("abc", "one")]
    assert pair.quarantine() == []


REF = "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"


def test_a_uuid_written_in_capitals_into_text_goes_to_the_uuid_and_the_way_back_says_why_it_does_not(made: Made) -> None:
    there = rule("to_erp", "crm", "erp", "CAST(ref AS VARCHAR) AS ref, name", "ref", "party")
    back = rule("to_crm", "erp", "crm", "CAST(ref AS UUID) AS ref, name", "ref", "party")
    pair = made("CREATE TABLE party (ref uuid PRIMARY KEY, name text)", "CREATE TABLE party (ref char(36) PRIMARY KEY, name varchar(40))", there + back)
    assert warned(pair) == []  # a uuid has one spelling
    pair.settle()
    pair.erp.run("INSERT INTO party VALUES (%s, 'capital'), (%s, 'small')", REF, REF.lower().replace("6", "7"))
    pair.settle()
    assert {(str(ref), name) for ref, name in pair.crm.run("SELECT ref, name FROM party")} == {
        (REF.lower(), "capital"), (REF.lower().replace("6", "7"), "small"),
    }  # fmt: skip
    pair.crm.run("UPDATE party SET name = 'changed'")
    pair.settle()
    assert [(q["rule"], q["key"], q["code"]) for q in pair.quarantine()] == [("to_erp", {"ref": REF.lower()}, "key_equal_by_collation")]
    pair.erp.run("UPDATE party SET ref = lower(ref)")
    pair.settle()
    assert pair.quarantine() == []
    assert [side.run("SELECT count(*) FROM party WHERE name = 'changed'")[0][0] for side in (pair.crm, pair.erp)] == [2, 2]  # the name is no newer for the key
    pair.agree()


def test_a_text_type_that_ignores_case_on_postgres_is_known_from_the_catalogue(made: Made) -> None:
    pair = made("CREATE EXTENSION IF NOT EXISTS citext", f"CREATE TABLE item (code varchar(40) COLLATE {flavour.NO_PAD} PRIMARY KEY, name varchar(40))", TO_CRM)
    pair.crm.run("CREATE TABLE item (code citext PRIMARY KEY, name text)")
    assert "upper and lower case" in " ".join(warned(pair))
    pair.settle()
    pair.erp.run("INSERT INTO item VALUES ('k', '1')")
    pair.settle()
    pair.erp.run("INSERT INTO item VALUES ('K', '2')")
    pair.settle()
    assert aside(pair) == {("to_crm", "K", "key_equal_by_collation")}
