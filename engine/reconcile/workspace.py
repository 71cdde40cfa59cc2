"""Desired and actual rows as hashes in DuckDB, and the one class that every row of both sides falls into.

Per rule number `i`: `d<i>` holds what the source rows ask for, `a<i>` what the target holds, `u<i>` the verdict, one row per unit: a pair
of source and target row, a row that stands alone, or a key with several rows. Cell values never enter DuckDB, only keys and 64-bit hashes;
on disk it may spill.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from engine.errors import Oversized, Terminal
from engine.mapping.evaluator import Evaluated, Evaluator
from engine.mapping.refetch import Fetch, constant_keys, gather
from engine.model.hashing import Hashes, hash_column
from engine.model.schema import TableName
from engine.ports import FETCH_BYTES
from engine.reconcile.judge import Judged, Subject, judged, opposite, siblings
from engine.reconcile.keytext import join_keys, one_array

_FOLD = np.uint64(0x9E3779B97F4A7C15)
_DESIRED, _FILTERED, _REJECTED = 0, 1, 2


class Class(IntEnum):
    """What a row is. ELSEWHERE: counted with another rule (the opposite direction, or one that writes the same table)."""

    EQUAL = 0
    VALUE_DRIFT = 1
    MISSING = 2
    EXTRA = 3
    DUPLICATE = 4
    QUARANTINED = 5
    CONFLICT_PENDING = 6
    UNREPRESENTABLE = 7
    FILTERED = 8
    KEPT = 9
    ELSEWHERE = 10


DIFFERENT = (Class.VALUE_DRIFT, Class.MISSING, Class.EXTRA, Class.DUPLICATE)
DOUBTED = (*DIFFERENT, Class.ELSEWHERE)
"""Classes that a second look may change."""


class Workspace:
    """The tables of one comparison. fetch: reads rows that a rule joins. `folder`: where DuckDB may put its file and spill; None for a small comparison
    in memory. Used by one thread."""

    def __init__(self, subjects: Sequence[Subject], evaluator: Evaluator, seed: int, fetch: Fetch, folder: Path | None = None) -> None:
        self.subjects = tuple(subjects)
        self._evaluator = evaluator
        self._fetch = fetch
        self._seed = seed
        self._rows = 0
        self._opposite = [opposite(subjects, i) for i in range(len(subjects))]
        self._judged = [judged(s, None if o is None else subjects[o]) for s, o in zip(subjects, self._opposite, strict=True)]
        self.db = duckdb.connect(str(folder / "rows.duckdb") if folder else ":memory:")
        self.db.execute("SET preserve_insertion_order = false")
        self.db.execute("SET threads = 2")
        if folder:
            self.db.execute("SET memory_limit = '160MB'")
            self.db.execute(f"SET temp_directory = '{str(folder / 'spill').replace(chr(39), chr(39) * 2)}'")
        for i in range(len(subjects)):
            cells = "".join(f", c{n} UBIGINT" for n in range(len(self._cells(i))))
            self.db.execute(f"CREATE TABLE d{i} (n BIGINT, k VARCHAR, part VARCHAR, sid VARCHAR, state UTINYINT, why VARCHAR, rh UBIGINT{cells})")
            self.db.execute(f"CREATE TABLE a{i} (n BIGINT, k VARCHAR, part VARCHAR, tid VARCHAR, rh UBIGINT{cells})")
            self.db.execute(f"CREATE TABLE u{i} (k VARCHAR, sid VARCHAR, tid VARCHAR, dn BIGINT, an BIGINT, class UTINYINT, "
                            "nsrc BIGINT, ntgt BIGINT, cols VARCHAR[])")

    def close(self) -> None:
        self.db.close()

    def load(self, table: TableName, identity: Sequence[str], rows: pa.Table) -> None:
        """Rows of `table` (canonical text), for every rule that reads it and every rule that writes it. identity: the columns that tell its
        rows apart."""
        if rows.num_rows == 0:
            return
        for i, subject in enumerate(self.subjects):
            if subject.rule.source.name == table:
                self._load_desired(i, identity, rows)
            if subject.rule.target.name == table:
                self._load_actual(i, identity, rows)

    def _cells(self, i: int) -> tuple[str, ...]:
        rule = self.subjects[i].rule
        return tuple(c for c in rule.columns if c not in rule.key)

    def _load_desired(self, i: int, identity: Sequence[str], rows: pa.Table) -> None:
        rule = self.subjects[i].rule
        try:
            joined = gather(rule, rows, self._fetch, FETCH_BYTES if rows.num_rows > 1 else None)
        except Oversized:
            half = rows.num_rows // 2
            self._load_desired(i, identity, rows.slice(0, half))
            self._load_desired(i, identity, rows.slice(half))
            return
        sid = join_keys([rule.source.column(c).type for c in identity], [rows.column(c) for c in identity])
        done = self._evaluator.evaluate_joined(rule, rows, joined) if rule.joined else self._evaluator.evaluate(rule, rows)
        key = self._key(i, done.values)
        state = np.full(rows.num_rows, _FILTERED, dtype=np.uint8)
        why = np.full(rows.num_rows, None, dtype=object)
        state[done.row] = _DESIRED
        for rejected in done.rejected:
            state[rejected.row] = _REJECTED
            why[rejected.row] = rejected.column
        cells, rh = self._hashes(i, done.values)
        self._insert(f"d{i}", {
            "k": key, "part": self._part(i, done.values), "sid": sid.take(pa.array(done.row)), "state": np.zeros(len(done.row), dtype=np.uint8),
            "why": pa.nulls(len(done.row), pa.string()), "rh": rh, **cells,
        })
        apart = np.flatnonzero(state != _DESIRED)
        if len(apart) == 0:
            return
        keys = self._evaluator.keys(rule, rows.take(pa.array(apart)))
        texts = _scatter(self._key(i, keys.values), keys, len(apart))
        nothing = np.zeros(len(apart), dtype=np.uint64)
        self._insert(f"d{i}", {
            "k": texts, "part": pa.nulls(len(apart), pa.string()), "sid": sid.take(pa.array(apart)), "state": state[apart],
            "why": pa.array(why[apart], type=pa.string()), "rh": nothing, **dict.fromkeys(cells, nothing),
        })

    def _load_actual(self, i: int, identity: Sequence[str], rows: pa.Table) -> None:
        rule = self.subjects[i].rule
        tid = join_keys([rule.target.column(c).type for c in identity], [rows.column(c) for c in identity])
        cells, rh = self._hashes(i, rows)
        self._insert(f"a{i}", {"k": self._key(i, rows), "part": self._part(i, rows), "tid": tid, "rh": rh, **cells})

    def _key(self, i: int, values: pa.Table) -> pa.StringArray:
        rule = self.subjects[i].rule
        return join_keys([rule.target.column(c).type for c in rule.key], [values.column(c) for c in rule.key])

    def _part(self, i: int, values: pa.Table) -> pa.StringArray:
        """The part of the key that is the same in every row of the rule; null where there is none."""
        rule = self.subjects[i].rule
        columns = constant_keys(rule)
        if not columns:
            return pa.nulls(values.num_rows, pa.string())
        return join_keys([rule.target.column(c).type for c in columns], [values.column(c) for c in columns])

    def _hashes(self, i: int, values: pa.Table) -> tuple[dict[str, Hashes], Hashes]:
        """Hashes of the cells that are not key, and one hash of the judged ones together."""
        rule = self.subjects[i].rule
        mine = {j.column for j in self._judged[i]}
        together = np.zeros(values.num_rows, dtype=np.uint64)
        cells: dict[str, Hashes] = {}
        for n, column in enumerate(self._cells(i)):
            hashes = hash_column(rule.target.column(column).type, one_array(values.column(column)), self._seed)
            cells[f"c{n}"] = hashes
            if column in mine:
                together = (together ^ hashes) * _FOLD
                together ^= together >> np.uint64(29)
        return cells, together

    def _insert(self, name: str, columns: Mapping[str, Any]) -> None:
        count = len(columns["k"])
        if count == 0:
            return
        numbers = np.arange(self._rows, self._rows + count, dtype=np.int64)
        self._rows += count
        self.db.register("incoming", pa.table({"n": numbers, **columns}))
        self.db.execute(f"INSERT INTO {name} SELECT * FROM incoming")
        self.db.unregister("incoming")

    def classify(
        self, quarantined: Mapping[int, Iterable[str]], held: Mapping[int, Iterable[str]],
        kept: Callable[[int, Sequence[str]], Sequence[str]] = lambda _i, _keys: (),
    ) -> None:
        """Fills `u<i>` for all rules. quarantined, held: per rule number the joined keys that stand aside or wait for a person. kept: given a rule number
        and the keys without a target row, those whose row was deleted while the source row stays on purpose.
        Terminal when the classes do not add up to the rows read: a defect, never a verdict."""
        for i in range(len(self.subjects)):
            self._classify(i, quarantined.get(i, ()), held.get(i, ()))
            self._keep(i, kept)
        for i in range(len(self.subjects)):
            self._settle(i)
        for i, subject in enumerate(self.subjects):
            found = self._one(f"SELECT coalesce(sum(nsrc), 0), coalesce(sum(ntgt), 0) FROM u{i}")
            read = (self._one(f"SELECT count(*) FROM d{i}")[0], self._one(f"SELECT count(*) FROM a{i}")[0])
            if found != read:
                raise Terminal("the classes do not add up to the rows read", where=f"rule {subject.rule.name}",
                               fix="this is a defect of reconcile; report it with the rule and the schemas")

    def _one(self, sql: str) -> tuple[int, ...]:
        return tuple(int(v) for v in self.db.execute(sql).fetchall()[0])

    def _classify(self, i: int, quarantined: Iterable[str], held: Iterable[str]) -> None:
        run = self.db.execute
        run(f"CREATE OR REPLACE TEMP TABLE dup AS SELECT k FROM d{i} WHERE state = 0 GROUP BY k HAVING count(*) > 1 "
            f"UNION SELECT k FROM a{i} WHERE k IS NOT NULL GROUP BY k HAVING count(*) > 1")
        single = "NOT EXISTS (SELECT 1 FROM dup WHERE dup.k = t.k)"
        run(f"""CREATE OR REPLACE TEMP TABLE pairs AS
            SELECT coalesce(d.k, a.k) AS k, d.sid, a.tid, d.n AS dn, a.n AS an, coalesce(d.rh = a.rh, false) AS same
            FROM (SELECT n, k, sid, rh FROM d{i} t WHERE state = 0 AND {single}) d
            FULL OUTER JOIN (SELECT n, k, tid, rh FROM a{i} t WHERE {single}) a ON d.k = a.k""")
        run(f"""INSERT INTO u{i} SELECT k, sid, tid, dn, an, {Class.EQUAL}, 1, 1, [] FROM pairs WHERE same""")
        run(f"""INSERT INTO u{i}
            SELECT k, sid, tid, dn, an, CASE WHEN len(cols) = 0 THEN {Class.EQUAL} ELSE {Class.VALUE_DRIFT} END, 1, 1, cols
            FROM ({self._drift(i)})""")
        run(f"""INSERT INTO u{i} SELECT k, sid, NULL, dn, NULL, {Class.MISSING}, 1, 0, [] FROM pairs WHERE an IS NULL""")
        # A target row whose source row stands outside the WHERE, or cannot be written, belongs to that row.
        run(f"""CREATE OR REPLACE TEMP TABLE attached AS
            SELECT min(t.n) AS dn, p.an, p.tid FROM d{i} t JOIN pairs p ON p.k = t.k
            WHERE t.state <> 0 AND p.dn IS NULL GROUP BY p.an, p.tid""")
        run(f"""INSERT INTO u{i}
            SELECT t.k, t.sid, p.tid, t.n, p.an, CASE t.state WHEN {_FILTERED} THEN {Class.FILTERED} ELSE {Class.UNREPRESENTABLE} END, 1,
                   CASE WHEN p.an IS NULL THEN 0 ELSE 1 END, CASE WHEN t.why IS NULL THEN [] ELSE [t.why] END
            FROM d{i} t LEFT JOIN attached p ON p.dn = t.n WHERE t.state <> 0""")
        run(f"""INSERT INTO u{i} SELECT k, NULL, tid, NULL, an, {Class.EXTRA}, 0, 1, [] FROM pairs
            WHERE dn IS NULL AND an NOT IN (SELECT an FROM attached)""")
        run(f"""INSERT INTO u{i}
            SELECT k, min(sid), min(tid), NULL, NULL, {Class.DUPLICATE}, count(sid), count(tid), [] FROM (
                SELECT t.k, t.sid, NULL AS tid FROM d{i} t JOIN dup USING (k) WHERE t.state = 0
                UNION ALL SELECT t.k, NULL, t.tid FROM a{i} t JOIN dup USING (k)) GROUP BY k""")
        for kind, keys in ((Class.CONFLICT_PENDING, held), (Class.QUARANTINED, quarantined)):
            texts = pa.array(list(keys), type=pa.string())
            if len(texts):
                self.db.register("aside", pa.table({"k": texts}))
                run(f"UPDATE u{i} SET class = {kind} WHERE class IN {_list(DIFFERENT)} AND k IN (SELECT k FROM aside)")
                self.db.unregister("aside")

    def _keep(self, i: int, kept: Callable[[int, Sequence[str]], Sequence[str]]) -> None:
        missing = [k for (k,) in self.db.execute(f"SELECT k FROM u{i} WHERE class = {Class.MISSING} AND k IS NOT NULL").fetchall()]
        stays = list(kept(i, missing)) if missing else []
        if stays:
            self.db.register("aside", pa.table({"k": pa.array(stays, type=pa.string())}))
            self.db.execute(f"UPDATE u{i} SET class = {Class.KEPT} WHERE class = {Class.MISSING} AND k IN (SELECT k FROM aside)")
            self.db.unregister("aside")

    def _drift(self, i: int) -> str:
        """SQL that gives the pairs with a difference and the columns that stay different after excuses."""
        other = self._opposite[i]
        mine = self._cells(i)
        cases = [f"CASE WHEN {self._differs(i, j, mine)} THEN {_text(j.column)} END" for j in self._judged[i]]
        columns = f"list_filter([{', '.join(cases)}], lambda c: c IS NOT NULL)" if cases else "CAST([] AS VARCHAR[])"
        joins = f"JOIN d{i} d ON d.n = p.dn JOIN a{i} a ON a.n = p.an"
        if other is not None and any(j.excuses for j in self._judged[i]):
            numbers = range(len(self._cells(other)))
            asked = ", ".join(f"g.c{n} AS g{n}" for n in numbers)
            held = ", ".join(f"h.c{n} AS h{n}" for n in numbers)
            joins += f""" LEFT JOIN (
                SELECT g.sid AS gid, h.tid AS hid, {asked}, {held}
                FROM (SELECT * FROM d{other} WHERE state = 0 AND sid IN (SELECT tid FROM pairs WHERE NOT same)) g
                JOIN (SELECT * FROM a{other} WHERE tid IN (SELECT sid FROM pairs WHERE NOT same)) h ON g.k = h.k
            ) o ON o.gid = p.tid AND o.hid = p.sid"""
        return (f"SELECT p.k, p.sid, p.tid, p.dn, p.an, {columns} AS cols "
                f"FROM (SELECT * FROM pairs WHERE NOT same AND dn IS NOT NULL AND an IS NOT NULL) p {joins}")

    def _differs(self, i: int, cell: Judged, mine: tuple[str, ...]) -> str:
        n = mine.index(cell.column)
        other = self._opposite[i]
        if other is None or not cell.excuses:
            return f"d.c{n} <> a.c{n}"
        theirs = self._cells(other)
        agrees = " AND ".join(f"o.g{theirs.index(c)} = o.h{theirs.index(c)}" for c in cell.excuses)
        return f"d.c{n} <> a.c{n} AND NOT coalesce({agrees}, false)"

    def _settle(self, i: int) -> None:
        """What only the other rules can tell. A target row that no source row maps to is counted once: where the opposite direction, or another
        rule of the same table, counts it. A pair whose way back stands outside the opposite rule's WHERE, waits, or holds a value that the other side
        cannot hold, may differ where nobody owns the cell."""
        run = self.db.execute
        other = self._opposite[i]
        if other is not None:
            free = ", ".join(_text(j.column) for j in self._judged[i] if not j.owned)
            run(f"UPDATE u{i} SET class = {Class.FILTERED} FROM u{other} o WHERE u{i}.class = {Class.VALUE_DRIFT} AND o.sid = u{i}.tid "
                f"AND o.class = {Class.FILTERED} AND list_has_all(CAST([{free}] AS VARCHAR[]), u{i}.cols)")
            waits = _list((Class.QUARANTINED, Class.CONFLICT_PENDING, Class.UNREPRESENTABLE))
            run(f"UPDATE u{i} SET class = o.class FROM u{other} o WHERE u{i}.class = {Class.VALUE_DRIFT} AND o.sid = u{i}.tid "
                f"AND o.tid = u{i}.sid AND o.class IN {waits} AND list_has_all(CAST([{free}] AS VARCHAR[]), u{i}.cols)")
            alone = _list((Class.MISSING, Class.FILTERED, Class.UNREPRESENTABLE, Class.QUARANTINED, Class.CONFLICT_PENDING, Class.KEPT))
            run(f"UPDATE u{i} SET class = {Class.ELSEWHERE} FROM u{other} o WHERE u{i}.class = {Class.EXTRA} AND o.sid = u{i}.tid "
                f"AND o.class IN {alone} AND o.an IS NULL")
        for sibling in siblings(self.subjects, i):
            mapped = f"SELECT k FROM u{sibling} WHERE nsrc > 0 AND k IS NOT NULL"
            if sibling < i:
                mapped += f" UNION ALL SELECT k FROM u{sibling} WHERE class = {Class.EXTRA} AND k IS NOT NULL"
            run(f"UPDATE u{i} SET class = {Class.ELSEWHERE} WHERE class = {Class.EXTRA} AND k IN ({mapped})")
        # Without a key no rule can address the row; nor with another value in a key column where the rule gives the same one everywhere.
        run(f"UPDATE u{i} SET class = {Class.FILTERED} WHERE class = {Class.EXTRA} AND (k IS NULL OR an IN (SELECT a.n FROM a{i} a "
            f"WHERE a.part <> (SELECT max(part) FROM d{i})))")
        if self.subjects[i].keeps:
            run(f"UPDATE u{i} SET class = {Class.KEPT} WHERE class = {Class.EXTRA}")


def _scatter(keys: pa.StringArray, found: Evaluated, count: int) -> pa.StringArray:
    """Keys at their input rows; null where none could be computed."""
    place = np.full(count, -1, dtype=np.int64)
    place[found.row] = np.arange(len(found.row))
    return keys.take(pa.array(place, mask=place < 0))


def _list(classes: Iterable[Class]) -> str:
    return "(" + ", ".join(str(int(c)) for c in classes) + ")"


def _text(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
