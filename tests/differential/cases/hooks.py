"""Order and verdicts of tables and chains, both backends at once; targets that copy or take packets over."""

from __future__ import annotations

from . import Case, error, gateway, host, ping, reply, states, tcp, udp

C = "192.168.1.10"
ALL = [("raw", "PREROUTING"), ("raw", "OUTPUT"), *(("mangle", c) for c in ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")),
       *(("nat", c) for c in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")), *((t, c) for t in ("filter", "security") for c in ("INPUT", "FORWARD", "OUTPUT"))]  # fmt: skip
COUNT = tuple(f"-t {t} -A {c}" for t, c in ALL)
WALK = [udp("g:eth0", f"{C}:1", "9.9.9.9:53"), reply(0), udp("g:eth0", f"{C}:1", "10.0.0.1:99"), udp("g", None, "9.9.9.9:53"), reply(3), ping("g", None, "10.0.0.1"),
        tcp("g:eth0", f"{C}:1", "10.0.0.1:22"), reply(6), udp("g:eth1", "9.9.9.9:9", "10.0.0.1:9"), udp("g:eth0", f"{C}:1", "9.9.9.9:53", ttl=1), error(0)]  # fmt: skip
MASQ = "-t nat -A POSTROUTING -o eth1 -j MASQUERADE"

ORDER = (
    "-t nat -A INPUT -p udp -j SNAT --to-source 192.168.1.99",
    "-t security -A INPUT -s 192.168.1.99",
    "-t security -A INPUT -p udp --dport 54 -j DROP",
)

CASES = [
    Case("hooks that a packet meets", gateway(*COUNT, listen=("tcp 22",)), WALK),
    Case("hooks with tracking", gateway(*COUNT, MASQ, listen=("tcp 22",)), WALK),
    Case("hooks with both backends", gateway(*COUNT, legacy=(*COUNT, MASQ), listen=("tcp 22",)), WALK),
    Case("hooks of legacy only", gateway(legacy=(*COUNT, MASQ), listen=("tcp 22",)), WALK),
    *(Case(f"hooks: security and nat of INPUT, {name}", gateway(*rules) if kind == "nft" else gateway(legacy=rules), [udp("g:eth0", f"{C}:1", "192.168.1.1:53"), udp("g:eth0", f"{C}:1", "192.168.1.1:54")])
      for name, kind, rules in (("nf_tables", "nft", ORDER), ("legacy", "legacy", ORDER))),
    Case("hooks: DNAT of both backends", gateway("-t nat -A PREROUTING -p udp -j DNAT --to-destination 10.0.0.8", legacy=("-t nat -A PREROUTING -p udp -j DNAT --to-destination 10.0.0.9",)),
         [udp("g:eth0", f"{C}:1", "9.9.9.9:53"), reply(0), udp("g:eth0", f"{C}:2", "9.9.9.9:53")]),
    Case("hooks: ACCEPT in one nat table is not the end", gateway("-t nat -A POSTROUTING -j ACCEPT", legacy=(MASQ,)), [udp("g:eth0", f"{C}:1", "9.9.9.9:53")],
         {0: "10.0.0.1→9.9.9.9"}),
    Case("hooks: a nat table that only accepts tracks nothing", gateway("-t nat -A POSTROUTING -j ACCEPT", "-t nat -A PREROUTING -j ACCEPT"), [udp("g:eth0", f"{C}:1", "9.9.9.9:53"), reply(0)]),
    Case("hooks: jumps, gotos and returns", gateway(
        "-t filter -N A", "-t filter -N B", "-t filter -P FORWARD DROP", "-t filter -A A -p udp --dport 1 -j RETURN", "-t filter -A A -p udp --dport 2 -g B", "-t filter -A A -p udp --dport 3 -j B",
        "-t filter -A A -p udp --dport 4 -j ACCEPT", "-t filter -A A", "-t filter -A B -p udp --dport 3 -j RETURN", "-t filter -A B", "-t filter -A FORWARD -p udp --dport 5 -g A",
        "-t filter -A FORWARD -j A", "-t filter -A FORWARD -p udp --dport 6 -j RETURN", "-t filter -A FORWARD -p udp --dport 2 -j ACCEPT", "-t filter -A FORWARD"),
         [udp("g:eth0", f"{C}:1", f"9.9.9.9:{n}") for n in range(1, 8)], {0: "nothing", 1: "left", 3: "left"}),
    Case("hooks: TEE", gateway("-t mangle -A PREROUTING -p udp --dport 1 -j TEE --gateway 10.0.0.77", "-t mangle -A POSTROUTING -p udp --dport 2 -j TEE --gateway 192.168.1.77",
                               "-t mangle -A FORWARD -p udp --dport 3 -j TEE --gateway 10.0.0.77", "-t mangle -A OUTPUT -p udp --dport 4 -j TEE --gateway 10.0.0.77",
                               "-t mangle -A INPUT -p udp --dport 5 -j TEE --gateway 10.0.0.77", *states("OUTPUT"), *states("POSTROUTING"), MASQ),
         [*[udp("g:eth0", f"{C}:1", f"9.9.9.9:{n}") for n in (1, 2, 3)], udp("g", None, "9.9.9.9:4"), udp("g:eth0", f"{C}:1", "10.0.0.1:5"), reply(0)]),
    Case("hooks: TEE to a gateway behind a gateway", {
        "g": host({"eth0": "192.168.1.1/24", "eth1": "10.0.0.1/24"}, "-t mangle -A PREROUTING -p udp --dport 1 -j TEE --gateway 172.16.5.5", routes=("default via 10.0.0.2",)),
        "b": host({"eth0": "10.0.0.2/24", "eth1": "10.9.0.1/24"}, *states("FORWARD"), routes=("default via 10.9.0.9", "192.168.1.0/24 via 10.0.0.1"))},
         [udp("g:eth0", f"{C}:1", "192.168.1.77:1"), udp("g:eth0", f"{C}:1", "9.9.9.9:1")], segments={"m": ["g:eth1", "b:eth0"]}),
    Case("hooks: TPROXY", {"g": host({"eth0": "192.168.1.1/24", "eth1": "10.0.0.1/24"}, "-t mangle -A PREROUTING -i eth0 -p udp --dport 53 -j TPROXY --on-port 8153 --on-ip 127.0.0.1 --tproxy-mark 1",
        "-t mangle -A PREROUTING -i eth0 -p udp --dport 53 -m mark --mark 1", "-t mangle -A PREROUTING -i eth0 -p tcp --dport 80 -j TPROXY --on-port 8080 --tproxy-mark 1",
        "-t filter -A INPUT", "-t filter -A FORWARD", routes=("default via 10.0.0.2", "local default dev lo table 100"), policy=("pref 100 fwmark 1 lookup 100",)),
        }, [udp("g:eth0", f"{C}:1", "9.9.9.9:53"), tcp("g:eth0", f"{C}:1", "9.9.9.9:80"), udp("g:eth0", f"{C}:1", "9.9.9.9:54")], {0: "nothing", 1: "nothing"}),
    Case("hooks: mark of a packet in its host only", {
        "a": host({"eth0": "10.1.0.1/24", "eth1": "10.2.0.1/24"}, "-t mangle -A PREROUTING -j MARK --set-mark 5", "-t mangle -A POSTROUTING -m mark --mark 5", routes=("default via 10.2.0.2",)),
        "b": host({"eth0": "10.2.0.2/24", "eth1": "10.3.0.1/24"}, "-t mangle -A PREROUTING -m mark --mark 5", "-t mangle -A PREROUTING -m mark --mark 0", routes=("default via 10.3.0.9", "10.1.0.0/24 via 10.2.0.1"))},
        [udp("a:eth0", "10.1.0.9:1", "9.9.9.9:2"), reply(0), udp("a", None, "10.3.0.1:4", mark=5)], segments={"m": ["a:eth1", "b:eth0"]}),
    Case("hooks: NAT of both hosts", {
        "a": host({"eth0": "10.1.0.1/24", "eth1": "10.2.0.1/24"}, "-t nat -A POSTROUTING -o eth1 -j MASQUERADE", *states("FORWARD"), routes=("default via 10.2.0.2",)),
        "b": host({"eth0": "10.2.0.2/24", "eth1": "10.3.0.1/24"}, "-t nat -A POSTROUTING -o eth1 -j MASQUERADE", "-t nat -A PREROUTING -d 8.8.8.8 -j DNAT --to-destination 10.3.0.50", *states("FORWARD"), routes=("default via 10.3.0.9",))},
        [udp("a:eth0", "10.1.0.9:4000", "8.8.8.8:53"), udp("a:eth0", "10.1.0.10:4000", "8.8.8.8:53"), reply(0), reply(1), error(0), udp("b:eth1", "10.3.0.50:4000", "10.2.0.1:9"), udp("a:eth0", "10.1.0.9:4000", "8.8.8.8:9", ttl=2)],
        {0: "left b:eth1 udp 10.3.0.1→10.3.0.50", 2: "8.8.8.8→10.1.0.9"}, {"m": ["a:eth1", "b:eth0"]}),
    Case("hooks: timeouts, limits and quotas in time", gateway("-t filter -A FORWARD -p udp -m limit --limit 1/hour --limit-burst 2 -j ACCEPT", "-t filter -A FORWARD -p udp -m statistic --mode nth --every 3 --packet 1",
        "-t filter -A FORWARD -p udp -m quota --quota 60 -j ACCEPT", "-t filter -A FORWARD -p udp -j DROP"), [udp("g:eth0", f"{C}:1", f"9.9.9.9:{n}") for n in range(8)]),
]  # fmt: skip
