"""Any tcpdump expression as a function in the kernel: libpcap compiles it, its classic code is translated here.

Classic BPF (net/core/filter.c) has an accumulator, an index and sixteen words of memory; each of its instructions becomes
a few of eBPF. The function gets the address of the IP header, the end of what lies in the linear buffer, and the packet's
length. It sees the first 128 octets: an expression that asks for more does not match, as with a snapshot length.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import struct

from ...sim.errors import InputError, MissingFacility

DLT_RAW = 12  # begins with the IP header
SEEN = 128
FP, R_X, R_A, R_HAVE, R_LEN = 10, 7, 8, 6, 9
PROBE_READ = 113

Insn = tuple[int, int, int, int, int]  # op, dst, src, off, imm
Classic = tuple[int, int, int, int]  # code, jt, jf, k


def classic(expression: str) -> list[Classic]:
    """What libpcap makes of it. Raises InputError with its words, MissingFacility without it."""
    name = ctypes.util.find_library("pcap")
    if name is None:
        raise MissingFacility("a pcap expression needs libpcap", remedy="apt-get install libpcap0.8")
    lib = ctypes.CDLL(name)
    lib.pcap_open_dead.restype = ctypes.c_void_p
    lib.pcap_geterr.restype = ctypes.c_char_p
    lib.pcap_geterr.argtypes = lib.pcap_close.argtypes = [ctypes.c_void_p]
    lib.pcap_compile.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32]
    lib.pcap_freecode.argtypes = [ctypes.c_void_p]
    handle = lib.pcap_open_dead(DLT_RAW, 65535)

    class Program(ctypes.Structure):
        _fields_ = [("count", ctypes.c_uint), ("insns", ctypes.c_void_p)]

    program = Program()
    try:
        if lib.pcap_compile(handle, ctypes.byref(program), expression.encode(), 1, 0xFFFFFFFF):
            words = lib.pcap_geterr(handle).decode(errors="replace")
            raise InputError(f"pcap expression {expression!r}: {words}")
        data = ctypes.string_at(program.insns, program.count * 8)
        lib.pcap_freecode(ctypes.byref(program))
    finally:
        lib.pcap_close(handle)
    return [struct.unpack_from("<HBBI", data, at) for at in range(0, len(data), 8)]


def function(expression: str) -> bytes:
    """The expression as eBPF: r1 address, r2 end, r3 length; r0: 1 if it matches."""
    return translate(classic(expression))


def translate(program: list[Classic]) -> bytes:
    """Classic to extended. Raises InputError for what libpcap does not make of expressions about packets."""
    slots = 1 + max(
        (k & 15 for code, _, _, k in program if code & 7 in (2, 3) or code & 0xE7 in (0x60, 0x61)), default=-1
    )
    blocks = [_prologue(slots)]
    for at, (code, jt, jf, k) in enumerate(program):
        blocks.append(_one(code, jt, jf, k, at))
    blocks.append([(0xB7, 0, 0, 0, 0), (0x95, 0, 0, 0, 0)])  # where loads beyond the packet go: no match
    starts = [0]
    for block in blocks:
        starts.append(starts[-1] + len(block))
    out, end = [], starts[-2]
    for number, block in enumerate(blocks):
        for inner, (op, dst, src, off, imm) in enumerate(block):
            here = starts[number] + inner
            if isinstance(off, _To):
                off = (end if off.classic is None else starts[off.classic + 1]) - here - 1
            out.append(struct.pack("<BBhi", op, dst | src << 4, off, _signed(imm)))
    return b"".join(out)


class _To(int):
    """A jump to a classic instruction, or out (None)."""

    classic: int | None

    def __new__(cls, target: int | None) -> _To:
        made = super().__new__(cls, 0)
        made.classic = target
        return made


OUT = _To(None)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def _mem(slot: int) -> int:
    return -SEEN - 8 * (slot + 1)


def _prologue(slots: int) -> list[Insn]:
    """Copy the packet to the stack, of which there is little: zeroed, with as many words of memory as are used."""
    return [
        (0xBF, R_LEN, 3, 0, 0),
        (0xBF, R_HAVE, 2, 0, 0),
        (0x1F, R_HAVE, 1, 0, 0),  # octets in the linear buffer
        (0xBF, 3, 1, 0, 0),
        (0xB7, R_A, 0, 0, 0),
        (0xB7, R_X, 0, 0, 0),
        *[(0x7B, FP, R_A, -8 * i, 0) for i in range(1, SEEN // 8 + slots + 1)],  # packet and memory, zeroed
        (0x65, R_HAVE, 0, 1, SEEN),  # if s> SEEN
        (0x05, 0, 0, 1, 0),
        (0xB7, R_HAVE, 0, 0, SEEN),
        (0xC5, R_HAVE, 0, OUT, 1),  # if s< 1
        (0xBF, 1, FP, 0, 0),
        (0x07, 1, 0, 0, -SEEN & 0xFFFFFFFF),
        (0xBF, 2, R_HAVE, 0, 0),
        (0x85, 0, 0, 0, PROBE_READ),
        (0x55, 0, 0, OUT, 0),
    ]


def _load(size: int, to: int, base: int, at: int) -> list[Insn]:
    """Big-endian, octet by octet: the stack is read aligned only."""
    made: list[Insn] = [(0x71, to, base, at, 0)]
    for i in range(1, size):
        made += [(0x67, to, 0, 0, 8), (0x71, 0, base, at + i, 0), (0x4F, to, 0, 0, 0)]
    return made


def _fixed(size: int, k: int, to: int) -> list[Insn]:
    if k + size > SEEN:
        return [(0x05, 0, 0, OUT, 0)]
    return [(0xA5, R_HAVE, 0, OUT, k + size), *_load(size, to, FP, k - SEEN)]


def _indexed(size: int, k: int) -> list[Insn]:
    return [
        (0xBF, 1, R_X, 0, 0),
        (0x07, 1, 0, 0, k),
        (0x25, 1, 0, OUT, SEEN - size),
        (0xBF, 2, 1, 0, 0),
        (0x07, 2, 0, 0, size),
        (0x2D, 2, R_HAVE, OUT, 0),
        (0xBF, 3, FP, 0, 0),
        (0x0F, 3, 1, 0, 0),
        *_load(size, R_A, 3, -SEEN),
    ]


SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
ALU = {0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xA0}  # add sub mul div or and lsh rsh mod xor
JUMPS = {0x10: 0x1D, 0x20: 0x2D, 0x30: 0x3D, 0x40: 0x4D}  # jeq jgt jge jset, against a register


def _one(code: int, jt: int, jf: int, k: int, at: int) -> list[Insn]:
    kind, mode, size = code & 7, code & 0xE0, SIZES.get(code & 0x18, 0)
    if kind == 0 and size:  # ld
        made = {
            0x00: [(0xB4, R_A, 0, 0, k)],
            0x20: _fixed(size, k, R_A),
            0x40: _indexed(size, k),
            0x60: [(0x79, R_A, FP, _mem(k & 15), 0)],
            0x80: [(0xBF, R_A, R_LEN, 0, 0)],
        }.get(mode)
    elif kind == 1:  # ldx
        made = {
            0x00: [(0xB4, R_X, 0, 0, k)],
            0x60: [(0x79, R_X, FP, _mem(k & 15), 0)],
            0x80: [(0xBF, R_X, R_LEN, 0, 0)],
            0xA0: [*_fixed(1, k, R_X), (0x57, R_X, 0, 0, 15), (0x67, R_X, 0, 0, 2)],
        }.get(mode)
    elif kind in (2, 3):  # st, stx
        made = [(0x7B, FP, R_A if kind == 2 else R_X, _mem(k & 15), 0)]
    elif kind == 4:
        made = _arithmetic(code, k)
    elif kind == 5:
        made = _jump(code, jt, jf, k, at)
    elif kind == 6:  # ret
        result = R_A if code & 0x18 == 0x10 else None
        made = (
            [(0xB7, 0, 0, 0, 1 if k else 0)]
            if result is None
            else [(0xB7, 0, 0, 0, 1), (0x55, R_A, 0, 1, 0), (0xB7, 0, 0, 0, 0)]
        )
        made.append((0x95, 0, 0, 0, 0))
    else:  # tax, txa
        made = [(0xBF, R_A, R_X, 0, 0)] if code & 0xF8 == 0x80 else [(0xBF, R_X, R_A, 0, 0)]
    if made is None:
        raise InputError(f"nattrace cannot run this pcap expression in the kernel (classic instruction {code:#x})")
    return made


def _arithmetic(code: int, k: int) -> list[Insn] | None:
    op, by_x = code & 0xF0, bool(code & 8)
    if op == 0x80:
        return [(0x84, R_A, 0, 0, 0)]
    if op not in ALU:
        return None
    guard: list[Insn] = [(0x15, R_X, 0, OUT, 0)] if op in (0x30, 0x90) and by_x else []
    return [*guard, (0x04 | op | (8 if by_x else 0), R_A, R_X if by_x else 0, 0, 0 if by_x else k)]


def _jump(code: int, jt: int, jf: int, k: int, at: int) -> list[Insn] | None:
    op, by_x = code & 0xF0, bool(code & 8)
    if op == 0x00:
        return [(0x05, 0, 0, _To(at + 1 + k), 0)]
    if op not in JUMPS:
        return None
    made: list[Insn] = [] if by_x else [(0xB4, 1, 0, 0, k)]
    return [*made, (JUMPS[op], R_A, R_X if by_x else 1, _To(at + 1 + jt), 0), (0x05, 0, 0, _To(at + 1 + jf), 0)]
