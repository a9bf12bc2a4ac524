"""The reference is generated from the program and up to date enough to name everything it has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_can_be_generated() -> None:
    script = "import sys; sys.path.insert(0, 'docs'); import generate; print(sum(len(text) > 500 for _, text in generate.pages()))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "5", done.stderr
