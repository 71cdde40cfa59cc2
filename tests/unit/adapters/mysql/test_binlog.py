"""The decoder on recorded bytes of a MariaDB, and on events built here in the forms that only MySQL writes."""

from __future__ import annotations

import json
import struct
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from adapters.mysql import gtid
from adapters.mysql.binlog import buffer
from adapters.mysql.binlog import event as e
from adapters.mysql.binlog.decoder import Decoder
from adapters.mysql.binlog.layout import Wanted, marker
from adapters.mysql.binlog.refusal import server_error
from adapters.mysql.schema import Described, data_type
from engine.errors import Terminal, Transient
from engine.model.batch import DELETE, INSERT, UPDATE, Batch, Position
from engine.model.schema import Column, Table, TableName
from engine.ports import Watched

GOLDEN = Path(__file__).parents[3] / "fixtures" / "binlog"
MISSING = "<missing>"
START = gtid.position("bin.000001", 4)


def watched(described: Sequence[Described], database: str, table: str, key: tuple[str, ...] = ("id",), wanted: tuple[str, ...] = ()) -> Watched:
    columns = tuple(Column(name=c.name, type=data_type(c)) for c in described)
    made = Table(name=TableName("crm", database, table), columns=columns, primary_key=key, log_key=key)
    return Watched(table=made, columns=wanted or tuple(c.name for c in described), identity=key)


def decoder_of(
    tables: dict[str, tuple[Described, ...]], *, database: str = "db", start: Position = START, charsets: dict[int, str] | None = None,
    columns: tuple[str, ...] = (), **options: Any,
) -> Decoder:  # fmt: skip
    options = {"mariadb": True, "checksum": True, **options}
    return Decoder(
        "crm",
        "rules",
        watched=[Wanted.of(watched(described, database, name, wanted=columns)) for name, described in tables.items() if name != "syncline_checkpoint"],
        marker=marker(database, "syncline_checkpoint"),
        described={(database, name): described for name, described in tables.items()},
        catalogue=lambda _, name: tables.get(name, ()),
        charsets=charsets or {45: "utf8mb4", 63: "binary"},
        start=start,
        **options,
    )


def golden() -> tuple[bytes, dict[str, Any]]:
    return (GOLDEN / "mariadb.bin").read_bytes(), json.loads((GOLDEN / "mariadb.json").read_text())


def golden_decoder(told: dict[str, Any], **options: Any) -> Decoder:
    at = json.loads(told["start"])
    tables = {name: tuple(Described(**column) for column in columns) for name, columns in told["described"].items()}
    charsets = {int(k): v for k, v in told["charsets"].items()}
    start = gtid.position(at["file"], at["offset"], at["gtid"])
    return decoder_of(tables, database=told["database"], start=start, charsets=charsets, **options)


def feed(decoder: Decoder, data: bytes, sizes: Sequence[int] = (1 << 30,), now_us: int = 1_700_000_000_000_000) -> list[Batch]:
    """Feeds in parts of these sizes, over and over; takes a batch whenever one is full, and what is left at the end."""
    batches, at, turn = [], 0, 0
    while at < len(data):
        room = decoder.room()
        size = min(sizes[turn % len(sizes)], len(room), len(data) - at)
        room[:size] = data[at : at + size]
        decoder.feed(size, now_us)
        at, turn = at + size, turn + 1
        while decoder.full:
            batch = decoder.take()
            if batch is not None:
                batches.append(batch)
            decoder.run()
    while (batch := decoder.take()) is not None:
        batches.append(batch)
    return batches


def told_by(batches: Sequence[Batch]) -> list[tuple[str, int, tuple[Any, ...]]]:
    out = []
    for batch in batches:
        found: list[tuple[int, str, int, tuple[Any, ...]]] = [(gone.seq, gone.table.table, 0, ()) for gone in batch.truncates]
        for part in batch.changes:
            for k, row in enumerate(part.values.to_pylist()):
                shown = tuple(MISSING if part.missing[k, c] else value for c, value in enumerate(row.values()))
                found.append((int(part.seq[k]), part.table.name.table, int(part.op[k]), shown))
        out += [each[1:] for each in sorted(found, key=lambda each: each[0])]
    return out


SMALL = [
    ("small", INSERT, ("1", "one", "1.50")),
    ("small", INSERT, ("2", None, "-2.25")),
    ("small", UPDATE, ("1", "ünö", "1.50")),
    ("small", DELETE, ("2", None, "-2.25")),
    ("small", INSERT, ("3", None, "-2.25")),
    ("small", UPDATE, ("3", MISSING, None)),
    ("small", 0, ()),
    ("small", INSERT, ("5", "again " * 15, "0.00")),
    ("small", DELETE, ("5", "again " * 15, "0.00")),
]


@pytest.mark.parametrize("sizes", [(1 << 30,), (1,), (7, 1, 300, 19)])
@pytest.mark.parametrize("rows", [10_000, 1])
def test_recorded_log_gives_the_rows_the_server_gave(sizes: tuple[int, ...], rows: int) -> None:
    data, told = golden()
    decoder = golden_decoder(told, rows=rows)
    batches = feed(decoder, data, sizes)
    changes = told_by(batches)
    assert [row for name, _, row in changes if name == "every"] == [tuple(row.values()) for row in told["every"]]
    assert [change for change in changes if change[0] == "small"] == SMALL
    assert decoder.position.text == told["end"] or decoder.position.order >= json.loads(told["end"])["offset"]
    marks = [(t.origins[o], int(b)) for t in (batch.transactions for batch in batches) for o, b in zip(t.origin, t.batch, strict=True) if o >= 0]
    assert marks == [("erp", 9)]
    assert len(batches) == 1 if rows > 1 else len(batches) > 5


def test_a_log_cut_anywhere_gives_whole_transactions_only() -> None:
    data, told = golden()
    whole = told_by(feed(golden_decoder(told), data))
    seen = 0
    for cut in range(0, len(data), 41):
        part = told_by(feed(golden_decoder(told), data[:cut]))
        assert part == whole[: len(part)]
        assert len(part) >= seen
        seen = len(part)


# events built by hand


def event(kind: int, body: bytes, *, seconds: int = 1_700_000_000, place: int = 0, flags: int = 0, checksum: bool = False) -> bytes:
    body += bytes(4) if checksum else b""
    return struct.pack("<IBIIIH", seconds, kind, 1, len(body) + 19, place, flags) + body


def packets(*events: bytes) -> bytes:
    out = b""
    for each in events:
        payload = b"\0" + each
        while True:
            out += len(payload[:0xFFFFFF]).to_bytes(3, "little") + b"\0" + payload[:0xFFFFFF]
            if len(payload) < 0xFFFFFF:
                break
            payload = payload[0xFFFFFF:]
    return out


def query(text: str, database: str = "db", place: int = 900) -> bytes:
    return event(e.QUERY, struct.pack("<IIBHH", 1, 0, len(database), 0, 0) + database.encode() + b"\0" + text.encode(), place=place)


def table_map(number: int, types: bytes, metas: bytes, extra: bytes = b"", *, database: str = "db", table: str = "t") -> bytes:
    body = number.to_bytes(6, "little") + b"\1\0" + bytes([len(database)]) + database.encode() + b"\0" + bytes([len(table)]) + table.encode() + b"\0"
    body += bytes([len(types)]) + types + bytes([len(metas)]) + metas + bytes((len(types) + 7) // 8)
    return event(e.TABLE_MAP, body + extra)


def rows(kind: int, number: int, width: int, data: bytes, bitmaps: bytes, extra: bytes = b"\2\0") -> bytes:
    return event(kind, number.to_bytes(6, "little") + b"\1\0" + (extra if kind >= 30 else b"") + bytes([width]) + bitmaps + data)


INT_AND_TEXT = (Described(name="id", base="int", declared="int(11)"), Described(name="n", base="varchar", declared="varchar(20)", charset="utf8mb4", length=20))
XID = event(e.XID, bytes(8), place=1000)
MAP = table_map(5, bytes([3, 15]), (80).to_bytes(2, "little"))


def insert(*values: tuple[int, str], kind: int = e.WRITE_ROWS) -> bytes:
    return rows(kind, 5, 2, b"".join(b"\0" + struct.pack("<i", k) + bytes([len(v)]) + v.encode() for k, v in values), b"\3")


def mysql(**options: Any) -> Decoder:
    return decoder_of({"t": INT_AND_TEXT}, mariadb=False, checksum=False, **options)


def mysql_gtid_event(sid: str, number: int, commit_us: int, *, original: bool = False) -> bytes:
    stamp = commit_us | (1 << 55 if original else 0)
    body = b"\0" + uuid.UUID(sid).bytes + struct.pack("<QBQQ", number, 2, 0, 1) + stamp.to_bytes(7, "little")
    return event(e.GTID_LOG, body + ((commit_us - 5).to_bytes(7, "little") if original else b"") + b"\x40" + struct.pack("<I", 80036))


SID = "88ebc247-06ef-11ef-97ee-0242ac130004"


def test_mysql_transactions_carry_their_microseconds_and_gtids() -> None:
    decoder = mysql(start=gtid.position("bin.000001", 4, f"{SID}:1-4"))
    first = packets(mysql_gtid_event(SID, 5, 1_700_000_000_123_456), query("BEGIN"), MAP, insert((1, "a")), XID)
    second = packets(mysql_gtid_event(SID, 6, 1_700_000_000_123_999, original=True), query("BEGIN"), MAP, insert((2, "b")), XID)
    half = packets(mysql_gtid_event(SID, 7, 1_700_000_001_000_000), query("BEGIN"), MAP, insert((3, "never")))
    (batch,) = feed(decoder, first + second + half)
    assert batch.transactions.commit_us.tolist() == [1_700_000_000_123_456, 1_700_000_000_123_999]
    assert json.loads(batch.high.text)["gtid"] == f"{SID}:1-6"
    assert told_by([batch]) == [("t", INSERT, ("1", "a")), ("t", INSERT, ("2", "b"))]


def test_a_mysql_gtid_counts_only_once_its_transaction_ended() -> None:
    decoder = mysql(start=gtid.position("bin.000001", 4, f"{SID}:1-4"))
    feed(decoder, packets(mysql_gtid_event(SID, 5, 1)))
    assert json.loads(decoder.moved().high.text)["gtid"] == f"{SID}:1-4"
    feed(decoder, packets(query("CREATE TABLE x (id int)")))
    assert json.loads(decoder.moved().high.text)["gtid"] == f"{SID}:1-5"


def test_tagged_gtid_of_mysql() -> None:
    def number(value: int) -> bytes:
        extra = next(k for k in range(9) if value < 1 << 7 * (k + 1))
        return (value << (extra + 1) | (1 << extra) - 1).to_bytes(extra + 1, "little")

    sid = b"".join(number(byte) for byte in uuid.UUID(SID).bytes)
    fields = [(0, number(1)), (1, sid), (2, number(77 << 1)), (3, number(4) + b"shop"), (4, number(0)), (5, number(2)), (6, number(1_700_000_000_123_456))]
    body = number(1) + number(40) + number(0) + b"".join(number(k) + value for k, value in fields)
    found = e.tagged_gtid(body)
    assert (found.sid, found.tag, found.number, found.commit_us) == (SID, "shop", 77, 1_700_000_000_123_456)
    for cut in range(len(body) - 20):
        with pytest.raises(Terminal):
            e.tagged_gtid(body[:cut])


def payload(*events: bytes, kind: int = 0) -> bytes:
    raw = b"".join(events)
    data = raw
    if kind == 0:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(raw)
        data = sink.getvalue().to_pybytes()

    def told(field: int, value: int) -> bytes:
        return bytes([field, 9, 254]) + value.to_bytes(8, "little")

    return event(e.TRANSACTION_PAYLOAD, told(2, kind) + told(3, len(raw)) + told(1, len(data)) + b"\0" + data, place=2000)


@pytest.mark.parametrize("kind", [0, 255])
def test_compressed_transaction_of_mysql(kind: int) -> None:
    plain = packets(event(e.ANONYMOUS_GTID_LOG, bytes(42)), query("BEGIN"), MAP, insert((1, "plain")), XID)
    packed = packets(event(e.ANONYMOUS_GTID_LOG, bytes(42)), payload(query("BEGIN"), MAP, insert((2, "packed"), (3, "too")), XID, kind=kind))
    (batch,) = feed(mysql(), plain + packed + plain)
    assert [row for _, _, row in told_by([batch])] == [("1", "plain"), ("2", "packed"), ("3", "too"), ("1", "plain")]
    assert (batch.transactions.order & (1 << 40) - 1).tolist()[1] == 2000


def test_an_unknown_compression_stops() -> None:
    with pytest.raises(Terminal, match="compressed transactions") as stopped:
        feed(mysql(), packets(query("BEGIN"), payload(XID, kind=7)))
    assert "binlog_transaction_compression" in stopped.value.fix


def test_an_unknown_event_stops_after_what_came_before_it_unless_it_may_be_ignored() -> None:
    good = packets(query("BEGIN"), MAP, insert((1, "a")), XID)
    assert len(told_by(feed(mysql(), good + packets(event(200, b"x", flags=e.IGNORABLE_FLAG)) + good))) == 2
    decoder = mysql()
    room = decoder.room()
    data = good + packets(event(200, b"x")) + good
    room[: len(data)] = data
    decoder.feed(len(data), 0)
    assert decoder.full
    assert told_by([batch for batch in [decoder.take()] if batch]) == [("t", INSERT, ("1", "a"))]
    with pytest.raises(Terminal, match="event of type 200"):
        decoder.take()


@pytest.mark.parametrize(
    ("stopping", "said"),
    [
        (event(e.INCIDENT, b"\1\0\0"), "lost events"),
        (event(e.START_ENCRYPTION, bytes(17)), "encrypted"),
        (rows(e.WRITE_ROWS, 9, 2, b"", b"\3"), "without the map"),
        (query("INSERT INTO t VALUES (1)"), "by a statement"),
        (packets(XID)[5:24], "packet"),
    ],
)
def test_what_cannot_be_followed_stops(stopping: bytes, said: str) -> None:
    with pytest.raises(Terminal, match=said):
        feed(mysql(), packets(query("BEGIN"), MAP, insert((1, "a")), stopping))


def test_an_event_in_several_packets_is_put_together() -> None:
    long = "x" * 17_000_000
    described = (INT_AND_TEXT[0], Described(name="n", base="longtext", declared="longtext", charset="utf8mb4"))
    map_of_long = table_map(5, bytes([3, 252]), b"\4")
    big = rows(e.WRITE_ROWS, 5, 2, b"\0" + struct.pack("<iI", 1, len(long)) + long.encode(), b"\3")
    data = packets(query("BEGIN"), map_of_long, big, XID) + packets(query("BEGIN"), map_of_long, insert_long(2, "after"), XID)
    decoder = decoder_of({"t": described}, mariadb=False, checksum=False)
    batches = feed(decoder, data, (1_000_003,))
    assert [row for _, _, row in told_by(batches)] == [("1", long), ("2", "after")]


def insert_long(key: int, text: str) -> bytes:
    return rows(e.WRITE_ROWS, 5, 2, b"\0" + struct.pack("<iI", key, len(text)) + text.encode(), b"\3")


@pytest.mark.parametrize("watched", [True, False])
def test_pieces_of_json_stop_reading_where_the_column_is_watched(watched: bool) -> None:
    """MISSING would say that the value did not change."""
    described = (INT_AND_TEXT[0], Described(name="j", base="json", declared="json"), INT_AND_TEXT[1])
    map_of_json = table_map(5, bytes([3, 245, 15]), b"\4" + (80).to_bytes(2, "little"))
    document = b"\x05\x07\x00"
    before = b"\0" + struct.pack("<i", 1) + struct.pack("<I", 3) + document + b"\1a"
    partial = b"\1\1" + b"\0" + struct.pack("<i", 1) + struct.pack("<I", 5) + b"diffs" + b"\1b"
    full = b"\0\0" + struct.pack("<i", 1) + struct.pack("<I", 3) + document + b"\1c"
    data = packets(query("BEGIN"), map_of_json, rows(e.PARTIAL_UPDATE_ROWS, 5, 3, before + partial + before + full, b"\7\7"), XID)
    if watched:
        with pytest.raises(Terminal, match="pieces of changed JSON"):
            feed(decoder_of({"t": described}, mariadb=False, checksum=False), data)
        whole = packets(query("BEGIN"), map_of_json, rows(e.PARTIAL_UPDATE_ROWS, 5, 3, before + full, b"\7\7"), XID)
        assert told_by(feed(decoder_of({"t": described}, mariadb=False, checksum=False), whole)) == [("t", UPDATE, ("1", "7", "c"))]
    else:
        found = feed(decoder_of({"t": described}, mariadb=False, checksum=False, columns=("id", "n")), data)
        assert told_by(found) == [("t", UPDATE, ("1", "b")), ("t", UPDATE, ("1", "c"))]


def test_an_update_takes_unchanged_values_from_the_old_row() -> None:
    data = packets(query("BEGIN"), MAP, rows(e.UPDATE_ROWS_V1, 5, 2, b"\0" + struct.pack("<i", 1) + b"\1a" + b"\0" + b"\1b", b"\3\2"), XID)
    assert told_by(feed(mysql(), data)) == [("t", UPDATE, ("1", "b"))]


def test_log_positions_go_past_4_gb() -> None:
    decoder = mysql(start=gtid.position("bin.000001", (1 << 32) - 500))
    data = packets(query("BEGIN", place=0), MAP, insert((1, "a")), event(e.XID, bytes(8), place=(1 << 32) - 100))
    data += packets(query("BEGIN", place=50), MAP, insert((2, "b")), event(e.XID, bytes(8), place=300))
    (batch,) = feed(decoder, data)
    assert (batch.transactions.order - (1 << 40)).tolist() == [(1 << 32) - 100, (1 << 32) + 300]


def test_rows_of_a_transaction_that_was_cut_off_are_dropped() -> None:
    data = packets(query("BEGIN"), MAP, insert((1, "lost")), query("BEGIN"), MAP, insert((2, "kept")), XID)
    assert told_by(feed(mysql(), data)) == [("t", INSERT, ("2", "kept"))]


def test_dummy_rows_and_rows_of_other_tables_pass() -> None:
    other = table_map(6, bytes([3]), b"", table="other")
    strange = table_map(7, bytes([99]), b"\0\0", table="strange")
    end = rows(e.WRITE_ROWS, 0xFFFFFF, 0, b"", b"")
    more = rows(e.WRITE_ROWS, 6, 1, b"\0" + bytes(4), b"\1")
    data = packets(query("BEGIN"), other, strange, more, MAP, insert((1, "a")), end, XID)
    assert told_by(feed(mysql(), data)) == [("t", INSERT, ("1", "a"))]


def test_a_table_under_many_numbers_stays_one_table() -> None:
    data = b""
    for number in range(5, 12_000, 997):
        mapped = table_map(number, bytes([3, 15]), (80).to_bytes(2, "little"))
        body = rows(e.WRITE_ROWS, number, 2, b"\0" + struct.pack("<i", number) + b"\1x", b"\3")
        data += packets(query("BEGIN"), mapped, body, XID)
    decoder = mysql()
    (batch,) = feed(decoder, data)
    assert len(batch.changes) == 1
    assert [int(row[0]) for _, _, row in told_by([batch])] == list(range(5, 12_000, 997))


def test_tables_whose_numbers_clash_are_told_apart() -> None:
    other = (INT_AND_TEXT[0],)
    decoder = decoder_of({"t": INT_AND_TEXT, "u": other}, mariadb=False, checksum=False)
    clash = table_map(5 + 4096, bytes([3]), b"", table="u")
    far = rows(e.WRITE_ROWS, 5 + 4096, 1, b"\0" + struct.pack("<i", 9), b"\1")
    data = packets(query("BEGIN"), MAP, clash, insert((1, "a")), far, insert((2, "b")), XID)
    assert told_by(feed(decoder, data)) == [("t", INSERT, ("1", "a")), ("u", INSERT, ("9",)), ("t", INSERT, ("2", "b"))]


def test_table_numbers_that_keep_changing_take_no_more_room() -> None:
    decoder = mysql()
    for first in range(0, 20_000, 2000):
        data = b""
        for number in range(first, first + 2000):
            data += packets(query("BEGIN"), table_map(number, bytes([3, 15]), (80).to_bytes(2, "little")), XID)
        feed(decoder, data)
    assert len(decoder._tables.maps) < 1 << 21
    assert len(decoder._tables.known) <= 4096
    assert told_by(feed(decoder, packets(query("BEGIN"), MAP, insert((1, "a")), XID))) == [("t", INSERT, ("1", "a"))]


def test_invalid_text_stops_and_the_sentence_holds_no_value() -> None:
    bad = rows(e.WRITE_ROWS, 5, 2, b"\0" + struct.pack("<i", 1) + b"\5qz\xffxy", b"\3")
    with pytest.raises(Terminal, match="not valid") as stopped:
        feed(mysql(), packets(query("BEGIN"), MAP, bad, XID))
    assert stopped.value.where == "db.t, column n"
    assert "qz" not in str(stopped.value)


def test_mariadb_compressed_query() -> None:
    text = b"INSERT INTO t VALUES (1)"
    packed = bytes([0x81, len(text)]) + zlib.compress(text)
    body = struct.pack("<IIBHH", 1, 0, 2, 0, 0) + b"db\0" + packed
    assert e.query(e.QUERY_COMPRESSED, body) == e.Query(database="db", text=text.decode())
    with pytest.raises(Terminal):
        e.inflate(bytes([0x81, 5]) + zlib.compress(text))
    with pytest.raises(Terminal):
        e.inflate(b"\x91\x05abc")


def test_errors_of_the_server() -> None:
    purged = server_error(1236, "#HY000Could not find first log file name in binary log index file")
    assert isinstance(purged, Terminal) and "no longer has" in purged.what
    assert isinstance(server_error(1317, "interrupted"), Transient)
    refused = packets()  # an error packet in the middle of the log
    refused += (3 + 5 + 4).to_bytes(3, "little") + b"\0" + b"\xff" + struct.pack("<H", 1236) + b"#HY000miss"[:9]
    with pytest.raises(Terminal, match="server"):
        feed(mysql(), refused)


def test_commit_time_of_whole_seconds() -> None:
    """Within its second: when it came. Later: the middle of the second. Always after the one before."""

    def commit(seconds: int) -> bytes:
        return packets(query("BEGIN"), MAP, insert((1, "a")), event(e.XID, bytes(8), seconds=seconds, place=1000))

    decoder = mysql()
    second = 1_700_000_000
    steps = [(second, 0.25), (second, 0.75), (second - 5, 0.8), (second, 7.0), (second + 20, 7.5), (second + 7, 7.6)]
    came = []
    for seconds, at in steps:
        (batch,) = feed(decoder, commit(seconds), now_us=second * 1_000_000 + int(at * 1e6))
        came.append(int(batch.transactions.commit_us[0]) - second * 1_000_000)
    assert came == [250_000, 750_000, 750_001, 750_002, 7_500_000, 7_600_000]


def test_batches_are_bounded_and_give_the_same_rows() -> None:
    data = b"".join(packets(query("BEGIN"), MAP, insert((k, "v" * (k % 20))), XID) for k in range(2000))
    one = feed(mysql(), data)
    many = feed(mysql(rows=100), data, (5000,))
    assert told_by(one) == told_by(many)
    sizes = [sum(len(part) for part in batch.changes) for batch in many]
    assert max(sizes) < 400 and len(many) > 5
    assert all(np.array_equal(np.concatenate([part.txn for part in batch.changes]), np.arange(len(batch.transactions.order))) for batch in many)


@pytest.mark.parametrize("form", ["plain", "payload"])
def test_a_large_transaction_comes_in_parts_and_reading_resumes_behind_each(form: str) -> None:
    """Rows events stand for what a server writes: each is cut as a whole. Tables nobody watches have rows events too."""
    marks = table_map(8, bytes([15, 15, 8]), (80).to_bytes(2, "little") * 2, table="syncline_checkpoint")
    mark = rows(e.WRITE_ROWS, 8, 3, b"\0\5rules\3erp" + struct.pack("<q", 12), b"\7")
    other = table_map(6, bytes([3]), b"", table="other")
    more = rows(e.WRITE_ROWS, 6, 1, b"\0" + bytes(4), b"\1")
    events = [
        query("BEGIN"), marks, mark, other, more, MAP, insert((1, "a" * 20), (2, "b" * 20)), insert((3, "c" * 20), (4, "d" * 20)), more,
        insert((5, "e"), (6, "f"), (7, "g")), insert((8, "h"), (9, "i")), event(e.XID, bytes(8), place=1000),
    ]  # fmt: skip
    before = packets(query("BEGIN", place=300), MAP, insert((0, "first")), event(e.XID, bytes(8), place=400))
    large = packets(*events) if form == "plain" else packets(event(e.ANONYMOUS_GTID_LOG, bytes(42)), payload(*events))
    after = packets(query("BEGIN", place=2100), MAP, insert((10, "last")), event(e.XID, bytes(8), place=2200))
    checkpoint = tuple(
        Described(name=n, base=b, declared=b, charset="utf8mb4" if b == "varchar" else "", length=20 if b == "varchar" else None)
        for n, b in (("rule_set", "varchar"), ("source", "varchar"), ("batch", "bigint"))
    )

    def decoded(data: bytes, at: Position = START, sizes: Sequence[int] = (1 << 30,), part_rows: int = 4) -> list[Batch]:
        decoder = decoder_of({"t": INT_AND_TEXT, "syncline_checkpoint": checkpoint}, mariadb=False, checksum=False, start=at, part_rows=part_rows)
        return feed(decoder, data, sizes)

    for sizes in ((1 << 30,), (7, 31)):
        batches = decoded(before + large + after, sizes=sizes)
        ids = [[row[0] for _, _, row in told_by([batch])] for batch in batches]
        assert ids == [["0"], ["1", "2"], ["3", "4"], ["5", "6", "7"], ["8", "9"], ["10"]]
        assert [batch.open for batch in batches] == [False, True, True, True, False, False]
        assert [batch.transactions.batch.tolist() for batch in batches] == [[0], [12], [12], [12], [12], [0]]
        assert len({int(batch.transactions.order[0]) for batch in batches[1:5]}) == 1
        assert [batch.high.order & (1 << 40) - 1 for batch in batches[:4]] == [400] * 4
    for n in (1, 2, 3):
        # Whatever the bound is by then.
        for part_rows in (4, 1000):
            again = decoded(large + after, at=batches[n].high, part_rows=part_rows)
            assert [row[0] for _, _, row in told_by(again)] == [i for part in ids[n + 1 :] for i in part]
            assert again[0].transactions.batch.tolist() == [12]
    assert len(told_by(decoded(large + after, at=batches[0].high))) == 10


def test_what_is_too_large_for_memory_is_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "_IN_MEMORY", 8 << 20)
    described = (INT_AND_TEXT[0], Described(name="n", base="longtext", declared="longtext", charset="utf8mb4"))
    map_of_long = table_map(5, bytes([3, 252]), b"\4")
    texts = [chr(97 + k) * 1_000_000 for k in range(24)]
    data = packets(query("BEGIN"), map_of_long, *(insert_long(k, text) for k, text in enumerate(texts)), XID)
    decoder = decoder_of({"t": described}, mariadb=False, checksum=False, part_bytes=3 << 20, spill=tmp_path / "spill")
    batches = feed(decoder, data, (1 << 20,))
    assert [row for _, _, row in told_by(batches)] == [(str(k), text) for k, text in enumerate(texts)]
    assert len(batches) == 8 and (tmp_path / "spill").is_dir() and not list((tmp_path / "spill").iterdir())
    assert not decoder._inbox.content.on_disk
