"""Every stage of the five situations, asked of the running kernel: the same statements, and equality in all that is seen."""

from __future__ import annotations

import pytest
from lab_support import kernel

from .cases import CASES
from .evidence import Case
from .sidebyside import run

pytestmark = kernel


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.stage}: {case.id}")
def test_the_kernel_does_so_and_the_simulator_predicts_all_of_it(case: Case) -> None:
    evidence, differences = run(case.stage, case.does)
    for statement in case.shows:
        if not statement.predicted_only:
            statement(evidence)
    if differences:
        pytest.fail("kernel and simulator differ:\n" + "\n".join(differences) + "\n" + evidence.story, pytrace=False)
