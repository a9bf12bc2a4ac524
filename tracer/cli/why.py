"""``nattrace why FLOW``."""

from __future__ import annotations

from typing import Any

import click

from .options import load, print_json, snapshot_options


@click.command(short_help="What happens to a flow, hop by hop, and why.")
@click.argument("flow", nargs=-1, required=True)
@snapshot_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("-v", "--verbose", is_flag=True, help="Every step, near misses, captures, all fixes.")
@click.option("-q", "--quiet", is_flag=True, help="The verdict line only.")
@click.option(
    "--expect",
    multiple=True,
    metavar="WHAT",
    help="delivered | dropped | 'rule nat:POSTROUTING:3' | 'snat A' | 'dnat A:P' | 'out IFACE' | reply: "
    "why it did not happen (status 1).",
)
@click.option(
    "--set", "set_", multiple=True, metavar="SYSCTL=VALUE", help="What if this sysctl were different (… at HOST)."
)
@click.option("--add", multiple=True, metavar="RULE", help="What if 'iptables -t nat -A …' had been run.")
@click.option("--insert", multiple=True, metavar="RULE", help="The same with -I.")
@click.option("--delete", multiple=True, metavar="RULE", help="The same with -D.")
@click.option("--route", multiple=True, metavar="ROUTE", help="What if 'ip route add …' had been run.")
@click.option("--rule", multiple=True, metavar="RULE", help="What if 'ip rule add …' had been run.")
@click.option("--conntrack-flush", is_flag=True, help="What if the conntrack tables were empty.")
@click.option("--without", multiple=True, metavar="FILE", help="As if this file were not in the snapshot.")
@click.option("--strict", is_flag=True, help="Read and validate every rule, reached or not.")
@click.option("--no-fixes", is_flag=True, help="Do not look for fixes.")
@click.option(
    "--sample",
    type=click.IntRange(0, 10000),
    default=None,
    metavar="N",
    help="How many other flows to try for side effects.",
)
def why(flow: tuple[str, ...], **options: Any) -> int:
    """What happens to FLOW, hop by hop, and why.

    \b
    FLOW: [PROTO] [SRC[:SPORT]] [->] DST[:DPORT] [in IFACE] [at HOST] [uid USER] [mark N] …
    or a pasted line of tcpdump, conntrack -L, a netfilter LOG line, ss -tn.
    """
    from nattrace.sim.explain.answer import explain
    from nattrace.sim.explain.parts import SAMPLE
    from nattrace.sim.flow import parse_flow

    world = load(options, options["strict"])
    question = parse_flow(" ".join(flow), world)
    edits = _edits(world, question.host, options)
    expect = options["expect"]
    want_fixes = not options["no_fixes"] and not options["quiet"]
    sample = SAMPLE if options["sample"] is None else options["sample"]
    before = None
    if edits:
        from nattrace.sim.explain.whatif import apply_all

        before = explain(world, question, fixes=False)
        world = apply_all(world, edits)
        question = parse_flow(" ".join(flow), world)
    found = explain(world, question, expect=expect, sample=sample, fixes=want_fixes)
    if edits:
        found.before = before
        found.edits = [f"{e.host}: {c}" for e in edits for c in e.commands()]
    _show(found, options)
    return _status(found)


def _edits(world: Any, host: str, options: dict[str, Any]) -> list[Any]:
    given = {"set": options["set_"]} | {
        k: options[k] for k in ("add", "insert", "delete", "route", "rule", "without", "conntrack_flush")
    }
    if not any(given.values()):
        return []
    from nattrace.sim.explain.whatif import parse_edits

    return parse_edits(world, given, host)


def _show(found: Any, options: dict[str, Any]) -> None:
    import sys

    if options["as_json"]:
        print_json(found.to_json())
        return
    from nattrace.sim.render.style import wants_colour, width_of
    from nattrace.sim.render.text import render

    text = render(
        found,
        width=width_of(sys.stdout),
        verbose=options["verbose"],
        quiet=options["quiet"],
        colour=wants_colour(sys.stdout),
    )
    sys.stdout.write(text)


def _status(found: Any) -> int:
    """1: an expectation is not met; 4: it cannot be decided."""
    met = [e.met for e in found.expectations]
    if False in met:
        return 1
    return 4 if None in met else 0
