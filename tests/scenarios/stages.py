"""The five situations, stage by stage: topologies as data. Snapshots of all of them ship with nattrace.

``STAGES`` maps a bundled snapshot's name to its :class:`Stage`. The bare name of a situation is the stage in which
its author was stuck; ``name.stage`` are the others. ``make_snapshots.py`` builds each in namespaces and captures it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Data = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """``data``: what tracer.lab.topology.from_data reads. ``title``: the configuration in one line. ``history``: what
    happened before the capture, host and a packet sent there (a record) or a command typed there."""

    name: str
    title: str
    data: Data
    history: tuple[tuple[str, Data | str], ...] = ()


STAGES: dict[str, Stage] = {}


def stage(
    name: str, title: str, base: Data, *edits: Callable[[Data], None], history: tuple[tuple[str, Data | str], ...] = ()
) -> None:
    data = copy.deepcopy(base)
    for edit in edits:
        edit(data)
    STAGES[name] = Stage(name, title, data, history)


def live_through(stage: Stage, lab: Any, wires: Any) -> None:
    """Let a built stage's history happen."""
    for host, what in stage.history:
        if isinstance(what, str):
            lab.run(host, *what.split())
        else:
            wires.send({"host": host, "in": None, **what})


def add(host: str, key: str, *lines: str) -> Callable[[Data], None]:
    """Append lines to a list of a host (routes, rules, iptables …)."""

    def edit(data: Data) -> None:
        data["hosts"][host].setdefault(key, []).extend(lines)

    return edit


def sysctl(host: str, **values: int) -> Callable[[Data], None]:
    """Set sysctls of a host; ``__`` in a name stands for a dot."""

    def edit(data: Data) -> None:
        settings = data["hosts"][host].setdefault("sysctl", {})
        settings.update({name.replace("__", "."): value for name, value in values.items()})

    return edit


# ------------------------------------------------------------------------------- 1 per-user-source

PER_USER: Data = {
    "hosts": {
        "host": {
            "interfaces": {
                "enp0s3": ["10.0.2.15/24", "10.0.2.101/24", "10.0.2.102/24", "10.0.2.103/24"],
                "ctr0": "172.17.0.1/24",
            },
            "routes": ["default via 10.0.2.2 dev enp0s3"],
            "users": {"userA": 1001, "userB": 1002, "userC": 1003},
            "sysctl": {"net.ipv4.ip_forward": 1},
            "iptables": [
                "-t nat -A POSTROUTING -m owner --uid-owner 1001 -j SNAT --to-source 10.0.2.101",
                "-t nat -A POSTROUTING -m owner --uid-owner 1002 -j SNAT --to-source 10.0.2.102",
                "-t nat -A POSTROUTING -m owner --uid-owner 1003 -j SNAT --to-source 10.0.2.103",
            ],
        },
        "container": {"interfaces": {"eth0": "172.17.0.2/24"}, "routes": ["default via 172.17.0.1 dev eth0"]},
        "router": {
            "interfaces": {"in0": "10.0.2.2/24", "out0": "203.0.113.1/24"},
            "routes": ["8.8.8.8/32 via 203.0.113.8 dev out0", "172.17.0.0/24 via 10.0.2.15 dev in0"],
            "sysctl": {"net.ipv4.ip_forward": 1},
        },
        "outside": {
            "interfaces": {"lo": "8.8.8.8/32", "eth0": "203.0.113.8/24"},
            "routes": ["default via 203.0.113.1 dev eth0"],
        },
    },
    "segments": {
        "lan": ["host:enp0s3", "router:in0"],
        "ctr": ["host:ctr0", "container:eth0"],
        "wan": ["router:out0", "outside:eth0"],
    },
}
stage("per-user-source", "three SNAT rules, one per user", PER_USER)
stage(
    "per-user-source.masquerading-router",
    "the next router masquerades: what the users' addresses were for is lost",
    PER_USER,
    add("router", "iptables", "-t nat -A POSTROUTING -o out0 -j MASQUERADE"),
)

# ----------------------------------------------------------------------------------- 2 two-uplinks

TWO_UPLINKS: Data = {
    "hosts": {
        "nat": {
            # a VPC delivers a packet to the interface that owns its address; arp_ignore and arp_announce stand in for that
            "interfaces": {"eth0": "172.31.0.10/20", "eth1": "172.31.8.208/20"},
            "routes": [
                "default via 172.31.0.1 dev eth0",
                "default via 172.31.0.1 dev eth1 metric 10001",
                "default via 172.31.0.1 dev eth1 table 10001",
            ],
            "rules": ["from 172.31.8.208 lookup 10001 priority 32765"],
            "sysctl": {
                "net.ipv4.ip_forward": 0,
                "net.ipv4.conf.all.arp_ignore": 1,
                "net.ipv4.conf.all.arp_announce": 2,
            },
            "iptables": [
                "-t nat -A POSTROUTING -s 172.31.0.0/16 -o eth0 -j MASQUERADE",
                "-t nat -A POSTROUTING -s 172.31.0.0/16 -o eth1 -j MASQUERADE",
            ],
        },
        "ec2a": {"interfaces": {"eth0": "172.31.26.10/20"}, "routes": ["default via 172.31.16.1 dev eth0"]},
        "ec2b": {"interfaces": {"eth0": "172.31.26.176/20"}, "routes": ["default via 172.31.16.1 dev eth0"]},
        # the provider: routes the private subnet's default to the instance's eth0, maps both addresses one to one
        "provider": {
            "interfaces": {
                "pub": "172.31.0.1/20",
                "priv": "172.31.16.1/20",
                "inet": ["54.178.213.178/32", "54.178.197.195/32", "203.0.113.1/24"],
            },
            "routes": ["default via 172.31.0.10 dev pub table 100"],
            "rules": ["iif priv lookup 100 priority 100"],
            "sysctl": {"net.ipv4.ip_forward": 1, "net.ipv4.conf.all.send_redirects": 0},
            "iptables": [
                "-t nat -A PREROUTING -d 54.178.213.178/32 -i inet -j DNAT --to-destination 172.31.0.10",
                "-t nat -A PREROUTING -d 54.178.197.195/32 -i inet -j DNAT --to-destination 172.31.8.208",
                "-t nat -A POSTROUTING -s 172.31.0.10/32 -o inet -j SNAT --to-source 54.178.213.178",
                "-t nat -A POSTROUTING -s 172.31.8.208/32 -o inet -j SNAT --to-source 54.178.197.195",
            ],
        },
        "internet": {
            "interfaces": {"eth0": "203.0.113.9/24"},
            "routes": ["54.178.213.178/32 via 203.0.113.1 dev eth0", "54.178.197.195/32 via 203.0.113.1 dev eth0"],
        },
    },
    "segments": {
        "public": ["nat:eth0", "nat:eth1", "provider:pub"],
        "private": ["ec2a:eth0", "ec2b:eth0", "provider:priv"],
        "inet": ["provider:inet", "internet:eth0"],
    },
}
_FORWARDING = sysctl("nat", **{"net.ipv4.ip_forward": 1})
_QUIET = sysctl("nat", **{"net.ipv4.conf.all.send_redirects": 0, "net.ipv4.conf.eth0.send_redirects": 0,
                          "net.ipv4.conf.eth1.send_redirects": 0})  # fmt: skip
_B_BY_ETH1 = add("nat", "rules", "from 172.31.26.176 lookup 10001 priority 32764")
stage("two-uplinks.nothing-set", "MASQUERADE on both uplinks, ip_forward=0", TWO_UPLINKS)
stage("two-uplinks.forwarding", "ip_forward=1, no rule for EC2-B: both leave by eth0", TWO_UPLINKS, _FORWARDING, _QUIET)
stage(
    "two-uplinks", "ip_forward=1 and a rule that sends EC2-B out by eth1", TWO_UPLINKS, _FORWARDING, _QUIET, _B_BY_ETH1
)
stage(
    "two-uplinks.strict",
    "the same with strict rp_filter on both uplinks",
    TWO_UPLINKS, _FORWARDING, _QUIET, _B_BY_ETH1,
    sysctl("nat", **{"net.ipv4.conf.eth0.rp_filter": 1, "net.ipv4.conf.eth1.rp_filter": 1}),
)  # fmt: skip

stage(
    "two-uplinks.running-ping",
    "the rule for EC2-B was added while a ping of EC2-B was running",
    TWO_UPLINKS, _FORWARDING, _QUIET,
    history=(
        ("ec2b", {"proto": "icmp", "dst": "203.0.113.9", "icmp_id": 4711, "seq": 1, "len": 84}),
        ("nat", "ip rule add from 172.31.26.176 lookup 10001 priority 32764"),
    ),
)  # fmt: skip

# --------------------------------------------------------------------------- 3 nonexistent-address

NONEXISTENT: Data = {
    "hosts": {
        "vm01": {"interfaces": {"eth0": "192.168.100.1/24"}, "routes": ["default via 192.168.100.254 dev eth0"]},
        "vm02": {
            "interfaces": {"eth0": "192.168.100.2/24", "eth1": "192.168.200.2/24"},
            "routes": ["default via 192.168.100.254 dev eth0"],
            "sysctl": {"net.ipv4.ip_forward": 1},
        },
        "vm03": {
            "interfaces": {"eth0": "192.168.200.3/24"},
            "routes": ["default via 192.168.200.254 dev eth0"],
            "listen": ["tcp 0.0.0.0:22", "tcp 0.0.0.0:80", "tcp 0.0.0.0:443", "udp 0.0.0.0:53", "tcp 0.0.0.0:3306",
                       "tcp 0.0.0.0:21", "tcp 0.0.0.0:1521"],
        },
        "gw100": {
            "interfaces": {"eth0": "192.168.100.254/24", "wan": "198.51.100.2/30"},
            "routes": ["default via 198.51.100.1 dev wan"],
            "sysctl": {"net.ipv4.ip_forward": 1},
        },
        "gw200": {
            "interfaces": {"eth0": "192.168.200.254/24", "wan": "198.51.100.6/30"},
            "routes": ["default via 198.51.100.5 dev wan"],
            "sysctl": {"net.ipv4.ip_forward": 1},
        },
    },
    "segments": {
        "net100": ["vm01:eth0", "vm02:eth0", "gw100:eth0"],
        "net200": ["vm02:eth1", "vm03:eth0", "gw200:eth0"],
    },
}  # fmt: skip
_ROUTE = add("vm01", "routes", "192.168.100.3/32 via 192.168.100.2 dev eth0")
_DNAT = add(
    "vm02", "iptables", "-t nat -A PREROUTING -d 192.168.100.3/32 -i eth0 -j DNAT --to-destination 192.168.200.3"
)
_MASQ = add("vm02", "iptables", "-t nat -A POSTROUTING -s 192.168.100.0/24 -o eth1 -j MASQUERADE")
stage("nonexistent-address.nothing", "nobody owns 192.168.100.3", NONEXISTENT)
stage("nonexistent-address.route", "vm01 sends it to vm02", NONEXISTENT, _ROUTE)
stage(
    "nonexistent-address", "vm02 translates the destination; the answer does not come back", NONEXISTENT, _ROUTE, _DNAT
)
stage("nonexistent-address.masquerade", "vm02 translates the source too: works", NONEXISTENT, _ROUTE, _DNAT, _MASQ)
stage(
    "nonexistent-address.ftp-helper",
    "and follows FTP with the conntrack helper",
    NONEXISTENT, _ROUTE, _DNAT, _MASQ,
    add("vm02", "iptables", "-t raw -A PREROUTING -d 192.168.100.3/32 -p tcp -m tcp --dport 21 -j CT --helper ftp"),
)  # fmt: skip

# --------------------------------------------------------------------- 4 twice-through-conntrack

TWICE: Data = {
    "hosts": {
        "client": {"interfaces": {"veth0": "10.10.1.1/24"}, "routes": ["default via 10.10.1.2 dev veth0"]},
        "host": {
            "interfaces": {
                "client-veth0": "10.10.1.2/24",
                "proxy-veth0": "10.10.2.2/24",
                "enp4s0": "172.16.202.30/24",
            },
            "routes": [
                "default via 172.16.202.1 dev enp4s0 proto static metric 100",
                "default via 10.10.2.1 dev proxy-veth0 table 100",
                "default via 10.10.1.1 dev client-veth0 table 101",
            ],
            "rules": [
                "from 10.10.1.0/24 iif client-veth0 lookup 100 priority 100",
                "to 10.10.1.0/24 iif proxy-veth0 lookup 101 priority 101",
                "to 10.10.1.0/24 iif enp4s0 lookup 100 priority 102",
            ],
            "sysctl": {"net.ipv4.ip_forward": 1},
            "iptables": ["-t nat -A POSTROUTING -s 10.10.1.0/24 ! -d 10.10.1.0/24 -o enp4s0 -j MASQUERADE"],
        },
        "proxy": {
            "interfaces": {"veth0": "10.10.2.1/24"},
            "routes": ["default via 10.10.2.2 dev veth0"],
            "sysctl": {"net.ipv4.ip_forward": 1},
        },
    },
    "segments": {"client": ["client:veth0", "host:client-veth0"], "proxy": ["proxy:veth0", "host:proxy-veth0"]},
}


def raw(*rules: str) -> Callable[[Data], None]:
    return add("host", "iptables", *(f"-t raw -A PREROUTING {rule}" for rule in rules))


stage("twice-through-conntrack", "no zones: MASQUERADE never matches", TWICE)
stage(
    "twice-through-conntrack.zones",
    "each pass in a zone of its own, in both directions",
    TWICE,
    raw("-i client-veth0 -j CT --zone 1", "-d 10.10.1.0/24 -i proxy-veth0 -j CT --zone 1"),
)
stage(
    "twice-through-conntrack.zone-orig",
    "one rule: the second pass keyed by its own zone in the original direction only",
    TWICE,
    raw("-s 10.10.1.0/24 -i proxy-veth0 -j CT --zone-orig 2"),
)
stage(
    "twice-through-conntrack.zone-on-proxy-only",
    "the folk remedy: translated, but the reply is lost",
    TWICE,
    raw("-i proxy-veth0 -j CT --zone 2"),
)
stage(
    "twice-through-conntrack.wrong-prefix",
    "the rule as the article's text has it: 10.10.10.1/32 is nobody here",
    TWICE,
    lambda data: data["hosts"]["host"].update(
        iptables=["-t nat -A POSTROUTING -s 10.10.10.1/32 -o enp4s0 -j MASQUERADE"]
    ),
)
stage("twice-through-conntrack.notrack", "the first pass is not tracked", TWICE, raw("-i client-veth0 -j CT --notrack"))
stage(
    "twice-through-conntrack.zone-reply",
    "the second pass keyed by its own zone in the reply direction only",
    TWICE,
    raw("-s 10.10.1.0/24 -i proxy-veth0 -j CT --zone-reply 2"),
)

# ------------------------------------------------------------------------------ 5 private-namespace

PRIVATE: Data = {
    "hosts": {
        "host": {
            "interfaces": {"eth0": {"addresses": "192.168.38.116/21", "mtu": 1400}, "veth0": "1.1.1.3/24"},
            "routes": ["default via 192.168.32.1 dev eth0"],
        },
        "private": {"interfaces": {"lo": {"up": False}, "veth1": "1.1.1.2/24"}},
    },
    "segments": {"pair": ["host:veth0", "private:veth1"]},
}
_DEFAULT = add("private", "routes", "default via 1.1.1.3 dev veth1")
_SNAT = add("host", "iptables", "-t nat -A POSTROUTING -s 1.1.1.0/24 -j SNAT --to-source 192.168.38.116")
_FORWARD = sysctl("host", **{"net.ipv4.ip_forward": 1})
stage("private-namespace.no-route", "the namespace has no default route", PRIVATE)
stage("private-namespace.route", "a default route, ip_forward=0", PRIVATE, _DEFAULT)
stage("private-namespace", "and an SNAT rule whose counters stay 0", PRIVATE, _DEFAULT, _SNAT)
stage("private-namespace.forwarding", "ip_forward=1: works", PRIVATE, _DEFAULT, _SNAT, _FORWARD)
stage(
    "private-namespace.masquerade",
    "MASQUERADE instead of SNAT",
    PRIVATE, _DEFAULT, _FORWARD,
    add("host", "iptables", "-t nat -A POSTROUTING -s 1.1.1.0/24 -o eth0 -j MASQUERADE"),
)  # fmt: skip
