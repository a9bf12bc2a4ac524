"""``-m statistic``: every n-th packet, or a random share. net/netfilter/xt_statistic.c statistic_mt().

The position of the n-th counter is in no dump. Unless the rules were just loaded, every position is equally likely;
the state then holds how many packets may still pass before the next hit, and each answer narrows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine.run import Option
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U32, by_name, is_fresh, number, opt, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

ONE = 0x80000000  # get_random_u32() & 0x7FFFFFFF is compared with probability * 2^31


@match("statistic", doc="-m statistic --mode nth ! --every 3 --packet 0")
@dataclass(frozen=True, slots=True)
class Statistic(Match):
    """``threshold`` of mode random in 2^-31; ``every`` and ``packet`` of mode nth."""

    options = (Opt("--mode", 1), Opt("--probability", 1, True), Opt("--every", 1, True), Opt("--packet", 1))
    threshold: int | None = None
    every: int = 0
    packet: int = 0
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Statistic:
        got = by_name(found)
        mode = got["--mode"].args[0] if "--mode" in got else None
        if mode == "random":
            if "--probability" not in got or "--every" in got or "--packet" in got:
                raise at.error("-m statistic --mode random needs --probability and nothing else")
            chance = got["--probability"]
            return cls(threshold=_share(at, chance.args[0]), negated=chance.negated)
        if mode != "nth":
            raise at.error("-m statistic needs --mode random or --mode nth")
        if "--every" not in got or "--packet" not in got or "--probability" in got:
            raise at.error("-m statistic --mode nth needs --every and --packet and nothing else")
        every = number(at, "--every", got["--every"].args[0], U32, 1)
        packet = number(at, "--packet", got["--packet"].args[0], every - 1)
        return cls(None, every, packet, got["--every"].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        hit = self._random(ctx) if self.threshold is not None else self._nth(ctx)
        return hit != self.negated

    def _random(self, ctx: Ctx) -> bool:
        p = (self.threshold or 0) / ONE
        options = [Option(1 - p, "no", False), Option(p, "yes", True)]
        likely = [option for option in options if option.probability]
        return bool(ctx.run.choose(f"statistic --probability {p:.11f}", likely))

    def _nth(self, ctx: Ctx) -> bool:
        last = self.every - 1
        wait = ctx.hs.match_state.get(ctx.slot)
        if wait is None:
            wait = (self.packet, self.packet) if is_fresh(ctx) else (0, last)
        low, high = wait
        if low:
            hit = False
        elif not high:
            hit = True
        else:
            p = 1 / (high + 1)
            options = (Option(1 - p, "not this one", False), Option(p, "this one", True))
            hit = bool(ctx.run.choose(f"statistic --every {self.every}: position of the counter", options))
        ctx.hs.match_state[ctx.slot] = (last, last) if hit else (max(0, low - 1), high - 1)
        return hit

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        if self.threshold is not None:
            return Miss(" ".join(words[2:]), words[-1], "the draw fell on the other side")
        return Miss(" ".join(words[2:]), said(self.negated) + f"1 of {self.every}", "this is not its turn")

    def words(self) -> list[str]:
        if self.threshold is not None:
            return ["--mode", "random", *opt("--probability", self.negated, f"{self.threshold / ONE:.11f}")]
        return ["--mode", "nth", *opt("--every", self.negated, self.every), "--packet", str(self.packet)]


def _share(at: At, text: str) -> int:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise at.error(f"--probability: not a number from 0 to 1: {text!r}")
    return int(ONE * share + 0.5)  # lround()
