"""HMARK's hash, against marks that Linux 6.18.44 gave (counted by -m mark rules behind it in mangle OUTPUT)."""

from __future__ import annotations

import pytest
from nattrace.sim.model.addr import AF_INET
from nattrace.sim.model.packet import IPPROTO_UDP, Skb
from unit.targets.vocabulary import context, ip, packet, read, tracked

FLOWS = [("10.0.0.77", 4000, 53), ("10.0.0.77", 53, 4000), ("10.0.0.78", 40001, 443), ("10.0.0.78", 1, 65535)]
TAIL = "--hmark-mod 16 --hmark-offset 100"
RECORDED = {
    f"--hmark-tuple src,dst,sport,dport --hmark-rnd 0xcafe {TAIL}": (111, 111, 113, 107),
    f"--hmark-src-prefix 24 --hmark-dst-prefix 32 --hmark-sport-mask 0xff00 --hmark-proto-mask 0xffff --hmark-rnd 0x1 {TAIL}":
        (111, 103, 107, 101),
    f"--hmark-tuple src,dst,proto,sport --hmark-dport 0x0005 --hmark-rnd 0xdeadbeef {TAIL}": (114, 101, 109, 104),
}  # fmt: skip


BY_ENTRY = (102, 102, 108, 101)


def udp(dst: str, sport: int, dport: int) -> Skb:
    return packet("udp", "10.0.0.1", dst, sport, dport)


@pytest.mark.parametrize("options", RECORDED, ids=["symmetric", "masked", "set"])
def test_the_mark_is_the_kernels(options: str) -> None:
    target, marks = read(f"-j HMARK {options}", "mangle"), []
    for flow in FLOWS:
        skb = udp(*flow)
        target.apply(skb, context("OUTPUT"))
        marks.append(skb.mark)
    assert tuple(marks) == RECORDED[options]


def test_by_entry_nothing_happens_without_one() -> None:
    skb = udp(*FLOWS[0])
    read(f"-j HMARK --hmark-tuple ct,src --hmark-rnd 7 {TAIL}", "mangle").apply(skb, context("OUTPUT"))
    assert skb.mark == 0


def test_by_entry_the_mark_is_the_kernels() -> None:
    marks = []
    for flow in FLOWS:
        skb, ctx = udp(*flow), context("OUTPUT")
        tracked(skb, ctx)
        read(f"-j HMARK --hmark-tuple ct,src,dst,sport,dport --hmark-rnd 7 {TAIL}", "mangle").apply(skb, ctx)
        marks.append(skb.mark)
    assert tuple(marks) == BY_ENTRY


def test_an_icmp_error_is_hashed_as_the_packet_it_is_about() -> None:
    options = f"-j HMARK --hmark-tuple src,dst,sport,dport --hmark-rnd 0xcafe {TAIL}"
    error = Skb(AF_INET, 1, ip("192.0.2.1"), ip("10.0.0.1"))
    error.icmp_type, error.inner = 3, udp(*FLOWS[2])
    assert error.inner.proto == IPPROTO_UDP
    read(options, "mangle").apply(error, context())
    assert error.mark == 113
