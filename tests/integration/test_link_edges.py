"""Links where something is in the way: a forgotten batch, several unique indexes, missing rights, PostgreSQL 18."""
from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.mysql.source import MySqlSource
from adapters.postgres.source import PostgresSource
from engine.runtime.check import check
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests import flavour
from tests.linked import create, same
from tests.pair import Pair

Made = Callable[..., Pair]


@pytest.fixture(params=["PostgreSQL to MariaDB", "MariaDB to PostgreSQL"])
def made(request: pytest.FixtureRequest, postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Made]:
    pairs: list[Pair] = []

    def make(more: str = "", back: bool = True) -> Pair:
        crm, erp = postgres15.database(), mariadb.database()
        if request.param.startswith("MariaDB"):
            crm, erp = erp, crm
        pairs.append(create(tmp_path, crm, erp, more, back))
        return pairs[-1]

    yield make
    for pair in pairs:
        pair.close()


def test_links_of_batches_that_the_ledger_has_forgotten_are_taken_over(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = made()
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Ada', 'A1'), ('Bob', 'B2')")
    pair.settle()
    # a power cut takes the ledger back to here; the sources still have their logs
    shutil.copytree(pair.folder / "state", pair.folder / "before")
    for source in (MySqlSource, PostgresSource):
        monkeypatch.setattr(source, "acknowledge", lambda _self, _position: None)
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Cy', 'C3')")
    pair.erp.run("INSERT INTO customers (title, vat) VALUES ('Di', 'D4')")
    pair.erp.run("INSERT INTO orders (customer_no, amount) SELECT no, 7 FROM customers WHERE title = 'Di'")
    pair.crm.run("UPDATE accounts SET id = id + 100 WHERE name = 'Bob'")
    pair.settle()
    before = same(pair)
    monkeypatch.undo()
    shutil.rmtree(pair.folder / "state")
    shutil.move(pair.folder / "before", pair.folder / "state")
    pair.settle()
    assert same(pair) == before and len(before) == 4
    pair.erp.run("UPDATE customers SET title = 'Bob B.' WHERE title = 'Bob'")
    pair.crm.run("UPDATE accounts SET name = 'Di D.' WHERE name = 'Di'")
    pair.settle()
    assert [row[0] for row in same(pair)] == ["Ada", "Bob B.", "Cy", "Di D."]
    assert pair.quarantine() == []


def test_a_row_that_hits_several_unique_keys_is_set_aside_and_nothing_else_is_touched(made: Made) -> None:
    pair = made(back=False)
    pair.erp.run("CREATE UNIQUE INDEX by_vat ON customers (vat)")
    pair.erp.run("CREATE UNIQUE INDEX by_title ON customers (title)")
    pair.erp.run("INSERT INTO customers (title, vat) VALUES ('Ada', 'x'), ('y', 'A1')")
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Ada', 'A1'), ('Bob', 'B2')")
    pair.settle()
    assert [(entry["rule"], entry["code"], entry["key"]) for entry in pair.quarantine()] == [("customers", "unique", {"id": "1"})]
    assert pair.erp.run("SELECT title, vat FROM customers ORDER BY no") == [("Ada", "x"), ("y", "A1"), ("Bob", "B2")]
    pair.erp.run("DELETE FROM customers WHERE vat <> 'B2'")
    pair.crm.run("UPDATE accounts SET name = 'Ada L.' WHERE tax_id = 'A1'")
    pair.settle()
    assert pair.erp.run("SELECT title, vat FROM customers ORDER BY no") == [("Bob", "B2"), ("Ada L.", "A1")]
    assert pair.quarantine() == []


def test_postgres_18_makes_keys_and_takes_them(postgres18: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    pair = create(tmp_path, mariadb.database(), postgres18.database(), 'match = ["tax_id"]')
    pair.erp.run("ALTER TABLE customers ALTER COLUMN no DROP DEFAULT, ALTER COLUMN no ADD GENERATED ALWAYS AS IDENTITY (START WITH 100)")
    pair.crm.run("INSERT INTO accounts (name, tax_id) VALUES ('Ada', 'A1'), ('Bob', 'B2')")
    pair.crm.run("INSERT INTO deals (account_id, total) SELECT id, 10 FROM accounts")
    pair.erp.run("INSERT INTO customers (title, vat) VALUES ('Bob', 'B2'), ('Cy', 'C3')")
    pair.settle()
    assert [row[1] for row in same(pair)] == ["A1", "B2", "C3"]
    pair.crm.run("UPDATE accounts SET id = id + 50 WHERE name = 'Ada'")
    pair.crm.run("UPDATE deals SET account_id = account_id + 50 WHERE account_id = 1")
    pair.erp.run("DELETE FROM customers WHERE vat = 'C3'")
    pair.settle()
    assert [row[1] for row in same(pair)] == ["A1", "B2"]
    assert pair.quarantine() == []
    pair.close()


def test_check_names_the_rights_that_links_need(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    pair = create(tmp_path, mariadb.database(), postgres15.database())
    database = pair.erp.run("SELECT current_database()")[0][0]
    pair.erp.run("DROP ROLE IF EXISTS linker")
    pair.erp.run("CREATE ROLE linker LOGIN REPLICATION PASSWORD 'pw'")
    pair.erp.run(f'GRANT TEMPORARY, CREATE ON DATABASE "{database}" TO linker')
    pair.erp.run("GRANT ALL ON customers, orders TO linker")
    pair.erp.run("ALTER TABLE orders ALTER COLUMN number DROP DEFAULT, ALTER COLUMN number ADD GENERATED BY DEFAULT AS IDENTITY")
    (sequence,) = pair.erp.run("SELECT pg_get_serial_sequence('orders', 'number')")[0]
    schema = pair.crm.run("SELECT database()")[0][0]
    for statement in flavour.user("linker", "pw"):
        pair.crm.run(statement)
    pair.crm.run(f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES ON `{schema}`.* TO 'linker'@'%'")
    text = pair.config.read_text(encoding="utf-8")
    for side, user in ((pair.erp, "linker:pw@"), (pair.crm, "linker:pw@")):
        head, _, rest = side.url.partition("://")
        text = text.replace(side.url, f"{head}://{user}{rest.rpartition('@')[2]}")
    pair.config.write_text(text, encoding="utf-8")

    def said() -> str:
        return "\n".join(f"{p.where}: {p.what}: {p.fix}" for p in check(pair.settings) if p.severity == "error")

    before = said()
    for words in (
        "may not create the table syncline_link in schema public",
        "draw numbers from sequence customers_no_seq",
        f"GRANT USAGE ON SEQUENCE {sequence.removeprefix('public.')}",
        "table syncline_link: our side table is not there",
    ):
        assert words in before, (words, before)
    pair.erp.run("GRANT CREATE ON SCHEMA public TO linker")
    pair.erp.run("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO linker")
    pair.crm.run(f"GRANT CREATE ON `{schema}`.* TO 'linker'@'%'")
    assert "syncline_link" not in said() and "sequence" not in said()
    pair.close()
