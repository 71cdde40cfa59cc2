"""The ledger: what is put in comes out, also by another process and after a restart."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Terminal
from engine.ledger import frame, keys
from engine.ledger.intent import Intent, Progress
from engine.ledger.ledger import Ledger, lock, locked
from engine.model.state import NEVER, State, Writes

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(["", "\x1f", "\x1e", "\x1eu\x1f", "k" * 300, "ž" * 250])
KEY = st.binary(min_size=1, max_size=20)
RECORD = st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.text(max_size=5) | st.none(), max_size=3)


# --- keys


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6), st.sampled_from([1, 2]))
def test_keys_decode_to_what_they_were_made_of_and_differ_where_that_differs(rows: list[tuple[str, str]], columns: int) -> None:
    kept: dict[bytes, bytes] = {}
    values = [pa.array([row[c] for row in rows], pa.string()) for c in range(columns)]
    made = [key or b"" for key in keys.encode(values, kept.__setitem__)]
    assert all(0 < len(key) + len("x" * 100) + 1 <= 511 for key in made), "room for the name of a rule"
    assert len(set(made)) == len({row[:columns] for row in rows})
    back = keys.decode(made, ["a", "b"][:columns], kept.__getitem__)
    assert [tuple(row.values()) for row in back.to_pylist()] == [row[:columns] for row in rows]


def test_a_key_with_a_null_is_none_and_is_shown_by_the_name_the_log_has() -> None:
    assert keys.encode([pa.array(["a", None]), pa.array(["b", "c"])])[1] is None
    named = keys.encode([pa.array(["7", "", "x" * 900])])
    assert [keys.display(keys.NO_KEY + (key or b""), ["a"])["row"] for key in named][:2] == ["7", ""]
    assert keys.display(keys.NO_KEY + (named[2] or b""), ["a"])["row"].isascii()


# --- frames and intents


def writes_of(count: int, columns: int, seed: int) -> Writes:
    rng = np.random.default_rng(seed)
    return Writes(
        keys=[b"key %d" % i for i in range(count)],
        present=rng.random(count) < 0.5,
        insert=rng.random(count) < 0.5,
        life=rng.integers(-1, 1 << 60, count),
        mask=rng.random((count, columns)) < 0.5,
        hashes=rng.integers(0, 1 << 63, (count, columns), dtype=np.uint64),
        stamps=rng.integers(-1, 1 << 60, (count, columns)),
    )


def same_writes(one: Writes, other: Writes) -> bool:
    return one.keys == other.keys and all(
        np.array_equal(getattr(one, f), getattr(other, f)) and getattr(one, f).dtype == getattr(other, f).dtype
        for f in ("present", "insert", "life", "mask", "hashes", "stamps")
    )


@given(st.integers(0, 4), st.integers(0, 3), st.integers(0, 99))
def test_frames_keep_arrays_bytes_and_writes(count: int, columns: int, seed: int) -> None:
    writes = writes_of(count, columns, seed)
    fields: dict[str, Any] = {"w": writes, "a": writes.hashes, "b": [b"", b"\x00", b"abc"][:count], "j": {"x": [1, None, "ž"]}, "w2": writes}
    back = frame.unpack(memoryview(frame.pack(fields)))
    assert same_writes(back["w"], writes) and same_writes(back["w2"], writes)
    assert np.array_equal(back["a"], writes.hashes) and back["a"].shape == writes.hashes.shape
    assert back["b"] == fields["b"] and back["j"] == fields["j"]


@settings(max_examples=60)
@given(st.data())
def test_an_intent_survives_the_store(data: st.DataObject) -> None:
    row_keys = st.dictionaries(st.tuples(st.text(max_size=4), KEY), st.integers(0, 20) | st.none(), max_size=3)
    records = st.dictionaries(st.tuples(st.text(max_size=4), KEY), RECORD | st.none(), max_size=3)
    intent = Intent(
        batches={("crm", "erp"): data.draw(st.integers(1, 1 << 40))},
        progress={"crm": Progress("0/1", data.draw(st.integers(0, 1 << 60)), data.draw(st.integers(-1, 9)))},
        rows={"crm.s.t 1": (data.draw(st.lists(KEY, max_size=3)), [])},
        echoed=[("erp", "crm", 7)],
        asks=data.draw(row_keys),
        quarantined=data.draw(records),
        held=data.draw(records),
        aliases={"t": data.draw(st.dictionaries(KEY, KEY | st.none(), max_size=3))},
        links={"r": data.draw(st.dictionaries(KEY, KEY, max_size=3))},
        long_keys=data.draw(st.dictionaries(KEY, KEY, max_size=2)),
        meta={"asked r": ["mark", ["a"]]},
        conflicts=[{"rule": "r"}],
        counters={"r": {"applied": 3}},
        last_applied_us={"r": 5},
    )
    intent.rows["crm.s.t 1"] = (intent.rows["crm.s.t 1"][0], [b"state"] * len(intent.rows["crm.s.t 1"][0]))
    writes = writes_of(data.draw(st.integers(0, 3)), 2, 1)
    intent.writes["crm", "erp", 'a "table"'] = writes
    back = Intent.unpack(intent.pack())
    assert same_writes(back.writes.pop(("crm", "erp", 'a "table"')), intent.writes.pop(("crm", "erp", 'a "table"')))
    assert back == intent


def test_a_fork_of_an_intent_leaves_the_first_one_alone() -> None:
    intent = Intent(rows={"t": ([b"a"], [b"1"])}, counters={"r": {"applied": 1}})
    fork = intent.forked()
    fork.count("r", applied=1)
    fork.rows["t"][0].append(b"b")
    fork.asks["r", b"k"] = 1
    fork.batches["crm", "erp"] = 2
    assert intent == Intent(rows={"t": ([b"a"], [b"1"])}, counters={"r": {"applied": 1}})


# --- the store


def state_of(rows: int, columns: int) -> State:
    state = State.unknown(rows, columns)
    state.present[:], state.life[:] = True, 32
    state.hashes[:] = np.arange(2, 2 + rows * columns, dtype=np.uint64).reshape(rows, columns)
    state.stamps[:] = 16 * np.arange(1, 1 + rows * columns).reshape(rows, columns)
    return state


def test_what_was_taken_over_is_there_after_a_restart_and_for_readers(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.track("t", ("a", "b"))
    state, writes = state_of(2, 2), writes_of(2, 2, 3)
    ledger.take_over(
        Intent(
            batches={("crm", "erp"): 4}, progress={"crm": Progress("p", 9, 12)}, rows={"t": ([b"x", b"y"], state.pack())}, writes={("crm", "erp", "t"): writes},
            asks={("r", b"\x00k"): 3}, quarantined={("r", b"k"): {"reason": "check"}}, held={("r", b"h"): {"why": "policy"}},
            aliases={"t": {b"1": b"x"}}, links={"r": {b"s": b"t"}}, long_keys={b"d": b"long"}, counters={"r": {"applied": 2}}, meta={"note": [1]},
        )
    )  # fmt: skip
    ledger.take_over(Intent(counters={"r": {"applied": 1, "equal": 1}}, aliases={"t": {b"1": None}}))
    seed = ledger.seed
    program = "import sys, pathlib; from engine.ledger.ledger import Ledger; print(Ledger(pathlib.Path(sys.argv[1]), readonly=True).meta('counters r'))"
    shown = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "{'applied': 3, 'equal': 1}"
    ledger.close()
    again = Ledger(tmp_path)
    assert again.seed == seed and again.batch("crm", "erp") == 4 and again.progress("crm") == Progress("p", 9, 12)
    found = again.seen("t", [b"y", b"nobody", b"x"])
    assert found.present.tolist() == [True, False, True] and found.life.tolist() == [32, NEVER, 32]
    assert found.hashes[0].tolist() == state.hashes[1].tolist() and found.stamps[2].tolist() == state.stamps[0].tolist()
    assert again.asks == {("r", b"\x00k"): 3} and again.quarantine == {("r", b"k"): {"reason": "check"}} and list(again.held) == [("r", b"h")]
    assert again.alias("t", [b"1"]) == [None] and again.link("r", [b"s"]) == [b"t"] and again.long_key(b"d") == b"long"
    assert again.pending.ours("t", "crm", 4, [b"key 0"]) is not None
    again.take_over(Intent(echoed=[("crm", "erp", 4)], asks={("r", b"\x00k"): None}))
    again.close()
    last = Ledger(tmp_path)
    assert not last.pending and not last.asks
    last.close()


def test_an_announced_intent_is_found_after_a_kill_and_goes_when_it_is_taken_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.announce(Intent(batches={("crm", "erp"): 1}, asks={("r", b"k"): 0}))
    ledger.close()
    again = Ledger(tmp_path)
    (intent,) = again.intents()
    again.take_over(intent)
    assert again.intents() == [] and again.asks == {("r", b"k"): 0}
    again.close()


def test_tracked_columns_may_change_and_cells_follow_their_name(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.track("t", ("a", "b", "c"))
    state = state_of(2, 3)
    ledger.store("t", [b"x", b"y"], state)
    ledger.put_meta("baseline t", "done")
    ledger.take_over(Intent(batches={("crm", "erp"): 1}, writes={("crm", "erp", "t"): writes_of(2, 3, 1)}))
    ledger.follow({"t": ("c", "new", "a")}, ())
    assert ledger.meta("baseline t") is None, "the new column has to be read"
    ledger.close()
    again = Ledger(tmp_path)
    found = again.seen("t", [b"x", b"y"])
    assert found.hashes[:, [0, 2]].tolist() == state.hashes[:, [2, 0]].tolist()
    assert found.stamps[:, 1].tolist() == [NEVER, NEVER]
    written = again.pending.ours("t", "crm", 1, [b"key 1"])
    assert written is not None
    assert written[0].mask[:, [0, 2]].tolist() == writes_of(2, 3, 1).mask[:, [2, 0]].tolist() and not written[0].mask[:, 1].any()
    assert again.actual("t", [b"key 0"]).hashes.shape == (1, 3)
    again.close()


def test_what_is_no_longer_followed_is_forgotten(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.follow({"t": ("a",), "u": ("a",)}, ("r", "s"))
    for table in ("t", "u"):
        ledger.store(table, [b"x"], state_of(1, 1))
        ledger.put_meta(f"baseline {table}", "done")
    for rule in ("r", "s"):
        ledger.put_meta(f"asked {rule}", ["mark", "done"])
    ledger.follow({"t": ("a",)}, ("r",))
    ledger.close()
    again = Ledger(tmp_path)
    again.follow({"t": ("a",), "u": ("a",)}, ("r", "s"))
    assert again.seen("t", [b"x"]).present[0] and not again.seen("u", [b"x"]).present[0]
    assert (again.meta("baseline t"), again.meta("baseline u")) == ("done", None)
    assert (again.meta("asked r"), again.meta("asked s")) == (["mark", "done"], None)
    again.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    assert not locked(tmp_path)
    held = lock(tmp_path)
    assert locked(tmp_path)
    with pytest.raises(Terminal, match="another syncline"):
        lock(tmp_path)
    os.close(held)
    assert not locked(tmp_path)
    os.close(lock(tmp_path))


def test_a_database_opened_while_another_thread_writes_waits_for_it(tmp_path: Path) -> None:
    """In a process of its own: LMDB waits there with the interpreter's lock held, so without ours nothing would go on any more."""
    program = """
import sys, threading
from pathlib import Path
from engine.ledger.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
writing, opening = threading.Event(), threading.Event()
def write():
    with ledger._writing("meta") as txn:
        writing.set()
        opening.wait()
        threading.Event().wait(0.3)  # the other thread is let in as far as it gets
        txn.put(b"done", b"1")
thread = threading.Thread(target=write)
thread.start()
writing.wait()
opening.set()
ledger._db("rows another")
thread.join()
print(ledger.meta("done"))
"""
    said = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.strip() == "1"
