"""``-m nfacct``: counts into a named object, always true. net/netfilter/xt_nfacct.c nfacct_mt().

An object with a quota (``nfacct add … packet N``) would match only beyond it; no dump shows these objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import opt

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("nfacct", doc="-m nfacct --nfacct-name web")
@dataclass(frozen=True, slots=True)
class Nfacct(Match):
    """Name of the object."""

    options = (Opt("--nfacct-name", 1),)
    object_name: str

    @classmethod
    def parse(cls, found: Found, at: At) -> Nfacct:
        if not found:
            raise at.error("-m nfacct needs --nfacct-name")
        return cls(found[0].args[0])

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return True

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        return Miss(" ".join(self.words()), self.object_name, "it always matches")

    def words(self) -> list[str]:
        return opt("--nfacct-name", False, self.object_name)
