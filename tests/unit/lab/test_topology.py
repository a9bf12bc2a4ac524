"""The hand-written topology file: what it means, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
from nattrace.sim.errors import InputError
from nattrace.tracer.lab import load_topology
from nattrace.tracer.lab.from_snapshot import _route, _rule
from nattrace.tracer.lab.topology import from_data, restore_text

WORKED = """
[segments]
lan = ["client:eth0", "router:eth0"]

[hosts.client]
routes = ["default via 10.0.0.1"]
users = { alice = 1001 }
interfaces.eth0 = "10.0.0.2/24"

[hosts.router]
rules = ["pref 100 from 10.0.0.9 lookup 100"]
iptables = ["-t nat -A POSTROUTING -o eth1 -j MASQUERADE", "-A FORWARD -j ACCEPT"]
sysctl.net.ipv4.ip_forward = 1
interfaces.eth0 = ["10.0.0.1/24", "10.0.0.3/24"]
interfaces.eth1 = { addresses = "192.0.2.1/24", mtu = 1400 }
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(text)
    return path


def test_a_file_becomes_hosts_segments_and_edges(tmp_path: Path) -> None:
    topology = load_topology(write(tmp_path, WORKED))
    router = topology.host("router")
    assert [i.name for i in router.interfaces] == ["eth0", "eth1"]
    assert router.interface("eth0").addresses == ("10.0.0.1/24", "10.0.0.3/24")
    assert router.interface("eth1").mtu == 1400
    assert router.sysctls == (("net.ipv4.ip_forward", "1"),)
    assert topology.host("client").users == (("alice", 1001),)
    assert topology.edges() == [("router", "eth1")]


def test_rules_become_a_restore_text_in_their_order() -> None:
    text = restore_text(["-t nat -A POSTROUTING -j MASQUERADE", "-A INPUT -j DROP", "iptables -t nat -P OUTPUT ACCEPT"])
    assert (
        text
        == "*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n*filter\n-A INPUT -j DROP\nCOMMIT\n*nat\n-P OUTPUT ACCEPT\nCOMMIT\n"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[hosts.x.interfaces]\neth0 = '10.0.0.300/24'", "not an address"),
        ("[hosts.x]\nroute = []", "unknown key"),
        ("[segments]\ns = ['x:eth0']\n[hosts.x]", "no such interface"),
        ("[segments]", "there is none"),
        ("[hosts.x.users]\nbob = 'one'", "expected a user id"),
        ("[hosts.x.interfaces]\nmuch-too-long-name = '10.0.0.1/24'", "not an interface name"),
        ("x = [", "not TOML"),
    ],
    ids=["address", "key", "member", "no host", "user", "interface name", "syntax"],
)
def test_a_wrong_file_is_told_with_its_place(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_topology(write(tmp_path, change))
    assert "lab.toml" in str(caught.value)


def test_all_errors_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        from_data({"hosts": {"a": {"interfaces": {"eth0": "nonsense"}, "colour": "red"}}})
    assert "nonsense" in str(caught.value) and "colour" in str(caught.value)


@pytest.mark.parametrize(
    ("dump", "words"),
    [
        ({"dst": "default", "gateway": "10.0.0.1", "dev": "eth0", "flags": []}, "unicast default via 10.0.0.1 dev eth0"),
        ({"type": "local", "dst": "10.0.0.1", "dev": "eth0", "table": "local", "protocol": "kernel", "scope": "host",
          "prefsrc": "10.0.0.1"}, "local 10.0.0.1 table local proto kernel scope host src 10.0.0.1 dev eth0"),
        ({"dst": "1.0.0.0/8", "metrics": [{"mtu": 1200}], "via": {"family": "inet6", "host": "fe80::1"}, "dev": "eth0"},
         "unicast 1.0.0.0/8 mtu 1200 via inet6 fe80::1 dev eth0"),
        ({"dst": "2.0.0.0/8", "nexthops": [{"gateway": "10.0.0.1", "dev": "a", "weight": 2}, {"dev": "b", "flags": ["onlink"]}]},
         "unicast 2.0.0.0/8 nexthop via 10.0.0.1 dev a weight 2 nexthop dev b onlink weight 1"),
    ],
    ids=["default", "local", "via another family", "multipath"],
)  # fmt: skip
def test_a_dumped_route_becomes_words_for_ip(dump: dict, words: str) -> None:
    assert _route(dump, 4) == words


@pytest.mark.parametrize(
    ("dump", "words"),
    [
        ({"priority": 0, "src": "all", "table": "local"}, "pref 0 from all lookup local"),
        ({"priority": 5, "not": None, "src": "10.0.0.0", "srclen": 8, "fwmark": "0x1", "fwmask": "0xf", "table": "100"},
         "not pref 5 from 10.0.0.0/8 fwmark 0x1/0xf lookup 100"),
        ({"priority": 6, "src": "all", "uid_start": 1000, "uid_end": 2000, "goto": 100},
         "pref 6 from all uidrange 1000-2000 goto 100"),
        ({"priority": 7, "src": "all", "dport_start": 1, "dport_end": 9, "action": "blackhole"},
         "pref 7 from all dport 1-9 blackhole"),
        ({"priority": 8, "src": "all", "table": "main", "suppress_prefixlen": 0},
         "pref 8 from all lookup main suppress_prefixlength 0"),
    ],
    ids=["default", "mark and not", "uid and goto", "ports and action", "suppressor"],
)  # fmt: skip
def test_a_dumped_rule_becomes_words_for_ip(dump: dict, words: str) -> None:
    assert _rule(dump) == words
