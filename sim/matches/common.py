"""What several matches share: reading option values, printing them as iptables-save does, transport headers.

Nothing is registered here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine import wire
from ..model.addr import AF_INET, BITS, format_addr, parse_addr
from ..model.conntrack import Conn
from ..model.drawn import Drawn, Number
from ..model.packet import IPPROTO_TCP
from ..model.rule import HotDrop
from ..rules.registry import At, Found, Got

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

U8, U16, U32, U64 = 0xFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
HZ = 250  # jiffies of the clock that limit, hashlimit and recent count in (CONFIG_HZ of Debian and of the tests)


# ---- option values ---------------------------------------------------------------------------------------


def by_name(found: Found) -> dict[str, Got]:
    return {got.name: got for got in found}


def number(at: At, option: str, text: str, high: int = U32, low: int = 0) -> int:
    """An integer as xtables_strtoul() reads it: decimal, 0x hexadecimal or 0 octal."""
    value = -1
    digits = text.strip()
    if digits.isascii() and digits.isalnum():
        base = 16 if digits[:2].lower() == "0x" else 8 if digits[0] == "0" and len(digits) > 1 else 10
        try:
            value = int(digits, base)
        except ValueError:
            value = -1
    if not low <= value <= high:
        raise at.error(f"{option}: not a number from {low} to {high}: {text!r}")
    return value


def span(at: At, option: str, text: str, high: int = U32, sep: str = ":") -> tuple[int, int]:
    """``a``, ``a:b``, ``a:``, ``:b`` to an inclusive range (which may be empty: the kernel accepts b < a)."""
    first, mark, last = text.partition(sep)
    low = number(at, option, first, high) if first else 0
    if not mark:
        return low, low
    return low, number(at, option, last, high) if last else high


def port(at: At, option: str, text: str) -> int:
    """A port number or the name of a service."""
    if text[:1].isdigit():
        return number(at, option, text, U16)
    import socket

    for proto in ("tcp", "udp"):
        try:
            return socket.getservbyname(text, proto)
        except (OSError, ValueError):  # ValueError: a NUL in the name
            continue
    raise at.error(f"{option}: no service is called {text!r}", "write the port as a number")


def ports(at: At, option: str, text: str) -> tuple[int, int]:
    """A port or a range of ports."""
    first, mark, last = text.partition(":")
    low = port(at, option, first) if first else 0
    if not mark:
        return low, low
    return low, port(at, option, last) if last else U16


def masked(at: At, option: str, text: str) -> tuple[int, int]:
    """``value[/mask]`` of 32 bits."""
    value, slash, mask = text.partition("/")
    return number(at, option, value), number(at, option, mask) if slash else U32


def address(at: At, option: str, text: str) -> int:
    try:
        family, value = parse_addr(text)
    except (ValueError, OSError):
        family, value = 0, 0
    if family != at.family:
        raise at.error(f"{option}: not an address of this family: {text!r}")
    return value


def network(at: At, option: str, text: str) -> tuple[int, int]:
    """``address[/mask]`` to (address as written, mask); the mask need not be contiguous."""
    head, slash, tail = text.partition("/")
    bits = BITS[at.family]
    mask = (1 << bits) - 1
    if slash and tail.isdigit():
        mask &= ~0 << bits - number(at, option, tail, bits)
    elif slash:
        mask = address(at, option, tail)
    return address(at, option, head), mask


def prefix_length(at: At, option: str, text: str) -> int:
    """``24``, ``/24`` or a contiguous netmask."""
    text = text.removeprefix("/")
    bits = BITS[at.family]
    if text.isdigit():
        return number(at, option, text, bits)
    inverse = ~address(at, option, text) & (1 << bits) - 1
    if inverse & inverse + 1:
        raise at.error(f"{option}: not a contiguous netmask: {text!r}")
    return bits - inverse.bit_length()


# ---- printing --------------------------------------------------------------------------------------------


def opt(name: str, negated: bool = False, *values: object) -> list[str]:
    """The words of one option."""
    return [*(["!"] if negated else []), name, *map(str, values)]


def show_span(low: int, high: int, sep: str = ":") -> str:
    return str(low) if low == high else f"{low}{sep}{high}"


def show_masked(value: int, mask: int) -> str:
    return f"0x{value:x}" if mask == U32 else f"0x{value:x}/0x{mask:x}"


def show_network(family: int, value: int, mask: int) -> str:
    """An address with its mask as xtables_ipmask_to_numeric() appends it."""
    bits = BITS[family]
    text = format_addr(family, value)
    inverse = ~mask & (1 << bits) - 1
    if not inverse:
        return text
    if inverse & inverse + 1:
        return f"{text}/{format_addr(family, mask)}"
    return f"{text}/{bits - inverse.bit_length()}"


def save_string(text: str) -> str:
    """xtables_save_string(): bare where harmless, else in double quotes with backslashes."""
    if text and all(c.isascii() and (c.isalnum() or c in "_-") for c in text):
        return text
    return '"' + "".join("\\" + c if c in "\"\\'" else c for c in text) + '"'


def quoted(text: str) -> str:
    """Always in double quotes."""
    return f'"{text}"'


def said(negated: bool) -> str:
    return "! " if negated else ""


# ---- the packet ------------------------------------------------------------------------------------------


def native(ctx: Ctx) -> bool:
    """Whether the rule's tcp, udp, limit and mark matches are nft expressions (iptables-nft writes these so)."""
    return ctx.rule is not None and ctx.rule.rule_id.backend == "iptables"


def need_header(skb: Skb, size: int) -> bool:
    """The beginning of most transport matches: False for a later fragment, HotDrop where the header is cut off."""
    if skb.frag:
        if skb.frag == 8 and skb.proto == IPPROTO_TCP:
            raise HotDrop  # xt_tcpudp.c tcp_mt(): a fragment that would overwrite the flags
        return False
    if wire.transport_length(skb) < size:
        raise HotDrop
    return True


def transport_ports(skb: Skb, ctx: Ctx) -> tuple[Number, Number] | None:
    """The two 16-bit words after the network header whatever the protocol is; None where they are cut off."""
    if skb.has_ports and not skb.frag and wire.transport_length(skb) >= 4:
        return skb.sport, skb.dport
    start = wire.header_length(skb)
    data = wire.to_bytes(skb)[start : start + 4]
    if len(data) < 4:
        return None
    return int.from_bytes(data[:2], "big"), int.from_bytes(data[2:], "big")


def show_number(value: Number, ctx: Ctx) -> str:
    value = ctx.ws.known(value)
    return f"drawn by the kernel ({value!r})" if isinstance(value, Drawn) else str(value)


def no_ports(skb: Skb) -> str | None:
    """Why a port match cannot look at this packet, in words."""
    return "the packet is a later fragment, without ports" if skb.frag else None


def entry(skb: Skb, ctx: Ctx) -> Conn | None:
    """nf_ct_get(): the packet's entry; in the raw table that may be the template which -j CT attached."""
    conn = ctx.ct(skb)
    if conn is None and skb.ctinfo is None and skb.template is not None and ctx.table == "raw":
        return TEMPLATE
    return conn


def _template() -> Conn:
    from ..model.conntrack import IPS_CONFIRMED, IPS_TEMPLATE, Tuple

    none = Tuple(AF_INET, 0, 0, 0, 0, 0)
    return Conn(0, (none, none), status=IPS_TEMPLATE | IPS_CONFIRMED)


TEMPLATE = _template()


def jiffies(ctx: Ctx) -> int:
    return int(ctx.now * HZ + 1e-6)


def is_fresh(ctx: Ctx) -> bool:
    """Whether the rules were loaded just before the first packet, so that every counter is at its start."""
    return bool(ctx.host.meta.get("fresh"))


def assume_fresh(ctx: Ctx, what: str) -> None:
    """Say that a match's memory, which no dump shows, is taken to be as after loading the rules."""
    if not is_fresh(ctx):
        rule = f" (rule {ctx.rule.where})" if ctx.rule is not None and ctx.rule.where is not None else ""
        ctx.run.note(f"{ctx.host.name}: {what}{rule}")
