"""What all commands have in common: the options -c and --json, and how an error becomes a sentence and an exit code."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from engine.errors import ConfigError, SynclineError

FOUND, USAGE, FAILED = 1, 2, 4
F = TypeVar("F", bound=Callable[..., Any])


class Command(click.Command):
    """A command whose errors are sentences on stderr (with --json also the document on stdout), never tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        from engine.observe import log

        log.configure()
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(FAILED)
        except ConfigError as error:
            _show(ctx, error.problems or [error])
            ctx.exit(USAGE)
        except SynclineError as error:
            _show(ctx, [error])
            ctx.exit(FAILED)
        except Exception as error:
            _show(ctx, [_unexpected(error)])
            ctx.exit(FAILED)


def _unexpected(error: Exception) -> SynclineError:
    """A fault of ours. Only its class and place are told: a message of somebody else's may quote data."""
    if os.environ.get("SYNCLINE_DEBUG"):
        traceback.print_exception(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = f"unexpected {type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
    return SynclineError(what, where="syncline", fix="set SYNCLINE_DEBUG=1 to see the traceback, and report it")


def _show(ctx: click.Context, errors: list[SynclineError]) -> None:
    for error in errors:
        click.echo(f"error: {error}", err=True)
    if ctx.params.get("as_json"):
        problems = [{"severity": "error", "where": e.where, "what": e.what, "fix": e.fix} for e in errors]
        print_json({"ok": False, "problems": problems})


def print_json(document: object) -> None:
    """The one JSON document of a command, on stdout."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))


def _nearest_config(ctx: click.Context, param: click.Parameter, value: Path) -> Path:
    """What was given to the command itself, else to the group it stands in, else the environment's or the default."""
    if ctx.get_parameter_source(param.name or "") == ParameterSource.COMMANDLINE:
        return value
    above = ctx.parent
    while above is not None:
        given: Path | None = above.params.get("config")
        if given is not None:
            return given
        above = above.parent
    return value


def group_config_option(function: F) -> F:
    """-c/--config before the command's name, as parameter `config`; None when it is not given."""
    return click.option("-c", "--config", type=click.Path(path_type=Path), metavar="FILE", help="The configuration file.")(function)


def config_option(function: F) -> F:
    """-c/--config, as parameter `config`."""
    option = click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        envvar="SYNCLINE_CONFIG",
        default="syncline.toml",
        show_default="$SYNCLINE_CONFIG or syncline.toml",
        metavar="FILE",
        help="The configuration file.",
        callback=_nearest_config,
    )
    return option(function)


def json_option(function: F) -> F:
    """--json, as parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(function)


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Aligned columns for people."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [header, *rows])


def told(value: object) -> str:
    """A value of a document in a table: a dash for nothing."""
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list | tuple):
        return ", ".join(told(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={told(item)}" for name, item in value.items())
    return str(value)
