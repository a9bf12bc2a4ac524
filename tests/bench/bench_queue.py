"""What nfqueue taps and rule tracing cost a packet: round trips of one UDP flow over a router, with and without, in turns.

    sudo .venv/bin/python tests/bench/bench_queue.py [rounds]

Each line is the median and the spread of the rounds' medians, and the added time against no tap in the same round.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lab_support import lab
from nattrace.tracer.lab.netns import inside, path_of

TOPOLOGY = """
[segments]
lan = ["client:eth0", "router:eth0"]
wan = ["router:eth1", "server:eth0"]
[hosts]
client.interfaces.eth0 = "10.7.1.2/24"
client.routes = ["default via 10.7.1.1"]
server.interfaces.eth0 = "10.7.2.2/24"
server.routes = ["default via 10.7.2.1"]
[hosts.router]
interfaces.eth0 = "10.7.1.1/24"
interfaces.eth1 = "10.7.2.1/24"
sysctl.net.ipv4.ip_forward = 1
iptables = ["-t nat -A POSTROUTING -o eth1 -j MASQUERADE", "-A FORWARD -p udp -j ACCEPT"]
"""
READER = """
import sys, time
from nattrace.tracer.live import netns
from nattrace.tracer.live.flow import FlowKey
from nattrace.tracer.live.queue import QueueTaps, TapPoint
from nattrace.tracer.live.rules.book import RuleBook
from nattrace.tracer.live.rules.nftrace import RuleTrace
space, flow = netns.by_name(sys.argv[1]), FlowKey.parse("udp", "10.7.1.2")
points = [TapPoint(0, -301), TapPoint(0, -99), TapPoint(2, -1), TapPoint(2, 1), TapPoint(4, 101)]
if sys.argv[2] == "trace":
    it = RuleTrace(space, flow, book=RuleBook.read(space), rate=100000, allow_changes=True)
    step = lambda: (it.events.wait(0.2), it.read())
else:
    it = QueueTaps(space, flow, points[: int(sys.argv[2])], max_len=64, allow_changes=True)
    step = lambda: it.read(0.2)
print("up", flush=True)
while True:
    step()
"""
KINDS = ("none", "1", "3", "5", "trace")
PACKETS = 400


def round_trips(client: socket.socket) -> float:
    """Median round trip in microseconds."""
    times = []
    for number in range(PACKETS):
        word = number.to_bytes(4, "big")
        start = time.perf_counter_ns()
        client.send(word)
        if client.recv(64) == word:
            times.append((time.perf_counter_ns() - start) / 1000)
    return statistics.median(times)


def echo(server: socket.socket, stop: threading.Event) -> None:
    server.settimeout(0.5)
    while not stop.is_set():
        try:
            data, peer = server.recvfrom(64)
        except TimeoutError:
            continue
        server.sendto(data, peer)


def main(rounds: int) -> None:
    with lab(TOPOLOGY) as bench:
        with inside(path_of(bench.lab.netns("server"))):
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind(("10.7.2.2", 7000))
        with inside(path_of(bench.lab.netns("client"))):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect(("10.7.2.2", 7000))
        client.settimeout(2)
        stop = threading.Event()
        thread = threading.Thread(target=echo, args=(server, stop))
        thread.start()
        found: dict[str, list[float]] = {kind: [] for kind in KINDS}
        try:
            round_trips(client)
            for turn in range(rounds):
                for kind in KINDS if turn % 2 == 0 else KINDS[::-1]:
                    found[kind].append(measured(bench.lab.netns("router"), kind, client))
        finally:
            stop.set()
            thread.join()
    for kind, values in found.items():
        added = statistics.median(v - n for v, n in zip(values, found["none"], strict=True))
        words = {"none": "no tap", "trace": "nftrace, decoded"}.get(kind, f"{kind} taps")
        print(
            f"{words:<18} {statistics.median(values):7.1f} us ({min(values):.1f}-{max(values):.1f})  added {added:6.1f} us"
        )


def measured(space: str, kind: str, client: socket.socket) -> float:
    if kind == "none":
        return round_trips(client)
    child = subprocess.Popen([sys.executable, "-c", READER, space, kind], stdout=subprocess.PIPE, env=os.environ)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
        return round_trips(client)
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
