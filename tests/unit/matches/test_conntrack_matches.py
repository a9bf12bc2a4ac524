"""Matches on the packet's conntrack entry (net/netfilter/xt_conntrack.c and its kin)."""

from __future__ import annotations

import pytest
from nattrace.sim.model.conntrack import (
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    IPS_SRC_NAT_DONE,
    Tuple,
)
from nattrace.sim.model.drawn import Domain
from vocabulary import Bench, criterion, ip, packet


def request(**fields):
    return packet("udp", "10.0.0.2", "192.0.2.9", sport=4000, dport=53, **fields)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("-m conntrack --ctstate INVALID", True),
        ("-m conntrack --ctstate NEW", False),
        ("-m conntrack ! --ctstate NEW", True),
        ("-m conntrack --ctproto 17", False),
        ("-m conntrack ! --ctproto 17", False),
        ("-m conntrack ! --ctorigsrc 1.1.1.1", False),
        ("-m conntrack --ctstate INVALID --ctproto 99", True),
        ("-m state --state INVALID", True),
        ("-m state ! --state INVALID,UNTRACKED", False),
        ("-m connmark --mark 0x0", False),
        ("-m connmark ! --mark 0x5", False),
        ("-m helper --helper ftp", False),
        ("-m helper ! --helper ftp", True),
        ('-m connlabel --label "5"', False),
        ('-m connlabel ! --label "5"', True),
        ("-m connbytes ! --connbytes 5:6 --connbytes-mode bytes --connbytes-dir both", False),
        ("-m cluster ! --cluster-local-nodemask 0x1 --cluster-total-nodes 2 --cluster-hash-seed 0x1", False),
    ],
)
def test_packet_without_entry(text, wanted):
    assert Bench().test(text, request()) is wanted


def test_untracked_packet_is_untracked_and_not_invalid():
    skb = request(ctinfo=7)
    assert Bench().test("-m conntrack --ctstate UNTRACKED", skb) is True
    assert Bench().test("-m state --state INVALID", skb) is False


@pytest.mark.parametrize(
    ("ctinfo", "state"), [(0, "ESTABLISHED"), (1, "RELATED"), (2, "NEW"), (3, "ESTABLISHED"), (4, "RELATED")]
)
def test_state_follows_ctinfo(ctinfo, state):
    bench, skb = Bench(), request()
    bench.conn(skb, ctinfo=ctinfo)
    assert bench.test(f"-m conntrack --ctstate {state}", skb) is True
    assert bench.test(f"-m conntrack ! --ctstate {state}", skb) is False
    assert bench.test(f"-m state --state {state}", skb) is True
    assert bench.test(f"-m conntrack --ctdir {'REPLY' if ctinfo > 2 else 'ORIGINAL'}", skb) is True


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("--ctstate SNAT", True),
        ("--ctstate DNAT", False),
        ("--ctstate NEW,DNAT", True),
        ("--ctproto 17", True),
        ("! --ctproto 17", False),
        ("--ctorigsrc 10.0.0.0/8", True),
        ("! --ctorigsrc 10.0.0.0/8", False),
        ("--ctorigdst 192.0.2.8", False),
        ("--ctreplsrc 192.0.2.9", True),
        ("--ctrepldst 203.0.113.1", True),
        ("--ctrepldst 10.0.0.2", False),
        ("--ctorigsrcport 4000", True),
        ("--ctorigdstport 1:52", False),
        ("! --ctorigdstport 1:52", True),
        ("--ctreplsrcport 53", True),
        ("--ctrepldstport 1024:65535", True),
        ("--ctstatus CONFIRMED", True),
        ("--ctstatus ASSURED,EXPECTED", False),
        ("--ctstatus NONE", False),
        ("! --ctstatus NONE", True),
        ("--ctexpire 29:30", True),
        ("--ctexpire 31:", False),
        ("! --ctexpire 31:", True),
        ("--ctorigsrc 10.0.0.2 ! --ctorigdst 192.0.2.9", False),
    ],
)
def test_entry_of_a_masqueraded_flow(text, wanted):
    bench, skb = Bench(), request()
    reply = Tuple(2, 17, ip("192.0.2.9"), ip("203.0.113.1"), 53, 40000)
    bench.conn(skb, IPS_CONFIRMED | IPS_SRC_NAT | IPS_SRC_NAT_DONE, reply=reply, timeout_at=30.5)
    assert bench.test(f"-m conntrack {text}", skb) is wanted


def test_drawn_port_in_a_tuple_splits_the_world():
    bench, skb = Bench(), request()
    token = bench.state.draw("sport", Domain.of(1024, 65535))
    bench.conn(skb, reply=Tuple(2, 17, ip("192.0.2.9"), ip("203.0.113.1"), 53, token))
    outcomes = dict((answer, p) for p, answer in bench.outcomes("-m conntrack --ctrepldstport 32768:65535", skb))
    assert outcomes[True] == pytest.approx(32768 / 64512)
    assert outcomes[False] == pytest.approx(31744 / 64512)


def test_unconfirmed_entry_reads_as_expired():
    bench, skb = Bench(), request()
    bench.conn(skb, status=0)
    assert bench.test("-m conntrack --ctexpire 0", skb) is True


def test_template_of_a_ct_target_is_new_in_the_raw_table():
    bench, skb = Bench("PREROUTING", "eth0", None), request(template=object())
    bench.table = "raw"
    assert bench.test("-m conntrack --ctstate NEW", skb) is True
    assert bench.test("-m connmark --mark 0x0", skb) is True


@pytest.mark.parametrize(("text", "wanted"), [("0x5", True), ("! 0x5", False), ("0x4/0x4", True), ("0x1/0x2", False)])
def test_connmark(text, wanted):
    bench, skb = Bench(), request()
    bench.conn(skb, mark=5)
    no, _, value = text.rpartition(" ")
    assert bench.test(f"-m connmark {no} --mark {value}", skb) is wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("4:4 --connbytes-mode packets --connbytes-dir original", True),
        ("1:2 --connbytes-mode packets --connbytes-dir reply", True),
        ("6 --connbytes-mode packets --connbytes-dir both", True),
        ("7 --connbytes-mode packets --connbytes-dir both", False),
        ("400:500 --connbytes-mode bytes --connbytes-dir both", True),
        ("75:75 --connbytes-mode avgpkt --connbytes-dir original", True),
        ("70:74 --connbytes-mode avgpkt --connbytes-dir original", False),
    ],
)
def test_connbytes(text, wanted):
    bench, skb = Bench(), request()
    bench.conn(skb, acct=((4, 300), (2, 200)))
    assert bench.test(f"-m connbytes --connbytes {text}", skb) is wanted


def test_connbytes_never_matches_an_entry_without_counters():
    bench, skb = Bench(), request()
    bench.conn(skb)
    assert bench.test("-m connbytes ! --connbytes 1:2 --connbytes-mode packets --connbytes-dir both", skb) is False


def test_connbytes_negation_of_a_single_value_is_lost_as_in_the_kernel():
    bench, skb = Bench(), request()
    bench.conn(skb, acct=((5, 0), (0, 0)))
    assert bench.test("-m connbytes ! --connbytes 5:5 --connbytes-mode packets --connbytes-dir both", skb) is True


def test_connlabel_reads_and_sets_bits():
    bench, skb = Bench(), request()
    conn = bench.conn(skb, labels=1 << 7)
    assert bench.test('-m connlabel --label "7"', skb) is True
    assert bench.test('-m connlabel ! --label "8"', skb) is True
    assert bench.test('-m connlabel --label "8" --set', skb) is True
    assert bench.hs.ct.get(conn.conn_id).labels == 1 << 7 | 1 << 8
    assert bench.undecided("-m connlabel --label web", skb)


def test_helper_is_that_of_the_expecting_connection():
    bench, skb, control = Bench(), request(), packet("tcp", sport=1, dport=21)
    master = bench.conn(control, helper="ftp")
    bench.conn(skb, master=master.conn_id)
    assert bench.test("-m helper --helper ftp", skb) is True
    assert bench.test("-m helper --helper ftp-2121", skb) is True
    assert bench.test("-m helper ! --helper ftp", skb) is False
    assert bench.test("-m helper --helper sip", skb) is False
    assert bench.test('-m helper --helper ""', skb) is True
    assert bench.test("-m helper --helper ftp", control) is False


def test_cluster_hashes_the_original_source():
    """jhash_1word() of 10.0.0.2 and 10.0.0.3 with seed 0xdeadbeef over two nodes (include/linux/jhash.h)."""
    bench = Bench()
    nodes = set()
    for n in range(2, 30):
        skb = packet("udp", f"10.0.0.{n}", sport=n, dport=53)
        bench.conn(skb)
        hits = [
            bench.test(
                f"-m cluster --cluster-total-nodes 2 --cluster-local-node {node} --cluster-hash-seed 0xdeadbeef", skb
            )
            for node in (1, 2)
        ]
        assert sorted(hits) == [False, True]
        nodes.add(hits.index(True))
    assert nodes == {0, 1}


def test_connlimit_counts_live_connections_of_a_masked_source():
    bench = Bench()
    above = criterion("-p udp -m connlimit --connlimit-above 2 --connlimit-mask 24")
    answers = []
    for n in range(4):
        skb = packet("udp", f"10.0.0.{n}", sport=1000 + n, dport=53)
        bench.conn(skb, timeout_at=100.0)
        answers.append(bench.test(above, skb))
        assert bench.test(above, skb) is answers[-1], "the same connection counts once"
    assert answers == [False, False, True, True]
    elsewhere = packet("udp", "10.0.1.1", sport=5, dport=53)
    bench.conn(elsewhere)
    assert bench.test(above, elsewhere) is False


def test_connlimit_forgets_connections_that_are_gone():
    bench = Bench()
    upto = criterion("-p udp -m connlimit --connlimit-upto 1 --connlimit-daddr")
    first, second = packet("udp", sport=1, dport=53), packet("udp", sport=2, dport=53)
    bench.conn(first, timeout_at=10.0)
    assert bench.test(upto, first) is True
    bench.conn(second, timeout_at=100.0)
    assert bench.test(upto, second) is False
    bench.state.now = 11.0
    assert bench.test(upto, second) is True


def test_socket_exists_only_where_the_dump_has_one():
    from nattrace.sim.model.route import Socket

    skb = packet("tcp", "10.0.0.2", "192.0.2.1", sport=4000, dport=80)
    wild = Socket(2, 6, None, 80, state="LISTEN")
    bound = Socket(2, 6, ip("192.0.2.1"), 80, state="LISTEN", transparent=True, mark=9)

    def bench(*sockets):
        return Bench("PREROUTING", "eth0", None, sockets=sockets)

    assert bench().test("-m socket", skb) is False
    assert bench(wild).test("-m socket", skb) is False
    assert bench(wild).test("-m socket --nowildcard", skb) is True
    assert bench(bound).test("-m socket --transparent", skb) is True
    assert bench(wild, bound).test("-m socket", skb) is True
    assert bench(Socket(2, 6, ip("192.0.2.1"), 81)).test("-m socket", skb) is False
    assert bench(Socket(2, 6, ip("192.0.2.1"), 80, ip("10.0.0.2"), 4000, "ESTAB")).test("-m socket", skb) is True
    assert bench(Socket(2, 6, ip("192.0.2.1"), 80, ip("10.0.0.2"), 4001, "ESTAB")).test("-m socket", skb) is False
    assert Bench("PREROUTING", "eth0", None).undecided("-m socket", skb)
    error = packet("icmp", "10.9.9.9", "192.0.2.1", icmp_type=3, icmp_code=3)
    error.inner = packet("tcp", "192.0.2.1", "10.0.0.2", sport=80, dport=4000)
    assert bench(bound).test("-m socket", error) is True


def test_socket_match_looks_up_replies_by_the_original_source():
    from nattrace.sim.model.route import Socket

    back = packet("tcp", "192.0.2.9", "203.0.113.1", sport=443, dport=40000)
    bench = Bench(
        "PREROUTING", "eth0", None, sockets=(Socket(2, 6, ip("10.0.0.2"), 5000, ip("192.0.2.9"), 443, "ESTAB"),)
    )
    out = packet("tcp", "10.0.0.2", "192.0.2.9", sport=5000, dport=443)
    reply = Tuple(2, 6, ip("192.0.2.9"), ip("203.0.113.1"), 443, 40000)
    bench.conn(out, IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_ASSURED | IPS_SRC_NAT | IPS_SRC_NAT_DONE, reply=reply)
    back.ct, back.ctinfo = out.ct, 3
    assert bench.test("-m socket", back) is True
