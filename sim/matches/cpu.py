"""``-m cpu``: the CPU that handles the packet. net/netfilter/xt_cpu.c cpu_mt(). No snapshot can know it: a set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine.run import Option
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U32, number, opt, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("cpu", doc="-m cpu ! --cpu 0")
@dataclass(frozen=True, slots=True)
class Cpu(Match):
    """Its number."""

    options = (Opt("--cpu", 1, True),)
    cpu: int
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Cpu:
        if not found:
            raise at.error("-m cpu needs --cpu")
        return cls(number(at, "--cpu", found[0].args[0], U32), found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        count = ctx.host.meta.get("cpus")
        text = f"--cpu {self.cpu}: which CPU handles the packet"
        if not isinstance(count, int) or count < 1:
            hit = ctx.unknown(f"{text} is not known")
        elif self.cpu >= count or count == 1:
            hit = self.cpu == 0 and count == 1
        else:
            hit = bool(ctx.run.choose(text, (Option(None, "another", False), Option(None, str(self.cpu), True))))
        return hit != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        return Miss(" ".join(words), said(self.negated) + words[-1], "another CPU handles the packet")

    def words(self) -> list[str]:
        return opt("--cpu", self.negated, self.cpu)
