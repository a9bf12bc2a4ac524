"""``nattrace trace`` on the kernel: stories, events, recordings, captures, rules, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from lab_support import kernel
from lab_support.nobody import as_nobody
from nattrace.sim.render.schema import SCHEMAS
from nattrace.tracer.live import residue

from .drops_lab import Lab

pytestmark = kernel
RULES = (
    "iptables-nft -t nat -A POSTROUTING -o rs -j MASQUERADE",
    "iptables-nft -t nat -A PREROUTING -i rc -p udp --dport 8080 -j DNAT --to-destination 10.7.2.2:80",
    "iptables-nft -t mangle -A PREROUTING -i rc -j MARK --set-mark 0x7",
    "iptables-nft -A FORWARD -p udp --dport 9999 -j DROP",
)
SEND = (
    "import socket,sys\ns = socket.socket(2, 2)\ns.bind(('', 40001))\ns.sendto(b'x', (sys.argv[1], int(sys.argv[2])))"
)
PROGRAM = [sys.executable, "-c", "from nattrace.tracer.cli import main; main()", "trace"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab(v6=True)
    try:
        made.up()
        for rule in RULES:
            made.run("r", rule)
        made.listen("s", "udp", 80)
        yield made
    finally:
        made.down()


def everywhere(lab: Lab) -> list[str]:
    return ["--lab", lab.prefix, *(w for h in "crs" for w in ("--netns", lab.ns(h)))]


def sending(lab: Lab, dst: str, port: int, host: str = "c") -> list[str]:
    return ["--", "ip", "netns", "exec", lab.ns(host), sys.executable, "-c", SEND, dst, str(port)]


def trace(lab: Lab, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"COLUMNS": "100"}
    return subprocess.run(
        [*PROGRAM, *everywhere(lab), *words], capture_output=True, text=True, timeout=60, env=env, **options
    )


def lines(text: str) -> list[dict[str, Any]]:
    validator = Draft202012Validator(SCHEMAS["trace"]())
    found = [json.loads(line) for line in text.splitlines()]
    for document in found:
        validator.validate(document)
    return found


def test_a_story_across_namespaces(lab: Lab) -> None:
    done = trace(lab, "udp 10.7.1.2 -> 10.7.1.1:8080", "--json", *sending(lab, "10.7.1.1", 8080))
    story, totals = lines(done.stdout)
    assert (done.returncode, story["outcome"], story["at"]["host"]) == (0, "delivered", "s"), done.stderr
    assert [(h["host"], h["in"], h["out"]) for h in story["hops"]] == [
        ("c", None, "c0"),
        ("r", "rc", "rs"),
        ("s", "s0", None),
    ]
    changes = [(s["stage"], s["changes"]) for s in story["hops"][1]["steps"] if s["changes"]]
    assert changes == [
        ("mangle", {"mark": [0, 7]}), ("nat", {"dst": ["10.7.1.1", "10.7.2.2"], "dport": [8080, 80]}), ("forward", {"ttl": [64, 63]}),
        ("nat", {"src": ["10.7.1.2", "10.7.2.1"]}),
    ]  # fmt: skip
    assert story["incomplete"] == [] and set(totals["lost"].values()) == {0} and totals["matched"] == 1
    assert "the command ended with status 0" in done.stderr


def test_the_form_of_why_and_one_line_an_event(lab: Lab) -> None:
    flow = "udp 10.7.1.2 -> 10.7.2.2:9999"
    told = trace(lab, flow, *sending(lab, "10.7.2.2", 9999)).stdout
    assert (
        told.startswith("#1 DROPPED at r: A rule or the policy of filter FORWARD of r.") and "[dropped_by_rule]" in told
    )
    assert all(len(line) <= 100 for line in told.splitlines())
    quiet = trace(lab, flow, "-q", *sending(lab, "10.7.2.2", 9999)).stdout
    assert quiet.count("\n") == 1
    events = trace(lab, flow, "--events", *sending(lab, "10.7.2.2", 9999)).stdout.splitlines()
    assert "DROP SKB_DROP_REASON_NETFILTER_DROP" in events[-1] and len(events) > 8


def test_a_recording_tells_the_same_again(lab: Lab, tmp_path: Path) -> None:
    file = str(tmp_path / "saved")
    live = trace(lab, "udp 10.7.1.2 -> 10.7.1.1:8080", "--json", "-o", file, *sending(lab, "10.7.1.1", 8080))
    again = subprocess.run([*PROGRAM, "-r", file, "--json"], capture_output=True, text=True, timeout=30)
    first, second = lines(live.stdout), lines(again.stdout)
    assert again.returncode == 0 and first[0] == second[0] and os.stat(file).st_mode & 0o777 == 0o600
    other = subprocess.run(
        [*PROGRAM, "-r", file, "udp 10.9.9.9 -> 10.8.8.8:1"], capture_output=True, text=True, timeout=30
    )
    assert (other.returncode, other.stdout) == (4, "")


def test_wireshark_reads_it(lab: Lab, tmp_path: Path) -> None:
    file = str(tmp_path / "t.pcapng")
    trace(lab, "udp 10.7.1.2 -> 10.7.2.2:9999", "-w", file, *sending(lab, "10.7.2.2", 9999))
    words = [
        "tshark",
        "-r",
        file,
        "-T",
        "fields",
        "-e",
        "frame.comment",
        "-e",
        "udp.dstport",
        "-e",
        "frame.interface_name",
    ]
    rows = [
        r.split("\t") for r in subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    ]
    assert rows[0][2] == "c:OUTPUT" or rows[0][2] == "c:POSTROUTING" or rows[0][2] == "c:c0"
    assert {r[1] for r in rows} == {"9999"} and "mark 0 → 7" in " ".join(r[0] for r in rows)
    assert "SKB_DROP_REASON_NETFILTER_DROP" in rows[-1][0] and "dropped_by_rule" in rows[-1][0]
    assert trace(lab, "udp 10.7.1.2", "-w", "-", "--json", "-t", "1s").returncode == 2


def test_the_rule_that_matched(lab: Lab) -> None:
    flow = "udp 10.7.1.2 -> 10.7.2.2:9999"
    exact = trace(lab, flow, "--rules", "--allow-changes", "--json", *sending(lab, "10.7.2.2", 9999))
    story = lines(exact.stdout)[0]
    rules = [(s["table"], s["chain"], s["rule"], s["verdict"]) for s in story["hops"][1]["steps"] if s["rule"]]
    assert (
        rules == [("mangle", "PREROUTING", 1, None), ("filter", "FORWARD", 1, "DROP")] and story["rules"] == "nftrace"
    )
    assert "rule 1" in story["explanation"]["text"] and "changes while it runs" in exact.stderr
    model = trace(lab, flow, "--rules", "--json", *sending(lab, "10.7.2.2", 9999))
    story = lines(model.stdout)[0]
    assert story["rules"] == "model" and all(
        "by the model" in s["note"] for s in story["hops"][1]["steps"] if s["rule"]
    )
    assert {(s["table"], s["rule"]) for s in story["hops"][1]["steps"] if s["rule"]} == {("mangle", 1), ("filter", 1)}
    assert lines(model.stdout)[-1]["rules"]["notes"], "counters that rose are told at the end"


def test_ipv6(lab: Lab) -> None:
    done = trace(lab, "udp fd07:1::2 -> [fd07:2::2]:7", "--json", *sending6(lab))
    story = lines(done.stdout)[0]
    assert (story["outcome"], story["reason"]["code"], story["at"]["host"]) == ("delivered", "no_listener", "s"), (
        done.stderr
    )
    assert [r["kind"] for r in story["responses"]] == ["icmp"]


def sending6(lab: Lab) -> list[str]:
    code = "import socket\nsocket.socket(10, 2).sendto(b'x', ('fd07:2::2', 7))"
    return ["--", "ip", "netns", "exec", lab.ns("c"), sys.executable, "-c", code]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_totals(lab: Lab, tmp_path: Path, number: int) -> None:
    ready = tmp_path / "ready"
    child = subprocess.Popen(
        [*PROGRAM, *everywhere(lab), "udp 10.7.1.2", "--ready-file", str(ready)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < until:
        time.sleep(0.05)
    lab.udp("c", "10.7.2.2", 9999)
    time.sleep(0.5)
    child.send_signal(number)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out.count("#1 DROPPED")) == (130, 1) and "1 packet, " in err and "Traceback" not in err
    time.sleep(0.2)
    assert residue.find() == []


def test_a_reader_that_goes_away(lab: Lab) -> None:
    words = " ".join(f"'{w}'" for w in [*PROGRAM, *everywhere(lab), "udp 10.7.1.2", "--events", "-t", "4s"])
    loop = f"sh -c 'for i in 1 2 3 4 5 6; do ip netns exec {lab.ns('c')} {sys.executable} -c \"{SEND_SHORT}\"; sleep 0.4; done'"
    done = subprocess.run(
        ["bash", "-c", f"{words} -- {loop} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr and done.stdout.splitlines()[0].startswith("#1"), done.stderr
    assert done.stdout.splitlines()[-1] in ("141", "0")


SEND_SHORT = "import socket; s = socket.socket(2, 2); s.sendto(b'x', (chr(49) + '0.7.1.1', 8080))".replace("'", '\\"')


def test_how_it_ends(lab: Lab) -> None:
    assert trace(lab, "udp 10.7.1.2", "-t", "300ms").returncode == 4  # nothing observed
    assert trace(lab, "udp 10.7.1.2 -> 10.7.1.1:8080", "-c", "1", *sending(lab, "10.7.1.1", 8080)).returncode == 0
    status = trace(lab, "udp 10.7.1.2", "-t", "300ms", "--", "sh", "-c", "exit 3")
    assert (status.returncode, "status 3" in status.stderr) == (4, True)
    for words in (
        ["--netns", "nowhere"],
        ["--in", "nope0"],
        ["--mark", "x"],
        ["--uid", "nobody-such"],
        ["--filter", "foo bar"],
        ["--step"],
    ):
        done = trace(lab, "udp 10.7.1.2", *words)
        assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("nattrace: "), done
    assert trace(lab, "udp 10.7.1.2", "--", "no-such-program").returncode == 2


@pytest.mark.parametrize("words", [["--in", "rc"], ["--mark", "0x7"], ["--filter", "udp port 8080"], ["--uid", "0"]])
def test_other_conditions(lab: Lab, words: list[str]) -> None:
    done = trace(lab, "udp 10.7.1.2 -> 10.7.1.1:8080", *words, "--json", *sending(lab, "10.7.1.1", 8080))
    assert [d["kind"] for d in lines(done.stdout)] == ["story", "totals"], done.stderr
    none = {
        "--in": ["--in", "lo"],
        "--mark": ["--mark", "9"],
        "--filter": ["--filter", "tcp"],
        "--uid": ["--uid", "65533"],
    }[words[0]]
    done = trace(lab, "udp 10.7.1.2 -> 10.7.1.1:8080", *none, "--json", *sending(lab, "10.7.1.1", 8080))
    assert done.returncode == 4 and [d["kind"] for d in lines(done.stdout)] == ["totals"]


def test_without_the_privilege(lab: Lab) -> None:
    done = subprocess.run(
        as_nobody(*PROGRAM, "udp 10.7.1.2"),
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 3 and "sudo" in done.stderr and "Traceback" not in done.stderr
