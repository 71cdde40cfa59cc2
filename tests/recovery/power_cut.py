"""What a power cut leaves of an LMDB file that is not synced with each commit: `python -m tests.recovery.power_cut` counts what becomes of it, as it is and
with the last synced state kept (docs/decisions/power-cut.md)."""
from __future__ import annotations

import os
import random
import struct
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import lmdb

PAGE = 4096
NUMBER = 144
"""Where in a meta page the number of its commit stands, 8 bytes, in LMDB's format 1; its own page number is at 0."""
RUNS, COMMITS = 60, 12
OUTCOMES = {0: "the synced state", 1: "another one that reads well", 2: "keys out of order", 3: "an error"}


def opened(folder: Path) -> Any:
    return lmdb.open(str(folder), map_size=1 << 30, sync=False, metasync=False)


def content(env: Any) -> list[tuple[bytes, bytes]]:
    with env.begin() as txn:
        return [(bytes(key), bytes(value)) for key, value in txn.cursor()]


def change(env: Any, rng: random.Random, count: int) -> None:
    with env.begin(write=True) as txn:
        for _ in range(count):
            key = b"%08d" % rng.randrange(5000)
            if rng.random() < 0.15:
                txn.delete(key)
            else:
                txn.put(key, rng.randbytes(rng.randrange(20, 200)))


def cut(folder: Path, seed: int, *, kept: bool) -> list[tuple[bytes, bytes]]:
    """Leaves in `folder` a file whose pages are each as of some moment since the sync; returns what was synced. kept: by a reader that stays and a copy of the
    meta page."""
    rng = random.Random(seed)
    env = opened(folder)
    for _ in range(50):
        change(env, rng, 100)
    reader = env.begin() if kept else None
    number = env.info()["last_txnid"]
    env.sync(True)
    synced = content(env)
    images = [(folder / "data.mdb").read_bytes()]
    place = (number & 1) * PAGE
    meta = images[0][place : place + PAGE]
    assert struct.unpack_from("<Q", meta, NUMBER)[0] == number
    for _ in range(COMMITS):
        change(env, rng, 60)
        images.append((folder / "data.mdb").read_bytes())
    if reader is not None:
        reader.abort()
    env.close()
    pages = [rng.choice([image[at : at + PAGE] for image in images if len(image) > at]) for at in range(0, max(map(len, images)), PAGE)]
    if kept:
        other = bytearray(meta)
        struct.pack_into("<Q", other, 0, 1 - (number & 1))
        struct.pack_into("<Q", other, NUMBER, number - 1)
        pages[number & 1], pages[1 - (number & 1)] = meta, bytes(other)
    (folder / "data.mdb").write_bytes(b"".join(pages))
    return synced


def outcome(seed: int, *, kept: bool) -> str:
    """In a process of its own: LMDB may end it."""
    with tempfile.TemporaryDirectory() as name:
        synced = cut(Path(name), seed, kept=kept)
        process = os.fork()
        if process == 0:
            code = 3
            try:
                env = opened(Path(name))
                found = content(env)
                for _ in range(50):
                    change(env, random.Random(seed), 50)
                code = 0 if found == synced else 1 if [key for key, _ in found] == sorted(key for key, _ in found) else 2
            finally:
                os._exit(code)
        return OUTCOMES.get(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), "an end of the process")


if __name__ == "__main__":
    for kept in (False, True):
        print("kept:" if kept else "as it is:", dict(Counter(outcome(seed, kept=kept) for seed in range(RUNS))))
