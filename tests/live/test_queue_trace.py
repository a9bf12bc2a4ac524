"""nattrace trace --tap queue: the story of a packet without BPF, and packets held until the user lets them go."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab_support import kernel

from .router_lab import residue, router

pytestmark = kernel
NATTRACE = [sys.executable, "-c", "from nattrace.tracer.cli import main; main()", "trace"]
FLOW = "udp 10.7.1.2:40001 -> 10.7.1.1:8080"
SEND = "import socket; s = socket.socket(2, 2); s.bind(('', 40001)); s.sendto(b'x', ('10.7.1.1', 8080))"


def trace(space: str, client: str, *options: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    """The command as a user runs it, ended by the sending of one datagram."""
    words = [*NATTRACE, FLOW, "--netns", space, "--tap", "queue", *options]
    words += ["--", "ip", "netns", "exec", client, sys.executable, "-c", SEND]
    return subprocess.run(words, capture_output=True, text=True, input=lines, timeout=60)


def test_nothing_is_changed_without_leave() -> None:
    with router("nft") as (bench, space):
        done = trace(space.name, bench.lab.netns("client"))
        assert done.returncode == 2 and "--allow-changes allows it" in done.stderr and "nf_tables table" in done.stderr
        assert residue(bench) == []


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_the_same_steps_as_the_probes_tell(backend: str) -> None:
    """Changes hook by hook and table by table: by queues, and by BPF."""
    with router(backend) as (bench, space):
        found = {}
        for tap in ("queue", "bpf"):
            words = ["--json", "--allow-changes"] if tap == "queue" else ["--json", "--tap", "bpf"]
            done = trace(space.name, bench.lab.netns("client"), *words)
            story = json.loads(done.stdout.splitlines()[0])
            steps = [s for hop in story["hops"] for s in hop["steps"]]
            found[tap] = [(s["hook"], s["table"], s["changes"]) for s in steps if s["changes"]]
            bench.run("router", "conntrack -F")
        assert found["queue"] == found["bpf"] != []
        assert residue(bench) == []


def test_a_recording_is_told_again(tmp_path: Path) -> None:
    with router("nft") as (bench, space):
        first = trace(space.name, bench.lab.netns("client"), "--allow-changes", "-o", str(tmp_path / "taps"))
    again = subprocess.run([*NATTRACE, "-r", str(tmp_path / "taps")], capture_output=True, text=True)
    assert again.stdout == first.stdout != ""


def test_stepping_holds_shows_and_changes() -> None:
    with router("nft") as (bench, space):
        bench.wires.settle()
        lines = "\n\n\ns IP.ttl=9\nm 0x55\n\n\n\n"
        done = trace(space.name, bench.lab.netns("client"), "--allow-changes", "--step", "-c", "1", lines=lines)
        assert done.returncode == 0, done.stderr
        assert "since PREROUTING -199: mark 0x0 → 0x7" in done.stdout
        assert "since PREROUTING -149: IP.dst 10.7.1.1 → 10.7.2.2, UDP.dport 8080 → 80" in done.stdout
        assert "FORWARD 1 on" in done.stdout and "mark 0x55" in done.stdout
        assert "nattrace: 1 packets held" in done.stderr
        bench.wires.settle()
        assert residue(bench) == []


def test_the_conversation_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "live-changes.md").read_text()
    shown = re.search(r"```console\n\$ nattrace trace .*?\n(.*?)```", page, re.S)
    assert shown
    with router("nft") as (bench, space):
        lines = "\n\n\ns IP.ttl=9\n\n\n\n"
        done = trace(space.name, bench.lab.netns("client"), "--allow-changes", "--step", "-c", "1", lines=lines)
    told = done.stdout.replace(space.name, "router")
    assert re.sub(r"  \w+: .* \| reply .*\n", "", told) == shown[1]  # a kernel that tells the entry shows it too


def test_a_packet_dropped_by_hand_does_not_arrive() -> None:
    with router("nft") as (bench, space):
        bench.run("server", "iptables-nft -A INPUT -p udp --dport 80 -j ACCEPT")
        done = trace(space.name, bench.lab.netns("client"), "--allow-changes", "--step", "-c", "1", lines="\n\nd\n")
        assert "  dropped" in done.stdout
        assert " 0     0 ACCEPT" in bench.run("server", "iptables-nft -nvL INPUT")


def test_the_end_of_the_input_lets_everything_go_on() -> None:
    with router("nft") as (bench, space):
        bench.run("server", "iptables-nft -A INPUT -p udp --dport 80 -j ACCEPT")
        done = trace(space.name, bench.lab.netns("client"), "--allow-changes", "--step", lines="\n")
        assert done.returncode == 0 and residue(bench) == []
        assert " 1    29 ACCEPT" in bench.run("server", "iptables-nft -nvL INPUT")


@pytest.mark.parametrize("step", [False, True])
def test_a_namespace_that_is_deleted_ends_it(step: bool, tmp_path: Path) -> None:
    name, ready = f"ln-{os.getpid()}-{int(step)}", tmp_path / "ready"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        words = [*NATTRACE, "udp 10.7.1.2:1 -> 10.7.1.1:2", "--netns", name, "--tap", "queue", "--allow-changes"]
        words += ["--ready-file", str(ready), *(["--step"] if step else [])]
        child = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while not ready.exists() and child.poll() is None:
            time.sleep(0.05)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    _, err = child.communicate(timeout=20)
    assert child.returncode == 4 and "the namespace that was watched is gone" in err
