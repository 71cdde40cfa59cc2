"""`checks` of a rule: a row that breaks one is set aside before it is written, and goes on by itself."""
from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from engine.errors import ConfigError
from engine.runtime.check import check
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests import changed_keys
from tests.integration.test_scenarios import Made, made, rule, same, stands_still  # noqa: F401
from tests.linked import create
from tests.pair import Pair

STOCK = "CREATE TABLE stock (id int PRIMARY KEY, low int, high int, price decimal(10, 2), note text)"
COLUMNS = "id, low, high, price, note"
ALL = f"SELECT {COLUMNS} FROM stock"
CHECKS = """checks = ["price >= 0", "low <= high OR note = 'odd'"]"""


def adds_up(pair: Pair, name: str) -> bool:
    counted = pair.rule(name)
    return bool(counted["rows"] == sum(counted[c] for c in ("applied", "equal", "decided_against", "echo", "ignored", "waiting", "refused")))


def aside(pair: Pair) -> dict[str, str]:
    """Key -> reason of the rows set aside, all of which a check refused."""
    found = pair.quarantine()
    assert {record["code"] for record in found} <= {"check"}
    return {"/".join(record["key"].values()): record["reason"] for record in found}


def test_a_row_that_breaks_a_check_is_set_aside_and_comes_when_it_is_mended(made: Made) -> None:  # noqa: F811
    forth = rule("to_erp", "crm", "erp", COLUMNS, table="stock", more=CHECKS)
    pair = made(STOCK, forth + rule("to_crm", "erp", "crm", COLUMNS, table="stock"))
    pair.crm.run("INSERT INTO stock VALUES (1, 1, 2, -0.01, NULL), (2, 1, 2, NULL, NULL), (3, 5, 2, 1, 'odd')")
    pair.settle()
    pair.crm.run("INSERT INTO stock VALUES (4, 5, 2, 1, 'even'), (5, 1, 2, 3.5, 'good')")
    pair.crm.run("UPDATE stock SET price = -7 WHERE id = 2")
    pair.erp.run("INSERT INTO stock VALUES (6, 0, 0, -6, 'of erp, whose rule has no checks')")
    pair.settle()
    assert [row[0] for row in pair.erp.run("SELECT id FROM stock ORDER BY id")] == [2, 3, 5, 6]
    assert pair.erp.run("SELECT price FROM stock WHERE id = 2") == [(None,)]
    reasons = aside(pair)
    assert set(reasons) == {"1", "2", "4"}
    assert "price >= 0" in reasons["1"]
    assert "low <= high" in reasons["4"]
    assert "7" not in reasons["2"]
    assert adds_up(pair, "to_erp")
    report = pair.reconcile()
    assert report.verdict == "equal", report.to_json()  # every difference stands in quarantine

    pair.erp.run("UPDATE stock SET note = 'of erp' WHERE id = 2")  # another cell of a row that stands aside passes to the other side all the same
    pair.settle()
    assert pair.crm.run("SELECT note FROM stock WHERE id = 2") == [("of erp",)]
    assert set(aside(pair)) == {"1", "2", "4"}

    pair.crm.run("UPDATE stock SET price = 0 WHERE id = 1")
    pair.crm.run("UPDATE stock SET note = 'odd' WHERE id = 4")
    pair.erp.run("UPDATE stock SET price = 9 WHERE id = 2")  # mended from the other side: the later value
    pair.settle()
    assert pair.quarantine() == []
    same(pair, ALL)
    assert pair.crm.run("SELECT count(*) FROM stock WHERE price = 9") == [(1,)]
    pair.agree()
    assert adds_up(pair, "to_erp")
    stands_still(pair)


def test_a_deleted_row_leaves_the_quarantine_and_an_owner_mends_what_it_owns(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    forth = rule("to_erp", "crm", "erp", COLUMNS, table="stock", more=CHECKS + '\nowners = { price = "erp" }')
    rules = forth + rule("to_crm", "erp", "crm", COLUMNS, table="stock", more='owners = { price = "erp" }')
    pair = Pair(tmp_path, mariadb.database(), postgres15.database(), rules)
    for side in (pair.crm, pair.erp):
        side.run(STOCK)
    pair.crm.run("INSERT INTO stock VALUES (1, 1, 2, 1, 'a'), (2, 1, 2, 1, 'b'), (3, 1, 2, -1, 'c')")
    pair.settle()
    assert set(aside(pair)) == {"3"}
    pair.crm.run("DELETE FROM stock WHERE id = 3")
    pair.crm.run("UPDATE stock SET price = -1, note = 'with a price that is not ours' WHERE id = 1")
    pair.crm.run("UPDATE stock SET low = 9 WHERE id = 2")
    pair.crm.run("DELETE FROM stock WHERE id = 2")
    pair.settle()
    assert pair.quarantine() == []
    same(pair, ALL)
    assert [(row[0], int(row[1])) for row in pair.erp.run("SELECT id, price FROM stock")] == [(1, 1)]
    pair.agree()
    stands_still(pair)


def test_a_value_that_the_log_leaves_out_is_asked_for_and_changed_checks_ask_again(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    strict = """checks = ["low <= 5 OR length(note) < 100"]"""
    pair = Pair(tmp_path, postgres15.database(), mariadb.database(), rule("to_erp", "crm", "erp", COLUMNS, table="stock", more=strict))
    for side in (pair.crm, pair.erp):
        side.run(STOCK)
    long = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(200))
    pair.crm.run("INSERT INTO stock VALUES (1, 1, 2, 1, %s), (2, 1, 2, 1, 'short'), (3, 1, 2, 1, %s)", long, long)
    pair.settle()
    pair.crm.run("UPDATE stock SET low = 9")  # the unchanged note, which is stored apart, is not in the log
    pair.crm.run("UPDATE stock SET low = 4 WHERE id = 3")
    pair.settle()
    assert dict(pair.erp.run("SELECT id, low FROM stock")) == {1: 1, 2: 9, 3: 4}
    assert set(aside(pair)) == {"1"}
    assert adds_up(pair, "to_erp")
    pair.config.write_text(pair.config.read_text().replace(strict, """checks = ["low <= 50"]"""))
    pair.settle()
    assert pair.quarantine() == []
    assert pair.erp.run("SELECT low FROM stock WHERE id = 1")[0][0] == 9
    pair.agree()


def test_checks_that_cannot_be_are_told_by_check_and_keep_the_daemon_from_starting(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    wrong = """checks = ["prise >= 0", "price >= 0", "low <= random()", "price + 1"]"""
    pair = Pair(tmp_path, mariadb.database(), postgres15.database(), rule("to_erp", "crm", "erp", "id, low, price", table="stock", more=wrong))
    for side in (pair.crm, pair.erp):
        side.run(STOCK)
    found = {p.where: p for p in check(pair.settings) if p.severity == "error"}
    assert set(found) == {f"rule to_erp, checks[{n}]" for n in (1, 3, 4)}
    assert "did you mean price" in found["rule to_erp, checks[1]"].fix
    with pytest.raises(ConfigError, match="random"):
        pair.settle()


INVOICES = """[[rules]]
name = "invoices"
select = '''SELECT i.id AS id, sum(l.amount) AS total, i.cap AS cap FROM crm.invoice AS i LEFT JOIN crm.line AS l ON l.invoice = i.id GROUP BY i.id, i.cap'''
into = "erp.invoice"
key = ["id"]
checks = ["coalesce(total, 0) <= cap"]
"""


@pytest.mark.parametrize("of", ["postgres", "mariadb"])
def test_a_rule_over_several_tables_is_checked_and_goes_on_when_a_joined_row_is_mended(
    of: str, postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path
) -> None:
    crm, erp = (postgres15.database(), mariadb.database()) if of == "postgres" else (mariadb.database(), postgres15.database())
    pair = Pair(tmp_path, crm, erp, INVOICES)
    pair.crm.run("CREATE TABLE invoice (id int PRIMARY KEY, cap decimal(10, 2))")
    pair.crm.run("CREATE TABLE line (invoice int, n int, amount decimal(10, 2), PRIMARY KEY (invoice, n))")
    pair.erp.run("CREATE TABLE invoice (id int PRIMARY KEY, total decimal(14, 2), cap decimal(10, 2))")
    pair.crm.run("INSERT INTO invoice VALUES (1, 10), (2, 10), (3, 10)")
    pair.crm.run("INSERT INTO line VALUES (1, 1, 4), (2, 1, 11)")
    pair.settle()
    assert set(aside(pair)) == {"2"}
    pair.crm.run("INSERT INTO line VALUES (1, 2, 7)")
    pair.crm.run("UPDATE line SET amount = 9 WHERE invoice = 2")
    pair.settle()
    assert set(aside(pair)) == {"1"}
    assert {row[0]: row[1] and int(row[1]) for row in pair.erp.run("SELECT id, total FROM invoice")} == {1: 4, 2: 9, 3: None}
    assert pair.reconcile().verdict == "equal"
    pair.crm.run("DELETE FROM line WHERE invoice = 1 AND n = 1")
    pair.settle()
    assert pair.quarantine() == []
    assert {row[0]: row[1] and int(row[1]) for row in pair.erp.run("SELECT id, total FROM invoice")} == {1: 7, 2: 9, 3: None}
    pair.agree()


def test_with_a_link_nothing_is_made_for_a_row_set_aside_and_its_children_wait(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    pair = create(tmp_path, postgres15.database(), mariadb.database())
    pair.config.write_text(pair.config.read_text().replace('link = "customer"\n', 'link = "customer"\nchecks = ["length(title) > 2"]\n', 1))
    pair.settle()
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Al', 'A1'), ('Bob', 'B2')")
    pair.crm.run("INSERT INTO deals (account_id, total) SELECT id, 10 FROM accounts")
    pair.settle()
    assert len(pair.erp.run("SELECT title FROM customers")) == 1
    assert {record["rule"]: record["code"] for record in pair.quarantine()} == {"customers": "check", "orders": "foreign_key"}
    pair.crm.run("UPDATE accounts SET name = 'Alan' WHERE name = 'Al'")
    pair.settle()
    assert pair.quarantine() == []
    crm = pair.crm.run("SELECT a.name, a.tax_id, d.total FROM accounts a LEFT JOIN deals d ON d.account_id = a.id ORDER BY 1")
    assert [tuple(row) for row in pair.erp.run("SELECT c.title, c.vat, o.amount FROM customers c LEFT JOIN orders o ON o.customer_no = c.no ORDER BY 1")] == crm
    assert len(crm) == 2
    pair.agree()


def test_a_row_set_aside_with_its_key_changed_stays_where_it_is_until_it_is_mended(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    pair = changed_keys.create(tmp_path, mariadb.database(), postgres15.database(), changed_keys.FOREIGN, changed_keys.FOREIGN)
    pair.config.write_text(pair.config.read_text().replace('key = ["code"]\n', 'key = ["code"]\nchecks = ["length(title) > 2"]\n', 1))
    changed_keys.fill(pair, "a", "b", "d")
    pair.erp.run("INSERT INTO client (code, title) VALUES ('e', 'by the ERP')")
    pair.crm.run("SELECT sleep(1.1)")  # MariaDB logs whole seconds: what it changes now is later
    pair.crm.run("UPDATE party SET ref = 'c', name = '?' WHERE ref = 'a'")
    pair.crm.transaction("DELETE FROM orders WHERE ref = 'd'", "UPDATE party SET name = '!' WHERE ref = 'd'")
    pair.crm.run("UPDATE party SET ref = 'e' WHERE ref = 'd'")  # where another row stands
    pair.settle()
    found = {(record["rule"], *record["key"].values(), record["code"]) for record in pair.quarantine()}
    assert found == {("there", "c", "check"), ("there", "e", "check"), ("orders_there", "1", "foreign_key")}
    assert changed_keys.remarks(pair) == [("a", "of a"), ("b", "of b"), ("d", "of d"), ("e", None)]
    assert adds_up(pair, "there")
    pair.crm.run("UPDATE party SET name = 'good' WHERE ref = 'c'")
    pair.crm.run("UPDATE party SET name = 'both' WHERE ref = 'e'")
    pair.settle()
    assert pair.quarantine() == []
    assert changed_keys.same(pair) == ([("b", "was b"), ("c", "good"), ("e", "both")], [(1, "c"), (2, "b")])
    assert changed_keys.remarks(pair)[:2] == [("b", "of b"), ("c", "of a")]
    assert adds_up(pair, "there")
