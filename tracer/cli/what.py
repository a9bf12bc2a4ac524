"""``nattrace what FILE.pcap``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import say
from .complete import files, hosts, interfaces
from .options import load, print_json, screen_options, snapshot_options
from .screen import coloured, put

if TYPE_CHECKING:
    from nattrace.sim.model.world import World

    from ..pcap import Capture, Place


@click.command(short_help="What the host must have done to the packets of a capture.")
@click.argument("file", required=False, shell_complete=files)
@snapshot_options
@click.option(
    "--at", "host", metavar="HOST", shell_complete=hosts, help="Host of the snapshot where the capture was taken."
)
@click.option(
    "--in",
    "in_",
    metavar="IFACE",
    shell_complete=interfaces,
    help="Interface of FILE (or of --before); often the file tells.",
)
@click.option("--before", metavar="FILE", help="Two captures: packets before the host …")
@click.option("--after", metavar="FILE", help="… and after it, on the same clock; matched across NAT.")
@click.option("--out", metavar="IFACE", shell_complete=interfaces, help="Interface of --after.")
@click.option(
    "--flows", type=click.IntRange(1, 100000), default=20, help="How many flows (or matches of a kind) to show."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@screen_options
def what(file: str | None, **options: Any) -> int:
    """For each flow of FILE: where its packets came from and what becomes of them; with --before and --after: which
    packet became which, and where the others vanished.

    \b
    Examples:
      nattrace what eth1.pcap -S router.tar.gz --in eth1
      nattrace what --before lan.pcap --after wan.pcap -S router.tar.gz --in eth1 --out eth0
    """
    from nattrace.sim.errors import InputError

    before, after = options["before"], options["after"]
    if (file is None) == (before is None) or (before is None) != (after is None):
        raise InputError(
            "name one capture, or two with --before and --after", remedy="nattrace what FILE.pcap -S SNAPSHOT"
        )
    world = load(options)
    if file is not None:
        return _one(world, file, options)
    return _two(world, before, after, options)


def _one(world: World, file: str, options: dict[str, Any]) -> int:
    from nattrace.sim.what.story import stories, story_json

    from ..pcap import place_of, read_capture, sightings

    capture = read_capture(file)
    place = place_of(world, capture, options["host"], options["in_"])
    start = min((f.time for f in capture.frames), default=0.0)
    found = stories(world, list(sightings(world, capture, place, start)))
    if options["as_json"]:
        print_json(_document(capture, place) | {"flows": [story_json(s) for s in found]})
    else:
        import sys

        from nattrace.sim.render.style import Style, width_of
        from nattrace.sim.render.what_text import stories_text

        text = stories_text(found, width_of(sys.stdout), Style(coloured(options["plain"])), options["flows"])
        put(text, plain=options["plain"], pager=not options["no_pager"])
    _notes(capture)
    return 0


def _two(world: World, before: str, after: str, options: dict[str, Any]) -> int:
    from nattrace.sim.what.matching import match

    from ..pcap import place_of, read_capture, sightings

    first, second = read_capture(before), read_capture(after)
    here = place_of(world, first, options["host"], options["in_"])
    there = place_of(world, second, options["host"], options["out"])
    start = min((f.time for f in (*first.frames, *second.frames)), default=0.0)
    found = match(world, list(sightings(world, first, here, start)), list(sightings(world, second, there, start)))
    if options["as_json"]:
        print_json(
            _document(first, here) | {"after": _document(second, there), "matches": [_match_json(m) for m in found]}
        )
    else:
        import sys

        from nattrace.sim.render.style import Style, width_of
        from nattrace.sim.render.what_text import matches_text

        text = matches_text(found, width_of(sys.stdout), Style(coloured(options["plain"])), options["flows"])
        put(text, plain=options["plain"], pager=not options["no_pager"])
    _notes(first)
    _notes(second)
    return 0


def _document(capture: Capture, place: Place) -> dict[str, Any]:
    return {
        "schema": "nattrace/what/1",
        "capture": capture.path,
        "host": place.host,
        "interface": place.dev,
        "skipped": capture.skipped,
        "cut": capture.cut,
    }


def _match_json(m: Any) -> dict[str, Any]:
    from nattrace.sim.engine.simulate import reason_json

    return {
        "kind": m.kind,
        "before": _sighting_json(m.before),
        "after": _sighting_json(m.after),
        "predicted": m.predicted,
        "outcome": None if m.leaf is None else m.leaf.outcome,
        "reason": None if m.leaf is None else reason_json(m.leaf.reason),
    }


def _sighting_json(seen: Any) -> dict[str, Any] | None:
    return None if seen is None else {"interface": seen.dev, "number": seen.number, "packet": seen.packet}


def _notes(capture: Capture) -> None:
    if capture.skipped:
        say(f"nattrace: {capture.path}: {capture.skipped} frames that are no IPv4 packet were left out")
    if capture.cut:
        say(f"nattrace: {capture.path}: only the first {len(capture.frames) + capture.skipped} packets were read")
