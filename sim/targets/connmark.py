"""CONNMARK: net/netfilter/xt_connmark.c connmark_tg_shift()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import U32, Options
from .mark import SETTERS, xmark

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


@target("CONNMARK", doc="-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff00 --right-shift-mark 8")
@dataclass(frozen=True, slots=True)
class Connmark(Target):
    """Sets the mark of the connection, or copies between it and the packet's; nothing without an entry.

    ``mode``: set, save or restore. ``shift``: bits to the left, negative to the right (revision 2).
    """

    options = (
        *(Opt(name) for name in SETTERS),
        Opt("--save-mark", 0),
        Opt("--restore-mark", 0),
        Opt("--nfmask"),
        Opt("--ctmask"),
        Opt("--mask"),
        Opt("--left-shift-mark"),
        Opt("--right-shift-mark"),
    )
    tracks = True

    mode: str = "set"
    ctmark: int = 0
    ctmask: int = U32
    nfmask: int = U32
    shift: int = 0

    @classmethod
    def parse(cls, found: Found, at: At) -> Connmark:
        options = Options("CONNMARK", found, at)
        name = options.one_of(*SETTERS, "--save-mark", "--restore-mark")
        shift = 0
        if "--left-shift-mark" in options or "--right-shift-mark" in options:
            direction = options.one_of("--left-shift-mark", "--right-shift-mark")
            shift = options.number(direction, 0, 31) or 0
            if direction == "--right-shift-mark":
                shift = -shift
        if name in SETTERS:
            value, mask = xmark(options, name)
            return cls("set", value, mask, U32, shift)
        both = options.number("--mask")
        nfmask, ctmask = options.number("--nfmask"), options.number("--ctmask")
        if both is not None and (nfmask is not None or ctmask is not None):
            raise at.error('CONNMARK: option "--mask" cannot be used together with "--nfmask" or "--ctmask"')
        wide = U32 if both is None else both
        return cls(
            name[2:].partition("-")[0],
            0,
            wide if ctmask is None else ctmask,
            wide if nfmask is None else nfmask,
            shift,
        )

    def words(self) -> list[str]:
        if self.mode == "set":
            out = ["--set-xmark", f"{self.ctmark:#x}/{self.ctmask:#x}"]
        else:
            out = [f"--{self.mode}-mark", "--nfmask", f"{self.nfmask:#x}", "--ctmask", f"{self.ctmask:#x}"]
        if self.shift:
            out += ["--left-shift-mark" if self.shift > 0 else "--right-shift-mark", str(abs(self.shift))]
        return out

    def _shifted(self, mark: int) -> int:
        return (mark << self.shift) & U32 if self.shift > 0 else mark >> -self.shift

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        conn = ctx.ct(skb)
        if conn is None and skb.template is None:
            return V_CONTINUE
        # Between raw and conntrack the "entry" is the template of a CT rule, with a mark of its own for all packets.
        template = ("template mark", skb.template)
        old = conn.mark if conn is not None else ctx.hs.match_state.get(template, 0)
        if self.mode == "restore":
            skb.mark = (skb.mark & ~self.nfmask) ^ self._shifted(old & self.ctmask)
            return V_CONTINUE
        if self.mode == "set":
            mark = self._shifted((old & ~self.ctmask) ^ self.ctmark)
        else:
            mark = (old & ~self.ctmask) ^ self._shifted(skb.mark & self.nfmask)
        if conn is None:
            ctx.hs.match_state[template] = mark
        elif mark != old:
            ctx.hs.ct.update(conn, mark=mark)
        return V_CONTINUE
