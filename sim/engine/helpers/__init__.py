"""Conntrack helpers: what looks into a payload and announces another connection. nf_conntrack_helper.c."""

from __future__ import annotations

from ...model.conntrack import Conn
from ...model.packet import Skb
from ...model.rule import V_ACCEPT, Verdict
from ..run import Ctx

MODELLED = ("ftp", "tftp")
NOT_MODELLED = ("sip", "irc", "pptp", "amanda", "netbios-ns", "snmp", "sane", "Q.931", "RAS", "H.245", "slp")


def run_helper(ctx: Ctx, skb: Skb, conn: Conn) -> Verdict:
    """helper->help(), called for a packet of a connection that has one."""
    name = (conn.helper or "").split("-")[0] if conn.helper not in NOT_MODELLED else conn.helper
    if name == "ftp":
        from . import ftp

        return ftp.help_(ctx, skb, conn)
    if name == "tftp":
        from . import tftp

        return tftp.help_(ctx, skb, conn)
    ctx.run.note(
        f"{ctx.host.name}: helper {conn.helper!r} is not modelled; connections that it would announce are taken as NEW"
    )
    return V_ACCEPT
