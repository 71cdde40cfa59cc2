"""A rule that writes one kind of row of a table: rows of another kind are none of its business, and reconcile says so."""
from __future__ import annotations

from pathlib import Path

from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.pair import Pair

RULES = """
[[rules]]
name = "billing"
select = "SELECT c.id AS party, 'billing' AS kind, c.street AS street FROM crm.customers AS c"
into = "erp.addresses"
key = ["party", "kind"]
"""


def test_rows_of_another_kind_are_outside_the_rule_and_a_strange_one_of_its_own_is_extra(
    postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path
) -> None:
    pair = Pair(tmp_path, mariadb.database(), postgres15.database(), RULES)
    pair.crm.run("CREATE TABLE customers (id int PRIMARY KEY, street varchar(80))")
    pair.erp.run("CREATE TABLE addresses (party int, kind text, street text, PRIMARY KEY (party, kind))")
    pair.crm.run("INSERT INTO customers VALUES (1, 'Dlouhá 5'), (2, NULL)")
    pair.erp.run("INSERT INTO addresses VALUES (1, 'shipping', 'Hamnen'), (7, 'shipping', 'Kajen')")
    pair.settle()
    report = pair.reconcile()
    assert report.verdict == "equal", report.to_json()
    assert report.rules["billing"].classes == {"equal": 2, "filtered": 2}
    pair.erp.run("INSERT INTO addresses VALUES (7, 'billing', 'nobody asked for it')")
    report = pair.reconcile()
    assert report.verdict == "different"
    assert [(row.class_, row.key) for row in report.rows if row.class_ != "filtered"] == [("extra", {"party": "7", "kind": "billing"})]
    pair.close()
