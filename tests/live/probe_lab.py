"""Namespaces for tests of the probes: client - router - server, rules as a test wants them, datagrams with numbers in them."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from nattrace.tracer.live import netns
from nattrace.tracer.live.event import HOOKS, KIND
from nattrace.tracer.live.filter import Filter
from nattrace.tracer.live.group import Packets, group
from nattrace.tracer.live.session import Session

_numbers = itertools.count(1)
RULES = """
-t nat -A POSTROUTING -o rs -j MASQUERADE
-t nat -A PREROUTING -i rc -p udp --dport 8080 -j DNAT --to-destination 10.7.2.2:80
-t mangle -A PREROUTING -i rc -j MARK --set-mark 0x7
-A FORWARD -p udp --dport 9999 -j DROP
"""


def run(*words: str, check: bool = True) -> str:
    """A tool's output; its own words when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


class Lab:
    """Names of the namespaces, held open, and what can be done in them."""

    def __init__(self, rules: str) -> None:
        prefix = f"lb-{os.getpid()}-{next(_numbers)}"
        self.client, self.router, self.server = (f"{prefix}-{end}" for end in "crs")
        self.spaces: dict[str, netns.Namespace] = {}
        self.rules = rules

    def up(self) -> None:
        """Build."""
        c, r, s = self.client, self.router, self.server
        for name in (c, r, s):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run(*f"ip link add c0 netns {c} type veth peer name rc netns {r}".split())
        run(*f"ip link add s0 netns {s} type veth peer name rs netns {r}".split())
        for name, device, v4, v6 in (
            (c, "c0", "10.7.1.2/24", "fd07:1::2/64"),
            (r, "rc", "10.7.1.1/24", "fd07:1::1/64"),
            (r, "rs", "10.7.2.1/24", "fd07:2::1/64"),
            (s, "s0", "10.7.2.2/24", "fd07:2::2/64"),
        ):
            run("ip", "-n", name, "addr", "add", v4, "dev", device)
            run("ip", "-n", name, "addr", "add", v6, "dev", device, "nodad")
            run("ip", "-n", name, "link", "set", device, "up")
        for name, v4, v6 in ((c, "10.7.1.1", "fd07:1::1"), (s, "10.7.2.1", "fd07:2::1")):
            run("ip", "-n", name, "route", "add", "default", "via", v4)
            run("ip", "-n", name, "route", "add", "default", "via", v6)
        self.execute(r, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for name in (c, r, s):  # tests come faster than a host may send errors to one peer
            self.execute(name, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        for line in self.rules.strip().splitlines():
            self.execute(r, *line.split()) if line.startswith(("nft", "iptables", "ip6tables")) else self.execute(
                r, "iptables-nft", *line.split()
            )
        self.execute(c, "ping", "-c1", "-W2", "10.7.2.2")
        for name in (c, r, s):
            self.spaces[name] = netns.by_name(name)

    def down(self) -> None:
        """Remove."""
        for space in self.spaces.values():
            space.close()
        for name in (self.client, self.router, self.server):
            run("ip", "netns", "del", name, check=False)

    def execute(self, name: str, *words: str) -> str:
        """A tool inside a namespace."""
        return run("ip", "netns", "exec", name, *words)

    def send(
        self, target: str, port: int, count: int = 1, source: int = 40001, size: int = 16, where: str | None = None
    ) -> None:
        """Datagrams whose first eight octets are their number."""
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with self.spaces[where or self.client].inside(), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind(("::" if family == socket.AF_INET6 else "", source))
            sock.connect((target, port))
            for number in range(count):
                while True:
                    try:
                        sock.send(number.to_bytes(8, "little").ljust(size, b"\0"))
                        break
                    except ConnectionRefusedError:  # about an earlier one: this one was not sent
                        continue

    def watch(self, filter: Filter, do: Callable[[], Any], *names: str, wait: float = 0.15, **options: Any) -> Seen:
        """Everything that a session sees while something is done."""
        spaces = [self.spaces[name] for name in names or (self.router,)]
        with Session(spaces, filter, **options) as session:
            do()
            time.sleep(wait)
            parts = []
            while (events := session.read(0)) is not None:
                parts.append(events)
            return Seen(session, np.concatenate(parts) if parts else None, {s.inum: n for n, s in self.spaces.items()})


class Seen:
    """Events, and their packets as short words."""

    def __init__(self, session: Session, events: Any, names: dict[int, str]) -> None:
        losses, unlogged = session.losses()
        self.session, self.names = session, names
        self.events = events if events is not None else np.zeros(0, [("kind", "u1")])
        self.packets: Packets = (
            group(events, losses, unlogged, netns.veth_peers(session.namespaces)) if events is not None else None
        )
        self.loss = session.loss()
        self.slots = list(session.slots)
        self.reasons = session.reasons()

    def places(self, packet: int = 0) -> list[str]:
        """Where a packet was: "PREROUTING -199", "rx", …; lookups and the like left out."""
        found = []
        for i in self.packets.rows(packet):
            row = self.events[i]
            kind = KIND(int(row["kind"]))
            if kind == KIND.tap:
                found.append(f"{HOOKS[row['hook']]} {row['prio']}")
            elif kind not in (KIND.fib, KIND.neigh):
                found.append(kind.name)
        return found

    def of(self, kind: KIND) -> Any:
        """Events of a kind."""
        return self.events[self.events["kind"] == kind]


@contextmanager
def lab(rules: str = RULES) -> Iterator[Lab]:
    """A lab for the duration of a block."""
    made = Lab(rules)
    with ExitStack() as stack:
        stack.callback(made.down)
        made.up()
        yield made
