"""A packet in a queue and a line of NFLOG, as the kernel sent them; scapy's view of packets."""

from __future__ import annotations

import pytest
from nattrace.sim.errors import InputError, NattraceError
from nattrace.tracer.live import queue
from nattrace.tracer.live.dissect import changed, dissect, header, rebuilt, summary
from nattrace.tracer.live.flow import FlowKey
from nattrace.tracer.live.queue import Held, QueueTaps, Seen, TapPoint
from nattrace.tracer.live.rules import nflog
from nattrace.tracer.live.rules.book import KnownRule, RuleBook
from nattrace.tracer.live.rules.nftrace import RuleTrace

from .recorded import recorded


def seen() -> Seen:
    return Seen(TapPoint(2, -1), recorded("queue")[0].body, 1)


def test_a_packet_of_a_queue() -> None:
    found = seen()
    assert (found.id, found.mark, found.indev, found.outdev, found.entry, found.uid) == (1, 7, 2, 3, None, None)
    assert found.header() == {
        "proto": "udp", "src": "10.7.1.2", "dst": "10.7.2.2", "ttl": 63, "tos": 0, "len": 29, "df": True, "ip_id": 46747,
        "sport": 40001, "dport": 9999, "mark": 7,
    }  # fmt: skip
    assert summary(found.data) == "IP / UDP 10.7.1.2:40001 > 10.7.2.2:9999 / Raw"
    assert str(found.point) == "FORWARD -1"


def test_a_queue_can_carry_the_conntrack_entry() -> None:
    """NFQA_CT holds what an event holds; this kernel has no glue for it, so the two recordings are joined."""
    from nattrace.tracer.live.nfnl.wire import attribute, be32

    body = attribute(11, recorded("ct")[0].body) + attribute(12, be32(2)) + recorded("queue")[0].body
    found = Seen(TapPoint(2, -1), body, 1)
    assert found.entry is not None and found.entry.id == 3645006368
    assert (found.ctinfo, found.reply) == ("NEW", False)


def test_a_changed_packet_has_right_lengths_and_checksums() -> None:
    data = seen().data
    packet = dissect(data)
    packet.ttl = 5
    packet.dst = "10.7.2.9"
    packet["Raw"].load = b"longer"
    made = rebuilt(packet)
    assert dissect(made).chksum is not None and changed(made, bytes(dissect(made))) == []
    assert len(made) == dissect(made).len == len(data) + 5
    fresh = dissect(made).copy()
    del fresh.chksum, fresh["UDP"].chksum
    assert bytes(fresh) == made
    assert [(c.field, c.before, c.after) for c in changed(data, made)][:2] == [
        ("IP.ttl", "63", "5"),
        ("IP.dst", "10.7.2.2", "10.7.2.9"),
    ]


class Handle:
    """What NetfilterQueue hands over, as far as a verdict needs it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def accept(self) -> None:
        self.said.append("accept")


def test_a_packet_gets_one_verdict() -> None:
    handle = Handle()
    held = Held(seen(), handle)
    held.accept()
    with pytest.raises(InputError, match="verdict already"):
        held.accept()
    assert handle.said == ["accept"]


def test_a_cut_packet_is_not_changed() -> None:
    found = seen()
    found.full_length = 9000
    with pytest.raises(InputError, match="GSO"):
        Held(found, Handle()).change(found.packet)


def test_a_line_of_a_legacy_rule() -> None:
    line = nflog.decode(recorded("log")[0])
    assert (line.prefix, line.hook, line.mark, line.sequence) == ("TRACE: filter:FORWARD:rule:1 ", 2, 7, 0)
    rule = KnownRule("legacy", "ip", "filter", "FORWARD", 1, None, "-p udp -m udp --dport 9998 -j DROP", "DROP")
    step = nflog.step_of(line, "ip", RuleBook([rule], [], 0))
    assert step is not None
    assert (step.hook, step.stage, step.rule, step.verdict, step.text) == ("FORWARD", "filter", 1, "DROP", rule.text)


@pytest.mark.parametrize(
    ("prefix", "verdict"),
    [
        ("TRACE: filter:FORWARD:rule:2 ", "JUMP"),
        ("TRACE: filter:FORWARD:rule:3 ", "GOTO"),
        ("TRACE: filter:FORWARD:rule:4 ", None),
        ("TRACE: filter:FORWARD:policy:5 ", "DROP"),
    ],
)
def test_what_a_line_says_of_the_verdict(prefix: str, verdict: str | None) -> None:
    book = RuleBook(
        [
            KnownRule("legacy", "ip", "filter", "FORWARD", 0, None, "policy DROP"),
            KnownRule("legacy", "ip", "filter", "FORWARD", 2, None, "-j MARK2", "MARK2", jumps=True),
            KnownRule("legacy", "ip", "filter", "FORWARD", 3, None, "-g MARK2", "MARK2", jumps=True),
            KnownRule("legacy", "ip", "filter", "FORWARD", 4, None, "-j MARK --set-mark 1", "MARK"),
        ],
        [],
        0,
    )
    step = nflog.step_of(nflog.decode(recorded("log")[0])._replace(prefix=prefix), "ip", book)
    assert step is not None and step.verdict == verdict


@pytest.mark.parametrize(
    "prefix", ["my log: ", "TRACE: ", "TRACE: filter:USER:return:2 ", "TRACE: nat:PREROUTING:policy:3 "]
)
def test_other_lines_are_no_steps(prefix: str) -> None:
    assert nflog.step_of(nflog.decode(recorded("log")[0])._replace(prefix=prefix), "ip", RuleBook([], [], 0)) is None


def test_nothing_is_changed_unless_it_was_allowed() -> None:
    flow = FlowKey.parse("udp", "10.0.0.1")
    for open_it in (RuleTrace, nflog.LegacyTrace):
        with pytest.raises(
            NattraceError, match=r"--allow-changes allows it[\s\S]*nf_tables table .*that belongs to this process"
        ):
            open_it(None, flow)
    with pytest.raises(NattraceError, match="at most the 4 packets"):
        QueueTaps(None, flow, [TapPoint(2, 0)])
    assert "nf_log.10" in "".join(nflog.describe_changes(FlowKey.parse("udp", "fd00::1")))


def test_queue_numbers_of_rules_in_either_language() -> None:
    lines = [
        "-j NFQUEUE --queue-num 5 --queue-bypass",
        "-j NFQUEUE --queue-balance 7:9",
        "queue flags bypass to 11",
        "udp dport 53 queue num 20-21",
    ]
    found = [tuple(map(str, m)) for line in lines for p in (queue._XT_QUEUE, queue._NFT_QUEUE) for m in p.findall(line)]
    assert found == [("5", ""), ("7", "9"), ("11", ""), ("20", "21")]


def test_ipv6_headers() -> None:
    data = recorded("trace6")[0]
    from nattrace.tracer.live.rules.nftrace import decode

    message = decode(data.body, data.family)
    found = header((message.network or b"") + (message.transport or b""))
    assert (found["proto"], found["src"], found["ttl"], found["len"]) == ("icmpv6", "fd07:1::2", 255, 72)
