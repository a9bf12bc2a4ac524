"""``-m helper``: the helper of the connection that expected this one. net/netfilter/xt_helper.c helper_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import entry, opt, said, save_string

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("helper", doc="-m helper ! --helper ftp")
@dataclass(frozen=True, slots=True)
class Helper(Match):
    """``name`` may be longer than the helper's (``ftp-2121`` is the helper ftp)."""

    tracks = True
    options = (Opt("--helper", 1, True),)
    helper: str
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Helper:
        if not found:
            raise at.error("-m helper needs --helper")
        return cls(found[0].args[0], found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        name = self._master_helper(skb, ctx)
        if name is None:
            return self.negated
        return (not self.helper or self.helper.startswith(name)) != self.negated

    def _master_helper(self, skb: Skb, ctx: Ctx) -> str | None:
        conn = entry(skb, ctx)
        master = ctx.hs.ct.get(conn.master) if conn is not None else None
        return master.helper if master is not None else None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        name = self._master_helper(skb, ctx)
        actual = "no helper expected this connection" if name is None else f"the helper {name} expected it"
        return Miss(" ".join(words), said(self.negated) + words[-1], actual)

    def words(self) -> list[str]:
        return opt("--helper", self.negated, save_string(self.helper))
