"""DNPT and SNPT: net/ipv6/netfilter/ip6t_NPT.c. Stateless prefix translation of IPv6 (RFC 6296); not modelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET6, Prefix, parse_prefix
from ..model.rule import (
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    V_CONTINUE,
    V_DROP,
    Target,
    Verdict,
)
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@dataclass(frozen=True, slots=True)
class _Npt(Target):
    options = (Opt("--src-pfx"), Opt("--dst-pfx"))
    terminal = True

    src: Prefix
    dst: Prefix

    @classmethod
    def parse(cls, found: Found, at: At) -> _Npt:
        options = Options(cls.name, found, at)
        return cls(_prefix(options, "--src-pfx"), _prefix(options, "--dst-pfx"))

    def words(self) -> list[str]:
        return ["--src-pfx", str(self.src), "--dst-pfx", str(self.dst)]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        dropped = ctx.unknown(f"-j {self.name} (prefix translation) is not modelled: does it drop the packet")
        return V_DROP if dropped else V_CONTINUE


def _prefix(options: Options, name: str) -> Prefix:
    try:
        prefix = parse_prefix(options.need(name))
    except (ValueError, OSError):
        raise options.bad(name, "an IPv6 network, PREFIX/LENGTH") from None
    if prefix.family != AF_INET6:
        raise options.bad(name, "an IPv6 network, PREFIX/LENGTH")
    return prefix


@target(
    "DNPT",
    families=(AF_INET6,),
    tables=("mangle",),
    hooks=(NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT),
    doc="-j DNPT --src-pfx 2001:db8:1::/48 --dst-pfx fd00:1::/48",
)
@dataclass(frozen=True, slots=True)
class Dnpt(_Npt):
    """Translates the destination prefix."""


@target(
    "SNPT",
    families=(AF_INET6,),
    tables=("mangle",),
    hooks=(NF_INET_LOCAL_IN, NF_INET_POST_ROUTING),
    doc="-j SNPT --src-pfx fd00:1::/48 --dst-pfx 2001:db8:1::/48",
)
@dataclass(frozen=True, slots=True)
class Snpt(_Npt):
    """Translates the source prefix."""
