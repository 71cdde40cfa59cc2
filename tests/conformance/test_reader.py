"""The Reader port, over every database we read from."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import pytest

from engine.errors import Oversized, Terminal
from engine.model.batch import Chunk
from engine.model.schema import Table
from engine.model.types import Kind
from engine.ports import Reader


def walk(reader: Reader, table: Table, columns: tuple[str, ...], key: tuple[str, ...], limit: int) -> list[Chunk]:
    """All chunks of a table."""
    chunks = [reader.read_chunk(table, columns, key, None, limit)]
    while chunks[-1].last is not None:
        chunks.append(reader.read_chunk(table, columns, key, chunks[-1].last, limit))
    return chunks


def rows(chunks: list[Chunk]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for chunk in chunks for row in chunk.rows.to_pylist()]


# --- tables ---


def test_a_table_is_described(side: Any) -> None:
    side.execute("CREATE TABLE region (id int NOT NULL PRIMARY KEY)")
    table = side.table(
        "city",
        "id bigint NOT NULL, name varchar(30) NOT NULL, size decimal(10,2), note text, region int NOT NULL DEFAULT 1, founded date, code char(3), "
        "PRIMARY KEY (id), UNIQUE (region, name), FOREIGN KEY (region) REFERENCES region (id) ON DELETE CASCADE",
    )
    assert table.name.system == "side" and table.name.table == "city" and table.name.schema
    assert [column.name for column in table.columns] == ["id", "name", "size", "note", "region", "founded", "code"]
    kinds = [column.type.kind for column in table.columns]
    assert kinds == [Kind.INT, Kind.TEXT, Kind.DECIMAL, Kind.TEXT, Kind.INT, Kind.DATE, Kind.TEXT]
    assert table.column("id").type.bits == 64 and table.column("name").type.length == 30
    assert (table.column("size").type.precision, table.column("size").type.scale) == (10, 2)
    assert table.column("code").type.padded and not table.column("name").type.padded
    assert [column.name for column in table.columns if column.nullable] == ["size", "note", "founded", "code"]
    assert table.column("region").default and not table.column("name").default
    assert table.primary_key == table.log_key == ("id",)
    assert set(table.unique) == {("id",), ("region", "name")}
    (foreign,) = table.foreign_keys
    assert (foreign.columns, foreign.parent.table, foreign.parent_columns) == (("region",), "region", ("id",))
    assert foreign.parent == side.reader().table("", "region").name
    assert foreign.on_delete == "CASCADE"


def test_generated_columns_and_numbering_columns_are_marked(side: Any) -> None:
    numbered = "bigint GENERATED ALWAYS AS IDENTITY" if side.is_postgres else "bigint AUTO_INCREMENT"
    table = side.table("made", f"id {numbered} PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a + 1) STORED")
    assert table.column("id").default and not table.column("id").generated
    assert table.column("b").generated and not table.column("a").generated


def test_the_schema_may_be_named(side: Any) -> None:
    table = side.table("thing", "id int NOT NULL PRIMARY KEY")
    assert side.reader().table(table.name.schema, "thing") == table


def test_an_unknown_table_names_near_ones(side: Any) -> None:
    side.table("customers", "id int NOT NULL PRIMARY KEY")
    with pytest.raises(Terminal) as missing:
        side.reader().table("", "custmers")
    assert "customers" in missing.value.fix and "custmers" in str(missing.value)


# --- chunks ---


@pytest.mark.parametrize("keys", ["one each", "two of each", "one for all", "equal but spelled otherwise"])
def test_a_chunk_of_large_rows_ends_early_and_tears_no_key(side: Any, keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"adapters.{'postgres' if side.is_postgres else 'mysql'}.reader.CHUNK_BYTES", 3 << 20)
    text, number = ("text", "numeric") if side.is_postgres else ("longtext", "varchar(9) COLLATE utf8mb4_general_ci")
    table = side.table("large", f"id {number} NOT NULL, place int NOT NULL, v {text}" + ", PRIMARY KEY (id)" * (keys == "one each"))
    for n in range(24):
        spelled = f"1{n // 3}.{'0' * (1 + n % 3)}" if side.is_postgres else "aaA"[n % 3] + str(n // 3)
        name = {"one each": n, "two of each": n // 2, "one for all": 1}.get(keys, spelled)
        side.execute(f"INSERT INTO large VALUES ('{name}', {n}, repeat('x', 1000000))")
    chunks = walk(side.reader(), table, ("place", "v"), ("id",), 1000)
    assert sorted(int(place) for place, _ in rows(chunks)) == list(range(24))
    if keys != "one for all":
        assert len(chunks) > 3
        assert max(chunk.rows.nbytes for chunk in chunks) < 12 << 20


@pytest.mark.parametrize("limit", [1, 3, 10, 11, 1000])
def test_chunks_give_every_row_once_in_order_of_the_key(side: Any, limit: int) -> None:
    table = side.table("numbers", "id bigint NOT NULL PRIMARY KEY, v varchar(20)")
    numbers = [-5, -1, 0, 2, 3, 9, 10, 11, 100, 9_000_000_000]
    side.execute("INSERT INTO numbers VALUES " + ", ".join(f"({n}, 'v{n}')" for n in reversed(numbers)))
    chunks = walk(side.reader(), table, ("v", "id"), ("id",), limit)
    assert rows(chunks) == [(f"v{n}", str(n)) for n in numbers]
    assert all(chunk.rows.num_rows <= limit for chunk in chunks)
    assert all(column.type == pa.string() for chunk in chunks for column in chunk.rows.columns)


def test_an_empty_table_is_one_empty_chunk(side: Any) -> None:
    table = side.table("nothing", "id int NOT NULL PRIMARY KEY, v text")
    (chunk,) = walk(side.reader(), table, ("id", "v"), ("id",), 5)
    assert chunk.rows.num_rows == 0 and chunk.rows.column_names == ["id", "v"] and chunk.last is None


@pytest.mark.parametrize("limit", [1, 2, 4, 50])
def test_a_key_of_several_columns_and_types(side: Any, limit: int) -> None:
    table = side.table("many", "d date NOT NULL, n decimal(8,2) NOT NULL, t varchar(10) NOT NULL, v int, PRIMARY KEY (d, n, t)")
    values = [(d, n, t) for d in ("2026-01-31", "2026-02-01") for n in ("-1.50", "2.00", "10.25") for t in ("a", "b'c", "d\\e")]
    escape = (lambda text: text.replace("'", "''")) if side.is_postgres else (lambda text: text.replace("\\", "\\\\").replace("'", "''"))
    side.execute("INSERT INTO many VALUES " + ", ".join(f"('{d}', {n}, '{escape(t)}', 1)" for d, n, t in values))
    assert rows(walk(side.reader(), table, ("d", "n", "t"), ("d", "n", "t"), limit)) == values


def test_rows_without_a_key_are_left_out(side: Any) -> None:
    table = side.table("keyless", "k int UNIQUE, v varchar(5)")
    side.execute("INSERT INTO keyless VALUES (1, 'a'), (NULL, 'b'), (3, 'c'), (NULL, 'd')")
    assert rows(walk(side.reader(), table, ("k", "v"), ("k",), 1)) == [("1", "a"), ("3", "c")]


def test_rows_without_a_key_are_read_where_they_are_asked_for(side: Any) -> None:
    table = side.table("unnamed", "id int PRIMARY KEY, k int UNIQUE, l varchar(5), v varchar(5)")
    side.execute("INSERT INTO unnamed VALUES (1, 1, 'x', 'a'), (2, NULL, 'x', 'b'), (3, 3, NULL, 'c'), (4, NULL, NULL, 'd')")
    reader = side.reader()
    first = reader.read_chunk(table, ("v", "k"), ("id",), None, 2, ("k", "l"))
    assert (rows([first]), first.last) == ([("b", None), ("c", "3")], ("3",))
    assert rows([reader.read_chunk(table, ("v",), ("id",), first.last, 2, ("k", "l"))]) == [("d",)]
    chunks = list(reader.read_unkeyed(table, ("v",), ("k",), 1))
    assert (sorted(rows(chunks)), [len(chunk.rows) for chunk in chunks]) == ([("b",), ("d",)], [1, 1])
    assert not list(reader.read_unkeyed(table, ("v",), ("id",), 1))


def test_rows_without_any_key_come_in_chunks_of_bounded_size_from_one_snapshot(side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"adapters.{'postgres' if side.is_postgres else 'mysql'}.reader.CHUNK_BYTES", 3 << 20)
    table = side.table("unkeyed", f"k int, place int, v {'text' if side.is_postgres else 'longtext'}")
    for n in range(24):
        side.execute(f"INSERT INTO unkeyed VALUES (NULL, {n}, repeat('x', 1000000))")
    reader = side.reader()
    chunks = reader.read_unkeyed(table, ("place", "v"), ("k",), 1000)
    first = next(chunks)
    side.execute("UPDATE unkeyed SET place = place + 100")
    side.execute("INSERT INTO unkeyed VALUES (1, 1000, 'keyed'), (NULL, 1001, 'later')")
    assert reader.read_chunk(table, ("place",), ("k",), None, 10).rows.num_rows == 1, "the reader can be used meanwhile"
    all_of_them = [first, *chunks]
    assert sorted(int(place) for place, _ in rows(all_of_them)) == list(range(24))
    assert len(all_of_them) > 3 and max(chunk.rows.nbytes for chunk in all_of_them) < 12 << 20
    given_up = reader.read_unkeyed(table, ("place", "v"), ("k",), 1000)
    next(given_up)
    given_up.close()  # type: ignore[attr-defined]
    assert [chunk.rows.num_rows for chunk in reader.read_unkeyed(table, ("place",), ("k",), 20)] == [20, 5]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_rows_that_share_a_key_are_not_lost_between_chunks(side: Any, limit: int) -> None:
    table = side.table("shared", "k int, v int")
    side.execute("INSERT INTO shared VALUES " + ", ".join(f"({n // 3}, {n})" for n in range(20)))
    assert sorted(rows(walk(side.reader(), table, ("v",), ("k",), limit))) == sorted((str(n),) for n in range(20))


def test_null_the_empty_text_and_difficult_text_are_told_apart(side: Any) -> None:
    table = side.table("texts", "id int NOT NULL PRIMARY KEY, v text")
    reader = side.reader()
    values: list[str | None] = [None, "", "NULL", "\\N", '"', '""', ",", "a,b", "line\nbreak", "carriage\r\nreturn", "\\.", "tab\t", " ", "😀", "it's"]
    sink = side.sink()
    sink.begin(side.marker())
    sink.write(side.write(table, ("id",), ("id", "v"), [(1, (str(place), value)) for place, value in enumerate(values)]))
    sink.commit()
    assert [value for _, value in rows(walk(reader, table, ("id", "v"), ("id",), 4))] == values
    assert [value for (value,) in rows(walk(reader, table, ("v",), ("id",), 4))] == values


def test_a_chunk_does_not_see_later_changes_and_leaves_no_lock(side: Any) -> None:
    table = side.table("moving", "id int NOT NULL PRIMARY KEY, v int")
    side.execute("INSERT INTO moving VALUES (1, 1), (2, 2)")
    reader = side.reader()
    first = reader.read_chunk(table, ("id", "v"), ("id",), None, 1)
    side.execute("UPDATE moving SET v = 9")
    side.execute("ALTER TABLE moving ADD COLUMN w int")
    assert rows([first]) == [("1", "1")]
    assert rows([reader.read_chunk(table, ("id", "v"), ("id",), first.last, 1)]) == [("2", "9")]


# --- rows by key ---


def test_rows_are_fetched_by_key(side: Any) -> None:
    table = side.table("things", "id bigint NOT NULL PRIMARY KEY, v text")
    side.execute("INSERT INTO things VALUES (1, 'one'), (2, NULL), (3, ''), (10, 'ten')")
    keys = pa.table({"id": pa.array(["10", "2", "77", "10", None, "3"])})
    found = side.reader().fetch(table, ("v", "id"), ("id",), keys)
    assert sorted((row["id"], row["v"]) for row in found.to_pylist()) == [("10", "ten"), ("2", None), ("3", "")]
    assert found.column_names == ["v", "id"] and found.schema.field("v").type == pa.string()


def test_a_fetch_of_more_than_the_caller_wants_at_once_is_told_and_the_next_one_works(side: Any) -> None:
    table = side.table("large", f"id int NOT NULL PRIMARY KEY, v {'text' if side.is_postgres else 'longtext'}")
    for n in range(16):
        side.execute(f"INSERT INTO large VALUES ({n}, repeat('x', 1000000))")
    reader = side.reader()
    keys = pa.table({"id": [str(n) for n in range(16)]})
    with pytest.raises(Oversized):
        reader.fetch(table, ("id", "v"), ("id",), keys, 4 << 20)
    assert reader.fetch(table, ("id",), ("id",), keys, 4 << 20).num_rows == 16
    assert reader.fetch(table, ("v",), ("id",), keys).num_rows == 16


def test_rows_are_fetched_by_several_columns(side: Any) -> None:
    table = side.table("pairs", "a int NOT NULL, b varchar(20) NOT NULL, PRIMARY KEY (a, b)")
    names = ["x", "y'z", 'q"r', "back\\slash", "comma,", "{brace}", "", "😀"]
    sink = side.sink()
    sink.begin(side.marker())
    sink.write(side.write(table, ("a", "b"), ("a", "b"), [(1, ("1", name)) for name in names] + [(1, ("2", "x"))]))
    sink.commit()
    keys = pa.table({"a": pa.array(["1"] * len(names)), "b": pa.array(names)})
    found = side.reader().fetch(table, ("b", "a"), ("a", "b"), keys)
    assert sorted((row["a"], row["b"]) for row in found.to_pylist()) == sorted(("1", name) for name in names)


def test_no_keys_and_no_rows(side: Any) -> None:
    table = side.table("things", "id int NOT NULL PRIMARY KEY, v text")
    reader = side.reader()
    for keys in ([], ["1"], [None]):
        found = reader.fetch(table, ("id", "v"), ("id",), pa.table({"id": pa.array(keys, pa.string())}))
        assert found.num_rows == 0 and found.column_names == ["id", "v"]


def test_keys_that_cannot_be_in_the_table_hide_no_others(side: Any) -> None:
    table = side.table("short", "id int NOT NULL PRIMARY KEY, code varchar(3) NOT NULL UNIQUE")
    side.execute("INSERT INTO short VALUES (1, 'abc'), (2, 'xyz')")
    reader = side.reader()
    by_code = reader.fetch(table, ("id",), ("code",), pa.table({"code": pa.array(["abcdef", "xyz"])}))
    assert by_code.column("id").to_pylist() == ["2"]
    by_id = reader.fetch(table, ("id",), ("id",), pa.table({"id": pa.array(["no number", "1", "99999999999999999999"])}))
    assert by_id.column("id").to_pylist() == ["1"]


# --- log end, clock, connections ---


def test_the_end_of_the_log_grows_with_each_commit(side: Any) -> None:
    side.table("growing", "id int NOT NULL PRIMARY KEY")
    reader = side.reader()
    ends = [reader.end()]
    for number in range(3):
        side.execute(f"INSERT INTO growing VALUES ({number})")
        ends.append(reader.end())
    assert [end.order for end in ends] == sorted({end.order for end in ends})
    assert len({end.text for end in ends}) == 4


def test_the_clock_is_the_servers(side: Any) -> None:
    reader = side.reader()
    before = time.time_ns() // 1000
    now = reader.clock_us()
    assert before - 1_000_000 <= now <= time.time_ns() // 1000 + 1_000_000


def test_a_lost_connection_is_opened_again(side: Any) -> None:
    table = side.table("things", "id int NOT NULL PRIMARY KEY")
    side.execute("INSERT INTO things VALUES (1)")
    reader = side.reader()
    reader.clock_us()
    calls = [
        lambda: reader.table("", "things"),
        lambda: reader.read_chunk(table, ("id",), ("id",), None, 5),
        lambda: reader.fetch(table, ("id",), ("id",), pa.table({"id": ["1"]})),
        reader.end,
        reader.clock_us,
    ]
    for call in calls:
        side.kill_connections()
        call()


def test_closing_twice_is_harmless_and_a_closed_reader_can_be_used_again(side: Any) -> None:
    reader = side.reader()
    reader.close()
    reader.clock_us()
    reader.close()
    reader.close()


def test_a_table_that_is_gone_is_terminal(side: Any) -> None:
    table = side.table("things", "id int NOT NULL PRIMARY KEY")
    side.execute("DROP TABLE things")
    with pytest.raises(Terminal):
        side.reader().read_chunk(table, ("id",), ("id",), None, 5)
