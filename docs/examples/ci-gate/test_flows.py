"""Flows that must go on working, and flows that must never work, whatever is changed in the rules."""

from nattrace.testing import assert_delivered, assert_dropped


def test_the_office_reaches_the_world_as_the_public_address(nattrace_snapshot):
    assert_delivered(nattrace_snapshot, "tcp 192.168.1.7 -> 198.51.100.9:443 in eth1", snat="198.51.100.1", out="eth0")


def test_the_published_service_reaches_the_server(nattrace_snapshot):
    assert_delivered(nattrace_snapshot, "udp 198.51.100.9:4000 -> 198.51.100.1:8053 in eth0", dnat="192.168.1.7:53")


def test_the_forbidden_port_stays_closed(nattrace_snapshot):
    assert_dropped(nattrace_snapshot, "udp 192.168.1.7 -> 198.51.100.9:9999 in eth1", rule="filter:FORWARD:1")
