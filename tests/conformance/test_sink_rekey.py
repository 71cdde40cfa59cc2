"""The Sink port's change of a key, over every database we write to."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import Poison
from engine.model.batch import INSERT, UPDATE
from engine.model.write import MANY_ROWS, NO_ROW, ROW_EXISTS, WROTE


def test_a_row_gets_another_key_with_what_refers_to_it(side: Any) -> None:
    parent = side.table("parent", "code varchar(20) NOT NULL PRIMARY KEY, note varchar(20)")
    side.table("child", "id int PRIMARY KEY, code varchar(20), FOREIGN KEY (code) REFERENCES parent (code) ON DELETE CASCADE ON UPDATE CASCADE")
    side.execute("INSERT INTO parent VALUES ('a', 'x'), ('b', 'y')")
    side.execute("INSERT INTO child VALUES (1, 'a')")
    sink = side.sink()
    sink.begin(side.marker())
    assert sink.rekey(parent, ("code",), ("a",), ("c",), copy=False) == WROTE
    assert sink.rekey(parent, ("code",), ("c",), ("b",), copy=False) == ROW_EXISTS
    assert sink.rekey(parent, ("code",), ("q",), ("z",), copy=False) == NO_ROW
    assert sink.rekey(parent, ("code",), ("q",), ("c",), copy=False) == NO_ROW
    # a write of another form comes after it, in the same transaction
    assert sink.write(side.write(parent, ("code",), ("code", "note"), [(UPDATE, ("c", "z"))])).result.tolist() == [WROTE]
    sink.commit()
    assert side.rows("SELECT code, note FROM parent ORDER BY 1") == [("b", "y"), ("c", "z")]
    assert side.rows("SELECT id, code FROM child") == [(1, "c")]


def test_a_foreign_key_that_restricts_refuses_and_leaves_the_transaction_as_it_was(side: Any) -> None:
    parent = side.table("parent", "code varchar(20) NOT NULL PRIMARY KEY, note varchar(20)")
    side.table("child", "id int PRIMARY KEY, code varchar(20), FOREIGN KEY (code) REFERENCES parent (code)")
    side.execute("INSERT INTO parent VALUES ('a', 'x')")
    side.execute("INSERT INTO child VALUES (1, 'a')")
    sink = side.sink()
    sink.begin(side.marker())
    assert sink.write(side.write(parent, ("code",), ("code", "note"), [(INSERT, ("n", "new"))])).result.tolist() == [WROTE]
    with pytest.raises(Poison) as refused:
        sink.rekey(parent, ("code",), ("a",), ("c",), copy=False)
    assert refused.value.reason == "foreign_key"
    assert sink.rekey(parent, ("code",), ("a",), ("c",), copy=True) == WROTE
    sink.commit()
    assert side.rows("SELECT code, note FROM parent ORDER BY 1") == [("a", "x"), ("c", "x"), ("n", "new")]


def test_keys_of_several_columns_and_types_and_without_an_index(side: Any) -> None:
    table = side.table("line", "n int, day date, tag varchar(10), note varchar(20)")
    side.execute("INSERT INTO line VALUES (1, '2026-01-01', 'it''s', 'one'), (2, '2026-01-01', 'b', 'two'), (2, '2026-01-01', 'b', 'three')")
    sink = side.sink()
    key = ("n", "day", "tag")
    sink.begin(side.marker())
    assert sink.rekey(table, key, ("1", "2026-01-01", "it's"), ("1", "2026-02-02", "back\\slash"), copy=False) == WROTE
    assert sink.rekey(table, key, ("2", "2026-01-01", "b"), ("3", "2026-01-01", "b"), copy=False) == MANY_ROWS
    sink.commit()
    assert [(n, str(day), tag) for n, day, tag in side.rows("SELECT n, day, tag FROM line WHERE n = 1")] == [(1, "2026-02-02", "back\\slash")]
