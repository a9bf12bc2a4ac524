"""docs/confirm.md and the bundle kept with it: judged again on any machine, with the same words."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from nattrace.tracer.live.bundle import replay
from nattrace.tracer.live.classify import CLASSES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "confirm.md").read_text()
BUNDLE = ROOT / "tests" / "data" / "bundles" / "nat-rule-changed.bundle"
PROGRAM = [sys.executable, "-c", "from nattrace.tracer.cli import main; main()", "confirm"]


def test_the_example_is_what_comes() -> None:
    block = re.search(r"```console\n\$ nattrace confirm .*?\n(.*?)```", PAGE, re.S)
    assert block is not None and replay(BUNDLE).render(100) == block[1]


def test_a_bundle_tells_what_was_found() -> None:
    report = replay(BUNDLE)
    assert report.first is not None and report.finding is not None
    row = report.first[1]
    assert (report.status, report.finding.name, row.host, row.hook, row.stage) == (
        1,
        "rule_set_changed",
        "r",
        "POSTROUTING",
        "nat",
    )
    assert row.names == ("sport",) and "rules of r" in report.finding.how


def test_classes_and_options_are_documented() -> None:
    assert [name for name in CLASSES if f"`{name}`" not in PAGE] == []
    said = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, timeout=30).stdout
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE)) - {"--netns"}:
        assert option in said, option
