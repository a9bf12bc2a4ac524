"""What ``why`` says about every stage, and that its fixes are true: re-simulated, and applied to the kernel."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from lab_support import kernel
from nattrace.tracer.cli import run

from .evidence import Command, Evidence, Packet, answered, ping
from .observed import Bench
from .predicted import predict

WIDTH, SCREEN = 100, 40


@dataclass(frozen=True)
class Question:
    """A stage's question. ``code`` stands in the first line; ``fixed`` is the address that answers once it is mended."""

    stage: str
    flow: str
    code: str
    packet: Packet
    fixed: str

    @property
    def asker(self) -> str:
        return str(self.packet.record["host"])

    def settled(self, evidence: Evidence) -> bool:
        """Answered, and by an internet that routes no private address (the lab's edge would answer anything)."""
        private = [f for f in evidence.at("host:enp4s0") if f.kind == "out" and f.packet["src"].startswith("10.10.1.")]
        return answered(self.asker, self.fixed).holds(evidence) and not private


def _question(stage: str, flow: str, code: str, host: str, dst: str, **keys: Any) -> Question:
    return Question(stage, flow, code, ping(host, dst, **keys), dst)


_TWICE = ("icmp 10.10.1.1 -> 8.8.8.8 at client", "client", "8.8.8.8")
_PRIVATE = ("114.114.114.114 at private", "private", "114.114.114.114")
_VM = ("192.168.100.1 -> 192.168.100.3", "vm01", "192.168.100.3")

BROKEN = [
    _question(stage, flow, code, host, dst)
    for stage, code, (flow, host, dst) in (
        ("twice-through-conntrack", "nat_decided_earlier", _TWICE),
        ("twice-through-conntrack.zone-reply", "nat_decided_earlier", _TWICE),
        ("twice-through-conntrack.zone-on-proxy-only", "zone_mismatch", _TWICE),
        ("twice-through-conntrack.wrong-prefix", "criterion_failed", _TWICE),
        ("private-namespace.no-route", "no_route", _PRIVATE),
        ("private-namespace.route", "ip_forward_disabled", _PRIVATE),
        ("private-namespace", "ip_forward_disabled", _PRIVATE),
        ("two-uplinks.nothing-set", "ip_forward_disabled", ("172.31.26.176 -> 203.0.113.9", "ec2b", "203.0.113.9")),
        ("nonexistent-address.nothing", "neighbour_failed", _VM),
        ("nonexistent-address.route", "neighbour_failed", _VM),
        ("nonexistent-address", "reply_bypasses_nat", _VM),
    )
]
SOUND = [
    _question(stage, flow, code, host, dst)
    for stage, code, (flow, host, dst) in (
        ("twice-through-conntrack.zones", "left_at_edge", _TWICE),
        ("twice-through-conntrack.zone-orig", "left_at_edge", _TWICE),
        ("private-namespace.forwarding", "left_at_edge", _PRIVATE),
        ("private-namespace.masquerade", "left_at_edge", _PRIVATE),
        ("two-uplinks", "delivered_local", ("172.31.26.176 -> 203.0.113.9", "ec2b", "203.0.113.9")),
        ("nonexistent-address.masquerade", "delivered_local", _VM),
        ("per-user-source", "delivered_local", ("8.8.8.8 uid userB at host", "host", "8.8.8.8")),
    )
]


def why(question: Question, *options: str) -> str:
    return said(question.flow, question.stage, *options)


@cache
def said(flow: str, stage: str, *options: str, status: int = 0) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        assert run(["why", flow, "-S", stage, *options]) == status
    return out.getvalue()


def fixes(question: Question) -> list[dict[str, Any]]:
    return list(json.loads(why(question, "--json"))["fixes"])


def shown(question: Question) -> list[dict[str, Any]]:
    """The fixes that the answer prints: two that work, one that does not."""
    found = fixes(question)
    return [f for f in found if f["result"] == "works"][:2] + [f for f in found if f["result"] != "works"][:1]


def commands(fix: dict[str, Any]) -> list[Command]:
    return [Command(step["host"], step["command"]) for step in fix["steps"]]


def named(question: Question) -> str:
    return question.stage


@pytest.mark.parametrize("question", [*BROKEN, *SOUND], ids=named)
def test_the_first_line_names_the_cause(question: Question) -> None:
    head = why(question).split("\n\n")[0]
    assert f"[{question.code}]" in head, head


@pytest.mark.parametrize("question", [*BROKEN, *SOUND], ids=named)
def test_the_answer_fits_a_screen(question: Question) -> None:
    lines = why(question).splitlines()
    pasted = [line for line in lines if "iptables" in line]  # a command is never broken
    assert len(lines) <= SCREEN
    assert all(len(line) <= WIDTH for line in lines if line not in pasted), "\n".join(lines)


@pytest.mark.parametrize("question", SOUND, ids=named)
def test_what_works_needs_no_fix(question: Question) -> None:
    assert fixes(question) == []


@pytest.mark.parametrize("question", BROKEN, ids=named)
def test_the_best_fix_cures_the_stage_when_it_is_simulated_anew(question: Question) -> None:
    best = fixes(question)[0]
    assert best["result"] == "works"
    evidence = predict(question.stage, [*commands(best), question.packet])
    assert question.settled(evidence), evidence.story


def test_the_two_passes_are_told_as_they_are() -> None:
    """Facts of the flagship: which rule, which pass decided, that the entry fixed it, and what would not help."""
    text = " ".join(why(BROKEN[0]).split())
    for words in (
        "NOT TRANSLATED: leaves host by enp4s0 as 10.10.1.1 → 8.8.8.8",
        "nat POSTROUTING 1 (MASQUERADE, host/iptables-save.txt:6) was never consulted",
        "crosses host twice in the same conntrack zone",
        "no match: -o enp4s0, but the output interface is proxy-veth0",
        "rule 100: from 10.10.1.0/24 iif client-veth0 → table 100",
        "iptables -t raw -A PREROUTING -i proxy-veth0 -s 10.10.1.0/24 -j CT --zone-orig 2",
        "iptables -t raw -A PREROUTING -i client-veth0 -j CT --zone 1",
        "iptables -t raw -A PREROUTING -i proxy-veth0 -d 10.10.1.0/24 -j CT --zone 1",
        "NOT iptables -t raw -A PREROUTING -i proxy-veth0 -j CT --zone 2",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("private-namespace", "sysctl -w net.ipv4.ip_forward=1"),
        ("nonexistent-address", "iptables -t nat -A POSTROUTING -o eth1 -s 192.168.100.0/24 -j MASQUERADE"),
        ("two-uplinks.nothing-set", "sysctl -w net.ipv4.ip_forward=1"),
        ("private-namespace.no-route", "ip route add default via 1.1.1.3"),
        ("twice-through-conntrack", "iptables -t raw -A PREROUTING -i client-veth0 -j CT --zone 1"),
    ],
)
def test_the_step_that_the_author_took_is_among_the_fixes_that_work(stage: str, command: str) -> None:
    question = next(q for q in BROKEN if q.stage == stage)
    good = [step.text for fix in fixes(question) if fix["result"] == "works" for step in commands(fix)]
    assert command in good


def test_a_containers_packet_is_said_to_have_no_owner() -> None:
    text = said(
        "172.17.0.2 -> 8.8.8.8 at container",
        "per-user-source",
        "--expect",
        "rule nat:POSTROUTING:2",
        "--no-fixes",
        status=1,
    )
    words = " ".join(text.split())
    assert "--uid-owner 1002, but" in words and "no socket" in words


def test_a_masquerading_router_is_in_the_answer() -> None:
    text = said("8.8.8.8 uid userB at host", "per-user-source.masquerading-router")
    assert "10.0.2.15 → 10.0.2.102" in text and "10.0.2.102 → 203.0.113.1" in text


def test_captures_are_listed_where_they_would_be_taken() -> None:
    """The write-up's three captures, both ways."""
    captures = json.loads(said("114.114.114.114 at private", "private-namespace.forwarding", "--json"))["captures"]
    text = [f"{c['host']}:{c['interface']} {c['packet']['src']} → {c['packet']['dst']}" for c in captures]
    assert text == [
        "private:veth1 1.1.1.2 → 114.114.114.114", "host:veth0 1.1.1.2 → 114.114.114.114", "host:eth0 192.168.38.116 → 114.114.114.114",
        "host:eth0 114.114.114.114 → 192.168.38.116", "host:veth0 114.114.114.114 → 1.1.1.2", "private:veth1 114.114.114.114 → 1.1.1.2",
    ]  # fmt: skip


def test_the_rule_for_ec2_b_can_be_tried_before_it_is_typed() -> None:
    rule = "from 172.31.26.176 lookup 10001 priority 32764 at nat"
    before = said("172.31.26.176 -> 203.0.113.9", "two-uplinks.forwarding", "-q")
    after = said("172.31.26.176 -> 203.0.113.9", "two-uplinks.forwarding", "-q", "--rule", rule)
    assert "54.178.213.178 →" in before and "54.178.197.195 →" in after


class TestOnTheKernel:
    """Each offered fix, typed into a fresh copy of the stage: what re-simulation said is what happens."""

    pytestmark = kernel

    @pytest.mark.parametrize("question", BROKEN, ids=named)
    def test_every_fix_does_what_is_said_of_it(self, question: Question) -> None:
        for fix in shown(question):
            with Bench(question.stage) as bench:
                for command in commands(fix):
                    bench.type(command)
                bench.exchange(question.packet.record)
                worked = question.settled(bench.evidence)
            assert worked == (fix["result"] == "works"), (
                fix["result"],
                fix["text"],
                fix["commands"],
                bench.evidence.captures,
            )
