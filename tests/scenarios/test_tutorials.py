"""The tutorials show what the program prints now, and speak of snapshots that exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from .stages import STAGES

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
PAGES = sorted(TUTORIALS.glob("*.md"))


def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tutorials_run", TUTORIALS / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_output_shown_is_the_output_of_today(page: Path) -> None:
    assert runner().renewed(page.read_text()) == page.read_text(), "run: python docs/tutorials/run.py"


def test_each_situation_has_its_tutorial() -> None:
    assert {page.stem for page in PAGES} == {name.partition(".")[0] for name in STAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_uses_its_own_snapshots(page: Path) -> None:
    used = set(re.findall(r"-S (\S+)", page.read_text()))
    assert used and used <= {name for name in STAGES if name.partition(".")[0] == page.stem}
