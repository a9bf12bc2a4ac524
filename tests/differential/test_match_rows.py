"""The rows of tests/unit/matches/tables.py asked of the kernel under our feet, in two network namespaces.

Each packet is built by the simulator (engine/wire.py), sent as a raw frame, and every rule's counter is read.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "matches"))
from nattrace.sim.engine import wire
from nattrace.sim.model.packet import Skb
from tables import NATIVE, ROWS, SET_ROWS, SETS

A, B = f"nattrace-rows-{os.getpid()}-a", f"nattrace-rows-{os.getpid()}-b"
MAC_A, MAC_B = "02:00:00:00:00:01", "02:00:00:00:00:02"
TOOLS = ("ip", "iptables-legacy-restore", "iptables-nft-restore")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}"),
]


def run(*words: str, stdin: str | None = None) -> str:
    return subprocess.run(words, input=stdin, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def wirepair():
    for name in (A, B):
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        run("ip", "netns", "add", name)
    try:
        run("ip", "-n", A, "link", "add", "eth0", "address", MAC_A, "type", "veth", "peer", "name", "eth0", "address", MAC_B,
            "netns", B)  # fmt: skip
        for name in (A, B):
            run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "-n", B, "address", "add", "10.0.0.1/24", "dev", "eth0")
        yield
    finally:
        for name in (A, B):
            run("ip", "netns", "del", name)


SENDER = f"""
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
s.send(bytes.fromhex("{(MAC_B + MAC_A).replace(":", "")}0800" + sys.argv[1]))
"""


def counted(backend: str, rules: list[str], skb: Skb) -> list[bool]:
    """Which rules of raw PREROUTING the packet matches; the first one matches all and shows that it arrived."""
    lines = ["*raw", ":PREROUTING ACCEPT [0:0]", *(f"-A PREROUTING {rule}" for rule in rules), "COMMIT", ""]
    run("ip", "netns", "exec", B, f"iptables-{backend}-restore", stdin="\n".join(lines))
    run("ip", "netns", "exec", A, sys.executable, "-c", SENDER, wire.to_bytes(skb).hex())
    deadline = time.monotonic() + 2
    while True:
        saved = run("ip", "netns", "exec", B, f"iptables-{backend}-save", "-c", "-t", "raw")
        hits = [line.startswith("[1:") for line in saved.splitlines() if line.startswith("[")]
        if hits[0]:
            return hits
        assert time.monotonic() < deadline, f"the packet for {rules[1:]} did not arrive"
        time.sleep(0.01)


def compare(backend: str, rows: list) -> None:
    wrong = []
    for _, group in itertools.groupby(sorted(rows, key=lambda row: id(row[1])), key=lambda row: id(row[1])):
        members = list(group)
        plain = [row for row in members if row[2] != "hotdrop"]
        if plain:
            _, *answers = counted(backend, ["", *(row[0] for row in plain)], plain[0][1])
            wrong += [(row[0], "kernel says", said) for row, said in zip(plain, answers, strict=True) if said != row[2]]
        for text, skb, _ in (row for row in members if row[2] == "hotdrop"):
            _, *answers = counted(backend, ["", text, ""], skb)
            if answers != [False, False]:
                wrong.append((text, "not dropped", answers))
    assert not wrong


def test_xt_matches_answer_as_the_rows_say(wirepair):
    compare("legacy", ROWS)
    run("ip", "netns", "exec", B, "iptables-legacy-restore", stdin="*raw\nCOMMIT\n")


def test_native_expressions_of_iptables_nft_answer_as_the_rows_say(wirepair):
    compare("nft", NATIVE)
    # everything else is alike in both backends
    same = {(text, id(skb)) for text, skb, _ in NATIVE}
    compare("nft", [row for row in ROWS if row[2] != "hotdrop" and (row[0], id(row[1])) not in same])


@pytest.mark.skipif(shutil.which("ipset") is None, reason="needs ipset")
def test_sets_answer_as_the_rows_say(wirepair):
    wrong = []
    for row in SET_ROWS:  # one by one: each match may count
        run("ip", "netns", "exec", B, "ipset", "flush")
        run("ip", "netns", "exec", B, "ipset", "-exist", "restore", stdin=SETS)
        _, said = counted("legacy", ["", row[0]], row[1])
        if said != row[2]:
            wrong.append((row[0], "kernel says", said))
    assert not wrong
