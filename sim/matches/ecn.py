"""``-m ecn``: ECN bits of IP and TCP. net/netfilter/xt_ecn.c ecn_mt4(), match_tcp()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine import wire
from ..model.packet import IPPROTO_TCP, TH_CWR, TH_ECE
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import by_name, number, opt, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("ecn", doc="-p tcp -m ecn --ecn-tcp-ece ! --ecn-tcp-cwr --ecn-ip-ect 2")
@dataclass(frozen=True, slots=True)
class Ecn(Match):
    """``ece``/``cwr``: wanted value of the flag or None; ``ect``: the two low bits of the tos byte."""

    options = (Opt("--ecn-tcp-cwr", 0, True), Opt("--ecn-tcp-ece", 0, True), Opt("--ecn-ip-ect", 1, True))
    ece: bool | None = None
    cwr: bool | None = None
    ect: int | None = None
    not_ect: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Ecn:
        if not found:
            raise at.error("-m ecn needs at least one option")
        got = by_name(found)
        ece, cwr, ect = got.get("--ecn-tcp-ece"), got.get("--ecn-tcp-cwr"), got.get("--ecn-ip-ect")
        if (ece or cwr) and (at.proto != IPPROTO_TCP or at.proto_negated):
            raise at.error("--ecn-tcp-ece and --ecn-tcp-cwr need -p tcp")
        return cls(
            None if ece is None else not ece.negated,
            None if cwr is None else not cwr.negated,
            None if ect is None else number(at, "--ecn-ip-ect", ect.args[0], 3),
            ect is not None and ect.negated,
        )

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return self._failed(skb) is None

    def _failed(self, skb: Skb) -> tuple[str, str] | None:
        """The criterion that fails and what the packet has."""
        if self.ect is not None and (skb.tos & 3 == self.ect) == self.not_ect:
            return f"{said(self.not_ect)}--ecn-ip-ect {self.ect}", f"the packet's ECN field is {skb.tos & 3}"
        if self.ece is None and self.cwr is None:
            return None
        if wire.transport_length(skb) < 20:
            return "-m ecn", "the TCP header is cut off"
        flags = skb.tcp_flags if not skb.frag else wire.to_bytes(skb)[wire.header_length(skb) + 13]
        for name, wanted, bit in (("ece", self.ece, TH_ECE), ("cwr", self.cwr, TH_CWR)):
            if wanted is not None and bool(flags & bit) != wanted:
                return f"{said(not wanted)}--ecn-tcp-{name}", f"the flag is {'set' if flags & bit else 'clear'}"
        return None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        criterion, actual = self._failed(skb) or ("-m ecn", "it holds")
        return Miss(criterion, criterion, actual)

    def words(self) -> list[str]:
        out: list[str] = []
        if self.ece is not None:
            out += opt("--ecn-tcp-ece", not self.ece)
        if self.cwr is not None:
            out += opt("--ecn-tcp-cwr", not self.cwr)
        if self.ect is not None:
            out += opt("--ecn-ip-ect", self.not_ect, self.ect)
        return out
