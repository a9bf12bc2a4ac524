"""HMARK: net/netfilter/xt_HMARK.c hmark_tg_v4(), hmark_hash(). The mark becomes a hash of the flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET, BITS, mask_of, parse_addr
from ..model.drawn import Drawn, Number
from ..model.packet import IPPROTO_AH, IPPROTO_ESP, IPPROTO_ICMP, IPPROTO_ICMPV6, WITH_PORTS
from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import NamedTuple, dataclass
from ..rules.registry import At, Found, Opt, target
from .common import U32, Options, c_int

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

# what --hmark-tuple takes → (option that says the same, its value)
TUPLE = {
    "src": ("--hmark-src-prefix", None),
    "dst": ("--hmark-dst-prefix", None),
    "sport": ("--hmark-sport-mask", 0xFFFF),
    "dport": ("--hmark-dport-mask", 0xFFFF),
    "spi": ("--hmark-spi-mask", U32),
    "proto": ("--hmark-proto-mask", 0xFFFF),
}
# in the order in which iptables-save prints them, with the number of hexadecimal digits (0: decimal)
PRINTED = {
    "--hmark-src-prefix": 0,
    "--hmark-dst-prefix": 0,
    "--hmark-sport-mask": 4,
    "--hmark-dport-mask": 4,
    "--hmark-spi-mask": 8,
    "--hmark-sport": 4,
    "--hmark-dport": 4,
    "--hmark-spi": 8,
    "--hmark-proto-mask": 2,
    "--hmark-rnd": 8,
    "--hmark-mod": 0,
    "--hmark-offset": 0,
}
LIMIT = {4: 0xFFFF, 8: U32, 2: 0xFFFF, 0: U32}


class _Flow(NamedTuple):
    """struct hmark_tuple, before masking."""

    src: int
    dst: int
    sport: Number = 0
    dport: Number = 0
    proto: int = 0
    with_ports: bool = False


@target(
    "HMARK",
    doc="-j HMARK --hmark-src-prefix 24 --hmark-dst-prefix 32 --hmark-sport-mask 0xffff --hmark-dport-mask 0xffff"
    " --hmark-proto-mask 0xffff --hmark-rnd 0x0000cafe --hmark-mod 10 --hmark-offset 100",
)
@dataclass(frozen=True, slots=True)
class Hmark(Target):
    """``given``: (option, number) in printing order; ``by_entry``: hash the connection instead of the packet."""

    options = (Opt("--hmark-tuple"), *(Opt(name) for name in PRINTED))

    given: tuple[tuple[str, int], ...]
    by_entry: bool = False
    family: int = AF_INET

    @classmethod
    def parse(cls, found: Found, at: At) -> Hmark:
        options = Options("HMARK", found, at)
        given: dict[str, int] = {}
        words = (options.text("--hmark-tuple") or "").split(",")
        for word in filter(None, words):
            if word != "ct":
                if word not in TUPLE:
                    raise options.bad("--hmark-tuple", f"{word!r} is not one of {', '.join(TUPLE)}, ct")
                name, value = TUPLE[word]
                given[name] = BITS[at.family] if value is None else value
        for name, digits in PRINTED.items():
            if name not in options:
                continue
            if name in given:
                raise at.error(f'HMARK: option "{name}" can only be used once (--hmark-tuple says it too)')
            number = _prefix(options, name) if name.endswith("prefix") else options.number(name, 0, LIMIT[digits])
            given[name] = number or 0
        for name in ("--hmark-mod", "--hmark-rnd"):
            if name not in given:
                raise at.error(f"HMARK: {name} is mandatory")
        if not given["--hmark-mod"]:
            raise options.bad("--hmark-mod", "at least 1")
        ports = {"--hmark-sport-mask", "--hmark-dport-mask", "--hmark-sport", "--hmark-dport"} & given.keys()
        if ports and {"--hmark-spi-mask", "--hmark-spi"} & given.keys():
            raise at.error("HMARK: an SPI and ports cannot be combined")
        return cls(tuple((n, given[n]) for n in PRINTED if n in given), "ct" in words, at.family)

    def words(self) -> list[str]:
        out: list[str] = []
        for name, value in self.given:
            digits = PRINTED[name]
            out += [name, f"0x{value:0{digits}x}" if digits else str(value)]
        return [*out, "--hmark-tuple", "ct"] if self.by_entry else out

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        flow = _of_entry(skb, ctx) if self.by_entry else _of_packet(skb)
        if flow is not None:
            skb.mark = self._hash(flow, ctx)
        return V_CONTINUE

    def _hash(self, flow: _Flow, ctx: Ctx) -> int:
        from ..engine.jhash import jhash2, reciprocal_scale

        told = dict(self.given)
        src = _fold(self.family, flow.src, told.get("--hmark-src-prefix", 0))
        dst = _fold(self.family, flow.dst, told.get("--hmark-dst-prefix", 0))
        ports = self._ports(flow, told, ctx) if flow.with_ports else 0
        value = jhash2((min(src, dst), max(src, dst), ports), told["--hmark-rnd"])
        value ^= flow.proto & told.get("--hmark-proto-mask", 0)
        return (reciprocal_scale(value, told["--hmark-mod"]) + told.get("--hmark-offset", 0)) & U32

    def _ports(self, flow: _Flow, told: dict[str, int], ctx: Ctx) -> int:
        """hmark_swap_ports(): both ports masked and set, the greater one in the upper half."""
        spi_mask, spi = told.get("--hmark-spi-mask", 0), told.get("--hmark-spi", 0)
        low = (told.get("--hmark-sport-mask", spi_mask >> 16), told.get("--hmark-sport", spi >> 16))
        high = (told.get("--hmark-dport-mask", spi_mask & 0xFFFF), told.get("--hmark-dport", spi & 0xFFFF))
        sport, dport = self._port(flow.sport, *low, ctx), self._port(flow.dport, *high, ctx)
        return max(sport, dport) << 16 | min(sport, dport)

    def _port(self, port: Number, mask: int, value: int, ctx: Ctx) -> int:
        port = ctx.ws.known(port)
        if isinstance(port, Drawn):
            if mask:
                ctx.unknown("HMARK hashes a port that the kernel draws: the mark is not known")
            return value
        return port & mask | value


def _prefix(options: Options, name: str) -> int:
    """A length or a contiguous mask."""
    text = options.text(name) or ""
    bits = BITS[options.at.family]
    try:
        if text.isascii() and text.isdigit():
            number = int(text)
        else:
            mask = parse_addr(text)[1] if "." in text or ":" in text else c_int(text)
            number = mask.bit_count()
            if mask != mask_of(options.at.family, number):
                raise ValueError(text)
    except (ValueError, OSError):
        raise options.bad(name, f"a prefix length from 0 to {bits}") from None
    if number > bits:
        raise options.bad(name, f"a prefix length from 0 to {bits}")
    return number


def _fold(family: int, addr: int, plen: int) -> int:
    """hmark_addr_mask(): an IPv6 address is folded to 32 bits."""
    addr &= mask_of(family, plen)
    if family == AF_INET:
        return addr
    return (addr >> 96 ^ addr >> 64 ^ addr >> 32 ^ addr) & U32


def _of_packet(skb: Skb) -> _Flow:
    """hmark_pkt_set_htuple_ipv4(): an ICMP error is hashed as the packet that it is about."""
    if skb.is_icmp_error and skb.inner is not None:
        skb = skb.inner
    if skb.proto in (IPPROTO_ICMP, IPPROTO_ICMPV6) or skb.frag or skb.mf:
        return _Flow(skb.src, skb.dst, proto=skb.proto)
    if skb.proto in WITH_PORTS:
        return _Flow(skb.src, skb.dst, skb.sport, skb.dport, skb.proto, True)
    if skb.proto in (IPPROTO_ESP, IPPROTO_AH):
        return _Flow(skb.src, skb.dst, skb.spi >> 16, skb.spi & 0xFFFF, skb.proto, True)
    return _Flow(skb.src, skb.dst, proto=skb.proto)


def _of_entry(skb: Skb, ctx: Ctx) -> _Flow | None:
    """hmark_ct_set_htuple(): the two ends' own addresses and ports; nothing without an entry."""
    conn = ctx.ct(skb)
    if conn is None:
        return None
    orig, reply = conn.tuples
    icmp = orig.proto == IPPROTO_ICMP
    return _Flow(orig.src, reply.src, orig.sport, reply.sport, orig.proto, not icmp)
