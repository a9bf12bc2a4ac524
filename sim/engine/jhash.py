"""Bob Jenkins' lookup3 as the kernel has it: include/linux/jhash.h. NAT picks addresses of a pool with it."""

from __future__ import annotations

from collections.abc import Sequence

JHASH_INITVAL = 0xDEADBEEF
_M = 0xFFFFFFFF


def _rol(x: int, r: int) -> int:
    return ((x << r) | (x >> (32 - r))) & _M


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    """__jhash_mix"""
    a = ((a - c) & _M) ^ _rol(c, 4)
    c = (c + b) & _M
    b = ((b - a) & _M) ^ _rol(a, 6)
    a = (a + c) & _M
    c = ((c - b) & _M) ^ _rol(b, 8)
    b = (b + a) & _M
    a = ((a - c) & _M) ^ _rol(c, 16)
    c = (c + b) & _M
    b = ((b - a) & _M) ^ _rol(a, 19)
    a = (a + c) & _M
    c = ((c - b) & _M) ^ _rol(b, 4)
    b = (b + a) & _M
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    """__jhash_final"""
    c = ((c ^ b) - _rol(b, 14)) & _M
    a = ((a ^ c) - _rol(c, 11)) & _M
    b = ((b ^ a) - _rol(a, 25)) & _M
    c = ((c ^ b) - _rol(b, 16)) & _M
    a = ((a ^ c) - _rol(c, 4)) & _M
    b = ((b ^ a) - _rol(a, 14)) & _M
    return ((c ^ b) - _rol(b, 24)) & _M


def jhash2(words: Sequence[int], initval: int) -> int:
    """jhash2(): hash of 32-bit words."""
    a = b = c = (JHASH_INITVAL + (len(words) << 2) + initval) & _M
    at, left = 0, len(words)
    while left > 3:
        a, b, c = _mix((a + words[at]) & _M, (b + words[at + 1]) & _M, (c + words[at + 2]) & _M)
        at, left = at + 3, left - 3
    if not left:
        return c
    if left == 3:
        c = (c + words[at + 2]) & _M
    if left >= 2:
        b = (b + words[at + 1]) & _M
    return _final((a + words[at]) & _M, b, c)


def reciprocal_scale(value: int, ceiling: int) -> int:
    """reciprocal_scale(): map 32 random bits onto 0 … ceiling - 1."""
    return (value * (ceiling & _M)) >> 32
