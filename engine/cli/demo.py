"""`syncline demo`: a complete two-way run on throwaway databases that it starts itself."""

from __future__ import annotations

import click

from engine.cli.command import Command


@click.command("demo", cls=Command)
@click.option("--seconds", type=click.FloatRange(min=1), default=20.0, show_default=True, help="How long people write.")
@click.option("--rate", type=click.FloatRange(min=1), default=200.0, show_default=True, help="Rows that people change per second, both sides together.")
@click.option("--keep", is_flag=True, help="Leave the servers up and print how to connect to them and how to stop them.")
def command(seconds: float, rate: float, keep: bool) -> None:
    """Watch a CRM and an ERP agree.

    Starts a CRM on MariaDB and an ERP on PostgreSQL in a temporary folder, lets people write to both, some of them at odds, and compares both
    sides at the end. Exit code 0 only when both sides agree. Nothing of this machine is touched.
    """
    from rich.console import Console

    from engine.demo.show import play

    raise SystemExit(play(seconds=seconds, rate=rate, keep=keep, console=Console()))


demo = command
