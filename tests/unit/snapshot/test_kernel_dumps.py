"""Dumps of this kernel, taken with the tools at hand: both forms mean the same, and mean what was configured."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from nattrace.sim.model.addr import AF_INET, parse_addr
from nattrace.sim.snapshot.conntrack import format_conntrack
from nattrace.sim.snapshot.load import load_world

pytestmark = pytest.mark.kernel
if os.geteuid() != 0:
    pytest.skip("needs root", allow_module_level=True)

CAPTURE = {
    "link": "ip {} -d link", "addr": "ip {} -d addr", "neigh": "ip {} neigh", "neigh-proxy": "ip {} neigh show proxy",
    "route": "ip {} -d -4 route show table all", "route6": "ip {} -d -6 route show table all", "rule": "ip {} -4 rule",
    "rule6": "ip {} -6 rule", "nexthop": "ip {} -d nexthop", "nft": "nft {} -a list ruleset",
}  # fmt: skip
PLAIN = {
    "sysctl": "sysctl -a", "conntrack": "conntrack -L -o extended,id", "ipset": "ipset save",
    "sockets": "ss -H -a -n -e -p -t -u -w --inet-sockopt", "iptables-save": "iptables-save -c", "xfrm": "ip xfrm policy",
}  # fmt: skip

# Each line is one command; those that a kernel without the feature refuses are left out of the comparison by themselves.
SETUP = """
ip link add e0 type veth peer name e1
ip link add br0 type bridge vlan_filtering 1
ip link add e2.5 type veth peer name e3
ip link set e3 master br0
ip link set lo up
ip link set e0 up
ip link set e1 up
ip link set br0 up
ip link set e2.5 mtu 1400 up
ip link property add dev e2.5 altname other
ip addr add 10.0.0.1/24 brd + dev e0
ip addr add 10.0.0.2/24 dev e0
ip addr add 10.9.0.1 peer 10.9.0.2/32 dev br0 label br0:x
ip addr add 10.8.0.1/25 scope link noprefixroute dev e0
ip addr add 2001:db8::1/64 dev e0 nodad
ip route add 1.0.0.0/8 via 10.0.0.9
ip route add 2.0.0.0/8 via 10.0.0.9 dev e0 src 10.0.0.2 metric 5 mtu 1300 advmss 1200 onlink realm 3 table 77 proto static
ip route add 2.2.0.0/16 nexthop via 10.0.0.9 weight 2 nexthop via 10.0.0.10 dev e0 weight 3 onlink
ip route add unreachable 3.1.0.0/16 table 99
ip route add prohibit 3.2.0.0/16 metric 7
ip route add blackhole 3.3.0.0/16
ip route add throw 3.4.0.0/16 table 99
ip route add multicast 239.0.0.0/8 dev e0
ip route add broadcast 4.4.4.255 dev e0 table 5
ip route add 5.0.0.0/8 tos 0x10 dev e0
ip -4 route add default via inet6 fe80::1 dev e0
ip nexthop add id 1 via 10.0.0.9 dev e0
ip nexthop add id 2 via 10.0.0.10 dev e0 onlink
ip nexthop add id 3 blackhole
ip nexthop add id 10 group 1,3/2,4
ip nexthop add id 11 group 1/2 type resilient buckets 8
ip route add 6.0.0.0/8 nhid 10
ip route add 6.1.0.0/16 nhid 11
ip route add 6.2.0.0/16 nhid 3
ip route add 6.3.0.0/16 nhid 1
ip -6 route add 2001:db8:6::/64 nexthop via fe80::6 dev e0 nexthop via fe80::7 dev e0 weight 4
ip -6 route add unreachable 2001:db8:7::/64
ip rule add from 10.0.0.0/8 to 1.1.1.1 iif e0 oif e1 fwmark 0x10/0xff tos 0x10 uidrange 10-20 lookup 77 pref 100
ip rule add ipproto tcp sport 5-6 dport 80 lookup 77 pref 103
ip rule add not from 10.1.0.0/16 lookup 300 suppress_prefixlength 0 pref 101
ip rule add fwmark 5 goto 500 pref 102
ip rule add nop pref 500
ip rule add from 9.9.9.0/24 blackhole pref 600
ip rule add from 9.9.8.0/24 prohibit pref 601
ip rule add from 9.9.7.0/24 unreachable pref 602
ip rule add l3mdev pref 700
ip rule add iif missing0 lookup 77 suppress_ifgroup 4 pref 701
ip rule add from 1.2.3.4 lookup 77 realms 3/4 pref 702
ip rule add tun_id 7 lookup 77 pref 704
ip -6 rule add from 2001:db8::/32 fwmark 3 lookup 77
ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev e0
ip neigh add proxy 10.0.0.77 dev e0
iptables -t raw -A OUTPUT -p icmp -d 127.0.0.5 -j CT --zone 9
iptables -t raw -A OUTPUT -p icmp -d 127.0.0.6 -j CT --zone-reply 8
iptables -t nat -A POSTROUTING -p icmp -d 127.0.0.7 -j SNAT --to-source 127.0.0.99
iptables -A INPUT -m conntrack --ctstate NEW -j CONNMARK --set-mark 0x77
sysctl -qw net.netfilter.nf_conntrack_acct=1
ping -c1 -W1 127.0.0.5
ping -c1 -W1 127.0.0.6
ping -c1 -W1 127.0.0.7
nft add table ip mine
nft add chain ip mine c { type filter hook forward priority -5 ; policy drop ; }
nft add rule ip mine c ip saddr 1.1.1.1 counter accept
"""
TYPES = {
    "hash:ip": "1.2.3.4", "hash:mac": "02:00:00:00:00:01", "hash:ip,mac": "1.2.3.4,02:00:00:00:00:01", "hash:net": "10.0.0.0/8",
    "hash:net,net": "1.0.0.0/8,2.0.0.0/8", "hash:ip,port": "1.2.3.4,tcp:80", "hash:net,port": "1.0.0.0/8,udp:5",
    "hash:ip,port,ip": "1.1.1.1,80,2.2.2.2", "hash:ip,port,net": "1.1.1.1,80,2.0.0.0/8", "hash:net,iface": "1.0.0.0/8,eth0",
    "hash:net,port,net": "1.0.0.0/8,80,2.0.0.0/8", "hash:ip,mark": "1.1.1.1,0x10", "bitmap:ip range 10.0.0.0/24": "10.0.0.5",
    "bitmap:ip,mac range 10.0.0.0/24": "10.0.0.5,02:00:00:00:00:01", "bitmap:port range 0-99": "80",
}  # fmt: skip


def inside(command: str, check: bool = False) -> str:
    found = subprocess.run(
        ["ip", "netns", "exec", NETNS, *command.split()], capture_output=True, text=True, check=check, timeout=20
    )
    return found.stdout


NETNS = f"nt-dumps-{os.getpid()}"


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, list[str]]]:
    """Two snapshots of one namespace, JSON and plain, and the set types that this kernel has."""
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    try:
        for line in SETUP.strip().split("\n"):
            inside(line)
        made = [type_ for type_ in TYPES if _made(type_)]
        in_json, plain = tmp_path_factory.mktemp("json"), tmp_path_factory.mktemp("plain")
        for kind, command in CAPTURE.items():
            (in_json / f"{kind}.json").write_text(inside(command.format("-j"), check=True))
            (plain / f"{kind}.txt").write_text(inside(command.format(""), check=True))
        for kind, command in PLAIN.items():
            text = inside(command)
            for folder in (in_json, plain):
                (folder / f"{kind}.txt").write_text(text)
        yield in_json, plain, made
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], check=True)


def _made(type_: str) -> bool:
    name = type_.partition(" ")[0].replace(":", "_").replace(",", "_")
    inside(f"ipset create {name} {type_}")
    inside(f"ipset add {name} {TYPES[type_]}")
    return TYPES[type_].split(",")[0].split("/")[0] in inside(f"ipset save {name}")


@pytest.fixture(scope="module")
def hosts(dumps):
    return [next(iter(load_world(folder).hosts.values())) for folder in dumps[:2]]


@pytest.mark.parametrize(
    "part", ("links", "addresses", "neighbours", "routes", "rules", "nexthops", "foreign", "unmodelled")
)
def test_json_and_plain_dumps_are_equal(hosts, facts, part):
    assert facts(getattr(hosts[1], part)) == facts(getattr(hosts[0], part))
    assert getattr(hosts[0], part) or part == "unmodelled"


def test_the_derived_local_table_is_the_kernels(hosts, dumps, tmp_path):
    (tmp_path / "addr.json").write_text((dumps[0] / "addr.json").read_text())
    main = [line for line in (dumps[1] / "route.txt").read_text().split("\n") if "table main" in line]
    (tmp_path / "route.txt").write_text("\n".join(main))
    (derived,) = load_world(tmp_path).hosts.values()

    def table(host):
        return sorted((r.type, r.prefix, r.prefsrc, r.scope, r.nexthops[0].dev) for r in host.routes[AF_INET, 255])

    assert table(derived) == table(hosts[0])


def test_the_derived_connected_routes_are_the_kernels(hosts, dumps, tmp_path):
    (tmp_path / "addr.json").write_text((dumps[0] / "addr.json").read_text())
    (derived,) = load_world(tmp_path).hosts.values()

    def connected(host):
        routes = host.routes[AF_INET, 254]
        return sorted((r.prefix, r.prefsrc, r.scope, r.nexthops[0].dev) for r in routes if r.protocol == "kernel")

    assert connected(derived) == connected(hosts[0])


def test_each_set_type_of_this_kernel_is_read(hosts, dumps):
    assert dumps[2]
    for type_ in dumps[2]:
        name = type_.partition(" ")[0].replace(":", "_").replace(",", "_")
        found = hosts[0].sets[name]
        assert found.type == type_.partition(" ")[0] and len(found.elements) == 1
        (key,) = found.elements
        assert len(key) == type_.partition(" ")[0].count(",") + 1


def test_entries_in_zones_are_read_and_written_back(hosts, dumps):
    lines = [line for line in (dumps[0] / "conntrack.txt").read_text().split("\n") if line.startswith("ipv4")]
    zones = {conn.tuples[0].dst: conn.zones for conn in hosts[0].conns}
    assert zones[parse_addr("127.0.0.5")[1]] == (9, 9) and zones[parse_addr("127.0.0.6")[1]] == (0, 8)
    nat = {c.tuples[0].dst: c.status_names() for c in hosts[0].conns}[parse_addr("127.0.0.7")[1]]
    assert "SRC_NAT" in nat and "DST_NAT" not in nat
    for line, conn in zip(lines, hosts[0].conns, strict=True):
        written = format_conntrack(conn)
        assert written.split() == line.rpartition(" id=")[0].split() and written[:24] == line[:24]


def test_rule_sets_are_told_apart(hosts):
    assert {t.name for t in hosts[0].tables} == {"raw", "nat", "filter"}
    assert [f.table for f in hosts[0].foreign] == ["mine"]
