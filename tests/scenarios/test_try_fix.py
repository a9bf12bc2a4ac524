"""``why --lab``: what the kernel says of a fix before anybody types it, and that a wrong promise would be noticed."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from lab_support import kernel
from nattrace.sim.explain.answer import explain
from nattrace.sim.explain.parts import WORKS
from nattrace.sim.flow import parse_flow
from nattrace.sim.render.schema import why as why_schema
from nattrace.sim.snapshot.load import load_world
from nattrace.tracer.cli import run

pytestmark = kernel

CAUSES = Path(__file__).resolve().parents[2] / "docs" / "causes"
BROKEN = (
    ("twice-through-conntrack", "icmp 10.10.1.1 -> 8.8.8.8 at client"),
    ("private-namespace.no-route", "114.114.114.114 at private"),
    ("nonexistent-address", "tcp 192.168.100.1 -> 192.168.100.3:22 at vm01"),
    ("two-uplinks.nothing-set", "172.31.26.176 -> 203.0.113.9 at ec2b"),
    ("twice-through-conntrack.wrong-prefix", "udp 10.10.1.1:4000 -> 8.8.8.8:53 at client"),
    # with entries, which are rebuilt: what they keep, what they clash with, ports that they hold
    (f"{CAUSES}/stale-dnat-entry/snapshot", "udp 198.51.100.9:4000 -> 203.0.113.1:53 in eth1 at router"),
    (f"{CAUSES}/stale-udp-entry/snapshot", "udp 10.0.0.2:5060 -> 198.51.100.9:5060 at client"),
)


def asked(snapshot: str, flow: str, *options: str) -> tuple[int, dict[str, Any]]:
    out = io.StringIO()
    with redirect_stdout(out):
        status = run(["why", flow, "-S", snapshot, "--sample", "0", "--json", "--lab", *options])
    document = json.loads(out.getvalue())
    jsonschema.validate(document, why_schema())
    return status, document


@pytest.mark.parametrize(
    ("snapshot", "flow"), BROKEN, ids=[b[0].removesuffix("/snapshot").rpartition("/")[2] for b in BROKEN]
)
def test_the_kernel_does_what_was_predicted_with_and_without_the_fix(snapshot: str, flow: str) -> None:
    status, document = asked(snapshot, flow)
    lab = document["fixes"][0]["lab"]
    assert status == 0 and lab["agrees"], lab
    assert not lab["before"]["works"] and lab["after"]["works"], lab
    assert document["fixes"][1:] == [] or document["fixes"][1]["lab"] is None


def test_a_full_table_is_full_in_the_lab_and_the_machines_limit_is_left_alone(tmp_path: Path) -> None:
    limit = Path("/proc/sys/net/netfilter/nf_conntrack_max")
    before = limit.read_text() if limit.exists() else None
    snapshot = tmp_path / "snapshot"
    shutil.copytree(CAUSES / "conntrack-full" / "snapshot", snapshot)
    meta = snapshot / "router" / "meta.json"
    meta.write_text(meta.read_text().replace('"netns": "router"', '"netns": null'))  # where the limit could be raised
    for number in ("1", "2"):
        _, document = asked(str(snapshot), "tcp 10.0.0.2:40000 -> 198.51.100.7:443 at client", "--fix", number)
        fix = document["fixes"][int(number) - 1]
        assert fix["commands"] == [
            "sysctl -w net.netfilter.nf_conntrack_max=128" if number == "1" else "conntrack -D -s 10.0.0.66"
        ]
        assert fix["lab"]["agrees"] and not fix["lab"]["before"]["works"] and fix["lab"]["after"]["works"], fix["lab"]
        assert any("entries of nobody" in note for note in fix["lab"]["notes"])
    assert before is None or limit.read_text() == before


def test_another_fix_can_be_chosen() -> None:
    _, document = asked(*BROKEN[0], "--fix", "2")
    tried = [f["lab"] is not None for f in document["fixes"]]
    assert tried[1] and not tried[0] and document["fixes"][1]["lab"]["after"]["works"]


def test_an_expectation_is_tried_too() -> None:
    status, document = asked("private-namespace.forwarding", "114.114.114.114 at private", "--expect", "dropped")
    lab = document["fixes"][0]["lab"]
    assert status == 1  # the expectation is not met as things are
    assert lab["agrees"] and lab["before"]["works"] and lab["after"]["forward"]["outcome"] == "dropped"


def test_what_if_changes_are_typed_into_both_labs() -> None:
    _, document = asked(
        "private-namespace.forwarding", "114.114.114.114 at private", "--add", "-P FORWARD DROP at host"
    )
    lab = document["fixes"][0]["lab"]
    assert lab["agrees"] and not lab["before"]["works"] and lab["after"]["works"]


def test_a_promise_that_the_kernel_breaks_is_a_disagreement() -> None:
    """The commands do not do what was simulated: the lab must say so."""
    from nattrace.tracer.lab import load_topology
    from nattrace.tracer.lab.trial import try_fix

    world = load_world("private-namespace")
    found = explain(world, parse_flow("114.114.114.114 at private", world), sample=0)
    fix = next(f for f in found.fixes if f.result == WORKS)
    broken = replace(fix, edits=tuple(replace(e, value="0") for e in fix.edits))  # type: ignore[type-var]
    lab = try_fix(load_topology(world.source), found.trial, broken, [])
    assert lab["agrees"] is False and not lab["after"]["works"]


def test_without_a_fix_the_answer_is_given_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    status, document = asked("two-uplinks.nothing-set", "udp 172.31.26.176 -> 203.0.113.9:53 at ec2b")
    assert status == 0 and document["outcome"] and "no fix was found" in capsys.readouterr().err


def test_the_labs_leave_nothing_behind() -> None:
    import os
    import subprocess

    names = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert f"why{os.getpid()}" not in names
