"""AUDIT: net/netfilter/xt_AUDIT.c audit_tg(). Writes an audit record; the type is a label and decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

TYPES = ("accept", "drop", "reject")


@target("AUDIT", doc="-j AUDIT --type accept")
@dataclass(frozen=True, slots=True)
class Audit(Target):
    """The packet goes on."""

    options = (Opt("--type"),)

    kind: str

    @classmethod
    def parse(cls, found: Found, at: At) -> Audit:
        options = Options("AUDIT", found, at)
        kind = options.need("--type").lower()
        if kind not in TYPES:
            raise options.bad("--type", f"one of {', '.join(TYPES)}")
        return cls(kind)

    def words(self) -> list[str]:
        return ["--type", self.kind]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_CONTINUE
