"""What-if edits change a copy, refuse what the tools would refuse, and know their commands."""

from __future__ import annotations

import nattrace as nt
import pytest
from nattrace.sim.errors import InputError
from nattrace.sim.explain.whatif import RuleEdit, SetSysctl, apply_all, parse_edits, sysctl_name
from nattrace.sim.explain.whatif_ip import parse_fib_rule, parse_route
from nattrace.sim.model.world import World
from nattrace.sim.snapshot.load import load_world

FLOW = "114.114.114.114 at private"


@pytest.fixture(scope="module")
def world() -> World:
    return load_world("private-namespace")


def test_a_sysctl_flips_the_answer_and_the_snapshot_stays(world: World) -> None:
    snapshot = nt.load("private-namespace")
    assert snapshot.why(FLOW, set="net.ipv4.ip_forward=1 at host").diagnosis == []
    assert snapshot.why(FLOW).code == "ip_forward_disabled"


def test_ip_forward_is_copied_to_every_interface(world: World) -> None:
    changed = SetSysctl("host", "net.ipv4.ip_forward", "1").apply(world).hosts["host"]
    assert changed.sysctl["net.ipv4.conf.veth0.forwarding"].value == "1"
    assert world.hosts["host"].sysctl["net.ipv4.conf.veth0.forwarding"].value == "0"


def test_writing_the_value_it_has_copies_nothing(world: World) -> None:
    on = SetSysctl("host", "net.ipv4.ip_forward", "1").apply(world)
    off = SetSysctl("host", "net.ipv4.conf.veth0.forwarding", "0").apply(on)
    again = SetSysctl("host", "net.ipv4.ip_forward", "1").apply(off)
    assert again.hosts["host"].sysctl["net.ipv4.conf.veth0.forwarding"].value == "0"


def test_names_of_sysctls_may_be_written_with_slashes() -> None:
    assert sysctl_name("net/ipv4/conf/eth0.1/rp_filter") == "net.ipv4.conf.eth0/1.rp_filter"


def chain(world: World, text: str) -> list[str]:
    table = next(t for t in apply_all(world, [RuleEdit("host", text)]).hosts["host"].tables if t.name == "nat")
    return [rule.text for rule in table.all_rules()]


def test_rules_are_added_inserted_replaced_and_deleted(world: World) -> None:
    (snat,) = chain(world, "-t nat -P INPUT ACCEPT")
    assert chain(world, "-t nat -A POSTROUTING -j MASQUERADE") == [snat, "-j MASQUERADE"]
    assert chain(world, "-t nat -I POSTROUTING -j MASQUERADE") == ["-j MASQUERADE", snat]
    assert chain(world, "-t nat -R POSTROUTING 1 -j MASQUERADE") == ["-j MASQUERADE"]
    assert chain(world, "-t nat -D POSTROUTING 1") == []
    assert chain(world, f"-t nat -D POSTROUTING {snat}") == []


@pytest.mark.parametrize(
    "text",
    ["-t nat -D POSTROUTING -j MASQUERADE", "-t nat -D POSTROUTING 9", "-t nat -A NOWHERE -j ACCEPT", "-t foo -A INPUT -j ACCEPT",
     "-t nat -A POSTROUTING -j NOSUCHTARGET --x", "-A INPUT -p tcp --dport", "-A INPUT 'unclosed", "POSTROUTING", "-t nat -P INPUT QUEUE"],
)  # fmt: skip
def test_what_iptables_would_refuse_is_an_error(world: World, text: str) -> None:
    with pytest.raises(InputError):
        chain(world, text)


def test_a_route_finds_its_device(world: World) -> None:
    route = parse_route(world.hosts["private"], "default via 1.1.1.3")
    assert route.nexthops[0].dev == "veth1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "default",
        "10.0.0.0/33 dev veth1",
        "default via 9.9.9.9",
        "default dev nosuch",
        "default via",
        "10.0.0.0/8 foo bar",
    ],
)
def test_routes_that_ip_would_refuse_are_errors(world: World, text: str) -> None:
    with pytest.raises(InputError):
        parse_route(world.hosts["private"], text)


def test_a_policy_rule_without_priority_goes_before_main(world: World) -> None:
    assert parse_fib_rule(world.hosts["host"], "from 1.1.1.0/24 lookup 100").priority == 32765


@pytest.mark.parametrize("text", ["from 1.1.1.1", "lookup nosuch", "from x lookup 5", "fwmark z lookup 5"])
def test_policy_rules_that_ip_would_refuse_are_errors(world: World, text: str) -> None:
    with pytest.raises(InputError):
        parse_fib_rule(world.hosts["host"], text)


def test_the_host_of_an_edit_is_said_or_that_of_the_flow(world: World) -> None:
    edits = parse_edits(world, {"set": ["net.ipv4.ip_forward=1 at host", "net.ipv4.ip_forward=0"]}, "private")
    assert [e.host for e in edits] == ["host", "private"]


def test_a_file_can_be_left_out() -> None:
    result = nt.load("private-namespace.forwarding").why(FLOW, without="host/iptables-save.txt")
    assert result.code == "private_source_leaves"


@pytest.mark.parametrize(
    "options", [{"set": ["nonsense"]}, {"without": ["nosuch.txt"]}, {"add": ["-j ACCEPT"]}, {"set": ["a=b at mars"]}]
)
def test_edits_that_make_no_sense_are_errors(world: World, options: dict[str, list[str]]) -> None:
    with pytest.raises(InputError):
        apply_all(world, parse_edits(world, options, "host"))


def test_a_policy_rule_is_deleted_by_as_much_of_it_as_is_named() -> None:
    world = load_world("twice-through-conntrack")

    def left(text: str) -> list[int]:
        edits = parse_edits(world, {"rule": [text]}, "host")
        return [rule.priority for rule in apply_all(world, edits).hosts["host"].rules[2]]

    assert left("del priority 102") == [0, 100, 101, 32766, 32767]
    assert left("ip rule del pref 100") == [0, 101, 102, 32766, 32767]
    assert left("del to 10.10.1.0/24 iif proxy-veth0") == [0, 100, 102, 32766, 32767]
    assert left("del lookup 101") == [0, 100, 102, 32766, 32767]
    for wrong in ("del priority 7", "del from 9.9.9.9", "del"):
        with pytest.raises(InputError):
            left(wrong)
