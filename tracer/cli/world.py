"""The world that a command line is about, and how a command prints a document; without the option parser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .table import SINGLE_FILES

if TYPE_CHECKING:
    from nattrace.sim.model.world import World


def load(options: dict[str, Any], strict: bool = False) -> World:
    """The world that -S and the single files describe; without any, this host as it is now."""
    from nattrace.sim.snapshot.load import load_world

    single = {kind: options.pop(f"file_{kind.replace('-', '_')}") for kind in SINGLE_FILES}
    named = {kind: file for kind, file in single.items() if file}
    path = options.pop("snapshot", None)
    if path is None and not named:
        return live(strict)
    return load_world(path, strict=strict, single_files=named or None)


def live(strict: bool = False) -> World:
    """This host, captured into a temporary directory that lasts as long as the process."""
    import atexit
    import shutil
    import sys
    import tempfile
    from pathlib import Path

    from nattrace.sim.errors import MissingFacility
    from nattrace.sim.snapshot.load import load_world

    if not sys.platform.startswith("linux"):
        raise MissingFacility(
            f"this host ({sys.platform}) has no netfilter to read",
            remedy="name a snapshot: -S PATH (snapshot --script makes one)",
        )
    from .. import scratch
    from ..capture import capture

    home = Path(tempfile.mkdtemp(prefix=scratch.prefix()))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    report = capture(home / "this-host", None)
    world = load_world(home / "this-host", strict=strict)
    unread = tuple(f"{host}: not read: {what}" for host, items in report.unread.items() for what in items)
    if unread:
        from dataclasses import replace

        world = replace(world, notes=(*world.notes, *unread))
    return world


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    import json
    import sys

    sys.stdout.write(json.dumps(document, indent=2 if sys.stdout.isatty() else None) + "\n")
