"""CLASSIFY: net/netfilter/xt_CLASSIFY.c classify_tg(). Sets skb->priority for the queueing discipline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import (
    NF_INET_FORWARD,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    V_CONTINUE,
    Target,
    Verdict,
)
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target(
    "CLASSIFY",
    hooks=(NF_INET_LOCAL_OUT, NF_INET_FORWARD, NF_INET_POST_ROUTING),
    doc="-j CLASSIFY --set-class 0001:0010",
)
@dataclass(frozen=True, slots=True)
class Classify(Target):
    """``major:minor`` in hexadecimal, as tc writes them."""

    options = (Opt("--set-class"),)

    major: int
    minor: int

    @classmethod
    def parse(cls, found: Found, at: At) -> Classify:
        options = Options("CLASSIFY", found, at)
        major, colon, minor = options.need("--set-class").partition(":")
        try:
            if not colon:
                raise ValueError
            return cls(_hex16(major), _hex16(minor))
        except ValueError:
            raise options.bad("--set-class", "MAJOR:MINOR, both hexadecimal") from None

    def words(self) -> list[str]:
        return ["--set-class", f"{self.major:04x}:{self.minor:04x}"]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        skb.priority = self.major << 16 | self.minor
        return V_CONTINUE


def _hex16(text: str) -> int:
    if not text or not all(c in "0123456789abcdefABCDEF" for c in text.removeprefix("0x")) or int(text, 16) > 0xFFFF:
        raise ValueError(text)
    return int(text, 16)
