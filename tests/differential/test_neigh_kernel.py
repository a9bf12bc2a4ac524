"""Who answers ARP, against the running kernel: one namespace asks, another one with random settings answers or not."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nattrace.sim.engine import neigh
from nattrace.sim.engine.run import Ctx, Run
from nattrace.sim.model.addr import AF_INET, parse_addr
from nattrace.sim.model.state import WorldState
from nattrace.sim.model.world import Port, Segment, World

from . import test_routing_kernel as kernel

pytestmark = pytest.mark.kernel

ROUNDS = int(os.environ.get("NATTRACE_NEIGH_N", "8"))
ASKER, OTHER = f"nt-arp-a-{os.getpid()}", f"nt-arp-b-{os.getpid()}"


def sh(namespace: str, script: str) -> None:
    subprocess.run(["ip", "netns", "exec", namespace, "sh", "-c", script], check=True, capture_output=True)


@pytest.fixture()
def pair() -> Iterator[None]:
    """``x0`` of the asker and ``x0`` of the other on one wire; the other has ``y0`` with nobody behind it."""
    try:
        for namespace in (ASKER, OTHER):
            subprocess.run(["ip", "netns", "add", namespace], check=True)
        sh(ASKER, f"ip link add x0 type veth peer name x0 netns {OTHER}; ip link set x0 up; ip link set lo up;"
                  "cd /proc/sys/net/ipv4/neigh/x0; echo 1 > mcast_solicit; echo 100 > retrans_time_ms")  # fmt: skip
        sh(OTHER, "ip link add y0 type veth peer name y1; for d in lo x0 y0 y1; do ip link set $d up; done;"
                  "echo 0 > /proc/sys/net/ipv4/neigh/x0/proxy_delay")  # fmt: skip
        yield
    finally:
        for namespace in (ASKER, OTHER):
            subprocess.run(["ip", "netns", "del", namespace], check=False)


def settings(chance: random.Random) -> str:
    """A random configuration of the other host."""
    lines = [f"ip addr add 10.0.0.{chance.choice((2, 3))}/{chance.choice((8, 24, 25))} dev x0"]
    if chance.random() < 0.8:
        scope = chance.choice(("global", "host", "link"))
        lines.append(f"ip addr add 10.{chance.choice((0, 1))}.0.5/{chance.choice((24, 30))} dev y0 scope {scope}")
    lines.append("ip route add 10.1.0.0/24 dev y0 metric 7" if chance.random() < 0.6 else "true")
    for key, values in (("arp_ignore", (0, 1, 2, 3, 8)), ("rp_filter", (0, 1, 2)), ("proxy_arp", (0, 1)),
                        ("arp_filter", (0, 1)), ("forwarding", (0, 1, 1)), ("proxy_arp_pvlan", (0, 1))):  # fmt: skip
        if chance.random() < 0.5:
            lines.append(f"echo {chance.choice(values)} > /proc/sys/net/ipv4/conf/x0/{key}")
    if chance.random() < 0.3:
        lines.append("ip neigh add proxy 10.1.0.9 dev x0")
    return "; ".join(lines)


TARGETS = ("10.0.0.2", "10.0.0.3", "10.0.0.5", "10.1.0.5", "10.0.0.77", "10.1.0.9", "10.1.0.10", "127.0.0.1")


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_those_who_answer_are_those_of_the_kernel(pair: None, seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    own = f"10.{chance.choice((0, 0, 0, 1))}.0.1/{chance.choice((8, 16, 24))}"
    sh(ASKER, f"ip addr add {own} dev x0; ip route replace 10.0.0.0/8 dev x0; true")
    sh(OTHER, settings(chance))
    hosts = {}
    for namespace in (ASKER, OTHER):
        hosts[namespace] = kernel.host_of(namespace, tmp_path / namespace).with_(name=namespace)
    targets = [t for t in TARGETS if t != own.partition("/")[0] and t != "127.0.0.1"]
    sh(ASKER, "".join(f"ip neigh add {t} dev x0 nud none; ip neigh replace {t} dev x0 use;" for t in targets))
    time.sleep(0.5)
    table = {
        n["dst"]: n["state"]
        for n in json.loads(kernel.run("ip", "-n", ASKER, "-j", "neigh", "show", "nud", "all", "dev", "x0").stdout)
    }
    world = World(hosts, (Segment("wire", (Port(ASKER, "x0"), Port(OTHER, "x0"))),))
    run = Run(WorldState(world))
    ctx = Ctx(run, hosts[ASKER], run.ws.host(ASKER))
    answered = {t: "REACHABLE" in table.get(t, ()) for t in targets}
    expected = {t: neigh.resolve(ctx, "x0", parse_addr(t)[1], AF_INET).kind in ("port", "broadcast") for t in targets}
    assert expected == answered, table
