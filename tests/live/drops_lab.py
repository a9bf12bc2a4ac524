"""A client, a router, a server for dropped packets: frames put on the wire as they are, a TCP peer without a kernel behind
it, programs on devices; and what the tracer tells of it all."""

from __future__ import annotations

import itertools
import os
import random
import re
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from nattrace.sim.model.world import World
from nattrace.tracer.lab.netns import inside, path_of
from nattrace.tracer.live import bpfsys, netns
from nattrace.tracer.live.filter import Filter
from nattrace.tracer.live.story import Story
from nattrace.tracer.live.trace import Tracer

MAC = {"c0": "02:00:00:00:01:02", "rc": "02:00:00:00:01:01", "rs": "02:00:00:00:02:01", "s0": "02:00:00:00:02:02"}
PEER = "10.7.1.9"  # an address of nobody: what answers for it is the test itself
XDP, SCHED_CLS, LINK_CREATE = 6, 3, 28
BPF_XDP, TCX_INGRESS, TCX_EGRESS = 37, 46, 47
_numbers = itertools.count(1)


class Lab:
    """``c`` (10.7.1.2, fd07:1::2) – ``r`` – ``s`` (10.7.2.2, fd07:2::2). Neighbours are known beforehand."""

    def __init__(self, v6: bool = False) -> None:
        self.prefix, self.v6, self.stack = f"ls{os.getpid()}x{next(_numbers)}", v6, ExitStack()

    def ns(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    def up(self) -> None:
        sweep()
        names = {h: self.ns(h) for h in "crs"}
        batch([f"netns add {n}" for n in names.values()])
        for host in "crs":
            with inside(path_of(names[host])):
                for scope in ("all", "default"):
                    sysctl(f"net.ipv6.conf.{scope}.disable_ipv6", "0" if self.v6 else "1")
                    sysctl(f"net.ipv6.conf.{scope}.accept_dad", "0")
                    sysctl(f"net.ipv6.conf.{scope}.router_solicitations", "0")
                if host == "r":
                    sysctl("net.ipv4.ip_forward", "1")
                    sysctl("net.ipv6.conf.all.forwarding", "1")
        for a, da, b, db in (("c", "c0", "r", "rc"), ("s", "s0", "r", "rs")):
            batch(
                [
                    f"link add {da} address {MAC[da]} netns {names[a]} type veth peer name {db} address {MAC[db]} netns {names[b]}"
                ]
            )
        for host, dev, net, last in (("c", "c0", 1, 2), ("r", "rc", 1, 1), ("r", "rs", 2, 1), ("s", "s0", 2, 2)):
            lines = ["link set lo up", f"addr add 10.7.{net}.{last}/24 brd + dev {dev}", f"link set {dev} up"]
            lines += [f"addr add fd07:{net}::{last}/64 dev {dev} nodad"] if self.v6 else []
            batch(lines, names[host])
        for host, dev, via, net in (("c", "c0", "rc", 1), ("s", "s0", "rs", 2)):
            batch(
                [f"neigh add 10.7.{net}.1 lladdr {MAC[via]} dev {dev}", f"route add default via 10.7.{net}.1"],
                names[host],
            )
            batch([f"neigh add 10.7.{net}.2 lladdr {MAC[dev]} dev {via}"], names["r"])
            if self.v6:
                batch(
                    [f"neigh add fd07:{net}::1 lladdr {MAC[via]} dev {dev}", f"route add default via fd07:{net}::1"],
                    names[host],
                )
                batch([f"neigh add fd07:{net}::2 lladdr {MAC[dev]} dev {via}"], names["r"])
        batch([f"neigh add {PEER} lladdr {MAC['c0']} dev rc"], names["r"])

    def down(self) -> None:
        self.stack.close()
        subprocess.run(
            ["ip", "-batch", "-", "-force"],
            input="".join(f"netns del {self.ns(h)}\n" for h in "crs"),
            text=True,
            capture_output=True,
        )

    def run(self, host: str, command: str) -> None:
        """A shell line on a host."""
        with inside(path_of(self.ns(host))):
            done = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, f"{command}: {done.stderr}"

    @contextmanager
    def at(self, host: str) -> Iterator[None]:
        with inside(path_of(self.ns(host))):
            yield

    def socket(self, host: str, *kind: int, keep: bool = True) -> socket.socket:
        """A socket of a host."""
        with self.at(host):
            made = socket.socket(*kind)
        return self.stack.enter_context(made) if keep else made

    def listen(self, host: str, proto: str, port: int, address: str = "", backlog: int = 8) -> socket.socket:
        """A socket that waits there."""
        family = socket.AF_INET6 if ":" in address or address == "v6" else socket.AF_INET
        sock = self.socket(host, family, socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("::" if address == "v6" else address, port))
        if proto == "tcp":
            sock.listen(backlog)
        return sock

    def listen_as(self, uid: int, host: str, proto: str, port: int) -> socket.socket:
        """The same, owned by another user."""
        kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
        with self.at(host):
            os.seteuid(uid)
            try:
                sock = self.stack.enter_context(socket.socket(socket.AF_INET, kind))
            finally:
                os.seteuid(0)
        sock.bind(("", port))
        if proto == "tcp":
            sock.listen(8)
        return sock

    def fill(self, host: str) -> None:
        """Established connections of somebody else, until the host's conntrack table is full."""
        from ..causes.catalogue import fill

        fill(_Tools(self), host, "10.9.0.66", "192.0.2.", 443, "10.7.2.1", 432000)

    def wire(self, dev: str = "c0") -> socket.socket:
        """What puts frames on a wire."""
        sock = self.socket({"c": "c", "r": "r", "s": "s"}[dev[0]], socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.bind((dev, 0))
        return sock

    def frame(
        self, packet: Any, dst: str = MAC["rc"], src: str = MAC["c0"], kind: int | None = None, dev: str = "c0"
    ) -> None:
        """One frame from ``dev``; what is in it is as it was made, wrong where it was made wrong."""
        from scapy.layers.l2 import Ether

        data = packet if isinstance(packet, bytes) else bytes(packet)
        kind = kind if kind is not None else 0x86DD if data[:1] and data[0] >> 4 == 6 else 0x0800
        sock = self.wire(dev)
        sock.send(bytes(Ether(dst=dst, src=src, type=kind)) + data)
        sock.close()

    def udp(self, host: str, dst: str, port: int, data: bytes = b"x", count: int = 1) -> None:
        """Datagrams from an ordinary socket."""
        sock = self.socket(host, socket.AF_INET6 if ":" in dst else socket.AF_INET, socket.SOCK_DGRAM)
        for _ in range(count):
            try:
                sock.sendto(data, (dst, port))
            except OSError:
                pass  # EPERM and the like are what such a case is about

    def program(self, host: str, dev: str, kind: int, attach: int, verdict: int, generic: bool = False) -> None:
        """A BPF program on a device that answers every packet with ``verdict``."""
        code = struct.pack("<BBhiBBhi", 0xB7, 0, 0, verdict, 0x95, 0, 0, 0)
        with self.at(host):
            prog = bpfsys.prog_load(kind, code, "ls_verdict", attach)
            link = bpfsys.call(
                LINK_CREATE,
                struct.pack("<IIIIQ", prog, socket.if_nametoindex(dev), attach, 2 if generic else 0, 0),
                "link",
            )
        self.stack.callback(os.close, prog)
        self.stack.callback(os.close, link)

    def world(self) -> World:
        """The lab as a snapshot, hosts named c, r and s."""
        from nattrace.sim.snapshot.load import load_world
        from nattrace.tracer.capture import capture

        names = {self.ns(h): h for h in "crs"}
        with tempfile.TemporaryDirectory() as scratch:
            capture(Path(scratch) / "s", list(names), names=names)
            return load_world(Path(scratch) / "s", strict=True)


class _Tools:
    """The lab as the catalogue of causes knows labs."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def run(self, host: str, *words: str, text: str = "") -> str:
        with self.lab.at(host):
            done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{words}: {done.stderr[-300:]}"
        return done.stdout


def sweep() -> None:
    """Remove what a lab left whose process was killed."""
    for name in netns.names():
        found = re.fullmatch(r"ls(\d+)x\d+-[crs]", name)
        if found and not Path(f"/proc/{found[1]}").exists():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def batch(lines: list[str], where: str | None = None) -> None:
    words = ["ip", *(["-n", where] if where else []), "-batch", "-"]
    done = subprocess.run(words, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{lines}: {done.stderr}"


def sysctl(name: str, value: str) -> None:
    Path("/proc/sys", name.replace(".", "/")).write_text(value)


def observe(lab: Lab, act: Callable[[Lab], None], wait: float) -> list[Story]:
    """Every packet's story while something is done, and for a while after."""
    spaces = [netns.by_name(lab.ns(h)) for h in "crs"]
    for ns, host in zip(spaces, "crs", strict=True):
        ns.name = host
    try:
        with Tracer(spaces, Filter.everything()) as tracer:
            act(lab)
            found: list[Story] = []
            until = time.monotonic() + wait
            while time.monotonic() < until:
                found += tracer.poll(0.02)
            return found + tracer.finish()
    finally:
        for ns in spaces:
            ns.close()


class Peer:
    """One end of a TCP connection that does only what it is told: sent from c in the name of 10.7.1.9."""

    def __init__(self, lab: Lab, port: int = 80, sport: int | None = None, options: Any = ()) -> None:
        self.lab, self.port, self.sport = lab, port, sport or random.randint(20000, 30000)
        self.options = list(options)
        self.wire = lab.wire()
        self.wire.settimeout(1.0)
        self.seq, self.ack, self.window = 1000, 0, 0
        self.answer: Any = None

    def send(
        self, flags: str, seq: int | None = None, ack: int | None = None, data: bytes = b"", **fields: Any
    ) -> None:
        from scapy.layers.inet import IP, TCP
        from scapy.layers.l2 import Ether

        ttl = fields.pop("ttl", 64)
        fields.setdefault("options", self.options)
        tcp = TCP(sport=self.sport, dport=self.port, flags=flags, seq=(self.seq if seq is None else seq) & 0xFFFFFFFF,
                  ack=(self.ack if ack is None else ack) & 0xFFFFFFFF, window=fields.pop("window", 60000), **fields)  # fmt: skip
        packet = Ether(dst=MAC["rc"], src=MAC["c0"]) / IP(src=PEER, dst="10.7.1.1", ttl=ttl) / tcp / data
        self.wire.send(bytes(packet))

    def hear(self) -> Any:
        """The next segment that comes for us."""
        from scapy.layers.inet import IP, TCP
        from scapy.layers.l2 import Ether

        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            found = Ether(self.wire.recv(65535))
            if TCP in found and found[IP].dst == PEER and found[TCP].dport == self.sport:
                self.answer = found[TCP]
                return self.answer
        raise AssertionError("no answer came")

    def connect(self) -> Peer:
        """The three segments of a beginning."""
        self.send("S")
        heard = self.hear()
        self.seq, self.ack, self.window = self.seq + 1, heard.seq + 1, heard.window
        self.send("A")
        time.sleep(0.02)
        return self
