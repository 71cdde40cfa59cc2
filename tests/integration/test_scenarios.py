"""What a user may configure besides the plain link, on schemas with names of their own, in both orientations."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli.main import main
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests.pair import Pair, Side, rows_json

Made = Callable[[str, str], Pair]
"""(DDL for PostgreSQL and MariaDB alike, rules) -> the pair."""

PERSON = """CREATE TABLE person (
    id int PRIMARY KEY, name varchar(50), phone varchar(30), kind varchar(10), active boolean NOT NULL DEFAULT true, credit decimal(10, 2)
)"""
ROWS = "SELECT id, name, phone, kind FROM person"


@pytest.fixture(params=["PostgreSQL to MariaDB", "MariaDB to PostgreSQL"])
def made(request: pytest.FixtureRequest, postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Made]:
    pairs: list[Pair] = []

    def make(ddl: str, rules: str) -> Pair:
        crm, erp = postgres15.database(), mariadb.database()
        if request.param.startswith("MariaDB"):
            crm, erp = erp, crm
        pair = Pair(tmp_path, crm, erp, rules)
        for side in (pair.crm, pair.erp):
            for statement in ddl.split(";"):
                side.run(statement if side.adapter == "postgres" else statement.replace('"', "`"))
        pairs.append(pair)
        return pair

    yield make
    for pair in pairs:
        pair.close()


def rule(name: str, source: str, target: str, select: str = "id, name, phone, kind", key: str = "id", table: str = "person", more: str = "") -> str:
    """`more`: further lines of the rule, after "condition|" where it has a WHERE."""
    where, _, more = more.rpartition("|")
    keys = json.dumps(key.split())
    return f'''[[rules]]
name = "{name}"
select = """SELECT {select} FROM {source}.{table}{" WHERE " + where if where else ""}"""
into = '{target}.{table}'
key = {keys}
{more}
'''


def both(more: str = "", select: str = "id, name, phone, kind", key: str = "id", table: str = "person", of: str = "") -> str:
    """The two directions of a link; `of`: what sets the names of several links apart."""
    return rule(f"{of}to_erp", "crm", "erp", select, key, table, more) + rule(f"{of}to_crm", "erp", "crm", select, key, table, more)


def same(pair: Pair, sql: str = ROWS) -> None:
    assert rows_json(pair.crm, sql) == rows_json(pair.erp, sql)


def stands_still(pair: Pair) -> None:
    marker = "SELECT sum(batch) FROM syncline_checkpoint"
    sides = [side for side in (pair.crm, pair.erp) if _has_marker(side)]
    before = [side.run(marker) for side in sides]
    pair.settle()
    assert [side.run(marker) for side in sides] == before


def _has_marker(side: Side) -> bool:
    here = "current_schema()" if side.adapter == "postgres" else "database()"
    return bool(side.run(f"SELECT 1 FROM information_schema.tables WHERE table_name = 'syncline_checkpoint' AND table_schema = {here}"))


def test_a_row_that_leaves_the_where_or_is_deleted_is_marked_and_taken_back_when_it_returns(made: Made) -> None:
    more = "kind = 'A'|on_exit = { set = { active = false, name = 'left' } }\non_delete = { set = { active = false, credit = 1.5 } }"
    pair = made(PERSON, rule("one_way", "crm", "erp", more=more))
    pair.crm.run("INSERT INTO person (id, name, phone, kind) VALUES (1, 'a', '1', 'A'), (2, 'b', '2', 'A'), (3, 'c', '3', 'B')")
    pair.settle()
    assert len(pair.erp.run("SELECT id FROM person WHERE active")) == 2  # no rule writes active: the database's default

    pair.crm.run("UPDATE person SET kind = 'B' WHERE id = 1")
    pair.crm.run("DELETE FROM person WHERE id = 2")
    pair.crm.run("INSERT INTO person (id, name, kind) VALUES (4, 'd', 'A')")
    pair.settle()
    assert pair.quarantine() == []
    found = {row[0]: row[1:] for row in pair.erp.run("SELECT id, name, active, credit FROM person")}
    assert found[1][0] == "left"
    assert not found[1][1]
    assert found[2][0] == "b"
    assert not found[2][1]
    assert str(found[2][2]) == "1.50"
    assert found[4][1]
    pair.agree()
    stands_still(pair)

    pair.crm.run("UPDATE person SET kind = 'A' WHERE id = 1")
    pair.settle()
    assert pair.erp.run("SELECT name FROM person WHERE id = 1")[0][0] == "a"
    pair.agree()


def test_what_a_person_decides_settles_a_held_cell_in_both_directions(made: Made) -> None:
    pair = made(PERSON, both())
    pair.crm.run("INSERT INTO person (id, name) VALUES (1, 'by crm'), (2, 'same')")
    pair.erp.run("INSERT INTO person (id, name) VALUES (1, 'by erp'), (2, 'same')")
    pair.settle()
    assert {(c["rule"], c["state"]) for c in pair.conflicts()} == {("to_erp", "held"), ("to_crm", "held")}
    pair.crm.run("UPDATE person SET phone = 'of another cell' WHERE id = 1")
    pair.settle()
    assert {(c["rule"], c["state"]) for c in pair.conflicts()} == {("to_erp", "held"), ("to_crm", "held")}
    pair.crm.run("UPDATE person SET name = 'decided' WHERE id = 1")
    pair.settle()
    assert pair.conflicts() == []
    same(pair)
    pair.agree()


def test_two_rules_fill_a_new_row_together(made: Made) -> None:
    rules = rule("names", "crm", "erp", "id, name") + rule("phones", "crm", "erp", "id, phone", more="phone IS NOT NULL|on_delete = 'ignore'")
    pair = made(PERSON, rules)
    pair.settle()
    pair.crm.run("INSERT INTO person (id, name, phone) VALUES (1, 'a', '1'), (2, 'b', NULL)")
    pair.settle()
    same(pair)
    pair.crm.run("UPDATE person SET name = 'bb', phone = '2' WHERE id = 2")
    pair.crm.run("DELETE FROM person WHERE id = 1")
    pair.settle()
    same(pair)
    pair.agree()
    stands_still(pair)


ORDERS = """CREATE TABLE head (id int PRIMARY KEY, no varchar(20), prev int, FOREIGN KEY (prev) REFERENCES head (id));
CREATE TABLE line (head int NOT NULL, n int, item varchar(40), PRIMARY KEY (head, n), FOREIGN KEY (head) REFERENCES head (id))"""


def test_orders_with_lines_made_on_either_side_arrive_whole_whatever_the_order_of_the_rules(made: Made) -> None:
    pair = made(ORDERS, both(select="head, n, item", key="head n", table="line", of="line_") + both(select="id, no, prev", table="head"))

    def order(side: Side, number: int, prev: str = "NULL") -> None:
        lines = [f"INSERT INTO line VALUES ({number}, {n}, 'item {n}')" for n in range(3)]
        side.transaction(f"INSERT INTO head VALUES ({number}, 'O{number}', {prev})", *lines)

    def agrees() -> None:
        assert pair.quarantine() == []
        for sql in ("SELECT id, no, prev FROM head", "SELECT head, n, item FROM line"):
            same(pair, sql)

    for side, number, prev in ((pair.crm, 1, "NULL"), (pair.erp, 2, "NULL"), (pair.crm, 3, "1"), (pair.crm, 4, "3")):
        order(side, number, prev)
    pair.settle()
    agrees()
    order(pair.crm, 6, "4")
    order(pair.erp, 5, "1")
    pair.erp.transaction("UPDATE line SET head = 3, n = 9 WHERE head = 4 AND n = 1")
    pair.crm.transaction("DELETE FROM line WHERE head = 2", "UPDATE head SET prev = NULL WHERE prev = 2", "DELETE FROM head WHERE id = 2")
    pair.settle()
    agrees()
    pair.agree()


def test_names_that_need_quotes_and_keys_of_several_columns(made: Made) -> None:
    ddl = 'CREATE TABLE "Order" ("Select" int, "group by" varchar(20), "Ünï" varchar(50), "from" int, PRIMARY KEY ("Select", "group by"))'
    columns = '"Select", "group by", "Ünï", "from"'
    rules = both(select=columns, key="Select group_by", table='"Order"').replace("group_by", "group by")
    pair = made(ddl, rules)
    quoted = {side: (lambda s, side=side: s if side.adapter == "postgres" else s.replace('"', "`")) for side in (pair.crm, pair.erp)}
    pair.crm.run(quoted[pair.crm]("INSERT INTO \"Order\" VALUES (1, 'x', 'č', 2), (1, 'X y', NULL, NULL)"))
    pair.erp.run(quoted[pair.erp]("INSERT INTO \"Order\" VALUES (2, 'x', '😀', 0)"))
    pair.settle()
    pair.erp.run(quoted[pair.erp]('UPDATE "Order" SET "Ünï" = \'new\' WHERE "Select" = 1'))
    pair.crm.run(quoted[pair.crm]('DELETE FROM "Order" WHERE "Select" = 2'))
    pair.settle()
    found = [rows_json(side, quoted[side](f'SELECT {columns} FROM "Order"')) for side in (pair.crm, pair.erp)]
    assert found[0] == found[1]
    assert len(json.loads(found[0])) == 2
    pair.agree()


def test_deletes_inserts_and_key_changes_of_the_same_rows_while_we_were_down(made: Made) -> None:
    pair = made(PERSON, both())
    pair.crm.run("INSERT INTO person (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')")
    pair.settle()
    pair.erp.run("UPDATE person SET name = 'changed, then deleted' WHERE id = 2")
    pair.crm.run("DELETE FROM person WHERE id = 1")
    pair.crm.run("INSERT INTO person (id, name) VALUES (9, 'first')")
    pair.crm.run("UPDATE person SET id = 40 WHERE id = 4")
    for side in (pair.crm, pair.erp):
        side.run("DELETE FROM person WHERE id = 3")
    pair.erp.run("SELECT pg_sleep(1.1)" if pair.erp.adapter == "postgres" else "SELECT sleep(1.1)")  # MariaDB logs whole seconds
    pair.erp.run("INSERT INTO person (id, name) VALUES (3, 'made again')")
    pair.erp.run("INSERT INTO person (id, name) VALUES (9, 'second')")
    pair.erp.run("UPDATE person SET name = 'deleted, then changed' WHERE id = 1")
    pair.crm.run("DELETE FROM person WHERE id = 2")
    pair.erp.run("UPDATE person SET id = 50 WHERE id = 5")
    pair.settle()
    same(pair)
    assert dict(pair.crm.run("SELECT id, name FROM person")) == {
        1: "deleted, then changed", 3: "made again", 9: "second", 40: "d", 50: "e",
    }  # fmt: skip
    pair.agree()
    stands_still(pair)


@pytest.mark.parametrize(
    "words", ["-c {} status", "status -c {}", "-c {} quarantine list", "quarantine -c {} list", "quarantine list -c {}", "conflicts -c {} list"]
)
def test_the_configuration_may_be_named_before_or_after_the_command(words: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, "postgresql://u@127.0.0.1:1/a", "mysql://u@127.0.0.1:1/b", both())
    result = CliRunner().invoke(main, [word.format(pair.config) for word in words.split()], env={"SYNCLINE_CONFIG": "/not/there.toml"})
    assert result.exit_code == 0, result.output
