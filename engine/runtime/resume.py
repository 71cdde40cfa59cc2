"""Whether the state folder and the databases still belong together: asked before anything is written, by `run`, and by `check` while nothing runs."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime

from engine.errors import Gap, SynclineError, Terminal
from engine.ledger.intent import Progress
from engine.ledger.ledger import Ledger, locked
from engine.model.batch import Position
from engine.ports import Problem, Sink
from engine.runtime.assembly import Assembly, error_problem
from engine.settings import Settings


def followed(ledger: Ledger, settings: Settings) -> bool:
    """Whether the ledger has ever followed a system."""
    return any(ledger.progress(system) is not None for system in settings.systems)


def insist_on_ledger(settings: Settings, directions: Iterable[tuple[str, str]], sinks: Mapping[str, Sink]) -> None:
    """For an empty ledger. Terminal when targets hold batches of these rules: begun anew in silence, what was deleted on one side would come back, and what
    is newer on which side would be forgotten."""
    for source, target in dict.fromkeys(directions):
        marker = sinks[target].marker(settings.name, source)
        if marker is not None and marker.batch > 0:
            raise Terminal(
                f"the state folder is empty, but {target} holds {marker.batch} batches of these rules from {source}: the ledger is lost, and with it what is "
                "newer on which side and what was deleted",
                where=str(settings.state),
                fix="put the folder back; or run `syncline resync --all`, which reads all rows of both sides, leaves alone what agrees, does with rows that "
                "differ what `baseline` of their rule says, and brings back a row that stands on one side only",
            )


def set_back(system: str) -> Gap:
    """A target without batches that it had committed."""
    what = "the database lacks batches of ours that it had committed: it was restored from a backup, or its server crashed and does not make commits durable"
    return Gap(what, where=f"system {system}", set_back=True)


def with_range(gap: Gap, progress: Progress | None) -> Gap:
    """The same with what is not known."""
    if progress is None or "is not known" in gap.what:
        return gap
    at = datetime.fromtimestamp(progress.us / 1e6, UTC)
    last = f" (the last change we have is of {at:%Y-%m-%d %H:%M:%S} UTC)" if progress.us else ""
    what = f"{gap.what}; what changed there after {progress.text}{last} is not known"
    return Gap(what, where=gap.where, fix=gap.fix, set_back=gap.set_back)


def problems(assembly: Assembly) -> list[Problem]:
    """What `check` has to say. While a daemon runs it has looked itself, and `status` shows what it found."""
    settings = assembly.settings
    if locked(settings.state):
        return []
    places: dict[str, Progress] = {}
    if (settings.state / "ledger" / "data.mdb").exists():
        with closing(Ledger(settings.state, readonly=True)) as ledger:
            places = {system: progress for system in settings.systems if (progress := ledger.progress(system)) is not None}
    found: list[Problem] = []
    for system, progress in places.items():
        if system in assembly.unreachable or not settings.systems[system].capture:
            continue
        source = assembly.adapters[system].source(settings.name)
        try:
            source.holds(Position(progress.text, progress.order))
        except Gap as gap:
            found.append(error_problem(with_range(gap, progress), f"system {system}"))
        except SynclineError as error:
            found.append(error_problem(error, f"system {system}"))
        finally:
            source.close()
    return found if places else _lost(assembly)


def _lost(assembly: Assembly) -> list[Problem]:
    """The same for a state folder that holds nothing."""
    settings = assembly.settings
    directions = [(rule.source.name.system, rule.target.name.system) for rule in assembly.rules]
    sinks = {system: assembly.adapters[system].sink(settings.name) for system in {target for _, target in directions} - set(assembly.unreachable)}
    try:
        insist_on_ledger(settings, [pair for pair in directions if pair[1] in sinks], sinks)
    except SynclineError as error:
        return [error_problem(error, "state folder")]
    finally:
        for sink in sinks.values():
            sink.close()
    return []
