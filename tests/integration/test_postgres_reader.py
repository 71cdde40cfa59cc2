"""PostgreSQL's types there and back, and what only its reader does: domains, snapshots and fences, large rows, the log's end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from adapters.postgres import connect
from adapters.postgres import reader as reader_module
from adapters.postgres.connection import connect as connect_postgres
from engine.errors import Poison, SynclineError, Terminal, Transient
from engine.model.batch import INSERT, UPDATE
from engine.model.schema import Table
from engine.model.types import DataType, Kind
from engine.model.write import Marker, Write
from engine.ports import Adapter, Watched
from tests import flavour

DATABASES: dict[int, str] = {}
"""One database per server: making one takes longer than a test."""


class Place:
    """A fresh schema, the default one of its URL, or where `alone` a fresh database."""

    numbers = itertools.count(1)

    def __init__(self, server: Any, *, alone: bool = False) -> None:
        self.server = server
        self.url = server.database() if alone else DATABASES.setdefault(server.port, "") or server.database()
        self.database = urlsplit(self.url).path.strip("/")
        if not alone:
            DATABASES[server.port] = self.url
            self.schema = f"place_{next(self.numbers)}"
            self.execute(f"CREATE SCHEMA {self.schema}")
            self.url += f"?options=-csearch_path%3D{self.schema}%2Cpublic"
        self.adapter: Adapter = connect("erp", self.url, {})
        self.reader = self.adapter.reader()

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return list(cursor.fetchall()) if cursor.description else []

    def values(self, name: str) -> list[str]:
        """What the tests send of a type, as far as this version has it."""
        return flavour.in_postgres(name, VALUES[name], int(str(self.execute("SHOW server_version_num")[0][0])) // 10000)

    def login(self, user: str) -> str:
        """A URL for a user without rights."""
        if not self.execute(f"SELECT FROM pg_roles WHERE rolname = '{user}'"):
            self.server.login(user, "x", rights=False)
        return str(self.url.replace("postgres@", f"{user}:x@"))


@pytest.fixture(params=["postgres15", "postgres18"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    made = Place(request.getfixturevalue(request.param))
    yield made
    made.reader.close()


# The canonical text of edge values, type by type. What the server prints for them is the same text, so it is written and read unchanged.
INSTANTS = ["2026-02-28 23:59:59.999999+00", "1970-01-01 00:00:00+00", "infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "294276-12-31 23:59:59.999999+00"]
VALUES: dict[str, list[str]] = {
    "boolean": ["t", "f"],
    "smallint": ["0", "-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "oid": ["0", "4294967295"],
    "numeric": ["0", "-0.00000000000000000001", "9" * 65 + ".5", "1" + "0" * 131071, "NaN", "Infinity", "-Infinity", "1.500", "12345678901234567890.12"],
    "numeric(65,30)": ["9" * 35 + "." + "9" * 30, "-0." + "0" * 29 + "1", "0." + "0" * 30],
    "numeric(10,2)": ["99999999.99", "-0.01", "NaN"],
    "numeric(5,0)": ["-99999", "0"],
    "real": ["0", "-0", "1.1", "3.4028235e+38", "1e-45", "NaN", "Infinity", "-Infinity", "0.3", "1.6777216e+07"],
    "double precision": ["0.1", "1.7976931348623157e+308", "5e-324", "NaN", "-Infinity", "0.30000000000000004", "1e+21", "-0"],
    "money": ["$0.00", "-$92,233,720,368,547,758.08", "$1,234.50"],
    "text": ["", " ", "a\tb\nc\r\\.\\N\\", "Ærøskøbing 😀 日本\U0010ffff", "'\"`%s{}", "x" * 100_000],
    "character varying(10)": ["", "ten chars!", "😀" * 10, "end  "],
    "character(5)": ["", "ab", "12345", "ä😀"],
    '"char"': ["a"],
    "name": ["x" * 63, ""],
    "bytea": ["\\x", "\\x00ff5c0a09", "\\x" + "00" * 1000],
    "date": ["2026-02-28", "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "0001-01-01"],
    "time without time zone": ["00:00:00", "23:59:59.999999", "24:00:00", "12:30:00.5"],
    "time(3) without time zone": ["12:30:00.125", "00:00:00"],
    "time with time zone": ["12:30:00+00", "23:59:59.999999-15:59", "24:00:00+05:30"],
    "timestamp without time zone": [value.replace("+00", "") for value in INSTANTS],
    "timestamp(0) without time zone": ["2026-02-28 23:59:59"],
    "timestamp with time zone": INSTANTS,
    "interval": ["00:00:00", "1 year 2 mons -3 days +04:05:06.789", "-178000000 years", "23:59:59.000001"],
    "uuid": ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    "json": ["null", '{"b": 1,  "a": [1.50, null, "\\u0041\\n"]}', '"text"', "1e400"],
    "jsonb": ["null", '{"a": [1.50, null, "A\\n"], "b": 1}', '"😀"', "[]"],
    "xml": ["<a>b</a>", "text <b/>"],
    "bit(8)": ["00000000", "10101010"],
    "bit varying(10)": ["", "1", "0000000000"],
    "inet": ["10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32"],
    "cidr": ["10.0.0.0/8", "2001:db8::/32"],
    "macaddr": ["08:00:2b:01:02:03"],
    "int4range": ["empty", "[1,5)", "(,)", "[7,)"],
    "tstzrange": ['["2026-01-01 00:00:00+00","2026-02-01 00:00:00+00")', "empty"],
    "numrange[]": ['{"[1.5,2.50)",empty,NULL}'],
    "integer[]": ["{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[0:1]={5,6}"],
    "text[]": ["{}", '{"",NULL,"NULL","a,b","q\\"uote","back\\\\slash","new\nline",😀}'],
    "point": ["(1,2)", "(1e-10,-1e+20)", "(NaN,Infinity)"],
    "polygon": ["((0,0),(1,0),(1,1))"],
    "tsvector": ["'cat':2 'fat':1A", ""],
    "pg_lsn": ["16/B374D848"],
    "mood": ["sad", 'it\'s "ok"', "été, then"],
    "mood[]": ['{sad,"été, then"}'],
    "pair": ['(1,"a,b")', "(,)"],
    "positive": ["1", "2147483647"],
    "code": ["abc"],
    "citext": ["MiXed", ""],
}


@pytest.fixture
def typed(place: Place) -> Place:
    place.execute("CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\"', 'été, then')")
    place.execute("CREATE TYPE pair AS (n int, t text)")
    place.execute("CREATE DOMAIN positive AS int CHECK (value > 0)")
    place.execute("CREATE DOMAIN short AS varchar(3)")
    place.execute("CREATE DOMAIN code AS short NOT NULL DEFAULT 'new'")
    place.execute("CREATE EXTENSION IF NOT EXISTS citext SCHEMA public")
    return place


def apply(place: Place, *writes: Write) -> None:
    sink = place.adapter.sink("rules")
    try:
        sink.prepare()
        sink.begin(Marker(rule_set="rules", source="crm", batch=1, position="1"))
        for write in writes:
            assert not sink.write(write).result.any()
        sink.commit()
    finally:
        sink.close()


def write(table: Table, op: int, rows: list[tuple[str | None, ...]]) -> Write:
    columns = [column.name for column in table.columns]
    values = pa.table({name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(columns)})
    decided = np.array([[op == INSERT or name != "id" for name in columns]] * len(rows))
    return Write(table=table, key=("id",), op=np.full(len(rows), op, dtype=np.uint8), values=values, decided=decided)


def test_every_type_arrives_exactly_and_is_read_back_as_the_same_text(typed: Place) -> None:
    names = [name for name in VALUES if name != "xml" or typed.execute("SELECT setting <> '' FROM pg_config() WHERE setting LIKE '%with-libxml%'")]
    columns = [f"c{at}" for at in range(len(names))]
    typed.execute("CREATE TABLE types (id int PRIMARY KEY, " + ", ".join(f"{c} {n}" for c, n in zip(columns, names, strict=True)) + ")")
    table = typed.reader.table("", "types")
    sent = {name: typed.values(name) for name in names}
    longest = max(map(len, sent.values()))
    rows: list[tuple[str | None, ...]] = []
    for at in range(longest + 1):  # shorter lists end with nulls, where the column takes them
        cells = [values[at] if at < len(values) else ("xyz" if name == "code" else None) for name, values in sent.items()]
        rows.append((str(at), *cells))
    apply(typed, write(table, INSERT, rows))
    straight = typed.reader.read_chunk(table, columns, ("id",), None, 1000).rows
    for at, name in enumerate(names):
        assert straight.column(columns[at]).to_pylist() == [row[at + 1] for row in rows], name
    # the same through the staging table: every row takes the values of its neighbour
    moved = [(row[0], *rows[place - 1][1:]) for place, row in enumerate(rows)]
    apply(typed, write(table, UPDATE, moved))
    staged = typed.reader.fetch(table, ["id", *columns], ("id",), pa.table({"id": [row[0] for row in rows]})).sort_by("id")
    expected = {str(row[0]): row[1:] for row in moved}
    for row in staged.to_pylist():
        assert tuple(row[name] for name in columns) == expected[row["id"]]


KEYS = ["boolean", "bigint", "numeric", "real", "double precision", "text", "character(5)", "date", "timestamp with time zone", "uuid"]
KEYS += ["bytea", "mood", "inet", "interval", "bit(8)", "citext", "positive"]


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_any_type_is_paged_and_fetched(typed: Place, name: str) -> None:
    values = [value for value in dict.fromkeys(typed.values(name)) if len(value) < 1000 and value != "-0"]  # 0 and -0 are one key
    typed.execute(f"CREATE TABLE keyed (id {name} PRIMARY KEY)")
    table = typed.reader.table("", "keyed")
    apply(typed, write(table, INSERT, [(value,) for value in values]))
    (whole,) = (typed.reader.read_chunk(table, ("id",), ("id",), None, 1000).rows.column("id").to_pylist(),)
    assert sorted(whole) == sorted(values)
    seen: list[str] = []
    after: tuple[str, ...] | None = None
    while True:
        chunk = typed.reader.read_chunk(table, ("id",), ("id",), after, 1)
        seen += chunk.rows.column("id").to_pylist()
        after = chunk.last
        if after is None:
            break
    assert seen == whole
    found = typed.reader.fetch(table, ("id",), ("id",), pa.table({"id": pa.array(values)}))
    assert sorted(found.column("id").to_pylist()) == sorted(values)


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("smallint", "32768"),
        ("bigint", "18446744073709551615"),
        ("boolean", "2"),
        ("numeric(10,2)", "123456789.00"),
        ("numeric(10,2)", "Infinity"),
        ("real", "1e400"),
        ("date", "0000-00-00"),
        ("date", "2026-00-10"),
        ("timestamp with time zone", "0000-00-00 00:00:00+00"),
        ("time without time zone", "-01:00:00"),
        ("time without time zone", "838:59:59"),
        ("text", "nul \0 inside"),
        ("character varying(10)", "eleven char"),
        ("uuid", "no uuid"),
        ("json", "{broken"),
        ("jsonb", '"\\u0000"'),
        ("mood", "happy"),
        ("bytea", "\\xabc"),
        ("positive", "-1"),
        ("bit(8)", "101"),
    ],
)
def test_a_value_that_the_type_cannot_hold_is_refused_with_a_reason_and_not_quoted(typed: Place, type_name: str, value: str) -> None:
    typed.execute(f"CREATE TABLE strict (id int PRIMARY KEY, v {type_name})")
    table = typed.reader.table("", "strict")
    with pytest.raises(Poison) as refused:
        apply(typed, write(table, INSERT, [("1", value)]))
    assert refused.value.reason in ("range", "type", "encoding", "too_long", "check")
    assert refused.value.rows == (0,)
    assert len(value) < 4 or value not in str(refused.value)
    assert typed.execute("SELECT count(*) FROM strict") == [(0,)]


def test_types_are_described_under_their_domains(typed: Place) -> None:
    typed.execute(
        "CREATE TABLE described (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood, d positive, c code, n numeric(3,1), f numeric, "
        "t timestamp(3), ch char(4), bp bpchar, e citext, r real, g int GENERATED ALWAYS AS (1) STORED, b bit(4), a mood[])"
    )
    table = typed.reader.table("", "described")
    of = {column.name: column for column in table.columns}
    assert of["id"].always and of["id"].default
    assert of["m"].type == DataType(kind=Kind.ENUM, name="mood", labels=("sad", 'it\'s "ok"', "été, then"))
    assert of["d"].type == DataType(kind=Kind.INT, name="integer", bits=32) and of["d"].nullable
    assert of["c"].type == DataType(kind=Kind.TEXT, name="character varying(3)", length=3) and not of["c"].nullable and of["c"].default
    assert (of["n"].type.precision, of["n"].type.scale) == (3, 1)
    assert (of["f"].type.precision, of["f"].type.scale) == (None, None)
    assert of["t"].type.fraction == 3 and of["t"].type.kind is Kind.DATETIME
    assert of["ch"].type.padded and of["ch"].type.length == 4 and of["bp"].type.padded and of["bp"].type.length is None
    assert of["e"].type.kind is Kind.TEXT and of["r"].type.bits == 32 and of["g"].generated and not of["g"].default
    assert of["b"].type.kind is Kind.OPAQUE and of["b"].type.name == "bit(4)" and of["a"].type.name == "mood[]"


def test_a_numeric_of_negative_scale_is_described(postgres18: Any) -> None:
    """`numeric(3,-2)` is since 15."""
    place = Place(postgres18)
    place.execute("CREATE TABLE rounded (n numeric(3,-2))")
    kind = place.reader.table("", "rounded").column("n").type
    place.reader.close()
    assert (kind.precision, kind.scale) == (5, 0)


@pytest.mark.parametrize(
    ("identity", "log_key"),
    [
        ("DEFAULT", ("id",)),
        ("FULL", ("id", "a", "b")),
        ("NOTHING", ()),
        ("USING INDEX by_a", ("a",)),
    ],
)
def test_the_log_key_is_the_replica_identity(place: Place, identity: str, log_key: tuple[str, ...]) -> None:
    place.execute("CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int, g int GENERATED ALWAYS AS (1) STORED)")
    place.execute("CREATE UNIQUE INDEX by_a ON t (a) INCLUDE (b)")
    place.execute("CREATE UNIQUE INDEX partial ON t (b) WHERE b > 0")
    place.execute("CREATE UNIQUE INDEX computed ON t ((a + 1))")
    place.execute(f"ALTER TABLE t REPLICA IDENTITY {identity}")
    table = place.reader.table("", "t")
    assert table.log_key == log_key
    assert table.unique == (("id",), ("a",))


def test_another_schema_views_and_closed_tables(place: Place) -> None:
    place.execute('CREATE SCHEMA "Sales Dept"')
    place.execute('CREATE TABLE "Sales Dept"."Order" ("Id" int PRIMARY KEY)')
    place.execute("CREATE VIEW seen AS SELECT 1 AS x")
    table = place.reader.table("Sales Dept", "Order")
    assert place.reader.read_chunk(table, ("Id",), ("Id",), None, 5).rows.num_rows == 0
    with pytest.raises(Terminal, match="is a view"):
        place.reader.table("", "seen")
    with pytest.raises(Terminal) as near:
        place.reader.table("", "order")
    assert "Sales Dept.Order" in near.value.fix
    other = connect("erp", place.login("closed_out"), {}).reader()
    with pytest.raises(Terminal, match="may not enter schema") as closed:
        other.table("Sales Dept", "Order")
    assert 'GRANT USAGE ON SCHEMA "Sales Dept"' in closed.value.fix
    place.execute('GRANT USAGE ON SCHEMA "Sales Dept" TO closed_out')
    with pytest.raises(Terminal, match="may not read"):
        other.table("Sales Dept", "Order")
    other.close()


def test_row_security_is_an_error_not_a_smaller_result(place: Place) -> None:
    place.execute("CREATE TABLE guarded (id int PRIMARY KEY); INSERT INTO guarded VALUES (1), (2)")
    place.execute("ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; CREATE POLICY one ON guarded USING (id = 1)")
    url = place.login("half_blind")
    place.execute(f"GRANT USAGE ON SCHEMA {place.schema} TO half_blind; GRANT SELECT ON guarded TO half_blind")
    reader = connect("erp", url, {}).reader()
    table = reader.table("", "guarded")
    with pytest.raises(Terminal, match="row-level security"):
        reader.read_chunk(table, ("id",), ("id",), None, 10)
    reader.close()


# --- snapshot and fence ---


def test_a_transaction_up_to_the_fence_is_in_the_rows_and_one_beyond_may_not_be(place: Place) -> None:
    place.execute("CREATE TABLE t (id int PRIMARY KEY)")
    table = place.reader.table("", "t")

    def xid(connection: psycopg.Connection[Any]) -> int:
        return int(connection.execute("SELECT pg_current_xact_id()::text").fetchone()[0])  # type: ignore[index]

    with psycopg.connect(place.url) as early, psycopg.connect(place.url) as late:
        early_xid = xid(early)
        early.execute("INSERT INTO t VALUES (1)")
        late_xid = xid(late)
        late.execute("INSERT INTO t VALUES (2)")
        late.commit()
        chunk = place.reader.read_chunk(table, ("id",), ("id",), None, 10)
        assert chunk.rows.column("id").to_pylist() == ["2"]
        assert chunk.fence < early_xid < late_xid  # the later one is in the rows too, but playing it again is harmless
        early.commit()
    chunk = place.reader.read_chunk(table, ("id",), ("id",), None, 10)
    assert chunk.rows.column("id").to_pylist() == ["1", "2"]
    assert chunk.fence >= late_xid


def test_a_chunk_of_large_rows_ends_early_and_goes_on_where_it_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "CHUNK_BYTES", 50_000)
    place.execute("CREATE TABLE large (id int PRIMARY KEY, v text)")
    place.execute("INSERT INTO large SELECT g, repeat('x', 20000) FROM generate_series(1, 300) AS g")
    table = place.reader.table("", "large")
    seen: list[str] = []
    after: tuple[str, ...] | None = None
    sizes = []
    while True:
        chunk = place.reader.read_chunk(table, ("id", "v"), ("id",), after, 1000)
        sizes.append(chunk.rows.num_rows)
        seen += chunk.rows.column("id").to_pylist()
        after = chunk.last
        if after is None:
            break
    assert seen == [str(n) for n in range(1, 301)]
    assert max(sizes) <= 4


# --- the log's end ---


def wal(place: Place, function: str) -> int:
    return int(place.execute(f"SELECT {function}() - '0/0'::pg_lsn")[0][0])


@pytest.mark.parametrize("synchronous", ["on", "off"])
def test_the_end_is_at_or_behind_every_earlier_commit_and_on_disk(place: Place, synchronous: str) -> None:
    place.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with psycopg.connect(place.url, autocommit=True) as writer:
        writer.execute(f"SET synchronous_commit = {synchronous}")
        for number in range(20):
            written = wal(place, "pg_current_wal_insert_lsn")
            writer.execute("INSERT INTO t VALUES (%s)", (number,))
            end = place.reader.end()
            assert written < end.order <= wal(place, "pg_current_wal_flush_lsn")
            assert end.text == f"{end.order >> 32:X}/{end.order & 0xFFFFFFFF:X}@{place.execute('SELECT system_identifier FROM pg_control_system()')[0][0]}"


@pytest.mark.parametrize("synchronous", ["on", "off"])
@pytest.mark.parametrize("disturbance", ["SELECT 1", "SELECT pg_switch_wal()", "CHECKPOINT", "SELECT pg_logical_emit_message(false, 'x', repeat('x', 8000))"])
def test_a_reader_of_the_log_reaches_the_end_without_further_writes(place: Place, synchronous: str, disturbance: str) -> None:
    place.execute("CREATE TABLE t (id int PRIMARY KEY)")
    table = place.reader.table("", "t")
    name = f"end_{place.schema}"
    source = connect("erp", place.url, {"slot": name, "publication": name}).source("rules")
    followed = [Watched(table=table, columns=("id",), identity=("id",))]
    start = source.prepare(followed)
    with psycopg.connect(place.url, autocommit=True) as writer:
        writer.execute(f"SET synchronous_commit = {synchronous}")
        writer.execute("INSERT INTO t SELECT generate_series(1, 100)")
        writer.execute(disturbance.encode())
    end = place.reader.end()
    try:
        source.open(followed, start)
        reached, seen = 0, 0
        deadline = time.monotonic() + 20
        while reached < end.order and time.monotonic() < deadline:
            batch = source.read(0.2)
            if batch is not None:
                reached, seen = batch.high.order, seen + sum(len(changes) for changes in batch.changes)
        assert reached >= end.order and seen == 100
    finally:
        source.close()
        place.execute(f"SELECT pg_drop_replication_slot('{name}') FROM pg_replication_slots WHERE slot_name = '{name}' AND NOT active")


def test_asking_for_the_end_of_an_idle_log_writes_nothing(place: Place) -> None:
    place.execute("CREATE TABLE t (id int PRIMARY KEY)")
    place.reader.end()
    place.execute("SELECT 1")
    # The server itself writes now and then (autovacuum); did we, no two ends would ever be the same.
    assert any(len({place.reader.end().order for _ in range(5)}) == 1 for _ in range(200))


# --- the sentences of a failing connection ---


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda server, url: url.replace(f":{server.port}/", ":1/"), Transient, "nothing answers at 127.0.0.1:1"),
        (lambda server, _: server.url("nowhere"), Terminal, "there is no database nowhere"),
        (lambda server, _: server.url("postgres", user="nobody_here", password="hush-hush"), Terminal, "password"),
        (lambda _, url: url + "&sslmode=require", Terminal, "encrypted"),
        (lambda _, url: url.replace("@", ":hush%zzhush@"), Terminal, "cannot be read"),
        (lambda _, url: url.replace("127.0.0.1", "no-such-host.invalid"), Transient, "cannot be found"),
    ],
)
def test_a_failing_connection_is_a_sentence_without_secrets(place: Place, change: Any, kind: type[SynclineError], words: str) -> None:
    with pytest.raises(kind) as failed:
        connect_postgres(change(place.server, place.url), system="erp")
    assert words in str(failed.value) and "system erp" in str(failed.value)
    assert "hush" not in str(failed.value)


def test_the_session_prints_canonical_text_whatever_the_database_prefers(postgres15: Any) -> None:
    place = Place(postgres15, alone=True)
    place.execute("CREATE TABLE t (id int PRIMARY KEY, a timestamptz, b bytea, c float8, d interval, e text)")
    place.execute("INSERT INTO t VALUES (1, '2026-03-04 05:06:07+00', '\\xff', 0.1::float8 + 0.2::float8, '1 day', 'ä')")
    preferred = {"datestyle": "SQL, DMY", "timezone": "Asia/Tokyo", "bytea_output": "escape", "extra_float_digits": "-3"}
    preferred |= {"intervalstyle": "iso_8601", "client_encoding": "LATIN1", "lc_monetary": "C", "standard_conforming_strings": "off"}
    for name, value in preferred.items():
        place.execute(f"ALTER DATABASE \"{place.database}\" SET {name} = '{value}'")
    table = place.reader.table("", "t")
    (row,) = place.reader.read_chunk(table, ("a", "b", "c", "d", "e"), ("id",), None, 5).rows.to_pylist()
    place.reader.close()
    assert row == {"a": "2026-03-04 05:06:07+00", "b": "\\xff", "c": "0.30000000000000004", "d": "1 day", "e": "ä"}
