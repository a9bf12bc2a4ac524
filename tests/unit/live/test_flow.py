"""Which packets a FLOW means."""

from __future__ import annotations

import doctest

import pytest
from nattrace.sim.flow import parse_flow
from nattrace.sim.snapshot.load import load_world
from nattrace.tracer.live import flow as module
from nattrace.tracer.live.flow import FlowKey

WORLD = load_world("twice-through-conntrack")


def key(words: str) -> FlowKey:
    return FlowKey.of_question(parse_flow(words, WORLD))


def test_an_echo_without_an_id_is_any_echo() -> None:
    assert key("icmp 10.10.1.1 -> 8.8.8.8 at client") == FlowKey.parse("icmp", "10.10.1.1", "8.8.8.8")
    assert key("icmp 10.10.1.1 -> 8.8.8.8 at client id 77") == FlowKey.parse("icmp", "10.10.1.1", "8.8.8.8", 77)


def test_ports_that_are_open_are_any() -> None:
    assert key("tcp 10.10.1.1 -> 8.8.8.8:443 at client") == FlowKey.parse("tcp", "10.10.1.1", "8.8.8.8", None, 443)
    assert key("udp 10.10.1.1:53 -> 8.8.8.8:53 at client").sport == 53


def test_the_other_direction() -> None:
    assert FlowKey.parse("tcp", "10.0.0.1", "10.0.0.2", 1, 2).reversed() == FlowKey.parse(
        "tcp", "10.0.0.2", "10.0.0.1", 2, 1
    )
    assert FlowKey.parse("icmp", "10.0.0.1", "10.0.0.2", 7).reversed() == FlowKey.parse(
        "icmp", "10.0.0.2", "10.0.0.1", 7
    )
    assert str(FlowKey.parse("tcp", "fd00::1", "fd00::2", 1, 2)) == "[fd00::1]:1 → [fd00::2]:2 tcp"


@pytest.mark.parametrize(("proto", "src"), [("nonsense", "10.0.0.1"), ("tcp", "10.0.0"), ("300", "10.0.0.1")])
def test_what_is_no_flow(proto: str, src: str) -> None:
    with pytest.raises(ValueError):
        FlowKey.parse(proto, src)


def test_the_examples_of_the_module() -> None:
    assert doctest.testmod(module).failed == 0
