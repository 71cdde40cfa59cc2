"""Types of the engine as DuckDB types, values as DuckDB reads and prints them. https://duckdb.org/docs/current/sql/data_types/overview"""
from __future__ import annotations

import re

from engine.model.types import DataType, Kind

_INTS = {8: "TINYINT", 16: "SMALLINT", 24: "INTEGER", 32: "INTEGER", 64: "BIGINT"}
_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_WIDEST = 38
"""Digits of DuckDB's widest DECIMAL."""

_OTHERS = {
    "BOOLEAN": DataType(kind=Kind.BOOL, name="BOOLEAN"),
    "FLOAT": DataType(kind=Kind.FLOAT, name="FLOAT", bits=32),
    "DOUBLE": DataType(kind=Kind.FLOAT, name="DOUBLE", bits=64),
    "VARCHAR": DataType(kind=Kind.TEXT, name="VARCHAR"),
    "JSON": DataType(kind=Kind.JSON, name="JSON"),
    "BLOB": DataType(kind=Kind.BYTES, name="BLOB"),
    "DATE": DataType(kind=Kind.DATE, name="DATE"),
    "TIME": DataType(kind=Kind.TIME, name="TIME"),
    "TIMESTAMP": DataType(kind=Kind.DATETIME, name="TIMESTAMP"),
    "TIMESTAMP_S": DataType(kind=Kind.DATETIME, name="TIMESTAMP_S", fraction=0),
    "TIMESTAMP_MS": DataType(kind=Kind.DATETIME, name="TIMESTAMP_MS", fraction=3),
    "TIMESTAMP_NS": DataType(kind=Kind.DATETIME, name="TIMESTAMP_NS", fraction=9),
    "TIMESTAMP WITH TIME ZONE": DataType(kind=Kind.INSTANT, name="TIMESTAMP WITH TIME ZONE"),
    "UUID": DataType(kind=Kind.UUID, name="UUID"),
}


def duckdb_type(of: DataType) -> str:
    """The DuckDB type in which an expression sees a column."""
    match of.kind:
        case Kind.BOOL:
            return "BOOLEAN"
        case Kind.INT:
            return ("" if of.signed else "U") + _INTS[of.bits]
        case Kind.DECIMAL if fits_decimal(of):
            return f"DECIMAL({of.precision},{of.scale})"
        case Kind.FLOAT:
            return "FLOAT" if of.bits == 32 else "DOUBLE"
        case Kind.BYTES:
            return "BLOB"
        case Kind.DATE:
            return "DATE"
        case Kind.TIME:
            return "TIME"
        case Kind.DATETIME:
            return "TIMESTAMP"
        case Kind.INSTANT:
            return "TIMESTAMPTZ"
        case Kind.UUID:
            return "UUID"
        case _:
            return "VARCHAR"


def fits_decimal(of: DataType) -> bool:
    """Whether DuckDB has a DECIMAL for it."""
    return of.precision is not None and of.scale is not None and 0 <= of.scale <= of.precision <= _WIDEST


def reading(of: DataType, text: str) -> tuple[str, bool]:
    """SQL that reads canonical text (an SQL name) as `duckdb_type(of)`, and whether it makes NULL of values that DuckDB's type cannot hold."""
    wanted = duckdb_type(of)
    match of.kind:
        case Kind.BOOL | Kind.INT | Kind.FLOAT | Kind.UUID:
            return f"CAST({text} AS {wanted})", False
        case Kind.BYTES:
            return f"unhex(substr({text}, 3))", False
        case Kind.DATE:
            return f"TRY_CAST(replace({text}, ' BC', ' (BC)') AS DATE)", True
        case Kind.DATETIME | Kind.INSTANT:
            era = rf"regexp_replace({text}, '^(\S+) (.*) BC$', '\1 (BC) \2')"
            return f"TRY_CAST(CASE WHEN suffix({text}, 'BC') THEN {era} ELSE {text} END AS {wanted})", True
        case Kind.TIME | Kind.DECIMAL if wanted != "VARCHAR":
            return f"TRY_CAST({text} AS {wanted})", True
        case _:
            return text, False


def strict_reading(of: DataType, text: str) -> str:
    """SQL that reads canonical text (an SQL name) as `duckdb_type(of)`, and fails where DuckDB's type cannot hold the value."""
    read, forgiving = reading(of, text)
    return read.replace("TRY_CAST(", "CAST(", 1) if forgiving else read


def engine_type(duckdb: str) -> DataType | None:
    """The engine's type of values of a DuckDB type; None for types without a counterpart (lists, structs, intervals ...)."""
    if found := _DECIMAL.fullmatch(duckdb):
        return DataType(kind=Kind.DECIMAL, name=duckdb, precision=int(found[1]), scale=int(found[2]))
    unsigned = duckdb.startswith("U") and duckdb[1:] in _BITS
    if duckdb in _BITS or unsigned:
        return DataType(kind=Kind.INT, name=duckdb, bits=_BITS[duckdb.removeprefix("U")], signed=not unsigned)
    return _OTHERS.get(duckdb)


def printing(duckdb: str, value: str) -> str:
    """SQL of the canonical text of `value` (an SQL name)."""
    text = f"CAST({value} AS VARCHAR)"
    if (found := _DECIMAL.fullmatch(duckdb)) and found[1] == found[2]:
        return rf"regexp_replace({text}, '^(-?)\.', '\10.')"  # DuckDB writes .5 where every digit is behind the point
    match duckdb:
        case "VARCHAR":
            return value
        case "BOOLEAN":
            return f"CASE WHEN {value} THEN 't' WHEN NOT {value} THEN 'f' END"
        case "BLOB":
            return rf"'\x' || lower(hex({value}))"
        case "FLOAT" | "DOUBLE":
            special = f"CASE WHEN isnan({value}) THEN 'NaN' WHEN {value} > 0 THEN 'Infinity' ELSE '-Infinity' END"
            finite = f"regexp_replace({text}, '\\.0$', '')"
            return f"CASE WHEN {value} IS NULL THEN NULL WHEN isfinite({value}) THEN {finite} ELSE {special} END"
        case "DATE":
            return f"replace({text}, ' (BC)', ' BC')"
        case "TIMESTAMP" | "TIMESTAMP_S" | "TIMESTAMP_MS" | "TIMESTAMP WITH TIME ZONE":
            era = rf"regexp_replace({text}, '^(\S+) \(BC\) (.*)$', '\1 \2 BC')"
            return f"CASE WHEN {value} < TIMESTAMP '0001-01-01 00:00:00' THEN {era} ELSE {text} END"
        case _:
            return text
