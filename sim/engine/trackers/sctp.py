"""SCTP: net/netfilter/nf_conntrack_proto_sctp.c. Verification tags are not part of the packet model: they match."""

from __future__ import annotations

from ...model.conntrack import IPS_ASSURED, ORIGINAL, Conn, ctinfo2dir
from ...model.packet import Skb
from ...record import dataclass, replace
from ..run import Ctx
from .common import ACCEPTED, INVALID, refresh, set_status, timeout

NAME = "sctp"
ALLOW_CLASH = False

# enum sctp_conntrack
(
    NONE,
    CLOSED,
    COOKIE_WAIT,
    COOKIE_ECHOED,
    ESTABLISHED,
    SHUTDOWN_SENT,
    SHUTDOWN_RECD,
    SHUTDOWN_ACK_SENT,
    HEARTBEAT_SENT,
) = range(9)
STATE_NAME = (
    "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
)  # fmt: skip
TIMEOUT_S = (10, 10, 3, 3, 210, 3, 3, 3, 30)

# Chunk types, RFC 9260
DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT = 0, 1, 2, 3, 4, 5, 6
SHUTDOWN, SHUTDOWN_ACK, ERROR, COOKIE_ECHO, COOKIE_ACK, SHUTDOWN_COMPLETE = 7, 8, 9, 10, 11, 14
_ROW = {
    INIT: 0, INIT_ACK: 1, ABORT: 2, SHUTDOWN: 3, SHUTDOWN_ACK: 4, ERROR: 5, COOKIE_ECHO: 6, COOKIE_ACK: 7,
    SHUTDOWN_COMPLETE: 8, HEARTBEAT: 9, HEARTBEAT_ACK: 10,
}  # fmt: skip

IV = -1
_CL, _CW, _CE, _ES, _SS, _SR, _SA, _HS = range(1, 9)
# sctp_conntracks[dir][chunk][state NONE … HEARTBEAT_SENT]
TRANSITIONS = (
    (
        (_CL, _CL, _CW, _CE, _ES, _CL, _CL, _SA, _CW),
        (_CL, _CL, _CW, _CE, _ES, _SS, _SR, _SA, _CL),
        (_CL, _CL, _CL, _CL, _CL, _CL, _CL, _CL, _CL),
        (_CL, _CL, _CW, _CE, _SS, _SS, _SR, _SA, _CL),
        (_SA, _CL, _CW, _CE, _ES, _SA, _SA, _SA, _SA),
        (_CL, _CL, _CW, _CE, _ES, _SS, _SR, _SA, _CL),
        (_CL, _CL, _CE, _CE, _ES, _SS, _SR, _SA, _CL),
        (_CL, _CL, _CW, _ES, _ES, _SS, _SR, _SA, _CL),
        (_CL, _CL, _CW, _CE, _ES, _SS, _SR, _CL, _CL),
        (_HS, _CL, _CW, _CE, _ES, _SS, _SR, _SA, _HS),
        (_CL, _CL, _CW, _CE, _ES, _SS, _SR, _SA, _HS),
    ),
    (
        (IV, _CL, _CW, _CE, _ES, _SS, _SR, _SA, IV),
        (IV, _CW, _CW, _CE, _ES, _SS, _SR, _SA, IV),
        (IV, _CL, _CL, _CL, _CL, _CL, _CL, _CL, IV),
        (IV, _CL, _CW, _CE, _SR, _SS, _SR, _SA, IV),
        (IV, _CL, _CW, _CE, _ES, _SA, _SA, _SA, IV),
        (IV, _CL, _CW, _CL, _ES, _SS, _SR, _SA, IV),
        (IV, _CL, _CE, _CE, _ES, _SS, _SR, _SA, IV),
        (IV, _CL, _CW, _ES, _ES, _SS, _SR, _SA, IV),
        (IV, _CL, _CW, _CE, _ES, _SS, _SR, _CL, IV),
        (IV, _CL, _CW, _CE, _ES, _SS, _SR, _SA, _HS),
        (IV, _CL, _CW, _CE, _ES, _SS, _SR, _SA, _ES),
    ),
)


@dataclass(frozen=True, slots=True)
class SctpState:
    """struct ip_ct_sctp without the verification tags."""

    state: int = NONE

    @property
    def name(self) -> str:
        return STATE_NAME[self.state]


def state_of(conn: Conn) -> SctpState:
    state = conn.proto_state
    if isinstance(state, SctpState):
        return state
    name = state[1] if isinstance(state, tuple) and len(state) > 1 else "ESTABLISHED"
    return SctpState(STATE_NAME.index(name) if name in STATE_NAME else ESTABLISHED)


def _well_formed(chunks: tuple[int, ...]) -> bool:
    """do_basic_checks(): cookies come first; INIT, INIT ACK and SHUTDOWN COMPLETE come alone."""
    alone = False
    for count, chunk in enumerate(chunks):
        alone = alone or chunk in (INIT, INIT_ACK, SHUTDOWN_COMPLETE)
        if count and (alone or chunk in (COOKIE_ACK, COOKIE_ECHO)):
            return False
    return bool(chunks)


def packet(ctx: Ctx, skb: Skb, conn: Conn) -> str:
    """nf_conntrack_sctp_packet(); a packet whose chunks nobody named opens with INIT, later it carries DATA."""
    chunks = tuple(kind for kind, _ in skb.chunk_types) or ((DATA,) if conn.confirmed else (INIT,))
    if not _well_formed(chunks):
        return INVALID
    if not conn.confirmed and not _may_begin(chunks):
        return INVALID
    sctp, direction = (state_of(conn) if conn.confirmed else SctpState()), ctinfo2dir(skb.ctinfo or 0)
    old = new = sctp.state
    ignore = False
    for chunk in chunks:
        old = sctp.state
        row = _ROW.get(chunk)
        new = old if row is None else TRANSITIONS[direction][row][old]
        if new == IV:
            return INVALID
        # A retransmitted INIT does not renew the timeout.
        ignore = ignore or (chunk == INIT and new == old == CLOSED and conn.confirmed)
        sctp = replace(sctp, state=new)
        if old != new and new == ESTABLISHED:
            conn = set_status(ctx, conn, IPS_ASSURED)
    conn = ctx.hs.ct.update(conn, proto_state=sctp)
    if not ignore:
        refresh(ctx, skb, conn, timeout(ctx, conn, f"sctp_timeout_{_timeout_name(new)}", TIMEOUT_S[new]))
    return ACCEPTED


def _may_begin(chunks: tuple[int, ...]) -> bool:
    """sctp_new() and the check for chunks that are never out of the blue."""
    if any(chunk in (ABORT, SHUTDOWN_COMPLETE, COOKIE_ACK) for chunk in chunks):
        return False
    return all(chunk in _ROW and TRANSITIONS[ORIGINAL][_ROW[chunk]][NONE] not in (NONE, IV) for chunk in chunks)


def _timeout_name(state: int) -> str:
    return STATE_NAME[state or CLOSED].lower()
