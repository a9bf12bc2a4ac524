"""The classes of a divergence that are no matter of the snapshot: what passes the hooks by, and events that were lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from lab_support import kernel
from nattrace.tracer.live import bpfsys
from nattrace.tracer.live.filter import Filter
from nattrace.tracer.live.netns import Namespace
from nattrace.tracer.live.recording import read
from nattrace.tracer.live.session import Session
from nattrace.tracer.live.trace import Replay, Tracer

from .confirm_lab import Watched, spaces_of, watched, world_of
from .drops_lab import LINK_CREATE, SCHED_CLS, TCX_INGRESS, Lab
from .test_confirm import PROGRAM, UNDO, udp

pytestmark = kernel
REDIRECT_NEIGH = 152  # enum bpf_func_id


@pytest.fixture
def hosts() -> Iterator[tuple[Lab, list[Namespace]]]:
    lab = Lab()
    with ExitStack() as stack:
        stack.callback(lab.down)
        lab.up()
        lab.listen("s", "udp", 80)
        yield lab, stack.enter_context(spaces_of({h: lab.ns(h) for h in "crs"}))


# ------------------------------------------------------------------------------------------------ bypassed


def short_cut(lab: Lab, source: str, target: str) -> None:
    """A tc program of the router that sends what comes in by one device out by another, neighbour and all."""
    with lab.at("r"):
        index = socket.if_nametoindex(target)
        code = b"".join(
            struct.pack("<BBhi", op, register, 0, value)
            for op, register, value in ((0xB7, 1, index), (0xB7, 2, 0), (0xB7, 3, 0), (0xB7, 4, 0), (0x85, 0, REDIRECT_NEIGH), (0x95, 0, 0))
        )  # fmt: skip
        prog = bpfsys.prog_load(SCHED_CLS, code, "ls_short", TCX_INGRESS)
        attach = struct.pack("<IIIIQ", prog, socket.if_nametoindex(source), TCX_INGRESS, 0, 0)
        link = bpfsys.call(LINK_CREATE, attach, "link")
    lab.stack.callback(os.close, prog)
    lab.stack.callback(os.close, link)


def test_a_program_leads_past_the_hooks(hosts: tuple[Lab, list[Namespace]]) -> None:
    lab, spaces = hosts
    lab.run("r", "iptables-nft -A FORWARD -p udp -j DROP")
    short_cut(lab, "rc", "rs")
    world = world_of(spaces)
    report = watched(spaces, lambda: udp()(lab)).judged(world, world)
    assert report.first is not None and report.finding is not None, report.render(160)
    row = report.first[1]
    assert (row.host, row.hook, row.stage, report.finding.name) == ("r", None, "hooks", "bypassed"), report.render(160)
    assert (report.verdict, report.status) == ("disagrees", 1)


def test_a_connected_socket_is_found_before_routing(hosts: tuple[Lab, list[Namespace]]) -> None:
    """rp_filter would refuse it, but the packet of a connection that stands is matched to its socket before."""
    lab, spaces = hosts
    lab.run("s", "ip link add z0 type veth peer name z1; ip link set z0 up; ip link set z1 up")
    lab.run("s", "ip route add 10.7.1.2/32 dev z0 table 9; ip rule add uidrange 0-0 to 10.7.1.2 lookup 9 priority 5")
    lab.run("s", "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.s0.rp_filter=0")
    listener = lab.listen_as(65534, "s", "tcp", 81)
    client = lab.socket("c", socket.AF_INET, socket.SOCK_STREAM)
    client.settimeout(3)
    client.connect(("10.7.2.2", 81))
    peer, _ = listener.accept()
    lab.stack.callback(peer.close)
    peer.settimeout(3)
    client.send(b"first")
    assert peer.recv(9) == b"first"
    lab.run("s", "sysctl -qw net.ipv4.conf.s0.rp_filter=1")
    world = world_of(spaces)
    report = watched(spaces, lambda: (client.send(b"second"), peer.recv(9))).judged(world, world)
    assert report.first is not None and report.finding is not None, report.render(160)
    assert (report.first[1].host, report.finding.name) == ("s", "bypassed"), report.render(160)
    assert "early demultiplexing" in report.finding.how


# ---------------------------------------------------------------------------------------------- events lost


def overrun(spaces: list[Namespace], lab: Lab, packets: int, filling: int = 0) -> Watched:
    """A ring of two pages, and nobody who reads while the packets pass. ``filling``: packets of one host before them."""
    with tempfile.TemporaryDirectory() as scratch:
        file = str(Path(scratch) / "events")
        session = Session(spaces, Filter.of(proto="udp", dport=80), ring=8192)
        with Tracer(spaces, session.filter, file, session=session) as tracer:
            with tracer.reader.lock, lab.socket("c", socket.AF_INET, socket.SOCK_DGRAM, keep=False) as sock:
                sock.bind(("10.7.1.2", 40001))
                for _ in range(filling):
                    sock.sendto(b"x", ("10.7.1.2", 80))
                for _ in range(packets):
                    sock.sendto(b"x", ("10.7.2.2", 80))
            time.sleep(0.3)
            tracer.finish()
        replay = Replay(read(file), "events")
    return Watched(replay.stories(), replay, spaces)


def test_lost_events_decide_nothing(hosts: tuple[Lab, list[Namespace]]) -> None:
    lab, spaces = hosts
    lab.run("r", UNDO)
    lab.run("r", "iptables-nft -t nat -A POSTROUTING -o rs -j MASQUERADE")
    world = world_of(spaces)
    seen = overrun(spaces, lab, 40)
    report = seen.judged(world, world)
    assert report.lost and report.finding is not None, report.render(160)
    assert (report.verdict, report.status, report.finding.name) == ("undecided", 4, "events_lost"), report.render(160)


def test_a_difference_next_to_a_loss_is_none(hosts: tuple[Lab, list[Namespace]]) -> None:
    """The snapshot is of another rule set: packets that are whole disagree, the one at which the ring ran over does not.

    What fills the ring before decides where that packet is cut; at some place the difference was seen already.
    """
    lab, spaces = hosts
    world = world_of(spaces)
    lab.run("c", "iptables-nft -t mangle -A OUTPUT -j MARK --set-mark 9")
    found = 0
    for filling in range(4):
        seen = overrun(spaces, lab, 30, filling)
        cut = [s for s in seen.stories if any("lost" in text for text in s.incomplete)]
        assert cut, "nothing was lost"
        report = Watched(cut, seen.replay, spaces).judged(world, world)
        assert report.verdict == "undecided" and report.status == 4, report.render(160)
        if report.first is not None:
            found += 1
            assert report.finding is not None and report.finding.name == "events_lost", report.render(160)
    assert found, "no cut packet showed its mark"


def test_a_stopped_command_says_what_it_lost(hosts: tuple[Lab, list[Namespace]], tmp_path: Path) -> None:
    """SIGSTOP while packets pass: the ring of the command itself runs over, and it says so."""
    lab, _ = hosts
    ready = tmp_path / "ready"
    names = [w for h in "crs" for w in ("--netns", f"{h}={lab.ns(h)}")]
    words = ["udp 10.7.1.2:40001 -> 10.7.2.2:80", "--json", "--ready-file", str(ready), *names]
    child = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 20
    while not ready.exists() and time.monotonic() < until:
        time.sleep(0.05)
    child.send_signal(signal.SIGSTOP)
    with lab.socket("c", socket.AF_INET, socket.SOCK_DGRAM, keep=False) as sock:
        sock.bind(("10.7.1.2", 40001))
        for _ in range(9000):
            sock.sendto(b"x", ("10.7.2.2", 80))
    child.send_signal(signal.SIGCONT)
    out, said = child.communicate(timeout=120)
    document = json.loads(out)
    assert (child.returncode, document["verdict"], document["class"]) == (4, "undecided", "events_lost"), said
    assert sum(document["lost"].values()) > 0
