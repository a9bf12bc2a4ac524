"""``nattrace snapshot``: capture this host or network namespaces."""

from __future__ import annotations

from typing import Any

import click

from .options import print_json


@click.command(short_help="Capture this host, or network namespaces, into a snapshot.")
@click.argument("out", required=False, metavar="[OUT]")
@click.option("--netns", multiple=True, metavar="NAME|PID|CONTAINER", help="A network namespace; may be repeated.")
@click.option(
    "--all-netns", is_flag=True, help="Every network namespace of this machine, with the segments between them."
)
@click.option("--anonymize", is_flag=True, help="Keep prefixes and equality, and no real address, name or comment.")
@click.option(
    "--script",
    "as_script",
    is_flag=True,
    help="Print a plain shell script that does it where nattrace is not installed.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document about what was written.")
def snapshot(out: str | None, **options: Any) -> int:
    """Capture into OUT: a directory, .tar, .tar.gz or .zip; by default snapshot-HOST-TIME in the current directory."""
    import sys

    from ..capture import capture, script

    if options["as_script"]:
        sys.stdout.write(script())
        return 0
    from pathlib import Path

    report = capture(
        Path(out or _default_name()), list(options["netns"]) or None, options["all_netns"], options["anonymize"]
    )
    if options["as_json"]:
        print_json(
            {"schema": "nattrace/snapshot/1", "target": str(report.target), "hosts": report.hosts, "unread": report.unread,
             "notes": report.notes, "seconds": round(report.seconds, 3)}
        )  # fmt: skip
        return 0
    from nattrace.sim.render.style import clean

    print(f"{report.target}: {', '.join(map(clean, report.hosts))}")
    for host, items in report.unread.items():
        for item in items:
            print(clean(f"  not read on {host}: {item}"), file=sys.stderr)
    for note in report.notes:
        print(clean(f"  {note}"), file=sys.stderr)
    return 0


def _default_name() -> str:
    import socket
    import time

    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in socket.gethostname()) or "host"
    return f"snapshot-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
