"""conntrack.txt in each form that the tools print, and back."""

from __future__ import annotations

import pytest
from nattrace.sim.model.addr import parse_addr
from nattrace.sim.model.conntrack import IPS_ASSURED, IPS_DST_NAT, IPS_SEEN_REPLY, IPS_SRC_NAT
from nattrace.sim.model.drawn import Drawn
from nattrace.sim.snapshot.conntrack import format_conntrack, read_conntrack
from nattrace.sim.snapshot.expect import read_expect
from nattrace.sim.snapshot.problems import Problems


def read(text):
    problems = Problems()
    found = read_conntrack(text, "conntrack.txt", problems)
    problems.finish()
    return found


def only(text):
    (conn,) = read(text)[None]
    return conn


def by_tuple(conns):
    return {(c.zones, c.tuples): (c.status, c.mark, c.acct, c.helper, c.proto_state) for c in conns}


@pytest.mark.parametrize("form", ("plain", "extended", "proc"))
def test_every_form_means_the_same(data, form):
    full = read(data("other/conntrack-id.txt"))[None]
    assert len(full) == 12
    assert by_tuple(read(data(f"other/conntrack-{form}.txt"))[None]) == by_tuple(full)


def test_what_is_written_is_what_the_tool_prints(data):
    """Age and order of entries are the tool's own business."""
    for line in data("other/conntrack-extended.txt").strip().split("\n"):
        printed = " ".join(line.replace("delta-time=0 ", "").split())
        if " 33 " in line:  # the kernel has no tracker for dccp; the tool prints ports nevertheless
            continue
        assert " ".join(format_conntrack(only(line)).split()) == printed


def test_columns_are_as_wide_as_the_tools(data):
    line = data("other/conntrack-extended.txt").split("\n")[1]
    assert format_conntrack(only(line)).startswith("ipv4     2 tcp      6 119 SYN_SENT src=10.0.0.9 ")


LINE = (
    "tcp 6 100 ESTABLISHED src=10.0.0.2 dst=8.8.8.8 sport=40000 dport=443 "
    "src={} dst={} sport={} dport={} [ASSURED] mark=5 use=1"
)


@pytest.mark.parametrize(
    ("reply", "bits"),
    (
        (("8.8.8.8", "10.0.0.2", 443, 40000), 0),
        (("8.8.8.8", "5.5.5.5", 443, 40000), IPS_SRC_NAT),
        (("8.8.8.8", "10.0.0.2", 443, 1024), IPS_SRC_NAT),
        (("9.9.9.9", "10.0.0.2", 443, 40000), IPS_DST_NAT),
        (("9.9.9.9", "5.5.5.5", 80, 1024), IPS_SRC_NAT | IPS_DST_NAT),
    ),
)
def test_nat_is_inferred_from_the_tuples(reply, bits):
    conn = only(LINE.format(*reply))
    assert conn.status & (IPS_SRC_NAT | IPS_DST_NAT) == bits
    assert conn.status & (IPS_SEEN_REPLY | IPS_ASSURED) == IPS_SEEN_REPLY | IPS_ASSURED
    assert (conn.mark, conn.timeout_at, conn.proto_state) == (5, 100.0, ("tcp", "ESTABLISHED"))


def test_icmp_is_keyed_by_type_code_and_id():
    conn = only(
        "icmp 1 29 src=10.0.0.2 dst=8.8.8.8 type=8 code=0 id=7 [UNREPLIED] "
        "src=8.8.8.8 dst=5.5.5.5 type=0 code=0 id=9 mark=0 use=1 id=12345"
    )
    assert [(t.sport, t.dport) for t in conn.tuples] == [(7, 0x0800), (9, 0)]
    assert conn.conn_id == 12345 and conn.status & IPS_SRC_NAT and not conn.status & IPS_SEEN_REPLY


@pytest.mark.parametrize(
    ("orig", "reply", "tail", "zones"),
    (
        ("", "", "zone=9", (9, 9)),
        ("zone-orig=5", "", "", (5, 0)),
        ("", "zone-reply=8", "", (0, 8)),
        ("", "", "", (0, 0)),
    ),
)
def test_zones_of_both_directions(orig, reply, tail, zones):
    conn = only(
        f"udp 17 29 src=1.1.1.1 dst=2.2.2.2 sport=5 dport=6 {orig} "
        f"src=2.2.2.2 dst=1.1.1.1 sport=6 dport=5 {reply} mark=0 {tail} use=1"
    )
    assert conn.zones == zones
    assert read(format_conntrack(conn))[None][0].zones == zones


def test_a_drawn_port_is_written_as_a_star():
    conn = only(LINE.format("8.8.8.8", "5.5.5.5", 443, 40000))
    reply = conn.tuples[1]._replace(dport=Drawn(1, "sport"))
    assert "src=8.8.8.8 dst=5.5.5.5 sport=443 dport=* " in format_conntrack(conn.with_(tuples=(conn.tuples[0], reply)))


def test_our_own_output_holds_several_hosts():
    line = LINE.format("8.8.8.8", "10.0.0.2", 443, 40000)
    found = read(f"# host a\n{line}\n{line}\n# host b\n# host c\n{line}\n")
    assert {host: len(conns) for host, conns in found.items()} == {None: 0, "a": 2, "b": 0, "c": 1}


def test_bad_lines_are_all_reported():
    problems = Problems()
    read_conntrack(
        "tcp 6\nudp 17 29 src=1.1.1.1 dst=2.2.2.2 mark=0\nudp 17 2 src=1.1.1 dst=2.2.2.2 src=1 dst=2\n", "f", problems
    )
    assert [e.where.line for e in problems.errors] == [1, 2, 3]


def test_an_expectation_finds_its_master(data):
    conns = read(data("other/expect-master.txt"))[None]
    (found,) = read_expect(data("other/expect.txt"), "expect.txt", Problems(), conns)
    assert (found.proto, found.sport, found.dport, found.helper, found.timeout_at) == (6, None, 2021, "ftp", 300.0)
    assert (found.src, found.dst) == (parse_addr("127.0.0.1")[1], parse_addr("10.0.0.9")[1])
    assert found.master == 2


def test_an_entry_that_a_flowtable_has_shows_no_seconds():
    """As conntrack-tools print one of Linux 6.12."""
    (conn,) = read(
        "ipv4     2 udp      17 src=10.7.1.2 dst=10.7.2.2 sport=40001 dport=80 src=10.7.2.2 dst=10.7.1.2 sport=80 "
        "dport=40001 [OFFLOAD] mark=0 use=2 id=430345080\n"
    )[None]
    assert (conn.tuples[0].src, conn.tuples[1].sport) == (parse_addr("10.7.1.2")[1], 80)
    assert conn.timeout_at >= 86400
