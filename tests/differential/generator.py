"""Random situations: hosts, wires, routes, rules, packets. Everything follows from one seed.

A situation is plain JSON: ``topology`` (the parsed form of a lab file) and ``packets``, a list of operations:

    {"op": "send", "record": {...}}              a packet of the contract's simulate form
    {"op": "reply", "back": 0, "flags": "R"}     the natural answer to what a packet became, some fields changed
    {"op": "again", "back": 1, "change": {...}}  a packet once more, some fields changed
    {"op": "error", "back": 0, "type": 3, ...}   an ICMP error quoting what a packet became
    {"op": "reply", "back": 0, "say": "PASV\r\n"}        the other end says something; {me}: its address with commas
    {"op": "open", "back": 0, "kind": "ftp"}          the connection that a packet announced
    {"op": "wait", "seconds": 1.3}

``back`` 0 is the latest packet that arrived or left, 1 the one before; ``of`` in its place names an operation by number.
Replies are symbolic because only the kernel (or the simulator) knows what a packet became.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from . import subjects_match, subjects_route, subjects_target
from .focus import Focus
from .rules import RuleWriter

SUBJECTS = (subjects_match, subjects_target, subjects_route)  # importing them fills focus.SUBJECTS, in this order
REMOTES = ["8.8.8.8", "9.9.9.9", "1.2.3.4", "100.64.7.7", "203.0.113.66", "172.31.0.9", "198.18.5.5"]
SYN = 44  # bytes of a connect()'s SYN without timestamps, SACK and window scaling: records know the MSS option only
UIDS = [0, 1000, 1001, 65534]
SPORTS = [53, 500, 1000, 1024, 4000, 4001, 5353, 40000, 61000]
DPORTS = [53, 80, 81, 443, 2000, 5353, 8080, 69, 21]
BASES = [
    "10.{a}.{b}.0/24",
    "192.168.{b}.0/24",
    "172.16.{b}.0/24",
    "10.{a}.0.0/16",
    "198.51.100.{c}/28",
    "203.0.{b}.0/24",
]


def situation(seed: int, level: int = 9, packets: int = 30) -> dict[str, Any]:
    """The situation of a seed. ``level``: 0 forwarding with simple rules … 9 everything."""
    return Situation(seed, level).make(packets)


class Situation:
    """Makes one situation; the attributes are the pools that rules and packets draw from."""

    def __init__(self, seed: int, level: int) -> None:
        self.seed, self.level = seed, level
        self.rnd = random.Random(seed * 1_000_003 + level)
        self.hosts: dict[str, dict[str, Any]] = {}
        self.segments: dict[str, list[str]] = {}
        self.own: dict[str, list[str]] = {}  # host -> its addresses
        self.on: dict[tuple[str, str], list[tuple[str, int]]] = {}  # (host, dev) -> (network base, plen)
        self.near: dict[tuple[str, str], list[str]] = {}  # (host, dev) -> neighbours
        self.edges: list[tuple[str, str]] = []
        self.silent: list[str] = []
        self.subnets = 0

    def chance(self, p: float) -> bool:
        return self.rnd.random() < p

    def pick(self, items: Any) -> Any:
        return self.rnd.choice(list(items))

    def make(self, count: int) -> dict[str, Any]:
        self._wires()
        for name in self.hosts:
            self._sysctls(name)
            self._routes(name)
            self._listeners(name)
            if name == "r" or self.chance(0.5):
                self._rules(name)
        focus = Focus(self)
        if self.level > 6:
            focus.write(self.seed)
        return {
            "seed": self.seed,
            "level": self.level,
            "topology": {"segments": self.segments, "hosts": self.hosts},
            "silent": self.silent,
            "packets": self._packets(count, focus.bursts),
        }

    # ------------------------------------------------------------------------------------------ topology

    def _host(self, name: str) -> dict[str, Any]:
        self.hosts[name] = {
            "interfaces": {}, "routes": [], "rules": [], "nexthops": [], "neighbours": [], "sysctl": {}, "iptables": [],
            "iptables-legacy": [], "ipset": [], "listen": [],
        }  # fmt: skip
        self.own[name] = []
        return self.hosts[name]

    def _subnet(self) -> tuple[str, int]:
        self.subnets += 1
        text = self.pick(BASES if self.level > 1 else BASES[:2]).format(
            a=10 + self.subnets, b=100 + self.subnets, c=16 * self.subnets
        )
        base, _, plen = text.partition("/")
        return base, int(plen)

    def _attach(self, host: str, subnet: tuple[str, int], number: int) -> str:
        """A new interface of a host on a subnet; returns its name."""
        interfaces = self.hosts[host]["interfaces"]
        dev = f"eth{len(interfaces)}"
        base, plen = subnet
        addresses = [f"{nth(base, number)}/{plen}"]
        self.own[host].append(nth(base, number))
        if self.level > 1:
            for extra in range(self.rnd.choice([0, 0, 0, 1, 2])):
                if self.chance(0.7):
                    secondary = nth(base, 5 + number * 2 + extra)
                    addresses.append(f"{secondary}/{plen}")
                else:
                    secondary = f"10.200.{self.subnets}.{number + extra}"
                    addresses.append(f"{secondary}/{self.pick([24, 32])}")
                if secondary not in self.own[host]:
                    self.own[host].append(secondary)
                else:
                    addresses.pop()
        if self.level > 4 and self.chance(0.05):
            self.own[host] = [a for a in self.own[host] if all(not x.startswith(f"{a}/") for x in addresses)]
            addresses = []
        interfaces[dev] = {"addresses": addresses}
        self.on[host, dev] = [subnet]
        return dev

    def _wires(self) -> None:
        total = 1 if self.level < 3 else self.rnd.choice([1, 1, 1, 2, 2, 3])
        names = ["r", "a", "b"][:total]
        for name in names:
            self._host(name)
        for index, name in enumerate(names[1:]):
            other = self.pick(names[: index + 1])
            subnet = self._subnet()
            devs = [self._attach(other, subnet, 1), self._attach(name, subnet, 2)]
            members = [f"{other}:{devs[0]}", f"{name}:{devs[1]}"]
            self.near[other, devs[0]] = [nth(subnet[0], 2)]
            self.near[name, devs[1]] = [nth(subnet[0], 1)]
            if index == 1 and self.chance(0.5):
                third = next(n for n in names if n not in (other, name))
                dev = self._attach(third, subnet, 3)
                members.append(f"{third}:{dev}")
                self.near[third, dev] = [nth(subnet[0], 1), nth(subnet[0], 2)]
            self.segments[f"s{index}"] = members
            if self.level > 3 and self.chance(0.15):  # one wire, one mtu: a veth throws away what its peer may not take
                mtu = self.pick([1400, 1280, 576])
                for member in members:
                    host, _, dev = member.partition(":")
                    self.hosts[host]["interfaces"][dev]["mtu"] = mtu
        if self.level > 3:
            self._bridge()
        for name in names:
            wanted = self.rnd.randint(2, 4) if name == "r" else self.rnd.randint(2, 3)
            while len(self.hosts[name]["interfaces"]) < wanted:
                subnet = self._subnet()
                dev = self._attach(name, subnet, self.pick([1, 1, 2, 3]))
                self.edges.append((name, dev))
                if self.level > 3 and self.chance(0.15):
                    self.hosts[name]["interfaces"][dev]["mtu"] = self.pick([1400, 1280, 576])
                self.near[name, dev] = [nth(subnet[0], n) for n in (4, 11, 12)]

    def _bridge(self) -> None:
        """A wire of three is a bridge of one of them, whose rules may see what it switches."""
        for members in self.segments.values():
            host, _, dev = self.pick(members).partition(":")
            if len(members) > 2 and "mtu" not in self.hosts[host]["interfaces"][dev] and self.chance(0.6):
                self.hosts[host]["interfaces"][dev]["bridge"] = True
                self.hosts[host]["sysctl"]["net.bridge.bridge-nf-call-iptables"] = int(self.chance(0.8))

    # ------------------------------------------------------------------------------------ configuration

    def _sysctls(self, name: str) -> None:
        sysctl = self.hosts[name]["sysctl"]
        devices = list(self.hosts[name]["interfaces"])
        sysctl["net.ipv4.ip_forward"] = 0 if self.chance(0.08) else 1
        if self.level < 2:
            return
        for dev in devices:
            for key, p, values in DEVICE_SYSCTLS:
                if self.chance(p):
                    sysctl[f"net.ipv4.conf.{dev}.{key}"] = self.pick(values)
        for key, p, values in HOST_SYSCTLS:
            if self.chance(p):
                sysctl[key] = self.pick(values)

    def _routes(self, name: str) -> None:
        host = self.hosts[name]
        legs = [
            (dev, via)
            for (h, dev), near in self.near.items()
            if h == name and host["interfaces"][dev]["addresses"]
            for via in near[:1]
        ]
        if not legs:
            return
        routes = host["routes"]
        for other, data in self.hosts.items():  # ways to the other hosts' networks
            if other == name or self.chance(0.15):
                continue
            for dev in data["interfaces"]:
                base, plen = self.on[other, dev][0]
                if all((base, plen) not in self.on[h, d] for h, d in self.on if h == name):
                    towards = [leg for leg in legs if (name, leg[0]) not in self.edges] or legs
                    out, via = self.pick(towards)
                    routes.append(f"{base}/{plen} via {via} dev {out}")
        if self.chance(0.85):
            dev, via = self.pick(legs)
            routes.append(f"default via {via} dev {dev}")
        if self.level < 2:
            return
        for remote in self.rnd.sample(REMOTES, self.rnd.randint(0, 3)):
            routes.append(self._route(name, legs, remote, ""))
        if self.level > 2 and self.chance(0.5):
            self._policy(name, legs)
        host["routes"] = list(dict.fromkeys(routes))

    def _route(self, name: str, legs: list[tuple[str, str]], remote: str, table: str) -> str:
        dev, via = self.pick(legs)
        prefix = self.pick([remote, remote.rsplit(".", 1)[0] + ".0/24", remote.split(".", 1)[0] + ".0.0.0/8"])
        kind = self.rnd.random()
        tail = f" {table}" if table else ""
        if self.level > 2 and kind < 0.3:
            return f"{self.pick(['unreachable', 'prohibit', 'blackhole', 'throw'])} {prefix}{tail}"
        if self.level > 2 and kind < 0.36:
            return f"local {prefix} dev lo{tail}"
        words = f"{prefix} via {via} dev {dev}"
        if self.level > 2 and self.chance(0.12):
            words += f" tos {self.pick(['0x10', '0x08', '0x04'])}"
        if self.chance(0.15):
            words += f" metric {self.pick([5, 50, 500])}"
        if self.level > 2 and self.chance(0.15):
            words += f" src {self.pick(self.own[name])}"
        if self.level > 4 and self.chance(0.08):
            words += (
                f" mtu {self.pick(['560', 'lock 500'])}"  # no more than any device takes: a veth drops what is longer
            )
        if self.level > 4 and self.chance(0.1):
            words += f" realm {self.pick([1, 2, 7])}"
        return words + tail

    def _policy(self, name: str, legs: list[tuple[str, str]]) -> None:
        host = self.hosts[name]
        for table in (100, 101):
            if self.chance(0.8):
                dev, via = self.pick(legs)
                host["routes"].append(f"default via {via} dev {dev} table {table}")
            for remote in self.rnd.sample(REMOTES, self.rnd.randint(0, 2)):
                host["routes"].append(self._route(name, legs, remote, f"table {table}"))
            if self.chance(0.5):
                for (h, dev), nets in self.on.items():
                    if h == name and host["interfaces"][dev]["addresses"] and self.chance(0.5):
                        host["routes"].append(f"{nets[0][0]}/{nets[0][1]} dev {dev} table {table}")
        priorities = sorted(self.rnd.sample(range(100, 900, 10), self.rnd.randint(1, 4)))
        for position, priority in enumerate(priorities):
            host["rules"].append(f"pref {priority} {self._rule(name, priorities[position + 1 :])}")

    def _rule(self, name: str, later: list[int]) -> str:
        selectors: list[str] = []
        devices = list(self.hosts[name]["interfaces"])
        menu: list[Callable[[], str]] = [
            lambda: (
                f"from {self.pick([*self.own[name], *self._around(name), *REMOTES[:3]])}{self.pick(['', '', '/24'])}"
            ),
            lambda: (
                f"to {self.pick([*self.own[name], *self._around(name), *REMOTES])}{self.pick(['', '', '/24', '/8'])}"
            ),
            lambda: f"iif {self.pick([*devices, 'lo'])}",
            lambda: f"oif {self.pick(devices)}",
            lambda: f"fwmark {self.pick(['1', '2', '0x10/0xf0', '7', '0/1'])}",
            lambda: f"uidrange {self.pick(['1000-1001', '0-0', '1001-2000'])}",
            lambda: f"ipproto {self.pick(['udp', 'tcp', 'icmp'])}",
            lambda: f"ipproto {self.pick(['udp', 'tcp'])} dport {self.pick(['53', '80', '1-100'])}",
            lambda: f"ipproto udp sport {self.pick(['4000', '1000-5000'])}",
            lambda: f"tos {self.pick(['0x10', '0x08'])}",
        ]
        for make in self.rnd.sample(menu, self.rnd.choice([1, 1, 1, 2])):
            words = make()
            if words.split()[0] not in " ".join(selectors).split():
                selectors.append(words)
        invert = "not " if self.chance(0.1) else ""
        text = invert + " ".join(selectors)
        kind = self.rnd.random()
        if kind < 0.75:
            action = f"lookup {self.pick(['100', '101', 'main', '100'])}"
            if self.chance(0.12):
                action += f" suppress_prefixlength {self.pick([0, 8])}"
        elif kind < 0.85 and later:
            action = f"goto {self.pick(later)}"
        else:
            action = self.pick(["unreachable", "prohibit", "blackhole", "nop"])
        if "from" not in text and "to" not in text:
            text = f"{invert}from all {text.removeprefix('not ')}"
        return f"{text} {action}"

    def _around(self, name: str) -> list[str]:
        return [a for (h, _), near in self.near.items() if h == name for a in near]

    def _listeners(self, name: str) -> None:
        for port in self.rnd.sample([53, 80, 443, 8080], 2):
            for proto in ("udp", "tcp"):
                if self.chance(0.6):
                    at = f"{self.pick(self.own[name])}:" if self.own[name] and self.chance(0.2) else ""
                    self.hosts[name]["listen"].append(f"{proto} {at}{port}")

    def _rules(self, name: str) -> None:
        writer = RuleWriter(self, name)
        host = self.hosts[name]
        host["ipset"] = writer.sets() if self.level > 2 else []
        backend = "iptables-legacy" if self.level > 3 and self.chance(0.2) else "iptables"
        host[backend] = writer.rules()

    # ----------------------------------------------------------------------------------------- packets

    def _packets(self, count: int, bursts: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """``count`` packets and more if the bursts are longer, which keep their order and come in between."""
        out: list[dict[str, Any]] = []
        for number in range(max(count - sum(map(len, bursts)), count // 4)):
            sent = [i for i, op in enumerate(out) if op["op"] != "wait"]
            kind = self.rnd.random()
            if kind < 0.42 or not sent:
                out.append({"op": "send", "record": self._fresh(number)})
            elif kind < 0.72:
                op: dict[str, Any] = {"op": "reply", "back": self.rnd.choice([0, 0, 0, 1, 2, 3])}
                if self.chance(0.12):
                    op["flags"] = self.pick(["R", "RA", "F", "FA", "S", "SA", "A", "PA"])
                out.append(op)
            elif kind < 0.86:
                out.append({"op": "again", "back": self.rnd.randrange(6), "change": self._change()})
            elif kind < 0.95:
                error = self.pick([(3, 0), (3, 1), (3, 3), (3, 4), (11, 0), (12, 0), (3, 13)])
                out.append({"op": "error", "back": self.rnd.randrange(4), "type": error[0], "code": error[1],
                            "from": self.pick([None, None, *REMOTES])})  # fmt: skip
            else:
                out.append({"op": "send", "record": self._fresh(number)})
        places = sorted(self.rnd.randrange(len(out) + 1) for _ in bursts)
        for place, burst in reversed(list(zip(places, bursts, strict=True))):
            out[place:place] = burst
        if self.level > 4 and self.chance(0.12):
            where = self.rnd.randrange(len(out) // 2, len(out))
            out.insert(where, {"op": "wait", "seconds": 1.35})
            for op in out:  # a connect() would send its SYN again meanwhile
                record = op.get("record", {})
                if record.get("in", "") is None and record.get("proto") == "tcp" and record["flags"] == "S":
                    record.update(proto="udp", len=28, df=False)
                    del record["flags"]
            for host in self.hosts.values():
                host["sysctl"]["net.netfilter.nf_conntrack_udp_timeout"] = 1
                host["sysctl"]["net.netfilter.nf_conntrack_icmp_timeout"] = 1
        return out

    def _change(self) -> dict[str, Any]:
        kind = self.rnd.random()
        if kind < 0.35:
            return {}
        if kind < 0.5:
            return {"flags": self.pick(["S", "A", "PA", "FA", "R", "RA", "-", "SF"])}
        if kind < 0.6:
            return {"dport": self.pick(DPORTS)}
        if kind < 0.7:
            return {"dst": self.pick(REMOTES)}
        if kind < 0.8:
            return {"tos": self.pick([0, 0x10, 0x08, 0x2E << 2])}
        if kind < 0.9:
            return {"ttl": self.pick([1, 2, 64, 128])}
        return {"sport": self.pick(SPORTS)}

    def _fresh(self, number: int) -> dict[str, Any]:
        kind = self.rnd.random()
        if kind < 0.3:
            record = self._local()
        else:
            record = self._received(kind < 0.5)
        self._transport(record, number)
        if record["in"] is None:
            record.pop("mac", None)
        return record

    def _received(self, to_host: bool) -> dict[str, Any]:
        host, dev = self.pick(self.edges or list(self.near))
        if self.level > 2 and self.chance(0.15):
            host, dev = self.pick(list(self.near))
        if self.hosts[host]["interfaces"][dev].get("bridge"):  # no record says whom a frame there is for
            host, dev = self.pick(self.edges or [d for d in self.near if d != (host, dev)])
        near = self.near[host, dev]
        everyone = [a for owners in self.own.values() for a in owners]
        src = self.pick(near) if self.chance(0.7) else self.pick([*REMOTES, *REMOTES, *everyone, *self._around(host)])
        if self.level > 4 and self.chance(0.03):
            src = self.pick(["127.0.0.9", "0.0.0.0", "255.255.255.255", "224.0.0.9", "240.1.1.1"])
        if to_host:
            dst = self.pick(self.own[host] or REMOTES)
        else:
            others = [a for (h, d), near in self.near.items() if (h, d) != (host, dev) for a in near]
            dst = self.pick([*REMOTES, *others, *others, *everyone] if others else REMOTES)
        if self.level > 4 and self.chance(0.03):
            base, plen = self.on[host, dev][0]
            dst = self.pick(["255.255.255.255", last(base, plen), "127.0.0.1", "224.0.0.1", "240.1.1.1"])
        return {
            "host": host,
            "in": dev,
            "src": src,
            "dst": dst,
            "mac": self.pick(["02:ed:00:00:00:01", "02:ed:00:00:00:02"]),
        }

    def _local(self) -> dict[str, Any]:
        host = self.pick(self.hosts)
        everyone = [a for owners in self.own.values() for a in owners]
        record: dict[str, Any] = {"host": host, "in": None, "src": None, "uid": self.pick(UIDS)}
        record["dst"] = self.pick([*REMOTES, *self._around(host), *everyone])
        if self.level > 1 and self.own[host]:
            if self.chance(0.25):
                record["src"] = self.pick(self.own[host])
            if self.chance(0.15):
                record["mark"] = self.pick([1, 2, 7, 0x10])
            if self.level > 2 and self.chance(0.08):
                record["oif"] = self.pick(self.hosts[host]["interfaces"])
            if self.chance(0.04):
                record["dst"] = self.pick(["127.0.0.1", "127.0.0.1", "127.0.0.5"])
        return record

    def _transport(self, record: dict[str, Any], number: int) -> None:
        kind = self.rnd.random()
        record["ttl"] = 64 if self.chance(0.85) else self.pick([1, 2, 3, 128, 255])
        record["tos"] = 0 if self.chance(0.75) else self.pick([0x10, 0x08, 0x04, 0xB8, 0x01, 0x02])
        size = self.pick([0, 0, 0, 4, 32, 100])
        if self.level > 3 and self.chance(0.04):
            size = self.pick([600, 1300, 1400])
        if kind < 0.42:
            record.update(proto="udp", sport=self.pick(SPORTS), dport=self.pick(DPORTS), len=28 + size)
        elif kind < 0.75:
            record.update(
                proto="tcp", sport=self.pick(SPORTS), dport=self.pick(DPORTS), flags="S", tcp_seq=1000 * number + 7
            )
            if self.chance(0.15):
                record.update(
                    flags=self.pick(["SA", "A", "PA", "FA", "R", "RA", "-", "SF", "F"]), tcp_ack=self.pick([0, 5000])
                )
            if record["in"] is None and record["flags"] == "S":
                record.pop("tcp_seq")
                record["len"] = SYN
                record["tos"] &= 0xFC  # IP_TOS of a stream socket leaves the ECN bits alone
            else:
                if "S" in record["flags"] and self.chance(0.5):
                    record["mss"] = self.pick([1460, 1400, 500])
                record["len"] = 40 + (4 if "mss" in record else 0) + (size if "A" in record["flags"] else 0)
        elif kind < 0.95 or self.level < 3:
            record.update(proto="icmp", type=8, code=0, icmp_id=self.pick([1, 2, 77]), seq=number, len=28 + size)
            if self.level > 2 and self.chance(0.1):
                record["type"] = self.pick([0, 15, 17, 14])  # 13 the kernel answers by itself
        else:
            record.update(proto=self.pick(["99"] * 5 + ["udplite", "esp", "gre", "sctp", "dccp", "ah"]))
            if record["proto"] in ("udplite", "sctp", "dccp"):
                record.update(sport=self.pick(SPORTS), dport=self.pick(DPORTS))
            if record["proto"] in ("esp", "ah"):
                record["spi"] = self.pick([1, 256, 1000])
            record["len"] = {"udplite": 40, "sctp": 52, "dccp": 36, "esp": 28, "ah": 32, "gre": 44}.get(
                record["proto"], 24
            )
        if record.get("proto") in ("udp", "icmp") and self.chance(0.3):
            record["df"] = True
        record.setdefault("df", record["proto"] == "tcp")
        if record["in"] is None:
            self._local_ports(record)

    def _local_ports(self, record: dict[str, Any]) -> None:
        """A sender's port is not a listener's; a segment made by hand needs its source for the checksum."""
        taken = {int(x.split()[1].rpartition(":")[2]) for x in self.hosts[record["host"]]["listen"]}
        while record.get("sport") is not None and record["sport"] in {*taken, record["dport"]}:
            record["sport"] = self.pick(SPORTS)
        if record["dst"] in self.own[record["host"]] or record["dst"].startswith("127."):
            record.pop("oif", None)  # a device that its own address is not on: ARP for oneself
            if record["proto"] not in ("tcp", "udp", "icmp", "udplite"):
                record.update(proto="udp", sport=4000, dport=81, len=28)  # a raw socket would take its own packet
        by_hand = record["proto"] == "dccp" or (record["proto"] == "tcp" and record["flags"] != "S")
        if by_hand and not record["src"]:
            record["src"] = self.pick(self.own[record["host"]] or ["127.0.0.1"])


STEADY = {
    "net.ipv4.icmp_ratemask": 0, "net.ipv4.icmp_msgs_per_sec": 1000000, "net.ipv4.icmp_msgs_burst": 1000000,
    "net.ipv4.conf.all.send_redirects": 0, "net.ipv4.conf.default.send_redirects": 0, "net.ipv4.icmp_echo_ignore_all": 1,
    "net.ipv4.fib_multipath_hash_policy": 0, "net.ipv4.tcp_timestamps": 0,
    "net.ipv4.tcp_sack": 0, "net.ipv4.tcp_window_scaling": 0,
}  # fmt: skip


def steady(host: dict[str, Any], wired: set[str]) -> dict[str, Any]:
    """What makes a test repeatable on any host: no rate limits, no redirects, and on the wires between hosts
    (``wired``: their devices) neighbours that fail at once; the edges answer, if late on a busy machine."""
    out = dict(STEADY)
    for dev in [*host["interfaces"], "lo"]:
        out[f"net.ipv4.neigh.{dev}.mcast_solicit"] = 1
        out[f"net.ipv4.neigh.{dev}.retrans_time_ms"] = 60 if dev in wired else 200
        out[f"net.ipv4.neigh.{dev}.proxy_delay"] = 0  # pneigh_enqueue() would answer when the asker has given up
        out[f"net.ipv4.conf.{dev}.send_redirects"] = 0
    return out


DEVICE_SYSCTLS = [
    ("rp_filter", 0.25, [1, 2]), ("forwarding", 0.08, [0, 1]), ("accept_local", 0.1, [1]), ("route_localnet", 0.08, [1]),
    ("src_valid_mark", 0.1, [1]), ("arp_ignore", 0.03, [1]), ("arp_filter", 0.03, [1]),
]  # fmt: skip

HOST_SYSCTLS = [
    ("net.ipv4.conf.all.rp_filter", 0.1, [1, 2]), ("net.ipv4.conf.all.accept_local", 0.05, [1]),
    ("net.ipv4.conf.all.src_valid_mark", 0.05, [1]), ("net.ipv4.conf.all.route_localnet", 0.04, [1]),
    ("net.netfilter.nf_conntrack_tcp_loose", 0.15, [0]), ("net.netfilter.nf_conntrack_tcp_be_liberal", 0.1, [1]),
    ("net.ipv4.fwmark_reflect", 0.08, [1]), ("net.ipv4.icmp_errors_use_inbound_ifaddr", 0.08, [1]),
    ("net.ipv4.ip_default_ttl", 0.05, [100]), ("net.netfilter.nf_conntrack_acct", 0.2, [1]),
    ("net.ipv4.ip_forward_update_priority", 0.03, [0]), ("net.ipv4.ip_forward_use_pmtu", 0.03, [1]),
]  # fmt: skip


def nth(base: str, number: int) -> str:
    """The ``number``-th address of a network."""
    parts = [int(p) for p in base.split(".")]
    parts[3] += number
    return ".".join(map(str, parts))


def last(base: str, plen: int) -> str:
    """The broadcast address of a network."""
    value = 0
    for part in base.split("."):
        value = value << 8 | int(part)
    value |= (1 << (32 - plen)) - 1
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))
