"""``-m u32``: arithmetic on 32-bit words of the packet. net/netfilter/xt_u32.c u32_match_it()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine import wire
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U32, number, opt, quoted, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

MAX_SIZE = 10  # XT_U32_MAXSIZE: tests, operators of a test, values of a test
OPERATORS = ("&", "<<", ">>", "@")

Step = tuple[str, int]  # operator ("" for the first), operand
Test = tuple[tuple[Step, ...], tuple[tuple[int, int], ...]]  # location, values


@match("u32", doc='-m u32 ! --u32 "0x6&0xff=0x1&&0x0>>0x16&0x3c@0x0>>0x18=0x0:0x8,0xb"')
@dataclass(frozen=True, slots=True)
class U32Match(Match):
    """All ``tests`` must hold."""

    options = (Opt("--u32", 1, True),)
    tests: tuple[Test, ...]
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> U32Match:
        if not found:
            raise at.error("-m u32 needs --u32")
        return cls(parse_tests(at, found[0].args[0]), found[0].negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        packet = wire.build(skb, ctx)
        for location, values in self.tests:
            value = _evaluate(location, packet)
            if isinstance(value, str):
                text = f"-m u32: it reads {value}, which the kernel chooses"
                return ctx.unknown(text, "missing_input") != self.negated
            if value is None or not any(low <= value <= high for low, high in values):
                return self.negated
        return not self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        packet = wire.build(skb, ctx)
        for one in self.tests:
            value = _evaluate(one[0], packet)
            if not isinstance(value, int) or not any(low <= value <= high for low, high in one[1]):
                actual = f"it is 0x{value:x}" if isinstance(value, int) else value or "it reads beyond the packet"
                return Miss(f"{said(self.negated)}--u32 {_show(one)}", _show(one), actual)
        return Miss(f"{said(self.negated)}--u32", "a test that fails", "all tests hold")

    def words(self) -> list[str]:
        return opt("--u32", self.negated, quoted("&&".join(_show(one) for one in self.tests)))


def _evaluate(location: tuple[Step, ...], packet: wire.Wire) -> int | str | None:
    """The word of a test; None beyond the packet; a text where it depends on a byte nobody knows."""
    length, base = len(packet.data), 0
    place = location[0][1]
    if length < 4 or place > length - 4:
        return None
    value = int.from_bytes(packet.data[place : place + 4], "big")
    known = _mask(packet, place)  # bits of value that are decided
    for operator, operand in location[1:]:
        if operator == "&":
            value, known = value & operand, known | ~operand & U32
        elif operator == "<<":
            value, known = value << operand & U32, (known << operand | (1 << operand) - 1) & U32
        elif operator == ">>":
            value, known = value >> operand, known >> operand | ~(U32 >> operand) & U32
        else:
            if known != U32:
                return "an offset from a field"
            base += value
            if base > U32 or base + 4 > U32 or length < base + 4 or operand > length - base - 4:
                return None
            place = base + operand
            value = int.from_bytes(packet.data[place : place + 4], "big")
            known = _mask(packet, place)
    return value if known == U32 else f"bytes {place} to {place + 3}"


def _mask(packet: wire.Wire, place: int) -> int:
    """Which bits of a word are decided."""
    return sum(0xFF << (24 - 8 * n) for n in range(4) if not packet.undecided(place + n, place + n + 1))


def _show(one: Test) -> str:
    location = "".join(f"{operator}0x{operand:x}" for operator, operand in one[0])
    return location + "=" + ",".join(f"0x{a:x}" if a == b else f"0x{a:x}:0x{b:x}" for a, b in one[1])


def parse_tests(at: At, text: str) -> tuple[Test, ...]:
    """``location = values && …``; location: number {& << >> @ number}; values: ranges with commas."""
    tests = tuple(_parse_test(at, part) for part in "".join(text.split()).split("&&"))
    if len(tests) > MAX_SIZE + 1:
        raise at.error("--u32: too many &&")
    return tests


def _parse_test(at: At, text: str) -> Test:
    location, equals, values = text.partition("=")
    if not equals or not location or not values:
        raise at.error(f"--u32: a test is location=values, not {text!r}")
    steps: list[Step] = []
    rest, operator = location, ""
    while True:
        size = len(rest) if not (cuts := [c for o in OPERATORS if (c := rest.find(o)) >= 0]) else min(cuts)
        operand = number(at, "--u32", rest[:size])
        if operator in ("<<", ">>") and operand >= 32:
            raise at.error(f"--u32: a shift by {operand} bits")
        steps.append((operator, operand))
        rest = rest[size:]
        if not rest:
            break
        operator = next(o for o in OPERATORS if rest.startswith(o))
        rest = rest[len(operator) :]
    spans = []
    for part in values.split(","):
        low, colon, high = part.partition(":")
        first = number(at, "--u32", low)
        spans.append((first, number(at, "--u32", high) if colon else first))
    if len(steps) > MAX_SIZE + 1 or len(spans) > MAX_SIZE + 1:
        raise at.error("--u32: too many operators or values in one test")
    return tuple(steps), tuple(spans)
