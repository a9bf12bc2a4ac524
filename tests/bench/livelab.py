"""What the live benchmarks share: client, router and server in namespaces, a sender in C, paired alternating measurements.

The router translates both ways, marks and filters, so that a forwarded packet meets conntrack and four tables. The whole
way runs in the sender's context on one CPU; readers run on the other, at real-time priority, so that a busy machine
delays neither. What counts are ratios of pairs taken right after each other.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nattrace.tracer.live import netns
from nattrace.tracer.live.session import Session

CLIENT, ROUTER, SERVER = "lb-c", "lb-r", "lb-s"
SENDER_CPU, READER_CPU = 0, 1
PORT = 8080

TOPOLOGY = f"""
netns add {CLIENT}
netns add {ROUTER}
netns add {SERVER}
link add c0 netns {CLIENT} type veth peer name rc netns {ROUTER}
link add s0 netns {SERVER} type veth peer name rs netns {ROUTER}
-n {CLIENT} addr add 10.7.1.2/24 dev c0
-n {ROUTER} addr add 10.7.1.1/24 dev rc
-n {ROUTER} addr add 10.7.2.1/24 dev rs
-n {SERVER} addr add 10.7.2.2/24 dev s0
-n {CLIENT} link set lo up
-n {CLIENT} link set c0 up
-n {ROUTER} link set lo up
-n {ROUTER} link set rc up
-n {ROUTER} link set rs up
-n {SERVER} link set lo up
-n {SERVER} link set s0 up
-n {CLIENT} route add default via 10.7.1.1
-n {SERVER} route add default via 10.7.2.1
"""
RULES = """
-t nat -A POSTROUTING -o rs -j MASQUERADE
-t nat -A PREROUTING -i rc -p udp --dport 8080 -j DNAT --to-destination 10.7.2.2:80
-t mangle -A PREROUTING -i rc -j MARK --set-mark 0x7
-A FORWARD -p udp --dport 9999 -j DROP
"""


def run(*words: str, check: bool = True) -> str:
    """A tool's output."""
    done = subprocess.run(words, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def lab(rules: str = RULES) -> Iterator[None]:
    """The three namespaces, with the server throwing datagrams away before they reach a socket."""
    down()
    try:
        for line in TOPOLOGY.strip().splitlines():
            run("ip", *line.split())
        run("ip", "netns", "exec", ROUTER, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for line in rules.strip().splitlines():
            run("ip", "netns", "exec", ROUTER, "iptables-nft", *line.split())
        run(
            "ip", "netns", "exec", SERVER, "iptables-nft", *["-t", "raw", "-A", "PREROUTING", "-p", "udp", "-j", "DROP"]
        )
        run("ip", "netns", "exec", CLIENT, "ping", "-c1", "-W2", "10.7.2.2")
        yield
    finally:
        down()


def down() -> None:
    """Remove what lab() made."""
    for name in (CLIENT, ROUTER, SERVER):
        run("ip", "netns", "del", name, check=False)


_folder = tempfile.TemporaryDirectory(prefix="nattrace-bench-")


def sender() -> str:
    """The sender, compiled on first use."""
    binary = Path(_folder.name, "send")
    if not binary.exists():
        run("gcc", "-O2", "-o", str(binary), str(Path(__file__).with_name("send.c")))
    return str(binary)


def received() -> int:
    """Packets that came to the server's device so far."""
    with netns.by_name(SERVER) as server, server.inside(), open("/proc/thread-self/net/dev") as file:
        return next(int(line.split(":")[1].split()[1]) for line in file if "s0:" in line)


@dataclass(frozen=True)
class Blast:
    """One run of the sender."""

    sent: int
    seconds: float
    delivered: int

    @property
    def pps(self) -> float:
        """Delivered a second."""
        return self.delivered / self.seconds


def blast(pps: int = 0, seconds: float = 0.25, count: int = 0, length: int = 22) -> Blast:
    """Send and count what arrives."""
    binary, before = sender(), received()
    words = [
        "chrt",
        "-f",
        "10",
        binary,
        "10.7.1.1",
        str(PORT),
        str(pps),
        str(seconds),
        str(SENDER_CPU),
        str(length),
        str(count),
    ]
    with netns.by_name(CLIENT) as client, client.inside():
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    out, _ = child.communicate()
    sent, took = out.split()
    time.sleep(0.02)
    return Blast(int(sent), float(took), received() - before)


@dataclass(frozen=True)
class Ratio:
    """With over without, of pairs."""

    median: float
    low: float
    high: float
    base_pps: float
    added_ns: float

    def __str__(self) -> str:
        return f"ratio {self.median:.3f} ({self.low:.3f}..{self.high:.3f}), base {self.base_pps:,.0f} pps, +{self.added_ns:.0f} ns a packet"


def paired(on: Callable[[], object], off: Callable[[], object], pairs: int = 7, seconds: float = 0.25) -> Ratio:
    """Alternate with and without: A B, B A, A B …"""
    with_, without = [], []
    for i in range(pairs):
        for probe in ((False, True), (True, False))[i % 2]:
            if probe:
                on()
                try:
                    with_.append(blast(seconds=seconds).pps)
                finally:
                    off()
            else:
                without.append(blast(seconds=seconds).pps)
    ratios = sorted(a / b for a, b in zip(with_, without, strict=True))
    added = statistics.median(1e9 / a - 1e9 / b for a, b in zip(with_, without, strict=True))
    return Ratio(statistics.median(ratios), ratios[0], ratios[-1], statistics.median(without), added)


class Reader(threading.Thread):
    """Reads a session's events at real-time priority on its own CPU and keeps them, or only counts them."""

    def __init__(self, session: Session, keep: bool = False) -> None:
        super().__init__(daemon=True)
        self.session, self.keep = session, keep
        self.kept: list[object] = []
        self.count = 0
        self.cpu = 0.0
        self.ending = False
        self.start()

    def run(self) -> None:
        os.sched_setaffinity(0, {READER_CPU})
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
        start = time.thread_time()
        while True:
            last = self.ending
            events = self.session.read(0.0 if last else 0.02)
            if events is not None:
                self.count += len(events)
                if self.keep:
                    self.kept.append(events)
            elif last:
                break
        self.cpu = time.thread_time() - start

    def end(self) -> int:
        """Read what is left; how many there were."""
        self.ending = True
        self.join()
        return self.count


@contextmanager
def tool(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another program that watches the router, on the reader's CPU at real-time priority."""
    with netns.by_name(ROUTER) as router, router.inside():
        child = subprocess.Popen(
            ["taskset", "-c", str(READER_CPU), "chrt", "-f", "5", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        time.sleep(0.25)
        yield child
    finally:
        child.terminate()
        child.wait()


def need_root() -> None:
    """Benchmarks make namespaces."""
    if os.geteuid():
        sys.exit("run as root")
