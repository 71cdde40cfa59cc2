"""`syncline status`: where both directions stand, also while the daemon runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.cli.command import Command, config_option, json_option, print_json, table, told


@click.command("status", cls=Command)
@config_option
@json_option
def command(config: Path, as_json: bool) -> None:
    """Show positions, lag and counts.

    Works while the daemon runs and after it stopped.
    """
    from engine.settings import load

    settings = load(config)
    from engine.observe.status import read_status

    status = read_status(settings)
    if as_json:
        print_json(status)
    else:
        _tell(status)


def _tell(status: dict[str, Any]) -> None:
    click.echo(f"state: {status['state']}\n")
    for warning in status.get("warnings", ()):
        click.echo(f"warning: {warning}\n")
    systems: dict[str, dict[str, Any]] = status["systems"]
    rows = [(name, told(s.get("lag_seconds")), told(s.get("skew_ms")), told(s.get("position"))) for name, s in systems.items()]
    click.echo(table(rows, ("system", "lag (s)", "clock (ms)", "position")) + "\n")
    columns = ("applied", "conflicts", "quarantined", "last_applied_at")
    rules: dict[str, dict[str, Any]] = status["rules"]
    listed = [(name, *(told(rule.get(column)) for column in columns)) for name, rule in rules.items()]
    click.echo(table(listed, ("rule", "applied", "conflicts", "quarantined", "last applied")))
