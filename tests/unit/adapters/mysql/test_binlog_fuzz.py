"""Damaged logs: whatever the bytes, the decoder gives rows or an error of ours, and its kernels read nothing outside of their buffers.

The kernels run as plain Python in a process of their own, where NumPy checks every index; compiled they would read whatever lies there.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from adapters.mysql.binlog import rows
from adapters.mysql.binlog.json_document import document
from adapters.mysql.binlog.statement import effect
from adapters.mysql.binlog.stream import END, START
from engine.errors import SynclineError
from tests.unit.adapters.mysql.test_binlog import feed, golden, golden_decoder, mysql

split = rows.split
ROOT = Path(__file__).parents[4]


def damage(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, or a piece cut out, doubled or moved."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(out) or 1)
        if not out:
            break
        match rng.randrange(4):
            case 0 | 1:
                out[at] = rng.choice((0, 1, 127, 128, 251, 252, 253, 254, 255, rng.randrange(256)))
            case 2:
                del out[at : at + rng.randrange(1, 40)]
            case _:
                out[at:at] = out[rng.randrange(len(out)) :][: rng.randrange(1, 40)]
    return bytes(out)


def damage_bodies(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed inside of events only, so that the damage is found late."""
    out = bytearray(data)
    starts, at = [], 0
    while at + 5 < len(out):
        size = int.from_bytes(out[at : at + 3], "little")
        starts.append((at + 24, at + 4 + size))
        at += 4 + size
    for _ in range(rng.randrange(1, 6)):
        first, last = rng.choice(starts)
        if first < last:
            out[rng.randrange(first, last)] = rng.choice((0, 1, 127, 128, 251, 252, 253, 254, 255, rng.randrange(256)))
    return bytes(out)


def survive(seed: int, rounds: int) -> int:
    """Returns how many damaged logs were refused."""
    rng = random.Random(seed)
    data, told = golden()
    refused = 0
    rows.split = checked_split  # type: ignore[assignment]
    for turn in range(rounds):
        broken = (damage if turn % 2 else damage_bodies)(data, rng)
        try:
            feed(golden_decoder(told), broken, (rng.choice((1 << 20, 777)),))
        except SynclineError as failure:
            refused += 1
            if isinstance(failure.__cause__, IndexError) and in_kernel(failure.__cause__):
                raise
    rows.split = split
    return refused


def checked_split(b: Any, spans: Any, columns: Any, keys: Any, starts: Any, lengths: Any, op: Any, span: Any) -> tuple[int, int]:
    """Every value lies within the event it came from."""
    n, code = split(b, spans, columns, keys, starts, lengths, op, span)
    if code == rows.GOOD:
        first, last = spans[span[:n], START], spans[span[:n], END]
        there = lengths[:, :n] > 0
        assert ((starts[:, :n] >= first) | ~there).all(), "a value before its event"
        assert ((starts[:, :n] + lengths[:, :n] <= last) | ~there).all(), "a value past its event"
    return n, code


def in_kernel(error: BaseException) -> bool:
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).name in ("stream.py", "rows.py", "values.py")


def test_damaged_logs_give_errors_of_ours() -> None:
    assert survive(1, 600) > 50


@pytest.mark.timeout(240)
def test_damaged_logs_never_read_outside() -> None:
    program = "from tests.unit.adapters.mysql.test_binlog_fuzz import survive; print(survive(2, 60))"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert int(ran.stdout) > 5


def test_noise_is_refused_or_waits() -> None:
    rng = random.Random(3)
    for size in (1, 4, 5, 30, 500):
        for _ in range(40):
            with contextlib.suppress(SynclineError):
                feed(mysql(), rng.randbytes(size))


def test_damaged_json_is_a_value_error() -> None:
    rng = random.Random(4)
    good = bytes.fromhex("00010013000b0001000cd7020000616b6579") + b"\x05value"
    for _ in range(3000):
        data = damage(good, rng)
        with contextlib.suppress(ValueError, RecursionError):
            document(data)


def test_any_statement_has_an_effect() -> None:
    rng = random.Random(5)
    words = ["`a`", '"b"', "'c''d'", ".", "/*!50000", "*/", "/* x */", "-- z\n", "#", "TABLE", "ALTER", "TRUNCATE", "DROP"]
    words += ["t", "db", "\\", "'", "`", "é", "\0"]
    for _ in range(3000):
        effect(" ".join(rng.choices(words, k=rng.randrange(12))), "db", [("db", "t")])
