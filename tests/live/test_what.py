"""Captures of a real router, taken by tcpdump at both sides, explained from its snapshot alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from lab_support import Bench, kernel, lab
from nattrace.sim.render.schema import SCHEMAS

pytestmark = kernel

NATTRACE = str(Path(sys.executable).parent / "nattrace")
NET = """
[segments]
lan = ["pc:eth0", "router:eth1"]
wan = ["router:eth0", "world:eth0"]
[hosts.pc]
interfaces.eth0 = "192.168.1.7/24"
routes = ["default via 192.168.1.1"]
[hosts.world]
interfaces.eth0 = "198.51.100.9/24"
[hosts.router]
interfaces.eth0 = "198.51.100.1/24"
interfaces.eth1 = "192.168.1.1/24"
sysctl.net.ipv4.ip_forward = 1
iptables = [
  "-t nat -A POSTROUTING -o eth0 -s 192.168.1.0/24 -j MASQUERADE",
  "-t nat -A PREROUTING -i eth0 -p udp --dport 8053 -j DNAT --to-destination 192.168.1.7:53",
  "-A FORWARD -p udp --dport 9999 -j DROP",
]
"""
SEND = "import socket; s = socket.socket(2, 2); s.bind(('', {sport})); s.sendto(b'{text}', ('{dst}', {dport}))"


class Files(NamedTuple):
    snapshot: str
    lan: str
    wan: str


class Dump:
    """tcpdump at an interface of the router, from its first word to its end."""

    def __init__(self, bench: Bench, dev: str, file: Path) -> None:
        command = [
            "ip",
            "netns",
            "exec",
            bench.lab.netns("router"),
            "tcpdump",
            "-Z",
            "root",
            "-U",
            "-ni",
            dev,
            "-w",
            str(file),
            "ip",
        ]
        self.file = file
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        while "listening on" not in (line := self.process.stderr.readline()):
            assert line, "tcpdump ended before it listened"

    def end(self, last: bytes) -> None:
        """Once the packet with these bytes is in the file."""
        until = time.monotonic() + 30
        while last not in self.file.read_bytes() and time.monotonic() < until:
            time.sleep(0.02)
        self.process.terminate()
        self.process.communicate(timeout=10)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    home = tmp_path_factory.mktemp("what")
    with lab(NET) as bench:
        snapshot = bench.snapshot(home / "snap")
        dumps = [Dump(bench, "eth1", home / "lan.pcap"), Dump(bench, "eth0", home / "wan.pcap")]
        bench.run("pc", "ping -c 2 -i 0.2 -W 1 198.51.100.9")
        for number in range(3):
            send(bench, "pc", 4000, "198.51.100.9", 9999, f"dropped{number}")
        send(bench, "pc", 4001, "198.51.100.9", 5353, "passes")
        send(bench, "world", 4002, "198.51.100.1", 8053, "translated")
        for dump in dumps:
            dump.end(b"translated")
        yield Files(str(snapshot), str(home / "lan.pcap"), str(home / "wan.pcap"))


def send(bench: Bench, host: str, sport: int, dst: str, dport: int, text: str) -> None:
    code = SEND.format(sport=sport, dst=dst, dport=dport, text=text)
    bench.lab.run(host, sys.executable, "-c", code)


def what(files: Files, *words: str) -> dict[str, Any]:
    command = [NATTRACE, "what", *words, "-S", files.snapshot, "--at", "router", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMAS["what"]())
    return dict(document)


def flow(document: dict[str, Any], text: str) -> dict[str, Any]:
    (found,) = [f for f in document["flows"] if text in f["flow"]]
    return dict(found)


def test_what_came_in_is_followed_to_its_end(files: Files) -> None:
    document = what(files, files.lan)
    assert (document["host"], document["interface"]) == ("router", "eth1")
    (asked,) = [a for a in flow(document, "icmp 192.168.1.7")["accounts"] if a["way"] == "in"]
    assert len(asked["numbers"]) == 2
    (way,) = asked["ways"]
    assert way["outcome"] == "delivered" and way["after"]["src"] == "198.51.100.1"
    (dropped,) = [a for a in flow(document, ":9999")["accounts"] if a["way"] == "in"]
    assert len(dropped["numbers"]) == 3
    assert dropped["ways"][0]["reason"]["code"] == "dropped_by_rule"


def test_what_goes_out_has_the_origin_that_the_kernel_knew(files: Files) -> None:
    document = what(files, files.lan)
    (answered,) = [a for a in flow(document, "icmp 192.168.1.7")["accounts"] if a["way"] == "out"]
    (way,) = answered["ways"]
    assert way["in"] == "eth0" and way["before"]["dst"] == "198.51.100.1"
    (arrived,) = [a for a in flow(document, "192.168.1.7:53")["accounts"] if a["way"] == "out"]
    found = {(w["in"], w["before"]["dst"], w["before"]["dport"]) for w in arrived["ways"]}
    assert ("eth0", "198.51.100.1", 8053) in found and all(dev == "eth0" for dev, _, _ in found)


def test_a_translated_source_stands_for_its_network(files: Files) -> None:
    document = what(files, files.wan)
    (sent,) = [a for a in flow(document, ":5353")["accounts"] if a["way"] == "out"]
    assert any(w["in"] == "eth1" and w["any_of"] == "192.168.1.0/24" for w in sent["ways"])
    assert all(a["explained"] for f in document["flows"] for a in f["accounts"])


def pairs(document: dict[str, Any], dev: str) -> list[dict[str, Any]]:
    """Packets that came in by an interface."""
    return [m for m in document["matches"] if m["before"] and m["before"]["interface"] == dev]


def test_two_captures_are_matched_across_nat_and_the_missing_are_explained(files: Files) -> None:
    document = what(files, "--before", files.lan, "--after", files.wan, "--in", "eth1", "--out", "eth0")
    out = pairs(document, "eth1")
    assert [m["kind"] for m in out].count("vanished") == 3
    assert {m["kind"] for m in document["matches"]} == {"as_predicted", "vanished"}
    matched = next(m for m in out if m["before"]["packet"].get("dport") == 5353)
    assert (matched["before"]["packet"]["src"], matched["after"]["packet"]["src"]) == ("192.168.1.7", "198.51.100.1")
    gone = next(m for m in out if m["kind"] == "vanished")
    assert gone["reason"]["code"] == "dropped_by_rule" and gone["before"]["packet"]["dport"] == 9999


def test_both_directions_are_matched_and_errors_follow_their_connection(files: Files) -> None:
    document = what(files, "--before", files.lan, "--after", files.wan, "--in", "eth1", "--out", "eth0")
    back = pairs(document, "eth0")
    translated = next(m for m in back if m["before"]["packet"].get("dport") == 8053)
    assert translated["after"]["packet"]["dst"] == "192.168.1.7" and translated["after"]["packet"]["dport"] == 53
    errors = [m for m in document["matches"] if m["before"] and m["before"]["packet"].get("inner")]
    assert len(errors) == 2 and all(m["kind"] == "as_predicted" for m in errors)


def test_a_rule_that_the_snapshot_lacks_shows_as_a_loss_or_a_difference(files: Files, tmp_path: Path) -> None:
    import shutil

    changed = tmp_path / "changed"
    shutil.copytree(files.snapshot, changed)
    save = changed / "router" / "iptables-save.txt"
    save.write_text(
        save.read_text().replace("--dport 9999 -j DROP", "--dport 9998 -j DROP").replace("MASQUERADE", "ACCEPT")
    )
    other = files._replace(snapshot=str(changed))
    document = what(other, "--before", files.lan, "--after", files.wan, "--in", "eth1", "--out", "eth0")
    kinds = [m["kind"] for m in pairs(document, "eth1")]
    assert kinds.count("lost") == 3 and kinds.count("otherwise") == 3


def test_the_text_names_rule_and_place(files: Files) -> None:
    done = subprocess.run(
        [NATTRACE, "what", files.lan, "-S", files.snapshot, "--at", "router"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "nat POSTROUTING 1" in done.stdout and "iptables-save.txt:" in done.stdout
    assert "is dropped at router" in done.stdout
