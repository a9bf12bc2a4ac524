"""Hosts of which only the rules are known: what is assumed, and that it is said."""

from __future__ import annotations

from nattrace.sim.model.addr import AF_INET, format_addr, parse_addr
from nattrace.sim.snapshot.infer import FlowFacts, infer_network

RULES = """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d 203.0.113.9/32 -i wan0 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.5:8080
-A POSTROUTING -s 10.0.0.0/8 -o wan0 -j MASQUERADE
-A POSTROUTING -s 10.9.0.0/16 -o vpn0 -j SNAT --to-source 198.51.100.7
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -s 10.0.0.0/24 -i lan0 -j ACCEPT
-A FORWARD -i veth+ ! -o docker0 -j ACCEPT
COMMIT
"""


def ip(text):
    return parse_addr(text)[1]


def inferred(host, **flow):
    return infer_network(host(iptables_save__txt=RULES), FlowFacts(**flow))


def owned(host):
    return {format_addr(a.family, a.local): a.dev for a in host.addresses}


def test_interfaces_and_addresses_come_from_the_rules(host):
    made, said = inferred(host)
    assert list(made.links) == ["lo", "wan0", "vpn0", "lan0"]
    assert owned(made)["203.0.113.9"] == "wan0" and owned(made)["198.51.100.7"] == "vpn0"
    assert owned(made)["127.0.0.1"] == "lo" and "lan0" in owned(made).values()
    assert made.sysctl["net.ipv4.ip_forward"].value == "1"
    assert any("link.json" in text for text in said) and any("forwarding" in text for text in said)


def test_routes_put_networks_where_the_rules_saw_them(host):
    made, said = inferred(host, src=ip("172.16.0.3"), dst=ip("8.8.8.8"), indev="lan1")
    routes = {str(r.prefix): r.nexthops[0].dev for r in made.routes[AF_INET, 254]}
    assert routes == {"0.0.0.0/0": "wan0", "10.0.0.0/24": "lan0", "172.16.0.3/32": "lan1"}
    local = {str(r.prefix) for r in made.routes[AF_INET, 255]}
    assert {"203.0.113.9/32", "198.51.100.7/32", "127.0.0.0/8"} <= local
    assert sum("route.json" in text for text in said) == 3


def test_a_known_network_is_left_alone(host):
    known = host(
        link__json='[{"ifindex":2,"ifname":"eth0","flags":["UP"]}]',
        addr__json='[{"ifname":"eth0","addr_info":[{"family":"inet","local":"10.0.0.1","prefixlen":24}]}]',
        route__json='[{"dst":"default","gateway":"10.0.0.254","dev":"eth0"}]',
    )
    made, said = infer_network(known, FlowFacts())
    assert made is known and said == ()


def test_only_what_is_missing_is_assumed(host):
    known = host(
        route__json='[{"dst":"default","gateway":"10.0.0.254","dev":"eth0"}]', sysctl__txt="net.ipv4.ip_forward = 0\n"
    )
    made, _ = infer_network(known, FlowFacts())
    assert made.sysctl["net.ipv4.ip_forward"].value == "0" and list(made.links) == ["lo", "eth0"]
    assert made.routes[AF_INET, 254] == known.routes[AF_INET, 254]


def test_nothing_known_still_makes_a_host(host):
    made, said = infer_network(host(sysctl__txt=""), FlowFacts(dst=ip("8.8.8.8")))
    assert list(made.links) == ["lo", "eth0"] and made.routes[AF_INET, 254] and said


def test_placeholders_avoid_the_flow(host):
    made, _ = infer_network(host(sysctl__txt=""), FlowFacts(dst=ip("192.0.2.1")))
    assert "192.0.2.1" not in owned(made)


def test_rules_are_looked_at_and_not_read(host):
    only = host(iptables_save__txt=RULES.replace("-s 10.9.0.0/16", "-s 10.9.0.999"))
    made, _ = infer_network(only, FlowFacts())
    assert {"wan0", "vpn0"} <= made.links.keys()
    assert sum(table.unread() for table in only.tables) == sum(1 for t in only.tables for _ in t.texts())


def test_of_many_destinations_only_those_of_the_flow_are_looked_at(host):
    lines = ["*nat", ":PREROUTING ACCEPT [0:0]", ":SERVICES - [0:0]", "-A PREROUTING -j SERVICES"]
    lines += [
        f"-A SERVICES -d 203.0.{n >> 8}.{n & 255}/32 -j DNAT --to-destination 10.1.{n >> 8}.{n & 255}"
        for n in range(1000)
    ]
    made, said = infer_network(
        host(iptables_save__txt="\n".join([*lines, "COMMIT", ""])), FlowFacts(dst=ip("203.0.0.7"), indev="eth0")
    )
    inner = [str(r.prefix) for r in made.routes[AF_INET, 254] if r.prefix.plen == 32]
    assert len(said) < 12 and "203.0.0.7" in owned(made) and not set(inner) - {"10.1.0.7/32"}


def test_chains_that_nothing_jumps_to_say_nothing(host):
    rules = "*filter\n:FORWARD ACCEPT [0:0]\n:DEAD - [0:0]\n-A DEAD -i eth9 -j DROP\nCOMMIT\n"
    made, _ = infer_network(host(iptables_save__txt=rules), FlowFacts(dst=ip("8.8.8.8")))
    assert "eth9" not in made.links


def test_many_assumptions_of_a_kind_are_one_line(host):
    rules = "".join(f"-A FORWARD -s 10.{n}.0.0/16 -i lan0 -j ACCEPT\n" for n in range(20))
    text = f"*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -o wan0 -j ACCEPT\n{rules}COMMIT\n"
    _, said = infer_network(host(iptables_save__txt=text), FlowFacts(dst=ip("8.8.8.8"), indev="lan0"))
    (told,) = [line for line in said if "behind lan0" in line]
    assert "10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16 and 16 more are taken to be behind lan0" in told
