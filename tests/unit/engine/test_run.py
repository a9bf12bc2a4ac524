"""Exploration of worlds: every branch is played once, probabilities multiply, missing facts are flipped singly."""

from __future__ import annotations

import pytest
from nattrace.sim.engine.run import Ctx, Option, Run, explore
from nattrace.sim.model.drawn import Domain
from nattrace.sim.model.result import Leaf, Reason
from nattrace.sim.model.state import WorldState
from nattrace.sim.model.world import Host, Setting, World

HOST = Host("h", sysctl={"net.ipv4.ip_forward": Setting("1")})
WORLD = World({"h": HOST})


def leaf(outcome: str) -> Leaf:
    return Leaf(outcome, {}, {}, Reason("test", outcome))


def test_every_combination_of_two_draws_is_played_once_with_its_probability() -> None:
    def play(run: Run) -> Leaf:
        first = run.choose("first", (Option(0.25, "a", "a"), Option(0.75, "b", "b")))
        if first == "a":
            return leaf("a")
        return leaf(first + run.choose("second", (Option(0.5, "x", "x"), Option(0.5, "y", "y"))))

    leaves, complete = explore(WorldState(WORLD), play)
    assert complete
    assert {one.outcome: one.probability for one in leaves} == {"a": 0.25, "bx": 0.375, "by": 0.375}


def test_a_choice_of_one_is_no_choice() -> None:
    leaves, _ = explore(WorldState(WORLD), lambda run: leaf(run.choose("only", (Option(1.0, "a", "a"),))))
    assert [one.choices for one in leaves] == [()]


def test_worlds_do_not_see_each_others_state() -> None:
    def play(run: Run) -> Leaf:
        misc = run.ws.host("h").misc
        assert "seen" not in misc
        misc["seen"] = True
        return leaf(run.choose("side", (Option(0.5, "l", "l"), Option(0.5, "r", "r"))))

    start = WorldState(WORLD)
    start.host("h")
    leaves, _ = explore(start, play)
    assert len(leaves) == 2
    assert "seen" not in start.host("h").misc


def test_too_many_worlds_are_reported_and_not_silently_left_out() -> None:
    def play(run: Run) -> Leaf:
        for n in range(8):
            run.choose(f"bit {n}", (Option(0.5, "0", 0), Option(0.5, "1", 1)))
        return leaf("any")

    leaves, complete = explore(WorldState(WORLD), play, max_leaves=10)
    assert len(leaves) == 10
    assert not complete


@pytest.mark.parametrize(("decides", "outcomes"), [(True, {"0", "1"}), (False, {"same"})], ids=["decides", "does not"])
def test_a_missing_sysctl_makes_the_answer_unknown_only_where_it_decides(decides: bool, outcomes: set[str]) -> None:
    def play(run: Run) -> Leaf:
        ctx = Ctx(run, HOST, run.ws.host("h"))
        value = ctx.sysctl("net.ipv4.conf.all.rp_filter", "0", ("1",))
        return leaf(value if decides else "same")

    leaves, _ = explore(WorldState(WORLD), play)
    assert {one.outcome for one in leaves} == outcomes
    assert any("net.ipv4.conf.all.rp_filter = 0" in text for text in leaves[0].assumptions)
    assert bool(leaves[0].unknowns) == decides


@pytest.mark.parametrize("have", [{}, {"all": "0"}, {"all": "1"}, {"eth0": "0"}, {"eth0": "1"}], ids=str)
@pytest.mark.parametrize("default", [0, 1])
@pytest.mark.parametrize("how", ["or", "and", "max"])
def test_of_two_missing_sysctls_that_are_combined_only_values_that_tell_are_played(
    how: str, default: int, have: dict[str, str]
) -> None:
    combined = {"or": lambda a, b: a | b, "and": lambda a, b: a & b, "max": max}[how]
    host = Host("h", sysctl={f"net.ipv4.conf.{dev}.x": Setting(value) for dev, value in have.items()})
    played = []

    def play(run: Run) -> Leaf:
        value = Ctx(run, host, run.ws.host("h")).conf("eth0", "x", default, how)
        played.append(value)
        return leaf(str(value))

    leaves, _ = explore(WorldState(World({"h": host})), play)
    known = {dev: int(have.get(dev, default)) for dev in ("all", "eth0")}
    base = combined(known["eth0"], known["all"])
    missing = [dev for dev in ("eth0", "all") if dev not in have][:1]
    others = {combined(*({**known, dev: 1 - default}[d] for d in ("eth0", "all"))) for dev in missing}
    assert {one.outcome for one in leaves} == {str(base), *map(str, others)}
    assert played == [base, *(others - {base})], "nothing is played that has to come to the same"


def test_a_present_sysctl_is_no_assumption() -> None:
    run = Run(WorldState(WORLD))
    ctx = Ctx(run, HOST, run.ws.host("h"))
    assert ctx.sysctl_int("net.ipv4.ip_forward", 0) == 1
    assert run.assumed == {}


def test_a_rule_that_tells_drawn_ports_apart_splits_the_world_by_their_share() -> None:
    def play(run: Run) -> Leaf:
        ctx = Ctx(run, HOST, run.ws.host("h"))
        port = run.ws.draw("sport", Domain.of(1024, 65535))
        inside = ctx.in_range(port, 1024, 17151)
        assert ctx.in_range(port, 1024, 17151) is inside, "asked twice, answered alike"
        return leaf(f"{inside} {run.ws.domains[port.draw_id].size}")  # type: ignore[union-attr]

    leaves, _ = explore(WorldState(WORLD), play)
    assert {one.outcome: one.probability for one in leaves} == {"True 16128": 0.25, "False 48384": 0.75}


def test_domain_lists_small_holes_as_exceptions() -> None:
    assert Domain.of(1024, 65535, {5353, 5354}).to_json() == {"ranges": [[1024, 65535]], "except": [5353, 5354]}
    assert Domain.of(1, 1).single == 1
    assert Domain.of(1, 10).clip(5, 20).ranges == ((5, 10),)
    assert Domain.of(1, 10).without(3, 4).ranges == ((1, 2), (5, 10))


def test_an_answer_that_stopped_following_copies_does_not_look_whole() -> None:
    def play(run: Run) -> Leaf:
        run.launch = lambda one, start, way: one.aside(start)
        run.aside(None)
        return leaf("any")

    leaves, complete = explore(WorldState(WORLD), play)
    assert not complete
    assert any("go on and on" in text for text in leaves[0].assumptions)
