"""The assertions fail for what they say, show the answer, and work from pytest's command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nattrace as nt
import pytest
from nattrace.testing import assert_delivered, assert_dropped, assert_expect, assert_unchanged

PING = "icmp 10.10.1.1 -> 8.8.8.8 at client"


def test_a_flow_that_works_both_ways_passes_and_its_answer_is_returned() -> None:
    result = assert_delivered("twice-through-conntrack.zones", PING, snat="172.16.202.30", out="enp4s0")
    assert result.outcome == "left"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"snat": "172.16.202.30"}, "expected snat 172.16.202.30"),
        ({"out": "eth7"}, "expected out eth7"),
        ({"rule": "nat:POSTROUTING:1"}, "expected rule nat:POSTROUTING:1"),
        ({}, "expected reply"),
    ],
    ids=["another source", "another interface", "a rule that did not match", "no way back"],
)
def test_what_is_not_as_expected_fails_and_shows_the_answer(wanted: dict[str, str], said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_delivered("twice-through-conntrack", PING, **wanted)
    assert str(caught.value).startswith(said)
    assert "WHY " in str(caught.value)


def test_one_way_is_enough_where_it_is_said_to_be() -> None:
    assert_delivered("twice-through-conntrack", PING, reply=False)


def test_a_dropped_flow_has_its_reason() -> None:
    flow = "icmp 1.1.1.2 -> 114.114.114.114 at private"
    assert_dropped("private-namespace.route", flow, code="ip_forward_disabled")
    with pytest.raises(AssertionError, match="the reason is ip_forward_disabled"):
        assert_dropped("private-namespace.route", flow, code="no_route")
    with pytest.raises(AssertionError, match="expected to be dropped"):
        assert_dropped("private-namespace.route", flow, set="net.ipv4.ip_forward=1 at host")


def test_an_unknown_outcome_is_a_failure(tmp_path: Path) -> None:
    save = tmp_path / "rules.txt"
    save.write_text("*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n-A FORWARD -p tcp -m osf --genre Linux -j DROP\nCOMMIT\n")
    snapshot = nt.load(None, iptables_save=save)
    for assertion in (assert_delivered, assert_dropped):
        with pytest.raises(AssertionError, match="the outcome is not known"):
            assertion(snapshot, "tcp 10.0.0.2 -> 8.8.8.8:443 in eth0")


def test_expectations_are_those_of_the_command_line() -> None:
    assert_expect("twice-through-conntrack.zones", PING, "left", "snat 172.16.202.30", "reply")
    with pytest.raises(AssertionError, match="expected dnat"):
        assert_expect("twice-through-conntrack.zones", PING, "dnat 10.0.0.1")


def test_a_change_is_compared_flow_by_flow() -> None:
    flows = [PING, "icmp 10.10.1.1 -> 10.10.1.2 at client"]
    assert_unchanged("twice-through-conntrack", nt.load("twice-through-conntrack"), flows)
    with pytest.raises(AssertionError, match=r"1 flows end otherwise:(.|\n)*before: NOT TRANSLATED"):
        assert_unchanged("twice-through-conntrack", "twice-through-conntrack.zones", flows)


GATE = """
from nattrace.testing import assert_delivered

def test_the_client_reaches_the_world(nattrace_snapshot):
    assert_delivered(nattrace_snapshot, "icmp 10.10.1.1 -> 8.8.8.8 at client", snat="172.16.202.30")
"""


@pytest.mark.parametrize(("snapshot", "status"), [("twice-through-conntrack.zones", 0), ("twice-through-conntrack", 1)])
def test_the_plugin_gates_a_rule_set(tmp_path: Path, snapshot: str, status: int) -> None:
    (tmp_path / "test_gate.py").write_text(GATE)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--nattrace-snapshot={snapshot}",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("NOT TRANSLATED" in done.stdout) == bool(status)


def test_the_plugin_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "test_gate.py").write_text(GATE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "--nattrace-snapshot PATH" in done.stdout
    done = subprocess.run([*command, "--nattrace-snapshot=nowhere"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "nattrace: nowhere" in done.stdout and "Traceback" not in done.stdout


def test_the_configuration_names_the_snapshot(tmp_path: Path) -> None:
    (tmp_path / "test_gate.py").write_text(GATE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nnattrace_snapshot = twice-through-conntrack.zones\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_example_of_the_documentation_passes() -> None:
    docs = Path(__file__).resolve().parents[3] / "docs" / "examples"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(docs / "ci-gate")]
    done = subprocess.run(
        [*command, "--nattrace-snapshot", str(docs / "office" / "router")], capture_output=True, text=True
    )
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout
