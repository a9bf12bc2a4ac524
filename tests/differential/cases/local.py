"""Packets of the host itself: OUTPUT NAT and rerouting, loopback, broadcasts, owners, kernel's own answers."""

from __future__ import annotations

from . import Case, Op, again, error, host, ping, proto, reply, states, tcp, udp

TWO = {"w1": ["10.1.0.1/24"], "w2": ["10.2.0.1/24"]}
ROUTES = ("default via 10.1.0.2 dev w1", "default via 10.2.0.2 dev w2 table 2")
UP = {"up0": ["10.0.0.1/24"], "up1": ["10.1.0.1/24"]}


def two(name: str, rules: str | tuple[str, ...], policy: str | tuple[str, ...], *packets: Op, expect: dict[int, str] | None = None,
        routes: tuple[str, ...] = ROUTES, **more: object) -> Case:  # fmt: skip
    """``h`` with uplinks w1 (main) and w2 (table 2)."""
    rules = (rules,) if isinstance(rules, str) else rules
    policy = (policy,) if isinstance(policy, str) else policy
    return Case(
        f"local {name}", {"h": host(TWO, *rules, routes=routes, policy=policy, **more)}, list(packets), expect or {}
    )  # type: ignore[arg-type]


def out(dst: str = "9.9.9.9:53", src: str | None = None, **more: object) -> Op:
    return udp("h", src, dst, **more)


MARK9 = "-t mangle -A OUTPUT -p udp --dport 53 -j MARK --set-mark 9"
DEVICES = tuple(f"-t {t} -A {c} -p udp -o {o}" for t, c in (("raw", "OUTPUT"), ("mangle", "OUTPUT"), ("nat", "OUTPUT"), ("filter", "OUTPUT"),
                                                       ("security", "OUTPUT"), ("mangle", "POSTROUTING"), ("nat", "POSTROUTING")) for o in ("w1", "w2", "lo"))  # fmt: skip


def selectors() -> list[Case]:
    lookup = "lookup 2"
    return [
        two("uidrange", (), f"pref 100 uidrange 1000-1000 {lookup}", out(uid=1000), out(uid=0), expect={0: "left h:w2 udp 10.2.0.1", 1: "left h:w1"}),
        two("uidrange is lost in a reroute", MARK9, f"pref 100 uidrange 1000-1000 {lookup}", out(uid=1000), out("9.9.9.9:54", uid=1000),
            expect={0: "left h:w1 udp 10.2.0.1", 1: "left h:w2"}),
        two("a reroute has uid 0", MARK9, f"pref 100 uidrange 0-0 {lookup}", out(uid=1000), out(uid=0), out("9.9.9.9:54", uid=1000),
            expect={0: "left h:w2 udp 10.1.0.1", 2: "left h:w1"}),
        two("ports", (), (f"pref 100 ipproto udp dport 53 {lookup}", f"pref 101 ipproto udp sport 7777 {lookup}"), out(), out("9.9.9.9:54"),
            out("9.9.9.9:54", "0.0.0.0:7777"), tcp("h", None, "9.9.9.9:53")),
        two("iif lo", (), f"pref 100 iif lo {lookup}", out(), udp("h:w1", "10.1.0.9:1", "9.9.9.9:2"), expect={0: "left h:w2", 1: "left h:w1"}),
        two("bound to a device", (), f"pref 100 oif w2 {lookup}", out(oif="w2"), out(oif="w1"), out(), expect={0: "left h:w2", 1: "left h:w1"}),
        two("marks", (), f"pref 100 fwmark 0x10/0xf0 {lookup}", out(mark=0x1F), out(mark=0x20), expect={0: "left h:w2", 1: "left h:w1"}),
        two("not", (), f"pref 100 not fwmark 0x10 {lookup}", out(), out(mark=0x10), expect={0: "left h:w2", 1: "left h:w1"}),
        two("from needs a bound source", (), f"pref 100 from 10.1.0.1 {lookup}", out(), out(src="10.1.0.1:4001"), tcp("h", "10.1.0.1:4002", "9.9.9.9:80"),
            ping("h", "10.1.0.1", "9.9.9.9"), expect={0: "left h:w1", 1: "left h:w2 udp 10.1.0.1"}),
        two("tos", (), f"pref 100 tos 0x10 {lookup}", out(tos=0x10), out(tos=0), out(tos=0x08)),
        two("suppressed default", (), f"pref 100 to 9.9.9.9 {lookup} suppress_prefixlength 0", out()),
        *(two(f"{kind} rule", (), f"pref 100 to 9.9.9.9 {kind}", out(), udp("h:w1", "10.1.0.9:1", "9.9.9.9:2"))
          for kind in ("blackhole", "unreachable", "prohibit", "goto 32767")),
        two("throw goes on", (), f"pref 100 {lookup}", out(), routes=(*ROUTES, "throw 9.9.9.9 table 2")),
        *(two(f"{kind} route", (), (), out(), udp("h:w1", "10.1.0.9:1", "9.9.9.9:2"), routes=(*ROUTES, f"{kind} 9.9.9.9"))
          for kind in ("blackhole", "unreachable", "prohibit", "throw")),
    ]  # fmt: skip


def reroutes() -> list[Case]:
    rule = "pref 100 fwmark 9 lookup 2"
    masq = "-t nat -A POSTROUTING -o w2 -j MASQUERADE"
    tos = "pref 100 tos 0x10 lookup 2"
    return [
        two("mangle mark", MARK9, rule, out(), expect={0: "left h:w2 udp 10.1.0.1"}),
        two("mangle mark and masquerade", (MARK9, masq), rule, out(), reply(0), again(0), tcp("h", None, "9.9.9.9:80"), expect={0: "left h:w2 udp 10.2.0.1"}),
        two("mark set and taken back", (MARK9, "-t mangle -A OUTPUT -j MARK --set-mark 0"), rule, out(), expect={0: "left h:w1"}),
        two("mark in raw, filter and POSTROUTING", ("-t raw -A OUTPUT -p udp --dport 1 -j MARK --set-mark 9", "-t filter -A OUTPUT -p udp --dport 2 -j MARK --set-mark 9",
            "-t mangle -A POSTROUTING -p udp --dport 3 -j MARK --set-mark 9", "-t security -A OUTPUT -p udp --dport 4 -j MARK --set-mark 9"), rule,
            *[out(f"9.9.9.9:{n}") for n in (1, 2, 3, 4)], expect=dict.fromkeys(range(4), "left h:w1")),
        two("mark of legacy", (), rule, out(), legacy=(MARK9,), expect={0: "left h:w2"}),
        two("mark with a bound device", MARK9, rule, out(oif="w1"), out(src="10.1.0.1:4001"), expect={0: "left h:w1", 1: "left h:w2 udp 10.1.0.1"}),
        two("TOS in mangle", "-t mangle -A OUTPUT -p udp --dport 53 -j TOS --set-tos 0x10", tos, out(), out("9.9.9.9:54")),
        two("TOS falls under uid 0", "-t mangle -A OUTPUT -p udp --dport 53 -j TOS --set-tos 0x08", "pref 100 uidrange 1000-1000 lookup 2", out(uid=1000)),
        two("TTL and CONNMARK do not reroute", ("-t mangle -A OUTPUT -p udp -j TTL --ttl-set 9", "-t mangle -A OUTPUT -p udp -j CONNMARK --set-mark 9"),
            "pref 100 uidrange 1000-1000 lookup 2", out(uid=1000), expect={0: "left h:w2"}),
        two("CONNMARK restore reroutes", ("-t mangle -A OUTPUT -j CONNMARK --restore-mark", "-t mangle -A POSTROUTING -p udp --dport 53 -j CONNMARK --set-mark 9"),
            rule, out(), again(0), expect={0: "left h:w1", 1: "left h:w2"}),
        two("mark and no way", MARK9, ("pref 100 fwmark 9 unreachable",), out(), tcp("h", None, "9.9.9.9:53"), expect={0: "errno"}),
        two("DNAT of the port only", "-t nat -A OUTPUT -p udp --dport 53 -j DNAT --to-destination 9.9.9.9:54", (), out(), reply(0)),
        two("DNAT of the port after a mark", (MARK9, "-t nat -A OUTPUT -p udp --dport 53 -j DNAT --to-destination 9.9.9.9:54"), rule, out(), reply(0)),
        two("which device OUTPUT rules see", (*DEVICES, "-t mangle -A OUTPUT -p udp --dport 7 -j MARK --set-mark 9",
            "-t nat -A OUTPUT -p udp --dport 8 -j DNAT --to-destination 10.2.0.2", "-t nat -A OUTPUT -p udp --dport 9 -j REDIRECT --to-ports 99"), rule,
            *[out(f"9.9.9.9:{n}", f"0.0.0.0:{4000 + n}") for n in (53, 7, 8, 9)], listen=("udp 99",)),
        two("two uplinks", ("-t nat -A POSTROUTING -o w1 -j MASQUERADE", masq), ("pref 101 from 10.2.0.1 lookup 2", "pref 102 fwmark 7 lookup 2"),
            out(), out(src="10.2.0.1:4002"), out(src="10.1.0.1:4003"), out(mark=7, src="0.0.0.0:4004"), expect={1: "left h:w2", 3: "left h:w2 udp 10.2.0.1"}),
    ]  # fmt: skip


def output_nat() -> list[Case]:
    def up(
        name: str, *packets: Op, rules: tuple[str, ...], expect: dict[int, str] | None = None, **more: object
    ) -> Case:
        return Case(
            f"local {name}",
            {"h": host(UP, *rules, routes=("default via 10.0.0.2",), **more)},
            list(packets),
            expect or {},
        )  # type: ignore[arg-type]

    to = "-t nat -A OUTPUT -p udp -d 8.8.8.8 -j DNAT --to-destination 10.1.0.2:53"
    lo = "-t nat -A OUTPUT -p udp -d 127.0.0.9 -j DNAT --to-destination 10.1.0.2:53"
    masq = "-t nat -A POSTROUTING -o up1 -s 127.0.0.0/8 -j MASQUERADE"
    hooks = tuple(f"-t {t} -A {c} -p udp {d} lo" for t, c, d in (
        ("raw", "OUTPUT", "-o"), ("mangle", "OUTPUT", "-o"), ("nat", "OUTPUT", "-o"), ("filter", "OUTPUT", "-o"), ("mangle", "POSTROUTING", "-o"),
        ("nat", "POSTROUTING", "-o"), ("raw", "PREROUTING", "-i"), ("mangle", "PREROUTING", "-i"), ("nat", "PREROUTING", "-i"), ("mangle", "INPUT", "-i"),
        ("filter", "INPUT", "-i"), ("nat", "INPUT", "-i"), ("security", "INPUT", "-i")))  # fmt: skip
    return [
        up("OUTPUT DNAT keeps the source of the first route", udp("h", None, "8.8.8.8:53"), reply(0), error(0), again(0), rules=(to,),
           expect={0: "left h:up1 udp 10.0.0.1→10.1.0.2"}),
        up("OUTPUT DNAT of a loopback destination", udp("h", None, "127.0.0.9:53"), rules=(lo,), expect={0: "errno 22"}),
        up("OUTPUT DNAT of a loopback destination, masqueraded", udp("h", None, "127.0.0.9:53"), rules=(lo, masq), expect={0: "errno 22"}),
        up("OUTPUT DNAT of a loopback destination, route_localnet", udp("h", None, "127.0.0.9:53"), reply(0), rules=(lo, masq),
           sysctl={"net.ipv4.conf.up1.route_localnet": 1}, expect={0: "left h:up1 udp 10.1.0.1→10.1.0.2"}),
        up("OUTPUT DNAT cannot help without a route", udp("h", None, "8.8.8.8:53"), udp("h", None, "9.9.9.9:53"), rules=(to, "-t raw -A OUTPUT"),
           expect={0: "left h:up1", 1: "left"}),
        up("OUTPUT REDIRECT keeps the source", udp("h", None, "9.9.9.9:77"), reply(0), udp("h", "10.0.0.1:4001", "10.0.0.1:77"), reply(2), tcp("h", None, "9.9.9.9:80"),
           rules=("-t nat -A OUTPUT -p udp --dport 77 -j REDIRECT --to-ports 5353", "-t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 81"), listen=("udp 5353",),
           expect={0: "10.0.0.1→127.0.0.1 4000→5353"}),
        up("loopback traffic and the hooks", udp("h", "127.0.0.1:4000", "127.0.0.1:4001", mark=5), udp("h", "10.0.0.1:4002", "10.1.0.1:4001"),
           udp("h", None, "127.0.0.1:99"), ping("h", None, "127.0.0.1"), tcp("h", None, "10.0.0.1:99"),
           rules=(*hooks, *states("PREROUTING"), *(f"-t mangle -A {c} -m mark --mark 5" for c in ("OUTPUT", "PREROUTING", "INPUT"))), listen=("udp 4001",)),
        up("loopback traffic that is INVALID", tcp("h", "10.0.0.1:4000", "10.1.0.1:80", "SA", 5, 5), ping("h", "10.0.0.1", "10.0.0.1", type=0),
           rules=(*states("OUTPUT"), *states("PREROUTING"), *states("INPUT"), *states("POSTROUTING"))),
        up("masquerade without -o and loopback traffic", udp("h", "127.0.0.1:4000", "127.0.0.1:5555"), reply(0), udp("h", None, "10.1.0.1:5555"),
           rules=("-t nat -A POSTROUTING -j MASQUERADE",), listen=("udp 5555",), expect={0: "10.0.0.1→127.0.0.1"}),
        up("drops tell the sender", udp("h", None, "9.9.9.9:1"), udp("h", None, "9.9.9.9:2"), udp("h", None, "9.9.9.9:3"), udp("h", None, "9.9.9.9:4"),
           tcp("h", None, "9.9.9.9:5"), tcp("h", None, "9.9.9.9:6"), tcp("h", "10.0.0.1:4000", "9.9.9.9:6", "A", 5, 5), *[out(f"10.0.0.1:{n}") for n in (1, 3)],
           rules=("-t filter -A OUTPUT -p udp --dport 1 -j DROP", "-t filter -A OUTPUT -p udp --dport 2 -j REJECT", "-t mangle -A POSTROUTING -p udp --dport 3 -j DROP",
                  "-t raw -A OUTPUT -p udp --dport 4 -j DROP", "-t filter -A OUTPUT -p tcp --dport 5 -j DROP",
                  "-t filter -A OUTPUT -p tcp --dport 6 -j REJECT --reject-with tcp-reset"), expect={0: "errno 1", 1: "type 3/3"}),
        up("owner rules and packets of nobody", udp("h", None, "9.9.9.9:1", uid=1000), udp("h", None, "9.9.9.9:2"), udp("h:up1", "10.1.0.9:1", "9.9.9.9:1"),
           udp("h:up1", "10.1.0.9:1", "10.1.0.1:1"), tcp("h:up1", "10.1.0.9:1", "10.1.0.1:1"), tcp("h:up1", "10.1.0.9:1", "10.1.0.1:998"), reply(0), again(0, uid=0),
           rules=(*(f"-t mangle -A {c} -m owner {m}" for c in ("OUTPUT", "POSTROUTING") for m in (
               "--uid-owner 1000", "! --uid-owner 0", "--socket-exists", "! --socket-exists", "--gid-owner 0", "! --gid-owner 1000")),
              "-t nat -A POSTROUTING -m owner --uid-owner 1000 -j SNAT --to-source 10.0.0.5", "-t nat -A POSTROUTING -o up0 -m owner ! --uid-owner 0 -j SNAT --to-source 10.0.0.77",
              "-t filter -A INPUT -p tcp --dport 998 -j REJECT --reject-with tcp-reset"),
           expect={0: "10.0.0.5→", 1: "10.0.0.1→", 2: "10.0.0.77→"}),
        up("a broadcast comes back", *[udp("h", None, f"{d}:6000", oif="up0") for d in ("10.0.0.255", "255.255.255.255")], *[udp("h", None, f"{d}:6000", oif="up0", ttl=1) for d in ("224.0.0.1", "224.5.5.5")],
           rules=(*(f"-t mangle -A {c} -p udp --dport 6000" for c in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")), "-t nat -A POSTROUTING -p udp", "-t nat -A INPUT -p udp",
                  *states("INPUT", "mangle", "-i", "up0"), "-t mangle -A POSTROUTING -o up0", "-t raw -A PREROUTING -i up0")),
        up("other protocols", *[proto("h", p, "10.0.0.1" + (":4000" if p in ("udplite", "dccp") else ""), "9.9.9.9" + (":80" if p in ("udplite", "dccp") else ""))
                                for p in ("99", "esp", "udplite", "dccp")], rules=(*states("OUTPUT"), "-t nat -A POSTROUTING -j SNAT --to-source 10.0.0.9")),
    ]  # fmt: skip


def late_errors() -> list[Case]:
    """What a host tells itself seconds later: by then the sender's socket has an address."""
    rules = (
        "-t nat -A OUTPUT -d 192.168.1.2 -p udp -j DNAT --to-destination 192.168.1.77",
        "-t filter -A INPUT -i lo -m socket",
        *states("INPUT"),
        *states("OUTPUT"),
    )
    hosts = {"a": host({"eth0": "192.168.1.1/24"}, *rules), "b": host({"eth0": "192.168.1.2/24"})}
    wires = {"w": ["a:eth0", "b:eth0"]}
    return [Case("local an error about the first datagram of a socket", hosts, [udp("a", None, "192.168.1.2:53"), udp("a", None, "192.168.1.88:53")], segments=wires)]  # fmt: skip


def bound_to_devices() -> list[Case]:
    """What comes back over lo counts as received by the device that has its address (rt_iif)."""
    here = "-t nat -A OUTPUT -d 9.9.9.9 -p udp -j DNAT --to-destination 10.1.0.1:5353"
    return [
        two(
            f"a socket bound to {dev} hears an answer over lo",
            here,
            (),
            out(oif=dev),
            reply(0),
            again(0),
            listen=("udp 5353",),
        )
        for dev in ("w1", "w2")
    ]


def unheard_queues() -> list[Case]:
    """nf_queue() frees what no program takes, and the sender is told nothing."""
    rules = (
        "-t mangle -A OUTPUT -p udp -j NFQUEUE --queue-num 77",
        "-t mangle -A OUTPUT -p icmp -j NFQUEUE --queue-num 77 --queue-bypass",
        "-t filter -A OUTPUT -p tcp -j NFQUEUE --queue-num 77",
        *states("POSTROUTING"),
    )
    talk = (out(), ping("h", None, "9.9.9.9"), tcp("h", None, "9.9.9.9:80"), udp("h:w1", "10.1.0.9:1", "9.9.9.9:2"))
    return [two("a queue that nobody hears", rules, (), *talk)]  # fmt: skip


CASES = [*selectors(), *reroutes(), *output_nat(), *late_errors(), *bound_to_devices(), *unheard_queues()]
