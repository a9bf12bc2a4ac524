"""``-m tcp``: ports, flags and options of a TCP header. net/netfilter/xt_tcpudp.c tcp_mt().

iptables-nft writes ports and flags as nft payload expressions, which differ where the header is not whole: they
read whatever bytes stand at its place in a later fragment (nft_payload_fast_eval(), observed on 6.18) and never drop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine import wire
from ..model.packet import IPPROTO_TCP, flags_to_text
from ..model.rule import HotDrop, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U8, U16, native, need_header, no_ports, number, opt, ports, said, show_number, show_span

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

FLAG_BIT = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32}
ALL_PORTS = (0, U16)


def parse_flags(at: At, text: str) -> int:
    """``SYN,ACK``, ``ALL`` or ``NONE`` to bits."""
    bits = 0
    for name in text.upper().split(","):
        if name == "ALL":
            bits |= 0x3F
        elif name in FLAG_BIT:
            bits |= FLAG_BIT[name]
        elif name != "NONE":
            raise at.error(f"--tcp-flags: unknown flag {name!r}", "one of SYN ACK FIN RST URG PSH ALL NONE")
    return bits


def show_flags(bits: int) -> str:
    return ",".join(name for name, bit in FLAG_BIT.items() if bits & bit) or "NONE"


def find_option(options: bytes, kind: int) -> bool:
    """tcp_find_option(): whether an option of this kind is in the header."""
    place = 0
    while place < len(options):
        if options[place] == kind:
            return True
        if options[place] < 2 or place == len(options) - 1:
            place += 1
        else:
            place += options[place + 1] or 1
    return False


@match("tcp", doc="-p tcp -m tcp --sport 1:1023 ! --dport 80 --tcp-flags SYN,ACK SYN")
@dataclass(frozen=True, slots=True)
class Tcp(Match):
    """Criteria of a TCP header; an absent one is None. Each negation is its own."""

    options = (
        Opt("--sport", 1, True, ("--source-port",)),
        Opt("--dport", 1, True, ("--destination-port",)),
        Opt("--tcp-flags", 2, True),
        Opt("--syn", 0, True),
        Opt("--tcp-option", 1, True),
    )
    sport: tuple[int, int] | None = None
    not_sport: bool = False
    dport: tuple[int, int] | None = None
    not_dport: bool = False
    flags: tuple[int, int] | None = None
    not_flags: bool = False
    option: int | None = None
    not_option: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Tcp:
        if at.proto != IPPROTO_TCP or at.proto_negated:
            raise at.error("-m tcp needs -p tcp")
        fields: dict[str, object] = {}
        for name, negated, args in found:
            key = {"--sport": "sport", "--dport": "dport", "--tcp-option": "option"}.get(name, "flags")
            if key in ("sport", "dport"):
                value: object = read_ports(at, name, args[0])
                if value == ALL_PORTS:  # iptables forgets it, its negation too
                    continue
            elif key == "option":
                value = number(at, name, args[0], U8, 1)
            else:
                value = (0x17, 2) if name == "--syn" else (parse_flags(at, args[0]), parse_flags(at, args[1]))
            fields[key], fields["not_" + key] = value, negated
        return cls(**fields)  # type: ignore[arg-type]

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return self._failed(skb, ctx) is None

    def _failed(self, skb: Skb, ctx: Ctx) -> str | None:
        """Name of the first criterion that fails."""
        if self.option is None and native(ctx):
            return self._failed_native(skb, ctx)
        if not need_header(skb, 20):
            return "fragment"
        if self.sport and ctx.in_range(skb.sport, *self.sport) == self.not_sport:
            return "sport"
        if self.dport and ctx.in_range(skb.dport, *self.dport) == self.not_dport:
            return "dport"
        if self.flags and (skb.tcp_flags & self.flags[0] == self.flags[1]) == self.not_flags:
            return "flags"
        if self.option is not None:
            options = wire.tcp_options(skb)
            if wire.transport_length(skb) < 20 + len(options):
                raise HotDrop
            if find_option(options, self.option) == self.not_option:
                return "option"
        return None

    def _failed_native(self, skb: Skb, ctx: Ctx) -> str | None:
        whole = not skb.frag and wire.transport_length(skb) >= 20
        if not whole:
            return self._failed_bytes(wire.to_bytes(skb)[wire.header_length(skb) :])
        if self.sport and ctx.in_range(skb.sport, *self.sport) == self.not_sport:
            return "sport"
        if self.dport and ctx.in_range(skb.dport, *self.dport) == self.not_dport:
            return "dport"
        if self.flags and (skb.tcp_flags & self.flags[0] == self.flags[1]) == self.not_flags:
            return "flags"
        return None

    def _failed_bytes(self, data: bytes) -> str | None:
        if self.sport and failed_word(data, 0, self.sport, self.not_sport):
            return "sport"
        if self.dport and failed_word(data, 2, self.dport, self.not_dport):
            return "dport"
        if self.flags and (len(data) < 14 or (data[13] & self.flags[0] == self.flags[1]) == self.not_flags):
            return "flags"
        return None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        failed = self._failed(skb, ctx)
        if failed == "sport" and self.sport:
            return port_miss("sport", self.sport, self.not_sport, skb, ctx)
        if failed == "dport" and self.dport:
            return port_miss("dport", self.dport, self.not_dport, skb, ctx)
        if failed == "flags" and self.flags:
            wanted = f"{show_flags(self.flags[0])} {show_flags(self.flags[1])}"
            has = flags_to_text(skb.tcp_flags) or "none"
            return Miss(f"{said(self.not_flags)}--tcp-flags {wanted}", wanted, f"the flags are {has}")
        if failed == "option":
            text = f"{said(self.not_option)}--tcp-option {self.option}"
            return Miss(text, str(self.option), f"the header {'has' if self.not_option else 'lacks'} it")
        return Miss("-m tcp", "a whole TCP header", no_ports(skb) or "the header is cut off")

    def words(self) -> list[str]:
        out: list[str] = []
        if self.sport:
            out += opt("--sport", self.not_sport, show_span(*self.sport))
        if self.dport:
            out += opt("--dport", self.not_dport, show_span(*self.dport))
        if self.option is not None:
            out += opt("--tcp-option", self.not_option, self.option)
        if self.flags and self.flags != (0, 0):
            out += opt("--tcp-flags", self.not_flags, show_flags(self.flags[0]), show_flags(self.flags[1]))
        return out


def read_ports(at: At, option: str, text: str) -> tuple[int, int]:
    low, high = ports(at, option, text)
    if low > high and at.proto == IPPROTO_TCP:
        raise at.error(f"{option}: the range {text} ends before it begins")
    return low, high


def failed_word(data: bytes, place: int, span: tuple[int, int], negated: bool) -> bool:
    """A port criterion on raw bytes; bytes that are not there fail it, negated or not (nft BREAK)."""
    if len(data) < place + 2:
        return True
    return (span[0] <= int.from_bytes(data[place : place + 2], "big") <= span[1]) == negated


def port_miss(which: str, span: tuple[int, int], negated: bool, skb: Skb, ctx: Ctx) -> Miss:
    """Why a port criterion failed."""
    value = skb.sport if which == "sport" else skb.dport
    wanted = said(negated) + show_span(*span)
    actual = no_ports(skb) or f"the {'source' if which == 'sport' else 'destination'} port is {show_number(value, ctx)}"
    return Miss(f"{said(negated)}--{which} {show_span(*span)}", wanted, actual)
