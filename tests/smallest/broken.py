"""Flows that do not work: a sound network of three hosts, broken by one to three random changes. Offline; one seed each."""

from __future__ import annotations

import json
import random
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from nattrace.sim.errors import NattraceError
from nattrace.sim.explain.trial import Trial, attempt
from nattrace.sim.explain.whatif import Edit, PolicyRuleEdit, RouteEdit, RuleEdit, SetSysctl
from nattrace.sim.flow import parse_flow
from nattrace.sim.model.where import Where
from nattrace.sim.model.world import World
from nattrace.sim.snapshot.load import load_world

WHERE = Where("conntrack.txt", 1)
FILES = {
    "client": {
        "addr.txt": (("lo", "127.0.0.1/8"), ("eth0", "10.0.0.2/24")),
        "route.txt": ("default via 10.0.0.1 dev eth0", "10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.2"),
        "sysctl.txt": ("net.ipv4.ip_forward = 0",),
    },
    "router": {
        "addr.txt": (("lo", "127.0.0.1/8"), ("eth0", "10.0.0.1/24"), ("eth1", "203.0.113.2/24"), ("eth2", "10.0.1.1/24"),
                     ("eth3", "198.51.100.2/24")),
        "route.txt": (
            "default via 203.0.113.1 dev eth1", "10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.1",
            "203.0.113.0/24 dev eth1 proto kernel scope link src 203.0.113.2",
            "10.0.1.0/24 dev eth2 proto kernel scope link src 10.0.1.1",
            "198.51.100.0/24 dev eth3 proto kernel scope link src 198.51.100.2", "default via 198.51.100.1 dev eth3 table 101",
        ),
        "rule.txt": ("0: from all lookup local", "200: from all fwmark 0x1 lookup 101", "32766: from all lookup main",
                     "32767: from all lookup default"),
        "sysctl.txt": ("net.ipv4.ip_forward = 1",),
        "neigh.txt": ("203.0.113.1 dev eth1 lladdr 02:00:00:00:01:01 REACHABLE",
                      "198.51.100.1 dev eth3 lladdr 02:00:00:00:01:02 REACHABLE"),
        "iptables-save.txt": (
            "*raw", ":PREROUTING ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", "COMMIT",
            "*mangle", ":PREROUTING ACCEPT [0:0]", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]",
            ":POSTROUTING ACCEPT [0:0]", "COMMIT",
            "*nat", ":PREROUTING ACCEPT [0:0]", ":INPUT ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", ":POSTROUTING ACCEPT [0:0]",
            "-A PREROUTING -d 203.0.113.2/32 -i eth1 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.1.2:80",
            "-A POSTROUTING -s 10.0.0.0/23 -o eth1 -j MASQUERADE", "-A POSTROUTING -s 10.0.0.0/23 -o eth3 -j MASQUERADE", "COMMIT",
            "*filter", ":INPUT ACCEPT [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT ACCEPT [0:0]", ":LAN - [0:0]",
            "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A FORWARD -i eth0 -j LAN",
            "-A FORWARD -i eth2 -o eth1 -j ACCEPT", "-A FORWARD -d 10.0.1.2/32 -o eth2 -p tcp -m tcp --dport 80 -j ACCEPT",
            "-A LAN -d 10.0.1.0/24 -p tcp -m tcp --dport 80 -j ACCEPT", "-A LAN -o eth1 -j ACCEPT", "-A LAN -o eth3 -j ACCEPT",
            "COMMIT",
        ),
        "sockets.txt": ("tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:*", "udp UNCONN 0 0 0.0.0.0:53 0.0.0.0:*"),
    },
    "server": {
        "addr.txt": (("lo", "127.0.0.1/8"), ("eth0", "10.0.1.2/24")),
        "route.txt": ("default via 10.0.1.1 dev eth0", "10.0.1.0/24 dev eth0 proto kernel scope link src 10.0.1.2"),
        "sysctl.txt": ("net.ipv4.ip_forward = 0",),
        "sockets.txt": ("tcp LISTEN 0 128 0.0.0.0:80 0.0.0.0:*",),
    },
}  # fmt: skip
SEGMENTS = [
    {"name": "lan", "members": ["client:eth0", "router:eth0"]},
    {"name": "dmz", "members": ["router:eth2", "server:eth0"]},
]
FLOWS = (
    "icmp 10.0.0.2 -> 8.8.8.8 at client", "tcp 10.0.0.2:40000 -> 8.8.8.8:443 at client", "udp 10.0.0.2:40000 -> 9.9.9.9:53 at client",
    "tcp 10.0.0.2:40000 -> 10.0.1.2:80 at client", "tcp 10.0.1.2:40000 -> 8.8.8.8:443 at server",
    "tcp 192.0.2.9:40000 -> 203.0.113.2:80 in eth1 at router", "tcp 192.0.2.9:40000 -> 203.0.113.2:22 in eth1 at router",
    "tcp 203.0.113.2:40000 -> 8.8.8.8:443 at router", "udp 10.0.0.2:40000 -> 10.0.0.1:53 at client", "icmp 10.0.0.2 -> 10.0.1.2 at client",
    "tcp 10.0.0.2:40000 -> 203.0.113.2:80 at client",
)  # fmt: skip


class Broken(NamedTuple):
    """A flow that fails, and what was done to the sound network."""

    seed: int
    flow: str
    trial: Trial
    edits: tuple[Edit, ...]

    def __str__(self) -> str:
        done = "; ".join(f"{e.host}: {c}" for e in self.edits for c in e.commands())
        return f"seed {self.seed}: {self.flow} after {done} → {self.trial.obstacle and self.trial.obstacle.code}"


@cache
def sound() -> World:
    """The network in which every flow works but the hairpin one."""
    with tempfile.TemporaryDirectory() as home:
        for host, files in FILES.items():
            (Path(home) / host).mkdir()
            for name, lines in files.items():
                text = _addresses(lines) if name == "addr.txt" else "\n".join(lines) + "\n"  # type: ignore[arg-type]
                (Path(home) / host / name).write_text(text)
        top = {"format": 1, "hosts": list(FILES), "segments": SEGMENTS}
        (Path(home) / "snapshot.json").write_text(json.dumps(top))
        return load_world(home, strict=True)


def _addresses(pairs: tuple[tuple[str, str], ...]) -> str:
    out = ""
    for number, (dev, address) in enumerate(pairs, 1):
        flags = "LOOPBACK,UP,LOWER_UP" if dev == "lo" else "BROADCAST,MULTICAST,UP,LOWER_UP"
        kind = "loopback" if dev == "lo" else "ether"
        scope = "host" if dev == "lo" else "global"
        out += f"{number}: {dev}: <{flags}> mtu 1500 qdisc noqueue state UP group default\n    link/{kind} 02:00:00:00:00:0{number}\n"
        out += f"    inet {address} scope {scope} {dev}\n"
    return out


def broken(seed: int) -> Broken:
    """The broken flow of a seed."""
    rnd = random.Random(seed)
    while True:
        flow, world, edits = rnd.choice(FLOWS), sound(), []
        for _ in range(rnd.choice([1, 1, 1, 2, 2, 3])):
            try:
                edit = _breakage(rnd, flow)
                world = edit.apply(world)
                edits.append(edit)
            except NattraceError:
                continue
            if rnd.random() < 0.25:
                world = _with_entries(rnd, world)
        trial = attempt(world, parse_flow(flow, world))
        if edits and trial.obstacle is not None:
            return Broken(seed, flow, trial, tuple(edits))


def _with_entries(rnd: random.Random, world: World) -> World:
    """The world after some flows have passed: their entries are in its tables now."""
    for flow in (*rnd.sample(FLOWS, 2),):
        leaf = attempt(world, parse_flow(flow, world)).leaf
        for name, host in world.hosts.items():
            conns = tuple(
                c.with_(where=WHERE) for c in leaf.state.host(name).ct.confirmed() if not any(t.drawn for t in c.tuples)
            )
            if conns:
                world = world.with_host(host.with_(conns=conns, files=host.files | {"conntrack"}))
    return world


def _breakage(rnd: random.Random, flow: str) -> Edit:
    kind = rnd.random()
    host = rnd.choice(["router", "router", "router", "client", "server"])
    if kind < 0.5:
        return _rule(rnd, host, flow)
    if kind < 0.65:
        devs = ["eth0", "eth1", "eth2", "all"] if host == "router" else ["eth0", "all"]
        key = rnd.choice(
            ["rp_filter=1", "rp_filter=2", "forwarding=0", "src_valid_mark=1", "arp_ignore=8", "arp_filter=1"]
        )
        name, value = key.split("=")
        if rnd.random() < 0.3:
            return SetSysctl(host, "net.ipv4.ip_forward", "0") if host == "router" else \
                SetSysctl(host, "net.ipv4.icmp_echo_ignore_all", "1")  # fmt: skip
        return SetSysctl(host, f"net.ipv4.conf.{rnd.choice(devs)}.{name}", value)
    if kind < 0.85:
        gateways = {"client": "10.0.0.9", "server": "10.0.1.9", "router": "203.0.113.1"}
        dst = rnd.choice(["8.8.8.8", "8.8.8.0/24", "10.0.0.0/24", "10.0.0.2", "10.0.1.2", "192.0.2.0/24", "9.9.9.9"])
        return rnd.choice([
            RouteEdit(host, "default", "del"), RouteEdit(host, f"{rnd.choice(['blackhole', 'unreachable', 'prohibit'])} {dst}"),
            RouteEdit(host, f"{dst} via {gateways[host]}"), RouteEdit(host, f"default via {gateways[host]}", "replace"),
            RouteEdit(host, f"{dst} dev {'eth3' if host == 'router' else 'eth0'}"),
        ])  # fmt: skip
    source = rnd.choice(["10.0.0.0/24", "10.0.0.2", "10.0.1.2", "192.0.2.0/24", "8.8.8.8"])
    action = rnd.choice(["lookup 101", "lookup 102", "prohibit", "blackhole", "unreachable"])
    return PolicyRuleEdit(host, f"{rnd.choice(['from', 'to'])} {source} priority {rnd.choice([90, 110, 250])} {action}")


def _rule(rnd: random.Random, host: str, flow: str) -> RuleEdit:
    words = flow.replace(":", " ").split()
    proto = words[0]
    table, chain = rnd.choice([
        ("filter", "FORWARD"), ("filter", "FORWARD"), ("filter", "INPUT"), ("filter", "OUTPUT"), ("nat", "PREROUTING"),
        ("nat", "POSTROUTING"), ("nat", "POSTROUTING"), ("raw", "PREROUTING"), ("raw", "OUTPUT"), ("mangle", "PREROUTING"),
        ("mangle", "FORWARD"), ("mangle", "POSTROUTING"), ("mangle", "OUTPUT"), ("filter", "LAN"),
    ])  # fmt: skip
    if host == "router" and rnd.random() < 0.25:
        doomed = rnd.choice(
            [("filter", "FORWARD", 4), ("filter", "LAN", 3), ("nat", "POSTROUTING", 2), ("nat", "PREROUTING", 1)]
        )
        return RuleEdit(host, f"-t {doomed[0]} -D {doomed[1]} {rnd.randint(1, doomed[2])}")
    if rnd.random() < 0.08:
        return RuleEdit(host, f"-P {rnd.choice(['INPUT', 'FORWARD', 'OUTPUT'])} DROP")
    addresses = ["10.0.0.2", "10.0.0.0/24", "8.8.8.8", "10.0.1.2", "192.0.2.9", "203.0.113.2", "0.0.0.0/0"]
    criteria = rnd.choice([f"-s {rnd.choice(addresses)}", f"-d {rnd.choice(addresses)}", f"-p {proto}", ""])
    if rnd.random() < 0.15:
        criteria += " -m conntrack --ctstate " + rnd.choice(["NEW", "INVALID", "RELATED,ESTABLISHED"])
    targets = {
        "filter": ["DROP", "DROP", "REJECT", "RETURN"], "raw": ["CT --notrack", "CT --zone 1", "CT --zone-reply 2", "DROP"],
        "mangle": ["MARK --set-mark 1", "MARK --set-mark 1", "DROP", "TTL --ttl-set 1"],
        "nat": ["ACCEPT", "RETURN"] + (["SNAT --to-source 10.0.1.77", "SNAT --to-source 203.0.113.77", "MASQUERADE"]
                                      if chain == "POSTROUTING" else ["DNAT --to-destination 10.0.1.9", "REDIRECT"]),
    }[table]  # fmt: skip
    if "TTL" in (target := rnd.choice(targets)):
        criteria = criteria or f"-p {proto}"
    verb = rnd.choice(["-I", "-I", "-A"])
    return RuleEdit(host, f"-t {table} {verb} {chain} {criteria} -j {target}".replace("  ", " "))
