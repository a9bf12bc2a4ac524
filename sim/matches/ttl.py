"""``-m ttl`` and ``-m hl``: time to live, hop limit. net/netfilter/xt_hl.c ttl_mt(), hl_mt6()."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from ..model.addr import AF_INET, AF_INET6
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U8, number, opt

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@dataclass(frozen=True, slots=True)
class _Hops(Match):
    """``mode``: eq, lt or gt; eq may be negated."""

    word: ClassVar[str] = ""
    mode: str
    value: int
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Self:
        if len(found) != 1:
            raise at.error(f"-m {cls.word} needs exactly one of --{cls.word}-eq, --{cls.word}-lt, --{cls.word}-gt")
        name, negated, args = found[0]
        return cls(name.rpartition("-")[2], number(at, name, args[0], U8), negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        if self.mode == "eq":
            return (skb.ttl == self.value) != self.negated
        return skb.ttl < self.value if self.mode == "lt" else skb.ttl > self.value

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        return Miss(" ".join(self.words()), str(self.value), f"it is {skb.ttl}")

    def words(self) -> list[str]:
        return opt(f"--{self.word}-{self.mode}", self.negated, self.value)


@match("ttl", families=(AF_INET,), doc="-m ttl ! --ttl-eq 64")
@dataclass(frozen=True, slots=True)
class Ttl(_Hops):
    """IPv4. FORWARD and later see the decremented value."""

    word = "ttl"
    options = (Opt("--ttl-eq", 1, True, ("--ttl",)), Opt("--ttl-lt", 1), Opt("--ttl-gt", 1))


@match("hl", families=(AF_INET6,), doc="-m hl ! --hl-eq 64")
@dataclass(frozen=True, slots=True)
class Hl(_Hops):
    """IPv6."""

    word = "hl"
    options = (Opt("--hl-eq", 1, True), Opt("--hl-lt", 1), Opt("--hl-gt", 1))
