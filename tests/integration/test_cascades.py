"""What a server does to child rows by its foreign keys: in MySQL's and MariaDB's log there is no word of it, and it arrives all the same."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.runtime.check import check
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests import flavour
from tests.integration.test_scenarios import both, rule, stands_still
from tests.pair import Pair, rows_json

Made = Callable[..., Pair]
HEAD = "CREATE TABLE head (id int PRIMARY KEY, no varchar(20))"
ON = "ON DELETE {} ON UPDATE {}"
LINE = "CREATE TABLE line (head int, n int, item varchar(40), PRIMARY KEY (head, n), FOREIGN KEY (head) REFERENCES head (id) {})"
PART = "CREATE TABLE part (id int PRIMARY KEY, head int, n int, what varchar(40), FOREIGN KEY (head, n) REFERENCES line (head, n) {})"
NOTE = "CREATE TABLE note (id int PRIMARY KEY, head int, word varchar(40), FOREIGN KEY (head) REFERENCES head (id) {})"
RULES = (
    both(select="id, no", table="head", of="head_") + both(select="head, n, item", key="head n", table="line", of="line_")
    + both(select="id, head, n, what", table="part", of="part_")
)  # fmt: skip


@pytest.fixture
def made(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> Iterator[Made]:
    pairs: list[Pair] = []

    def make(rules: str, *ddl: str) -> Pair:
        """crm on MariaDB, erp on PostgreSQL."""
        pair = Pair(tmp_path, mariadb.database(), postgres15.database(), rules)
        for side in (pair.crm, pair.erp):
            for statement in ddl:
                side.run(statement)
        pairs.append(pair)
        return pair

    yield make
    for pair in pairs:
        pair.close()


def agrees(pair: Pair, *tables: str) -> None:
    assert pair.quarantine() == []
    for table in tables:
        assert rows_json(pair.crm, f"SELECT * FROM {table}") == rows_json(pair.erp, f"SELECT * FROM {table}")
    pair.agree()
    stands_still(pair)


def test_children_and_their_children_go_with_their_parent_on_either_side(made: Made) -> None:
    on = ON.format("CASCADE", "CASCADE")
    pair = made(RULES, HEAD, LINE.format(on), PART.format(on))
    for number in (1, 2, 3, 4):
        pair.crm.transaction(
            f"INSERT INTO head VALUES ({number}, 'H{number}')", f"INSERT INTO line VALUES ({number}, 1, 'a'), ({number}, 2, 'b')",
            f"INSERT INTO part VALUES ({number}1, {number}, 1, 'p'), ({number}2, {number}, 2, 'q')",
        )  # fmt: skip
    pair.settle()
    pair.crm.run("DELETE FROM head WHERE id = 1")
    pair.erp.run("DELETE FROM head WHERE id = 2")
    pair.settle()
    assert pair.erp.run("SELECT head, n FROM line ORDER BY head, n") == [(3, 1), (3, 2), (4, 1), (4, 2)]
    assert pair.erp.run("SELECT id, head FROM part ORDER BY id") == [(31, 3), (32, 3), (41, 4), (42, 4)]
    agrees(pair, "head", "line", "part")

    # made and lost in one batch, and a parent that comes back without its children
    pair.crm.transaction("INSERT INTO head VALUES (5, 'H5')", "INSERT INTO line VALUES (5, 1, 'short')")
    pair.crm.run("DELETE FROM head WHERE id = 5")
    pair.crm.run("DELETE FROM head WHERE id = 4")
    pair.crm.transaction("INSERT INTO head VALUES (4, 'again')", "INSERT INTO line VALUES (4, 2, 'again')")
    pair.settle()
    assert pair.erp.run("SELECT head, n, item FROM line WHERE head IN (4, 5)") == [(4, 2, "again")]
    agrees(pair, "head", "line", "part")


def test_children_and_their_children_follow_the_key_of_their_parent(made: Made) -> None:
    on = ON.format("CASCADE", "CASCADE")
    grandchildren = not flavour.CASCADES_LOGGED  # MySQL 9.7 itself refuses to change a key over two levels (error 1452)
    pair = made(RULES, HEAD)
    for side, action in ((pair.crm, on), (pair.erp, "")):
        side.run(LINE.format(action))
        side.run(PART.format(action) if grandchildren else PART.split(", FOREIGN", maxsplit=1)[0] + ")")
    for number in (1, 2):
        pair.crm.transaction(
            f"INSERT INTO head VALUES ({number}, 'H{number}')", f"INSERT INTO line VALUES ({number}, 1, 'a'), ({number}, 2, 'b')",
            *([f"INSERT INTO part VALUES ({number}1, {number}, 1, 'p'), ({number}2, {number}, 2, 'q')"] if grandchildren else []),
        )  # fmt: skip
    pair.settle()
    pair.crm.run("UPDATE head SET id = 30 WHERE id = 1")
    pair.settle()
    assert pair.erp.run("SELECT head, n FROM line ORDER BY head, n") == [(2, 1), (2, 2), (30, 1), (30, 2)]
    assert pair.erp.run("SELECT id, head FROM part ORDER BY id") == ([(11, 30), (12, 30), (21, 2), (22, 2)] if grandchildren else [])
    agrees(pair, "head", "line", "part")


def test_children_lose_their_parent_where_the_key_says_so(made: Made) -> None:
    rules = both(select="id, no", table="head", of="head_") + both(select="id, head, word", table="note", of="note_")
    pair = made(rules, HEAD, NOTE.format(ON.format("SET NULL", "CASCADE")))
    pair.crm.run("INSERT INTO head VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    pair.crm.run("INSERT INTO note VALUES (1, 1, 'x'), (2, 2, 'y'), (3, 3, 'z'), (4, NULL, 'none')")
    pair.settle()
    pair.crm.run("DELETE FROM head WHERE id = 1")
    pair.crm.run("UPDATE head SET id = 20 WHERE id = 2")
    pair.crm.run("UPDATE note SET word = 'changed' WHERE id = 1")
    pair.settle()
    assert pair.erp.run("SELECT id, head, word FROM note ORDER BY id") == [(1, None, "changed"), (2, 20, "y"), (3, 3, "z"), (4, None, "none")]
    agrees(pair, "head", "note")


def test_a_parent_that_no_rule_reads_is_told_by_check_and_may_be_ignored(made: Made) -> None:
    notes = rule("notes", "crm", "erp", "id, word", table="note")
    pair = made(notes, HEAD, NOTE.format(ON.format("CASCADE", "RESTRICT")))
    found = [p for p in check(pair.settings) if "not in its log" in p.what]
    if flavour.CASCADES_LOGGED:
        assert found == []
        for side in (pair.crm, pair.erp):
            side.run("INSERT INTO head VALUES (1, 'a')")
        pair.crm.run("INSERT INTO note VALUES (1, 1, 'x')")
        pair.settle()
        pair.crm.run("DELETE FROM head")
        pair.settle()
        assert pair.erp.run("SELECT count(*) FROM note") == [(0,)]
        return
    assert [(p.severity, p.where) for p in found] == [("error", "rule notes")]
    assert "no rule reads or writes its parent head" in found[0].what and 'cascades = "ignore"' in found[0].fix

    pair.config.write_text(pair.config.read_text().replace("[[rules]]", '[[rules]]\ncascades = "ignore"'))
    assert [p for p in check(pair.settings) if "not in its log" in p.what] == []
    pair.crm.run("INSERT INTO head VALUES (1, 'a')")
    pair.crm.run("INSERT INTO note VALUES (1, 1, 'x')")
    pair.erp.run("INSERT INTO head VALUES (1, 'a')")
    pair.settle()
    pair.crm.run("DELETE FROM head")
    pair.settle()
    assert pair.reconcile().rules["notes"].differences == {"extra": 1}
