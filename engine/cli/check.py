"""`syncline check`: what stands in the way, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.command import FOUND, Command, config_option, json_option, print_json

if TYPE_CHECKING:
    from engine.ports import Problem


@click.command("check", cls=Command)
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, config: Path, as_json: bool) -> None:
    """Verify both sides, rights and rules; change nothing.

    Connects to both databases and looks at log settings, rights, keys, types and rules.
    """
    from engine.settings import load

    settings = load(config)
    from engine.runtime.check import check

    problems = check(settings)
    ok = all(problem.severity != "error" for problem in problems)
    if as_json:
        listed = [{"severity": p.severity, "where": p.where, "what": p.what, "fix": p.fix} for p in problems]
        print_json({"ok": ok, "problems": listed})
    else:
        _tell(problems, f"{_count(len(settings.systems), 'system')}, {_count(len(settings.rules), 'rule')}")
    ctx.exit(0 if ok else FOUND)


def _tell(problems: Sequence[Problem], size: str) -> None:
    ordered = sorted(problems, key=lambda p: (p.severity != "error", p.where))
    for (severity, where), group in groupby(ordered, key=lambda p: (p.severity, p.where)):
        click.echo(click.style(severity, fg="red" if severity == "error" else "yellow", bold=True) + f"  {where}")
        for problem in group:
            click.echo(f"    {problem.what}")
            if problem.fix:
                click.echo(click.style(f"    → {problem.fix}", dim=True))
        click.echo()
    errors = sum(p.severity == "error" for p in problems)
    warnings = len(problems) - errors
    counts = [_count(n, word) for n, word in ((errors, "error"), (warnings, "warning")) if n]
    click.echo(f"{size}: {', '.join(counts) if counts else 'all good'}")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
