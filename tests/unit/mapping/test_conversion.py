"""What becomes of single values on the way from one type into another, and which pairs of types are refused."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.mapping.conversion import Conversion, Impossible, conversion
from engine.model.types import DataType, Kind


def of(kind: Kind, name: str = "", **fields: Any) -> DataType:
    return DataType(kind=kind, name=name or kind.value, **fields)


def text(length: int | None = None, **fields: Any) -> DataType:
    return of(Kind.TEXT, "varchar", length=length, **fields)


def integer(bits: int, signed: bool = True) -> DataType:
    return of(Kind.INT, "int", bits=bits, signed=signed)


def decimal(precision: int | None = None, scale: int | None = None, **fields: Any) -> DataType:
    return of(Kind.DECIMAL, "numeric", precision=precision, scale=scale, **fields)


def real(bits: int) -> DataType:
    return of(Kind.FLOAT, "float", bits=bits)


DATE, TIME, UUID, JSON, BOOL = of(Kind.DATE), of(Kind.TIME), of(Kind.UUID), of(Kind.JSON), of(Kind.BOOL)
STAMP, INSTANT = of(Kind.DATETIME), of(Kind.INSTANT)
ENUM = of(Kind.ENUM, labels=("a", "b"))
SET = of(Kind.SET, labels=("x", "y", "z"))
PG_MY, MY_PG, PG_PG, MY_MY, DUCK_PG, DUCK_MY = (
    ("postgres", "mysql"),
    ("mysql", "postgres"),
    ("postgres", "postgres"),
    ("mysql", "mysql"),
    ("duckdb", "postgres"),
    ("duckdb", "mysql"),
)

FINE = [
    (BOOL, integer(8), PG_MY, "t", "1"),
    (BOOL, integer(8), PG_MY, "f", "0"),
    (BOOL, decimal(3, 1), PG_MY, "t", "1.0"),
    (integer(8), BOOL, MY_PG, "1", "t"),
    (integer(8), BOOL, MY_PG, "0", "f"),
    (integer(64, False), integer(64), MY_PG, "9223372036854775807", "9223372036854775807"),
    (integer(64, False), decimal(20, 0), MY_PG, "18446744073709551615", "18446744073709551615"),
    (integer(64), integer(64, False), PG_MY, "0", "0"),
    (integer(32), decimal(12, 3), PG_PG, "-5", "-5.000"),
    (integer(32), decimal(), PG_PG, "-5", "-5"),
    (integer(64), real(64), PG_PG, "9007199254740992", "9.007199254740992e+15"),
    (decimal(12, 2), decimal(14, 4), PG_MY, "-1.50", "-1.5000"),
    (decimal(12, 0), decimal(14, 2), PG_MY, "7", "7.00"),
    (decimal(12, 2), decimal(14, 4), PG_PG, "NaN", "NaN"),
    (decimal(12, 4), decimal(12, 1), PG_MY, "1.5000", "1.5"),
    (decimal(12, 4), decimal(12, 0), PG_MY, "12.0000", "12"),
    (decimal(), decimal(5, 2), PG_PG, "0.1", "0.10"),
    (decimal(), decimal(5, 2), PG_PG, "100.1000", "100.10"),
    (decimal(), decimal(2, 2), PG_PG, "0.99", "0.99"),
    (decimal(65, 30), decimal(65, 30), MY_MY, "9" * 35 + "." + "9" * 30, "9" * 35 + "." + "9" * 30),
    (decimal(65, 0), decimal(), MY_PG, "9" * 65, "9" * 65),
    (decimal(10, 2), integer(32), PG_PG, "-12.00", "-12"),
    (decimal(), integer(64), PG_PG, "9223372036854775807.000", "9223372036854775807"),
    (decimal(10, 2), real(64), PG_PG, "0.10", "0.10"),
    (real(64), decimal(10, 2), PG_PG, "1.5e2", "150.00"),
    (real(64), decimal(10, 2), PG_PG, "-0", "0.00"),
    (real(64), decimal(), PG_PG, "NaN", "NaN"),
    (real(64), integer(32), PG_PG, "1e+05", "100000"),
    (real(64), real(32), PG_PG, "0.5", "0.5"),
    (real(64), real(32), PG_PG, "NaN", "NaN"),
    (real(64), real(32), PG_PG, "-Infinity", "-Infinity"),
    (real(32), real(64), PG_PG, "0.1", "0.10000000149011612"),
    (real(64), text(), PG_PG, "1e+20", "1e+20"),
    (text(10), text(5), PG_PG, "žluť😀", "žluť😀"),
    (text(10), text(5, padded=True), PG_PG, "abc     ", "abc"),
    (text(10, padded=True), text(10), PG_PG, "abc", "abc"),
    (UUID, text(36, padded=True), PG_MY, "131c8919-964b-4397-99ff-63855b0b4fa9", "131c8919-964b-4397-99ff-63855b0b4fa9"),
    (text(36, padded=True), UUID, MY_PG, "131C8919-964B-4397-99FF-63855B0B4FA9", "131c8919-964b-4397-99ff-63855b0b4fa9"),
    (text(36), UUID, MY_PG, "131c8919964b439799ff63855b0b4fa9", "131c8919-964b-4397-99ff-63855b0b4fa9"),
    (ENUM, text(3), MY_PG, "a", "a"),
    (text(), ENUM, PG_MY, "b", "b"),
    (text(), SET, PG_MY, "z,x", "x,z"),
    (text(), SET, PG_MY, "", ""),
    (SET, text(20), MY_PG, "x,z", "x,z"),
    (SET, SET, MY_MY, "x,z", "x,z"),
    (JSON, text(), MY_PG, '{"b": 1}', '{"b": 1}'),
    (text(), JSON, PG_PG, '{"b": [1, null]}', '{"b": [1, null]}'),
    (of(Kind.BYTES, length=4), of(Kind.BYTES, length=2), PG_MY, "\\x00ff", "\\x00ff"),
    (of(Kind.BYTES), of(Kind.BYTES, length=3, padded=True), PG_MY, "\\x010000", "\\x010000"),
    (text(), of(Kind.JSON, "jsonb"), MY_PG, '{"a": {"b": 1}, "b": [{"a": 1}, {"a": 2}]}', '{"a": {"b": 1}, "b": [{"a": 1}, {"a": 2}]}'),
    (JSON, of(Kind.JSON, "json"), MY_PG, '{"a": 1, "a": 2}', '{"a": 1, "a": 2}'),
    (DATE, DATE, PG_PG, "infinity", "infinity"),
    (DATE, DATE, PG_MY, "2024-02-29", "2024-02-29"),
    (DATE, DATE, MY_MY, "0000-00-00", "0000-00-00"),
    (DATE, STAMP, PG_PG, "2024-02-29", "2024-02-29 00:00:00"),
    (DATE, STAMP, PG_PG, "0044-03-15 BC", "0044-03-15 00:00:00 BC"),
    (DATE, STAMP, PG_PG, "-infinity", "-infinity"),
    (STAMP, DATE, PG_PG, "2024-02-29 00:00:00", "2024-02-29"),
    (STAMP, DATE, PG_PG, "0044-03-15 00:00:00 BC", "0044-03-15 BC"),
    (STAMP, STAMP, PG_MY, "9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"),
    (STAMP, of(Kind.DATETIME, fraction=3), PG_MY, "2024-01-01 10:00:00.12", "2024-01-01 10:00:00.12"),
    (INSTANT, of(Kind.INSTANT, fraction=0), PG_MY, "2024-01-01 10:00:00+00", "2024-01-01 10:00:00+00"),
    (INSTANT, text(), PG_MY, "2024-01-01 10:00:00+00", "2024-01-01 10:00:00+00"),
    (TIME, TIME, MY_PG, "24:00:00", "24:00:00"),
    (TIME, TIME, MY_MY, "-838:59:59", "-838:59:59"),
    (of(Kind.OPAQUE, "inet"), of(Kind.OPAQUE, "inet"), PG_PG, "10.0.0.0/8", "10.0.0.0/8"),
    (of(Kind.OPAQUE, "inet"), text(43), PG_MY, "10.0.0.0/8", "10.0.0.0/8"),
    (text(43), of(Kind.OPAQUE, "inet"), MY_PG, "10.0.0.0/8", "10.0.0.0/8"),
]

REFUSED = [
    (integer(8), BOOL, MY_PG, "2", "range", "neither 0 nor 1"),
    (integer(64, False), integer(64), MY_PG, "9223372036854775809", "range", "-9223372036854775808 to 9223372036854775807"),
    (integer(64), integer(64, False), PG_MY, "-1", "range", "0 to 18446744073709551615"),
    (of(Kind.INT, "HUGEINT", bits=128), integer(64), DUCK_PG, "1" * 39, "range", "outside"),
    (integer(32), integer(24), PG_MY, "8388609", "range", "8388607"),
    (integer(64), decimal(5, 2), PG_PG, "1000", "range", "4 digits before the point, the target takes 3"),
    (integer(64), real(64), PG_PG, "9007199254740993", "range", "64-bit floating-point"),
    (integer(32), real(32), PG_PG, "16777217", "range", "32-bit floating-point"),
    (decimal(12, 2), decimal(14, 4), PG_MY, "NaN", "range", "NaN and Infinity"),
    (decimal(), decimal(10, 2), PG_PG, "-Infinity", "range", "infinite"),
    (decimal(12, 4), decimal(12, 1), PG_MY, "1.5500", "range", "2 digits after the point, the target keeps 1"),
    (decimal(), decimal(5, 2), PG_PG, "1000", "range", "4 digits before the point, the target takes 3"),
    (decimal(12, 2), decimal(12, 2, signed=False), PG_MY, "-0.01", "range", "negative"),
    (decimal(65, 0), integer(64), MY_PG, "9" * 65, "range", "outside"),
    (decimal(10, 2), integer(32), PG_PG, "12.50", "range", "not whole"),
    (decimal(10, 2), integer(32), PG_PG, "NaN", "range", "not whole"),
    (decimal(30, 10), real(64), MY_PG, "1.2345678901234567891", "range", "does not hold this number exactly"),
    (real(64), decimal(10, 2), PG_PG, "0.125", "range", "3 digits after the point"),
    (real(64), decimal(10, 2), PG_PG, "1e300", "range", "digits before the point"),
    (real(64), decimal(10, 2), PG_MY, "Infinity", "range", "NaN and Infinity"),
    (real(64), real(32), PG_PG, "0.1", "range", "32-bit"),
    (real(64), real(64), PG_MY, "NaN", "range", "NaN and Infinity"),
    (real(64), real(64), DUCK_MY, "NaN", "range", "NaN and Infinity"),
    (real(64), integer(32), PG_PG, "0.5", "range", "not whole"),
    (real(64), integer(32), PG_PG, "-Infinity", "range", "not whole"),
    (text(), text(5), PG_MY, "žluťák😀", "too_long", "7 characters, the target takes 5"),
    (text(5), text(5), MY_PG, "a\0b", "encoding", "NUL"),
    (text(36), UUID, MY_PG, "131c8919-964b-4397-99ff-63855b0b4fax", "type", "not a UUID"),
    (text(36), UUID, MY_PG, "", "type", "not a UUID"),
    (text(), ENUM, PG_MY, "A", "type", "labels"),
    (of(Kind.ENUM, labels=("a", "c")), ENUM, PG_MY, "c", "type", "labels"),
    (text(), SET, PG_MY, "x,w", "type", "label"),
    (text(), JSON, PG_PG, "{", "type", "JSON"),
    (text(), JSON, PG_PG, "NaN", "type", "JSON"),
    (JSON, of(Kind.JSON, "jsonb"), MY_PG, '[{"a": 1, "b": 2, "a": 2}]', "type", "twice"),
    (of(Kind.BYTES), of(Kind.BYTES, length=3, padded=True), PG_MY, "\\x01", "range", "1 bytes, the target has 3 always"),
    (of(Kind.BYTES), of(Kind.BYTES, length=3, padded=True), PG_MY, "\\x", "range", "0 bytes"),
    (of(Kind.BYTES), of(Kind.BYTES, length=2), PG_MY, "\\x010203", "too_long", "3 bytes, the target takes 2"),
    (DATE, DATE, PG_MY, "infinity", "range", "infinite"),
    (DATE, DATE, PG_MY, "0044-03-15 BC", "range", "years"),
    (DATE, DATE, PG_MY, "10000-01-01", "range", "years"),
    (DATE, DATE, MY_PG, "0000-00-00", "range", "zero"),
    (DATE, DATE, MY_PG, "2024-00-10", "range", "zero"),
    (DATE, DATE, MY_PG, "2024-10-00", "range", "zero"),
    (STAMP, STAMP, MY_PG, "0000-00-00 00:00:00", "range", "zero"),
    (STAMP, STAMP, PG_MY, "-infinity", "range", "infinite"),
    (STAMP, STAMP, PG_MY, "0044-03-15 00:00:00 BC", "range", "years"),
    (INSTANT, INSTANT, PG_MY, "10000-01-01 00:00:00+00", "range", "years"),
    (STAMP, of(Kind.DATETIME, fraction=3), PG_MY, "2024-01-01 10:00:00.1234", "range", "4 digits after the second, the target keeps 3"),
    (INSTANT, of(Kind.INSTANT, fraction=0), PG_MY, "2024-01-01 10:00:00.5+00", "range", "1 digits after the second, the target keeps 0"),
    (STAMP, DATE, PG_PG, "2024-02-29 00:00:00.000001", "range", "time of day"),
    (STAMP, DATE, PG_PG, "2024-02-29 10:00:00", "range", "time of day"),
    (TIME, TIME, MY_PG, "-01:00:00", "range", "negative"),
    (TIME, TIME, MY_PG, "24:00:01", "range", "longer than a day"),
    (of(Kind.TIME), of(Kind.TIME, fraction=0), PG_MY, "10:00:00.5", "range", "1 digits after the second"),
]

IMPOSSIBLE = [
    (of(Kind.BYTES), integer(32), "does not go"),
    (text(), integer(32), "CAST({0} AS BIGINT)"),
    (text(), DATE, "CAST({0} AS DATE)"),
    (text(), decimal(10, 2), "DECIMAL(10, 2)"),
    (BOOL, text(), "CASE WHEN"),
    (STAMP, INSTANT, "AT TIME ZONE"),
    (INSTANT, STAMP, "AT TIME ZONE"),
    (INSTANT, DATE, "AT TIME ZONE"),
    (DATE, INSTANT, "AT TIME ZONE"),
    (TIME, STAMP, "does not go"),
    (UUID, text(32), "replace("),
    (UUID, of(Kind.BYTES, length=16), "unhex("),
    (of(Kind.BYTES, length=16), UUID, "hex("),
    (SET, ENUM, "one label"),
    (integer(32), ENUM, "does not go"),
    (of(Kind.OPAQUE, "inet"), of(Kind.OPAQUE, "cidr"), "does not go"),
    (of(Kind.OPAQUE, "inet"), integer(32), "does not go"),
    (integer(32), of(Kind.OPAQUE, "money"), "does not go"),
]


def run(have: DataType, want: DataType, ways: tuple[str, str], value: str) -> tuple[str | None, tuple[str, str] | None]:
    """The value after all steps, or (reason, sentence) of the step that refused it."""
    fitted = conversion(have, want, source=ways[0], target=ways[1])
    assert isinstance(fitted, Conversion), fitted
    values = pa.array([value, None], type=pa.string())
    for step in fitted.steps:
        refused = step.refuses(values)
        if refused is not None:
            assert not refused[1].as_py()
            if refused[0].as_py():
                return None, (step.reason, step.what(values[0].as_py()))
        values = step.change(values)
        assert values.type == pa.string()
    assert values[1].as_py() is None
    return values[0].as_py(), None


@pytest.mark.parametrize(("have", "want", "ways", "value", "result"), FINE)
def test_value_arrives(have: DataType, want: DataType, ways: tuple[str, str], value: str, result: str) -> None:
    arrived, refused = run(have, want, ways, value)
    assert refused is None
    if want.kind is Kind.FLOAT:
        assert arrived is not None
        assert pc.cast(pa.array([arrived]), pa.float64()).to_pylist() == pytest.approx([float(result)], nan_ok=True, rel=0)
    else:
        assert arrived == result


@pytest.mark.parametrize(("have", "want", "ways", "value", "reason", "words"), REFUSED)
def test_value_is_refused(have: DataType, want: DataType, ways: tuple[str, str], value: str, reason: str, words: str) -> None:
    arrived, refused = run(have, want, ways, value)
    assert arrived is None
    assert refused is not None
    assert refused[0] == reason
    assert words in refused[1]
    assert len(value) < 5 or value == "Infinity" or value not in refused[1]


@pytest.mark.parametrize(("have", "want", "words"), IMPOSSIBLE)
def test_types_that_never_fit_say_what_to_write(have: DataType, want: DataType, words: str) -> None:
    fitted = conversion(have, want, source="postgres", target="postgres")
    assert isinstance(fitted, Impossible)
    assert words in fitted.what + fitted.fix
    fitted.fix.format("a.x")


def test_types_of_one_name_in_two_databases_are_two_types() -> None:
    point = of(Kind.OPAQUE, "point")
    assert isinstance(conversion(point, point, source="mysql", target="postgres"), Impossible)
    assert conversion(point, point, source="postgres", target="postgres") == Conversion()


@pytest.mark.parametrize("length", [None, 10])
def test_a_warning_goes_with_every_step_that_a_type_makes_necessary(length: int | None) -> None:
    fitted = conversion(text(length), text(9), source="postgres", target="postgres")
    assert isinstance(fitted, Conversion)
    assert fitted.warning and len(fitted.steps) == 1
    fitted = conversion(text(9), text(9), source="postgres", target="postgres")
    assert fitted == Conversion()
