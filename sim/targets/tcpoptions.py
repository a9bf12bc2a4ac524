"""TCP options as bytes: walking them as the kernel's TCPMSS and TCPOPTSTRIP do (optlen() in both)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.packet import Skb

TCPOPT_NOP, TCPOPT_MSS, TCPOLEN_MSS = 1, 2, 4


def option_bytes(skb: Skb) -> bytes:
    """The options as they are on the wire, padded to four bytes."""
    if skb.tcp_options is not None:
        return skb.tcp_options + bytes(-len(skb.tcp_options) % 4)
    return b"" if skb.mss is None else mss_option(skb.mss)


def mss_option(mss: int) -> bytes:
    return bytes((TCPOPT_MSS, TCPOLEN_MSS)) + mss.to_bytes(2, "big")


def walk(options: bytes) -> Iterator[tuple[int, int, int]]:
    """(offset, kind, length) of each option; a zero length makes progress by one."""
    at = 0
    while at < len(options):
        kind = options[at]
        after = options[at + 1] if at + 1 < len(options) else 0
        length = 1 if kind <= TCPOPT_NOP or after == 0 else after
        yield at, kind, length
        at += length


def set_options(skb: Skb, options: bytes) -> None:
    """Put changed options back; ``mss`` follows them."""
    mss = None
    for at, kind, _ in walk(options):
        if kind == TCPOPT_MSS and options[at + 1 : at + 2] == b"\x04" and at + TCPOLEN_MSS <= len(options):
            mss = int.from_bytes(options[at + 2 : at + 4], "big")
            break
    if skb.tcp_options is not None or (mss is None and options):
        skb.tcp_options = options
    skb.mss = mss
