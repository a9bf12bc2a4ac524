"""Addresses as integers with a family beside them, so that IPv6 is data and not a second engine.

The inner form everywhere is a plain ``int`` in host order (10.0.0.1 is 0x0a000001); text exists at the edges only.
"""

from __future__ import annotations

import _socket as socket  # socket itself makes enumerations of all its constants, which takes a millisecond

from ..record import NamedTuple

AF_INET = 2  # include/linux/socket.h
AF_INET6 = 10

BITS = {AF_INET: 32, AF_INET6: 128}
FAMILY_NAME = {AF_INET: "ip", AF_INET6: "ip6"}


def parse_addr(text: str) -> tuple[int, int]:
    """Text to (family, integer). Raises ValueError for anything that is not exactly one address."""
    if ":" in text:
        try:
            return AF_INET6, int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big")
        except OSError:
            raise ValueError(f"not an address: {text[:60]!r}") from None
    parts = text.split(".")
    if len(parts) != 4:
        raise ValueError(f"not an address: {text[:60]!r}")
    value = 0
    for part in parts:
        if not (part.isascii() and part.isdigit()) or len(part) > 3:
            raise ValueError(f"not an address: {text[:60]!r}")
        octet = int(part)
        if octet > 255:
            raise ValueError(f"not an address: {text[:60]!r}")
        value = value << 8 | octet
    return AF_INET, value


def format_addr(family: int, value: int) -> str:
    """Integer to the text the kernel's own tools print."""
    if family == AF_INET:
        return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
    return socket.inet_ntop(socket.AF_INET6, value.to_bytes(16, "big"))


def mask_of(family: int, plen: int) -> int:
    """Netmask of a prefix length."""
    bits = BITS[family]
    return (1 << bits) - (1 << (bits - plen))


class Prefix(NamedTuple):
    """A network; ``value`` has its host bits cleared."""

    family: int
    value: int
    plen: int

    def __contains__(self, addr: object) -> bool:
        return isinstance(addr, int) and (addr ^ self.value) >> (BITS[self.family] - self.plen) == 0

    def __str__(self) -> str:
        return f"{format_addr(self.family, self.value)}/{self.plen}"


def parse_prefix(text: str) -> Prefix:
    """``A``, ``A/len`` or ``A/netmask`` (contiguous) to a Prefix with host bits cleared. Raises ValueError."""
    head, slash, tail = text.partition("/")
    family, value = parse_addr(head)
    bits = BITS[family]
    if not slash:
        plen = bits
    elif tail.isascii() and tail.isdigit():
        plen = int(tail)
        if plen > bits:
            raise ValueError(f"prefix length {plen} is longer than an address of {bits} bits")
    else:
        mask_family, mask = parse_addr(tail)
        inverse = ~mask & ((1 << bits) - 1)
        if mask_family != family or inverse & (inverse + 1):
            raise ValueError(f"not a netmask: {tail!r}")
        plen = bits - inverse.bit_length()
    return Prefix(family, value & mask_of(family, plen), plen)


def is_loopback(family: int, value: int) -> bool:
    return value >> 24 == 127 if family == AF_INET else value == 1


def is_multicast(family: int, value: int) -> bool:
    return value >> 28 == 0xE if family == AF_INET else value >> 120 == 0xFF


def is_limited_broadcast(family: int, value: int) -> bool:
    return family == AF_INET and value == 0xFFFFFFFF


def is_private(family: int, value: int) -> bool:
    """Addresses that nobody on the Internet routes back: RFC 1918, RFC 6598, RFC 3927, RFC 4193."""
    if family == AF_INET:
        return (
            value >> 24 == 10
            or value >> 20 == 0xAC1
            or value >> 16 in (0xC0A8, 0xA9FE)
            or value >> 22 == 0x191  # 100.64.0.0/10
        )
    return value >> 121 == 0x7E or value >> 118 == 0x3FA
