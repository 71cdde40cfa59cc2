"""The pgoutput decoder on messages built byte by byte after the protocol's description; no server."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.postgres import pgoutput_scan as scanner
from adapters.postgres import pgoutput_stream
from adapters.postgres.pgoutput import Decoder, lsn_order, part_of, position
from adapters.postgres.pgoutput_relation import Shape
from adapters.spill import SpillFile
from engine.errors import Terminal
from engine.model.batch import DELETE, INSERT, UPDATE, Batch, Position
from engine.model.schema import Column, Table, TableName
from engine.model.types import DataType, Kind
from engine.ports import Watched

MISSING = "<missing>"
EPOCH = 946_684_800_000_000
TEXT = DataType(kind=Kind.TEXT, name="text")
T, U, MARK = 100, 200, 300

Cell = str | bytes | None
GONE = b"u"
"""In a tuple: an unchanged large value."""


def watched(name: str = "t", columns: Sequence[str] = ("id", "name", "pad"), identity: Sequence[str] = ("id",)) -> Watched:
    padded = DataType(kind=Kind.TEXT, name="character(5)", padded=True)
    table = Table(
        name=TableName("erp", "public", name),
        columns=tuple(Column(name=c, type=padded if c == "pad" else TEXT) for c in columns),
        primary_key=("id",), log_key=("id",),
    )  # fmt: skip
    return Watched(table=table, columns=tuple(columns), identity=tuple(identity))


def w(kind: str, body: bytes, xid: int | None = None) -> bytes:
    return struct.pack("!cQQq", b"w", 1, 1, 1) + kind.encode() + (b"" if xid is None else struct.pack("!I", xid)) + body


def keepalive(end: int, *, reply: bool = False) -> bytes:
    return struct.pack("!cQqB", b"k", end, 5, reply)


def begin(xid: int = 7, at: int = 1000) -> bytes:
    return w("B", struct.pack("!QqI", at, 0, xid))


def commit(end: int, at: int = 1000) -> bytes:
    return w("C", struct.pack("!BQQq", 0, at, end, 0))


def relation(oid: int = T, name: str = "t", columns: Iterable[str] = ("id", "name", "pad"), key: Iterable[str] = ("id",),
             types: dict[str, tuple[int, int]] | None = None, xid: int | None = None) -> bytes:  # fmt: skip
    columns, key = list(columns), set(key)
    body = struct.pack("!I", oid) + b"public\0" + name.encode() + b"\0d" + struct.pack("!H", len(columns))
    for column in columns:
        type_oid, modifier = (types or {}).get(column, (25, -1))
        body += bytes([column in key]) + column.encode() + b"\0" + struct.pack("!Ii", type_oid, modifier)
    return w("R", body, xid)


def cells(*values: Cell) -> bytes:
    out = struct.pack("!H", len(values))
    for value in values:
        if value is None:
            out += b"n"
        elif value is GONE:
            out += b"u"
        else:
            data = value if isinstance(value, bytes) else value.encode()
            out += b"t" + struct.pack("!I", len(data)) + data
    return out


def insert(*values: Cell, oid: int = T, xid: int | None = None) -> bytes:
    return w("I", struct.pack("!I", oid) + b"N" + cells(*values), xid)


def update(*values: Cell, old: tuple[str, tuple[Cell, ...]] | None = None, oid: int = T) -> bytes:
    before = b"" if old is None else old[0].encode() + cells(*old[1])
    return w("U", struct.pack("!I", oid) + before + b"N" + cells(*values))


def delete(kind: str, *values: Cell, oid: int = T) -> bytes:
    return w("D", struct.pack("!I", oid) + kind.encode() + cells(*values))


def feed(decoder: Decoder, messages: Sequence[bytes], first: int = 0) -> int:
    raw = np.frombuffer(b"".join(messages), dtype=np.uint8).copy()
    ends = np.cumsum([len(m) for m in messages], dtype=np.int64) if messages else np.zeros(0, dtype=np.int64)
    starts = ends - np.array([len(m) for m in messages], dtype=np.int64)
    return decoder.feed(raw, starts, ends, first, len(messages))


def decode(messages: Sequence[bytes], tables: Sequence[Watched] | None = None, **options: object) -> Batch:
    decoder = Decoder("erp", tables or [watched()], **options)  # type: ignore[arg-type]
    assert feed(decoder, messages) == len(messages)
    return decoder.take()


def rows(batch: Batch) -> list[tuple[int, str, int, dict[str, str | None]]]:
    """(seq, table, op, row) of all changes in order."""
    out = []
    for changes in batch.changes:
        for n, row in enumerate(changes.values.to_pylist()):
            for c, name in enumerate(changes.values.column_names):
                if changes.missing[n, c]:
                    assert row[name] is None
                    row[name] = MISSING
            out.append((int(changes.seq[n]), changes.table.name.table, int(changes.op[n]), row))
    return sorted(out, key=lambda item: item[0])


def test_rows_arrive_with_their_nulls_and_padded_text_without_blanks() -> None:
    batch = decode([begin(), relation(), insert("1", "ä😀", "ab   "), insert("2", None, ""), commit(2000)])
    assert [row for _, _, _, row in rows(batch)] == [{"id": "1", "name": "ä😀", "pad": "ab"}, {"id": "2", "name": None, "pad": ""}]
    assert batch.transactions.order.tolist() == [2000] and batch.transactions.commit_us.tolist() == [EPOCH]
    assert batch.high.order == 2000


def test_columns_are_found_by_name_and_others_are_passed_over() -> None:
    batch = decode([begin(), relation(columns=("x", "pad", "id", "name")), insert(b"\xff", "p", "1", "n"), commit(2)])
    assert rows(batch)[0][3] == {"id": "1", "name": "n", "pad": "p"}


def test_unchanged_large_values_come_from_a_full_old_row_and_are_missing_else() -> None:
    batch = decode([
        begin(), relation(key=("id", "name", "pad")), update("1", GONE, "p"),
        update("1", GONE, "p", old=("O", ("1", "long", None))), commit(2),
    ])  # fmt: skip
    assert [(op, row["name"]) for _, _, op, row in rows(batch)] == [(UPDATE, MISSING), (UPDATE, "long")]


def test_an_old_key_counts_only_in_its_key_columns() -> None:
    batch = decode([begin(), relation(), update("2", "n", GONE, old=("K", ("1", None, None))), delete("K", "2", None, None), commit(2)])
    assert [(seq, op, row) for seq, _, op, row in rows(batch)] == [
        (0, DELETE, {"id": "1", "name": MISSING, "pad": MISSING}),
        (1, INSERT, {"id": "2", "name": "n", "pad": MISSING}),
        (2, DELETE, {"id": "2", "name": MISSING, "pad": MISSING}),
    ]


def test_an_old_key_that_did_not_change_is_an_update() -> None:
    batch = decode([begin(), relation(), update(GONE, "n", "p", old=("K", ("1", None, None))), commit(2)])
    assert [(op, row) for _, _, op, row in rows(batch)] == [(UPDATE, {"id": "1", "name": "n", "pad": "p"})]


def test_with_full_old_rows_only_identity_and_primary_key_make_a_new_row() -> None:
    table = watched(identity=("name",))
    messages = [
        begin(), relation(key=("id", "name", "pad")), update("1", "a", "q", old=("O", ("1", "a", "p"))),
        update("1", "b", "q", old=("O", ("1", "a", "q"))), update("2", "b", "q", old=("O", ("1", "b", "q"))), commit(2),
    ]  # fmt: skip
    assert [op for _, _, op, _ in rows(decode(messages, [table]))] == [UPDATE, DELETE, INSERT, DELETE, INSERT]


def test_changes_of_several_tables_share_one_numbering_and_unwatched_ones_are_skipped() -> None:
    messages = [
        begin(7), relation(), relation(U, "u"), relation(999, "other"), insert("1", "", "", oid=U), insert("2", "", ""),
        insert("9", "", "", oid=999), insert("3", "", "", oid=U), w("T", struct.pack("!IB2I", 2, 0, U, 999)), commit(10),
        begin(8), insert("9", "", "", oid=999), commit(20),
        begin(9), insert("4", "", ""), commit(30),
    ]  # fmt: skip
    batch = decode(messages, [watched(), watched("u")])
    assert [(seq, table, row["id"]) for seq, table, _, row in rows(batch)] == [(0, "u", "1"), (1, "t", "2"), (2, "u", "3"), (4, "t", "4")]
    assert [(t.table.table, t.seq, t.txn) for t in batch.truncates] == [("u", 3, 0)]
    assert batch.transactions.order.tolist() == [10, 30]
    assert batch.transactions.fence.tolist() == [7, 9]


def test_transactions_with_our_marker_are_ours() -> None:
    marker = relation(MARK, "syncline_checkpoint", ("batch", "rule_set", "position", "source"), ("rule_set", "source"))
    messages = [
        begin(), relation(), marker, insert("5", "mine", "x", "crm", oid=MARK), insert("1", "", ""), commit(10),
        begin(), update("6", "theirs", "x", "crm", oid=MARK), insert("2", "", ""), commit(20),
        begin(), update("7", "mine", "x", "shop", oid=MARK), commit(30),
        begin(), delete("K", None, "mine", None, "crm", oid=MARK), commit(40),
    ]  # fmt: skip
    batch = decode(messages, rule_set="mine", marker=("public", "syncline_checkpoint"))
    assert batch.transactions.origins == ("crm", "shop")
    assert batch.transactions.origin.tolist() == [0, -1, 1, -1]
    assert batch.transactions.batch.tolist() == [5, 0, 7, 0]
    assert [row["id"] for _, _, _, row in rows(batch)] == ["1", "2"]


def test_xids_are_widened_by_the_epoch_in_which_they_lie() -> None:
    recent = (5 << 32) + 100
    messages = [begin(4294967290), relation(), insert("1", "", ""), commit(10), begin(99), insert("2", "", ""), commit(20)]
    assert decode(messages, xid=recent).transactions.fence.tolist() == [(5 << 32) - 6, (5 << 32) + 99]


def test_a_keepalive_moves_the_position_outside_of_transactions_only() -> None:
    decoder = Decoder("erp", [watched()])
    feed(decoder, [keepalive(500, reply=True), begin(), keepalive(900)])
    assert decoder.order == 500 and decoder.reply_wanted() and not decoder.reply_wanted()
    feed(decoder, [commit(800), keepalive(700)])
    assert decoder.order == 800 and decoder.transactions == 0
    feed(decoder, [keepalive(1000)])
    assert decoder.take().high == position(1000, "")


def test_positions_are_written_as_the_server_writes_them() -> None:
    assert position((5 << 32) + 0x16B3748, "73").text == "5/16B3748@73"
    assert lsn_order("5/16B3748") == (5 << 32) + 0x16B3748


def test_the_decoder_stops_at_the_commit_that_fills_the_batch() -> None:
    decoder = Decoder("erp", [watched()], max_rows=2)
    messages = [begin(), relation(), insert("1", "", ""), insert("2", "", ""), insert("3", "", ""), commit(10), begin(), insert("4", "", "")]
    assert feed(decoder, messages) == 6
    assert decoder.full
    assert len(rows(decoder.take())) == 3
    feed(decoder, messages, 6)
    assert decoder.inside and not decoder.full
    decoder.settle()
    feed(decoder, [commit(20)])
    assert [row["id"] for _, _, _, row in rows(decoder.take())] == ["4"]


def test_more_changes_and_transactions_than_first_provided_for() -> None:
    table = watched(columns=("id", *(f"c{n}" for n in range(40))))
    messages = [begin(), relation(columns=table.columns)]
    messages += [insert(str(n), *("v" * 40)) for n in range(6000)]
    messages += [commit(10)] + [m for n in range(2000) for m in (begin(), insert(str(n), *("v" * 40)), commit(20 + n))]
    batch = decode(messages, [table], max_rows=100_000)
    assert batch.changes[0].values.column("id").to_pylist() == [str(n) for n in (*range(6000), *range(2000))]
    assert len(batch.transactions.order) == 2001


def streamed(xid: int, *messages: bytes, first: bool = True) -> list[bytes]:
    return [w("S", struct.pack("!IB", xid, first)), *messages, w("E", b"")]


def stream_commit(xid: int, end: int) -> bytes:
    return w("c", struct.pack("!IBQQq", xid, 0, end, end, 0))


def stream_abort(xid: int, part: int) -> bytes:
    return w("A", struct.pack("!II", xid, part))


def test_streamed_transactions_are_kept_until_their_commit_and_lose_what_was_rolled_back() -> None:
    messages = [
        *streamed(50, relation(xid=50), insert("1", "", "", xid=50), keepalive(5, reply=True), insert("2", "", "", xid=51)),
        *streamed(60, relation(xid=60), insert("9", "", "", xid=60)),
        begin(70), relation(), insert("3", "", ""), commit(100),
        *streamed(50, insert("4", "", "", xid=52), insert("5", "", "", xid=50), first=False),
        stream_abort(50, 51), stream_abort(60, 60), stream_commit(50, 200),
        begin(71), insert("6", "", ""), commit(300),
    ]  # fmt: skip
    batch = decode(messages)
    assert [(seq, row["id"]) for seq, _, _, row in rows(batch)] == [(0, "3"), (1, "1"), (2, "4"), (3, "5"), (4, "6")]
    assert batch.transactions.order.tolist() == [100, 200, 300]
    assert batch.transactions.fence.tolist() == [70, 50, 71]


MARKER_ROW = ("rules", "crm", "12", "pos")


def marked(*, xid: int | None = None) -> list[bytes]:
    columns = ("rule_set", "source", "batch", "position")
    return [relation(MARK, "syncline_checkpoint", columns, xid=xid), insert(*MARKER_ROW, oid=MARK, xid=xid)]


def large(streaming: bool) -> list[bytes]:
    """A small transaction, one of ours with seven rows, and another small one."""
    ids = [str(n) for n in range(7)]
    if streaming:
        body = [relation(xid=9), *marked(xid=9), *(insert(i, "x", "", xid=9) for i in ids)]
        middle = [*streamed(9, *body[:6]), *streamed(9, *body[6:], first=False), w("c", struct.pack("!IBQQq", 9, 0, 190, 200, 0))]
    else:
        middle = [begin(9, at=190), relation(), *marked(), *(insert(i, "x", "") for i in ids), commit(200, at=190)]
    return [
        begin(8, at=90), relation(), insert("a", "x", ""), commit(100, at=90),
        *middle,
        begin(10, at=290), relation(), insert("z", "x", ""), commit(300, at=290),
    ]  # fmt: skip


def taken(messages: Sequence[bytes], at: Position | None = None) -> list[Batch]:
    """All batches, with transactions of more than three changes in parts."""
    marker = ("public", "syncline_checkpoint")
    resume = None if at is None else part_of(at)
    decoder = Decoder("erp", [watched()], rule_set="rules", marker=marker, system_id="s", part_rows=3, resume=resume)
    raw = np.frombuffer(b"".join(messages), dtype=np.uint8).copy()
    ends = np.cumsum([len(m) for m in messages], dtype=np.int64)
    starts, first, batches = ends - np.array([len(m) for m in messages], dtype=np.int64), 0, []
    while first < len(messages) or decoder.replaying:
        if decoder.replaying:
            decoder.go_on()
        first = decoder.feed(raw, starts, ends, first, len(messages))
        if decoder.full:
            batches.append(decoder.take())
    return [*batches, decoder.take()]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_large_transaction_comes_in_parts_and_reading_resumes_behind_each(streaming: bool) -> None:
    messages = large(streaming)
    batches = taken(messages)
    ids = [[row["id"] for *_, row in rows(batch)] for batch in batches]
    assert ids == [["a", "0", "1"], ["2", "3", "4"], ["5", "6", "z"]]
    assert [batch.open for batch in batches] == [True, True, False]
    # The parts have one place, between the commits before and after, and all of them are ours.
    assert [batch.transactions.order.tolist() for batch in batches] == [[100, 191], [191], [191, 300]]
    assert [batch.transactions.batch.tolist() for batch in batches] == [[0, 12], [12], [12, 0]]
    assert [batch.transactions.fence.tolist() for batch in batches] == [[8, 9], [9], [9, 10]]
    assert [batch.high.order for batch in batches] == [100, 100, 300]
    for n in (0, 1):
        again = taken(messages[4:], at=batches[n].high)
        assert [row["id"] for batch in again for *_, row in rows(batch)] == [i for part in ids[n + 1 :] for i in part]
        assert {int(batch.transactions.batch[0]) for batch in again[:-1]} <= {12}
        assert again[0].transactions.order[0] == 191
    # A position within another transaction leaves nothing out.
    other = Position(batches[0].high.text.replace("0/BE:", "0/BF:"), 100)
    assert len([row for batch in taken(messages[4:], at=other) for row in rows(batch)]) == 8


def test_streamed_messages_come_back_from_disk_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = large(streaming=True)
    expected = [rows(batch) for batch in taken(messages)]
    written: list[int] = []
    append = SpillFile.append
    monkeypatch.setattr(pgoutput_stream, "IN_MEMORY", 100)
    monkeypatch.setattr(SpillFile, "append", lambda self, data: written.append(len(data)) or append(self, data))
    assert [rows(batch) for batch in taken(messages)] == expected
    assert written


def test_columns_that_are_gone_or_of_another_type_stop_the_decoder_by_name() -> None:
    shapes = {("public", "t"): Shape(oid=T, columns={"id": (25, -1), "name": (1700, 655366), "pad": (1043, 14)})}
    fine = {"name": (1700, 655366), "pad": (1043, 24)}
    decode([begin(), relation(types=fine), commit(2)], shapes=shapes)
    for message, named in [
        (relation(columns=("id", "pad"), types=fine), '"name"'),
        (relation(types=fine | {"name": (1700, 655368)}), '"name"'),
        (relation(types=fine | {"pad": (25, -1)}), '"pad"'),
        (relation(name="v", types=fine), "renamed"),
    ]:
        with pytest.raises(Terminal) as caught:
            decode([begin(), message], shapes=shapes)
        assert named in str(caught.value)


@pytest.mark.parametrize("kind", list("bPKrp"))
def test_two_phase_messages_are_recognised_and_refused(kind: str) -> None:
    with pytest.raises(Terminal, match="two-phase"):
        decode([w(kind, b"\0" * 40)])


BAD = {
    "unknown kind": [w("?", b"")],
    "unknown envelope": [b"x" + bytes(40)],
    "empty": [b""],
    "change outside of a transaction": [relation(), insert("1", "", "")],
    "change of an unknown table": [begin(), insert("1", "", "", oid=5)],
    "truncate of an unknown table": [begin(), w("T", struct.pack("!IBI", 1, 0, 5))],
    "begin within a transaction": [begin(), begin()],
    "commit without begin": [commit(5)],
    "stream within a transaction": [begin(), w("S", struct.pack("!IB", 5, 1))],
    "stream stop without start": [w("E", b"")],
    "stream commit without start": [stream_commit(5, 5)],
    "change without xid in a stream": [*streamed(5, w("I", b"")), stream_commit(5, 5)],
    "commit in a stream": streamed(5, commit(5)),
    "too few columns": [begin(), relation(), insert("1", "")],
    "bytes after the row": [begin(), relation(), insert("1", "", "") + b"\0"],
    "binary value": [begin(), relation(), w("I", struct.pack("!IcH", T, b"N", 3) + (b"b" + struct.pack("!I", 0)) * 3)],
    "unknown kind of value": [begin(), relation(), w("I", struct.pack("!IcH", T, b"N", 3) + b"zzz")],
    "unknown tuple": [begin(), relation(), w("I", struct.pack("!Ic", T, b"Q") + cells("1", "", ""))],
    "delete without old row": [begin(), relation(), delete("N", "1", "", "")],
    "length beyond the message": [begin(), relation(), w("I", struct.pack("!IcHcI", T, b"N", 3, b"t", 0xFFFFFFFF))],
    "relation with bytes left": [relation() + b"\0"],
    "truncate with bytes left": [begin(), w("T", struct.pack("!IBI", 1, 0, 5) + b"\0")],
}


@pytest.mark.parametrize("name", list(BAD))
def test_malformed_messages_are_terminal(name: str) -> None:
    with pytest.raises(Terminal):
        decode(BAD[name])


ROLLED_BACK = insert("2", "", "", xid=51)
WHOLE = [
    begin(), relation(), relation(U, "u"), insert("1", "name", "pad  "), update("1", GONE, "p", old=("O", ("1", "long", None))),
    update("2", "n", "q", old=("K", ("1", None, None))), delete("K", "2", None, None), delete("O", "3", "x", None),
    w("T", struct.pack("!IB2I", 2, 0, T, U)), w("O", struct.pack("!Q", 5) + b"origin\0"), w("Y", struct.pack("!I", 5) + b"public\0mood\0"),
    w("M", struct.pack("!BQ", 1, 5) + b"prefix\0" + struct.pack("!I", 2) + b"ab"), commit(2000), keepalive(3000),
    *streamed(50, insert("1", "", "", xid=50), ROLLED_BACK), stream_abort(50, 51), stream_commit(50, 4000),
]  # fmt: skip


def test_every_shortened_message_is_terminal() -> None:
    free = {b"O", b"Y", b"M"}  # carry nothing for us
    for n, message in enumerate(WHOLE):
        for size in range(len(message)):
            cut = [*WHOLE[:n], message[:size], *WHOLE[n + 1 :]]
            if size > 25 and (message[25:26] in free or (message is ROLLED_BACK and size >= 30)):
                continue
            decoder = Decoder("erp", [watched(), watched("u")])
            with pytest.raises(Terminal):
                feed(decoder, cut)


mutations = st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4)


@given(mutations)
@settings(max_examples=300, deadline=None)
def test_damaged_messages_never_end_in_anything_but_terminal(changes: list[tuple[int, int, int]]) -> None:
    messages = [bytearray(m) for m in WHOLE]
    for message, at, value in changes:
        messages[message][at % len(messages[message])] = value
    decoder = Decoder("erp", [watched(), watched("u")])
    try:
        feed(decoder, [bytes(m) for m in messages])
    except Terminal:
        return
    if not decoder.inside:
        for taken in decoder.take().changes:
            taken.values.validate()


@given(st.lists(st.integers(0, len(WHOLE)), max_size=6), st.booleans())
@settings(max_examples=100, deadline=None)
def test_where_the_input_is_cut_makes_no_difference(cuts: list[int], settle: bool) -> None:
    expected = decode(WHOLE, [watched(), watched("u")])
    decoder = Decoder("erp", [watched(), watched("u")])
    for low, high in zip([0, *sorted(cuts)], [*sorted(cuts), len(WHOLE)], strict=True):
        raw = np.frombuffer(b"".join(WHOLE[:high]), dtype=np.uint8).copy()
        ends = np.cumsum([len(m) for m in WHOLE[:high]], dtype=np.int64)
        starts = ends - np.array([len(m) for m in WHOLE[:high]], dtype=np.int64)
        decoder.feed(raw, starts, ends, low, high)
        if settle:
            decoder.settle()
            raw[:] = 0
    found = decoder.take()
    assert rows(found) == rows(expected) and found.truncates == expected.truncates and found.high == expected.high
    assert found.transactions.order.tolist() == expected.transactions.order.tolist()


def test_text_that_is_no_utf8_is_refused_where_the_database_has_no_encoding() -> None:
    with pytest.raises(Terminal, match="UTF-8") as caught:
        decode([begin(), relation(), insert("1", b"secret\xff", ""), commit(2)], verify=True)
    assert "secret" not in str(caught.value)


def test_the_scanner_stays_inside_its_arrays() -> None:
    """The same damaged messages through the scanner as plain Python, where a place outside of an array is an IndexError."""
    code = (
        "import random, importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('golden', sys.argv[1]); golden = importlib.util.module_from_spec(spec)\n"
        "sys.modules['golden'] = golden; spec.loader.exec_module(golden)\n"
        "assert golden.scanner.nb.config.DISABLE_JIT\n"
        "golden.check_bounds(random.Random(7), 400)\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, __file__], check=True, env=environment, timeout=120)


class Guarded(np.ndarray):
    """An array in which a negative place, which Python would count from the end, is an error too."""

    def __getitem__(self, place: Any) -> Any:
        if not isinstance(place, slice) and np.isscalar(place) and int(cast("int", place)) < 0:
            raise IndexError(place)
        return super().__getitem__(place)


def check_bounds(random: Random, times: int) -> None:
    for _ in range(times):
        messages = [bytearray(m) for m in WHOLE]
        for _ in range(random.randint(1, 3)):
            message = random.choice(messages)
            if random.random() < 0.3:
                del message[random.randrange(len(message)) :]
            if message:
                message[random.randrange(len(message))] = random.choice([0, 1, 255, random.randrange(256)])
        decoder = Decoder("erp", [watched(), watched("u")])
        raw = np.frombuffer(b"".join(messages), dtype=np.uint8).copy().view(Guarded)
        ends = np.cumsum([len(m) for m in messages], dtype=np.int64)
        starts = ends - np.array([len(m) for m in messages], dtype=np.int64)
        try:
            decoder.feed(raw, starts, ends, 0, len(messages))
        except Terminal:
            continue


def test_frames_are_split_where_they_end_and_others_are_pointed_out() -> None:
    def frame(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body

    data = frame(b"d", b"one") + frame(b"d", b"") + frame(b"N", b"notice") + frame(b"d", b"three")
    raw = np.frombuffer(data, dtype=np.uint8)
    starts, ends = np.zeros(8, dtype=np.int64), np.zeros(8, dtype=np.int64)
    at, count, kind = scanner.split_frames(raw, 0, 10, starts, ends, 0)
    assert (at, count, kind) == (8, 1, 0)
    at, count, kind = scanner.split_frames(raw, at, len(data), starts, ends, count)
    assert (count, kind) == (2, ord("N")) and [bytes(raw[starts[n] : ends[n]]) for n in range(2)] == [b"one", b""]
    at, count, kind = scanner.split_frames(raw, at + 11, len(data), starts, ends, count)
    assert (at, count, kind) == (len(data), 3, 0)
    broken = np.frombuffer(b"d\0\0\0\3", dtype=np.uint8)
    assert scanner.split_frames(broken, 0, 5, starts, ends, 0)[2] == -1
