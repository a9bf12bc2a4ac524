"""CHECKSUM: net/netfilter/xt_CHECKSUM.c checksum_tg(). Fills in a checksum that a device was to compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target("CHECKSUM", tables=("mangle",), doc="-p udp -j CHECKSUM --checksum-fill")
@dataclass(frozen=True, slots=True)
class Checksum(Target):
    """No header field that a reader of the packet sees changes."""

    options = (Opt("--checksum-fill", 0),)

    @classmethod
    def parse(cls, found: Found, at: At) -> Checksum:
        Options("CHECKSUM", found, at).one_of("--checksum-fill")
        return cls()

    def words(self) -> list[str]:
        return ["--checksum-fill"]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_CONTINUE
