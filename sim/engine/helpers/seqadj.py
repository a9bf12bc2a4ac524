"""TCP sequence numbers after NAT changed the length of a payload: net/netfilter/nf_conntrack_seqadj.c."""

from __future__ import annotations

from ...model.conntrack import IPS_SEQ_ADJUST, Conn, ctinfo2dir
from ...model.packet import TH_ACK, Skb
from ...record import NamedTuple
from ..run import Ctx
from ..trackers.common import set_status
from ..trackers.tcp import after, before

_M = 0xFFFFFFFF


class Shift(NamedTuple):
    """struct nf_ct_seqadj of one direction: offsets before and after sequence number ``position``."""

    position: int = 0
    before: int = 0
    after: int = 0


def _shifts(ctx: Ctx, conn: Conn) -> tuple[Shift, Shift]:
    found: tuple[Shift, Shift] = ctx.hs.match_state.get(("seqadj", conn.conn_id), (Shift(), Shift()))
    return found


def offset(ctx: Ctx, conn: Conn, direction: int, seq: int) -> int:
    """nf_ct_seq_offset()"""
    if not conn.status & IPS_SEQ_ADJUST:
        return 0
    shift = _shifts(ctx, conn)[direction]
    return shift.after if after(seq, shift.position) else shift.before


def grow(ctx: Ctx, skb: Skb, conn: Conn, change: int) -> None:
    """nf_ct_seqadj_set(): this packet's payload became ``change`` bytes longer."""
    if not change:
        return
    set_status(ctx, conn, IPS_SEQ_ADJUST)
    direction = ctinfo2dir(skb.ctinfo or 0)
    both = list(_shifts(ctx, conn))
    mine = both[direction]
    if mine.before == mine.after or before(mine.position, skb.tcp_seq):
        both[direction] = Shift(skb.tcp_seq, mine.after, mine.after + change)
        ctx.hs.match_state["seqadj", conn.conn_id] = (both[0], both[1])


def adjust(ctx: Ctx, skb: Skb, conn: Conn) -> None:
    """nf_ct_seq_adjust(): shift the numbers of a packet that passes (SACK blocks are left alone)."""
    direction = ctinfo2dir(skb.ctinfo or 0)
    both = _shifts(ctx, conn)
    mine, other = both[direction], both[1 - direction]
    skb.tcp_seq = (skb.tcp_seq + (mine.after if after(skb.tcp_seq, mine.position) else mine.before)) & _M
    if skb.tcp_flags & TH_ACK:
        late = after((skb.tcp_ack - other.before) & _M, other.position)
        skb.tcp_ack = (skb.tcp_ack - (other.after if late else other.before)) & _M
