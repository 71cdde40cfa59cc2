"""For any value: computed and taken over give the same text; what arrives is canonical, inside the target's bounds and the same value; and every
row is accounted for."""

from __future__ import annotations

import functools
import re
import struct
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from engine.mapping.compiler import compile_rule
from engine.mapping.conversion import Conversion, conversion, int_bounds
from engine.mapping.evaluator import Evaluator
from engine.model.schema import Column, Table, TableName
from engine.model.types import DataType, Kind

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def of(kind: Kind, name: str = "", **fields: Any) -> DataType:
    return DataType(kind=kind, name=name or kind.value, **fields)


# -- types and canonical text of their values

ints = st.builds(lambda bits, signed: of(Kind.INT, bits=bits, signed=signed), st.sampled_from([8, 16, 24, 32, 64]), st.booleans())
decimals = st.integers(1, 65).flatmap(
    lambda p: st.builds(lambda s: of(Kind.DECIMAL, precision=p, scale=s), st.integers(0, min(p, 30)))
) | st.just(of(Kind.DECIMAL))
floats = st.builds(lambda bits: of(Kind.FLOAT, bits=bits), st.sampled_from([32, 64]))
texts = st.builds(lambda n, padded: of(Kind.TEXT, length=n, padded=padded), st.none() | st.integers(1, 40), st.booleans())
labels = st.lists(st.text("abcdeé", min_size=1, max_size=3), min_size=1, max_size=4, unique=True).map(tuple)
enums = st.builds(lambda names: of(Kind.ENUM, labels=names), labels)
sets = st.builds(lambda names: of(Kind.SET, labels=names), labels)
byteses = st.builds(lambda n, padded: of(Kind.BYTES, length=n, padded=padded and n is not None), st.none() | st.integers(1, 9), st.booleans())
times = st.builds(lambda kind, n: of(kind, fraction=n), st.sampled_from([Kind.TIME, Kind.DATETIME, Kind.INSTANT]), st.sampled_from([0, 3, 6]))
types = (
    ints | decimals | floats | texts | enums | sets | byteses | times | st.sampled_from([of(Kind.BOOL), of(Kind.DATE), of(Kind.UUID)])
)
dates = st.dates().map(lambda d: d.isoformat())
clocks = st.times().map(lambda t: t.isoformat("microseconds").rstrip("0").rstrip("."))


def decimal_text(number: int, scale: int) -> str:
    digits = str(abs(number)).rjust(scale + 1, "0")
    return ("-" if number < 0 else "") + (f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits)


def float_text(number: float) -> str:
    return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(repr(number), repr(number).removesuffix(".0"))


def short_float(number: float) -> str:
    return float_text(float(str(np.float32(number)))) if np.isfinite(number) else float_text(number)


def fraction(text: str, digits: int) -> str:
    head, _, tail = text.partition(".")
    tail = tail[:digits].rstrip("0")
    return f"{head}.{tail}" if tail else head


def values(kind: DataType, source: str) -> st.SearchStrategy[str]:
    """Canonical text of a type, as a database of that kind can hold it."""
    match kind.kind:
        case Kind.BOOL:
            return st.sampled_from(["t", "f"])
        case Kind.INT:
            low, high = int_bounds(kind)
            return (st.integers(low, high) | st.sampled_from([low, high, 0, 1])).map(str)
        case Kind.DECIMAL:
            special = st.just("NaN") if source == "postgres" else st.nothing()
            if kind.precision is None or kind.scale is None:
                plain = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20).map(lambda d: format(d + 0, "f"))
                infinite = st.sampled_from(["NaN", "Infinity", "-Infinity"]) if source == "postgres" else st.nothing()
                return plain.filter(lambda t: not re.match(r"-0(\.0*)?$", t)) | infinite
            most = 10**kind.precision - 1
            return st.integers(-most, most).map(lambda n: decimal_text(n, kind.scale or 0)) | special
        case Kind.FLOAT:
            wild = source == "postgres"
            width = st.floats(width=kind.bits, allow_nan=wild, allow_infinity=wild)
            return width.map(short_float if kind.bits == 32 else float_text)
        case Kind.TEXT:
            alphabet = st.characters(exclude_categories=["Cs"], exclude_characters="\0" if source == "postgres" else "")
            text = st.text(alphabet, max_size=kind.length if kind.length is not None else 50)
            return text.map(lambda t: t.rstrip(" ")) if kind.padded else text
        case Kind.ENUM:
            return st.sampled_from(kind.labels)
        case Kind.SET:
            return st.sets(st.sampled_from(kind.labels)).map(lambda chosen: ",".join(label for label in kind.labels if label in chosen))
        case Kind.BYTES:
            size = kind.length if kind.length is not None else 12
            return st.binary(min_size=size if kind.padded else 0, max_size=size).map(lambda b: "\\x" + b.hex())
        case Kind.DATE:
            special = ["infinity", "-infinity", "0044-03-15 BC", "12024-01-01"] if source == "postgres" else ["0000-00-00", "2024-00-00"]
            return dates | st.sampled_from(special)
        case Kind.TIME:
            special = ["24:00:00"] if source == "postgres" else ["-838:59:59", "100:00:00"]
            return clocks.map(lambda t: fraction(t, kind.fraction)) | st.sampled_from(special)
        case Kind.DATETIME | Kind.INSTANT:
            zone = "+00" if kind.kind is Kind.INSTANT else ""
            plain = st.tuples(dates, clocks).map(lambda t: f"{t[0]} {fraction(t[1], kind.fraction)}{zone}")
            special = ["infinity", "-infinity", f"0044-03-15 00:00:00{zone} BC", f"12024-01-01 10:00:00{zone}"]
            return plain | st.sampled_from(special if source == "postgres" else [f"0000-00-00 00:00:00{zone}"])
        case _:
            return st.uuids().map(str)


# -- what a target can hold, said once more


def holds(want: DataType, target: str, text: str) -> bool:
    """Whether the text is canonical for the type and inside its bounds."""
    match want.kind:
        case Kind.BOOL:
            return text in ("t", "f")
        case Kind.INT:
            low, high = int_bounds(want)
            return str(int(text)) == text and low <= int(text) <= high
        case Kind.DECIMAL:
            if text in ("NaN", "Infinity", "-Infinity"):
                return target == "postgres" and (text == "NaN" or want.precision is None)
            found = re.fullmatch(r"(-?)(0|[1-9]\d*)(?:\.(\d+))?", text)
            if found is None or (found[1] and not Decimal(text)):
                return False
            if want.precision is None or want.scale is None:
                return True
            return len(found[3] or "") == want.scale and len(found[2].lstrip("0")) <= want.precision - want.scale
        case Kind.FLOAT:
            if text in ("NaN", "Infinity", "-Infinity"):
                return target == "postgres"
            return want.bits == 64 or struct.unpack("f", struct.pack("f", float(text)))[0] is not None
        case Kind.TEXT:
            fits = want.length is None or len(text) <= want.length
            return fits and not (want.padded and text.endswith(" ")) and not (target == "postgres" and "\0" in text)
        case Kind.ENUM:
            return text in want.labels
        case Kind.SET:
            return text == ",".join(label for label in want.labels if label in text.split(","))
        case Kind.BYTES:
            size = len(bytes.fromhex(text.removeprefix("\\x")))
            return text.startswith("\\x") and text == text.lower() and (want.length is None or (size == want.length if want.padded else size <= want.length))
        case Kind.UUID:
            return str(uuid.UUID(text)) == text
        case Kind.TIME:
            return len(text.partition(".")[2]) <= want.fraction and (target == "mysql" or bool(re.match(r"[0-2]\d:", text)))
        case _:
            if target == "mysql":
                if not re.fullmatch(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d+)?(\+00)?)?", text):
                    return False
            elif re.match(r"0000|\d+-00|\d+-\d\d-00", text):
                return False
            if text.endswith("infinity"):
                return True
            clock = r" \d\d:\d\d:\d\d(\.\d*[1-9])?" if want.kind is not Kind.DATE else ""
            zone = r"\+00" if want.kind is Kind.INSTANT else ""
            finer = re.search(rf"\.\d{{{want.fraction + 1}}}", text)
            return bool(re.fullmatch(rf"\d+-\d\d-\d\d{clock}{zone}( BC)?", text)) and not finer


def same(have: DataType, value: str, want: DataType, text: str) -> bool:
    """Whether it is still the same value."""
    numbers = (Kind.INT, Kind.DECIMAL)
    if have.kind in numbers and want.kind in numbers:
        return Decimal(value).compare_total(Decimal(value)) == 0 and (Decimal(value) == Decimal(text) or value == text == "NaN")
    if have.kind in (Kind.BOOL, *numbers) and want.kind is Kind.BOOL:
        return (value in ("t", "1") or Decimal(0 if value == "f" else value) == 1) == (text == "t")
    if have.kind is Kind.FLOAT and want.kind is Kind.FLOAT:
        exact = [np.float32(v) if kind.bits == 32 else np.float64(v) for v, kind in ((value, have), (text, want))]
        return bool(np.float64(exact[0]) == np.float64(exact[1])) or value == text == "NaN"
    if have.kind is Kind.BYTES:
        return text == value if not want.padded else text.startswith(value) and set(text[len(value) :]) <= {"0"}
    if want.kind in (Kind.TEXT, Kind.ENUM) and have.kind is not Kind.BOOL:
        return text == (value.rstrip(" ") if want.padded else value)
    if have.kind in (Kind.DATE, Kind.DATETIME) and want.kind in (Kind.DATE, Kind.DATETIME):
        return text.replace(" 00:00:00", "") == value.replace(" 00:00:00", "")
    return True


@FEW
@given(st.data())
def test_what_arrives_is_the_same_value_inside_the_targets_bounds(data: st.DataObject) -> None:
    have, want = data.draw(types, "have"), data.draw(types, "want")
    source, target = data.draw(st.sampled_from([(a, b) for a in ("postgres", "mysql") for b in ("postgres", "mysql")]), "ways")
    fitted = conversion(have, want, source=source, target=target)
    assume(isinstance(fitted, Conversion))
    assert isinstance(fitted, Conversion)
    given_values = data.draw(st.lists(st.none() | values(have, source), min_size=1, max_size=30), "values")
    arrived, refused = pa.array(given_values, type=pa.string()), set()
    for step in fitted.steps:
        found = step.refuses(arrived)
        if found is not None:
            refused |= {at for at, no in enumerate(found.to_pylist()) if no}
            arrived = pa.array([None if at in refused else v for at, v in enumerate(arrived.to_pylist())], type=pa.string())
        arrived = step.change(arrived)
    # a type of MySQL may hold what MySQL itself no longer takes; zero dates go from MySQL to MySQL as they are
    as_is = source == target == "mysql" and have.kind in (Kind.DATE, Kind.DATETIME, Kind.INSTANT, Kind.TIME)
    for at, (value, text) in enumerate(zip(given_values, arrived.to_pylist(), strict=True)):
        assert (text is None) == (value is None or at in refused)
        if value is not None and text is not None:
            assert as_is or holds(want, target, text), (value, text)
            assert same(have, value, want, text), (value, text)


COMPARED = [
    *(of(Kind.INT, bits=bits, signed=signed) for bits in (8, 16, 24, 32, 64) for signed in (True, False)),
    of(Kind.DECIMAL, precision=38, scale=10),
    of(Kind.DECIMAL, precision=5, scale=5),
    of(Kind.DECIMAL, precision=18, scale=0),
    of(Kind.FLOAT, bits=32),
    of(Kind.FLOAT, bits=64),
    of(Kind.BOOL),
    of(Kind.TEXT),
    of(Kind.ENUM, labels=("a", "b")),
    of(Kind.BYTES),
    of(Kind.DATE),
    of(Kind.TIME),
    of(Kind.DATETIME),
    of(Kind.INSTANT),
    of(Kind.UUID),
]
NAMES = [f"x{number}" for number in range(len(COMPARED))]
KEY = Column(name="id", type=of(Kind.INT, bits=64), nullable=False)


@functools.cache
def both_ways() -> Any:
    """A rule that takes each column over and computes it as well, and its evaluator."""
    columns = tuple(Column(name=name, type=kind) for name, kind in zip(NAMES, COMPARED, strict=True))
    again = tuple(Column(name=f"y{name}", type=kind) for name, kind in zip(NAMES, COMPARED, strict=True))
    source = Table(name=TableName("crm", "public", "s"), columns=(KEY, *columns))
    target = Table(name=TableName("erp", "public", "t"), columns=(KEY, *columns, *again))
    rule, problems = compile_rule(
        name="r",
        sql="SELECT s.id AS id, " + ", ".join(f"s.{name} AS {name}, coalesce(s.{name}, NULL) AS y{name}" for name in NAMES) + " FROM crm.s AS s",
        into=target.name,
        key=["id"],
        table=lambda system, _schema, _table: source if system == "crm" else target,
        lookups={},
        adapters={"crm": "postgres", "erp": "postgres"},
    )
    assert rule is not None, problems
    return rule, Evaluator({})


def readable(kind: DataType, text: str | None) -> bool:
    """DuckDB's types hold it: no NaN as decimal."""
    return text is None or not (kind.kind is Kind.DECIMAL and text == "NaN")


@settings(FEW, max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # so many columns take minutes to shrink
@given(st.data())
def test_computing_changes_nothing(data: st.DataObject) -> None:
    rule, evaluator = both_ways()
    count = data.draw(st.integers(1, 5) | st.just(300), "rows")
    columns = {"id": [str(at) for at in range(count)]}
    for name, kind in zip(NAMES, COMPARED, strict=True):
        few = data.draw(st.lists((st.none() | values(kind, "postgres")).filter(lambda v, kind=kind: readable(kind, v)), min_size=1, max_size=5), name)
        columns[name] = [few[at % len(few)] for at in range(count)]
    evaluated = evaluator.evaluate(rule, pa.table({name: pa.array(column, type=pa.string()) for name, column in columns.items()}))
    assert evaluated.rejected == ()
    assert evaluated.row.tolist() == list(range(count))
    result = evaluated.values.to_pydict()
    for name, kind in zip(NAMES, COMPARED, strict=True):
        assert result[name] == columns[name]
        if kind.kind is Kind.FLOAT:
            width = np.float32 if kind.bits == 32 else np.float64
            assert [v and str(width(v)) for v in result[f"y{name}"]] == [v and str(width(v)) for v in columns[name]]
            assert not any(re.search("nan|inf", v) for v in result[f"y{name}"] if v)
        else:
            assert result[f"y{name}"] == columns[name]


@functools.cache
def picky() -> Any:
    """A rule that leaves out, rejects in three ways, and lets through."""
    columns = (KEY, *(Column(name=name, type=of(Kind.TEXT, length=20)) for name in ("a", "b")), Column(name="d", type=of(Kind.DATE)))
    source = Table(name=TableName("crm", "crm", "s"), columns=columns)
    numbers = (Column(name="n", type=of(Kind.INT, bits=16)), Column(name="y", type=of(Kind.INT, bits=32)))
    wanted = (KEY, Column(name="a", type=of(Kind.TEXT, length=2), nullable=False), *numbers)
    target = Table(name=TableName("erp", "public", "t"), columns=wanted)
    rule, problems = compile_rule(
        name="r",
        sql="SELECT s.id AS id, s.a AS a, CAST(s.b AS INTEGER) AS n, year(s.d) AS y FROM crm.s AS s WHERE s.b <> '5'",
        into=target.name,
        key=["id"],
        table=lambda system, _schema, _table: source if system == "crm" else target,
        lookups={},
        adapters={"crm": "mysql", "erp": "postgres"},
    )
    assert rule is not None, problems
    return rule, Evaluator({})


row = st.fixed_dictionaries(
    {
        "a": st.sampled_from([None, "x", "xx", "xxx"]),
        "b": st.sampled_from([None, "5", "7", "70000", "no"]),
        "d": st.sampled_from([None, "2024-01-01", "0000-00-00"]),
    }
)


@FEW
@given(st.lists(row, min_size=1, max_size=20), st.sampled_from([1, 40]))
def test_every_row_is_a_result_or_rejected_or_left_out(rows: list[dict[str, str | None]], times_over: int) -> None:
    rule, evaluator = picky()
    rows = rows * times_over
    table = pa.table({"id": [str(at) for at in range(len(rows))], **{name: pa.array([r[name] for r in rows], type=pa.string()) for name in "abd"}})
    evaluated = evaluator.evaluate(rule, table)
    rejected = {one.row for one in evaluated.rejected}
    results = evaluated.row.tolist()
    assert results == sorted(set(results))
    assert not rejected & set(results)
    for at, one in enumerate(rows):
        left_out = one["b"] in (None, "5")
        bad = one["a"] in (None, "xxx") or one["b"] in ("70000", "no") or one["d"] == "0000-00-00"
        assert (at in rejected) == (bad and not left_out)
        assert (at in results) == (not bad and not left_out)
    for at, result in zip(results, evaluated.values.to_pylist(), strict=True):
        assert result == {"id": str(at), "a": rows[at]["a"], "n": rows[at]["b"], "y": rows[at]["d"] and "2024"}
