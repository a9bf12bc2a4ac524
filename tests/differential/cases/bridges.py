"""A bridge whose frames meet iptables (br_netfilter): switched, routed, translated back onto the bridge."""

from __future__ import annotations

from . import Case, Op, again, host, ping, reply, snapshot, states, tcp, udp

ONE, TWO, SELF = "172.17.0.2", "172.17.0.3", "172.17.0.1"
WATCH = (*states("PREROUTING"), *states("FORWARD"), *states("INPUT"), *states("OUTPUT"), *states("POSTROUTING"))
PHYSDEV = tuple(
    f"-t mangle -A {chain} -m physdev {words}"
    for chain in ("PREROUTING", "INPUT", "FORWARD", "POSTROUTING")
    for words in (
        "--physdev-in port1",
        "! --physdev-in port1",
        "--physdev-is-in",
        "! --physdev-is-in",
        "--physdev-is-bridged",
        "! --physdev-is-bridged",
        *(("--physdev-out port2", "! --physdev-out port2") if chain in ("FORWARD", "POSTROUTING") else ()),
    )
)


def one(name: str, rules: tuple[str, ...], *packets: Op, expect: dict[int, str] | None = None, forward: int = 1,
        listen: tuple[str, ...] = (), **sysctl: object) -> Case:  # fmt: skip
    """``h`` has a bridge with ``c`` behind port1 and ``d`` behind port2, and an uplink."""
    settings = {"net.ipv4.ip_forward": forward, **{k.replace("__", "-"): v for k, v in sysctl.items()}}
    hub = host(
        {"br0": f"{SELF}/16", "eth1": "10.0.0.1/24"},
        *rules,
        routes=("default via 10.0.0.2",),
        sysctl=settings,
        listen=listen,
    )
    hub["interfaces"]["br0"]["bridge"] = True
    ends = {
        name: host({"eth0": f"{address}/16"}, routes=(f"default via {SELF}",), listen=("udp 53", "tcp 80"))
        for name, address in (("c", ONE), ("d", TWO))
    }
    wires = {"lan": ["h:br0", "c:eth0", "d:eth0"]}
    return Case(f"bridge {name}", {"h": hub, **ends}, list(packets), expect or {}, wires)


def switched() -> list[Case]:
    talk = (udp("c", None, f"{TWO}:53"), reply(0), again(0), ping("c", None, TWO), udp("d", None, f"{ONE}:53"))
    return [
        one("frames between two ports", (*WATCH, *PHYSDEV), *talk, expect={0: "d"}),
        one("policy DROP of FORWARD", ("-P FORWARD DROP",), *talk),
        one("frames are dropped by a rule", ("-t filter -A FORWARD -i br0 -o br0 -p udp -j DROP", *WATCH), *talk),
        one("frames are refused", ("-t filter -A FORWARD -p udp -j REJECT", "-t filter -A FORWARD -p tcp -j REJECT --reject-with tcp-reset", *WATCH), *talk, tcp("c", None, f"{TWO}:80"), tcp("d", None, f"{ONE}:81")),
        one("without forwarding", (*WATCH,), *talk, udp("c", None, "9.9.9.9:53"), forward=0),
        one("switched off", (*WATCH, *PHYSDEV), *talk, udp("c", None, "9.9.9.9:53"), **{"net.bridge.bridge__nf__call__iptables": 0}),
        one("sources are translated", ("-t nat -A POSTROUTING -o br0 -j MASQUERADE", *WATCH), *talk),
        one("sources are translated to one of nobody", ("-t nat -A POSTROUTING -s 172.17.0.2 -j SNAT --to-source 172.17.0.77", *WATCH), *talk),
        one("the router's own", (*WATCH, *PHYSDEV), udp("h", None, f"{ONE}:53"), reply(0), udp("c", None, f"{SELF}:53"), tcp("c", None, f"{SELF}:80"), listen=("udp 53",)),
        one("marks, ttl and tos are set on switched frames", ("-t mangle -A FORWARD -j TTL --ttl-set 9", "-t mangle -A PREROUTING -j TOS --set-tos 8", "-t mangle -A POSTROUTING -j DSCP --set-dscp 12", *WATCH), *talk, udp("c", None, f"{TWO}:53", ttl=1)),
    ]  # fmt: skip


def translated() -> list[Case]:
    service = ("-t nat -A PREROUTING -d 172.30.0.1 -p udp --dport 53 -j DNAT --to-destination 172.17.0.3:53", "-t nat -A PREROUTING -d 172.30.0.1 -p tcp --dport 80 -j DNAT --to-destination 172.17.0.3:80",
               "-t nat -A PREROUTING -d 10.0.0.1 -p udp --dport 53 -j DNAT --to-destination 172.17.0.2:53")  # fmt: skip
    masq = "-t nat -A POSTROUTING -s 172.17.0.0/16 -d 172.17.0.0/16 -j MASQUERADE"
    out = "-t nat -A POSTROUTING -s 172.17.0.0/16 -o eth1 -j MASQUERADE"
    back = "-t nat -A PREROUTING -s 172.17.0.2 -d 172.17.0.3 -p udp --dport 54 -j DNAT --to-destination {}"
    talk = (
        udp("c", None, "172.30.0.1:53"),
        reply(0),
        again(0),
        tcp("c", None, "172.30.0.1:80"),
        udp("c", None, "10.0.0.1:53"),
        udp("d", None, "10.0.0.1:53"),
        reply(5),
        udp("c", None, "172.30.0.1:53", ttl=1),
    )
    return [
        one("a service behind the same bridge", (*service, *WATCH, *PHYSDEV), *talk),
        one("a service behind the same bridge, sources translated", (*service, masq, *WATCH), *talk),
        one("a service behind the same bridge, no forwarding", (*service, masq, *WATCH), *talk, forward=0),
        one("a service behind the same bridge, switched off", (*service, masq, *WATCH), *talk, **{"net.bridge.bridge__nf__call__iptables": 0}),
        one("out into the world", (out, *WATCH, *PHYSDEV), udp("c", None, "9.9.9.9:53"), reply(0), tcp("d", None, "9.9.9.9:80"), ping("c", None, "9.9.9.9"), reply(3), udp("c", None, "9.9.9.9:53", ttl=1)),
        one("what comes from outside", ("-t nat -A PREROUTING -i eth1 -d 10.0.0.1 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.3:80", *WATCH, *PHYSDEV), tcp("h:eth1", "77.7.7.7:1", "10.0.0.1:8080"), reply(0), udp("h:eth1", "77.7.7.7:1", "172.17.0.2:53"), reply(2)),
        one("frames that are turned to the world", (back.format("9.9.9.9"), out, *WATCH, *PHYSDEV), udp("c", None, f"{TWO}:54"), reply(0), again(0)),
        one("frames that are turned to the router", (back.format(f"{SELF}:53"), *WATCH, *PHYSDEV), udp("c", None, f"{TWO}:54"), reply(0), again(0), listen=("udp 53",)),
        one("frames that are redirected", ("-t nat -A PREROUTING -p udp --dport 54 -j REDIRECT --to-ports 53", *WATCH), udp("c", None, f"{TWO}:54"), reply(0), again(0), listen=("udp 53",)),
        one("frames that are turned to nobody", (back.format("172.17.0.99"), *WATCH), udp("c", None, f"{TWO}:54"), udp("c", None, f"{TWO}:53")),
        one("what is for the router is turned to nobody", ("-t nat -A PREROUTING -d 172.30.0.1 -j DNAT --to-destination 172.17.0.99", *WATCH), udp("c", None, "172.30.0.1:54")),
        one("a service that is its own client", (*service, masq, *WATCH), udp("d", None, "172.30.0.1:53"), tcp("d", None, "172.30.0.1:80"), udp("c", None, "172.30.0.1:53")),
        one("a service that is its own client, hairpin", (*service, masq, *WATCH), snapshot("h ip link set port2 type bridge_slave hairpin on"), udp("d", None, "172.30.0.1:53"), reply(1), tcp("d", None, "172.30.0.1:80"), udp("c", None, "10.0.0.1:53")),
        one("frames that are turned to nowhere", (back.format("240.0.0.1"), *WATCH), udp("c", None, f"{TWO}:54")),
        one("frames that are refused, routed", ("-t filter -A FORWARD -p udp -j REJECT", "-t filter -A FORWARD -p tcp -j REJECT --reject-with tcp-reset", "-t filter -A INPUT -p tcp -j REJECT --reject-with tcp-reset", *WATCH),
            tcp("c", None, "9.9.9.9:80"), udp("c", None, "9.9.9.9:80"), tcp("c", None, f"{SELF}:80"), tcp("h:eth1", "77.7.7.7:1", "172.17.0.2:80")),
    ]  # fmt: skip


CASES = [*switched(), *translated()]
