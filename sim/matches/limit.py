"""``-m limit``: a token bucket for the rule. net/netfilter/xt_limit.c limit_mt(); net/netfilter/nft_limit.c.

iptables-nft writes it as an nft limit expression, which counts nanoseconds where xt_limit counts jiffies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import HZ, U32, assume_fresh, by_name, jiffies, native, number, opt

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

SCALE = 10000  # XT_LIMIT_SCALE
CREDITS_PER_JIFFY = 128  # POW2_BELOW32(MAX_CPJ) at HZ=250
DEFAULT_BURST = 5
UNITS = (("day", 86400), ("hour", 3600), ("min", 60), ("sec", 1))
NSEC = 1_000_000_000


def parse_rate(at: At, option: str, text: str, scale: int) -> tuple[int, int]:
    """``n[/unit]`` to (average distance of packets in seconds * scale, seconds of the unit)."""
    count, slash, unit = text.partition("/")
    seconds = 1
    if slash:
        names = (("second", 1), ("minute", 60), ("hour", 3600), ("day", 86400))
        fits = [length for name, length in names if unit and name.startswith(unit.lower())]
        if not fits:
            raise at.error(f"{option}: unknown unit of time in {text!r}", "one of second, minute, hour, day")
        seconds = fits[0]
    n = number(at, option, count, 1 << 62, 1)
    if scale * seconds // n == 0:
        raise at.error(f"{option}: rate too fast: {text!r}")
    return scale * seconds // n, seconds


def unit_of(average: int, scale: int) -> tuple[int, str, int]:
    """How iptables shows an average: (count, unit, seconds of the unit)."""
    chosen = UNITS[0]
    for unit in UNITS[1:]:
        length = unit[1] * scale
        if average > length or length // average < length % average:
            break
        chosen = unit
    return chosen[1] * scale // average, chosen[0], chosen[1]


def user2credits(user: int) -> int:
    """xt_limit.c user2credits(), 32 bits."""
    user &= U32
    if user > U32 // (HZ * CREDITS_PER_JIFFY):
        return user // SCALE * HZ * CREDITS_PER_JIFFY & U32
    return user * HZ * CREDITS_PER_JIFFY // SCALE


@match("limit", doc="-m limit --limit 3/min --limit-burst 10")
@dataclass(frozen=True, slots=True)
class Limit(Match):
    """``average``: seconds between packets * 10000."""

    options = (Opt("--limit", 1), Opt("--limit-burst", 1))
    average: int
    burst: int = DEFAULT_BURST

    @classmethod
    def parse(cls, found: Found, at: At) -> Limit:
        got = by_name(found)
        rate = got["--limit"].args[0] if "--limit" in got else "3/hour"  # XT_LIMIT_AVG
        burst = number(at, "--limit-burst", got["--limit-burst"].args[0], 10000) if "--limit-burst" in got else 5
        return cls(parse_rate(at, "--limit", rate, SCALE)[0], burst)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        hit, ctx.hs.match_state[ctx.slot] = self._evaluate(ctx)
        return hit

    def _evaluate(self, ctx: Ctx) -> tuple[bool, tuple[int, int]]:
        """Whether there is a token, and the bucket afterwards: (time of the last evaluation, credit)."""
        if native(ctx):
            count, _, seconds = unit_of(self.average, SCALE)
            now, per_tick = int(ctx.now * NSEC), 1
            cost = seconds * NSEC // count
            cap = cost * (self.burst or DEFAULT_BURST)
        else:
            now, per_tick = jiffies(ctx), CREDITS_PER_JIFFY
            cost, cap = user2credits(self.average), user2credits(self.average * self.burst)
        bucket = ctx.hs.match_state.get(ctx.slot)
        if bucket is None:
            assume_fresh(ctx, "-m limit is taken to have been idle: its bucket is full")
            bucket = (now, cap)
        credit = min(cap, bucket[1] + (now - bucket[0]) * per_tick)
        return (True, (now, credit - cost)) if credit >= cost else (False, (now, credit))

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        return Miss(" ".join(words), words[1], "the bucket is empty: packets came faster")

    def words(self) -> list[str]:
        count, unit, _ = unit_of(self.average, SCALE)
        out = opt("--limit", False, f"{count}/{unit}")
        return out if self.burst == DEFAULT_BURST else out + opt("--limit-burst", False, self.burst)
