"""Queue taps as events: fields of an event from a packet's bytes, and which packet it is."""

from __future__ import annotations

import numpy as np
from nattrace.tracer.live.event import EVENT, KIND
from nattrace.tracer.live.nfnl.wire import attribute, be32
from nattrace.tracer.live.queue import Seen, TapPoint
from nattrace.tracer.live.queue_session import Known, _fill
from nattrace.tracer.live.queue_trace import edited
from nattrace.tracer.live.steps import header

from .recorded import recorded

FORWARD = TapPoint(2, -1)


def event(body: bytes | None = None, point: TapPoint = FORWARD, at: int = 1) -> np.ndarray:
    row = np.zeros(1, EVENT)
    _fill(row[0], Seen(point, recorded("queue")[0].body if body is None else body, at), 4026531840, 1)
    return row[0]


def test_a_packet_becomes_an_event() -> None:
    row = event()
    assert (row["kind"], row["hook"], row["prio"], row["indev"], row["outdev"], row["pf"]) == (KIND.tap, 2, -1, 2, 3, 2)
    assert header(row) == {
        "proto": "udp", "src": "10.7.1.2", "dst": "10.7.2.2", "sport": 40001, "dport": 9999, "ttl": 63, "tos": 0, "len": 29, "mark": 7,
        "df": True, "ip_id": 46747,
    }  # fmt: skip
    assert row["ct"] == 0


def test_its_entry_where_the_queue_tells_it() -> None:
    row = event(attribute(11, recorded("ct")[0].body) + attribute(12, be32(2)) + recorded("queue")[0].body)
    assert (row["ct"], row["ctinfo"], row["status"]) == (3645006368, 2, 0x1B8)
    assert (row["o"]["sport"], row["o"]["dport"], row["r"]["sport"]) == (40001, 8080, 80)


def test_ipv6_with_an_extension_header() -> None:
    message = recorded("trace6")[-1]
    from nattrace.tracer.live.rules.nftrace import decode

    trace = decode(message.body, message.family)
    packet = (trace.network or b"")[:40] + (trace.transport or b"").ljust(16, b"\0")
    behind = packet[:6] + b"\x00" + packet[7:40] + b"\x3a\x00\x01\x04\x00\x00\x00\x00" + packet[40:]
    for data in (packet, behind):
        row = event(attribute(10, data))
        assert (row["pf"], row["t"]["proto"], header(row)["icmp_id"]) == (10, 58, 14652)


def test_a_packet_is_known_again_at_later_places_only() -> None:
    known = Known()
    way = [TapPoint(0, -301), TapPoint(0, -99), TapPoint(2, -1), TapPoint(4, 101)]
    first = [known.number(event(point=p, at=n)) for n, p in enumerate(way, 1)]
    assert len(set(first)) == 1
    again = [known.number(event(point=p, at=n)) for n, p in enumerate(way[1:], 10)]  # the same bytes, sent again
    assert len(set(again)) == 1 and again[0] != first[0]


def test_two_at_once_are_told_apart() -> None:
    known = Known()
    a, b = (known.number(event(point=TapPoint(0, -301), at=n)) for n in (1, 2))
    later = [known.number(event(point=TapPoint(2, -1), at=n)) for n in (3, 4)]
    assert a != b and later == [a, b]


def test_a_field_is_edited_and_what_cannot_be_is_said() -> None:
    import pytest
    from nattrace.sim.errors import InputError
    from nattrace.tracer.live.dissect import changed

    data = Seen(TapPoint(2, -1), recorded("queue")[0].body, 1).data
    assert [c[:3] for c in changed(data, edited(data, "IP.ttl=3"))] == [("IP.ttl", "63", "3")]
    assert changed(data, edited(data, "UDP.dport = 54"))[0].field == "UDP.dport"
    assert changed(data, edited(data, "Raw.load=y"))[0].after == "b'y'"
    for words in ("ttl=3", "TCP.seq=1", "IP.nosuch=1", "IP.ttl", "IP.ttl=many", "IP.dst=nobody.invalid.x y"):
        with pytest.raises(InputError):
            edited(data, words)
