"""``nattrace trace FLOW [-- COMMAND]``: show what the kernel does, without predicting."""

from __future__ import annotations

import re
from typing import Any

import click

from .options import snapshot_options


class WithCommand(click.Command):
    """Words behind ``--`` are a command to run, not the flow."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta["nattrace.command"] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


def seconds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """``30``, ``30s``, ``2m``, ``1h``, ``500ms``."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", value)
    if not found or not float(found[1]):
        raise click.BadParameter(f"{value!r}: write 30s, 2m or 500ms")
    return float(found[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, None: 1}[found[2]]


@click.command(cls=WithCommand, short_help="Live: what the kernel does to the packets of a flow.")
@click.argument("flow", nargs=-1)
@snapshot_options
@click.option(
    "--netns",
    multiple=True,
    metavar="NAME|PID|CONTAINER",
    help="Where to look; may be repeated. Default: the predicted path.",
)
@click.option("--lab", metavar="NAME", help="The hosts of the snapshot are namespaces of this lab (nattrace lab up).")
@click.option("-c", "--count", type=click.IntRange(1), metavar="N", help="End after N packets.")
@click.option("-t", "--time", "duration", callback=seconds, metavar="30s", help="End after this time.")
@click.option("--events", is_flag=True, help="One line for each event.")
@click.option(
    "--json", "as_json", is_flag=True, help="JSON lines: a story each (with --events: an event), then totals."
)
@click.option(
    "-w", "--pcapng", metavar="FILE", help="Write packets with hook and verdict as comments (- = standard output)."
)
@click.option("-o", "--output", metavar="FILE", help="Save the raw events; -r tells them again.")
@click.option("-r", "--read", metavar="FILE", help="Tell what was saved with -o.")
@click.option("--filter", "expression", metavar="PCAP", help="Also a tcpdump expression.")
@click.option(
    "--in", "iface", metavar="IFACE", help="Packets that come or go by this device; their flows from then on."
)
@click.option("--mark", metavar="N[/MASK]", help="Packets with this mark; their flows from then on.")
@click.option("--uid", metavar="USER", help="Packets of this user's sockets; their flows from then on.")
@click.option(
    "--rules", is_flag=True, help="Which rules matched: exactly with --allow-changes, else by their counters."
)
@click.option("--tap", type=click.Choice(["bpf", "queue"]), default="bpf", help="queue: by nfqueue, without BPF.")
@click.option("--step", is_flag=True, help="With --tap queue: hold each packet at each hook until Enter.")
@click.option("--allow-changes", is_flag=True, help="Allow what changes this host; it is said first what.")
@click.option("--ready-file", metavar="FILE", help="Written when everything is in place.")
@click.option("-q", "--quiet", is_flag=True, help="The first line of each story only.")
@click.option("-v", "--verbose", is_flag=True, help="Every step with its time, copies, checks of residue.")
@click.pass_context
def trace(ctx: click.Context, flow: tuple[str, ...], **options: Any) -> int:
    """Show what the kernel does to the packets of FLOW and their answers, until interrupted, or while COMMAND runs.

    \b
    Examples:
      nattrace trace 'udp 10.0.0.2 -> 8.8.8.8:53' -c 1
      nattrace trace 'icmp 10.10.1.1 -> 8.8.8.8' --netns host -- ip netns exec client ping -c1 8.8.8.8
      nattrace trace 'tcp 10.0.0.2 -> 1.2.3.4:443' --rules --allow-changes -w trace.pcapng
    """
    from ..live.run import run

    return run(" ".join(flow), ctx.meta.get("nattrace.command", []), options)
