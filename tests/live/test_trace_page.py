"""docs/trace.md: its example is what comes, its options exist, its numbers are those of the tables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from lab_support import kernel, topology_of, unique_prefix
from nattrace.sim.snapshot.load import bundled
from nattrace.tracer.lab.build import build
from nattrace.tracer.live.drop_reasons import REASONS

pytestmark = kernel
PAGE = (Path(__file__).parents[2] / "docs" / "trace.md").read_text()
PROGRAM = [sys.executable, "-c", "from nattrace.tracer.cli import main; main()", "trace"]


def plain(text: str) -> str:
    """Without what differs from kernel to kernel: offsets in functions."""
    return re.sub(r"\+0x[0-9a-f]+", "", text).rstrip()


def test_the_example_is_what_comes() -> None:
    block = re.search(r"```console\n\$ nattrace lab up .*?\n\$ nattrace trace .*?\n(.*?)```", PAGE, re.S)
    assert block is not None
    with build(topology_of(bundled("twice-through-conntrack")), unique_prefix()) as lab:
        words = ["icmp 10.10.1.1 -> 8.8.8.8 at client", "-S", "twice-through-conntrack", "--lab", lab.prefix, "--"]
        ping = ["ip", "netns", "exec", lab.netns("client"), "ping", "-c", "1", "-W", "4", "8.8.8.8"]
        env = os.environ | {"COLUMNS": "100"}
        done = subprocess.run([*PROGRAM, *words, *ping], capture_output=True, text=True, timeout=60, env=env)
    assert (done.returncode, plain(done.stdout)) == (0, plain(block[1])), done.stderr


def test_its_options_and_reasons_exist() -> None:
    said = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, timeout=30).stdout
    for option in set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join(re.findall(r"`(-[^`]*)`", PAGE)))):
        assert option in said, option
    assert all(name in REASONS for name in re.findall(r"SKB_DROP_REASON_[A-Z0-9_]+", PAGE))
