"""MARK: net/netfilter/xt_mark.c mark_tg(). Every form is stored as mark = (mark & ~mask) ^ value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import U32, Options, ValueMask

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

SETTERS = ("--set-xmark", "--set-mark", "--and-mark", "--or-mark", "--xor-mark")


def xmark(options: Options, name: str) -> ValueMask:
    """Any of the five spellings as the value/mask that the kernel stores (libxt_MARK.c, mark_tg_parse())."""
    if name in ("--set-xmark", "--set-mark"):
        given = options.value_mask(name)
        assert given is not None
        return given if name == "--set-xmark" else ValueMask(given.value, given.value | given.mask)
    bits = options.number(name)
    assert bits is not None
    if name == "--and-mark":
        return ValueMask(0, ~bits & U32)
    return ValueMask(bits, bits if name == "--or-mark" else 0)


@target("MARK", doc="-j MARK --set-xmark 0x10/0xf0")
@dataclass(frozen=True, slots=True)
class Mark(Target):
    """Sets the packet's mark. Routing looks at it again only as semantics 4.6 says."""

    options = tuple(Opt(name) for name in SETTERS)

    value: int = 0
    mask: int = U32

    @classmethod
    def parse(cls, found: Found, at: At) -> Mark:
        options = Options("MARK", found, at)
        return cls(*xmark(options, options.one_of(*SETTERS)))

    def words(self) -> list[str]:
        return ["--set-xmark", f"{self.value:#x}/{self.mask:#x}"]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        skb.mark = (skb.mark & ~self.mask) ^ self.value
        return V_CONTINUE
