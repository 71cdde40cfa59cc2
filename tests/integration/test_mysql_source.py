"""The MySQL source against a real MariaDB: what the log says arrives, whole, in order and as the reader would give it; what it cannot say stops with the
reason."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pymysql
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapters.mysql import gtid
from adapters.mysql.connection import connect
from adapters.mysql.reader import MySqlReader
from adapters.mysql.schema import read_table
from adapters.mysql.source import MySqlSource
from engine.errors import Terminal, Transient
from engine.model.batch import DELETE, INSERT, UPDATE, Batch, Position
from engine.ports import Watched
from engine.throwaway import servers
from engine.throwaway.servers import MariaDBServer
from tests import flavour

MISSING = "<missing>"
CHECKPOINT = """CREATE TABLE syncline_checkpoint (rule_set varchar(100), source varchar(100), batch bigint, position text,
  updated_at timestamp(6) DEFAULT current_timestamp(6), PRIMARY KEY (rule_set, source))"""

Row = tuple[Any, ...]


@dataclass
class Log:
    """A fresh database, a session that writes to it, and the sources opened on it."""

    server: MariaDBServer
    url: str
    sql: pymysql.Connection
    opened: list[MySqlSource] = field(default_factory=list)

    def run(self, *statements: str) -> None:
        with self.sql.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, statement: str) -> Sequence[Row]:
        with self.sql.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    @property
    def database(self) -> str:
        return self.url.rsplit("/", 1)[1]

    def watch(self, table: str, *columns: str, identity: tuple[str, ...] = ()) -> Watched:
        found = read_table(self.sql, "crm", self.database, table)
        return Watched(table=found, columns=columns or tuple(c.name for c in found.columns), identity=identity or found.primary_key or found.log_key)

    def source(self, **options: object) -> MySqlSource:
        source = MySqlSource("crm", self.url, "rules", options)
        self.opened.append(source)
        return source

    def open(self, *watched: Watched, at: Position | None = None, **options: object) -> MySqlSource:
        source = self.source(**options)
        start = source.prepare(watched) if at is None else at
        source.open(watched, start)
        return source

    def reader(self) -> MySqlReader:
        return MySqlReader("crm", self.url)

    @contextlib.contextmanager
    def setting(self, name: str, value: str) -> Iterator[None]:
        """A global setting, and that of our session, for a while."""
        ((before,),) = self.rows(f"SELECT @@GLOBAL.{name}")
        self.run(f"SET GLOBAL {name} = {value}")
        self.sql.close()
        self.sql = connect(self.url, system="test")
        try:
            yield
        finally:
            self.run(f"SET GLOBAL {name} = {before!r}")
            self.sql.close()
            self.sql = connect(self.url, system="test")


@pytest.fixture
def log(mariadb: MariaDBServer) -> Iterator[Log]:
    with opened_log(mariadb) as log:
        yield log


@contextlib.contextmanager
def opened_log(server: MariaDBServer) -> Iterator[Log]:
    url = server.database()
    log = Log(server, url, connect(url, system="test"))
    try:
        yield log
    finally:
        for source in log.opened:
            source.close()
        log.sql.close()


def follow(source: MySqlSource, changes: int = 0, *, until: int = 0, truncates: int = 0, seconds: float = 60.0) -> list[Batch]:
    """Batches until this many changes and truncates came, or the position `until` is reached."""
    batches: list[Batch] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        batch = source.read(0.5)
        if batch is not None:
            batches.append(batch)
        came = sum(len(part) for each in batches for part in each.changes)
        emptied = sum(len(each.truncates) for each in batches)
        assert came <= changes or until, f"{came} changes instead of {changes}"
        if (until and batches and batches[-1].high.order >= until) or (not until and came == changes and emptied == truncates):
            return batches
    raise AssertionError(f"no {changes} changes within {seconds} s")


def told(batches: Sequence[Batch]) -> list[tuple[str, int, Row]]:
    """(table, op, values) of all changes, in log order."""
    out = []
    for batch in batches:
        found = []
        for part in batch.changes:
            assert list(part.seq) == sorted(part.seq)
            for k, row in enumerate(part.values.to_pylist()):
                shown = tuple(MISSING if part.missing[k, c] else value for c, value in enumerate(row.values()))
                found.append((int(part.seq[k]), part.table.name.table, int(part.op[k]), shown))
        numbers = [each[0] for each in found] + [gone.seq for gone in batch.truncates]
        assert sorted(numbers) == list(range(len(numbers)))
        out += [each[1:] for each in sorted(found)]
    return out


def certificate(folder: Path) -> None:
    """A certificate for 127.0.0.1 that signs itself: cert.pem and key.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain))


# every type

# of every version and variant, as MariaDB once stored some with swapped bytes
UUIDS = [f"'123e4567-e89b-{version}2d3-{variant}456-426655440{version}00'" for version in "0123456789af" for variant in "07bcf"]

# in MySQL's binary form a document holds numbers of several widths and values of SQL types; MariaDB keeps the text
JSONS = [
    "'[1e15, 1e16, 123456789012345678.5, 1e-15, 1e-16, -2.5e-12, -0.0, 100000000000000.5, 1e300, 0.1, 32768, -32769, 65536, 4294967296, 18446744073709551615]'",
    "'\"\\\\u0001\\\\b\\\\n\\\\t \\\\u007f\\\\u2028 \\\\/ \\\\\\\\ \\\\\"\"'",
    "JSON_OBJECT('d', CAST(-1.50 AS DECIMAL(30,12)), 't', CAST('2024-01-02 03:04:05.6' AS DATETIME(6)), 'h', CAST('-10:00:01' AS TIME))"
    if flavour.MYSQL else "'1'",
    "JSON_OBJECT('b', repeat(x'0102', 100), 'bit', b'101', 'y', CAST(2024 AS YEAR), 'day', CAST('2024-01-02' AS DATE), 'long', repeat('y', 70000))"
    if flavour.MYSQL else "'2'",
]  # fmt: skip

FARTHEST = [] if flavour.MYSQL else ["'-838:59:59.999999'"]  # MySQL's TIME ends at 838:59:59 sharp

TYPES: dict[str, tuple[str, list[str]]] = {
    "ti": ("tinyint", ["-128", "127", "0"]),
    "tu": ("tinyint unsigned", ["0", "255"]),
    "b1": ("tinyint(1)", ["0", "1", "2", "-1"]),
    "si": ("smallint", ["-32768", "32767"]),
    "su": ("smallint unsigned", ["65535"]),
    "mi": ("mediumint", ["-8388608", "8388607", "-1"]),
    "mu": ("mediumint unsigned", ["16777215"]),
    "i": ("int", ["-2147483648", "2147483647", "-1"]),
    "iu": ("int unsigned zerofill", ["4294967295", "7"]),
    "bi": ("bigint", ["-9223372036854775808", "9223372036854775807", "-1", "-10"]),
    "bu": ("bigint unsigned", ["18446744073709551615", "9223372036854775808", "0"]),
    "d65": ("decimal(65,30)", ["99999999999999999999999999999999999.999999999999999999999999999999", "-0.000000000000000000000000000001", "0", "-1.5"]),
    "d10": ("decimal(10,2)", ["12345678.90", "-99999999.99", "0.01", "-0.01", "0", "100"]),
    "d9": ("decimal(9,0)", ["-999999999", "5", "0"]),
    "d20": ("decimal(20,0) unsigned", ["18446744073709551616", "10000000000", "1000000000"]),
    "d38": ("decimal(38,38)", ["0.00000000000000000000000000000000000001", "-0.99999999999999999999999999999999999999", "0"]),
    "f": ("float", ["1.1", "-3.4028234663852886e38", "1e-45", "0", "16777217", "100000", "0.5"]),
    "d": ("double", ["1.1", "-1.7976931348623157e308", "5e-324", "0.1", "1e15", "123456789012345680", "-0.0"]),
    "bit1": ("bit(1)", ["b'0'", "b'1'"]),
    "bit9": ("bit(9)", ["b'101010101'", "b'0'"]),
    "bit64": ("bit(64)", ["b'" + "1" * 64 + "'", "1"]),
    "y": ("year", ["1901", "2155", "0"]),
    "dt": ("date", ["'0001-01-01'", "'9999-12-31'", "'2024-02-29'", "'0000-00-00'", "'2024-00-00'", "'2024-05-00'"]),
    "tm": ("time", ["'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'", "'23:59:59'"]),
    "tm1": ("time(1)", ["'-00:00:00.1'", "'12:00:00.9'"]),
    "tm3": ("time(3)", ["'-01:02:03.456'", "'101:02:03.400'"]),
    "tm6": ("time(6)", ["'-838:59:58.999999'", *FARTHEST, "'-00:00:00.000001'", "'00:00:00.000010'", "'12:34:56.789'"]),
    "dd": ("datetime", ["'0000-00-00 00:00:00'", "'9999-12-31 23:59:59'", "'1000-01-01 00:00:00'"]),
    "dd2": ("datetime(2)", ["'2024-01-02 03:04:05.67'", "'2024-01-02 03:04:05.60'"]),
    "dd4": ("datetime(4)", ["'2024-01-02 03:04:05.6789'"]),
    "dd6": ("datetime(6)", ["'2024-12-31 23:59:59.999999'", "'2024-01-02 03:04:05.000001'", "'2024-00-05 01:00:00.5'", "'2024-01-01 00:00:00'"]),
    "ts": ("timestamp NULL", ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00 00:00:00'", "'2024-02-29 12:00:00'"]),
    "ts6": ("timestamp(6) NULL", ["'2038-01-19 03:14:07.999999'", "'2000-03-01 00:00:00.1'", "'1999-12-31 23:59:59.000100'"]),
    "ch": ("char(10)", ["'ab  '", "''", "'ünïcödé'", "'a b'"]),
    "ch300": ("char(255) CHARACTER SET utf8mb4", ["'" + "é" * 255 + "'", "'x'"]),
    "vc": ("varchar(20)", ["'a  '", "''", "'naïve 🎉'", "'a\\0b'"]),
    "vc300": ("varchar(300)", ["'" + "z" * 300 + "'", "'q'"]),
    "tx": ("text", ["'line\\nbreak\\ttab\\\\ \"q\"'", "''"]),
    "ltx": ("longtext", ["repeat('abc', 30000)", "'x'"]),
    "l1": ("varchar(20) CHARACTER SET latin1", ["'café €'", "x'818D8F909D'", "''"]),
    "c51": ("varchar(20) CHARACTER SET cp1251", ["'Привет'"]),
    "gr": ("char(20) CHARACTER SET greek", ["'αβγ'"]),
    "sj": ("varchar(20) CHARACTER SET sjis", ["'日本'"]),
    "u16": ("varchar(20) CHARACTER SET utf16", ["'a🎉'", "'é'"]),
    "u2": ("varchar(20) CHARACTER SET ucs2", ["'aé日'"]),
    "u3": ("varchar(20) CHARACTER SET utf8mb3", ["'日本'"]),
    "bin": ("binary(6)", ["x'610000'", "x'000000000000'", "x'2020'", "x'ffffffffffff'"]),
    "vb": ("varbinary(20)", ["x''", "x'00'", "x'deadbeef00'"]),
    "bl": ("blob", ["x'00ff'", "''"]),
    "tb": ("tinyblob", ["x'01'"]),
    "lb": ("longblob", ["repeat(x'00ff', 40000)"]),
    "en": ("enum('a','b,c','d''e','ü')", ["'a'", "'b,c'", "'d''e'", "'ü'"]),
    "en2": ("enum('Ä','ö') CHARACTER SET latin1", ["'Ä'", "'ö'"]),
    "st": ("set('x','y','ü')", ["''", "'x'", "'x,ü'", "'x,y,ü'"]),
    "js": ("json", ["'{\"a\": [1, 2.50, null], \"é\": \"🎉\"}'", "'null'", "'3'", *JSONS]),
    "uu": ("uuid", ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffff00'", *UUIDS]),
    "i6": ("inet6", ["'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.1'", "'::'", "'::1'", "'::192.0.2.1'", "'fe80::'", "'1:0:0:2::'", "'::ffff:0:0'"]),
    "i4": ("inet4", ["'192.0.2.1'", "'0.0.0.0'", "'10.0.0.0'"]),
    "gm": ("geometry", ["ST_GeomFromText('POINT(1 2)', 4326)", "ST_GeomFromText('LINESTRING(0 0,1 1)')"]),
    "pt": ("point", ["ST_GeomFromText('POINT(-1.5 2)')"]),
    "ve": ("vector(3)", ["STRING_TO_VECTOR('[1.5, -2, 0]')"]),
    "cz": ("text COMPRESSED", ["repeat('compress me ', 100)", "'short'", "''"]),
    "cv": ("varbinary(2000) COMPRESSED", ["repeat(x'00', 1000)", "x'01'"]),
}  # fmt: skip

KNOWN = {name: case for name, case in TYPES.items() if flavour.known(case[0])}


def create_types(log: Log, seed: int) -> int:
    """A table with a column of every type, in an order of its own, and a row for each edge value; returns the number of rows."""
    columns = [f"{name} {kind}" for name, (kind, _) in KNOWN.items()]
    if seed:
        random.Random(seed).shuffle(columns)
    log.run("SET sql_mode = 'NO_ENGINE_SUBSTITUTION'", f"CREATE TABLE every (id int PRIMARY KEY, {', '.join(columns)})")
    return max(len(values) for _, values in KNOWN.values()) + 1


def insert_types(log: Log, count: int) -> None:
    log.run("INSERT INTO every (id) VALUES (0)")
    for k in range(1, count):
        given = {name: values[k - 1] for name, (_, values) in KNOWN.items() if k <= len(values)}
        log.run(f"INSERT INTO every (id, {', '.join(given)}) VALUES ({k}, {', '.join(given.values())})")


@pytest.mark.parametrize(("metadata", "seed"), [("FULL", 0), ("FULL", 1), ("FULL", 2), ("FULL", 3), (flavour.NO_NAMES, 4), ("MINIMAL", 5)])
def test_every_type_arrives_as_the_reader_gives_it(log: Log, metadata: str, seed: int) -> None:
    with log.setting("binlog_row_metadata", f"'{metadata}'"):
        count = create_types(log, seed)
        watched = log.watch("every")
        source = log.open(watched)
        insert_types(log, count)
        logged = {row[0]: dict(zip(watched.columns, row, strict=True)) for _, _, row in told(follow(source, count))}
    keys = pa.table({"id": [str(k) for k in range(count)]})
    read = {row["id"]: row for row in log.reader().fetch(watched.table, watched.columns, ("id",), keys).to_pylist()}
    wrong = [(name, logged[k][name], read[k][name]) for k in read for name in watched.columns if logged[k][name] != read[k][name]]
    assert not wrong
    assert len(read) == count


@contextlib.contextmanager
def compressed(log: Log, compress: str) -> Iterator[None]:
    """MariaDB compresses events (`log_bin_compress`), MySQL transactions."""
    if flavour.MYSQL:
        with log.setting("binlog_transaction_compression", compress):
            yield
    else:
        with log.setting("log_bin_compress", compress), log.setting("log_bin_compress_min_len", "10"):
            yield


@pytest.mark.parametrize("compress", ["OFF", "ON"])
def test_changes_of_all_kinds_arrive_in_order(log: Log, compress: str) -> None:
    with compressed(log, compress):
        log.run("CREATE TABLE a (id int PRIMARY KEY, n varchar(400), k int)", "CREATE TABLE b (id int PRIMARY KEY, n text)", "CREATE TABLE no (id int)")
        source = log.open(log.watch("a"), log.watch("b", "n", "id"))
        log.run(
            "INSERT INTO a VALUES (1, repeat('long ', 60), 1), (2, NULL, 2)",
            "BEGIN",
            "INSERT INTO b VALUES (1, 'one')",
            "INSERT INTO no VALUES (1)",
            "UPDATE a SET n = concat('x', id)",
            "DELETE FROM b WHERE id = 1",
            "COMMIT",
            "BEGIN",
            "INSERT INTO a VALUES (9, 'never', 9)",
            "ROLLBACK",
            "UPDATE a SET id = 3 WHERE id = 2",
        )
        batches = follow(source, 8)
    assert told(batches) == [
        ("a", INSERT, ("1", "long " * 60, "1")),
        ("a", INSERT, ("2", None, "2")),
        ("b", INSERT, ("one", "1")),
        ("a", UPDATE, ("1", "x1", "1")),
        ("a", UPDATE, ("2", "x2", "2")),
        ("b", DELETE, ("one", "1")),
        ("a", DELETE, ("2", "x2", "2")),
        ("a", INSERT, ("3", "x2", "2")),
    ]
    assert sum(len(batch.transactions.order) for batch in batches) == 3
    orders = np.concatenate([batch.transactions.order for batch in batches])
    assert (np.diff(orders) > 0).all() and batches[-1].high.order == orders[-1]
    assert batches[-1].high.order == log.reader().end().order


def test_change_of_the_identity_is_delete_and_insert(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY, code varchar(10), n int)", "INSERT INTO a VALUES (1, 'x', 1), (2, 'y', 1)")
    source = log.open(log.watch("a", identity=("code",)))
    log.run("UPDATE a SET code = 'z' WHERE id = 1", "UPDATE a SET n = 5 WHERE id = 2", "UPDATE a SET code = NULL WHERE id = 2")
    assert told(follow(source, 5)) == [
        ("a", DELETE, ("1", "x", "1")),
        ("a", INSERT, ("1", "z", "1")),
        ("a", UPDATE, ("2", "y", "5")),
        ("a", DELETE, ("2", "y", "5")),
        ("a", INSERT, ("2", None, "5")),
    ]


def test_minimal_image_leaves_out_what_is_missing(log: Log) -> None:
    with log.setting("binlog_row_image", "MINIMAL"):
        log.run("CREATE TABLE a (id int PRIMARY KEY, n int, t text, d int DEFAULT 7)")
        source = log.open(log.watch("a"))
        log.run("INSERT INTO a (id, n) VALUES (1, 1)", "UPDATE a SET n = NULL", "UPDATE a SET id = 2", "DELETE FROM a")
        changes = told(follow(source, 5))
    assert changes[1:] == [
        ("a", UPDATE, ("1", None, MISSING, MISSING)),
        ("a", DELETE, ("1", MISSING, MISSING, MISSING)),
        ("a", INSERT, ("2", MISSING, MISSING, MISSING)),
        ("a", DELETE, ("2", MISSING, MISSING, MISSING)),
    ]
    assert changes[0][2][:2] == ("1", "1")


def test_table_without_primary_key_keeps_updates(log: Log) -> None:
    log.run("CREATE TABLE a (code varchar(10), n int)")
    source = log.open(log.watch("a", identity=("code",)))
    log.run("INSERT INTO a VALUES ('x', 1)", "UPDATE a SET n = 2", "DELETE FROM a")
    assert told(follow(source, 3)) == [("a", INSERT, ("x", "1")), ("a", UPDATE, ("x", "2")), ("a", DELETE, ("x", "2"))]


def test_own_transactions_carry_origin_and_batch(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY)", CHECKPOINT)
    source = log.open(log.watch("a"))
    for rule_set, origin, batch, row in [("rules", "erp", 41, 1), ("other", "erp", 3, 2), ("rules", "erp", 42, 3), ("rules", "shop", 7, 4)]:
        mark = f"INSERT INTO syncline_checkpoint (rule_set, source, batch, position) VALUES ('{rule_set}', '{origin}', {batch}, '')"
        log.run("BEGIN", f"{mark} ON DUPLICATE KEY UPDATE batch = {batch}, position = 'p'", f"INSERT INTO a VALUES ({row})", "COMMIT")
    log.run("INSERT INTO a VALUES (5)")
    batches = follow(source, 5)
    marks = []
    for batch in batches:
        txns = batch.transactions
        marks += [(txns.origins[o] if o >= 0 else None, int(b)) for o, b in zip(txns.origin, txns.batch, strict=True)]
    assert marks == [("erp", 41), (None, 0), ("erp", 42), ("shop", 7), (None, 0)]
    assert {part.table.name.table for batch in batches for part in batch.changes} == {"a"}


def test_truncate_stands_in_its_place(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE no (id int)")
    source = log.open(log.watch("a"))
    log.run("INSERT INTO a VALUES (1)", "TRUNCATE TABLE a", "INSERT INTO a VALUES (2)", f"TRUNCATE `{log.database}`.`a`", "TRUNCATE no")
    batches = follow(source, 2, truncates=2)
    assert [op for _, op, _ in told(batches)] == [INSERT, INSERT]
    steps = [(txn, int(seq)) for batch in batches for part in batch.changes for txn, seq in zip(part.txn, part.seq, strict=True)]
    gone = [(each.txn, each.seq, each.table.table) for batch in batches for each in batch.truncates]
    if len(batches) == 1:
        assert steps == [(0, 0), (2, 2)]
        assert gone == [(1, 1, "a"), (3, 3, "a")]


def test_reading_goes_on_over_rotated_logs_and_resumes_in_the_middle(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY)")
    watched = log.watch("a")
    source = log.open(watched)
    first = source.prepare([watched])
    places = []
    for k in range(6):
        log.run(f"INSERT INTO a VALUES ({k})", "FLUSH BINARY LOGS")
        places += follow(source, 1)
    assert [place.high.order >> 40 for place in places] == sorted({place.high.order >> 40 for place in places})
    for at, rest in [(first, 6), (places[2].high, 3), (places[5].high, 0)]:
        again = log.open(watched, at=at)
        until = log.reader().end().order
        assert [row for _, _, row in told(follow(again, rest, until=until))] == [(str(k),) for k in range(6 - rest, 6)]
        again.close()
    # by file and offset, as where there are no GTIDs
    file, offset, _ = gtid.parts(places[2].high)
    again = log.open(watched, at=gtid.position(file, offset))
    assert [row for _, _, row in told(follow(again, 3))] == [("3",), ("4",), ("5",)]


def test_a_quiet_log_moves_the_position_with_what_others_write(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE no (id int PRIMARY KEY)")
    source = log.open(log.watch("a"))
    log.run("INSERT INTO no VALUES (1)", "FLUSH BINARY LOGS")
    end = log.reader().end()
    batches = follow(source, until=end.order)
    assert not any(batch.changes for batch in batches)
    assert gtid.parts(batches[-1].high)[2] == gtid.parts(end)[2]


def test_transactions_interleaved_in_time_come_one_after_the_other(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY, who int)")
    source = log.open(log.watch("a"))
    other = connect(log.url, system="test")
    try:
        with other.cursor() as cursor:
            log.run("BEGIN", "INSERT INTO a VALUES (1, 1)")
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO a VALUES (2, 2)")
            log.run("INSERT INTO a VALUES (3, 1)")
            cursor.execute("INSERT INTO a VALUES (4, 2)")
            cursor.execute("COMMIT")
            log.run("COMMIT")
    finally:
        other.close()
    batches = follow(source, 4)
    assert [row for _, _, row in told(batches)] == [("2", "2"), ("4", "2"), ("1", "1"), ("3", "1")]


def test_a_big_transaction_and_events_over_16_mb_arrive_whole(log: Log) -> None:
    with log.setting("max_allowed_packet", str(64 << 20)):
        log.run("CREATE TABLE a (id int PRIMARY KEY, t longtext)")
        source = log.open(log.watch("a"))
        log.run(
            "BEGIN",
            "INSERT INTO a SELECT seq, repeat(char(65 + seq % 26), 200) FROM " + flavour.sequence(1, 50000),
            "INSERT INTO a VALUES (0, repeat('x', 40000000))",
            "COMMIT",
        )
        log.run("INSERT INTO a VALUES (-1, 'after')")
        batches = follow(source, 50_002)
    # The long row alone is past what is kept together.
    big = batches[:2]
    assert [batch.open for batch in big] == [True, False]
    rows = pa.concat_tables([batch.changes[0].values for batch in big])
    assert [int(v) for v in rows.column("id").to_pylist()] == [*range(1, 50_001), 0]
    assert rows.column("t")[49_999].as_py() == chr(65 + 50_000 % 26) * 200
    assert rows.column("t")[50_000].as_py() == "x" * 40_000_000


def test_many_small_transactions_share_a_batch_and_none_is_cut(log: Log) -> None:
    log.run("CREATE TABLE a (id int AUTO_INCREMENT PRIMARY KEY, n int)")
    watched = log.watch("a")
    first = log.source().prepare([watched])
    for k in range(500):
        log.run(f"INSERT INTO a (n) VALUES ({k}), ({k})")
    source = log.open(watched, at=first, batch_rows=100)
    batches = follow(source, 1000)
    assert 5 <= len(batches) < 50
    for batch in batches:
        counts = np.bincount(np.concatenate([part.txn for part in batch.changes]))
        assert (counts == 2).all() and len(counts) == len(batch.transactions.order)


# the log's shape changes


def test_a_column_added_in_front_shifts_nothing(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY, n int)")
    source = log.open(log.watch("a"))
    log.run("INSERT INTO a VALUES (1, 10)", "ALTER TABLE a ADD COLUMN z varchar(10) DEFAULT 'zz' FIRST", "INSERT INTO a VALUES ('q', 2, 20)")
    assert [row for _, _, row in told(follow(source, 2))] == [("1", "10"), ("2", "20")]


@pytest.mark.parametrize(
    ("ddl", "said"),
    [
        ("ALTER TABLE a DROP COLUMN n", "column n was dropped"),
        ("ALTER TABLE a RENAME COLUMN n TO m", "column n was dropped or renamed"),
        ("ALTER TABLE a MODIFY n varchar(20)", "column n is now of another type"),
        ("DROP TABLE a", "dropped"),
        ("RENAME TABLE a TO c", "renamed"),
        *([] if flavour.MYSQL else [("CREATE OR REPLACE TABLE a (id int PRIMARY KEY, n int)", "replaced")]),
    ],
)
def test_a_changed_table_stops_after_what_came_before(log: Log, ddl: str, said: str) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY, n int)")
    watched = log.watch("a")
    source = log.open(watched)
    log.run("INSERT INTO a VALUES (1, 10)", ddl)
    batches = follow(source, 1)
    assert [row for _, _, row in told(batches)] == [("1", "10")]
    with pytest.raises(Terminal, match=said) as stopped:
        follow(source, 1)
    assert f"{log.database}.a" in stopped.value.where


def test_without_metadata_another_number_of_columns_stops(log: Log) -> None:
    with log.setting("binlog_row_metadata", f"'{flavour.NO_NAMES}'"):
        log.run("CREATE TABLE a (id int PRIMARY KEY, n int)")
        watched = log.watch("a")
        first = log.source().prepare([watched])
        log.run("INSERT INTO a VALUES (1, 10)", "ALTER TABLE a ADD COLUMN z int")
        source = log.open(log.watch("a", "id", "n"), at=first)
        with pytest.raises(Terminal, match="2 columns where the catalogue has 3") as stopped:
            follow(source, 1)
    assert "binlog_row_metadata" in stopped.value.fix


def test_statements_in_place_of_rows_stop(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY, n int)", "CREATE TABLE no (id int PRIMARY KEY)")
    source = log.open(log.watch("a"))
    log.run("SET SESSION binlog_format = 'STATEMENT'", "INSERT INTO no VALUES (1)", "INSERT INTO a VALUES (1, 2)")
    with pytest.raises(Terminal, match="by a statement"):
        follow(source, 1)


def test_xa_transactions_are_refused_unless_they_touch_other_tables(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE no (id int PRIMARY KEY)")
    source = log.open(log.watch("a"))
    for table, name in (("no", "one"), ("a", "two")):
        log.run(f"XA START '{log.database}{name}'", f"INSERT INTO {table} VALUES (1)", f"XA END '{log.database}{name}'")
        log.run(f"XA PREPARE '{log.database}{name}'", f"XA COMMIT '{log.database}{name}'")
        if table == "no":
            log.run("INSERT INTO a VALUES (7)")
            follow(source, 1)
    with pytest.raises(Terminal, match="XA transaction"):
        follow(source, 1)


def test_generated_columns(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY, n int, s int AS (n + 1) STORED, v int AS (n * 2) VIRTUAL, t varchar(10) INVISIBLE DEFAULT 'i')")
    source = log.open(log.watch("a", "id", "s", "t", "n"))
    log.run("INSERT INTO a (id, n) VALUES (1, 10)", "UPDATE a SET n = 20")
    assert [row for _, _, row in told(follow(source, 2))] == [("1", "11", "i", "10"), ("1", "21", "i", "20")]


# positions and rights


@pytest.mark.usefixtures("mariadb")
def test_a_position_the_log_no_longer_has_is_said() -> None:
    with servers.mariadb() as server, opened_log(server) as log:
        log.run("CREATE TABLE a (id int PRIMARY KEY)")
        watched = log.watch("a")
        first = log.source().prepare([watched])
        file, offset, state = gtid.parts(first)
        log.run("INSERT INTO a VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO a VALUES (2)", "FLUSH BINARY LOGS")
        ahead = gtid.position(file, offset, f"{state.rsplit('-', 1)[0]}-999999")
        foreign = gtid.position(file, offset, "0-77-3")
        for wrong in (ahead, foreign):
            with pytest.raises(Terminal, match="the server"):
                log.open(watched, at=wrong)
        with pytest.raises(Terminal, match="ends before the place"):
            log.open(watched, at=gtid.position(file, 1 << 30))
        end = time.monotonic() + 30
        while len(log.rows("SHOW BINARY LOGS")) > 1 and time.monotonic() < end:
            # the server lets a file go only after a checkpoint of its own
            log.run("DO sleep(0.1)", "PURGE BINARY LOGS TO '" + str(log.rows(flavour.LOG_STATUS)[0][0]) + "'")
        with pytest.raises(Terminal, match=r"no longer has"):
            log.open(watched, at=first)
        with pytest.raises(Terminal, match="no longer has its log file"):
            log.open(watched, at=gtid.position(file, offset))


def test_settings_and_rights_that_are_missing_are_said(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY)")
    watched = log.watch("a")
    with log.setting("binlog_format", "'STATEMENT'"), pytest.raises(Terminal, match="binlog_format is STATEMENT") as stopped:
        log.source().prepare([watched])
    assert "SET GLOBAL binlog_format = ROW" in stopped.value.fix
    for grants, said in (("SELECT", f"GRANT REPLICATION SLAVE, {flavour.MONITOR}"), (f"SELECT, {flavour.MONITOR}", "GRANT REPLICATION SLAVE")):
        user = f"u{len(grants)}"
        log.run(*flavour.user(user, "secret"), f"GRANT {grants} ON *.* TO '{user}'@'%'")
        weak = MySqlSource("crm", log.server.url(log.database, user=user, password="secret"), "rules", {})
        with pytest.raises(Terminal) as stopped:
            weak.prepare([watched])
        assert said in stopped.value.fix
        assert "secret" not in str(stopped.value)
        weak.close()
    log.run(*flavour.user("ok", "secret"), f"GRANT SELECT, REPLICATION SLAVE, {flavour.MONITOR} ON *.* TO 'ok'@'%'")
    enough = MySqlSource("crm", log.server.url(log.database, user="ok", password="secret"), "rules", {})
    enough.open([watched], enough.prepare([watched]))
    log.run("INSERT INTO a VALUES (1)")
    follow(enough, 1)
    enough.close()


def test_a_table_without_log_key_is_refused(log: Log) -> None:
    with log.setting("binlog_row_image", "MINIMAL"):
        log.run("CREATE TABLE a (id int)")
        with pytest.raises(Terminal, match="no primary key"):
            log.source().prepare([log.watch("a", identity=("id",))])


def test_a_lost_connection_is_transient_and_reading_goes_on_where_it_was(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY)")
    watched = log.watch("a")
    source = log.open(watched)
    log.run("INSERT INTO a VALUES (1)")
    place = follow(source, 1)[-1].high
    for number in flavour.dumps(log.rows("SHOW PROCESSLIST")):
        log.run(f"KILL {number}")
    with pytest.raises(Transient):
        follow(source, 1)
    log.run("INSERT INTO a VALUES (2)")
    source.open([watched], place)
    assert [row for _, _, row in told(follow(source, 1))] == [("2",)]


@pytest.mark.usefixtures("mariadb")
def test_close_ends_the_dump_thread() -> None:
    with servers.mariadb() as server, opened_log(server) as log:
        log.run("CREATE TABLE a (id int PRIMARY KEY)")
        source = log.open(log.watch("a"))
        count = "SELECT count(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
        assert log.rows(count)[0][0] == 1
        source.close()
        source.close()
        end = time.monotonic() + 10
        while log.rows(count)[0][0] and time.monotonic() < end:
            log.run("DO sleep(0.02)")
        assert log.rows(count)[0][0] == 0


def test_commit_times_lie_within_the_commit_and_never_go_back(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY)")
    watched = log.watch("a")
    source = log.open(watched)
    first = source.prepare([watched])
    bounds = []
    for k in range(30):
        before = int(log.rows("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1e6 AS SIGNED)")[0][0])
        log.run(f"INSERT INTO a VALUES ({k})")
        after = int(log.rows("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1e6 AS SIGNED)")[0][0])
        bounds.append((before, after, int(follow(source, 1)[0].transactions.commit_us[0])))
    assert all(before - 20_000 <= commit <= after + 200_000 for before, after, commit in bounds)
    commits = [commit for _, _, commit in bounds]
    assert commits == sorted(commits)
    # read later, each is the middle of its second, give or take half a second
    again = log.open(watched, at=first)
    backlog = np.concatenate([batch.transactions.commit_us for batch in follow(again, 30)])
    assert (np.diff(backlog) >= 0).all()
    assert all(abs(int(late) - commit) < 1_000_000 for late, (_, _, commit) in zip(backlog, bounds, strict=True))


def test_a_session_with_a_false_clock_does_not_reach_the_future(log: Log) -> None:
    log.run("CREATE TABLE a (id int PRIMARY KEY)")
    source = log.open(log.watch("a"))
    log.run("SET timestamp = 4000000000 / 2", "INSERT INTO a VALUES (1)", "SET timestamp = DEFAULT", "INSERT INTO a VALUES (2)")
    now = int(log.rows("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1e6 AS SIGNED)")[0][0])
    commits = np.concatenate([batch.transactions.commit_us for batch in follow(source, 2)])
    assert (commits < now + 60_000_000).all() and (np.diff(commits) >= 0).all()


@pytest.mark.usefixtures("mariadb")
def test_the_log_is_read_over_tls() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate(folder)
        folder.chmod(0o755)
        (folder / "key.pem").chmod(0o644)
        with servers.mariadb({"ssl_cert": f"{folder}/cert.pem", "ssl_key": f"{folder}/key.pem", "require_secure_transport": False}) as server:
            server.login("safe", "secret")
            server.execute("ALTER USER 'safe'@'%' REQUIRE SSL")
            with opened_log(server) as log:
                log.run("CREATE TABLE a (id int PRIMARY KEY, t longtext)")
                secure = f"{server.url(log.database, user='safe', password='secret')}?ssl_ca={folder}/cert.pem"
                source = MySqlSource("crm", secure, "rules", {})
                watched = log.watch("a")
                source.open([watched], source.prepare([watched]))
                log.run("INSERT INTO a SELECT seq, repeat('x', 1000) FROM " + flavour.sequence(1, 20000), "INSERT INTO a VALUES (0, 'last')")
                batches = follow(source, 20_001)
                assert told(batches)[-1] == ("a", INSERT, ("0", "last"))
                source.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_replaying_the_log_with_restarts_gives_the_table(log: Log, seed: int) -> None:
    """Random writes of three sessions, rollbacks and savepoints among them, played into a dict from a reader that is closed and opened again."""
    rng = random.Random(seed)
    log.run("CREATE TABLE a (id int PRIMARY KEY, n int, t varchar(40))", "CREATE TABLE no (id int AUTO_INCREMENT PRIMARY KEY)")
    watched = log.watch("a")
    source = log.open(watched)
    sessions = [connect(log.url, system="test") for _ in range(3)]
    held: dict[str, Row] = {}
    place = None
    try:
        for turn in range(240):
            with contextlib.suppress(pymysql.MySQLError), rng.choice(sessions).cursor() as cursor:
                for statement in random_statements(rng, turn):
                    cursor.execute(statement)
            if turn % 40 == 20 and place is not None:
                source.close()
                source = log.open(watched, at=place)
            if turn % 10 == 0:
                batch = source.read(0.05)
                place = play(held, batch) or place
    finally:
        for session in sessions:
            session.close()
    end = log.reader().end().order
    while place is None or place.order < end:
        place = play(held, source.read(1.0)) or place
    table = {str(row[0]): tuple(None if v is None else str(v) for v in row) for row in log.rows("SELECT id, n, t FROM a")}
    assert held == table
    assert table


def random_statements(rng: random.Random, turn: int) -> list[str]:
    low = rng.randrange(60)
    writes = [
        f"INSERT IGNORE INTO a VALUES {', '.join(f'({rng.randrange(80)}, {turn}, repeat({chr(39)}é{chr(39)}, {k}))' for k in range(rng.randrange(1, 8)))}",
        f"UPDATE a SET n = n + 1, t = concat('t', id) WHERE id BETWEEN {low} AND {low + 9}",
        f"UPDATE IGNORE a SET id = id + 1 WHERE id = {low}",
        f"DELETE FROM a WHERE id BETWEEN {low} AND {low + 2}",
        f"REPLACE INTO a VALUES ({low}, NULL, NULL)",
        f"INSERT INTO a VALUES ({low}, 1, 'x') ON DUPLICATE KEY UPDATE n = {turn}",
        "INSERT INTO no VALUES (NULL)",
    ]
    chosen = rng.choices(writes, k=rng.randrange(1, 5))
    match rng.randrange(5):
        case 0:
            return ["BEGIN", *chosen, "ROLLBACK"]
        case 1:
            return ["BEGIN", *chosen, "SAVEPOINT s", *rng.choices(writes, k=2), "ROLLBACK TO s", rng.choice(writes), "COMMIT"]
        case 2:
            return ["BEGIN", *chosen, "COMMIT"]
    return chosen


def play(held: dict[str, Row], batch: Batch | None) -> Position | None:
    """Applies the changes, each of which must fit what is held."""
    if batch is None:
        return None
    for _, op, row in told([batch]):
        assert (row[0] in held) == (op != INSERT)
        if op == DELETE:
            del held[row[0]]
        else:
            held[row[0]] = row
    return batch.high
