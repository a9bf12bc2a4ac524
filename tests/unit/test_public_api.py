"""``import nattrace`` is the public API: lazy, small, complete."""

from __future__ import annotations

import subprocess
import sys

import nattrace as nt
import pytest

PING = "icmp 10.10.1.1 -> 8.8.8.8 at client"


def test_importing_costs_nothing() -> None:
    script = "import sys, nattrace; print([m for m in sys.modules if m.startswith('nattrace.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_exported_name_is_there() -> None:
    assert all(getattr(nt, name) is not None for name in nt.__all__)
    assert set(nt.__all__) <= set(dir(nt))
    with pytest.raises(AttributeError):
        _ = nt.nonsense


def test_steps_rules_and_routes_are_data_frames() -> None:
    pytest.importorskip("pandas")
    snapshot = nt.load("twice-through-conntrack")
    steps = nt.load("twice-through-conntrack.zones").why(PING, fixes=False).steps
    assert {"forward", "reply"} <= set(steps["phase"])
    assert snapshot.rules["text"].iloc[0].endswith("MASQUERADE")
    assert "100" in set(map(str, snapshot.routes["table"]))
    assert list(snapshot.conntrack.columns)[:2] == ["host", "entry"]


def test_html_is_escaped() -> None:
    answer = nt.load("private-namespace").why("114.114.114.114 at private", sample=0)
    answer._explanation.verdict = "<script>alert(1)</script>"
    html = answer._repr_html_()
    assert "&lt;script&gt;alert(1)" in html and "<script" not in html


def test_packets_are_simulated_in_order() -> None:
    snapshot = nt.load("private-namespace.forwarding")
    record = {"host": "private", "in": None, "proto": "udp", "src": None, "dst": "9.9.9.9", "sport": 5000, "dport": 53}
    first, second = snapshot.simulate([record | {"id": 1}, record | {"id": 2, "sport": 5001}])
    assert (first["id"], second["id"]) == (1, 2)
    assert first["packet"]["src"] == "192.168.38.116"
