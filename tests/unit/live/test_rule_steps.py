"""Rules put into a story: in their order, in front of what their table was seen to do, and once."""

from __future__ import annotations

from nattrace.sim.model.result import Hop, Step
from nattrace.tracer.live.rule_steps import _insert


def rule(hook: str, table: str, number: int, verdict: str | None = None) -> Step:
    return Step(hook, table, table=table, chain=hook, rule=number, verdict=verdict)


def seen(hook: str, table: str, **more: object) -> Step:
    return Step(hook, table, table=table, chain=hook, **more)  # type: ignore[arg-type]


def test_a_change_goes_to_the_rule_that_ended_the_table_and_stays_there() -> None:
    hop = Hop("r", "eth0", steps=[
        seen("PREROUTING", "mangle", changes={"mark": (0, 7)}), seen("FORWARD", "filter", verdict="DROP"),
    ])  # fmt: skip
    times = [10, 20]
    _insert(hop, times, [rule("PREROUTING", "mangle", 1), rule("PREROUTING", "mangle", 3)])
    _insert(hop, times, [rule("FORWARD", "filter", 2, "DROP")])  # another source of messages, later
    assert [(s.table, s.rule, s.changes) for s in hop.steps] == [
        ("mangle", 1, {}), ("mangle", 3, {"mark": (0, 7)}), ("mangle", None, {}), ("filter", 2, {}), ("filter", None, {}),
    ]  # fmt: skip
    assert times == [10, 10, 10, 20, 20]


def test_a_rule_of_a_table_that_was_not_seen_comes_before_the_drop() -> None:
    hop = Hop("r", "eth0", steps=[seen("INPUT", "filter", verdict="DROP")])
    times = [5]
    _insert(hop, times, [rule("INPUT", "security", 1)])
    assert [s.table for s in hop.steps] == ["security", "filter"] and times == [5, 5]
