"""A sysctl that is put back: at the end, and when the process is killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab_support import kernel
from nattrace.tracer.lab.netns import inside, path_of
from nattrace.tracer.live.rules.guard import Guard, left_behind

from .router_lab import router

pytestmark = kernel
NAME, VALUE = "net.netfilter.nf_log.2", "nfnetlink_log"
CODE = """
import sys, time
from nattrace.tracer.live import netns
from nattrace.tracer.live.rules.guard import Guard
space = netns.by_name(sys.argv[1])
print("go", flush=True)
guard = Guard(space, {"net.netfilter.nf_log.2": "nfnetlink_log", "net.netfilter.nf_log.10": "nfnetlink_log"})
print("up", flush=True)
time.sleep(60)
"""
REPEATS = int(os.environ.get("NATTRACE_KILLS", "12"))


def now(space: str) -> str:
    with inside(path_of(space)):
        return Path("/proc/sys/net/netfilter/nf_log/2").read_text().strip()


def wait_for(space: str, value: str) -> bool:
    deadline = time.monotonic() + 5
    while now(space) != value and time.monotonic() < deadline:
        time.sleep(0.01)
    return now(space) == value


def test_it_is_set_and_put_back() -> None:
    with router(None) as (_, space):
        before = now(space.name)
        with Guard(space, {NAME: VALUE}) as guard:
            assert now(space.name) == VALUE and left_behind(space, guard.before) == {NAME: VALUE}
        assert now(space.name) == before and left_behind(space, guard.before) == {}


def test_what_somebody_else_set_meanwhile_stays() -> None:
    with router(None) as (bench, space):
        with Guard(space, {NAME: VALUE}):
            bench.run("router", f"sysctl -qw {NAME}=NONE")
        assert now(space.name) == "NONE"


def test_an_unwritable_one_is_told_and_nothing_is_left() -> None:
    from nattrace.sim.errors import MissingFacility

    with router(None) as (_, space):
        before = now(space.name)
        with pytest.raises(MissingFacility):
            Guard(space, {NAME: VALUE, "net.netfilter.nf_log.10": "no_such_logger"})
        assert now(space.name) == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_is_put_back_when_the_whole_terminal_is_signalled(how: signal.Signals) -> None:
    with router(None) as (_, space):
        before = now(space.name)
        child = subprocess.Popen(
            [sys.executable, "-c", CODE, space.name], stdout=subprocess.PIPE, start_new_session=True
        )
        assert child.stdout is not None and child.stdout.readline() and child.stdout.readline() == b"up\n"
        assert now(space.name) == VALUE
        os.killpg(child.pid, how)
        child.wait()
        assert wait_for(space.name, before)


def test_killed_at_any_moment() -> None:
    """Also between the child's start and its first word."""
    with router(None) as (_, space):
        before = now(space.name)
        for _ in range(REPEATS):
            child = subprocess.Popen([sys.executable, "-c", CODE, space.name], stdout=subprocess.PIPE)
            assert child.stdout is not None and child.stdout.readline() == b"go\n"
            time.sleep(random.uniform(0, 0.03))
            child.kill()
            child.wait()
            time.sleep(0.05)
            assert wait_for(space.name, before)


def test_its_child_holds_nothing_of_ours() -> None:
    """Else an owned table would outlive us by it: only the three pipes and the shell's own files."""
    with router(None) as (_, space), Guard(space, {NAME: VALUE}) as guard:
        kinds = [os.readlink(f"/proc/{guard.pid}/fd/{name}") for name in os.listdir(f"/proc/{guard.pid}/fd")]
        assert sorted(kind.partition(":")[0] for kind in kinds) == ["pipe"] * 3
