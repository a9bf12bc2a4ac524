"""Building and removing namespaces on the kernel at hand."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab_support import kernel, lab, topology_of, unique_prefix
from nattrace.sim.errors import InputError
from nattrace.tracer.lab.build import build, down, labs, sweep

pytestmark = kernel

ROUTER = """
[segments]
lan = ["client:eth0", "router:eth0"]
[hosts.client]
routes = ["default via 10.0.0.1"]
interfaces.eth0 = "10.0.0.2/24"
[hosts.router]
sysctl.net.ipv4.ip_forward = 1
iptables = ["-t nat -A POSTROUTING -o eth1 -j MASQUERADE"]
listen = ["udp 53"]
routes = ["default via 192.0.2.254"]
interfaces.eth0 = "10.0.0.1/24"
interfaces.eth1 = "192.0.2.1/24"
"""

THREE = """
[segments]
lan = ["a:eth0", "b:eth0", "c:eth0"]
[hosts]
a.interfaces.eth0 = "10.0.0.1/24"
b.interfaces.eth0 = "10.0.0.2/24"
c.interfaces.eth0 = "10.0.0.3/24"
"""


def namespaces(prefix: str) -> list[str]:
    return [n for n in os.listdir("/run/netns") if n.startswith(f"{prefix}-")]


def test_a_forwarded_packet_is_seen_leaving_with_its_new_source() -> None:
    with lab(ROUTER) as bench:
        result = bench.send(host="client", proto="udp", dst="8.8.8.8", sport=4000, dport=53)
        (out,) = [s for s in result.left() if s.host == "router"]
        assert (out.dev, out.packet["src"], out.packet["ttl"]) == ("eth1", "192.0.2.1", 63)
        assert bench.counters("router")["nft", "nat", "POSTROUTING", 1] == (1, 28)
        assert bench.conntrack("router")[0]["reply"]["dst"] == "192.0.2.1"


def test_the_sender_sees_the_errno() -> None:
    with lab(ROUTER) as bench:
        bench.run("client", "ip route del default")
        assert bench.send(host="client", proto="udp", dst="8.8.8.8", sport=4000, dport=53).errno == 101


def test_a_delivered_packet_arrives_with_the_headers_that_the_stack_sees() -> None:
    with lab(ROUTER) as bench:
        result = bench.send(host="router", in_="eth1", proto="udp", src="9.9.9.9", dst="192.0.2.1", sport=9, dport=53)
        (arrived,) = result.arrived()
        assert (arrived.host, arrived.dev, arrived.packet["dst"]) == ("router", "eth1", "192.0.2.1")
        assert not result.left()


def test_a_segment_of_three_is_one_network() -> None:
    with lab(THREE) as bench:
        for target in ("10.0.0.2", "10.0.0.3"):
            result = bench.send(host="a", proto="icmp", dst=target, icmp_id=1)
            assert any(s.packet["dst"] == target for s in result.arrived())


def test_three_hosts_are_up_within_a_second() -> None:
    begun = time.monotonic()
    with build(topology_of(THREE), unique_prefix()):
        assert time.monotonic() - begun < 1


def test_nothing_is_left_of_a_lab() -> None:
    prefix = unique_prefix()
    build(topology_of(ROUTER), prefix).down()
    assert not namespaces(prefix) and prefix not in [x["prefix"] for x in labs()]


def test_a_lab_of_a_killed_maker_is_swept(tmp_path: Path) -> None:
    prefix = unique_prefix("sw")
    path = tmp_path / "lab.toml"
    path.write_text(ROUTER)
    program = (
        "import os, signal\nfrom nattrace.tracer.lab import load_topology\nfrom nattrace.tracer.lab.build import build\n"
        f"build(load_topology({str(path)!r}), {prefix!r})\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    assert namespaces(prefix)
    assert prefix in sweep()
    assert not namespaces(prefix)


def test_a_lab_that_is_to_stay_is_not_swept() -> None:
    prefix = unique_prefix("kp")
    build(topology_of(THREE), prefix, keep=True)
    try:
        sweep()
        assert namespaces(prefix)
    finally:
        assert down(prefix)
    assert not down(prefix)


def test_a_second_lab_of_a_name_is_refused() -> None:
    prefix = unique_prefix()
    with build(topology_of(THREE), prefix), pytest.raises(InputError, match="exists"):
        build(topology_of(THREE), prefix)


def test_a_snapshot_of_a_lab_builds_an_equal_lab(tmp_path: Path) -> None:
    """Capture, build from the capture, capture again: the same dumps but for times and sockets."""
    with lab(ROUTER) as bench:
        first = bench.snapshot(tmp_path / "first")
    with lab(first, listen=False) as bench:
        second = bench.snapshot(tmp_path / "second")
    for host in ("client", "router"):
        for name in ("link.json", "addr.json", "route.json", "rule.json", "sysctl.txt"):
            assert (first / host / name).read_text() == (second / host / name).read_text(), f"{host}/{name}"
        rules = [
            [x for x in (d / host / "iptables-save.txt").read_text().splitlines() if x[:1] != "#"]
            for d in (first, second)
        ]
        assert rules[0] == rules[1]
    assert (first / "snapshot.json").read_text() == (second / "snapshot.json").read_text()


def test_listeners_of_a_lasting_lab_end_with_it() -> None:
    from nattrace.tracer.lab.listen import start

    prefix = unique_prefix("ls")
    lasting = build(topology_of(ROUTER), prefix, keep=True)
    try:
        start(lasting)
        assert ":53" in lasting.run("router", "ss", "-lun")
        ((pid, _),) = next(x["processes"] for x in labs() if x["prefix"] == prefix)
    finally:
        down(prefix)
    os.waitpid(pid, 0)
