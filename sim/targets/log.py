"""LOG: net/netfilter/xt_LOG.c log_tg(). Writes a line to the kernel log; the packet goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

LEVELS = {
    "emerg": 0, "panic": 0, "alert": 1, "crit": 2, "err": 3, "error": 3, "warn": 4, "warning": 4, "notice": 5,
    "info": 6, "debug": 7,
}  # fmt: skip
DEFAULT_LEVEL = 4
PREFIX_MAX = 29  # struct nf_loginfo keeps 30 bytes
FLAGS = ("--log-tcp-sequence", "--log-tcp-options", "--log-ip-options", "--log-uid", "--log-macdecode")


@target("LOG", doc='-j LOG --log-prefix "denied: " --log-level 6 --log-uid')
@dataclass(frozen=True, slots=True)
class Log(Target):
    """Says nothing about the packet's fate."""

    options = (Opt("--log-prefix"), Opt("--log-level"), *(Opt(flag, 0) for flag in FLAGS))

    prefix: str = ""
    level: int = DEFAULT_LEVEL
    flags: tuple[str, ...] = ()

    @classmethod
    def parse(cls, found: Found, at: At) -> Log:
        options = Options("LOG", found, at)
        prefix = options.text("--log-prefix")
        if prefix is not None and (not prefix or "\n" in prefix):
            raise options.bad("--log-prefix", "at least one character, no newline")
        given = options.text("--log-level")
        level = DEFAULT_LEVEL
        if given is not None:
            level = LEVELS.get(given.lower(), -1)
            if given.isascii() and given.isdigit():
                level = int(given)
            if not 0 <= level <= 7:
                raise options.bad("--log-level", f"0-7 or one of {', '.join(LEVELS)}")
        return cls((prefix or "")[:PREFIX_MAX], level, tuple(f for f in FLAGS if f in options))

    def words(self) -> list[str]:
        out = ["--log-prefix", self.prefix] if self.prefix else []
        if self.level != DEFAULT_LEVEL:
            out += ["--log-level", str(self.level)]
        return out + list(self.flags)

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return V_CONTINUE
