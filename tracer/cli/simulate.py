"""``nattrace simulate``: JSON lines in, JSON lines out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import click

from . import say
from .options import load, snapshot_options

LONGEST = 1 << 20  # characters of a line; the largest packet that can be described is a fraction of that


@click.command(short_help="packets.jsonl in, results.jsonl out; conntrack state carried over.")
@click.argument("file", default="-", metavar="[FILE]")
@snapshot_options
@click.option("--replies", is_flag=True, help="Simulate the natural answer too, nested under reply.")
@click.option(
    "--conntrack-out", metavar="FILE", help="Write every host's conntrack table afterwards (conntrack -L -o extended)."
)
@click.option("-v", "--verbose", is_flag=True, help="Record near misses too.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines; what it prints anyway.")
@click.option("-o", "--output", metavar="FILE", default="-", help="Where the results go; standard output by default.")
@click.option(
    "--strict/--lazy", default=True, help="Read all rules first (the default), or only the chains that are reached."
)
def simulate(file: str, **options: Any) -> int:
    """Put the packets of FILE (JSON lines; - = standard input) into the snapshot, in order."""
    import json

    from nattrace.sim.engine.simulate import Simulator
    from nattrace.sim.errors import InputError
    from nattrace.sim.snapshot.learn import Learner

    world = load(options, options["strict"])
    learner = Learner(world)
    simulator = Simulator(world, verbose=options["verbose"], replies=options["replies"], learn=learner)
    status = 0
    with (
        click.open_file(file, "r", encoding="utf-8", errors="replace") as lines,
        click.open_file(options["output"], "w", encoding="utf-8") as out,
    ):
        for number, line in _numbered(lines):
            try:
                result = simulator.feed(_record(line))
            except InputError as error:
                say(f"nattrace: line {number}: {error}")
                status = 2
                continue
            out.write(json.dumps(result, separators=(",", ":")) + "\n")
    if options["conntrack_out"]:
        _conntrack_out(simulator, options["conntrack_out"])
    return status


def _numbered(lines: IO[str]) -> Iterator[tuple[int, str]]:
    """Lines that are not empty with their numbers from 1; of one that never ends only the beginning."""
    number = 0
    whole = True
    while piece := lines.readline(LONGEST):
        number += whole
        if whole and piece.strip():
            yield number, piece
        whole = piece.endswith("\n")


def _record(line: str) -> Any:
    import json

    from nattrace.sim.errors import InputError

    if len(line) >= LONGEST:
        raise InputError(f"longer than {LONGEST} characters")
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        where = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(
            f"not JSON{where}", remedy='example: {"host": "router", "in": "eth0", "src": "10.0.0.2", "dst": "8.8.8.8"}'
        ) from None


def _conntrack_out(simulator: Any, path: str) -> None:
    from nattrace.sim.render.conntrack_text import table_text

    with click.open_file(path, "w", encoding="utf-8") as out:
        for host in simulator.world.hosts:
            out.write(f"# host {host}\n")
            out.write(table_text(simulator.conntrack(host), simulator.state))
