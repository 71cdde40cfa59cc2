"""The demo from the first server to the summary. What it prints are measurements of this run; its exit code is the verdict."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from rich.console import Console

from engine.demo import proof, summary
from engine.demo.command import Failed, Syncline, Watch
from engine.demo.company import COLUMNS, Company
from engine.demo.compiled import is_compiled, remember
from engine.demo.database import insert, update
from engine.demo.people import Clerk, CrmClerk, ErpClerk, Probe, Quarrel, Writer
from engine.demo.stage import Known, Stage, build
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
    """The people of the second phase. bad: the account whose name the ERP cannot hold."""

    crm: CrmClerk
    erp: ErpClerk
    quarrel: Quarrel
    probe: Probe
    bad: str = ""

    @property
    def writers(self) -> tuple[Writer, ...]:
        return (self.crm, self.erp, self.quarrel)


def play(*, seconds: float, rate: float, keep: bool, console: Console, seed: int = 7) -> int:
    """Exit code: 0 both sides agree and all promises held, 1 they do not, 4 the demo could not be played."""
    started = time.monotonic()
    with _terminated_is_exit(), View(console) as view:
        if not is_compiled():
            view.say("The first start on this machine: Syncline compiles its decoders, once. This takes about half a minute ...")
            _compile(rate, seed)
            started = time.monotonic()
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
                console.print(f"\nThe demo failed: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
                verdict = 4
            finally:
                syncline.kill()
            if keep:
                view.close()
                summary.connections(console, stage, " ".join(syncline.program))
    return verdict


def _compile(rate: float, seed: int) -> None:
    """A short run that nobody sees, so that all that is compiled at first use has been used."""
    with build(keep=False, seed=seed) as stage, View(Console(quiet=True)) as unseen:
        syncline = Syncline(stage.config)
        stop = threading.Event()
        act = _cast(stage, rate, stop)
        watch = Watch(stage.config, 0.5)
        try:
            syncline.start()
            watch.start()
            _first_read(stage, act, syncline, unseen, watch)
            _work(stage, act, syncline, unseen, watch, 2.0)
            stop.set()
            syncline.stop()
            syncline.call("run", "--until-idle")
            remember()
        except Failed:
            pass  # the demo itself will say what is wrong
        finally:
            stop.set()
            watch.stop()
            for thread in (*act.writers, act.probe):
                if thread.ident is not None:
                    thread.join(20)
            syncline.kill()


def _perform(stage: Stage, syncline: Syncline, view: View, seconds: float, rate: float) -> int:
    syncline.start()
    watch = Watch(stage.config, 0.5)
    watch.start()
    act = _cast(stage, rate, stop := threading.Event())
    try:
        first_read = _first_read(stage, act, syncline, view, watch)
        _work(stage, act, syncline, view, watch, seconds)
    finally:
        stop.set()
        for thread in (*act.writers, act.probe):
            if thread.ident is not None:
                thread.join(20)
        watch.stop()
    memory = syncline.memory_mb()
    for name, failure in [*((writer.name, writer.failure) for writer in act.writers), (act.probe.name, act.probe.failure)]:
        if failure is not None:
            raise Failed(f"the {name} stopped early: {failure}")
    _tell(view, "people have stopped", 1.0, _directions(act, watch.latest), watch.latest, memory)
    view.close()
    with _step(view, "stopping syncline run (SIGTERM)"):
        syncline.stop()
    with _step(view, "syncline run --until-idle"):
        syncline.call("run", "--until-idle")
    with _step(view, "syncline reconcile"):
        before = proof.reconcile(syncline)
    quarrels = proof.look(stage, act.quarrel)
    rules = syncline.ask("status")["rules"]
    with _step(view, "mending the bad row, syncline run --until-idle"):
        _mend(stage, act.bad)
        syncline.call("run", "--until-idle")
    with _step(view, "syncline reconcile"):
        after = proof.reconcile(syncline)
    return summary.tell(
        view.console,
        summary.Outcome(
            worked=first_read.seconds + seconds,
            first_read=first_read,
            changed={"CRM": act.crm.changed, "ERP": act.erp.changed},
            quarrelled=dict(act.quarrel.counts),
            carried={side: sum(int(rules[rule]["applied"]) for rule in RULES[side]) for side in RULES},
            visible=act.probe.seconds,
            late=act.probe.late,
            conflicts=sum(int(rule["conflicts"]) for rule in rules.values()),
            quarrels=quarrels,
            before=before,
            after=after,
            memory_mb=memory,
        ),
    )


@contextlib.contextmanager
def _step(view: View, what: str) -> Iterator[None]:
    """Says how long a step took."""
    started = time.monotonic()
    yield
    view.say(f"  {what}: {time.monotonic() - started:.1f} s")


def _cast(stage: Stage, rate: float, stop: threading.Event) -> Act:
    """Nine tenths of the changes by the clerks, half each, the rest by the quarrel. At first each clerk knows what stands on that side."""
    probe, quarrel = stage.at_crm.accounts[:2], stage.at_crm.accounts[2 : 2 + QUARRELS]
    clerk = rate * 0.45
    return Act(
        crm=CrmClerk(stage.crm, clerk, 11, stop, replace(stage.at_crm, accounts=stage.at_crm.accounts[2 + QUARRELS :])),
        erp=ErpClerk(stage.erp, clerk, 12, stop, stage.at_erp),
        quarrel=Quarrel(stage.crm, stage.erp, rate * 0.1, 13, stop, quarrel),
        probe=Probe(stage.crm, stage.erp, probe, stop),
    )


def _all_known(act: Act) -> None:
    """After the first read each clerk knows the records of the other side too, and makes new ones."""
    crm, erp = act.crm.known, act.erp.known
    both = Known(accounts=[*crm.accounts, *erp.accounts], contacts=[*crm.contacts, *erp.contacts], products=[*crm.products, *erp.products])
    act.crm.known = act.erp.known = both
    act.crm.settled = act.erp.settled = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRead:
    """rows: that stood on one side only at the start. seconds: from the start of `syncline run` until it follows the logs alone."""

    rows: int
    seconds: float


def _first_read(stage: Stage, act: Act, syncline: Syncline, view: View, watch: Watch) -> FirstRead:
    """The clerks work from the beginning. Returns when `status` says that the daemon has read what was there."""
    started = time.monotonic()
    known = (stage.at_crm, stage.at_erp)
    rows = sum(len(k.accounts) + len(k.contacts) + len(k.products) for k in known)
    act.crm.start()
    act.erp.start()
    while True:
        state = (watch.latest or {}).get("state")
        carried = sum(int(rule["applied"]) for rule in (watch.latest or {}).get("rules", {}).values())
        phase = "first read, while people work" if carried else "syncline run is starting, people work already"
        _tell(view, phase, min(1.0, carried / rows), _directions(act, watch.latest), watch.latest, syncline.memory_mb())
        if state == "running" and carried:
            _all_known(act)
            return FirstRead(rows=rows, seconds=time.monotonic() - started)
        if not syncline.running:
            raise Failed(f"syncline run ended during the first read. {syncline.tail()}")
        if time.monotonic() - started > FIRST_READ_PATIENCE:
            raise Failed(f"the first read did not end within {FIRST_READ_PATIENCE:.0f} s, {carried} of {rows} rows have been carried. {syncline.tail()}")
        time.sleep(0.2)


def _work(stage: Stage, act: Act, syncline: Syncline, view: View, watch: Watch, seconds: float) -> None:
    act.quarrel.start()
    act.probe.start()
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
    rules = (status or {}).get("rules", {})
    systems = (status or {}).get("systems", {})
    made: list[Direction] = []
    clerks: dict[str, Clerk] = {"CRM": act.crm, "ERP": act.erp}
    for side, other in (("CRM", "ERP"), ("ERP", "CRM")):
        carried = sum(int(rules.get(rule, {}).get("applied", 0)) for rule in RULES[side])
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
