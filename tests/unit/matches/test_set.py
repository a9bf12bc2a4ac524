"""Sets: every kind answers as the kernel does; adding, removing, timeouts and counters."""

from __future__ import annotations

import pytest
from nattrace.sim.engine import ipset
from nattrace.sim.model.drawn import Domain
from nattrace.sim.snapshot.ipset import read_ipset
from nattrace.sim.snapshot.problems import Problems
from tables import SET_ROWS, SETS
from vocabulary import Bench, ip, packet


def bench(text=SETS, **fields):
    problems = Problems()
    sets = read_ipset(text, "ipset.txt", problems)
    made = Bench("PREROUTING", "eth0", None, sets=sets, **fields)
    return made


@pytest.mark.parametrize(("text", "skb", "wanted"), SET_ROWS, ids=[f"{r[0]}-{n}" for n, r in enumerate(SET_ROWS)])
def test_row(text, skb, wanted):
    assert bench().test(text, skb) is wanted


def elements(made, name):
    return made.hs.sets[name]


def add(made, name, skb, *directions, **fields):
    return ipset.add_entry(made.ctx(), name, skb, directions, **fields)


def test_added_elements_match_until_they_are_removed():
    made = bench("create s hash:ip,port family inet\n")
    skb = packet("udp", sport=5, dport=53)
    assert made.test("-m set --match-set s src,dst", skb) is False
    assert add(made, "s", skb, "src", "dst") is True
    assert add(made, "s", skb, "src", "dst") is False
    assert made.test("-m set --match-set s src,dst", skb) is True
    assert ipset.del_entry(made.ctx(), "s", skb, ("src", "dst")) is True
    assert ipset.del_entry(made.ctx(), "s", skb, ("src", "dst")) is False
    assert made.test("-m set --match-set s src,dst", skb) is False


def test_timeouts_run_with_the_clock_and_exist_renews_them():
    made = bench("create s hash:ip family inet timeout 10\nadd s 10.0.0.9 timeout 5\n")
    skb = packet("udp")
    add(made, "s", skb, "src")
    made.state.now = 8.0
    assert made.test("-m set --match-set s src", packet("udp", "10.0.0.9")) is False
    assert made.test("-m set --match-set s src", skb) is True
    assert add(made, "s", skb, "src") is False
    assert add(made, "s", skb, "src", timeout=20, exist=True) is True
    made.state.now = 27.0
    assert made.test("-m set --match-set s src", skb) is True
    made.state.now = 28.5
    assert made.test("-m set --match-set s src", skb) is False


def test_added_network_takes_the_longest_prefix_length_of_the_set():
    made = bench("create s hash:net family inet\nadd s 1.0.0.0/8\nadd s 1.2.3.0/24\n")
    add(made, "s", packet("udp", "10.0.0.77"), "src")
    assert (ip("10.0.0.0"), 24) in {key[0] for key in elements(made, "s")}
    made = bench("create s hash:net family inet\n")
    add(made, "s", packet("udp", "10.0.0.77"), "src")
    assert (ip("10.0.0.77"), 32) in {key[0] for key in elements(made, "s")}


def test_new_element_of_a_counting_set_has_counted_its_packet():
    made = bench("create s hash:ip family inet counters\n")
    add(made, "s", packet("udp", length=100), "src")
    assert elements(made, "s")[(ip("10.0.0.2"),)].counters == (1, 100)
    made.test("-m set --match-set s src", packet("udp", length=50))
    assert elements(made, "s")[(ip("10.0.0.2"),)].counters == (2, 150)


def test_full_set_and_bitmap_range_refuse():
    made = bench("create s hash:ip family inet maxelem 1\nadd s 1.1.1.1\ncreate b bitmap:ip range 10.0.0.0-10.0.0.1\n")
    assert add(made, "s", packet("udp"), "src") is False
    assert add(made, "b", packet("udp"), "src") is False
    assert add(made, "b", packet("udp", "10.0.0.1"), "src") is True


def test_list_adds_to_the_first_member_that_takes_it():
    made = bench("create a hash:ip family inet\ncreate b hash:ip family inet\ncreate l list:set\nadd l a\nadd l b\n")
    assert add(made, "l", packet("udp"), "src") is True
    assert add(made, "l", packet("udp"), "src") is True
    assert len(elements(made, "a")) == len(elements(made, "b")) == 1


def test_state_of_the_starting_world_is_never_changed():
    made = bench("create s hash:ip family inet\n")
    before = made.world.hosts["h"].sets["s"].elements
    add(made, "s", packet("udp"), "src")
    assert before == {}


def test_ranges_of_hand_written_files():
    made = bench("create s hash:ip,port family inet\nadd s 10.0.0.0/8,udp:50-60\n")
    assert made.test("-m set --match-set s src,dst", packet("udp", dport=53)) is True
    assert made.test("-m set --match-set s src,dst", packet("udp", dport=61)) is False
    assert made.test("-m set --match-set s dst,dst", packet("udp", dport=53)) is False


def test_mac_sets():
    made = bench(
        "create m hash:mac\nadd m 02:00:00:00:00:05\ncreate i hash:ip,mac family inet\nadd i 10.0.0.2,02:00:00:00:00:05\n"
    )
    assert made.test("-m set --match-set m src", packet("udp", mac_src=0x020000000005)) is True
    assert made.test("-m set --match-set m src", packet("udp", mac_src=0x020000000006)) is False
    assert made.test("-m set --match-set i src,src", packet("udp", mac_src=0x020000000005)) is True
    assert made.undecided("-m set --match-set m src", packet("udp"))


def test_bitmap_of_addresses_learns_the_mac():
    made = bench("create b bitmap:ip,mac range 10.0.0.0-10.0.0.255\nadd b 10.0.0.2\n")
    assert made.test("-m set --match-set b src,src", packet("udp", mac_src=5)) is True
    assert made.test("-m set --match-set b src,src", packet("udp", mac_src=6)) is False
    assert made.test("-m set --match-set b src,src", packet("udp", mac_src=5)) is True


def test_two_networks():
    made = bench(
        "create n hash:net,net family inet\nadd n 10.0.0.0/8,192.0.2.0/24\nadd n 10.0.0.0/24,192.0.0.0/8 nomatch\n"
    )
    assert made.test("-m set --match-set n src,dst", packet("udp", "10.1.0.2")) is True
    assert made.test("-m set --match-set n src,dst", packet("udp", "10.0.0.2")) is False
    assert made.test("-m set --match-set n dst,src", packet("udp", "10.1.0.2")) is False


def test_mark_set():
    made = bench("create k hash:ip,mark family inet markmask 0xff\nadd k 10.0.0.2,0x5\n")
    assert made.test("-m set --match-set k src,src", packet("udp", mark=0x105)) is True
    assert made.test("-m set --match-set k src,src", packet("udp", mark=0x106)) is False


def test_drawn_port_against_a_set():
    made = bench("create s hash:ip,port family inet\nadd s 10.0.0.2,udp:1030\nadd s 10.0.0.2,tcp:1031\n")
    skb = packet("udp", dport=53)
    skb.sport = made.state.draw("sport", Domain.of(1024, 1033))
    assert dict((a, p) for p, a in made.outcomes("-m set --match-set s src,src", skb)) == {
        True: pytest.approx(0.1),
        False: pytest.approx(0.9),
    }
    assert made.test("-m set --match-set s src,dst", skb) is False


def test_wildcard_interface():
    made = bench("create s hash:net,iface family inet\nadd s 10.0.0.0/8,eth wildcard\n")
    assert made.test("-m set --match-set s src,src", packet("udp")) is True
    assert made.test("-m set --match-set s dst,src", packet("udp")) is False


def test_adding_an_unknown_mac_leaves_the_set_alone():
    made = bench("create m hash:mac\n")
    assert add(made, "m", packet("udp"), "src") is False
    assert ipset.find(made.ctx(), "m", packet("udp"), ("src",)) is None


def test_find_gives_the_element_for_a_mapping():
    made = bench(
        "create s hash:net family inet skbinfo\nadd s 10.0.0.0/8 skbmark 0x5/0xff\nadd s 10.0.0.0/30 nomatch\n"
    )
    assert ipset.find(made.ctx(), "s", packet("udp", "10.1.0.1"), ("src",)).skbmark == (5, 255)
    assert ipset.find(made.ctx(), "s", packet("udp", "10.0.0.2"), ("src",)) is None
