"""Errors and resets: how they are tracked, translated and sent; redirects; neighbours that do not answer."""

from __future__ import annotations

from . import Case, Op, again, error, gateway, host, ping, proto, reply, states, tcp, udp, wait

C = "192.168.1.10"
MASQ = "-t nat -A POSTROUTING -o eth1 -j MASQUERADE"
DNAT = "-t nat -A PREROUTING -d 8.8.8.8 -j DNAT --to-destination 10.0.0.2"
WATCH = (*states("OUTPUT"), *states("FORWARD"), *states("INPUT"))
REDIRECTS = {"net.ipv4.conf.all.send_redirects": 1, "net.ipv4.conf.eth0.send_redirects": 1}
CODES = ("net-unreach", "host-unreach", "proto-unreach", "port-unreach", "net-prohib", "host-prohib", "admin-prohib")


def one(name: str, rules: tuple[str, ...], *packets: Op, expect: dict[int, str] | None = None, **more: object) -> Case:
    return Case(f"icmp {name}", gateway(*rules, **more), list(packets), expect or {})


def made_here() -> list[Case]:
    """The experiment about errors for tracked, untracked and invalid packets, and resets of REJECT and of the stack."""
    rules = (
        *WATCH, "-t nat -A POSTROUTING -o eth0 -p tcp -j MASQUERADE", "-t nat -A POSTROUTING -o eth0 -p icmp", "-t nat -A OUTPUT", "-t nat -A INPUT -p tcp",
        "-t nat -A PREROUTING -d 8.8.8.8 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.2:81", "-t nat -A PREROUTING -d 8.8.8.8 -p tcp --dport 85 -j REDIRECT --to-ports 83",
        "-t nat -A PREROUTING -d 8.8.4.4 -j DNAT --to-destination 10.3.0.2", "-t raw -A PREROUTING -p udp --dport 77 -j CT --notrack",
        "-t filter -A FORWARD -p tcp --dport 81 -j REJECT --reject-with tcp-reset", "-t filter -A FORWARD -p tcp --dport 82 -j REJECT",
        "-t filter -A INPUT -p tcp --dport 83 -j REJECT --reject-with tcp-reset", "-t filter -A OUTPUT -p tcp --dport 86 -j REJECT --reject-with tcp-reset",
    )  # fmt: skip

    def t(dst: str, flags: str = "S", **more: object) -> Op:
        return tcp("g:eth0", f"{C}:1", dst, flags, **more)  # type: ignore[arg-type]

    packets = [
        udp("g:eth0", f"{C}:1", "10.0.0.2:5", ttl=1), udp("g:eth0", f"{C}:1", "10.0.0.2:77", ttl=1), t("10.0.0.2:5", "SA", ttl=1), t("10.0.0.2:81"), t("8.8.8.8:80"),
        t("10.0.0.2:82"), t("10.0.0.2:82", "SA"), t("10.0.0.2:81", "SA"), t("192.168.1.1:83"), t("8.8.8.8:85"), t("192.168.1.1:84"), t("192.168.1.1:84", "SA"),
        t("192.168.1.1:84", "A"), proto("g:eth0", "99", C, "192.168.1.1"), udp("g:eth0", f"{C}:1", "8.8.4.4:9", ttl=2), error(14, 11, 0, "10.0.0.2"),
        udp("g:eth0", f"{C}:1", "192.168.1.1:777"), udp("g:eth0", f"{C}:1", "10.0.0.1:77"), ping("g:eth0", C, "10.0.0.2", ttl=1), tcp("g", "10.0.0.1:4004", "10.0.0.2:86"),
    ]  # fmt: skip
    expect = {4: "8.8.8.8→192.168.1.10 80→1 R", 15: f"8.8.4.4→{C} type 11/0", 9: "8.8.8.8→192.168.1.10 85→1 R"}
    return [one("made here", rules, *packets, expect=expect, sysctl={"net.ipv4.icmp_ratemask": 0})]


def kinds_of_reject() -> list[Case]:
    rules = tuple(
        f"-t filter -A {c} -p udp --dport {60 + n} -j REJECT --reject-with icmp-{k}"
        for c in ("FORWARD", "INPUT")
        for n, k in enumerate(CODES)
    )
    forward = [udp("g:eth0", f"{C}:5", f"9.9.9.9:{60 + n}") for n in range(len(CODES))]
    inward = [udp("g:eth0", f"{C}:5", f"10.0.0.1:{60 + n}") for n in range(len(CODES))]
    none = [udp("g:eth0", f"{C}:5", "192.168.1.255:60"), udp("g:eth0", "255.255.255.255:5", "9.9.9.9:60"),
            udp("g:eth0", "127.0.0.1:5", "9.9.9.9:60"), udp("g:eth0", "10.0.0.1:5", "9.9.9.9:60"), udp("g:eth0", f"{C}:5", "9.9.9.9:61", tos=0x18)]  # fmt: skip
    return [
        one("kinds of REJECT", rules, *forward, *inward, *none, expect={0: "192.168.1.1→192.168.1.10 type 3/0", 7: "10.0.0.1→192.168.1.10 type 3/0"}),
        one("REJECT of what NAT has changed", ("-t filter -A FORWARD -o eth1 -p udp --dport 53 -j REJECT", DNAT, MASQ, "-t filter -A FORWARD -p tcp -j REJECT --reject-with tcp-reset", *WATCH),
            udp("g:eth0", f"{C}:5", "8.8.8.8:53"), tcp("g:eth0", f"{C}:5", "8.8.8.8:53"), again(0), again(1), tcp("g:eth0", f"{C}:6", "8.8.8.8:53", "A", 5, 77, 10)),
        one("a reset closes the entry", (*WATCH, "-t filter -A FORWARD -p tcp --tcp-flags PSH PSH -j REJECT --reject-with tcp-reset", MASQ),
            tcp("g:eth0", f"{C}:5", "9.9.9.9:80"), reply(0), tcp("g:eth0", f"{C}:5", "9.9.9.9:80", "A", 1001, 7001),
            tcp("g:eth0", f"{C}:5", "9.9.9.9:80", "PA", 1001, 7001, 5), again(2)),
        one("tos of the kernel's answers", ("-t filter -A INPUT -p tcp --dport 4 -j REJECT --reject-with tcp-reset", *WATCH), udp("g:eth0", f"{C}:1", "192.168.1.1:2", tos=0x18),
            tcp("g:eth0", f"{C}:1", "192.168.1.1:3", tos=0x18), tcp("g:eth0", f"{C}:1", "192.168.1.1:4", tos=0x18), udp("g:eth0", f"{C}:1", "9.9.9.9:2", tos=0xFF, ttl=1)),
    ]  # fmt: skip


def received() -> list[Case]:
    errors = [error(0, *kind, source) for kind in ((3, 0), (3, 1), (3, 3), (3, 4), (4, 0), (5, 1), (11, 0), (11, 1), (12, 0))
              for source in (None, "172.16.9.9")]  # fmt: skip
    both = (DNAT, MASQ, *WATCH)
    return [
        one("errors from outside", both, udp("g:eth0", f"{C}:4000", "8.8.8.8:53"), *errors, again(0)),
        one("errors about answers", both, udp("g:eth0", f"{C}:4000", "8.8.8.8:53"), reply(0), error(1, 3, 3), error(1, 11, 0, "192.168.1.77"), error(1, 3, 4)),
        one("errors about other protocols", both, tcp("g:eth0", f"{C}:4000", "8.8.8.8:80"), error(0, 3, 3), ping("g:eth0", C, "8.8.8.8"), error(2, 3, 1),
            proto("g:eth0", "sctp", f"{C}:4000", "8.8.8.8:80"), error(4, 3, 2), proto("g:eth0", "99", C, "8.8.8.8"), error(6, 3, 2), proto("g:eth0", "esp", C, "8.8.8.8"), error(8, 3, 2)),
        one("errors about unknown flows", WATCH, udp("g:eth0", f"{C}:4000", "9.9.9.9:53"), error(0),
            *[{"op": "send", "record": {"host": "g", "in": "eth1", "src": "9.9.9.9", "dst": d, "proto": "icmp", "type": 3, "code": 1, "ttl": 60, "tos": 0, "df": False, "len": 56,
               "inner": {"src": d2, "dst": "9.9.9.9", "proto": "udp", "sport": 4000, "dport": p, "ttl": 5, "tos": 0, "len": 28, "df": False}}}
              for d, d2, p in ((C, C, 54), ("10.0.0.1", C, 53), ("10.0.0.1", "10.0.0.1", 53), (C, C, 53))]),
        one("errors with NAT in zones", ("-t raw -A PREROUTING -i eth0 -j CT --zone-orig 5", MASQ, *WATCH), udp("g:eth0", f"{C}:4000", "9.9.9.9:53"), error(0), error(0, 11, 0, "10.0.0.77")),
        one("errors about an untracked flow", ("-t raw -A PREROUTING -p udp -j NOTRACK", MASQ, *WATCH), udp("g:eth0", f"{C}:4000", "9.9.9.9:53"), error(0), udp("g:eth0", f"{C}:4000", "9.9.9.9:53", ttl=1)),
        one("errors for the host itself", (MASQ, *WATCH), udp("g", None, "9.9.9.9:53"), error(0), error(0, 3, 3), ping("g", None, "9.9.9.9"), error(3)),
    ]  # fmt: skip


def redirects() -> list[Case]:
    same = (udp("g:eth0", f"{C}:900", "8.8.8.8:99"), again(0), again(0))
    way = {"routes": ("default via 10.0.0.2", "8.8.8.0/24 via 192.168.1.99"), "sysctl": REDIRECTS}
    return [
        one("redirect without tracking", (), *same, **way),
        one("redirect with tracking", WATCH, *same, **way),
        one("redirect with nat hooks", (*WATCH, "-t nat -A POSTROUTING -s 1.2.3.4 -j MASQUERADE"), *same, **way),
        one("redirect of a destination that NAT made", (*WATCH, "-t nat -A PREROUTING -d 8.8.7.7 -j DNAT --to-destination 192.168.1.99"),
            udp("g:eth0", f"{C}:900", "8.8.7.7:99"), again(0), **way),
        one("redirect of a masqueraded flow", (*WATCH, "-t nat -A POSTROUTING -j MASQUERADE"), *same, **way),
    ]  # fmt: skip


def to_everybody() -> list[Case]:
    """What came in a frame to everybody is not answered by errors, not even when NAT made it the host's own."""
    rules = ("-t filter -A INPUT -p udp --dport 5 -j REJECT", "-t nat -A PREROUTING -p udp --dport 6 -j DNAT --to-destination 192.168.1.1",
             "-t mangle -A PREROUTING -m pkttype --pkt-type broadcast", "-t mangle -A PREROUTING -m pkttype --pkt-type multicast")  # fmt: skip
    ends = [
        udp("g:eth0", f"{C}:54", f"{d}:{p}") for d in ("224.0.0.1", "255.255.255.255", "192.168.1.255") for p in (5, 9)
    ]
    return [
        one(
            "no errors to everybody",
            rules,
            *ends,
            udp("g:eth0", f"{C}:54", "255.255.255.255:6"),
            udp("g:eth0", f"{C}:54", "224.0.0.1:6"),
        )
    ]


def silent_neighbours() -> list[Case]:
    absent = "-t nat -A PREROUTING -d 8.8.8.8 -j DNAT --to-destination 192.168.1.99"
    rules = ((absent,), (absent, "-t nat -A POSTROUTING -j MASQUERADE"), ("-t nat -A PREROUTING -s 1.1.1.1",))
    out = [
        Case(f"icmp nobody answers {number}", {
                **gateway(*r, *WATCH, routes=("default via 192.168.1.98",)), "c": host({"e0": f"{C}/24"}, routes=("default via 192.168.1.1",))},
             [udp("c", f"{C}:3001", "8.8.8.8:53"), udp("c", f"{C}:3001", "8.8.8.8:53"), udp("g", None, "192.168.1.99:53"), ping("c", C, "9.9.9.9"), tcp("c", None, "8.8.8.8:80")],
             {0: f"arrived c:e0 icmp {'8.8.8.8' if number < 2 else '192.168.1.1'}→{C} type 3/1"}, {"lan": ["g:eth0", "c:e0"]})
        for number, r in enumerate(rules)
    ]  # fmt: skip
    hosts = {
        "g": host({"eth0": "192.168.1.1/24", "eth1": "10.0.0.1/24"}, "-t nat -A PREROUTING -d 8.8.4.4 -j DNAT --to-destination 10.3.0.2", MASQ, *WATCH, routes=("default via 10.0.0.2",)),
        "s": host({"e0": "10.0.0.2/24", "e1": "10.3.0.1/24"}, "-t filter -A FORWARD -p udp --dport 7 -j REJECT --reject-with icmp-host-prohib", routes=("default via 10.0.0.1",)),
    }  # fmt: skip
    far = [udp("g:eth0", f"{C}:1", "8.8.4.4:9", ttl=2), udp("g:eth0", f"{C}:1", "8.8.4.4:7"), udp("g:eth0", f"{C}:1", "8.8.4.4:5"), reply(2), udp("g:eth0", f"{C}:1", "10.3.0.2:9", ttl=2),
           udp("g:eth0", f"{C}:1", "10.3.0.1:9")]  # fmt: skip
    out.append(
        Case(
            "icmp errors of the next router",
            hosts,
            far,
            {0: "8.8.4.4→192.168.1.10 type 11/0"},
            {"wan": ["g:eth1", "s:e0"]},
        )
    )
    return out


def rates() -> list[Case]:
    """Buckets of errors: of icmp_ratelimit, of errors about routes, and how a redirect empties them."""
    on = {"net.ipv4.icmp_ratemask": 6168, "net.ipv4.icmp_msgs_per_sec": 1000, "net.ipv4.icmp_msgs_burst": 50}
    closed = [udp("g:eth0", f"{C}:9", f"192.168.1.1:{700 + n}") for n in range(9)]
    nowhere = [udp("g:eth0", f"{C}:9", f"77.0.0.{n}:7") for n in range(9)]
    ways = ("default via 10.0.0.2", "8.8.8.0/24 via 192.168.1.99", "unreachable 77.0.0.0/8")
    watch = ("-t filter -A OUTPUT -p icmp",)
    return [
        one("rate of errors", watch, *closed, ping("g:eth0", C, "9.9.9.9", ttl=1), udp("g:eth0", "192.168.1.11:9", "192.168.1.1:9"), sysctl=on),
        one("rate of errors about routes", watch, *nowhere, routes=ways),
        one("rate of both", watch, *nowhere[:3], *closed[:6], *nowhere[3:6], sysctl=on, routes=ways),
        one("rate of errors without a limit", watch, *closed, *nowhere, sysctl={**on, "net.ipv4.icmp_ratelimit": 0}, routes=ways),
        one("rate of errors after a redirect", watch, udp("g:eth0", f"{C}:9", "8.8.8.8:7"), *closed[:4], wait(1.1), *closed[4:], sysctl={**on, **REDIRECTS}, routes=ways),
    ]  # fmt: skip


CASES = [*rates(), *made_here(), *kinds_of_reject(), *received(), *redirects(), *to_everybody(), *silent_neighbours()]
