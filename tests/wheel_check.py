"""Run by CI inside an environment that has only the wheel: no bcc, no NetfilterQueue, no Linux tools on PATH."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

NATTRACE = str(Path(sys.executable).with_name("nattrace"))
SCENARIO = "twice-through-conntrack"
FLOW = "icmp 10.10.1.1 -> 8.8.8.8 at client"


def run(*args: str, stdin: str | None = None, status: int = 0) -> str:
    done = subprocess.run([NATTRACE, *args], input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, (args, done.returncode, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def main() -> None:
    for absent in ("bcc", "netfilterqueue", "scapy", "pyroute2"):
        assert importlib.util.find_spec(absent) is None, f"{absent} is here: this environment proves nothing"
    import nattrace

    assert "site-packages" in nattrace.__file__, nattrace.__file__
    assert "nat_decided_earlier" in run("why", "-S", SCENARIO, FLOW)
    answer = json.loads(run("why", "-S", SCENARIO, FLOW, "--json"))
    assert answer["schema"].startswith("nattrace/why/"), answer["schema"]
    packet = {"id": 1, "host": "client", "in": None, "proto": "icmp", "src": None, "dst": "8.8.8.8"}
    result = json.loads(run("simulate", "-S", SCENARIO, stdin=json.dumps(packet) + "\n"))
    assert result["outcome"] == "left", result
    assert json.loads(run("schema", "why"))["type"] == "object"
    run("explain", "rp_filter")
    assert run("why", "-S", SCENARIO, FLOW, "--html", "-").startswith("<!doctype html>")
    assert "STAGE" in run("tour", "--scenario", SCENARIO)
    assert "_nattrace_completion" in run("completion", "bash")
    assert (Path(sys.prefix) / "share" / "man" / "man1" / "nattrace.1").is_file()
    run("why", "-S", SCENARIO, "nonsense ->", status=2)
    print("the wheel answers on its own")


if __name__ == "__main__":
    main()
