"""A full connection table: who fills it, and what makes room; each command deletes on the kernel what is said here."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_support import kernel, unique_prefix
from nattrace.sim.explain.answer import Explanation, explain
from nattrace.sim.explain.full import LIMIT, DeleteGroup, Group, groups
from nattrace.sim.explain.parts import FAILS, WORKS
from nattrace.sim.explain.whatif import RuleEdit, SetSysctl
from nattrace.sim.flow import parse_flow
from nattrace.sim.model.world import Setting, World
from nattrace.sim.snapshot.conntrack import read_conntrack
from nattrace.sim.snapshot.load import load_world
from nattrace.sim.snapshot.problems import Problems

HOME = Path(__file__).resolve().parents[3] / "docs" / "causes" / "conntrack-full"
FLOW = "tcp 10.0.0.2:40000 -> 198.51.100.7:443 at client"


def entry(src: str, sport: int, dst: str = "192.0.2.1", state: str = "ESTABLISHED", flags: str = "[ASSURED] ") -> str:
    return (
        f"ipv4 2 tcp 6 9000 {state} src={src} dst={dst} sport={sport} dport=443 src={dst} dst={src} sport=443 "
        f"dport={sport} {flags}mark=0 use=1"
    )


def full(*lines: str, rules: bool = True, netns: str | None = None) -> World:
    """The page's router with these entries and no room for another; ``rules`` False: it only routes, with tracking on."""
    world = load_world(HOME / "snapshot")
    conns = read_conntrack("\n".join(lines), "conntrack.txt", Problems())[None]
    assert len(conns) == len(lines)
    router = world.hosts["router"]
    sysctl = router.sysctl | {LIMIT: Setting(str(len(lines)))}
    world = world.with_host(router.with_(conns=conns, sysctl=sysctl, meta=router.meta | {"netns": netns}))
    if rules:
        return world
    router = world.hosts["router"]
    world = world.with_host(router.with_(tables=tuple(t for t in router.tables if t.name != "nat")))
    return RuleEdit("router", "-A FORWARD -m conntrack --ctstate INVALID -j DROP").apply(world)


def asked(world: World) -> Explanation:
    return explain(world, parse_flow(FLOW, world), sample=0)


def offered(answer: Explanation) -> list[str]:
    return [command for f in answer.fixes if f.result == WORKS for _, command in f.steps()]


def test_the_limit_is_raised_where_it_can_be() -> None:
    lines = [entry("10.0.0.66", n) for n in range(1, 41)]
    commands = offered(asked(full(*lines)))
    assert commands == [f"sysctl -w {LIMIT}=80", "conntrack -D -s 10.0.0.66"]
    inside = asked(full(*lines, netns="router"))
    assert offered(inside) == ["conntrack -D -s 10.0.0.66"]
    assert "initial namespace" in inside.diagnosis[0].text and "40 are of 10.0.0.66" in inside.diagnosis[0].text


def test_a_shorter_timeout_is_said_to_come_too_late() -> None:
    fails = [f for f in asked(full(*(entry("10.0.0.66", n) for n in range(1, 9)))).fixes if f.result == FAILS]
    assert [e for f in fails for e in f.edits] == [
        SetSysctl("router", "net.netfilter.nf_conntrack_tcp_timeout_established", "3600")
    ]
    assert fails[0].text.startswith("counts for entries made or refreshed from now on")


def test_connections_that_have_ended_go_first() -> None:
    lines = [entry(f"10.0.0.{n}", n, state="TIME_WAIT" if n % 2 else "ESTABLISHED") for n in range(3, 43)]
    commands = offered(asked(full(*lines, netns="router")))
    assert commands[0] == "conntrack -D -f ipv4 -p tcp --state TIME_WAIT"
    assert commands[1] == "conntrack -D -p tcp -d 192.0.2.1 --dport 443"


def test_entries_of_everybody_name_nobody() -> None:
    lines = [entry(f"10.0.0.{n}", n, f"192.0.2.{n}") for n in range(3, 83)]
    world = full(*lines, netns="router")
    assert groups(world.hosts["router"].conns) == []
    answer = asked(world)
    assert answer.diagnosis[0].code == "conntrack_full" and "are of" not in answer.diagnosis[0].text


def test_a_flow_that_is_only_routed_needs_no_entry() -> None:
    world = full(*(entry(f"10.0.0.{n}", n, f"192.0.2.{n}") for n in range(3, 83)), rules=False, netns="router")
    answer = explain(world, parse_flow("203.0.113.9 -> 10.0.0.2 in eth1 at router", world), sample=0)
    assert answer.diagnosis[0].code == "conntrack_full"
    assert offered(answer)[:2] == [
        "iptables -t raw -A PREROUTING -s 203.0.113.9 -d 10.0.0.2 -p icmp -j CT --notrack",
        "iptables -t raw -A PREROUTING -s 10.0.0.2 -d 203.0.113.9 -p icmp -j CT --notrack",
    ]


def test_an_entry_that_is_not_assured_may_be_evicted() -> None:
    """early_drop(): eight buckets are looked at, so it is a matter of chance; the answer is a set, and not 'dropped'."""
    lines = [entry("10.0.0.66", n, flags="" if n < 3 else "[ASSURED] ") for n in range(1, 41)]
    leaves = asked(full(*lines)).trial.forward.leaves
    assert {leaf.outcome for leaf in leaves} == {"dropped", "left"}


class TestOnTheKernel:
    """``conntrack -D`` of each kind of group hits exactly the entries that the group has."""

    pytestmark = kernel

    @pytest.mark.parametrize(
        ("group", "count"),
        [
            (Group(2, src=0x0A000042), 3),
            (Group(2, 6, state="TIME_WAIT"), 2),
            (Group(2, 6, dst=0xC0000202, dport=443), 2),
            (Group(2, 17, dst=0xC0000202, dport=443), 1),
            (Group(10, src=0xFD << 120 | 1), 2),
            (Group(10, 6, state="TIME_WAIT"), 1),
        ],
        ids=str,
    )
    def test_what_is_said_is_deleted(self, netns: str, group: Group, count: int) -> None:
        before = entries(netns)
        (command,) = DeleteGroup("router", group).commands()
        tool(netns, command)
        assert len(before) - len(entries(netns)) == count, command
        assert sum(1 for c in full(*before).hosts["router"].conns if group.has(c)) == count


ENTRIES = (
    "-p tcp -s 10.0.0.66 -d 192.0.2.1 --sport 1 --dport 443 --state ESTABLISHED",
    "-p tcp -s 10.0.0.66 -d 192.0.2.2 --sport 2 --dport 443 --state TIME_WAIT",
    "-p udp -s 10.0.0.66 -d 192.0.2.2 --sport 2 --dport 443",
    "-p tcp -s 10.0.0.67 -d 192.0.2.2 --sport 3 --dport 443 --state TIME_WAIT",
    "-p tcp -s 10.0.0.67 -d 192.0.2.2 --sport 4 --dport 80 --state ESTABLISHED",
    "-p tcp -s fd00::1 -d fd00::2 --sport 5 --dport 443 --state TIME_WAIT",
    "-p udp -s fd00::1 -d fd00::2 --sport 5 --dport 443",
)


@pytest.fixture
def netns() -> Iterator[str]:
    name = unique_prefix("qxfl")
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for words in ENTRIES:
            tool(name, f"conntrack -I {words} --timeout 300")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def tool(netns: str, command: str) -> str:
    words = ["ip", "netns", "exec", netns, *shlex.split(command)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def entries(netns: str) -> list[str]:
    both = [tool(netns, f"conntrack -L -f {family} -o extended") for family in ("ipv4", "ipv6")]
    return [line for text in both for line in text.splitlines()]


def test_a_group_is_named_in_words() -> None:
    assert str(Group(2, src=0x0A000042)) == "of 10.0.0.66"
    assert str(Group(2, 6, dst=0xC0000202, dport=443)) == "to 192.0.2.2:443"
    assert str(Group(2, 6, state="TIME_WAIT")) == "in state TIME_WAIT"
