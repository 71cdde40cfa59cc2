"""MySQL/MariaDB sink and preflight on a real server: what tests/conformance cannot ask of every database."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pymysql
import pytest

from adapters.mysql import connect
from engine.errors import Poison, Terminal, Transient
from engine.model.batch import DELETE, INSERT, UPDATE
from engine.model.schema import Table
from engine.model.write import NO_ROW, ROW_EXISTS, WROTE, Marker, Write
from engine.ports import Adapter, Problem, Sink, Watched
from engine.throwaway import servers
from tests import flavour


class Database:
    """A fresh database, our adapter on it, and a way to look at it from outside."""

    def __init__(self, server: Any, *, url: str | None = None) -> None:
        self.server = server
        self.url: str = url or server.database()
        self.name = self.url.rsplit("/", 1)[1]
        self._outside: Any = None
        self.adapter: Adapter = connect("erp", self.url, {})
        self.sink: Sink = self.adapter.sink("rules")

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        if self._outside is None:
            port = self.server.port
            self._outside = pymysql.connect(host="127.0.0.1", port=port, user="root", database=self.name, autocommit=True, ssl_disabled=True)
        with self._outside.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def table(self, name: str, columns: str = "") -> Table:
        if columns:
            self.execute(f"CREATE TABLE `{name}` ({columns})")
        reader = self.adapter.reader()
        try:
            return reader.table("", name)
        finally:
            reader.close()

    def begin(self, batch: int = 1) -> None:
        self.sink.begin(Marker(rule_set="rules", source="crm", batch=batch, position=f"p{batch}"))

    def put(self, *writes: Write) -> list[list[int]]:
        self.sink.prepare()
        self.begin()
        outcomes = [self.sink.write(write).result.tolist() for write in writes]
        self.sink.commit()
        return outcomes


@pytest.fixture
def database(mariadb: Any) -> Iterator[Database]:
    made = Database(mariadb)
    yield made
    made.sink.close()


def rows_of(table: Table, key: Sequence[str], columns: Sequence[str], rows: Sequence[tuple[int, tuple[str | None, ...]]]) -> Write:
    op = np.array([kind for kind, _ in rows], dtype=np.uint8)
    values = pa.table({name: pa.array([row[at] for _, row in rows], pa.string()) for at, name in enumerate(columns)})
    decided = [[kind == INSERT or (kind == UPDATE and name not in key) for name in columns] for kind, _ in rows]
    return Write(table=table, key=tuple(key), op=op, values=values, decided=np.array(decided, dtype=np.bool_))


# --- what stands in the log ---


def events(database: Database, since: tuple[str, int]) -> list[tuple[str, str]]:
    """Kind and text of the log's events from a place on."""
    file, offset = since
    return [(str(row[2]), str(row[5])) for row in database.execute(f"SHOW BINLOG EVENTS IN '{file}' FROM {offset}")]


def place(database: Database) -> tuple[str, int]:
    ((file, offset, *_),) = database.execute(flavour.LOG_STATUS)
    return str(file), int(offset)


def test_the_log_holds_the_marker_first_and_nothing_of_the_staging_table(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, v text")
    database.put()
    since = place(database)
    everything = [(INSERT, ("1", "a")), (INSERT, ("2", "b"))]
    database.put(rows_of(table, ("id",), ("id", "v"), everything), rows_of(table, ("id",), ("id", "v"), everything))
    database.put(rows_of(table, ("id",), ("id", "v"), [(UPDATE, ("1", "b"))]))
    database.sink.close()
    told = events(database, since)
    mapped = [text.rsplit("(", 1)[1].rstrip(")").split(".")[1] for kind, text in told if kind == "Table_map"]
    assert mapped[0] == "syncline_checkpoint" and set(mapped) == {"syncline_checkpoint", "t"}
    assert not any(word in text for kind, text in told if kind == "Query" for word in ("CREATE", "DROP", "TRUNCATE", "ROLLBACK"))
    assert [kind for kind, _ in told].count("Xid") == 2


def test_rows_taken_back_never_stand_in_the_log(database: Database) -> None:
    """Also when the staging table has to be made in the middle of a transaction."""
    first, second = database.table("a", "id int PRIMARY KEY, v text"), database.table("b", "id int PRIMARY KEY, v text NOT NULL CHECK (v <> 'bad')")
    database.execute("INSERT INTO b VALUES (1, 'old')")
    database.put()
    since = place(database)
    database.begin(2)
    database.sink.write(rows_of(first, ("id",), ("id", "v"), [(INSERT, ("1", "a"))]))
    with pytest.raises(Poison):
        database.sink.write(rows_of(second, ("id",), ("id", "v"), [(DELETE, ("1", None)), (INSERT, ("2", "bad"))]))
    # inserts alone are loaded straight into the table first, and taken back when the server leaves some out
    assert database.sink.write(rows_of(first, ("id",), ("id", "v"), [(INSERT, ("1", "b")), (INSERT, ("2", "b"))])).result.tolist() == [ROW_EXISTS, WROTE]
    database.sink.commit()
    told = events(database, since)
    changes = [kind.split("_rows")[0] for kind, _ in told if "_rows" in kind]
    assert [change for change in changes if change != "Annotate"] == ["Update", "Write", "Write"]
    assert not any("ROLLBACK" in text or "TEMPORARY" in text for _, text in told)
    assert database.execute("SELECT * FROM a ORDER BY id") == [(1, "a"), (2, "b")] and database.execute("SELECT * FROM b") == [(1, "old")]


def test_a_batch_that_writes_nothing_but_its_marker_is_one_transaction(database: Database) -> None:
    database.put()
    ((batch, position),) = database.execute("SELECT batch, position FROM syncline_checkpoint WHERE rule_set = 'rules' AND source = 'crm'")
    assert (int(batch), position) == (1, "p1")


# --- keys ---


def test_the_key_is_compared_in_its_own_collation(database: Database) -> None:
    table = database.table("t", "id int AUTO_INCREMENT PRIMARY KEY, k varchar(20) COLLATE utf8mb4_general_ci UNIQUE, v text")
    database.execute("INSERT INTO t (k, v) VALUES ('Müller', 'old')")
    assert database.put(rows_of(table, ("k",), ("k", "v"), [(UPDATE, ("mULLER", "new")), (INSERT, ("MÜLLER", "x"))])) == [[WROTE, ROW_EXISTS]]
    assert database.execute("SELECT k, v FROM t") == [("Müller", "new")]


def test_keys_of_one_batch_that_the_database_holds_for_equal_are_named(database: Database) -> None:
    table = database.table("t", "k varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v text")
    database.put()
    database.begin()
    with pytest.raises(Poison) as refused:
        database.sink.write(rows_of(table, ("k",), ("k", "v"), [(INSERT, ("a", "1")), (INSERT, ("b", "2")), (INSERT, ("A", "3"))]))
    assert refused.value.reason == "unique" and refused.value.rows == (2,)
    database.sink.commit()
    database.execute("INSERT INTO t VALUES ('z', '0')")
    database.begin()
    with pytest.raises(Poison) as refused:
        database.sink.write(rows_of(table, ("k",), ("k", "v"), [(UPDATE, ("z", "1")), (UPDATE, ("Z", "2"))]))
    assert refused.value.rows == (1,)
    database.sink.commit()
    assert database.execute("SELECT k, v FROM t") == [("z", "0")]


@pytest.mark.parametrize("op", [UPDATE, DELETE])
def test_a_batch_finds_its_rows_by_the_index(database: Database, op: int) -> None:
    table = database.table("t", "id int PRIMARY KEY, k varchar(20) CHARACTER SET latin1 NOT NULL, v text, KEY (k)")
    database.execute("INSERT INTO t SELECT seq, CONCAT('k', seq), 'old' FROM " + flavour.sequence(1, 20000))
    database.execute("ANALYZE TABLE t")  # what MySQL knows of a table filled a moment ago is that it is empty
    write = rows_of(table, ("k",), ("k", "v"), [(op, (f"k{number}", "new")) for number in range(1, 101)])
    database.put()
    database.begin()
    before = scanned(database)
    assert set(database.sink.write(write).result.tolist()) == {WROTE}
    assert scanned(database) - before < 5000, "a full scan of the table"
    database.sink.commit()


def scanned(database: Database) -> int:
    """Rows that the sink's connection has read by full scans."""
    with database.sink._connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read_rnd_next'")
        return int(cursor.fetchone()[1])


def test_an_insert_gives_its_own_value_to_an_auto_increment_column_zero_included(database: Database) -> None:
    table = database.table("t", "id int AUTO_INCREMENT PRIMARY KEY, v text")
    database.put(rows_of(table, ("id",), ("id", "v"), [(INSERT, ("0", "a")), (INSERT, ("7", "b"))]))
    assert database.execute("SELECT id, v FROM t ORDER BY id") == [(0, "a"), (7, "b")]


def test_more_columns_than_one_word_of_bits(database: Database) -> None:
    names = [f"c{number}" for number in range(130)]
    table = database.table("t", "id int PRIMARY KEY, " + ", ".join(f"{name} int" for name in names))
    columns = ("id", *names)
    database.put(rows_of(table, ("id",), columns, [(INSERT, (str(number), *["0"] * 130)) for number in range(4)]))
    change = rows_of(table, ("id",), columns, [(UPDATE, (str(number), *["1"] * 130)) for number in range(4)])
    random = np.random.default_rng(3)
    change.decided[:, 1:] = random.random((4, 130)) < 0.5
    database.put(change)
    found = [[int(value) for value in row[1:]] for row in database.execute("SELECT * FROM t ORDER BY id")]
    assert found == change.decided[:, 1:].astype(int).tolist()


def test_a_table_whose_rows_are_as_large_as_rows_may_be(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, a varchar(16000), b varchar(375), c varbinary(20)")
    write = rows_of(table, ("id",), ("id", "a", "b", "c"), [(INSERT, ("1", "x" * 16000, "y", "\\x00")), (INSERT, ("2", None, None, None))])
    write.decided[1, 2] = False
    assert database.put(write) == [[WROTE, WROTE]]
    with pytest.raises(pymysql.MySQLError, match="1118"):
        database.execute("CREATE TABLE larger (_n int, _op tinyint, _m0 bigint, id int, a varchar(16000), b varchar(375), c varbinary(20))")
    assert database.execute("SELECT length(a), b, hex(c) FROM t ORDER BY id") == [(16000, "y", "00"), (None, None, None)]
    database.begin()
    with pytest.raises(Poison) as refused:
        database.sink.write(rows_of(table, ("id",), ("id", "a", "b", "c"), [(UPDATE, ("1", "ok", "z" * 376, None)), (UPDATE, ("2", "ok", "z", None))]))
    assert refused.value.reason == "too_long"
    database.sink.rollback()


# --- refusals ---


def test_a_null_never_becomes_a_timestamp_or_a_number(database: Database) -> None:
    table = database.table("t", "id int AUTO_INCREMENT PRIMARY KEY, ts timestamp NOT NULL, k int UNIQUE")
    database.put()
    database.begin()
    for column in (("k", "ts"), ("k", "id")):
        with pytest.raises(Poison) as refused:
            database.sink.write(rows_of(table, ("k",), column, [(INSERT, ("1", None))]))
        assert refused.value.reason == "not_null"
    database.sink.commit()
    assert database.execute("SELECT * FROM t") == []


def test_rows_with_different_faults_are_told_apart(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, a varchar(3), b tinyint")
    database.put()
    database.begin()
    rows = [(INSERT, ("1", "ok", "1")), (INSERT, ("2", "too long", "1")), (INSERT, ("3", "ok", "999")), (INSERT, ("4", "long too", "1"))]
    write = rows_of(table, ("id",), ("id", "a", "b"), rows)
    seen = []
    left = np.arange(4)
    while True:
        try:
            database.sink.write(write.take(left))
            break
        except Poison as poison:
            seen.append((poison.reason, [int(left[row]) for row in poison.rows]))
            left = np.delete(left, list(poison.rows))
    database.sink.commit()
    assert seen == [("too_long", [1, 3]), ("range", [2])]
    assert database.execute("SELECT id FROM t") == [(1,)]


def test_a_column_without_default_that_the_write_does_not_have_is_never_made_up(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, v int, must varchar(5) NOT NULL")
    database.execute("INSERT INTO t VALUES (1, 1, 'x')")
    database.put()
    database.begin()
    new = [(INSERT, ("2", "2")), (INSERT, ("3", "3"))]
    for rows, named in ((new, (0, 1)), ([(UPDATE, ("1", "5")), *new], (1, 2))):
        with pytest.raises(Poison) as refused:
            database.sink.write(rows_of(table, ("id",), ("id", "v"), rows))
        assert refused.value.reason == "not_null" and refused.value.rows == named
        assert "column must" in refused.value.where
    database.sink.commit()
    assert database.execute("SELECT * FROM t") == [(1, 1, "x")]


def test_a_signal_of_a_trigger_sets_the_row_aside(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, v text")
    database.execute("CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW IF NEW.id = 2 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'secret'; END IF")
    database.put()
    database.begin()
    with pytest.raises(Poison) as refused:
        database.sink.write(rows_of(table, ("id",), ("id", "v"), [(INSERT, ("2", "a"))]))
    assert refused.value.reason == "other" and "secret" not in str(refused.value)
    database.sink.rollback()


def test_rows_that_point_to_rows_of_the_same_table_arrive_in_any_order(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, boss int, FOREIGN KEY (boss) REFERENCES t (id)")
    rows = [("1", "2"), ("2", "3"), ("3", None), ("4", "1"), ("5", "5")]
    assert database.put(rows_of(table, ("id",), ("id", "boss"), [(INSERT, row) for row in rows])) == [[WROTE] * 5]
    assert database.put(rows_of(table, ("id",), ("id", "boss"), [(DELETE, row) for row in rows[1:4] + rows[:1]])) == [[WROTE] * 4]
    database.begin()
    with pytest.raises(Poison) as refused:
        database.sink.write(rows_of(table, ("id",), ("id", "boss"), [(INSERT, ("1", "9")), (INSERT, ("2", None)), (INSERT, ("3", "1"))]))
    assert refused.value.reason == "foreign_key"
    assert set(refused.value.rows) <= {0, 2}
    database.sink.rollback()


# --- transactions ---


def test_a_deadlock_is_transient_and_takes_the_whole_transaction_back(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, v int")
    database.execute("INSERT INTO t VALUES (1, 0), (2, 0)")
    database.put()
    other = pymysql.connect(host="127.0.0.1", port=database.server.port, user="root", database=database.name)
    other.query("SET innodb_lock_wait_timeout = 20")
    for number in range(50):  # a heavy transaction: the server ends the lighter one, which is ours
        other.query(f"INSERT INTO t VALUES ({100 + number}, 0)")
    other.query("UPDATE t SET v = 1 WHERE id = 2")
    database.begin(2)
    database.sink.write(rows_of(table, ("id",), ("id", "v"), [(UPDATE, ("1", "5"))]))
    waiting = threading.Thread(target=other.query, args=("UPDATE t SET v = 1 WHERE id = 1",))
    waiting.start()
    with pytest.raises(Transient):
        database.sink.write(rows_of(table, ("id",), ("id", "v"), [(UPDATE, ("2", "5"))]))
    waiting.join()
    other.commit()
    other.close()
    assert database.sink.marker("rules", "crm") == Marker(rule_set="rules", source="crm", batch=1, position="p1")
    database.begin(2)
    assert database.sink.write(rows_of(table, ("id",), ("id", "v"), [(UPDATE, ("1", "5"))])).result.tolist() == [WROTE]
    database.sink.commit()
    assert database.execute("SELECT v FROM t WHERE id < 10 ORDER BY id") == [(5,), (1,)]


def test_a_row_locked_for_long_is_transient(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, v int")
    database.execute("INSERT INTO t VALUES (1, 0)")
    database.put()
    other = pymysql.connect(host="127.0.0.1", port=database.server.port, user="root", database=database.name)
    other.query("UPDATE t SET v = 1")
    database.begin()
    database.sink._connection.query("SET innodb_lock_wait_timeout = 1")  # type: ignore[attr-defined]
    with pytest.raises(Transient):
        database.sink.write(rows_of(table, ("id",), ("id", "v"), [(UPDATE, ("1", "5"))]))
    other.rollback()
    other.close()
    with pytest.raises(Transient):
        database.sink.commit()


def test_a_column_added_while_we_run_does_no_harm_and_one_dropped_is_terminal(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, v int")
    database.put(rows_of(table, ("id",), ("id", "v"), [(INSERT, ("1", "1"))]))
    database.execute("ALTER TABLE t ADD COLUMN w int FIRST")
    assert database.put(rows_of(table, ("id",), ("id", "v"), [(INSERT, ("2", "2"))])) == [[WROTE]]
    database.execute("ALTER TABLE t DROP COLUMN v")
    database.begin()
    with pytest.raises(Terminal):
        database.sink.write(rows_of(table, ("id",), ("id", "v"), [(INSERT, ("3", "3"))]))


def test_an_update_without_a_decided_cell_only_tells_whether_the_row_is_there(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, v int")
    database.execute("INSERT INTO t VALUES (1, 0)")
    write = rows_of(table, ("id",), ("id", "v"), [(UPDATE, ("1", "5")), (UPDATE, ("2", "5"))])
    write.decided[:] = False
    assert database.put(write) == [[WROTE, NO_ROW]]
    assert database.execute("SELECT v FROM t") == [(0,)]


# --- preflight ---


def problems(database: Database, *, read: Sequence[Table] = (), written: Sequence[Table] = ()) -> list[Problem]:
    watched = [Watched(table=table, columns=tuple(column.name for column in table.columns), identity=table.primary_key) for table in read]
    return database.adapter.preflight("rules", watched, written)


def said(found: Sequence[Problem], severity: str = "error") -> str:
    return "\n".join(f"{problem.where}: {problem.what} -> {problem.fix}" for problem in found if problem.severity == severity)


def test_a_well_set_up_server_has_no_problems_and_nothing_is_changed(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, v text")
    since = place(database)
    assert problems(database, read=[table], written=[table]) == []
    assert place(database) == since
    assert database.execute("SHOW TABLES") == [("t",)]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://root@127.0.0.1:1/db", "does not answer"),
        ("mysql://root:wrong@127.0.0.1:{port}/{name}", "password"),
        ("mysql://root@127.0.0.1:{port}/absent", "no such database"),
        ("mysql://root@127.0.0.1:{port}/", "names no database"),
        ("mysql://root@127.0.0.1:{port}/{name}?ssl_ca=/absent.pem", "not there"),
    ],
)
def test_a_connection_that_cannot_be_made_is_one_problem(database: Database, url: str, words: str) -> None:
    full = url.format(port=database.server.port, name=database.name)
    found = connect("erp", full, {}).preflight("rules", [], [])
    assert len(found) == 1 and found[0].severity == "error"
    assert words in found[0].what and "wrong" not in found[0].where


def test_missing_rights_are_named_with_their_grant(database: Database) -> None:
    table = database.table("t", "id int PRIMARY KEY, v text")
    for statement in flavour.user("weak", "pw"):
        database.server.execute(statement)
    database.execute(f"GRANT SELECT ON `{database.name}`.t TO 'weak'@'%'")
    weak = Database(database.server, url=f"mysql://weak:pw@127.0.0.1:{database.server.port}/{database.name}")
    told = said(problems(weak, read=[table], written=[table]))
    for words in (f"GRANT REPLICATION SLAVE, {flavour.MONITOR} ON *.* TO 'weak'@'%'", "INSERT", "CREATE TABLE IF NOT EXISTS syncline_checkpoint", "TEMPORARY"):
        assert words in told
    database.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, CREATE TEMPORARY TABLES ON `{database.name}`.* TO 'weak'@'%'")
    database.execute(f"GRANT REPLICATION SLAVE, {flavour.MONITOR} ON *.* TO 'weak'@'%'")
    assert said(problems(weak, read=[table], written=[table])) == ""
    weak.put(rows_of(table, ("id",), ("id", "v"), [(INSERT, ("1", "a"))]))
    weak.sink.close()


def test_tables_that_cannot_be_written_or_followed(database: Database) -> None:
    database.execute("CREATE TABLE parent (id int PRIMARY KEY)")
    child = database.table("child", "id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE")
    database.execute("CREATE TRIGGER tr BEFORE INSERT ON child FOR EACH ROW SET NEW.p = NEW.p")
    database.execute("CREATE TABLE old (id int PRIMARY KEY) ENGINE = MyISAM")
    old = database.table("old")
    database.execute("CREATE VIEW shown AS SELECT * FROM parent")
    view = database.table("shown")
    found = problems(database, read=[child, view], written=[child, old])
    assert "triggers (tr)" in said(found, "warning")
    assert [foreign.hidden for foreign in child.foreign_keys] == [not flavour.CASCADES_LOGGED]
    assert "ENGINE = InnoDB" in said(found) and "updates and deletes cannot be followed" in said(found)


def test_server_settings() -> None:
    settings: dict[str, servers.Setting] = {
        "binlog_format": "STATEMENT",
        "binlog_row_image": "MINIMAL",
        "binlog_row_metadata": flavour.NO_NAMES,
        "local_infile": False,
        **({"binlog_expire_logs_seconds": 86400} if flavour.MYSQL else {"expire_logs_days": 1, "gtid_strict_mode": False}),
        "server_id": 7,
    }
    if servers.available("mariadb"):
        pytest.skip("no MariaDB here")
    with servers.mariadb(settings) as server:
        database = Database(server)
        table = database.table("t", "id int PRIMARY KEY, v text")
        found = problems(database, read=[table], written=[table])
        assert "binlog_format is STATEMENT" in said(found)
        for words in ("binlog_row_image is MINIMAL", "binlog_row_metadata", "local_infile is off", "kept for 24 hours"):
            assert words in said(found, "warning")
        assert database.put(rows_of(table, ("id",), ("id", "v"), [(INSERT, ("1", "a"))])) == [[WROTE]]
        database.sink.close()
        server.execute("SET GLOBAL binlog_format = 'ROW'")
        bare = database.table("bare", "a int, b int")
        assert bare.log_key == ()
        assert "updates and deletes cannot be followed" in said(problems(database, read=[bare]))
