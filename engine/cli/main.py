"""The `syncline` command: the list of its commands. Each is imported when it is called or listed."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import click

from engine.cli.command import group_config_option

COMMANDS = {
    "check": "engine.cli.check",
    "run": "engine.cli.run",
    "status": "engine.cli.status",
    "reconcile": "engine.cli.reconcile",
    "quarantine": "engine.cli.quarantine",
    "conflicts": "engine.cli.conflicts",
    "resync": "engine.cli.resync",
    "bench": "engine.cli.bench",
    "demo": "engine.cli.demo",
}
"""Name to module; the module holds the click command under `command`."""


class Commands(click.Group):
    """Lists its commands in the order of `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [name for name, module in COMMANDS.items() if importlib.util.find_spec(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module = COMMANDS.get(cmd_name)
        if module is None or importlib.util.find_spec(module) is None:
            return None
        found: click.Command = importlib.import_module(module).command
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="syncline", message="syncline %(version)s")
@group_config_option
def main(config: Path | None) -> None:
    """Keeps a CRM and an ERP database in agreement, both ways.

    Exit codes: 0 good, 1 found what it looks for (problems, differences, rows set aside), 2 usage or configuration, 4 failed.
    """
