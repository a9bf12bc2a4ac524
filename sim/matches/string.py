"""``-m string``: bytes anywhere in the packet. net/netfilter/xt_string.c string_mt(), net/core/skbuff.c skb_find_text().

Offsets count from the network header; the pattern must lie wholly in [from, to).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine import wire
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U16, by_name, number, opt, quoted, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

MAX_PATTERN = 128  # XT_STRING_MAX_PATTERN_SIZE
ALGORITHMS = ("bm", "kmp", "fsm")


@match("string", doc='-m string ! --string "GET /" --algo kmp --from 40 --to 400 --icase')
@dataclass(frozen=True, slots=True)
class String(Match):
    """``pattern``: raw bytes."""

    options = (
        Opt("--from", 1),
        Opt("--to", 1),
        Opt("--algo", 1),
        Opt("--string", 1, True),
        Opt("--hex-string", 1, True),
        Opt("--icase", 0),
    )
    pattern: bytes
    algo: str
    start: int = 0
    end: int = U16
    icase: bool = False
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> String:
        got = by_name(found)
        if ("--string" in got) == ("--hex-string" in got) or "--algo" not in got:
            raise at.error("-m string needs --algo and one of --string, --hex-string")
        one = got.get("--string") or got["--hex-string"]
        if one.name == "--string":
            pattern = one.args[0].encode("utf-8", "surrogateescape")
        else:
            pattern = hex_pattern(at, one.args[0])
        algo = got["--algo"].args[0]
        if algo not in ALGORITHMS:
            raise at.error(f"--algo: unknown algorithm {algo!r}", "bm or kmp")
        if not 0 < len(pattern) <= MAX_PATTERN:
            raise at.error(f"{one.name}: the pattern must have 1 to {MAX_PATTERN} bytes")
        start = number(at, "--from", got["--from"].args[0], U16) if "--from" in got else 0
        end = number(at, "--to", got["--to"].args[0], U16) if "--to" in got else U16
        if start > end:
            raise at.error("--from is beyond --to")
        return cls(pattern, algo, start, end, "--icase" in got, one.negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        packet = wire.build(skb, ctx)
        return self._search(packet, ctx) != self.negated

    def _search(self, packet: wire.Wire, ctx: Ctx) -> bool:
        data, pattern = packet.data[self.start : self.end], self.pattern
        if self.icase:
            data, pattern = data.upper(), pattern.upper()
        if skipped := min(len(packet.data), self.end) - max(packet.given, self.start):
            if skipped > 0:
                ctx.run.note("payload that nobody gave is taken as zero bytes")
        if _sure(packet, self.start, self.end, pattern, self.icase):
            return True
        if not packet.unknown or not _possible(packet, self.start, self.end, pattern, self.icase):
            return pattern in data
        return ctx.unknown(f"-m string {self._show()}: it depends on bytes that the kernel chooses", "missing_input")

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        actual = "the packet contains it" if self.negated else "the packet does not contain it"
        return Miss(f"{said(self.negated)}--string {self._show()}", self._show(), actual)

    def _show(self) -> str:
        if _is_hex(self.pattern):
            return quoted(f"|{self.pattern.hex()}|")
        return quoted("".join("\\" + c if c in '"\\' else c for c in self.pattern.decode("ascii")))

    def words(self) -> list[str]:
        out = opt("--hex-string" if _is_hex(self.pattern) else "--string", self.negated, self._show())
        out += ["--algo", self.algo]
        if self.start:
            out += opt("--from", False, self.start)
        if self.end != U16:
            out += opt("--to", False, self.end)
        return [*out, "--icase"] if self.icase else out


def _is_hex(pattern: bytes) -> bool:
    """Whether iptables prints it as hexadecimal."""
    return any(not 0x20 <= byte < 0x7F for byte in pattern) or pattern.endswith(b"\\")


def _places(packet: wire.Wire, start: int, end: int, pattern: bytes) -> range:
    return range(start, min(end, len(packet.data)) - len(pattern) + 1)


def _sure(packet: wire.Wire, start: int, end: int, pattern: bytes, icase: bool) -> bool:
    """Whether the pattern occurs without any undecided byte."""
    data = packet.data.upper() if icase else packet.data
    place = data.find(pattern, start, end)
    while place >= 0:
        if not packet.undecided(place, place + len(pattern)):
            return True
        place = data.find(pattern, place + 1, end)
    return False


def _possible(packet: wire.Wire, start: int, end: int, pattern: bytes, icase: bool) -> bool:
    """Whether undecided bytes could complete an occurrence."""
    data = packet.data.upper() if icase else packet.data
    for place in _places(packet, start, end, pattern):
        if packet.undecided(place, place + len(pattern)) and all(
            data[place + n] == byte or packet.undecided(place + n, place + n + 1) for n, byte in enumerate(pattern)
        ):
            return True
    return False


def hex_pattern(at: At, text: str) -> bytes:
    """``literal|0a 0b|literal`` with ``\\c`` for a literal character outside the bars."""
    out = bytearray()
    place, inside = 0, False
    while place < len(text):
        char = text[place]
        if char == "|":
            inside = not inside
            place += 1
        elif not inside and char == "\\":
            if place + 1 >= len(text):
                raise at.error("--hex-string: a backslash at the end")
            out += text[place + 1].encode()
            place += 2
        elif not inside:
            out += char.encode("utf-8", "surrogateescape")
            place += 1
        elif char == " ":
            place += 1
        else:
            try:
                out.append(int(text[place : place + 2], 16))
            except ValueError:
                raise at.error(f"--hex-string: not hexadecimal: {text[place : place + 2]!r}") from None
            if place + 2 >= len(text) or text[place + 1] in "| ":
                raise at.error("--hex-string: an odd number of digits, or no | at the end")
            place += 2
    return bytes(out)
