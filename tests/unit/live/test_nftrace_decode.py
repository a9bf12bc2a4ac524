"""Trace messages that the kernel sent: decoded, told apart by packet, turned into steps."""

from __future__ import annotations

import pytest
from nattrace.sim.model.where import Where
from nattrace.tracer.live.flow import FlowKey
from nattrace.tracer.live.nfnl.listing import NftChain
from nattrace.tracer.live.rules.book import KnownRule, RuleBook
from nattrace.tracer.live.rules.nftrace import Packets, TraceMessage, decode, headers

from .recorded import recorded


def trace(kind: str = "trace") -> list[TraceMessage]:
    return [decode(m.body, m.family) for m in recorded(kind)]


def own(found: list[TraceMessage]) -> str:
    return next(m.table for m in found if m.table.startswith("nattrace-trace-"))


BOOK = RuleBook(
    [
        KnownRule("iptables", "ip", "mangle", "PREROUTING", 1, 2, "-i rc -j MARK --set-xmark 0x7/0xffffffff", "MARK"),
        KnownRule("iptables", "ip", "nat", "PREROUTING", 1, 4, "-i rc -p udp -j DNAT --to 10.7.2.2:80", "DNAT", Where("iptables-save.txt", 9)),
        KnownRule("iptables", "ip", "filter", "FORWARD", 1, 2, "-p udp -m udp --dport 9999 -j DROP", "DROP"),
        KnownRule("iptables", "ip", "filter", "FORWARD", 2, 4, "-i rc -j USER", "USER"),
        KnownRule("iptables", "ip", "nat", "POSTROUTING", 1, 2, "-o rs -j MASQUERADE", "MASQUERADE"),
    ],
    [
        NftChain("ip", "mangle", "PREROUTING", 0, -150, "filter", "ACCEPT"),
        NftChain("ip", "nat", "PREROUTING", 0, -100, "nat", "ACCEPT"),
        NftChain("ip", "filter", "FORWARD", 2, 0, "filter", "ACCEPT"),
        NftChain("ip", "nat", "POSTROUTING", 4, 100, "nat", "ACCEPT"),
    ],
    1,
)  # fmt: skip


def test_every_attribute_of_a_message() -> None:
    nat = next(m for m in trace() if (m.table, m.chain) == ("nat", "PREROUTING"))
    assert (nat.family, nat.type, nat.handle, nat.verdict, nat.policy, nat.mark) == ("ip", 3, 4, 1, None, 7)
    assert (nat.iif, nat.oif, nat.nfproto) == (2, None, 2)
    found = headers(nat)
    assert found is not None
    assert found.key == FlowKey.parse("udp", "10.7.1.2", "10.7.1.1", 40001, 8080)
    assert (found.length, found.ttl, found.ip_id) == (29, 64, 34101)


def test_kernel_6_18_names_the_conntrack_entry() -> None:
    nat = next(m for m in trace() if (m.table, m.chain) == ("nat", "POSTROUTING"))
    assert (nat.ct_id, nat.ct_direction, nat.ct_state) == (3645006368, 0, "NEW")
    assert nat.ct_status == 0x1B0  # SRC_NAT, DST_NAT and both done; not yet CONFIRMED
    error = next(m for m in trace() if m.ct_state == "RELATED")
    assert error.ct_direction == 1


def test_messages_become_steps_of_packets() -> None:
    found = trace()
    hits = Packets(own(found)).hits(found, BOOK)
    assert [(h.packet, h.hook, h.priority, h.step.table, h.step.rule, h.step.verdict) for h in hits] == [
        (1, 0, -150, "mangle", 1, None),
        (1, 0, -100, "nat", 1, "ACCEPT"),
        (1, 2, 0, "filter", 2, "JUMP"),
        (1, 4, 100, "nat", 1, "ACCEPT"),
        (3, 0, -150, "mangle", 1, None),
        (3, 2, 0, "filter", 1, "DROP"),
    ]  # packet 2 is the ICMP error, which no rule matched
    assert hits[1].step.where == Where("iptables-save.txt", 9)
    assert hits[1].step.hook == "PREROUTING" and hits[1].step.stage == "nat"
    assert hits[2].headers is not None and hits[2].headers.key.dst == b"\x0a\x07\x02\x02"  # as FORWARD saw it


def test_the_same_trace_id_again_is_another_packet() -> None:
    """The id comes from the address of the skb, and the next packet gets the same memory."""
    found = trace()
    first = [m for m in found if m.id == found[0].id]
    again = [m._replace(network=m.network[:4] + b"\x11\x11" + m.network[6:]) if m.network else m for m in first]
    hits = Packets(own(found)).hits([*first, *again, *first], BOOK)
    assert [h.packet for h in hits] == [1] * 4 + [2] * 4 + [3] * 4


def test_a_packet_without_ip_id_is_told_by_our_own_rule() -> None:
    found = trace()
    first = [m for m in found if m.id == found[0].id]
    assert {h.packet for h in Packets(own(found)).hits(first * 5, BOOK)} == {1, 2, 3, 4, 5}


def test_a_rule_that_nobody_listed_is_still_shown() -> None:
    found = trace()
    hits = Packets(own(found)).hits(found, None)
    assert hits[0].step.handle == 2 and hits[0].step.note is not None and hits[0].step.text is None


def test_a_policy_that_drops_is_a_step() -> None:
    policy = next(m for m in trace() if (m.table, m.type) == ("filter", 1))._replace(policy=0)
    hits = Packets("own").hits(
        [policy], RuleBook([KnownRule("iptables", "ip", "filter", "FORWARD", 0, None, "policy DROP")], [], 1)
    )
    assert [(h.step.verdict, h.step.text, h.step.rule) for h in hits] == [("DROP", "policy DROP", None)]


def test_ipv6() -> None:
    nat = next(m for m in trace("trace6") if m.table == "nat")
    found = headers(nat)
    assert found is not None and nat.family == "ip6"
    assert found.key == FlowKey.parse("icmpv6", "fd07:1::2", "fd07:2::2", 14652)
    assert (found.ip_id, found.ttl, found.length) == (None, 63, 104)
    solicitation = headers(trace("trace6")[0])
    assert solicitation is not None and solicitation.key.sport is None  # no echo: no identifier
    assert trace("trace6")[1].ct_state == "UNTRACKED"


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_message_cut_short_is_read_as_far_as_it_goes(cut: int) -> None:
    for found in recorded("trace"):
        headers(decode(found.body[: len(found.body) - cut], found.family))
