"""``-m quota``: bytes until it is used up. net/netfilter/xt_quota.c quota_mt().

What is left is in no dump; where quota is the last match of a rule with counters, the rule's bytes were spent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U64, assume_fresh, is_fresh, number, opt, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("quota", doc="-m quota ! --quota 100000")
@dataclass(frozen=True, slots=True)
class Quota(Match):
    """Bytes of IP packets; the first packet that does not fit empties it."""

    options = (Opt("--quota", 1, True),)
    limit: int
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Quota:
        if not found:
            raise at.error("-m quota needs --quota")
        return cls(number(at, "--quota", found[0].args[0], U64), found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        left = self._left(ctx)
        fits = left >= skb.length
        ctx.hs.match_state[ctx.slot] = left - skb.length if fits else 0
        return fits != self.negated

    def _left(self, ctx: Ctx) -> int:
        left = ctx.hs.match_state.get(ctx.slot)
        if left is not None:
            return int(left)
        rule = ctx.rule
        if not is_fresh(ctx) and rule is not None and rule.counters is not None:
            if rule.matches[-1] is self and not self.negated:
                return max(0, self.limit - rule.counters[1])
        assume_fresh(ctx, "-m quota is taken to be unused")
        return self.limit

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        return Miss(
            " ".join(words), said(self.negated) + words[-1], f"{ctx.hs.match_state.get(ctx.slot, 0)} bytes are left"
        )

    def words(self) -> list[str]:
        return opt("--quota", self.negated, self.limit)
