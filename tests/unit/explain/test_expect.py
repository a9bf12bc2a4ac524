"""--expect says why something did not happen."""

from __future__ import annotations

from typing import Any

import nattrace as nt
import pytest
from nattrace.sim.errors import InputError


def expect(snapshot: str, flow: str, what: str) -> dict[str, Any]:
    (found,) = nt.load(snapshot).why(flow, expect=what, fixes=False).to_json()["expect"]
    return dict(found)


PING = "icmp 10.10.1.1 -> 8.8.8.8 at client"


def test_a_rule_that_was_skipped_and_one_that_missed_are_both_explained() -> None:
    found = expect("twice-through-conntrack", PING, "rule nat:POSTROUTING:1")
    assert found["met"] is False
    assert "-o enp4s0" in found["why"] and "not consulted" in found["why"]


@pytest.mark.parametrize(
    ("snapshot", "flow", "what", "met"),
    [
        ("twice-through-conntrack", PING, "left", True),
        ("twice-through-conntrack", PING, "delivered", False),
        ("twice-through-conntrack", PING, "snat 172.16.202.30", False),
        ("twice-through-conntrack.zones", PING, "snat 172.16.202.30", True),
        ("twice-through-conntrack.zones", PING, "rule nat:POSTROUTING:1", True),
        ("twice-through-conntrack.zones", PING, "reply", True),
        ("twice-through-conntrack", PING, "out enp4s0", True),
        ("twice-through-conntrack", PING, "out wlan0", False),
        ("private-namespace", "114.114.114.114 at private", "dropped", True),
        ("nonexistent-address", "tcp 192.168.100.1 -> 192.168.100.3:22 at vm01", "dnat 192.168.200.3:22", True),
        ("nonexistent-address", "tcp 192.168.100.1 -> 192.168.100.3:22 at vm01", "dnat 192.168.200.9", False),
        ("nonexistent-address", "tcp 192.168.100.1 -> 192.168.100.3:22 at vm01", "reply", False),
    ],
)  # fmt: skip
def test_expectations_are_judged(snapshot: str, flow: str, what: str, met: bool) -> None:
    found = expect(snapshot, flow, what)
    assert found["met"] is met
    assert found["why"]


WRONG = (
    "", "happiness", "rule nat", "rule nat:POSTROUTING:99", "rule nat:POSTROUTING:0", "snat", "out", "snat 999.1.1.1",
    "dnat web:80", "snat 203.0.113.9:http", "snat 203.0.113.9:70000", "dnat 10.0.0.0/8", "dnat 10.0.0.5:80",
)  # fmt: skip


@pytest.mark.parametrize("what", WRONG)  # the last: an echo request has no port to be translated to
def test_unknown_expectations_are_errors(what: str) -> None:
    with pytest.raises(InputError):
        nt.load("twice-through-conntrack").why(PING, expect=(what,), fixes=False)


def test_an_address_may_be_written_otherwise_than_it_is_shown() -> None:
    """``2001:DB8::1`` and ``2001:db8:0::1`` are one address."""
    from nattrace.sim.explain.expect import _read_end

    assert _read_end("snat", "[2001:DB8:0::1]:80") == ("2001:db8::1", "80")
