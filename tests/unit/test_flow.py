"""The FLOW grammar: what is accepted, what is derived, and how errors point at the place."""

from __future__ import annotations

import pytest
from nattrace.sim.errors import FlowError
from nattrace.sim.flow import Question, parse_flow
from nattrace.sim.model.addr import Prefix, parse_addr
from nattrace.sim.model.route import RT_TABLE_MAIN, Address, FibRule, Link, Nexthop, Route
from nattrace.sim.model.world import Host, Port, Segment, Setting, World


def host(name: str, *devices: str, **fields: object) -> Host:
    """``eth0 10.0.0.1/24`` … with the connected routes."""
    links, addresses, routes = {"lo": Link("lo", 1, loopback=True)}, [], []
    for index, text in enumerate(devices, 2):
        dev, cidr = text.split()
        addr, plen = cidr.split("/")
        family, value = parse_addr(addr)
        links[dev] = Link(dev, index)
        address = Address(family, dev, value, int(plen))
        addresses.append(address)
        routes.append(Route(address.network, RT_TABLE_MAIN, nexthops=(Nexthop(dev),), scope=253))
    gateway = fields.pop("default", None)
    if gateway:
        dev, via = str(gateway).split()
        routes.append(Route(Prefix(2, 0, 0), RT_TABLE_MAIN, nexthops=(Nexthop(dev, parse_addr(via)[1]),)))
    rules = (FibRule(32766, table=RT_TABLE_MAIN),)
    return Host(
        name, links=links, addresses=tuple(addresses), routes={(2, RT_TABLE_MAIN): tuple(routes)}, rules={2: rules},
        files=frozenset({"link", "addr", "route", "rule"}), **fields,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def world() -> World:
    client = host(
        "client", "veth0 10.10.1.1/24", default="veth0 10.10.1.2", users={"userB": 1002}, groups={"staff": 50}
    )
    router = host("router", "lan 10.10.1.2/24", "wan 192.0.2.2/24", default="wan 192.0.2.1", names={"web": (2, 0x0A0A0101)},
                  sysctl={"net.ipv4.ip_local_port_range": Setting("40000\t40010")})  # fmt: skip
    wire = Segment("wire", (Port("client", "veth0"), Port("router", "lan")))
    return World({"client": client, "router": router}, (wire,))


def ask(world: World, text: str) -> Question:
    return parse_flow(text, world)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.10.1.1 -> 8.8.8.8", {"proto": "icmp", "type": 8, "src": "10.10.1.1", "dst": "8.8.8.8"}),
        ("10.10.1.1 → 8.8.8.8", {"proto": "icmp"}),
        ("10.10.1.1 > 8.8.8.8", {"proto": "icmp"}),
        ("10.10.1.1->8.8.8.8", {"proto": "icmp", "dst": "8.8.8.8"}),
        ("10.10.1.1 to 8.8.8.8", {"proto": "icmp", "dst": "8.8.8.8"}),
        ("10.10.1.1 8.8.8.8", {"src": "10.10.1.1", "dst": "8.8.8.8"}),
        ("tcp 10.10.1.1:40000 -> 1.2.3.4:443", {"proto": "tcp", "sport": 40000, "dport": 443, "flags": "S"}),
        ("10.10.1.1 -> 1.2.3.4:443", {"proto": "tcp", "dport": 443}),
        ("10.10.1.1 -> 1.2.3.4:53", {"proto": "tcp", "dport": 53}),
        ("10.10.1.1 -> 1.2.3.4:domain", {"proto": "tcp", "dport": 53}),
        ("10.10.1.1 -> 1.2.3.4:ntp", {"proto": "udp", "dport": 123}),
        ("10.10.1.1 -> 1.2.3.4:443/udp", {"proto": "udp", "dport": 443}),
        ("10.10.1.1 -> web:https", {"dst": "10.10.1.1", "dport": 443}),
        ("10.10.1.1 -> router", {"dst": "10.10.1.2"}),
        ("-> 8.8.8.8 at client", {"dst": "8.8.8.8"}),
        ("8.8.8.8 uid userB", {"uid": 1002}),
        ("8.8.8.8 at client uid 77 gid staff", {"uid": 77, "gid": 50}),
        ("8.8.8.8 at client mark 0x10 dscp EF ttl 3 len 1400 df", {"mark": 16, "tos": 184, "ttl": 3, "len": 1400, "df": True}),
        ("icmp 10.10.1.1 -> 8.8.8.8 type 13 id 9 seq 4", {"type": 13, "icmp_id": 9, "seq": 4}),
        ("10.10.1.1 -> 8.8.8.8 type echo-reply", {"proto": "icmp", "type": 0}),
        ("tcp 10.10.1.1 -> 8.8.8.8:80 flags SYN,ACK", {"flags": "SA"}),
        ("proto 99 10.10.1.1 -> 8.8.8.8", {"proto": "99"}),
        ("esp 10.10.1.1 -> 8.8.8.8 spi 0x100", {"proto": "esp", "spi": 256}),
        ("udp [2001:db8::5]:5353 -> [2001:db8::9]:5353 at router in wan", {"src": "2001:db8::5", "sport": 5353}),
        ("fe80::1%lan at router", {"proto": "icmpv6", "type": 128, "dst": "fe80::1"}),
    ],
)  # fmt: skip
def test_forms_are_understood(world: World, text: str, expected: dict[str, object]) -> None:
    packet = ask(world, text).packet
    assert {key: packet.get(key) for key in expected} == expected


def test_no_source_port_means_any_of_ip_local_port_range(world: World) -> None:
    question = ask(world, "tcp 8.8.8.8:80 at router")
    assert question.sport_range == (40000, 40010)
    state, injection = question.start(world)
    assert state.domains[injection.skb.sport.draw_id].size == 11


def test_the_range_defaults_to_the_kernels(world: World) -> None:
    assert ask(world, "tcp 8.8.8.8:80 at client").sport_range == (32768, 60999)


def test_a_host_is_derived_from_its_address(world: World) -> None:
    question = ask(world, "10.10.1.1 -> 8.8.8.8")
    assert (question.host, question.in_dev) == ("client", None)
    assert any("only host" in text for text in question.derived)


def test_a_host_is_derived_from_its_interface(world: World) -> None:
    assert ask(world, "203.0.113.5 -> 10.10.1.1 in wan").host == "router"


def test_an_outer_network_names_the_host_and_the_interface(world: World) -> None:
    question = ask(world, "192.0.2.77 -> 10.10.1.1")
    assert (question.host, question.in_dev) == ("router", "wan")


def test_the_interface_is_where_the_route_back_leads(world: World) -> None:
    question = ask(world, "tcp 203.0.113.5:1 -> 10.10.1.1:80 at router")
    assert question.in_dev == "wan"
    assert any("route back" in text for text in question.derived)


@pytest.mark.parametrize(
    "text", ["10.10.1.1:5 -> 1.2.3.4:https dscp EF", "proto 99 10.10.1.1 -> 1.2.3.4", "tcp 10.10.1.1:1 -> 1.2.3.4:5 flags none"]
)  # fmt: skip
def test_canonical_text_means_the_same_again(world: World, text: str) -> None:
    question = ask(world, text)
    assert ask(world, question.flow()).packet == question.packet


@pytest.mark.parametrize(
    ("text", "caret", "words"),
    [
        ("10.10.1.1 -> 8.8.8.8 foo", "foo", "unknown word"),
        ("10.10.1.300 -> 8.8.8.8", "10.10.1.300", "not an address"),
        ("10.10.1.1 -> 8.8.8.8:nosuch", "nosuch", "unknown port or service"),
        ("10.10.1.1 -> 8.8.8.8:70000", "70000", "from 0 to 65535"),
        ("10.10.1.0/24 -> 8.8.8.8", "/24", "network"),
        ("10.10.1.1 -> 8.8.8.8 at mars", "mars", "no host"),
        ("10.10.1.1 -> 8.8.8.8 in eth9 at client", "eth9", "no interface"),
        ("8.8.8.8 at client uid nobody2", "nobody2", "no user"),
        ("icmp 10.10.1.1 -> 8.8.8.8:80", "8.8.8.8:80", "no ports"),
        ("10.10.1.1 -> [::1]:80", "[::1]:80", "IPv6"),
        ("10.10.1.1 -> 8.8.8.8 -> 9.9.9.9", "-> 9", "second arrow"),
        ("tcp 10.10.1.1 -> 8.8.8.8:80 flags XYZ", "XYZ", "TCP flag"),
        ("10.10.1.1 -> 8.8.8.8 mark zz", "zz", "expected a number"),
        ("10.10.1.1 -> nosuch.example", "nosuch.example", "unknown name"),
        ("5.5.5.5 -> 8.8.8.8 in wan uid 0", "0", "local senders"),
    ],
)  # fmt: skip
def test_errors_point_at_the_place_and_give_an_example(world: World, text: str, caret: str, words: str) -> None:
    with pytest.raises(FlowError) as caught:
        ask(world, text)
    error = caught.value
    assert words in error.message
    assert error.column is not None and error.text[error.column :].startswith(caret)
    assert error.remedy


def test_an_ambiguous_host_is_an_error_with_the_choices(world: World) -> None:
    with pytest.raises(FlowError) as caught:
        ask(world, "8.8.8.8")
    assert "at client, at router" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "   ", "->", "tcp", "at client", "10.10.1.1 ->", "tcp 8.8.8.8 at client", "x" * 5000]
)
def test_incomplete_flows_are_errors(world: World, text: str) -> None:
    with pytest.raises(FlowError):
        ask(world, text)


# ----------------------------------------------------------------------------------------- pasted lines


@pytest.mark.parametrize(
    ("line", "expected", "place"),
    [
        (
            "09:47:07.123456 IP 10.10.1.1.40000 > 1.2.3.4.443: Flags [S], seq 1, win 64240, length 0",
            {"proto": "tcp", "src": "10.10.1.1", "sport": 40000, "dst": "1.2.3.4", "dport": 443, "flags": "S"}, ("client", None),
        ),
        (
            "09:47:07.123456 wan   In  IP 9.9.9.9 > 192.0.2.2: ICMP echo request, id 12, seq 1, length 64",
            {"proto": "icmp", "src": "9.9.9.9", "dst": "192.0.2.2", "type": 8, "icmp_id": 12}, ("router", "wan"),
        ),
        (
            "IP 10.10.1.1.5000 > 9.9.9.9.domain: 53+ A? example.com. (29)",
            {"proto": "udp", "sport": 5000, "dport": 53}, ("client", None),
        ),
        (
            "tcp      6 431999 ESTABLISHED src=10.10.1.1 dst=1.1.1.1 sport=5000 dport=443 src=1.1.1.1 dst=192.0.2.2 sport=443 dport=5000 [ASSURED] mark=0 use=1",
            {"proto": "tcp", "src": "10.10.1.1", "dst": "1.1.1.1", "sport": 5000, "dport": 443, "flags": "A"}, ("client", None),
        ),
        (
            "ipv4     2 icmp     1 29 src=10.10.1.1 dst=8.8.8.8 type=8 code=0 id=99 [UNREPLIED] src=8.8.8.8 dst=10.10.1.1 type=0 code=0 id=99 mark=0",
            {"proto": "icmp", "type": 8, "icmp_id": 99}, ("client", None),
        ),
        (
            "Nov 21 kernel: [1.2] drop: IN=wan OUT= MAC=02:42:ac:11:00:02:02:42:ac:11:00:01:08:00 SRC=203.0.113.9 DST=192.0.2.2 LEN=60 TOS=0x00 "
            "PREC=0x00 TTL=64 ID=0 DF PROTO=TCP SPT=40000 DPT=22 WINDOW=64240 RES=0x00 SYN URGP=0",
            {"proto": "tcp", "src": "203.0.113.9", "dport": 22, "len": 60, "flags": "S", "mac": "02:42:ac:11:00:01", "df": True}, ("router", "wan"),
        ),
        (
            "IN= OUT=veth0 SRC=10.10.1.1 DST=8.8.8.8 LEN=60 TTL=64 PROTO=UDP SPT=1 DPT=53 LEN=40 UID=1002 GID=50",
            {"proto": "udp", "uid": 1002, "gid": 50, "sport": 1}, ("client", None),
        ),
        ("ESTAB 0 0 10.10.1.1:50514 1.2.3.4:22", {"proto": "tcp", "sport": 50514, "dport": 22, "flags": "A"}, ("client", None)),
        ("udp ESTAB 0 0 10.10.1.1%veth0:68 10.10.1.2:67", {"proto": "udp", "sport": 68}, ("client", None)),
    ],
)  # fmt: skip
def test_pasted_lines_are_flows(
    world: World, line: str, expected: dict[str, object], place: tuple[str, str | None]
) -> None:
    question = ask(world, line)
    assert {key: question.packet.get(key) for key in expected} == expected
    assert (question.host, question.in_dev) == place
    assert any("read from" in text for text in question.derived)


def test_a_log_line_of_forward_says_that_the_ttl_was_one_more(world: World) -> None:
    line = "IN=wan OUT=lan SRC=203.0.113.9 DST=10.10.1.1 LEN=60 TTL=63 PROTO=ICMP TYPE=8 CODE=0 ID=5 SEQ=1"
    assert ask(world, line).packet["ttl"] == 64


@pytest.mark.parametrize(
    "line",
    ["tcp 6 4 ESTABLISHED src= 10.0.0.1 dst=1.1.1.1 sport=5 dport=4", "IN=wan OUT= [SRC=10.0.0.1 DST=", "IN=wan OUT= x SRC= DST=1.1.1.1 PROTO=TCP"],
)  # fmt: skip
def test_a_torn_line_is_an_error(world: World, line: str) -> None:
    with pytest.raises(FlowError):
        ask(world, line)


def test_a_listening_socket_is_told_from_a_flow(world: World) -> None:
    with pytest.raises(FlowError, match="listening"):
        ask(world, "tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:*")
