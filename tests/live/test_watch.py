"""``nattrace watch``: what it counts as agreed, what it tells apart, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from lab_support import kernel, unique_prefix
from nattrace.sim.render.schema import SCHEMAS
from nattrace.tracer.lab.build import Lab, build
from nattrace.tracer.lab.topology import from_data
from nattrace.tracer.live import netns
from nattrace.tracer.live import residue as left

pytestmark = kernel
NATTRACE = [sys.executable, "-c", "from nattrace.tracer.cli import main; main()"]
REPEATS = int(os.environ.get("NATTRACE_KILLS", "4"))
DATA = {
    "segments": {"lan": ["c:eth0", "r:eth0"], "wan": ["r:eth1", "s:eth0"]},
    "hosts": {
        "c": {"interfaces": {"eth0": "192.168.1.2/24"}, "routes": ["default via 192.168.1.1"]},
        "r": {
            "interfaces": {"eth0": "192.168.1.1/24", "eth1": ["203.0.113.1/24", "203.0.113.7/24"]},
            "sysctl": {"net.ipv4.ip_forward": 1},
            "iptables": [
                "-t nat -A POSTROUTING -o eth1 -j SNAT --to-source 203.0.113.7",
                "-t nat -A PREROUTING -i eth0 -d 9.9.9.9 -p udp -j DNAT --to-destination 203.0.113.2:5353",
                "-t filter -A FORWARD -p udp --dport 77 -j DROP",
                "-t filter -A FORWARD -p udp --dport 78 -j REJECT",
            ],
            "routes": ["default via 203.0.113.2"],
        },
        "s": {"interfaces": {"eth0": "203.0.113.2/24"}},
    },
}
SENDER = """
import socket, sys
for n in range(int(sys.argv[1])):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", int(sys.argv[2]) + n))
    s.sendto(b"x", (sys.argv[3], int(sys.argv[4])))
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = build(from_data(DATA), unique_prefix("wa"))
    try:
        yield made
    finally:
        made.down()


def sender(lab: Lab, count: int, port: int, target: str, dport: int) -> list[str]:
    words = [sys.executable, "-c", SENDER, str(count), str(port), target, str(dport)]
    return ["ip", "netns", "exec", lab.netns("c"), *words]


def watched(lab: Lab, *options: str, command: list[str] | None = None) -> tuple[int, dict[str, Any]]:
    """(status, the last document) of a watch of the router."""
    words = [*NATTRACE, "watch", "--json", "--netns", f"r={lab.netns('r')}", *options]
    done = subprocess.run([*words, *(["--", *command] if command else [])], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1, 4), done.stderr
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    for document in documents:
        jsonschema.validate(document, SCHEMAS["watch"]())
    return done.returncode, documents[-1]


@pytest.mark.parametrize(
    ("target", "dport"),
    (("9.9.9.9", 53), ("203.0.113.2", 53), ("203.0.113.2", 77), ("203.0.113.2", 78), ("192.168.1.1", 9)),
)
def test_what_the_kernel_does_as_predicted_is_agreed(lab: Lab, target: str, dport: int) -> None:
    """Translated both ways, dropped, rejected, for the router itself."""
    status, told = watched(lab, command=sender(lab, 20, 20000, target, dport))
    assert (status, told["agreed"], told["disagreed"], told["not_checked"]) == (0, 20, 0, {}), told


def test_an_old_snapshot_disagrees_where_the_rules_differ(lab: Lab, tmp_path: Path) -> None:
    lab.snapshot(tmp_path / "old")
    lab.run(
        "r", "iptables", "-t", "nat", "-R", "POSTROUTING", "1", "-o", "eth1", "-j", "SNAT", "--to-source", "203.0.113.1"
    )
    status, told = watched(lab, "-S", str(tmp_path / "old"), command=sender(lab, 5, 20000, "203.0.113.2", 53))
    assert (status, told["disagreed"]) == (1, 5)
    (group,) = told["disagreements"]
    assert (group["host"], group["what"], group["count"]) == ("r", "translation", 5)
    assert group["cause"] == "rule_set_changed"
    assert "nat POSTROUTING 1" in group["where"] and "203.0.113.7" in group["example"]["expected"]
    assert "203.0.113.1" in group["example"]["actual"] and group["example"]["flow"].startswith("udp 192.168.1.2:2000")


@pytest.mark.parametrize(
    ("change", "what"),
    (
        ("iptables -I FORWARD -p udp --dport 53 -j DROP", "verdict"),
        ("iptables -t raw -A PREROUTING -j CT --zone 5", "zone"),
        ("iptables -t nat -F PREROUTING", "translation"),
        ("iptables-legacy -t nat -A POSTROUTING -j SNAT --to-source 203.0.113.9", "translation"),
    ),
)
def test_each_kind_of_difference(lab: Lab, tmp_path: Path, change: str, what: str) -> None:
    lab.snapshot(tmp_path / "old")
    lab.run("r", *change.split())
    target = "9.9.9.9" if "PREROUTING" in change and "raw" not in change else "203.0.113.2"
    status, told = watched(lab, "-S", str(tmp_path / "old"), command=sender(lab, 3, 20000, target, 53))
    assert status == 1 and {g["what"] for g in told["disagreements"]} == {what}, told


def test_a_route_that_changed_is_another_interface(lab: Lab, tmp_path: Path) -> None:
    lab.run("r", "ip", "link", "add", "dummy7", "type", "veth", "peer", "name", "dummy8")
    for dev in ("dummy7", "dummy8"):
        lab.run("r", "ip", "link", "set", dev, "up")
    lab.run("r", "ip", "route", "add", "198.51.100.0/24", "via", "203.0.113.2")
    lab.snapshot(tmp_path / "old")
    lab.run("r", "ip", "route", "replace", "198.51.100.0/24", "dev", "dummy7")
    status, told = watched(lab, "-S", str(tmp_path / "old"), command=sender(lab, 3, 20000, "198.51.100.9", 53))
    assert status == 1 and told["disagreements"][0]["what"] in ("interface", "translation"), told


def test_rules_that_change_meanwhile_are_read_again(lab: Lab, tmp_path: Path) -> None:
    """No connection of the old rules is held against the new ones."""
    script = (
        f"sleep 0.5; {shlex.join(sender(lab, 10, 20000, '203.0.113.2', 53))}; sleep 0.5;"
        f"ip netns exec {lab.netns('r')} iptables -t nat -R POSTROUTING 1 -o eth1 -j SNAT --to-source 203.0.113.1; sleep 3;"
        f"{shlex.join(sender(lab, 10, 21000, '203.0.113.2', 53))}"
    )
    status, told = watched(lab, command=["sh", "-c", script])
    assert (status, told["disagreed"]) == (0, 0) and told["renewals"] >= 1, told
    assert told["agreed"] + told["not_checked"].get("the rule set changed meanwhile", 0) == 20, told


def test_chains_that_come_meanwhile_get_taps(lab: Lab) -> None:
    """A table that is made while it runs: the probes are set anew around its chains."""
    router = f"ip netns exec {lab.netns('r')}"
    script = (
        f"sleep 0.5; {router} iptables -t mangle -A PREROUTING -p udp -j TOS --set-tos 8; {router} iptables -t security -A FORWARD -p udp --dport 53 -j DROP;"
        f"sleep 5; {shlex.join(sender(lab, 10, 20000, '203.0.113.2', 53))}"
    )
    status, told = watched(lab, command=["sh", "-c", script])
    assert (status, told["agreed"], told["disagreed"], told["not_checked"]) == (0, 10, 0, {}) and told["renewals"], told


def test_a_port_in_use_is_looked_at_again(lab: Lab) -> None:
    """SNAT moves the port because another entry holds it: the table of that moment tells."""
    lab.run("c", "ip", "addr", "add", "192.168.1.3/24", "dev", "eth0")
    one = "import socket\nfor a in ('192.168.1.2', '192.168.1.3'):\n s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n s.bind((a, 5000))\n s.sendto(b'x', ('203.0.113.2', 53))\n"
    status, told = watched(lab, command=["ip", "netns", "exec", lab.netns("c"), sys.executable, "-c", one])
    assert (status, told["agreed"], told["agreed_at_second_look"]) == (0, 2, 1), told


def test_what_depends_on_earlier_packets_is_not_checked(lab: Lab) -> None:
    lab.run(
        "r",
        *[
            "iptables",
            "-I",
            "FORWARD",
            "-p",
            "udp",
            "--dport",
            "53",
            "-m",
            "limit",
            "--limit",
            "1/hour",
            "--limit-burst",
            "2",
            "-j",
            "ACCEPT",
        ],
    )
    lab.run("r", *["iptables", "-I", "FORWARD", "2", "-p", "udp", "--dport", "53", "-j", "DROP"])
    status, told = watched(lab, command=sender(lab, 6, 20000, "203.0.113.2", 53))
    assert (told["disagreed"], status) == (0, 0)
    assert told["agreed"] == 2 and any("limit" in why for why in told["not_checked"]), told


def test_the_metrics_are_on_the_loopback(lab: Lab, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    words = [*NATTRACE, "watch", "--plain", "--netns", lab.netns("r"), "--metrics", "0", "--ready-file", str(ready)]
    child = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stderr is not None
        address = next(line for line in child.stderr if "metrics at" in line).split()[-1]
        assert address.startswith("http://127.0.0.1:")
        _until(ready.exists)
        subprocess.run(sender(lab, 7, 20000, "203.0.113.2", 53), check=True)
        _until(lambda: "nattrace_agreed_total 7" in _text(address))
        assert "nattrace_not_checked_total" in _text(address)
    finally:
        child.terminate()
        out = child.communicate(timeout=20)[0]
    assert out.startswith("AGREED: 7 connections")


def _text(address: str) -> str:
    with urllib.request.urlopen(address, timeout=5) as answer:
        return str(answer.read().decode())


def _until(true: Any, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_the_live_view_on_a_terminal(lab: Lab) -> None:
    """Drawn on a terminal of its own (script(1)); the summary stays when it ends."""
    words = shlex.join([*NATTRACE, "watch", "--netns", lab.netns("r"), "--", *sender(lab, 9, 20000, "203.0.113.2", 53)])
    assert shutil.which("script")
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    done = subprocess.run(
        ["script", "-qec", words, "/dev/null"], capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    assert "nattrace watch" in done.stdout and "Ctrl-C ends" in done.stdout
    assert "AGREED: 9 connections" in done.stdout.split("Ctrl-C ends")[-1]


@pytest.mark.parametrize("words", (["--metrics", "x:y"], ["--netns", "nowhere-at-all"], ["-t", "soon"]))
def test_bad_input_is_said(words: list[str]) -> None:
    done = subprocess.run([*NATTRACE, "watch", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr


def test_killed_at_any_moment_nothing_stays(lab: Lab) -> None:
    """SIGKILL while connections are made: no probe is left, and every datagram arrives."""
    with netns.by_name(lab.netns("r")) as space:
        for number in range(REPEATS):
            child = subprocess.Popen(
                [*NATTRACE, "watch", "--json", "--netns", space.name],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            traffic = subprocess.Popen(sender(lab, 300, 10000 + 400 * number % 40000, "203.0.113.2", 53))
            time.sleep(random.uniform(0.2, 3.0))
            child.kill()
            child.wait()
            assert traffic.wait(20) == 0
            until = time.monotonic() + 5
            while (found := left.find([space])) and time.monotonic() < until:
                time.sleep(0.05)
            assert found == []
        counted = lab.run("s", "cat", "/proc/net/snmp")
    values = [line.split() for line in counted.splitlines() if line.startswith("Udp:")]
    assert int(values[1][values[0].index("NoPorts")]) == 300 * REPEATS
