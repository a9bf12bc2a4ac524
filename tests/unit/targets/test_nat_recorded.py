"""NAT targets end to end with engine.nat: the reply tuples that Linux 6.18.44 showed for the same rules and flows.

Recorded with conntrack -L in a namespace with 10.0.0.1/24 on one device and a default route: three local UDP datagrams
for each rule, the table flushed before each.
"""

from __future__ import annotations

import pytest
from nattrace.sim.engine.rt import Rt
from nattrace.sim.model.addr import AF_INET, format_addr
from nattrace.sim.model.route import Address, Link
from unit.targets.vocabulary import LINKS, context, ip, packet, read, tracked

# destination, source port, destination port; the source is 10.0.0.1
FLOWS = [("198.51.100.7", 4000, 5003), ("198.51.100.8", 4001, 5001), ("203.0.113.9", 4002, 8005)]
# chain, rule → for each flow the reply tuple: source, destination, source port, destination port
RECORDED = {
    ("OUTPUT", "-p udp -j DNAT --to-destination 10.0.0.70-10.0.0.79"): [
        ("10.0.0.71", "10.0.0.1", 5003, 4000),
        ("10.0.0.74", "10.0.0.1", 5001, 4001),
        ("10.0.0.70", "10.0.0.1", 8005, 4002),
    ],
    ("OUTPUT", "-p udp -j DNAT --to-destination 10.0.0.70-10.0.0.79 --persistent"): [
        ("10.0.0.72", "10.0.0.1", 5003, 4000),
        ("10.0.0.72", "10.0.0.1", 5001, 4001),
        ("10.0.0.72", "10.0.0.1", 8005, 4002),
    ],
    ("OUTPUT", "-p udp -j DNAT --to-destination 10.0.0.70:8000-8010/5000"): [
        ("10.0.0.70", "10.0.0.1", 8003, 4000),
        ("10.0.0.70", "10.0.0.1", 8001, 4001),
        ("10.0.0.70", "10.0.0.1", 8002, 4002),
    ],
    ("OUTPUT", "-p udp -j DNAT --to-destination :8000-8010/5000"): [
        ("198.51.100.7", "10.0.0.1", 8003, 4000),
        ("198.51.100.8", "10.0.0.1", 8001, 4001),
        ("203.0.113.9", "10.0.0.1", 8002, 4002),
    ],
    ("OUTPUT", "-p udp -j DNAT --to-destination 10.0.0.70:8000-8010"): [
        ("10.0.0.70", "10.0.0.1", 8000, 4000),
        ("10.0.0.70", "10.0.0.1", 8000, 4001),
        ("10.0.0.70", "10.0.0.1", 8005, 4002),
    ],
    ("OUTPUT", "-p udp -j DNAT --to-destination 10.0.0.79-10.0.0.70"): [
        ("46.151.223.58", "10.0.0.1", 5003, 4000),
        ("116.143.253.232", "10.0.0.1", 5001, 4001),
        ("18.155.196.207", "10.0.0.1", 8005, 4002),
    ],
    ("OUTPUT", "-p udp -j DNAT --to-destination 10.0.0.77:0"): [
        ("10.0.0.77", "10.0.0.1", 0, 4000),
        ("10.0.0.77", "10.0.0.1", 0, 4001),
        ("10.0.0.77", "10.0.0.1", 0, 4002),
    ],
    ("OUTPUT", "-p udp -j NETMAP --to 10.0.64.0/20"): [
        ("10.0.68.7", "10.0.0.1", 5003, 4000),
        ("10.0.68.8", "10.0.0.1", 5001, 4001),
        ("10.0.65.9", "10.0.0.1", 8005, 4002),
    ],
    ("OUTPUT", "-p udp -j DNAT --to-destination 10.0.0.70-10.0.0.79:5000-5002"): [
        ("10.0.0.71", "10.0.0.1", 5000, 4000),
        ("10.0.0.74", "10.0.0.1", 5001, 4001),
        ("10.0.0.70", "10.0.0.1", 5000, 4002),
    ],
    ("OUTPUT", "-p udp -j REDIRECT --to-ports 8000-8010"): [
        ("127.0.0.1", "10.0.0.1", 8000, 4000),
        ("127.0.0.1", "10.0.0.1", 8000, 4001),
        ("127.0.0.1", "10.0.0.1", 8005, 4002),
    ],
    ("OUTPUT", "-p udp -j DNAT --to-destination 10.0.0.80-10.0.0.255:53"): [
        ("10.0.0.105", "10.0.0.1", 53, 4000),
        ("10.0.0.153", "10.0.0.1", 53, 4001),
        ("10.0.0.85", "10.0.0.1", 53, 4002),
    ],
    ("OUTPUT", "-p udp -j DNAT --to-destination :53"): [
        ("198.51.100.7", "10.0.0.1", 53, 4000),
        ("198.51.100.8", "10.0.0.1", 53, 4001),
        ("203.0.113.9", "10.0.0.1", 53, 4002),
    ],
    ("POSTROUTING", "-p udp -j SNAT --to-source 10.0.0.100-10.0.0.110"): [
        ("198.51.100.7", "10.0.0.101", 5003, 4000),
        ("198.51.100.8", "10.0.0.104", 5001, 4001),
        ("203.0.113.9", "10.0.0.100", 8005, 4002),
    ],
    ("POSTROUTING", "-p udp -j SNAT --to-source 10.0.0.1-10.0.0.110"): [
        ("198.51.100.7", "10.0.0.1", 5003, 4000),
        ("198.51.100.8", "10.0.0.1", 5001, 4001),
        ("203.0.113.9", "10.0.0.1", 8005, 4002),
    ],
    ("POSTROUTING", "-p udp -j SNAT --to-source 10.0.0.100-10.0.0.110 --persistent"): [
        ("198.51.100.7", "10.0.0.102", 5003, 4000),
        ("198.51.100.8", "10.0.0.102", 5001, 4001),
        ("203.0.113.9", "10.0.0.102", 8005, 4002),
    ],
    ("POSTROUTING", "-p udp -j SNAT --to-source 10.0.0.100:40000"): [
        ("198.51.100.7", "10.0.0.100", 5003, 40000),
        ("198.51.100.8", "10.0.0.100", 5001, 40000),
        ("203.0.113.9", "10.0.0.100", 8005, 40000),
    ],
    ("POSTROUTING", "-p udp -j SNAT --to-source 10.0.0.100:4000-4100"): [
        ("198.51.100.7", "10.0.0.100", 5003, 4000),
        ("198.51.100.8", "10.0.0.100", 5001, 4001),
        ("203.0.113.9", "10.0.0.100", 8005, 4002),
    ],
    ("POSTROUTING", "-p udp -j SNAT --to-source :4000-4100"): [
        ("198.51.100.7", "10.0.0.1", 5003, 4000),
        ("198.51.100.8", "10.0.0.1", 5001, 4001),
        ("203.0.113.9", "10.0.0.1", 8005, 4002),
    ],
    ("POSTROUTING", "-p udp -j NETMAP --to 10.7.0.0/16"): [
        ("198.51.100.7", "10.7.0.1", 5003, 4000),
        ("198.51.100.8", "10.7.0.1", 5001, 4001),
        ("203.0.113.9", "10.7.0.1", 8005, 4002),
    ],
    ("POSTROUTING", "-p udp -j SNAT --to-source 10.0.0.110-10.0.0.100"): [
        ("198.51.100.7", "46.151.223.89", 5003, 4000),
        ("198.51.100.8", "116.143.254.7", 5001, 4001),
        ("203.0.113.9", "18.155.196.238", 8005, 4002),
    ],
}


@pytest.mark.parametrize(("chain", "rule"), RECORDED, ids=[f"{chain} {rule}" for chain, rule in RECORDED])
def test_the_reply_tuple_is_the_kernels(chain: str, rule: str) -> None:
    host = {
        "links": {"lo": LINKS["lo"], "v0": Link("v0", 2)},
        "addresses": (
            Address(AF_INET, "lo", ip("127.0.0.1"), 8, scope=254),
            Address(AF_INET, "v0", ip("10.0.0.1"), 24),
        ),
    }
    seen = []
    for dst, sport, dport in FLOWS:
        ctx, skb = context(chain, None, "v0", **host), packet("udp", "10.0.0.1", dst, sport, dport)
        skb.rt = Rt("unicast", "v0", gateway=ip("10.0.0.77"), src=skb.src, mtu=1500)
        tracked(skb, ctx)
        read(rule, "nat", chain).apply(skb, ctx)
        conn = ctx.ct(skb)
        assert conn is not None
        reply = conn.tuples[1]
        seen.append((format_addr(AF_INET, reply.src), format_addr(AF_INET, reply.dst), reply.sport, reply.dport))
    assert seen == RECORDED[chain, rule]
