"""Conntrack events that the kernel sent."""

from __future__ import annotations

from nattrace.tracer.live.ctevents import ConntrackEvent, decode, describe
from nattrace.tracer.live.flow import FlowKey

from .recorded import recorded


def events(kind: str) -> list[ConntrackEvent]:
    return [event for m in recorded(kind) if (event := decode(m, now=1)) is not None]


def test_an_entry_with_both_tuples() -> None:
    new, gone = events("ct")
    assert (new.kind, gone.kind) == ("new", "destroy")
    assert new.orig.key() == FlowKey.parse("udp", "10.7.1.2", "10.7.1.1", 40001, 8080)
    assert new.reply.key() == FlowKey.parse("udp", "10.7.2.2", "10.7.2.1", 80, 40001)
    assert new.status_names == ("CONFIRMED", "SRC_NAT", "DST_NAT", "SRC_NAT_DONE", "DST_NAT_DONE")
    assert (new.id, new.timeout, new.zone, new.mark) == (3645006368, 30, 0, 0)
    assert gone.id == new.id and "DYING" in gone.status_names
    assert describe(new).startswith("new udp 10.7.1.2:40001 → 10.7.1.1:8080 udp | reply 10.7.2.2:80 →")


def test_the_zone_of_one_direction() -> None:
    """CT --zone-orig: the tuple has it, the entry does not."""
    echo = events("ctz")[0]
    assert (echo.orig.zone, echo.reply.zone, echo.zone) == (7, None, 0)
    assert (echo.orig.proto, echo.orig.sport, echo.orig.dport) == (1, 14659, 0x0800)
    assert echo.orig.key().dport is None


def test_tcp_states_in_their_order() -> None:
    states = [e.tcp_state for e in events("ctz") if e.orig.proto == 6]
    assert states == ["SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "LAST_ACK", "TIME_WAIT"]
    assert [e.kind for e in events("ctz")] == ["new", "update", "new", *["update"] * 5]


def test_ipv6() -> None:
    new = events("ct6")[0]
    assert new.orig.key() == FlowKey.parse("icmpv6", "fd07:1::2", "fd07:2::2", 14652)


def test_a_flow_finds_its_entry_by_either_direction() -> None:
    new = events("ct")[0]
    assert new.concerns(FlowKey.parse("udp", "10.7.1.2", dport=8080))
    assert new.concerns(FlowKey.parse("udp", "10.7.2.2"))  # the reply's tuple
    assert not new.concerns(FlowKey.parse("udp", "10.7.1.2", dport=8081))
    assert not new.concerns(FlowKey.parse("tcp", "10.7.1.2"))


def test_what_is_no_entry_is_none() -> None:
    assert decode(recorded("trace")[0]) is None
    assert decode(recorded("ct")[0]._replace(body=b"")) is None
    for message in recorded("ctz"):
        for cut in range(0, len(message.body), 5):
            decode(message._replace(body=message.body[:cut]))
