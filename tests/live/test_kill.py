"""SIGKILL at random moments with traffic running: nothing is left, no connection breaks, few packets are lost.

The full count, and what each kill cost: NATTRACE_KILLS=50 pytest -s tests/live/test_kill.py
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from typing import Self

import pytest
from lab_support import Bench, kernel
from nattrace.tracer.lab.netns import inside, path_of

from .router_lab import residue, router

pytestmark = kernel
REPEATS = int(os.environ.get("NATTRACE_KILLS", "6"))
MAX_LEN, TAPS, RATE = 4, 2, 400  # what one kill may cost is MAX_LEN for each tap; datagrams a second
PLACES = 5  # taps of the command that a forwarded packet meets
START = """
import sys, time
from nattrace.tracer.live import netns
from nattrace.tracer.live.flow import FlowKey
from nattrace.tracer.live.queue import QueueTaps, TapPoint
from nattrace.tracer.live.rules.nflog import LegacyTrace
from nattrace.tracer.live.rules.nftrace import RuleTrace
space, flow = netns.by_name(sys.argv[1]), FlowKey.parse(None, "10.7.1.2")
print("go", flush=True)
"""
KINDS = {
    "queue": "it = QueueTaps(space, flow, [TapPoint(2, -1), TapPoint(4, 101)], max_len=4, allow_changes=True)",
    "nftrace": "it = RuleTrace(space, flow, allow_changes=True)",
    "nflog": "it = LegacyTrace(space, flow, allow_changes=True)",
}
COMMAND = """
import sys
print("go", flush=True)
from nattrace.tracer.cli import run
run(["trace", "udp 10.7.1.2 -> 10.7.2.2:7000", "--netns", sys.argv[1], "--tap", "queue", "--rules", "--allow-changes", "-q"])
"""
RULES = {"nflog": "legacy"}  # every other kind with iptables-nft


class Traffic:
    """A stream of numbered datagrams and one TCP connection from client to server, all the time."""

    def __init__(self, bench: Bench) -> None:
        client, server = (path_of(bench.lab.netns(host)) for host in ("client", "server"))
        with inside(server):
            self.sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sink.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE: what we are slow for is not lost
            self.sink.bind(("10.7.2.2", 7000))
            self.listener = socket.create_server(("10.7.2.2", 7001))
        with inside(client):
            self.source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.tcp = socket.socket()
        self.source.connect(("10.7.2.2", 7000))
        self.tcp.settimeout(20)
        self.tcp.connect(("10.7.2.2", 7001))
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(20)
        self.sent, self.stop = 0, threading.Event()
        self.got: set[int] = set()
        self.failed: list[str] = []

    def __enter__(self) -> Self:
        self.threads = [threading.Thread(target=run) for run in (self._send, self._receive, self._talk)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()
        for sock in (self.sink, self.listener, self.source, self.tcp, self.peer):
            sock.close()

    def _send(self) -> None:
        while not self.stop.is_set():
            self.source.send(self.sent.to_bytes(4, "big"))
            self.sent += 1
            time.sleep(1 / RATE)

    def _receive(self) -> None:
        self.sink.settimeout(0.2)
        while not self.stop.is_set():
            try:
                self.got.add(int.from_bytes(self.sink.recv(64), "big"))
            except TimeoutError:
                continue

    def _talk(self) -> None:
        """Question and answer over the connection, checked byte by byte."""
        number = 0
        try:
            while not self.stop.is_set():
                word = number.to_bytes(8, "big") * 100
                self.tcp.sendall(word)
                seen = b""
                while len(seen) < len(word):
                    seen += self.peer.recv(65536)
                if seen != word:
                    self.failed.append(f"message {number} arrived changed")
                self.peer.sendall(b"!")
                if self.tcp.recv(1) != b"!":
                    self.failed.append(f"no answer to message {number}")
                number += 1
                time.sleep(0.005)
        except OSError as error:
            self.failed.append(f"connection lost at message {number}: {error}")

    def lost(self) -> int:
        """Datagrams that did not arrive, once everything sent so far has had its time."""
        upto = self.sent
        time.sleep(0.3)
        return upto - len([n for n in list(self.got) if n < upto])


def run(kind: str, repeats: int) -> list[int]:
    """Datagrams lost by each kill."""
    tracked = ["-A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT"]
    with router(RULES.get(kind, "nft"), tracked) as (bench, space), Traffic(bench) as traffic:
        time.sleep(0.2)
        counts = [traffic.lost()]
        for _ in range(repeats):
            _start_and_kill(kind, space.name, random.uniform(0, 0.6 if kind in KINDS else 3.0))
            deadline = time.monotonic() + 5
            while residue(bench) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert residue(bench) == []
            counts.append(traffic.lost())
        assert traffic.failed == []
    return [after - before for before, after in pairwise(counts)]


def _start_and_kill(kind: str, space: str, after: float) -> None:
    wait = "0.2" if kind == "queue" else ""
    code = f"{START}{KINDS[kind]}\nwhile True: it.read({wait}); time.sleep(0.001)\n" if kind in KINDS else COMMAND
    child = subprocess.Popen([sys.executable, "-c", code, space], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None and child.stdout.readline() == b"go\n"
    time.sleep(after)
    child.kill()
    child.wait()
    child.stdout.close()


@pytest.mark.parametrize("kind", [*KINDS, "trace --tap queue --rules"])
def test_killed_at_any_moment(kind: str) -> None:
    costs = run(kind, REPEATS)
    print(
        f"{kind}: {len(costs)} kills, datagrams lost by each: {sorted(costs, reverse=True)[:5]} …, {sum(costs)} in all"
    )
    most = {"queue": MAX_LEN * TAPS, "trace --tap queue --rules": MAX_LEN * PLACES}.get(kind, 0)
    assert max(costs) <= most, costs
