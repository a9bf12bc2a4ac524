"""``nattrace view``."""

from __future__ import annotations

from typing import Any

import click

from . import say
from .complete import snapshots
from .options import load, print_json, snapshot_options


@click.command(short_help="A local page to try flows and changes.")
@click.argument("name", required=False, metavar="[SNAPSHOT]", shell_complete=snapshots)
@snapshot_options
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of 127.0.0.1; by default a free one.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option("--json", "as_json", is_flag=True, help="The address as one JSON document.")
def view(name: str | None, **options: Any) -> int:
    """Serve SNAPSHOT (or this host) as a page to this machine's browser until Ctrl-C: ask for flows, try changes, see
    before and after side by side, look through hosts, rules, routes and connections. Nothing is changed.

    The address has a random token and works on this machine only; the server reads nothing but the snapshot.
    """
    import sys
    import webbrowser

    from nattrace.sim.errors import InputError

    from ..desk import Desk
    from ..view import Server

    if name is not None and options["snapshot"] is not None:
        raise InputError("name one snapshot, not two")
    options["snapshot"] = name or options["snapshot"]
    title = options["snapshot"] or "this host"
    desk = Desk(load(options), title)
    try:
        server = Server(desk, options["port"])
    except OSError as error:
        raise InputError(
            f"port {options['port']} of 127.0.0.1: {error.strerror}", remedy="choose another --port, or none"
        ) from None
    with server:
        try:
            if options["as_json"]:
                print_json({"schema": "nattrace/view/1", "url": server.url})
            else:
                print(server.url)
            sys.stdout.flush()
            say("nattrace: Ctrl-C ends it")
            if not options["no_browser"]:
                webbrowser.open(server.url)
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            say("nattrace: ended")
            return 130
    return 0
