"""What all protocol trackers share: verdict codes, timeouts, refreshing and killing an entry."""

from __future__ import annotations

from ...model.conntrack import IPS_DYING, IPS_FIXED_TIMEOUT, Conn, ctinfo2dir
from ...model.packet import Skb
from ..run import Ctx

# What a tracker says about a packet: goes on with its entry; INVALID (loses it); the entry is gone, look up again
ACCEPTED, INVALID, REPEAT = "accepted", "invalid", "repeat"


def current(ctx: Ctx, conn: Conn) -> Conn:
    """The entry as it is in the table now."""
    return ctx.hs.ct.entries.get(conn.conn_id, conn)


def timeout(ctx: Ctx, conn: Conn, name: str, default: int) -> int:
    """nf_ct_timeout_lookup(): seconds of ``net.netfilter.nf_conntrack_<name>``.

    The contents of a policy (``-j CT --timeout``) are in no dump: the namespace's own timeouts stand in.
    """
    if conn.timeout_policy:
        ctx.run.note(
            f"{ctx.host.name}: the timeouts of policy {conn.timeout_policy!r} are not in the snapshot; "
            "those of the sysctls stand in"
        )
    return ctx.sysctl_int(f"net.netfilter.nf_conntrack_{name}", default)


def refresh(ctx: Ctx, skb: Skb, conn: Conn, seconds: float) -> Conn:
    """nf_ct_refresh_acct(): a new timeout, and the packet counted where the entry has counters."""
    conn = extend(ctx, conn, seconds)
    return conn if conn.acct is None else ctx.hs.ct.update(conn, acct=counted(conn, skb))


def extend(ctx: Ctx, conn: Conn, seconds: float) -> Conn:
    """nf_ct_refresh(): a new timeout, nothing counted; that of an unconfirmed entry starts with its confirmation."""
    if conn.status & IPS_FIXED_TIMEOUT:
        return conn
    return ctx.hs.ct.update(
        conn, timeout_s=seconds, timeout_at=ctx.now + seconds if conn.confirmed else conn.timeout_at
    )


def counted(conn: Conn, skb: Skb) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """nf_ct_acct_update(): the counters with this packet added in its direction."""
    if conn.acct is None:
        return None
    both = list(conn.acct)
    direction = ctinfo2dir(skb.ctinfo or 0)
    packets, octets = both[direction]
    both[direction] = (packets + 1, octets + skb.length)
    return both[0], both[1]


def set_status(ctx: Ctx, conn: Conn, bits: int) -> Conn:
    return conn if conn.status & bits == bits else ctx.hs.ct.update(conn, status=conn.status | bits)


def kill(ctx: Ctx, conn: Conn, skb: Skb | None = None) -> None:
    """nf_ct_kill(), with a packet nf_ct_kill_acct(): the entry leaves the table; the packet keeps carrying it."""
    conn = current(ctx, conn)
    if conn.status & IPS_DYING:
        return
    if skb is not None and conn.acct is not None:
        conn = ctx.hs.ct.update(conn, acct=counted(conn, skb))
    table = ctx.hs.ct
    table.bury(conn)
    if table.expectations:
        table.expectations = tuple(e for e in table.expectations if e.master != conn.conn_id)
