"""ipset.txt: elements of every type as the keys that the set match looks up."""

from __future__ import annotations

import pytest
from nattrace.sim.errors import SnapshotError
from nattrace.sim.model.addr import AF_INET6, parse_addr
from nattrace.sim.snapshot.ipset import read_ipset
from nattrace.sim.snapshot.problems import Problems


def ip(text):
    return parse_addr(text)[1]


def keys(type_, element, options=""):
    problems = Problems()
    sets = read_ipset(f"create s {type_} {options}\nadd s {element}\n", "ipset.txt", problems)
    problems.finish()
    return list(sets["s"].elements)


@pytest.mark.parametrize(
    ("type_", "options", "element", "key"),
    (
        ("hash:ip", "", "10.0.0.1", (ip("10.0.0.1"),)),
        ("hash:ip", "family inet6", "2001:db8::1", (ip("2001:db8::1"),)),
        ("hash:ip", "", "10.0.0.0/8", ((ip("10.0.0.0"), ip("10.255.255.255")),)),
        ("hash:ip", "netmask 24", "10.0.0.77", (ip("10.0.0.0"),)),
        ("hash:mac", "", "02:00:00:00:00:01", (0x020000000001,)),
        ("hash:ip,mac", "", "10.0.0.1,02:00:00:00:00:01", (ip("10.0.0.1"), 0x020000000001)),
        ("hash:net", "", "10.1.2.3/16", ((ip("10.1.0.0"), 16),)),
        ("hash:net", "", "10.1.2.3", ((ip("10.1.2.3"), 32),)),
        ("hash:net,net", "", "1.0.0.0/8,2.0.0.0/8", ((ip("1.0.0.0"), 8), (ip("2.0.0.0"), 8))),
        ("hash:ip,port", "", "10.0.0.1,udp:53", (ip("10.0.0.1"), (17, 53))),
        ("hash:ip,port", "", "10.0.0.1,53", (ip("10.0.0.1"), (6, 53))),
        ("hash:ip,port", "", "10.0.0.1,icmp:echo-request", (ip("10.0.0.1"), (1, 0x0800))),
        ("hash:ip,port", "", "10.0.0.1,icmp:3/4", (ip("10.0.0.1"), (1, 0x0304))),
        ("hash:ip,port", "family inet6", "::1,ipv6-icmp:echo-request", (1, (58, 0x8000))),
        ("hash:ip,port", "", "10.0.0.1,99:0", (ip("10.0.0.1"), (99, 0))),
        ("hash:ip,port", "", "10.0.0.1,tcp:5-9", (ip("10.0.0.1"), (6, (5, 9)))),
        ("hash:net,port", "", "10.0.0.0/8,udplite:80", ((ip("10.0.0.0"), 8), (136, 80))),
        ("hash:ip,port,ip", "", "1.1.1.1,80,2.2.2.2", (ip("1.1.1.1"), (6, 80), ip("2.2.2.2"))),
        ("hash:ip,port,net", "", "1.1.1.1,80,2.2.2.0/24", (ip("1.1.1.1"), (6, 80), (ip("2.2.2.0"), 24))),
        ("hash:net,port,net", "", "1.0.0.0/8,80,2.2.2.0/24", ((ip("1.0.0.0"), 8), (6, 80), (ip("2.2.2.0"), 24))),
        ("hash:net,iface", "", "1.0.0.0/8,eth0", ((ip("1.0.0.0"), 8), "eth0")),
        ("hash:net,iface", "", "1.0.0.0/8,physdev:eth1", ((ip("1.0.0.0"), 8), "physdev:eth1")),
        ("hash:net,iface", "", "1.0.0.0/8,eth wildcard", ((ip("1.0.0.0"), 8), "eth*")),
        ("hash:ip,mark", "markmask 0xff", "1.1.1.1,0x110", (ip("1.1.1.1"), 0x10)),
        ("bitmap:ip", "range 10.0.0.0/24", "10.0.0.5", (ip("10.0.0.5"),)),
        ("bitmap:ip,mac", "range 10.0.0.0-10.0.0.255", "10.0.0.6", (ip("10.0.0.6"), None)),
        ("bitmap:port", "range 0-1024", "443", (443,)),
        ("list:set", "size 4", "other", ("other",)),
    ),
)  # fmt: skip
def test_the_key_of_one_element(type_, options, element, key):
    assert keys(type_, element, options) == [key]


def test_a_range_of_networks_is_covered_exactly():
    nets = [key[0] for key in keys("hash:net", "10.0.0.1-10.0.0.6")]
    assert nets == [(ip("10.0.0.1"), 32), (ip("10.0.0.2"), 31), (ip("10.0.0.4"), 31), (ip("10.0.0.6"), 32)]


def test_what_the_kernel_saved(data):
    sets = read_ipset(data("other/ipset.txt"), "ipset.txt", Problems())
    assert list(sets) == ["hip", "hip6", "hnet", "hipport", "hipport6", "hnetport", "hippip", "hippn", "hni", "bi", "bi2",
                          "bim", "bp", "we ird", 'q"q', "bk", "ls"]  # fmt: skip
    assert sets["hnet"].elements[(ip("10.1.0.0"), 16),].nomatch
    assert sets["hip"].options["timeout"] == 100 and sets["hip"].options["counters"] is True
    assert sets["hip6"].options["family"] == AF_INET6 and sets["bp"].options["range"] == (0, 1024)
    assert list(sets["ls"].elements) == [("hnet",), ("hip",)]
    assert len(sets["hipport"].elements) == 8 and str(sets["hip"].where) == "ipset.txt:1"


def test_the_options_of_an_element():
    text = (
        "create s hash:ip timeout 100 counters comment skbinfo\n"
        'add s 1.2.3.4 timeout 50 packets 3 bytes 4 comment "a b" skbmark 0x1/0xff skbprio 1:2 skbqueue 3\n'
        "add s 1.2.3.5 timeout 0\n"
        "add s 1.2.3.6\n"
    )
    one, two, three = read_ipset(text, "ipset.txt", Problems())["s"].elements.values()
    assert (one.timeout_at, one.counters, one.comment, one.skbmark, one.skbprio) == (
        50.0,
        (3, 4),
        "a b",
        (1, 255),
        (1, 2),
    )
    assert two.timeout_at is None and three.timeout_at == 100.0


def test_the_order_of_a_list():
    text = "create a hash:ip\ncreate l list:set\nadd l x\nadd l y before x\nadd l z after y\n"
    assert list(read_ipset(text, "f", Problems())["l"].elements) == [("y",), ("z",), ("x",)]


def test_every_bad_line_is_reported(world):
    with pytest.raises(SnapshotError, match=r"ipset\.txt:2: no set of the name 't'"):
        world({"ipset.txt": "create s hash:ip\nadd t 1.1.1.1\nadd s 1.1.1.1\n"})
