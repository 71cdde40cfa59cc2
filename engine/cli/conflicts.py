"""`syncline conflicts`: what was decided, and what waits for a person."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.command import FOUND, Command, config_option, group_config_option, json_option, print_json, table, told


@click.group("conflicts")
@group_config_option
def command(config: Path | None) -> None:
    """What was decided, and what waits for a person."""


@command.command("list", cls=Command)
@config_option
@json_option
@click.pass_context
def list_rows(ctx: click.Context, config: Path, as_json: bool) -> None:
    """List the conflicts. Exit code 1 when there are any."""
    from engine.settings import load

    settings = load(config)
    from engine.observe.status import list_conflicts

    rows = list_conflicts(settings)
    if as_json:
        print_json(rows)
    elif rows:
        columns = tuple(dict.fromkeys(name for row in rows for name in row))
        click.echo(table([tuple(told(row.get(column)) for column in columns) for row in rows], columns))
    else:
        click.echo("no conflicts")
    ctx.exit(FOUND if rows else 0)
