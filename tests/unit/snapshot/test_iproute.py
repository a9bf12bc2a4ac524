"""Dumps of iproute2: both forms mean the same, and mean what the kernel was told."""

from __future__ import annotations

from pathlib import Path

import pytest
from nattrace.sim.errors import ErrorList, SnapshotError
from nattrace.sim.model.addr import AF_INET, AF_INET6, parse_addr, parse_prefix
from nattrace.sim.snapshot.load import load_world

DATA = Path(__file__).parent / "data"
PARTS = ("links", "addresses", "neighbours", "routes", "rules", "nexthops", "unmodelled")


@pytest.fixture(scope="module")
def both():
    (json_host,) = load_world(DATA / "json").hosts.values()
    (text_host,) = load_world(DATA / "plain").hosts.values()
    return json_host, text_host


def ip(text):
    return parse_addr(text)[1]


def route(host, prefix, table=254):
    (found,) = (r for r in host.routes[AF_INET, table] if r.prefix == parse_prefix(prefix))
    return found


def rule(host, priority):
    (found,) = (r for r in host.rules[AF_INET] if r.priority == priority)
    return found


@pytest.mark.parametrize("part", PARTS)
def test_the_plain_form_means_the_same_as_json(both, facts, part):
    assert facts(getattr(both[1], part)) == facts(getattr(both[0], part))


def test_plain_forms_name_the_line(both):
    assert str(route(both[1], "1.0.0.0/8").where) == "route.txt:8"
    assert str(rule(both[1], 100).where) == "rule.txt:2"


@pytest.mark.parametrize("form", (0, 1))
def test_a_link_knows_its_peer(both, form):
    links = both[form].links
    assert links["e0"].peer_ifindex == 2 and links["e0"].peer_netnsid is not None
    assert links["e1"].peer_ifindex == links["e1p"].ifindex and links["e1"].peer_netnsid is None
    assert links["e1"].master == "br0" and links["br0"].kind == "bridge"
    assert not links["e2.5"].carrier and links["e2.5"].group == 7 and links["e2.5"].altnames == ("myalt",)
    assert list(links) == ["lo", "e0", "br0", "e1p", "e1", "mv0", "e2p", "e2.5"]


@pytest.mark.parametrize("form", (0, 1))
def test_addresses_keep_the_kernels_order(both, form):
    own = both[form].addresses_of("e0")
    assert [(a.local, a.secondary) for a in own] == [(ip("10.0.0.1"), False), (ip("10.0.0.2"), True)]
    (far,) = both[form].addresses_of("br0")
    assert (far.local, far.peer, far.plen, far.label) == (ip("10.9.0.1"), ip("10.9.0.2"), 32, "br0:x")
    assert both[form].addresses_of("e2.5")[1].deprecated


@pytest.mark.parametrize("form", (0, 1))
def test_routes_of_every_type(both, form):
    host = both[form]
    full = route(host, "2.0.0.0/8", 77)
    assert (full.metric, full.mtu, full.advmss, full.realm) == (5, 1300, 1200, 3)
    assert full.prefsrc == ip("10.0.0.2") and full.nexthops[0].onlink and full.nexthops[0].via == ip("10.0.0.9")
    assert [r.type for r in host.routes[AF_INET, 99]] == ["throw", "prohibit", "blackhole", "unreachable"]
    assert not any(r.nexthops for r in host.routes[AF_INET, 99])
    assert [(leg.weight, leg.onlink) for leg in route(host, "2.2.0.0/16").nexthops] == [(2, False), (3, True)]
    assert route(host, "5.0.0.0/8").tos == 0x10 and route(host, "5.0.0.0/8").scope == 253
    default = route(host, "0.0.0.0/0").nexthops[0]
    assert (default.via_family, default.via) == (AF_INET6, ip("fe80::1"))
    assert route(host, "10.7.0.0/24").nexthops[0].linkdown
    assert route(host, "127.0.0.0/8", 255).type == "local"


@pytest.mark.parametrize("form", (0, 1))
def test_nexthop_objects_are_resolved_and_kept(both, form):
    host = both[form]
    group = route(host, "6.4.0.0/16")
    assert group.nhid == 14 and [(leg.nhid, leg.weight) for leg in group.nexthops] == [(1, 3), (2, 4)]
    assert route(host, "6.1.0.0/16").resilient and host.nexthops[11].resilient
    assert host.nexthops[3].blackhole and route(host, "6.2.0.0/16").type == "blackhole"
    assert route(host, "6.3.0.0/16").nexthops[0].via == ip("10.0.0.9")


@pytest.mark.parametrize("form", (0, 1))
def test_rules_with_every_selector(both, form):
    host = both[form]
    full = rule(host, 100)
    assert (str(full.src), str(full.dst), full.iif, full.oif) == ("10.0.0.0/8", "1.1.1.1/32", "e0", "e1")
    assert (full.fwmark, full.fwmask, full.tos, full.uid_range, full.ipproto) == (0x10, 0xFF, 0x10, (10, 20), 6)
    assert (full.sport, full.dport, full.table) == ((5, 6), (80, 80), 77)
    assert rule(host, 101).invert and rule(host, 101).suppress_prefixlen == 0
    assert (rule(host, 102).action, rule(host, 102).goto) == ("goto", 500) and rule(host, 500).action == "nop"
    assert [rule(host, p).action for p in (608, 609, 611)] == ["prohibit", "blackhole", "unreachable"]
    assert rule(host, 700).l3mdev and rule(host, 701).suppress_ifgroup == 4
    assert (rule(host, 702).realm, rule(host, 703).realm, rule(host, 704).tun_id) == (3 << 16 | 4, 4, 7)
    assert [r.table for r in host.rules[AF_INET6]] == [255, 77, 254]


def test_neighbours_and_proxies(both):
    states = {n.addr: (n.state, n.proxy) for n in both[0].neighbours}
    assert states[ip("10.0.0.9")] == ("PERMANENT", False) and states[ip("10.0.0.200")] == ("INCOMPLETE", False)
    assert states[ip("10.0.0.77")][1]


def test_a_dump_of_table_main_gets_the_local_table_from_the_addresses(host, data, both, facts):
    """ip route without `table all`: the derived local table is the kernel's own."""
    main = "".join(line + "\n" for line in data("plain/route.txt").split("\n") if "table main" in line)
    derived = host(addr__json=data("json/addr.json"), route__txt=main)
    keys = ("type", "prefix", "prefsrc", "scope")

    def table(from_host):
        found = facts(from_host.routes[AF_INET, 255])
        return sorted(([r[k] for k in keys] + [r["nexthops"][0]["dev"]] for r in found), key=str)

    assert table(derived) == table(both[0])


def test_tables_known_by_name_only_are_the_same_in_rules_and_routes(host):
    found = host(
        route__json='[{"dst":"default","gateway":"10.0.0.1","dev":"e0","table":"vpn"}]',
        rule__json='[{"priority":5,"src":"all","table":"vpn"}]',
    )
    assert (AF_INET, found.rules[AF_INET][0].table) in found.routes


def test_a_selector_that_is_not_known_is_named_as_not_modelled(host):
    found = host(rule__json='[{"priority":5,"src":"all","flowlabel":"0x1","table":"main"}]')
    assert [text for text, _ in found.unmodelled] == ["'flowlabel' of ip rule 5"]


def test_nothing_printed_is_an_empty_dump(host):
    found = host(neigh__json="", nexthop__json="[]\n", rule6__txt="")
    assert found.neighbours == () and found.nexthops == {} and found.files == {"neigh", "nexthop", "rule6"}


def test_every_bad_entry_is_an_error_of_its_own(world):
    with pytest.raises(ErrorList) as caught:
        world({"route.json": '[{"dst":"10.0.0.0/33"},{"dst":"1.2.3.4","dev":5},7]', "rule.txt": "100:\tfrom 1.2.3\n"})
    assert [str(e).split("\n")[0] for e in caught.value.errors] == [
        "route.json: entry 3: expected an object, got '7'",
        "route.json: route 1: prefix length 33 is longer than an address of 32 bits",
        "route.json: route 2: dev: expected a name, got '5'",
        "rule.txt:1: rule: not an address: '1.2.3'",
    ]


def test_json_that_is_cut_off_names_the_line(world):
    with pytest.raises(SnapshotError, match=r"route\.json:2: not JSON"):
        world({"route.json": '[{"dst":"default"},\n{"dst":'})
