"""Conntrack at function level: states, zones, timeouts, clashes, expectations, a full table (kernel 6.18)."""

from __future__ import annotations

from typing import Any

import pytest
from conntrack_lab import PRE, Lab, Passed, dnat, ip, masquerade, packet, snat
from nattrace.sim.engine import conntrack
from nattrace.sim.engine.conntrack import Template, describe
from nattrace.sim.engine.run import Run, explore
from nattrace.sim.model.conntrack import Conn, Tuple
from nattrace.sim.model.drawn import Drawn
from nattrace.sim.model.result import Leaf, Reason
from nattrace.sim.model.rule import ListTable
from nattrace.sim.model.where import Where
from nattrace.sim.model.world import Host

THERE, BACK = ("192.168.1.10:4000", "10.0.0.2:53"), ("10.0.0.2:53", "192.168.1.10:4000")


def left(lab: Lab) -> float:
    conn = lab.conns()[0]
    assert conn.timeout_at is not None
    return round(conn.timeout_at - lab.ws.now, 3)


def back(lab: Lab, *ends: str, proto: str = "udp", **how: Any) -> Passed:
    return lab.send(packet(proto, *(ends or BACK)), indev="up0", outdev="lan", **how)


# ------------------------------------------------------------------------------------------ lifetimes


def test_udp_is_a_stream_two_seconds_after_its_first_packet() -> None:
    lab = Lab()
    assert lab.send(packet("udp", *THERE)).state == "NEW"
    assert lab.send(packet("udp", *THERE)).state == "NEW"
    lab.ws.now = 1.0
    assert (back(lab).state, left(lab)) == ("ESTABLISHED", 30)
    lab.send(packet("udp", *THERE))
    assert (left(lab), "ASSURED" in lab.conns()[0].status_names()) == (30, False)
    lab.ws.now = 2.5
    lab.send(packet("udp", *THERE))
    assert (left(lab), "ASSURED" in lab.conns()[0].status_names()) == (120, True)


def test_a_first_reply_after_two_seconds_still_gives_thirty() -> None:
    lab = Lab()
    lab.send(packet("udp", *THERE))
    lab.ws.now = 5
    back(lab)
    assert left(lab) == 30
    back(lab)
    assert left(lab) == 120


def test_an_expired_entry_is_invisible() -> None:
    lab = Lab(sysctl={"udp_timeout": 7})
    lab.send(packet("udp", *THERE))
    lab.ws.now = 6.9
    assert back(lab).state == "ESTABLISHED"
    lab.ws.now = 13.9
    assert back(lab).state == "NEW"


@pytest.mark.parametrize(
    ("proto", "fields", "state", "seconds"),
    [("icmp", {"icmp_type": 8}, "NEW", 30), ("icmp", {"icmp_type": 0}, "INVALID", 0), ("icmp", {"icmp_type": 13}, "NEW", 30),
     ("icmp", {"icmp_type": 9}, "INVALID", 0), ("99", {}, "NEW", 600), ("gre", {}, "NEW", 30), ("4", {}, "NEW", 600),
     ("esp", {}, "NEW", 600), ("sctp", {"chunk_types": ((1, 0),)}, "NEW", 10),
     ("sctp", {"chunk_types": ((0, 0),)}, "INVALID", 0)],
)  # fmt: skip
def test_what_begins_a_flow_of_other_protocols(proto: str, fields: dict[str, Any], state: str, seconds: int) -> None:
    lab = Lab()
    assert lab.send(packet(proto, "192.168.1.10", "10.0.0.2", **fields)).state == state
    assert [left(lab)] == [seconds] if seconds else not lab.conns()


def test_a_packet_dropped_before_confirmation_leaves_no_entry() -> None:
    lab = Lab()
    lab.send(packet("udp", *THERE), until=PRE)
    assert not lab.conns()
    assert lab.send(packet("udp", *THERE)).state == "NEW"
    assert len(lab.table.entries) == 1


def test_a_reset_to_an_unanswered_syn_removes_the_entry_but_is_translated_by_it() -> None:
    lab = Lab()
    lab.send(packet("tcp", *THERE, "S", tcp_seq=1000), src_rule=masquerade())
    got = lab.send(packet("tcp", "10.0.0.2:53", "10.0.0.1:4000", "RA", tcp_ack=1001), indev="up0", outdev="lan")
    assert (got.state, got.target) == ("ESTABLISHED", "192.168.1.10:4000")
    assert not lab.conns()


def test_counters_exist_only_with_acct() -> None:
    for on, expected in ((0, None), (1, ((2, 56), (1, 28)))):
        lab = Lab(sysctl={"acct": on})
        lab.send(packet("udp", *THERE))
        back(lab)
        lab.send(packet("udp", *THERE))
        assert lab.conns()[0].acct == expected


# ----------------------------------------------------------------------------------------------- zones


def test_one_zone_on_one_side_loses_the_reply() -> None:
    lab = Lab()
    lab.send(packet("udp", *THERE), zone=(1, 1), src_rule=masquerade())
    assert back(lab, "10.0.0.2:53", "10.0.0.1:4000").state == "NEW"
    assert back(lab, "10.0.0.2:53", "10.0.0.1:4000", zone=(1, 1)).state == "ESTABLISHED"


def test_zone_orig_leaves_the_reply_in_zone_0() -> None:
    lab = Lab()
    lab.send(packet("udp", *THERE), zone=(1, 0), src_rule=masquerade())
    got = back(lab, "10.0.0.2:53", "10.0.0.1:4000")
    assert (got.state, got.target) == ("ESTABLISHED", "192.168.1.10:4000")
    shown = describe(lab.conns()[0])
    assert (shown["zone"], shown["zone_orig"], shown["zone_reply"]) == (1, 1, 0)


def test_the_same_flow_in_two_zones_is_two_entries() -> None:
    lab = Lab()
    lab.send(packet("udp", *THERE))
    lab.send(packet("udp", *THERE), zone=(2, 2))
    assert [c.zones for c in lab.conns()] == [(0, 0), (2, 2)]
    # In another zone the port is free although the wire tuple is the same.
    assert [c.tuples[1].dport for c in lab.conns()] == [4000, 4000]


def test_an_answer_that_comes_by_a_second_time_as_a_new_flow_changes_its_port() -> None:
    # A client's packet passes twice, untracked the first time; the kernel gave the answer port 430 instead of 53.
    lab = Lab()
    lab.send(packet("udp", "192.168.1.10:4001", "9.9.9.9:53"), src_rule=masquerade())
    first = back(lab, "9.9.9.9:53", "10.0.0.1:4001")
    assert (first.state, first.target) == ("ESTABLISHED", "192.168.1.10:4001")
    second = back(lab, "9.9.9.9:53", "192.168.1.10:4001")
    assert second.state == "NEW" and isinstance(second.skb.sport, Drawn)
    assert lab.ws.domains[second.skb.sport.draw_id].ranges == ((1, 52), (54, 511))


# --------------------------------------------------------------------------------------------- clashes


def test_two_untranslated_copies_of_one_flow_share_an_entry() -> None:
    lab = Lab()
    first, second = packet("udp", *THERE), packet("udp", *THERE)
    lab.send(first, until=PRE)
    other = lab.table.create(
        (conntrack.get_tuple(lab.ws, second), conntrack.invert(conntrack.get_tuple(lab.ws, second)))
    )
    second.ct, second.ctinfo = other.conn_id, 2
    ctx = lab.ctx(4, None, "up0")
    assert conntrack.confirm(ctx, first).code == "ACCEPT"
    assert conntrack.confirm(ctx, second).code == "ACCEPT"
    assert second.ct == first.ct and len(lab.conns()) == 1


# ------------------------------------------------------------------------------------------ full table


def test_a_table_full_of_assured_entries_drops_new_flows() -> None:
    lab = Lab(sysctl={"max": 1, "udp_timeout_stream": 1000})
    lab.send(packet("udp", *THERE))
    back(lab)
    lab.ws.now = 3
    back(lab)
    got = lab.send(packet("udp", "192.168.1.11:1", "10.0.0.2:53"))
    assert got.verdict.reason == "conntrack_full"


def test_an_unassured_entry_may_be_evicted_with_a_known_probability() -> None:
    lab = Lab(sysctl={"max": 1, "buckets": 64})
    lab.send(packet("udp", *THERE))

    def play(run: Run) -> Leaf:
        got = lab.send(packet("udp", "192.168.1.11:1", "10.0.0.2:53"), run=run)
        return Leaf(got.verdict.code, {}, {}, Reason("", ""))

    leaves, _ = explore(lab.ws, play)
    chances = {found.outcome: found.probability for found in leaves}
    assert chances["DROP"] == pytest.approx((1 - 8 / 64) ** 2)
    assert chances["ACCEPT"] == pytest.approx(1 - (1 - 8 / 64) ** 2)


# ------------------------------------------------------------------------------------ snapshot entries


def dumped(state: str, status: int = 0x18E) -> Conn:
    orig = Tuple(2, 6, ip("192.168.1.10"), ip("10.0.0.2"), 4000, 53)
    reply = Tuple(2, 6, ip("10.0.0.2"), ip("192.168.1.10"), 53, 4000)
    return Conn(
        1, (orig, reply), status=status, timeout_at=100.0, proto_state=("tcp", state), where=Where("conntrack.txt", 1)
    )


def test_a_connection_of_the_dump_is_taken_up_with_unknown_windows() -> None:
    lab = Lab(conns=(dumped("ESTABLISHED"),))
    got = lab.send(packet("tcp", *THERE, "PA", tcp_seq=123456, tcp_ack=77, data=b"x"), src_rule=masquerade())
    assert (got.state, got.source) == ("ESTABLISHED", "192.168.1.10:4000")
    assert "decided when entry #1 was made (conntrack.txt:1)" in got.notes


def test_a_syn_reopens_a_time_wait_entry_of_the_dump() -> None:
    lab = Lab(conns=(dumped("TIME_WAIT"),))
    got = lab.send(packet("tcp", *THERE, "S", tcp_seq=9), src_rule=snat("10.0.0.7"))
    assert (got.state, got.source) == ("NEW", "10.0.0.7:4000")


# -------------------------------------------------------------------------------------------- helpers

CONTROL = ("192.168.1.10:4000", "10.0.0.2:21")


def control(lab: Lab, *lines: tuple[str, bytes], **how: Any) -> list[Passed]:
    """A control connection: handshake, then ``lines`` of ("c" or "s", bytes). Returns what became of the lines."""
    ftp = Template(helper="ftp")
    seq = {"c": 1000, "s": 5000}
    lab.send(packet("tcp", *CONTROL, "S", tcp_seq=1000), template=ftp, **how)
    target = how.pop("seen_as", "192.168.1.10:4000")
    ends = {"c": CONTROL, "s": ("10.0.0.2:21", target)}
    lab.send(packet("tcp", *ends["s"], "SA", tcp_seq=5000, tcp_ack=1001), indev="up0", outdev="lan")
    lab.send(packet("tcp", *CONTROL, "A", tcp_seq=1001, tcp_ack=5001))
    seq = {"c": 1001, "s": 5001}
    out = []
    for side, data in lines:
        skb = packet("tcp", *ends[side], "PA", tcp_seq=seq[side], tcp_ack=seq["s" if side == "c" else "c"], data=data)
        where = {"indev": "up0", "outdev": "lan"} if side == "s" else {}
        out.append(lab.send(skb, **where))
        seq[side] += len(data)
    return out


TALK = (("s", b"220 hi\r\n"), ("c", b"USER x\r\n"), ("s", b"331 ok\r\n"))


def test_ftp_expects_the_active_data_connection() -> None:
    lab = Lab()
    control(lab, *TALK, ("c", b"PORT 192,168,1,10,4,1\r\n"))
    data = lab.send(packet("tcp", "10.0.0.2:20", "192.168.1.10:1025", "S"), indev="up0", outdev="lan")
    assert data.state == "RELATED" and data.conn is not None and data.conn.master == 1
    again = lab.send(packet("tcp", "10.0.0.2:20", "192.168.1.10:1026", "S"), indev="up0", outdev="lan")
    assert again.state == "NEW"


def test_ftp_behind_masquerade_rewrites_the_announcement_and_follows_it() -> None:
    lab = Lab()

    def run(ctx: Any, skb: Any) -> Any:
        return masquerade()(ctx, skb)

    passed = None
    ftp = Template(helper="ftp")
    lab.send(packet("tcp", *CONTROL, "S", tcp_seq=1000), template=ftp, src_rule=run)
    server = ("10.0.0.2:21", "10.0.0.1:4000")
    lab.send(packet("tcp", *server, "SA", tcp_seq=5000, tcp_ack=1001), indev="up0", outdev="lan")
    lab.send(packet("tcp", *CONTROL, "A", tcp_seq=1001, tcp_ack=5001))
    lab.send(packet("tcp", *CONTROL, "PA", tcp_seq=1001, tcp_ack=5001, data=b"USER x\r\n"))
    port = b"PORT 192,168,1,10,4,1\r\n"
    passed = lab.send(packet("tcp", *CONTROL, "PA", tcp_seq=1009, tcp_ack=5001, data=port))
    assert passed.skb.payload == b"PORT 10,0,0,1,4,1\r\n"
    # The payload became shorter: the server acknowledges fewer bytes than the client sent.
    ack = lab.send(packet("tcp", *server, "A", tcp_seq=5001, tcp_ack=1009 + len(port) - 4), indev="up0", outdev="lan")
    assert (ack.state, ack.skb.tcp_ack) == ("ESTABLISHED", 1009 + len(port))
    data = lab.send(packet("tcp", "10.0.0.2:20", "10.0.0.1:1025", "S"), indev="up0", outdev="lan")
    assert (data.state, data.target) == ("RELATED", "192.168.1.10:1025")


def test_ftp_passive_through_dnat_announces_the_public_address() -> None:
    lab = Lab()
    ftp = Template(helper="ftp")
    client = ("198.51.100.9:4000", "203.0.113.2:21")
    inward = {"indev": "up1", "outdev": "lan"}
    outward = {"indev": "lan", "outdev": "up1"}
    lab.send(packet("tcp", *client, "S", tcp_seq=1000), template=ftp, dst_rule=dnat("192.168.1.10"), **inward)
    server = ("192.168.1.10:21", "198.51.100.9:4000")
    lab.send(packet("tcp", *server, "SA", tcp_seq=5000, tcp_ack=1001), **outward)
    lab.send(packet("tcp", *client, "A", tcp_seq=1001, tcp_ack=5001), **inward)
    lab.send(packet("tcp", *server, "PA", tcp_seq=5001, tcp_ack=1001, data=b"220 hi\r\n"), **outward)
    line = b"227 Entering Passive Mode (192,168,1,10,200,10)\r\n"
    got = lab.send(packet("tcp", *server, "PA", tcp_seq=5009, tcp_ack=1001, data=line), **outward)
    assert got.skb.payload == b"227 Entering Passive Mode (203,0,113,2,200,10)\r\n"
    data = lab.send(packet("tcp", "198.51.100.9:4001", "203.0.113.2:51210", "S"), **inward)
    assert (data.state, data.target) == ("RELATED", "192.168.1.10:51210")


def test_tftp_data_comes_from_any_port() -> None:
    lab = Lab()
    request = packet("udp", "192.168.1.10:4000", "10.0.0.2:69", data=b"\0\1file\0octet\0")
    lab.send(request, template=Template(helper="tftp"), src_rule=masquerade())
    got = lab.send(packet("udp", "10.0.0.2:50123", "10.0.0.1:4000"), indev="up0", outdev="lan")
    assert (got.state, got.target) == ("RELATED", "192.168.1.10:4000")


def test_a_new_connection_may_be_one_that_an_unmodelled_helper_expects() -> None:
    lab = Lab()
    lab.send(packet("udp", "192.168.1.10:5060", "10.0.0.2:5060", data=b"INVITE"), template=Template(helper="sip"))
    lab.send(packet("udp", "192.168.1.77:7000", "10.0.0.77:7000"))
    assert not lab.run.unknowns
    lab.send(packet("udp", "10.0.0.2:7000", "192.168.1.10:7000"), indev="up0", outdev="lan")
    assert ["'sip'" in reason.text for reason in lab.run.unknowns] == [True]


@pytest.mark.parametrize(("data", "unknown"), [(b"INVITE", 1), (b"", 0)])
def test_what_an_unmodelled_helper_makes_of_a_translated_payload_is_unknown(data: bytes, unknown: int) -> None:
    lab, skb = Lab(), packet("udp", "192.168.1.10:5060", "10.0.0.2:5060", data=data)
    skb.payload = data
    lab.send(skb, template=Template(helper="sip"), src_rule=masquerade())
    assert len(lab.run.unknowns) == unknown


# ------------------------------------------------------------------------------------------- switches


def test_tracking_is_per_family_and_entries_prove_it() -> None:
    assert not conntrack.active(Host("h", tables=(ListTable("iptables", 2, "nat", {}),)))
    host = Host("h", conns=(dumped("ESTABLISHED"),))
    assert conntrack.active(host) and conntrack.active(host, 2) and not conntrack.active(host, 10)


def test_a_reply_to_a_rejected_packet_is_related_the_other_way_round() -> None:
    lab = Lab()
    skb = packet("udp", *THERE)
    lab.send(skb, until=PRE)
    error = packet("icmp", "192.168.1.1", "192.168.1.10", icmp_type=3, inner=skb.copy())
    conntrack.attach(lab.ctx(3, None, "lan"), error, skb)
    assert (error.ct, error.ctinfo) == (skb.ct, 4)
    untracked = packet("icmp", "192.168.1.1", "192.168.1.10", icmp_type=3)
    conntrack.attach(lab.ctx(3, None, "lan"), untracked, packet("udp", *THERE, ctinfo=7))
    assert untracked.ctinfo is None
