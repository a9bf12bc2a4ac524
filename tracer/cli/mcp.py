"""``nattrace mcp``."""

from __future__ import annotations

from typing import Any

import click

from .options import load, snapshot_options


@click.command(short_help="The same questions over the Model Context Protocol (standard input and output).")
@snapshot_options
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    metavar="FILE",
    help="A bundle of confirm --save, to be replayed; may be repeated.",
)
@click.option("--list", "list_", is_flag=True, help="Print the tools and their arguments as JSON, and end.")
def mcp(list_: bool, bundles: tuple[str, ...], **options: Any) -> int:
    """Serve why, simulate, explain and overview of one snapshot to an MCP client, read-only.

    \b
    Examples:
      nattrace mcp -S twice-through-conntrack --list
      nattrace mcp -S router.tar.gz          # as the command of a client's configuration
    """
    from nattrace.sim.notebook import Snapshot

    from ..mcp import make_server

    server = make_server(Snapshot(load(options)), bundles)
    if list_:
        import asyncio

        from .options import print_json

        tools = asyncio.run(server.list_tools())
        print_json([{"name": t.name, "description": t.description, "input": t.input_schema} for t in tools])
        return 0
    server.run("stdio")
    return 0
