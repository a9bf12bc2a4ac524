"""The standard verdicts: net/ipv4/netfilter/ip_tables.c ipt_do_table(), XT_STANDARD_TARGET.

Jump and goto to a user chain belong to the rule parser; what remains are ACCEPT, DROP and RETURN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_ACCEPT, V_DROP, V_RETURN, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, target

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


class _Standard(Target):
    __slots__ = ()

    @classmethod
    def parse(cls, found: Found, at: At) -> Target:
        return cls()

    def words(self) -> list[str]:
        return []


@target("ACCEPT", doc="-j ACCEPT")
@dataclass(frozen=True, slots=True)
class Accept(_Standard):
    """Ends this table's chain at this hook; later tables still run."""

    terminal = True

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_ACCEPT


@target("DROP", tables=("raw", "mangle", "filter", "security"), doc="-j DROP")
@dataclass(frozen=True, slots=True)
class Drop(_Standard):
    """Discards the packet. iptables refuses it in nat, which "is not intended for filtering"."""

    terminal = True

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_DROP


@target("RETURN", doc="-j RETURN")
@dataclass(frozen=True, slots=True)
class Return(_Standard):
    """Back to the caller; from a base chain, its policy."""

    terminal = True

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_RETURN
