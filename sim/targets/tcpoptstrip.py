"""TCPOPTSTRIP: net/netfilter/xt_TCPOPTSTRIP.c tcpoptstrip_mangle_packet(). Overwrites options with NOPs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.packet import IPPROTO_TCP
from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options, c_int
from .tcpoptions import TCPOPT_NOP, option_bytes, set_options, walk

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

NAMES = {"wscale": 3, "mss": 2, "sack-permitted": 4, "sack": 5, "timestamp": 8, "md5": 19}


@target("TCPOPTSTRIP", tables=("mangle",), doc="-p tcp -j TCPOPTSTRIP --strip-options 2,8")
@dataclass(frozen=True, slots=True)
class Tcpoptstrip(Target):
    """``kinds``: option numbers, ascending."""

    options = (Opt("--strip-options"),)

    kinds: tuple[int, ...]

    @classmethod
    def parse(cls, found: Found, at: At) -> Tcpoptstrip:
        options = Options("TCPOPTSTRIP", found, at)
        if at.proto != IPPROTO_TCP or at.proto_negated:
            raise at.error("TCPOPTSTRIP needs -p tcp", "add -p tcp to the rule")
        kinds: set[int] = set()
        for word in options.need("--strip-options").split(","):
            try:
                kind = NAMES[word] if word in NAMES else c_int(word)
            except ValueError:
                raise options.bad("--strip-options", f"{word!r} is not a number or one of {', '.join(NAMES)}") from None
            if not 2 <= kind <= 255 or kind in kinds:
                raise options.bad("--strip-options", "numbers from 2 to 255, each once")
            kinds.add(kind)
        return cls(tuple(sorted(kinds)))

    def words(self) -> list[str]:
        return ["--strip-options", ",".join(map(str, self.kinds))]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        if skb.frag:
            return V_CONTINUE
        before = options = option_bytes(skb)
        # The kernel never looks at the last byte, and what it blanks it does not look at again.
        for at, kind, length in walk(before):
            if at >= len(before) - 1 or at + length > len(before):
                break
            if kind in self.kinds:
                options = options[:at] + bytes((TCPOPT_NOP,)) * length + options[at + length :]
        if options != before:
            set_options(skb, options)
        return V_CONTINUE
