"""Each stage of the five write-ups: the cause comes first, and the fix that re-simulation passed leads on.

What is expected here is what the write-ups saw on real kernels, not what the simulator says.
"""

from __future__ import annotations

import nattrace as nt
import pytest

PING = "icmp 10.10.1.1 -> 8.8.8.8 at client"


def commands(result: nt.Result, verdict: str) -> list[list[str]]:
    return [f["commands"] for f in result.fixes if f["result"] == verdict]


def test_the_second_pass_is_not_translated_because_the_first_decided() -> None:
    result = nt.load("twice-through-conntrack").why(PING)
    assert result.code == "nat_decided_earlier"
    document = result.to_json()
    assert (document["outcome"], document["at"]["interface"]) == ("left", "enp4s0")
    assert (document["packet"]["src"], document["packet"]["dst"]) == ("10.10.1.1", "8.8.8.8")
    assert "host/iptables-save.txt:" in document["diagnosis"][0]["evidence"][0]


def test_zone_orig_and_the_two_rules_work_and_one_zone_alone_loses_the_reply() -> None:
    result = nt.load("twice-through-conntrack").why(PING)
    raw = "iptables -t raw -A PREROUTING"
    works = commands(result, "works")
    assert works[0] == [f"{raw} -i proxy-veth0 -s 10.10.1.0/24 -j CT --zone-orig 2"]
    assert [f"{raw} -i client-veth0 -j CT --zone 1", f"{raw} -i proxy-veth0 -d 10.10.1.0/24 -j CT --zone 1"] in works
    assert [f"{raw} -i proxy-veth0 -j CT --zone 2"] in commands(result, "forward_only")


def test_a_fix_applied_is_the_answer_it_promised() -> None:
    snapshot = nt.load("twice-through-conntrack")
    for fix in snapshot.why(PING).fixes:
        after = snapshot.with_(default_host=fix["host"], add=fix["commands"]).why(PING, fixes=False)
        assert (after.diagnosis == []) == (fix["result"] == "works")


@pytest.mark.parametrize("stage", ["zones", "zone-orig"])
def test_the_write_ups_cures_leave_nothing_to_complain_about(stage: str) -> None:
    result = nt.load(f"twice-through-conntrack.{stage}").why(PING)
    assert result.diagnosis == []
    document = result.to_json()
    assert document["packet"]["src"] == "172.16.202.30"
    assert (document["reply"]["outcome"], document["reply"]["at"]["host"]) == ("delivered", "client")


def test_the_wrong_prefix_is_a_criterion_that_failed() -> None:
    result = nt.load("twice-through-conntrack.wrong-prefix").why(PING)
    assert "criterion_failed" in result.diagnosis


@pytest.mark.parametrize(
    ("snapshot", "flow", "code"),
    [
        ("private-namespace.no-route", "114.114.114.114 at private", "no_route"),
        ("private-namespace.route", "114.114.114.114 at private", "ip_forward_disabled"),
        ("private-namespace", "114.114.114.114 at private", "ip_forward_disabled"),
        ("nonexistent-address.nothing", "192.168.100.1 -> 192.168.100.3 at vm01", "neighbour_failed"),
        ("nonexistent-address.route", "192.168.100.1 -> 192.168.100.3 at vm01", "neighbour_failed"),
        ("two-uplinks.nothing-set", "203.0.113.9 at ec2a", "ip_forward_disabled"),
    ],
)  # fmt: skip
def test_the_cause_of_a_stage_comes_first(snapshot: str, flow: str, code: str) -> None:
    assert nt.load(snapshot).why(flow, sample=0).code == code


def test_the_way_back_that_misses_the_nat_is_named() -> None:
    result = nt.load("nonexistent-address").why("tcp 192.168.100.1 -> 192.168.100.3:22 at vm01", sample=0)
    assert {"reply_bypasses_nat", "no_return_route"} <= set(result.diagnosis)
    assert ["iptables -t nat -A POSTROUTING -o eth1 -s 192.168.100.0/24 -j MASQUERADE"] in commands(result, "works")


def test_several_obstacles_are_overcome_in_one_fix() -> None:
    best = nt.load("nonexistent-address.nothing").why("192.168.100.1 -> 192.168.100.3 at vm01", sample=0).fixes[0]
    assert [step["host"] for step in best["steps"]] == ["vm01", "vm02", "vm02"]
    assert "--to-destination 192.168.200.3" in best["steps"][1]["command"]
    assert best["host"] is None and best["commands"][0].startswith("ip netns exec vm01 ip route add 192.168.100.3")


def test_a_remedy_that_fails_is_listed_as_failing() -> None:
    result = nt.load("private-namespace.route").why("114.114.114.114 at private", sample=0)
    assert any("MASQUERADE" in c[0] for c in commands(result, "fails"))


@pytest.mark.parametrize(
    ("user", "source"), [("userA", "10.0.2.101"), ("userB", "10.0.2.102"), ("userC", "10.0.2.103"), ("root", "10.0.2.15"), ("4242", "10.0.2.15")]
)  # fmt: skip
def test_each_user_has_an_address(user: str, source: str) -> None:
    document = nt.load("per-user-source").why(f"8.8.8.8 uid {user} at host").to_json()
    first = next(hop for hop in document["hops"] if hop["host"] == "host")
    assert first["after"]["src"] == source


@pytest.mark.parametrize(("client", "outside"), [("ec2a", "54.178.213.178"), ("ec2b", "54.178.197.195")])
def test_each_client_is_seen_outside_with_its_uplinks_address(client: str, outside: str) -> None:
    result = nt.load("two-uplinks").why(f"203.0.113.9 at {client}")
    assert result.to_json()["packet"]["src"] == outside
    assert result.diagnosis == []


def test_nothing_wrong_means_no_diagnosis_and_no_fixes() -> None:
    result = nt.load("private-namespace.forwarding").why("114.114.114.114 at private")
    assert (result.diagnosis, result.fixes) == ([], [])
    assert result.to_json()["packet"]["src"] == "192.168.38.116"
