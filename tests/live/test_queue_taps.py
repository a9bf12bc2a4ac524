"""nfqueue taps: packets at each place, held, changed; what a stopped or killed reader costs; nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import netfilterqueue
import pytest
from lab_support import Bench, kernel
from lab_support.nobody import as_nobody
from nattrace.sim.errors import MissingFacility
from nattrace.tracer.lab.netns import inside as in_namespace
from nattrace.tracer.lab.netns import path_of
from nattrace.tracer.live.dissect import changed
from nattrace.tracer.live.filter import Filter
from nattrace.tracer.live.flow import FlowKey
from nattrace.tracer.live.nfnl.queues import queue_states
from nattrace.tracer.live.queue import QueueTaps, Seen, TapPoint, numbers_in_use
from nattrace.tracer.live.rules.nftrace import RuleTrace
from nattrace.tracer.live.session import Session

from .router_lab import FLOW, residue, router, udp

pytestmark = kernel
POINTS = [TapPoint(0, -301), TapPoint(0, -149), TapPoint(0, -99), TapPoint(2, -1), TapPoint(4, 101)]
ICMP = FlowKey.parse("icmp", "10.7.1.2")


def during(bench: Bench, taps: QueueTaps, action: Callable[[], object]) -> list[Seen]:
    """What the taps saw while something was done."""
    seen: list[Seen] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.extend(taps.read(0.02))
        seen.extend(taps.read(0.02))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        action()
    finally:
        time.sleep(0.1)
        done.set()
        reader.join()
    return seen


def test_the_packet_at_every_place() -> None:
    with router("nft") as (bench, space):
        with QueueTaps(space, FLOW, POINTS, allow_changes=True) as taps:
            assert taps.tracked is not None
            seen = [s for s in during(bench, taps, lambda: udp(bench, 8080)) if s.header()["proto"] == "udp"]
            assert [(s.point, s.header()["src"], s.header()["dst"], s.header()["dport"], s.mark) for s in seen] == [
                (POINTS[0], "10.7.1.2", "10.7.1.1", 8080, 0),
                (POINTS[1], "10.7.1.2", "10.7.1.1", 8080, 7),
                (POINTS[2], "10.7.1.2", "10.7.2.2", 80, 7),
                (POINTS[3], "10.7.1.2", "10.7.2.2", 80, 7),
                (POINTS[4], "10.7.2.1", "10.7.2.2", 80, 7),
            ]
            assert len({s.header()["ip_id"] for s in seen}) == 1
            assert taps.loss() == {"queue_passed": 0, "queue_dropped": 0, "queue_user": 0}
        bench.seen.clear()
        assert residue(bench) == []
        udp(bench, 8080, sport=40002)
        assert bench.captures("server", "eth0", "in")


def test_only_the_flow_meets_it() -> None:
    with router("nft") as (bench, space), QueueTaps(space, FLOW, POINTS, allow_changes=True) as taps:
        other = {"host": "client", "proto": "icmp", "src": "10.7.1.2", "dst": "10.7.2.2"}
        assert during(bench, taps, lambda: bench.send(other)) == []


def test_replies_and_no_tracking_where_there_was_none() -> None:
    with router(None) as (bench, space):
        with QueueTaps(space, FLOW, POINTS[:1], replies=[FLOW.reversed()], allow_changes=True) as taps:
            assert taps.tracked is None
            answer = {
                "host": "server",
                "proto": "udp",
                "src": "10.7.2.2",
                "dst": "10.7.1.2",
                "sport": 53,
                "dport": 40001,
            }

            def both() -> None:
                udp(bench, 53, "10.7.2.2")
                bench.send(answer)

            assert [s.header()["src"] for s in during(bench, taps, both) if s.header()["proto"] == "udp"] == [
                "10.7.1.2",
                "10.7.2.2",
            ]
        assert bench.run("router", "cat /proc/sys/net/netfilter/nf_conntrack_count").strip() == "0"


def ping(bench: Bench, count: int, interval: float = 0.002) -> subprocess.Popen[str]:
    with in_namespace(path_of(bench.lab.netns("client"))):
        return subprocess.Popen(
            ["ping", "-q", "-n", "-i", str(interval), "-c", str(count), "-W", "1", "10.7.2.2"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip


def received(child: subprocess.Popen[str]) -> int:
    out, _ = child.communicate(timeout=60)
    return int(next(line for line in out.splitlines() if "received" in line).split(",")[1].split()[0])


def test_a_held_packet_is_changed() -> None:
    with router("nft") as (bench, space), QueueTaps(space, ICMP, [POINTS[3]], hold=True, allow_changes=True) as taps:
        child = ping(bench, 1)
        held = taps.held(5.0)[0]
        packet = held.seen.packet.copy()
        packet.ttl, packet.load = 9, b"changed!" * 4
        made = held.change(packet)
        assert ("IP.ttl", "63", "9") in [tuple(c) for c in changed(held.seen.data, made)]
        bench.wires.settle()
        while child.poll() is None:
            for reply in taps.held(0.05):
                assert reply.seen.reply or reply.seen.header()["type"] == 0
                assert reply.seen.data.endswith(b"changed!" * 4)  # the server took it: checksums are right
                reply.accept()
        child.communicate()


def test_a_held_packet_is_dropped_and_one_let_go_with_a_mark() -> None:
    with (
        router("nft") as (bench, space),
        QueueTaps(space, FLOW, [POINTS[3], POINTS[4]], hold=True, allow_changes=True) as taps,
    ):
        sender = threading.Thread(target=udp, args=(bench, 53, "10.7.2.2"))
        sender.start()
        taps.held(5.0)[0].accept(mark=0x55)
        last = taps.held(5.0)[0]
        assert (last.seen.point, last.seen.mark) == (POINTS[4], 0x55)
        last.drop()
        sender.join()
        assert not bench.captures("server", "eth0", "in")


def test_what_nobody_decided_goes_on_at_the_end() -> None:
    with router("nft") as (bench, space):
        with QueueTaps(space, ICMP, [POINTS[3]], hold=True, allow_changes=True) as taps:
            child = ping(bench, 1)
            held = taps.held(5.0)
            assert len(held) == 1 and not held[0].decided
        assert received(child) == 1 and held[0].decided
        assert taps.loss() == {"queue_passed": 0, "queue_dropped": 0, "queue_user": 0}


@pytest.mark.parametrize("what", ["table", "probes"])
def test_packets_that_another_program_holds_are_not_lost_when_we_end(what: str) -> None:
    """The kernel drops what any queue of the namespace holds when a base chain goes; so we wait until none does."""
    with router("nft", ["-A FORWARD -p icmp -j NFQUEUE --queue-num 5"]) as (bench, space):
        held: list[netfilterqueue.Packet] = []

        def hold(packet: netfilterqueue.Packet) -> None:
            packet.retain()
            held.append(packet)

        with in_namespace(path_of(space.name)):
            theirs = netfilterqueue.NetfilterQueue()
        theirs.bind(5, hold)
        trace: RuleTrace | Session
        if what == "table":
            trace = RuleTrace(space, FLOW, allow_changes=True)
        else:
            trace = Session([space], Filter.of(proto="udp"))
            trace.open()
        child = ping(bench, 1)
        time.sleep(0.1)
        closing = threading.Thread(target=trace.close)
        closing.start()
        time.sleep(0.1)
        for _ in range(20):  # the request, later the reply
            theirs.run(block=False)
            while held:
                held.pop().accept()
            time.sleep(0.02)
        closing.join()
        assert received(child) == 1 and residue(bench) == ["queue 5"]
        theirs.unbind()


def test_a_number_that_a_rule_uses_is_not_taken() -> None:
    """A queue without a listener drops its packets: ours must not become that listener."""
    rules = [
        "-A FORWARD -p tcp --dport 1 -j NFQUEUE --queue-num 1024",
        "-A FORWARD -p tcp --dport 2 -j NFQUEUE --queue-balance 2000:2003",
    ]
    for backend in ("nft", "legacy"):
        with router(backend, rules) as (_, space):
            assert numbers_in_use(space) == {1024, 2000, 2001, 2002, 2003}
            with QueueTaps(space, FLOW, POINTS[:2], allow_changes=True):
                mine = {state.number for state in queue_states(space)}
                assert len(mine) == 2 and not mine & {1024, 2000, 2001, 2002, 2003}
                assert numbers_in_use(space) == mine | {1024, 2000, 2001, 2002, 2003}


def test_two_at_once() -> None:
    with router("nft") as (bench, space):
        with (
            QueueTaps(space, FLOW, [POINTS[3]], allow_changes=True) as one,
            QueueTaps(space, FLOW, [POINTS[3]], allow_changes=True) as two,
        ):
            found: list[Seen] = []
            found += during(bench, one, lambda: during(bench, two, lambda: udp(bench, 9999, "10.7.2.2")))
            assert [s.header()["dport"] for s in found] == [9999]
            assert two.queues[0].count == 1
        assert residue(bench) == []


TAPS = """
import sys, time
from nattrace.tracer.live import netns
from nattrace.tracer.live.flow import FlowKey
from nattrace.tracer.live.queue import QueueTaps, TapPoint
taps = QueueTaps(netns.by_name(sys.argv[1]), FlowKey.parse("icmp", "10.7.1.2"), [TapPoint(2, -1)], max_len=4, allow_changes=True)
print("up", flush=True)
while True:
    taps.read(0.2)
"""


def reader(space: str) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", TAPS, space], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "up\n"
    return child


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_reader_that_ends_or_stops_costs_what_it_held(how: signal.Signals) -> None:
    """300 echoes while the reader goes away: at most the four that it may hold are lost, the rest pass."""
    with router("nft") as (bench, space):
        child = reader(space.name)
        try:
            pinging = ping(bench, 300, 0.005)
            time.sleep(0.5)
            child.send_signal(how)
            assert received(pinging) >= 300 - 4
        finally:
            child.kill()
            child.wait()
        assert residue(bench) == []
        assert received(ping(bench, 5)) == 5


def test_packets_that_pass_a_full_queue_are_counted() -> None:
    with (
        router("nft") as (bench, space),
        QueueTaps(space, ICMP, [POINTS[3]], hold=True, max_len=2, allow_changes=True) as taps,
    ):
        assert received(ping(bench, 20)) == 18  # two are held, and the replies of the rest pass too
        assert taps.loss() == {"queue_passed": 36, "queue_dropped": 0, "queue_user": 0}
        held = taps.held()
        assert len(held) == 2
        for one in held:
            one.accept()


def test_without_the_capability_it_says_which() -> None:
    code = (
        "from nattrace.tracer.live.queue import *; from nattrace.tracer.live.flow import FlowKey\n"
        "QueueTaps(None, FlowKey.parse('udp', '10.0.0.1'), [TapPoint(2, 0)], allow_changes=True)"
    )
    run = subprocess.run(
        as_nobody(sys.executable, "-c", code),
        capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert MissingFacility.__name__ in run.stderr and "CAP_NET_ADMIN" in run.stderr


def test_tcp_through_it_keeps_its_bytes() -> None:
    """A connection with packets too large for one segment (GSO): every byte arrives, in order."""
    flow = FlowKey.parse("tcp", "10.7.1.2")
    payload = os.urandom(300_000)
    with router("nft") as (bench, space), QueueTaps(space, flow, [POINTS[3], POINTS[4]], allow_changes=True) as taps:
        with in_namespace(path_of(bench.lab.netns("server"))):
            server = socket.create_server(("10.7.2.2", 5001))
        got = bytearray()

        def serve() -> None:
            peer, _ = server.accept()
            while data := peer.recv(65536):
                got.extend(data)

        serving = threading.Thread(target=serve)
        serving.start()

        def send() -> None:
            with in_namespace(path_of(bench.lab.netns("client"))):
                sock = socket.socket()
            sock.settimeout(20)
            sock.connect(("10.7.2.2", 5001))
            sock.sendall(payload)
            sock.close()
            serving.join(20)

        seen = during(bench, taps, send)
        server.close()
        assert bytes(got) == payload
        assert any(s.full_length > 1500 for s in seen)  # large ones came whole
        assert taps.loss()["queue_dropped"] == taps.loss()["queue_user"] == 0
