"""``confirm --probe`` of a flow that a host receives: put on the wire by the other end, or a word why it cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from lab_support import kernel

from .drops_lab import Lab

pytestmark = kernel
ROOT = Path(__file__).parents[2]
PROGRAM = [
    sys.executable,
    "-c",
    "from nattrace.tracer.cli import main; main()",
    "confirm",
    "--probe",
    "--allow-changes",
]
SETUP = (
    "iptables-nft -t nat -A POSTROUTING -o rs -j MASQUERADE",
    "ip link add br0 type bridge; ip link set br0 up; ip addr add 10.7.8.1/24 dev br0",
    "ip link add d0 type vxlan id 42 dev rc dstport 4789; ip link set d0 up",
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    with ExitStack() as stack:
        stack.callback(made.down)
        made.up()
        subprocess.run(["ip", "netns", "add", made.ns("b")], check=True)
        stack.callback(subprocess.run, ["ip", "netns", "del", made.ns("b")], check=False)
        for line in SETUP:
            made.run("r", line)
        made.run("r", f"ip link add p0 type veth peer name b0 netns {made.ns('b')}; ip link set p0 master br0 up")
        made.run("b", "ip link set b0 up")
        made.run("r", "ip link add br1 type bridge; ip link set br1 up; ip link set d0 master br1")
        made.run(
            "r",
            "ip link add va type veth peer name vb; ip link set va up; ip link set vb up; ip addr add 10.7.9.1/24 dev va",
        )
        made.run("c", "iptables-nft -A OUTPUT -p udp -j DROP")  # met by what c sends, not by what is put on its wire
        made.listen("s", "udp", 80)
        made.listen("s", "tcp", 80)
        yield made


def probe(lab: Lab, flow: str, *more: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"COLUMNS": "100"}
    asked = [*PROGRAM, f"{flow} at {lab.ns('r')}", "--json", *more]
    return subprocess.run(asked, capture_output=True, text=True, timeout=60, env=env)


FLOWS = {
    "udp by a veth": ("udp 10.7.1.2:40001 -> 10.7.2.2:80 in rc", "c0 of {c}"),
    "tcp by a veth": ("tcp 10.7.1.2:40002 -> 10.7.2.2:80 in rc", "c0 of {c}"),
    "an echo request by a veth": ("icmp 10.7.1.2 -> 10.7.2.2 in rc", "c0 of {c}"),
    "ttl and length": ("udp 10.7.1.2:40003 -> 10.7.2.2:80 in rc ttl 9 len 300", "c0 of {c}"),
    "dropped on the way": ("udp 10.7.1.2:40004 -> 10.7.2.2:80 in rc ttl 1", "c0 of {c}"),
    "by a port of a bridge": ("udp 10.7.8.2:40006 -> 10.7.2.2:80 in br0", "b0 of {b}"),
    "both ends in one namespace": ("udp 10.7.9.2:40007 -> 10.7.2.2:80 in va", "vb of {r}"),
}


@pytest.mark.parametrize("name", FLOWS)
def test_put_on_the_wire(name: str, lab: Lab) -> None:
    flow, place = FLOWS[name]
    done = probe(lab, flow)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert (done.returncode, document["verdict"]) == (0, "confirmed"), (document["text"], done.stderr)
    where = place.format(**{h: lab.ns(h) for h in "bcrs"})
    assert f"puts on the wire at {where}" in done.stderr
    first = document["packets"][0]
    assert first["rows"][0]["observed"].startswith(f"in {flow.split(' in ')[1].split()[0]}: ")


def test_the_sending_end_is_watched_too(lab: Lab) -> None:
    """It sends by a packet socket: no hook of it is met, and nothing is predicted there."""
    named = [w for h in "crs" for w in ("--netns", lab.ns(h))]
    done = probe(lab, "udp 10.7.1.2:40011 -> 10.7.2.2:80 in rc", *named)
    document = json.loads(done.stdout)
    assert (done.returncode, document["verdict"]) == (0, "confirmed"), (document["text"], done.stderr)


NOBODY = {
    "a tunnel": ("udp 10.7.1.2 -> 10.7.2.2:80 in d0", "a vxlan device"),
    "a bridge without wires": ("udp 10.7.1.2 -> 10.7.2.2:80 in br1", "none of its ports (d0) is a veth"),
    "loopback": ("udp 127.0.0.1 -> 127.0.0.1:80 in lo", "the loopback device"),
    "a protocol": ("gre 10.7.1.2 -> 10.7.2.2 in rc", "sends tcp, udp and echo requests"),
}


@pytest.mark.parametrize("name", NOBODY)
def test_why_it_cannot(name: str, lab: Lab) -> None:
    flow, says = NOBODY[name]
    done = probe(lab, flow)
    said = " ".join(done.stderr.split())
    assert done.returncode == 2 and says in said and "Traceback" not in said, said


def test_the_other_end_is_down(lab: Lab) -> None:
    lab.run("c", "ip link set c0 down")
    try:
        done = probe(lab, "udp 10.7.1.2:40021 -> 10.7.2.2:80 in rc")
        assert done.returncode == 2 and f"c0 in {lab.ns('c')} is down" in done.stderr, done.stderr
    finally:
        lab.run("c", "ip link set c0 up; ip route replace default via 10.7.1.1")


def test_a_bridge_that_shows_frames_to_iptables(lab: Lab) -> None:
    """PREROUTING is run by the port before the bridge receives: one packet, one pass, whether the port is asked for or not."""
    lab.run("r", "test $(sysctl -n net.bridge.bridge-nf-call-iptables) = 1")
    for port, place in ((40031, " in br0"), (40032, " in br0"), (40033, "")):
        flow = f"udp 10.7.8.2:{port} -> 10.7.2.2:80{place} at {lab.ns('r')}"
        send = f"{sys.executable} -c \"from tests.live.test_probe_wire import put; put('{lab.ns('r')}', {port})\""
        told = subprocess.run(
            [*PROGRAM[:-3], "trace", flow, "--json", "--netns", lab.ns("r"), "--", "sh", "-c", send],
            capture_output=True, text=True, timeout=60, cwd=ROOT, env=os.environ | {"PYTHONPATH": f"{ROOT}/tests"},
        )  # fmt: skip
        lines = [json.loads(line) for line in told.stdout.splitlines()]
        hops = [hop for line in lines if line["kind"] == "story" for hop in line["hops"]]
        assert [(hop["in"], hop["out"]) for hop in hops] == [("br0", "rs")], told.stderr


def put(host: str, port: int) -> None:
    """A datagram to the bridge of a host, by its port."""
    from nattrace.tracer.live import netns
    from nattrace.tracer.live.wire import inject
    from nattrace.tracer.live.worlds import Worlds

    with netns.by_name(host) as ns:
        world = Worlds({"netns": [host], "lab": None})
        world._spaces = [ns]
        question = world.question(f"udp 10.7.8.2:{port} -> 10.7.2.2:80 in br0", [ns])
        assert question is not None
        inject(question, ns, print)
