"""pcap expressions translated for the kernel agree with libpcap itself, packet by packet, run by the kernel."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import random
import socket
import struct

import pytest
from lab_support import kernel
from nattrace.sim.errors import InputError
from nattrace.tracer.live import bpfsys, pcap

EXPRESSIONS = (
    "udp",
    "tcp port 80",
    "udp dst port 53 or icmp",
    "host 10.0.0.1 and not port 22",
    "net 10.0.0.0/8",
    "portrange 1000-2000",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "ip[8] < 5",
    "ip[6:2] & 0x1fff != 0",
    "udp[8:4] = 0x01020304",
    "ip6 and tcp src port 443",
    "ip6 host 2001:db8::1",
    "less 60",
    "greater 61 and udp",
    "ip[2:2] - 20 > 40",
    "tcp[12:1] >> 4 = 5",
    "icmp[icmptype] = icmp-echo",
    "ip[0] & 0xf != 5",
    "len > 100 and len <= 1000",
    "udp[4:2] % 7 = 3",
    "ip[100] = 1",
    "not ip",
)
ADDRESSES = ("10.0.0.1", "10.0.0.2", "192.0.2.7", "8.8.8.8")


def packets(count: int) -> list[bytes]:
    """IPv4 and IPv6 packets, options, fragments, short ones."""
    rng = random.Random(11)
    found = []
    for _ in range(count):
        proto = rng.choice([6, 17, 1, 47])
        payload = rng.choice([b"", b"\1\2\3\4", bytes(rng.randrange(256) for _ in range(rng.randrange(60)))])
        ports = struct.pack(">HH", rng.choice([22, 53, 80, 443, 1500]), rng.choice([22, 53, 80, 443, 1999]))
        if proto == 6:
            layer4 = ports + struct.pack(">IIBBHHH", 1, 2, 5 << 4, rng.choice([2, 16, 18, 1]), 100, 0, 0) + payload
        elif proto == 17:
            layer4 = ports + struct.pack(">HH", 8 + len(payload), 0) + payload
        else:
            layer4 = bytes([rng.choice([0, 3, 8, 11]), 0, 0, 0, 0, 7, 0, 1]) + payload
        if rng.random() < 0.25:
            ends = [socket.inet_pton(socket.AF_INET6, rng.choice(["2001:db8::1", "2001:db8::2"])) for _ in range(2)]
            found.append(
                struct.pack(">IHBB", 6 << 28, len(layer4), proto, rng.randrange(1, 65)) + b"".join(ends) + layer4
            )
        else:
            options = b"\1\1\1\0" if rng.random() < 0.2 else b""
            fragment = rng.choice([0, 0, 0, 0x4000, 0x2000, 185])
            source, target = (socket.inet_aton(rng.choice(ADDRESSES)) for _ in range(2))
            size = 20 + len(options) + len(layer4)
            head = struct.pack(
                ">BBHHHBBH", 0x45 + len(options) // 4, 0, size, 7, fragment, rng.randrange(1, 65), proto, 0
            )
            found.append(head + source + target + options + layer4)
        if rng.random() < 0.1:
            found[-1] = found[-1][: rng.randrange(20, len(found[-1]) + 1)]
    return found


def libpcap_says(expression: str, data: bytes) -> bool:
    lib = ctypes.CDLL(ctypes.util.find_library("pcap"))
    program = [struct.pack("<HBBI", *insn) for insn in pcap.classic(expression)]
    code = ctypes.create_string_buffer(b"".join(program))
    return bool(lib.bpf_filter(code, data, len(data), len(data)))


def kernel_says(function: bytes, packet_map: int, data: bytes) -> bool:
    """The function called on the packet in a map, by BPF_PROG_TEST_RUN."""
    bpfsys.map_update(packet_map, bytes(4), data.ljust(2048, b"\0"))
    call = [
        (0x18, 1 | 2 << 4, 0, packet_map), (0, 0, 0, 0), (0xBF, 2 | 1 << 4, 0, 0), (0x07, 2, 0, len(data)),
        (0xB7, 3, 0, len(data)), (0x85, 1 << 4, 0, 1), (0x95, 0, 0, 0),
    ]  # fmt: skip
    code = b"".join(struct.pack("<BBhi", *insn) for insn in call) + function
    prog = bpfsys.prog_load(bpfsys.RAW_TRACEPOINT, code, "nattrace_pcap")
    try:
        return bool(bpfsys.test_run(prog))
    finally:
        os.close(prog)


class TestKernel:
    pytestmark = kernel

    @pytest.mark.parametrize("expression", EXPRESSIONS)
    def test_the_kernel_agrees_with_libpcap(self, expression: str) -> None:
        function = pcap.function(expression)
        packet_map = bpfsys.map_create(bpfsys.ARRAY, 4, 2048, 1, "nt_test")
        try:
            for data in packets(60):
                if len(data) <= pcap.SEEN:
                    assert kernel_says(function, packet_map, data) == libpcap_says(expression, data), data.hex()
        finally:
            os.close(packet_map)


def test_a_bad_expression_is_told_in_libpcaps_words() -> None:
    with pytest.raises(InputError, match="syntax error"):
        pcap.function("udp prot 5")
