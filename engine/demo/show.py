"""The demo from the first server to the summary. What it prints are measurements of this run; its exit code is the verdict."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from rich.console import Console

from engine.demo import proof, summary
from engine.demo.command import Failed, Syncline, Watch
from engine.demo.company import COLUMNS, Company
from engine.demo.database import Database, insert, update
from engine.demo.people import Clerk, CrmClerk, ErpClerk, Probe, Quarrel, Writer
from engine.demo.stage import PAIRS, Stage, build
from engine.demo.view import Direction, Moment, View

FIRST_READ_PATIENCE = 120.0
QUARRELS = 60
"""Accounts on which both sides quarrel; nobody else writes to them."""

RULES = {
    "CRM": ("accounts_to_customers", "contacts_to_persons", "products_to_items"),
    "ERP": ("customers_to_accounts", "persons_to_contacts", "items_to_products"),
}
"""Rules by the system they read."""


@dataclass(slots=True, kw_only=True)
class Act:
    """The people of the second phase. bad: the account whose name the ERP cannot hold. first_read: rows carried before it, by the system they came from."""

    crm: CrmClerk
    erp: ErpClerk
    quarrel: Quarrel
    probe: Probe
    bad: str = ""
    first_read: dict[str, int] = field(default_factory=dict)

    @property
    def writers(self) -> tuple[Writer, ...]:
        return (self.crm, self.erp, self.quarrel)


def play(*, seconds: float, rate: float, keep: bool, console: Console, seed: int = 7) -> int:
    """Exit code: 0 both sides agree and all promises held, 1 they do not, 4 the demo could not be played."""
    started = time.monotonic()
    with _terminated_is_exit(), View(console) as view:
        view.say("Starting a CRM and an ERP on throwaway servers ...")
        with build(keep=keep, seed=seed) as stage:
            view.say(
                f"CRM on {stage.crm.product}, ERP on {stage.erp.product}, ready after {time.monotonic() - started:.1f} s. Nothing of this machine is touched."
            )
            if stage.remark:
                view.say(stage.remark)
            syncline = Syncline(stage.config)
            try:
                verdict = _perform(stage, syncline, view, seconds, rate)
            except Failed as error:
                view.close()
                console.print(f"\nThe demo failed: {error}", style="red", highlight=False, markup=False)
                verdict = 4
            finally:
                syncline.kill()
            if keep:
                view.close()
                summary.connections(console, stage, " ".join(syncline.program))
    return verdict


def _perform(stage: Stage, syncline: Syncline, view: View, seconds: float, rate: float) -> int:
    syncline.start()
    watch = Watch(stage.config, 0.5)
    try:
        act = _cast(stage, rate, stop := threading.Event())
        first_read = _first_read(stage, syncline, view, watch)
        act.first_read = first_read.rows
        watch.start()
        try:
            _work(stage, act, syncline, view, watch, seconds)
        finally:
            stop.set()
            for thread in (*act.writers, act.probe):
                if thread.ident is not None:
                    thread.join(20)
    finally:
        watch.stop()
    memory = syncline.memory_mb()
    for name, failure in [*((writer.name, writer.failure) for writer in act.writers), (act.probe.name, act.probe.failure)]:
        if failure is not None:
            raise Failed(f"the {name} stopped early: {failure}")
    _tell(view, "finishing", 0.0, _directions(act, watch.latest), watch.latest, memory)
    syncline.stop()
    syncline.call("run", "--until-idle")
    _tell(view, "comparing both sides", 0.5, _directions(act, watch.latest), watch.latest, memory)
    before = proof.reconcile(syncline)
    quarrels = proof.look(stage, act.quarrel)
    conflicts = sum(int(rule["conflicts"]) for rule in syncline.ask("status", good=(0, 1))["rules"].values())
    applied = syncline.ask("status", good=(0, 1))["rules"]
    _mend(stage, act.bad)
    syncline.call("run", "--until-idle")
    after = proof.reconcile(syncline)
    _tell(view, "done", 1.0, _directions(act, {"rules": applied}), {"rules": applied}, memory)
    view.close()
    return summary.tell(
        view.console,
        summary.Outcome(
            seconds=seconds,
            first_read=first_read,
            changed={"CRM": act.crm.changed, "ERP": act.erp.changed},
            quarrelled=dict(act.quarrel.counts),
            carried={side: sum(int(applied[rule]["applied"]) for rule in RULES[side]) for side in RULES},
            visible=act.probe.seconds,
            late=act.probe.late,
            conflicts=conflicts,
            quarrels=quarrels,
            before=before,
            after=after,
            memory_mb=memory,
        ),
    )


def _cast(stage: Stage, rate: float, stop: threading.Event) -> Act:
    """Half of the changes by each clerk, less what the quarrel does (a twentieth of the rate, two rows at a time)."""
    probe, quarrel, others = stage.accounts[1:3], stage.accounts[3 : 3 + QUARRELS], stage.accounts[3 + QUARRELS :]
    clerk = rate * 0.45
    pools: dict[str, Any] = {"accounts": others, "contacts": stage.contacts, "products": stage.products}
    return Act(
        crm=CrmClerk(stage.crm, clerk, 11, stop, **pools),
        erp=ErpClerk(stage.erp, clerk, 12, stop, **pools),
        quarrel=Quarrel(stage.crm, stage.erp, rate * 0.1, 13, stop, quarrel),
        probe=Probe(stage.crm, stage.erp, probe, stop),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRead:
    """rows: that had to be carried, by the system they came from. seconds: from the start of `syncline run` to the last of them."""

    rows: dict[str, int]
    seconds: float


def _first_read(stage: Stage, syncline: Syncline, view: View, watch: Watch) -> FirstRead:
    """Waits until each side has as many rows as the other: nobody writes yet."""
    crm, erp = stage.crm.connect(), stage.erp.connect()
    started = time.monotonic()
    begin = _counts(crm, erp)
    # the two sides have no record in common at the start
    want = sum(sum(pair) for pair in begin)
    missing = {"CRM": sum(pair[0] for pair in begin), "ERP": sum(pair[1] for pair in begin)}
    try:
        while True:
            now = _counts(crm, erp)
            to_erp = sum(n[1] - b[1] for n, b in zip(now, begin, strict=True))
            to_crm = sum(n[0] - b[0] for n, b in zip(now, begin, strict=True))
            directions = (
                Direction(label="CRM → ERP", changed=0, carried=to_erp, seconds=(), lag=None),
                Direction(label="ERP → CRM", changed=0, carried=to_crm, seconds=(), lag=None),
            )
            phase = "first read: all that stands on one side only" if to_erp + to_crm else "syncline run is starting"
            _tell(view, phase, (to_erp + to_crm) / want, directions, watch.latest, syncline.memory_mb())
            if to_erp >= missing["CRM"] and to_crm >= missing["ERP"]:
                return FirstRead(rows=missing, seconds=time.monotonic() - started)
            if not syncline.running:
                raise Failed(f"syncline run ended during the first read. {syncline.tail()}")
            if time.monotonic() - started > FIRST_READ_PATIENCE:
                raise Failed(f"after {FIRST_READ_PATIENCE:.0f} s only {to_erp + to_crm} of {want} rows have been carried. {syncline.tail()}")
            time.sleep(0.2)
    finally:
        crm.close()
        erp.close()


def _counts(crm: Database, erp: Database) -> list[tuple[int, int]]:
    return [(int(crm.value(f"SELECT count(*) FROM {a}")), int(erp.value(f"SELECT count(*) FROM {b}"))) for a, b in PAIRS]


def _work(stage: Stage, act: Act, syncline: Syncline, view: View, watch: Watch, seconds: float) -> None:
    for thread in (*act.writers, act.probe):
        thread.start()
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        if not syncline.running:
            raise Failed(f"syncline run ended while people were working. {syncline.tail()}")
        if not act.bad and passed > seconds / 3:
            act.bad = _bad_account(stage)
        _tell(view, "people are working on both sides", passed / seconds, _directions(act, watch.latest), watch.latest, syncline.memory_mb())
        time.sleep(0.2)


def _bad_account(stage: Stage) -> str:
    """An account whose name the CRM takes and the ERP does not: its column is shorter."""
    company = Company(99)
    row = list(company.account())
    row[1] = "Gesellschaft für die Förderung außergewöhnlich langer Firmennamen, die in kein Feld einer anderen Anwendung passen, mbH"
    database = stage.crm.connect()
    database.transaction([insert("accounts", COLUMNS.accounts, row)])
    database.close()
    return str(row[0])


def _mend(stage: Stage, bad: str) -> None:
    """What a person does who has read the reason in the quarantine."""
    database = stage.crm.connect()
    database.transaction([update("accounts", "name", "Gesellschaft für kurze Firmennamen mbH", "id", bad)])
    database.close()


def _directions(act: Act, status: dict[str, Any] | None) -> tuple[Direction, Direction]:
    """Before the first status all that is known to be carried is the first read."""
    rules = (status or {}).get("rules", {})
    systems = (status or {}).get("systems", {})
    made: list[Direction] = []
    clerks: dict[str, Clerk] = {"CRM": act.crm, "ERP": act.erp}
    for side, other in (("CRM", "ERP"), ("ERP", "CRM")):
        carried = sum(int(rules[rule]["applied"]) for rule in RULES[side]) if rules else act.first_read[side]
        lag = systems.get(side.lower(), {}).get("lag_seconds")
        made.append(Direction(label=f"{side} → {other}", changed=clerks[side].changed, carried=carried, seconds=tuple(act.probe.seconds[side]), lag=lag))
    return made[0], made[1]


def _tell(view: View, phase: str, done: float, directions: tuple[Direction, Direction], status: dict[str, Any] | None, memory: float | None) -> None:
    rules: dict[str, dict[str, Any]] = (status or {}).get("rules", {})
    count: Callable[[str], int] = lambda what: sum(int(rule.get(what) or 0) for rule in rules.values())  # noqa: E731
    view.show(Moment(phase=phase, done=done, directions=directions, conflicts=count("conflicts"), quarantined=count("quarantined"), memory_mb=memory))


@contextlib.contextmanager
def _terminated_is_exit() -> Iterator[None]:
    """SIGTERM and SIGHUP leave by the same way as Ctrl-C, so that the servers are stopped."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
