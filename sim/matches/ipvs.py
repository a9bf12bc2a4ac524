"""``-m ipvs``: properties of an IPVS connection. net/netfilter/xt_ipvs.c ipvs_mt().

IPVS itself is not modelled and in no dump; a packet is taken not to belong to it, which the answer says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET
from ..model.packet import PROTO_NUMBER
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Got, Opt, match
from .common import U8, by_name, network, number, opt, port, show_network

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

ORDER = ("--vproto", "--vaddr", "--vport", "--vdir", "--vmethod", "--vportctl")


@match("ipvs", doc="-m ipvs ! --vproto 6 --vaddr 10.0.0.0/8 --vport 80 --vdir ORIGINAL --vmethod MASQ")
@dataclass(frozen=True, slots=True)
class Ipvs(Match):
    """``criteria``: (option, negated, value as printed); none: only ``--ipvs`` itself, ``negated`` or not."""

    options = (
        Opt("--ipvs", 0, True),
        Opt("--vproto", 1, True),
        Opt("--vaddr", 1, True),
        Opt("--vport", 1, True),
        Opt("--vdir", 1),
        Opt("--vmethod", 1, True),
        Opt("--vportctl", 1, True),
    )
    criteria: tuple[tuple[str, bool, str], ...] = ()
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Ipvs:
        if not found:
            raise at.error("-m ipvs needs at least one option")
        got = by_name(found)
        criteria = tuple((name, got[name].negated, _value(at, got[name])) for name in ORDER if name in got)
        if "--ipvs" in got and got["--ipvs"].negated and criteria:
            raise at.error("! --ipvs excludes every other option")
        return cls(criteria, "--ipvs" in got and got["--ipvs"].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        ctx.run.note(f"{ctx.host.name}: the packet is taken not to belong to an IPVS connection")
        return self.negated and not self.criteria

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        return Miss(" ".join(self.words()), "an IPVS connection", "the packet is taken not to belong to one")

    def words(self) -> list[str]:
        if not self.criteria:
            return opt("--ipvs", self.negated)
        return [word for name, negated, value in self.criteria for word in opt(name, negated, value)]


def _value(at: At, got: Got) -> str:
    text = got.args[0]
    if got.name == "--vproto":
        known = PROTO_NUMBER.get(text.lower())
        return str(number(at, got.name, text, U8) if known is None else known)
    if got.name == "--vaddr":
        return show_network(at.family or AF_INET, *network(at, got.name, text))
    if got.name in ("--vport", "--vportctl"):
        return str(port(at, got.name, text))
    allowed = ("ORIGINAL", "REPLY") if got.name == "--vdir" else ("GATE", "IPIP", "MASQ")
    if text.upper() not in allowed:
        raise at.error(f"{got.name}: {text!r} is none of {', '.join(allowed)}")
    return text.upper()
