"""Every stage of the five situations, offline: what the simulator predicts from the bundled snapshot."""

from __future__ import annotations

import json

import pytest

from .cases import CASES
from .evidence import Case
from .predicted import SNAPSHOTS, predict
from .stages import STAGES


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.stage}: {case.id}")
def test_predicted(case: Case) -> None:
    evidence = predict(case.stage, case.does)
    for statement in case.shows:
        statement(evidence)


def test_every_stage_ships_as_a_snapshot_and_no_other_does() -> None:
    titles = {home.name: json.loads((home / "snapshot.json").read_text())["title"] for home in SNAPSHOTS.iterdir()}
    assert titles == {stage.name: stage.title for stage in STAGES.values()}


def test_claims_are_told_apart_by_their_names() -> None:
    names = [(case.stage, case.id) for case in CASES]
    assert len(names) == len(set(names))
