"""Input routing: validity of addresses, reverse path, forwarding switches; several uplinks; what FORWARD never sees."""

from __future__ import annotations

from . import Case, Op, again, gateway, host, ping, reply, states, tcp, udp

WATCH = (
    "-t raw -A PREROUTING -p udp",
    "-t mangle -A INPUT -p udp",
    "-t mangle -A FORWARD -p udp",
    "-t filter -A OUTPUT -p icmp",
    *states("PREROUTING"),
)
SOURCES = (
    "198.51.100.255",
    "203.0.113.255",
    "0.0.0.1",
    "198.51.100.2",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.9",
    "240.1.1.1",
    "127.0.0.1",
    "10.99.0.1",
    "9.9.9.9",
)
TARGETS = (
    "0.1.2.3",
    "0.0.0.0",
    "127.0.0.1",
    "240.9.9.9",
    "255.255.255.255",
    "198.51.100.255",
    "203.0.113.255",
    "224.0.0.1",
    "203.0.113.2",
)
DEVICES: dict[str, str | list[str]] = {"lo": "10.99.0.1/32", "w1": "198.51.100.2/24", "w2": "203.0.113.2/24"}


def got(src: str, dst: str, **more: object) -> Op:
    return udp("h:w2", f"{src}:1", f"{dst}:2", **more)


def one(name: str, *packets: Op, policy: tuple[str, ...] = (), routes: tuple[str, ...] = ("default via 198.51.100.1",), rules: tuple[str, ...] = WATCH,
        expect: dict[int, str] | None = None, devices: dict[str, str | list[str]] = DEVICES, **sysctl: object) -> Case:  # fmt: skip
    settings = {f"net.ipv4.conf.{k.replace('__', '.')}": v for k, v in sysctl.items()}
    # Whether a policy rule ever existed decides about some sources; no dump says.
    sticky = not policy and packets[: len(EVERY)] == tuple(EVERY)
    return Case(
        f"routing {name}",
        {"h": host(devices, *rules, routes=routes, policy=policy, sysctl=settings)},
        list(packets),
        expect or {},
        undecided=sticky,
    )


EVERY = [got(s, d) for s in SOURCES for d in ("203.0.113.2", "198.51.100.1")] + [got("203.0.113.1", d) for d in TARGETS]
SPOOFED = [got("9.9.9.9", d) for d in ("203.0.113.2", "198.51.100.1", "77.1.1.1")]
TABLE9 = (
    "default via 198.51.100.1",
    "unreachable 77.0.0.0/8",
    "default via 203.0.113.1 dev w2 table 9",
    "198.51.100.0/24 dev w1 table 9",
)


def addresses() -> list[Case]:
    return [
        one("addresses", *EVERY),
        one("addresses with a rule", *EVERY, policy=("pref 500 to 1.2.3.4 table 9",)),
        *(one(f"addresses with rp_filter {n}", *EVERY, w2__rp_filter=n) for n in (1, 2)),
        one("addresses with redirects on", *EVERY, w2__send_redirects=1),
        one("own sources accepted", *EVERY, w2__accept_local=1),
        one("loopback addresses on the wire", *EVERY, got("127.0.0.1", "127.0.0.1"), all__route_localnet=1),
        one("reverse path of all devices", *EVERY[:10], all__rp_filter=1),
        one("reverse path before the error", *SPOOFED, routes=TABLE9, w2__rp_filter=1),
        *(one(f"reverse lookup: {rule}", *SPOOFED[:2], routes=TABLE9, policy=(f"pref 100 {rule} table 9",), w2__rp_filter=1)
          for rule in ("iif w1", "iif w2", "iif lo", "from 198.51.100.1", "ipproto udp sport 2", "ipproto udp sport 1")),
        *(one(f"no address on the device, rp_filter {n}", got("10.5.0.2", "198.51.100.1"), got("10.6.0.2", "198.51.100.1"), got("10.5.0.2", "198.51.100.2"),
              devices={"w1": "198.51.100.2/24", "w2": []}, routes=("default via 198.51.100.1", "10.5.0.0/24 dev w2"), w2__rp_filter=n) for n in (0, 1, 2)),
    ]  # fmt: skip


def forwarding() -> list[Case]:
    c = "192.168.1.10:5000"
    rules = ("-t raw -A PREROUTING -d 9.9.9.9", "-t mangle -A INPUT -d 9.9.9.9", "-t mangle -A FORWARD -d 9.9.9.9", "-t nat -A POSTROUTING -o eth1 -j SNAT --to-source 10.0.0.3",
             "-t raw -A OUTPUT -d 9.9.9.9")  # fmt: skip
    kinds = ("unreachable 9.9.9.9", "prohibit 9.9.9.9", "blackhole 9.9.9.9", "throw 9.9.9.9")

    def gate(name: str, routes: tuple[str, ...] = ("default via 10.0.0.2",), *more: Op, **sysctl: object) -> Case:
        settings = {f"net.ipv4.{k.replace('__', '.')}": v for k, v in sysctl.items()}
        packets = [
            udp("g:eth0", c, "9.9.9.9:53"),
            again(0),
            udp("g:eth1", "9.9.9.9:53", "10.0.0.3:5000"),
            udp("g", None, "9.9.9.9:53"),
            *more,
        ]
        return Case(f"routing {name}", gateway(*rules, routes=routes, sysctl=settings), packets)

    big = [udp("g:eth0", c, "9.9.9.9:1", len=900, df=True), udp("g:eth0", c, "9.9.9.9:1", len=900), udp("g", None, "9.9.9.9:2", len=900, df=True),
           udp("g", None, "9.9.9.9:2", len=900), tcp("g:eth0", c, "9.9.9.9:3", "A", 1, 1, 700), udp("g:eth0", c, "10.0.0.3:1", len=900, df=True)]  # fmt: skip
    return [
        gate("forwarding off, no way", (), ip_forward=0),
        gate("forwarding off", ip_forward=0),
        gate("no way", ()),
        *(gate(f"{k.split()[0]} route", ("default via 10.0.0.2", k)) for k in kinds),
        gate("forwarding off where it comes in", conf__eth0__forwarding=0),
        gate("forwarding off where answers come in", conf__eth1__forwarding=0),
        gate("forwarding off, unreachable", ("unreachable 9.9.9.9",), conf__eth0__forwarding=0),
        gate("too big", ("default via 10.0.0.2 mtu 600",), *big),
        gate(
            "ttl",
            ("default via 10.0.0.2",),
            *[udp("g:eth0", c, "9.9.9.9:53", ttl=n) for n in (0, 1, 2)],
            udp("g:eth0", c, "10.0.0.3:53", ttl=1),
        ),
    ]


def uplinks() -> list[Case]:
    """Traffic that comes in by the second uplink; rp_filter and src_valid_mark."""
    devices: dict[str, str | list[str]] = {"w1": "10.1.0.1/24", "w2": "10.2.0.1/24", "lan": "192.168.1.1/24"}
    main = ("default via 10.1.0.2", "default via 10.2.0.2 table 2")
    lan = (*main, "192.168.1.0/24 dev lan table 2")
    dnat = "-t nat -A PREROUTING -i w2 -p udp --dport 80 -j DNAT --to-destination 192.168.1.10"
    conn = (
        "-t mangle -A PREROUTING -i w2 -j CONNMARK --set-mark 2",
        "-t mangle -A PREROUTING -i lan -j CONNMARK --restore-mark",
    )
    mark = "-t mangle -A PREROUTING -i w2 -j MARK --set-mark 2"
    ask = udp("h:w2", "9.9.9.9:1001", "10.2.0.1:80")

    def up(
        name: str, *rules: str, routes: tuple[str, ...] = main, expect: dict[int, str] | None = None, **sysctl: object
    ) -> Case:
        return one(f"uplinks: {name}", ask, reply(0), again(0), ping("h:w2", "9.9.9.9", "10.2.0.1"), reply(3), policy=("pref 100 fwmark 2 lookup 2",), routes=routes,
                   rules=(dnat, *rules), devices=devices, expect=expect, **sysctl)  # fmt: skip

    return [
        up("no marks", expect={0: "left h:lan", 1: "left h:w1 udp 10.2.0.1"}),
        up("connmark", *conn, expect={1: "left h:w2 udp 10.2.0.1"}),
        up("strict reverse path", *conn, w2__rp_filter=1, expect={0: "nothing"}),
        up("strict reverse path and a mark that does not count", *conn, mark, w2__rp_filter=1, expect={0: "nothing"}),
        up("marked requests go back out", *conn, mark, w2__rp_filter=1, w2__src_valid_mark=1),
        up("marked requests with a way to the LAN", *conn, mark, routes=lan, w2__rp_filter=1, w2__src_valid_mark=1, expect={0: "left h:lan", 1: "left h:w2"}),
        up("the same without src_valid_mark", *conn, mark, routes=lan, w2__rp_filter=1, expect={0: "nothing"}),
        up("loose reverse path", *conn, w2__rp_filter=2, expect={0: "left h:lan", 1: "left h:w2"}),
        up("answers of the host itself", "-t mangle -A PREROUTING -i w2 -j CONNMARK --set-mark 2", "-t mangle -A OUTPUT -j CONNMARK --restore-mark"),
    ]  # fmt: skip


CASES = [*addresses(), *forwarding(), *uplinks()]
