"""Subjects: policy rules, routes of every type, sysctls, neighbours."""

from __future__ import annotations

from .focus import Focus, Packets, subject
from .focus import packet_of as _p

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
_selector(
    "suppress_prefixlength", "from all", (_p("udp"),), (_p("udp"),), action="lookup 77 suppress_prefixlength 0", times=2
)
_selector("suppress_ifgroup", "from all", (_p("udp"),), (_p("udp"),), action="lookup 77 suppress_ifgroup 0")
_selector(
    "suppress_ifgroup not", "from all", (_p("udp"),), (_p("udp"),), action="lookup 77 suppress_ifgroup 9", times=2
)
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
            for way in ("forward", "output") if "way" not in over else (over["way"],) * 2:
                f.send(way, {"dst": "8.8.8.8", **over})

    subject(f"route {name}", times)(write)


U = (_p("udp"), _p("tcp"))
_route("unreachable", "unreachable 8.8.8.0/24", U)
_route("prohibit", "prohibit 8.8.8.0/24", U)
_route("blackhole", "blackhole 8.8.8.0/24", U)
_route("throw", "throw 8.8.8.0/24", U)
_route("local", "local 8.8.8.0/24 dev lo", U)
_route("broadcast", "broadcast 8.8.8.8 dev {out}", U, 2)
_route("multicast", "multicast 239.1.0.0/16 dev {out}", (_p("udp", dst="239.1.1.1", way="output", ttl=1),), 4)
_route("on link", "8.8.8.0/24 dev {out} scope link", U, 2)
_route("onlink", "8.8.8.0/24 via 77.7.7.7 dev {out} onlink", U)
_route("tos", "8.8.8.0/24 via {via} dev {out} tos 0x10", (_p("udp", tos=0x10), _p("udp"), _p("tcp", tos=0x10)), 3)
_route("metric", "8.8.8.0/24 via {via} dev {out} metric 5|8.8.8.0/24 via {other} dev {dev} metric 1", U)
_route("src", "8.8.8.0/24 via {via} dev {out} src {src}", U)
_route("mtu", "8.8.8.0/24 via {via} dev {out} mtu 500", (_p("udp", len=900, df=True), _p("udp", len=900, df=False)))
_route(
    "mtu lock",
    "8.8.8.0/24 via {via} dev {out} mtu lock 500",
    (_p("udp", len=900, df=True), _p("udp", len=900, df=False)),
)
_route("advmss", "8.8.8.0/24 via {via} dev {out} advmss 900", U, 2)
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
