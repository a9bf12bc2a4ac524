"""What a situation is about: rare matches, targets, chains, selectors and sysctls, each with packets that hit and miss.

Random rules and random packets seldom meet in something rare. So every situation has a few subjects out of ``SUBJECTS``;
they go round with the seed, so that in a run of consecutive seeds each has its turn equally often. A subject writes rules
in front of the random ones and packets between them; what happens to both is as unknown as everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .generator import Situation

SUBJECTS: list[tuple[str, Callable[[Focus], None]]] = []
EACH = 5  # subjects of one situation
WAYS = {
    "PREROUTING": ("forward", "input"), "INPUT": ("input",), "FORWARD": ("forward",), "OUTPUT": ("output",),
    "POSTROUTING": ("forward", "output"),
}  # fmt: skip
PLACES = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
RECEIVED_ONLY = ("flags", "mss", "mac", "tcp_ack", "src_of")  # keys of packets that no local process sends like this
SIZE = {"udp": 28, "tcp": 40, "icmp": 28, "udplite": 40, "sctp": 52, "dccp": 36, "esp": 28, "ah": 32, "gre": 44}


Packets = tuple[dict[str, Any], ...]


def packet_of(proto: str, **more: Any) -> dict[str, Any]:
    """What is asked of a packet."""
    return {"proto": proto, **more}


def subject(name: str, times: int = 1) -> Callable[[Callable[[Focus], None]], Callable[[Focus], None]]:
    """Registers a subject; ``times``: how often it comes in one round."""

    def register(function: Callable[[Focus], None]) -> Callable[[Focus], None]:
        SUBJECTS.extend([(name, function)] * times)
        return function

    return register


class Focus:
    """Writes the subjects of one situation: rules of host ``r`` and operations."""

    def __init__(self, situation: Situation, times=4) -> None:
        self.s, self.rnd, self.pick, self.chance = situation, situation.rnd, situation.pick, situation.chance
        self.host = situation.hosts["r"]
        self.backend = "iptables-legacy" if self.host["iptables-legacy"] and not self.host["iptables"] else "iptables"
        devices = [d for d in self.host["interfaces"] if self.host["interfaces"][d]["addresses"]]
        self.ready = len(devices) > 1
        if self.ready:
            edges = [d for d in devices if ("r", d) in situation.edges]
            self.near = self.pick(edges or devices)
            self.far = self.pick([d for d in edges if d != self.near] or [d for d in devices if d != self.near])
        self.bursts: list[list[dict[str, Any]]] = []
        self.number = 0

    def write(self, seed: int) -> None:
        """The subjects whose turn it is."""
        if not self.ready:
            return
        order = list(range(len(SUBJECTS)))
        import random

        random.Random(seed * EACH // len(SUBJECTS)).shuffle(order)  # other neighbours in each round
        for i in range(EACH):
            SUBJECTS[order[(seed * EACH + i) % len(SUBJECTS)]][1](self)

    # -------------------------------------------------------------------------------------------- addresses

    def around(self, dev: str) -> str:
        """A neighbour on a device."""
        return self.pick(self.s.near["r", dev])

    def mine(self, dev: str) -> str:
        """The first address on a device."""
        return self.host["interfaces"][dev]["addresses"][0].partition("/")[0]

    # --------------------------------------------------------------------------------------------- packets

    def packet(self, way: str, **over: Any) -> dict[str, Any]:
        """A record that takes a way through ``r``: forward, input or output."""
        out: dict[str, Any] = {"host": "r", "ttl": 64, "tos": 0, "proto": "udp"}
        if way == "output":
            out.update({"in": None, "src": None, "uid": over.get("uid", 0), "dst": self.around(self.far)})
        else:
            out.update({"in": self.near, "src": self.around(self.near), "mac": "02:ed:00:00:00:01"})
            out["dst"] = self.mine(self.near) if way == "input" else self.around(self.far)
        if over.pop("spoofed", False):
            out["src"] = self.around(self.far)
        if over.pop("oif_far", False):
            out["oif"] = self.far
        if over.pop("src_of", ""):
            out["src"] = self.s.near["r", self.near][0]
        out.update(over)
        self._transport(out)
        return out

    def _transport(self, out: dict[str, Any]) -> None:
        proto = out["proto"]
        size = SIZE.get(proto, 24) + len(out.get("payload", "")) // 2
        if proto in ("tcp", "udp", "udplite", "sctp", "dccp"):
            out.setdefault("sport", self.rnd.randrange(10000, 60000))
            out.setdefault("dport", self.pick([81, 2000, 9000]))
        if proto == "tcp":
            out.setdefault("flags", "S")
            if out["in"] is None and out["flags"] == "S":
                out["len"] = 44
            else:
                out.setdefault("tcp_seq", self.rnd.randrange(1 << 31))
                size += 4 if "mss" in out else 0
        if proto == "icmp":
            out.setdefault("type", 8)
            out.update(code=out.get("code", 0), icmp_id=self.rnd.randrange(100, 60000), seq=1)
        if out["in"] is None and not out["src"] and (proto == "dccp" or (proto == "tcp" and out["flags"] != "S")):
            out["src"] = self.mine(self.far)  # a segment made by hand needs it for the checksum
        if proto in ("esp", "ah"):
            out.setdefault("spi", 5)
        out.setdefault("len", size)
        out.setdefault("df", proto == "tcp")

    def send(self, way: str, *overs: dict[str, Any]) -> None:
        """Packets, one after the other, each somewhere among the random ones."""
        for over in overs:
            self.bursts.append([{"op": "send", "record": self.packet(**{"way": way, **over})}])

    def burst(self, *ops: dict[str, Any]) -> None:
        """Operations that stay together."""
        self.bursts.append(list(ops))

    def talk(self, way: str, over: dict[str, Any], *answers: dict[str, Any]) -> None:
        """A packet and what the two ends say next."""
        self.burst(
            {"op": "send", "record": self.packet(way, **over)}, *({"op": "reply", "back": 0, **a} for a in answers)
        )

    # ----------------------------------------------------------------------------------------------- rules

    def rule(self, table: str, chain: str, words: str, front: bool = True) -> None:
        """A rule before all others of its chain (or behind the last one that was put in front)."""
        line = f"-t {table} -A {chain} {words}".strip()
        rules = self.host[self.backend]
        head = f"-t {table} -A {chain} "
        same = [i for i, r in enumerate(rules) if r.startswith(head)]
        place = same[0] if same and front else len(rules)
        rules.insert(place, line)

    def place(self, tables: tuple[str, ...], chains: tuple[str, ...] | None, received: bool = False) -> tuple[str, str]:
        """A random table and chain of those allowed."""
        table = self.pick(tables)
        allowed = [c for c in PLACES[table] if (chains is None or c in chains) and not (received and c == "OUTPUT")]
        return (table, self.pick(allowed)) if allowed else self.place(tables, chains, received)

    def way(self, chain: str, received: bool = False) -> str:
        """How a packet comes to a chain."""
        return self.pick([w for w in WAYS[chain] if not (received and w == "output")])

    def verdict(self, table: str) -> str:
        """What a rule does whose subject is its match."""
        kinds = ["", "-j ACCEPT", "-j LOG --log-prefix f", "-j RETURN"]
        if table in ("mangle", "raw", "filter", "security"):
            kinds += ["-j MARK --or-mark 0x100"]
        if table in ("filter", "mangle") and self.chance(0.15):
            kinds = ["-j DROP"]
        return self.pick(kinds)
