"""The shares of a port search against the search itself, walked from every start value (nf_nat_l4proto_unique_tuple)."""

from __future__ import annotations

import pytest
from nattrace.sim.engine.ports import late_search, random_search

from .draws_bench import shares_of_domain

STARTS = 1 << 16


def walked(size: int, taken: set[int], late: set[int]) -> tuple[dict[int, float], float]:
    """Number → probability, and that of finding none: 128 tries, then 64, 32, 16 and 8 from new random starts."""
    found: dict[int, float] = {}
    share, tries = 1.0, min(size, 128)
    while True:
        missed = 0
        for start in range(STARTS):
            for i in range(tries):
                number = ((start + i) & 0xFFFF) % size
                if number not in taken and (number not in late or tries - i <= 32):
                    found[number] = found.get(number, 0.0) + share / STARTS
                    break
            else:
                missed += 1
        share *= missed / STARTS
        if tries >= size or tries < 16:
            return found, share
        tries //= 2


def run_of(first: int, length: int, size: int) -> set[int]:
    return {(first + i) % size for i in range(length)}


@pytest.mark.parametrize(
    ("size", "taken"),
    [(1, set()), (3, {0, 1}), (10, {8, 9, 0}), (100, run_of(40, 99, 100)), (129, run_of(3, 128, 129)),
     (424, run_of(300, 200, 424) | {20}), (511, run_of(1, 509, 511)), (64512, {0, 1022, 1023, 3976}),
     (65536, run_of(65500, 140, 65536))],
)  # fmt: skip
def test_shares_and_failures_of_a_search(size: int, taken: set[int]) -> None:
    domain, missed = random_search(0, size, taken)
    found, none = walked(size, taken, set())
    assert missed == pytest.approx(none, abs=1e-12)
    given = {n: p * (1 - missed) for n, p in shares_of_domain(domain).items()}
    assert given.keys() == found.keys()
    assert max(abs(given[n] - found[n]) for n in found) < 1e-12


@pytest.mark.parametrize(
    ("size", "free", "late"), [(40, {3}, {20}), (100, {7}, {50, 51}), (300, {250, 251}, {10, 120, 249})]
)
def test_numbers_that_only_the_last_tries_may_take(size: int, free: set[int], late: set[int]) -> None:
    taken = set(range(size)) - free - late
    domain, missed = late_search(0, size, taken, late)
    found, none = walked(size, taken, late)
    assert missed == pytest.approx(none, abs=1e-12)
    assert {n: p * (1 - missed) for n, p in shares_of_domain(domain).items()} == pytest.approx(found, abs=1e-9)
