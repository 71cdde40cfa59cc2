"""`syncline resync`: reads rows again, one rule or all."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.command import Command, config_option
from engine.errors import ConfigError, SynclineError


@click.command("resync", cls=Command)
@click.argument("rule", required=False)
@click.option("--all", "everything", is_flag=True, help="After the state folder was lost: make a new ledger from what both sides hold.")
@config_option
def command(rule: str | None, everything: bool, config: Path) -> None:
    """Read all rows of RULE again, and write what differs.

    With --all in place of a rule: the state folder is lost, and its ledger is made again from both databases. Rows that agree are left alone.
    """
    if (rule is not None) == everything:
        raise ConfigError([SynclineError("resync takes either a rule or --all", where="resync", fix="syncline resync --help")])
    from engine.settings import load

    settings = load(config)
    names = [known.name for known in settings.rules]
    if rule is not None and rule not in names:
        raise ConfigError([SynclineError(f"there is no rule {rule}", where=config.name, fix=f"rules are: {', '.join(names)}")])
    if rule is None:
        from engine.runtime.daemon import resync_all

        resync_all(settings)
    else:
        from engine.runtime.daemon import resync

        resync(settings, rule)
