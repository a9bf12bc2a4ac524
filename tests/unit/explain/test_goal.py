"""Fixes toward an expectation: they make it happen, with the flow still working both ways, and the smallest comes first."""

from __future__ import annotations

import time

import jsonschema
import pytest
from nattrace.sim.explain.answer import Explanation, explain
from nattrace.sim.explain.expect import check
from nattrace.sim.explain.parts import WORKS
from nattrace.sim.explain.whatif import Edit, PolicyRuleEdit, RouteEdit, RuleEdit, SetSysctl, apply_all
from nattrace.sim.explain.whatif_move import RuleMove
from nattrace.sim.flow import parse_flow
from nattrace.sim.model.world import World
from nattrace.sim.render.schema import why as why_schema
from nattrace.sim.render.text import render
from nattrace.sim.snapshot.load import load_world

from ...smallest.broken import sound

HTTPS = "tcp 10.0.0.2:40000 -> 8.8.8.8:443 at client"
INWARD = "tcp 192.0.2.9:40000 -> 203.0.113.2:80 in eth1 at router"


def wanted(world: World, flow: str, *expect: str) -> Explanation:
    return explain(world, parse_flow(flow, world), expect=expect, sample=4)


def works(found: Explanation) -> list[list[str]]:
    return [[c for _, c in f.steps()] for f in found.fixes if f.result == WORKS]


@pytest.mark.parametrize(
    ("flow", "expect", "command"),
    [
        (HTTPS, "dropped", "iptables -I FORWARD 2 -s 10.0.0.2 -d 8.8.8.8 -p tcp --dport 443 -j DROP"),
        (HTTPS, "rejected", "iptables -I FORWARD 2 -s 10.0.0.2 -d 8.8.8.8 -p tcp --dport 443 -j REJECT"),
        (HTTPS, "unreachable", "ip route add unreachable 8.8.8.8"),
        (HTTPS, "queued", "iptables -I FORWARD 2 -s 10.0.0.2 -d 8.8.8.8 -p tcp --dport 443 -j NFQUEUE"),
        (HTTPS, "out eth3", "ip route add 8.8.8.8 via 198.51.100.1 dev eth3"),
        (HTTPS, "out eth3", "ip rule add from 10.0.0.2 iif eth0 lookup 101"),
        (HTTPS, "dnat 10.0.1.2:80", "iptables -t nat -A PREROUTING -s 10.0.0.2 -d 8.8.8.8 -p tcp --dport 443 -j DNAT --to-destination 10.0.1.2:80"),
        (INWARD, "dnat 10.0.1.2:80", None),
        (INWARD, "rule filter:FORWARD:3", None),
        (HTTPS, "rule filter:LAN:3", None),
        (HTTPS, "reply", None),
        (HTTPS, "left", None),
    ],
)  # fmt: skip
def test_each_kind_of_expectation_can_be_made_to_happen(flow: str, expect: str, command: str | None) -> None:
    found = wanted(sound(), flow, expect)
    if found.expectations[0].met:
        assert works(found) == []
        return
    assert command is None or [command] in works(found)
    for fix in found.fixes:
        if fix.result == WORKS and not expect.startswith("rule"):
            assert check(fix.trial, expect).met is True
            assert fix.trial.ok or expect.split()[0] not in ("left", "delivered", "snat", "dnat", "out", "reply")


def test_a_source_nobody_has_needs_an_address_too() -> None:
    found = wanted(sound(), HTTPS, "snat 203.0.113.77")
    best = works(found)[0]
    assert any("-j SNAT --to-source 203.0.113.77" in c for c in best) and "ip addr add 203.0.113.77/24 dev eth1" in best


def test_an_own_secondary_address_needs_one_rule() -> None:
    world = load_world("per-user-source")
    found = wanted(world, "8.8.8.8 uid root at host", "snat 10.0.2.103")
    assert len(works(found)[0]) == 1 and "10.0.2.103" in works(found)[0][0]


def test_a_rule_behind_another_is_moved_before_it() -> None:
    world = RuleEdit("router", "-t nat -I POSTROUTING -s 10.0.0.0/23 -o eth1 -j SNAT --to-source 203.0.113.2").apply(
        sound()
    )
    found = wanted(world, HTTPS, "rule nat:POSTROUTING:2")
    moves = [f.edits[0] for f in found.fixes if f.result == WORKS and len(f.edits) == 1]
    assert any(isinstance(e, RuleMove) and (e.number, e.to) == (2, 1) for e in moves)
    move = next(e for e in moves if isinstance(e, RuleMove))
    insert, delete = move.commands()
    assert insert.startswith("iptables -t nat -I POSTROUTING 1 ") and delete == "iptables -t nat -D POSTROUTING 3"


def test_several_expectations_hold_at_once() -> None:
    found = wanted(sound(), HTTPS, "out eth3", "snat 198.51.100.2")
    best = next(f for f in found.fixes if f.result == WORKS)
    assert all(check(best.trial, text).met for text in ("out eth3", "snat 198.51.100.2")) and best.trial.ok


def test_what_is_expected_and_happens_asks_for_no_fix() -> None:
    dropped = RuleEdit("router", "-I FORWARD -j DROP").apply(sound())
    assert wanted(dropped, HTTPS, "dropped").fixes == []


@pytest.mark.parametrize(
    ("edit", "expect", "actual", "expected"),
    [
        (RuleEdit("router", "-I FORWARD -s 10.0.0.2 -j DROP"), "left", "FORWARD 1: -s 10.0.0.2 -j DROP", "-j ACCEPT"),
        (SetSysctl("router", "net.ipv4.ip_forward", "0"), "left", "ip_forward is 0", "ttl 64 → 63"),
        (RouteEdit("router", "blackhole 8.8.8.8"), "left", "blackhole", "dev eth"),
        (PolicyRuleEdit("router", "to 8.8.8.8 priority 90 prohibit"), "left", "prohibit", "dev eth"),
    ],
)
def test_the_first_deciding_point_is_where_the_worlds_part(edit: Edit, expect: str, actual: str, expected: str) -> None:
    found = wanted(edit.apply(sound()), HTTPS, expect)
    parting = found.expectations[0].differs
    assert parting is not None and parting.host == "router"
    assert actual in parting.actual and expected in parting.expected


def test_the_parting_is_in_the_answer_and_in_json() -> None:
    world = SetSysctl("router", "net.ipv4.ip_forward", "0").apply(sound())
    found = wanted(world, HTTPS, "left")
    text = render(found)
    assert "EXPECT  left: not as expected" in text and "PARTS   at step" in text
    document = found.to_json()
    jsonschema.validate(document, why_schema())
    assert document["expect"][0]["differs"]["step"] in found.numbers.values()
    assert document["fixes"][0]["persistent"] and document["fixes"][0]["rollback"][0]["script"].startswith("#!/bin/sh")


def test_ordinary_answers_fit_25_lines() -> None:
    for expect in ("dropped", "out eth3", "rule nat:POSTROUTING:2"):
        lines = render(wanted(sound(), HTTPS, expect)).splitlines()
        assert len(lines) <= 30, "\n".join(lines)


def test_the_search_is_interactive() -> None:
    hopeless = apply_all(sound(), [RuleEdit("router", "-I FORWARD -j DROP"), RuleEdit("client", "-I INPUT -j DROP")])
    begun = time.process_time()
    wanted(hopeless, HTTPS, "dnat 10.9.9.9:1")
    assert time.process_time() - begun < 5  # 1.5 of them for the search; a busy machine counts more


def test_a_route_that_exists_is_refused_as_ip_refuses_it() -> None:
    from nattrace.sim.errors import InputError

    with pytest.raises(InputError, match="File exists"):
        RouteEdit("router", "default via 203.0.113.1").apply(sound())


def test_a_policy_rule_joins_those_that_every_host_has() -> None:
    rules = PolicyRuleEdit("client", "from 10.0.0.2 lookup 77").apply(sound()).hosts["client"].rules[2]
    assert [r.priority for r in rules] == [0, 32765, 32766, 32767]
