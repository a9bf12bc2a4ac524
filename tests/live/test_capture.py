"""Snapshots of namespaces on the kernel at hand: what is in them, what reading changes, what anonymizing keeps."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from lab_support import Bench, kernel, lab
from nattrace.sim.engine.simulate import Simulator
from nattrace.sim.errors import InputError
from nattrace.sim.snapshot.load import load_world
from nattrace.tracer.capture import capture, script
from nattrace.tracer.capture.anonymize import Scrambler, anonymize
from nattrace.tracer.lab.netns import inside, path_of

pytestmark = kernel

NET = """
[segments]
lan = ["client:eth0", "router:eth0"]
dmz = ["router:eth2", "web:eth0", "db:eth0"]
[hosts]
client.interfaces.eth0 = "10.20.30.2/24"
client.routes = ["default via 10.20.30.1"]
web.interfaces.eth0 = "10.44.55.2/24"
web.routes = ["default via 10.44.55.1"]
db.interfaces.eth0 = "10.44.55.3/24"
[hosts.router]
interfaces.eth0 = "10.20.30.1/24"
interfaces.eth1 = "203.0.113.77/24"
interfaces.eth2 = "10.44.55.1/24"
sysctl.net.ipv4.ip_forward = 1
routes = ["default via 203.0.113.1"]
ipset = ["create staff hash:net", "add staff 10.20.30.0/25"]
listen = ["tcp 22"]
iptables = [
  "-t nat -A PREROUTING -i eth1 -p tcp --dport 80 -m comment --comment 'the shop of Miller' -j DNAT --to-destination 10.44.55.2",
  "-t nat -A POSTROUTING -o eth1 -j MASQUERADE", "-N MILLER", "-A FORWARD -m set --match-set staff src -j MILLER",
  "-A MILLER -i eth+ -j ACCEPT", "-A FORWARD -s 10.20.30.128/25 -j DROP",
]
"""


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def hooks_of(bench: Bench) -> str:
    """What a capture must not touch: rule sets, legacy tables, conntrack."""
    return bench.run("router", "nft list ruleset") + bench.run("router", "cat /proc/thread-self/net/ip_tables_names")


def test_a_capture_holds_the_dumps_and_the_segments(tmp_path: Path) -> None:
    with lab(NET) as bench:
        snapshot = bench.snapshot(tmp_path / "snap")
    index = json.loads((snapshot / "snapshot.json").read_text())
    assert index["hosts"] == ["client", "web", "db", "router"]
    assert [s["members"] for s in index["segments"]] == [
        ["client:eth0", "router:eth0"], ["db:eth0", "router:eth2", "web:eth0"],
    ]  # fmt: skip
    wanted = {"iptables-save.txt", "ipset.txt", "link.json", "addr.json", "route.json", "rule.json", "sysctl.txt", "sockets.txt",
              "conntrack.txt", "meta.json", "passwd.txt", "nft.json"}  # fmt: skip
    assert wanted <= files(snapshot / "router")
    assert "net.ipv4.ip_forward = 1" in (snapshot / "router" / "sysctl.txt").read_text()
    assert ":22" in (snapshot / "router" / "sockets.txt").read_text()
    assert "iptables-legacy-save.txt" not in files(snapshot / "router")


def test_nobody_else_can_read_a_capture(tmp_path: Path) -> None:
    with lab(NET) as bench:
        snapshot = bench.snapshot(tmp_path / "snap")
        capture(tmp_path / "one.tar.gz", [bench.lab.netns("client")])
    for path in [*snapshot.rglob("*"), tmp_path / "one.tar.gz"]:
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        assert any(m.name.endswith("link.json") for m in archive.getmembers())


def test_reading_changes_nothing(tmp_path: Path) -> None:
    """No table is made, no tracking is switched on, no counter moves."""
    with lab("[hosts.router.interfaces]\neth0 = '10.0.0.1/24'") as bench:
        before = hooks_of(bench)
        bench.snapshot(tmp_path / "snap")
        assert hooks_of(bench) == before
        bench.send(proto="udp", dst="10.0.0.9", sport=1, dport=2)
        assert not bench.conntrack("router")


@pytest.mark.parametrize("order", [("nft",), ("legacy",), ("nft", "legacy")], ids=["nft", "legacy", "both"])
def test_the_backend_with_rules_is_the_main_file(tmp_path: Path, order: tuple[str, ...]) -> None:
    with lab("[hosts.router.interfaces]\neth0 = '10.0.0.1/24'") as bench:
        for backend in order:
            bench.run("router", f"iptables-{backend} -A INPUT -p udp --dport 53 -j ACCEPT")
        snapshot = bench.snapshot(tmp_path / "snap") / "router"
    assert "--dport 53" in (snapshot / "iptables-save.txt").read_text()
    assert ("iptables-legacy-save.txt" in files(snapshot)) == (len(order) == 2)


def test_an_unknown_namespace_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no namespace, process or container"):
        capture(tmp_path / "x", ["no-such-thing"])


def test_an_existing_target_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        capture(tmp_path / "full", None)


def test_the_script_captures_the_same(tmp_path: Path) -> None:
    """The plain shell script and the program agree on everything that is not a time or a counter."""
    path = tmp_path / "capture.sh"
    path.write_text(script())
    subprocess.run(["sh", "-n", str(path)], check=True)
    from netfilterqueue import NetfilterQueue

    with lab(NET) as bench:
        with inside(path_of(bench.lab.netns("router"))):
            queues = [NetfilterQueue(), NetfilterQueue()]
            for queue, number in zip(queues, (77, 5), strict=True):
                queue.bind(number, lambda packet: packet.accept())
        snapshot = bench.snapshot(tmp_path / "snap") / "router"
        subprocess.run(
            ["ip", "netns", "exec", bench.lab.netns("router"), "sh", str(path), str(tmp_path / "plain")], check=True
        )
        for queue in queues:
            queue.unbind()
    plain = tmp_path / "plain"
    metas = [json.loads((place / "meta.json").read_text()) for place in (plain, snapshot)]
    assert [sorted(meta["queues"]) for meta in metas] == [[5, 77], [5, 77]]
    assert files(plain) >= files(snapshot) - {"expect.txt", "nft.json", "xfrm.txt", "neigh-proxy.json"}
    for name in ("link.json", "addr.json", "route.json", "rule.json", "ipset.txt"):
        assert (plain / name).read_text() == (snapshot / name).read_text(), name
    assert "net.ipv4.ip_forward = 1" in (plain / "sysctl.txt").read_text()
    world = load_world(plain)
    assert len(world.hosts) == 1


# --------------------------------------------------------------------------------------------- anonymize

FLOWS = [
    {"host": "client", "in": None, "proto": "udp", "src": None, "dst": "8.8.8.8", "sport": 4000, "dport": 53},
    {"host": "client", "in": None, "proto": "icmp", "src": None, "dst": "10.44.55.3", "icmp_id": 7},
    {"host": "router", "in": "eth1", "proto": "tcp", "src": "9.9.9.9", "dst": "203.0.113.77", "sport": 5, "dport": 80},
    {"host": "router", "in": "eth1", "proto": "tcp", "src": "9.9.9.9", "dst": "203.0.113.77", "sport": 5, "dport": 22},
    {
        "host": "router",
        "in": "eth0",
        "proto": "udp",
        "src": "10.20.30.200",
        "dst": "8.8.8.8",
        "sport": 4000,
        "dport": 53,
    },
]


def outline(result: dict) -> list:
    """The structure of an answer: outcome, reason, rules hit; no address and no name."""
    steps = [(s["hook"], s["table"], s["rule"], s["verdict"]) for h in result["hops"] for s in h["steps"] if s["rule"]]
    return [result["outcome"], result["certainty"], result["reason"]["code"], steps]


def test_an_anonymized_snapshot_answers_as_before_and_tells_nothing(tmp_path: Path) -> None:
    with lab(NET) as bench:
        snapshot = bench.snapshot(tmp_path / "snap")
    before = Simulator(load_world(snapshot))
    expected = [outline(before.feed(flow)) for flow in FLOWS]
    key = b"k" * 32
    scrambler = Scrambler(key)
    anonymize(snapshot, key)
    everything = "".join(p.read_text() for p in snapshot.rglob("*") if p.is_file())
    for secret in (
        "10.20.30.",
        "10.44.55.",
        "203.0.113.",
        "Miller",
        "MILLER",
        "staff",
        "eth0",
        '"router"',
        f'"{os.uname().nodename}"',
        "02:00:00:00:00",
    ):
        assert secret not in everything, secret
    index = json.loads((snapshot / "snapshot.json").read_text())
    world = load_world(snapshot)
    names = dict(zip(["client", "web", "db", "router"], index["hosts"], strict=True))
    devices = {name: {link.ifindex: link.name for link in host.links.values()} for name, host in world.hosts.items()}
    simulator = Simulator(world)
    real = {"router": {"eth0": "10.20.30.1", "eth1": "203.0.113.77"}}
    for flow, outline_before in zip(FLOWS, expected, strict=True):
        mapped = {**flow, "host": names[flow["host"]], "dst": scrambler.address(flow["dst"])}
        if flow["src"]:
            mapped["src"] = scrambler.address(flow["src"])
        if flow["in"]:
            address = scrambler.address(real["router"][flow["in"]])
            host = world.hosts[mapped["host"]]
            mapped["in"] = next(a.dev for a in host.addresses if _text(a) == address)
        assert outline(simulator.feed(mapped)) == outline_before
    assert devices


def _text(address) -> str:
    from nattrace.sim.model.addr import format_addr

    return format_addr(address.family, address.local)
