"""Situations that once showed a difference, in their smallest form; found by fuzz.py, kept for good."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from lab_support import kernel

from .runner import run

pytestmark = kernel

CASES = sorted((Path(__file__).resolve().parent.parent / "data" / "regressions").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_once_different_now_equal(path: Path) -> None:
    case = json.loads(path.read_text())
    verdict = run(copy.deepcopy(case))
    assert not verdict.kind, "\n".join(
        [f"{path.name}, found as {case.get('found')}: {verdict.signature}", *verdict.details]
    )
    assert not verdict.stats["left undecided by the snapshot"], "the comparison ended before its end"
