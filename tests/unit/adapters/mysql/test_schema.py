"""Column types of MySQL and MariaDB in the engine's terms, from what information_schema says."""

from __future__ import annotations

import pytest

from adapters.mysql.schema import Described, data_type, labels
from engine.model.types import DataType, Kind


def column(declared: str, **facts: object) -> Described:
    base = declared.split("(", 1)[0].split(" ", 1)[0]
    return Described(name="c", base=base, declared=declared, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("enum('a','b')", ("a", "b")),
        ("enum('it''s','x,y)','')", ("it's", "x,y)", "")),
        (r"set('back\\slash','new\nline','q''')", ("back\\slash", "new\nline", "q'")),
        ("enum('é','日本')", ("é", "日本")),
        ("enum('''')", ("'",)),
    ],
)
def test_labels_are_taken_apart(declared: str, expected: tuple[str, ...]) -> None:
    assert labels(declared) == expected


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (column("tinyint(1)"), DataType(kind=Kind.INT, name="tinyint", bits=8)),
        (column("bigint(20) unsigned zerofill"), DataType(kind=Kind.INT, name="bigint unsigned", bits=64, signed=False)),
        (column("mediumint(9)"), DataType(kind=Kind.INT, name="mediumint", bits=24)),
        (column("year(4)"), DataType(kind=Kind.INT, name="year", bits=16, signed=False)),
        (column("bit(1)", precision=1), DataType(kind=Kind.BOOL, name="bit")),
        (column("bit(64)", precision=64), DataType(kind=Kind.INT, name="bit", bits=64, signed=False)),
        (column("decimal(65,30)", precision=65, scale=30), DataType(kind=Kind.DECIMAL, name="decimal", precision=65, scale=30)),
        (column("float"), DataType(kind=Kind.FLOAT, name="float", bits=32)),
        (column("double unsigned"), DataType(kind=Kind.FLOAT, name="double unsigned", bits=64, signed=False)),
        (column("char(36)", length=36), DataType(kind=Kind.TEXT, name="char", length=36, padded=True)),
        (column("longtext", length=4294967295), DataType(kind=Kind.TEXT, name="longtext")),
        (column("longtext", length=4294967295, json=True), DataType(kind=Kind.JSON, name="json")),
        (column("binary(16)", length=16), DataType(kind=Kind.BYTES, name="binary", length=16, padded=True)),
        (column("time(3)", fraction=3), DataType(kind=Kind.TIME, name="time", fraction=3)),
        (column("datetime", fraction=0), DataType(kind=Kind.DATETIME, name="datetime", fraction=0)),
        (column("timestamp(6)", fraction=6), DataType(kind=Kind.INSTANT, name="timestamp", fraction=6)),
        (column("set('r','g')"), DataType(kind=Kind.SET, name="set", labels=("r", "g"))),
        (column("uuid"), DataType(kind=Kind.UUID, name="uuid")),
        (column("inet6"), DataType(kind=Kind.OPAQUE, name="inet6")),
        (column("point"), DataType(kind=Kind.OPAQUE, name="point")),
    ],
    ids=lambda value: value.declared if isinstance(value, Described) else "",
)
def test_types(described: Described, expected: DataType) -> None:
    assert data_type(described) == expected
