"""The short way out in front of a tap lets go of exactly what the filter does not ask for, run here instruction by instruction."""

from __future__ import annotations

import ipaddress
import random
import struct
from dataclasses import replace

import pytest
from nattrace.tracer.live import prologue
from nattrace.tracer.live.filter import Filter, Term

MACROS = {"O_NFCT": 104, "O_TUPLE": 32, "REPLY": 56, "O_CT_STATUS": 128, "WINDOW_ID": 5}
ENTRY = 0x10000
ADDRESSES = ["10.0.0.1", "10.0.0.2", "192.0.2.200", "255.255.255.1", "2001:db8::1", "2001:db8:ffff::9"]


def packed(source: str, sport: int, target: str, dport: int, proto: int) -> bytes:
    """struct nf_conntrack_tuple."""
    ends = [ipaddress.ip_address(text) for text in (source, target)]
    family = 2 if ends[0].version == 4 else 10
    s, d = (end.packed.ljust(16, b"\0") for end in ends)
    return s + struct.pack(">H", sport) + struct.pack("<H", family) + d + struct.pack(">HBB", dport, proto, 0)


def lets_go(code: bytes, nfct: int, entry: bytes) -> bool:
    """Run it: True if it ends the program, False if it comes out at its end."""
    registers = [0] * 11
    registers[1] = 1
    at, size = 0, len(code) // 8
    while at < size:
        op, regs, off, imm = struct.unpack_from("<BBhI", code, at * 8)
        dst, src = regs & 15, regs >> 4
        signed = imm - (1 << 32) if imm >= 1 << 31 else imm
        value, low = registers[dst], registers[dst] & 0xFFFFFFFF
        at += 1
        if op == 0x79:  # of the context or of the packet
            registers[dst] = {(1, 8): 2, (2, MACROS["O_NFCT"]): nfct}[registers[src], off]
        elif op == 0x61:
            place = registers[src] + off - ENTRY
            registers[dst] = int.from_bytes(entry[place : place + 4], "little")
        elif op == 0xBF:
            registers[dst] = registers[src]
        elif op == 0xB7:
            registers[dst] = signed & (1 << 64) - 1
        elif op == 0x57:
            registers[dst] = value & signed & (1 << 64) - 1
        elif op == 0x54:
            registers[dst] = low & imm
        elif op == 0x77:
            registers[dst] = value >> imm
        elif op == 0xDC:
            registers[dst] = int.from_bytes((value & 0xFFFF).to_bytes(2, "little"), "big")
        elif op == 0x85:
            registers[0] = registers[1]
        elif op == 0x95:
            assert registers[0] == 1, "accepted, always"
            return True
        else:
            taken = {
                0x05: True,
                0x15: value == imm,
                0x56: low != imm,
                0xA6: low < imm,
                0x26: low > imm,
                0x45: bool(value & signed),
            }
            at += off if taken[op] else 0
    assert registers[1] == 1, "the program behind gets its context"
    return False


def hits(term: Term, source: str, sport: int, target: str, dport: int, proto: int) -> bool:
    """The same in plain words."""
    if term.proto not in (None, proto):
        return False
    ways = [(source, sport, target, dport)] + ([] if term.one_way else [(target, dport, source, sport)])
    return any(
        (term.src is None or ipaddress.ip_address(a) in term.src)
        and (term.dst is None or ipaddress.ip_address(b) in term.dst)
        and (term.sport is None or term.sport[0] <= p <= term.sport[1])
        and (term.dport is None or term.dport[0] <= q <= term.dport[1])
        for a, p, b, q in ways
    )


def random_term(rng: random.Random) -> Term:
    def net() -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
        if rng.random() < 0.4:
            return None
        address = rng.choice(ADDRESSES[:4] if family == 4 else ADDRESSES[4:])
        return ipaddress.ip_network(
            f"{address}/{rng.choice([32, 24, 8, 31] if family == 4 else [128, 64, 33])}", strict=False
        )

    def ports() -> tuple[int, int] | None:
        return None if rng.random() < 0.5 else rng.choice([(53, 53), (1000, 2000), (1, 65535), (65535, 65535)])

    family = rng.choice([4, 6])
    proto = rng.choice([6, 17])
    return Term(proto, net(), net(), ports(), ports(), rng.random() < 0.2)


@pytest.mark.parametrize("seed", range(60))
def test_it_lets_go_of_what_no_term_asks_for_and_of_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    wanted = Filter(tuple(random_term(rng) for _ in range(rng.choice([1, 2]))))
    code = prologue.tap(wanted, MACROS, 77)
    assert code
    for _ in range(200):
        pool = ADDRESSES[:4] if rng.random() < 0.6 else ADDRESSES[4:]
        proto = rng.choice([6, 17, 1])
        flow = (rng.choice(pool), rng.choice([53, 1500, 65535]), rng.choice(pool), rng.choice([53, 999, 2000]), proto)
        back = (rng.choice(pool), rng.choice([53, 1000]), rng.choice(pool), rng.choice([53, 1024]), proto)
        nat = rng.random() < 0.5
        reply = back if nat else (flow[2], flow[3], flow[0], flow[1], proto)
        entry = bytearray(200)
        entry[32:72], entry[88:128] = packed(*flow), packed(*reply)
        entry[128:132] = struct.pack("<I", 8 | (0x10 if nat else 0))
        asked = any(hits(term, *flow) or (nat and hits(term, *reply)) for term in wanted.terms)
        assert lets_go(code, ENTRY | rng.randrange(8), bytes(entry)) == (not asked)


def test_without_an_entry_or_with_a_template_the_filter_itself_decides() -> None:
    code = prologue.tap(Filter.of(proto="udp", src="10.0.0.1"), MACROS, 77)
    template = bytearray(200)
    template[128:132] = struct.pack("<I", 1 << 11)
    assert not lets_go(code, 7, bytes(200))
    assert not lets_go(code, ENTRY, bytes(template))


def test_what_it_cannot_judge_it_leaves_alone() -> None:
    plain = Filter.of(proto="udp", src="10.0.0.1")
    assert prologue.tap(plain, MACROS, None) == b""
    for wanted in (
        Filter.everything(),
        Filter.of(proto="icmp", sport=7),
        Filter.of(dport=53),
        replace(plain, mark=(1, 1)),
        replace(plain, uid=0),
        replace(plain, ifindex=2),
        replace(plain, pcap="udp"),
    ):
        assert prologue.tap(wanted, MACROS, 77) == b""


def test_no_instruction_is_out_of_reach() -> None:
    """The verifier refuses a program with such a one: a protocol alone has no ends to compare in two directions."""
    for wanted in (Filter.of(proto="udp"), Filter.of(proto="udp", src="10.0.0.1"), Filter.of(src="10.0.0.1")):
        code = prologue.tap(wanted, MACROS, 77)
        size, reached, todo = len(code) // 8, set(), [0]
        while todo:
            at = todo.pop()
            if at in reached or at == size:
                continue
            reached.add(at)
            op, _, off, _ = struct.unpack_from("<BBhi", code, 8 * at)
            jumps = op & 7 in (5, 6) and op not in (0x85, 0x95)
            todo += [at + 1 + off] if jumps else []
            todo += [at + 1] if op not in (0x05, 0x95) else []
        assert reached == set(range(size))
