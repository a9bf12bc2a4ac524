"""Where two mechanisms meet: NAT behind NAT, zones and marks, policy routing of translated packets, what is learned."""

from __future__ import annotations

from . import Case, Op, again, error, gateway, host, ping, proto, reply, states, tcp, udp, wait

C, D = "192.168.1.10", "192.168.1.11"
MASQ = "-t nat -A POSTROUTING -o eth1 -j MASQUERADE"
WATCH = (*states("FORWARD"), *states("INPUT"), *states("OUTPUT"))


def one(name: str, rules: tuple[str, ...], *packets: Op, expect: dict[int, str] | None = None, **more: object) -> Case:
    return Case(f"meeting {name}", gateway(*rules, **more), list(packets), expect or {})


def behind_each_other() -> list[Case]:
    """Two gateways that translate: ``a`` inside, ``b`` towards the world."""
    inside = {"eth0": "192.168.1.1/24", "eth1": "10.2.0.1/24"}
    outside = {"eth0": "10.2.0.2/24", "eth1": ["10.3.0.1/24", "10.3.0.7/24"]}
    wire = {"m": ["a:eth1", "b:eth0"]}
    source = "-t nat -A POSTROUTING -o eth1 -j MASQUERADE"
    virtual = "-t nat -A PREROUTING -d 8.8.8.8 -j DNAT --to-destination 9.9.9.9"
    again_virtual = "-t nat -A PREROUTING -d 9.9.9.9 -j DNAT --to-destination 10.3.0.50"
    inward = (
        "-t nat -A PREROUTING -i eth1 -d 10.3.0.7 -j DNAT --to-destination 10.2.0.1",
        "-t nat -A PREROUTING -i eth1 -j DNAT --to-destination 192.168.1.20",
    )

    def pair(
        name: str,
        rules_a: tuple[str, ...],
        rules_b: tuple[str, ...],
        *packets: Op,
        expect: dict[int, str] | None = None,
    ) -> Case:
        hosts = {
            "a": host(inside, *rules_a, *states("FORWARD"), routes=("default via 10.2.0.2",)),
            "b": host(outside, *rules_b, *states("FORWARD"), *states("INPUT"), routes=("default via 10.3.0.9",)),
        }
        return Case(f"meeting {name}", hosts, list(packets), expect or {}, wire)

    ask = udp("a:eth0", f"{C}:4000", "8.8.8.8:53")
    return [
        pair("errors through two translations of both addresses", (virtual, source), (again_virtual, source), ask, error(0, 3, 3), error(0, 11, 0, "77.7.7.7"), error(0, 3, 4), reply(0),
             error(4), error(4, 3, 1, "192.168.1.99"), ping("a:eth0", C, "8.8.8.8"), error(7), reply(7), tcp("a:eth0", f"{C}:1", "8.8.8.8:80"), error(10, 3, 13), reply(10),
             expect={0: "left b:eth1 udp 10.3.0.1→10.3.0.50", 1: f"8.8.8.8→{C} type 3/3"}),
        pair("times out between two translations", (virtual, source), (again_virtual, source), *[udp("a:eth0", f"{C}:{n}", "8.8.8.8:53", ttl=n) for n in (1, 2, 3)],
             tcp("a:eth0", f"{C}:9", "8.8.8.8:53", ttl=2), ping("a:eth0", C, "8.8.8.8", ttl=2)),
        pair("inward through two translations", (inward[1],), (inward[0],), udp("b:eth1", "77.7.7.7:1", "10.3.0.7:80"), reply(0), error(0), error(1), udp("b:eth1", "77.7.7.7:1", "10.3.0.1:80"),
             expect={0: "left a:eth0 udp 77.7.7.7→192.168.1.20", 1: "left b:eth1 udp 10.3.0.7→77.7.7.7"}),
        pair("the second gateway refuses", (source,), ("-t filter -A FORWARD -p udp --dport 1 -j REJECT", "-t filter -A FORWARD -p tcp -j REJECT --reject-with tcp-reset", "-t filter -A FORWARD -p icmp -j REJECT --reject-with icmp-admin-prohib"),
             udp("a:eth0", f"{C}:4000", "9.9.9.9:1"), tcp("a:eth0", f"{C}:4000", "9.9.9.9:80"), ping("a:eth0", C, "9.9.9.9"), udp("a:eth0", f"{D}:4000", "9.9.9.9:1"), udp("a", None, "9.9.9.9:1"),
             tcp("a", None, "9.9.9.9:80")),
        pair("two clients, drawn ports, one server", (source,), (source,), udp("a:eth0", f"{C}:4000", "9.9.9.9:53"), udp("a:eth0", f"{D}:4000", "9.9.9.9:53"), udp("b", "10.3.0.1:4000", "9.9.9.9:53"),
             reply(1), reply(0), reply(2), error(1)),
    ]  # fmt: skip


def zones_and_marks() -> list[Case]:
    flow = udp("g:eth0", f"{C}:4000", "9.9.9.9:53")
    both = ("-t raw -A PREROUTING -i eth0 -j CT --zone-orig 1", "-t raw -A PREROUTING -i eth1 -j CT --zone-reply 1")
    server = "-t nat -A PREROUTING -d 10.0.0.1 -p udp --dport 80 -j DNAT --to-destination 192.168.1.20"
    three = {"eth0": "192.168.1.1/24", "eth1": "10.0.0.1/24", "eth2": "10.5.0.1/24"}
    save = (
        "-t mangle -A PREROUTING -j CONNMARK --restore-mark",
        "-t mangle -A PREROUTING -m mark --mark 0 -i eth2 -j MARK --set-mark 7",
        "-t mangle -A POSTROUTING -j CONNMARK --save-mark",
    )
    fwmark = ("pref 100 fwmark 7 lookup 7", "pref 101 fwmark 8 lookup 8")
    ways = (
        "default via 10.0.0.2",
        "default via 10.5.0.2 table 7",
        "192.168.1.0/24 dev eth0 table 7",
        "unreachable default table 8",
    )
    out = [
        one("zones of both directions", (*both, MASQ, *WATCH), flow, reply(0), again(0), error(0), udp("g:eth1", "9.9.9.9:53", "10.0.0.1:4000"), udp("g:eth0", f"{D}:4000", "9.9.9.9:53"), reply(5)),
        one("DNAT in a zone, the answer in none", ("-t raw -A PREROUTING -i eth1 -j CT --zone-orig 3", server, MASQ, *WATCH), udp("g:eth1", "77.7.7.7:1", "10.0.0.1:80"), reply(0), again(0), error(0), error(1)),
        one("a zone and what the host itself answers", ("-t raw -A PREROUTING -i eth0 -j CT --zone 4", "-t filter -A FORWARD -p udp --dport 1 -j REJECT", MASQ, *WATCH), udp("g:eth0", f"{C}:1", "9.9.9.9:1"),
            udp("g:eth0", f"{C}:1", "9.9.9.9:2", ttl=1), udp("g:eth0", f"{C}:1", "192.168.1.1:9"), tcp("g:eth0", f"{C}:1", "192.168.1.1:9"), tcp("g:eth0", f"{C}:2", "9.9.9.9:9"), reply(4)),
        one("zone by the mark that CONNMARK restored", ("-t raw -A PREROUTING -i eth0 -j MARK --set-mark 5", "-t raw -A PREROUTING -j CT --zone mark", "-t mangle -A PREROUTING -j CONNMARK --save-mark", MASQ, *WATCH),
            flow, reply(0), again(0), udp("g:eth0", f"{D}:4000", "9.9.9.9:53")),
        one("untracked where it comes in, translated where it goes out", ("-t raw -A PREROUTING -i eth0 -s 192.168.1.10 -j NOTRACK", server, MASQ, *WATCH), flow, reply(0), udp("g:eth1", "9.9.9.9:53", "10.0.0.1:4000"), udp("g", None, "9.9.9.9:53"),
            udp("g:eth1", f"{C}:4000", "10.0.0.1:80"), reply(4), error(0), error(4)),
        one("an untracked half makes the other a new flow", ("-t raw -A PREROUTING -i eth1 -p udp --sport 53 -j NOTRACK", "-t nat -A POSTROUTING -o eth0 -j SNAT --to-source 192.168.1.1", *WATCH), flow, reply(0), again(0), tcp("g:eth0", f"{C}:1", "9.9.9.9:53"), reply(3)),
        Case("meeting marks of a connection choose the way of its answers", {"g": host(three, *save, "-t nat -A PREROUTING -d 10.5.0.1 -p udp -j DNAT --to-destination 192.168.1.20", "-t nat -A POSTROUTING -o eth2 -j MASQUERADE", *WATCH, routes=ways, policy=fwmark)},
             [udp("g:eth2", "77.7.7.7:1", "10.5.0.1:80"), reply(0), again(0), error(0), udp("g:eth0", "192.168.1.20:5", "8.8.8.8:5"), udp("g:eth1", "77.7.7.7:1", "10.5.0.1:80"), reply(5)],
             {0: "left g:eth0", 1: "left g:eth2 udp 10.5.0.1→77.7.7.7"}),
        Case("meeting marks set where they come too late", {"g": host(three, "-t mangle -A FORWARD -j MARK --set-mark 7", "-t mangle -A INPUT -j MARK --set-mark 7", "-t mangle -A POSTROUTING -j MARK --set-mark 7", "-t nat -A POSTROUTING -m mark --mark 7 -o eth1 -j SNAT --to-source 10.0.0.9", routes=ways, policy=fwmark)},
             [flow, reply(0), udp("g", None, "9.9.9.9:1"), udp("g:eth0", f"{C}:1", "192.168.1.1:9")], {0: "left g:eth1 udp 10.0.0.9"}),
        Case("meeting a mark that leads nowhere", {"g": host(three, "-t mangle -A PREROUTING -p udp --dport 53 -j MARK --set-mark 8", "-t mangle -A OUTPUT -p udp --dport 53 -j MARK --set-mark 8", MASQ, *WATCH, routes=ways, policy=fwmark, sysctl={"net.ipv4.fwmark_reflect": 1})},
             [flow, udp("g", None, "9.9.9.9:53"), udp("g:eth0", f"{C}:1", "9.9.9.9:54"), udp("g", None, "9.9.9.9:53", mark=7), udp("g", None, "9.9.9.9:54", mark=8)]),
        Case("meeting answers take the mark of what they answer", {"g": host(three, "-t mangle -A PREROUTING -i eth2 -j MARK --set-mark 7", routes=ways, policy=fwmark, sysctl={"net.ipv4.fwmark_reflect": 1})},
             [udp("g:eth2", "77.7.7.7:1", "10.5.0.1:80"), tcp("g:eth2", "77.7.7.7:1", "10.5.0.1:80"), udp("g:eth2", "77.7.7.7:1", "99.9.9.9:80", ttl=1), udp("g:eth1", "77.7.7.7:1", "10.5.0.1:80")], {0: "left g:eth2 icmp 10.5.0.1", 3: "left g:eth1"}),
    ]  # fmt: skip
    for filter_, valid, expected in ((1, 0, "nothing"), (1, 1, "left g:eth0"), (2, 0, "left g:eth0")):
        settings = {"net.ipv4.conf.eth2.rp_filter": filter_, "net.ipv4.conf.eth2.src_valid_mark": valid}
        out.append(Case(f"meeting reverse path {filter_} and valid marks {valid}", {"g": host(three, "-t mangle -A PREROUTING -i eth2 -j MARK --set-mark 7", "-t nat -A PREROUTING -d 10.5.0.1 -j DNAT --to-destination 192.168.1.20", *WATCH, routes=ways, policy=fwmark, sysctl=settings)},
                        [udp("g:eth2", "77.7.7.7:1", "10.5.0.1:80"), udp("g:eth2", "10.5.0.2:1", "10.5.0.1:80"), udp("g:eth2", "192.168.1.77:1", "10.5.0.1:80")], {0: expected}))  # fmt: skip
    return out


def own_addresses() -> list[Case]:
    """Loopback and own addresses on the wire, redirection, transparent proxies, broadcasts."""
    lo = "-t nat -A PREROUTING -p udp --dport 80 -j DNAT --to-destination 127.0.0.1:5353"
    two = ["192.168.1.1/24", "192.168.1.5/24", "172.20.0.1/24"]
    proxy = (
        "-t mangle -A PREROUTING -i eth0 -p udp --dport 53 -j TPROXY --on-port 5353 --tproxy-mark 1",
        "-t mangle -A PREROUTING -i eth0 -p tcp --dport 80 -j TPROXY --on-port 8080 --tproxy-mark 1",
    )
    local = {
        "routes": ("default via 10.0.0.2", "local default dev lo table 100"),
        "policy": ("pref 100 fwmark 1 lookup 100",),
    }
    return [
        *(one(f"DNAT to a loopback address, route_localnet {n}", (lo, *WATCH), udp("g:eth0", f"{C}:1", "192.168.1.1:80"), reply(0), udp("g:eth0", f"{C}:1", "9.9.9.9:80"), udp("g:eth1", "10.0.0.2:1", "10.0.0.1:80"),
              sysctl={"net.ipv4.conf.eth0.route_localnet": n}, listen=("udp 127.0.0.1:5353",)) for n in (0, 1)),
        one("REDIRECT and several addresses of the device", ("-t nat -A PREROUTING -p udp --dport 77 -j REDIRECT --to-ports 5353", *WATCH), udp("g:eth0", f"{C}:1", "172.20.0.1:77"), reply(0), udp("g:eth0", "172.20.0.9:1", "192.168.1.5:77"),
            reply(2), udp("g:eth0", f"{C}:1", "9.9.9.9:77"), reply(4), lan=two, listen=("udp 5353",)),
        Case("meeting REDIRECT without any address of the device", {"g": host({"eth0": [], "eth1": "10.0.0.1/24"}, "-t nat -A PREROUTING -p udp -j REDIRECT --to-ports 5353", *WATCH, routes=("default via 10.0.0.2", "192.168.1.0/24 dev eth0"), listen=("udp 5353",))},
             [udp("g:eth0", f"{C}:1", "9.9.9.9:77"), udp("g:eth1", "10.0.0.2:1", "9.9.9.9:77")]),
        one("TPROXY and nat of the same packet", (*proxy, "-t nat -A PREROUTING -p udp --dport 53 -j DNAT --to-destination 10.0.0.50", MASQ, *WATCH), udp("g:eth0", f"{C}:1", "9.9.9.9:53"), udp("g:eth0", f"{C}:1", "9.9.9.9:54"),
            tcp("g:eth0", f"{C}:1", "9.9.9.9:80"), listen=("udp 5353",), **local),
        one("socket match of what NAT turned back", ("-t mangle -A PREROUTING -m socket", "-t mangle -A PREROUTING -m socket --nowildcard", "-t mangle -A PREROUTING -m socket --transparent", "-t mangle -A INPUT -m socket", MASQ),
            udp("g", None, "9.9.9.9:53"), reply(0), error(0), tcp("g", None, "9.9.9.9:80"), reply(3), error(3), udp("g:eth0", f"{C}:1", "192.168.1.1:5353"), udp("g:eth0", f"{C}:1", "9.9.9.9:5"), reply(7), udp("g", "10.0.0.3:4001", "9.9.9.9:53"), reply(9), listen=("udp 5353",)),
        one("own addresses as sources from outside", (*WATCH, MASQ), *[udp("g:eth1", f"{s}:1", f"{d}:2") for s in ("10.0.0.1", "192.168.1.1", "127.0.0.1") for d in ("10.0.0.1", C)], sysctl={"net.ipv4.conf.eth1.accept_local": 1}),
        one("NETMAP both ways", ("-t nat -A PREROUTING -i eth1 -d 172.30.0.0/24 -j NETMAP --to 192.168.1.0/24", "-t nat -A POSTROUTING -o eth1 -j NETMAP --to 172.30.0.0/24", "-t nat -A OUTPUT -d 172.31.0.0/24 -j NETMAP --to 10.0.0.0/24",
            "-t nat -A INPUT -j NETMAP --to 172.29.0.0/24", *WATCH), udp("g:eth0", f"{C}:1", "9.9.9.9:2"), reply(0), udp("g:eth1", "9.9.9.9:7", "172.30.0.10:7"), reply(2), udp("g", None, "172.31.0.2:2"), reply(4), udp("g:eth1", "10.0.0.2:1", "10.0.0.1:5353"),
            reply(6), error(0), error(4), udp("g", None, "172.31.0.1:5353"), listen=("udp 5353",)),
        one("broadcasts and translation", ("-t nat -A PREROUTING -d 192.168.1.255 -j DNAT --to-destination 10.0.0.2", "-t nat -A PREROUTING -d 255.255.255.255 -p udp --dport 67 -j DNAT --to-destination 192.168.1.1:5353", "-t nat -A POSTROUTING -j MASQUERADE", *WATCH),
            udp("g:eth0", f"{C}:1", "192.168.1.255:5"), udp("g:eth0", f"{C}:1", "255.255.255.255:67"), udp("g:eth0", "0.0.0.0:68", "255.255.255.255:67"), udp("g", None, "192.168.1.255:9"), udp("g", None, "255.255.255.255:9", oif="eth0"), listen=("udp 5353",)),
        one("the copy of a broadcast has no owner", tuple(f"-t mangle -A POSTROUTING -p udp --dport 6000 -m owner {m}" for m in ("--uid-owner 1000", "! --uid-owner 1000", "--socket-exists", "! --socket-exists")),
            udp("g", None, "192.168.1.255:6000", uid=1000), udp("g", None, "224.0.0.1:6000", oif="eth0", ttl=1, uid=1000)),
        one("hairpin in zones", ("-t raw -A PREROUTING -i eth0 -d 10.0.0.1 -j CT --zone 2", "-t nat -A PREROUTING -d 10.0.0.1 -p tcp --dport 80 -j DNAT --to-destination 192.168.1.20", "-t nat -A POSTROUTING -s 192.168.1.0/24 -d 192.168.1.20 -j MASQUERADE", *WATCH),
            tcp("g:eth0", f"{C}:4000", "10.0.0.1:80"), reply(0), again(0, flags="A")),
        one("hairpin from the host itself", ("-t nat -A OUTPUT -d 10.0.0.1 -p tcp --dport 80 -j DNAT --to-destination 192.168.1.20", "-t nat -A POSTROUTING -d 192.168.1.20 -j MASQUERADE", *WATCH),
            tcp("g", None, "10.0.0.1:80"), reply(0), udp("g", None, "10.0.0.1:80"), tcp("g", "10.0.0.1:4001", "10.0.0.1:80"), reply(3)),
        one("connects are routed by their source too", (), tcp("g", None, "9.9.9.9:80"), udp("g", None, "9.9.9.9:80"), tcp("g", None, "9.9.9.9:81", uid=1000), tcp("g", None, "192.168.1.77:80"), policy=("pref 90 from 10.0.0.1 to 9.9.9.9 ipproto tcp lookup 5", "pref 91 from 192.168.1.1 prohibit"),
            routes=("default via 10.0.0.2", "default via 192.168.1.99 table 5"), expect={0: "left g:eth0 tcp 10.0.0.1", 1: "left g:eth1", 3: "errno 13"}),
    ]  # fmt: skip


def ports() -> list[Case]:
    """Which port a translation takes."""
    flows = [udp("g:eth0", f"192.168.1.{n}:4000", "9.9.9.9:53") for n in range(10, 14)]
    return [
        one("SNAT range of addresses and of ports", ("-t nat -A POSTROUTING -o eth1 -p udp -j SNAT --to-source 10.0.0.10-10.0.0.11:3000-3001",), *flows, *[reply(n) for n in range(3)], udp("g:eth0", f"{C}:3001", "9.9.9.9:53"), udp("g:eth0", f"{C}:3001", "9.9.9.8:53")),
        one("SNAT keeps a source that fits already", ("-t nat -A POSTROUTING -o eth1 -p udp -j SNAT --to-source 192.168.1.5-192.168.1.50:4000-4010",), *flows, udp("g:eth0", f"{C}:4000", "9.9.9.8:53"), udp("g:eth0", f"{C}:9999", "9.9.9.9:53")),
        one("REDIRECT port range in use", ("-t nat -A PREROUTING -p udp -j REDIRECT --to-ports 5000-5001",), *[udp("g:eth0", f"{C}:1", f"9.9.9.{n}:53") for n in range(1, 5)], listen=("udp 5000", "udp 5001")),
        one("DNAT and SNAT of one flow, both with ports", ("-t nat -A PREROUTING -p udp --dport 53 -j DNAT --to-destination 10.0.0.2:5300-5301", "-t nat -A POSTROUTING -o eth1 -p udp -j SNAT --to-source 10.0.0.3:600-601"),
            *[udp("g:eth0", f"{C}:{500 + n}", f"9.9.9.{n}:53") for n in range(1, 7)], reply(0), error(1)),
        one("TCP and UDP do not share ports", ("-t nat -A POSTROUTING -o eth1 -j SNAT --to-source 10.0.0.3",), udp("g:eth0", f"{C}:5", "9.9.9.9:80"), tcp("g:eth0", f"{D}:5", "9.9.9.9:80"), udp("g:eth0", f"{D}:5", "9.9.9.9:80"), tcp("g:eth0", f"{C}:5", "9.9.9.9:80"), ping("g:eth0", C, "9.9.9.9", 5),
            ping("g:eth0", D, "9.9.9.9", 5), ping("g:eth0", D, "9.9.9.9", 5, type=13, len=40)),
        one("a finished UDP flow frees its port", (MASQ,), flows[0], wait(1.3), flows[1], reply(0), reply(2), sysctl={"net.netfilter.nf_conntrack_udp_timeout": 1}),
        one("ICMP ids in a range", ("-t nat -A POSTROUTING -o eth1 -p icmp -j SNAT --to-source 10.0.0.3",), *[ping("g:eth0", f"192.168.1.{n}", "9.9.9.9", 3) for n in range(10, 14)], reply(0), error(1)),
        one("other protocols clash", ("-t nat -A POSTROUTING -o eth1 -j SNAT --to-source 10.0.0.3-10.0.0.4",), *[proto("g:eth0", p, f"192.168.1.{n}", "9.9.9.9") for p in ("99", "esp", "gre") for n in (10, 11, 12, 13)], reply(0), reply(4)),
        one("no port is left, the next flow of the same client", ("-t nat -A POSTROUTING -o eth1 -p udp -j MASQUERADE --to-ports 3000",), *flows[:2], udp("g:eth0", f"{D}:4000", "9.9.9.8:53"), udp("g:eth0", f"{D}:4000", "9.9.9.9:53"), expect={1: "nothing"}),
    ]  # fmt: skip


def sizes() -> list[Case]:
    """Path MTU: what is learned from errors, what clamps, what is cut into pieces."""
    small = ("default via 10.0.0.2", "9.9.9.0/24 via 10.0.0.2 mtu 900", "8.8.8.0/24 via 10.0.0.2 mtu lock 900")
    big = [
        udp("g:eth0", f"{C}:1", f"{d}:1", len=1000, df=df)
        for d in ("9.9.9.9", "8.8.8.8", "7.7.7.7")
        for df in (False, True)
    ]
    mine = [
        udp("g", None, f"{d}:1", len=1000, df=df) for d in ("9.9.9.9", "8.8.8.8", "7.7.7.7") for df in (False, True)
    ]
    return [
        one("too big for the route, translated", (MASQ, *WATCH), *big, *mine, routes=small),
        one("a path MTU is learned, used by the host alone", (MASQ, *WATCH), udp("g", None, "7.7.7.7:1", len=1400, df=True), error(0, 3, 4), udp("g", None, "7.7.7.7:2", len=1400, df=True), udp("g", None, "7.7.7.7:2", len=1400), udp("g:eth0", f"{C}:1", "7.7.7.7:1", len=1400, df=True), udp("g", None, "7.7.7.8:2", len=1400, df=True),
            expect={2: "errno 90"}),
        one("a path MTU is learned, used for others", (MASQ, *WATCH), udp("g", None, "7.7.7.7:1", len=1400, df=True), error(0, 3, 4), udp("g:eth0", f"{C}:1", "7.7.7.7:1", len=1400, df=True), udp("g:eth0", f"{C}:1", "7.7.7.7:1", len=1200, df=True), sysctl={"net.ipv4.ip_forward_use_pmtu": 1}),
        one("a path MTU of a translated flow is the client's", (MASQ, *WATCH), udp("g:eth0", f"{C}:1", "7.7.7.7:1", len=1400, df=True), error(0, 3, 4), again(0), udp("g", None, "7.7.7.7:2", len=1400, df=True)),
        one("MSS clamped to the way", ("-t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu", "-t mangle -A OUTPUT -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"),
            *[tcp("g:eth0", f"{C}:{7 + n}", f"{d}:1", mss=m, data=4) for n, (d, m) in enumerate((("9.9.9.9", 1460), ("7.7.7.7", 1460), ("9.9.9.9", 500)))], reply(0), routes=small),
    ]  # fmt: skip


def refused() -> list[Case]:
    """REJECT where other things have happened before."""
    dnat = "-t nat -A PREROUTING -d 10.0.0.1 -j DNAT --to-destination 192.168.1.20"
    return [
        one("REJECT in INPUT of what NAT changed", ("-t nat -A PREROUTING -p udp --dport 80 -j REDIRECT --to-ports 81", "-t nat -A INPUT -p udp -j SNAT --to-source 172.16.0.9", "-t filter -A INPUT -p udp -j REJECT", *WATCH), udp("g:eth0", f"{C}:1", "9.9.9.9:80"), udp("g:eth0", f"{C}:1", "192.168.1.1:80"), udp("g:eth1", "10.0.0.2:1", "10.0.0.1:9")),
        one("REJECT of the answer", (MASQ, "-t filter -A FORWARD -i eth1 -p udp -j REJECT", "-t filter -A FORWARD -i eth1 -p tcp -j REJECT --reject-with tcp-reset", *WATCH), udp("g:eth0", f"{C}:1", "9.9.9.9:80"), reply(0), tcp("g:eth0", f"{C}:1", "9.9.9.9:80"), reply(2), tcp("g:eth0", f"{C}:1", "9.9.9.9:80", "S", 4000)),
        one("REJECT in FORWARD behind DNAT, reset", (dnat, "-t filter -A FORWARD -p tcp -j REJECT --reject-with tcp-reset", "-t filter -A FORWARD -p udp -j REJECT --reject-with icmp-host-prohib", *WATCH), tcp("g:eth1", "10.0.0.2:1", "10.0.0.1:80"), udp("g:eth1", "10.0.0.2:1", "10.0.0.1:80"), tcp("g:eth1", "10.0.0.2:1", "10.0.0.1:80", "A", 5, 5), ping("g:eth1", "10.0.0.2", "10.0.0.1")),
        one("REJECT of what the host sends", ("-t nat -A OUTPUT -p tcp --dport 80 -j DNAT --to-destination 10.0.0.2:81", "-t filter -A OUTPUT -p tcp --dport 81 -j REJECT --reject-with tcp-reset", "-t filter -A OUTPUT -p udp -o eth1 -j REJECT", "-t nat -A POSTROUTING -j MASQUERADE", *WATCH),
            tcp("g", None, "9.9.9.9:80"), udp("g", None, "9.9.9.9:80"), udp("g", "192.168.1.1:5", "9.9.9.9:80"), tcp("g", None, "10.0.0.1:81"), tcp("g", None, "9.9.9.9:82")),
        one("dropped by conntrack state, then answered", ("-t filter -A FORWARD -m conntrack --ctstate INVALID -j DROP", "-t filter -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", "-t filter -A FORWARD -i eth0 -j ACCEPT", "-t filter -A FORWARD -j REJECT", MASQ, *WATCH),
            udp("g:eth0", f"{C}:1", "9.9.9.9:80"), reply(0), udp("g:eth1", "9.9.9.9:80", f"{C}:1"), error(0), tcp("g:eth0", f"{C}:1", "9.9.9.9:80", "SA", 1, 1), tcp("g:eth0", f"{C}:1", "9.9.9.9:80"), reply(5), tcp("g:eth1", "9.9.9.9:80", "10.0.0.1:1", "PA", 900000, 1)),
    ]  # fmt: skip


CASES = [*behind_each_other(), *zones_and_marks(), *own_addresses(), *ports(), *sizes(), *refused()]
