"""TOS: net/netfilter/xt_DSCP.c tos_tg(). tos = (tos & ~mask) ^ value; in mangle OUTPUT a change reroutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options, ValueMask

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

# RFC 1349; a name sets the six bits 0x3f
NAMES = {
    "minimize-delay": 0x10,
    "maximize-throughput": 0x08,
    "maximize-reliability": 0x04,
    "minimize-cost": 0x02,
    "normal-service": 0x00,
}
NAME_MASK = 0x3F
SETTERS = ("--set-tos", "--and-tos", "--or-tos", "--xor-tos")


@target("TOS", tables=("mangle",), doc="-j TOS --set-tos 0x10/0x3f")
@dataclass(frozen=True, slots=True)
class Tos(Target):
    """Changes the TOS byte (traffic class in IPv6)."""

    options = tuple(Opt(name) for name in SETTERS)

    value: int
    mask: int = 0xFF

    @classmethod
    def parse(cls, found: Found, at: At) -> Tos:
        options = Options("TOS", found, at)
        name = options.one_of(*SETTERS)
        if name == "--set-tos":
            return cls(*_set_tos(options))
        bits = options.number(name, 0, 0xFF) or 0
        if name == "--and-tos":
            return cls(0, ~bits & 0xFF)
        return cls(bits, bits if name == "--or-tos" else 0)

    def words(self) -> list[str]:
        return ["--set-tos", f"0x{self.value:02x}/0x{self.mask:02x}"]

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        skb.tos = (skb.tos & ~self.mask & 0xFF) ^ self.value
        return V_CONTINUE


def _set_tos(options: Options) -> ValueMask:
    """A name (or the only one that it begins), or value[/mask]."""
    text = options.need("--set-tos")
    if text[:1].isdigit():
        given = options.value_mask("--set-tos", 0xFF)
        assert given is not None
        return given
    named = [value for name, value in NAMES.items() if name.startswith(text.lower())]
    if len(named) != 1:
        raise options.bad("--set-tos", f"value[/mask] or one of {', '.join(NAMES)}")
    return ValueMask(named[0], NAME_MASK)
