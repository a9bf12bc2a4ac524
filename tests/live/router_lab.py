"""A client, a router with NAT, a server: what the tests of the netlink half look at. Tools run on hosts by name."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab_support import Bench, lab
from nattrace.tracer.lab import netns as lab_netns
from nattrace.tracer.live import netns
from nattrace.tracer.live.flow import FlowKey
from nattrace.tracer.live.nfnl.queues import queue_states

TOPOLOGY = """
[segments]
lan = ["client:eth0", "router:eth0"]
wan = ["router:eth1", "server:eth0"]
[hosts]
client.interfaces.eth0 = "10.7.1.2/24"
client.routes = ["default via 10.7.1.1"]
server.interfaces.eth0 = "10.7.2.2/24"
server.routes = ["default via 10.7.2.1"]
[hosts.router]
interfaces.eth0 = "10.7.1.1/24"
interfaces.eth1 = "10.7.2.1/24"
sysctl.net.ipv4.ip_forward = 1
"""
NAT = [
    "-t mangle -A PREROUTING -i eth0 -j MARK --set-mark 0x7",
    "-t nat -A PREROUTING -i eth0 -p udp --dport 8080 -j DNAT --to-destination 10.7.2.2:80",
    "-t nat -A POSTROUTING -o eth1 -j MASQUERADE",
    "-N USER",
    "-A FORWARD -p udp --dport 9999 -j DROP",
    "-A FORWARD -i eth0 -j USER",
    "-A USER -p udp --dport 80 -j ACCEPT",
]
FLOW = FlowKey.parse("udp", "10.7.1.2")


@contextmanager
def router(backend: str | None = "nft", rules: list[str] = NAT) -> Iterator[tuple[Bench, netns.Namespace]]:
    """The lab with these iptables rules on the router (backend None: none at all), and the router's namespace."""
    with lab(TOPOLOGY) as bench:
        if backend is not None:
            for rule in rules:
                bench.run("router", f"iptables-{backend} {rule}")
        with netns.by_name(bench.lab.netns("router")) as space:
            yield bench, space


def udp(bench: Bench, dport: int, dst: str = "10.7.1.1", sport: int = 40001) -> None:
    """One datagram from the client, and everything that it causes."""
    bench.send({"host": "client", "proto": "udp", "src": "10.7.1.2", "dst": dst, "sport": sport, "dport": dport})


def inside(bench: Bench, host: str, words: list[str], **options: Any) -> subprocess.Popen[str]:
    """A process on a host, its streams as text."""
    with lab_netns.inside(lab_netns.path_of(bench.lab.netns(host))):
        return subprocess.Popen(words, text=True, **options)


def residue(bench: Bench, host: str = "router") -> list[str]:
    """What of ours is still in a namespace: tables, queues, a logger."""
    found = [line for line in bench.run(host, "nft list tables").splitlines() if "nattrace" in line]
    with lab_netns.inside(lab_netns.path_of(bench.lab.netns(host))):
        found += [f"queue {state.number}" for state in queue_states()]
        for family in (2, 10):
            value = Path(f"/proc/sys/net/netfilter/nf_log/{family}").read_text().strip()
            found += [f"nf_log.{family} = {value}"] if value == "nfnetlink_log" else []
    return found
