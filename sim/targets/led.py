"""LED: net/netfilter/xt_LED.c led_tg(). Blinks a light."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import U32, Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

FOREVER = U32


@target("LED", doc="-j LED --led-trigger-id ssh --led-delay 1000 --led-always-blink")
@dataclass(frozen=True, slots=True)
class Led(Target):
    """The packet goes on. ``delay``: milliseconds; all ones = until told otherwise (``inf``)."""

    options = (Opt("--led-trigger-id"), Opt("--led-delay"), Opt("--led-always-blink", 0))

    trigger: str
    delay: int = 0
    always_blink: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Led:
        options = Options("LED", found, at)
        forever = options.text("--led-delay") == "inf"
        delay = FOREVER if forever else options.number("--led-delay") or 0
        return cls(options.need("--led-trigger-id"), delay, "--led-always-blink" in options)

    def words(self) -> list[str]:
        out = ["--led-trigger-id", self.trigger]
        if self.delay:
            out += ["--led-delay", "inf" if self.delay == FOREVER else str(self.delay)]
        return [*out, "--led-always-blink"] if self.always_blink else out

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_CONTINUE
