"""FLOW and the other options of ``trace`` as a filter of the kernel: what was said, and nothing that was filled in."""

from __future__ import annotations

import ipaddress
from typing import Any

import click
import pytest
from lab_support import kernel
from nattrace.sim.errors import InputError
from nattrace.tracer.cli.trace import seconds
from nattrace.tracer.live import netns
from nattrace.tracer.live.run import filter_of
from nattrace.tracer.live.worlds import Worlds

pytestmark = kernel  # a namespace is entered
OPTIONS: dict[str, Any] = dict.fromkeys(("snapshot", "lab", "iface", "mark", "uid", "expression")) | {"netns": ()}


def wanted(flow: str, **more: Any) -> Any:
    options = OPTIONS | more
    with netns.current() as here:
        return filter_of(Worlds(options).question(flow, [here]), options, [here])


@pytest.mark.parametrize(
    ("flow", "proto", "src", "dst", "sport", "dport"),
    [
        ("udp 10.0.0.2 -> 8.8.8.8:53", 17, "10.0.0.2/32", "8.8.8.8/32", None, (53, 53)),
        ("tcp 10.0.0.2:4000 -> 8.8.8.8:443", 6, "10.0.0.2/32", "8.8.8.8/32", (4000, 4000), (443, 443)),
        ("udp 10.0.0.2", 17, None, "10.0.0.2/32", None, None),
        ("8.8.8.8", 1, None, "8.8.8.8/32", None, None),
        ("icmp 10.0.0.2 -> 8.8.8.8 id 77", 1, "10.0.0.2/32", "8.8.8.8/32", None, None),
        ("udp fd00::2 -> [fd00::9]:53", 17, "fd00::2/128", "fd00::9/128", None, (53, 53)),
    ],
)
def test_a_flow(flow: str, proto: int, src: str | None, dst: str, sport: Any, dport: Any) -> None:
    (term,) = wanted(flow).terms
    ends = [None if e is None else ipaddress.ip_network(e) for e in (src, dst)]
    assert (term.proto, term.src, term.dst, term.sport, term.dport) == (proto, *ends, sport, dport)


def test_no_flow_is_everything_and_the_rest_narrows_it() -> None:
    assert wanted("").terms == ()
    found = wanted("", mark="0x10/0xf0", uid="0", expression="udp", iface="lo")
    assert (found.mark, found.uid, found.pcap, found.ifindex) == ((0x10, 0xF0), 0, "udp", 1)
    assert wanted("", mark="7").mark == (7, 0xFFFFFFFF) and wanted("8.8.8.8 uid root").uid == 0


def test_a_device_counts_only_where_it_was_said() -> None:
    assert wanted("udp 10.0.0.2 -> 8.8.8.8:53").ifindex is None
    assert wanted("udp 10.0.0.2 -> 8.8.8.8:53 in lo").ifindex == 1


@pytest.mark.parametrize(
    "more", [{"mark": "x"}, {"mark": "1/2/3"}, {"mark": str(1 << 33)}, {"uid": "no-such-user"}, {"iface": "no such"}]
)
def test_what_is_no_condition(more: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        wanted("", **more)


def test_times() -> None:
    context, parameter = click.Context(click.Command("x")), click.Option(["-t"])
    assert [seconds(context, parameter, t) for t in ("30", "30s", "2m", "500ms", "1.5h", None)] == [
        30,
        30,
        120,
        0.5,
        5400,
        None,
    ]
    for wrong in ("", "x", "-1s", "0", "1d"):
        with pytest.raises(click.BadParameter):
            seconds(context, parameter, wrong)
