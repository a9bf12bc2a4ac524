"""ICMP and ICMPv6 queries: net/netfilter/nf_conntrack_proto_icmp.c, nf_conntrack_proto_icmpv6.c.

Errors are no business of a tracker: conntrack looks up the packet that they quote.
"""

from __future__ import annotations

from ...model.conntrack import Conn
from ...model.packet import IPPROTO_ICMP, Skb
from ..run import Ctx
from .common import ACCEPTED, INVALID, refresh, timeout

NAME = "icmp"
ALLOW_CLASH = False

# invmap[]: which type answers which
INVERSE = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17}
INVERSE_V6 = {128: 129, 129: 128, 139: 140, 140: 139}
VALID_NEW = frozenset((8, 13, 15, 17))
VALID_NEW_V6 = frozenset((128, 139))
# nf_conntrack_icmpv6_error(): neighbour discovery and multicast listener reports are never tracked
UNTRACKED_V6 = frozenset((130, 131, 132, 133, 134, 135, 136, 143))
NR_ICMP_TYPES = 18


def invert_type(proto: int, icmp_type: int) -> int | None:
    """nf_conntrack_invert_icmp_tuple(): the type of the answer, None for a type that has none."""
    return (INVERSE if proto == IPPROTO_ICMP else INVERSE_V6).get(icmp_type)


def packet(ctx: Ctx, skb: Skb, conn: Conn) -> str:
    """nf_conntrack_icmp_packet(), nf_conntrack_icmpv6_packet()"""
    orig = conn.tuples[0]
    v4 = orig.proto == IPPROTO_ICMP
    icmp_type = int(orig.dport) >> 8  # type: ignore[arg-type]
    if icmp_type not in (VALID_NEW if v4 else VALID_NEW_V6):
        return INVALID
    refresh(ctx, skb, conn, timeout(ctx, conn, "icmp_timeout" if v4 else "icmpv6_timeout", 30))
    return ACCEPTED
