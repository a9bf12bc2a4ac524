"""Random situations with fixed seeds: the kernel and the simulator agree on every packet, counter and entry.

``NATTRACE_SITUATIONS`` scales how many; ``tests/differential/fuzz.py`` runs without end and shrinks what it finds.
"""

from __future__ import annotations

import os

import pytest
from lab_support import kernel

from .generator import situation
from .runner import run

pytestmark = kernel

SITUATIONS = int(os.environ.get("NATTRACE_SITUATIONS", "120"))
FIRST = 620180
LEVELS = (0, 9, 9, 9, 2, 9, 9, 9, 4, 9, 9, 9)  # simple forwarding … everything


@pytest.mark.parametrize("number", range(SITUATIONS))
def test_simulator_agrees_with_the_kernel(number: int) -> None:
    level = LEVELS[number % len(LEVELS)]
    verdict = run(situation(FIRST + number, level))
    assert not verdict.kind, "\n".join([
        f"seed {FIRST + number} level {level}, packet {verdict.index}: {verdict.signature}",
        *verdict.details,
        f"record: {verdict.record}",
        f"predicted: {(verdict.result or {}).get('outcome')} {(verdict.result or {}).get('reason')}",
        f"smallest form: python tests/differential/fuzz.py 1 {FIRST + number} --level {level}",
    ])  # fmt: skip


def test_nothing_is_left_behind_by_a_situation() -> None:
    """Namespaces of a finished situation are gone, and so is its state file."""
    from nattrace.tracer.lab.build import labs

    before = {x["prefix"] for x in labs() if x["pid"] == os.getpid()}
    run(situation(1, 0, packets=1))
    assert {x["prefix"] for x in labs() if x["pid"] == os.getpid()} == before
