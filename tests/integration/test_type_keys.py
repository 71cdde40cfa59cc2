"""Rows named by keys of every type, generated columns as sources, and pairs of types that `check` refuses: the whole engine on real servers."""
from __future__ import annotations

from pathlib import Path

from engine.runtime.check import check
from engine.throwaway.servers import MariaDBServer, PostgresServer
from tests import flavour
from tests.pair import Pair, Side

KEYS: dict[str, tuple[str, str, list[str], str]] = {
    "big": ("bigint unsigned", "numeric(20,0)", ["18446744073709551615", "9", "10"], "{}"),
    "dec": ("decimal(10,2)", "numeric(10,2)", ["1.10", "-1.10", "0"], "{}"),
    "uid": ("char(36)", "uuid", ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'"], "CAST({} AS VARCHAR)"),
    "vc": ("varchar(30) COLLATE utf8mb4_bin", "varchar(30)", ["'a'", "'A'", "'ä 🎉'", "'a,b\\\\c''d'", "'tab\\tx'", "''"], "{}"),
    "ch": ("char(10)", "char(10)", ["'ab'", "'b '", "''"], "{}"),
    "uid2": ("uuid", "uuid", ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'00000000-0000-0000-0000-000000000000'"], "{}"),
    "day": ("date", "date", ["'0001-01-01'", "'9999-12-31'"], "{}"),
    "moment": ("datetime(6)", "timestamp", ["'2024-01-01 00:00:00'", "'2024-01-01 00:00:00.000001'", "'2024-03-31 02:30:00.5'"], "{}"),
    "bin": ("binary(4)", "bytea", ["x'61000000'", "x'00000000'", "x'ff27005c'"], "{}"),
    "vbin": ("varbinary(20)", "bytea", ["x'61'", "x'6100'", "x''"], "{}"),
    "en": ("enum('b,c','a','d''e')", "text", ["'a'", "'b,c'", "'d''e'"], "{}"),
    "st": ("set('x','y')", "text", ["'x,y'", "''"], "{}"),
    "bit": ("bit(20)", "bigint", ["5", "b'11111111111111111111'"], "{}"),
    "yes": ("tinyint(1)", "boolean", ["0", "1"], "CAST({} AS INTEGER)"),
    "ip": ("inet6", "text", ["'2001:db8::1'", "'::'"], "{}"),
    "dbl": ("double", "double precision", ["0.1", "-1e300", "1e15"], "{}"),
}  # fmt: skip
"""Name of the table -> MariaDB's type, PostgreSQL's, keys in MariaDB's SQL, the expression of the way back."""
KEYS = {name: made for name, made in KEYS.items() if flavour.known(made[0])}


def rule(name: str, select: str, into: str, key: str, more: str = "") -> str:
    return f'[[rules]]\nname = "{name}"\nselect = """{select}"""\ninto = "{into}"\nkey = ["{key}"]\n{more}\n'


def rows(side: Side, table: str) -> list[tuple[str, str]]:
    return sorted((str(v), str(w)) for v, w in side.run(f"SELECT v, w FROM k_{table}"))


def _word(v: int, count: int) -> str:
    """What the last write put into the row of value `v`."""
    return "erp" if v == 0 else "logged" if v == count - 1 else "crm" if v == 1 else "read"


def test_keys_of_every_type_name_their_rows_on_both_sides(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    rules = "".join(
        rule(f"to_{name}", f"SELECT t.k AS k, t.v AS v, t.w AS w FROM crm.k_{name} AS t", f"erp.k_{name}", "k", 'baseline = "source"')
        + rule(f"from_{name}", f"SELECT {back.format('t.k')} AS k, t.v AS v, t.w AS w FROM erp.k_{name} AS t", f"crm.k_{name}", "k", 'baseline = "target"')
        for name, (_, _, _, back) in KEYS.items()
    )
    pair = Pair(tmp_path, mariadb.database(), postgres15.database(), rules)
    for name, (mine, theirs, keys, _) in KEYS.items():
        pair.crm.run(f"CREATE TABLE k_{name} (k {mine} PRIMARY KEY, v int, w varchar(10)) DEFAULT CHARSET utf8mb4")
        pair.erp.run(f"CREATE TABLE k_{name} (k {theirs} PRIMARY KEY, v int, w text)")
        for v, key in enumerate(keys[:-1]):
            pair.crm.run(f"INSERT INTO k_{name} VALUES ({key}, {v}, 'read')")
    pair.settle()
    assert {name: rows(pair.erp, name) for name in KEYS} == {name: rows(pair.crm, name) for name in KEYS}
    for name, (_, _, keys, _) in KEYS.items():
        pair.crm.run(f"INSERT INTO k_{name} VALUES ({keys[-1]}, {len(keys) - 1}, 'logged')")
        pair.erp.run(f"UPDATE k_{name} SET w = 'erp' WHERE v = 0")
        if len(keys) > 2:
            pair.crm.run(f"UPDATE k_{name} SET w = 'crm' WHERE v = 1")
    pair.settle()
    want = {name: sorted((str(v), _word(v, len(keys))) for v in range(len(keys))) for name, (_, _, keys, _) in KEYS.items()}
    assert {name: rows(pair.erp, name) for name in KEYS} == want
    assert {name: rows(pair.crm, name) for name in KEYS} == want
    for name, (_, _, keys, _) in KEYS.items():
        pair.erp.run(f"DELETE FROM k_{name} WHERE v = {len(keys) - 1}")
        pair.crm.run(f"DELETE FROM k_{name} WHERE v = 0")
    pair.settle()
    want = {name: [row for row in want[name] if row[0] not in ("0", str(len(keys) - 1))] for name, (_, _, keys, _) in KEYS.items()}
    assert {name: rows(pair.erp, name) for name in KEYS} == want
    assert {name: rows(pair.crm, name) for name in KEYS} == want
    assert pair.quarantine() == []
    pair.agree()
    pair.close()


def test_generated_columns_are_sources(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    rules = rule("there", "SELECT g.id AS id, g.twice AS twice, g.label AS label FROM crm.g AS g", "erp.h", "id")
    rules += rule("other", "SELECT g.id AS id, g.twice AS twice, g.label AS label FROM erp.g AS g", "crm.h", "id")
    pair = Pair(tmp_path, mariadb.database(), postgres15.database(), rules)
    columns = "id int PRIMARY KEY, n int, a varchar(10)"
    pair.crm.run(f"CREATE TABLE g ({columns}, twice int AS (n * 2) VIRTUAL, label varchar(30) AS (concat(a, '-', n)) STORED)")
    pair.erp.run(f"CREATE TABLE g ({columns}, twice int GENERATED ALWAYS AS (n * 2) STORED, label text GENERATED ALWAYS AS (a || '-' || n) STORED)")
    for side in (pair.crm, pair.erp):
        side.run("CREATE TABLE h (id int PRIMARY KEY, twice int, label varchar(60))")
        side.run("INSERT INTO g (id, n, a) VALUES (1, 1, 'a'), (2, 2, 'b')")
    pair.settle()
    for side in (pair.crm, pair.erp):
        side.run("INSERT INTO g (id, n, a) VALUES (3, 3, 'c')")
        side.run("UPDATE g SET n = 20 WHERE id = 2")
        side.run("UPDATE g SET a = NULL WHERE id = 1")
    pair.settle()
    for source, target in ((pair.crm, pair.erp), (pair.erp, pair.crm)):
        want = [(1, 2, None), (2, 40, "b-20"), (3, 6, "c-3")]
        assert list(source.run("SELECT id, twice, label FROM g ORDER BY id")) == want
        assert list(target.run("SELECT id, twice, label FROM h ORDER BY id")) == want
    assert pair.quarantine() == []
    pair.agree()
    pair.close()


NEVER = [
    ("postgres", "bytea", "text", "decode("),
    ("postgres", "boolean", "varchar(5)", "CASE WHEN"),
    ("postgres", "text", "int", "CAST("),
    ("postgres", "text", "date", "CAST("),
    ("postgres", "interval", "time", ""),
    ("postgres", "integer[]", "int", ""),
    ("postgres", "integer[]", "blob", ""),
    ("postgres", "inet", "inet6", "CAST("),
    ("postgres", "uuid", "char(32)", "replace("),
    ("postgres", "uuid", "binary(16)", "unhex("),
    ("postgres", "timestamptz", "datetime(6)", "AT TIME ZONE"),
    ("postgres", "timestamp", "timestamp NULL", "AT TIME ZONE"),
    ("postgres", "timetz", "time", ""),
    ("postgres", "money", "decimal(10,2)", ""),
    ("postgres", "bytea", "json", ""),
    ("postgres", "integer", "enum('1','2')", ""),
    ("mysql", "time", "interval", ""),
    ("mysql", "set('x','y')", "text[]", ""),
    ("mysql", "binary(16)", "uuid", "hex("),
    ("mysql", "inet6", "inet", "CAST("),
    ("mysql", "datetime", "timestamptz", "AT TIME ZONE"),
    ("mysql", "timestamp NULL", "timestamp", "AT TIME ZONE"),
    ("mysql", "point", "point", ""),
    ("mysql", "blob", "text", "decode("),
    ("mysql", "varchar(10)", "boolean", "CAST("),
    ("mysql", "int", "date", ""),
    ("mysql", "year", "date", ""),
]
"""Types that no value leads between, and a word of what to write instead: (source's adapter, source, target, word)."""
NEVER = [pair for pair in NEVER if flavour.known(pair[1 if pair[0] == "mysql" else 2])]


def test_pairs_of_types_that_never_fit_are_refused_by_check(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    systems = {"postgres": "erp", "mysql": "crm"}
    rules = ""
    for adapter, system in systems.items():
        mine = [f"c{i}" for i, (of, *_) in enumerate(NEVER) if of == adapter]
        other = next(s for s in systems.values() if s != system)
        rules += rule(f"from_{system}", f"SELECT s.id AS id, {', '.join(f's.{c} AS {c}' for c in mine)} FROM {system}.s AS s", f"{other}.t", "id")
    pair = Pair(tmp_path, mariadb.database(), postgres15.database(), rules)
    for adapter, system in systems.items():
        side, other = (pair.erp, pair.crm) if system == "erp" else (pair.crm, pair.erp)
        columns = [(f"c{i}", source, target) for i, (of, source, target, _) in enumerate(NEVER) if of == adapter]
        side.run(f"CREATE TABLE s (id int PRIMARY KEY, {', '.join(f'{c} {kind}' for c, kind, _ in columns)})")
        other.run(f"CREATE TABLE t (id int PRIMARY KEY, {', '.join(f'{c} {kind}' for c, _, kind in columns)})")
    problems = [problem for problem in check(pair.settings) if problem.severity == "error"]
    missed = []
    for i, (adapter, source, target, word) in enumerate(NEVER):
        told = [problem for problem in problems if problem.where.endswith(f"column c{i}")]
        if len(told) != 1 or word not in told[0].fix or not told[0].fix:
            missed.append((adapter, source, target, told))
    assert missed == []
    pair.close()
