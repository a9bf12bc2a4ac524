"""Subjects: matches that one packet decides, those that remember, sets, helpers and what they announce."""

from __future__ import annotations

from typing import Any

from .focus import RECEIVED_ONLY, Focus, Packets, subject
from .focus import packet_of as _p

# ---------------------------------------------------------------------------------------- simple matches

ANY = ("raw", "mangle", "mangle", "filter", "filter", "security", "nat")
STATEFUL = ("mangle", "filter", "security", "nat")


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


LATE = ("INPUT", "FORWARD", "POSTROUTING")
# fmt: off
_simple("tcp", "-p tcp -m tcp {no}--dport 80", (_p("tcp", dport=80),), (_p("tcp"),))
_simple("tcp option", "-p tcp -m tcp {no}--tcp-option 2", (_p("tcp", mss=1460),), (_p("tcp", flags="S"),), ("raw", "mangle"))
_simple("udp", "-p udp -m udp {no}--sport 500:4000", (_p("udp", sport=777),), (_p("udp"),))
_simple("sctp", "-p sctp -m sctp {no}--dport 53", (_p("sctp", dport=53),), (_p("sctp"),), times=3)
_simple("sctp chunks", "-p sctp -m sctp {no}--chunk-types any INIT", (_p("sctp"),), (_p("udp"),))
_simple("dccp", "-p dccp -m dccp {no}--dport 53", (_p("dccp", dport=53),), (_p("dccp"),), chains=("PREROUTING", "INPUT", "FORWARD"), times=4)
_simple("udplite", "-p udplite -m multiport {no}--dports 53,60", (_p("udplite", dport=53),), (_p("udplite"),), times=2)
_simple("icmp", "-p icmp -m icmp {no}--icmp-type 8", (_p("icmp"),), (_p("icmp", type=13), _p("icmp", type=17)), chains=("PREROUTING", "FORWARD", "POSTROUTING"))
_simple("multiport", "-p udp -m multiport {no}--dports 53,80:90", (_p("udp", dport=85), _p("udp", dport=53)), (_p("udp"),), times=2)
_simple("multiport both", "-p tcp -m multiport {no}--ports 53,80:90", (_p("tcp", sport=85),), (_p("tcp"),))
_simple("state", "-m state {no}--state NEW", (_p("udp"),), (_p("tcp", flags="SF"),), STATEFUL)
_simple("conntrack", "-m conntrack {no}--ctstate INVALID", (_p("tcp", flags="SF"),), (_p("udp"),), ("mangle", "filter", "security"))
_simple("conntrack proto", "-m conntrack {no}--ctproto udp --ctdir ORIGINAL", (_p("udp"),), (_p("icmp"),), STATEFUL)
_simple("owner", "-m owner {no}--uid-owner 1000", (_p("udp", uid=1000), _p("tcp", uid=1000)), (_p("udp", uid=1001),), chains=("OUTPUT",), times=2)
_simple("owner group", "-m owner {no}--gid-owner 1000-1001", (_p("udp", uid=1000),), (_p("udp", uid=0),), chains=("OUTPUT",))
_simple("owner socket", "-p udp -m owner {no}--socket-exists", (_p("udp", way="output"),), (_p("udp", way="forward"),), ("mangle",), ("POSTROUTING",))
_simple("addrtype", "-m addrtype {no}--dst-type LOCAL", (_p("udp", way="input"),), (_p("udp", way="forward"),), ("raw", "mangle", "nat"), ("PREROUTING",))
_simple("addrtype source", "-m addrtype {no}--src-type LOCAL", (_p("udp", way="output"),), (_p("udp", way="forward"),), ("mangle",), ("POSTROUTING",))
_simple("addrtype limit", "-m addrtype {no}--dst-type LOCAL --limit-iface-in", (_p("udp", way="input"),), (_p("udp", way="forward"),), ("raw", "mangle"), ("PREROUTING",))
_simple("mac", "-m mac {no}--mac-source 02:ed:00:00:00:02", (_p("udp", mac="02:ed:00:00:00:02"),), (_p("udp", mac="02:ed:00:00:00:01"),), chains=("PREROUTING", "INPUT", "FORWARD"))
_simple("iprange", "-m iprange {no}--src-range {near}-{near}", (_p("udp", src_of="near"),), (_p("udp", spoofed=True),), times=2)
_simple("string", "-m string {no}--string NEEDLE --algo bm", (_p("udp", payload=b"xxNEEDLEyy".hex()),), (_p("udp", payload=b"xxNEEDL".hex()),))
_simple("string kmp", "-m string {no}--hex-string |0102|Q --algo kmp --from 28", (_p("udp", payload="000102" + "51"),), (_p("udp", payload="0001"),))
_simple("length", "-m length {no}--length 100:200", (_p("udp", len=128),), (_p("udp"),))
_simple("ttl", "-m ttl {no}--ttl-gt 100", (_p("udp", ttl=128),), (_p("udp"),))
_simple("tos", "-m tos {no}--tos 0x10", (_p("udp", tos=0x10),), (_p("udp"),))
_simple("dscp", "-m dscp {no}--dscp-class EF", (_p("udp", tos=0xB8),), (_p("udp"),))
_simple("ecn", "-m ecn {no}--ecn-ip-ect 1", (_p("udp", tos=1),), (_p("udp"),))
_simple("ecn tcp", "-p tcp -m ecn {no}--ecn-tcp-ece", (_p("tcp", flags="SEC"),), (_p("tcp", flags="S"),))
_simple("u32", "-p udp -m u32 {no}--u32 4&0x1FFF=0&&0>>22&0x3C@0&0xFFFF=53", (_p("udp", dport=53),), (_p("udp"),))
_simple("bpf", '-m bpf {no}--bytecode "4,48 0 0 9,21 0 1 17,6 0 0 1,6 0 0 0"', (_p("udp"),), (_p("icmp"),))
_simple("rpfilter", "-m rpfilter", (_p("udp"),), (_p("udp", spoofed=True),), ("raw", "mangle"), ("PREROUTING",), times=2)
_simple("rpfilter inverted", "-m rpfilter --invert", (_p("udp", spoofed=True),), (_p("udp"),), ("raw", "mangle"), ("PREROUTING",))
_simple("physdev", "-p udp -m physdev ! --physdev-is-bridged", (_p("udp"),), (_p("icmp"),))
_simple("physdev in", "-m physdev --physdev-is-in", (), (_p("udp"),))
_simple("tcpmss", "-p tcp --tcp-flags SYN,RST SYN -m tcpmss {no}--mss 1000:1400", (_p("tcp", mss=1200),), (_p("tcp", mss=1460),), times=2)
_simple("time", "-p udp -m time --datestart 2020-01-01", (_p("udp"),), (_p("icmp"),))
_simple("time past", "-m time --datestop 2021-01-01", (), (_p("udp"),))
_simple("pkttype", "-m pkttype {no}--pkt-type broadcast", (_p("udp", dst="255.255.255.255", way="input", mac="02:ed:00:00:00:01"),), (_p("udp"),), ("raw", "mangle"), ("PREROUTING",))
_simple("devgroup", "-p udp -m devgroup --src-group 0", (_p("udp"),), (_p("icmp"),), chains=("PREROUTING", "INPUT", "FORWARD"))
_simple("devgroup out", "-p udp -m devgroup {no}--dst-group 5", (), (_p("udp"),), chains=("FORWARD", "OUTPUT", "POSTROUTING"))
_simple("esp", "-p esp -m esp {no}--espspi 256:300", (_p("esp", spi=256),), (_p("esp"),), times=4)
_simple("ah", "-p ah -m ah {no}--ahspi 256:300", (_p("ah", spi=256),), (_p("ah"),), times=4)
_simple("policy", "-p udp -m policy --dir in --pol none", (_p("udp"),), (_p("icmp"),), chains=("PREROUTING", "INPUT", "FORWARD"))
_simple("policy out", "-p udp -m policy --dir out --pol none", (_p("udp"),), (_p("icmp"),), chains=("OUTPUT", "POSTROUTING"))
_simple("cluster", "-m cluster {no}--cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 7", (_p("udp"), _p("udp")), (_p("udp"),), ("mangle", "filter"), ("PREROUTING", "INPUT", "FORWARD"))
_simple("cpu", "-p udp --dport 53 -m cpu {no}--cpu 0", (_p("udp", dport=53),), (_p("udp"),), times=5)
_simple("nfacct", "-p udp --dport 53 -m nfacct --nfacct-name web", (_p("udp", dport=53),), (_p("udp"),), times=2)
_simple("socket", "-m socket --nowildcard", (_p("udp", way="input", dport=5353, src_of="near"),), (_p("udp", way="forward", src_of="near"),), ("raw", "mangle"), ("PREROUTING",), times=2)
_simple("comment", "-p udp --dport 53 -m comment --comment here", (_p("udp", dport=53),), (_p("udp"),))
_simple("interface", "{no}-i {dev}", (_p("udp"),), (), chains=("PREROUTING", "INPUT", "FORWARD"))
_simple("output interface", "{no}-o {out}", (_p("udp"),), (), chains=("FORWARD", "OUTPUT", "POSTROUTING"))
_simple("statistic", "-p udp -m statistic --mode nth {no}--every 2 --packet 1", (_p("udp"), _p("udp")), (_p("udp"),))
_simple("quota", "-p udp --dport 53 -m quota {no}--quota 60", (_p("udp", dport=53), _p("udp", dport=53)), (_p("udp"),))
_simple("limit", "-p udp --dport 53 -m limit --limit 1/day --limit-burst 2", (_p("udp", dport=53), _p("udp", dport=53)), (_p("udp"),))
_simple("hashlimit", "-p udp --dport 53 -m hashlimit --hashlimit-upto 1/day --hashlimit-burst 2 --hashlimit-mode dstport --hashlimit-name foc",
        (_p("udp", dport=53), _p("udp", dport=53)), (_p("udp"),))  # fmt: skip
_simple("hashlimit above", "-p udp --dport 53 -m hashlimit --hashlimit-above 1/day --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-srcmask 16 --hashlimit-name fob",
        (_p("udp", dport=53), _p("udp", dport=53)), (_p("udp", dport=53),))  # fmt: skip
_simple("fragments", "{no}-f", (), (_p("udp"),))
# fmt: on

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
    "list:set": ("fsub", "src", (_p("udp", src_of="near"),), (_p("udp", src_last=True),)),
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

    subject(f"set {kind.split()[0]}", 2)(write)


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
    change = f.pick([f"--add-set {name} {flags}", f"--del-set {name} {flags}", f"--add-set {name} {flags} --exist"])
    f.rule("mangle", "FORWARD", f"-p udp --dport 53 -j SET {change}")
    ports = (60, 53, 60, 53, 60)
    f.burst(*({"op": "send", "record": f.packet("forward", **_p("udp", dport=port, src_of="near"))} for port in ports))


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
    ops: list[dict[str, Any]] = [
        {"op": "send", "record": f.packet("forward", **_p("tcp", dport=21, sport=f.rnd.randrange(2000, 30000)))}
    ]
    ops += [{"op": "reply", "back": 0}, {"op": "reply", "back": 0, "flags": "A"}, {"op": "reply", "back": 0, "say": "220 ready\r\n"},
            {"op": "reply", "back": 0, "say": "USER x\r\n"}, {"op": "reply", "back": 0, "say": "230 ok\r\n"}]  # fmt: skip
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
