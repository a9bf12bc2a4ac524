"""docs/live-changes.md: its example was run, its table of privileges is what doctor goes by."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from lab_support import kernel
from nattrace.tracer.doctor.modes import MODES

from .router_lab import router

pytestmark = kernel
PAGE = (Path(__file__).parents[2] / "docs" / "live-changes.md").read_text()


def test_the_example_prints_what_the_page_says() -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.S)
    printed = re.search(r"```console\n([^$].*?)```", PAGE, re.S)
    assert code and printed
    with router("nft", ["-A OUTPUT -p udp --dport 9 -j DROP"]) as (bench, space):
        bench.run("router", "ip link set lo up")
        done = subprocess.run(
            ["ip", "netns", "exec", space.name, sys.executable, "-c", code[1]], capture_output=True, text=True
        )
    assert (done.stderr, done.stdout) == ("", printed[1])


def test_the_table_of_privileges() -> None:
    rows = re.findall(r"^\| ([a-z ]+) \| ((?:`CAP_\w+` ?)+)\|", PAGE, re.M)
    assert [(name, tuple(re.findall(r"CAP_\w+", words))) for name, words in rows] == [
        (m.name, m.capabilities) for m in MODES
    ]
