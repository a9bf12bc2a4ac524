"""The pages of docs/reference say what the program says today, and answers keep to the width they are given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nattrace as nt
import pytest
from nattrace.sim.render.text import Row, columns, render

ROOT = Path(__file__).resolve().parents[3]


def test_the_reference_pages_are_current() -> None:
    """Otherwise: python docs/generate.py"""
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


FLOWS = [
    ("twice-through-conntrack", "icmp 10.10.1.1 -> 8.8.8.8 at client"),
    ("twice-through-conntrack.zone-on-proxy-only", "icmp 10.10.1.1 -> 8.8.8.8 at client"),
    ("nonexistent-address.masquerade", "tcp 192.168.100.1 -> 192.168.100.3:21"),
    ("nonexistent-address.nothing", "192.168.100.1 -> 192.168.100.3"),
    ("private-namespace", "114.114.114.114 at private"),
    ("per-user-source.masquerading-router", "8.8.8.8 uid userB at host"),
]


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("verbose", [False, True], ids=["folded", "verbose"])
@pytest.mark.parametrize(("snapshot", "flow"), FLOWS)
def test_no_line_is_wider_than_the_terminal_but_a_command(snapshot: str, flow: str, verbose: bool, width: int) -> None:
    text = render(nt.load(snapshot).why(flow, sample=0)._explanation, width=width, verbose=verbose)
    wide = [line for line in text.splitlines() if len(line) > width and "iptables" not in line]
    assert wide == []


@pytest.mark.parametrize(("snapshot", "flow"), FLOWS)
def test_a_rule_on_the_path_keeps_its_target(snapshot: str, flow: str) -> None:
    path = render(nt.load(snapshot).why(flow, fixes=False)._explanation, width=100).partition("PATH")[2]
    assert "…" not in "".join(line for line in path.splitlines() if " -j " in line)
    assert path.count("--to-source ") == path.count("-j SNAT")


def test_cells_stand_below_each_other_however_long_they_are() -> None:
    rows = [
        Row("PATH", "src → dst", "zone", "conntrack"),
        Row("  a", "10.0.0.1:32768-60999 → 192.168.100.3:65535", "7", "new"),
        Row("  a host with a long name  forwarded client-veth0 → proxy-veth0", "10.0.0.1 → 10.0.0.2", "12", "established"),
    ]  # fmt: skip
    lines = [line.text for line in columns(list(rows), 100)]
    assert {line.rindex("7") + 1 for line in lines if "  7  new" in line} == {lines[0].index("zone") + 4}
    assert max(map(len, lines)) <= 100
