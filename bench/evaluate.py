"""How long a rule takes to evaluate, by rows in the batch: medians as JSON. Run: python -m bench.evaluate [--repeats N]

Three rules over a table of 13 columns: `renames` only renames (no DuckDB), `mostly` computes three columns of thirteen and joins a lookup,
`computes` computes ten.
"""
from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import numpy as np
import pyarrow as pa

from engine.mapping.compiler import compile_rule
from engine.mapping.evaluator import Evaluator
from engine.mapping.lookups import Lookup
from engine.model.schema import Column, Table, TableName
from engine.model.types import DataType, Kind

SIZES = (1, 10, 100, 1_000, 10_000, 100_000)


def _type(kind: Kind, name: str, **fields: object) -> DataType:
    return DataType(kind=kind, name=name, **fields)  # type: ignore[arg-type]


INT = _type(Kind.INT, "bigint", bits=64)
TEXT = _type(Kind.TEXT, "varchar", length=200)
COLUMNS = {
    "id": INT,
    "name": TEXT,
    "email": TEXT,
    "phone": TEXT,
    "street": TEXT,
    "city": TEXT,
    "zip": TEXT,
    "country": TEXT,
    "credit": _type(Kind.DECIMAL, "decimal", precision=12, scale=2),
    "active": _type(Kind.BOOL, "bool"),
    "born": _type(Kind.DATE, "date"),
    "created": _type(Kind.DATETIME, "timestamp"),
    "notes": TEXT,
}
RENAMED = [f"a.{name} AS {name}" for name in COLUMNS]
COMPUTED = {
    "name": "trim(a.name) AS name",
    "email": "lower(a.email) AS email",
    "country": "coalesce(s.code, a.country) AS country",
}
MORE = {
    "phone": "replace(a.phone, ' ', '') AS phone",
    "street": "upper(a.street) AS street",
    "city": "coalesce(a.city, '') AS city",
    "zip": "a.zip || '' AS zip",
    "credit": "CAST(a.credit * 2 AS DECIMAL(12, 2)) AS credit",
    "active": "NOT a.active AS active",
    "born": "a.born + 1 AS born",
}


def _sql(changed: dict[str, str], join: bool) -> str:
    entries = ", ".join(changed.get(name, entry) for name, entry in zip(COLUMNS, RENAMED, strict=True))
    return f"SELECT {entries} FROM crm.a AS a" + (" LEFT JOIN lookups.countries AS s ON s.name = a.country" if join else "")


def _rows(count: int) -> pa.Table:
    number = np.arange(count)
    texts = {name: [f"{name} {at}" for at in number] for name, of in COLUMNS.items() if of.kind is Kind.TEXT}
    others = {
        "id": [str(at) for at in number],
        "country": [f"country {at % 100}" for at in number],
        "credit": [f"{at % 9999}.50" for at in number],
        "active": ["t" if at % 2 else "f" for at in number],
        "born": [f"19{at % 90 + 10}-0{at % 9 + 1}-11" for at in number],
        "created": [f"2024-01-01 00:{at % 50 + 10}:00.5" for at in number],
    }
    return pa.table({name: pa.array((others | texts if name not in others else others)[name], type=pa.string()) for name in COLUMNS})


def measure(repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """rule -> rows -> milliseconds (median, least) and rows per second."""
    table = Table(
        name=TableName("crm", "public", "a"),
        columns=tuple(Column(name=name, type=of, nullable=name != "id") for name, of in COLUMNS.items()),
        unique=(("id",),),
    )
    target = Table(name=TableName("erp", "public", "b"), columns=table.columns, unique=(("id",),))
    lookup = Lookup(
        name="countries",
        columns=("name", "code"),
        rows=pa.table({"name": [f"country {at}" for at in range(80)], "code": [f"C{at}" for at in range(80)]}),
    )
    evaluator = Evaluator({"countries": lookup})
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, sql in {"renames": _sql({}, False), "mostly": _sql(COMPUTED, True), "computes": _sql(COMPUTED | MORE, True)}.items():
        rule, problems = compile_rule(
            name=name,
            sql=sql,
            into=target.name,
            key=["id"],
            table=lambda system, _schema, _table: table if system == "crm" else target,
            lookups={"countries": lookup},
            adapters={"crm": "postgres", "erp": "postgres"},
        )
        if rule is None:
            raise SystemExit("\n".join(problem.what for problem in problems))
        results[name] = {}
        for size in SIZES:
            rows = _rows(size)
            times = []
            for _ in range(max(5, repeats if size <= 10_000 else repeats // 4)):
                start = time.perf_counter()
                evaluated = evaluator.evaluate(rule, rows)
                times.append(time.perf_counter() - start)
                assert len(evaluated.row) == size and not evaluated.rejected
            middle = statistics.median(times)
            results[name][str(size)] = {"ms": round(middle * 1e3, 3), "least_ms": round(min(times) * 1e3, 3), "rows_s": round(size / middle)}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    json.dump(measure(parser.parse_args().repeats), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
