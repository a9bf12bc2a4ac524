"""``-m rateest``: rates of a RATEEST estimator. net/netfilter/xt_rateest.c xt_rateest_mt(). Not modelled: no dump has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U32, by_name, number, opt

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

MODES = ("--rateest-lt", "--rateest-gt", "--rateest-eq")
UNIT = {
    "bit": 1, "kibit": 1024, "kbit": 1000, "mibit": 1024**2, "mbit": 10**6, "gibit": 1024**3, "gbit": 10**9,
    "bps": 8, "kibps": 8 * 1024, "kbps": 8000, "mibps": 8 * 1024**2, "mbps": 8 * 10**6,
}  # fmt: skip


@match("rateest", doc="-m rateest --rateest RE1 --rateest-lt --rateest-pps 5")
@dataclass(frozen=True, slots=True)
class Rateest(Match):
    """``bps``/``pps``: (first, second) value, None where absent."""

    options = (
        Opt("--rateest-delta", 0),
        Opt("--rateest1", 1, False, ("--rateest",)),
        Opt("--rateest2", 1),
        *(Opt(name, 0, True) for name in MODES),
        Opt("--rateest-bps1", -1),
        Opt("--rateest-bps2", -1, False, ("--rateest-bps",)),
        Opt("--rateest-pps1", -1),
        Opt("--rateest-pps2", -1, False, ("--rateest-pps",)),
    )
    first: str
    second: str | None
    mode: str
    negated: bool
    delta: bool
    bps: tuple[int, int] | None
    pps: tuple[int, int] | None

    @classmethod
    def parse(cls, found: Found, at: At) -> Rateest:
        got = by_name(found)
        modes = [got[name] for name in MODES if name in got]
        if "--rateest1" not in got or len(modes) != 1:
            raise at.error("-m rateest needs --rateest and one of --rateest-lt, --rateest-gt, --rateest-eq")
        values: dict[str, tuple[int, int] | None] = {"bps": None, "pps": None}
        for kind in values:
            texts = [got[f"--rateest-{kind}{n}"].args if f"--rateest-{kind}{n}" in got else None for n in (1, 2)]
            if texts != [None, None]:
                pair = [
                    (_rate(at, text[0]) if kind == "bps" else number(at, kind, text[0])) if text else 0
                    for text in texts
                ]
                values[kind] = (pair[0], pair[1])
        if values == {"bps": None, "pps": None}:
            raise at.error("-m rateest needs a rate: --rateest-bps or --rateest-pps")
        second = got["--rateest2"].args[0] if "--rateest2" in got else None
        return cls(got["--rateest1"].args[0], second, modes[0].name, modes[0].negated, "--rateest-delta" in got,
                   values["bps"], values["pps"])  # fmt: skip

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return ctx.unknown(f"-m rateest --rateest {self.first}: the measured rate is not in the snapshot")

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        return Miss(" ".join(self.words()), self.mode, "the measured rate is not known")

    def words(self) -> list[str]:
        out = ["--rateest-delta"] if self.delta else []
        out += ["--rateest1" if self.second else "--rateest", self.first]
        for kind, pair in (("bps", self.bps), ("pps", self.pps)):
            if pair is None:
                continue
            shown = [_show(value) if kind == "bps" else str(value) for value in pair]
            if self.delta:
                out += [f"--rateest-{kind}1", shown[0]]
            out += opt(self.mode, self.negated)
            out.append(f"--rateest-{kind}{'2' if self.delta else ''}")
            if self.delta or not self.second:
                out.append(shown[1])
        return [*out, "--rateest2", self.second] if self.second else out


def _rate(at: At, text: str) -> int:
    """A rate in tc's words to bytes per second."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(digits) :].lower()
    if unit and unit not in UNIT:
        raise at.error(f"--rateest-bps: unknown unit in {text!r}")
    return min(number(at, "--rateest-bps", digits) * UNIT.get(unit, 8) // 8, U32)


def _show(octets: int) -> str:
    bits = octets * 8
    if bits >= 1_000_000_000:
        return f"{bits / 1e6:.0f}Mbit"
    return f"{bits / 1e3:.0f}Kbit" if bits >= 1_000_000 else f"{bits}bit"
