"""Reconcile on real servers: every planted difference is found, named exactly, and nothing else is."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from adapters.mysql.reader import MySqlReader
from engine.errors import ConfigError, SynclineError
from engine.reconcile import Report, reconcile
from engine.reconcile.compare import compare
from engine.reconcile.judge import Subject
from engine.runtime.assembly import Assembly, assemble
from engine.settings import Settings, load
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests import flavour

CRM_TYPES = """
CREATE TABLE things (
    id int unsigned PRIMARY KEY, name varchar(80), notes text, amount decimal(14, 4), ratio double, small float, flag tinyint(1), born date,
    at_time time(6), seen datetime(6), changed timestamp(6) NULL, ref char(36), code char(6), doc json, raw varbinary(40), kind enum('a', 'b'),
    big bigint unsigned
) CHARACTER SET utf8mb4"""

ERP_TYPES = """
CREATE TABLE items (
    item_id bigint PRIMARY KEY, name text, notes text, amount numeric(14, 4), ratio double precision, small real, flag boolean, born date,
    at_time time, seen timestamp, changed timestamptz, ref uuid, code char(6), doc jsonb, raw bytea, kind text, big numeric(20)
)"""

TYPES_RULE = """SELECT t.id AS item_id, t.name AS name, t.notes AS notes, t.amount AS amount, t.ratio AS ratio, t.small AS small, t.flag AS flag,
t.born AS born, t.at_time AS at_time, t.seen AS seen, t.changed AS changed, t.ref AS ref, t.code AS code, t.doc AS doc, t.raw AS raw, t.kind AS kind,
t.big AS big FROM crm.things AS t"""

# column of items -> SQL that changes its value a little
CHANGES = {
    "name": "left(name, -1) || 'x'",
    "notes": "notes || ' '",
    "amount": "amount + 0.0001",
    "ratio": "ratio + 1e-9",
    "small": "small + 0.25",
    "flag": "NOT flag",
    "born": "born + 1",
    "at_time": "at_time + interval '1 microsecond'",
    "seen": "seen - interval '1 microsecond'",
    "changed": "changed + interval '1 microsecond'",
    "ref": "'6ba7b810-9dad-11d1-80b4-00c04fd430c9'",
    "code": "'AB13'",
    "doc": """'{"b": [1, 2.50, null], "a": "ü "}'""",
    "raw": r"set_byte(raw, 1, 254)",
    "kind": "upper(kind)",
    "big": "big - 1",
}


class Pair:
    """A MariaDB database `crm` and a PostgreSQL database `erp`, and a configuration over both."""

    def __init__(self, mariadb: MariaDBServer, postgres: PostgresServer, folder: Path) -> None:
        self._servers = {"crm": mariadb, "erp": postgres}
        self._urls = {"crm": mariadb.database(), "erp": postgres.database()}
        self._folder = folder

    def sql(self, system: str, *statements: str) -> None:
        for text in statements:
            self._servers[system].execute(text, database=urlsplit(self._urls[system]).path[1:])

    def settings(self, *rules: dict[str, Any]) -> Settings:
        """Each rule as its table in the file."""
        lines = ["[syncline]", 'state = "./state"']
        for name, adapter in (("crm", "mysql"), ("erp", "postgres")):
            lines += [f"[systems.{name}]", f'adapter = "{adapter}"', f'url = "{self._urls[name]}"']
        for rule in rules:
            lines += ["[[rules]]", *[f"{key} = {_toml(value)}" for key, value in rule.items()]]
        path = self._folder / "syncline.toml"
        path.write_text("\n".join(lines))
        return load(path)

    def reconcile(self, *rules: dict[str, Any], only: Sequence[str] = ()) -> Report:
        return reconcile(self.settings(*rules), only)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


@pytest.fixture
def pair(mariadb: MariaDBServer, postgres15: PostgresServer, tmp_path: Path) -> Pair:
    return Pair(mariadb, postgres15, tmp_path)


def found(report: Report) -> set[tuple[str, str, str, tuple[str, ...]]]:
    """(rule, key, class, columns) of each listed row."""
    return {(row.rule, ",".join(row.key.values()), row.class_, row.columns) for row in report.rows}


def counts(report: Report, rule: str) -> dict[str, int]:
    return report.rules[rule].differences


def adds_up(report: Report, rule: str, *, source: int, target: int) -> bool:
    finding = report.rules[rule]
    return (finding.source_rows, finding.target_rows, finding.rows) == (source, target, finding.equal + sum(finding.differences.values()))


TYPES = {"name": "things", "select": TYPES_RULE, "into": "erp.public.items", "key": ["item_id"]}


def fill_types(pair: Pair, rows: int) -> None:
    pair.sql("crm", CRM_TYPES, f"""INSERT INTO things SELECT seq, CONCAT('Łódź €😀 ', seq), 'line one\\nline "two", \\\\ three', seq * 1.25,
        CAST(seq AS DOUBLE) / 3, seq / 4, seq % 2, DATE'2000-02-29' + INTERVAL seq DAY, '12:34:56.000789', '2024-03-31 02:30:00.123456',
        FROM_UNIXTIME(1700000000.5 + seq), '6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'AB12', '{{"a": "ü", "b": [1, 2.5, null]}}', x'00ff4142', 'a',
        18446744073709551615 FROM {flavour.sequence(1, rows)}""", "INSERT INTO things (id) VALUES (4294967295)")
    pair.sql("erp", ERP_TYPES, rf"""INSERT INTO items SELECT i, 'Łódź €😀 ' || i, E'line one\nline "two", \\ three', i * 1.25, i::float8 / 3,
        i::float4 / 4, i % 2 = 1, date '2000-02-29' + i, '12:34:56.000789', '2024-03-31 02:30:00.123456',
        to_timestamp(1700000000.5 + i), '6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'AB12', '{{"b": [1, 2.5, null], "a": "ü"}}', '\x00ff4142', 'a',
        18446744073709551615 FROM generate_series(1, {rows}) AS i""", "INSERT INTO items (item_id) VALUES (4294967295)")


def test_equal_values_in_different_types_are_equal(pair: Pair) -> None:
    fill_types(pair, 50)
    report = pair.reconcile(TYPES)
    assert (report.verdict, counts(report, "things"), report.rows) == ("equal", {}, ())
    assert adds_up(report, "things", source=51, target=51)


def test_a_small_change_of_one_cell_of_every_type_is_found_and_named(pair: Pair) -> None:
    fill_types(pair, 30)
    for number, (column, change) in enumerate(CHANGES.items(), start=1):
        pair.sql("erp", f"UPDATE items SET {column} = {change} WHERE item_id = {number}")
    pair.sql("erp", "UPDATE items SET name = NULL, notes = '' WHERE item_id = 25", "UPDATE items SET notes = '' WHERE item_id = 4294967295")
    report = pair.reconcile(TYPES)
    expected: set[tuple[str, str, str, tuple[str, ...]]]
    expected = {("things", str(n), "value_drift", (column,)) for n, column in enumerate(CHANGES, start=1)}
    expected |= {("things", "25", "value_drift", ("name", "notes")), ("things", "4294967295", "value_drift", ("notes",))}
    assert found(report) == expected
    assert counts(report, "things") == {"value_drift": len(CHANGES) + 2}
    assert report.exit_code == 1


ACCOUNTS = """CREATE TABLE accounts (id int PRIMARY KEY, name varchar(60), state varchar(30), credit decimal(12, 2), status varchar(10))"""
CUSTOMERS = """CREATE TABLE customers (cid serial PRIMARY KEY, ref int, name varchar(20), code char(2), credit numeric(12, 2))"""
TO_ERP = """SELECT a.id AS ref, trim(a.name) AS name, upper(left(a.state, 2)) AS code, a.credit AS credit FROM crm.accounts AS a"""
TO_CRM = """SELECT c.ref AS id, c.name AS name, CASE c.code WHEN 'CA' THEN 'California' ELSE c.code END AS state, c.credit AS credit
FROM erp.customers AS c"""
FORTH = {"name": "forth", "select": TO_ERP, "into": "erp.public.customers", "key": ["ref"]}
BACK = {"name": "back", "select": TO_CRM, "into": "crm.accounts", "key": ["id"]}


def fill_accounts(pair: Pair, rows: int) -> None:
    """The same `rows` accounts on both sides, ids from 1."""
    pair.sql("crm", ACCOUNTS)
    pair.sql("erp", CUSTOMERS)
    if rows:
        pair.sql("crm", f"INSERT INTO accounts SELECT seq, CONCAT('Name ', seq), 'TX', seq, 'open' FROM {flavour.sequence(1, rows)}")
        pair.sql("erp", f"INSERT INTO customers (ref, name, code, credit) SELECT i, 'Name ' || i, 'TX', i FROM generate_series(1, {rows}) AS i")


def test_planted_differences_of_each_class_are_found_exactly(pair: Pair) -> None:
    fill_accounts(pair, 40)
    pair.sql(
        "erp",
        "UPDATE customers SET credit = 0 WHERE ref IN (1, 2, 3)",
        "UPDATE customers SET name = 'other', credit = -1 WHERE ref = 4",
        "DELETE FROM customers WHERE ref IN (5, 6)",
        "INSERT INTO customers (ref, name) VALUES (101, 'stranger'), (102, 'stranger'), (103, 'stranger')",
        "INSERT INTO customers (ref, name, code, credit) VALUES (7, 'Name 7', 'TX', 7), (8, 'x', 'TX', 8)",
    )
    pair.sql(
        "crm",
        "UPDATE accounts SET status = 'closed', credit = 5 WHERE id IN (9, 10)",
        "UPDATE accounts SET name = 'a name of more than twenty characters' WHERE id IN (11, 12)",
    )
    pair.sql("erp", "DELETE FROM customers WHERE ref IN (10, 12)")
    report = pair.reconcile({**FORTH, "select": TO_ERP + " WHERE a.status = 'open'"})
    assert found(report) == {
        *[("forth", str(n), "value_drift", ("credit",)) for n in (1, 2, 3)],
        ("forth", "4", "value_drift", ("name", "credit")),
        *[("forth", str(n), "missing", ()) for n in (5, 6)],
        *[("forth", str(n), "extra", ()) for n in (101, 102, 103)],
        *[("forth", str(n), "duplicate", ()) for n in (7, 8)],
        *[("forth", str(n), "filtered", ()) for n in (9, 10)],
        *[("forth", str(n), "unrepresentable", ("name",)) for n in (11, 12)],
    }
    assert counts(report, "forth") == {"value_drift": 4, "missing": 2, "extra": 3, "duplicate": 2, "filtered": 2, "unrepresentable": 2}
    assert adds_up(report, "forth", source=40, target=41)
    assert report.verdict == "different"


def test_filtered_and_unrepresentable_rows_alone_leave_both_sides_equal(pair: Pair) -> None:
    fill_accounts(pair, 5)
    pair.sql("crm", "UPDATE accounts SET status = 'closed' WHERE id = 1", "UPDATE accounts SET name = REPEAT('x', 21) WHERE id = 2")
    report = pair.reconcile({**FORTH, "select": TO_ERP + " WHERE a.status = 'open'"})
    assert (report.verdict, counts(report, "forth")) == ("equal", {"filtered": 1, "unrepresentable": 1})


def test_a_link_counts_a_row_that_stands_on_one_side_once(pair: Pair) -> None:
    fill_accounts(pair, 10)
    pair.sql("crm", "DELETE FROM accounts WHERE id = 1", "INSERT INTO accounts VALUES (50, 'new', 'NY', 1, 'open')")
    report = pair.reconcile(FORTH, BACK)
    assert found(report) == {("forth", "50", "missing", ()), ("back", "1", "missing", ())}
    assert (report.rules["forth"].elsewhere, report.rules["back"].elsewhere) == (1, 1)
    assert adds_up(report, "back", source=10, target=10)


def test_what_a_map_loses_is_no_difference_where_the_other_direction_agrees(pair: Pair) -> None:
    fill_accounts(pair, 3)
    pair.sql("crm", "UPDATE accounts SET state = 'California' WHERE id = 1", "UPDATE accounts SET state = 'ca' WHERE id = 2")
    pair.sql("erp", "UPDATE customers SET code = 'CA' WHERE ref IN (1, 2)")
    assert pair.reconcile(FORTH, BACK).verdict == "equal"
    pair.sql("crm", "UPDATE accounts SET state = 'Oregon' WHERE id = 1")
    assert found(pair.reconcile(FORTH, BACK)) == {("forth", "1", "value_drift", ("code",)), ("back", "1", "value_drift", ("state",))}


def test_an_owned_column_is_judged_by_its_owners_direction_only(pair: Pair) -> None:
    fill_accounts(pair, 6)
    pair.sql("crm", "UPDATE accounts SET credit = 99 WHERE id = 2")
    forth = {**FORTH, "owners": {"credit": "erp"}}
    report = pair.reconcile(forth, {**BACK, "owners": {"credit": "erp"}})
    assert found(report) == {("back", "2", "value_drift", ("credit",))}
    assert pair.reconcile(forth).verdict == "equal"


def test_a_row_outside_one_directions_where_may_differ(pair: Pair) -> None:
    fill_accounts(pair, 4)
    pair.sql("crm", "UPDATE accounts SET status = 'closed', name = 'changed here' WHERE id = 1")
    pair.sql("erp", "INSERT INTO customers (ref, name) VALUES (NULL, 'of the ERP only')")
    report = pair.reconcile({**FORTH, "select": TO_ERP + " WHERE a.status = 'open'"}, {**BACK, "select": TO_CRM + " WHERE c.ref IS NOT NULL"})
    assert report.verdict == "equal"
    assert {row[2] for row in found(report)} == {"filtered"}


def test_differences_under_a_computed_key_are_looked_at_again(pair: Pair) -> None:
    fill_accounts(pair, 4)
    pair.sql("crm", "UPDATE accounts SET credit = 99 WHERE id = 2")
    computed = {**FORTH, "select": TO_ERP.replace("a.id AS ref", "a.id + 0 AS ref")}
    assert found(pair.reconcile(computed)) == {("forth", "2", "value_drift", ("credit",))}


def test_a_value_that_the_other_side_cannot_hold_is_no_drift_of_the_way_back(pair: Pair) -> None:
    fill_accounts(pair, 4)
    pair.sql("crm", "UPDATE accounts SET name = REPEAT('x', 21) WHERE id = 1")
    report = pair.reconcile(FORTH, BACK)
    assert found(report) == {("forth", "1", "unrepresentable", ("name",)), ("back", "1", "unrepresentable", ("name",))}
    assert report.verdict == "equal"


def test_one_rule_of_a_link_is_reported_alone_and_judged_as_a_link(pair: Pair) -> None:
    fill_accounts(pair, 4)
    pair.sql("crm", "UPDATE accounts SET state = 'California' WHERE id = 1", "DELETE FROM accounts WHERE id = 2")
    pair.sql("erp", "UPDATE customers SET code = 'CA' WHERE ref = 1")
    report = pair.reconcile(FORTH, BACK, only=["back"])
    assert list(report.rules) == ["back"]
    assert found(report) == {("back", "2", "missing", ())}
    assert pair.reconcile(FORTH, BACK, only=["forth"]).verdict == "equal"


def test_an_unknown_rule_name_is_a_usage_error(pair: Pair) -> None:
    fill_accounts(pair, 0)
    with pytest.raises(ConfigError, match="no rule sideways"):
        pair.reconcile(FORTH, only=["sideways"])


@pytest.mark.parametrize(("crm", "erp", "expected"), [(0, 0, {}), (3, 0, {"missing": 3}), (0, 3, {"extra": 3})])
def test_empty_sides(pair: Pair, crm: int, erp: int, expected: dict[str, int]) -> None:
    fill_accounts(pair, 3)
    if not crm:
        pair.sql("crm", "DELETE FROM accounts")
    if not erp:
        pair.sql("erp", "DELETE FROM customers")
    report = pair.reconcile(FORTH)
    assert counts(report, "forth") == expected
    assert adds_up(report, "forth", source=crm, target=erp)


def test_on_delete_ignore_keeps_rows_without_a_source(pair: Pair) -> None:
    fill_accounts(pair, 3)
    pair.sql("crm", "DELETE FROM accounts WHERE id = 3")
    report = pair.reconcile({**FORTH, "on_delete": "ignore"})
    assert (report.verdict, counts(report, "forth")) == ("equal", {"kept": 1})


def test_two_rules_into_one_table_share_its_rows(pair: Pair) -> None:
    fill_accounts(pair, 4)
    pair.sql("crm", "CREATE TABLE partners LIKE accounts", "INSERT INTO partners SELECT id + 100, name, state, credit, status FROM accounts")
    pair.sql("erp", "INSERT INTO customers (ref, name, code, credit) SELECT ref + 100, name, code, credit FROM customers",
             "INSERT INTO customers (ref) VALUES (999)")
    forth = {**FORTH, "select": "SELECT a.id AS ref, a.name AS name FROM crm.accounts AS a"}
    partners = {**FORTH, "name": "partners", "select": "SELECT p.id AS ref, p.credit AS credit FROM crm.partners AS p"}
    report = pair.reconcile(forth, partners)
    assert found(report) == {("forth", "999", "extra", ())}
    assert (report.rules["forth"].equal, report.rules["partners"].equal) == (4, 4)


def test_keys_of_several_columns(pair: Pair) -> None:
    pair.sql("crm", "CREATE TABLE prices (sku varchar(20), region int, price decimal(8, 2), PRIMARY KEY (sku, region))",
             "INSERT INTO prices VALUES ('a', 11, 1), ('a1', 1, 2), ('b', 1, 3)")
    pair.sql("erp", "CREATE TABLE price (item text, area int, amount numeric(8, 2), PRIMARY KEY (item, area))",
             "INSERT INTO price VALUES ('a', 11, 1), ('a1', 1, 2), ('b', 2, 3)")
    rule = {"name": "prices", "select": "SELECT p.sku AS item, p.region AS area, p.price AS amount FROM crm.prices AS p",
            "into": "erp.public.price", "key": ["item", "area"]}
    report = pair.reconcile(rule)
    assert [(row.class_, dict(row.key)) for row in report.rows] == [
        ("missing", {"item": "b", "area": "1"}), ("extra", {"item": "b", "area": "2"})]


# what needs more than a whole run: chunks, a second look, a side that goes away


@pytest.fixture
def assembled(pair: Pair) -> Iterator[Callable[..., Assembly]]:
    made: list[Assembly] = []

    def make(*rules: dict[str, Any]) -> Assembly:
        made.append(assemble(pair.settings(*rules)))
        made[-1].insist()
        return made[-1]

    yield make
    for assembly in made:
        assembly.close()


def subjects(assembly: Assembly) -> tuple[Subject, ...]:
    return tuple(Subject(rule=rule) for rule in assembly.rules)


def test_rows_of_one_key_are_counted_once_whatever_the_chunk(pair: Pair, assembled: Callable[..., Assembly]) -> None:
    fill_accounts(pair, 9)
    pair.sql("erp", "ALTER TABLE customers DROP CONSTRAINT customers_pkey", "INSERT INTO customers (ref, name, code, credit) "
             "SELECT ref, name, code, credit FROM customers WHERE ref IN (2, 3)", "INSERT INTO customers (ref, name) VALUES (2, 'third')")
    assembly = assembled(FORTH)
    for chunk_rows in (1, 2, 3, 1000):
        report = compare(subjects(assembly), assembly.readers, assembly.lookups, chunk_rows=chunk_rows)
        assert found(report) == {("forth", "2", "duplicate", ()), ("forth", "3", "duplicate", ())}
        assert adds_up(report, "forth", source=9, target=12)


def test_a_row_on_its_way_is_not_reported_while_the_daemon_runs(pair: Pair, assembled: Callable[..., Assembly]) -> None:
    fill_accounts(pair, 5)
    pair.sql("erp", "DELETE FROM customers WHERE ref IN (1, 2)", "UPDATE customers SET credit = 0 WHERE ref = 3")
    assembly = assembled(FORTH)

    def arrives() -> bool:
        pair.sql("erp", "INSERT INTO customers (ref, name, code, credit) SELECT 1, 'Name 1', 'TX', 1 WHERE NOT EXISTS "
                 "(SELECT FROM customers WHERE ref = 1)", "UPDATE customers SET credit = 3 WHERE ref = 3")
        return True

    report = compare(subjects(assembly), assembly.readers, assembly.lookups, running=arrives, pauses=(0.0, 0.1))
    assert found(report) == {("forth", "2", "missing", ())}
    assert report.resolved == 2
    assert adds_up(report, "forth", source=5, target=4)


def test_a_second_look_at_large_rows_takes_lots_of_bounded_size(
    pair: Pair, assembled: Callable[..., Assembly], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.reconcile.confirm.FETCH_BYTES", 300)
    fill_accounts(pair, 60)
    pair.sql("erp", "UPDATE customers SET credit = credit + 1 WHERE ref % 2 = 0", "DELETE FROM customers WHERE ref % 3 = 0")
    assembly = assembled(FORTH)
    read = []
    fetch = MySqlReader.fetch

    def watched(*words: Any) -> Any:
        rows = fetch(*words)
        read.append(rows)
        return rows

    monkeypatch.setattr(MySqlReader, "fetch", watched)
    report = compare(subjects(assembly), assembly.readers, assembly.lookups)
    assert counts(report, "forth") == {"value_drift": 20, "missing": 20} and adds_up(report, "forth", source=60, target=40)
    assert sum(rows.num_rows for rows in read) >= 40 and all(rows.nbytes <= 300 or rows.num_rows == 1 for rows in read)


def test_quarantined_and_held_keys_are_listed_and_make_no_difference(pair: Pair, assembled: Callable[..., Assembly]) -> None:
    fill_accounts(pair, 5)
    pair.sql("erp", "DELETE FROM customers WHERE ref = 1", "UPDATE customers SET credit = 0 WHERE ref = 2")
    assembly = assembled(FORTH)
    waiting = {"forth": [{"id": "1"}, {"id": "4"}]}, {"forth": [{"id": "2"}]}
    report = compare(subjects(assembly), assembly.readers, assembly.lookups, waiting=lambda: waiting)
    assert found(report) == {("forth", "1", "quarantined", ()), ("forth", "2", "conflict_pending", ("credit",))}
    assert (report.verdict, report.rules["forth"].equal) == ("equal", 3)


def test_a_table_that_cannot_be_read_leaves_the_report_incomplete(pair: Pair, assembled: Callable[..., Assembly]) -> None:
    fill_accounts(pair, 2)
    pair.sql("crm", "CREATE TABLE partners LIKE accounts")
    pair.sql("erp", "CREATE TABLE partner (ref int PRIMARY KEY, name text)")
    partners = {"name": "partners", "select": "SELECT p.id AS ref, p.name AS name FROM crm.partners AS p", "into": "erp.public.partner",
                "key": ["ref"]}
    assembly = assembled(FORTH, partners)
    pair.sql("erp", "DROP TABLE partner", "UPDATE customers SET credit = 0 WHERE ref = 1")
    report = compare(subjects(assembly), assembly.readers, assembly.lookups)
    assert (report.verdict, report.exit_code, list(report.rules)) == ("incomplete", 3, ["forth"])
    assert found(report) == {("forth", "1", "value_drift", ("credit",))}
    assert "partner" in report.problems[0]
    pair.sql("erp", "DROP TABLE customers")
    with pytest.raises(SynclineError, match=r"customers|partner"):
        compare(subjects(assembly), assembly.readers, assembly.lookups)


def test_a_held_cell_is_no_difference_of_the_opposite_rule_either(pair: Pair, assembled: Callable[..., Assembly]) -> None:
    fill_accounts(pair, 3)
    pair.sql("crm", "UPDATE accounts SET name = 'changed', credit = -1 WHERE id = 1", "UPDATE accounts SET name = 'changed' WHERE id = 2")
    assembly = assembled(FORTH, {**BACK, "owners": {"credit": "erp"}})
    links = tuple(Subject(rule=rule, owners={"credit": "erp"}) for rule in assembly.rules)
    report = compare(links, assembly.readers, assembly.lookups, waiting=lambda: ({}, {"forth": [{"id": "1"}, {"id": "2"}]}))
    assert found(report) == {
        ("forth", "1", "conflict_pending", ("name",)), ("forth", "2", "conflict_pending", ("name",)),
        ("back", "1", "value_drift", ("name", "credit")), ("back", "2", "conflict_pending", ("name",)),
    }


def test_keys_that_follow_from_other_columns_are_found_in_quarantine(pair: Pair, assembled: Callable[..., Assembly]) -> None:
    pair.sql("crm", "CREATE TABLE goods (id int PRIMARY KEY, sku varchar(20) NOT NULL, name varchar(20))",
             "INSERT INTO goods VALUES (1, 'a', 'x'), (2, 'b', 'y')")
    pair.sql("erp", "CREATE TABLE items (code text PRIMARY KEY, name text)", "INSERT INTO items VALUES ('A', 'x')")
    assembly = assembled({"name": "goods", "select": "SELECT upper(g.sku) AS code, g.name AS name FROM crm.goods AS g",
                          "into": "erp.public.items", "key": ["code"]})
    report = compare(subjects(assembly), assembly.readers, assembly.lookups, waiting=lambda: ({"goods": [{"id": "2"}]}, {}))
    assert found(report) == {("goods", "B", "quarantined", ())}
