"""``-m devgroup``: group of the in and out device (``ip link set … group``). net/netfilter/xt_devgroup.c devgroup_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import masked, opt, show_masked

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@match("devgroup", doc="-m devgroup ! --src-group 0x2 --dst-group 0x1/0xf")
@dataclass(frozen=True, slots=True)
class Devgroup(Match):
    """(value, mask) of either side or None."""

    options = (Opt("--src-group", 1, True), Opt("--dst-group", 1, True))
    src: tuple[int, int] | None = None
    not_src: bool = False
    dst: tuple[int, int] | None = None
    not_dst: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Devgroup:
        if not found:
            raise at.error("-m devgroup needs --src-group or --dst-group")
        fields: dict[str, object] = {}
        for name, negated, args in found:
            wrong = ("OUTPUT", "POSTROUTING") if name == "--src-group" else ("PREROUTING", "INPUT")
            if at.chain in wrong:
                raise at.error(f"{name} is not allowed in {at.chain}")
            value = (0, 0xFFFFFFFF) if args[0] == "default" else masked(at, name, args[0])
            fields |= {name[2:5]: value, f"not_{name[2:5]}": negated}
        return cls(**fields)  # type: ignore[arg-type]

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return self._failed(ctx) is None

    def _failed(self, ctx: Ctx) -> tuple[list[str], int] | None:
        sides = (("src", self.src, self.not_src, ctx.indev), ("dst", self.dst, self.not_dst, ctx.outdev))
        for side, want, negated, dev in sides:
            if want is None:
                continue
            link = ctx.host.links.get(dev or "")
            group = 0 if link is None else link.group
            if ((want[0] ^ group) & want[1] == 0) == negated:
                return opt(f"--{side}-group", negated, show_masked(*want)), group
        return None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words, group = self._failed(ctx) or (self.words(), 0)
        return Miss(" ".join(words), words[-1], f"the device is in group {group}")

    def words(self) -> list[str]:
        out: list[str] = []
        if self.src is not None:
            out += opt("--src-group", self.not_src, show_masked(*self.src))
        if self.dst is not None:
            out += opt("--dst-group", self.not_dst, show_masked(*self.dst))
        return out
