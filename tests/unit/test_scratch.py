"""Directories of processes that were killed are removed by the next one; everybody else's stay."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from nattrace.tracer import scratch


def test_only_what_a_dead_process_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    dead, ours = tmp_path / f"nattrace-{child.pid}-a", tmp_path / f"nattrace-{os.getpid()}-b"
    other, link = tmp_path / "nattrace-bench-c", tmp_path / f"nattrace-{child.pid}-d"
    for folder in (dead, ours, other):
        (folder / "in").mkdir(parents=True)
    link.symlink_to(other)
    assert scratch.sweep() == [dead]
    assert not dead.exists() and ours.exists() and other.exists() and link.is_symlink()


def test_a_prefix_says_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with tempfile.TemporaryDirectory(prefix=scratch.prefix()) as folder:
        assert Path(folder).name.startswith(f"nattrace-{os.getpid()}-")
        assert scratch.sweep() == []
