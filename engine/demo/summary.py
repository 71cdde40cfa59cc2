"""The last page of the demo, for a person: what was done, what came of it, and how to look for oneself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from engine.demo.people import Probe
from engine.demo.proof import Quarrels, Reconciled
from engine.demo.stage import Side, Stage
from engine.demo.view import percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that was measured. before, after: reconcile before and after the bad row was mended. first_read: rows and seconds. worked: seconds."""

    worked: float
    first_read: Any
    changed: Mapping[str, int]
    quarrelled: Mapping[str, int]
    carried: Mapping[str, int]
    visible: Mapping[str, Sequence[float]]
    late: int
    conflicts: int
    quarrels: Quarrels
    before: Reconciled
    after: Reconciled
    memory_mb: float | None

    @property
    def good(self) -> bool:
        return self.before.good and self.after.equal and not self.after.quarantine and self.quarrels.good


def tell(console: Console, outcome: Outcome) -> int:
    """Prints the summary; returns the exit code of the demo."""

    def say(text: str = "", style: str | None = None) -> None:
        console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    o = outcome
    say()
    say("What happened", "bold")
    say(f"  The first read, {o.first_read.rows:,} rows that stood on one side only, was done {o.first_read.seconds:.1f} s after the start of syncline run.")
    twice = 2 * (o.quarrelled["same_field"] + o.quarrelled["same_record"]) + o.quarrelled["wrong_side"]
    total = sum(o.changed.values()) + twice
    say(f"  In {o.worked:.0f} s people changed {o.changed['CRM']:,} rows in the CRM and {o.changed['ERP']:,} in the ERP, and {twice:,} more in quarrels"
        f" ({total / max(o.worked, 1e-9):,.0f} a second).")  # fmt: skip
    say(f"  Syncline carried {o.carried['CRM']:,} rows from the CRM to the ERP and {o.carried['ERP']:,} back, the first read included.")
    for side, other in (("CRM", "ERP"), ("ERP", "CRM")):
        times = o.visible[side]
        if times:
            half, most = percentile(times, 0.5) * 1000, percentile(times, 0.99) * 1000
            say(f"  A commit in the {side} was visible in the {other} after {half:.0f} ms (median), {most:.0f} ms (99 %), of {len(times)} measured.")
    if o.late:
        say(f"  {o.late} of the measured changes took longer than {Probe.PATIENCE:.0f} s.", "red")
    if o.memory_mb:
        say(f"  Memory of the daemon at the end: {o.memory_mb:.0f} MB.")
    say()
    say("Quarrels (read from both databases directly)", "bold")
    ways = (
        ("same_field", "times the same field was changed on both sides at once", "records hold one value on both sides", o.quarrels.same_field),
        ("same_record", "times two fields of one record were, one on each side", "records kept both changes", o.quarrels.same_record),
        ("wrong_side", "times the CRM changed a credit limit, which the ERP owns", "records have the owner's value again", o.quarrels.wrong_side),
    )
    for way, what, came, (looked, right) in ways:
        say(f"  {o.quarrelled[way]:4,} {what}: {right} of {looked} {came}.", None if looked == right else "red")
    say(f"  Syncline counted {o.conflicts:,} conflicts and decided each.")
    say()
    say("Set aside", "bold")
    for row in o.before.quarantine:
        say(f"  {row['rule']}, {row['key']}: {row['reason']}")
    if not o.before.quarantine:
        say("  nothing, although one bad row was written: it should stand here", "red")
    _tell_mended(say, o)
    say()
    _tell_comparison(console, o.after)
    for line in (o.before.unexplained + o.after.unexplained)[:10]:
        say(f"  not explained: {line}", "red")
    say()
    if o.good and o.before.quarantine:
        say("Both sides agree.", "bold green")
        return 0
    say("Both sides do not agree, or a promise was not kept: see the lines in red.", "bold red")
    return 1


def _tell_mended(say: Any, o: Outcome) -> None:
    if o.after.quarantine:
        say(f"  After the row was mended in the CRM, {len(o.after.quarantine)} still stand here.", "red")
    elif o.before.quarantine:
        say("  Then somebody shortened the name in the CRM: the row went through, and nothing is set aside any more.")


def _tell_comparison(console: Console, result: Reconciled) -> None:
    table = Table(title="syncline reconcile, after that", title_justify="left", title_style="bold")
    table.add_column("rule")
    for name in ("rows", "equal", "different"):
        table.add_column(name, justify="right")
    for name, rule in result.rules.items():
        different = sum(int(count) for count in rule["differences"].values())
        table.add_row(name, f"{rule['rows']:,}", f"{rule['equal']:,}", f"{different:,}")
    console.print(table)


def connections(console: Console, stage: Stage, program: str) -> None:
    """Hands the servers over and says how to use and stop them."""

    def say(text: str = "") -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    stop = "; ".join(f"kill -{s.server.stop_signal.name.removeprefix('SIG')} {s.server.hand_over()}" for s in (stage.crm, stage.erp))
    (stage.folder / "owner").unlink()
    folders = [str(side.server.folder) for side in (stage.crm, stage.erp)]
    say()
    say("The servers stay up (--keep).")
    for side in (stage.crm, stage.erp):
        say(f"  {side.name}, {side.product}:  {_client(side)}")
    say(f"  Syncline:  {program} run -c {stage.config}")
    say(f"             {program} status -c {stage.config}")
    say(f"  To stop and remove all:  {stop}; sleep 2; rm -rf {' '.join([*folders, str(stage.folder)])}")


def _client(side: Side) -> str:
    if side.url.startswith("mysql"):
        parts = urlsplit(side.url)
        return f"mariadb -h 127.0.0.1 -P {parts.port} -u {parts.username} {parts.path.lstrip('/')}"
    return f"psql {side.url}"
