"""Every kernel tells the same of the same packet, by links or by kprobes. How to run: README.md here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = "NATTRACE_KERNEL_RUNNER"
CHECK = Path(__file__).with_name("check_probes.py")
WAY = ["rx", "PREROUTING -199", "PREROUTING -149", "PREROUTING -99", "FORWARD -1", "FORWARD 1", "POSTROUTING 101", "tx"]


LIVE = CHECK.parents[1] / "live"
NETLINK = (
    "test_owner_tables.py",
    "test_conntrack_events.py",
    "test_rule_trace.py",
    "test_queue_taps.py",
    "test_queue_trace.py",
)
FLOWTABLES = Path(__file__).with_name("check_flowtable.py")
KERNELS = os.environ.get("NATTRACE_KERNELS", "5.10,6.1,6.12,backports").split(",")


@pytest.mark.parametrize("kernel_name", KERNELS)
def test_a_kernel_tells_what_the_others_tell(kernel_name: str) -> None:
    command = [os.environ[RUNNER], kernel_name, "--", sys.executable, str(CHECK)]
    env = os.environ | {"PYTHONPATH": str(CHECK.parents[1] / "live")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    print(told["kernel"], told["backend"], told["missing"])
    release = tuple(int(part) for part in told["kernel"].split("-")[0].split(".")[:2])
    assert told["backend"] == ("netfilter links" if release >= (6, 4) else "kprobes")
    assert set(told["missing"]) <= ({"icmp_send"} if release < (5, 19) else set())
    assert told["not_attached"] == []
    assert told["udp"] == [WAY, ["rx", *WAY[1:5], "drop"]]
    assert told["icmp"] == [WAY]
    assert all(told["complete"])
    assert told["translated"] == "udp 10.7.2.1:40001 > 10.7.2.2:80"
    assert told["marks"] == [7]
    assert told["drop"] == [None if release < (5, 17) else "SKB_DROP_REASON_NETFILTER_DROP"]
    assert told["lost"] == 0


@pytest.mark.parametrize("file", NETLINK)
@pytest.mark.parametrize("kernel_name", KERNELS)
def test_the_netlink_half(kernel_name: str, file: str) -> None:
    """Owner tables, conntrack events, rule traces and queues: the live tests of each, run inside that kernel."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(LIVE / file)]
    command = [os.environ[RUNNER], "--timeout", "1500", kernel_name, "--", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700, cwd=LIVE.parents[1])
    print(kernel_name, file, done.stdout.strip().splitlines()[-1:])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.parametrize("kernel_name", [k for k in KERNELS if k not in ("5.10", "6.1")])
def test_a_flowtable_is_a_bypass(kernel_name: str) -> None:
    """What it forwards no hook sees: ``confirm`` names it, where a rule of FORWARD should have dropped it."""
    command = [os.environ[RUNNER], kernel_name, "--", sys.executable, str(FLOWTABLES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert (told["verdict"], told["class"], told["first"]) == ("disagrees", "bypassed", ["r", None, "hooks"]), told
