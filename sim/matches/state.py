"""``-m state``: the older spelling of --ctstate. net/netfilter/xt_state.c state_mt().

iptables 1.8.9 hands it to xt_conntrack under an alias; the states SNAT and DNAT are not known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import entry, opt, said
from .conntrack import parse_states, state_names

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED")


@match("state", doc="-m state ! --state NEW,RELATED")
@dataclass(frozen=True, slots=True)
class State(Match):
    """Any of ``states``."""

    tracks = True
    options = (Opt("--state", 1, True),)
    states: frozenset[str]
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> State:
        if not found:
            raise at.error("-m state needs --state")
        return cls(parse_states(at, "--state", found[0].args[0], STATES), found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return bool(state_names(skb, entry(skb, ctx)) & self.states) != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        have = sorted(state_names(skb, entry(skb, ctx)).intersection(STATES))
        return Miss(" ".join(words), said(self.negated) + words[-1], f"the packet is {', '.join(have)}")

    def words(self) -> list[str]:
        return opt("--state", self.negated, ",".join(name for name in STATES if name in self.states))
