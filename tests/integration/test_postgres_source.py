"""The PostgreSQL source against real servers: what the log says arrives, whole and in order; what it cannot say stops with the reason."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from adapters.postgres import connection as pg
from adapters.postgres import source as source_module
from adapters.postgres.pgoutput_stream import Streamed
from adapters.postgres.pgoutput_wire import LibpqWire
from adapters.postgres.reader import PostgresReader
from adapters.postgres.schema import read_table
from adapters.postgres.source import PostgresSource
from engine.errors import SynclineError, Terminal, Transient
from engine.model.batch import DELETE, INSERT, UPDATE, Batch, Changes, Position
from engine.ports import Watched
from engine.throwaway import servers
from engine.throwaway.servers import PostgresServer
from tests import flavour

MISSING = "<missing>"
CHECKPOINT = """CREATE TABLE syncline_checkpoint (rule_set text, source text, batch bigint, position text, updated_at timestamptz,
  PRIMARY KEY (rule_set, source))"""


@pytest.fixture(params=["15", "18"])
def server(request: pytest.FixtureRequest) -> PostgresServer:
    return cast("PostgresServer", request.getfixturevalue(f"postgres{request.param}"))


@dataclass
class Log:
    """A fresh database, a session that writes to it, and the sources opened on it."""

    url: str
    sql: psycopg.Connection[Any]
    opened: list[PostgresSource]

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.sql.execute(statement.encode())

    def one(self, statement: str) -> Any:
        row = self.sql.execute(statement.encode()).fetchone()
        assert row is not None
        return row[0]

    def watch(self, table: str, *columns: str, identity: tuple[str, ...] | None = None) -> Watched:
        found = read_table(cast("pg.Connection", self.sql), "erp", "public", table)
        return Watched(table=found, columns=columns or tuple(c.name for c in found.columns), identity=identity or found.primary_key or found.log_key)

    def source(self, **options: object) -> PostgresSource:
        source = PostgresSource("erp", self.url, "rules", options)
        self.opened.append(source)
        return source

    def open(self, *watched: Watched, at: Position | None = None, **options: object) -> PostgresSource:
        source = self.source(**options)
        start = source.prepare(watched) if at is None else at
        source.open(watched, start)
        return source

    @property
    def version(self) -> int:
        return self.sql.info.server_version // 10000

    def end(self) -> int:
        return int(self.one("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn"))


@pytest.fixture
def log(server: PostgresServer) -> Iterator[Log]:
    with opened_log(server) as log:
        yield log


EMPTIED = """DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT pubname FROM pg_publication LOOP EXECUTE format('DROP PUBLICATION %I', name); END LOOP;
  DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$"""
_databases: weakref.WeakKeyDictionary[PostgresServer, str] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def opened_log(server: PostgresServer) -> Iterator[Log]:
    """One database for all tests on a server, emptied after each: a fresh one is hundreds of files."""
    url = _databases.get(server) or server.database()
    _databases[server] = url
    sql = pg.connect(url, system="test")
    log = Log(url, sql, [])
    try:
        yield log
    finally:
        for source in log.opened:
            source.close()
        sql = log.sql
        drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active"
        while sql.execute("SELECT 1 FROM pg_replication_slots WHERE database = current_database()").fetchone():
            sql.execute(drop)  # a walsender may be just going
        sql.execute(EMPTIED)
        sql.execute(f'ALTER DATABASE "{sql.info.dbname}" RESET ALL'.encode())
        sql.close()


def read_changes(source: PostgresSource, rows: int) -> list[Batch]:
    """Batches until `rows` changes came; then nothing more may come."""
    batches, seen, deadline = [], 0, time.monotonic() + 20
    while seen < rows:
        assert time.monotonic() < deadline, f"only {seen} of {rows} changes came"
        batch = source.read(0.5)
        if batch is not None and (batch.changes or batch.truncates or len(batch.transactions.order)):
            batches.append(batch)
            seen += sum(len(c) for c in batch.changes) + len(batch.truncates)
    assert seen == rows
    return batches


def only(batch: Batch) -> Changes:
    (changes,) = batch.changes
    return changes


def rows(changes: Changes) -> list[tuple[int, dict[str, str | None]]]:
    out = []
    for n, row in enumerate(changes.values.to_pylist()):
        for column, name in enumerate(changes.values.column_names):
            if changes.missing[n, column]:
                assert row[name] is None
                row[name] = MISSING
        out.append((int(changes.op[n]), row))
    return out


def read_error(source: PostgresSource) -> SynclineError:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            source.read(0.5)
        except SynclineError as error:
            return error
    pytest.fail("reading went on")


# Type, then values as literals; every one must read the same in the log and in COPY.
TYPES: dict[str, list[str]] = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767", "0"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["'-9223372036854775808'", "9223372036854775807"],
    "oid": ["4294967295"],
    "numeric": ["'NaN'", "'Infinity'", "'-Infinity'", "1.500", "0", "-0.00", "1e50", "1e-50"],
    "numeric(65,30)": ["12345678901234567890123456789012345.123456789012345678901234567890", "-1"],
    "numeric(10,2)": ["1.5", "-0.005", "99999999.99"],
    "real": ["'NaN'", "'Infinity'", "1.1", "3.4028235e38", "-0.0", "1e-45"],
    "double precision": ["'-Infinity'", "0.1", "1.7976931348623157e308", "5e-324", "'-0'", "1e15", "1e16"],
    "text": ["''", "'ä😀'", "E'tab\\tline\\nback\\\\slash'", "'  blanks  '", "'\\N'", "repeat('x', 3000)"],
    "varchar(20)": ["'žluťoučký kůň'", "'trailing   '"],
    "char(5)": ["'ab'", "'äöüßé'", "''"],
    '"char"': ["'x'"],
    "name": ["'a name'"],
    "bytea": ["'\\x'", "'\\x00ff0a5c'"],
    "date": ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'5874897-12-31'", "'2024-02-29'", "'0001-01-01'"],
    "time": ["'24:00:00'", "'00:00:00.000001'", "'12:30:00.500'"],
    "timetz": ["'12:00:00+05:30'"],
    "timestamp": ["'infinity'", "'2024-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'4713-11-24 00:00:00 BC'", "'294276-12-31 23:59:59.999999'"],
    "timestamptz": ["'-infinity'", "'2024-06-30 23:59:59.1+02'", "'1900-01-01 00:00:00 Europe/Amsterdam'"],
    "timestamp(0)": ["'2024-01-01 12:00:00.6'"],
    "interval": ["'1 year 2 mons -3 days 04:05:06.789'", "'-1 sec'", "'0'"],
    "uuid": ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"],
    "json": ['\'{"b": 1,  "a": [null, 1.50]}\'', "'null'"],
    "jsonb": ['\'{"b": 1,  "a": [null, 1.50]}\'', "'\"\\u00e4\"'"],
    "xml": ["'<a>ü</a>'"],
    "inet": ["'::1'", "'10.0.0.1/8'"],
    "cidr": ["'10.0.0.0/8'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "money": ["1234.56", "'-0.01'"],
    "bit(3)": ["B'101'"],
    "bit varying": ["B''", "B'1010101'"],
    "point": ["'(1.5,-2)'"],
    "box": ["'((1,1),(0,0))'"],
    "tsvector": ["'a fat cat'"],
    "int4range": ["'[1,5)'", "'empty'"],
    "tstzrange": ["'[2024-01-01 00:00:00+01, infinity)'"],
    "integer[]": ["'{1,NULL,3}'", "'{}'", "'{{1,2},{3,4}}'"],
    "text[]": ["array['a,b', 'c\"d', NULL, '', 'NULL']"],
    "bytea[]": ["array['\\x00ff'::bytea]"],
    "timestamptz[]": ["array['2024-01-01 00:00:00+01'::timestamptz]"],
    "mood": ["'so so'"],
    "amount": ["1.5"],
    "padded": ["'x'"],
    "pair": ["row(1, 'a,b')"],
    "pg_lsn": ["'0/16B3748'"],
    "hstore": ["'a=>1,b=>NULL'"],
    "citext": ["'MiXed'"],
}
PREPARE_TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'so so')",
    "CREATE DOMAIN amount AS numeric(10,3)",
    "CREATE DOMAIN padded AS char(4)",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE EXTENSION IF NOT EXISTS citext",
    "CREATE EXTENSION IF NOT EXISTS hstore",
)


def copy_text(sql: psycopg.Connection[Any], table: str) -> list[list[str | None]]:
    out = []
    with sql.cursor().copy(f"COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT".encode()) as copy:
        for row in b"".join(bytes(part) for part in copy).decode().splitlines():
            out.append([None if cell == "\\N" else _unescape(cell) for cell in row.split("\t")])
    return out


def _unescape(cell: str) -> str:
    out, at = "", 0
    names = {"t": "\t", "n": "\n", "\\": "\\", "r": "\r", "b": "\b", "f": "\f", "v": "\v"}
    while at < len(cell):
        if cell[at] == "\\":
            out, at = out + names[cell[at + 1]], at + 2
        else:
            out, at = out + cell[at], at + 1
    return out


@pytest.mark.parametrize("transport", ["auto", "libpq"])
def test_text_in_the_log_is_what_copy_prints_for_every_type(log: Log, transport: str) -> None:
    types = {kind: flavour.in_postgres(kind, values, log.version) for kind, values in TYPES.items() if kind != "xml"}
    for statement in PREPARE_TYPES:
        try:
            log.run(statement)
        except psycopg.Error:  # the extension is not installed with these server programs
            types.pop(statement.rsplit(maxsplit=1)[-1])
    with contextlib.suppress(psycopg.Error):  # not built with libxml
        log.run("SELECT CAST('<a/>' AS xml)")
        types["xml"] = TYPES["xml"]
    columns = {f"c{n}": kind for n, kind in enumerate(types)}
    log.run(f"CREATE TABLE t (id int PRIMARY KEY, {', '.join(f'{name} {kind}' for name, kind in columns.items())})")
    watched = log.watch("t")
    source = log.open(watched, transport=transport)
    deepest = max(len(values) for values in types.values())
    for n in range(deepest + 1):
        given = [f"CAST({values[n]} AS {kind})" if n < len(values) else "NULL" for kind, values in types.items()]
        log.run(f"INSERT INTO t VALUES ({n}, {', '.join(given)})")
    log.run("UPDATE t SET c0 = c0")
    batches = read_changes(source, 2 * (deepest + 1))
    padded = {c.name for c in watched.table.columns if c.type.padded}
    assert len(padded) == 2
    expected = [
        {name: cell.rstrip(" ") if cell is not None and name in padded else cell for name, cell in zip(watched.columns, row, strict=True)}
        for row in copy_text(log.sql, "t")
    ]
    found = [row for batch in batches for row in rows(only(batch))]
    assert [row for op, row in found if op == INSERT] == expected
    assert [row for op, row in found if op == UPDATE] == expected


def test_an_unchanged_large_value_is_missing_or_taken_from_the_old_row(log: Log) -> None:
    log.run(
        "CREATE TABLE t (id int PRIMARY KEY, note text, n int)",
        "ALTER TABLE t ALTER note SET STORAGE EXTERNAL",
        "INSERT INTO t VALUES (1, repeat('long ', 2000), 1)",
    )
    source = log.open(log.watch("t"))
    log.run("UPDATE t SET n = 2", "ALTER TABLE t REPLICA IDENTITY FULL", "UPDATE t SET n = 3")
    found = [row for batch in read_changes(source, 2) for row in rows(only(batch))]
    assert found[0] == (UPDATE, {"id": "1", "note": MISSING, "n": "2"})
    assert found[1] == (UPDATE, {"id": "1", "note": "long " * 2000, "n": "3"})


def test_old_rows_under_each_replica_identity(log: Log) -> None:
    for name in "abc":
        log.run(f"CREATE TABLE {name} (id int PRIMARY KEY, code int NOT NULL UNIQUE, n int)", f"INSERT INTO {name} VALUES (1, 10, 0)")
    log.run("ALTER TABLE b REPLICA IDENTITY USING INDEX b_code_key", "ALTER TABLE c REPLICA IDENTITY FULL")
    source = log.open(log.watch("a"), log.watch("b"), log.watch("c"))
    log.run("BEGIN", "DELETE FROM a", "DELETE FROM b", "DELETE FROM c", "COMMIT")
    (batch,) = read_changes(source, 3)
    assert [row for changes in batch.changes for row in rows(changes)] == [
        (DELETE, {"id": "1", "code": MISSING, "n": MISSING}),
        (DELETE, {"id": MISSING, "code": "10", "n": MISSING}),
        (DELETE, {"id": "1", "code": "10", "n": "0"}),
    ]


def test_a_replica_identity_that_no_longer_gives_the_log_key_stops_us(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL UNIQUE)")
    source = log.open(log.watch("t"))
    log.run("ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key", "INSERT INTO t VALUES (1, 1)")
    error = read_error(source)
    assert isinstance(error, Terminal) and "replica identity of table erp.public.t" in str(error)


def test_a_table_without_identity_is_refused_before_the_publication_would_break_its_updates(log: Log) -> None:
    log.run("CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)")
    with pytest.raises(Terminal, match=r"erp\.public\.t.*replica identity") as caught:
        log.open(log.watch("t", identity=("id",)))
    assert "REPLICA IDENTITY FULL" in caught.value.fix
    log.run("UPDATE t SET id = 2")


def test_a_changed_key_is_a_delete_and_an_insert(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY, code text, note text)", "ALTER TABLE t ALTER note SET STORAGE EXTERNAL")
    log.run("INSERT INTO t VALUES (1, 'a', repeat('n', 4000))")
    source = log.open(log.watch("t", "id", "code", "note", identity=("code",)))
    log.run("UPDATE t SET id = 2", "ALTER TABLE t REPLICA IDENTITY FULL", "UPDATE t SET code = 'b'", "UPDATE t SET note = 'short'")
    found = [row for batch in read_changes(source, 5) for row in rows(only(batch))]
    long = "n" * 4000
    assert found == [
        (DELETE, {"id": "1", "code": MISSING, "note": MISSING}),
        (INSERT, {"id": "2", "code": "a", "note": MISSING}),
        (DELETE, {"id": "2", "code": "a", "note": long}),
        (INSERT, {"id": "2", "code": "b", "note": long}),
        (UPDATE, {"id": "2", "code": "b", "note": "short"}),
    ]


def test_truncate_names_the_watched_tables_in_order_with_the_changes(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)")
    source = log.open(log.watch("a"), log.watch("b"))
    log.run("BEGIN", "INSERT INTO a VALUES (1)", "TRUNCATE a, b", "INSERT INTO b VALUES (2)", "COMMIT")
    (batch,) = read_changes(source, 4)
    order = sorted([(int(c.seq[0]), c.table.name.table) for c in batch.changes] + [(t.seq, t.table.table + "!") for t in batch.truncates])
    assert [name for _, name in order] in (["a", "a!", "b!", "b"], ["a", "b!", "a!", "b"])
    assert {t.txn for t in batch.truncates} == {0}


def test_a_partitioned_table_is_followed_under_its_own_name(log: Log) -> None:
    log.run("CREATE TABLE p (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region)")
    log.run("CREATE TABLE p_n PARTITION OF p FOR VALUES IN ('n')", "CREATE TABLE p_s (n int, region text NOT NULL, id int NOT NULL)")
    log.run("ALTER TABLE p ATTACH PARTITION p_s FOR VALUES IN ('s')")
    source = log.open(log.watch("p"))
    log.run("INSERT INTO p VALUES (1, 'n', 5), (2, 's', 6)", "UPDATE p SET n = 7", "UPDATE p SET region = 'n' WHERE id = 2")
    changes = [only(batch) for batch in read_changes(source, 6)]
    found = [row for c in changes for row in rows(c)]
    assert {c.table.name.table for c in changes} == {"p"}
    assert found[1] == (INSERT, {"id": "2", "region": "s", "n": "6"})
    assert found[4:] == [(DELETE, {"id": "2", "region": "s", "n": MISSING}), (INSERT, {"id": "2", "region": "n", "n": "7"})]


def test_transactions_that_ran_at_the_same_time_come_in_commit_order_with_one_numbering(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)")
    source = log.open(log.watch("a"), log.watch("b"))
    with psycopg.connect(log.url) as other:
        other.execute("INSERT INTO a VALUES (1)")
        log.run("INSERT INTO b VALUES (2)")
        other.execute("INSERT INTO b VALUES (3)")
        other.execute("INSERT INTO a VALUES (4)")
        late = other.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    batches = read_changes(source, 4)
    found = sorted(
        (float(batch.transactions.order[c.txn[n]]), int(c.seq[n]), row["id"])
        for batch in batches for c in batch.changes for n, row in enumerate(c.values.to_pylist())
    )  # fmt: skip
    assert [value for _, _, value in found] == ["2", "1", "3", "4"]
    last = batches[-1].transactions
    assert late is not None and last.fence[-1] == late[0]
    assert abs(last.commit_us[-1] / 1e6 - time.time()) < 60
    assert batches[-1].high.order == last.order[-1]


def test_a_chunk_read_after_a_commit_contains_it_and_one_read_before_does_not(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)")
    watched = log.watch("t")
    source, reader = log.open(watched), PostgresReader("erp", log.url)
    before = reader.read_chunk(watched.table, ["id"], ["id"], None, 10)
    log.run("INSERT INTO t VALUES (1)")
    after = reader.read_chunk(watched.table, ["id"], ["id"], None, 10)
    reader.close()
    (batch,) = read_changes(source, 1)
    assert before.fence < batch.transactions.fence[0] <= after.fence


def test_own_transactions_carry_origin_and_batch_and_foreign_markers_do_not(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)", CHECKPOINT)
    source = log.open(log.watch("t"))
    marker = "INSERT INTO syncline_checkpoint VALUES ('{}', '{}', {}, 'p', now()) ON CONFLICT (rule_set, source) DO UPDATE SET batch = excluded.batch"
    log.run("INSERT INTO t VALUES (1)")
    log.run("BEGIN", marker.format("rules", "crm", 41), "INSERT INTO t VALUES (2)", "COMMIT")
    log.run("BEGIN", marker.format("others", "crm", 7), "INSERT INTO t VALUES (3)", "COMMIT")
    log.run("BEGIN", marker.format("rules", "crm", 42), "INSERT INTO t VALUES (4)", "COMMIT")
    log.run("BEGIN", marker.format("rules", "shop", 5), "COMMIT", "INSERT INTO t VALUES (5)")
    seen = []
    for batch in read_changes(source, 5):
        by_txn = {int(c.txn[n]): row["id"] for c in batch.changes for n, row in enumerate(c.values.to_pylist())}
        transactions = batch.transactions
        for n in range(len(transactions.order)):
            origin = transactions.origins[transactions.origin[n]] if transactions.origin[n] >= 0 else None
            seen.append((by_txn.get(n), origin, int(transactions.batch[n])))
    assert seen == [("1", None, 0), ("2", "crm", 41), ("3", None, 0), ("4", "crm", 42), (None, "shop", 5), ("5", None, 0)]


def test_the_checkpoint_table_joins_the_publication_when_it_appears(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)")
    log.open(log.watch("t")).close()
    log.run(CHECKPOINT)
    source = log.open(log.watch("t"))
    log.run("BEGIN", "INSERT INTO syncline_checkpoint VALUES ('rules', 'crm', 1, 'p', now())", "INSERT INTO t VALUES (2)", "COMMIT")
    (batch,) = read_changes(source, 1)
    assert batch.transactions.origins == ("crm",)


def test_one_large_transaction_is_one_batch(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY, note text)", "CREATE TABLE u (id int PRIMARY KEY)")
    source = log.open(log.watch("t"), log.watch("u"))
    log.run("BEGIN", "INSERT INTO t SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, 60000) n", "INSERT INTO u VALUES (1)", "COMMIT")
    (batch,) = read_changes(source, 60001)
    large = batch.changes[0]
    assert large.values.column("note").num_chunks == 1
    assert large.values.column("id").to_pylist() == [str(n) for n in range(1, 60001)]
    assert large.values.column("note").to_pylist() == [note for (note,) in log.sql.execute("SELECT note FROM t ORDER BY id")]
    assert large.seq.tolist() == list(range(60000)) and batch.changes[1].seq.tolist() == [60000]


def test_batches_keep_to_their_bound_and_never_split_a_transaction(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)")
    source = log.open(log.watch("t"), batch_rows=100)
    log.run("DO $$ BEGIN FOR i IN 1..1000 LOOP INSERT INTO t SELECT i * 10 + k FROM generate_series(0, 6) k; COMMIT; END LOOP; END $$")
    batches = read_changes(source, 7000)
    sizes = [len(only(batch)) for batch in batches]
    assert max(sizes) < 107 and all(size % 7 == 0 for size in sizes)
    assert [int(row["id"] or 0) for batch in batches for _, row in rows(only(batch))] == [i * 10 + k for i in range(1, 1001) for k in range(7)]


@pytest.mark.parametrize("transport", ["auto", "libpq"])
def test_streamed_transactions_arrive_whole_at_their_commit_without_what_was_rolled_back(log: Log, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    dropped_parts: list[int] = []
    keep, drop = Streamed.keep, Streamed.drop

    def counting_keep(self: Streamed, *given: Any) -> None:
        kept.append(len(given[1]))
        keep(self, *given)

    def counting_drop(self: Streamed, xid: int) -> None:
        dropped_parts.append(xid)
        drop(self, xid)

    monkeypatch.setattr(Streamed, "keep", counting_keep)
    monkeypatch.setattr(Streamed, "drop", counting_drop)
    log.run("CREATE TABLE t (id int PRIMARY KEY, note text)", "CREATE TABLE u (id int PRIMARY KEY)")
    log.run(f"ALTER DATABASE {log.sql.info.dbname} SET logical_decoding_work_mem = '64kB'")
    source = log.open(log.watch("t"), log.watch("u"), streaming=True, transport=transport)
    fill = "INSERT INTO t SELECT n, repeat(md5(n::text), 4) FROM generate_series({}, {}) n"
    with psycopg.connect(log.url) as other, psycopg.connect(log.url) as dropped:
        other.execute(fill.format(1, 3000).encode())
        dropped.execute(fill.format(100001, 103000).encode())
        log.run("INSERT INTO u VALUES (1)")
        other.execute("SAVEPOINT s")
        other.execute(fill.format(3001, 6000).encode())
        other.execute("ROLLBACK TO s")
        other.execute(fill.format(6001, 9000).encode())
        dropped.rollback()
        log.run("INSERT INTO u VALUES (2)")
        other.execute("TRUNCATE u")
        other.commit()
    log.run("INSERT INTO u VALUES (3)")
    batches = read_changes(source, 6004)
    order = [
        (c.table.name.table, row["id"])
        for batch in batches
        for _, c, n, row in sorted(((int(c.seq[n]), c, n, row) for c in batch.changes for n, row in enumerate(c.values.to_pylist())), key=lambda item: item[0])
    ]
    expected = [("u", "1"), ("u", "2"), *(("t", str(n)) for n in (*range(1, 3001), *range(6001, 9001))), ("u", "3")]
    assert order == expected
    assert sum(len(batch.truncates) for batch in batches) == 1
    if log.version >= 14:
        assert sum(kept) > 6000 and len(dropped_parts) == 1
    else:  # it sends a transaction only once it is committed
        assert (sum(kept), len(dropped_parts)) == (0, 0)


def test_reading_resumes_in_the_middle(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)")
    watched = log.watch("t")
    source = log.open(watched, batch_rows=1)
    log.run("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)", "INSERT INTO t VALUES (3)")
    first, second, _ = read_changes(source, 3)
    source.acknowledge(first.high)
    source.read(0.05)
    source.close()
    again = log.open(watched, at=first.high)
    assert [row["id"] for b in read_changes(again, 2) for _, row in rows(only(b))] == ["2", "3"]
    again.close()
    later = log.open(watched, at=second.high)
    assert [row["id"] for b in read_changes(later, 1) for _, row in rows(only(b))] == ["3"]
    for _ in range(3):
        later.read(0.2)
    confirmed = f"SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots WHERE slot_name = '{_slot(log)}'"
    assert log.one(confirmed) == first.high.order, "beginning at a place does not acknowledge it"


def test_the_server_keeps_its_log_from_the_acknowledged_position_on(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)")
    source = log.open(log.watch("t"))
    confirmed = f"SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots WHERE slot_name = '{_slot(log)}'"
    begin = log.one(confirmed)
    log.run("INSERT INTO t VALUES (1)")
    (batch,) = read_changes(source, 1)
    source.read(0.3)
    assert log.one(confirmed) == begin
    source.acknowledge(batch.high)
    source.read(0.3)
    assert log.one(confirmed) == batch.high.order


@pytest.mark.parametrize("transport", ["auto", "libpq"])
def test_an_idle_source_reaches_the_end_of_the_log(log: Log, transport: str) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE unwatched (id int)")
    source, reader = log.open(log.watch("t"), transport=transport), PostgresReader("erp", log.url)
    for statement in ("INSERT INTO t VALUES (1)", "INSERT INTO unwatched SELECT generate_series(1, 1000)", "SELECT pg_switch_wal()", "CHECKPOINT"):
        log.run(statement)
        began, end, high = time.monotonic(), reader.end().order, 0
        while high < end:
            assert time.monotonic() - began < 3, f"after {statement}: {high} of {end}"
            batch = source.read(0.2)
            if batch is not None:
                high = max(high, batch.high.order)
                source.acknowledge(batch.high)
    reader.close()


def test_an_idle_log_moves_us_at_most_once_a_second(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE unwatched (id int)")
    source = log.open(log.watch("t"))
    while source.read(0.2) is not None:
        pass
    moves, stop = 0, time.monotonic() + 2.5
    while time.monotonic() < stop:
        log.run("INSERT INTO unwatched VALUES (1)")
        moves += source.read(0.05) is not None
    assert 1 <= moves <= 4


def test_a_slot_that_is_gone_stops_us(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)")
    watched = log.watch("t")
    position = log.source().prepare([watched])
    log.run(f"SELECT pg_drop_replication_slot('{_slot(log)}')")
    with pytest.raises(Terminal, match="is gone"):
        log.open(watched, at=position)


def test_a_slot_that_was_made_again_or_moved_on_stops_us(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)")
    watched = log.watch("t")
    position = log.source().prepare([watched])
    log.run(f"SELECT pg_drop_replication_slot('{_slot(log)}')", "INSERT INTO t VALUES (1)")
    log.source().prepare([watched])
    with pytest.raises(Terminal, match="ahead of our position"):
        log.open(watched, at=position)
    position = log.source().prepare([watched])
    log.run("INSERT INTO t VALUES (2)", f"SELECT pg_replication_slot_advance('{_slot(log)}', pg_current_wal_lsn())")
    with pytest.raises(Terminal, match="ahead of our position"):
        log.open(watched, at=position)


def test_another_server_and_a_log_that_was_set_back_stop_us(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)")
    watched = log.watch("t")
    position = log.source().prepare([watched])
    lsn, _, system = position.text.partition("@")
    with pytest.raises(Terminal, match="another server"):
        log.open(watched, at=Position(f"{lsn}@1{system}", position.order))
    with pytest.raises(Terminal, match="ends before our position"):
        log.open(watched, at=Position(f"F/0@{system}", 15 << 32))


def test_a_slot_of_something_else_is_not_taken(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)", f"SELECT pg_create_logical_replication_slot('{_slot(log)}', 'test_decoding')")
    with pytest.raises(Terminal, match="exists already, for something else"):
        log.source().prepare([log.watch("t")])


def test_an_invalidated_slot_stops_us() -> None:
    with servers.postgres("15", {"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}) as server, opened_log(server) as log:
        log.run("CREATE TABLE t (id int PRIMARY KEY)")
        watched = log.watch("t")
        position = log.source().prepare([watched])
        for _ in range(6):
            log.run("SELECT pg_switch_wal()", "INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t", "CHECKPOINT")
        with pytest.raises(Terminal, match="is invalid"):
            log.open(watched, at=position)


def test_a_publication_that_was_dropped_and_made_again_stops_us(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)")
    watched = log.watch("t")
    position = log.source().prepare([watched])
    log.run("DROP PUBLICATION syncline_rules", "INSERT INTO t VALUES (1)")
    with pytest.raises(Terminal, match="no publication"):
        log.open(watched, at=position)
    assert log.source().prepare([watched]).order > position.order
    source = log.open(watched, at=position)
    error = read_error(source)
    assert isinstance(error, Terminal) and "publication did not exist" in str(error)


def test_a_publication_in_use_elsewhere_gets_our_tables_and_keeps_its_own(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE theirs (id int PRIMARY KEY)", "CREATE PUBLICATION shared FOR TABLE theirs")
    source = log.open(log.watch("t"), publication="shared")
    log.run("INSERT INTO theirs VALUES (1)", "INSERT INTO t VALUES (2)")
    (batch,) = read_changes(source, 1)
    assert rows(only(batch)) == [(INSERT, {"id": "2"})]
    assert log.one("SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_publication_tables WHERE pubname = 'shared'") == "t,theirs"


def test_a_publication_that_leaves_out_deletes_or_a_watched_table_is_refused(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE PUBLICATION partial FOR TABLE t WITH (publish = 'insert')")
    with pytest.raises(Terminal, match="leaves some kinds of changes out") as caught:
        log.open(log.watch("t"), publication="partial")
    assert "SET (publish =" in caught.value.fix
    position = log.source().prepare([log.watch("t")])
    log.run("ALTER PUBLICATION syncline_rules DROP TABLE t")
    with pytest.raises(Terminal, match=r"erp\.public\.t is not in publication"):
        log.open(log.watch("t"), at=position)


def test_columns_are_found_by_name_whatever_their_order_and_further_ones_do_not_matter(log: Log) -> None:
    log.run("CREATE TABLE t (extra int, n int, gone int, id int PRIMARY KEY, twice int GENERATED ALWAYS AS (n * 2) STORED)")
    log.run("ALTER TABLE t DROP gone")
    source = log.open(log.watch("t", "id", "twice", "n"))
    log.run("INSERT INTO t (id, n) VALUES (1, 5)", "ALTER TABLE t ADD later text", "INSERT INTO t (id, n) VALUES (2, 6)")
    log.run("ALTER TABLE t DROP extra", "INSERT INTO t (id, n) VALUES (3, 7)")
    found = [row for batch in read_changes(source, 3) for _, row in rows(only(batch))]
    assert found == [{"id": str(n), "twice": MISSING, "n": str(n + 4)} for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("ALTER TABLE t DROP n", '"n"'),
        ("ALTER TABLE t RENAME n TO m", '"n"'),
        ("ALTER TABLE t ALTER n TYPE text", '"n"'),
        ("ALTER TABLE t ALTER d TYPE numeric(10,4)", '"d"'),
        ("ALTER TABLE t RENAME TO elsewhere", "renamed"),
    ],
)
def test_a_table_altered_under_us_stops_us_with_its_name(postgres15: PostgresServer, change: str, named: str) -> None:
    with opened_log(postgres15) as log:
        log.run("CREATE TABLE t (id int PRIMARY KEY, n int, d numeric(10,2), v varchar(10))")
        source = log.open(log.watch("t"))
        log.run("INSERT INTO t VALUES (1, 1)", "ALTER TABLE t ALTER v TYPE varchar(20)", "INSERT INTO t VALUES (2, 1)")
        read_changes(source, 2)
        table = "elsewhere" if named == "renamed" else "t"
        log.run(change, f"INSERT INTO {table} (id) VALUES (3)")
        error = read_error(source)
        assert isinstance(error, Terminal)
        assert named in str(error) and "public.t" in str(error)


def test_a_lost_connection_is_transient_and_the_next_one_takes_over(log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)")
    watched = log.watch("t")
    for transport in ("auto", "libpq"):
        source = log.open(watched, transport=transport)
        position = source.prepare([watched])
        log.run(f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{_slot(log)}'", "TRUNCATE t")
        assert isinstance(read_error(source), Transient)
        source.open([watched], position)
        (batch,) = read_changes(source, 1)
        source.acknowledge(batch.high)
        source.close()


def test_a_slot_in_use_is_waited_for_then_transient(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)")
    watched = log.watch("t")
    position = log.source().prepare([watched])
    log.open(watched, at=position)
    monkeypatch.setattr(source_module, "_BUSY_SECONDS", 0.3)
    for transport in ("auto", "libpq"):
        with pytest.raises(Transient, match="in use by another connection"):
            log.open(watched, at=position, transport=transport)


def test_missing_rights_come_with_the_statement_to_run(server: PostgresServer, log: Log) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY)")
    user = f"reader_{log.sql.info.dbname}"
    log.run(f"CREATE ROLE {user} LOGIN REPLICATION PASSWORD 'secret'", f"GRANT SELECT ON t TO {user}")
    url = server.url(log.sql.info.dbname, user=user, password="secret")
    source, watched = PostgresSource("erp", url, "rules", {}), log.watch("t")
    with pytest.raises(Terminal, match="no right") as caught:
        source.prepare([watched])
    assert 'CREATE PUBLICATION "syncline_rules" FOR TABLE "public"."t"' in caught.value.fix
    log.run(caught.value.fix.partition(": ")[2])
    source.open([watched], source.prepare([watched]))
    log.run("INSERT INTO t VALUES (1)")
    read_changes(source, 1)
    source.close()
    log.run(f"ALTER ROLE {user} NOREPLICATION")
    with pytest.raises(Terminal, match="may not read the log"):
        source.prepare([watched])
    log.run(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


def test_a_server_that_does_not_log_enough_is_named() -> None:
    with servers.postgres("15", {"wal_level": "replica"}) as server, opened_log(server) as log:
        log.run("CREATE TABLE t (id int PRIMARY KEY)")
        with pytest.raises(Terminal, match="wal_level is replica") as caught:
            log.source().prepare([log.watch("t")])
        assert "wal_level = logical" in caught.value.fix
        assert log.one("SELECT count(*) FROM pg_publication") == 0


def _slot(log: Log) -> str:
    from adapters.postgres import slot

    return slot.names("erp", "rules", {}, log.sql.info.dbname).slot


def test_an_encrypted_connection_with_a_password_reads_the_same_log(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    with servers.postgres("15") as server:
        key, certificate = server.data / "server.key", server.data / "server.crt"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
            check=True, capture_output=True, cwd=tmp_path,
        )  # fmt: skip
        owner = server.data.stat()
        for file in (key, certificate):
            os.chown(file, owner.st_uid, owner.st_gid)
            file.chmod(0o600)
        server.execute("ALTER SYSTEM SET ssl = on")
        server.execute("SELECT pg_reload_conf()")
        server.login("sync", "secret")
        with opened_log(server) as log:
            log.run("CREATE TABLE t (id int PRIMARY KEY, note text)")
            source = PostgresSource("erp", server.url(log.sql.info.dbname, user="sync", password="secret") + "?sslmode=require", "rules", {})
            log.opened.append(source)
            source.open([log.watch("t")], source.prepare([log.watch("t")]))
            assert isinstance(source._wire, LibpqWire)
            assert log.one("SELECT bool_or(ssl) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)")
            log.run("INSERT INTO t SELECT n, repeat('x', 300) FROM generate_series(1, 30000) n")
            (batch,) = read_changes(source, 30000)
            assert only(batch).values.column("id").to_pylist() == [str(n) for n in range(1, 30001)]


@pytest.mark.parametrize("transport", ["auto", "libpq"])
def test_a_value_larger_than_the_buffer_arrives(log: Log, transport: str) -> None:
    log.run("CREATE TABLE t (id int PRIMARY KEY, note text)")
    source = log.open(log.watch("t"), transport=transport)
    log.run("INSERT INTO t VALUES (1, 'before')", "INSERT INTO t VALUES (2, repeat('0123456789', 2000000))", "INSERT INTO t VALUES (3, 'after')")
    notes = [row["note"] or "" for batch in read_changes(source, 3) for _, row in rows(only(batch))]
    assert (notes[0], notes[2]) == ("before", "after") and notes[1] == "0123456789" * 2000000


@pytest.mark.parametrize("transport", ["auto", "libpq"])
def test_a_server_that_dies_is_read_on_when_it_is_back(transport: str) -> None:
    with servers.postgres("15", {"max_prepared_transactions": 5}) as server, opened_log(server) as log:
        log.run("CREATE TABLE t (id int PRIMARY KEY)")
        watched = log.watch("t")
        source = log.open(watched, transport=transport)
        log.run("INSERT INTO t VALUES (1)", "BEGIN", "INSERT INTO t VALUES (2)", "PREPARE TRANSACTION 'later'")
        (batch,) = read_changes(source, 1)
        server.kill()
        assert isinstance(read_error(source), Transient)
        with pytest.raises(Transient):
            source.open([watched], batch.high)
        server.start()
        log.sql = pg.connect(log.url, system="test")
        log.run("INSERT INTO t VALUES (3)", "COMMIT PREPARED 'later'")
        source.open([watched], batch.high)
        found = [row["id"] for b in read_changes(source, 2) for _, row in rows(only(b))]
        assert found == ["3", "2"]
