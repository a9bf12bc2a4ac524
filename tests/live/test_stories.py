"""Every packet of the five situations is told whole: nothing owed is missing, no change is without its table, every end is seen."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from lab_support import kernel, topology_of, unique_prefix
from nattrace.sim.snapshot.load import bundled
from nattrace.tracer.lab.build import build
from nattrace.tracer.live import netns
from nattrace.tracer.live.filter import Filter
from nattrace.tracer.live.trace import Tracer

pytestmark = kernel
SITUATIONS = ("twice-through-conntrack", "two-uplinks", "private-namespace", "per-user-source", "nonexistent-address")
SENDER = """
import socket, sys
for target in sys.argv[1:]:
    for port, kind in ((53, socket.SOCK_DGRAM), (80, socket.SOCK_STREAM)):
        sock = socket.socket(socket.AF_INET, kind)
        sock.setblocking(False)
        try:
            sock.sendto(b"x", (target, port)) if port == 53 else sock.connect((target, port))
        except OSError:
            pass  # no route, EINPROGRESS
"""


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_packet_is_told_whole(name: str) -> None:
    """From every host to every address, and to the world outside."""
    with ExitStack() as stack:
        lab = stack.enter_context(build(topology_of(bundled(name)), unique_prefix("ls")))
        hosts = lab.topology.hosts
        spaces = [stack.enter_context(netns.by_name(lab.netns(h.name))) for h in hosts]
        for ns, host in zip(spaces, hosts, strict=True):
            ns.name = host.name
        targets = [a.split("/")[0] for h in hosts for i in h.interfaces for a in i.addresses if ":" not in a]
        tracer = stack.enter_context(Tracer(spaces, Filter.everything()))
        for ns in spaces:
            with ns.inside():
                subprocess.run(
                    [sys.executable, "-c", SENDER, *targets, "8.8.8.8", "203.0.113.9"], timeout=30, check=True
                )
        found, until = [], time.monotonic() + 4
        while time.monotonic() < until:
            found += tracer.poll(0.1)
        found += tracer.finish()
        assert not any(tracer.totals()["lost"].values())
    assert len(found) >= 4 * len(hosts)
    for story in found:
        assert (story.incomplete, story.end.outcome is None) == ([], False), (story.hops, story.end, story.incomplete)
        assert not [s for hop in story.hops for s in hop.steps if s.stage == "change"], story.hops
