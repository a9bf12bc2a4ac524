"""``nattrace lab``: topologies in network namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import say
from .complete import labs as labs_here
from .complete import snapshots
from .options import print_json

if TYPE_CHECKING:
    from ..lab.topology import Topology


@click.group(short_help="Build a topology in network namespaces on this machine.")
def lab() -> None:
    """Build a topology (a snapshot directory or a TOML file) in network namespaces; remove it; run commands in it."""


@lab.command()
@click.argument("topology", shell_complete=snapshots)
@click.option("--name", default=None, help="Name of the lab: namespaces are NAME-HOST. By default the file's name.")
@click.option("--json", "as_json", is_flag=True)
def up(topology: str, name: str | None, as_json: bool) -> int:
    """Build TOPOLOGY: namespaces, links, addresses, routes, rules, sysctls, rule sets. It stays until `lab down`."""

    from ..lab.build import build

    found = _topology(topology)
    made = build(found, name or _lab_name(topology), keep=True)
    spaces = {host.name: made.netns(host.name) for host in found.hosts}
    if as_json:
        print_json({"schema": "nattrace/lab/1", "lab": made.prefix, "netns": spaces, "notes": made.notes})
        return 0
    print(f"lab {made.prefix}: {', '.join(spaces.values())}")
    for note in made.notes:
        say(f"  {note}")
    first = next(iter(spaces.values()))
    print(f"  ip netns exec {first} ping …     nattrace lab down {made.prefix}")
    return 0


def _lab_name(topology: str) -> str:
    from pathlib import Path

    stem = Path(topology).name.split(".")[0]
    return "".join(c for c in stem if c.isalnum() or c == "_")[:12] or "lab"


def _topology(text: str) -> Topology:
    from nattrace.sim.snapshot.load import bundled

    from ..lab import load_topology

    from_name = bundled(text)
    return load_topology(from_name if from_name is not None else text)


@lab.command()
@click.argument("name", required=False, shell_complete=labs_here)
@click.option("--all", "every", is_flag=True, help="All labs.")
def down(name: str | None, every: bool) -> int:
    """Remove a lab and its namespaces."""
    from nattrace.sim.errors import InputError

    from ..lab.build import down as remove
    from ..lab.build import labs

    names = [str(x["prefix"]) for x in labs()]
    if not every and name is None and len(names) != 1:
        raise InputError("which lab?", remedy=f"labs: {', '.join(names) or 'none'}")
    for one in names if every else [name or names[0]]:
        if not remove(one):
            raise InputError(f"no lab {one!r}", remedy=f"labs: {', '.join(names) or 'none'}")
        print(f"{one}: removed")
    return 0


@lab.command(name="list")
@click.option("--json", "as_json", is_flag=True)
def list_(as_json: bool) -> int:
    """The labs of this machine."""
    from ..lab.build import labs

    found = labs()
    if as_json:
        print_json(
            {"schema": "nattrace/labs/1", "labs": [{"lab": x["prefix"], "netns": x["namespaces"]} for x in found]}
        )
        return 0
    for one in found:
        print(f"{one['prefix']}: {', '.join(one['namespaces'])}")
    return 0


@lab.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("topology", shell_complete=snapshots)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--on", "host", default=None, metavar="HOST", help="Where the command runs; by default on this machine.")
def run(topology: str, command: tuple[str, ...], host: str | None) -> int:
    """Build TOPOLOGY, run COMMAND, remove it. `nattrace lab run --on client FILE ping -c1 10.0.0.1`"""
    import os
    import subprocess
    import sys

    from nattrace.sim.errors import InputError

    from ..lab.build import build

    found = _topology(topology)
    names = [h.name for h in found.hosts]
    if host is not None and host not in names:
        raise InputError(f"no host {host!r}", remedy=f"hosts: {', '.join(names)}")
    words = list(command[1:] if command[0] == "--" else command)
    with build(found, f"run{os.getpid()}") as made:
        env = os.environ | {"NATTRACE_LAB": made.prefix}
        if host is not None:
            words = ["ip", "netns", "exec", made.netns(host), *words]
        status = subprocess.call(words, env=env)
    if status:
        print(f"nattrace: the command ended with status {status}", file=sys.stderr)
    return 0
