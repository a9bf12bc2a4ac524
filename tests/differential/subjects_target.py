"""Subjects: targets, the chains of every table, user chains, both backends at once."""

from __future__ import annotations

from .focus import PLACES, RECEIVED_ONLY, Focus, Packets, subject
from .focus import packet_of as _p

# ---------------------------------------------------------------------------------------------- targets


def _target(name: str, words: str, packets: Packets, tables: tuple[str, ...], chains: tuple[str, ...] | None = None,
            times: int = 1, way: str = "") -> None:  # fmt: skip
    """A target in a rule that one kind of packet reaches."""
    received = any(key in over for over in packets for key in RECEIVED_ONLY)

    def write(f: Focus) -> None:
        table, chain = f.place(tables, chains, received)
        fill = {"mine": f.mine(f.near), "out": f.mine(f.far), "far": f.s.near["r", f.far][0], "last": f.s.near["r", f.far][-1],
                "near": f.s.near["r", f.near][0], "net": f.s.near["r", f.far][0].rpartition(".")[0], "n": f.rnd.randrange(1 << 20)}  # fmt: skip
        f.rule(table, chain, words.format(**fill))
        here = way or f.way(chain, received)
        f.send(here, *(dict(over) for over in (*packets, *packets)))
        f.talk(here, dict(packets[0]), {}, {})

    subject(name, times)(write)


D53 = (_p("udp", dport=53),)
ALL = ("raw", "mangle", "filter", "security")
U53 = "-p udp --dport 53"
# fmt: off
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
    _target(f"REJECT {_kind}", f"{U53} -j REJECT --reject-with icmp-{_kind}", D53, ("filter",), times=2)
_target("REJECT reset", "-p tcp --dport 80 -j REJECT --reject-with tcp-reset", (_p("tcp", dport=80),), ("filter",), times=2)
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
_target("DNAT range", f"{U53} -j DNAT --to-destination {{far}}-{{last}}:5000-5005", D53, ("nat",), ("PREROUTING", "OUTPUT"))
_target("SNAT", f"{U53} -j SNAT --to-source {{out}}", D53, ("nat",), ("POSTROUTING",))
_target("SNAT ports", f"{U53} -j SNAT --to-source {{out}}:3000-3002", D53, ("nat",), ("POSTROUTING",))
_target("SNAT input", f"{U53} -j SNAT --to-source {{far}}", D53, ("nat",), ("INPUT",), times=2)
_target("nat input", f"{U53} -j ACCEPT", D53, ("nat",), ("INPUT",))
_target("MASQUERADE", f"{U53} -j MASQUERADE", D53, ("nat",), ("POSTROUTING",))
_target("MASQUERADE random", f"{U53} -j MASQUERADE --random-fully", D53, ("nat",), ("POSTROUTING",))
_target("REDIRECT", f"{U53} -j REDIRECT --to-ports 8080", D53, ("nat",), ("PREROUTING", "OUTPUT"))
_target("NETMAP", f"{U53} -j NETMAP --to {{net}}.0/24", D53, ("nat",), times=2)
_target("NETMAP icmp", "-p icmp -j NETMAP --to {net}.0/24", (_p("icmp"),), ("nat",), ("PREROUTING", "POSTROUTING"))
_target("TPROXY", f"{U53} -j TPROXY --on-port 3129 --on-ip {{mine}} --tproxy-mark 0x40/0x40", D53, ("mangle",), ("PREROUTING",), times=2, way="forward")
_target("TPROXY tcp", "-p tcp --dport 80 -j TPROXY --on-port 3129 --tproxy-mark 0x40", (_p("tcp", dport=80),), ("mangle",), ("PREROUTING",), way="forward")
_target("TCPMSS", "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1000", (_p("tcp", mss=1460), _p("tcp", flags="S")), ("mangle",), times=2)
_target("TCPMSS clamp", "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu", (_p("tcp", mss=1460), _p("tcp", flags="S")), ("mangle",), ("FORWARD", "POSTROUTING"), times=2)
_target("TCPOPTSTRIP", "-p tcp -j TCPOPTSTRIP --strip-options 2,8", (_p("tcp", mss=1460), _p("tcp", flags="S")), ("mangle",), times=3)
_target("TTL", f"{U53} -j TTL --ttl-set 77", D53, ("mangle",))
_target("TTL dec", f"{U53} -j TTL --ttl-dec 5", D53, ("mangle",))
_target("TOS", f"{U53} -j TOS --set-tos 0x10/0x1c", D53, ("mangle",))
_target("DSCP", f"{U53} -j DSCP --set-dscp-class AF21", D53, ("mangle",))
_target("ECN", "-p tcp --dport 80 -j ECN --ecn-tcp-remove", (_p("tcp", dport=80, flags="SEC"), _p("tcp", dport=80, flags="S")), ("mangle",), times=3)
_target("CLASSIFY", f"{U53} -j CLASSIFY --set-class 1:5", D53, ("mangle",), ("FORWARD", "OUTPUT", "POSTROUTING"))
_target("TEE", f"{U53} -j TEE --gateway {{last}}", D53, ("mangle",), ("PREROUTING", "FORWARD", "POSTROUTING"), times=3, way="forward")
_target("TRACE", f"{U53} -j TRACE", D53, ("raw",), times=3)
_target("CHECKSUM", f"{U53} -j CHECKSUM --checksum-fill", D53, ("mangle",))
_target("SYNPROXY", "-p tcp --syn --dport 80 -j SYNPROXY --mss 1400", (_p("tcp", dport=80, mss=1460), _p("tcp", dport=80, flags="S")), ("filter",), ("INPUT", "FORWARD"), times=3)
_target("HMARK", f"{U53} -j HMARK --hmark-tuple src,dst,sport,dport,proto --hmark-mod 9 --hmark-offset 30 --hmark-rnd 0xfe", D53, ("mangle",), ("PREROUTING", "FORWARD"))
_target("RATEEST", f"{U53} -j RATEEST --rateest-name foc --rateest-interval 250ms --rateest-ewma 500ms", D53, ("mangle",), times=2)
_target("IDLETIMER", f"{U53} -j IDLETIMER --timeout 100 --label kg{{n}}", D53, ("mangle", "filter"), times=2)
_target("CONNSECMARK", f"{U53} -j CONNSECMARK --save", D53, ("mangle",), times=2)
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
# fmt: on


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


@subject("TPROXY served", 4)
def _tproxy(f: Focus) -> None:
    """A transparent listener and the policy rule that brings it what is for others."""
    proto = f.pick(("udp", "tcp"))
    at = f.pick(("", f"{f.mine(f.near)}:"))
    f.host["listen"].append(f"{proto} {at}3129 transparent")
    f.host["rules"].append("pref 10 fwmark 0x40/0x40 lookup 66")
    f.host["routes"].append("local default dev lo table 66")
    f.rule(
        "mangle",
        "PREROUTING",
        f"-p {proto} --dport 53 -j TPROXY --on-port 3129 {at and '--on-ip ' + at[:-1]} --tproxy-mark 0x40/0x40",
    )
    f.send("forward", *(_p(proto, dport=53, dst=f.pick(("8.8.8.8", f.around(f.far)))) for _ in range(3)))
