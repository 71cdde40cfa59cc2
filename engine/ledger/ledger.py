"""The ledger: what both sides agree on, kept without copies of the data.

An LMDB store in the state folder: crash-safe, and readable by other processes while the daemon runs. One writer. It changes in one place only,
`take_over`, besides the baseline's `store`. Commits go to the operating system at once (a killed process loses nothing) and to the disk with `sync`
(about once a second; the source may forget only after that).
"""
from __future__ import annotations

import itertools
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import numpy as np

from engine.errors import Terminal
from engine.ledger import frame
from engine.ledger.intent import Intent, Progress, RowKey
from engine.ledger.pending import Pending
from engine.ledger.unmap import KEYS, Unmap
from engine.model.state import State

MAP_SIZE = 1 << 40
FORMAT = 1
CONFLICTS_KEPT = 100_000
Item = TypeVar("Item")


class Ledger:
    """folder: the state folder; created when absent, unless `readonly`. Terminal when it cannot be opened."""

    def __init__(self, folder: Path, *, readonly: bool = False) -> None:
        if not readonly:
            folder.mkdir(parents=True, exist_ok=True)
        try:
            self._env = lmdb.open(
                str(folder / "ledger"), map_size=MAP_SIZE, max_dbs=512, sync=False, metasync=False, readonly=readonly, lock=True, max_readers=64
            )
        except lmdb.Error as error:
            raise Terminal(f"the ledger cannot be opened: {error}", where=str(folder), fix="check the folder and its permissions") from error
        self._readonly = readonly
        self._unmap = Unmap(folder / "ledger" / "data.mdb")
        self._dbs: dict[str, Any] = {}
        self._lock = threading.RLock()
        self.columns: dict[str, tuple[str, ...]] = {}
        """Tracked columns by table, in the order of the stored cells; see `track`."""
        self.pending = Pending()
        self.asks: dict[RowKey, int] = {}
        self.quarantine: dict[RowKey, dict[str, Any]] = {}
        self.held: dict[RowKey, dict[str, Any]] = {}
        self.moved: dict[RowKey, list[str]] = {}
        self.waiting: dict[tuple[str, bytes], set[RowKey]] = {}
        """Rows in quarantine for want of a link, by (crosswalk, key that is to be linked)."""
        self.wait_for: Callable[[str, Iterable[bytes]], None] = lambda _table, _keys: None
        """Called before anything of these rows is read: somebody may be about to change what is known of them."""
        self.seed = self._seed()
        self._load()

    # --- reading

    def meta(self, name: str) -> Any:
        """A named JSON value, None when absent."""
        raw = self._get("meta", name.encode())
        return None if raw is None else json.loads(raw)

    def progress(self, system: str) -> Progress | None:
        stored = self.meta(f"progress {system}")
        return None if stored is None else Progress(*stored)

    def batch(self, source: str, target: str) -> int:
        """Number of the last batch written from source to target."""
        return int(self.meta(f"batch {source} {target}") or 0)

    def seen(self, table: str, keys: Sequence[bytes]) -> State:
        """What the log of the table's system has shown of these rows."""
        self.wait_for(table, keys)
        return self.known(table, keys)

    def known(self, table: str, keys: Sequence[bytes]) -> State:
        """The same for who carries out a batch: without waiting for himself."""
        return State.unpack(self._get_many(f"rows {table}", keys), len(self.columns[table]))

    def actual(self, table: str, keys: Sequence[bytes]) -> State:
        """What stands in the table now, as far as we know: seen, with pending writes over it."""
        state = self.seen(table, keys)
        self.pending.overlay(table, keys, state)
        return state

    def alias(self, table: str, log_keys: Sequence[bytes]) -> list[bytes | None]:
        """Row keys of rows that the log names by another key."""
        self.wait_for(f"alias {table}", log_keys)
        return self._get_many(f"alias {table}", log_keys)

    def link(self, rule: str, source_keys: Sequence[bytes]) -> list[bytes | None]:
        """Target keys of source rows whose identity alone does not give them: what the rule found last, or what a crosswalk says."""
        self.wait_for(f"links {rule}", source_keys)
        return self._get_many(f"links {rule}", source_keys)

    def join_values(self, index: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value by which each row is joined, as a key of its own; None where it is null. Of a row that is gone, the last one.
        index: a name for table and columns."""
        self.wait_for(f"join {index}", keys)
        return [value or None for value in self._get_many(f"join {index}", keys)]

    def joined(self, index: str, values: Sequence[bytes]) -> list[list[bytes]]:
        """For each value the keys of the rows that are joined by it. What is in flight is not in it: land before where it matters."""
        with self._reading(f"joined {index}") as cursor:
            if cursor is None:
                return [[] for _ in values]
            return [[bytes(key) for key in cursor.iternext_dup()] if cursor.set_key(value) else [] for value in values]

    def long_key(self, digest: bytes) -> bytes:
        return self._get("long_keys", digest) or b""

    def keys(self, table: str) -> Iterator[bytes]:
        """All row keys of a table, tombstones included."""
        with self._env.begin(db=self._db(f"rows {table}")) as txn, txn.cursor() as cursor:
            yield from cursor.iternext(keys=True, values=False)

    def rows(self, table: str, count: int) -> Iterator[tuple[list[bytes], State]]:
        """All rows of a table, tombstones included, `count` at a time."""
        after = b""
        while keys := self.some_keys(table, after, count):
            after = keys[-1]
            yield keys, self.known(table, keys)

    def some_keys(self, table: str, after: bytes, count: int) -> list[bytes]:
        """The next row keys of a table in the order of the store, tombstones included; `after` b"" begins."""
        with self._reading(f"rows {table}") as cursor:
            if cursor is None or not (cursor.set_range(after) if after else cursor.first()):
                return []
            found = [bytes(key) for key in itertools.islice(cursor.iternext(keys=True, values=False), count + 1)]
        return [key for key in found if key != after][:count]

    def conflicts(self, limit: int = 1_000) -> list[dict[str, Any]]:
        """The newest decided conflicts, newest first."""
        found: list[dict[str, Any]] = []
        with self._reading("conflicts") as cursor:
            if cursor is not None and cursor.last():
                for raw in cursor.iterprev(keys=False, values=True):
                    found.append(json.loads(raw))
                    if len(found) >= limit:
                        break
        return found

    def intents(self) -> list[Intent]:
        """The intent that a crash left, if any."""
        raw = self._get("intent", b"intent")
        return [] if raw is None else [Intent.unpack(raw)]

    # --- writing

    def put_meta(self, name: str, value: Any) -> None:
        with self._writing("meta") as txn:
            txn.put(name.encode(), json.dumps(value).encode())

    def store(self, table: str, keys: Sequence[bytes], state: State) -> None:
        """Baseline rows."""
        with self._writing(f"rows {table}") as txn, txn.cursor() as cursor:
            cursor.putmulti(sorted(zip(keys, state.pack(), strict=True)))

    def store_aliases(self, table: str, log_keys: Sequence[bytes], keys: Sequence[bytes]) -> None:
        with self._writing(f"alias {table}") as txn, txn.cursor() as cursor:
            cursor.putmulti(sorted(zip(log_keys, keys, strict=True)))

    def store_joins(self, index: str, pairs: Mapping[bytes, bytes | None]) -> None:
        self._db(f"join {index}"), self._db(f"joined {index}")
        with self._writing() as txn:
            self._put_joins(txn, index, pairs)

    def remember_long_key(self, digest: bytes, key: bytes) -> None:
        with self._writing("long_keys") as txn:
            txn.put(digest, key)

    def announce(self, intent: Intent) -> None:
        """Step 1 of a checkpoint: the intent is safe from a crash of this process."""
        with self._writing("intent") as txn:
            txn.put(b"intent", intent.pack())

    def drop_intent(self) -> None:
        with self._writing("intent") as txn:
            txn.delete(b"intent")

    def take_over(self, intent: Intent) -> None:
        """Step 3 of a checkpoint: the intent becomes the ledger, in one transaction."""
        dbs = [f"rows {t}" for t in intent.rows] + [f"alias {t}" for t in intent.aliases] + [f"links {r}" for r in intent.links]
        dbs += [f"{kind} {index}" for index in intent.joins for kind in ("join", "joined")]
        for name in [*dbs, "meta", "intent", "pending", "asks", "quarantine", "held", "moved", "conflicts", "long_keys"]:
            self._db(name)
        with self._writing() as txn:
            for table, (keys, states) in intent.rows.items():
                with txn.cursor(self._db(f"rows {table}")) as cursor:
                    for some in _lots(sorted(zip(keys, states, strict=True))):
                        cursor.putmulti(some)
                        self._unmap.touched(len(some))
            pairings: list[tuple[str, Mapping[str, Mapping[bytes, bytes | None]]]] = [("alias", intent.aliases), ("links", intent.links)]
            for name, changes in pairings:
                for table, pairs in changes.items():
                    for key, value in pairs.items():
                        _put_or_delete(txn, self._db(f"{name} {table}"), key, value)
            for index, joins in intent.joins.items():
                self._put_joins(txn, index, joins)
            for key, value in intent.long_keys.items():
                txn.put(key, value, db=self._db("long_keys"))
            for number, writes in intent.writes.items():
                txn.put(_pending_key(number, intent), frame.pack({"writes": writes}), db=self._db("pending"))
            for source, target, batch in intent.echoed:
                for key in self.pending.names(source, target, batch):
                    txn.delete(key, db=self._db("pending"))
            for name, records in self._record_sets(intent):
                for (rule, key), record in records.items():
                    value = None if record is None else json.dumps(record).encode()
                    _put_or_delete(txn, self._db(name), rule.encode() + b"\x00" + key, value)
            self._put_conflicts(txn, intent)
            self._put_meta(txn, intent)
            txn.delete(b"intent", db=self._db("intent"))
        self._remember(intent)

    def sync(self) -> None:
        """Makes everything taken over so far durable on disk."""
        self._env.sync(True)

    def close(self) -> None:
        if not self._readonly:
            self._env.sync(True)
        self._env.close()

    # --- inside

    def _put_meta(self, txn: Any, intent: Intent) -> None:
        meta = self._db("meta")
        values: dict[str, Any] = {f"progress {s}": [p.text, p.order, p.done, p.us] for s, p in intent.progress.items()}
        values |= {f"batch {s} {t}": n for (s, t), n in intent.batches.items()}
        for rule, added in intent.counters.items():
            raw = txn.get(f"counters {rule}".encode(), db=meta)
            counters = json.loads(raw) if raw else {}
            values[f"counters {rule}"] = counters | {name: counters.get(name, 0) + more for name, more in added.items()}
        values |= {f"applied {rule}": at for rule, at in intent.last_applied_us.items()} | intent.meta
        for name, value in values.items():
            txn.put(name.encode(), json.dumps(value).encode(), db=meta)

    def _put_joins(self, txn: Any, index: str, pairs: Mapping[bytes, bytes | None]) -> None:
        """Both ways: row key -> value, value -> row keys."""
        there, back = self._db(f"join {index}"), self._db(f"joined {index}")
        for key, value in pairs.items():
            old = txn.get(key, db=there)
            if old and old != value:
                txn.delete(old, key, db=back)
            if value is not None and old != value:
                txn.put(key, value, db=there)
            if value:
                txn.put(value, key, db=back)

    def _put_conflicts(self, txn: Any, intent: Intent) -> None:
        if not intent.conflicts:
            return
        db = self._db("conflicts")
        with txn.cursor(db) as cursor:
            number = int.from_bytes(cursor.key(), "big") if cursor.last() else 0
        for record in intent.conflicts:
            number += 1
            txn.put(number.to_bytes(8, "big"), json.dumps(record).encode(), db=db)
            txn.delete((number - CONFLICTS_KEPT).to_bytes(8, "big") if number > CONFLICTS_KEPT else b"\x00", db=db)

    def _remember(self, intent: Intent) -> None:
        for (source, target, table), writes in intent.writes.items():
            number = intent.batches[source, target]
            self.pending.add(_pending_key((source, target, table), intent), source, target, number, table, writes)
        for source, target, batch in intent.echoed:
            self.pending.drop(source, target, batch)
        for name, records in self._record_sets(intent):
            memory: dict[RowKey, Any] = getattr(self, name)
            for key, record in records.items():
                before = memory.pop(key, None)
                if record is not None:
                    memory[key] = record
                if name == "quarantine":
                    self._await(key, before, record)

    def _await(self, row: RowKey, before: dict[str, Any] | None, now: dict[str, Any] | None) -> None:
        if before is not None and before.get("waits"):
            awaited = waits_for(before)
            self.waiting.get(awaited, set()).discard(row)
            if not self.waiting.get(awaited):
                self.waiting.pop(awaited, None)
        if now is not None and now.get("waits"):
            self.waiting.setdefault(waits_for(now), set()).add(row)

    @staticmethod
    def _record_sets(intent: Intent) -> list[tuple[str, Mapping[RowKey, Any]]]:
        return [("asks", intent.asks), ("quarantine", intent.quarantined), ("held", intent.held), ("moved", intent.moved)]

    def _load(self) -> None:
        for name, _ in self._record_sets(Intent()):
            memory: dict[RowKey, Any] = getattr(self, name)
            with self._reading(name) as cursor:
                for raw_key, value in cursor.iternext() if cursor is not None else ():
                    rule, _, key = raw_key.partition(b"\x00")
                    memory[rule.decode(), bytes(key)] = json.loads(value)
        for row, record in self.quarantine.items():
            self._await(row, None, record)
        with self._reading("pending") as cursor:
            found = [(json.loads(name), bytes(name), blob) for name, blob in cursor.iternext()] if cursor is not None else []
            for (number, source, target, table), raw_name, blob in sorted(found, key=lambda entry: entry[0]):
                self.pending.add(raw_name, source, target, number, table, frame.unpack(blob)["writes"])
        with self._reading("meta") as cursor:
            for name, value in cursor.iternext() if cursor is not None else ():
                if name.startswith(b"columns ") and json.loads(value) is not None:
                    self.columns[name.decode().removeprefix("columns ")] = tuple(json.loads(value))

    def follow(self, tables: Mapping[str, tuple[str, ...]], rules: Iterable[str], indexes: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """Says which columns of which tables are tracked from now on, for which rules, and by what their rows are joined. What is no longer followed
        is forgotten: its changes are not seen any more, so that it has to be read anew if it comes back. An intent that a crash left has to be dealt
        with before."""
        for table in set(self.columns) - set(tables):
            self.forget(table)
            self.put_meta(f"columns {table}", None)
            del self.columns[table]
        known = set(rules)
        with self._reading("meta") as cursor:
            names = [name.decode() for name in cursor.iternext(values=False)] if cursor is not None else []
        for name in names:
            if name.startswith("asked ") and name.removeprefix("asked ") not in known and self.meta(name) is not None:
                self.put_meta(name, None)
        for table, columns in tables.items():
            self.track(table, columns)
            wanted = list((indexes or {}).get(table, ()))
            if (self.meta(f"indexes {table}") or []) != wanted:
                # The baseline fills it; what an earlier time left may be out of date.
                self._drop_joins(table)
                self.put_meta(f"indexes {table}", wanted)
                self.put_meta(f"baseline {table}", None)

    def forget(self, table: str) -> None:
        """Drops what is known of the rows of a table, so that the baseline reads it as if for the first time."""
        for name in (f"rows {table}", f"alias {table}"):
            with self._writing(name) as txn:
                txn.drop(self._db(name), delete=False)
        self._drop_joins(table)
        self.put_meta(f"baseline {table}", None)

    def _drop_joins(self, table: str) -> None:
        for index in self.meta(f"indexes {table}") or ():
            for name in (f"join {index}", f"joined {index}"):
                with self._writing(name) as txn:
                    txn.drop(self._db(name), delete=False)

    def track(self, table: str, names: tuple[str, ...]) -> None:
        """Keeps entries usable when the tracked columns of a table change: cells follow their column's name, new ones are unknown."""
        old = self.columns.get(table)
        if old is not None and old != names:
            place = {name: i for i, name in enumerate(old)}
            with self._writing(f"rows {table}") as txn:
                with txn.cursor() as cursor:
                    stored = [(bytes(k), bytes(v)) for k, v in cursor.iternext()]
                before = State.unpack([v for _, v in stored], len(old))
                after = State.unknown(len(before), len(names))
                after.present, after.life, after.fence = before.present, before.life, before.fence
                for i, name in enumerate(names):
                    if name in place:
                        after.hashes[:, i], after.stamps[:, i] = before.hashes[:, place[name]], before.stamps[:, place[name]]
                for (key, _), value in zip(stored, after.pack(), strict=True):
                    txn.put(key, value)
            reshaped = self.pending.reshape(table, np.array([place.get(name, -1) for name in names], dtype=np.int64))
            with self._writing("pending") as txn:
                for number, writes in reshaped:
                    txn.put(number, frame.pack({"writes": writes}))
        if old != names:
            self.put_meta(f"columns {table}", list(names))
            self.put_meta(f"baseline {table}", None)
        self.columns[table] = names
        self._db(f"rows {table}")

    def _seed(self) -> int:
        stored = self.meta("seed")
        if stored is None:
            if self._readonly:
                return 0
            stored = secrets.randbits(63)
            self.put_meta("seed", stored)
            self.put_meta("format", FORMAT)
        elif self.meta("format") != FORMAT:
            raise Terminal("the ledger was written by another version", fix="use that version, or move the state folder away and start anew")
        return int(stored)

    def _db(self, name: str) -> Any:
        if name not in self._dbs:
            with self._lock:
                self._dbs[name] = self._env.open_db(name.encode(), create=not self._readonly, dupsort=name.startswith("joined "))
        return self._dbs[name]

    @contextmanager
    def _writing(self, name: str | None = None) -> Iterator[Any]:
        """A write transaction, one thread at a time. LMDB sees to that as well, but where a database is opened it waits with the interpreter's lock held:
        whoever has the transaction could never end it."""
        db = self._db(name) if name is not None else None
        with self._lock, self._env.begin(write=True, db=db) as txn:
            yield txn

    def _reading(self, name: str) -> _Reading:
        try:
            db = self._db(name)
        except (lmdb.NotFoundError, lmdb.ReadonlyError):
            db = None
        return _Reading(self._env, db)

    def _get(self, name: str, key: bytes) -> bytes | None:
        with self._reading(name) as cursor:
            return cursor.get(key) if cursor is not None else None

    def _get_many(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._reading(name) as cursor:
            if cursor is None:
                return [None] * len(keys)
            found = {}
            for some in _lots(sorted(keys)):
                found.update(cursor.getmulti(some))
                self._unmap.touched(len(some))
        return list(map(found.get, keys)) if found else [None] * len(keys)


class _Reading:
    """A read transaction over one database, or None where that does not exist."""

    def __init__(self, env: Any, db: Any) -> None:
        self._txn = env.begin(db=db) if db is not None else None

    def __enter__(self) -> Any:
        return self._txn.cursor() if self._txn is not None else None

    def __exit__(self, *_: object) -> None:
        if self._txn is not None:
            self._txn.abort()


def _lots(items: list[Item]) -> Iterator[list[Item]]:
    for start in range(0, len(items), KEYS):
        yield items[start : start + KEYS]


def _put_or_delete(txn: Any, db: Any, key: bytes, value: bytes | None) -> None:
    if value is None:
        txn.delete(key, db=db)
    else:
        txn.put(key, value, db=db)


def waits_for(record: dict[str, Any]) -> tuple[str, bytes]:
    """(crosswalk, key) that a row in quarantine waits for."""
    return record["waits"][0], bytes.fromhex(record["waits"][1])


def _pending_key(name: tuple[str, str, str], intent: Intent) -> bytes:
    source, target, table = name
    return json.dumps([intent.batches[source, target], source, target, table]).encode()


def lock(folder: Path) -> int:
    """Takes the state folder for this process; the lock goes with the process. Terminal when another one holds it. Returns the open file."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    for patience in (0.05, 0.2, 0.5, 0.0):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except OSError as error:
            if patience:  # `locked` takes it for a moment
                time.sleep(patience)
                continue
            os.close(handle)
            raise Terminal(
                "another syncline process is running with this state folder", where=str(folder), fix="stop it first, or use another state folder"
            ) from error
    raise AssertionError


def locked(folder: Path) -> bool:
    """Whether a process holds the state folder."""
    import fcntl

    try:
        handle = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)
