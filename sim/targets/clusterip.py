"""CLUSTERIP: net/ipv4/netfilter/ipt_CLUSTERIP.c (removed in Linux 6.3; ``-m cluster`` replaces it).

Which node answers follows from a hash and from which nodes are up, which a snapshot does not tell: unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET
from ..model.rule import NF_INET_LOCAL_IN, V_CONTINUE, V_DROP, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

MODES = ("sourceip", "sourceip-sourceport", "sourceip-sourceport-destport")
NAMES = ("--hashmode", "--clustermac", "--total-nodes", "--local-node", "--hash-init")


@target(
    "CLUSTERIP",
    families=(AF_INET,),
    tables=("filter",),
    hooks=(NF_INET_LOCAL_IN,),
    doc="-j CLUSTERIP --new --hashmode sourceip --clustermac 01:00:5E:00:00:14 --total-nodes 2 --local-node 1"
    " --hash-init 0",
)
@dataclass(frozen=True, slots=True)
class Clusterip(Target):
    """``given``: (option, value) as written; without --new the cluster was defined by another rule."""

    options = (Opt("--new", 0), *(Opt(name) for name in NAMES))
    tracks = True
    terminal = True

    given: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, found: Found, at: At) -> Clusterip:
        options = Options("CLUSTERIP", found, at)
        if "--new" not in options:
            return cls()
        given = {name: options.text(name) for name in NAMES if name in options}
        if given.get("--hashmode") not in MODES:
            raise at.error(f"CLUSTERIP: --hashmode is one of {', '.join(MODES)}")
        for name in ("--total-nodes", "--local-node", "--hash-init"):
            options.number(name)
        given.setdefault("--hash-init", "0")
        return cls(tuple((name, given[name] or "") for name in NAMES if name in given))

    def words(self) -> list[str]:
        return ["--new", *(word for pair in self.given for word in pair)] if self.given else []

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        taken = ctx.unknown("which node of the CLUSTERIP cluster answers is not modelled: is it this one")
        return V_CONTINUE if taken else V_DROP
