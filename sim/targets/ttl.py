"""TTL and HL: net/netfilter/xt_HL.c ttl_tg(), hl_tg6()."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..model.addr import AF_INET, AF_INET6
from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@dataclass(frozen=True, slots=True)
class _Hops(Target):
    """``mode``: set, inc or dec; the result stays within 0-255."""

    prefix: ClassVar[str] = ""

    mode: str
    value: int

    @classmethod
    def parse(cls, found: Found, at: At) -> _Hops:
        options = Options(cls.name, found, at)
        name = options.one_of(*(f"--{cls.prefix}-{mode}" for mode in ("set", "inc", "dec")))
        mode = name[-3:]
        value = options.number(name, 0 if mode == "set" else 1, 255)
        assert value is not None
        return cls(mode, value)

    def words(self) -> list[str]:
        return [f"--{self.prefix}-{self.mode}", str(self.value)]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        if self.mode == "set":
            skb.ttl = self.value
        elif self.mode == "inc":
            skb.ttl = min(255, skb.ttl + self.value)
        else:
            skb.ttl = max(0, skb.ttl - self.value)
        return V_CONTINUE


@target("TTL", families=(AF_INET,), tables=("mangle",), doc="-j TTL --ttl-inc 1")
@dataclass(frozen=True, slots=True)
class Ttl(_Hops):
    """Changes the TTL of an IPv4 packet. In OUTPUT this does not reroute."""

    prefix = "ttl"
    options = (Opt("--ttl-set"), Opt("--ttl-inc"), Opt("--ttl-dec"))


@target("HL", families=(AF_INET6,), tables=("mangle",), doc="-j HL --hl-set 64")
@dataclass(frozen=True, slots=True)
class Hl(_Hops):
    """Changes the hop limit of an IPv6 packet; in OUTPUT this reroutes (ip6table_mangle.c)."""

    prefix = "hl"
    options = (Opt("--hl-set"), Opt("--hl-inc"), Opt("--hl-dec"))
