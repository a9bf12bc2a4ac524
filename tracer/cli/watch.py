"""``nattrace watch [-- COMMAND]``: keep confirming every new connection."""

from __future__ import annotations

from typing import Any

import click

from .options import snapshot_options
from .trace import WithCommand, seconds


@click.command(cls=WithCommand, short_help="Live: keep confirming every new connection until stopped.")
@snapshot_options
@click.option("--netns", multiple=True, metavar="[HOST=]NAME|PID|CONTAINER", help="Where to look; may be repeated.")
@click.option("--lab", metavar="NAME", help="All hosts of this lab (nattrace lab up).")
@click.option("-c", "--count", type=click.IntRange(1), metavar="N", help="End after N connections.")
@click.option("-t", "--time", "duration", callback=seconds, metavar="30s", help="End after this time.")
@click.option(
    "--metrics", metavar="[ADDRESS:]PORT", help="Sums for Prometheus; on the loopback unless ADDRESS says otherwise."
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines: the sums every ten seconds, then the total.")
@click.option("--plain", is_flag=True, help="Lines instead of a live view.")
@click.option("--ready-file", metavar="FILE", help="Written when everything is in place.")
@click.option("-q", "--quiet", is_flag=True, help="Only the summary at the end.")
@click.option("-v", "--verbose", is_flag=True, help="Checks of residue at the end.")
@click.pass_context
def watch(ctx: click.Context, **options: Any) -> int:
    """Predict every new connection of this host, and hold it against what the kernel made of it.

    Verdict, translation, zone and interface are compared. It runs until interrupted, or while COMMAND runs. Exit
    status: 0 all as expected, 1 some were not, 4 nothing could be checked.

    \b
    Examples:
      nattrace watch
      nattrace watch --netns router -t 10m --metrics 9433
      nattrace watch -S yesterday.tar.gz --json -- curl -s http://192.0.2.7/
    """
    from ..live.watch import watch as run

    return run(ctx.meta.get("nattrace.command", []), options)
