"""Entries that keep an old translation: recognised by playing without them, and deleted by the very command that is offered."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from lab_support import kernel, unique_prefix
from nattrace.sim.explain.answer import Explanation, explain
from nattrace.sim.explain.parts import WORKS
from nattrace.sim.explain.whatif import ConntrackDelete, RuleEdit, apply_all
from nattrace.sim.flow import parse_flow
from nattrace.sim.model.world import World
from nattrace.sim.render.schema import why as why_schema
from nattrace.sim.render.text import render
from nattrace.sim.snapshot.conntrack import read_conntrack
from nattrace.sim.snapshot.load import load_world
from nattrace.sim.snapshot.problems import Problems

from ...smallest.broken import sound

OFFICE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "office"
DNS = "udp 10.0.0.2:40000 -> 9.9.9.9:53 at client"
PUBLISHED = "udp 192.0.2.9:4000 -> 203.0.113.2:5300 in eth1 at router"
OPEN = RuleEdit("router", "-I FORWARD -p udp -j ACCEPT")


def entry(src: str, sport: int, dst: str, dport: int, by: str, back: str, more: str = "") -> str:
    """A line of ``conntrack -L -o extended``: answered by ``by``, whose answers go to ``back``."""
    return (
        f"ipv4     2 udp      17 25 src={src} dst={dst} sport={sport} dport={dport} "
        f"src={by} dst={back} sport={dport} dport={sport} [ASSURED] mark=0 {more}use=1"
    )


def with_entries(world: World, *lines: str) -> World:
    conns = read_conntrack("\n".join(lines), "conntrack.txt", Problems())[None]
    assert len(conns) == len(lines)
    host = world.hosts["router"]
    return world.with_host(host.with_(conns=conns, files=host.files | {"conntrack"}))


def asked(flow: str, world: World) -> Explanation:
    return explain(world, parse_flow(flow, world), sample=0)


def test_an_uplink_that_is_not_used_any_more() -> None:
    """Failover: translated to eth3's address by SNAT, the route leads out of eth1 now (MASQUERADE would notice)."""
    rules = [RuleEdit("router", f"-t nat -I POSTROUTING -o {dev} -j SNAT --to-source {address}")
             for dev, address in (("eth1", "203.0.113.2"), ("eth3", "198.51.100.2"))]  # fmt: skip
    world = with_entries(apply_all(sound(), rules), entry("10.0.0.2", 40000, "9.9.9.9", 53, "9.9.9.9", "198.51.100.2"))
    (stale,) = asked(DNS, world).stale
    assert "198.51.100.2 → 9.9.9.9:53 by eth1" in stale.old and "203.0.113.2 → 9.9.9.9:53 by eth1" in stale.new
    assert stale.edit.commands() == ["conntrack -D -p udp -s 10.0.0.2 -d 9.9.9.9 --sport 40000 --dport 53"]
    assert (stale.hits, stale.wider_hits) == (0, 1)


def test_a_target_that_the_rules_have_left_is_named_though_the_flow_gets_through() -> None:
    """DNAT changed from one server to another: the steady sender still reaches the old one."""
    old = {"conntrack": OFFICE / "conntrack-old.txt"}
    world = load_world(OFFICE / "router", single_files=old)
    found = asked("udp 198.51.100.9:4000 -> 198.51.100.1:8053 in eth0", world)
    (stale,) = found.stale
    assert "192.168.1.9:53" in stale.old and "192.168.1.7:53" in stale.new
    assert (
        stale.wider == "conntrack -D -p udp -d 198.51.100.1 --dport 8053 --reply-src 192.168.1.9"
        and stale.wider_hits == 3
    )
    document = found.to_json()
    jsonschema.validate(document, why_schema())
    assert document["stale_entries"][0]["other_entries_hit"] == 0 and document["stale_entries"][0]["wider_hits"] == 3
    commands = [c for f in found.fixes if f.result == WORKS for _, c in f.steps()]
    assert commands == [stale.edit.commands()[0], stale.wider]
    assert "2 other entries keep the old translation" in " ".join(render(found, width=200).split())


def test_an_entry_as_the_rules_would_make_it_is_not_stale() -> None:
    world = with_entries(sound(), entry("10.0.0.2", 40000, "9.9.9.9", 53, "9.9.9.9", "203.0.113.2"))
    assert asked(DNS, world).stale == []


def test_a_choice_that_the_kernel_draws_is_not_stale() -> None:
    rule = "-t nat -A PREROUTING -i eth1 -p udp --dport 5300"
    draws = [
        RuleEdit("router", f"{rule} -m statistic --mode random --probability 0.5 -j DNAT --to-destination 10.0.1.2"),
        RuleEdit("router", f"{rule} -j DNAT --to-destination 10.0.1.4"),
    ]
    world = with_entries(
        apply_all(sound(), [*draws, OPEN]), entry("192.0.2.9", 4000, "203.0.113.2", 5300, "10.0.1.4", "192.0.2.9")
    )
    assert asked(PUBLISHED, world).stale == []


def test_the_deletion_is_a_fix_that_says_what_else_it_hits() -> None:
    untranslated = entry("10.0.0.2", 40000, "9.9.9.9", 53, "9.9.9.9", "10.0.0.2")
    found = asked(DNS, with_entries(sound(), untranslated, untranslated.replace("use=1", "zone=5 use=1")))
    best = next(f for f in found.fixes if f.result == WORKS)
    assert isinstance(best.edits[0], ConntrackDelete) and "hits 1 other entry" in best.text


class TestConntrackTool:
    """The command deletes on the kernel exactly what is said: conntrack 1.4.7, entries of every kind side by side."""

    pytestmark = kernel
    FLOW = "-s 10.0.0.2 -d 9.9.9.9"
    OLD = "--reply-src 10.0.1.77 --reply-dst 10.0.0.2 --reply-port-src 53"
    UDP = f"-p udp {FLOW} --sport 5 --dport 53"
    ENTRIES = (
        UDP, f"{UDP} --zone 3", f"-p udp {FLOW} --sport 7 --dport 53", f"-p udp {FLOW} --sport 8 --dport 53 --orig-zone 4",
        f"-p udp {FLOW} --sport 9 --dport 53 --reply-zone 6", f"-p tcp {FLOW} --sport 5 --dport 80 --state ESTABLISHED",
        f"-p icmp {FLOW} --icmp-type 8 --icmp-code 0 --icmp-id 77", f"-p gre {FLOW} --srckey 0x1 --dstkey 0x2",
        f"-p gre {FLOW} --srckey 0x1 --dstkey 0x3", f"-p 99 {FLOW}", f"-p sctp {FLOW} --sport 5 --dport 80 --state ESTABLISHED "
        "--orig-vtag 1 --reply-vtag 1", f"-p udp {FLOW} --sport 10 --dport 53 {OLD} --reply-port-dst 10",
        f"-p udp {FLOW} --sport 11 --dport 53 {OLD} --reply-port-dst 11",
    )  # fmt: skip

    @pytest.fixture
    def netns(self) -> Iterator[str]:
        name = unique_prefix("qxct")
        subprocess.run(["ip", "netns", "add", name], check=True)
        yield name
        subprocess.run(["ip", "netns", "del", name], check=True)

    def tool(self, netns: str, command: str) -> str:
        words = ["ip", "netns", "exec", netns, *shlex.split(command)]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def fill(self, netns: str) -> World:
        for words in self.ENTRIES:
            self.tool(netns, f"conntrack -I {words} --timeout 300")
        return with_entries(sound(), *self.tool(netns, "conntrack -L -o extended,id").splitlines())

    def test_each_entry_is_deleted_by_its_command_with_the_others_that_are_said(self, netns: str) -> None:
        world = self.fill(netns)
        assert len(world.hosts["router"].conns) == len(self.ENTRIES)
        for conn in world.hosts["router"].conns:
            edit = ConntrackDelete("router", conn.tuples[0], *conn.zones)
            gone = self.tool(netns, edit.commands()[0]).splitlines()
            assert len(gone) == edit.hits(world), (edit.commands(), gone)
            self.tool(netns, "conntrack -F")
            world = self.fill(netns)

    def test_the_wider_command_deletes_all_with_the_old_translation(self, netns: str) -> None:
        from nattrace.sim.explain.stale import wider_command

        world = self.fill(netns)
        conn = next(c for c in world.hosts["router"].conns if c.tuples[0].sport == 10)
        gone = self.tool(netns, wider_command(conn)).splitlines()
        assert sorted(line.split("sport=")[1].split()[0] for line in gone) == ["10", "11"]
