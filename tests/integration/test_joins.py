"""Rules over several tables: one record in one system, several tables in the other; every change in any of them arrives, and only where it belongs."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.pair import Pair, Side

PARTY = """
[[rules]]
name = "party"
select = "SELECT c.id AS party_id, trim(c.name) AS name, c.country AS country_code FROM crm.customers AS c"
into = "erp.party"
key = ["party_id"]
[[rules]]
name = "address"
select = "SELECT c.id AS party_id, 'billing' AS kind, c.street AS street, c.city AS city FROM crm.customers AS c WHERE c.street IS NOT NULL"
into = "erp.address"
key = ["party_id", "kind"]
on_delete = "delete"
on_exit = "delete"
[[rules]]
name = "phone"
select = "SELECT c.id AS party_id, 'phone' AS means, c.phone AS value FROM crm.customers AS c WHERE c.phone IS NOT NULL"
into = "erp.contact_mechanism"
key = ["party_id", "means"]
on_delete = "delete"
on_exit = "delete"
[[rules]]
name = "customers"
select = '''
SELECT p.party_id AS id, p.name AS name, p.country_code AS country, a.street AS street, a.city AS city,
       max(CASE WHEN m.means = 'phone' THEN m.value END) AS phone
FROM erp.party AS p
LEFT JOIN erp.address AS a ON a.party_id = p.party_id AND a.kind = 'billing'
LEFT JOIN erp.contact_mechanism AS m ON m.party_id = p.party_id
GROUP BY p.party_id, p.name, p.country_code, a.street, a.city
'''
into = "crm.customers"
key = ["id"]
"""


def party_tables(crm: Side, erp: Side) -> None:
    crm.run("CREATE TABLE customers (id int PRIMARY KEY, name varchar(80) NOT NULL, country char(2), street varchar(80), city varchar(60), phone varchar(30))")
    erp.run("CREATE TABLE party (party_id int PRIMARY KEY, name varchar(80) NOT NULL, country_code char(2))")
    erp.run(
        "CREATE TABLE address (party_id int NOT NULL REFERENCES party (party_id), kind varchar(20) NOT NULL, street varchar(80), city varchar(60),"
        " PRIMARY KEY (party_id, kind))"
    )
    erp.run(
        "CREATE TABLE contact_mechanism (party_id int NOT NULL REFERENCES party (party_id), means varchar(20) NOT NULL, value varchar(30),"
        " PRIMARY KEY (party_id, means))"
    )


@pytest.fixture(params=["mariadb to postgres", "postgres to mariadb"])
def party(request: pytest.FixtureRequest, postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Pair]:
    urls = [mariadb.database(), postgres15.database()]
    crm, erp = urls if request.param == "mariadb to postgres" else reversed(urls)
    pair = Pair(tmp_path, crm, erp, PARTY)
    party_tables(pair.crm, pair.erp)
    yield pair
    pair.close()


def crm_rows(pair: Pair) -> list[tuple[object, ...]]:
    return sorted(pair.crm.run("SELECT id, name, country, street, city, phone FROM customers"))


def erp_rows(pair: Pair) -> list[tuple[object, ...]]:
    """The same by plain SQL over the three tables."""
    return sorted(
        pair.erp.run(
            "SELECT p.party_id, p.name, p.country_code, a.street, a.city, m.value FROM party p"
            " LEFT JOIN address a ON a.party_id = p.party_id AND a.kind = 'billing'"
            " LEFT JOIN contact_mechanism m ON m.party_id = p.party_id AND m.means = 'phone'"
        )
    )


def test_one_row_here_and_three_there_agree_both_ways(party: Pair) -> None:
    pair = party
    pair.crm.run("INSERT INTO customers VALUES (1, 'Žofie Nováková', 'CZ', 'Dlouhá 5', 'Praha', NULL), (2, 'Þór ehf.', 'IS', NULL, NULL, '+354 5')")
    pair.erp.run("INSERT INTO party VALUES (3, 'Ångström AB', 'SE')")
    pair.erp.run("INSERT INTO address VALUES (3, 'billing', 'Storgatan 1', 'Umeå'), (3, 'shipping', 'Hamnen', 'Luleå')")
    pair.settle()
    assert crm_rows(pair) == erp_rows(pair)
    assert [row[0] for row in crm_rows(pair)] == [1, 2, 3]

    # from the one row into the tables, absent ones created, emptied ones removed
    pair.crm.run("UPDATE customers SET phone = '+420 777', city = 'Brno' WHERE id = 1")
    pair.crm.run("UPDATE customers SET phone = NULL WHERE id = 2")
    # and back, from each of the tables
    pair.erp.run("UPDATE address SET street = 'Storgatan 2' WHERE party_id = 3 AND kind = 'billing'")
    pair.erp.run("UPDATE address SET street = 'Kajen' WHERE party_id = 3 AND kind = 'shipping'")
    pair.erp.run("INSERT INTO contact_mechanism VALUES (3, 'phone', '+46 90'), (3, 'email', 'info@angstrom.example')")
    pair.settle()
    assert crm_rows(pair) == erp_rows(pair)
    assert crm_rows(pair) == [
        (1, "Žofie Nováková", "CZ", "Dlouhá 5", "Brno", "+420 777"),
        (2, "Þór ehf.", "IS", None, None, None),
        (3, "Ångström AB", "SE", "Storgatan 2", "Umeå", "+46 90"),
    ]
    pair.erp.run("DELETE FROM contact_mechanism WHERE party_id = 3 AND means = 'phone'")
    pair.erp.run("UPDATE party SET name = 'Ångström & Co AB' WHERE party_id = 3")
    pair.settle()
    assert crm_rows(pair)[2] == (3, "Ångström & Co AB", "SE", "Storgatan 2", "Umeå", None)
    assert crm_rows(pair) == erp_rows(pair)
    assert pair.quarantine() == []


def test_the_last_state_of_a_record_deleted_on_either_side_is_gone_on_both(party: Pair) -> None:
    pair = party
    pair.crm.run("INSERT INTO customers VALUES (1, 'A', 'DE', 'Weg 1', 'Köln', '1'), (2, 'B', 'DE', 'Weg 2', 'Köln', '2')")
    pair.settle()
    pair.crm.run("DELETE FROM customers WHERE id = 1")
    pair.erp.transaction("DELETE FROM contact_mechanism WHERE party_id = 2", "DELETE FROM address WHERE party_id = 2", "DELETE FROM party WHERE party_id = 2")
    pair.settle()
    assert crm_rows(pair) == [] == erp_rows(pair)
    assert pair.erp.run("SELECT count(*) FROM contact_mechanism")[0][0] == 0
    assert pair.quarantine() == []


def test_the_later_edit_of_a_cell_wins_though_it_lies_in_a_joined_table(party: Pair) -> None:
    pair = party
    pair.crm.run("INSERT INTO customers VALUES (1, 'A', 'DE', 'Weg 1', 'Köln', '1'), (2, 'B', 'DE', 'Weg 2', 'Köln', '2')")
    pair.settle()
    # commits on both sides while nobody listens; a second apart, as MariaDB's log knows whole seconds
    pair.crm.run("UPDATE customers SET street = 'crm, earlier' WHERE id = 1")
    pair.erp.run("UPDATE address SET street = 'erp, earlier' WHERE party_id = 2")
    pair.crm.run("SELECT pg_sleep(1.1)" if pair.crm.adapter == "postgres" else "SELECT sleep(1.1)")
    pair.erp.run("UPDATE address SET street = 'erp, later' WHERE party_id = 1")
    pair.crm.run("UPDATE customers SET street = 'crm, later' WHERE id = 2")
    pair.settle()
    assert [row[3] for row in crm_rows(pair)] == ["erp, later", "crm, later"]
    assert crm_rows(pair) == erp_rows(pair)


def test_a_record_changed_after_its_delete_on_the_other_side_comes_back_in_all_its_tables(party: Pair) -> None:
    """The rule into `party` reads no phone; that the phone was changed later keeps the record alive all the same."""
    pair = party
    pair.crm.run("INSERT INTO customers VALUES (1, 'Þór ehf.', 'IS', 'Laugavegur 1', 'Reykjavík', '1'), (2, 'B', 'DE', 'Weg 2', 'Köln', '2')")
    pair.settle()
    pair.erp.transaction(*(f"DELETE FROM {table}" for table in ("contact_mechanism", "address", "party")))
    pair.crm.run("SELECT pg_sleep(1.1)" if pair.crm.adapter == "postgres" else "SELECT sleep(1.1)")
    pair.crm.run("UPDATE customers SET phone = 'later' WHERE id = 1")
    pair.settle()
    assert crm_rows(pair) == [(1, "Þór ehf.", "IS", None, None, "later")] == erp_rows(pair)
    assert pair.quarantine() == []


def test_with_nobody_writing_both_logs_stand_still(party: Pair) -> None:
    pair = party
    pair.crm.run("INSERT INTO customers VALUES (1, 'A ', 'DE', 'Weg 1', 'Köln', '1')")
    pair.erp.run("INSERT INTO party VALUES (3, 'C', 'SE')")
    pair.settle()
    pair.settle()
    before = [rule_counts(pair, name) for name in ("party", "address", "phone", "customers")]
    pair.settle()
    assert [rule_counts(pair, name) for name in ("party", "address", "phone", "customers")] == before


def rule_counts(pair: Pair, name: str) -> int:
    return int(pair.rule(name)["applied"])


INVOICES = """
[[rules]]
name = "invoices"
select = '''
SELECT i.id AS id, i.number AS number, u.name AS customer, y.code AS country, coalesce(sum(l.amount), 0) AS total, count(l.id) AS line_count
FROM erp.invoices AS i
JOIN erp.customers AS u ON u.id = i.customer_id
LEFT JOIN erp.countries AS y ON y.id = u.country_id
LEFT JOIN erp.invoice_lines AS l ON l.invoice_id = i.id AND NOT l.cancelled
WHERE i.released
GROUP BY i.id, i.number, u.name, y.code
'''
into = "crm.invoices"
key = ["id"]
on_exit = "delete"
[[rules]]
name = "buyers"
select = '''
SELECT u.id AS id, u.name AS name FROM erp.customers AS u
WHERE EXISTS (SELECT 1 FROM erp.invoices AS i WHERE i.customer_id = u.id AND i.released)
'''
into = "crm.buyers"
key = ["id"]
on_exit = "delete"
"""


def test_sums_chains_and_existence_follow_every_table(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    pair = Pair(tmp_path, mariadb.database(), postgres15.database(), INVOICES)
    erp, crm = pair.erp, pair.crm
    erp.run("CREATE TABLE countries (id int PRIMARY KEY, code char(2))")
    erp.run("CREATE TABLE customers (id int PRIMARY KEY, name text, country_id int REFERENCES countries)")
    erp.run("CREATE TABLE invoices (id int PRIMARY KEY, number text, customer_id int, released boolean NOT NULL)")
    erp.run("CREATE TABLE invoice_lines (id int PRIMARY KEY, invoice_id int, amount numeric(12, 2), cancelled boolean NOT NULL DEFAULT false)")
    crm.run("CREATE TABLE invoices (id int PRIMARY KEY, number varchar(40), customer varchar(80), country char(2), total decimal(20, 2), line_count int)")
    crm.run("CREATE TABLE buyers (id int PRIMARY KEY, name varchar(80))")
    erp.run("INSERT INTO countries VALUES (1, 'CZ'), (2, 'IS')")
    erp.run("INSERT INTO customers SELECT i, 'c' || i, 1 + i % 2 FROM generate_series(1, 6) AS i")
    erp.run("INSERT INTO invoices SELECT i, 'F-' || i, 1 + i % 5, i % 3 <> 0 FROM generate_series(1, 30) AS i")
    erp.run("INSERT INTO invoice_lines SELECT i, 1 + i % 32, i * 1.25, i % 7 = 0 FROM generate_series(1, 200) AS i")

    def wanted() -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
        invoices = erp.run(
            "SELECT i.id, i.number, u.name, y.code, coalesce(sum(l.amount), 0.00), count(l.id) FROM invoices i JOIN customers u ON u.id = i.customer_id"
            " LEFT JOIN countries y ON y.id = u.country_id LEFT JOIN invoice_lines l ON l.invoice_id = i.id AND NOT l.cancelled"
            " WHERE i.released GROUP BY i.id, i.number, u.name, y.code ORDER BY i.id"
        )
        buyers = erp.run("SELECT id, name FROM customers u WHERE EXISTS (SELECT 1 FROM invoices i WHERE i.customer_id = u.id AND i.released) ORDER BY id")
        return invoices, buyers

    def found() -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
        return crm.run("SELECT * FROM invoices ORDER BY id"), crm.run("SELECT * FROM buyers ORDER BY id")

    pair.settle()
    assert found() == wanted()
    for change in (
        "UPDATE invoice_lines SET amount = amount + 1 WHERE id BETWEEN 10 AND 20",
        "UPDATE invoice_lines SET invoice_id = 5 WHERE id = 3",  # from one invoice to another: both sums change
        "DELETE FROM invoice_lines WHERE id IN (40, 41)",
        "UPDATE invoice_lines SET cancelled = NOT cancelled WHERE id IN (7, 8)",
        "UPDATE countries SET code = 'SK' WHERE id = 1",  # two tables away
        "UPDATE customers SET country_id = 2 WHERE id = 2",
        "UPDATE customers SET country_id = NULL WHERE id = 3",
        "UPDATE invoices SET released = NOT released WHERE id IN (1, 2, 3)",
        "UPDATE invoices SET customer_id = 6 WHERE id = 4",
        "DELETE FROM customers WHERE id = 5",  # inner join: its invoices leave the rule
        "INSERT INTO customers VALUES (5, 'back', 1)",
        "DELETE FROM invoices WHERE id = 8",
    ):
        erp.run(change)
        pair.settle()
        assert found() == wanted(), change
    assert pair.quarantine() == []
    pair.close()
