"""``-m osf``: the sender's operating system by its SYN. net/netfilter/xt_osf.c, nfnetlink_osf.c nf_osf_match().

The fingerprints live in the kernel and are in no dump, so a SYN is undecided; anything else never matches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.packet import IPPROTO_TCP, TH_SYN
from ..model.rule import NF_INET_FORWARD, NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import by_name, number, opt, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match(
    "osf",
    hooks=(NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_FORWARD),
    doc="-p tcp -m osf ! --genre Linux --ttl 0 --log 1",
)
@dataclass(frozen=True, slots=True)
class Osf(Match):
    """``ttl`` and ``log``: how to compare the ttl, what to log."""

    options = (Opt("--genre", 1, True), Opt("--ttl", 1), Opt("--log", 1))
    genre: str
    negated: bool = False
    ttl: int | None = None
    log: int | None = None

    @classmethod
    def parse(cls, found: Found, at: At) -> Osf:
        got = by_name(found)
        if "--genre" not in got:
            raise at.error("-m osf needs --genre")
        if at.proto != IPPROTO_TCP or at.proto_negated:
            raise at.error("-m osf needs -p tcp")
        ttl, log = (number(at, name, got[name].args[0], 2) if name in got else None for name in ("--ttl", "--log"))
        return cls(got["--genre"].args[0], got["--genre"].negated, ttl, log)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        if skb.proto != IPPROTO_TCP or not skb.tcp_flags & TH_SYN:
            return False
        return ctx.unknown(f"-m osf --genre {self.genre}: the kernel's fingerprints are not in the snapshot")

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        return Miss(f"{said(self.negated)}--genre {self.genre}", self.genre, "only a SYN can match")

    def words(self) -> list[str]:
        out = opt("--genre", self.negated, self.genre)
        if self.ttl is not None:
            out += opt("--ttl", False, self.ttl)
        return out if self.log is None else out + opt("--log", False, self.log)
