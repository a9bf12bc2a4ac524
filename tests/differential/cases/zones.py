"""Zones, NOTRACK, CT templates; the same flow through one host twice."""

from __future__ import annotations

from . import Case, Op, again, error, gateway, host, ping, reply, states, tcp, udp

C = "192.168.1.10"
MASQ = "-t nat -A POSTROUTING -o eth1 -j MASQUERADE"
WATCH = (*states("FORWARD"), *states("INPUT"), *states("OUTPUT"))
TALK = (
    udp("g:eth0", f"{C}:4000", "9.9.9.9:53"),
    reply(0),
    again(0),
    tcp("g:eth0", f"{C}:4000", "9.9.9.9:80"),
    reply(3),
    again(3, flags="A"),
    ping("g:eth0", C, "9.9.9.9"),
    reply(6),
    error(0),
)


def one(
    name: str, *rules: str, packets: tuple[Op, ...] = TALK, expect: dict[int, str] | None = None, **more: object
) -> Case:
    return Case(f"zones {name}", gateway(*rules, MASQ, *WATCH, **more), list(packets), expect or {})


def raw(*rules: str) -> tuple[str, ...]:
    return tuple(f"-t raw -A PREROUTING {r}" for r in rules)


def twice() -> list[Case]:
    """A transparent proxy p: c – h – p – h – s. Without zones the second pass finds the first one's entry."""
    h = {"if0": "192.168.1.1/24", "p0": "10.1.0.1/24", "p1": "10.2.0.1/24", "up0": "203.0.113.2/24"}
    policy = ("pref 50 iif if0 lookup 100", "pref 51 iif up0 to 192.168.1.0/24 lookup 101")
    routes = ("default via 203.0.113.1", "default via 10.1.0.2 table 100", "192.168.1.0/24 via 10.2.0.2 table 101")
    p = host({"q0": "10.1.0.2/24", "q1": "10.2.0.2/24"}, routes=("default via 10.2.0.1", "192.168.1.0/24 via 10.1.0.1"))
    talk = [udp("h:if0", f"{C}:4001", "9.9.9.9:53"), reply(0), again(0), ping("h:if0", C, "9.9.9.9"), reply(3), tcp("h:if0", f"{C}:4001", "9.9.9.9:80"), reply(5),
            udp("h:if0", "192.168.1.11:4001", "9.9.9.9:53"), reply(7)]  # fmt: skip

    def case(name: str, *rules: str, expect: dict[int, str] | None = None) -> Case:
        masq = "-t nat -A POSTROUTING -o up0 -j MASQUERADE"
        hosts = {"h": host(h, *rules, masq, *WATCH, routes=routes, policy=policy), "p": p}  # type: ignore[arg-type]
        return Case(
            f"zones twice through conntrack: {name}",
            hosts,
            talk,
            expect or {},
            {"a": ["h:p0", "p:q0"], "b": ["h:p1", "p:q1"]},
        )

    return [
        case("no zones", expect={0: f"left h:up0 udp {C}→9.9.9.9 4001"}),
        case("zone on the second pass only", *raw("-i p1 -j CT --zone 1"), expect={0: "left h:up0 udp 203.0.113.2"}),
        case("zone on both sides", *raw("-i p1 -j CT --zone 1", "-i up0 -j CT --zone 1"), expect={1: f"left h:if0 udp 9.9.9.9→{C} 53→4001"}),
        case("zone of the original direction", *raw("-i p1 -j CT --zone-orig 1"), expect={1: f"left h:if0 udp 9.9.9.9→{C} 53→4001"}),
        case("zone of the reply direction", *raw("-i p1 -j CT --zone-reply 1")),
        case("untracked first pass", *raw("-i if0 -j CT --notrack"), expect={0: "left h:up0 udp 203.0.113.2"}),
    ]  # fmt: skip


CASES = [
    one("one on each side", *raw("-i eth0 -j CT --zone 7", "-i eth1 -j CT --zone 7")),
    one("only inside", *raw("-i eth0 -j CT --zone 7")),
    one("original", *raw("-i eth0 -j CT --zone-orig 8")),
    one("reply", *raw("-i eth0 -j CT --zone-reply 9")),
    one("reply, reached by its zone", *raw("-i eth0 -j CT --zone-reply 9", "-i eth1 -j CT --zone 9")),
    one("by the mark that conntrack sees", *raw("-j MARK --set-mark 5", "-j CT --zone mark", "-j MARK --set-mark 0x10007")),
    one("by mark, original only", *raw("-i eth0 -j CT --zone-orig mark", "-i eth0 -j MARK --set-mark 3")),
    one("the first CT rule counts", *raw("-j CT --zone 5", "-j CT --zone 6", "-j NOTRACK")),
    one("the same tuples in two zones", *raw("-i eth0 -m tos --tos 0x10 -j CT --zone 5"),
        packets=(udp("g:eth0", f"{C}:4000", "9.9.9.9:53"), again(0, tos=0x10), reply(0), reply(1), udp("g:eth0", "192.168.1.11:4000", "9.9.9.9:53", tos=0x10))),
    one("untracked", *raw("-i eth0 -j CT --notrack"), expect={0: f"{C}→9.9.9.9"}),
    one("untracked answers", *raw("-i eth1 -j NOTRACK")),
    one("untracked, sent", "-t raw -A OUTPUT -p udp -j NOTRACK", packets=(udp("g", None, "9.9.9.9:53"), tcp("g", None, "9.9.9.9:53"), reply(0), reply(1), udp("g", None, "127.0.0.1:99"))),
    one("zone of what is sent", "-t raw -A OUTPUT -p udp -j CT --zone 4", packets=(udp("g", None, "9.9.9.9:53"), reply(0), udp("g", None, "127.0.0.1:99"), udp("g", "10.0.0.1:4009", "10.0.0.3:4010"))),
    one("marks of an untracked packet", *raw("-p udp -j NOTRACK"), "-t mangle -A FORWARD -m connmark ! --mark 5", "-t mangle -A FORWARD -m connmark --mark 0",
        "-t mangle -A FORWARD -m conntrack ! --ctstate NEW", "-t mangle -A FORWARD -m conntrack --ctdir ORIGINAL", "-t mangle -A FORWARD -j CONNMARK --set-mark 4"),
    one("bytes of a connection are counted from the first rule on", "-t mangle -A FORWARD -m connbytes --connbytes 2: --connbytes-dir both --connbytes-mode packets",
        "-t mangle -A FORWARD -m connbytes --connbytes 60 --connbytes-dir original --connbytes-mode bytes"),
    *twice(),
]  # fmt: skip
