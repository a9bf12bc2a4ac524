"""Nothing smaller would do than what ``why`` offers: a sample of what compare.py does for 200 flows."""

from __future__ import annotations

import os
import random

import pytest

from .broken import broken, sound
from .compare import beaten

SEED = int(os.environ.get("NATTRACE_SEED", "20261127"))
SEEDS = random.Random(SEED).sample(range(10**6), 12)


def test_the_network_that_is_broken_is_sound() -> None:
    from nattrace.sim.explain.trial import attempt
    from nattrace.sim.flow import parse_flow

    flow = "tcp 192.0.2.9:40000 -> 203.0.113.2:80 in eth1 at router"
    assert attempt(sound(), parse_flow(flow, sound())).obstacle is None


@pytest.mark.parametrize("seed", SEEDS)
def test_no_single_change_works_where_more_are_offered(seed: int) -> None:
    one = broken(seed)
    print(f"seed {seed} (of NATTRACE_SEED={SEED}): {one}")
    size, smaller = beaten(one)
    assert smaller is None, f"{one}\n  offered {size}, smaller: {smaller.host}: {smaller.commands()}"


@pytest.mark.parametrize("seed", [63, 78, 97, 157])
def test_what_brute_force_once_found_is_offered(seed: int) -> None:
    assert beaten(broken(seed)) == (1, None)
