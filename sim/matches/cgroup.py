"""``-m cgroup``: control group of the sending process. net/netfilter/xt_cgroup.c cgroup_mt_v2().

A packet without socket never matches, negated or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import number, opt, said, save_string

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match(
    "cgroup",
    hooks=(NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING, NF_INET_LOCAL_IN),
    doc='-m cgroup ! --path "/user.slice"',
)
@dataclass(frozen=True, slots=True)
class Cgroup(Match):
    """``path`` in the unified hierarchy, or ``classid`` of net_cls."""

    options = (Opt("--path", 1, True), Opt("--cgroup", 1, True))
    path: str | None = None
    classid: int | None = None
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Cgroup:
        if len(found) != 1:
            raise at.error("-m cgroup needs one of --path, --cgroup")
        name, negated, args = found[0]
        if name == "--path":
            return cls(args[0], None, negated)
        return cls(None, number(at, name, args[0]), negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        sk = skb.sk
        if sk is None:
            return False
        own = "/" if not sk.has_file else sk.cgroup
        if self.path is None:
            if not sk.has_file:
                return (self.classid == 0) != self.negated
            return ctx.unknown(
                f"--cgroup {self.classid}: the net_cls class of the process is not known", "missing_input"
            )
        wanted = "/" + self.path.strip("/")
        if own is None:
            if wanted == "/":
                return not self.negated
            text = f"--path {self.path}: the cgroup of the process is not known (say it with the key cgroup)"
            return ctx.unknown(text, "missing_input")
        return ("/" + own.strip("/") + "/").startswith(wanted.rstrip("/") + "/") != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        if skb.sk is None:
            actual = "the packet has no socket here"
        else:
            actual = f"the process is in {skb.sk.cgroup or 'an unknown cgroup'}"
        return Miss(" ".join(words), said(self.negated) + words[-1], actual)

    def words(self) -> list[str]:
        if self.path is None:
            return opt("--cgroup", self.negated, self.classid)
        return opt("--path", self.negated, save_string(self.path))
