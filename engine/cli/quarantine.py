"""`syncline quarantine`: the rows that were set aside, each with its reason."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.command import FOUND, Command, config_option, group_config_option, json_option, print_json, table, told


@click.group("quarantine")
@group_config_option
def command(config: Path | None) -> None:
    """Rows set aside because the target refused them."""


@command.command("list", cls=Command)
@config_option
@json_option
@click.pass_context
def list_rows(ctx: click.Context, config: Path, as_json: bool) -> None:
    """List the rows set aside. Exit code 1 when there are any."""
    from engine.settings import load

    settings = load(config)
    from engine.observe.status import list_quarantine

    rows = list_quarantine(settings)
    columns = ("id", "rule", "key", "reason", "since", "attempts")
    if as_json:
        print_json(rows)
    elif rows:
        click.echo(table([tuple(told(row.get(column)) for column in columns) for row in rows], columns))
    else:
        click.echo("no rows are set aside")
    ctx.exit(FOUND if rows else 0)
