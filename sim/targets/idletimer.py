"""IDLETIMER: net/netfilter/xt_IDLETIMER.c idletimer_tg_target(). Restarts a timer that user space watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target("IDLETIMER", doc="-j IDLETIMER --timeout 10 --label uplink --alarm")
@dataclass(frozen=True, slots=True)
class Idletimer(Target):
    """The packet goes on."""

    options = (Opt("--timeout"), Opt("--label"), Opt("--alarm", 0))

    timeout: int
    label: str
    alarm: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Idletimer:
        options = Options("IDLETIMER", found, at)
        options.need("--timeout")
        return cls(options.number("--timeout", 1) or 1, options.need("--label"), "--alarm" in options)

    def words(self) -> list[str]:
        out = ["--timeout", str(self.timeout), "--label", self.label]
        return [*out, "--alarm"] if self.alarm else out

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_CONTINUE
