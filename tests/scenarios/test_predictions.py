"""Every stage of the five situations, offline: what the simulator predicts from the bundled snapshot."""

from __future__ import annotations

import pytest

from .cases import CASES
from .evidence import Case
from .predicted import predict


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.stage}: {case.id}")
def test_predicted(case: Case) -> None:
    evidence = predict(case.stage, case.does)
    for statement in case.shows:
        statement(evidence)


def test_claims_are_told_apart_by_their_names() -> None:
    names = [(case.stage, case.id) for case in CASES]
    assert len(names) == len(set(names))
