"""SET: the order of its operations and what --map-set takes from the element."""

from __future__ import annotations

from typing import Any

import pytest
from nattrace.sim.model.addr import AF_INET
from nattrace.sim.model.ipset import Element, IpSet
from nattrace.sim.model.rule import V_CONTINUE
from unit.targets.vocabulary import context, ip, packet, read

SRC = (ip("10.0.0.2"),)


def a_set(name: str, *elements: Element, **options: Any) -> dict[str, IpSet]:
    return {name: IpSet(name, "hash:ip", {"family": AF_INET, **options}, {e.key: e for e in elements})}


def test_add_and_delete() -> None:
    ctx = context(sets=a_set("seen") | a_set("known", Element(SRC)))
    rule = "-j SET --add-set seen src --del-set known src"
    assert read(rule).apply(packet(), ctx) == V_CONTINUE
    assert (list(ctx.hs.sets["seen"]), list(ctx.hs.sets["known"])) == ([SRC], [])


@pytest.mark.parametrize(
    ("options", "until"),
    [("", 100.0), ("--timeout 5", 5.0), ("--timeout 0", None)],
    ids=["default of the set", "of the rule", "for ever"],
)
def test_the_timeout_of_an_added_element(options: str, until: float | None) -> None:
    ctx = context(sets=a_set("seen", timeout=100))
    read(f"-j SET --add-set seen src {options}").apply(packet(), ctx)
    assert ctx.hs.sets["seen"][SRC].timeout_at == until


def test_only_exist_renews_an_element() -> None:
    for options, until in (("", 50.0), ("--exist", 5.0)):
        ctx = context(sets=a_set("seen", Element(SRC, timeout_at=50.0), timeout=100))
        read(f"-j SET --add-set seen src --timeout 5 {options}").apply(packet(), ctx)
        assert ctx.hs.sets["seen"][SRC].timeout_at == until


def test_map_set_puts_the_skbinfo_into_the_packet() -> None:
    element = Element(SRC, skbmark=(0x10, 0xF0), skbprio=(1, 0x20))
    ctx = context("FORWARD", sets=a_set("info", element, skbinfo=True))
    skb = packet(mark=0xABC)
    read("-j SET --map-set info src --map-mark --map-prio", "mangle", "FORWARD").apply(skb, ctx)
    assert (skb.mark, skb.priority) == (0xA1C, 0x10020)


def test_map_set_leaves_a_packet_alone_that_is_not_in_the_set() -> None:
    ctx = context("FORWARD", sets=a_set("info", Element((ip("10.0.0.3"),), skbmark=(1, 0xFFFFFFFF)), skbinfo=True))
    skb = packet(mark=7)
    read("-j SET --map-set info src --map-mark", "mangle", "FORWARD").apply(skb, ctx)
    assert skb.mark == 7
