"""RATEEST: net/netfilter/xt_RATEEST.c xt_rateest_tg(). Feeds a rate estimator that ``-m rateest`` reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

_TIME = re.compile(r"([0-9]+(?:\.[0-9]*)?)(s|sec|secs|ms|msec|msecs|us|usec|usecs)?", re.ASCII)
_UNIT = {"s": 1_000_000, "m": 1_000, "u": 1}


@target("RATEEST", doc="-j RATEEST --rateest-name uplink --rateest-interval 250.0ms --rateest-ewmalog 500.0ms")
@dataclass(frozen=True, slots=True)
class Rateest(Target):
    """Times in microseconds. The packet goes on."""

    options = (Opt("--rateest-name"), Opt("--rateest-interval"), Opt("--rateest-ewmalog"))

    estimator: str
    interval: float
    ewmalog: float

    @classmethod
    def parse(cls, found: Found, at: At) -> Rateest:
        options = Options("RATEEST", found, at)
        name = options.need("--rateest-name")
        return cls(name, _time(options, "--rateest-interval"), _time(options, "--rateest-ewmalog"))

    def words(self) -> list[str]:
        return [
            "--rateest-name", self.estimator,
            "--rateest-interval", _show(self.interval),
            "--rateest-ewmalog", _show(self.ewmalog),
        ]  # fmt: skip

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_CONTINUE


def _time(options: Options, name: str) -> float:
    found = _TIME.fullmatch(options.need(name))
    if not found:
        raise options.bad(name, "a time such as 250ms or 4s")
    return float(found[1]) * _UNIT[(found[2] or "u")[0]]


def _show(microseconds: float) -> str:
    if microseconds >= 1_000_000:
        return f"{microseconds / 1_000_000:.1f}s"
    return f"{microseconds / 1000:.1f}ms" if microseconds >= 1000 else f"{microseconds:.0f}us"
