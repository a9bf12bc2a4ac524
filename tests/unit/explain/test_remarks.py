"""What an answer says beside its verdict, and that its cause names the one place that decided."""

from __future__ import annotations

import re

import nattrace as nt
import pytest

PLACE = re.compile(r"[\w-]+/[\w-]+\.(txt|json)")


def said(snapshot: str, flow: str, code: str) -> str:
    """The text of a diagnosis."""
    document = nt.load(snapshot).why(flow, fixes=False).to_json()
    return next(str(d["text"]) for d in document["diagnosis"] if d["code"] == code)


def codes(snapshot: str, flow: str) -> list[str]:
    return [d["code"] for d in nt.load(snapshot).why(flow, fixes=False).to_json()["diagnosis"]]


@pytest.mark.parametrize(
    ("snapshot", "flow", "words"),
    [
        ("private-namespace", "114.114.114.114 at private", "net.ipv4.ip_forward=0 (host/sysctl.txt:"),
        ("private-namespace.no-route", "114.114.114.114 at private", "(private/route.json)"),
        ("nonexistent-address.nothing", "192.168.100.1 -> 192.168.100.3", "192.168.100.0/24 dev eth0 (vm01/route.json)"),
        ("nonexistent-address", "192.168.100.1 -> 192.168.100.3", "(vm03/route.json)"),
        ("two-uplinks.nothing-set", "203.0.113.9 at ec2a", "net.ipv4.ip_forward=0 (nat/sysctl.txt:"),
        ("twice-through-conntrack.zone-on-proxy-only", "10.10.1.1 -> 8.8.8.8", "host/iptables-save.txt:4"),
    ],
)  # fmt: skip
def test_the_cause_names_the_place_that_decided_and_does_not_repeat_the_verdict(
    snapshot: str, flow: str, words: str
) -> None:
    document = nt.load(snapshot).why(flow, fixes=False).to_json()
    cause = document["diagnosis"][0]["text"]
    assert words in cause
    assert cause not in document["verdict"]


def test_a_nat_rule_that_the_packet_never_gets_to_is_named() -> None:
    text = said("private-namespace", "114.114.114.114 at private", "chain_not_consulted")
    assert "nat POSTROUTING 1 (SNAT, host/iptables-save.txt:6)" in text and "not reached" in text


def test_no_rule_is_said_to_be_missed_where_the_packet_gets_through() -> None:
    assert codes("private-namespace.forwarding", "114.114.114.114 at private") == []


def test_owner_rules_are_said_to_have_nothing_to_look_at_in_a_forwarded_packet() -> None:
    text = said("per-user-source", "8.8.8.8 at container", "owner_never_matches")
    assert "nat POSTROUTING 1–3" in text and "no socket" in text
    assert "owner_never_matches" not in codes("per-user-source", "8.8.8.8 uid userB at host")
    assert "owner_never_matches" not in codes("per-user-source", "8.8.8.8 uid root at host")


def test_a_second_host_that_translates_the_source_again_undoes_the_first_choice() -> None:
    text = said("per-user-source.masquerading-router", "8.8.8.8 uid userB at host", "double_nat")
    assert "10.0.2.102 to 203.0.113.1" in text and "host's nat POSTROUTING 2" in text
    assert codes("per-user-source", "8.8.8.8 uid userB at host") == []


def test_a_mapping_of_one_address_to_one_other_undoes_nothing() -> None:
    assert "double_nat" not in codes("two-uplinks", "203.0.113.9 at ec2b")


@pytest.mark.parametrize(
    ("port", "words"),
    [
        ("tcp {}:21", "-p tcp --dport 21 -j CT --helper ftp"),
        ("udp {}:69", "-p udp --dport 69 -j CT --helper tftp"),
        ("udp {}:5060", "-p udp --dport 5060 -j CT --helper sip"),
        ("tcp {}:1723", "modprobe nf_nat_pptp"),
        ("tcp {}:1720", "-j CT --helper Q.931; modprobe nf_nat_h323"),
        ("tcp {}:1521", "no helper exists"),
    ],
)
def test_protocols_that_name_addresses_in_their_payload_need_a_helper_behind_nat(port: str, words: str) -> None:
    proto, end = port.format("192.168.100.3").split()
    text = said("nonexistent-address.masquerade", f"{proto} 192.168.100.1 -> {end}", "helper_missing")
    assert words in text


@pytest.mark.parametrize(
    ("snapshot", "flow"),
    [
        ("nonexistent-address.ftp-helper", "tcp 192.168.100.1 -> 192.168.100.3:21"),  # has one
        ("nonexistent-address.masquerade", "tcp 192.168.100.1 -> 192.168.100.3:22"),  # needs none
        ("per-user-source", "tcp 8.8.8.8:21 at container"),  # is not translated
    ],
)
def test_nothing_is_said_of_helpers_where_none_is_missing(snapshot: str, flow: str) -> None:
    assert "helper_missing" not in codes(snapshot, flow)


def test_a_source_that_nobody_has_is_called_mistyped() -> None:
    text = said("twice-through-conntrack.wrong-prefix", "10.10.1.1 -> 8.8.8.8", "criterion_failed")
    assert "Nothing in the snapshot has 10.10.10.1/32" in text
