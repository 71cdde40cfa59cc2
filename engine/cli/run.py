"""`syncline run`: the daemon, in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.command import Command, config_option


@click.command("run", cls=Command)
@config_option
@click.option("--until-idle", is_flag=True, help="Exit 0 once both logs are read to their end as of now and nothing is pending.")
def command(config: Path, until_idle: bool) -> None:
    """Keep both sides in agreement.

    Runs in the foreground. SIGTERM or Ctrl-C: finish the batch, checkpoint, exit 0.
    """
    from engine.settings import load

    settings = load(config)
    from engine.runtime.daemon import run

    run(settings, until_idle)
