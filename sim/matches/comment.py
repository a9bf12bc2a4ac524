"""``-m comment``: always true. net/netfilter/xt_comment.c comment_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import opt, save_string

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("comment", doc='-m comment --comment "allow the LAN"')
@dataclass(frozen=True, slots=True)
class Comment(Match):
    """Up to 255 characters."""

    options = (Opt("--comment", 1),)
    text: str

    @classmethod
    def parse(cls, found: Found, at: At) -> Comment:
        if not found:
            raise at.error("-m comment needs --comment")
        return cls(found[0].args[0])

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return True

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        return Miss("-m comment", self.text, "a comment always matches")

    def words(self) -> list[str]:
        return opt("--comment", False, save_string(self.text))
