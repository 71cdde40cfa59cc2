"""The daemon: puts the parts together, reads what is there at the first start, then follows the logs until it is told to stop."""
from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import structlog

from engine.capture.tail import Tail
from engine.errors import Gap, SynclineError, Terminal, Transient
from engine.ledger.intent import Intent, Progress
from engine.ledger.ledger import Ledger, lock
from engine.mapping.evaluator import Evaluator
from engine.model.batch import Batch
from engine.observe.clocks import too_far_apart
from engine.ports import Sink, Source
from engine.runtime import failpoints, resume
from engine.runtime.assembly import Assembly, assemble
from engine.runtime.baseline import Baseline
from engine.runtime.checkpoint import Checkpoint
from engine.runtime.clocks import EVERY_SECONDS, measure
from engine.runtime.flight import Flight, FlightFailed
from engine.runtime.keeper import Keeper, position_of
from engine.runtime.pipeline import Pipeline
from engine.runtime.proposal import Proposer
from engine.runtime.topology import Topology, build
from engine.runtime.views import Views
from engine.settings import Settings

log = structlog.get_logger()

LONGEST_PAUSE = 10.0
MEANWHILE_BATCHES = 8
"""Batches of the logs that are worked off between two chunks of the first read, and batches of ours that may wait for their echo meanwhile."""
News = queue.Queue[tuple[str, Batch | SynclineError]]
PATIENCE_SECONDS = 60.0
SILENCE_SECONDS = 10.0
"""How long `--until-idle` waits for a target that is away; the daemon waits as long as it takes."""


class StopRequested(Exception):
    """A signal came while a database was away: the batch is given up and will be read again at the next start."""


def run(settings: Settings, until_idle: bool) -> None:
    """Runs until SIGTERM or SIGINT, or until both logs are read to their end. Raises SynclineError when it cannot go on."""
    stop = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(_signals(stop))
        stack.enter_context(_stop_is_no_failure())
        engine = stack.enter_context(started(settings, stop, PATIENCE_SECONDS if until_idle else None))
        engine.follow(until_idle)


def resync(settings: Settings, rule: str) -> None:
    """Reads all rows of one rule again, then follows the logs to their end."""

    def work(engine: Engine) -> None:
        lane = engine.topology.lanes[rule]
        engine.bridge_gaps(lane.direction)
        engine.baseline.again(lane)
        engine.follow(until_idle=True)

    _with_engine(settings, work)


def resync_all(settings: Settings) -> None:
    """For a state folder that was lost: makes a new ledger from what both sides hold, as a first start does, then follows the logs to their end."""

    def work(engine: Engine) -> None:
        engine.bridge_gaps(list(engine.gaps))
        for lane in engine.topology.lanes.values():
            engine.baseline.anew(lane)
        engine.follow(until_idle=True)

    _with_engine(settings, work, anew=True)


def _with_engine(settings: Settings, work: Callable[[Engine], None], *, anew: bool = False) -> None:
    stop = threading.Event()
    with _signals(stop), _stop_is_no_failure(), started(settings, stop, PATIENCE_SECONDS, anew=anew) as engine:
        work(engine)


@dataclass(slots=True)
class Engine:
    """A started engine: everything is connected and recovered, nothing is read yet."""

    settings: Settings
    assembly: Assembly
    ledger: Ledger
    topology: Topology
    pipeline: Pipeline
    baseline: Baseline
    sources: dict[str, Source]
    stop: threading.Event
    gaps: dict[str, Gap] = field(default_factory=dict)
    """Systems whose log does not go on where the ledger left it, or that were set back."""
    behind: dict[str, dict[str, int]] = field(default_factory=dict)
    """See `Checkpoint.recover`."""
    stopped: dict[str, SynclineError] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    under_way: dict[str, float] = field(default_factory=dict)
    """System -> commit time (seconds since 1970) of what is being carried over, 0 when nothing is."""
    _dependants_asked: float = 0.0
    _last_chance: bool = False
    _clocks_read: float = -EVERY_SECONDS

    def bridge_gaps(self, systems: Sequence[str]) -> None:
        """Where the log of a system cannot be read on from our position (purged, slot gone) or holds what nobody can read (a statement in place of rows), it
        is read from its end; all rules of that system begin anew."""
        for system in systems:
            if system not in self.sources:
                if system in self.gaps:
                    self._begin_anew(system, {})
                continue
            source, watched = self.sources[system], self.topology.watched(system)
            try:
                if system in self.gaps:
                    raise self.gaps[system]
                position = position_of(self.ledger, system)
                source.open(watched, position)
                self._try_out(source, position.order, self.assembly.readers[system].end().order)
            except Terminal as error:
                log.warning("the log is read from its end, and all rules of the system begin anew", system=system, error=error)
                position = source.renew(watched)
                self._begin_anew(system, {system: Progress(position.text, position.order)})
            finally:
                source.close()

    def _begin_anew(self, system: str, progress: dict[str, Progress]) -> None:
        for lane in self.topology.lanes.values():
            if system in lane.direction:
                self.baseline.anew(lane)
        lost = [(other, system, self.ledger.batch(other, system)) for other in self.topology.ranks]
        numbers = {(other, system): number for other, number in self.behind.get(system, {}).items()}
        self.ledger.take_over(Intent(progress=progress, echoed=lost, batches=numbers))
        self.ledger.put_meta(f"stopped {system}", None)
        self.gaps.pop(system, None)

    def _try_out(self, source: Source, reached: int, end: int) -> None:
        """Reads what the log holds up to `end` and drops it. Terminal where it cannot be read."""
        heard = time.monotonic()
        while reached < end and time.monotonic() < heard + SILENCE_SECONDS and not self.stop.is_set():
            batch = source.read(0.2)
            if batch is not None:
                heard, reached = time.monotonic(), batch.high.order

    def follow(self, until_idle: bool) -> None:
        """First start if it is due, then the logs. A system whose log has a gap is not read, and where rules lead into it nothing is: it may have changed."""
        for system, gap in self.gaps.items():
            self._stop_direction(system, gap)
        if self.gaps and (self.baseline.due() or set(self.sources) <= set(self.stopped)):
            raise next(iter(self.stopped.values()))
        self._read_clocks()
        if self.baseline.due():
            self.ledger.put_meta("phase", "first read")
            if not self.baseline.read():
                return
        self.pipeline.ask_rechecked()
        news: News = queue.Queue()
        positions = {system: position_of(self.ledger, system) for system in self.sources if system not in self.stopped}
        tails = {system: Tail(system, self.sources[system], self.topology.watched(system), position, news) for system, position in positions.items()}
        self.reached = {system: position.order for system, position in positions.items()}
        keeper = Keeper(self.ledger, tails, lambda: self.under_way)
        for thread in (keeper, *tails.values()):
            thread.start()
        try:
            if self.baseline.ask(lambda: self._meanwhile(news, tails, keeper)):
                self.ledger.put_meta("phase", "running")
                ends = {system: self.assembly.readers[system].end().order for system in tails} if until_idle else None
                self._loop(news, tails, keeper, ends)
            self._land()
            self.under_way = {}
        except FlightFailed as failed:
            raise failed.error from failed
        finally:
            keeper.stop()
            for tail in tails.values():
                tail.stop()
        if self.stopped and not self.stop.is_set():
            raise next(iter(self.stopped.values()))

    def _meanwhile(self, news: News, tails: dict[str, Tail], keeper: Keeper) -> None:
        """Between two chunks of the first read: what the logs have brought, echoes of the chunks above all."""
        for _ in range(MEANWHILE_BATCHES):
            behind = len(self.ledger.pending) > MEANWHILE_BATCHES and not self.stopped
            try:
                system, batch = news.get(timeout=1.0) if behind else news.get_nowait()
            except queue.Empty:
                break
            self._take(system, batch, tails)
        self._ask_again()
        for error in self.stopped.values():
            if isinstance(error, Gap):
                raise error  # what is written would cover changes that are not known
        if keeper.failure is not None:
            raise keeper.failure

    def _loop(self, news: News, tails: dict[str, Tail], keeper: Keeper, ends: dict[str, int] | None) -> None:
        while not self.stop.is_set():
            try:
                system, batch = news.get(timeout=0.01 if self.ledger.asks else 0.2)
            except queue.Empty:
                self._land()
                self.under_way = dict.fromkeys(self.under_way, 0.0)
            else:
                self._take(system, batch, tails)
            self._ask_again()
            self._ask_dependants()
            self._read_clocks()
            if keeper.failure is not None:
                raise keeper.failure
            if ends is not None and news.empty() and self._idle(ends):
                if self._last_chance or not self.pipeline.ask_dependants(now=True):
                    break
                self._last_chance = True
            if self.stopped and (set(tails) <= set(self.stopped) or (ends is not None and all(self._done(s, ends) for s in tails))):
                break

    def _take(self, system: str, news: Batch | SynclineError, tails: dict[str, Tail]) -> None:
        if system in self.stopped:
            return
        try:
            if isinstance(news, SynclineError):
                raise news
            failpoints.reach("capture.read")
            self.under_way[system] = int(news.transactions.commit_us[0]) / 1e6 if len(news.transactions.commit_us) else 0.0
            self.pipeline.process(news)
        except FlightFailed as failed:
            self._stop_direction(failed.system, failed.error)
            self._take(system, news, tails)  # it was the batch before, perhaps of another system, and this one has not begun
            return
        except SynclineError as error:
            self._stop_direction(system, error)
            return
        tails[system].taken()
        self.reached[system] = news.high.order

    def _ask_again(self) -> None:
        if not self.ledger.asks or not self.pipeline.asks_due(time.monotonic(), self.stopped):
            return
        try:
            self.pipeline.process_asks(self.stopped)
        except FlightFailed as failed:
            self._stop_direction(failed.system, failed.error)
        except Transient as error:
            log.warning("a base row cannot be read, trying again", error=error)
            self.stop.wait(0.5)

    def _ask_dependants(self) -> None:
        if self.ledger.quarantine and time.monotonic() - self._dependants_asked > 1.0:
            self._dependants_asked = time.monotonic()
            self.pipeline.ask_dependants()

    def _read_clocks(self) -> None:
        """At the start and every minute; `status` shows what was found."""
        if time.monotonic() - self._clocks_read < EVERY_SECONDS:
            return
        self._clocks_read = time.monotonic()
        skews = measure({system: self.assembly.readers[system] for system in self.topology.ranks})
        for system in self.topology.ranks:
            self.ledger.put_meta(f"skew {system}", skews.get(system))
        apart = too_far_apart(skews, self.settings.max_clock_skew_ms)
        if apart:
            log.warning("clocks are apart", what=apart)

    def _land(self) -> None:
        try:
            self.pipeline.checkpoint.flight.land()
        except FlightFailed as failed:
            self._stop_direction(failed.system, failed.error)

    def _stop_direction(self, system: str, error: SynclineError) -> None:
        if isinstance(error, Gap):
            error = resume.with_range(error, self.ledger.progress(system))
        log.error("this direction has stopped", system=system, error=error)
        self.stopped[system] = error
        self.ledger.put_meta(f"stopped {system}", str(error))
        if isinstance(error, Gap):
            for source in sorted({lane.source.system for lane in self.topology.lanes.values() if lane.target.system == system} - set(self.stopped)):
                log.error("this direction has stopped as well: it would write over changes that are not known", system=source)
                self.stopped[source] = error
                self.ledger.put_meta(f"stopped {source}", f"waits for system {system}: {error}")

    def _idle(self, ends: dict[str, int]) -> bool:
        if any(self.reached.get(system, -1) < end for system, end in ends.items()):
            return False
        self._land()
        return not self.ledger.asks and not self.ledger.pending

    def _done(self, system: str, ends: dict[str, int]) -> bool:
        return system in self.stopped or self.reached.get(system, -1) >= ends[system]


@contextmanager
def started(settings: Settings, stop: threading.Event, patience: float | None, *, anew: bool = False) -> Iterator[Engine]:
    """Connects and recovers. anew: a ledger is made for databases that were followed before. ConfigError, Transient or Terminal when the configuration or a
    system is not ready."""
    failpoints.arm_from_environment()
    with ExitStack() as stack:
        handle = lock(settings.state)
        stack.callback(os.close, handle)
        assembly = stack.enter_context(assemble(settings))
        assembly.insist()
        ledger = Ledger(settings.state)
        stack.callback(ledger.close)
        topology = build(settings, assembly.rules, ledger.seed)
        ledger.put_meta("phase", "starting")
        sinks = _sinks(settings, assembly, topology, stack)
        if not resume.followed(ledger, settings):
            if not anew:
                resume.insist_on_ledger(settings, [lane.direction for lane in topology.lanes.values()], sinks)
        elif anew:
            fix = "to read one rule again: `syncline resync RULE`; to make a new ledger, move the state folder away first"
            raise Terminal("the state folder holds a ledger, which is not lost", where=str(settings.state), fix=fix)
        sources, gaps = _sources(settings, assembly, topology, ledger, stack)
        flight = Flight()
        stack.callback(flight.close)
        ledger.wait_for = flight.wait_for
        readers = dict(assembly.readers)
        proposer = Proposer(ledger, Evaluator(assembly.lookups), lambda: time.time_ns() // 1000, topology.ranks, readers=readers)
        wait = _waiter(stop, patience)
        checkpoint = Checkpoint(settings.name, ledger, topology, sinks, proposer, wait, flight)
        behind = checkpoint.recover()
        gaps |= {system: resume.set_back(system) for system in behind if system not in gaps or not gaps[system].set_back}
        ledger.follow(topology.columns(), topology.lanes, topology.indexes())
        views = Views(ledger, topology, readers, proposer)
        proposer.bases = views.bases
        pipeline = Pipeline(topology, ledger, readers, proposer, checkpoint, views)
        baseline = Baseline(pipeline, topology, ledger, readers, settings.chunk_rows, stop.is_set, wait)
        yield Engine(settings, assembly, ledger, topology, pipeline, baseline, sources, stop, gaps, behind)


def _sinks(settings: Settings, assembly: Assembly, topology: Topology, stack: ExitStack) -> dict[str, Sink]:
    sinks: dict[str, Sink] = {}
    for system in sorted({lane.target.system for lane in topology.lanes.values()}):
        sinks[system] = assembly.adapters[system].sink(settings.name)
        stack.callback(sinks[system].close)
        sinks[system].prepare()
        if any(lane.rule.link and lane.target.system == system for lane in topology.lanes.values()):
            sinks[system].prepare_links()
    return sinks


def _sources(
    settings: Settings, assembly: Assembly, topology: Topology, ledger: Ledger, stack: ExitStack
) -> tuple[dict[str, Source], dict[str, Gap]]:
    """(the sources, the gaps of their logs). A log with a gap is left as it is: a slot made anew would only hide since when."""
    sources: dict[str, Source] = {}
    gaps: dict[str, Gap] = {}
    for system, options in settings.systems.items():
        watched = topology.watched(system)
        if not watched or not options.capture:
            continue
        source = sources[system] = assembly.adapters[system].source(settings.name)
        stack.callback(source.close)
        try:
            if ledger.progress(system) is not None:
                source.holds(position_of(ledger, system))
            position = source.prepare(watched)
        except Gap as gap:
            gaps[system] = gap
            continue
        if ledger.progress(system) is None:
            ledger.put_meta(f"progress {system}", [position.text, position.order, -1])
        ledger.put_meta(f"stopped {system}", None)
    return sources, gaps


def _waiter(stop: threading.Event, patience: float | None) -> Callable[[str, int, Transient], None]:
    started_at: dict[str, float] = {}

    def wait(system: str, attempt: int, error: Transient) -> None:
        if attempt == 1:
            started_at[system] = time.monotonic()
        elif patience is not None and time.monotonic() - started_at[system] > patience:
            raise error
        pause = min(0.05 * 2.0 ** min(attempt, 10), LONGEST_PAUSE)
        log.warning("database away, trying again", system=system, error=error, seconds=pause)
        if stop.wait(pause):
            raise StopRequested

    return wait


@contextmanager
def _stop_is_no_failure() -> Iterator[None]:
    try:
        yield
    except StopRequested:
        log.info("stopped while a database was away; its batch will be read again")


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pa.enable_signal_handlers(False)  # a signal asks us to finish the batch; Arrow would break off in the middle of it
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
