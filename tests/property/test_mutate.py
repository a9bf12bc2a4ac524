"""A few hundred inputs of the mutation driver, and networks that are odd but readable. ``mutate.py N`` runs more."""

from __future__ import annotations

import contextlib
import json
from random import Random
from typing import Any

import pytest
from nattrace.sim.errors import InputError
from property import mutate

FORWARDED = (
    "tcp 10.0.0.7:40001 -> 8.8.8.8:443 in eth0",
    "udp 10.0.0.7 -> 8.8.8.8:53 in eth0",
    "10.0.0.7 -> 10.9.1.1 in eth0",
)

ODD: dict[str, dict[str, Any]] = {
    "no files but rules": {"link.json": None, "addr.json": None, "route.json": None, "rule.json": None, "nexthop.json": None},
    "no loopback": {"link.json": [{"ifindex": 2, "ifname": "eth0", "flags": ["UP"]}, {"ifindex": 3, "ifname": "eth1", "flags": ["UP"]}]},
    "links without numbers": {"link.json": [{"ifname": name, "flags": ["UP"]} for name in ("lo", "eth0", "eth1")]},
    "links with one number": {"link.json": [{"ifindex": 1, "ifname": n, "flags": ["UP"]} for n in ("lo", "eth0", "eth1")]},
    "links that are down": {"link.json": [{"ifindex": 2, "ifname": "eth0", "flags": []}, {"ifindex": 3, "ifname": "eth1", "flags": ["NO-CARRIER"]}]},
    "links of no size": {"link.json": [{"ifindex": 2, "ifname": "eth0", "flags": ["UP"], "mtu": 0}, {"ifindex": 3, "ifname": "eth1", "flags": ["UP"], "mtu": 1}]},
    "addresses on no link": {"addr.json": [{"ifindex": 9, "ifname": "gone", "addr_info": [{"family": "inet", "local": "10.0.0.1", "prefixlen": 0}]}]},
    "a bridge without ports": {"link.json": [{"ifindex": 2, "ifname": "eth0", "flags": ["UP"], "master": "br0"},
                                             {"ifindex": 3, "ifname": "eth1", "flags": ["UP"], "master": "eth1"}]},
    "routes without devices": {"route.json": [{"dst": "default"}, {"dst": "10.0.0.0/8", "gateway": "10.0.0.9"}, {"dst": "10.1.0.0/16", "dev": "gone"}]},
    "routes of every type to one place": {"route.json": [{"dst": "default", "type": t, "dev": "eth0"} for t in
                                          ("unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw")]},
    "gateways that need each other": {"route.json": [{"dst": "8.0.0.0/8", "gateway": "9.9.9.9", "dev": "eth0"}, {"dst": "9.0.0.0/8", "gateway": "8.8.8.8", "dev": "eth0"}]},
    "a multipath of nothing": {"route.json": [{"dst": "default", "nexthops": []}, {"dst": "8.8.8.0/24", "nexthops": [{"weight": 0}]}]},
    "a local route for all": {"route.json": [{"type": "local", "dst": "default", "dev": "lo", "table": "local"}]},
    "tables that throw": {"route.json": [{"type": "throw", "dst": "default", "table": t} for t in ("local", "main", "default")]},
    "nexthop groups in a circle": {"nexthop.json": [{"id": 20, "group": [{"id": 21}]}, {"id": 21, "group": [{"id": 20}]}]},
    "a nexthop group of itself": {"nexthop.json": [{"id": 20, "group": [{"id": 20}, {"id": 20}]}]},
    "a nexthop group of nobody": {"nexthop.json": [{"id": 20, "group": [{"id": 99}]}]},
    "a nexthop without anything": {"nexthop.json": [{"id": 20}]},
    "nexthops missing": {"nexthop.json": None},
    "policy rules in a circle": {"rule.json": [{"priority": 5, "src": "all", "goto": 5}, {"priority": 6, "src": "all", "goto": 5}]},
    "policy rules to nowhere": {"rule.json": [{"priority": 5, "src": "all", "goto": 7}, {"priority": 6, "src": "all", "table": "4000000000"}]},
    "no policy rules": {"rule.json": []},
    "a policy rule without a table": {"rule.json": [{"priority": 1, "src": "all"}]},
    "everybody's neighbour failed": {"neigh.json": [{"dst": f"10.0.0.{n}", "dev": "eth0", "state": ["FAILED"]} for n in range(1, 20)]},
    "a set that holds itself": {"ipset.txt": "create n list:set size 8\nadd n n\n"},
    "sets that hold each other": {"ipset.txt": "create n list:set size 8\ncreate m list:set size 8\nadd n m\nadd m n\n"},
    "a table without chains": {"iptables-save.txt": "*filter\nCOMMIT\n*nat\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n"},
    "a jump to itself": {"iptables-save.txt": "*filter\n:FORWARD ACCEPT [0:0]\n:X - [0:0]\n-A FORWARD -j X\n-A X -j X\nCOMMIT\n"},
    "a jump to a built-in chain": {"iptables-save.txt": "*filter\n:FORWARD ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n-A FORWARD -j INPUT\nCOMMIT\n"},
    "a jump to nowhere": {"iptables-save.txt": "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j nowhere\nCOMMIT\n"},
    "a path of two thousand chains": {"iptables-save.txt": "*filter\n:FORWARD ACCEPT [0:0]\n" + "".join(f":C{n} - [0:0]\n" for n in range(2000))
                                      + "-A FORWARD -j C0\n" + "".join(f"-A C{n} -j C{n + 1}\n" for n in range(1999)) + "COMMIT\n"},
    "chains that multiply": {"iptables-save.txt": "*filter\n:FORWARD ACCEPT [0:0]\n" + "".join(f":C{n} - [0:0]\n" for n in range(40))
                             + "-A FORWARD -j C0\n" + "".join(f"-A C{n} -j C{n + 1}\n" * 2 for n in range(39)) + "COMMIT\n"},
    "two hundred unknown matches": {"iptables-save.txt": "*filter\n:FORWARD ACCEPT [0:0]\n" + "-A FORWARD -m strange --x 1 -j LOG\n" * 200 + "COMMIT\n"},
    "ports that are all drawn": {"iptables-save.txt": "*nat\n:POSTROUTING ACCEPT [0:0]\n" + "-A POSTROUTING -p tcp --sport 1:5 -j LOG\n" * 50
                                 + "-A POSTROUTING -j MASQUERADE --random-fully\nCOMMIT\n"},
    "translated to itself": {"iptables-save.txt": "*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n-A PREROUTING -j DNAT --to-destination 10.0.0.7\n"
                             "-A POSTROUTING -j SNAT --to-source 8.8.8.8\nCOMMIT\n"},
    "a full table of entries that are over": {"sysctl.txt": "net.ipv4.ip_forward = 1\nnet.netfilter.nf_conntrack_max = 2\n",
        "conntrack.txt": "".join(f"udp 17 0 src=10.0.0.8 dst=8.8.8.8 sport={n} dport=53 src=8.8.8.8 dst=10.0.0.8 sport=53 dport={n}\n" for n in range(1, 9))},
    "copies of copies": {"iptables-save.txt": "*mangle\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n" + "-A PREROUTING -j TEE --gateway 127.0.0.1\n" * 5
                         + "-A OUTPUT -j TEE --gateway 10.0.0.1\n" * 5 + "COMMIT\n"},
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_odd_network_is_answered_or_refused(name: str) -> None:
    files = dict(mutate.NETWORK)
    for file, content in ODD[name].items():
        if content is None:
            del files[file]
        else:
            files[file] = (content if isinstance(content, str) else json.dumps(content)).encode()
    tally = mutate.Tally()

    def play(rng: Random) -> str:
        world = mutate.loaded(files)
        if world is not None:
            with contextlib.suppress(InputError):
                mutate.answer(world, rng.choice(FORWARDED), rng)
            mutate.ask(world, rng, 6)
        return "done"

    for number in range(3):
        mutate.one(tally, number, name, Random(number), play)
    assert not tally.failures, "\n".join(tally.lines())


@pytest.mark.parametrize("kind", mutate.KINDS)
def test_damaged_input_is_answered_or_refused(kind: str) -> None:
    tally = mutate.run(0, 150, 7, kind)
    assert not tally.failures, "\n".join(tally.lines())
    assert {key.partition(" ")[2] for key in tally.count} == {"accepted", "refused"}, (
        "the damage is too weak or too strong"
    )
