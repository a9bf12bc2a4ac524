"""Packets to bytes and back."""

from __future__ import annotations

import pytest
from nattrace.tracer.lab.packets import arp_reply, build, checksum, parse

BASE = {"src": "10.0.0.2", "dst": "8.8.8.8", "ttl": 61, "tos": 16}


@pytest.mark.parametrize(
    "record",
    [
        {"proto": "udp", "sport": 4000, "dport": 53, "len": 60},
        {"proto": "tcp", "sport": 1, "dport": 2, "flags": "SA", "tcp_seq": 7, "tcp_ack": 9, "window": 100, "mss": 1400},
        {"proto": "icmp", "type": 8, "code": 0, "icmp_id": 77, "seq": 3},
        {"proto": "icmp", "type": 3, "code": 4, "mtu": 1300, "inner": {**BASE, "proto": "udp", "sport": 5, "dport": 6}},
        {
            "proto": "icmp",
            "type": 5,
            "code": 1,
            "gateway": "10.0.0.9",
            "inner": {**BASE, "proto": "udp", "sport": 5, "dport": 6},
        },
        {"proto": "esp", "spi": 256},
        {"proto": "99", "len": 40},
    ],
    ids=["udp", "tcp", "echo", "fragmentation needed", "redirect", "esp", "unknown"],
)
def test_what_is_built_is_read_back(record: dict) -> None:
    packet = parse(build({**BASE, **record}))
    for key, value in {**BASE, **record}.items():
        if key == "inner":
            assert {k: packet["inner"][k] for k in value} == value
        else:
            assert packet[key] == value, key


def test_the_header_checksum_is_right() -> None:
    assert checksum(build({**BASE, "proto": "udp", "sport": 1, "dport": 2})[:20]) == 0


def test_an_announcement_is_not_answered() -> None:
    """Gratuitous ARP asks for its own address."""
    mac, ip = b"\2\0\0\0\0\1", b"\x0a\0\0\1"
    frame = b"\xff" * 6 + mac + b"\x08\x06\0\1\x08\0\6\4\0\1" + mac + ip + bytes(6)
    assert arp_reply(frame + ip, mac) is None
    answer = arp_reply(frame + b"\x0a\0\0\2", b"\2\xed\0\0\0\1")
    assert answer is not None and answer[28:32] == b"\x0a\0\0\2" and answer[:6] == mac


@pytest.mark.parametrize("data", [b"", b"\x60" + bytes(40), bytes(19)], ids=["empty", "IPv6", "short"])
def test_what_is_no_ipv4_packet_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an IPv4"):
        parse(data)
