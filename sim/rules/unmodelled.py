"""Extensions that nattrace does not model: the answer becomes unknown and names them; never a silent yes or no."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_ACCEPT, V_CONTINUE, V_DROP, Match, Miss, Target, Verdict
from ..record import dataclass

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@dataclass(frozen=True, slots=True)
class UnmodelledMatch(Match):
    """``-m name options…`` with the options as they were written."""

    name: str  # type: ignore[misc]  # of the instance, not of the class
    options: tuple[str, ...] = ()

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return ctx.unknown(f"the match -m {' '.join((self.name, *self.options))} is not modelled")

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        return Miss(f"-m {self.name}", "a match", "nattrace does not model this match")

    def words(self) -> list[str]:
        return list(self.options)


@dataclass(frozen=True, slots=True)
class UnmodelledTarget(Target):
    """``-j NAME options…``: it may let the packet go on, accept it or drop it."""

    name: str  # type: ignore[misc]
    options: tuple[str, ...] = ()

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        what = f"the target -j {' '.join((self.name, *self.options))} is not modelled"
        if not ctx.unknown(f"{what}: does it end the chain"):
            return V_CONTINUE
        return V_DROP if ctx.unknown(f"{what}: does it drop the packet") else V_ACCEPT

    def words(self) -> list[str]:
        return list(self.options)
