"""One story for each packet: copies, fragments, queues, bridges, loopback, segments; seen against the running kernel."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from lab_support import kernel
from nattrace.tracer.live.event import KIND
from nattrace.tracer.live.filter import Filter

from .probe_lab import Lab, Seen, lab

pytestmark = kernel

RULES = """
-t mangle -A PREROUTING -i rc -p udp --dport 7000 -j TEE --gateway 10.7.2.2
-A FORWARD -p udp --dport 7001 -j NFQUEUE --queue-num 3
"""
FLOW = Filter.of(proto="udp", src="10.7.1.2")
WAY = ["rx", "PREROUTING -199", "PREROUTING -149", "FORWARD -1", "FORWARD 1", "POSTROUTING 2147483646", "tx"]


@pytest.fixture(scope="module")
def bench() -> Iterator[Lab]:
    with lab(RULES) as made:
        yield made


@contextmanager
def process(bench: Lab, where: str, code: str) -> Iterator[None]:
    """A Python program in a namespace, once it says that it is up."""
    with bench.spaces[where].inside():
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "up\n"
        yield
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def of_protocol(seen: Seen, proto: int) -> list[int]:
    """Packets of a protocol."""
    return [i for i in range(seen.packets.count) if seen.events["t"]["proto"][seen.packets.rows(i)[0]] == proto]


def test_a_teed_copy_is_a_packet_of_its_own_that_names_its_original(bench: Lab) -> None:
    seen = bench.watch(FLOW, lambda: bench.send("10.7.2.2", 7000))
    original, copy = of_protocol(seen, 17)
    assert seen.places(original) == WAY
    assert seen.places(copy) == ["OUTPUT -199", "POSTROUTING 2147483646", "tx"]
    assert seen.packets.copy_of[copy] == original


def test_fragments_name_the_one_before(bench: Lab) -> None:
    seen = bench.watch(FLOW, lambda: bench.send("10.7.2.2", 7002, size=4000), streams=("tap", "rx", "tx"))
    fragments = of_protocol(seen, 17)
    assert [seen.places(i) for i in fragments] == [WAY] * 3
    assert [int(seen.events["frag"][seen.packets.rows(i)[0]]) & 0x1FFF for i in fragments] == [0, 185, 370]
    assert [int(seen.packets.copy_of[i]) for i in fragments] == [-1, *fragments[:2]]


def test_a_datagram_that_conntrack_put_together_goes_on_as_one() -> None:
    with lab("-A FORWARD -m conntrack --ctstate INVALID -j DROP") as made:
        seen = made.watch(FLOW, lambda: made.send("10.7.2.2", 7002, size=4000), streams=("tap", "rx", "tx"))
        ways = [seen.places(i) for i in of_protocol(seen, 17)]
        # the earlier fragments wait in its list, and may leave as fragments again
        assert all(way in (["rx"], ["rx", "tx"]) for way in ways[:2])
        assert ways[2][:2] == ["rx", "PREROUTING -199"]
        assert "FORWARD 1" in ways[2]
        whole = [e for e in seen.of(KIND.tap) if e["prio"] == 1 and e["t"]["proto"] == 17]
        assert [int(e["len"]) for e in whole] == [4028]


def test_the_loopback_device_is_crossed_by_one_packet(bench: Lab) -> None:
    seen = bench.watch(Filter.of(proto="udp", dst="127.0.0.1"), lambda: bench.send("127.0.0.1", 7002), bench.client)
    packet = of_protocol(seen, 17)[0]
    crossing = ["OUTPUT -199", "POSTROUTING 2147483646", "tx", "rx", "PREROUTING -199", "INPUT 2147483646"]
    assert seen.places(packet)[:6] == crossing
    assert seen.places(packet)[-1] == "drop"


def test_a_queue_does_not_cut_a_packet_in_two(bench: Lab) -> None:
    code = "import netfilterqueue as n\nq = n.NetfilterQueue()\nq.bind(3, lambda p: p.accept())\nprint('up', flush=True)\nq.run()"
    with process(bench, bench.router, code):
        seen = bench.watch(FLOW, lambda: bench.send("10.7.2.2", 7001, 5))
    assert [seen.places(i) for i in of_protocol(seen, 17)] == [WAY] * 5


def test_a_packet_that_stands_for_many_segments_says_so(bench: Lab) -> None:
    code = (
        "import socket\ns = socket.socket()\ns.bind(('', 5000))\ns.listen()\nprint('up', flush=True)\n"
        "c, _ = s.accept()\nwhile c.recv(1 << 20): pass"
    )

    def transfer() -> None:
        with bench.spaces[bench.client].inside():
            sock = socket.socket()
        sock.connect(("10.7.2.2", 5000))
        sock.sendall(b"x" * 200_000)
        sock.close()

    with process(bench, bench.server, code):
        seen = bench.watch(Filter.of(proto="tcp", src="10.7.1.2"), transfer)
    large = [i for i in range(seen.packets.count) if seen.events["len"][seen.packets.rows(i)].max() > 3000]
    assert large
    assert all(seen.places(i) == WAY for i in large)
    assert all(set(seen.events["gso"][seen.packets.rows(i)]) <= {0, 1448} for i in large)
    assert seen.packets.complete.all()


def test_a_bridge_receives_a_packet_twice_and_it_stays_one() -> None:
    with lab("") as made:
        commands = (
            "ip link add br0 type bridge; ip addr flush dev s0; ip link set s0 master br0; ip link set br0 up; "
            "ip addr add 10.7.2.2/24 dev br0; ip route add default via 10.7.2.1; ping -c1 -W2 10.7.2.1"
        )
        made.execute(made.server, "sh", "-c", commands)
        time.sleep(0.1)
        seen = made.watch(FLOW, lambda: made.send("10.7.2.2", 7002, 3), made.router, made.server)
        datagrams = of_protocol(seen, 17)
        assert len(datagrams) == 3
        for i in datagrams:
            way = seen.places(i)
            assert way.count("rx") == 3, "router, bridge port, bridge"
            assert way[-1] == "drop"


def test_thousands_of_packets_checked_by_the_number_in_their_payload(bench: Lab) -> None:
    count = 5000
    seen = bench.watch(
        FLOW,
        lambda: bench.send("10.7.2.2", 53, count),
        bench.router,
        bench.server,
        streams=("tap", "rx", "tx", "drop"),
        ring=64 << 20,
    )
    assert sum(seen.loss.values()) == 0
    found = []
    for i in of_protocol(seen, 17):
        numbers = {bytes(p) for p in seen.events["pay"][seen.packets.rows(i)]}
        assert len(numbers) == 1, "two packets merged"
        found.append(int.from_bytes(numbers.pop(), "little"))
        assert seen.packets.complete[i]
    assert sorted(found) == list(range(count))


@pytest.mark.parametrize("streams", [("tap",), ("tap", "rx", "tx")], ids=len)
def test_datagrams_alike_in_every_octet_are_kept_apart(bench: Lab, streams: tuple[str, ...]) -> None:
    """Some systems send everything that must not be fragmented with the IP id 0."""
    table = "table ip alike { chain c { type filter hook postrouting priority 0; ip id set 0; }; }"
    bench.execute(bench.client, "nft", table)

    def send() -> None:
        with bench.spaces[bench.client].inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("", 40007))
        for _ in range(500):
            sock.sendto(b"the same", ("10.7.2.2", 53))
        sock.close()

    try:
        seen = bench.watch(Filter.of(proto="udp", src="10.7.1.2", sport=40007), send, streams=streams)
    finally:
        bench.execute(bench.client, "nft", "delete table ip alike")
    datagrams = of_protocol(seen, 17)
    assert set(seen.events["ipid"][seen.events["t"]["proto"] == 17].tolist()) == {0}
    assert len(datagrams) == 500
    assert seen.packets.complete.all()


def test_a_packet_that_changes_the_cpu_is_told_in_order() -> None:
    """Receive packet steering moves each packet to the other CPU at the router and back at the server."""
    with lab("") as made:
        for name, device, cpus in ((made.router, "rc", 2), (made.server, "s0", 1)):
            made.execute(name, "sh", "-c", f"echo {cpus} > /sys/class/net/{device}/queues/rx-0/rps_cpus")
        everywhere = (made.client, made.router, made.server)
        seen = made.watch(
            FLOW,
            lambda: made.send("10.7.2.2", 53, 2000),
            *everywhere,
            streams=("tap", "rx", "tx", "drop"),
            ring=64 << 20,
        )
        assert len(np.unique(seen.events["cpu"])) > 1
        ways = {tuple(seen.places(i)) for i in of_protocol(seen, 17)}
        crossing = (
            ["OUTPUT -199", "POSTROUTING 2147483646", "tx"],
            ["rx", "PREROUTING -199"],
            ["POSTROUTING 2147483646", "tx"],
        )
        router = [*crossing[1], *crossing[2]]
        assert ways == {(*crossing[0], *router, "rx", "PREROUTING -199", "INPUT 2147483646", "drop")}
        assert seen.packets.complete.all()
