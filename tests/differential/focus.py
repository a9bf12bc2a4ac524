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


def subject(name: str, times: int = 1) -> Callable[[Callable[[Focus], None]], Callable[[Focus], None]]:
    """Registers a subject; ``times``: how often it comes in one round."""

    def register(function: Callable[[Focus], None]) -> Callable[[Focus], None]:
        SUBJECTS.extend([(name, function)] * times)
        return function

    return register


class Focus:
    """Writes the subjects of one situation: rules of host ``r`` and operations."""

    def __init__(self, situation: Situation) -> None:
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


# ---------------------------------------------------------------------------------------- simple matches

ANY = ("raw", "mangle", "mangle", "filter", "filter", "security", "nat")
STATEFUL = ("mangle", "filter", "security", "nat")
Packets = tuple[dict[str, Any], ...]


def _simple(name: str, words: str, hits: Packets, misses: Packets, tables: tuple[str, ...] = ANY,
            chains: tuple[str, ...] | None = None, times: int = 1) -> None:  # fmt: skip
    """A match that one packet decides: ``{no}`` in ``words`` is where a negation goes."""
    received = any(key in over for over in (*hits, *misses) for key in RECEIVED_ONLY)

    def write(f: Focus) -> None:
        table, chain = f.place(tables, chains, received)
        turned = "{no}" in words and f.chance(0.25)
        text = words.format(no="! " if turned else "", near=f.s.near["r", f.near][0], far=f.s.near["r", f.far][0],
                            mine=f.mine(f.near), dev=f.near, out=f.far)  # fmt: skip
        f.rule(table, chain, f"{text} {f.verdict(table)}")
        way = f.way(chain, received)
        f.send(way, *(dict(over) for over in (*hits, *hits, *misses, *(misses if turned else ()))))

    subject(name, times)(write)


def _p(proto: str, **more: Any) -> dict[str, Any]:
    return {"proto": proto, **more}


LATE = ("INPUT", "FORWARD", "POSTROUTING")
_simple("tcp", "-p tcp -m tcp {no}--dport 80", (_p("tcp", dport=80),), (_p("tcp"),))
_simple(
    "tcp option", "-p tcp -m tcp {no}--tcp-option 2", (_p("tcp", mss=1460),), (_p("tcp", flags="S"),), ("raw", "mangle")
)
_simple("udp", "-p udp -m udp {no}--sport 500:4000", (_p("udp", sport=777),), (_p("udp"),))
_simple("sctp", "-p sctp -m sctp {no}--dport 53", (_p("sctp", dport=53),), (_p("sctp"),), times=2)
_simple("sctp chunks", "-p sctp -m sctp {no}--chunk-types any INIT", (_p("sctp"),), (_p("udp"),))
_simple(
    "dccp",
    "-p dccp -m dccp {no}--dport 53",
    (_p("dccp", dport=53),),
    (_p("dccp"),),
    chains=("PREROUTING", "INPUT", "FORWARD"),
    times=2,
)
_simple("udplite", "-p udplite -m multiport {no}--dports 53,60", (_p("udplite", dport=53),), (_p("udplite"),), times=2)
_simple(
    "icmp",
    "-p icmp -m icmp {no}--icmp-type 8",
    (_p("icmp"),),
    (_p("icmp", type=13), _p("icmp", type=17)),
    chains=("PREROUTING", "FORWARD", "POSTROUTING"),
)
_simple(
    "multiport",
    "-p udp -m multiport {no}--dports 53,80:90",
    (_p("udp", dport=85), _p("udp", dport=53)),
    (_p("udp"),),
    times=2,
)
_simple("multiport both", "-p tcp -m multiport {no}--ports 53,80:90", (_p("tcp", sport=85),), (_p("tcp"),))
_simple("state", "-m state {no}--state NEW", (_p("udp"),), (_p("tcp", flags="SF"),), STATEFUL)
_simple(
    "conntrack",
    "-m conntrack {no}--ctstate INVALID",
    (_p("tcp", flags="SF"),),
    (_p("udp"),),
    ("mangle", "filter", "security"),
)
_simple("conntrack proto", "-m conntrack {no}--ctproto udp --ctdir ORIGINAL", (_p("udp"),), (_p("icmp"),), STATEFUL)
_simple(
    "owner",
    "-m owner {no}--uid-owner 1000",
    (_p("udp", uid=1000), _p("tcp", uid=1000)),
    (_p("udp", uid=1001),),
    chains=("OUTPUT",),
    times=2,
)
_simple(
    "owner group", "-m owner {no}--gid-owner 1000-1001", (_p("udp", uid=1000),), (_p("udp", uid=0),), chains=("OUTPUT",)
)
_simple(
    "owner socket",
    "-p udp -m owner {no}--socket-exists",
    (_p("udp", way="output"),),
    (_p("udp", way="forward"),),
    ("mangle",),
    ("POSTROUTING",),
)
_simple(
    "addrtype",
    "-m addrtype {no}--dst-type LOCAL",
    (_p("udp", way="input"),),
    (_p("udp", way="forward"),),
    ("raw", "mangle", "nat"),
    ("PREROUTING",),
)
_simple(
    "addrtype source",
    "-m addrtype {no}--src-type LOCAL",
    (_p("udp", way="output"),),
    (_p("udp", way="forward"),),
    ("mangle",),
    ("POSTROUTING",),
)
_simple(
    "addrtype limit",
    "-m addrtype {no}--dst-type LOCAL --limit-iface-in",
    (_p("udp", way="input"),),
    (_p("udp", way="forward"),),
    ("raw", "mangle"),
    ("PREROUTING",),
)
_simple(
    "mac",
    "-m mac {no}--mac-source 02:ed:00:00:00:02",
    (_p("udp", mac="02:ed:00:00:00:02"),),
    (_p("udp", mac="02:ed:00:00:00:01"),),
    chains=("PREROUTING", "INPUT", "FORWARD"),
)
_simple(
    "iprange",
    "-m iprange {no}--src-range {near}-{near}",
    (_p("udp", src_of="near"),),
    (_p("udp", spoofed=True),),
    times=2,
)
_simple(
    "string",
    "-m string {no}--string NEEDLE --algo bm",
    (_p("udp", payload=b"xxNEEDLEyy".hex()),),
    (_p("udp", payload=b"xxNEEDL".hex()),),
)
_simple(
    "string kmp",
    "-m string {no}--hex-string |0102|Q --algo kmp --from 28",
    (_p("udp", payload="000102" + "51"),),
    (_p("udp", payload="0001"),),
)
_simple("length", "-m length {no}--length 100:200", (_p("udp", len=128),), (_p("udp"),))
_simple("ttl", "-m ttl {no}--ttl-gt 100", (_p("udp", ttl=128),), (_p("udp"),))
_simple("tos", "-m tos {no}--tos 0x10", (_p("udp", tos=0x10),), (_p("udp"),))
_simple("dscp", "-m dscp {no}--dscp-class EF", (_p("udp", tos=0xB8),), (_p("udp"),))
_simple("ecn", "-m ecn {no}--ecn-ip-ect 1", (_p("udp", tos=1),), (_p("udp"),))
_simple("ecn tcp", "-p tcp -m ecn {no}--ecn-tcp-ece", (_p("tcp", flags="SEC"),), (_p("tcp", flags="S"),))
_simple("u32", "-m u32 {no}--u32 4&0x1FFF=0&&0>>22&0x3C@0&0xFFFF=53", (_p("udp", dport=53),), (_p("udp"),))
_simple("bpf", '-m bpf {no}--bytecode "4,48 0 0 9,21 0 1 17,6 0 0 1,6 0 0 0"', (_p("udp"),), (_p("icmp"),))
_simple(
    "rpfilter", "-m rpfilter", (_p("udp"),), (_p("udp", spoofed=True),), ("raw", "mangle"), ("PREROUTING",), times=2
)
_simple(
    "rpfilter inverted",
    "-m rpfilter --invert",
    (_p("udp", spoofed=True),),
    (_p("udp"),),
    ("raw", "mangle"),
    ("PREROUTING",),
)
_simple("physdev", "-p udp -m physdev ! --physdev-is-bridged", (_p("udp"),), (_p("icmp"),))
_simple("physdev in", "-m physdev --physdev-is-in", (), (_p("udp"),))
_simple(
    "tcpmss",
    "-p tcp --tcp-flags SYN,RST SYN -m tcpmss {no}--mss 1000:1400",
    (_p("tcp", mss=1200),),
    (_p("tcp", mss=1460),),
    times=2,
)
_simple("time", "-p udp -m time --datestart 2020-01-01", (_p("udp"),), (_p("icmp"),))
_simple("time past", "-m time --datestop 2021-01-01", (), (_p("udp"),))
_simple(
    "pkttype",
    "-m pkttype {no}--pkt-type broadcast",
    (_p("udp", dst="255.255.255.255", way="input", mac="02:ed:00:00:00:01"),),
    (_p("udp"),),
    ("raw", "mangle"),
    ("PREROUTING",),
)
_simple(
    "devgroup",
    "-p udp -m devgroup --src-group 0",
    (_p("udp"),),
    (_p("icmp"),),
    chains=("PREROUTING", "INPUT", "FORWARD"),
)
_simple(
    "devgroup out",
    "-p udp -m devgroup {no}--dst-group 5",
    (),
    (_p("udp"),),
    chains=("FORWARD", "OUTPUT", "POSTROUTING"),
)
_simple("esp", "-p esp -m esp {no}--espspi 256:300", (_p("esp", spi=256),), (_p("esp"),), times=2)
_simple("ah", "-p ah -m ah {no}--ahspi 256:300", (_p("ah", spi=256),), (_p("ah"),), times=2)
_simple(
    "policy",
    "-p udp -m policy --dir in --pol none",
    (_p("udp"),),
    (_p("icmp"),),
    chains=("PREROUTING", "INPUT", "FORWARD"),
)
_simple(
    "policy out", "-p udp -m policy --dir out --pol none", (_p("udp"),), (_p("icmp"),), chains=("OUTPUT", "POSTROUTING")
)
_simple(
    "cluster",
    "-m cluster {no}--cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 7",
    (_p("udp"), _p("udp")),
    (_p("udp"),),
    ("mangle", "filter"),
    ("PREROUTING", "INPUT", "FORWARD"),
)
_simple("cpu", "-p udp --dport 53 -m cpu {no}--cpu 0", (_p("udp", dport=53),), (_p("udp"),))
_simple("nfacct", "-p udp --dport 53 -m nfacct --nfacct-name web", (_p("udp", dport=53),), (_p("udp"),), times=2)
_simple(
    "socket",
    "-m socket --nowildcard",
    (_p("udp", way="input", dport=5353, src_of="near"),),
    (_p("udp", way="forward", src_of="near"),),
    ("raw", "mangle"),
    ("PREROUTING",),
    times=2,
)
_simple("comment", "-p udp --dport 53 -m comment --comment here", (_p("udp", dport=53),), (_p("udp"),))
_simple("interface", "{no}-i {dev}", (_p("udp"),), (), chains=("PREROUTING", "INPUT", "FORWARD"))
_simple("output interface", "{no}-o {out}", (_p("udp"),), (), chains=("FORWARD", "OUTPUT", "POSTROUTING"))
_simple("statistic", "-p udp -m statistic --mode nth {no}--every 2 --packet 1", (_p("udp"), _p("udp")), (_p("udp"),))
_simple("quota", "-p udp --dport 53 -m quota {no}--quota 60", (_p("udp", dport=53), _p("udp", dport=53)), (_p("udp"),))
_simple(
    "limit",
    "-p udp --dport 53 -m limit --limit 1/day --limit-burst 2",
    (_p("udp", dport=53), _p("udp", dport=53)),
    (_p("udp"),),
)
_simple("hashlimit", "-p udp --dport 53 -m hashlimit --hashlimit-upto 1/day --hashlimit-burst 2 --hashlimit-mode dstport --hashlimit-name foc",
        (_p("udp", dport=53), _p("udp", dport=53)), (_p("udp"),))  # fmt: skip
_simple("hashlimit above", "-p udp --dport 53 -m hashlimit --hashlimit-above 1/day --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-srcmask 16 --hashlimit-name fob",
        (_p("udp", dport=53), _p("udp", dport=53)), (_p("udp", dport=53),))  # fmt: skip
_simple("fragments", "{no}-f", (), (_p("udp"),))

# ------------------------------------------------------------------- matches that remember, sets, helpers


def _again(f: Focus, way: str, over: dict[str, Any], times: int) -> None:
    """The same packet several times, together."""
    record = f.packet(way, **over)
    f.burst(*({"op": "send", "record": dict(record)} for _ in range(times)))


@subject("connmark")
def _connmark(f: Focus) -> None:
    f.rule("mangle", "PREROUTING", "-p udp --dport 53 -j CONNMARK --set-mark 5")
    chain = f.pick(LATE[1:] if f.chance(0.7) else LATE)
    no = "! " if f.chance(0.2) else ""
    f.rule(f.pick(("mangle", "filter")) if chain != "POSTROUTING" else "mangle", chain, f"-m connmark {no}--mark 5/0xf")
    way = f.way(chain, True)
    f.talk(way, _p("udp", dport=53), {}, {})
    f.send(way, _p("udp", dport=53), _p("udp"))


@subject("connlabel", 2)
def _connlabel(f: Focus) -> None:
    chain = f.pick(LATE)
    no = "! " if f.chance(0.2) else ""
    f.rule("mangle", chain, f"-m connlabel {no}--label 9 -j LOG --log-prefix l")
    f.rule("mangle", "PREROUTING", "-p udp --dport 53 -m connlabel --label 9 --set")
    way = f.way(chain, True)
    f.talk(way, _p("udp", dport=53), {})
    f.send(way, _p("udp", dport=53), _p("udp"))


@subject("connbytes")
def _connbytes(f: Focus) -> None:
    chain = f.pick(LATE)
    words = f.pick(
        ["2:3 --connbytes-dir original --connbytes-mode packets", "50: --connbytes-dir original --connbytes-mode bytes"]
    )
    f.rule("mangle", chain, f"-p udp -m connbytes --connbytes {words}")
    _again(f, f.way(chain, True), _p("udp"), 4)


@subject("connlimit")
def _connlimit(f: Focus) -> None:
    chain = f.pick(LATE)
    words = f.pick(["--connlimit-above 1", "--connlimit-upto 1"])
    f.rule(f.pick(("mangle", "filter")) if chain != "POSTROUTING" else "mangle", chain,
           f"-p udp --dport 53 -m connlimit {words} --connlimit-mask 32 {f.pick(['--connlimit-saddr', '--connlimit-daddr'])}")  # fmt: skip
    way = f.way(chain, True)
    f.send(way, *(_p("udp", dport=53, src_of="near") for _ in range(4)))


@subject("recent")
def _recent(f: Focus) -> None:
    chain = f.pick(("PREROUTING", "FORWARD", "INPUT"))
    f.rule(
        "mangle",
        chain,
        f"-p udp --dport 54 -m recent --name foc {f.pick(['--rcheck', '--update --seconds 300', '! --rcheck', '--update --hitcount 2', '--remove'])} --rsource",
    )
    f.rule("mangle", chain, "-p udp --dport 53 -m recent --name foc --set --rsource")
    way = f.way(chain, True)
    ops = [
        {"op": "send", "record": f.packet(way, **_p("udp", dport=port, src_of="near"))}
        for port in (54, 53, 54, 53, 54, 54)
    ]
    f.burst(*ops)


@subject("quota reached")
def _quota(f: Focus) -> None:
    table, chain = f.place(("mangle", "filter"), None, True)
    f.rule(table, chain, f"-p udp --dport 53 -m quota {f.pick(['', '! '])}--quota {f.pick([28, 60, 100])}")
    f.send(f.way(chain, True), *(_p("udp", dport=53) for _ in range(4)))


@subject("realm")
def _realm(f: Focus) -> None:
    target = f.s.near["r", f.far][-1]
    f.host["routes"].append(f"{target}/32 dev {f.far} realm 7")
    chain = f.pick(("FORWARD", "OUTPUT", "POSTROUTING"))
    no = "! " if f.chance(0.25) else ""
    f.rule("mangle", chain, f"-m realm {no}--realm {f.pick(['7', '0x3/0x3'])}")
    way = f.way(chain)
    f.send(way, {"dst": target}, {"dst": target}, {"dst": f.s.near["r", f.far][0]})


@subject("mark match")
def _mark(f: Focus) -> None:
    f.rule("raw", "PREROUTING", "-p udp --dport 53 -j MARK --set-mark 0x15")
    chain = f.pick(("INPUT", "FORWARD"))
    f.rule(f.pick(("mangle", "filter", "security")), chain, f"-m mark {f.pick(['', '! '])}--mark 0x10/0xf0")
    f.send(f.way(chain), _p("udp", dport=53), _p("udp"))


SETS: dict[str, tuple[str, str, tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]] = {
    # kind: (elements, flags, packets in the set, packets outside)
    "hash:ip": ("{near}", "src", (_p("udp", src_of="near"),), (_p("udp", spoofed=True),)),
    "hash:net": ("{near24}|{near}/32 nomatch", "src", (_p("udp", src_last=True),), (_p("udp", src_of="near"),)),
    "hash:ip,port": ("{near},udp:53", "src,dst", (_p("udp", src_of="near", dport=53),), (_p("udp", src_of="near"),)),
    "hash:net,port": ("{near24},udp:53|{near24},udp:60-70", "src,dst", (_p("udp", dport=53), _p("udp", dport=65)), (_p("udp"),)),
    "bitmap:port range 0-1024": ("53|100-200", "dst", (_p("udp", dport=53), _p("tcp", dport=150)), (_p("udp"),)),
    "bitmap:ip range {bitmap}": ("{near}", "src", (_p("udp", src_of="near"),), (_p("udp", src_last=True),)),
    "hash:ip,port,ip": ("{near},udp:53,{far}", "src,dst,dst", (_p("udp", src_of="near", dport=53, dst_far=True),), (_p("udp"),)),
    "hash:ip,port,net": ("{near},udp:53,{far24}", "src,dst,dst", (_p("udp", src_of="near", dport=53),), (_p("udp"),)),
    "hash:net,iface": ("{near24},{dev}", "src,src", (_p("udp"),), (_p("udp", spoofed=True),)),
    "hash:net,net": ("{near24},{far24}", "src,dst", (_p("udp"),), (_p("udp", spoofed=True),)),
    "hash:ip,mark": ("{near},0x1", "src,src", (), (_p("udp"),)),
    "hash:mac": ("02:ed:00:00:00:02", "src", (_p("udp", mac="02:ed:00:00:00:02"),), (_p("udp"),)),
    "list:set": ("fsub", "src", (_p("udp", src_of="near"),), (_p("udp", spoofed=True),)),
}  # fmt: skip


def _set_subject(kind: str) -> None:
    elements, flags, hits, misses = SETS[kind]

    def write(f: Focus) -> None:
        near, far = f.s.near["r", f.near][0], f.s.near["r", f.far][0]
        fill = {"near": near, "near24": f"{near.rpartition('.')[0]}.0/24", "far": far,
                "far24": f"{far.rpartition('.')[0]}.0/24", "dev": f.near, "bitmap": f"{near.rpartition('.')[0]}.0/24"}  # fmt: skip
        name = f"f{len(f.host['ipset'])}"
        if kind == "list:set":
            f.host["ipset"] += ["create fsub hash:ip", f"add fsub {near}"]
        f.host["ipset"].append(f"create {name} {kind.format(**fill)}")
        f.host["ipset"] += [f"add {name} {e.format(**fill)}" for e in elements.split("|")]
        chains = ("FORWARD", "PREROUTING") if "dst" in flags else ("FORWARD", "PREROUTING", "INPUT")
        table, chain = f.place(("raw", "mangle", "filter"), chains, True)
        no = "! " if f.chance(0.2) else ""
        f.rule(table, chain, f"-m set {no}--match-set {name} {flags} {f.verdict(table)}")
        for over in (*hits, *hits, *misses):
            more = dict(over)
            if more.pop("src_last", False):
                more["src"] = f.s.near["r", f.near][-1]
            if more.pop("dst_far", False):
                more["dst"] = far
            f.send("forward", more)

    subject(f"set {kind.split()[0]}", 1)(write)


for _kind in SETS:
    _set_subject(_kind)


@subject("SET target", 2)
def _set_target(f: Focus) -> None:
    name = f"f{len(f.host['ipset'])}"
    near = f.s.near["r", f.near][0]
    kind = f.pick(["hash:ip", "hash:ip,port", "hash:ip timeout 300"])
    flags = "src,dst" if "port" in kind else "src"
    f.host["ipset"] += [f"create {name} {kind}", f"add {name} {near}{',udp:60' if 'port' in kind else ''}"]
    f.rule("mangle", "FORWARD", f"-m set --match-set {name} {flags}")
    f.rule(
        "mangle",
        "FORWARD",
        f"-p udp --dport 53 -j SET {f.pick(['--add-set', '--del-set', '--add-set', '--exist --add-set'])} {name} {flags}".replace(
            "--exist --add-set " + name + " " + flags, f"--add-set {name} {flags} --exist"
        ),
    )
    f.burst(
        *(
            {"op": "send", "record": f.packet("forward", **_p("udp", dport=port, src_of="near"))}
            for port in (60, 53, 60, 53, 60)
        )
    )


@subject("helper ftp", 4)
def _ftp(f: Focus) -> None:
    """A session whose replies follow what arrived; then the connection that was announced."""
    f.rule("raw", "PREROUTING", "-p tcp --dport 21 -j CT --helper ftp")
    f.rule("mangle", "FORWARD", "-m conntrack --ctstate RELATED")
    f.rule("mangle", f.pick(("FORWARD", "POSTROUTING")), "-m helper --helper ftp")
    if f.chance(0.5):
        f.rule(
            "nat",
            "POSTROUTING",
            f"-o {f.far} -p tcp {f.pick(['-j MASQUERADE', '-j SNAT --to-source ' + f.mine(f.far)])}",
        )
    if f.chance(0.3):
        f.rule("mangle", "FORWARD", "-m conntrack --ctstatus EXPECTED")
    announce = f.pick([
        [{"say": "PORT {me},156,64\r\n"}],
        [{"say": "PASV\r\n"}, {"say": "227 Entering Passive Mode ({me},156,64).\r\n"}],
        [{"say": "EPSV\r\n"}, {"say": "229 Entering (|||40000|)\r\n"}],
        [{"say": "EPRT |1|{dotted}|40000|\r\n"}],
    ])  # fmt: skip
    steps = [{}, {"flags": "A"}, {"flags": "PA", "of_server": True, "say": "220 ready\r\n"}]
    ops: list[dict[str, Any]] = [
        {"op": "send", "record": f.packet("forward", **_p("tcp", dport=21, sport=f.rnd.randrange(2000, 30000)))}
    ]
    ops += [{"op": "reply", "back": 0}, {"op": "reply", "back": 0, "flags": "A"}, {"op": "reply", "back": 0, "say": "220 ready\r\n"},
            {"op": "reply", "back": 0, "say": "USER x\r\n"}, {"op": "reply", "back": 0, "say": "230 ok\r\n"}]  # fmt: skip
    assert steps
    ops += [{"op": "reply", "back": 0, **a} for a in announce]
    ops += [
        {"op": "open", "back": 0, "kind": "ftp"},
        {"op": "reply", "back": 0},
        {"op": "reply", "back": 0, "flags": "A"},
    ]
    f.burst(*ops)


@subject("helper tftp", 3)
def _tftp(f: Focus) -> None:
    f.rule("raw", "PREROUTING", "-p udp --dport 69 -j CT --helper tftp")
    f.rule("mangle", "FORWARD", "-m conntrack --ctstate RELATED")
    f.rule("mangle", f.pick(("FORWARD", "POSTROUTING")), f"-p udp -m helper {f.pick(['', '! '])}--helper tftp")
    if f.chance(0.5):
        f.rule(
            "nat",
            "POSTROUTING",
            f"-o {f.far} -p udp {f.pick(['-j MASQUERADE', '-j SNAT --to-source ' + f.mine(f.far)])}",
        )
    request = f.packet("forward", **_p("udp", dport=69, payload="000166696c65006f6374657400"))
    f.burst(
        {"op": "send", "record": request},
        {"op": "open", "back": 0, "kind": "tftp"},
        {"op": "reply", "back": 0},
        {"op": "reply", "back": 0},
    )
    f.send("forward", _p("udp", dport=69, payload="0003"))


# ---------------------------------------------------------------------------------------------- targets


def _target(name: str, words: str, packets: Packets, tables: tuple[str, ...], chains: tuple[str, ...] | None = None,
            times: int = 1, way: str = "") -> None:  # fmt: skip
    """A target in a rule that one kind of packet reaches."""
    received = any(key in over for over in packets for key in RECEIVED_ONLY)

    def write(f: Focus) -> None:
        table, chain = f.place(tables, chains, received)
        fill = {"mine": f.mine(f.near), "out": f.mine(f.far), "far": f.s.near["r", f.far][0], "last": f.s.near["r", f.far][-1],
                "near": f.s.near["r", f.near][0], "net": f.s.near["r", f.far][0].rpartition(".")[0], "n": f.rnd.randrange(1 << 20)}  # fmt: skip
        if "-m tcp" not in words and "%" in words:
            raise ValueError(words)
        f.rule(table, chain, words.format(**fill))
        here = way or f.way(chain, received)
        f.send(here, *(dict(over) for over in (*packets, *packets)))
        f.talk(here, dict(packets[0]), {}, {})

    subject(name, times)(write)


D53 = (_p("udp", dport=53),)
ALL = ("raw", "mangle", "filter", "security")
U53 = "-p udp --dport 53"
for _t in (
    "ACCEPT",
    "RETURN",
    "DROP",
    "LOG --log-level 5",
    "NFLOG --nflog-group 9",
    "AUDIT --type drop",
    "MARK --set-mark 9",
):
    _target(_t.split()[0], f"{U53} -j {_t}", D53, ("mangle", "filter", "security"))
for _kind in ("net-unreachable", "host-unreachable", "proto-unreachable", "port-unreachable", "net-prohibited",
              "host-prohibited", "admin-prohibited"):  # fmt: skip
    _target(f"REJECT {_kind}", f"{U53} -j REJECT --reject-with icmp-{_kind}", D53, ("filter",))
_target(
    "REJECT reset", "-p tcp --dport 80 -j REJECT --reject-with tcp-reset", (_p("tcp", dport=80),), ("filter",), times=2
)
_target("NFQUEUE", f"{U53} -j NFQUEUE --queue-num 5", D53, ALL, times=2)
_target("NFQUEUE bypass", f"{U53} -j NFQUEUE --queue-num 5 --queue-bypass", D53, ALL, times=2)
_target("CONNMARK", f"{U53} -j CONNMARK --set-xmark 0x3/0xf", D53, ("mangle",))
_target("CONNMARK restore", f"{U53} -j CONNMARK --restore-mark", D53, ("mangle",))
_target("NOTRACK", f"{U53} -j NOTRACK", D53, ("raw",), times=2)
_target("CT notrack", f"{U53} -j CT --notrack", D53, ("raw",))
_target("CT zone", f"{U53} -j CT --zone 3", D53, ("raw",))
_target("CT zone-orig", f"{U53} -j CT --zone-orig 3", D53, ("raw",))
_target("CT zone-reply", f"{U53} -j CT --zone-reply 3", D53, ("raw",))
_target("CT zone mark", f"{U53} -j CT --zone mark", D53, ("raw",))
_target("CT events", f"{U53} -j CT --ctevents new --expevents new", D53, ("raw",))
_target("CT timeout", f"{U53} -j CT --timeout slow", D53, ("raw",), times=2)
_target("DNAT", f"{U53} -j DNAT --to-destination {{far}}:5353", D53, ("nat",), ("PREROUTING", "OUTPUT"))
_target(
    "DNAT range", f"{U53} -j DNAT --to-destination {{far}}-{{last}}:5000-5005", D53, ("nat",), ("PREROUTING", "OUTPUT")
)
_target("SNAT", f"{U53} -j SNAT --to-source {{out}}", D53, ("nat",), ("POSTROUTING",))
_target("SNAT ports", f"{U53} -j SNAT --to-source {{out}}:3000-3002", D53, ("nat",), ("POSTROUTING",))
_target("SNAT input", f"{U53} -j SNAT --to-source {{far}}", D53, ("nat",), ("INPUT",), times=2)
_target("nat input", f"{U53} -j ACCEPT", D53, ("nat",), ("INPUT",))
_target("MASQUERADE", f"{U53} -j MASQUERADE", D53, ("nat",), ("POSTROUTING",))
_target("MASQUERADE random", f"{U53} -j MASQUERADE --random-fully", D53, ("nat",), ("POSTROUTING",))
_target("REDIRECT", f"{U53} -j REDIRECT --to-ports 8080", D53, ("nat",), ("PREROUTING", "OUTPUT"))
_target("NETMAP", f"{U53} -j NETMAP --to {{net}}.0/24", D53, ("nat",), times=2)
_target("NETMAP icmp", "-p icmp -j NETMAP --to {net}.0/24", (_p("icmp"),), ("nat",), ("PREROUTING", "POSTROUTING"))
_target(
    "TPROXY",
    f"{U53} -j TPROXY --on-port 3129 --on-ip {{mine}} --tproxy-mark 0x40/0x40",
    D53,
    ("mangle",),
    ("PREROUTING",),
    times=2,
    way="forward",
)
_target(
    "TPROXY tcp",
    "-p tcp --dport 80 -j TPROXY --on-port 3129 --tproxy-mark 0x40",
    (_p("tcp", dport=80),),
    ("mangle",),
    ("PREROUTING",),
    way="forward",
)
_target(
    "TCPMSS",
    "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1000",
    (_p("tcp", mss=1460), _p("tcp", flags="S")),
    ("mangle",),
    times=2,
)
_target(
    "TCPMSS clamp",
    "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
    (_p("tcp", mss=1460), _p("tcp", flags="S")),
    ("mangle",),
    ("FORWARD", "POSTROUTING"),
    times=2,
)
_target(
    "TCPOPTSTRIP",
    "-p tcp -j TCPOPTSTRIP --strip-options 2,8",
    (_p("tcp", mss=1460), _p("tcp", flags="S")),
    ("mangle",),
    times=3,
)
_target("TTL", f"{U53} -j TTL --ttl-set 77", D53, ("mangle",))
_target("TTL dec", f"{U53} -j TTL --ttl-dec 5", D53, ("mangle",))
_target("TOS", f"{U53} -j TOS --set-tos 0x10/0x1c", D53, ("mangle",))
_target("DSCP", f"{U53} -j DSCP --set-dscp-class AF21", D53, ("mangle",))
_target(
    "ECN",
    "-p tcp --dport 80 -j ECN --ecn-tcp-remove",
    (_p("tcp", dport=80, flags="SEC"), _p("tcp", dport=80, flags="S")),
    ("mangle",),
    times=3,
)
_target("CLASSIFY", f"{U53} -j CLASSIFY --set-class 1:5", D53, ("mangle",), ("FORWARD", "OUTPUT", "POSTROUTING"))
_target(
    "TEE",
    f"{U53} -j TEE --gateway {{last}}",
    D53,
    ("mangle",),
    ("PREROUTING", "FORWARD", "POSTROUTING"),
    times=3,
    way="forward",
)
_target("TRACE", f"{U53} -j TRACE", D53, ("raw",), times=3)
_target("CHECKSUM", f"{U53} -j CHECKSUM --checksum-fill", D53, ("mangle",))
_target(
    "SYNPROXY",
    "-p tcp --syn --dport 80 -j SYNPROXY --mss 1400",
    (_p("tcp", dport=80, mss=1460), _p("tcp", dport=80, flags="S")),
    ("filter",),
    ("INPUT", "FORWARD"),
    times=3,
)
_target(
    "HMARK",
    f"{U53} -j HMARK --hmark-tuple src,dst,sport,dport,proto --hmark-mod 9 --hmark-offset 30 --hmark-rnd 0xfe",
    D53,
    ("mangle",),
    ("PREROUTING", "FORWARD"),
)
_target(
    "RATEEST",
    f"{U53} -j RATEEST --rateest-name foc --rateest-interval 250ms --rateest-ewma 500ms",
    D53,
    ("mangle",),
    times=2,
)
_target("IDLETIMER", f"{U53} -j IDLETIMER --timeout 100 --label kg{{n}}", D53, ("mangle", "filter"), times=2)
_target("CONNSECMARK", f"{U53} -j CONNSECMARK --save", D53, ("mangle",))
for _table in ("raw", "mangle", "nat", "filter", "security"):
    for _chain in PLACES[_table]:
        _target(
            f"chain {_table} {_chain}",
            U53,
            (_p("udp", dport=53), _p("udp")),
            (_table,),
            (_chain,),
            times=2 if _table in ("security", "nat") else 1,
        )


def _user_chain(table: str) -> None:
    def write(f: Focus) -> None:
        name = f"U{90 + f.rnd.randrange(9)}"
        table_, chain = f.place((table,), None, False)
        line = f"-t {table} -N {name}"
        if line in f.host[f.backend]:
            return
        goto = f.chance(0.3)
        f.rule(table_, chain, f"{U53} {'-g' if goto else '-j'} {name}")
        f.host[f.backend].insert(0, line)
        at = 1
        for words in (U53 + " -s 240.0.0.0/4 -j RETURN", f"{U53} -j {f.pick(['RETURN', 'ACCEPT'])}", "-j ACCEPT"):
            f.host[f.backend].insert(at, f"-t {table} -A {name} {words}")
            at += 1
        f.send(f.way(chain), *(_p("udp", dport=53) for _ in range(3)))

    subject(f"user chain {table}", 3)(write)


for _table in PLACES:
    _user_chain(_table)


# ----------------------------------------------------------------------------------- routing and the rest


def _selector(
    name: str, words: str, hits: Packets, misses: Packets, action: str = "", times: int = 1, way: str = ""
) -> None:
    """A policy rule: ``words`` select, table 77 has another way out, or ``action`` says what else happens."""

    def write(f: Focus) -> None:
        pref = 20 + f.rnd.randrange(40)
        fill = {
            "near": f.s.near["r", f.near][0],
            "far": f.s.near["r", f.far][0],
            "dev": f.near,
            "out": f.far,
            "mine": f.mine(f.far),
        }
        gateway = f.around(f.pick([f.near, f.far]))
        device = next(d for (h, d), near in f.s.near.items() if h == "r" and gateway in near)
        f.host["routes"] += [f"default via {gateway} dev {device} table 77"]
        f.host["rules"].append(f"pref {pref} {words.format(**fill)} {action or 'lookup 77'}")
        if "goto" in action:
            f.host["rules"].append(f"pref {pref + 1} from all {f.pick(['prohibit', 'lookup 77'])}")
            f.host["rules"].append("pref 99 from all nop")
        f.rule("mangle", "PREROUTING", "-p udp --dport 54 -j MARK --set-mark 0x21")
        here = way or f.pick(("forward", "output"))
        remote = f.pick(["8.8.8.8", "9.9.9.9", f.around(f.far)])
        for over in (*hits, *hits, *misses):
            more = {"dst": remote, **over}
            more.setdefault("way", here)
            if more["way"] == "forward":
                more.pop("uid", None)
                more.pop("mark", None)
                more.setdefault("src", fill["near"])
            if more.pop("far", False):
                more["dst"] = fill["far"]
            if more.pop("local", False):
                more["src"] = fill["mine"]
            f.send(more["way"], more)

    subject(f"ip rule {name}", times)(write)


_selector("from", "from {near}", (_p("udp", way="forward"),), (_p("udp", way="output"),))
_selector("from own", "from {mine}", (_p("udp", way="output", local=True),), (_p("udp", way="output"),))
_selector("to", "to {far}", (_p("udp", far=True),), (_p("udp", dst="1.2.3.4"),))
_selector("iif", "iif {dev}", (_p("udp", way="forward"),), (_p("udp", way="output"),), times=2)
_selector("iif lo", "iif lo", (_p("udp", way="output"),), (_p("udp", way="forward"),))
_selector("oif", "oif {out}", (_p("udp", way="output", oif_far=True),), (_p("udp", way="output"),), times=2)
_selector(
    "fwmark",
    "fwmark 0x21",
    (_p("udp", way="forward", dport=54), _p("udp", way="output", mark=0x21)),
    (_p("udp"),),
    times=2,
)
_selector("fwmark mask", "fwmark 0x20/0xf0", (_p("udp", way="forward", dport=54),), (_p("udp"),))
_selector(
    "uidrange",
    "uidrange 1000-1001",
    (_p("udp", way="output", uid=1000), _p("tcp", way="output", uid=1001)),
    (_p("udp", way="output", uid=0),),
    times=2,
)
_selector("ipproto", "ipproto udp", (_p("udp"),), (_p("icmp"),))
_selector("dport", "ipproto udp dport 53-60", (_p("udp", dport=55),), (_p("udp"),), times=2)
_selector("sport", "ipproto udp sport 700", (_p("udp", sport=700),), (_p("udp"),), times=2)
_selector("tos", "tos 0x10", (_p("udp", tos=0x10),), (_p("udp"),), times=2)
_selector("not", "not from {near}", (_p("udp", way="output"),), (_p("udp", way="forward"),), times=2)
_selector("l3mdev", "from all", (_p("udp"),), (_p("udp"),), action="lookup 77 suppress_prefixlength 0", times=2)
_selector("suppress_ifgroup", "from all", (_p("udp"),), (_p("udp"),), action="lookup 77 suppress_ifgroup 0", times=2)
_selector("goto", "to 8.0.0.0/7", (_p("udp", dst="8.8.8.8"),), (_p("udp", dst="1.2.3.4"),), action="goto 99", times=2)
_selector("nop", "to 8.0.0.0/7", (_p("udp", dst="8.8.8.8"),), (_p("udp", dst="1.2.3.4"),), action="nop", times=2)
for _kind in ("unreachable", "prohibit", "blackhole"):
    _selector(_kind, "to 8.0.0.0/7", (_p("udp", dst="8.8.8.8"),), (_p("udp", dst="1.2.3.4"),), action=_kind)


def _route(
    name: str, words: str, packets: Packets, times: int = 1, nexthops: tuple[str, ...] = (), sysctl: str = ""
) -> None:
    """A route to 8.8.8.0/24 (or what ``words`` say) and packets there, forwarded and sent."""

    def write(f: Focus) -> None:
        via, other = f.around(f.far), f.around(f.near)
        fill = {
            "via": via,
            "out": f.far,
            "other": other,
            "dev": f.near,
            "src": f.mine(f.near),
            "far": f.s.near["r", f.far][-1],
        }
        f.host["nexthops"] += [n.format(**fill) for n in nexthops]
        f.host["routes"] = [line for line in f.host["routes"] if not line.startswith("8.8.8.")]
        for line in words.split("|"):
            f.host["routes"].append(line.format(**fill))
        if sysctl:
            key, _, value = sysctl.partition("=")
            f.host["sysctl"][key] = value
        for over in packets:
            for way in ("forward", "output"):
                f.send(way, {"dst": "8.8.8.8", **over})

    subject(f"route {name}", times)(write)


U = (_p("udp"), _p("tcp"))
_route("unreachable", "unreachable 8.8.8.0/24", U)
_route("prohibit", "prohibit 8.8.8.0/24", U)
_route("blackhole", "blackhole 8.8.8.0/24", U)
_route("throw", "throw 8.8.8.0/24", U)
_route("local", "local 8.8.8.0/24 dev lo", U)
_route("broadcast", "broadcast 8.8.8.8 dev {out}", U, 2)
_route("on link", "8.8.8.0/24 dev {out} scope link", U, 2)
_route("onlink", "8.8.8.0/24 via 77.7.7.7 dev {out} onlink", U)
_route("tos", "8.8.8.0/24 via {via} dev {out} tos 0x10", (_p("udp", tos=0x10), _p("udp")))
_route("metric", "8.8.8.0/24 via {via} dev {out} metric 5|8.8.8.0/24 via {other} dev {dev} metric 1", U)
_route("src", "8.8.8.0/24 via {via} dev {out} src {src}", U)
_route("mtu", "8.8.8.0/24 via {via} dev {out} mtu 600", (_p("udp", len=900, df=True), _p("udp", len=900, df=False)))
_route(
    "mtu lock",
    "8.8.8.0/24 via {via} dev {out} mtu lock 600",
    (_p("udp", len=900, df=True), _p("udp", len=900, df=False)),
)
_route("advmss", "8.8.8.0/24 via {via} dev {out} advmss 900", (_p("tcp"),))
_route("realm", "8.8.8.0/24 via {via} dev {out} realm 5", U)
_route("multipath", "8.8.8.0/24 nexthop via {via} dev {out} weight 2 nexthop via {other} dev {dev}", U, 2)
_route(
    "multipath seeded",
    "8.8.8.0/24 nexthop via {via} dev {out} nexthop via {other} dev {dev}",
    U,
    2,
    (),
    "net.ipv4.fib_multipath_hash_seed=77",
)
_route("nexthop object", "8.8.8.0/24 nhid 41", U, 2, ("id 41 via {via} dev {out}",))
_route("nexthop blackhole", "8.8.8.0/24 nhid 42", U, 1, ("id 42 blackhole",))
_route(
    "nexthop group",
    "8.8.8.0/24 nhid 45",
    U,
    2,
    ("id 43 via {via} dev {out}", "id 44 via {other} dev {dev}", "id 45 group 43,2/44"),
    "net.ipv4.fib_multipath_hash_seed=99",
)


def _setting(key: str, value: str, packets: Packets, times: int = 1, host: bool = False) -> None:
    """A sysctl of the receiving device (or the host) and packets that it concerns."""

    def write(f: Focus) -> None:
        name = key if host else f"net.ipv4.conf.{f.near}.{key}"
        f.host["sysctl"][name] = value
        for over in packets:
            more = dict(over)
            if more.pop("dst_far_own", False):
                more["dst"] = f.mine(f.far)
            if more.pop("src_own", False):
                more["src"] = f.mine(f.far)
            f.send(more.pop("way", "forward"), more)

    subject(f"sysctl {key}={value}", times)(write)


SPOOF = (_p("udp", spoofed=True), _p("udp"), _p("udp", src="8.8.4.4"))
for _key, _value, _what in (
    ("rp_filter", "1", SPOOF), ("rp_filter", "2", SPOOF), ("forwarding", "0", (_p("udp"), _p("udp", way="input"))),
    ("accept_local", "1", (_p("udp", src_own=True),)), ("route_localnet", "1", (_p("udp", dst="127.0.0.1", way="input"), _p("udp", src="127.0.0.9"))),
    ("src_valid_mark", "1", SPOOF), ("arp_ignore", "1", U), ("arp_filter", "1", U), ("arp_announce", "2", U), ("proxy_arp", "1", U),
    ("bc_forwarding", "1", U), ("log_martians", "1", SPOOF), ("accept_source_route", "1", U), ("ignore_routes_with_linkdown", "1", U),
):  # fmt: skip
    _setting(_key, _value, _what)
for _key, _value in (
    ("net.netfilter.nf_conntrack_tcp_loose", "0"), ("net.netfilter.nf_conntrack_tcp_be_liberal", "1"), ("net.ipv4.fwmark_reflect", "1"),
    ("net.ipv4.icmp_errors_use_inbound_ifaddr", "1"), ("net.ipv4.ip_default_ttl", "90"), ("net.netfilter.nf_conntrack_acct", "1"),
    ("net.ipv4.ip_forward_update_priority", "0"), ("net.ipv4.ip_forward_use_pmtu", "1"), ("net.ipv4.ip_nonlocal_bind", "1"),
    ("net.ipv4.ip_no_pmtu_disc", "1"), ("net.ipv4.ip_early_demux", "0"), ("net.ipv4.icmp_echo_ignore_broadcasts", "0"),
    ("net.netfilter.nf_conntrack_tcp_ignore_invalid_rst", "1"), ("net.netfilter.nf_conntrack_checksum", "0"),
):  # fmt: skip
    _setting(
        _key, _value, (_p("tcp", flags="A", tcp_ack=9), _p("udp", ttl=1), _p("tcp", way="input", dport=9)), host=True
    )


@subject("silent neighbour", 3)
def _silent(f: Focus) -> None:
    """An address of a wire between hosts that none of them has: that nobody answers there is in the snapshot."""
    for members in f.s.segments.values():
        for member in members:
            host, _, dev = member.partition(":")
            if host == "r" and f.host["interfaces"][dev]["addresses"]:
                nobody = f.mine(dev).rpartition(".")[0] + ".30"
                f.send("forward", {"dst": nobody}, {"dst": nobody, "proto": "tcp"})
                f.send("output", {"dst": nobody, "proto": "icmp"}, {"dst": nobody})
                return


@subject("permanent neighbour", 2)
def _permanent(f: Focus) -> None:
    quiet = f.s.near["r", f.far][-1]
    f.s.silent.append(quiet)
    f.host["neighbours"].append(f"{quiet} dev {f.far} lladdr 02:ed:00:00:00:07 nud permanent")
    f.send("forward", {"dst": quiet}, {"dst": quiet, "proto": "tcp"})
    f.send("output", {"dst": quiet, "proto": "icmp"})


@subject("proxy ARP", 2)
def _proxy_arp(f: Focus) -> None:
    """Another host takes 9.9.9.0/24 for its own network; who answers is a matter of r's settings."""
    for members in f.s.segments.values():
        mine = [m for m in members if m.startswith("r:")]
        theirs = [m for m in members if not m.startswith("r:")]
        if mine and theirs:
            dev = mine[0].partition(":")[2]
            other, _, leg = theirs[0].partition(":")
            f.host["sysctl"][f"net.ipv4.conf.{dev}.proxy_arp"] = 1
            f.s.hosts[other]["routes"].append(f"9.9.9.0/24 dev {leg}")
            record = {"host": other, "in": None, "src": None, "uid": 0, "dst": "9.9.9.9", "ttl": 64, "tos": 0,
                      "proto": "udp", "sport": 4321, "dport": 53, "len": 28, "df": False}  # fmt: skip
            f.burst(
                {"op": "send", "record": record}, {"op": "send", "record": {**record, "dst": f.mine(f.far), "dport": 5}}
            )
            return


@subject("both backends", 8)
def _both(f: Focus) -> None:
    """The same hooks from iptables-nft and iptables-legacy."""
    first, second = ("iptables", "iptables-legacy")
    if not f.host[second]:
        moved = f.pick(("mangle", "filter", "nat"))
        table, chain = f.place((moved,), None)
        words = {
            "nat": "-p udp --dport 53 -j ACCEPT",
            "mangle": f"{U53} -j MARK --set-mark 2",
            "filter": f"{U53} -j LOG",
        }[moved]
        f.host[second].append(f"-t {table} -A {chain} {words}")
        f.host[first].append(f"-t {table} -A {chain} {U53} -j ACCEPT")
        f.send(f.way(chain), *(_p("udp", dport=53) for _ in range(3)))
