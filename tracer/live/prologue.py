"""A few instructions in front of each tap that let go of packets nobody asked for.

The compiled filter must be able to say everything; this says only "certainly not", for filters that are plain flows, and
as shortly as byte code can: constants of this filter as immediates, each word of the conntrack entry loaded once. What it
does not let go of goes on to the compiled filter, which decides as if this were not there. A flood of packets that do
not match pays about half.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from .filter import Filter, Network, Term

R0, R1, R2, R3, R4, R6 = 0, 1, 2, 3, 4, 6
SOURCE, SPORT, TARGET, DPORT = 0, 16, 20, 36  # offsets in struct nf_conntrack_tuple
NAT_BITS, TEMPLATE_BIT = 0x30, 1 << 11
ICMP = (1, 58)

Line = tuple[int, int, int, int, int, str]  # op, dst, src, off, imm, label to jump to


class _Code:
    """Instructions with labels."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.labels: dict[str, int] = {}
        self._fresh = 0

    def add(self, op: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0, to: str = "") -> None:
        """One instruction; ``to``: the label its jump goes to."""
        self.lines.append((op, dst, src, off, imm, to))

    def label(self, name: str) -> None:
        """The next instruction's name."""
        self.labels[name] = len(self.lines)

    def fresh(self) -> str:
        """A name nobody has."""
        self._fresh += 1
        return f".{self._fresh}"

    def done(self) -> bytes:
        """Byte code."""
        out = []
        for at, (op, dst, src, off, imm, to) in enumerate(self.lines):
            off = self.labels[to] - at - 1 if to else off
            out.append(struct.pack("<BBhI", op, dst | src << 4, off, imm & 0xFFFFFFFF))
        return b"".join(out)


LOAD32, MOV, MOV_IMM, AND_IMM, AND32_IMM, SHIFT_IMM, BE16 = 0x61, 0xBF, 0xB7, 0x57, 0x54, 0x77, 0xDC
IF_ZERO, IF_NOT32, IF_BELOW32, IF_ABOVE32, IF_BITS = 0x15, 0x56, 0xA6, 0x26, 0x45
CALL, EXIT, GO = 0x85, 0x95, 0x05


def usable(filter: Filter) -> bool:
    """Whether all that is asked for are flows whose words can be compared one by one."""
    side = (filter.ifindex, filter.mark, filter.uid, filter.pcap)
    if not filter.terms or any(value is not None for value in side):
        return False
    if any((term.proto, term.src, term.dst) == (None, None, None) for term in filter.terms):
        return False
    return all(not (term.sport or term.dport) or term.proto not in (None, *ICMP) for term in filter.terms)


def tap(filter: Filter, macros: Mapping[str, int | str], cast: int | None) -> bytes:
    """What stands in front of a tap (r1: struct bpf_nf_ctx); nothing where it cannot help."""
    if cast is None or not usable(filter):
        return b""
    offset = {name: int(macros[name]) for name in ("O_NFCT", "O_TUPLE", "REPLY", "O_CT_STATUS", "WINDOW_ID")}
    code = _Code()
    code.add(MOV, R6, R1)
    code.add(0x79, R2, R1, 8)  # skb
    code.add(0x79, R1, R2, offset["O_NFCT"])
    code.add(AND_IMM, R1, imm=-8)
    code.add(IF_ZERO, R1, to="judge")
    code.add(MOV_IMM, R2, imm=offset["WINDOW_ID"])
    code.add(CALL, 0, 2, imm=cast)
    _tuple(code, filter, offset["O_TUPLE"])
    code.add(LOAD32, R2, R0, offset["O_CT_STATUS"])
    code.add(IF_BITS, R2, imm=TEMPLATE_BIT, to="judge")
    code.add(IF_BITS, R2, imm=NAT_BITS, to="translated")
    code.add(GO, to="let go")
    code.label("translated")
    _tuple(code, filter, offset["O_TUPLE"] + offset["REPLY"])
    code.label("let go")
    code.add(MOV_IMM, R0, imm=1)  # NF_ACCEPT
    code.add(EXIT)
    code.label("judge")
    code.add(MOV, R1, R6)
    return code.done()


def _tuple(code: _Code, filter: Filter, base: int) -> None:
    """Go to "judge" if any term may hit the tuple at r0 + base; fall through otherwise."""
    code.add(LOAD32, R2, R0, base + SPORT)  # and l3num
    code.add(LOAD32, R3, R0, base + DPORT)  # and the protocol
    for term in filter.terms:
        over = code.fresh()
        _family_and_protocol(code, term, over)
        ends = any(part is not None for part in (term.src, term.dst, term.sport, term.dport))
        for turned in (False,) if term.one_way or not ends else (False, True):  # else the second is out of reach
            other = code.fresh()
            _ends(code, term, base, turned, other)
            code.add(GO, to="judge")
            code.label(other)
        code.label(over)


def _family_and_protocol(code: _Code, term: Term, miss: str) -> None:
    net = term.src or term.dst
    if net is not None:
        code.add(MOV, R4, R2)
        code.add(SHIFT_IMM, R4, imm=16)
        code.add(IF_NOT32, R4, imm=2 if net.version == 4 else 10, to=miss)
    if term.proto is not None:
        code.add(MOV, R4, R3)
        code.add(SHIFT_IMM, R4, imm=16)
        code.add(AND_IMM, R4, imm=0xFF)
        code.add(IF_NOT32, R4, imm=term.proto, to=miss)


def _ends(code: _Code, term: Term, base: int, turned: bool, miss: str) -> None:
    first, second = (R3, R2) if turned else (R2, R3)
    for register, ports in ((first, term.sport), (second, term.dport)):
        if ports is not None:
            code.add(MOV, R4, register)
            code.add(BE16, R4, imm=16)
            code.add(IF_BELOW32, R4, imm=ports[0], to=miss)
            code.add(IF_ABOVE32, R4, imm=ports[1], to=miss)
    places = (TARGET, SOURCE) if turned else (SOURCE, TARGET)
    for place, net in zip(places, (term.src, term.dst), strict=True):
        if net is not None:
            _address(code, base + place, net, miss)


def _address(code: _Code, at: int, net: Network, miss: str) -> None:
    words = struct.Struct(f"<{net.max_prefixlen // 32}I")
    pairs = zip(words.unpack(net.network_address.packed), words.unpack(net.netmask.packed), strict=True)
    for i, (value, mask) in enumerate(pairs):
        if mask:
            code.add(LOAD32, R4, R0, at + 4 * i)
            if mask != 0xFFFFFFFF:
                code.add(AND32_IMM, R4, imm=mask)
            code.add(IF_NOT32, R4, imm=value, to=miss)
