"""NAT: nf_nat_core.c, nf_nat_proto.c, nf_nat_masquerade.c, nf_nat_redirect.c, xt_NETMAP.c."""

from __future__ import annotations

from . import Case, Op, again, error, gateway, host, ping, proto, reply, snapshot, states, tcp, udp, wait

MASQ = "-t nat -A POSTROUTING -o eth1 -j MASQUERADE"
C = [f"192.168.1.{n}" for n in (10, 11, 12, 13, 14, 15)]


def flow(src: str, dst: str = "9.9.9.9:53", **more: object) -> Op:
    return udp("g:eth0", src, dst, **more)


def one(
    name: str, rules: str | tuple[str, ...], *packets: Op, expect: dict[int, str] | None = None, **more: object
) -> Case:
    rules = (rules,) if isinstance(rules, str) else rules
    return Case(f"nat {name}", gateway(*rules, **more), list(packets), expect or {})


ADDRESSES = [
    # addresses of eth1, default route, the address that MASQUERADE takes
    (["10.0.0.1/24", "10.0.0.3/24", "10.5.0.1/24"], "via 10.0.0.2", "10.0.0.1"),
    (["10.0.0.1/24", "10.0.0.3/24", "10.5.0.1/24"], "via 10.5.0.2", "10.5.0.1"),
    (["10.0.0.1/24", "10.0.0.3/24", "10.5.0.1/24"], "via 10.5.0.2 src 10.0.0.3", "10.5.0.1"),
    (["10.0.0.1/24", "10.5.0.1/24"], "dev eth1", "10.0.0.1"),
    (["10.0.0.3/24 scope link", "10.5.0.1/24"], "via 10.0.0.2", "10.5.0.1"),
    (["10.0.0.3/24 scope link"], "via 10.0.0.2", "192.168.1.1"),
    ([], "dev eth1", "192.168.1.1"),
]


def masquerade_addresses() -> list[Case]:
    out = []
    for number, (addresses, route, source) in enumerate(ADDRESSES):
        way = f"default {route}" + ("" if "dev" in route else " dev eth1")
        hosts = {"g": host({"eth0": "192.168.1.1/24", "eth1": addresses}, MASQ, routes=(way,))}
        out.append(
            Case(f"nat masquerade address {number}", hosts, [flow(C[0])], {0: f"left g:eth1 udp {source}→9.9.9.9"})
        )
    lo = {
        "g": host(
            {"lo": "10.99.0.1/32", "eth0": [], "eth1": []}, MASQ, routes=("default dev eth1", "192.168.1.0/24 dev eth0")
        )
    }
    none = {"g": host({"eth0": [], "eth1": []}, MASQ, routes=("default dev eth1", "192.168.1.0/24 dev eth0"))}
    out.append(Case("nat masquerade address of lo", lo, [flow(C[0])], {0: "10.99.0.1→"}))
    out.append(Case("nat masquerade without any address", none, [flow(C[0])], {0: "nothing"}))
    return out


POOL = "10.0.7.3-10.0.8.200"


def pools() -> list[Case]:
    flows = [flow(f"192.168.1.{n}:{4000 + n}", f"9.9.{n % 5}.{n * 7 % 250}:53") for n in range(20, 44)]
    inward = [udp("g:eth1", f"10.0.0.{n}:{4000 + n}", "10.0.0.1:53") for n in range(20, 44)]
    zoned = ("-t raw -A PREROUTING -i eth0 -j CT --zone 5", "-t raw -A PREROUTING -i eth1 -j CT --zone 5")
    reply_zone = ("-t raw -A PREROUTING -i eth0 -j CT --zone-reply 9",)
    lan = "192.168.0.1/16"
    return [
        one("pool by hash", f"-t nat -A POSTROUTING -o eth1 -j SNAT --to-source {POOL}", *flows),
        one("pool persistent", f"-t nat -A POSTROUTING -o eth1 -j SNAT --to-source {POOL} --persistent", *flows),
        one("pool in a zone", (*zoned, f"-t nat -A POSTROUTING -o eth1 -j SNAT --to-source {POOL}"), *flows),
        one("pool in a reply zone", (*reply_zone, f"-t nat -A POSTROUTING -o eth1 -j SNAT --to-source {POOL}"), *flows[:8]),
        one("pool of destinations", "-t nat -A PREROUTING -d 10.0.0.1 -j DNAT --to-destination 192.168.3.1-192.168.9.9", *inward, lan=lan),
        one("pool of destinations persistent",
            "-t nat -A PREROUTING -d 10.0.0.1 -j DNAT --to-destination 192.168.3.1-192.168.9.9 --persistent", *inward, lan=lan),
        one("pools of both", ("-t nat -A PREROUTING -d 10.0.0.1 -j DNAT --to-destination 192.168.3.1-192.168.9.9",
                              "-t nat -A POSTROUTING -o eth0 -j SNAT --to-source 192.168.77.1-192.168.78.9"), *inward, lan=lan),
    ]  # fmt: skip


def clashes() -> list[Case]:
    ports = [
        p
        for sport in (100, 511, 512, 599, 600, 1023, 1024, 40000)
        for p in (flow(f"{C[0]}:{sport}"), flow(f"{C[1]}:{sport}"))
    ]
    second = ("-t nat -A PREROUTING -p udp --dport 53 -j DNAT --to-destination 10.0.0.2:53",
              "-t nat -A PREROUTING -p udp --dport 54 -j REDIRECT --to-ports 5353",
              "-t nat -A PREROUTING ! -p udp -j DNAT --to-destination 10.0.0.2")  # fmt: skip
    two = [op for d in ("8.8.8.8", "8.8.4.4") for op in (
        flow(f"{C[0]}:4000", f"{d}:53"), flow(f"{C[0]}:4000", f"{d}:54"), ping("g:eth0", C[0], d), proto("g:eth0", "99", C[0], d))]  # fmt: skip
    return [
        one("clash: the second client gets another port, of its kind", MASQ, *ports, expect={0: "10.0.0.1→9.9.9.9 100→53"}),
        one("clash: ICMP id", MASQ, ping("g:eth0", C[0], "9.9.9.9", 77), ping("g:eth0", C[1], "9.9.9.9", 77), reply(1), reply(0)),
        one("clash: answers find their client", MASQ, flow(f"{C[0]}:5000"), flow(f"{C[1]}:5000"), reply(0), reply(1), again(1), error(1),
            error(0, 3, 3)),
        one("reuse of a mapping", MASQ, flow(f"{C[0]}:5000"), flow(f"{C[1]}:5000"), flow(f"{C[1]}:5000", "9.9.9.8:53"),
            flow(f"{C[1]}:5000", "9.9.9.7:99")),
        one("a local flow is shadowed", "-t nat -A POSTROUTING -o eth1 -s 192.168.1.0/24 -j SNAT --to-source 10.0.0.1",
            flow(f"{C[0]}:6000"), udp("g", "10.0.0.1:6000", "9.9.9.9:53"), udp("g", "10.0.0.1:6000", "9.9.9.8:53"),
            flow(f"{C[1]}:6000"), flow(f"{C[1]}:6000", "9.9.9.8:53"), expect={2: "10.0.0.1→9.9.9.8 6000→53"}),
        one("a local flow was there first", MASQ, udp("g", "10.0.0.1:6000", "9.9.9.9:53"), flow(f"{C[0]}:6000"), reply(0), reply(1)),
        one("masquerade to few ports", "-t nat -A POSTROUTING -o eth1 -p udp -j MASQUERADE --to-ports 2000-2003",
            flow(f"{C[0]}:2002"), *[flow(f"{c}:5000") for c in C[1:]], flow(f"{C[1]}:5001")),
        one("one port for two clients", "-t nat -A POSTROUTING -o eth1 -p udp -j SNAT --to-source 10.0.0.1:2000",
            flow(f"{C[0]}:5000"), flow(f"{C[1]}:5000"), flow(f"{C[1]}:5000", "9.9.9.8:53"),
            expect={0: "10.0.0.1→9.9.9.9 2000→53", 1: "nothing", 2: "2000→53"}),
        one("one port for two clients, tcp", "-t nat -A POSTROUTING -o eth1 -p tcp -j SNAT --to-source 10.0.0.1:5000",
            tcp("g:eth0", f"{C[0]}:7", "9.9.9.9:80"), tcp("g:eth0", f"{C[1]}:7", "9.9.9.9:80"), expect={1: "nothing"}),
        one("random ports", "-t nat -A POSTROUTING -o eth1 -p udp -j MASQUERADE --random", flow(f"{C[0]}:5000"), flow(f"{C[0]}:400"),
            reply(0), again(0), flow(f"{C[0]}:5000", "9.9.9.8:53")),
        one("fully random ports of a range", "-t nat -A POSTROUTING -o eth1 -p udp -j SNAT --to-source 10.0.0.3:2000-2009 --random-fully",
            flow(f"{C[0]}:5000"), reply(0), flow(f"{C[1]}:2005")),
        one("two destinations to one server", second, *two, ping("g:eth0", C[0], "8.8.0.0"), *[reply(n) for n in (0, 1, 2, 4, 6, 8)],
            expect={2: "type 8/0", 7: "nothing"}, listen=("udp 5353",)),
        one("ICMP ids renumbered by the null binding", ("-t nat -A PREROUTING -d 8.8.8.8 -j DNAT --to-destination 10.0.0.2",),
            ping("g:eth0", C[0], "8.8.8.8", 7), ping("g:eth0", C[0], "10.0.0.2", 7), reply(1), reply(0)),
        one("a finished TCP connection gives its port away", MASQ, tcp("g:eth0", f"{C[0]}:5000", "9.9.9.9:80", "S", 1000), reply(0, flags="RA"),
            tcp("g:eth0", f"{C[1]}:5000", "9.9.9.9:80", "S", 90000), reply(2)),
        one("a reply that nobody asked for clashes", MASQ, udp("g:eth1", "9.9.9.9:53", "10.0.0.1:6000"), flow(f"{C[0]}:6000"), reply(1)),
        one("mirror image of an untranslated flow", "-t nat -A POSTROUTING -o eth1 -s 192.168.77.0/24 -j MASQUERADE",
            flow(f"{C[0]}:53"), udp("g:eth1", "9.9.9.9:53", f"{C[0]}:53"), again(0)),
    ]  # fmt: skip


def destinations() -> list[Case]:
    server = "10.0.0.2"
    return [
        one("port range: the first free one", "-t nat -A PREROUTING -p udp -j DNAT --to-destination 10.0.0.2:8000-8010",
            *[flow(f"{C[0]}:{3000 + n}", "10.0.0.1:99") for n in range(3)], flow(f"{C[0]}:3009", "10.0.0.1:8005"),
            flow(f"{C[0]}:3000", "10.0.0.3:99"), flow(f"{C[0]}:3000", "8.8.8.8:99"), flow(f"{C[0]}:3000", "8.8.4.4:8001"),
            expect={0: "→8000", 3: "→8005", 4: "→8001", 5: "→8002"}),
        one("port range at random", "-t nat -A PREROUTING -p udp -j DNAT --to-destination 10.0.0.2:8000-8010 --random",
            flow(f"{C[0]}:3000", "10.0.0.1:8005"), reply(0)),
        one("port range with a base", "-t nat -A PREROUTING -p udp --dport 5000:5010 -j DNAT --to-destination 10.0.0.2:8000-8010/5000",
            *[flow(f"{C[0]}:3000", f"10.0.0.1:{p}") for p in (5000, 5003, 5010)], expect={1: "→8003"}),
        one("netmap", ("-t nat -A PREROUTING -d 172.20.0.0/16 -j NETMAP --to 10.0.0.0/24",
                       "-t nat -A POSTROUTING -s 192.168.1.0/28 -o eth1 -j NETMAP --to 10.7.7.0/28"),
            flow(f"{C[0]}:3000", "172.20.3.77:9"), reply(0), ping("g:eth0", C[0], "9.9.9.9"), error(2)),
        one("hairpin", ("-t nat -A PREROUTING -d 10.0.0.1 -p tcp --dport 80 -j DNAT --to-destination 192.168.1.20",
                        "-t nat -A POSTROUTING -s 192.168.1.0/24 -d 192.168.1.20 -j MASQUERADE"),
            tcp("g:eth0", f"{C[0]}:4000", "10.0.0.1:80"), reply(0), again(0, flags="A"),
            tcp("g:eth1", "9.9.9.9:4000", "10.0.0.1:80"), reply(3), expect={0: "192.168.1.1→192.168.1.20"}),
        one("hairpin without masquerade", "-t nat -A PREROUTING -d 10.0.0.1 -p tcp --dport 80 -j DNAT --to-destination 192.168.1.20",
            tcp("g:eth0", f"{C[0]}:4000", "10.0.0.1:80"), reply(0)),
        one("redirect takes the first address of the receiving device", "-t nat -A PREROUTING -p udp --dport 77 -j REDIRECT --to-ports 5353",
            udp("g:eth1", "10.0.0.2:4000", "10.0.0.3:77"), reply(0), flow(f"{C[0]}:1", "9.9.9.9:77"), reply(2), listen=("udp 5353",),
            expect={0: "10.0.0.2→10.0.0.1 4000→5353", 1: "10.0.0.3→10.0.0.2 77→4000"}),
        one("redirect to a port range", "-t nat -A PREROUTING -p udp --dport 77 -j REDIRECT --to-ports 5353-5354",
            flow(f"{C[0]}:1", "9.9.9.9:77"), flow(f"{C[0]}:1", "9.9.9.8:77"), flow(f"{C[0]}:1", "9.9.9.7:77"), listen=("udp 5353", "udp 5354")),
        one("both ways at once", ("-t nat -A PREROUTING -d 8.8.8.8 -j DNAT --to-destination 10.0.0.2", MASQ),
            flow(f"{C[0]}:4000", "8.8.8.8:53"), reply(0), error(0), error(0, 11, 0, "10.0.0.77"), error(0, 3, 3, "172.16.0.9"),
            ping("g:eth0", C[0], "8.8.8.8"), reply(5), error(5),
            expect={0: f"10.0.0.1→{server}", 1: f"8.8.8.8→{C[0]} 53→4000", 3: f"8.8.8.8→{C[0]}"}),
        one("nat INPUT", ("-t nat -A INPUT -p udp -j SNAT --to-source 10.66.0.1", "-t nat -A INPUT -p tcp -j SNAT --to-source 10.66.0.1:7"),
            udp("g:eth1", "10.0.0.2:4000", "10.0.0.1:5353"), reply(0), tcp("g:eth1", "10.0.0.2:4000", "10.0.0.1:443"), reply(2),
            tcp("g:eth1", "10.0.0.99:4000", "10.0.0.1:443"), udp("g:eth1", "10.0.0.2:4000", "10.0.0.1:5353"),
            listen=("udp 5353", "tcp 443"), expect={0: "10.66.0.1→10.0.0.1 4000→5353", 1: "10.0.0.1→10.0.0.2 5353→4000"}),
    ]  # fmt: skip


def other_protocols() -> list[Case]:
    names = ("sctp", "dccp", "gre", "esp", "ah", "99", "udplite")  # gre: without contents; it is refused
    through = [
        op
        for p in names
        for op in (
            proto(
                "g:eth0",
                p,
                C[0] + (":4000" if p in ("sctp", "dccp", "udplite") else ""),
                "9.9.9.9" + (":80" if p in ("sctp", "dccp", "udplite") else ""),
            ),
            proto(
                "g:eth0",
                p,
                C[1] + (":4000" if p in ("sctp", "dccp", "udplite") else ""),
                "9.9.9.9" + (":80" if p in ("sctp", "dccp", "udplite") else ""),
            ),
        )
    ]
    back = [reply(n) for n in (0, 2, 6, 8, 10)]
    return [
        one("protocols through masquerade", (MASQ, *states("FORWARD")), *through, *back),
        one("protocols through DNAT", ("-t nat -A PREROUTING -d 8.8.8.8 -j DNAT --to-destination 10.0.0.2", *states("FORWARD")),
            *[proto("g:eth0", p, C[0] + (":4000" if p in ("sctp", "dccp") else ""), "8.8.8.8" + (":80" if p in ("sctp", "dccp") else ""))
              for p in names[:6]], *[reply(n) for n in (0, 1, 3, 4, 5)], *[error(n) for n in (0, 1, 3, 4, 5)]),
        one("ports for all protocols that have them", (
            "-t nat -A POSTROUTING -o eth1 -p sctp -j SNAT --to-source 10.0.0.3:2000-2001", "-t nat -A POSTROUTING -o eth1 -p udplite -j MASQUERADE",
            "-t nat -A POSTROUTING -o eth1 -p icmp -j MASQUERADE"),
            proto("g:eth0", "sctp", f"{C[0]}:4000", "9.9.9.9:80"), proto("g:eth0", "sctp", f"{C[1]}:4000", "9.9.9.9:80"),
            proto("g:eth0", "sctp", f"{C[2]}:4000", "9.9.9.9:80"), proto("g", "udplite", "10.0.0.1:4000", "9.9.9.9:80"),
            ping("g:eth0", C[0], "9.9.9.9", type=13, len=40), ping("g:eth0", C[0], "9.9.9.9", type=0), reply(4)),
    ]  # fmt: skip


def lasting() -> list[Case]:
    """What an entry remembers: interface of a masquerade, decisions of earlier rules, a dumped table."""
    three = {"eth0": "192.168.1.1/24", "eth1": ["10.0.0.1/24"], "eth2": ["10.1.0.1/24"]}
    via = ("default via 10.0.0.2",)

    def moving(*rules: str) -> dict[str, dict[str, object]]:
        return {"g": host(three, *rules, routes=via)}

    move = "g ip route replace default via 10.1.0.2"
    return [
        Case("nat masquerade and another way out", moving("-t nat -A POSTROUTING -o eth+ -j MASQUERADE"),
             [flow(f"{C[0]}:2000"), snapshot(move), flow(f"{C[0]}:2000"), flow(f"{C[0]}:2000"), reply(3)],
             {2: "nothing", 3: "left g:eth2 udp 10.1.0.1"}),
        Case("nat masquerade and another way out, answered", moving("-t nat -A POSTROUTING -o eth+ -j MASQUERADE"),
             [flow(f"{C[0]}:2000"), reply(0), again(0), snapshot(move), reply(0), again(0), again(0)], {5: "nothing", 6: "left g:eth2"}),
        Case("nat SNAT keeps the old source on another way out",
             moving("-t nat -A POSTROUTING -o eth1 -j SNAT --to-source 10.0.0.1", "-t nat -A POSTROUTING -o eth2 -j SNAT --to-source 10.1.0.1"),
             [flow(f"{C[0]}:2001"), snapshot(move), flow(f"{C[0]}:2001")], {2: "left g:eth2 udp 10.0.0.1"}),
        Case("nat rules of later do not reach an entry", moving("-t filter -A FORWARD -m conntrack --ctstate NEW"),
             [flow(f"{C[0]}:2002"), reply(0), wait(2.1), snapshot("g iptables -t nat -A POSTROUTING -o eth1 -j MASQUERADE"), again(0), flow(f"{C[0]}:2003")],
             {4: "192.168.1.10→9.9.9.9", 5: "10.0.0.1→9.9.9.9"}),
        Case("nat a table full of entries goes on", gateway(MASQ, *states("FORWARD"), "-t raw -A PREROUTING -p icmp -j CT --zone 3",
                                                            "-t nat -A PREROUTING -d 8.8.8.8 -j DNAT --to-destination 10.0.0.2"),
             [flow(f"{C[0]}:5000"), flow(f"{C[1]}:5000"), tcp("g:eth0", f"{C[0]}:5000", "9.9.9.9:80"), reply(2),
              tcp("g:eth0", f"{C[0]}:5000", "9.9.9.9:80", "A", 1001, 7001), flow(f"{C[0]}:5001", "8.8.8.8:53"), reply(5), again(5),
              ping("g:eth0", C[0], "9.9.9.9"), proto("g:eth0", "99", C[0], "9.9.9.9"), udp("g", None, "9.9.9.9:99"), wait(2.1), snapshot(),
              reply(0), reply(1), again(0), again(1), flow(f"{C[1]}:5000", "9.9.9.8:53"), flow(f"{C[2]}:5000"), again(4), reply(4), again(5), reply(5),
              error(5), error(2), again(8), proto("g:eth0", "99", C[1], "9.9.9.9"), flow(f"{C[0]}:5001", "10.0.0.2:53"), reply(10)]),
        Case("nat UDP: 30 seconds, then a stream", gateway(MASQ, *states("FORWARD"), sysctl={"net.netfilter.nf_conntrack_udp_timeout": 1,
                                                           "net.netfilter.nf_conntrack_udp_timeout_stream": 5, "net.netfilter.nf_conntrack_icmp_timeout": 1}),
             [flow(f"{C[0]}:1"), flow(f"{C[1]}:1"), reply(0), ping("g:eth0", C[0], "9.9.9.9", 7), wait(1.4), reply(1), again(1), again(0), reply(0),
              flow(f"{C[2]}:1"), ping("g:eth0", C[1], "9.9.9.9", 7)]),
        Case("nat UDP becomes a stream after two seconds", gateway(MASQ),
             [flow(f"{C[0]}:1"), reply(0), again(0), wait(2.3), flow(f"{C[1]}:2"), again(0), reply(0), reply(4), again(4)]),
    ]  # fmt: skip


def drawn_before() -> list[Case]:
    """A port that was drawn and then seen stands in the way like any other number."""
    rules = (
        "-t raw -A PREROUTING -i eth1 -j CT --zone 2", "-t nat -A OUTPUT -d 1.2.3.4 -p udp -j DNAT --to-destination 1.2.3.4:2000-2010",
        "-t nat -A POSTROUTING -s 192.168.1.0/24 -o eth1 -j SNAT --to-source 10.0.0.1 --random",
    )  # fmt: skip
    talk = (flow(f"{C[0]}:4000", "1.2.3.4:2000"), reply(0), reply(1))
    return [one("a range of destination ports beside a port that was drawn", rules, *talk, expect={2: "→1.2.3.4 "})]


CASES = [
    *masquerade_addresses(),
    *pools(),
    *clashes(),
    *destinations(),
    *other_protocols(),
    *lasting(),
    *drawn_before(),
]
