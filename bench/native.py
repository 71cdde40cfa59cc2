"""PostgreSQL's own logical replication: publication, slot, subscription. The peer that Syncline is compared with."""
from __future__ import annotations

import time
from urllib.parse import urlsplit

import psycopg

from bench.measure import Drain, cpu_seconds, until_there

SLOT = "bench_native"


class Native:
    """A disabled subscription from `source` to `target`, two databases; its slot keeps the log from now on."""

    name = "PostgreSQL logical replication"

    def __init__(self, source: str, target: str) -> None:
        self._source = source
        self._target = target
        address = urlsplit(source)
        with psycopg.connect(source, autocommit=True) as there:
            there.execute("CREATE PUBLICATION bench_native FOR TABLE customers")
            there.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (SLOT,))
        with psycopg.connect(target, autocommit=True) as here:
            where = f"host={address.hostname} port={address.port} user={address.username} dbname={address.path[1:]}"
            here.execute(f"CREATE SUBSCRIPTION bench_native CONNECTION '{where}' PUBLICATION bench_native WITH (create_slot = false, "
                         f"slot_name = '{SLOT}', enabled = false, copy_data = false)".encode())

    def drain(self, *, rows: int, done: str, patience: float) -> Drain:
        """Enables the subscription until the query `done` gives a row on the target, then disables it."""
        used = {"apply worker": 0.0, "walsender": 0.0}
        with psycopg.connect(self._target, autocommit=True) as here, psycopg.connect(self._source, autocommit=True) as there:

            def sample(_streaming: bool) -> None:
                worker = here.execute("SELECT pid FROM pg_stat_subscription WHERE pid IS NOT NULL AND relid IS NULL").fetchone()
                sender = there.execute("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s AND active", (SLOT,)).fetchone()
                if worker and sender:
                    used["apply worker"], used["walsender"] = cpu_seconds(worker[0]), cpu_seconds(sender[0])

            started = time.monotonic()
            here.execute("ALTER SUBSCRIPTION bench_native ENABLE")
            try:
                seconds, whole = until_there(
                    source=self._source, slot=SLOT, target=self._target, done=done, started=started, patience=patience, each_poll=sample
                )
                sample(True)
            finally:
                here.execute("ALTER SUBSCRIPTION bench_native DISABLE")
            self._let_go(there)
        return Drain(rows=rows, seconds=seconds, whole_seconds=whole, cpu_seconds=used)

    def _let_go(self, there: psycopg.Connection) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if there.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active", (SLOT,)).fetchone() is None:
                return
            time.sleep(0.05)

    def close(self) -> None:
        """Removes the subscription; the databases go with their server."""
        with psycopg.connect(self._target, autocommit=True) as here:
            here.execute("ALTER SUBSCRIPTION bench_native DISABLE")
            here.execute("ALTER SUBSCRIPTION bench_native SET (slot_name = NONE)")
            here.execute("DROP SUBSCRIPTION bench_native")
