"""`syncline bench`: how fast it is, beside PostgreSQL's own replication."""

from __future__ import annotations

import click

from engine.cli.command import Command

PARTS = ("native", "syncline", "captured", "latency")


@click.command("bench", cls=Command)
@click.option("--scale", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, help="Size of the load; 1 is a million rows.")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Runs of each part; medians are shown.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Only this part; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.pass_context
def command(ctx: click.Context, scale: float, samples: int, only: tuple[str, ...], as_json: bool) -> None:
    """Measure throughput and latency on throwaway servers.

    Needs a checkout: the measurements are not part of an installed package. Exit code 4 when a part failed or both sides differ at its end.
    """
    try:
        from bench.run import main
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "bench":
            raise
        raise click.UsageError("the measurements are not installed; call this in a checkout of the source") from None
    ctx.exit(main(scale=scale, samples=samples, only=only or PARTS, as_json=as_json))
