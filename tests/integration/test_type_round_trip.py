"""Every column type with the values at its edges through the whole engine on real servers, read from the table and from the log: each value is in the
target exactly, or its row is in quarantine with a reason that names the column. Never both, never neither, never another value."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from engine.throwaway.servers import MariaDBServer, PostgresServer
from engine.throwaway.servers import mariadb as start_mariadb
from tests import flavour, type_cases
from tests.pair import Pair, Side
from tests.type_cases import FORMS, Case

POSTGRES_TYPES = [
    "CREATE EXTENSION IF NOT EXISTS citext",
    "CREATE TYPE mood AS ENUM ('a', 'b,c', 'd''e', 'ü', '')",
    "CREATE TYPE pair AS (n int, t text)",
    "CREATE DOMAIN whole AS integer CHECK (value > 0)",
    "CREATE DOMAIN short AS varchar(10) CHECK (value <> 'no')",
]
SETTLED = "SELECT rule_set, source, batch FROM syncline_checkpoint ORDER BY 1, 2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A row that holds one value of one case. way: how it came to be. code: of its quarantine; empty where it must arrive."""

    id: int
    column: str
    case: Case
    literal: str
    way: str
    code: str

    def __str__(self) -> str:
        return f"row {self.id}: {self.case.source} {self.literal[:60]} into {self.case.target} by {self.way}"


class Trip:
    """Tables of one column per case on both sides, rules both ways between them, and the rows sent."""

    def __init__(self, folder: Path, source: str, target: str, cases: Sequence[Case]) -> None:
        self.cases = {f"c{i}": case for i, case in enumerate(cases)}
        there = [f"{case.to.format('t.' + c)} AS {c}" for c, case in self.cases.items()]
        back = [f"{case.back.format('t.' + c)} AS {c}" for c, case in self.cases.items() if case.back]
        self.pair = Pair(folder, source, target, self._rule("there", "crm", "erp", there, "source") + self._rule("back", "erp", "crm", back, "target"))
        self.source, self.target = self.pair.crm, self.pair.erp
        self.sent: list[Sent] = []
        for side, types in ((self.source, [c.source for c in cases]), (self.target, [c.target for c in cases])):
            for statement in POSTGRES_TYPES if side.adapter == "postgres" else ["SET sql_mode = 'NO_ENGINE_SUBSTITUTION'"]:
                side.run(statement)
            columns = ", ".join(f"{column} {kind}" for column, kind in zip(self.cases, types, strict=True))
            side.run(f"CREATE TABLE t (id int PRIMARY KEY, {columns})" + ("" if side.adapter == "postgres" else " DEFAULT CHARSET utf8mb4"))

    def _rule(self, name: str, source: str, target: str, columns: list[str], baseline: str) -> str:
        return f'[[rules]]\nname = "{name}"\nselect = """SELECT t.id AS id, {", ".join(columns)} FROM {source}.t AS t"""\n' + (
            f'into = "{target}.t"\nkey = ["id"]\nbaseline = "{baseline}"\n'
        )

    def send(self, way: str, first: int, update: bool = False) -> None:
        """A row for each value of each case, from id `first` on."""
        at = first
        for column, case in self.cases.items():
            for literal, code in [*((value, "") for value in case.values), *case.refused.items()]:
                if update:
                    self.source.run(f"UPDATE t SET {column} = {literal} WHERE id = {at}")
                else:
                    self.source.run(f"INSERT INTO t (id, {column}) VALUES ({at}, {literal})")
                self.sent.append(Sent(id=at, column=column, case=case, literal=literal, way=way, code=code))
                at += 1

    def prepare_updates(self, first: int) -> None:
        count = sum(len(case.values) + len(case.refused) for case in self.cases.values())
        self.source.run(f"INSERT INTO t (id) VALUES {', '.join(f'({i})' for i in range(first, first + count))}")

    def problems(self) -> list[str]:
        """Every row that is not where it has to be."""
        aside = {int(record["key"]["id"]): record for record in self.pair.quarantine() if record["rule"] == "there"}
        have, want = self._rows(self.target), self._rows(self.source)
        found = []
        for row in self.sent:
            record, arrived = aside.pop(row.id, None), have.get(row.id)
            told = f"set aside as {record['code']}: {record['reason']}" if record else f"arrived as {_shown(arrived and arrived[row.column])}"
            if record and (row.way != "update") and arrived is not None:
                found.append(f"{row}: set aside and in the target")
            elif bool(row.code) != bool(record):
                found.append(f"{row}: {told}")
            elif record and (record["code"] != row.code or f"column {row.column}" not in record["reason"]):
                found.append(f"{row}: {told}, not as {row.code}")
            elif record and row.way == "update" and (arrived is None or any(v is not None for v in arrived.values())):
                found.append(f"{row}: {told}, but its row in the target was changed")
            elif not record and arrived is None:
                found.append(f"{row}: vanished")
            elif not record and arrived != want[row.id]:
                wrong = next(c for c in arrived if arrived[c] != want[row.id][c])
                found.append(f"{row}: {wrong} is {_shown(arrived[wrong])} instead of {_shown(want[row.id][wrong])}")
        found += [f"row {id} set aside, but not sent: {record['reason']}" for id, record in aside.items()]
        found += [f"way back: row {r['key']} set aside as {r['code']}: {r['reason']}" for r in self.pair.quarantine() if r["rule"] != "there"]
        return found

    def _rows(self, side: Side) -> dict[int, dict[str, Any]]:
        forms = [FORMS[case.form] for case in self.cases.values()]
        columns = [getattr(form, side.adapter).format(column) for column, form in zip(self.cases, forms, strict=True)]
        if side.adapter == "postgres":
            side.run("SET TIME ZONE 'UTC'")
        rows = side.run(f"SELECT id, {', '.join(columns)} FROM t")
        return {
            row[0]: {c: None if v is None else form.read(v) for c, form, v in zip(self.cases, forms, row[1:], strict=True)} for row in rows
        }

    def batches(self) -> list[Any]:
        return [self.source.run(SETTLED), self.target.run(SETTLED)]


def _shown(value: Any) -> str:
    return repr(value) if value is None or len(value) < 80 else f"{value[:60]!r}... of {len(value)}"


def of_postgres(case: Case) -> Case:
    """What the version behind `postgres15` has of it."""
    refused = flavour.in_postgres(case.source, case.refused)
    return replace(case, values=tuple(flavour.in_postgres(case.source, case.values)), refused={literal: case.refused[literal] for literal in refused})


def here(cases: Sequence[Case], json: Sequence[Case], *sides: str) -> list[Case]:
    """The cases that the server behind `mariadb` has; sides: `source` or `target`, where it stands. json: those in place of the ones with json."""
    if not flavour.MYSQL:
        return list(cases)
    kept = [case for case in cases if not any(getattr(case, side) == "json" or not flavour.known(getattr(case, side)) for side in sides)]
    kept += json
    if "source" in sides:
        kept = [replace(case, values=tuple(value for value in case.values if "838:59:59.9" not in value)) for case in kept]
    return kept


def travel(folder: Path, source: str, target: str, cases: Sequence[Case]) -> None:
    if source.startswith("postgresql"):
        cases = [case for case in map(of_postgres, cases) if case.values or case.refused]
    trip = Trip(folder, source, target, cases)
    try:
        trip.send("first read", 1)
        trip.prepare_updates(20_000)
        trip.pair.settle()
        trip.send("insert", 10_000)
        trip.send("update", 20_000, update=True)
        trip.pair.settle()
        assert trip.problems() == [], "\n" + "\n".join(trip.problems())
        still = trip.batches()
        trip.pair.settle()
        trip.pair.settle()
        assert trip.batches() == still
        report = trip.pair.reconcile()
        refused = sum(len(case.refused) for case in trip.cases.values())
        aside = {"quarantined", "unrepresentable"}
        assert sum(report.rules["there"].differences.values()) == 3 * refused, report.to_json()
        assert [row for row in report.rows if row.class_ not in aside] == []
    finally:
        trip.pair.close()


def test_postgres_to_mariadb(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    travel(tmp_path, postgres15.database(), mariadb.database(), here(type_cases.POSTGRES_TO_MARIADB, type_cases.TO_MYSQL_JSON, "target"))


def test_mariadb_to_postgres(postgres15: PostgresServer, mariadb: MariaDBServer, tmp_path: Path) -> None:
    travel(tmp_path, mariadb.database(), postgres15.database(), here(type_cases.MARIADB_TO_POSTGRES, type_cases.FROM_MYSQL_JSON, "source"))


def test_postgres_15_to_18(postgres15: PostgresServer, postgres18: PostgresServer, tmp_path: Path) -> None:
    travel(tmp_path, postgres15.database(), postgres18.database(), type_cases.POSTGRES_TO_POSTGRES)


def test_mariadb_to_mariadb(mariadb: MariaDBServer, tmp_path: Path) -> None:
    travel(tmp_path, mariadb.database(), mariadb.database(), here(type_cases.MARIADB_TO_MARIADB, type_cases.MYSQL_JSON, "source", "target"))


@pytest.mark.usefixtures("mariadb")  # a machine without it skips this too
def test_times_to_and_from_a_mariadb_without_load_data_and_whole_rows(postgres15: PostgresServer, tmp_path: Path) -> None:
    times = tuple(case for case in type_cases.POSTGRES_TO_MARIADB if case.target.startswith(("date", "time")))
    with start_mariadb({"local_infile": 0, "binlog_row_image": "MINIMAL"}) as server:
        travel(tmp_path, postgres15.database(), server.database(), times)
