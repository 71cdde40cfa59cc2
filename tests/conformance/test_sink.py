"""The Sink port, over every database we write to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.errors import Poison, Terminal, Transient
from engine.model.batch import DELETE, INSERT, UPDATE
from engine.model.schema import Table
from engine.model.write import MANY_ROWS, NO_ROW, ROW_EXISTS, WROTE, Write
from engine.ports import Sink

PEOPLE = "id bigint NOT NULL PRIMARY KEY, name varchar(20) NOT NULL, mail varchar(50) UNIQUE, score int, note text"
ALL = ("id", "name", "mail", "score", "note")


@pytest.fixture
def people(side: Any) -> Table:
    return side.table("people", PEOPLE)


def put(side: Any, sink: Sink, *writes: Write) -> list[list[int]]:
    """One transaction; the outcomes of its writes."""
    sink.begin(side.marker())
    outcomes = [sink.write(write).result.tolist() for write in writes]
    sink.commit()
    return outcomes


def person(number: int, **other: str | None) -> tuple[str | None, ...]:
    values = {"id": str(number), "name": f"name {number}", "mail": f"{number}@example.com", "score": str(number), "note": None} | other
    return tuple(values[name] for name in ALL)


def stored(side: Any, query: str = "SELECT id, name, mail, score, note FROM people ORDER BY id") -> list[tuple[Any, ...]]:
    return [tuple(row) for row in side.rows(query)]


# --- marker ---


def test_preparing_twice_is_harmless_and_there_is_no_marker_before_the_first_transaction(side: Any) -> None:
    sink = side.sink()
    sink.prepare()
    assert sink.marker("rules", "crm") is None


def test_the_marker_of_the_last_committed_transaction_is_found_by_a_new_sink(side: Any, people: Table) -> None:
    sink = side.sink()
    for batch in (1, 2):
        sink.begin(side.marker(batch))
        sink.write(side.write(people, ("id",), ALL, [(INSERT, person(batch))]))
        sink.commit()
    assert side.sink().marker("rules", "crm") == side.marker(2)


def test_directions_and_rule_sets_have_markers_of_their_own(side: Any) -> None:
    sink = side.sink()
    for marker in (side.marker(5), side.marker(7, source="shop"), side.marker(9, rule_set="others")):
        sink.begin(marker)
        sink.commit()
    assert sink.marker("rules", "crm") == side.marker(5)
    assert sink.marker("rules", "shop") == side.marker(7, source="shop")
    assert sink.marker("others", "crm") == side.marker(9, rule_set="others")


def test_a_rollback_takes_marker_and_rows_back(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(1))]))
    sink.begin(side.marker(2))
    sink.write(side.write(people, ("id",), ALL, [(INSERT, person(2)), (DELETE, person(1))]))
    sink.rollback()
    assert sink.marker("rules", "crm") == side.marker(1)
    assert [row[0] for row in stored(side)] == [1]
    assert put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(2))])) == [[WROTE]]


def test_nothing_is_visible_before_the_commit(side: Any, people: Table) -> None:
    sink = side.sink()
    sink.begin(side.marker())
    sink.write(side.write(people, ("id",), ALL, [(INSERT, person(1))]))
    assert stored(side) == []
    sink.commit()
    assert [row[0] for row in stored(side)] == [1]


# --- rows ---


def test_values_arrive_as_they_are(side: Any, people: Table) -> None:
    sink = side.sink()
    notes = [None, "", "tab\tnewline\nreturn\rback\\slash", "\\N", "'quoted' \"twice\" `thrice`", "Ærøskøbing 😀 日本", "  blanks  ", "%s %(x)s {}", "\\."]
    rows = [(INSERT, person(number, note=note)) for number, note in enumerate(notes)]
    put(side, sink, side.write(people, ("id",), ALL, rows))
    assert [row[4] for row in stored(side)] == notes


def test_inserts_updates_and_deletes_of_one_write(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(number)) for number in (1, 2, 3)]))
    mixed = [(UPDATE, person(1, name="new")), (INSERT, person(4)), (DELETE, person(3)), (UPDATE, person(2, mail=None))]
    assert put(side, sink, side.write(people, ("id",), ALL, mixed)) == [[WROTE] * 4]
    assert [row[:3] for row in stored(side)] == [(1, "new", "1@example.com"), (2, "name 2", None), (4, "name 4", "4@example.com")]


def test_only_decided_cells_are_written(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(number)) for number in (1, 2, 3)]))
    rows = [(UPDATE, (str(number), "changed", "changed", "99", "changed")) for number in (1, 2, 3)]
    decided = [[0, 1, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert put(side, sink, side.write(people, ("id",), ALL, rows, decided)) == [[WROTE] * 3]
    assert stored(side) == [
        (1, "changed", "1@example.com", 1, None),
        (2, "changed", "2@example.com", 99, None),
        (3, "name 3", "3@example.com", 3, "changed"),
    ]


def test_a_cell_that_is_not_decided_cannot_be_refused(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(1)), (INSERT, person(2)), (INSERT, person(3))]))
    rows = [
        (UPDATE, ("1", "x" * 100, None, "no number", "new")),
        (UPDATE, ("2", "fine", None, "7", None)),
        (DELETE, ("3", "x" * 100, None, "no number", "nul \0")),
    ]
    assert put(side, sink, side.write(people, ("id",), ALL, rows, [[0, 0, 0, 0, 1], [0, 1, 0, 1, 0], [0] * 5])) == [[WROTE] * 3]
    assert stored(side) == [(1, "name 1", "1@example.com", 1, "new"), (2, "fine", "2@example.com", 7, None)]


def test_an_update_that_changes_nothing_still_finds_its_row(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(1))]))
    assert put(side, sink, side.write(people, ("id",), ALL, [(UPDATE, person(1)), (UPDATE, person(2))])) == [[WROTE, NO_ROW]]


def test_updates_and_deletes_of_absent_rows_say_so_and_create_nothing(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(1)), (INSERT, person(2))]))
    rows = [(UPDATE, person(8)), (UPDATE, person(1, name="new")), (DELETE, person(9)), (DELETE, person(2))]
    assert put(side, sink, side.write(people, ("id",), ALL, rows)) == [[NO_ROW, WROTE, NO_ROW, WROTE]]
    assert [row[:2] for row in stored(side)] == [(1, "new")]


def test_an_insert_leaves_the_row_that_stands_there_alone(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(1))]))
    rows = [(INSERT, person(2)), (INSERT, person(1, name="other", mail="o@example.com")), (INSERT, person(3))]
    assert put(side, sink, side.write(people, ("id",), ALL, rows)) == [[WROTE, ROW_EXISTS, WROTE]]
    assert [row[1] for row in stored(side)] == ["name 1", "name 2", "name 3"]


def test_the_key_addresses_the_row_not_the_unique_index_that_clashes(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(1)), (INSERT, person(2))]))
    sink.begin(side.marker())
    with pytest.raises(Poison) as refused:
        sink.write(side.write(people, ("id",), ALL, [(INSERT, person(3, mail="1@example.com", name="thief"))]))
    assert refused.value.reason == "unique" and refused.value.rows == (0,)
    with pytest.raises(Poison):
        sink.write(side.write(people, ("id",), ALL, [(UPDATE, person(2, mail="1@example.com"))]))
    sink.commit()
    assert [row[:3] for row in stored(side)] == [(1, "name 1", "1@example.com"), (2, "name 2", "2@example.com")]


def test_a_unique_value_moves_from_a_deleted_row_to_a_new_one(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(1))]))
    rows = [(INSERT, person(2, mail="1@example.com")), (DELETE, person(1))]
    assert put(side, sink, side.write(people, ("id",), ALL, rows)) == [[WROTE, WROTE]]
    assert [row[0] for row in stored(side)] == [2]


def test_rows_may_be_addressed_by_another_unique_column(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(1))]))
    rows = [(UPDATE, ("1@example.com", "by mail")), (UPDATE, ("nobody@example.com", "by mail"))]
    assert put(side, sink, side.write(people, ("mail",), ("mail", "name"), rows)) == [[WROTE, NO_ROW]]
    assert stored(side)[0][1] == "by mail"


def test_a_key_of_several_columns(side: Any) -> None:
    table = side.table("parts", "a int NOT NULL, b varchar(10) NOT NULL, c text, PRIMARY KEY (b, a)")
    sink = side.sink()
    columns = ("a", "b", "c")
    put(side, sink, side.write(table, ("a", "b"), columns, [(INSERT, ("1", "x", "one")), (INSERT, ("1", "y", "two")), (INSERT, ("2", "x", "three"))]))
    rows = [(UPDATE, ("1", "y", "new")), (DELETE, ("2", "x", None)), (INSERT, ("1", "x", "again")), (UPDATE, ("2", "y", "none"))]
    assert put(side, sink, side.write(table, ("a", "b"), columns, rows)) == [[WROTE, WROTE, ROW_EXISTS, NO_ROW]]
    assert stored(side, "SELECT a, b, c FROM parts ORDER BY a, b") == [(1, "x", "one"), (1, "y", "new")]


def test_a_key_that_names_several_rows_writes_none_of_them(side: Any) -> None:
    table = side.table("loose", "k int, v varchar(10)")
    side.execute("INSERT INTO loose VALUES (1, 'a'), (1, 'b'), (2, 'c'), (3, 'd'), (3, 'e')")
    sink = side.sink()
    rows = [(UPDATE, ("1", "new")), (UPDATE, ("2", "new")), (DELETE, ("3", None)), (INSERT, ("4", "new")), (UPDATE, ("5", "new"))]
    assert put(side, sink, side.write(table, ("k",), ("k", "v"), rows)) == [[MANY_ROWS, WROTE, MANY_ROWS, WROTE, NO_ROW]]
    assert stored(side, "SELECT k, v FROM loose ORDER BY k, v") == [(1, "a"), (1, "b"), (2, "new"), (3, "d"), (3, "e"), (4, "new")]


def test_an_insert_into_a_table_without_a_unique_index_sees_the_row_that_stands_there(side: Any) -> None:
    table = side.table("loose", "k int, v varchar(10)")
    side.execute("INSERT INTO loose VALUES (1, 'a')")
    sink = side.sink()
    assert put(side, sink, side.write(table, ("k",), ("k", "v"), [(INSERT, ("1", "b")), (INSERT, ("2", "b"))])) == [[ROW_EXISTS, WROTE]]
    assert stored(side, "SELECT k, v FROM loose ORDER BY k") == [(1, "a"), (2, "b")]


def test_columns_left_out_take_their_default(side: Any) -> None:
    table = side.table("defaults", "id int NOT NULL PRIMARY KEY, state varchar(10) NOT NULL DEFAULT 'new', v int")
    sink = side.sink()
    put(side, sink, side.write(table, ("id",), ("id", "v"), [(INSERT, ("1", "5"))]))
    assert stored(side, "SELECT id, state, v FROM defaults") == [(1, "new", 5)]


def test_columns_whose_names_are_words_of_sql(side: Any) -> None:
    quote = '"' if side.is_postgres else "`"
    names = ("select", "Order By", "it's")
    table = side.table("from", ", ".join(f"{quote}{name}{quote} varchar(20)" for name in names) + f", PRIMARY KEY ({quote}select{quote})")
    sink = side.sink()
    rows = [(INSERT, ("1", "a", "b")), (INSERT, ("2", "a", "b"))]
    put(side, sink, side.write(table, ("select",), names, rows))
    assert put(side, sink, side.write(table, ("select",), names, [(UPDATE, ("2", "c", "d"))])) == [[WROTE]]
    chunk = side.reader().read_chunk(table, names, ("select",), None, 10)
    assert chunk.rows.to_pylist() == [dict(zip(names, row, strict=True)) for row in (("1", "a", "b"), ("2", "c", "d"))]


def test_several_writes_of_one_table_in_one_transaction(side: Any, people: Table) -> None:
    sink = side.sink()
    outcomes = put(
        side,
        sink,
        side.write(people, ("id",), ALL, [(INSERT, person(1)), (INSERT, person(2))]),
        side.write(people, ("id",), ALL, [(UPDATE, person(1, name="second")), (DELETE, person(2))]),
        side.write(people, ("id",), ALL, [(INSERT, person(2, name="third")), (UPDATE, person(3))]),
    )
    assert outcomes == [[WROTE, WROTE], [WROTE, WROTE], [WROTE, NO_ROW]]
    assert [row[1] for row in stored(side)] == ["second", "third"]


def test_an_empty_write_is_nothing(side: Any, people: Table) -> None:
    assert put(side, side.sink(), side.write(people, ("id",), ALL, [])) == [[]]


def test_random_writes_leave_what_a_dictionary_would_hold(side: Any) -> None:
    columns = ("id", *(f"c{place}" for place in range(6)))
    table = side.table("wide", "id int NOT NULL PRIMARY KEY, " + ", ".join(f"{name} varchar(20)" for name in columns[1:]))
    sink = side.sink()
    random = np.random.default_rng(7)
    model: dict[int, list[str | None]] = {}
    for turn in range(6):
        rows, decided, expected = [], [], []
        for key in random.choice(400, size=200, replace=False).tolist():
            op = int(random.choice([INSERT, UPDATE, DELETE], p=[0.5, 0.4, 0.1]))
            values = [None if random.random() < 0.2 else f"t{turn} {key} {place}" for place in range(6)]
            wanted = [op == INSERT or (op == UPDATE and bool(random.random() < 0.5)) for _ in range(6)]
            if op == INSERT:
                expected.append(ROW_EXISTS if key in model else WROTE)
                model.setdefault(key, values)
            else:
                expected.append(WROTE if key in model else NO_ROW)
                if op == DELETE:
                    model.pop(key, None)
                elif key in model:
                    model[key] = [new if take else old for new, old, take in zip(values, model[key], wanted, strict=True)]
            rows.append((op, (str(key), *values)))
            decided.append([op == INSERT, *wanted])
        assert put(side, sink, side.write(table, ("id",), columns, rows, decided)) == [expected]
    assert stored(side, "SELECT * FROM wide ORDER BY id") == [(key, *model[key]) for key in sorted(model)]


# --- refusals ---

CHILD = "id int NOT NULL PRIMARY KEY, parent int, name varchar(5) NOT NULL, amount decimal(5,2), tiny smallint, born date, CHECK (tiny < 100), {}"
CHILD_COLUMNS = ("id", "parent", "name", "amount", "tiny", "born")
GOOD = {"parent": "1", "name": "fits", "amount": "1.50", "tiny": "7", "born": "2026-02-28"}

BAD = [
    ({"name": "unfitting"}, "too_long"),
    ({"name": None}, "not_null"),
    ({"parent": "987654"}, "foreign_key"),
    ({"tiny": "100"}, "check"),
    ({"tiny": "99999"}, "range"),
    ({"amount": "12345.00"}, "range"),
]


@pytest.fixture
def child(side: Any) -> Table:
    side.execute("CREATE TABLE parent (id int NOT NULL PRIMARY KEY)")
    side.execute("INSERT INTO parent VALUES (1)")
    return side.table("child", CHILD.format("FOREIGN KEY (parent) REFERENCES parent (id)"))


def row(number: int, **other: str | None) -> tuple[str | None, ...]:
    values = {"id": str(number)} | GOOD | other
    return tuple(values[name] for name in CHILD_COLUMNS)


def isolate(sink: Sink, write: Write, number: int = 0) -> tuple[list[int], list[str]]:
    """Splits until every row is written or refused alone. Returns the refused rows and their reasons."""
    try:
        sink.write(write)
        return [], []
    except Poison as poison:
        if len(write) == 1:
            return [number], [poison.reason]
        middle = len(write) // 2
        first, reasons = isolate(sink, write.take(np.arange(middle)), number)
        second, more = isolate(sink, write.take(np.arange(middle, len(write))), number + middle)
        return first + second, reasons + more


@pytest.mark.parametrize("op", [INSERT, UPDATE])
@pytest.mark.parametrize(("change", "reason"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_a_refused_row_is_named_or_found_by_splitting_and_the_others_arrive(
    side: Any, child: Table, change: dict[str, str | None], reason: str, op: int
) -> None:
    sink = side.sink()
    if op == UPDATE:
        put(side, sink, side.write(child, ("id",), CHILD_COLUMNS, [(INSERT, row(number)) for number in range(8)]))
    write = side.write(child, ("id",), CHILD_COLUMNS, [(op, row(number, born="2027-01-01", **(change if number == 5 else {}))) for number in range(8)])
    sink.begin(side.marker(2))
    with pytest.raises(Poison) as refused:
        sink.write(write)
    assert refused.value.reason == reason
    assert refused.value.rows in ((), (5,))
    assert not any(value in str(refused.value) for value in change.values() if value)
    assert isolate(sink, write) == ([5], [reason])
    sink.commit()
    assert [number for (number,) in side.rows("SELECT id FROM child WHERE born = '2027-01-01' ORDER BY id")] == [0, 1, 2, 3, 4, 6, 7]
    assert sink.marker("rules", "crm") == side.marker(2)


def test_a_refused_call_takes_its_own_rows_back_and_no_others(side: Any, child: Table) -> None:
    sink = side.sink()
    sink.begin(side.marker())
    sink.write(side.write(child, ("id",), CHILD_COLUMNS, [(INSERT, row(1)), (INSERT, row(2))]))
    with pytest.raises(Poison):
        sink.write(side.write(child, ("id",), CHILD_COLUMNS, [(DELETE, row(1)), (INSERT, row(3)), (INSERT, row(4, parent="77"))]))
    sink.write(side.write(child, ("id",), CHILD_COLUMNS, [(INSERT, row(5))]))
    sink.commit()
    assert [number for (number,) in side.rows("SELECT id FROM child ORDER BY id")] == [1, 2, 5]


def test_a_parent_that_is_still_referred_to_is_not_deleted(side: Any, child: Table) -> None:
    sink = side.sink()
    parent = side.reader().table("", "parent")
    sink.begin(side.marker())
    sink.write(side.write(child, ("id",), CHILD_COLUMNS, [(INSERT, row(1))]))
    with pytest.raises(Poison) as refused:
        sink.write(side.write(parent, ("id",), ("id",), [(DELETE, ("1",))]))
    assert refused.value.reason == "foreign_key"
    sink.commit()
    assert len(side.rows("SELECT id FROM child")) == 1


def test_parent_and_child_in_one_transaction(side: Any, child: Table) -> None:
    sink = side.sink()
    parent = side.reader().table("", "parent")
    outcomes = put(
        side,
        sink,
        side.write(parent, ("id",), ("id",), [(INSERT, ("9",))]),
        side.write(child, ("id",), CHILD_COLUMNS, [(INSERT, row(1, parent="9"))]),
    )
    assert outcomes == [[WROTE], [WROTE]]


@pytest.mark.parametrize("value", ["abc", "1,5", "", "x10", "1e400"])
def test_text_that_is_no_number_is_refused_not_guessed(side: Any, child: Table, value: str) -> None:
    sink = side.sink()
    sink.begin(side.marker())
    with pytest.raises(Poison) as refused:
        sink.write(side.write(child, ("id",), CHILD_COLUMNS, [(INSERT, row(1, amount=value))]))
    assert refused.value.reason in ("type", "range")
    sink.commit()
    assert side.rows("SELECT id FROM child") == []


@pytest.mark.parametrize("value", ["2026-02-30", "2026-13-01", "yesterday at noon", ""])
def test_a_date_that_does_not_exist_is_refused(side: Any, child: Table, value: str) -> None:
    sink = side.sink()
    sink.begin(side.marker())
    with pytest.raises(Poison) as refused:
        sink.write(side.write(child, ("id",), CHILD_COLUMNS, [(INSERT, row(1, born=value))]))
    assert refused.value.reason in ("type", "range")
    sink.rollback()


def test_a_row_that_another_transaction_inserted_meanwhile_is_seen_as_standing_there(side: Any, people: Table) -> None:
    sink = side.sink()
    sink.begin(side.marker())
    sink.write(side.write(people, ("id",), ALL, [(INSERT, person(1))]))
    side.execute("INSERT INTO people VALUES (2, 'theirs', NULL, 0, NULL)")
    assert sink.write(side.write(people, ("id",), ALL, [(INSERT, person(2))])).result.tolist() == [ROW_EXISTS]
    sink.commit()
    assert [name for _, name, *_ in stored(side)] == ["name 1", "theirs"]


# --- connections ---


def test_a_connection_lost_inside_a_transaction_is_transient_and_nothing_of_it_stays(side: Any, people: Table) -> None:
    sink = side.sink()
    sink.begin(side.marker())
    sink.write(side.write(people, ("id",), ALL, [(INSERT, person(1))]))
    side.kill_connections()
    with pytest.raises(Transient):
        sink.write(side.write(people, ("id",), ALL, [(INSERT, person(2)), (UPDATE, person(1))]))
    assert put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(3)), (UPDATE, person(3, note="again"))][:1])) == [[WROTE]]
    assert [row[0] for row in stored(side)] == [3]


def test_a_connection_lost_before_the_commit_is_transient_and_the_marker_tells_that_it_did_not_happen(side: Any, people: Table) -> None:
    sink = side.sink()
    sink.begin(side.marker(4))
    sink.write(side.write(people, ("id",), ALL, [(INSERT, person(1))]))
    side.kill_connections()
    with pytest.raises(Transient):
        sink.commit()
    assert sink.marker("rules", "crm") is None
    assert stored(side) == []


def test_a_connection_lost_between_transactions_is_opened_again(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(1)), (UPDATE, person(7))]))
    side.kill_connections()
    assert put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(2)), (UPDATE, person(1))])) == [[WROTE, WROTE]]


def test_rollback_and_close_never_raise(side: Any, people: Table) -> None:
    sink = side.sink()
    sink.rollback()
    sink.begin(side.marker())
    side.kill_connections()
    sink.rollback()
    sink.close()
    sink.close()
    assert put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(1))])) == [[WROTE]]


def test_a_table_that_is_gone_is_terminal(side: Any, people: Table) -> None:
    sink = side.sink()
    side.execute("DROP TABLE people")
    sink.begin(side.marker())
    with pytest.raises(Terminal):
        sink.write(side.write(people, ("id",), ALL, [(INSERT, person(1))]))


# --- locks ---


def test_locked_rows_are_given_as_the_reader_gives_them_and_nobody_changes_them_before_the_end(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(1, note="žluť")), (INSERT, person(2)), (INSERT, person(3))]))
    write = side.write(people, ("id",), ("id", "note"), [(UPDATE, ("1", "of ours")), (DELETE, ("3", None)), (UPDATE, ("99", "nowhere"))])
    sink.begin(side.marker(2))
    found = sink.lock(write, ALL)
    assert found.sort_by("id") == side.reader().fetch(people, ALL, ("id",), write.values.select(["id"])).sort_by("id")
    change = "UPDATE people SET note = 'of an application' WHERE id = {}"
    held = "SELECT id FROM people WHERE id = {} FOR UPDATE NOWAIT"
    for number in (1, 3):
        with pytest.raises(Exception, match=r"(?i)lock"):
            side.execute(held.format(number))
    side.execute(change.format(2))
    # a table written for the first time, for which a staging table has to be made, does not let the locks go
    other = side.table("other", "id bigint NOT NULL PRIMARY KEY")
    assert sink.write(side.write(other, ("id",), ("id",), [(INSERT, ("5",))])).result.tolist() == [WROTE]
    assert sink.write(write.take(np.array([0]))).result.tolist() == [WROTE]
    with pytest.raises(Exception, match=r"(?i)lock"):
        side.execute(held.format(3))
    sink.commit()
    side.execute(change.format(3))
    assert [row[4] for row in stored(side)] == ["of ours", "of an application", "of an application"]


def test_a_key_that_cannot_be_in_the_table_locks_nothing(side: Any, people: Table) -> None:
    sink = side.sink()
    put(side, sink, side.write(people, ("id",), ALL, [(INSERT, person(1))]))
    sink.begin(side.marker(2))
    asked = side.write(people, ("id",), ("id",), [(DELETE, ("no number",)), (DELETE, ("1",))])
    assert sink.lock(asked, ("id",)).to_pylist() == [{"id": "1"}]
    assert sink.write(side.write(people, ("id",), ALL, [(INSERT, person(2))])).result.tolist() == [WROTE]
    sink.commit()
    assert [row[0] for row in stored(side)] == [1, 2]
