"""Values in the forms that no server of the tests writes: MySQL's JSON, times from before 5.6, swapped UUIDs; and positions."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest

from adapters.mysql import gtid
from adapters.mysql.binlog import table_map as t
from adapters.mysql.binlog.field import UUID_PLAIN, UUID_SWAPPED, field, storage
from adapters.mysql.binlog.json_document import document
from engine.errors import Terminal
from engine.model.batch import Position
from engine.model.types import DataType, Kind


def text(column: t.LoggedColumn, kind: DataType, *raw: bytes | None, order: tuple[int, ...] = UUID_PLAIN, charset: str = "utf8mb4") -> list[str | None]:
    made = field("c", column, kind, charset, order)
    assert made is not None
    data = b"".join(each or b"" for each in raw)
    ends = np.cumsum([0, *(len(each or b"") for each in raw)])
    lengths = np.array([-1 if each is None else len(each) for each in raw], dtype=np.int32)
    arrays = made.convert(np.frombuffer(bytearray(data + b"\0"), dtype=np.uint8), ends[:-1].astype(np.int64), lengths)
    return [value for array in arrays for value in array.to_pylist()]


def test_old_times() -> None:
    moment = DataType(kind=Kind.DATETIME, name="datetime", fraction=0)
    values = (20240229235959, 0, 10101000000)
    shown = text(t.LoggedColumn(type=t.DATETIME, meta=0), moment, *(struct.pack("<q", v) for v in values), None)
    assert shown == ["2024-02-29 23:59:59", "0000-00-00 00:00:00", "0001-01-01 00:00:00", None]
    instant = DataType(kind=Kind.INSTANT, name="timestamp", fraction=0)
    assert text(t.LoggedColumn(type=t.TIMESTAMP, meta=0), instant, struct.pack("<I", 951782400), bytes(4)) == [
        "2000-02-29 00:00:00+00",
        "0000-00-00 00:00:00+00",
    ]
    time = DataType(kind=Kind.TIME, name="time", fraction=0)
    raws = [(v & 0xFFFFFF).to_bytes(3, "little") for v in (8385959, -8385959, -1, 0)]
    assert text(t.LoggedColumn(type=t.TIME, meta=0), time, *raws) == ["838:59:59", "-838:59:59", "-00:00:01", "00:00:00"]


def test_timestamps_past_2038() -> None:
    instant = DataType(kind=Kind.INSTANT, name="timestamp", fraction=0)
    assert text(t.LoggedColumn(type=t.TIMESTAMP2, meta=0), instant, (4294967295).to_bytes(4, "big")) == ["2106-02-07 06:28:15+00"]


def test_uuid_in_both_orders() -> None:
    kind = DataType(kind=Kind.UUID, name="uuid")
    plain = bytes.fromhex("123e4567e89b12d3a456426655440000")
    column = t.LoggedColumn(type=t.STRING, meta=16)
    assert text(column, kind, plain.rstrip(b"\0")) == ["123e4567-e89b-12d3-a456-426655440000"]
    swapped = bytes.fromhex("426655440000a45612d3e89b123e4567")
    assert text(column, kind, swapped, order=UUID_SWAPPED) == ["123e4567-e89b-12d3-a456-426655440000"]


def test_labels_outside_of_the_definition_stop() -> None:
    kind = DataType(kind=Kind.ENUM, name="enum", labels=("a", "ü"))
    column = t.LoggedColumn(type=t.ENUM, meta=1)
    assert text(column, kind, b"\0", b"\1", b"\2", None) == ["", "a", "ü", None]
    with pytest.raises(Terminal, match="not valid"):
        text(column, kind, b"\3")
    with pytest.raises(Terminal, match="not valid"):
        text(t.LoggedColumn(type=t.SET, meta=1), DataType(kind=Kind.SET, name="set", labels=("a",)), b"\2")


def test_a_byte_without_character_stops() -> None:
    kind = DataType(kind=Kind.TEXT, name="varchar", length=10)
    column = t.LoggedColumn(type=t.VARCHAR, meta=10)
    assert text(column, kind, b"\xc0", charset="cp1251") == ["А"]
    with pytest.raises(Terminal, match="column c"):
        text(column, kind, b"ok", b"\x98", charset="cp1251")
    with pytest.raises(Terminal, match="column c"):
        text(column, kind, b"\xff\xff", charset="sjis")


def test_a_type_that_does_not_fit_has_no_field() -> None:
    number, word = DataType(kind=Kind.INT, name="int", bits=32), DataType(kind=Kind.TEXT, name="text")
    assert field("c", t.LoggedColumn(type=t.VARCHAR, meta=80), number, "utf8mb4", UUID_PLAIN) is None
    assert field("c", t.LoggedColumn(type=t.LONG, meta=0), word, "utf8mb4", UUID_PLAIN) is None
    assert field("c", t.LoggedColumn(type=t.BLOB, meta=2), word, "binary", UUID_PLAIN) is None
    cents = DataType(kind=Kind.DECIMAL, name="decimal", precision=10, scale=4)
    assert field("c", t.LoggedColumn(type=t.NEWDECIMAL, meta=10 << 8 | 2), cents, "", UUID_PLAIN) is None
    assert storage(t.LoggedColumn(type=99, meta=0)) is None


def test_json_document_of_every_type() -> None:
    def small(kind: int, members: list[tuple[str | None, int, bytes, bool]]) -> bytes:
        """Object (0) or array (2) in the small format; members: key, type, value, whether it stands in place of its offset."""
        entry = 3
        head = 4 + (4 * len(members) if kind == 0 else 0) + entry * len(members)
        keys, values, body = b"", b"", b""
        for key, _, _, _ in members if kind == 0 else []:
            assert key is not None
            keys += struct.pack("<HH", head + len(body), len(key.encode()))
            body += key.encode()
        for _, code, value, inline in members:
            values += bytes([code]) + (value if inline else struct.pack("<H", head + len(body)))
            body += b"" if inline else value
        return struct.pack("<HH", len(members), head + len(body)) + keys + values + body

    members: list[tuple[str | None, int, bytes, bool]] = [
        ("n", 4, b"\0\0", True),
        ("t", 4, b"\1\0", True),
        ("f", 4, b"\2\0", True),
        ("i16", 5, struct.pack("<h", -300), True),
        ("u16", 6, struct.pack("<H", 65535), True),
        ("i32", 7, struct.pack("<i", -2_000_000), False),
        ("u32", 8, struct.pack("<I", 4_000_000_000), False),
        ("i64", 9, struct.pack("<q", -(1 << 62)), False),
        ("u64", 10, struct.pack("<Q", (1 << 64) - 1), False),
        ("d", 11, struct.pack("<d", 1.5), False),
        ("s", 12, b"\xc8\x01" + b"x" * 200, False),
        ("ü\"", 12, b"\x02\xc3\xa9", False),
        ("a", 2, small(2, [(None, 5, b"\7\0", True), (None, 12, b"\1q", False)]), False),
        ("e", 2, small(2, []), False),
    ]  # fmt: skip
    # decimal(10,2): 8 digits before the point in 4 bytes, 2 behind it in 1
    members.append(("dec", 15, bytes([246, 2 + 5, 10, 2]) + bytes.fromhex("8000007b2d"), False))
    members.append(("dt", 15, bytes([12, 8]) + struct.pack("<q", ((((2024 * 13 + 2) << 5 | 29) << 17 | 23 << 12 | 59 << 6 | 58) << 24) | 120000), False))
    members.append(("tm", 15, bytes([11, 8]) + struct.pack("<q", -((1 << 12 | 2 << 6 | 3) << 24)), False))
    members.append(("bin", 15, bytes([252, 3]) + b"\0\1\2", False))
    found: dict[str, Any] = json.loads(document(b"\0" + small(0, members)))
    assert found == {
        "n": None, "t": True, "f": False, "i16": -300, "u16": 65535, "i32": -2_000_000, "u32": 4_000_000_000, "i64": -(1 << 62), "u64": (1 << 64) - 1,
        "d": 1.5, "s": "x" * 200, "ü\"": "é", "a": [7, "q"], "e": [], "dec": 123.45, "dt": "2024-02-29 23:59:58.120000", "tm": "-01:02:03.000000",
        "bin": "base64:type252:AAEC",
    }  # fmt: skip
    assert document(b"") == b"null"
    assert document(b"\x0c\x02hi") == b'"hi"'


def test_positions() -> None:
    low, high = gtid.position("bin.999999", 1 << 31), gtid.position("bin.1000000", 4, "0-1-5")
    assert low.order < high.order
    assert gtid.parts(high) == ("bin.1000000", 4, "0-1-5")
    for wrong in ("0/16B3748", "{}", "[]", ""):
        with pytest.raises(Terminal):
            gtid.parts(Position(wrong, 0))
    with pytest.raises(Terminal):
        gtid.order("binlog", 4)


def test_gtid_states() -> None:
    assert str(gtid.MariaGtids.parse("1-2-7, 0-1-55")) == "0-1-55,1-2-7"
    first, second = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "88ebc247-06ef-11ef-97ee-0242ac130004"
    found = gtid.MySqlGtids.parse(f"{first.upper()}:1-5:7,\n{second}:3")
    for number in (6, 8, 20, 9):
        found.add(first, "", number)
    found.add(second, "", 4)
    assert str(found) == f"{first}:1-9:20,{second}:3-4"
    assert str(gtid.MySqlGtids.parse(str(found))) == str(found)
    assert found.encode()[:8] == struct.pack("<Q", 2)
    assert found.encode()[24:].startswith(struct.pack("<QQQQQ", 2, 1, 10, 20, 21))
    tagged = gtid.MySqlGtids.parse(f"{first}:1-5:shop:1-3:9")
    assert str(tagged) == f"{first}:1-5,{first}:shop:1-3:9"
    assert tagged.encode()[:8] == bytes([1, 2, 0, 0, 0, 0, 0, 1])
    assert tagged.encode()[8 + 16 : 8 + 16 + 1] == b"\0"
    for wrong in ("0-1-55", "x:1", f"{first}:x-y"):
        with pytest.raises(Terminal):
            gtid.MySqlGtids.parse(wrong)
    with pytest.raises(Terminal):
        gtid.MariaGtids.parse(str(found))


PRINTED = (
    "1.0 0.0 -0.0 0.1 -2.5 100000.0 123456789.5 100000000000000.0 1e15 1.234567891234567e15 1000000000000000.5 1e16 1.2345678901234568e17 1e300 "
    "0.0001 0.00001234567890123456 0.000000000000001 1e-16 -1.23456789e-17 5e-324 1.7976931348623157e308"
)
"""Doubles in JSON as SELECT shows them on MySQL 9.7."""


def test_a_double_in_json_is_printed_as_the_server_prints_it() -> None:
    """What the log and the table say of a document must be the same text."""
    for shown in PRINTED.split(" "):
        assert document(b"\x0b" + struct.pack("<d", float(shown))) == shown.encode()


def test_long_bytes_in_json_are_broken_into_lines_as_the_server_breaks_them() -> None:
    data = bytes(range(60))
    shown = document(b"\x0f" + bytes([15, len(data)]) + data).decode()
    assert json.loads(shown).split(":")[2] == base64.b64encode(data[:57]).decode() + "\n" + base64.b64encode(data[57:]).decode()
