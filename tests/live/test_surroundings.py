"""Nobody names a namespace: those on the predicted path are found, read and watched, and no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from lab_support import kernel
from nattrace.tracer.live.surroundings import around, reachable

from .drops_lab import Lab
from .test_confirm import SEND

pytestmark = kernel
PROGRAM = [sys.executable, "-c", "from nattrace.tracer.cli import main; main()"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Besides c – r – s: a namespace that is wired to r and on no path, and one that is wired to nothing."""
    made = Lab()
    with ExitStack() as stack:
        stack.callback(made.down)
        made.up()
        for extra in ("side", "alone"):
            subprocess.run(["ip", "netns", "add", made.ns(extra)], check=True)
            stack.callback(subprocess.run, ["ip", "netns", "del", made.ns(extra)], check=False)
        made.run("r", f"ip link add rx type veth peer name x0 netns {made.ns('side')}; ip link set rx up")
        made.run("r", "iptables-nft -t nat -A POSTROUTING -o rs -j MASQUERADE")
        made.listen("s", "udp", 80)
        yield made


def run(lab: Lab, command: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"COLUMNS": "100"}
    sending = ["--", "ip", "netns", "exec", lab.ns("c"), sys.executable, "-c", SEND]
    return subprocess.run([*PROGRAM, command, *words, *sending], capture_output=True, text=True, timeout=60, env=env)


def test_what_is_wired_together(lab: Lab) -> None:
    names = {lab.ns(h) for h in "crs"}
    everything = {ns.name for ns in reachable()}
    assert names | {lab.ns("side"), lab.ns("alone")} <= everything
    for flow in (f"udp 10.7.1.2:40001 -> 10.7.2.2:80 at {lab.ns('c')}", "10.7.1.2:40001 -> 10.7.2.2:80/udp"):
        found = {ns.name for ns in around(flow)}
        assert names | {lab.ns("side")} <= found and lab.ns("alone") not in found, flow
    assert len(around("203.0.113.77 -> 10.7.2.2")) >= 1


def test_confirm_finds_its_namespaces(lab: Lab) -> None:
    """Started in no namespace of the lab, with nothing named but the flow."""
    done = run(lab, "confirm", f"udp 10.7.1.2:40001 -> 10.7.2.2:80 at {lab.ns('c')}", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["verdict"]) == (0, "confirmed"), done.stderr
    assert document["hosts"] == sorted(lab.ns(h) for h in "crs")
    assert f"wired to them, not on it: {lab.ns('side')}" in done.stderr
    assert [r["host"] for r in document["packets"][0]["rows"] if r["stage"] == "nat" and r["hook"] == "POSTROUTING"]


def test_trace_finds_them_too(lab: Lab) -> None:
    lab.run("r", "conntrack -F")
    done = run(lab, "trace", f"udp 10.7.1.2 -> 10.7.2.2:80 at {lab.ns('c')}", "--json")
    story = json.loads(done.stdout.splitlines()[0])
    assert [hop["host"] for hop in story["hops"]] == [lab.ns(h) for h in "crs"], done.stderr


def test_a_flow_that_is_not_understood(lab: Lab) -> None:
    done = run(lab, "confirm", "udp 10.7.1.2 -> 10.7.2.2:80 at nowhere-at-all")
    assert done.returncode == 2 and "Traceback" not in done.stderr and "nowhere-at-all" in done.stderr
