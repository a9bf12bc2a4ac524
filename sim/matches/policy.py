"""``-m policy``: IPsec policy of the packet. net/netfilter/xt_policy.c policy_mt().

Without IPsec on the host only ``--pol none`` holds. IPsec itself is not modelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET
from ..model.packet import PROTO_NUMBER
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Got, Opt, match
from .common import U8, network, number, opt, show_network

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

ELEMENT_ORDER = ("--reqid", "--spi", "--proto", "--mode", "--tunnel-dst", "--tunnel-src")
PROTO_SHOWN = {50: "esp", 51: "ah", 108: "ipcomp"}
MAX_ELEMENTS = 4  # XT_POLICY_MAX_ELEM

Element = tuple[tuple[str, bool, str], ...]  # (option, negated, value as printed)


@match("policy", doc="-m policy --dir in --pol ipsec --strict --reqid 1 ! --spi 0x1 --proto esp --next --reqid 2")
@dataclass(frozen=True, slots=True)
class Policy(Match):
    """``elements``: one per transformation."""

    options = (
        Opt("--dir", 1),
        Opt("--pol", 1),
        Opt("--strict", 0),
        *(Opt(name, 1, True) for name in ELEMENT_ORDER),
        Opt("--next", 0),
    )
    direction: str
    ipsec: bool
    strict: bool = False
    elements: tuple[Element, ...] = ()

    @classmethod
    def parse(cls, found: Found, at: At) -> Policy:
        direction = next((got.args[0] for got in found if got.name == "--dir"), None)
        kind = next((got.args[0] for got in found if got.name == "--pol"), None)
        if direction not in ("in", "out"):
            raise at.error("-m policy needs --dir in or --dir out")
        if kind not in ("none", "ipsec"):
            raise at.error("-m policy needs --pol none or --pol ipsec")
        wrong = {"in": ("POSTROUTING", "OUTPUT"), "out": ("PREROUTING", "INPUT")}[direction]
        if at.chain in wrong:
            raise at.error(f"--dir {direction} is not allowed in {at.chain}")
        strict = any(got.name == "--strict" for got in found)
        rows: list[dict[str, tuple[str, bool, str]]] = [{}]
        for got in found:
            if got.name == "--next":
                rows.append({})
            elif got.name in ELEMENT_ORDER:
                rows[-1][got.name] = (got.name, got.negated, _value(at, got))
        elements = tuple(tuple(row[name] for name in ELEMENT_ORDER if name in row) for row in rows)
        if kind == "none" and (strict or any(elements)):
            raise at.error("--pol none takes no further criteria")
        for element in elements:
            if any(c[0].startswith("--tunnel") for c in element) and ("--mode", False, "tunnel") not in element:
                raise at.error("--tunnel-src and --tunnel-dst need --mode tunnel")
        if len(elements) > MAX_ELEMENTS or (strict and not all(elements)) or (len(elements) > 1 and not strict):
            raise at.error("-m policy: elements must not be empty, several need --strict, and there are at most four")
        return cls(direction, kind == "ipsec", strict, elements if any(elements) else ())

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        if any("xfrm" in text for text, _ in ctx.host.unmodelled):
            return ctx.unknown("-m policy: the host has IPsec policies, which are not modelled")
        return not self.ipsec

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        return Miss(" ".join(self.words()), "an IPsec policy", "the host has no IPsec policy")

    def words(self) -> list[str]:
        out = ["--dir", self.direction, "--pol", "ipsec" if self.ipsec else "none"]
        if self.strict:
            out.append("--strict")
        for place, element in enumerate(self.elements):
            if place:
                out.append("--next")
            for name, negated, value in element:
                out += opt(name, negated, value)
        return out


def _value(at: At, got: Got) -> str:
    text = got.args[0]
    if got.name == "--reqid":
        return str(number(at, got.name, text))
    if got.name == "--spi":
        return f"0x{number(at, got.name, text):x}"
    if got.name == "--proto":
        value = PROTO_NUMBER.get(text.lower())
        if value is None:
            value = number(at, got.name, text, U8)
        if value not in PROTO_SHOWN:
            raise at.error(f"--proto: {text!r} is none of esp, ah, ipcomp")
        return PROTO_SHOWN[value]
    if got.name == "--mode":
        if text not in ("transport", "tunnel"):
            raise at.error(f"--mode: {text!r} is neither transport nor tunnel")
        return text
    return show_network(at.family or AF_INET, *network(at, got.name, text))
