"""Packets as bytes: headers where the RFCs put them, right checksums, and spans that nobody can know."""

from __future__ import annotations

import struct
from typing import Any

from nattrace.sim.engine import wire
from nattrace.sim.engine.run import Ctx, Run
from nattrace.sim.model.addr import AF_INET, AF_INET6, parse_addr
from nattrace.sim.model.drawn import Domain
from nattrace.sim.model.packet import Skb
from nattrace.sim.model.state import WorldState
from nattrace.sim.model.world import Host, World


def packet(proto: int, length: int, src: str = "10.0.0.2", dst: str = "192.0.2.9", **fields: Any) -> Skb:
    skb = Skb(AF_INET, proto, parse_addr(src)[1], parse_addr(dst)[1])
    skb.length, skb.ip_id = length, 0x1234
    for name, value in fields.items():
        setattr(skb, name, value)
    return skb


def pseudo(skb: Skb, data: bytes) -> bytes:
    size = 4 if skb.family == AF_INET else 16
    return (
        skb.src.to_bytes(size, "big") + skb.dst.to_bytes(size, "big") + struct.pack("!IHBB", len(data), 0, 0, skb.proto)
    )


def test_checksum_of_rfc_1071_example():
    assert wire.checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF


def test_ip_header_and_its_checksum():
    data = wire.to_bytes(packet(99, 24, tos=0x28, ttl=7, df=True, payload=b"abcd"))
    assert data[:10].hex() == "45280018" + "12344000" + "0763"
    assert data[12:] == bytes.fromhex("0a000002c0000209") + b"abcd"
    assert wire.checksum(data[:20]) == 0


def test_ip_options_are_padded_and_lengthen_the_header():
    skb = packet(17, 36, ip_options=b"\x94\x04\x00\x00\x01", sport=1, dport=2)
    data = wire.to_bytes(skb)
    assert data[0] == 0x47
    assert wire.header_length(skb) == 28
    assert data[28:32] == bytes.fromhex("00010002")
    assert wire.checksum(data[:28]) == 0


def test_tcp_header_with_options():
    skb = packet(6, 44, sport=40000, dport=443, tcp_flags=2, tcp_seq=0x01020304, window=1000, mss=1460)
    data = wire.to_bytes(skb)[20:]
    assert data[:16].hex() == "9c4001bb" + "01020304" + "00000000" + "600203e8"
    assert data[20:].hex() == "020405b4"
    assert wire.checksum(pseudo(skb, data) + data) == 0


def test_udp_length_and_checksum():
    skb = packet(17, 33, sport=5353, dport=53, payload=b"hello")
    data = wire.to_bytes(skb)[20:]
    assert data[:6].hex() == "14e90035" + "000d"
    assert wire.checksum(pseudo(skb, data) + data) == 0


def test_icmp_echo_and_error_with_what_it_quotes():
    echo = wire.to_bytes(packet(1, 28, icmp_type=8, icmp_id=77, icmp_seq=3))[20:]
    assert (echo[:2].hex(), echo[4:].hex()) == ("0800", "004d0003")
    assert wire.checksum(echo) == 0
    inner = packet(17, 60, sport=1, dport=2)
    error = wire.to_bytes(packet(1, 56, icmp_type=3, icmp_code=4, icmp_mtu=1400, inner=inner))
    assert error[20:28:7].hex() == "0378"
    assert error[28:] == wire.to_bytes(inner)[:28]
    assert wire.checksum(error[20:]) == 0


def test_length_rules_over_payload():
    assert wire.to_bytes(packet(17, 31, payload=b"abcdef"))[28:] == b"abc"
    assert wire.to_bytes(packet(17, 34, payload=b"abc"))[28:] == b"abc\0\0\0"
    assert len(wire.to_bytes(packet(6, 30))) == 30


def test_later_fragment_has_no_transport_header():
    data = wire.to_bytes(packet(17, 28, frag=80, mf=True, sport=5, payload=b"12345678"))
    assert data[6:8].hex() == "200a"
    assert data[20:] == b"12345678"


def test_other_protocols():
    assert wire.to_bytes(packet(50, 28, spi=300))[20:].hex() == "0000012c00000000"
    assert wire.to_bytes(packet(51, 32, spi=300))[24:28].hex() == "0000012c"
    assert wire.to_bytes(packet(108, 24, spi=18))[20:].hex() == "3b000012"
    assert wire.to_bytes(packet(47, 28, gre_key=9))[20:].hex() == "2000080000000009"
    sctp = wire.to_bytes(packet(132, 40, sport=1, dport=2, chunk_types=((0, 3), (3, 0))))[20:]
    assert sctp.hex() == "00010002" + "00" * 8 + "00030004" + "03000004"
    dccp = wire.to_bytes(packet(33, 40, sport=1, dport=2, dccp_type=0))[20:]
    assert (dccp[4], dccp[8], len(dccp)) == (5, 1, 20)


def test_ipv6_header():
    skb = Skb(AF_INET6, 17, 1, 2)
    skb.length, skb.ttl, skb.tos = 48, 64, 0xB8
    data = wire.to_bytes(skb)
    assert data[:8].hex() == "6b800000" + "00081140"
    assert len(data) == 48


def test_bytes_that_nobody_can_know():
    state = WorldState(World({"h": Host("h")}))
    ctx = Ctx(Run(state), state.world.hosts["h"], state.host("h"))
    skb = packet(6, 40, ip_id=0, dport=443)
    skb.sport = state.draw("sport", Domain.of(1024, 65535))
    built = wire.build(skb, ctx)
    for start, end, unknown in ((0, 4, False), (4, 6, True), (8, 10, False), (10, 12, True), (12, 20, False),
                                (20, 22, True), (22, 24, False), (36, 38, True), (38, 40, False)):  # fmt: skip
        assert built.undecided(start, end) is unknown, (start, end)
    state.domains[skb.sport.draw_id] = Domain.of(5000, 5000)
    assert not wire.build(skb, ctx).undecided(20, 22)
    assert wire.build(skb, ctx).data[20:22] == (5000).to_bytes(2, "big")
