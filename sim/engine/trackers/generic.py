"""Protocols without a tracker of their own (ESP, IPIP, 99 …): net/netfilter/nf_conntrack_proto_generic.c."""

from __future__ import annotations

from ...model.conntrack import Conn
from ...model.packet import Skb
from ..run import Ctx
from .common import ACCEPTED, refresh, timeout

NAME = "unknown"
ALLOW_CLASH = True


def packet(ctx: Ctx, skb: Skb, conn: Conn) -> str:
    """generic_packet() in nf_conntrack_core.c"""
    refresh(ctx, skb, conn, timeout(ctx, conn, "generic_timeout", 600))
    return ACCEPTED
