"""MySQL/MariaDB reader on a real server: canonical text, paging in the database's own order, fences, and the type round trip with the sink."""

from __future__ import annotations

import datetime
import json
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pymysql
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from adapters.mysql import connect
from adapters.mysql.connection import connect as open_connection
from adapters.mysql.rows import Form, select
from engine.errors import Poison, Terminal, Transient
from engine.model.batch import INSERT, UPDATE
from engine.model.hashing import comparable
from engine.model.schema import Table
from engine.model.types import Kind
from engine.model.write import WROTE, Marker, Write
from engine.ports import Reader, Sink
from engine.throwaway import servers
from tests import flavour


class Database:
    """A fresh database with our reader and sink on it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.url: str = server.database()
        self.name = self.url.rsplit("/", 1)[1]
        self._outside: Any = None
        adapter = connect("crm", self.url, {})
        self.reader: Reader = adapter.reader()
        self.sink: Sink = adapter.sink("rules")

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        if self._outside is None:
            self._outside = open_connection(self.url, system="crm")
        with self._outside.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def table(self, name: str, columns: str) -> Table:
        self.execute(f"CREATE TABLE `{name}` ({columns})")
        return self.reader.table("", name)

    def column(self, table: Table, column: str) -> list[str | None]:
        """The values of a column in order of `id`."""
        rows = self.reader.read_chunk(table, ("id", column), ("id",), None, 10_000).rows
        return list(rows.column(column).to_pylist())


@pytest.fixture
def database(mariadb: Any) -> Iterator[Database]:
    made = Database(mariadb)
    yield made
    made.reader.close()
    made.sink.close()


# --- canonical text ---

SHOWN = [
    ("tinyint(1)", "2", "2"),
    ("tinyint(3) unsigned zerofill", "7", "7"),
    ("bigint(20) unsigned zerofill", "18446744073709551615", "18446744073709551615"),
    ("decimal(12,3) zerofill", "1.5", "1.500"),
    ("bit(1)", "b'1'", "t"),
    ("bit(1)", "0", "f"),
    ("bit(64)", "18446744073709551615", "18446744073709551615"),
    ("bit(9)", "b'100000001'", "257"),
    ("float", "0.1", "0.1"),
    ("float", "16777217", "16777216"),
    ("float", "1234567.9", "1234567.9"),
    ("double", "0.1", "0.1"),
    ("double", "1e300", "1e+300"),
    ("year", "0", "0"),
    ("year", "2026", "2026"),
    ("char(6)", "'ab  '", "ab"),
    ("varchar(6)", "'ab  '", "ab  "),
    ("varchar(20) CHARACTER SET latin1", "'Ærø €'", "Ærø €"),
    ("varchar(20) CHARACTER SET utf16", "'😀'", "😀"),
    ("varchar(20) CHARACTER SET sjis", "'日本'", "日本"),
    ("text", "'😀\\0\\t\\n\\\\'", "😀\0\t\n\\"),
    ("binary(4)", "x'0102'", "\\x01020000"),
    ("varbinary(4)", "x'0102'", "\\x0102"),
    ("blob", "''", "\\x"),
    ("enum('a','it''s')", "'it''s'", "it's"),
    ("set('r','g','b')", "'b,r'", "r,b"),
    ("set('r','g','b')", "''", ""),
    ("date", "'0000-00-00'", "0000-00-00"),
    ("date", "'2024-00-10'", "2024-00-10"),
    ("time(6)", *(("'-838:59:58.999999'", "-838:59:58.999999") if flavour.MYSQL else ("'-838:59:59.000001'", "-838:59:59.000001"))),
    ("time(3)", "'25:00:00.500'", "25:00:00.5"),
    ("datetime(6)", "'2024-02-29 23:59:59.120000'", "2024-02-29 23:59:59.12"),
    ("datetime(6)", "'2024-02-29 10:00:00'", "2024-02-29 10:00:00"),
    ("datetime", "'9999-12-31 23:59:59'", "9999-12-31 23:59:59"),
    ("timestamp(3) NULL", "'2024-02-29 10:00:00.100'", "2024-02-29 10:00:00.1+00"),
    ("timestamp NULL", "'0000-00-00 00:00:00'", "0000-00-00 00:00:00+00"),
    ("json", '\'{"b": [1, null], "a": "é"}\'', '{"a": "é", "b": [1, null]}' if flavour.MYSQL else '{"b": [1, null], "a": "é"}'),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("inet6", "'2001:DB8::1'", "2001:db8::1"),
    ("inet6", "'::ffff:192.0.2.1'", "::ffff:192.0.2.1"),
    ("inet4", "'192.0.2.1'", "192.0.2.1"),
    # of a system without an order of axes that MySQL would turn
    ("point", "ST_GeomFromText('POINT(1 2)', 3857)", "\\x110f00000101000000000000000000f03f0000000000000040"),
]


@pytest.mark.parametrize(("declared", "given", "expected"), flavour.cases(SHOWN))
def test_canonical_text(database: Database, declared: str, given: str, expected: str) -> None:
    table = database.table("t", f"id int PRIMARY KEY, v {declared}")
    connection = open_connection(database.url, system="crm")
    connection.query(f"INSERT INTO t VALUES (1, {given}), (2, NULL)")
    connection.close()
    assert database.column(table, "v") == [expected, None]


# --- round trip: written by the sink, read by the reader ---

LONG = "x" * 100_000
EXACT: list[tuple[str, list[str]]] = [
    ("tinyint", ["-128", "127", "0", "2"]),
    ("tinyint(1)", ["2", "-1"]),
    ("smallint unsigned", ["65535"]),
    ("mediumint", ["-8388608", "8388607"]),
    ("int unsigned zerofill", ["4294967295", "7"]),
    ("bigint", ["-9223372036854775808", "9223372036854775807"]),
    ("bigint unsigned", ["18446744073709551615"]),
    ("decimal(65,30)", ["-" + "9" * 35 + "." + "9" * 30, "0." + "0" * 29 + "1"]),
    ("decimal(65,0)", ["9" * 65]),
    ("decimal(10,2) unsigned", ["99999999.99", "0.00"]),
    ("float", ["0.1", "-3.4028235e+38", "1e-45", "16777216", "1.1754944e-38"]),
    ("double", ["0.1", "1.7976931348623157e+308", "5e-324", "-123456789.12345679", "9007199254740992"]),
    ("bit(1)", ["t", "f"]),
    ("bit(13)", ["8191", "0", "48"]),
    ("bit(64)", ["18446744073709551615", "0"]),
    ("year", ["0", "1901", "2155", "2026"]),
    ("char(10)", ["", "abc", "  lead", "日本語 😀"]),
    ("varchar(20)", ["", "trail  ", "a\tb\nc\rd\\e'f\"g", "\\N", "NULL", "\0nul\0", "é\u0301", "\x1a", "👩‍👩‍👧‍👦"]),
    ("varchar(20) CHARACTER SET latin1", ["Ærø €ß", "ÿ"]),
    ("varchar(20) CHARACTER SET ucs2", ["日本"]),
    ("tinytext", ["x" * 255]),
    ("text", ["", "x" * 65535]),
    ("mediumtext", [LONG]),
    ("longtext", [LONG, "\\x41"]),
    ("binary(4)", ["\\x00000000", "\\x5c0a0900", "\\xffffffff"]),
    ("varbinary(6)", ["\\x", "\\x00", "\\x5c4e", "\\x0d0a09001a27"]),
    ("blob", ["\\x", "\\x" + "00ff5c" * 1000]),
    ("longblob", ["\\x" + "e9" * 200_000]),
    ("enum('a','it''s','x,y','','é')", ["a", "it's", "x,y", "", "é"]),
    ("set('r','g','b c')", ["", "r", "r,b c", "r,g,b c"]),
    ("date", ["0000-00-00", "1000-01-01", "9999-12-31", "2024-02-29", "2024-00-10", "0001-01-01"]),
    ("time", ["-838:59:59", "838:59:59", "00:00:00", "24:00:00"]),
    ("time(6)", ["-00:00:00.000001", "23:59:59.999999", "12:00:00.5"]),
    ("datetime", ["0000-00-00 00:00:00", "9999-12-31 23:59:59", "1000-01-01 00:00:00"]),
    ("datetime(6)", ["9999-12-31 23:59:59.999999", "2024-02-29 10:00:00.000001", "2024-03-31 02:30:00"]),
    ("datetime(3)", ["2024-02-29 10:00:00.123", "2024-02-29 10:00:00.1"]),
    ("timestamp NULL", ["1970-01-01 00:00:01+00", "2038-01-19 03:14:07+00", "0000-00-00 00:00:00+00"]),
    ("timestamp(6) NULL", ["2024-10-27 00:30:00.000001+00", "2024-10-27 01:30:00+00"]),
    ("json", ["{}", '{"a": null}', "null", '"😀"', '{"b":1,"a":2}', *([] if flavour.MYSQL else ["1e400", '{"a":1,"a":2}', "0.1000000000000000000001"])]),
    ("json", ["-1.5e300", "18446744073709551615", "-9223372036854775808", "100000000000000000000", "0.1", "[1.50, 1e2, -0.0, -0, 5e-324]", "1e23"]),
    ("uuid", ["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("inet6", ["::", "2001:db8::ff00:42:8329", "::ffff:192.0.2.1"]),
    ("inet4", ["0.0.0.0", "255.255.255.255"]),
    ("point", ["\\xe61000000101000000000000000000f03f0000000000000040"]),
    ("geometry", ["\\x0000000001020000000200000000000000000000000000000000000000000000000000f03f000000000000f03f"]),
]
MYSQL_JSON = [
    ("1e400", "range"),
    ("1e-99999999999999999999", "range"),
    ("7" * 5000, "range"),
    ("NaN", "type"),
    ('"\\ud800"', "type"),
    ("[0.1000000000000000000001]", "range"),
    ("18446744073709551617", "range"),
    ("-9223372036854775809", "range"),
    ('{"a": [{"b": 1, "b": 1}]}', "type"),
    ("[" * 200 + "]" * 200, "type"),
]
"""Documents that MySQL's JSON cannot hold as they are: its numbers are 64 bits wide, a member has one value, 100 levels are the most."""
EXACT += [("vector(3)", ["\\x0000803f0000004000004040", "\\x000000000000000000000000"])]
REFUSED: list[tuple[str, str, str]] = [
    ("tinyint", "128", "range"),
    ("tinyint unsigned", "-1", "range"),
    ("bigint", "9223372036854775808", "range"),
    ("bigint unsigned", "18446744073709551616", "range"),
    ("int", "1.5", "type"),
    ("int", "abc", "type"),
    ("decimal(5,2)", "1000.00", "range"),
    ("decimal(5,2)", "1.234", "range"),
    ("decimal(5,2)", "NaN", "type"),
    ("float", "1e39", "range"),
    ("float", "0.123456789012", "range"),
    ("float", "NaN", "range"),
    ("double", "NaN", "type"),
    ("double", "Infinity", "type"),
    ("bit(1)", "2", "type"),
    ("bit(3)", "8", "range"),
    ("year", "1900", "range"),
    ("year", "5", "range"),
    ("char(3)", "abcd", "too_long"),
    ("varchar(3)", "abcd", "too_long"),
    ("varchar(3)", "abc  ", "too_long"),
    ("tinytext", "é" * 128, "too_long"),
    ("text", "x" * 65536, "too_long"),
    ("varchar(5) CHARACTER SET latin1", "日", "encoding"),
    ("varchar(5) CHARACTER SET utf8mb3", "😀", "encoding"),
    ("binary(2)", "\\x010203", "too_long"),
    ("varbinary(2)", "\\x010203", "too_long"),
    ("blob", "plain", "type"),
    ("blob", "\\xabc", "type"),
    ("enum('a','b')", "A", "type"),
    ("enum('a','b')", "", "type"),
    ("enum('a','b')", "1", "type"),
    ("set('r','g')", "x", "type"),
    ("set('r','g')", "g,r", "type"),
    ("date", "infinity", "range"),
    ("date", "0044-03-15 BC", "range"),
    ("date", "10000-01-01", "range"),
    ("date", "2023-02-29", "type"),
    ("time", "839:00:00", "range"),
    ("time(3)", "10:00:00.1234", "range"),
    ("datetime", "2024-01-01 10:00:00.5", "range"),
    ("datetime(6)", "infinity", "range"),
    ("datetime", "2024-01-01 25:00:00", "type"),
    ("timestamp NULL", "1969-12-31 23:59:59+00", "range"),
    ("timestamp NULL", "2038-01-19 03:14:08+00", "range"),
    ("timestamp NULL", "infinity", "range"),
    ("json", "{", "type" if flavour.MYSQL else "check"),
    *[("json", text, reason) for text, reason in MYSQL_JSON if flavour.MYSQL],
    *([("time(6)", "838:59:59.000001", "range")] if flavour.MYSQL else []),
    ("uuid", "not-a-uuid", "type"),
    ("inet6", "300.1.1.1", "type"),
    ("point", "\\x00", "type"),
]


def write(table: Table, values: Sequence[str | None], op: int = INSERT) -> Write:
    rows = pa.table({"id": [str(number) for number in range(len(values))], "v": pa.array(values, pa.string())})
    decided = np.ones((len(values), 2), dtype=np.bool_)
    decided[:, 0] = op == INSERT
    return Write(table=table, key=("id",), op=np.full(len(values), op, dtype=np.uint8), values=rows, decided=decided)


def begin(database: Database) -> None:
    database.sink.prepare()
    database.sink.begin(Marker(rule_set="rules", source="erp", batch=1, position="p"))


@pytest.mark.parametrize(("declared", "values"), flavour.cases(EXACT), ids=[declared for declared, _ in flavour.cases(EXACT)])
def test_round_trip_is_exact(database: Database, declared: str, values: list[str]) -> None:
    """By each of the three ways that rows go: loaded straight into the table, loaded into the staging table, inserted into the staging table."""
    sink: Any = database.sink
    for way in ("direct", "staged", "inserted"):
        table = database.table(way, f"id int PRIMARY KEY, v {declared}")
        sink._pause[table.name] = int(way == "staged")
        sink._local = way != "inserted"
        begin(database)
        assert set(database.sink.write(write(table, [*values, None])).result.tolist()) == {WROTE}
        database.sink.commit()
        kind = table.column("v").type
        assert comparable(kind, pa.array(database.column(table, "v"))) == comparable(kind, pa.array([*values, None])), way
        assert sink._pause[table.name] == 0, "the way that was meant was not the way that was gone"


@pytest.mark.parametrize(("declared", "values"), flavour.cases(EXACT), ids=[declared for declared, _ in flavour.cases(EXACT)])
def test_update_of_some_cells_is_exact(database: Database, declared: str, values: list[str]) -> None:
    """A cell decided in some rows only goes through IF(bit, new, old): neither value may be bent there."""
    table = database.table("t", f"id int PRIMARY KEY, v {declared}")
    begin(database)
    database.sink.write(write(table, values))
    turned = [*values[1:], None]
    change = write(table, turned, UPDATE)
    change.decided[::2, 1] = False
    assert set(database.sink.write(change).result.tolist()) == {WROTE}
    database.sink.commit()
    expected = [old if at % 2 == 0 else new for at, (old, new) in enumerate(zip(values, turned, strict=True))]
    kind = table.column("v").type
    assert comparable(kind, pa.array(database.column(table, "v"), pa.string())) == comparable(kind, pa.array(expected, pa.string()))


@pytest.mark.parametrize("local", [True, False], ids=["load", "insert"])
@pytest.mark.parametrize(("declared", "value", "reason"), flavour.cases(REFUSED))
def test_what_does_not_fit_is_refused_with_its_row(database: Database, declared: str, value: str, reason: str, local: bool) -> None:
    table = database.table("t", f"id int PRIMARY KEY, v {declared}")
    database.sink._local = local  # type: ignore[attr-defined]
    begin(database)
    with pytest.raises(Poison) as refused:
        database.sink.write(write(table, [None, value, None]))
    instant = declared.startswith("timestamp")  # in an INSERT the server does not tell a wrong one from one out of range
    allowed = {reason, *(["range"] if flavour.MYSQL and declared == "date" and local else [])}  # MySQL's LOAD DATA tells less than its INSERT
    assert refused.value.reason in allowed or (instant and not local)
    assert refused.value.rows == (1,) or declared == "point" or value.startswith("[[[")  # no row is named then, and the batch is split
    assert len(value) < 3 or value not in str(refused.value)
    database.sink.commit()
    assert database.column(table, "v") == []


def test_without_local_infile_rows_arrive_all_the_same(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, v varchar(50), b varbinary(9), f bit(1), n bit(9), y year, s timestamp(6) NULL")
    database.sink._local = False  # type: ignore[attr-defined]
    row = {"id": "1", "v": "it's\\ \0 \n 😀", "b": "\\x5c27", "f": "t", "n": "300", "y": "2026", "s": "2024-01-02 03:04:05.6+00"}
    rows = pa.table({name: pa.array([value, None] if name != "id" else ["1", "2"], pa.string()) for name, value in row.items()})
    begin(database)
    database.sink.write(Write(table=table, key=("id",), op=np.full(2, INSERT, dtype=np.uint8), values=rows, decided=np.ones((2, 7), dtype=np.bool_)))
    database.sink.commit()
    chunk = database.reader.read_chunk(table, list(row), ("id",), None, 10)
    assert chunk.rows.to_pylist() == [row, {name: "2" if name == "id" else None for name in row}]


# --- paging ---


def pages(database: Database, table: Table, key: Sequence[str], limit: int) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    after: tuple[str, ...] | None = None
    while True:
        chunk = database.reader.read_chunk(table, key, key, after, limit)
        found += [tuple(row[name] for name in key) for row in chunk.rows.to_pylist()]
        after = chunk.last
        if after is None:
            return found


KEYS = [
    ("int NOT NULL", ["-5", "0", "7", "10", "9"]),
    ("bigint unsigned NOT NULL", ["18446744073709551615", "9223372036854775808", "1"]),
    ("decimal(10,2) NOT NULL", ["1.50", "-1.50", "10.00", "9.99"]),
    ("varchar(10) NOT NULL", ["b", "A", "a b", "é", "Z", "it's", "\\", "😀"]),
    ("varchar(10) CHARACTER SET latin1 COLLATE latin1_german2_ci NOT NULL", ["ä", "ae1", "z", "b", "Æ"]),
    ("varchar(10) CHARACTER SET sjis NOT NULL", ["日", "本", "a"]),
    ("char(36) NOT NULL", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"]),
    ("binary(3) NOT NULL", ["\\x000000", "\\x010000", "\\xff0000"]),
    ("varbinary(3) NOT NULL", ["\\x", "\\x00", "\\x27"]),
    ("uuid NOT NULL", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000", "b0eebc99-9c0b-1ef8-bb6d-6bb9bd380a11"]),
    ("date NOT NULL", ["0000-00-00", "2024-01-01", "9999-12-31"]),
    ("datetime(6) NOT NULL", ["2024-01-01 00:00:00.000001", "2024-01-01 00:00:00"]),
    ("timestamp(6) NOT NULL", ["2024-01-01 00:00:00.000001+00", "2024-01-01 00:00:00+00", "2030-01-01 00:00:00+00"]),
    ("time(6) NOT NULL", ["-10:00:00", "10:00:00.5", "100:00:00"]),
    ("enum('z','m','a') NOT NULL", ["z", "m", "a"]),
    ("set('z','m') NOT NULL", ["", "z", "m", "z,m"]),
    ("bit(9) NOT NULL", ["0", "256", "3"]),
    ("bit(1) NOT NULL", ["t", "f"]),
    ("double NOT NULL", ["0.1", "-1e+300", "0.00001"]),
    ("float NOT NULL", ["0.1", "0.2", "1e+30"]),
    ("year NOT NULL", ["0", "2026", "1950"]),
    ("inet6 NOT NULL", ["::", "2001:db8::1"]),
]


@pytest.mark.parametrize(("declared", "values"), flavour.cases(KEYS), ids=[declared for declared, _ in flavour.cases(KEYS)])
def test_paging_and_fetching_by_a_key_of_any_type(database: Database, declared: str, values: list[str]) -> None:
    database.sink.prepare()
    table = database.table("t", f"k {declared}, PRIMARY KEY (k)")
    database.sink.begin(Marker(rule_set="rules", source="erp", batch=1, position="p"))
    rows = pa.table({"k": pa.array(values, pa.string())})
    decided = np.ones((len(values), 1), dtype=np.bool_)
    op = np.full(len(values), INSERT, dtype=np.uint8)
    database.sink.write(Write(table=table, key=("k",), op=op, values=rows, decided=decided))
    database.sink.commit()
    found = pages(database, table, ("k",), 1)
    assert sorted(found) == sorted((value,) for value in values)
    assert found == pages(database, table, ("k",), 100)
    kept = values[:-1]
    fetched = database.reader.fetch(table, ("k",), ("k",), pa.table({"k": pa.array(kept, pa.string())}))
    assert sorted(fetched.column("k").to_pylist()) == sorted(kept)
    assert len(database.reader.fetch(table, ("k",), ("k",), pa.table({"k": pa.array(["infinity", "😀?"], pa.string())}))) == 0


def test_paging_by_several_columns_and_nulls_left_out(database: Database) -> None:
    table = database.table("t", "a int, b varchar(9), c int, UNIQUE (a, b)")
    database.execute("INSERT INTO t SELECT seq DIV 7, CONCAT('k', seq % 7), seq FROM " + flavour.sequence(0, 99))
    database.execute("INSERT INTO t VALUES (NULL, 'x', 1), (5, NULL, 1)")
    found = pages(database, table, ("a", "b"), 4)
    assert len(found) == 100 and len(set(found)) == 100
    assert found == sorted(found, key=lambda key: (int(key[0]), key[1]))


def test_rows_of_one_key_are_never_cut_apart(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, k varchar(9), KEY (k)")
    database.execute("INSERT INTO t VALUES (1,'a'), (2,'A'), (3,'b'), (4,'B'), (5,'b'), (6,'c'), (7,'d'), (8,'D')")
    seen: list[str] = []
    after: tuple[str, ...] | None = None
    while True:
        chunk = database.reader.read_chunk(table, ("id",), ("k",), after, 2)
        seen += chunk.rows.column("id").to_pylist()
        after = chunk.last
        if after is None:
            break
    assert sorted(seen) == ["1", "2", "3", "4", "5", "6", "7", "8"]


def test_chunk_has_the_asked_columns_and_ends(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, v text")
    database.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    first = database.reader.read_chunk(table, ("v",), ("id",), None, 2)
    assert first.rows.to_pylist() == [{"v": "a"}, {"v": "b"}] and first.last == ("2",)
    rest = database.reader.read_chunk(table, ("v",), ("id",), first.last, 2)
    assert rest.rows.to_pylist() == [{"v": "c"}] and rest.last is None


@pytest.mark.parametrize(("declared", "key"), [("k int NOT NULL, j int NOT NULL", ("k",)), ("k varchar(20) NOT NULL, j int NOT NULL", ("k", "j"))])
def test_fetch_by_many_keys_uses_the_index(database: Database, declared: str, key: tuple[str, ...]) -> None:
    table = database.table("t", f"{declared}, PRIMARY KEY ({', '.join(key)})")
    database.execute("INSERT INTO t SELECT seq, 1 FROM " + flavour.sequence(1, 20000))
    keys = pa.table({name: pa.array([str(number) for number in range(-2000, 500)] if name == "k" else ["1"] * 2500, pa.string()) for name in key})
    database.execute("FLUSH STATUS")
    connection = database.reader._connection  # type: ignore[attr-defined]
    connection.query("FLUSH STATUS")
    fetched = database.reader.fetch(table, ("k",), key, keys)
    assert len(fetched) == 499
    status = dict(select(connection, "SHOW SESSION STATUS LIKE 'Handler_read%'", ["n", "v"]).to_pydict().items())
    scanned = {name: int(value) for name, value in zip(status["n"], status["v"], strict=True)}
    assert scanned["Handler_read_rnd_next"] < 10_000, "a full scan of the table"


# --- fence, end, clock ---


def test_fence_separates_what_the_chunk_holds(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY")
    database.execute("INSERT INTO t VALUES (1)")
    before = database.reader.end()
    chunk = database.reader.read_chunk(table, ("id",), ("id",), None, 10)
    database.execute("INSERT INTO t VALUES (2)")
    after = database.reader.end()
    if flavour.MYSQL:
        assert chunk.fence == -1  # it does not say to which place of the log a snapshot belongs
    else:
        assert before.order <= chunk.fence < after.order


def test_fence_is_exact_while_others_write(database: Database) -> None:
    """Rows up to the fence are in the chunk, later ones are not: counted against the log's own positions. MySQL cannot say, and none is claimed."""
    table = database.table("t", "id int AUTO_INCREMENT PRIMARY KEY, file varchar(50)")
    stop = threading.Event()

    def work() -> None:
        connection = pymysql.connect(host="127.0.0.1", port=database.server.port, user="root", database=database.name, autocommit=True)
        while not stop.is_set():
            connection.query("INSERT INTO t VALUES ()")
        connection.close()

    writer = threading.Thread(target=work)
    writer.start()
    try:
        while not database.execute("SELECT 1 FROM t LIMIT 1"):
            pass
        chunks = [database.reader.read_chunk(table, ("id",), ("id",), None, 1_000_000) for _ in range(20)]
    finally:
        stop.set()
        writer.join()
    assert 0 < len(chunks[0].rows) < len(chunks[-1].rows)
    if flavour.MYSQL:
        assert {chunk.fence for chunk in chunks} == {-1}
        return
    file, _ = parts(database)
    events = database.execute(f"SHOW BINLOG EVENTS IN '{file}'")
    ends = [int(row[4]) for row in events if row[2] == "Xid"]
    assert ends
    for chunk in chunks:
        offset = chunk.fence & ((1 << 40) - 1)
        contained = [position for position in mine(events, f"{database.name}.t") if position <= offset]
        assert len(chunk.rows) == len(contained)


def mine(events: Sequence[tuple[Any, ...]], table: str) -> list[int]:
    """Commit positions of the transactions whose rows are of this table."""
    found, touched = [], False
    for _, _, kind, _, end, info in events:
        if kind == "Table_map":
            touched = f"({table})" in str(info)
        elif kind == "Xid" and touched:
            found.append(int(end))
            touched = False
    return found


def parts(database: Database) -> tuple[str, int]:
    end = json.loads(database.reader.end().text)
    return end["file"], end["offset"]


def test_end_moves_with_commits_and_names_gtid_file_and_offset(database: Database) -> None:
    first = database.reader.end()
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    second = database.reader.end()
    assert second.order > first.order
    told = json.loads(second.text)
    assert set(told) == {"gtid", "file", "offset"}
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:1-\d+" if flavour.MYSQL else r"\d+-\d+-\d+", told["gtid"])
    assert second.order == int(told["file"].rsplit(".", 1)[1]) << 40 | told["offset"]


def test_clock_is_the_servers(database: Database) -> None:
    before = database.reader.clock_us()
    ((now,),) = database.execute("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)")
    assert before <= int(now) <= before + 60_000_000


# --- errors and connections ---


@pytest.mark.usefixtures("mariadb")
def test_reading_and_writing_over_tls() -> None:
    with tempfile.TemporaryDirectory() as name:  # not pytest's folder: the server's account cannot enter it
        Path(name).chmod(0o755)
        certificate, key = self_signed(Path(name))
        with servers.mariadb({"ssl_cert": str(certificate), "ssl_key": str(key), "require_secure_transport": True}) as server:
            made = Database(server)
            for options in ("", f"?ssl_ca={certificate}&ssl_verify_cert=true"):
                adapter = connect("crm", made.url + options, {})
                made.reader, made.sink = adapter.reader(), adapter.sink("rules")
                table = made.table(f"t{len(options)}", "id int PRIMARY KEY, v text")
                texts = [str(number) * 50 for number in range(5000)]
                begin(made)
                made.sink.write(write(table, texts))
                made.sink.commit()
                assert made.column(table, "v") == texts
                made.reader.close()
                made.sink.close()
            stranger, _ = self_signed(Path(name))
            with pytest.raises(Terminal, match="encrypted"):
                connect("crm", f"{made.url}?ssl_ca={stranger}&ssl_verify_cert=true", {}).reader().clock_us()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, readable for the server's account."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    for above in (folder, *folder.parents[:3]):
        above.chmod(0o755)
    secret = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    key.write_bytes(pem)
    key.chmod(0o644)
    return certificate, key


def test_a_table_that_is_not_there_is_terminal_and_names_near_ones(database: Database) -> None:
    database.table("customers", "id int PRIMARY KEY")
    with pytest.raises(Terminal) as missing:
        database.reader.table("", "customer")
    assert "customers" in missing.value.fix


def test_the_reader_reopens_a_connection_that_was_killed_between_calls(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY")
    ((number,),) = database.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{database.name}' AND id <> CONNECTION_ID()")
    database.execute(f"KILL {number}")
    assert len(database.reader.read_chunk(table, ("id",), ("id",), None, 10).rows) == 0


def test_a_server_that_is_away_is_transient() -> None:
    reader = connect("crm", "mysql://root@127.0.0.1:1/nothing", {}).reader()
    with pytest.raises(Transient):
        reader.clock_us()


def test_described_table(database: Database) -> None:
    database.execute("CREATE TABLE parent (id int PRIMARY KEY)")
    table = database.table(
        "t",
        "id bigint unsigned AUTO_INCREMENT PRIMARY KEY, j json, l longtext CHECK (char_length(l) > 0), u varchar(9), p int, g varchar(9) AS (upper(u)) STORED, "
        "d datetime NOT NULL DEFAULT now(), UNIQUE (u), UNIQUE part (l(3), u), FOREIGN KEY (p) REFERENCES parent (id) ON DELETE SET NULL",
    )
    assert table.primary_key == table.log_key == ("id",)
    assert set(table.unique) == {("id",), ("u",)}
    assert table.column("id").default and not table.column("id").type.signed
    assert table.column("j").type.kind is Kind.JSON and table.column("l").type.kind is Kind.TEXT
    assert table.column("g").generated and not table.column("j").default and table.column("d").default
    assert table.foreign_keys[0].on_delete == "SET NULL" and table.foreign_keys[0].parent.table == "parent"
    assert database.table("bare", "a int, b text").log_key == ("a", "b")


def test_rows_larger_than_a_packet(database: Database) -> None:
    connection = open_connection(database.url, system="crm")
    sql = "SELECT 1, REPEAT('x', 10000000), REPEAT('y', 15000000) UNION ALL SELECT 2, 'a', NULL UNION ALL SELECT 3, REPEAT('z', 16000000), ''"
    rows = select(connection, sql, ["n", "a", "b"], [Form.PLAIN, Form.PLAIN, Form.PLAIN])
    assert rows.column("n").to_pylist() == ["1", "2", "3"]
    assert [len(value) for value in rows.column("a").to_pylist()] == [10_000_000, 1, 16_000_000]
    assert rows.column("b").to_pylist()[1:] == [None, ""]
    assert connection.query("SELECT 1") == 1
    connection.close()


def test_an_error_after_the_first_rows_is_the_servers_error(database: Database) -> None:
    connection = open_connection(database.url, system="crm")
    with pytest.raises(pymysql.MySQLError):
        select(connection, f"SELECT (SELECT t.seq FROM {flavour.sequence(1, 3)[:-5]} AS t WHERE t.seq <= s.seq) FROM {flavour.sequence(1, 10)}", ["n"])
    connection.close()
