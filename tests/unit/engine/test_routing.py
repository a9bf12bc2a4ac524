"""Routing decisions; what is expected was seen on a 6.18 kernel (tests/differential/test_routing_kernel.py at large)."""

from __future__ import annotations

import pytest
from nattrace.sim.engine import exceptions, routing
from nattrace.sim.model.addr import AF_INET, parse_prefix
from nattrace.sim.model.packet import Sk
from nattrace.sim.model.route import FibRule

from .net_world import context, host, ip4, packet, route

ON = {"net.ipv4.ip_forward": "1"}
ADDRESSES = {"eth0": ["10.0.0.2/24"], "eth1": ["10.1.0.2/24"]}
DEFAULT = route("default", "via 10.1.0.1 dev eth1")
RULES = (FibRule(0, table=255), FibRule(32766, table=254), FibRule(32767, table=253))


def with_rules(*rules: FibRule) -> tuple[FibRule, ...]:
    return tuple(sorted((*RULES, *rules), key=lambda rule: rule.priority))


def out(ctx, dst: str, **more):
    return routing.output(ctx, family=AF_INET, dst=ip4(dst), **more)


def test_the_source_is_the_one_of_the_gateways_device() -> None:
    rt = out(context(host("r", ADDRESSES, DEFAULT)), "8.8.8.8")
    assert (rt.kind, rt.dev, rt.gateway, rt.src) == ("unicast", "eth1", ip4("10.1.0.1"), ip4("10.1.0.2"))
    assert rt.text == "rule 32766: from all → table main: default via 10.1.0.1 dev eth1"


def test_an_own_address_is_reached_over_lo() -> None:
    rt = out(context(host("r", ADDRESSES)), "10.1.0.2")
    assert (rt.kind, rt.dev, rt.src) == ("local", "lo", ip4("10.1.0.2"))


@pytest.mark.parametrize(
    ("kind", "errno", "icmp"),
    [("unreachable", 113, (3, 1)), ("prohibit", 13, (3, 13)), ("blackhole", 22, None), ("throw", 101, (3, 0))],
)
def test_a_refusing_route_gives_its_errno_and_its_icmp_error(kind: str, errno: int, icmp: object) -> None:
    ctx = context(host("r", ADDRESSES, route("9.0.0.0/8", kind=kind), sysctl=ON))
    assert out(ctx, "9.1.1.1").errno == errno
    assert routing.input(ctx, packet("10.0.0.7", "9.1.1.1"), "eth0").icmp == icmp


def test_an_unreachable_rule_is_answered_with_net_unreachable() -> None:
    rule = FibRule(5, dst=parse_prefix("9.0.0.0/8"), action="unreachable")
    rt = routing.input(
        context(host("r", ADDRESSES, rules=with_rules(rule), sysctl=ON)), packet("10.0.0.7", "9.9.9.9"), "eth0"
    )
    assert (rt.kind, rt.errno, rt.icmp) == ("unreachable", 101, (3, 0))


def test_a_device_without_a_route_is_taken_to_have_the_destination_on_its_link() -> None:
    rt = out(context(host("r", ADDRESSES)), "9.9.9.9", oif="eth0")
    assert (rt.dev, rt.gateway, rt.src) == ("eth0", None, ip4("10.0.0.2"))


def test_a_foreign_source_is_refused_unless_transparent() -> None:
    ctx = context(host("r", ADDRESSES, DEFAULT))
    assert out(ctx, "8.8.8.8", src=ip4("9.9.9.9")).errno == 101
    assert out(ctx, "8.8.8.8", src=ip4("9.9.9.9"), transparent=True).ok


def test_without_forwarding_nothing_is_answered_even_if_the_route_refuses() -> None:
    ctx = context(host("r", ADDRESSES, route("9.0.0.0/8", kind="prohibit"), sysctl={"net.ipv4.ip_forward": "0"}))
    rt = routing.input(ctx, packet("10.0.0.7", "9.1.1.1"), "eth0")
    assert (rt.kind, rt.icmp, rt.reason.code) == ("drop", None, "ip_forward_disabled")


def test_forwarding_can_be_off_on_one_interface_alone() -> None:
    ctx = context(host("r", ADDRESSES, DEFAULT, sysctl={**ON, "net.ipv4.conf.eth0.forwarding": "0"}))
    assert routing.input(ctx, packet("10.0.0.7", "8.8.8.8"), "eth0").reason.code == "forwarding_disabled_on_interface"
    assert routing.input(ctx, packet("10.1.0.7", "10.0.0.9"), "eth1").kind == "unicast"


@pytest.mark.parametrize(
    ("src", "dst", "code"),
    [
        ("224.1.1.1", "10.0.0.2", "martian_source"),
        ("255.255.255.255", "10.0.0.2", "martian_source"),
        ("0.0.0.0", "10.0.0.2", "martian_source"),
        ("10.0.0.7", "0.0.0.0", "martian_destination"),
        ("10.0.0.7", "127.0.0.1", "route_localnet_off"),
        ("127.0.0.1", "10.0.0.2", "route_localnet_off"),
        ("10.1.0.2", "10.0.0.2", "accept_local_off"),
    ],
)
def test_martians_are_dropped(src: str, dst: str, code: str) -> None:
    rt = routing.input(context(host("r", ADDRESSES, DEFAULT, sysctl=ON)), packet(src, dst), "eth0")
    assert (rt.kind, rt.icmp, rt.reason.code) == ("drop", None, code)


def test_the_rest_of_network_zero_is_ordinary() -> None:
    ctx = context(host("r", ADDRESSES, DEFAULT, sysctl=ON))
    assert routing.input(ctx, packet("0.0.0.1", "0.1.2.3"), "eth0").kind == "unicast"


@pytest.mark.parametrize(("value", "src", "passes"), [("1", "10.1.0.7", False), ("1", "10.0.0.7", True),
                                                      ("2", "10.1.0.7", True), ("0", "10.1.0.7", True)])  # fmt: skip
def test_rp_filter_asks_for_the_way_back(value: str, src: str, passes: bool) -> None:
    ctx = context(host("r", ADDRESSES, DEFAULT, sysctl={**ON, "net.ipv4.conf.eth0.rp_filter": value}))
    rt = routing.input(ctx, packet(src, "8.8.8.8"), "eth0")
    assert rt.ok is passes
    if not passes:
        assert (rt.errno, rt.reason.code) == (18, "rp_filter")


def test_rp_filter_runs_after_the_lookup_so_that_no_route_is_answered_first() -> None:
    ctx = context(host("r", ADDRESSES, sysctl={**ON, "net.ipv4.conf.all.rp_filter": "1"}))
    assert routing.input(ctx, packet("10.1.0.7", "8.8.8.8"), "eth0").icmp == (3, 0)


def test_the_mark_steers_the_way_back_only_with_src_valid_mark() -> None:
    rules = with_rules(FibRule(10, fwmark=1, table=100))
    back = route("default", "via 10.0.0.1 dev eth0", table=100)
    for valid in ("0", "1"):
        settings = {"net.ipv4.conf.all.rp_filter": "1", "net.ipv4.conf.eth0.src_valid_mark": valid}
        ctx = context(host("r", ADDRESSES, DEFAULT, back, rules=rules, sysctl=settings))
        skb = packet("8.8.8.8", "10.0.0.2")
        skb.mark = 1
        assert routing.input(ctx, skb, "eth0").ok is (valid == "1")


def test_a_broadcast_source_is_martian_only_once_a_policy_rule_was_touched() -> None:
    skb = packet("10.1.0.255", "10.0.0.2")
    plain = context(host("r", ADDRESSES))
    assert routing.input(plain, skb, "eth0").ok
    assert "r:custom rules 2" in plain.run.assumed
    ruled = context(host("r", ADDRESSES, rules=with_rules(FibRule(10, fwmark=1, table=100))))
    assert routing.input(ruled, skb, "eth0").reason.code == "martian_source"


def test_without_rules_a_longer_prefix_of_main_beats_table_local() -> None:
    routes = (route("20.0.0.0/8", "dev lo", table=255, kind="local"), route("20.1.0.0/16", "via 10.0.0.1 dev eth0"))
    assert out(context(host("r", ADDRESSES, *routes)), "20.1.1.1").kind == "unicast"
    ruled = host("r", ADDRESSES, *routes, rules=with_rules(FibRule(10, fwmark=1, table=100)))
    assert out(context(ruled), "20.1.1.1").kind == "local"


def test_a_rule_for_ports_applies_to_received_packets_only_if_it_is_not_for_iif_lo() -> None:
    table = route("default", "via 10.0.0.1 dev eth0", table=100)
    for iif, dev in (("lo", "eth1"), (None, "eth0")):
        rule = FibRule(10, dport=(53, 53), ipproto=17, iif=iif, table=100)
        ctx = context(host("r", ADDRESSES, DEFAULT, table, rules=with_rules(rule), sysctl=ON))
        assert routing.input(ctx, packet("10.1.0.9", "8.8.8.8"), "eth1").dev == dev
        assert out(ctx, "8.8.8.8", proto=17, dport=53).dev == "eth0"


def test_rerouting_counts_as_user_zero_and_keeps_the_source() -> None:
    table = route("default", "via 10.0.0.1 dev eth0", table=100)
    ctx = context(
        host("r", ADDRESSES, DEFAULT, table, rules=with_rules(FibRule(10, uid_range=(1000, 1000), table=100)))
    )
    assert out(ctx, "8.8.8.8", uid=1000).dev == "eth0"
    skb = packet("10.0.0.2", "8.8.8.8")
    skb.sk = Sk(uid=1000)
    rt = routing.reroute(ctx, skb)
    assert (rt.dev, rt.src) == ("eth1", ip4("10.0.0.2"))


def test_rerouting_a_socket_bound_to_a_device_stays_on_it() -> None:
    skb = packet("10.0.0.2", "8.8.8.8")
    skb.sk = Sk(bound_dev="eth0")
    assert routing.reroute(context(host("r", ADDRESSES, DEFAULT)), skb).dev == "eth0"


def test_a_sender_on_the_link_is_redirected() -> None:
    ctx = context(host("r", ADDRESSES, DEFAULT, sysctl=ON))
    assert routing.input(ctx, packet("10.1.0.7", "8.8.8.8"), "eth1").redirect
    assert not routing.input(ctx, packet("10.0.0.7", "8.8.8.8"), "eth0").redirect
    off = {**ON, "net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf.eth1.send_redirects": "0"}
    assert not routing.input(
        context(host("r", ADDRESSES, DEFAULT, sysctl=off)), packet("10.1.0.7", "8.8.8.8"), "eth1"
    ).redirect


def test_address_types() -> None:
    ctx = context(host("r", ADDRESSES))
    types = {
        "10.0.0.2": "LOCAL", "10.0.0.255": "BROADCAST", "10.0.0.9": "UNICAST", "224.0.0.5": "MULTICAST",
        "255.255.255.255": "BROADCAST", "0.0.0.0": "BROADCAST", "8.8.8.8": "UNICAST", "127.9.9.9": "LOCAL",
    }  # fmt: skip
    assert {text: routing.addr_type(ctx, AF_INET, ip4(text)) for text in types} == types
    assert routing.addr_type(ctx, AF_INET, ip4("10.0.0.2"), "eth1") == "UNICAST"


def test_the_rpfilter_match_ignores_the_mark_unless_told() -> None:
    table = route("default", "via 10.0.0.1 dev eth0", table=100)
    ctx = context(host("r", ADDRESSES, DEFAULT, table, rules=with_rules(FibRule(10, fwmark=1, table=100))))
    skb = packet("8.8.8.8", "10.0.0.2")
    skb.mark = 1
    assert not routing.reverse_path_ok(ctx, skb, "eth0")
    assert routing.reverse_path_ok(ctx, skb, "eth0", validmark=True)
    assert routing.reverse_path_ok(ctx, skb, "eth0", loose=True)
    assert routing.reverse_path_ok(ctx, skb, "lo")


MULTI = route("default", "via 10.0.0.1 dev eth0 weight 3", "via 10.1.0.1 dev eth1 weight 1")


def options_of(ctx) -> list[float | None]:
    return [option.probability for option in ctx.run.choices[0].options]


def test_a_leg_is_chosen_by_weight_and_kept_for_the_flow() -> None:
    ctx = context(host("r", ADDRESSES, MULTI), prefix=(1,))
    assert out(ctx, "8.8.8.8").dev == "eth1"
    assert options_of(ctx) == pytest.approx([0.75, 0.25])
    assert out(ctx, "8.8.8.8").dev == "eth1"
    assert len(ctx.run.choices) == 1


def test_what_is_known_of_a_hash_also_decides_another_route() -> None:
    ctx = context(host("r", ADDRESSES, MULTI, route("default", "via 10.0.0.1 dev eth0", "via 10.1.0.1 dev eth1", table=100),
                       rules=with_rules(FibRule(10, fwmark=1, table=100))), prefix=(1,))  # fmt: skip
    assert out(ctx, "8.8.8.8").dev == "eth1"  # the last quarter of the hashes
    assert out(ctx, "8.8.8.8", mark=1).dev == "eth1"  # which lies in the second half
    assert len(ctx.run.choices) == 1


def test_a_bound_source_prefers_its_uplink_since_6_16() -> None:
    new = context(host("r", ADDRESSES, MULTI))
    assert out(new, "8.8.8.8", src=ip4("10.1.0.2")).dev == "eth1"
    assert not new.run.choices
    old = context(host("r", ADDRESSES, MULTI, kernel=(6, 12)))
    out(old, "8.8.8.8", src=ip4("10.1.0.2"))
    assert options_of(old) == pytest.approx([0.75, 0.25])


def test_both_directions_of_a_flow_hash_alike() -> None:
    back = route("10.0.0.128/25", "via 10.0.0.1 dev eth0 weight 3", "via 10.1.0.1 dev eth1 weight 1")
    ctx = context(host("r", ADDRESSES, MULTI, back, sysctl=ON), prefix=(1,))
    assert routing.input(ctx, packet("10.0.0.200", "8.8.8.8"), "eth0").dev == "eth1"
    assert routing.input(ctx, packet("8.8.8.8", "10.0.0.200"), "eth1").dev == "eth1"
    assert len(ctx.run.choices) == 1


def test_a_learned_path_mtu_binds_the_sender_and_not_the_forwarder() -> None:
    ctx = context(host("r", ADDRESSES, DEFAULT, sysctl=ON))
    error = packet("10.1.0.1", "10.1.0.2", proto=1)
    error.inner, error.icmp_mtu = packet("10.1.0.2", "8.8.8.8"), 1400
    assert routing.learn_pmtu(ctx, error) == "path MTU 1400 for 600 s"
    assert out(ctx, "8.8.8.8").mtu == 1400
    assert routing.input(ctx, packet("10.0.0.7", "8.8.8.8"), "eth0").mtu == 1500
    ctx.ws.now = 601.0
    assert out(ctx, "8.8.8.8").mtu == 1500


def test_a_redirect_counts_only_from_the_gateway_in_use() -> None:
    for sender, taken in (("10.1.0.9", False), ("10.1.0.1", True)):
        ctx = context(host("r", ADDRESSES, DEFAULT)).at(1, "eth1", None)
        ctx.hs.neigh["eth1", ip4("10.1.0.77")] = "ok"
        error = packet(sender, "10.1.0.2", proto=1)
        error.inner, error.icmp_code, error.icmp_gateway = packet("10.1.0.2", "8.8.8.8"), 1, ip4("10.1.0.77")
        assert (routing.learn_redirect(ctx, error) == "") is taken
        assert out(ctx, "8.8.8.8").gateway == ip4("10.1.0.77" if taken else "10.1.0.1")
        assert exceptions.accepts_redirects(ctx, "eth1")


def test_a_leg_whose_device_is_down_is_not_used() -> None:
    base = host("r", ADDRESSES, MULTI)
    from dataclasses import replace

    down = base.with_(links={**base.links, "eth0": replace(base.links["eth0"], up=False)})
    assert out(context(down), "8.8.8.8").dev == "eth1"


def test_goto_and_suppress() -> None:
    rules = with_rules(
        FibRule(10, action="goto", goto=30), FibRule(20, action="blackhole"), FibRule(30, table=254, suppress_prefixlen=0),
        FibRule(40, table=100),
    )  # fmt: skip
    table = route("default", "via 10.0.0.1 dev eth0", table=100)
    ctx = context(host("r", ADDRESSES, DEFAULT, table, rules=rules))
    assert out(ctx, "8.8.8.8").dev == "eth0"
    assert out(ctx, "10.1.0.9").dev == "eth1"
