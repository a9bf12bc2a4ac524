"""``-m connbytes``: packets, bytes or average size of a connection so far. net/netfilter/xt_connbytes.c connbytes_mt().

An entry made while nf_conntrack_acct was off has no counters: no match, negated or not. Loading such a rule switches
the sysctl on in its namespace (connbytes_mt_check()).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U64, by_name, entry, opt, said, span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

MODES = ("packets", "bytes", "avgpkt")
DIRECTIONS = ("original", "reply", "both")


@match("connbytes", doc="-m connbytes ! --connbytes 0:1000 --connbytes-mode packets --connbytes-dir both")
@dataclass(frozen=True, slots=True)
class Connbytes(Match):
    """An inclusive range; ``negated`` is lost where both ends are equal, as in the kernel's encoding."""

    tracks = True
    options = (Opt("--connbytes", 1, True), Opt("--connbytes-mode", 1), Opt("--connbytes-dir", 1))
    span: tuple[int, int]
    mode: str
    direction: str
    negated: bool = False
    text: str = ""

    @classmethod
    def parse(cls, found: Found, at: At) -> Connbytes:
        got = by_name(found)
        for name in ("--connbytes", "--connbytes-mode", "--connbytes-dir"):
            if name not in got:
                raise at.error(f"-m connbytes needs {name}")
        one, mode, direction = got["--connbytes"], got["--connbytes-mode"].args[0], got["--connbytes-dir"].args[0]
        if mode not in MODES:
            raise at.error(f"--connbytes-mode: unknown mode {mode!r}", f"one of {', '.join(MODES)}")
        if direction not in DIRECTIONS:
            raise at.error(f"--connbytes-dir: unknown direction {direction!r}", f"one of {', '.join(DIRECTIONS)}")
        low, high = span(at, "--connbytes", one.args[0], U64)
        if ":" not in one.args[0]:
            high = U64
        if high < low:
            raise at.error(f"--connbytes: the range {one.args[0]} ends before it begins")
        return cls((low, high), mode, direction, one.negated and low != high)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        value = self._value(skb, ctx)
        return value is not None and (self.span[0] <= value <= self.span[1]) != self.negated

    def _value(self, skb: Skb, ctx: Ctx) -> int | None:
        conn = entry(skb, ctx)
        if conn is None or conn.acct is None:
            return None
        chosen = conn.acct if self.direction == "both" else (conn.acct[DIRECTIONS.index(self.direction)],)
        packets, octets = sum(one[0] for one in chosen), sum(one[1] for one in chosen)
        if self.mode == "avgpkt":
            return octets // packets if packets else 0
        return packets if self.mode == "packets" else octets

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        value = self._value(skb, ctx)
        actual = "the connection is not counted (nf_conntrack_acct was off)" if value is None else f"it is {value}"
        if entry(skb, ctx) is None:
            actual = "the packet has no conntrack entry"
        return Miss(" ".join(words), said(self.negated) + self._show(), actual)

    def _show(self) -> str:
        low, high = self.span
        return f"{low}:{high}" if 0 < high < U64 else str(low)

    def words(self) -> list[str]:
        out = opt("--connbytes", self.negated, self._show())
        return [*out, "--connbytes-mode", self.mode, "--connbytes-dir", self.direction]
