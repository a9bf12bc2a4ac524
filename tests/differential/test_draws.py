"""What the kernel draws: the simulator names exactly the kernel's candidates, with the kernel's probabilities.

Every kind is repeated some hundred times with flows that do not know of each other; a χ² test compares the counts
with the simulator's shares. The kernel cannot be seeded: a suspicious sample (p < 1e-4) is taken once more, and both
together are wrong in 1e-7 of the cases, so that a right simulator fails this file less than once in 10⁵ runs.
"""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab_support import kernel

from .draws_bench import Desk, Record, Told, ask, desk, fits, free

pytestmark = kernel

REPEATS = 300
TOPOLOGY = """
[hosts.r]
interfaces.eth0 = "192.0.2.1/24"
interfaces.eth1 = ["203.0.113.1/24", "203.0.113.7/24", "203.0.113.8/24"]
routes = ["10.0.0.0/8 via 192.0.2.254", "default via 203.0.113.254", "local 12.0.0.0/8 dev lo"]
sysctl."net.ipv4.ip_forward" = 1
sysctl."net.ipv4.conf.all.rp_filter" = 0
iptables = [
  "-t mangle -A PREROUTING -p udp --dport 1031 -j HMARK --hmark-tuple src,dst --hmark-mod 4 --hmark-rnd 0xcafe --hmark-offset 1",
  "-t nat -A PREROUTING -p udp --dport 1008 -j DNAT --to-destination 198.51.100.9:8000-8010 --random",
  "-t nat -A PREROUTING -p udp --dport 1009 -j REDIRECT --to-ports 9000-9004 --random",
  "-t nat -A PREROUTING -p udp --dport 1010 -j REDIRECT --to-ports 9000-9004",
  "-t nat -A PREROUTING -d 11.0.0.0/8 -p udp --dport 1011 -j DNAT --to-destination 198.51.100.11:53",
  "-t nat -A PREROUTING -p udp --dport 1030 -j DNAT --to-destination 198.51.100.20-198.51.100.29",
  "-t nat -A INPUT -p udp --dport 1012 -j SNAT --to-source 10.99.0.1",
  "-t nat -A INPUT -p udp --dport 1017 -j SNAT --to-source 10.99.0.1:4000-4004 --random",
  "-t nat -A POSTROUTING -s 10.0.0.0/8 -p udp --dport 1001 -j MASQUERADE",
  "-t nat -A POSTROUTING -p udp --dport 1002 -j MASQUERADE --to-ports 5000-5010",
  "-t nat -A POSTROUTING -p udp --dport 1003 -j SNAT --to-source 203.0.113.7:6000-6003",
  "-t nat -A POSTROUTING -p udp --dport 1004 -j MASQUERADE --random",
  "-t nat -A POSTROUTING -p udp --dport 1005 -j SNAT --to-source 203.0.113.8:7000-7006 --random-fully",
  "-t nat -A POSTROUTING -p tcp --dport 1006 -j SNAT --to-source 203.0.113.7",
  "-t nat -A POSTROUTING -p tcp --dport 1007 -j SNAT --to-source 203.0.113.7:6000-6049 --random",
  "-t nat -A POSTROUTING -p udp --dport 1014 -j SNAT --to-source 203.0.113.7:20000-20299",
  "-t nat -A POSTROUTING -d 9.0.0.0/8 -p icmp -j MASQUERADE",
  "-t nat -A POSTROUTING -m mark --mark 1 -j SNAT --to-source 203.0.113.7",
  "-t nat -A POSTROUTING -m mark --mark 2 -j SNAT --to-source 203.0.113.8",
  "-t nat -A POSTROUTING -p udp --dport 1032 -j SNAT --to-source 203.0.113.40-203.0.113.49",
  "-A FORWARD -d 198.51.100.9 -p udp --dport 8004:8005 -m mark --mark 0 -j ACCEPT",
  "-A FORWARD -p udp --dport 1020 -m statistic --mode random --probability 0.3 -j DROP",
  "-A FORWARD -p udp --dport 1021 -m statistic --mode random ! --probability 0.3 -j DROP",
  "-A FORWARD -p udp --dport 1022 -j NFQUEUE --queue-balance 1:3 --queue-bypass",
]
"""


def address(base: str, number: int) -> str:
    """The ``number``-th address of a net written as its first octets."""
    octets = base.count(".") + 1
    return base + "".join(f".{number >> 8 * i & 255}" for i in reversed(range(4 - octets)))


def client(number: int, role: int = 0) -> str:
    """A repeat's clients; role 0 sends the packet that draws."""
    return address(f"10.{role}", number)


def peer(number: int) -> str:
    return address("9", number)


def packet(src: str, dst: str, sport: int, dport: int, proto: str = "udp") -> Record:
    """A packet that arrives from the inside."""
    record: Record = {"host": "r", "in": "eth0", "src": src, "dst": dst, "proto": proto, "ttl": 64}
    if proto == "icmp":
        return record | {"type": 8, "code": 0, "icmp_id": sport, "seq": 1, "len": 28}
    record |= {"sport": sport, "dport": dport, "len": 40 if proto == "tcp" else 28}
    return record | ({"flags": "S", "tcp_seq": 1000, "window": 1000} if proto == "tcp" else {})


@dataclass(frozen=True)
class Kind:
    """One kind of source port draw: other clients hold the ports ``held`` towards the same peer."""

    dport: int
    sport: int
    held: tuple[int, ...]
    low: int
    high: int
    proto: str = "udp"
    net: str = "9"

    def __call__(self, number: int) -> list[Record]:
        target = address(self.net, number)
        holders = [packet(client(number, 1 + i), target, p, self.dport, self.proto) for i, p in enumerate(self.held)]
        return [*holders, packet(client(number), target, self.sport, self.dport, self.proto)]

    @property
    def key(self) -> str:
        return "icmp_id" if self.proto == "icmp" else "sport"


KINDS = {
    "port below 512": Kind(1001, 99, (99,), 1, 511),
    "port 511": Kind(1001, 511, (511,), 1, 511),
    "port 512": Kind(1001, 512, (512,), 600, 1023),
    "port 600 to 1023": Kind(1001, 777, (777,), 600, 1023),
    "port from 1024": Kind(1001, 5353, (5353,), 1024, 65535),
    "masquerade to a range, port outside": Kind(1002, 40000, (), 5000, 5010),
    "masquerade to a range, clash among neighbours": Kind(1002, 5003, (5002, 5003, 5004, 5007), 5000, 5010),
    "masquerade to a range, taken ports at both ends": Kind(1002, 5000, (5000, 5001, 5009, 5010), 5000, 5010),
    "source range, two left": Kind(1003, 6001, (6001, 6002), 6000, 6003),
    "masquerade --random, no clash": Kind(1004, 4321, (), 1024, 65535),
    "masquerade --random, low port": Kind(1004, 321, (), 1, 511),
    "source range --random-fully, port inside": Kind(1005, 7003, (), 7000, 7006),
    "tcp clash": Kind(1006, 1023, (1023,), 600, 1023, "tcp"),
    "tcp range --random": Kind(1007, 6001, (), 6000, 6049, "tcp"),
    "icmp id": Kind(0, 77, (77,), 0, 65535, "icmp"),
    "source NAT in INPUT, clash": Kind(1012, 700, (700,), 600, 1023, "udp", "12"),
    "source NAT in INPUT, range --random": Kind(1017, 700, (), 4000, 4004, "udp", "12"),
}


@pytest.fixture(scope="module")
def r(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(TOPOLOGY, tmp_path_factory.mktemp("draws")) as built:
        yield built


def counted(there: Desk, make: Any, key: str) -> Any:
    """Draws of a kind as counts; every packet must get through."""

    def draw(count: int) -> Counter[int]:
        ends = there.sample(make, count)
        assert None not in ends, f"{ends.count(None)} of {count} packets were lost"
        return Counter(end[key] for end in ends if end is not None)

    return draw


@pytest.mark.parametrize("name", KINDS)
def test_source_port_candidates_and_shares(r: Desk, name: str) -> None:
    kind = KINDS[name]
    told = ask(r, kind(next(iter(r.repeats(1)))), kind.key)
    assert told.result["certainty"] == "one_of"
    assert [o["probability"] for o in told.result["outcomes"]] == [pytest.approx(1)]
    assert told.domain is not None
    own = set() if not kind.held and kind.dport in (1004,) else set(kind.held)
    assert told.domain.ranges == free(kind.low, kind.high, *own)
    assert not fits(counted(r, kind, kind.key), told.shares(), REPEATS)
