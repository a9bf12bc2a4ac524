"""Address and port ranges as the NAT targets write them: iptables extensions/libxt_NAT.c parse_to(), parse_ports().

10.0.0.5   10.0.0.5-10.0.0.9   10.0.0.5:80   10.0.0.5:8000-8010   10.0.0.5:8000-8010/5000   :80
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET, parse_addr
from ..model.packet import IPPROTO_DCCP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP
from ..record import NamedTuple
from .common import Options, port_number, show_addr

if TYPE_CHECKING:
    from ..engine.nat import NatRange

# Protocols for which iptables takes a port; for ICMP it means the id.
WITH_RANGE = frozenset((IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_DCCP, IPPROTO_ICMP, IPPROTO_ICMPV6))

# enum nf_nat_range flags, include/uapi/linux/netfilter/nf_nat.h
MAP_IPS, PROTO_SPECIFIED, PROTO_RANDOM, PERSISTENT, PROTO_RANDOM_FULLY, PROTO_OFFSET = 1, 2, 4, 8, 16, 32

FLAG_OPTIONS = {"--random": PROTO_RANDOM, "--random-fully": PROTO_RANDOM_FULLY, "--persistent": PERSISTENT}


class Ports(NamedTuple):
    """``low``-``high``, both inclusive; ``base``: the port that is mapped to ``low`` (None: not shifted)."""

    low: int
    high: int
    base: int | None = None

    def __str__(self) -> str:
        text = str(self.low) if self.low == self.high else f"{self.low}-{self.high}"
        return text if self.base is None else f"{text}/{self.base}"


class Span(NamedTuple):
    """What the target was told: addresses (None: unchanged), ports (None: any), flag bits."""

    family: int = AF_INET
    addrs: tuple[int, int] | None = None
    ports: Ports | None = None
    flags: int = 0

    def __str__(self) -> str:
        text = ""
        if self.addrs is not None:
            low, high = self.addrs
            text = show_addr(self.family, low, self.ports is not None)
            if low != high:
                text += f"-{show_addr(self.family, high, self.ports is not None)}"
        return text if self.ports is None else f"{text}:{self.ports}"

    def flag_words(self) -> list[str]:
        return [word for word, bit in FLAG_OPTIONS.items() if self.flags & bit]

    def range(self) -> NatRange:
        """struct nf_nat_range2."""
        from ..engine.nat import NatRange

        low, high = self.addrs or (0, 0)
        flags = self.flags | (MAP_IPS if self.addrs is not None else 0)
        ports = self.ports or Ports(0, 0)
        if self.ports is not None:
            flags |= PROTO_SPECIFIED
            if ports.base is not None:
                flags |= PROTO_OFFSET
        return NatRange(low, high, ports.low, ports.high, ports.base or 0, flags)


def flags_of(options: Options) -> int:
    """The bits of --random, --random-fully and --persistent."""
    return sum(bit for word, bit in FLAG_OPTIONS.items() if word in options)


def parse_ports(options: Options, name: str, text: str, shifted: bool) -> Ports:
    """``PORT``, ``LOW-HIGH`` and, where allowed, ``LOW-HIGH/BASE``."""
    at = options.at
    if at.proto not in WITH_RANGE or at.proto_negated:
        raise at.error(
            f"{options.target}: a port needs -p tcp, udp, sctp, dccp or icmp in the rule",
            "add the protocol, or leave out the port",
        )
    span, slash, base_text = text.partition("/")
    low_text, dash, high_text = span.partition("-")
    try:
        low = port_number(low_text, at.proto)
        high = port_number(high_text, at.proto) if dash else low
        base = port_number(base_text, at.proto) if slash else None
    except ValueError:
        raise options.bad(name, "a port from 0 to 65535, or LOW-HIGH") from None
    if high < low:
        raise options.bad(name, f"the port range {low}-{high} runs backwards")
    if slash and not (shifted and dash):
        raise options.bad(name, "a base port belongs to a port range of DNAT")
    return Ports(low, high, base)


def parse_span(options: Options, name: str, shifted: bool = False) -> Span:
    """The value of --to-source or --to-destination, with the flags of the rule."""
    text = options.need(name)
    addr_text, ports_text = _split(text, options.at.family)
    ports = None if ports_text is None else parse_ports(options, name, ports_text, shifted)
    addrs = None
    if addr_text:
        low_text, dash, high_text = addr_text.partition("-")
        low = _addr(options, name, low_text)
        addrs = (low, _addr(options, name, high_text) if dash else low)
    elif ports is None:
        raise options.bad(name, "an address, an address range or a port")
    return Span(options.at.family, addrs, ports, flags_of(options))


def _split(text: str, family: int) -> tuple[str, str | None]:
    """The address part and the port part (None where there is none)."""
    if family == AF_INET:
        head, colon, tail = text.partition(":")
        return head, tail if colon else None
    head, bracket, tail = text.rpartition("]")
    if bracket:
        return f"{head}]", tail[1:] if tail.startswith(":") else None
    return (text, None) if not text.startswith(":") or text.startswith("::") else ("", text[1:])


def _addr(options: Options, name: str, text: str) -> int:
    try:
        family, value = parse_addr(text.removeprefix("[").removesuffix("]"))
    except (ValueError, OSError):
        raise options.bad(name, f"{text!r} is not an address") from None
    if family != options.at.family:
        raise options.bad(name, f"{text!r} is of the other IP version")
    return value
