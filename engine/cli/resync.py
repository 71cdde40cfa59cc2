"""`syncline resync`: reads all rows of one rule again."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.command import Command, config_option
from engine.errors import ConfigError, SynclineError


@click.command("resync", cls=Command)
@click.argument("rule")
@config_option
def command(rule: str, config: Path) -> None:
    """Read all rows of RULE again, and write what differs."""
    from engine.settings import load

    settings = load(config)
    names = [known.name for known in settings.rules]
    if rule not in names:
        raise ConfigError([SynclineError(f"there is no rule {rule}", where=config.name, fix=f"rules are: {', '.join(names)}")])
    from engine.runtime.daemon import resync

    resync(settings, rule)
