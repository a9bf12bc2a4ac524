"""Targets that are chains: -j CHAIN and -g CHAIN. net/ipv4/netfilter/ip_tables.c ipt_do_table()."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..model.rule import Target, Verdict
from ..record import dataclass

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@dataclass(frozen=True, slots=True)
class _ToChain(Target):
    chain: str

    def words(self) -> list[str]:
        return []


class Jump(_ToChain):
    """Call a user chain; its RETURN or its end comes back to the next rule."""

    __slots__ = ()
    name: ClassVar[str] = "jump"

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return Verdict("JUMP", self.chain)


class Goto(_ToChain):
    """Continue in a user chain; its RETURN goes to whoever called the present chain."""

    __slots__ = ()
    name: ClassVar[str] = "goto"

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return Verdict("GOTO", self.chain)
