"""SIGKILL at random moments of every live command, traffic running: no residue, no stuck packet, no lost connection, no loss.

A few kills each in the suite. The full count, with figures: NATTRACE_KILLS=50 pytest -s tests/live/test_kill_commands.py
What queues hold at that moment is the only thing that may be lost, at most max_len for each tap a packet meets.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from lab_support import Bench, kernel
from nattrace.tracer.live import netns
from nattrace.tracer.live import residue as left
from nattrace.tracer.live.queue import MAX_LEN

from .router_lab import residue, router
from .test_kill import Traffic

pytestmark = kernel
REPEATS = int(os.environ.get("NATTRACE_KILLS", "3"))
PROGRAM = [sys.executable, "-c", "from nattrace.tracer.cli import main; main()"]
FLOW = "udp 10.7.1.2 -> 10.7.2.2:7000"
TAPS = 5  # of a forwarded packet's way through the queues
COMMANDS = {
    "trace": ["trace", FLOW],
    "trace --tap queue": ["trace", FLOW, "--tap", "queue", "--allow-changes", "-q"],
    "trace --rules": ["trace", FLOW, "--rules", "--allow-changes", "-q"],
    "confirm": ["confirm", FLOW],
    "confirm --rules": ["confirm", FLOW, "--rules", "--allow-changes"],
    "watch": ["watch"],
}
TRACKED = ["-A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT"]


class Kills(NamedTuple):
    """``lost``: datagrams by each kill; ``residue``: what was still there five seconds after; ``broken``: connections."""

    lost: list[int]
    residue: list[str]
    broken: list[str]
    early: int  # killed before anything was in place


def kill_often(words: list[str], repeats: int, scratch: Path) -> Kills:
    """The command started and killed so often in the router's namespace."""
    early, remains = 0, list[str]()
    with router("nft", TRACKED) as (bench, space), Traffic(bench) as traffic:
        time.sleep(0.2)
        counts = [traffic.lost()]
        for number in range(repeats):
            ready = scratch / f"ready{number}"
            command = [*PROGRAM, *words, "--netns", space.name, "--ready-file", str(ready)]
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _random_moment(ready, anywhere=number % 2 == 0)
            assert child.poll() is None, f"{words} ended by itself with status {child.returncode}"
            child.kill()
            child.wait()
            early += not ready.exists()
            remains += _remains(bench, space)
            counts.append(traffic.lost())
        broken = list(traffic.failed)
    return Kills([after - before for before, after in pairwise(counts)], remains, broken, early)


def _random_moment(ready: Path, anywhere: bool) -> None:
    """Somewhere from its start on, or (every other time) somewhere when it is in place, however long that takes."""
    if anywhere:
        time.sleep(random.uniform(0.1, 2.5))
        return
    until = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 1.0))


def _remains(bench: Bench, space: netns.Namespace) -> list[str]:
    """What is left when the kernel had its time."""
    until, found = time.monotonic() + 5, ["?"]
    while found and time.monotonic() < until:
        found = residue(bench) + [str(each) for each in left.find([space])]
        time.sleep(0.05 if found else 0)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_any_moment(name: str, tmp_path: Path) -> None:
    found = kill_often(COMMANDS[name], REPEATS, tmp_path)
    most = MAX_LEN * TAPS if "queue" in name else 0
    print(
        f"\n{name}: {len(found.lost)} kills ({found.early} before it was in place); left behind {len(found.residue)}; connections "
        f"broken {len(found.broken)}; datagrams lost {sum(found.lost)}, at most {max(found.lost)} by one kill ({most} allowed)"
    )
    assert found.residue == [] and found.broken == []
    assert max(found.lost) <= most, found.lost
