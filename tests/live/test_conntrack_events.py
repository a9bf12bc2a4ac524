"""Conntrack events of namespaces: what came, for which flow, and how much was missed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import tracemalloc

from lab_support import kernel
from nattrace.tracer.live.ctevents import BUFFER, ConntrackEvent, ConntrackEvents, entries
from nattrace.tracer.live.flow import FlowKey

from .router_lab import FLOW, router, udp

pytestmark = kernel


def collect(events: ConntrackEvents, seconds: float = 0.3) -> list[ConntrackEvent]:
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        found += events.read(0.05)
    return found


def test_an_entry_comes_is_answered_and_goes() -> None:
    with router("nft") as (bench, space), ConntrackEvents([space]) as events:
        udp(bench, 8080)
        bench.send(
            {"host": "server", "proto": "udp", "src": "10.7.2.2", "dst": "10.7.2.1", "sport": 80, "dport": 40001}
        )
        bench.run("router", "conntrack -D -p udp --dport 8080")
        found = [e for e in collect(events) if e.orig.proto == 17]
        assert [e.kind for e in found] == ["new", "update", "destroy"]
        assert {e.id for e in found} == {found[0].id}
        assert found[0].orig.key() == FlowKey.parse("udp", "10.7.1.2", "10.7.1.1", 40001, 8080)
        assert found[0].reply.key() == FlowKey.parse("udp", "10.7.2.2", "10.7.2.1", 80, 40001)
        assert "SEEN_REPLY" in found[1].status_names and "DYING" in found[2].status_names
        assert events.loss() == {"ctnetlink": 0}


def test_the_same_as_the_tool_prints() -> None:
    with router("nft") as (bench, space):
        udp(bench, 8080)
        udp(bench, 53, "10.7.2.2", 40007)
        listed = bench.run("router", "conntrack -L -o id")
        mine = entries(space)
        assert sorted(f"id={e.id}" for e in mine) == sorted(word for word in listed.split() if word.startswith("id="))


def test_only_the_flow_that_was_asked_for() -> None:
    with router("nft") as (bench, space), ConntrackEvents([space], flow=FLOW._replace(dport=53)) as events:
        udp(bench, 8080)
        udp(bench, 53, "10.7.2.2")
        assert [(e.kind, e.orig.dport) for e in collect(events)] == [("new", 53)]


def test_zones_and_marks() -> None:
    rules = ["-t raw -A PREROUTING -i eth0 -j CT --zone 5", "-t mangle -A FORWARD -j CONNMARK --set-mark 9"]
    with router("nft", rules) as (bench, space), ConntrackEvents([space], kinds=["new"]) as events:
        udp(bench, 53, "10.7.2.2")
        assert [(e.zone, e.mark) for e in collect(events)] == [(5, 9)]


def test_losses_are_counted_and_reading_goes_on() -> None:
    with router("nft") as (bench, space), ConntrackEvents([space]) as all_of_it, ConntrackEvents([space]) as events:
        events.sockets[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        for port in range(30):
            udp(bench, 53, "10.7.2.2", 41000 + port)
        sent, read = len(collect(all_of_it)), len(events.read())
        assert sent > read > 0 and events.loss()["ctnetlink"] == sent - read
        udp(bench, 53, "10.7.2.2", 42000)
        assert [e.orig.sport for e in collect(events) if e.orig.proto == 17] == [42000]


def test_memory_stays_while_thousands_come() -> None:
    """Nothing is kept between two reads."""
    blast = (
        "import socket,sys\n"
        "for port in range(20000, 26000):\n"
        "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.7.1.2', port))\n"
        "    s.sendto(b'x', ('10.7.2.2', 9)); s.close()\n"
    )
    with router("nft") as (bench, space), ConntrackEvents([space], buffer=4 * BUFFER) as events:
        words = ["ip", "netns", "exec", bench.lab.netns("client"), sys.executable, "-c", blast]
        seen, sizes = 0, []
        for _ in range(2):
            bench.run("router", "conntrack -F")
            subprocess.run(words, check=True, env=os.environ)
            tracemalloc.start()
            seen += len(events.read(0.5)) + len(collect(events))
            sizes.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
        assert events.loss() == {"ctnetlink": 0} and seen > 15_000
        assert max(sizes) < 200_000
