"""Matches on extension headers of IPv6 and on SRv6, mobility and EUI-64: read and printed, not modelled.

The engine keeps no extension headers, so a rule with one of these is undecided. net/ipv6/netfilter/ip6t_*.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from ..model.addr import AF_INET6
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import opt

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@dataclass(frozen=True, slots=True)
class _Unmodelled(Match):
    """``criteria`` as written: (option, negated, words)."""

    options: ClassVar[tuple[Opt, ...]] = ()
    criteria: tuple[tuple[str, bool, tuple[str, ...]], ...] = ()

    @classmethod
    def parse(cls, found: Found, at: At) -> Self:
        order = [option.name for option in cls.options]
        rows = sorted(found, key=lambda got: order.index(got.name))
        return cls(tuple((got.name, got.negated, got.args) for got in rows))

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return ctx.unknown(f"-m {self.name}: not modelled for IPv6")

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        return Miss(f"-m {self.name}", " ".join(self.words()), "it is not modelled")

    def words(self) -> list[str]:
        return [word for name, negated, args in self.criteria for word in opt(name, negated, *args)]


@match("ipv6header", families=(AF_INET6,), doc="-m ipv6header --header hop-by-hop --soft")
@dataclass(frozen=True, slots=True)
class Ipv6header(_Unmodelled):
    """Which extension headers are present."""

    options = (Opt("--header", 1, True), Opt("--soft", 0))


@match("frag", families=(AF_INET6,), doc="-m frag --fragid 10 --fragfirst")
@dataclass(frozen=True, slots=True)
class Frag(_Unmodelled):
    """The fragment header."""

    options = (
        Opt("--fragid", 1, True),
        Opt("--fraglen", 1, True),
        Opt("--fragres", 0),
        Opt("--fragfirst", 0),
        Opt("--fragmore", 0),
        Opt("--fraglast", 0),
    )


@match("hbh", families=(AF_INET6,), doc="-m hbh --hbh-len 5")
@dataclass(frozen=True, slots=True)
class Hbh(_Unmodelled):
    """Hop-by-hop options."""

    options = (Opt("--hbh-len", 1, True), Opt("--hbh-opts", 1))


@match("dst", families=(AF_INET6,), doc="-m dst --dst-len 42")
@dataclass(frozen=True, slots=True)
class Dst(_Unmodelled):
    """Destination options."""

    options = (Opt("--dst-len", 1, True), Opt("--dst-opts", 1))


@match("rt", families=(AF_INET6,), doc="-m rt --rt-type 0 --rt-segsleft 1:23")
@dataclass(frozen=True, slots=True)
class Rt(_Unmodelled):
    """The routing header."""

    options = (
        Opt("--rt-type", 1, True),
        Opt("--rt-segsleft", 1, True),
        Opt("--rt-len", 1, True),
        Opt("--rt-0-res", 0),
        Opt("--rt-0-addrs", 1),
        Opt("--rt-0-not-strict", 0),
    )


@match("mh", families=(AF_INET6,), doc="-p 135 -m mh --mh-type 1")
@dataclass(frozen=True, slots=True)
class Mh(_Unmodelled):
    """Mobile IPv6."""

    options = (Opt("--mh-type", 1, True),)


@match("srh", families=(AF_INET6,), doc="-m srh --srh-segs-left-eq 3")
@dataclass(frozen=True, slots=True)
class Srh(_Unmodelled):
    """The segment routing header."""

    options = (
        *(Opt(f"--srh-{name}", 1, True) for name in ("next-hdr",)),
        *(
            Opt(f"--srh-{name}-{how}", 1, True)
            for name in ("hdr-len", "segs-left", "last-entry")
            for how in ("eq", "gt", "lt")
        ),
        *(Opt(f"--srh-{name}", 1, True) for name in ("tag", "psid", "nsid", "lsid")),
    )


@match("eui64", families=(AF_INET6,), doc="-m eui64")
@dataclass(frozen=True, slots=True)
class Eui64(_Unmodelled):
    """Whether the source is made of the sender's MAC address."""
