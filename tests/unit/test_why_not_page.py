"""docs/why-not.md shows what the program prints today, and its shell session is the script's own words."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from nattrace.sim.explain.paste import rollback
from nattrace.sim.explain.symptoms import SYMPTOMS
from nattrace.sim.explain.whatif import SetSysctl

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "why-not.md").read_text()


def test_the_output_shown_is_the_output_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("tutorials_run", ROOT / "docs" / "tutorials" / "run.py")
    assert spec and spec.loader and os.getcwd() == str(ROOT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.RERUN in PAGE and PAGE.count("```console") >= 4
    assert module.renewed(PAGE) == PAGE, "run: python docs/tutorials/run.py"


def test_what_the_script_says_is_quoted_rightly() -> None:
    script = rollback([SetSysctl("h", "net.ipv4.ip_forward", "1")])
    assert (
        "See that a NEW connection to this host works, then" in script
        and "See that a NEW connection to this host works" in PAGE
    )
    assert "wait=${1:-60}" in script and "sh change.sh 60" in PAGE


def test_every_symptom_is_named() -> None:
    assert all(f"'{symptom.name}'" in PAGE for symptom in SYMPTOMS)
