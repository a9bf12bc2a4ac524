"""Taps lie between chains: every chain has one behind it, the first one in front, and none is set twice."""

from __future__ import annotations

import random

import pytest
from nattrace.tracer.live import netns
from nattrace.tracer.live.event import AF_INET, AF_INET6
from nattrace.tracer.live.plan import CONNTRACK, FWD, IN, LAST, OUT, POST, PRE, Chain, Chains, Slot, candidates, slots
from nattrace.tracer.live.probes import kprobes

HERE = netns.Namespace("here", "/proc/self/ns/net")


def chains(*rows: tuple[int, int], conntrack: bool = True) -> Chains:
    """Chains of IPv4 at (hook, priority), and conntrack."""
    found = [Chain(AF_INET, hook, prio, "t", f"c{prio}", "nft") for hook, prio in rows]
    if conntrack:
        found += [Chain(AF_INET, hook, CONNTRACK, "", "conntrack", "kernel") for hook in (PRE, OUT)]
    return Chains(found)


def wanted(found: list[Slot], hook: int) -> list[int]:
    return [slot.wanted for slot in found if slot.hook == hook and slot.pf == AF_INET]


def test_without_chains_an_entry_and_an_end_are_told() -> None:
    found = slots(HERE, chains(), (AF_INET,))
    assert [(slot.hook, slot.wanted) for slot in found] == [(PRE, -199), (IN, LAST), (OUT, -199), (POST, LAST)]


def test_between_two_chains_lies_one_tap() -> None:
    found = slots(HERE, chains((PRE, -300), (PRE, -150), (PRE, -100), (FWD, 0)), (AF_INET,))
    assert wanted(found, PRE) == [-301, -299, -199, -149, -99]
    assert wanted(found, FWD) == [-1, 1]


def test_postrouting_needs_no_tap_in_front_where_forward_and_output_end_with_one() -> None:
    assert wanted(slots(HERE, chains((FWD, 0), (POST, 100)), (AF_INET,)), POST) == [101]
    assert wanted(slots(HERE, chains((POST, 100)), (AF_INET,)), POST) == [99, 101]


def test_chains_without_room_between_them_are_said_to_be() -> None:
    found = [slot for slot in slots(HERE, chains((FWD, 5), (FWD, 6)), (AF_INET,)) if slot.hook == FWD]
    assert [slot.state for slot in found] == ["planned", "taken", "planned"]
    assert "no priority" in found[1].note


def test_families_are_planned_apart() -> None:
    both = chains((FWD, 0))
    both.chains.append(Chain(AF_INET6, FWD, 10, "t", "six", "nft"))
    found = slots(HERE, both)
    assert [(slot.pf, slot.wanted) for slot in found if slot.hook == FWD] == [
        (AF_INET, -1),
        (AF_INET, 1),
        (AF_INET6, 9),
        (AF_INET6, 11),
    ]


@pytest.mark.parametrize("seed", range(30))
def test_every_chain_is_bracketed_and_candidates_stay_inside(seed: int) -> None:
    rng = random.Random(seed)
    rows = [(hook, rng.randrange(-400, 400)) for hook in range(5) for _ in range(rng.randrange(5))]
    found = slots(HERE, chains(*rows), (AF_INET,))
    for hook, prio in rows:
        behind = [slot for slot in found if slot.hook == hook and any(c.prio == prio for c in slot.after)]
        assert len(behind) == 1
        if behind[0].state == "planned":
            assert behind[0].low == prio < behind[0].wanted < behind[0].high
    for slot in found:
        if slot.state == "planned":
            tried = list(candidates(slot))
            assert tried[0] == slot.wanted
            assert len(set(tried)) == len(tried)
            assert all(slot.low < prio < slot.high for prio in tried)
    places = [(slot.hook, slot.wanted) for slot in found if slot.state == "planned"]
    assert len(set(places)) == len(places)


def test_kprobes_owe_what_links_would_tell() -> None:
    nat = Chains([*chains((PRE, -150), (FWD, 0)).chains, Chain(AF_INET, PRE, -100, "nat", "p", "nft", True)])
    planned = slots(HERE, nat, (AF_INET,))
    owed = {kprobes.PLACE.unpack(key): kprobes.OWED.unpack(value) for key, value in kprobes.places(planned).items()}
    inum = HERE.inum
    assert owed[inum, 0, AF_INET, PRE, kprobes.CONN] == (0, -199, kprobes.WANT_RETURN)
    assert owed[inum, -150, AF_INET, PRE, kprobes.TABLE] == (0, -149, kprobes.WANT_RETURN)
    assert owed[inum, 0, AF_INET, PRE, kprobes.NAT] == (0, -99, kprobes.WANT_RETURN)
    assert owed[inum, 0, AF_INET, FWD, kprobes.TABLE] == (-1, 1, kprobes.WANT_ENTRY | kprobes.WANT_RETURN)
    assert owed[inum, 0, AF_INET, POST, kprobes.CONFIRM] == (LAST, 0, kprobes.WANT_ENTRY)
    assert len(owed) == len(planned) - 1, "FORWARD's two are one place"
