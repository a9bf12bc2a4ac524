"""Dropped packets: the kernel's reason is named, and what the tracer says about it is right, for every cause we know."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab_support import kernel
from nattrace.tracer.live import btf, drops
from nattrace.tracer.live.drop_reasons import REASONS

from .drops_cases import CASES, Case
from .drops_lab import Lab, observe

pytestmark = kernel


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    made = Lab(request.getfixturevalue("case").v6)
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_the_reason_and_its_explanation(case: Case, lab: Lab) -> None:
    for line in case.setup:
        host, _, command = line.partition(": ")
        lab.run(host, command)
    if case.before is not None:
        case.before(lab)
    stories = observe(lab, case.act, case.wait)
    reason = f"SKB_DROP_REASON_{case.reason}"
    every = [s for story in stories for s in (story, *story.asides)]
    found = [
        s
        for s in every
        if s.end.drop == reason and s.end.at["host"] == case.host and case.to in ("", s.packet.get("dst"))
    ]
    seen = [(s.end.outcome, s.end.drop, s.end.place, s.end.at, s.packet.get("dst")) for s in stories]
    assert found, seen
    why = drops.explain_story(found[0], lab.world().hosts[case.host])
    assert (why.code, case.says in why.text) == (case.code, True), why
    assert why.text and not found[0].incomplete, (why, found[0].incomplete)


def test_there_are_enough() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    assert len({case.reason for case in CASES}) >= 30


def test_every_reason_of_this_kernel_has_a_sentence() -> None:
    names = set(btf.drop_reasons(btf.Btf.kernel()).values())
    unknown = [name for name in names if drops.find(name) is None]
    assert len(names) > 80 and not unknown
    for entry in REASONS.values():
        assert entry.sentence.endswith(".") and len(entry.sentence) > 15
