"""Matches that ask the host: sockets' owners, addresses, devices, clock, bridge ports, routes."""

from __future__ import annotations

import pytest
from nattrace.sim.model.addr import AF_INET, Prefix
from nattrace.sim.model.drawn import Domain
from nattrace.sim.model.packet import NfBridge
from nattrace.sim.model.route import Address, Nexthop, Route
from vocabulary import Bench, criterion, ip, link, local, packet


@pytest.mark.parametrize(
    ("text", "user", "kernel", "forwarded"),
    [
        ("--uid-owner 1000", True, False, False),
        ("--uid-owner 0-999", False, False, False),
        ("! --uid-owner 1000", False, True, True),
        ("! --uid-owner 0", True, True, True),
        ("--gid-owner 100", True, False, False),
        ("! --gid-owner 100", False, True, True),
        ("--socket-exists", True, True, False),
        ("! --socket-exists", False, False, True),
        ("--socket-exists ! --uid-owner 0", True, True, False),
        ("! --uid-owner 0 ! --gid-owner 0", True, True, True),
        ("! --uid-owner 0 --gid-owner 100", True, False, False),
    ],
)
def test_owner_of_a_users_packet_a_kernel_packet_and_a_forwarded_one(text, user, kernel, forwarded):
    """xt_owner.c: (match ^ invert) decides without a socket; a kernel socket has no file to ask."""
    sockets = (local(1000, 100), local(has_file=False), None)
    answers = [Bench("POSTROUTING", None, "eth1").test(f"-m owner {text}", packet("udp", sk=sk)) for sk in sockets]
    assert answers == [user, kernel, forwarded]


def test_supplementary_groups_are_not_in_a_snapshot():
    bench = Bench("OUTPUT", None, "eth1")
    assert bench.test("-m owner --gid-owner 5 --suppl-groups", packet("udp", sk=local(1, 5))) is True
    assert bench.undecided("-m owner --gid-owner 6 --suppl-groups", packet("udp", sk=local(1, 5)))
    assert bench.test("-m owner --gid-owner 6 --suppl-groups", packet("udp")) is False


@pytest.mark.parametrize(
    ("text", "own", "wanted"),
    [
        ("--path /", "/user.slice/a", True),
        ("--path /user.slice", "/user.slice/a", True),
        ("--path user.slice", "/user.slice", True),
        ("--path /user", "/user.slice", False),
        ("! --path /system.slice", "/user.slice", True),
    ],
)
def test_cgroup_path(text, own, wanted):
    bench = Bench("OUTPUT", None, "eth1")
    assert bench.test(f"-m cgroup {text}", packet("udp", sk=local(cgroup=own))) is wanted
    assert bench.test(f"-m cgroup {text}", packet("udp")) is False


def test_cgroup_that_nobody_said_is_undecided():
    bench = Bench("OUTPUT", None, "eth1")
    assert bench.undecided("-m cgroup --path /a", packet("udp", sk=local()))
    assert bench.undecided("-m cgroup --cgroup 5", packet("udp", sk=local()))


def home(**fields):
    net = Prefix(AF_INET, ip("10.0.0.0"), 24)
    table = 255
    routes = (
        Route(Prefix(AF_INET, ip("10.0.0.1"), 32), table, "local", (Nexthop("eth0"),), scope=254),
        Route(Prefix(AF_INET, ip("10.0.0.255"), 32), table, "broadcast", (Nexthop("eth0"),), scope=253),
        Route(Prefix(AF_INET, ip("127.0.0.0"), 8), table, "local", (Nexthop("lo"),), scope=254),
    )
    main = (Route(net, 254, "unicast", (Nexthop("eth0"),), scope=253),)
    addresses = (Address(AF_INET, "eth0", ip("10.0.0.1"), 24, broadcast=ip("10.0.0.255")),)
    files = frozenset(("route", "addr", "link", "rule"))
    return Bench("PREROUTING", "eth0", None, addresses=addresses, files=files,
                 routes={(AF_INET, 255): routes, (AF_INET, 254): main}, **fields)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("--dst-type LOCAL", True),
        ("! --dst-type LOCAL", False),
        ("--src-type LOCAL", False),
        ("--src-type UNICAST", True),
        ("--src-type UNICAST --dst-type LOCAL,BROADCAST", True),
        ("! --src-type UNICAST --dst-type LOCAL", False),
    ],
)
def test_address_type(text, wanted):
    assert home().test(f"-m addrtype {text}", packet("udp", "10.0.0.7", "10.0.0.1")) is wanted


def test_address_type_of_broadcast_and_multicast():
    assert home().test("-m addrtype --dst-type BROADCAST", packet("udp", dst="10.0.0.255")) is True
    assert home().test("-m addrtype --dst-type MULTICAST", packet("udp", dst="224.1.2.3")) is True


def test_rpfilter_passes_the_way_back_and_its_inversion_does_not():
    near, far = packet("udp", "10.0.0.7", "10.0.0.1"), packet("udp", "172.16.0.1", "10.0.0.1")
    assert home().test("-m rpfilter", near) is True
    assert home().test("-m rpfilter --invert", near) is False
    assert home().test("-m rpfilter", far) is False
    assert home().test("-m rpfilter --invert", far) is True
    broadcast = packet("udp", "0.0.0.0", "255.255.255.255")
    assert home().test("-m rpfilter", broadcast) is True


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("--timestart 10:00 --timestop 11:00", True),
        ("--timestart 11:00 --timestop 12:00", False),
        ("--timestart 22:00 --timestop 10:45", True),
        ("--timestart 22:00 --timestop 10:00", False),
        ("--weekdays Tue", True),
        ("! --weekdays Tue", False),
        ("--monthdays 14,15", True),
        ("--monthdays 1", False),
        ("--datestart 2023-11-14 --datestop 2023-11-14T10:30:00", True),
        ("--datestart 2023-11-15", False),
        ("--datestop 2023-11-14T10:29:59", False),
        ("--weekdays Mon --timestart 20:00 --timestop 11:00 --contiguous", True),
        ("--weekdays Mon --timestart 20:00 --timestop 11:00", False),
    ],
)
def test_clock_at_tuesday_14_november_2023_10_30_utc(text, wanted):
    assert Bench(captured_at=1699957800.0).test(f"-m time {text}", packet("udp")) is wanted


def test_clock_goes_on_and_may_be_unknown():
    bench = Bench(captured_at=1699957800.0)
    bench.state.now = 3600.0
    assert bench.test("-m time --timestart 11:00 --timestop 12:00", packet("udp")) is True
    assert Bench().undecided("-m time --timestart 11:00 --timestop 12:00", packet("udp"))
    assert bench.undecided("-m time --timestart 11:00 --timestop 12:00 --kerneltz", packet("udp"))


def test_mac_of_an_unknown_sender_is_undecided_and_lo_has_none():
    assert Bench().undecided("-m mac --mac-source 02:00:00:00:00:01", packet("udp"))
    assert Bench("INPUT", "lo", None).test("-m mac ! --mac-source 02:00:00:00:00:01", packet("udp", mac_src=5)) is False


def test_looped_back_copies_count_as_their_destination_says():
    looped = packet("udp", dst="224.1.2.3", pkttype=5)
    assert Bench().test("-m pkttype --pkt-type multicast", looped) is True
    assert Bench().test("-m pkttype --pkt-type broadcast", packet("udp", pkttype=5)) is True


def test_device_group():
    bench = Bench(links={"eth0": link("eth0", group=5), "eth1": link("eth1", group=0x12)})
    assert bench.test(criterion("-m devgroup --src-group 5", chain="FORWARD"), packet("udp")) is True
    assert (
        bench.test(criterion("-m devgroup --src-group 5 --dst-group 0x2/0xf", chain="FORWARD"), packet("udp")) is True
    )
    assert (
        bench.test(criterion("-m devgroup --src-group 5 ! --dst-group 0x2/0xf", chain="FORWARD"), packet("udp"))
        is False
    )


def bridge(ports, **sysctl):
    from nattrace.sim.model.world import Setting

    links = {"br0": link("br0", kind="bridge")} | {p: link(p, master="br0") for p in ports}
    settings = {"net.bridge.bridge-nf-call-iptables": Setting("1"), **sysctl}
    return Bench("FORWARD", "br0", "br0", links=links, sysctl=settings)


def test_bridge_port_is_known_where_there_is_one():
    routed, switched = NfBridge("p1"), NfBridge("p1", None, True, "p2")
    at = bridge(["p1", "p2"])
    assert at.test("-m physdev --physdev-in p1", packet("udp", bridge=routed)) is True
    assert at.test("-m physdev ! --physdev-in p1", packet("udp", bridge=routed)) is False
    assert at.test("-m physdev --physdev-is-bridged", packet("udp", bridge=routed)) is False
    assert at.test("-m physdev --physdev-is-bridged --physdev-out p2", packet("udp", bridge=switched)) is True
    assert at.test("-m physdev ! --physdev-out p1", packet("udp", bridge=routed)) is False
    assert at.test("-m physdev ! --physdev-in p1", packet("udp")) is True


def test_a_bridge_port_that_the_snapshot_does_not_tell_is_undecided_where_it_matters():
    nobody = NfBridge(None)
    assert bridge(["p1"]).test("-m physdev --physdev-in p1", packet("udp", bridge=nobody)) is True
    assert bridge(["p1", "p2"]).test("-m physdev --physdev-in p+", packet("udp", bridge=nobody)) is True
    assert bridge(["p1", "p2"]).test("-m physdev --physdev-in q1", packet("udp", bridge=nobody)) is False
    assert bridge(["p1", "p2"]).undecided("-m physdev --physdev-in p1", packet("udp", bridge=nobody))


def test_realm_of_the_route():
    class Rt:
        route = Route(Prefix(AF_INET, 0, 0), realm=0x12)
        rule = None

    assert Bench().test("-m realm --realm 0x12", packet("udp", rt=Rt())) is True
    assert Bench().test("-m realm --realm 0x2/0xf", packet("udp", rt=Rt())) is True
    assert Bench().test("-m realm ! --realm 0x12", packet("udp", rt=Rt())) is False
    assert Bench().test("-m realm --realm 0", packet("udp")) is True


def test_what_nobody_can_know_is_undecided():
    assert Bench().undecided("-m cpu --cpu 1", packet("udp"))
    assert Bench().undecided("-p tcp -m osf --genre Linux", packet("tcp", tcp_flags=2))
    assert Bench().undecided("-m rateest --rateest R --rateest-lt --rateest-pps 5", packet("udp"))
    assert Bench().undecided("-m bpf --object-pinned /x", packet("udp"))
    assert Bench(unmodelled=(("xfrm policies", None),)).undecided("-m policy --dir in --pol none", packet("udp"))
    assert Bench().undecided("-m set --match-set nowhere src", packet("udp"))


def test_cpu_is_a_set_where_their_number_is_known():
    assert Bench(meta={"cpus": 1}).test("-m cpu --cpu 0", packet("udp")) is True
    assert Bench(meta={"cpus": 4}).test("-m cpu --cpu 4", packet("udp")) is False
    bench = Bench(meta={"cpus": 4})
    assert {answer for _, answer in bench.outcomes("-m cpu --cpu 3", packet("udp"))} == {True, False}
    assert bench.unknowns == []


def test_ipvs_is_taken_not_to_be_involved():
    bench = Bench()
    assert bench.test("-m ipvs --ipvs", packet("udp")) is False
    assert bench.test("-m ipvs ! --ipvs", packet("udp")) is True
    assert bench.test("-m ipvs ! --vport 80", packet("udp")) is False
    assert "IPVS" in bench.notes[0]


def test_drawn_port_splits_the_world_once():
    bench = Bench()
    skb = packet("tcp", dport=443)
    skb.sport = bench.state.draw("sport", Domain.of(1024, 2047))
    outcomes = dict((a, p) for p, a in bench.outcomes("-p tcp -m tcp --sport 1024:1279", skb))
    assert outcomes == {True: 0.25, False: 0.75}
    assert bench.test("-p tcp -m tcp --sport 1:1000", skb) is False
    assert bench.test("-p tcp -m multiport ! --sports 5,6", skb) is True


def test_bytes_of_a_drawn_port_are_undecided_and_others_are_not():
    bench = Bench()
    skb = packet("tcp", dport=443, ip_id=1)
    skb.sport = bench.state.draw("sport", Domain.of(1024, 65535))
    assert bench.undecided('-m u32 --u32 "20>>16=1024"', skb)
    assert bench.test('-m u32 --u32 "20&0xFFFF=443"', skb) is True
    assert bench.undecided('-m bpf --bytecode "4,40 0 0 20,21 0 1 5,6 0 0 1,6 0 0 0"', skb)
    assert bench.test('-m bpf --bytecode "4,40 0 0 22,21 0 1 443,6 0 0 1,6 0 0 0"', skb) is True
    assert bench.undecided('-m string --algo bm --hex-string "|0500 01bb|"', skb)
    assert bench.test('-m string --algo bm --hex-string "|01bb|"', skb) is True
    assert bench.test('-m string --algo bm --string "nothing"', skb) is False
