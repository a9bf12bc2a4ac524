"""``nattrace confirm --rules``: which rule each packet met, predicted and observed, in both backends and by counters."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from lab_support import kernel
from nattrace.sim.render.schema import SCHEMAS
from nattrace.tracer.live import residue
from nattrace.tracer.live.bundle import replay
from nattrace.tracer.live.netns import Namespace

from .confirm_lab import spaces_of
from .drops_lab import Lab
from .test_confirm import PROGRAM, SEND, UNDO, confirm

pytestmark = kernel
FLOW = "udp 10.7.1.2:40001 -> 10.7.2.2:80 at c"
RULES = (
    "-t raw -A PREROUTING -i rc -p udp -j TRACELESS",
    "-t mangle -A PREROUTING -i rc -p udp -j MARK --set-mark 0x7",
    "-A FORWARD -p udp --dport 81 -j DROP",
    "-A FORWARD -p udp -m mark --mark 0x7 -j udps",
    "-A udps -p udp --dport 80 -j ACCEPT",
    "-t nat -A POSTROUTING -o rs -j MASQUERADE",
)


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Lab, list[Namespace]]]:
    lab = Lab()
    with ExitStack() as stack:
        stack.callback(lab.down)
        lab.up()
        server = lab.listen("s", "udp", 80)
        server.settimeout(5)
        yield lab, stack.enter_context(spaces_of({h: lab.ns(h) for h in "crs"}))


def prepare(lab: Lab, tool: str) -> None:
    for host in "cr":
        lab.run(host, UNDO)
    lab.run("r", "for t in raw mangle nat filter; do iptables-legacy -t $t -F; iptables-legacy -t $t -X; done")
    lab.run("r", f"{tool} -N udps; {tool} -t raw -N TRACELESS")
    for rule in RULES:
        lab.run("r", f"{tool} {rule}")


def asked(lab: Lab, *words: str) -> tuple[int, dict[str, Any], str]:
    done = confirm(
        lab, FLOW, "--json", "--rules", *words, "--", "ip", "netns", "exec", lab.ns("c"), sys.executable, "-c", SEND
    )
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    Draft202012Validator(SCHEMAS["confirm"]()).validate(document)
    return done.returncode, document, done.stderr


def rules_of(document: dict[str, Any], packet: int = 0) -> list[tuple[str, ...]]:
    rows = document["packets"][packet]["rows"]
    return [
        (r["host"], r["hook"], r["stage"], r["observed"], r["verdict"]) for r in rows if r["stage"].endswith(" rules")
    ]


MET = [
    ("r", "PREROUTING", "raw rules", "PREROUTING 1: -i rc -p udp -j TRACELESS", "same"),
    ("r", "PREROUTING", "mangle rules", "PREROUTING 1: -i rc -p udp -j MARK --set-xmark 0x7/0xffffffff", "same"),
    ("r", "FORWARD", "filter rules",
     "FORWARD 2: -p udp -m mark --mark 0x7 -j udps; udps 1: -p udp -m udp --dport 80 -j ACCEPT", "same"),
    ("r", "POSTROUTING", "nat rules", "POSTROUTING 1: -o rs -j MASQUERADE", "same"),
]  # fmt: skip


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
def test_the_rules_that_were_met(tool: str, hosts: tuple[Lab, list[Namespace]], tmp_path: Path) -> None:
    lab, spaces = hosts
    prepare(lab, tool)
    bundle = str(tmp_path / "b")
    status, document, said = asked(lab, "--allow-changes", "--save", bundle)
    assert (status, document["verdict"]) == (0, "confirmed"), (document["text"], said)
    assert rules_of(document) == MET
    assert document["rules"] is None and "changes while it runs" in said
    assert replay(bundle).to_json() == document
    assert residue.find(spaces) == []


def test_a_rule_that_the_snapshot_does_not_have(hosts: tuple[Lab, list[Namespace]], tmp_path: Path) -> None:
    """Two rules do the same to the packet: only the rules themselves tell them apart."""
    lab, _ = hosts
    prepare(lab, "iptables-nft")
    snapshot = tmp_path / "before"
    words = [w for h in "crs" for w in ("--netns", lab.ns(h))]
    subprocess.run([*PROGRAM[:-1], "snapshot", str(snapshot), *words], check=True, capture_output=True, timeout=30)
    lab.run("r", "iptables-nft -I udps -p udp -j ACCEPT")
    named = [w for h in "crs" for w in ("--netns", f"{lab.ns(h)}={lab.ns(h)}")]
    flow = FLOW.replace("at c", f"at {lab.ns('c')}")
    sending = ["--", "ip", "netns", "exec", lab.ns("c"), sys.executable, "-c", SEND]
    done = subprocess.run(
        [*PROGRAM, "-S", str(snapshot), *named, flow, "--json", "--rules", "--allow-changes", *sending],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert (done.returncode, found["class"], found["first"]["stage"], found["first"]["hook"]) == (
        1, "rule_set_changed", "filter rules", "FORWARD",
    ), done.stdout  # fmt: skip
    assert found["first"]["observed"].endswith("udps 1: -p udp -j ACCEPT")
    shutil.rmtree(snapshot)


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
def test_without_changes_counters_tell(tool: str, hosts: tuple[Lab, list[Namespace]]) -> None:
    lab, _ = hosts
    prepare(lab, tool)
    status, document, said = asked(lab)
    assert (status, document["verdict"]) == (0, "confirmed"), (document["text"], said)
    assert rules_of(document) == [] and "changes while it runs" not in said
    counts = {(c["table"], c["chain"]): (c["predicted"], c["rose"], c["verdict"]) for c in document["rules"]}
    assert counts == dict.fromkeys(
        (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("filter", "FORWARD"), ("filter", "udps"), ("nat", "POSTROUTING")),
        (1, 1, "same"),
    ), document["rules"]  # fmt: skip
