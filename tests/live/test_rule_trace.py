"""Which rule matched: told by the kernel for a flow, tied to the snapshot's lines, and nothing else changed by it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from lab_support import kernel
from nattrace.sim.errors import MissingFacility
from nattrace.sim.snapshot.load import load_world
from nattrace.tracer.live.flow import FlowKey
from nattrace.tracer.live.queue import QueueTaps, TapPoint
from nattrace.tracer.live.rules.book import RuleBook
from nattrace.tracer.live.rules.counters import Counters
from nattrace.tracer.live.rules.nflog import LegacyTrace
from nattrace.tracer.live.rules.nftrace import RuleTrace

from .router_lab import FLOW, residue, router, udp

pytestmark = kernel
EXPECTED = [  # table, chain, rule, verdict, hook
    ("mangle", "PREROUTING", 1, None, "PREROUTING"),
    ("nat", "PREROUTING", 1, "ACCEPT", "PREROUTING"),
    ("filter", "FORWARD", 2, "JUMP", "FORWARD"),
    ("filter", "USER", 1, "ACCEPT", "FORWARD"),
    ("nat", "POSTROUTING", 1, "ACCEPT", "POSTROUTING"),
]
DROPPED = [("mangle", "PREROUTING", 1, None, "PREROUTING"), ("filter", "FORWARD", 1, "DROP", "FORWARD")]


def outline(hits: list) -> list[tuple]:
    return [(h.step.table, h.step.chain, h.step.rule, h.step.verdict, h.step.hook) for h in hits]


def settled(trace: RuleTrace | LegacyTrace) -> list:
    """Everything until nothing comes any more."""
    hits = trace.read()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        time.sleep(0.05)
        more = trace.read()
        if hits and not more:
            break
        hits += more
    return hits


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_the_rules_of_two_packets(backend: str, tmp_path: Path) -> None:
    with router(backend) as (bench, space):
        host = load_world(bench.snapshot(tmp_path / "snap")).hosts["router"]
        book = RuleBook.read(space, host)
        kind = RuleTrace if backend == "nft" else LegacyTrace
        with kind(space, FLOW, book=book, allow_changes=True) as trace:
            udp(bench, 8080)
            udp(bench, 9999, "10.7.2.2")
            hits = settled(trace)
            assert outline(hits) == EXPECTED + DROPPED
            assert trace.loss() == {("nftrace" if backend == "nft" else "nflog"): 0, "nftrace_skipped": 0}
        for hit in hits:
            where = hit.step.where
            assert where is not None and where.file == "router/iptables-save.txt" and not hit.step.note
            line = (tmp_path / "snap" / where.file).read_text().splitlines()[where.line - 1]
            assert line.endswith(f"-A {hit.step.chain} {hit.step.text}")
        if backend == "nft":
            numbers = [h.packet for h in hits]  # between the two a port unreachable, which no rule matched
            assert len(set(numbers[:5])) == len(set(numbers[5:])) == 1 and numbers[0] < numbers[5]
            assert {h.message.ct_state for h in hits if h.message.network} <= {"NEW", None}
        assert [h.headers.key.dport for h in hits] == [8080, 8080, 80, 80, 80, 9999, 9999]
        assert residue(bench) == []


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_the_simulator_names_the_same_rules(backend: str, tmp_path: Path) -> None:
    """Observed and predicted are the same steps: table, chain, number, text, place, verdict."""
    from nattrace.sim.engine.simulate import Simulator

    with router(backend) as (bench, space):
        world = load_world(bench.snapshot(tmp_path / "snap"))
        book = RuleBook.read(space, world.hosts["router"])
        kind = RuleTrace if backend == "nft" else LegacyTrace
        with kind(space, FLOW, book=book, allow_changes=True) as trace:
            udp(bench, 8080)
            seen = [
                (h.step.table, h.step.chain, h.step.rule, h.step.text, str(h.step.where), h.step.verdict)
                for h in settled(trace)
            ]
    answer = Simulator(world).feed(
        {
            "host": "client",
            "in": None,
            "proto": "udp",
            "src": "10.7.1.2",
            "dst": "10.7.1.1",
            "sport": 40001,
            "dport": 8080,
        }
    )
    steps = [s for hop in answer["hops"] if hop["host"] == "router" for s in hop["steps"] if s["rule"] and s["matched"]]
    assert [(s["table"], s["chain"], s["rule"], s["text"], s["where"], s["verdict"]) for s in steps] == seen


def test_native_nft_rules_and_a_dropping_policy() -> None:
    ruleset = """
    table inet mine {
      chain f { type filter hook forward priority 5; policy drop;
        ip daddr 10.7.2.2 udp dport 80 counter jump sub
        udp dport 53 accept
      }
      chain sub {
        meta mark set 9
      }
    }"""
    with router("nft") as (bench, space):
        bench.lab.run("router", "nft", "-f", "-", text=ruleset)
        with RuleTrace(space, FLOW, book=RuleBook.read(space), allow_changes=True) as trace:
            udp(bench, 8080)
            hits = [h for h in settled(trace) if h.step.table == "mine"]
        assert [(h.step.chain, h.step.rule, h.step.text, h.step.verdict, h.priority) for h in hits] == [
            ("f", 1, "ip daddr 10.7.2.2 udp dport 80 counter jump sub", "JUMP", 5),
            ("sub", 1, "meta mark set 0x00000009", None, 5),
            ("f", None, "policy DROP", "DROP", 5),
        ]
        assert {h.step.hook for h in hits} == {"FORWARD"} and {h.step.backend for h in hits} == {"nft"}


def test_verdicts_of_targets_that_do_not_only_accept() -> None:
    rules = [
        "-A FORWARD -p udp --dport 1 -j REJECT",
        "-A FORWARD -p udp --dport 2 -j NFQUEUE --queue-num 7 --queue-bypass",
        "-N SUB",
        "-A FORWARD -p udp --dport 3 -g SUB",
        "-A SUB -j RETURN",
    ]
    expected = [(1, "DROP"), (2, "QUEUE"), (3, "GOTO"), (1, "RETURN")]
    with router("nft", rules) as (bench, space):
        with RuleTrace(space, FLOW, book=RuleBook.read(space), allow_changes=True) as trace:
            for port in (1, 2, 3):
                udp(bench, port, "10.7.2.2")
            found = [(h.step.rule, h.step.verdict) for h in settled(trace) if h.headers.key.proto == 17]
        assert found == expected


def test_other_flows_are_not_marked() -> None:
    with router("nft") as (bench, space), RuleTrace(space, FLOW, allow_changes=True) as trace:
        bench.send({"host": "server", "proto": "udp", "src": "10.7.2.2", "dst": "10.7.1.2", "sport": 1, "dport": 2})
        bench.send({"host": "client", "proto": "icmp", "src": "10.7.1.2", "dst": "10.7.2.2"})
        time.sleep(0.1)
        assert trace.messages() == []


def test_replies_are_found_by_their_entry_where_tracking_is_active() -> None:
    with (
        router("nft") as (bench, space),
        RuleTrace(space, FLOW, book=RuleBook.read(space), allow_changes=True) as trace,
    ):
        assert trace.tracked is not None
        udp(bench, 8080)
        first = settled(trace)
        bench.send(
            {"host": "server", "proto": "udp", "src": "10.7.2.2", "dst": "10.7.2.1", "sport": 80, "dport": 40001}
        )
        time.sleep(0.2)
        messages = trace.messages()
        assert {h.packet for h in first} == {1}
        forward = [m for m in messages if (m.table, m.chain) == ("filter", "FORWARD")]
        assert forward and forward[0].ct_direction in (1, None)


def test_observing_does_not_switch_tracking_on() -> None:
    """No entry appears where none would; with a ``ct`` key in a rule one does, so this would be seen."""
    count = "cat /proc/sys/net/netfilter/nf_conntrack_count"
    with router("nft", ["-A FORWARD -p udp --dport 9999 -j DROP"]) as (bench, space):
        replies = [FLOW.reversed()]
        with RuleTrace(space, FLOW, book=RuleBook.read(space), replies=replies, allow_changes=True) as trace:
            assert trace.tracked is None
            udp(bench, 9999, "10.7.2.2")
            udp(bench, 53, "10.7.2.2")
            assert outline(settled(trace)) == [("filter", "FORWARD", 1, "DROP", "FORWARD")]
            bench.send(
                {"host": "server", "proto": "udp", "src": "10.7.2.2", "dst": "10.7.1.2", "sport": 53, "dport": 40001}
            )
            time.sleep(0.1)
            assert trace.messages()  # the reply, by its tuple
            assert bench.run("router", count).strip() == "0"
        bench.lab.run("router", "nft", "add table ip t; add chain ip t c { type filter hook forward priority 1; }")
        bench.lab.run("router", "nft", "add rule ip t c ct state new accept")
        udp(bench, 53, "10.7.2.2")
        assert bench.run("router", count).strip() != "0"


def test_no_more_packets_than_the_rate_are_marked_and_the_rest_is_counted() -> None:
    with router("nft") as (bench, space), RuleTrace(space, FLOW, rate=10, allow_changes=True) as trace:
        for port in range(40):
            udp(bench, 9999, "10.7.2.2", 5000 + port)  # dropped: nothing comes back
        time.sleep(0.1)
        own = trace.table.name
        marked = len([m for m in trace.messages() if (m.table, m.chain) == (own, "mark")])
        assert marked < 40 and trace.loss()["nftrace_skipped"] == 40 - marked


def test_lost_messages_are_counted_exactly() -> None:
    """A reader that does not read: what came and what is missing add up to what the kernel sent."""
    with router("nft") as (bench, space), ExitStack() as stack:
        slow, quick = (stack.enter_context(RuleTrace(space, FLOW, rate=100_000, allow_changes=True)) for _ in range(2))
        slow.events.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        for port in range(20):
            udp(bench, 5000 + port, "10.7.2.2")
        time.sleep(0.2)
        sent, read = len(quick.messages()), len(slow.messages())
        assert sent > read > 0
        assert slow.loss()["nftrace"] == sent - read and quick.loss()["nftrace"] == 0


def test_two_at_once_in_a_namespace() -> None:
    with router("nft") as (bench, space):
        book = RuleBook.read(space)
        with (
            RuleTrace(space, FLOW, book=book, allow_changes=True) as one,
            RuleTrace(space, FLOW, book=book, allow_changes=True) as two,
        ):
            udp(bench, 8080)
            ours = [outline(settled(t)) for t in (one, two)]
        assert ours == [EXPECTED, EXPECTED]


def test_a_second_reader_of_legacy_lines_is_refused_and_changes_nothing() -> None:
    with router("legacy") as (bench, space), LegacyTrace(space, FLOW, allow_changes=True):
        with pytest.raises(MissingFacility, match="NFLOG group 0"):
            LegacyTrace(space, FLOW, allow_changes=True)
        assert len(residue(bench)) == 2  # the first one's table and logger


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_counters_before_and_after(backend: str) -> None:
    with router(backend) as (bench, space):
        counters = Counters(space)
        udp(bench, 8080)
        udp(bench, 9999, "10.7.2.2")
        rises = {(r.rule.table, r.rule.chain, r.rule.number): r.packets for r in counters.rises() if r.rule.number}
        assert rises == {
            ("mangle", "PREROUTING", 1): 2,
            ("nat", "PREROUTING", 1): 1,
            ("nat", "POSTROUTING", 1): 1,
            ("filter", "FORWARD", 1): 1,
            ("filter", "FORWARD", 2): 1,
            ("filter", "USER", 1): 1,
        }
        assert not counters.changed and "other traffic" in (counters.rises()[0].step().note or "")
        bench.run("router", f"iptables-{backend} -A USER -j RETURN")
        counters.rises()
        assert counters.changed


def test_a_snapshot_taken_meanwhile_is_as_without(tmp_path: Path) -> None:
    """nft 1.0.6 breaks off its JSON at a table with a flag; our own table decides nothing about the packet."""
    from nattrace.sim.engine.simulate import Simulator

    question = {
        "host": "client",
        "in": None,
        "proto": "udp",
        "src": "10.7.1.2",
        "dst": "10.7.1.1",
        "sport": 40001,
        "dport": 8080,
    }
    with router("nft") as (bench, space):
        before = Simulator(load_world(bench.snapshot(tmp_path / "before"))).feed(question)
        with RuleTrace(space, FLOW, allow_changes=True):
            world = load_world(bench.snapshot(tmp_path / "meanwhile"))
    answer = Simulator(world).feed(question)
    assert answer["certainty"] == "exact" and answer["outcome"] == before["outcome"]
    assert any("tracing meanwhile" in note for note in world.notes)


def test_ipv6_rules_and_taps() -> None:
    """The same over IPv6: ip6tables-nft with NAT, by trace and by queue."""
    flow = FlowKey.parse("udp", "fd07:1::2")
    with router("nft", []) as (bench, space):
        for host, dev, address in (
            ("client", "eth0", "fd07:1::2"),
            ("router", "eth0", "fd07:1::1"),
            ("router", "eth1", "fd07:2::1"),
            ("server", "eth0", "fd07:2::2"),
        ):
            bench.run(host, f"sysctl -qw net.ipv6.conf.{dev}.disable_ipv6=0")
            bench.run(host, f"ip -6 addr add {address}/64 dev {dev} nodad")
        bench.run("router", "sysctl -qw net.ipv6.conf.all.forwarding=1")
        bench.run("client", "ip -6 route add default via fd07:1::1")
        bench.run("server", "ip -6 route add default via fd07:2::1")
        bench.run("router", "ip6tables-nft -t nat -A POSTROUTING -o eth1 -j MASQUERADE")
        bench.run("router", "ip6tables-nft -A FORWARD -p udp --dport 53 -j ACCEPT")
        points = [TapPoint(2, -1), TapPoint(4, 101)]
        send = (
            "import socket; s = socket.socket(10, 2); s.bind(('fd07:1::2', 40001)); s.sendto(b'x', ('fd07:2::2', 53))"
        )
        with (
            RuleTrace(space, flow, book=RuleBook.read(space), allow_changes=True) as trace,
            QueueTaps(space, flow, points, allow_changes=True) as taps,
        ):
            child = subprocess.Popen(["ip", "netns", "exec", bench.lab.netns("client"), sys.executable, "-c", send])
            seen, end = [], time.monotonic() + 2
            while time.monotonic() < end:
                seen += taps.read(0.1)
            child.wait()
            hits = [h for h in settled(trace) if h.headers.key.proto == 17]
        assert outline(hits) == [
            ("filter", "FORWARD", 1, "ACCEPT", "FORWARD"),
            ("nat", "POSTROUTING", 1, "ACCEPT", "POSTROUTING"),
        ]
        assert {h.step.family for h in hits} == {"ip6"} and hits[0].step.text == "-p udp -m udp --dport 53 -j ACCEPT"
        mine = [s for s in seen if s.header()["proto"] == "udp"]
        assert [(s.point, s.header()["src"]) for s in mine] == [(points[0], "fd07:1::2"), (points[1], "fd07:2::1")]
        assert residue(bench) == []
