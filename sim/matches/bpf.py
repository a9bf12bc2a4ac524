"""``-m bpf``: a classic BPF program over the packet. net/netfilter/xt_bpf.c bpf_mt(), net/core/filter.c.

The packet begins at its IP header. A load beyond its end ends the program with 0 (no match).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine import wire
from ..model.addr import AF_INET
from ..model.rule import Match, Miss
from ..record import NamedTuple, dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U8, U16, U32, number, opt, quoted
from .pkttype import packet_type

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

MAX_PROGRAM = 64  # XT_BPF_MAX_NUM_INSTR
SKF_AD_OFF, SKF_NET_OFF, SKF_LL_OFF = -0x1000, -0x100000, -0x200000
SIZE = {0x00: 4, 0x08: 2, 0x10: 1}  # BPF_W, BPF_H, BPF_B


class Insn(NamedTuple):
    """struct sock_filter."""

    code: int
    jt: int
    jf: int
    k: int


class Undecided(Exception):
    """The program reads something that nobody can know; the text says what."""


@match("bpf", doc='-m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0"')
@dataclass(frozen=True, slots=True)
class Bpf(Match):
    """``pinned``: path of an eBPF object instead of a program, which no snapshot has."""

    options = (Opt("--bytecode", 1), Opt("--object-pinned", 1))
    program: tuple[Insn, ...] = ()
    pinned: str | None = None

    @classmethod
    def parse(cls, found: Found, at: At) -> Bpf:
        if len(found) != 1:
            raise at.error("-m bpf needs one of --bytecode, --object-pinned")
        if found[0].name == "--object-pinned":
            return cls(pinned=found[0].args[0])
        return cls(parse_program(at, found[0].args[0]))

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        if self.pinned is not None:
            return ctx.unknown(f"-m bpf --object-pinned {self.pinned}: the program is not in the snapshot")
        try:
            return run(self.program, skb, ctx) != 0
        except Undecided as why:
            return ctx.unknown(f"-m bpf: the program reads {why}", "missing_input")

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        return Miss(" ".join(words), "a result other than 0", "the program returns 0")

    def words(self) -> list[str]:
        if self.pinned is not None:
            return opt("--object-pinned", False, self.pinned)
        text = ",".join([str(len(self.program)), *(" ".join(map(str, insn)) for insn in self.program)])
        return opt("--bytecode", False, quoted(text))


def parse_program(at: At, text: str) -> tuple[Insn, ...]:
    """``n,code jt jf k,…``, checked as bpf_check_classic() does: known codes, forward jumps, a return at the end."""
    head, *rows = text.replace("\n", ",").rstrip(", ").split(",")
    count = number(at, "--bytecode", head, MAX_PROGRAM, 1)
    if count != len(rows):
        raise at.error(f"--bytecode: {count} instructions announced, {len(rows)} given")
    program = []
    for row in rows:
        parts = row.split()
        if len(parts) != 4:
            raise at.error(f"--bytecode: an instruction has four numbers: {row!r}")
        limits = (U16, U8, U8, U32)
        program.append(Insn(*(number(at, "--bytecode", p, top) for p, top in zip(parts, limits, strict=True))))
    for place, insn in enumerate(program):
        jump = 0
        if insn.code & 7 == 5:
            jump = insn.k if insn.code == 0x05 else max(insn.jt, insn.jf)
        if insn.code not in CODES or place + 1 + jump > len(program) - (insn.code & 7 != 6):
            raise at.error(f"--bytecode: instruction {place} ({' '.join(map(str, insn))}) is not valid")
    return tuple(program)


CODES = frozenset(
    [0x00, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x80]  # ld
    + [0x01, 0x61, 0x81, 0xB1, 0x02, 0x03]  # ldx, st, stx
    + [op | src | 0x04 for op in range(0x00, 0xB0, 0x10) for src in (0, 8)]  # alu
    + [0x05, *(op | src | 0x05 for op in (0x10, 0x20, 0x30, 0x40) for src in (0, 8))]  # jmp
    + [0x06, 0x16, 0x07, 0x87]  # ret, misc
)


def run(program: tuple[Insn, ...], skb: Skb, ctx: Ctx) -> int:
    """Interpret; the accumulator at the return."""
    packet = wire.build(skb, ctx)
    a = x = place = 0
    memory = [0] * 16
    while True:
        code, jt, jf, k = program[place]
        place += 1
        kind = code & 7
        if kind == 6:
            return a if code == 0x16 else k
        if kind == 5:
            operand = x if code & 8 else k
            place += k if code == 0x05 else jt if _compare(code & 0xF0, a, operand) else jf
        elif kind == 4:
            operand = x if code & 8 else k
            if not operand and code & 0xF0 in (0x30, 0x90):
                return 0  # division by X = 0 ends the program
            a = _arithmetic(code & 0xF0, a, operand)
        elif kind == 7:
            if code == 0x07:
                x = a
            else:
                a = x
        elif kind in (2, 3):
            memory[k & 15] = a if kind == 2 else x
        else:
            value = _load(code, k, x, memory, packet, skb, ctx)
            if value is None:
                return 0
            if kind == 0:
                a = value
            else:
                x = value


def _compare(op: int, a: int, operand: int) -> bool:
    if op == 0x10:
        return a == operand
    if op == 0x20:
        return a > operand
    return a >= operand if op == 0x30 else bool(a & operand)


def _arithmetic(op: int, a: int, operand: int) -> int:
    match op:
        case 0x00:
            result = a + operand
        case 0x10:
            result = a - operand
        case 0x20:
            result = a * operand
        case 0x30:
            result = a // operand
        case 0x40:
            result = a | operand
        case 0x50:
            result = a & operand
        case 0x60:
            result = a << (operand & 31)
        case 0x70:
            result = a >> (operand & 31)
        case 0x80:
            result = -a
        case 0x90:
            result = a % operand
        case _:
            result = a ^ operand
    return result & U32


def _load(code: int, k: int, x: int, memory: list[int], packet: wire.Wire, skb: Skb, ctx: Ctx) -> int | None:
    """BPF_LD and BPF_LDX; None beyond the packet."""
    mode = code & 0xE0
    if mode == 0x00:
        return k
    if mode == 0x60:
        return memory[k & 15]
    if mode == 0x80:
        return len(packet.data)
    offset = k - (1 << 32) if k >> 31 else k
    if mode == 0xA0:  # BPF_MSH: the length of the IP header
        value = _read(packet, offset, 1)
        return None if value is None else (value & 0xF) << 2
    if mode == 0x20 and SKF_AD_OFF <= offset < 0:
        return _ancillary(offset - SKF_AD_OFF, packet, skb, ctx)
    if mode == 0x40:
        offset = (offset + x + (1 << 31) & U32) - (1 << 31)
    if SKF_LL_OFF <= offset < SKF_NET_OFF:
        raise Undecided("the link layer header")
    if SKF_NET_OFF <= offset < 0:
        offset -= SKF_NET_OFF
    return _read(packet, offset, SIZE[code & 0x18])


def _read(packet: wire.Wire, offset: int, size: int) -> int | None:
    if offset < 0 or offset + size > len(packet.data):
        return None
    if packet.undecided(offset, offset + size):
        raise Undecided(f"bytes {offset} to {offset + size - 1}, which the kernel chooses")
    return int.from_bytes(packet.data[offset : offset + size], "big")


def _ancillary(which: int, packet: wire.Wire, skb: Skb, ctx: Ctx) -> int:
    """SKF_AD_*, include/uapi/linux/filter.h."""
    if which == 0:
        return 0x0800 if skb.family == AF_INET else 0x86DD
    if which == 4:
        return packet_type(skb)
    if which == 20:
        return skb.mark
    if which == 8:
        link = ctx.host.links.get((ctx.outdev if ctx.hook >= 2 else ctx.indev) or "")
        if link is not None:
            return link.ifindex
    if which == 48:
        return 0  # no VLAN tag left on the packet of a routed device
    raise Undecided(f"ancillary data {which}")
