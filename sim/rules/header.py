"""The criteria of the IP header part of a rule: -s -d -i -o -p -f. net/ipv4/netfilter/ip_tables.c ip_packet_match().

They are matches like any other and stand first, in the order in which the kernel compares them, which is also the
order in which iptables-save prints them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..model.addr import BITS, format_addr
from ..model.rule import Match, Miss
from ..record import dataclass
from .names import protocol_name

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

# xt_tables' -p 58 in ip6tables also means "the upper-layer protocol", which is what skb.proto holds.


class HeaderMatch(Match):
    """Printed without ``-m name`` before it. ``place``: its rank in the kernel's order."""

    __slots__ = ()
    place: ClassVar[int] = 0


def _bang(negated: bool, *words: str) -> list[str]:
    return ["!", *words] if negated else list(words)


@dataclass(frozen=True, slots=True)
class _Address(HeaderMatch):
    """An address under a mask, which need not be contiguous. ``value`` has its bits outside the mask cleared."""

    family: int
    value: int
    mask: int
    negated: bool = False

    option: ClassVar[str] = ""

    def _actual(self, skb: Skb) -> int:
        raise NotImplementedError

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return (self._actual(skb) & self.mask == self.value) is not self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        sign = "not " if self.negated else ""
        which = "source" if self.option == "-s" else "destination"
        actual = f"the {which} is {format_addr(skb.family, self._actual(skb))}"
        return Miss(" ".join(self.words()), sign + self.network(), actual)

    def network(self) -> str:
        """``address/length`` or ``address/mask``, as printed."""
        bits = BITS[self.family]
        hole = ~self.mask & ((1 << bits) - 1)
        if hole & (hole + 1):
            return f"{format_addr(self.family, self.value)}/{format_addr(self.family, self.mask)}"
        return f"{format_addr(self.family, self.value)}/{bits - hole.bit_length()}"

    def words(self) -> list[str]:
        return _bang(self.negated, self.option, self.network())


class Source(_Address):
    __slots__ = ()
    name: ClassVar[str] = "source"
    option: ClassVar[str] = "-s"
    place: ClassVar[int] = 0

    def _actual(self, skb: Skb) -> int:
        return skb.src


class Destination(_Address):
    __slots__ = ()
    name: ClassVar[str] = "destination"
    option: ClassVar[str] = "-d"
    place: ClassVar[int] = 1

    def _actual(self, skb: Skb) -> int:
        return skb.dst


def interface_matches(pattern: str, device: str | None) -> bool:
    """ifname_compare_aligned(): a trailing ``+`` is a prefix; a missing device has the empty name."""
    name = device or ""
    return name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern


@dataclass(frozen=True, slots=True)
class _Interface(HeaderMatch):
    pattern: str
    negated: bool = False

    option: ClassVar[str] = ""

    def _actual(self, ctx: Ctx) -> str | None:
        raise NotImplementedError

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return interface_matches(self.pattern, self._actual(ctx)) is not self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        device = self._actual(ctx)
        which = "input" if self.option == "-i" else "output"
        actual = f"the {which} interface is {device}" if device else f"there is no {which} interface here"
        return Miss(" ".join(self.words()), ("not " if self.negated else "") + self.pattern, actual)

    def words(self) -> list[str]:
        return _bang(self.negated, self.option, self.pattern)


class InInterface(_Interface):
    __slots__ = ()
    name: ClassVar[str] = "in-interface"
    option: ClassVar[str] = "-i"
    place: ClassVar[int] = 2

    def _actual(self, ctx: Ctx) -> str | None:
        return ctx.indev


class OutInterface(_Interface):
    __slots__ = ()
    name: ClassVar[str] = "out-interface"
    option: ClassVar[str] = "-o"
    place: ClassVar[int] = 3

    def _actual(self, ctx: Ctx) -> str | None:
        return ctx.outdev


@dataclass(frozen=True, slots=True)
class Protocol(HeaderMatch):
    """``number`` is never 0: ``-p all`` is no criterion at all."""

    name: ClassVar[str] = "protocol"
    place: ClassVar[int] = 4
    number: int
    negated: bool = False

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return (skb.proto == self.number) is not self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        sign = "not " if self.negated else ""
        actual = f"the protocol is {protocol_name(skb.proto)}"
        return Miss(" ".join(self.words()), sign + protocol_name(self.number), actual)

    def words(self) -> list[str]:
        return _bang(self.negated, "-p", protocol_name(self.number))


@dataclass(frozen=True, slots=True)
class Fragment(HeaderMatch):
    """``-f``: second and further fragments, that is a fragment offset that is not 0."""

    name: ClassVar[str] = "fragment"
    place: ClassVar[int] = 5
    negated: bool = False

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return (skb.frag != 0) is not self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        wanted = "a whole packet or first fragment" if self.negated else "a second or further fragment"
        actual = f"it is the fragment at byte {skb.frag}" if skb.frag else "it is not a further fragment"
        return Miss(" ".join(self.words()), wanted, actual)

    def words(self) -> list[str]:
        return _bang(self.negated, "-f")
