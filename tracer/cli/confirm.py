"""``nattrace confirm FLOW [-- COMMAND]``: predict, observe, and say hook by hook whether the kernel agreed."""

from __future__ import annotations

from typing import Any

import click

from .options import snapshot_options
from .trace import WithCommand, seconds


@click.command(cls=WithCommand, short_help="Live: predict, observe, and say hook by hook whether the kernel agreed.")
@click.argument("flow", nargs=-1)
@snapshot_options
@click.option(
    "--netns",
    multiple=True,
    metavar="[HOST=]NAME|PID|CONTAINER",
    help="Where to look; may be repeated. Default: the predicted path. HOST: of the snapshot.",
)
@click.option("--lab", metavar="NAME", help="The hosts of the snapshot are namespaces of this lab (nattrace lab up).")
@click.option("-c", "--count", type=click.IntRange(1), metavar="N", help="End after N packets.")
@click.option("-t", "--time", "duration", callback=seconds, metavar="30s", help="End after this time.")
@click.option("--probe", is_flag=True, help="Send the flow's first packet (with --allow-changes).")
@click.option(
    "--rules", is_flag=True, help="Which rules matched too: exactly with --allow-changes, else by their counters."
)
@click.option("--allow-changes", is_flag=True, help="Allow what is not only looking; it is said first what.")
@click.option("--save", metavar="BUNDLE", help="Save the evidence: snapshot, events, verdict.")
@click.option("-r", "--read", metavar="BUNDLE", help="Judge saved evidence again, on any machine.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--ready-file", metavar="FILE", help="Written when everything is in place.")
@click.option("-q", "--quiet", is_flag=True, help="The first line only.")
@click.option("-v", "--verbose", is_flag=True, help="Every place, also where nothing happens; checks of residue.")
@click.pass_context
def confirm(ctx: click.Context, flow: tuple[str, ...], **options: Any) -> int:
    """Predict what happens to FLOW, observe its packets in the kernel, and compare hook by hook.

    Without COMMAND, -c and -t it waits for the flow and ends when that is quiet. Exit status: 0 confirmed,
    1 the kernel did otherwise, 4 undecided.

    \b
    Examples:
      nattrace confirm 'icmp 10.10.1.1 -> 8.8.8.8' --netns host -- ip netns exec client ping -c1 8.8.8.8
      nattrace confirm 'udp 10.0.0.2 -> 8.8.8.8:53' -S snap --save case.bundle
      nattrace confirm -r case.bundle
    """
    from ..live.confirm import confirm as run

    return run(" ".join(flow), ctx.meta.get("nattrace.command", []), options)
