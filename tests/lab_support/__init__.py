"""Helpers of every test that asks the real kernel: a lab, packets into it, what was seen, counters, conntrack.

with lab('''
    [hosts.r.interfaces]
    eth0 = "10.0.0.1/24"
    eth1 = "192.0.2.1/24"
    ''') as bench:
    result = bench.send({"host": "r", "in": "eth0", "proto": "udp", "src": "10.0.0.9", "dst": "192.0.2.9", "dport": 53})
    assert result.left()[0].dev == "eth1"
"""

from __future__ import annotations

import itertools
import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nattrace.tracer.lab import load_topology
from nattrace.tracer.lab.build import Lab, build, sweep
from nattrace.tracer.lab.io import Result, Seen, Wires
from nattrace.tracer.lab.topology import Topology, from_data

from .dumps import conntrack_entries, rule_counters

__all__ = [
    "Bench",
    "conntrack_entries",
    "kernel",
    "lab",
    "rule_counters",
    "topology_of",
    "unique_prefix",
    "why_no_kernel",
]

_numbers = itertools.count(1)


def why_no_kernel() -> str:
    """Why namespaces cannot be used here; empty when they can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    missing = [t for t in ("ip", "iptables-nft-restore", "ipset", "conntrack") if not shutil.which(t)]
    return f"needs {', '.join(missing)}" if missing else ""


kernel = [pytest.mark.kernel, pytest.mark.skipif(bool(why_no_kernel()), reason=why_no_kernel() or "kernel at hand")]
"""Put ``pytestmark = kernel`` at the top of a module whose tests need namespaces."""


def unique_prefix(word: str = "nt") -> str:
    """A lab name that no other process uses."""
    return f"{word}{os.getpid()}x{next(_numbers)}"


def topology_of(source: Topology | Path | str | dict[str, Any]) -> Topology:
    """A topology object, a file or snapshot directory, TOML text, or its parsed form."""
    if isinstance(source, Topology):
        return source
    if isinstance(source, Path):
        return load_topology(source)
    if isinstance(source, dict):
        return from_data(source)
    return from_data(tomllib.loads(source))


class Bench:
    """A lab with its wires: what most tests hold in their hands."""

    def __init__(self, built: Lab, wires: Wires) -> None:
        self.lab, self.wires = built, wires
        self.seen: list[Seen] = []

    def send(self, record: dict[str, Any] | None = None, **keys: Any) -> Result:
        """One packet; the host may be left out when there is one only."""
        record = {**(record or {}), **{k.rstrip("_"): v for k, v in keys.items()}}
        record.setdefault("host", self.lab.topology.hosts[0].name)
        record.setdefault("in", None)
        result = self.wires.send(record)
        self.seen += result.seen
        return result

    def captures(self, host: str | None = None, dev: str | None = None, direction: str | None = None) -> list[Seen]:
        """Everything seen since the start, in order, narrowed down."""
        return [
            s for s in self.seen
            if (host is None or s.host == host) and (dev is None or s.dev == dev) and direction in (None, s.direction)
        ]  # fmt: skip

    def counters(self, host: str) -> dict[tuple[str, str, str, int], tuple[int, int]]:
        """(backend, table, chain, rule number; 0 = policy) → (packets, bytes)."""
        return rule_counters(self.lab, host)

    def conntrack(self, host: str) -> list[dict[str, Any]]:
        """Entries of a host, parsed."""
        return conntrack_entries(self.lab, host)

    def run(self, host: str, command: str) -> str:
        """A command on a host."""
        return self.lab.run(host, *command.split())

    def snapshot(self, target: Path) -> Path:
        """A snapshot of all hosts."""
        self.lab.snapshot(target)
        return target


@contextmanager
def lab(source: Topology | Path | str | dict[str, Any], listen: bool = True, **options: Any) -> Iterator[Bench]:
    """Build, open the sockets, hand over, and take down whatever happens. ``options`` go to :class:`Wires`."""
    sweep()
    built = build(topology_of(source), unique_prefix())
    with built:
        if listen:
            built.listen()
        with Wires(built, **options) as wires:
            yield Bench(built, wires)
