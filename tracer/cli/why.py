"""``nattrace why FLOW`` as click knows it: help, completion, and every command line that quick.py leaves to it."""

from __future__ import annotations

from typing import Any

import click

from .answer import answer
from .complete import flow as complete_flow
from .options import declare
from .table import SNAPSHOT, WHY, spelled


class Why(click.Command):
    """A command some of whose options may be without their value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spelled(args))


@click.command(cls=Why, short_help="What happens to a flow, hop by hop, and why.")
@click.argument("flow", nargs=-1, required=True, shell_complete=complete_flow)
@lambda command: declare(command, (*SNAPSHOT, *WHY))
def why(flow: tuple[str, ...], **options: Any) -> int:
    """What happens to FLOW, hop by hop, and why.

    \b
    FLOW: [PROTO] [SRC[:SPORT]] [->] DST[:DPORT] [in IFACE] [at HOST] [uid USER] [mark N] …
    or a pasted line of tcpdump, conntrack -L, a netfilter LOG line, ss -tn.
    """
    return answer(flow, options)
