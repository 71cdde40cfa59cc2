"""What only PostgreSQL can show of its sink: triggers, identities, domains, timeouts, races, rights, and the findings of `check`."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from adapters.postgres import connect
from engine.errors import Poison, Terminal, Transient
from engine.model.batch import DELETE, INSERT, UPDATE
from engine.model.schema import Table
from engine.model.write import MANY_ROWS, NO_ROW, ROW_EXISTS, WROTE, Marker, Outcome, Write
from engine.ports import Problem, Sink, Watched

Rows = list[tuple[int, tuple[str | None, ...]]]
MARKER = Marker(rule_set="rules", source="crm", batch=1, position="1")
DATABASES: dict[int, str] = {}
NUMBERS = itertools.count(1)


class Place:
    """A fresh schema, the default one of its URL."""

    def __init__(self, server: Any) -> None:
        self.server = server
        if server.port not in DATABASES:
            DATABASES[server.port] = server.database()
        self.schema = f"place_{next(NUMBERS)}"
        with psycopg.connect(DATABASES[server.port], autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {self.schema}".encode())
        self.url = f"{DATABASES[server.port]}?options=-csearch_path%3D{self.schema}"
        self.sinks: list[Sink] = []

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return list(cursor.fetchall()) if cursor.description else []

    def table(self, name: str, columns: str | None = None) -> Table:
        if columns is not None:
            self.execute(f"CREATE TABLE {name} ({columns})")
        reader = connect("erp", self.url, {}).reader()
        try:
            return reader.table("", name)
        finally:
            reader.close()

    def sink(self, **options: object) -> Sink:
        self.sinks.append(connect("erp", self.url, options).sink("rules"))
        self.sinks[-1].prepare()
        return self.sinks[-1]

    def login(self, user: str, attributes: str = "") -> str:
        """A URL of a user without rights, but for its attributes."""
        if not self.execute(f"SELECT FROM pg_roles WHERE rolname = '{user}'"):
            self.server.login(user, "x", rights=False)
        self.execute(f"ALTER ROLE {user} {attributes}; GRANT USAGE ON SCHEMA {self.schema} TO {user}")
        return self.url.replace("postgres@", f"{user}:x@")


@pytest.fixture(params=["postgres15", "postgres18"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    made = Place(request.getfixturevalue(request.param))
    yield made
    for sink in made.sinks:
        sink.close()


def write(table: Table, key: tuple[str, ...], columns: tuple[str, ...], rows: Rows) -> Write:
    values = pa.table({name: pa.array([row[at] for _, row in rows], pa.string()) for at, name in enumerate(columns)})
    decided = np.array([[op == INSERT or (op == UPDATE and name not in key) for name in columns] for op, _ in rows])
    return Write(table=table, key=key, op=np.array([op for op, _ in rows], dtype=np.uint8), values=values, decided=decided)


def put(sink: Sink, *writes: Write) -> list[list[int]]:
    sink.begin(MARKER)
    outcomes = [sink.write(write).result.tolist() for write in writes]
    sink.commit()
    return outcomes


def refuse(sink: Sink, one: Write) -> Poison:
    """The refusal of a write; the transaction goes on and is committed."""
    sink.begin(MARKER)
    with pytest.raises(Poison) as refused:
        sink.write(one)
    sink.commit()
    return refused.value


# --- columns of special kinds ---


def test_an_always_generated_identity_takes_our_number_and_generated_columns_stay_the_servers(place: Place) -> None:
    table = place.table("t", "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED")
    sink = place.sink()
    rows: Rows = [(INSERT, ("70", "1")), (INSERT, ("80", "2"))]
    assert put(sink, write(table, ("id",), ("id", "a"), rows)) == [[WROTE, WROTE]]
    assert put(sink, write(table, ("id",), ("id", "a"), [(UPDATE, ("70", "5")), (INSERT, ("90", "3"))])) == [[WROTE, WROTE]]
    assert place.execute("SELECT * FROM t ORDER BY id") == [(70, 5, 10), (80, 2, 4), (90, 3, 6)]


def test_a_domain_that_must_not_be_null_lets_other_columns_be_updated(place: Place) -> None:
    place.execute("CREATE DOMAIN filled AS varchar(5) NOT NULL CHECK (value <> 'bad')")
    table = place.table("t", "id int PRIMARY KEY, d filled, e int")
    sink = place.sink()
    put(sink, write(table, ("id",), ("id", "d", "e"), [(INSERT, (str(n), "a", "1")) for n in range(3)]))
    one = write(table, ("id",), ("id", "d", "e"), [(UPDATE, ("0", None, "5")), (UPDATE, ("1", "b", None)), (DELETE, ("2", None, None))])
    one.decided[0, 1] = one.decided[1, 2] = False
    assert put(sink, one) == [[WROTE] * 3]
    assert place.execute("SELECT id, d, e FROM t ORDER BY id") == [(0, "a", 5), (1, "b", 1)]
    assert refuse(sink, write(table, ("id",), ("id", "d", "e"), [(INSERT, ("7", "bad", "1"))])).reason == "check"


def test_collations_and_padding_address_the_rows_they_should(place: Place) -> None:
    if place.execute("SELECT FROM pg_collation WHERE collprovider = 'i' LIMIT 1"):
        place.execute("CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        blind = "varchar(10) COLLATE blind"
    else:  # a build without ICU
        place.execute(f"CREATE EXTENSION citext SCHEMA {place.schema}")
        blind = "citext"
    table = place.table("t", f'k {blind} PRIMARY KEY, c char(5) COLLATE "C" UNIQUE, v text')
    sink = place.sink()
    put(sink, write(table, ("k",), ("k", "c", "v"), [(INSERT, ("Anna", "ab", "1"))]))
    assert put(sink, write(table, ("k",), ("k", "v"), [(UPDATE, ("ANNA", "2"))])) == [[WROTE]]
    assert put(sink, write(table, ("k",), ("k", "c", "v"), [(INSERT, ("anna", "x", "3"))])) == [[ROW_EXISTS]]
    assert put(sink, write(table, ("c",), ("c", "v"), [(UPDATE, ("ab", "4"))])) == [[WROTE]]
    assert place.execute("SELECT k, v FROM t") == [("Anna", "4")]


def test_a_table_with_more_columns_than_a_machine_word_has_bits(place: Place) -> None:
    names = tuple(f"c{n}" for n in range(150))
    table = place.table("t", "id int PRIMARY KEY, " + ", ".join(f"{name} text" for name in names))
    sink = place.sink()
    put(sink, write(table, ("id",), ("id", *names), [(INSERT, (str(n), *["old"] * 150)) for n in range(4)]))
    one = write(table, ("id",), ("id", *names), [(UPDATE, (str(n), *["new"] * 150)) for n in range(4)])
    one.decided[:, 1:] = np.random.default_rng(3).random((4, 150)) < 0.5
    assert put(sink, one) == [[WROTE] * 4]
    expected = [(n, *("new" if one.decided[n, at + 1] else "old" for at in range(150))) for n in range(4)]
    assert place.execute("SELECT * FROM t ORDER BY id") == expected


def test_a_partitioned_table_is_a_target_like_any_other(place: Place) -> None:
    place.execute("CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)")
    place.execute("CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)")
    table, sink = place.table("t"), place.sink()
    put(sink, write(table, ("id",), ("id", "v"), [(INSERT, ("1", "a")), (INSERT, ("11", "b"))]))
    assert put(sink, write(table, ("id",), ("id", "v"), [(UPDATE, ("1", "c")), (DELETE, ("11", None)), (INSERT, ("12", "d"))])) == [[WROTE] * 3]
    assert place.execute("SELECT id, v FROM t ORDER BY id") == [(1, "c"), (12, "d")]
    assert refuse(sink, write(table, ("id",), ("id", "v"), [(INSERT, ("99", "no partition"))])).reason == "check"


# --- triggers ---


def trigger(place: Place, table: str, body: str, event: str = "BEFORE INSERT OR UPDATE") -> None:
    place.execute(f"CREATE FUNCTION act_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    place.execute(f"CREATE TRIGGER act {event} ON {table} FOR EACH ROW EXECUTE FUNCTION act_{table}()")


def test_triggers_fire_for_our_writes(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    trigger(place, "t", "NEW.v := upper(NEW.v); RETURN NEW;")
    sink = place.sink()
    put(sink, write(table, ("id",), ("id", "v"), [(INSERT, ("1", "a")), (INSERT, ("2", "b"))]))
    put(sink, write(table, ("id",), ("id", "v"), [(UPDATE, ("1", "c")), (INSERT, ("3", "d"))]))
    assert place.execute("SELECT v FROM t ORDER BY id") == [("C",), ("B",), ("D",)]


def test_a_trigger_that_refuses_a_row_is_named_and_its_message_is_not_quoted(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    trigger(place, "t", "IF NEW.v = 'secret' THEN RAISE EXCEPTION 'no %', NEW.v; END IF; RETURN NEW;")
    sink = place.sink()
    for rows in ([(INSERT, (str(n), "secret" if n == 3 else "x")) for n in range(6)], [(INSERT, ("9", "secret"))]):
        poison = refuse(sink, write(table, ("id",), ("id", "v"), rows))
        assert poison.reason == "other" and poison.rows in ((3,), (0,), ())
        assert "act_t" in str(poison) and "secret" not in str(poison)


@pytest.mark.parametrize("op", [INSERT, UPDATE, DELETE])
def test_a_row_that_a_trigger_drops_silently_is_a_refusal_not_a_success(place: Place, op: int) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    sink = place.sink()
    if op != INSERT:
        put(sink, write(table, ("id",), ("id", "v"), [(INSERT, (str(n), "old")) for n in range(4)]))
    event = {INSERT: "BEFORE INSERT", UPDATE: "BEFORE UPDATE", DELETE: "BEFORE DELETE"}[op]
    row = "OLD" if op == DELETE else "NEW"
    trigger(place, "t", f"IF {row}.id = 2 THEN RETURN NULL; END IF; RETURN {row};", event)
    poison = refuse(sink, write(table, ("id",), ("id", "v"), [(op, (str(n), "new")) for n in range(4)]))
    assert (poison.reason, poison.rows) == ("other", (2,))
    assert place.execute("SELECT count(*) FROM t WHERE v = 'new'") == [(0,)]
    if op != INSERT:  # an absent row is no dropped one
        assert put(sink, write(table, ("id",), ("id", "v"), [(op, ("1", "new")), (op, ("77", "new"))])) == [[WROTE, NO_ROW]]


def test_rows_that_a_trigger_routes_to_a_child_table_are_written(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    place.execute("CREATE TABLE child () INHERITS (t)")
    trigger(place, "t", "INSERT INTO child VALUES (NEW.*); RETURN NULL;", "BEFORE INSERT")
    sink = place.sink()
    assert put(sink, write(table, ("id",), ("id", "v"), [(INSERT, ("1", "a")), (INSERT, ("2", "b"))])) == [[WROTE, WROTE]]
    assert place.execute("SELECT id FROM ONLY child ORDER BY id") == [(1,), (2,)]


# --- refusals ---


def test_a_nul_character_is_refused_before_anything_is_sent(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text, w text")
    rows: Rows = [(INSERT, ("1", "ok", "ok")), (INSERT, ("2", "n\0l", "ok")), (INSERT, ("3", "ok", "\0"))]
    poison = refuse(place.sink(), write(table, ("id",), ("id", "v", "w"), rows))
    assert (poison.reason, poison.rows) == ("encoding", (1, 2))
    assert "v, w" in poison.what


def test_all_rows_without_a_parent_are_named_at_once_and_no_others(place: Place) -> None:
    place.execute("CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1)")
    table = place.table("t", "id int PRIMARY KEY, p int REFERENCES parent, s int REFERENCES t, v text")
    columns = ("id", "p", "s", "v")
    sink = place.sink()
    put(sink, write(table, ("id",), columns, [(INSERT, ("100", "1", None, "a")), (INSERT, ("101", "1", "100", "a"))]))
    rows: Rows = [
        (INSERT, ("1", "1", None, "fine")),
        (INSERT, ("2", "9", None, "no parent")),
        (INSERT, ("3", None, "4", "its parent comes with it")),
        (INSERT, ("4", "1", "100", "fine")),
        (UPDATE, ("101", "8", None, "no parent")),
        (INSERT, ("100", "7", None, "stands there already: nothing is written, so nothing is wrong")),
        (UPDATE, ("55", "7", None, "no row: nothing is written")),
        (DELETE, ("77", "7", None, None)),
    ]
    one = write(table, ("id",), columns, rows)
    poison = refuse(sink, one)
    assert (poison.reason, poison.rows) == ("foreign_key", (1, 4))
    good = one.take(np.array([0, 2, 3, 5, 6, 7]))
    assert put(sink, good) == [[WROTE, WROTE, WROTE, ROW_EXISTS, NO_ROW, NO_ROW]]


def test_rows_that_clash_with_others_in_the_target_are_named_at_once(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, u text UNIQUE")
    sink = place.sink()
    put(sink, write(table, ("id",), ("id", "u"), [(INSERT, (str(n), f"u{n}")) for n in range(4)]))
    rows: Rows = [(INSERT, ("10", "u1")), (INSERT, ("11", "new")), (UPDATE, ("2", "u3")), (DELETE, ("0", None)), (INSERT, ("12", "u0"))]
    one = write(table, ("id",), ("id", "u"), rows)
    assert refuse(sink, one).rows == (0, 2)
    assert put(sink, one.take(np.array([1, 3, 4]))) == [[WROTE] * 3]


def test_rows_of_one_write_that_clash_with_each_other_are_left_to_splitting(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, u text UNIQUE")
    poison = refuse(place.sink(), write(table, ("id",), ("id", "u"), [(INSERT, ("1", "same")), (INSERT, ("2", "same"))]))
    assert (poison.reason, poison.rows) == ("unique", ())


def test_all_rows_that_lack_a_value_are_named_at_once(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, a int NOT NULL, b int NOT NULL")
    sink = place.sink()
    rows: Rows = [(INSERT, ("1", None, "1")), (INSERT, ("2", "1", "1")), (INSERT, ("3", None, "1"))]
    assert refuse(sink, write(table, ("id",), ("id", "a", "b"), rows)).rows == (0, 2)
    assert refuse(sink, write(table, ("id",), ("id", "b"), [(INSERT, ("4", "1")), (DELETE, ("9", None)), (INSERT, ("5", "1"))])).rows == (0, 2)


def test_a_deferred_constraint_strikes_inside_the_write(place: Place) -> None:
    place.execute("CREATE TABLE parent (id int PRIMARY KEY)")
    table = place.table("t", "id int PRIMARY KEY, p int REFERENCES parent DEFERRABLE INITIALLY DEFERRED, u int UNIQUE DEFERRABLE INITIALLY DEFERRED")
    sink = place.sink()
    assert refuse(sink, write(table, ("id",), ("id", "p", "u"), [(INSERT, ("1", "9", "1"))])).reason == "foreign_key"
    put(sink, write(table, ("id",), ("id", "p", "u"), [(INSERT, ("1", None, "1"))]))
    assert refuse(sink, write(table, ("id",), ("id", "p", "u"), [(INSERT, ("2", None, "1"))])).reason == "unique"


def test_a_deferrable_key_cannot_skip_rows_and_needs_no_skipping(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text")
    sink = place.sink()
    put(sink, write(table, ("id",), ("id", "v"), [(INSERT, ("1", "a"))]))
    for outcome, name in (([WROTE, WROTE], "2"), ([WROTE, ROW_EXISTS], "2"), ([WROTE, WROTE], "3")):
        assert put(sink, write(table, ("id",), ("id", "v"), [(UPDATE, ("1", "b")), (INSERT, (name, "c"))])) == [outcome]
    assert place.execute("SELECT * FROM t ORDER BY id") == [(1, "b"), (2, "c"), (3, "c")]


def test_exclusion_constraints_and_oversized_index_entries_have_a_reason(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, r int4range, v text, EXCLUDE USING gist (r WITH &&)")
    place.execute("CREATE INDEX ON t (v)")
    sink = place.sink()
    put(sink, write(table, ("id",), ("id", "r", "v"), [(INSERT, ("1", "[1,5)", None))]))
    assert refuse(sink, write(table, ("id",), ("id", "r", "v"), [(INSERT, ("2", "[4,9)", None))])).reason == "unique"
    noise = random.Random(1).randbytes(20_000).hex()
    assert refuse(sink, write(table, ("id",), ("id", "r", "v"), [(INSERT, ("3", "empty", noise))])).reason == "too_long"


def test_characters_that_the_databases_encoding_lacks_are_refused(postgres15: Any) -> None:
    postgres15.execute("CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    url = postgres15.url("narrow")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    adapter = connect("erp", url, {})
    reader, sink = adapter.reader(), adapter.sink("rules")
    table = reader.table("", "t")
    sink.prepare()
    assert refuse(sink, write(table, ("id",), ("id", "v"), [(INSERT, ("1", "smile 😀"))])).reason == "encoding"
    assert put(sink, write(table, ("id",), ("id", "v"), [(INSERT, ("2", "ä"))])) == [[WROTE]]
    assert reader.read_chunk(table, ("v",), ("id",), None, 5).rows.column("v").to_pylist() == ["ä"]
    assert [problem.severity for problem in adapter.preflight("rules", [], [table]) if "LATIN1" in problem.what] == ["warning"]
    reader.close()
    sink.close()


@pytest.mark.parametrize("fault", ["", "stands there", "too long", "no parent", "update too long"])
def test_many_new_rows_beside_changes_are_one_write_all_the_same(place: Place, fault: str) -> None:
    place.execute("CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1)")
    table = place.table("t", "id int PRIMARY KEY, v varchar(10), p int REFERENCES parent")
    place.execute("INSERT INTO t SELECT -g, 'old', 1 FROM generate_series(1, 10) AS g")
    sink = place.sink()
    rows: Rows = [(INSERT, (str(n), "new", "1")) for n in range(2000)]
    rows[100] = (UPDATE, ("-1", "x" * 11 if fault == "update too long" else "changed", "1"))
    rows[200] = (DELETE, ("-2", None, None))
    rows[300] = (UPDATE, ("-99", "changed", "1"))
    if fault == "stands there":
        rows[400] = (INSERT, ("-3", "new", "1"))
    if fault == "too long":
        rows[400] = (INSERT, ("400", "x" * 11, "1"))
    if fault == "no parent":
        rows[400] = (INSERT, ("400", "new", "9"))
    one = write(table, ("id",), ("id", "v", "p"), rows)
    if fault in ("", "stands there"):
        expected = [WROTE] * 2000
        expected[300] = NO_ROW
        expected[400] = ROW_EXISTS if fault else WROTE
        assert put(sink, one) == [expected]
        assert place.execute("SELECT count(*), count(*) FILTER (WHERE v = 'changed'), min(id) FROM t") == [(2006 - bool(fault), 1, -10)]
    else:
        poison = refuse(sink, one)
        assert poison.rows == ((100,) if fault == "update too long" else (400,))
        assert place.execute("SELECT count(*), count(*) FILTER (WHERE v = 'old') FROM t") == [(10, 10)]


# --- other sessions ---


def test_a_lock_that_is_not_granted_in_time_is_transient(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    place.execute("INSERT INTO t VALUES (1, 'a')")
    sink = place.sink(lock_timeout=0.2)
    with psycopg.connect(place.url) as other:
        other.execute("UPDATE t SET v = 'theirs'")
        sink.begin(MARKER)
        with pytest.raises(Transient, match="lock"):
            sink.write(write(table, ("id",), ("id", "v"), [(UPDATE, ("1", "ours"))]))
        other.commit()
    assert sink.marker("rules", "crm") is None
    assert put(sink, write(table, ("id",), ("id", "v"), [(UPDATE, ("1", "ours"))])) == [[WROTE]]


def test_a_statement_that_takes_too_long_is_transient(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    trigger(place, "t", "PERFORM pg_sleep(5); RETURN NEW;")
    sink = place.sink(statement_timeout=0.2)
    sink.begin(MARKER)
    with pytest.raises(Transient, match="statement_timeout"):
        sink.write(write(table, ("id",), ("id", "v"), [(INSERT, ("1", "a"))]))


def test_a_deadlock_is_transient_and_the_transaction_is_gone(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    place.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    sink = place.sink()
    with psycopg.connect(place.url) as other:
        other.execute("SET deadlock_timeout = '60s'")  # so that it is our side which notices, and is given up
        other.execute("UPDATE t SET v = 'theirs' WHERE id = 2")
        sink.begin(MARKER)
        sink.write(write(table, ("id",), ("id", "v"), [(UPDATE, ("1", "ours"))]))
        waiting = threading.Thread(target=lambda: other.execute("UPDATE t SET v = 'theirs' WHERE id = 1"))
        waiting.start()
        with pytest.raises(Transient, match="deadlock"):
            sink.write(write(table, ("id",), ("id", "v"), [(UPDATE, ("2", "ours"))]))
        waiting.join()
        other.commit()
    assert place.execute("SELECT v FROM t") == [("theirs",), ("theirs",)]
    assert put(sink, write(table, ("id",), ("id", "v"), [(UPDATE, ("1", "ours"))])) == [[WROTE]]


@pytest.mark.parametrize("also_an_update", [False, True])
def test_the_same_key_inserted_by_an_application_at_the_same_moment_stands_there(place: Place, also_an_update: bool) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    sink = place.sink()
    sink.begin(MARKER)
    if also_an_update:  # after a clash the sink takes the staged path at once
        with pytest.raises(Poison):
            sink.write(write(table, ("id",), ("id", "v"), [(INSERT, ("x", "y"))]))
    found: list[Outcome] = []
    with psycopg.connect(place.url) as other:
        other.execute("INSERT INTO t VALUES (1, 'theirs')")
        ours = threading.Thread(target=lambda: found.append(sink.write(write(table, ("id",), ("id", "v"), [(INSERT, ("1", "ours"))]))))
        ours.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while place.execute(waits) == [(0,)]:
            pass
        other.commit()
        ours.join()
    sink.commit()
    assert found[0].result.tolist() == [ROW_EXISTS]
    assert place.execute("SELECT v FROM t") == [("theirs",)]


def test_a_unique_index_that_was_dropped_behind_our_back_is_noticed(place: Place) -> None:
    table = place.table("t", "k int, v text, CONSTRAINT one UNIQUE (k)")
    place.execute("ALTER TABLE t DROP CONSTRAINT one; INSERT INTO t VALUES (1, 'a'), (1, 'b'), (2, 'c')")
    rows: Rows = [(UPDATE, ("1", "new")), (UPDATE, ("2", "new"))]
    assert put(place.sink(), write(table, ("k",), ("k", "v"), rows)) == [[MANY_ROWS, WROTE]]
    assert place.execute("SELECT v FROM t ORDER BY v") == [("a",), ("b",), ("new",)]


def test_a_table_altered_while_we_use_it_does_not_stop_us(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v varchar(10)")
    sink = place.sink()
    rows: Rows = [(INSERT, ("1", "a")), (UPDATE, ("9", "a"))]
    put(sink, write(table, ("id",), ("id", "v"), rows))
    place.execute("ALTER TABLE t ALTER v TYPE text, ADD w int, ALTER id TYPE bigint")
    assert put(sink, write(table, ("id",), ("id", "v"), [(UPDATE, ("1", "b")), (INSERT, ("2", "b"))])) == [[WROTE, WROTE]]
    altered = place.table("t")
    assert put(sink, write(altered, ("id",), ("id", "v"), [(UPDATE, ("1", "longer than ten")), (DELETE, ("2", None))])) == [[WROTE, WROTE]]


def test_staging_leaves_no_trace_in_the_catalogues(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    sink = place.sink()
    rows: Rows = [(INSERT, ("1", "a")), (UPDATE, ("9", "a"))]
    put(sink, write(table, ("id",), ("id", "v"), rows))
    staged = "SELECT relfilenode FROM pg_class WHERE relname LIKE '\\_syncline\\_stage%' AND relpersistence = 't' ORDER BY oid"
    nodes = place.execute(staged)
    for _ in range(5):
        put(sink, write(table, ("id",), ("id", "v"), [(UPDATE, ("1", "b")), (UPDATE, ("9", "a"))]))
    assert nodes and place.execute(staged) == nodes


def test_a_role_that_may_not_write_by_default_or_times_out_early_still_works(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    url = place.login("timid")
    place.execute("ALTER ROLE timid SET default_transaction_read_only = on; ALTER ROLE timid SET default_transaction_isolation = 'serializable'")
    place.execute(f"GRANT CREATE ON SCHEMA {place.schema} TO timid; GRANT ALL ON t TO timid")
    sink = connect("erp", url, {}).sink("rules")
    place.sinks.append(sink)
    place.sink()  # the side table is made by another user
    place.execute("GRANT SELECT, INSERT, UPDATE ON syncline_checkpoint TO timid")
    assert put(sink, write(table, ("id",), ("id", "v"), [(INSERT, ("1", "a"))])) == [[WROTE]]


# --- rights ---


def test_missing_rights_are_terminal_with_the_grant(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    sink = connect("erp", place.login("sink_powerless"), {}).sink("rules")
    place.sinks.append(sink)
    with pytest.raises(Terminal) as refused:
        sink.prepare()
    assert f'GRANT CREATE ON SCHEMA "{place.schema}"' in refused.value.fix and "CREATE TABLE" in refused.value.fix
    place.sink()
    sink.prepare()
    with pytest.raises(Terminal, match="permission denied"):
        sink.begin(MARKER)
    place.execute("GRANT SELECT, INSERT, UPDATE ON syncline_checkpoint TO sink_powerless")
    sink.begin(MARKER)
    with pytest.raises(Terminal, match="permission denied for table t"):
        sink.write(write(table, ("id",), ("id", "v"), [(INSERT, ("1", "a"))]))


# --- check ---


def watched(table: Table) -> Watched:
    return Watched(table=table, columns=tuple(column.name for column in table.columns), identity=table.log_key)


def findings(problems: list[Problem], severity: str = "error") -> str:
    assert all(problem.what and problem.fix and problem.where for problem in problems)
    return "\n".join(f"{problem.where}: {problem.what} ({problem.fix})" for problem in problems if problem.severity == severity)


def test_check_has_nothing_to_say_of_a_good_system(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    assert connect("erp", place.url, {}).preflight("rules", [watched(table)], [table]) == []


def test_check_changes_nothing(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    connect("erp", place.url, {}).preflight("untouched", [watched(table)], [table])
    assert place.execute("SELECT FROM pg_publication WHERE pubname LIKE '%untouched%'") == []
    assert place.execute("SELECT FROM pg_replication_slots WHERE slot_name LIKE '%untouched%'") == []
    assert place.execute("SELECT to_regclass('syncline_checkpoint')") == [(None,)]


def test_check_names_every_missing_right_with_its_grant(place: Place) -> None:
    table = place.table("t", "id serial PRIMARY KEY, v text")
    url = place.login("beggar", "NOREPLICATION")
    place.execute(f'REVOKE TEMPORARY ON DATABASE "{urlpath(place.url)}" FROM PUBLIC')
    said = findings(connect("erp", url, {}).preflight("rules", [watched(table)], [table]))
    place.execute(f'GRANT TEMPORARY ON DATABASE "{urlpath(place.url)}" TO PUBLIC')
    for mend in (
        'ALTER ROLE "beggar" REPLICATION',
        "GRANT CREATE ON DATABASE",
        "CREATE PUBLICATION",
        f'GRANT SELECT ON "{place.schema}"."t"',
        f'GRANT SELECT, INSERT, UPDATE, DELETE ON "{place.schema}"."t"',
        "GRANT TEMPORARY ON DATABASE",
        f'GRANT CREATE ON SCHEMA "{place.schema}"',
    ):
        assert mend in said, mend


def urlpath(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def test_check_accepts_what_an_administrator_has_prepared(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text")
    place.sink()
    url = place.login("modest", "REPLICATION")
    place.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON t TO modest; GRANT SELECT, INSERT, UPDATE ON syncline_checkpoint TO modest")
    name = f"prepared_{place.schema}"
    before = findings(connect("erp", url, {"publication": name}).preflight("rules", [watched(table)], [table]))
    assert "CREATE PUBLICATION" in before
    place.execute(f"CREATE PUBLICATION {name} FOR TABLE t")
    half = findings(connect("erp", url, {"publication": name}).preflight("rules", [watched(table)], [table]))
    assert f'ALTER PUBLICATION "{name}" ADD TABLE' in half and "syncline_checkpoint" in half
    place.execute(f"ALTER PUBLICATION {name} ADD TABLE syncline_checkpoint")
    assert connect("erp", url, {"publication": name}).preflight("rules", [watched(table)], [table]) == []
    place.execute(f"ALTER PUBLICATION {name} SET (publish = 'insert')")
    assert "leaves out" in findings(connect("erp", url, {"publication": name}).preflight("rules", [watched(table)], [table]))


def test_check_warns_of_triggers_and_generated_columns_and_refuses_tables_without_identity_or_log(place: Place) -> None:
    table = place.table("t", "id int PRIMARY KEY, v text, g int GENERATED ALWAYS AS (1) STORED")
    trigger(place, "t", "RETURN NEW;")
    loose = place.table("loose", "k int NOT NULL UNIQUE")
    place.execute("CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY)")
    unlogged = place.table("unlogged")
    problems = connect("erp", place.url, {}).preflight("rules", [watched(table), watched(unlogged)], [table, loose])
    assert "triggers (act)" in findings(problems, "warning") and "generated columns (g)" in findings(problems, "warning")
    said = findings(problems)
    assert f'ALTER TABLE "{place.schema}"."loose" ADD PRIMARY KEY ("k")' in said and "REPLICA IDENTITY FULL" in said
    assert f'ALTER TABLE "{place.schema}"."unlogged" SET LOGGED' in said
    assert len(said.splitlines()) == 2


def test_check_of_a_server_that_is_away_is_one_finding(place: Place) -> None:
    (problem,) = connect("erp", "postgresql://postgres@127.0.0.1:1/x", {}).preflight("rules", [], [])
    assert problem.severity == "error" and "nothing answers" in problem.what
    (problem,) = connect("erp", place.url.replace("postgres@", "stranger:x@"), {}).preflight("rules", [], [])
    assert problem.severity == "error" and "stranger" in problem.what


def test_check_names_the_log_settings_of_a_server_that_logs_too_little() -> None:
    from engine.throwaway import servers

    if servers.available("postgres15"):
        pytest.skip("no PostgreSQL")
    with servers.postgres("15", {"wal_level": "replica", "max_replication_slots": 0, "max_wal_senders": 0}) as server:
        place = Place(server)
        table = place.table("t", "id int PRIMARY KEY")
        said = findings(connect("erp", place.url, {}).preflight("rules", [watched(table)], [table]))
        DATABASES.pop(server.port)
    assert "ALTER SYSTEM SET wal_level = 'logical'" in said and "max_replication_slots" in said and "max_wal_senders" in said
