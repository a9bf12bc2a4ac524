"""DCCP: net/netfilter/nf_conntrack_proto_dccp.c, of kernels before 6.17 (which dropped it)."""

from __future__ import annotations

from ...model.conntrack import IPS_SEEN_REPLY, ORIGINAL, Conn, ctinfo2dir
from ...model.packet import Skb
from ...record import dataclass, replace
from ..run import Ctx
from .common import ACCEPTED, INVALID, kill, refresh, timeout

NAME = "dccp"
ALLOW_CLASH = False

# enum ct_dccp_states; IG ignored, IV invalid
NONE, REQUEST, RESPOND, PARTOPEN, OPEN, CLOSEREQ, CLOSING, TIMEWAIT = range(8)
IG, IV = -2, -1
STATE_NAME = ("NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT")
TIMEOUT_S = (240, 240, 480, 480, 43200, 64, 64, 240)
_RQ, _RS, _PO, _OP, _CR, _CG, _TW = range(1, 8)

# enum dccp_pkt_type
PKT_REQUEST, PKT_RESPONSE, PKT_DATA, PKT_ACK, PKT_DATAACK, PKT_CLOSEREQ, PKT_CLOSE, PKT_RESET, PKT_SYNC, PKT_SYNCACK = (
    range(10)
)
CLIENT, SERVER = 0, 1
_SYNC = (IV, IG, IG, IG, IG, IG, IG, IG)
# dccp_state_table[role][packet][state]
TRANSITIONS = (
    (
        (_RQ, _RQ, _RS, IG, IG, IG, IG, _RQ),
        (IV, IG, IG, IG, IG, IG, IG, IV),
        (IV, IV, IV, IV, _OP, _CR, _CG, IV),
        (IV, IV, _PO, _PO, _OP, _CR, _CG, IV),
        (IV, IV, _PO, _PO, _OP, _CR, _CG, IV),
        (IV,) * 8,
        (IV, IV, IV, _CG, _CG, _CG, IV, IV),
        (IV, _TW, _TW, _TW, _TW, _TW, _TW, IG),
        _SYNC,
        _SYNC,
    ),
    (
        (IV, IG, IG, IG, IG, IG, IG, _RQ),
        (IV, _RS, _RS, IG, IG, IG, IG, IV),
        (IV, IV, IV, _OP, _OP, IV, _CG, IV),
        (IV, IV, IV, _OP, _OP, IV, _CG, IV),
        (IV, IV, IV, _OP, _OP, IV, _CG, IV),
        (IV, IV, IV, _CR, _CR, _CR, _CR, IV),
        (IV, IV, IV, _CG, _CG, IV, _CG, IV),
        (IV, _TW, _TW, _TW, _TW, _TW, _TW, _TW),
        _SYNC,
        _SYNC,
    ),
)


@dataclass(frozen=True, slots=True)
class DccpState:
    """struct nf_ct_dccp; ``roles`` of the original and the reply direction."""

    state: int = NONE
    roles: tuple[int, int] = (CLIENT, SERVER)
    last_dir: int = ORIGINAL
    last_pkt: int = PKT_REQUEST

    @property
    def name(self) -> str:
        return STATE_NAME[self.state]


def state_of(conn: Conn) -> DccpState:
    state = conn.proto_state
    if isinstance(state, DccpState):
        return state
    name = state[1] if isinstance(state, tuple) and len(state) > 1 else "OPEN"
    return DccpState(STATE_NAME.index(name) if name in STATE_NAME else OPEN)


def packet(ctx: Ctx, skb: Skb, conn: Conn) -> str:
    """nf_conntrack_dccp_packet(). Acknowledgement numbers are not modelled, so nothing becomes ASSURED."""
    kind = skb.dccp_type
    if kind > PKT_SYNCACK:
        return INVALID
    if not conn.confirmed and TRANSITIONS[CLIENT][kind][NONE] != REQUEST:
        return INVALID
    if kind == PKT_RESET and not conn.status & IPS_SEEN_REPLY:
        kill(ctx, conn, skb)
        return ACCEPTED
    dccp, direction = (state_of(conn) if conn.confirmed else DccpState()), ctinfo2dir(skb.ctinfo or 0)
    role = dccp.roles[direction]
    new = TRANSITIONS[role][kind][dccp.state]
    if new == IV:
        return INVALID
    as_client = (CLIENT, SERVER) if direction == ORIGINAL else (SERVER, CLIENT)
    if new == REQUEST and dccp.state == TIMEWAIT and role == SERVER:
        dccp = replace(dccp, roles=as_client)  # opened anew from the other side
    elif new == IG:
        if not (dccp.last_dir != direction and dccp.last_pkt == PKT_REQUEST and kind == PKT_RESPONSE):
            ctx.hs.ct.update(conn, proto_state=replace(dccp, last_dir=direction, last_pkt=kind))
            return ACCEPTED
        dccp, new = replace(dccp, roles=(as_client[1], as_client[0])), RESPOND
    dccp = replace(dccp, state=new, last_dir=direction, last_pkt=kind)
    conn = ctx.hs.ct.update(conn, proto_state=dccp)
    name = STATE_NAME[new or REQUEST].lower()
    refresh(ctx, skb, conn, timeout(ctx, conn, f"dccp_timeout_{name}", TIMEOUT_S[new]))
    return ACCEPTED
