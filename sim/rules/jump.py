"""Targets that are chains: -j CHAIN and -g CHAIN. net/ipv4/netfilter/ip_tables.c ipt_do_table()."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..model.rule import Target, Verdict

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@dataclass(frozen=True, slots=True)
class Jump(Target):
    """Call a user chain; its RETURN or its end comes back to the next rule."""

    name: ClassVar[str] = "jump"
    chain: str

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return Verdict("JUMP", self.chain)

    def words(self) -> list[str]:
        return []


@dataclass(frozen=True, slots=True)
class Goto(Target):
    """Continue in a user chain; its RETURN goes to whoever called the present chain."""

    name: ClassVar[str] = "goto"
    chain: str

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return Verdict("GOTO", self.chain)

    def words(self) -> list[str]:
        return []
