"""DNAT, SNAT, MASQUERADE, REDIRECT, NETMAP hand engine.nat the range that they were written with; CT and NOTRACK."""

from __future__ import annotations

from typing import Any

import pytest
from nattrace.sim.engine import nat
from nattrace.sim.engine.nat import (
    MANIP_DST,
    MANIP_SRC,
    NF_NAT_RANGE_MAP_IPS,
    NF_NAT_RANGE_PERSISTENT,
    NF_NAT_RANGE_PROTO_OFFSET,
    NF_NAT_RANGE_PROTO_RANDOM,
    NF_NAT_RANGE_PROTO_RANDOM_FULLY,
    NF_NAT_RANGE_PROTO_SPECIFIED,
    NatRange,
)
from nattrace.sim.model.conntrack import IP_CT_UNTRACKED
from nattrace.sim.model.rule import V_ACCEPT
from unit.targets.vocabulary import context, ip, packet, read, tracked

MAP, PROTO, OFFSET = NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED, NF_NAT_RANGE_PROTO_OFFSET
RANDOM, FULLY, PERSIST = NF_NAT_RANGE_PROTO_RANDOM, NF_NAT_RANGE_PROTO_RANDOM_FULLY, NF_NAT_RANGE_PERSISTENT
A, B = ip("10.0.0.5"), ip("10.0.0.9")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    monkeypatch.setattr(nat, "setup_info", lambda ctx, skb, rng, manip: calls.append((rng, manip)) or V_ACCEPT)
    monkeypatch.setattr(nat, "masquerade", lambda ctx, skb, rng: calls.append((rng, "masquerade")) or V_ACCEPT)
    monkeypatch.setattr(nat, "redirect", lambda ctx, skb, rng: calls.append((rng, "redirect")) or V_ACCEPT)
    return calls


@pytest.mark.parametrize(
    ("rule", "chain", "rng", "manip"),
    [
        ("-j DNAT --to-destination 10.0.0.5", "PREROUTING", NatRange(A, A, 0, 0, 0, MAP), MANIP_DST),
        ("-p tcp -j DNAT --to-destination 10.0.0.5-10.0.0.9:80-90 --random --persistent", "OUTPUT",
         NatRange(A, B, 80, 90, 0, MAP | PROTO | RANDOM | PERSIST), MANIP_DST),
        ("-p tcp -j DNAT --to-destination 10.0.0.5:8000-8010/5000", "PREROUTING",
         NatRange(A, A, 8000, 8010, 5000, MAP | PROTO | OFFSET), MANIP_DST),
        ("-p udp -j DNAT --to-destination :53", "PREROUTING", NatRange(0, 0, 53, 53, 0, PROTO), MANIP_DST),
        ("-p udp -j SNAT --to-source 10.0.0.5:1000-2000 --random-fully", "INPUT",
         NatRange(A, A, 1000, 2000, 0, MAP | PROTO | FULLY), MANIP_SRC),
        ("-p tcp -j MASQUERADE --to-ports 1000-2000 --random", "POSTROUTING",
         NatRange(0, 0, 1000, 2000, 0, PROTO | RANDOM), "masquerade"),
        ("-j MASQUERADE", "POSTROUTING", NatRange(0, 0, 0, 0, 0, 0), "masquerade"),
        ("-p tcp -j REDIRECT --to-ports 8080", "PREROUTING", NatRange(0, 0, 8080, 8080, 0, PROTO), "redirect"),
    ],
)  # fmt: skip
def test_a_nat_target_asks_for_the_range_it_was_written_with(
    rule: str, chain: str, rng: NatRange, manip: Any, asked: list[Any]
) -> None:
    target = read(rule, "nat", chain)
    assert target.tracks and target.terminal
    assert target.apply(packet(), context(chain)) == V_ACCEPT
    assert asked == [(rng, manip)]


@pytest.mark.parametrize(
    ("hook", "manip", "mapped"),
    [
        ("PREROUTING", MANIP_DST, "10.5.0.9"),
        ("OUTPUT", MANIP_DST, "10.5.0.9"),
        ("POSTROUTING", MANIP_SRC, "10.5.0.2"),
        ("INPUT", MANIP_SRC, "10.5.0.2"),
    ],
)
def test_netmap_keeps_the_host_bits(hook: str, manip: int, mapped: str, asked: list[Any]) -> None:
    read("-j NETMAP --to 10.5.0.0/24", "nat").apply(packet(), context(hook))
    assert asked == [(NatRange(ip(mapped), ip(mapped), 0, 0, 0, MAP), manip)]


@pytest.mark.parametrize(
    ("options", "zones"),
    [
        ("--zone 5", (5, 5)),
        ("--zone-orig 5", (5, 0)),
        ("--zone-reply 5", (0, 5)),
        ("--zone mark", (0x2345, 0x2345)),
        ("--zone-orig mark", (0x2345, 0)),
    ],
)
def test_ct_attaches_a_template_with_its_zones(options: str, zones: tuple[int, int]) -> None:
    skb = packet(mark=0x12345)
    target = read(f"-j CT {options}", "raw", "PREROUTING")
    assert target.tracks
    target.apply(skb, context())
    assert skb.template.for_packet(skb).zones == zones


def test_the_zone_of_a_mark_is_that_of_the_moment_when_conntrack_looks() -> None:
    skb = packet(mark=5)
    read("-j CT --zone mark", "raw", "PREROUTING").apply(skb, context())
    skb.mark = 0x10007
    assert skb.template.for_packet(skb).zones == (7, 7)


def test_ct_names_helper_and_timeout_policy() -> None:
    skb = packet()
    read("-p tcp -j CT --helper ftp --timeout quick", "raw", "PREROUTING").apply(skb, context())
    assert (skb.template.helper, skb.template.timeout) == ("ftp", "quick")


@pytest.mark.parametrize("rule", ["-j NOTRACK", "-j CT --notrack"])
def test_notrack_marks_the_packet_and_does_not_switch_tracking_on(rule: str) -> None:
    skb, target = packet(), read(rule, "raw", "PREROUTING")
    assert not target.tracks
    target.apply(skb, context())
    assert (skb.ct, skb.ctinfo) == (None, IP_CT_UNTRACKED)


def test_the_first_of_several_ct_rules_counts() -> None:
    skb, ctx = packet(), context()
    for rule in ("-j CT --zone 1", "-j CT --zone 2", "-j NOTRACK"):
        read(rule, "raw", "PREROUTING").apply(skb, ctx)
    assert (skb.template.zones, skb.ctinfo) == ((1, 1), None)


def test_ct_leaves_a_packet_alone_that_comes_with_its_entry() -> None:
    skb, ctx = packet(), context()
    tracked(skb, ctx)
    read("-j CT --zone 1", "raw", "PREROUTING").apply(skb, ctx)
    read("-j NOTRACK", "raw", "PREROUTING").apply(skb, ctx)
    assert skb.template is None and ctx.ct(skb) is not None
