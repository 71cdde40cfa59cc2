"""`syncline reconcile`: proves that both sides agree, or shows where they do not."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.command import Command, config_option, json_option, print_json


@click.command("reconcile", cls=Command)
@config_option
@click.option("--rule", "rules", multiple=True, metavar="NAME", help="Only this rule; may be repeated.")
@json_option
@click.pass_context
def command(ctx: click.Context, config: Path, rules: tuple[str, ...], as_json: bool) -> None:
    """Compare both sides through the rules, row by row.

    Exit codes: 0 equal, 1 confirmed differences, 2 usage, 3 incomplete, 4 failed.
    """
    from engine.settings import load

    settings = load(config)
    from engine.reconcile.compare import reconcile

    report = reconcile(settings, rules)
    if as_json:
        print_json(report.to_json())
    else:
        for line in report.lines():
            click.echo(line)
    ctx.exit(report.exit_code)
