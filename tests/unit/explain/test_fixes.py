"""Fixes of the classes that need more than one added line: rules replaced, zones made consistent, later packets cured."""

from __future__ import annotations

from pathlib import Path

import nattrace as nt
import pytest
from nattrace.sim.explain import fixes
from nattrace.sim.explain.parts import WORKS
from nattrace.sim.explain.trial import REPLY

PING = "icmp 10.10.1.1 -> 8.8.8.8 at client"


def works(snapshot: str, flow: str, sample: int = 0) -> list[list[str]]:
    return [f["commands"] for f in nt.load(snapshot).why(flow, sample=sample).fixes if f["result"] == "works"]


@pytest.mark.parametrize("stage", ["zone-on-proxy-only", "zone-reply"])
def test_a_zone_that_one_direction_lacks_is_made_consistent_for_each_pass(stage: str) -> None:
    best = works(f"twice-through-conntrack.{stage}", PING)[0]
    assert best == [
        "iptables -t raw -R PREROUTING 1 -i proxy-veth0 -d 10.10.1.0/24 -j CT --zone 1",
        "iptables -t raw -A PREROUTING -i client-veth0 -j CT --zone 1",
    ]


def test_no_fix_leaves_the_reply_invalid_on_the_way_while_another_does_not() -> None:
    fixes = nt.load("twice-through-conntrack.zone-reply").why(PING, sample=0).fixes
    rough = ["INVALID" in f["text"] for f in fixes if f["result"] == "works"]
    assert rough == sorted(rough)


def test_a_rule_with_a_wrong_source_is_replaced_rather_than_joined_by_a_second_one() -> None:
    for commands in works("twice-through-conntrack.wrong-prefix", PING)[:2]:
        assert any("-R POSTROUTING 1 -s 10.10.1.0/24" in c for c in commands)


def test_the_same_changes_in_another_order_are_offered_once() -> None:
    found = [frozenset(c) for c in works("twice-through-conntrack.zone-reply", PING)]
    assert len(found) == len(set(found))


def test_tcp_that_is_too_big_is_cured_for_the_connections_to_come() -> None:
    result = nt.load("private-namespace.forwarding").why("tcp 114.114.114.114:80 at private df len 1450", sample=0)
    assert result.code == "fragmentation_needed"
    (fix,) = (f for f in result.fixes if f["result"] == "works")
    assert fix["commands"] == [
        "iptables -t mangle -A FORWARD -o eth0 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"
    ]
    assert "1410" in fix["text"] and "1360" in fix["text"] and "1400 bytes" in fix["text"]


def test_clamping_is_not_offered_to_what_is_not_tcp() -> None:
    assert works("private-namespace.forwarding", "udp 114.114.114.114:99 at private df len 1450") == []


def test_a_guessed_destination_says_so_and_a_gateway_is_no_guess() -> None:
    fixes = nt.load("nonexistent-address.nothing").why("192.168.100.1 -> 192.168.100.3 at vm01", sample=0).fixes
    assert "if 192.168.200.3 is the host meant" in fixes[0]["text"]
    assert all("is the host meant" in f["text"] for f in fixes if f["result"] == "works")
    assert not any("192.168.200.254" in c for f in fixes for c in f["commands"])


def test_flows_that_a_fix_changes_are_named() -> None:
    fixes = nt.load("twice-through-conntrack").why(PING, sample=32).fixes
    effects = [e for f in fixes for e in f["side_effects"]]
    assert effects and all("→" in e for e in effects)


def test_letting_one_flow_pass_comes_before_opening_a_policy() -> None:
    snapshot = nt.load("private-namespace.forwarding")
    result = snapshot.why("114.114.114.114 at private", add="-P FORWARD DROP at host", sample=0)
    best = next(f["commands"] for f in result.fixes if f["result"] == "works")
    assert all("-P" not in c.split() for c in best) and any("--ctstate RELATED,ESTABLISHED" in c for c in best)


def test_a_change_that_sends_the_packet_in_circles_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes 64 hosts until its ttl ends, and nothing that is put on top of it is worth that time."""
    built_upon: list[str] = []
    sweep = fixes.Search.sweep

    def watched(search: fixes.Search, place: fixes.Place) -> list[fixes.Place]:
        built_upon.append(place[1].leaf.outcome)
        return sweep(search, place)

    monkeypatch.setattr(fixes.Search, "sweep", watched)
    nt.load("two-uplinks").why("tcp 192.168.1.7 -> 1.2.3.4:443 in eth1")
    assert built_upon[0] == "unreachable" and "looped" not in built_upon


def test_a_route_that_hopes_for_proxy_arp_is_no_better_than_a_gateway_that_is_guessed() -> None:
    """A remote address taken for a neighbour works where the simulation takes every neighbour to answer: at the edge."""
    home = Path(__file__).resolve().parents[3] / "docs" / "causes" / "second-uplink-answer" / "snapshot"
    answer = nt.load(home).why("tcp 198.51.100.9:40000 -> 192.0.2.1:80 in eth2 at router")._explanation
    works = [f for f in answer.fixes if f.result == WORKS]
    assert [c for _, c in works[0].steps()] == [
        "ip route add default via 192.0.2.254 dev eth2 table 100",
        "ip rule add from 10.0.1.5 iif eth0 lookup 100",
    ]
    hoped = [f for f in works if f.text.startswith("if somebody on eth2 answers ARP for 198.51.100.9")]
    assert [[c for _, c in f.steps()] for f in hoped] == [["ip route add 198.51.100.9 dev eth2"]]
    assert not any("table local" in c for f in answer.fixes for _, c in f.steps())


def test_the_decision_that_sent_an_answer_the_other_way_is_marked() -> None:
    home = Path(__file__).resolve().parents[3] / "docs" / "causes" / "second-uplink-answer" / "snapshot"
    answer = nt.load(home).why("tcp 198.51.100.9:40000 -> 192.0.2.1:80 in eth2 at router", fixes=False)._explanation
    ((phase, hop, step), _) = answer.diagnosis[0].places[0]
    assert answer.trial.back is not None
    assert phase == REPLY and answer.trial.back.hops[hop].steps[step].stage == "routing"


def test_a_loop_is_left_by_the_uplink_of_the_host_that_turns_back() -> None:
    home = Path(__file__).resolve().parents[3] / "docs" / "causes" / "routing-loop" / "snapshot"
    answer = nt.load(home).why("udp 10.0.0.2:4000 -> 198.51.100.9:53 at client", sample=0)
    best = next(f for f in answer.fixes if f["result"] == "works")
    assert best["commands"][0] == "ip route replace default via 203.0.113.254 dev eth1" and best["host"] == "b"
    assert best["text"].startswith("if 203.0.113.254 is the gateway of eth1")
