"""TCP: state table and window tracking of net/netfilter/nf_conntrack_proto_tcp.c (v6.12, differences noted)."""

from __future__ import annotations

from ...model.addr import AF_INET
from ...model.conntrack import (
    IPS_ASSURED,
    IPS_DYING,
    IPS_FIXED_TIMEOUT,
    IPS_SEEN_REPLY,
    IPS_SEQ_ADJUST,
    IPS_SRC_NAT,
    ORIGINAL,
    REPLY,
    Conn,
    ctinfo2dir,
)
from ...model.packet import TH_ACK, TH_FIN, TH_RST, TH_SYN, TH_URG, Skb
from ...record import dataclass, replace
from ..run import Ctx
from .common import ACCEPTED, INVALID, REPEAT, current, kill, refresh, set_status, timeout

NAME = "tcp"
ALLOW_CLASH = False
_M = 0xFFFFFFFF

# enum tcp_conntrack
NONE, SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE, SYN_SENT2 = range(10)
STATE_NAME = (
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2",
)  # fmt: skip
TIMEOUT = (
    ("tcp_timeout_syn_sent", 120), ("tcp_timeout_syn_sent", 120), ("tcp_timeout_syn_recv", 60),
    ("tcp_timeout_established", 432000), ("tcp_timeout_fin_wait", 120), ("tcp_timeout_close_wait", 60),
    ("tcp_timeout_last_ack", 30), ("tcp_timeout_time_wait", 120), ("tcp_timeout_close", 10), ("tcp_timeout_syn_sent", 120),
)  # fmt: skip
RETRANS, UNACK = ("tcp_timeout_max_retrans", 300), ("tcp_timeout_unacknowledged", 300)

# enum tcp_bit_set: what a segment is
SYN, SYNACK, FIN, ACK, RST, NO_FLAG = range(6)

# tcp_conntracks[dir][segment][state]: IV invalid, IG ignored
IV, IG = -1, -2
_NO, _SS, _SR, _ES, _FW, _CW, _LA, _TW, _CL, _S2 = range(10)
TRANSITIONS = (
    (
        (_SS, _SS, IG, IG, IG, IG, IG, _SS, _SS, _S2),
        (IV, IV, _SR, IV, IV, IV, IV, IV, IV, _SR),
        (IV, IV, _FW, _FW, _LA, _LA, _LA, _TW, _CL, IV),
        (_ES, IV, _ES, _ES, _CW, _CW, _TW, _TW, _CL, IV),
        (IV, _CL, _CL, _CL, _CL, _CL, _CL, _CL, _CL, _CL),
        (IV,) * 10,
    ),
    (
        (IV, _S2, IV, IV, IV, IV, IV, _SS, IV, _S2),
        (IV, _SR, IG, IG, IG, IG, IG, IG, IG, _SR),
        (IV, IV, _FW, _FW, _LA, _LA, _LA, _TW, _CL, IV),
        (IV, IG, _SR, _ES, _CW, _CW, _TW, _TW, _CL, IG),
        (IV, _CL, _CL, _CL, _CL, _CL, _CL, _CL, _CL, _CL),
        (IV,) * 10,
    ),
)

# tcp_valid_flags[]; PSH, ECE and CWR are always valid
VALID_FLAGS = frozenset(
    (
        TH_SYN, TH_SYN | TH_URG, TH_SYN | TH_ACK, TH_RST, TH_RST | TH_ACK, TH_FIN | TH_ACK, TH_FIN | TH_ACK | TH_URG,
        TH_ACK, TH_ACK | TH_URG,
    )
)  # fmt: skip

# IP_CT_TCP_FLAG_*, include/uapi/linux/netfilter/nf_conntrack_tcp.h
WINDOW_SCALE, SACK_PERM, CLOSE_INIT, BE_LIBERAL = 0x01, 0x02, 0x04, 0x08
DATA_UNACKNOWLEDGED, MAXACK_SET, EXP_CHALLENGE_ACK, SIMULTANEOUS_OPEN = 0x10, 0x20, 0x40, 0x80

SCALE_UNKNOWN = 0x100  # ours: the SYN has room for options that nobody spelt out, and they may scale the window

MAXACKWINCONST = 66000
TCP_MAX_WSCALE = 14


@dataclass(frozen=True, slots=True)
class Side:
    """struct ip_ct_tcp_state: what has been seen from one side."""

    td_end: int = 0
    td_maxend: int = 0
    td_maxwin: int = 0
    td_maxack: int = 0
    td_scale: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class TcpState:
    """struct ip_ct_tcp. ``known`` False: read from a dump, which shows the state and nothing of the windows."""

    state: int = NONE
    seen: tuple[Side, Side] = (Side(), Side())
    last_dir: int = 0
    last_index: int = NO_FLAG
    last_seq: int = 0
    last_ack: int = 0
    last_end: int = 0
    last_win: int = 0
    last_wscale: int = 0
    last_flags: int = 0
    retrans: int = 0
    known: bool = True

    @property
    def name(self) -> str:
        return STATE_NAME[self.state]

    def with_side(self, direction: int, side: Side) -> TcpState:
        seen = (side, self.seen[1]) if direction == ORIGINAL else (self.seen[0], side)
        return replace(self, seen=seen)


def after(a: int, b: int) -> bool:
    """Sequence number comparison modulo 2**32."""
    return (b - a) & _M > 0x7FFFFFFF and a != b


def before(a: int, b: int) -> bool:
    return after(b, a)


def state_of(conn: Conn) -> TcpState:
    """The entry's state; one that a dump named is taken up like a connection found in its middle (liberal)."""
    state = conn.proto_state
    if isinstance(state, TcpState):
        return state
    name = state[1] if isinstance(state, tuple) and len(state) > 1 else "ESTABLISHED"
    number = STATE_NAME.index(name) if name in STATE_NAME else ESTABLISHED
    # Only a FIN leads to these states, so one side has begun the close.
    closing = CLOSE_INIT if number in (FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT) else 0
    side = Side(flags=SACK_PERM | BE_LIBERAL | closing)
    return TcpState(state=number, seen=(side, side), last_win=1, known=False)


def segment_index(flags: int) -> int:
    """get_conntrack_index()"""
    if flags & TH_RST:
        return RST
    if flags & TH_SYN:
        return SYNACK if flags & TH_ACK else SYN
    if flags & TH_FIN:
        return FIN
    return ACK if flags & TH_ACK else NO_FLAG


def option_bytes(skb: Skb) -> bytes:
    """The segment's options, as given or as the MSS alone makes them."""
    if skb.tcp_options is not None:
        return skb.tcp_options + b"\0" * (-len(skb.tcp_options) % 4)
    return b"" if skb.mss is None else bytes((2, 4)) + skb.mss.to_bytes(2, "big")


def _behind_header(skb: Skb) -> int:
    """Bytes after the 20 fixed ones of the TCP header and the options that are known."""
    header = 20 + len(skb.ip_options) if skb.family == AF_INET else 40
    return max(0, skb.length - header - 20 - len(option_bytes(skb)))


def _unsaid_options(skb: Skb) -> int:
    """Bytes that a SYN is longer than what is known of it: its options, as no stack sends data in one."""
    if not skb.tcp_flags & TH_SYN or skb.tcp_options is not None or skb.payload:
        return 0
    return min(40 - len(option_bytes(skb)), _behind_header(skb))


def _payload_length(skb: Skb) -> int:
    """As whoever answers the segment counts it, else a reset would acknowledge what was never sent."""
    if skb.family == AF_INET:
        from ..icmp import payload_length

        return payload_length(skb)
    return len(skb.payload) if skb.payload is not None else _behind_header(skb) - _unsaid_options(skb)


def segment_end(skb: Skb) -> int:
    """segment_seq_plus_len()"""
    counted = bool(skb.tcp_flags & TH_SYN) + bool(skb.tcp_flags & TH_FIN)
    return (skb.tcp_seq + _payload_length(skb) + counted) & _M


def _each_option(skb: Skb) -> list[tuple[int, bytes]]:
    """(kind, data) of each well-formed option, as tcp_options() and tcp_sack() walk them."""
    raw, found, at = option_bytes(skb), [], 0
    while at < len(raw):
        kind = raw[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        if at + 1 >= len(raw) or raw[at + 1] < 2 or at + raw[at + 1] > len(raw):
            break
        found.append((kind, raw[at + 2 : at + raw[at + 1]]))
        at += raw[at + 1]
    return found


def with_options(side: Side, skb: Skb) -> Side:
    """tcp_options(): window scale and SACK permission of a SYN; a segment without options changes nothing."""
    unsaid = _unsaid_options(skb) >= 3  # the length of a window scale option
    if not option_bytes(skb):
        return replace(side, flags=side.flags | SCALE_UNKNOWN) if unsaid else side
    flags, scale = side.flags & BE_LIBERAL | (SCALE_UNKNOWN if unsaid else 0), 0
    for kind, data in _each_option(skb):
        if kind == 4 and not data:
            flags |= SACK_PERM
        elif kind == 3 and len(data) == 1:
            scale = min(data[0], TCP_MAX_WSCALE)
            flags |= WINDOW_SCALE
    return replace(side, td_scale=scale, flags=flags)


def _highest_sack(skb: Skb, sack: int) -> int:
    """tcp_sack(): right edge of the highest SACK block, or the ACK itself."""
    for kind, data in _each_option(skb):
        if kind == 5 and len(data) >= 8 and len(data) % 8 == 0:
            for at in range(4, len(data), 8):
                edge = int.from_bytes(data[at : at + 4], "big")
                if after(edge, sack):
                    sack = edge
            break
    return sack


def _new(ctx: Ctx, skb: Skb) -> TcpState | None:
    """tcp_new(): the state a first segment starts with, None when it cannot start a connection."""
    first = TRANSITIONS[ORIGINAL][segment_index(skb.tcp_flags)][NONE]
    if first == IV:
        return None
    end, window = segment_end(skb), max(1, skb.window)
    if first == SYN_SENT:
        return TcpState(seen=(with_options(Side(end, end, window), skb), Side()))
    if not ctx.sysctl_int("net.netfilter.nf_conntrack_tcp_loose", 1, (0,)):
        return None
    # Picked up in the middle: window checking is off in both directions for the connection's whole life.
    liberal = SACK_PERM | BE_LIBERAL
    return TcpState(seen=(Side(end, (end + window) & _M, window, flags=liberal), Side(flags=liberal)))


def packet(ctx: Ctx, skb: Skb, conn: Conn) -> str:
    """nf_conntrack_tcp_packet()"""
    if skb.tcp_flags & (TH_FIN | TH_SYN | TH_RST | TH_ACK | TH_URG) not in VALID_FLAGS:
        return INVALID
    if conn.confirmed:
        tcp = state_of(conn)
    else:
        started = _new(ctx, skb)
        if started is None:
            return INVALID
        tcp = started
    return _Segment(ctx, skb, conn, tcp).judge()


class _Segment:
    """One segment being judged: the entry's state before (``tcp``), its place in the table, the packet."""

    __slots__ = ("conn", "ctx", "direction", "index", "new", "old", "skb", "tcp")

    def __init__(self, ctx: Ctx, skb: Skb, conn: Conn, tcp: TcpState) -> None:
        self.ctx, self.skb, self.conn, self.tcp = ctx, skb, conn, tcp
        self.direction = ctinfo2dir(skb.ctinfo or 0)
        self.index = segment_index(skb.tcp_flags)
        self.old = tcp.state
        self.new = TRANSITIONS[self.direction][self.index][self.old]

    def judge(self) -> str:
        """The switch over the new state; most states go straight to the window check."""
        if self.new == SYN_SENT and self.old >= TIME_WAIT:
            if self._reopens():
                kill(self.ctx, self.conn)
                return REPEAT
            return self._ignored()
        if self.new == IG:
            return self._ignored()
        if self.new == IV:
            return self._invalid()
        if self.new == TIME_WAIT and self._challenge_ack():
            return ACCEPTED
        if self.new == SYN_SENT2:
            # The table cannot tell a simultaneous open apart.
            self.tcp = replace(self.tcp, last_flags=self.tcp.last_flags | SIMULTANEOUS_OPEN)
        elif self.new == SYN_RECV:
            if self.direction == REPLY and self.index == ACK and self.tcp.last_flags & SIMULTANEOUS_OPEN:
                self.new = ESTABLISHED
        elif self.new == CLOSE and self.index == RST:
            verdict = self._reset()
            if verdict is not None:
                return verdict
        return self._window()

    def _store(self) -> None:
        self.conn = self.ctx.hs.ct.update(current(self.ctx, self.conn), proto_state=self.tcp)

    def _invalid(self) -> str:
        """TCP_CONNTRACK_MAX; but a client's keep-alive while a SYN proxy waits for the server is let through."""
        tcp = self.tcp
        if (
            self.conn.synproxy
            and self.old == SYN_SENT
            and self.index == ACK
            and self.direction == ORIGINAL == tcp.last_dir
            and (tcp.seen[ORIGINAL].td_end - 1) & _M == self.skb.tcp_seq
        ):
            return ACCEPTED
        return INVALID

    def _reopens(self) -> bool:
        """Whether a SYN on a closed connection starts a fresh entry."""
        tcp = self.tcp
        if (tcp.seen[0].flags | tcp.seen[1].flags) & CLOSE_INIT:
            return True
        if not tcp.known and tcp.last_index == NO_FLAG:
            return self.ctx.unknown(
                f"whether the sender of this SYN had itself reset entry #{self.conn.conn_id} (CLOSE), which makes room "
                "for a new connection: no dump says",
                "missing_input",
                self.conn.where,
            )
        return tcp.last_dir == self.direction and tcp.last_index == RST

    def _ignored(self) -> str:
        """TCP_CONNTRACK_IGNORE: the entry may be out of step with the ends; the packet passes and is remembered."""
        tcp, skb, direction = self.tcp, self.skb, self.direction
        if self.index == SYNACK and tcp.last_index == SYN and tcp.last_dir != direction and skb.tcp_ack == tcp.last_end:
            # The server answers a SYN that was ignored: both ends are in step, so follow them.
            flags = tcp.last_flags & ~EXP_CHALLENGE_ACK
            side = Side(tcp.last_end, tcp.last_end, max(1, tcp.last_win), 0, tcp.last_wscale, flags)
            side = replace(side, td_maxack=tcp.seen[tcp.last_dir].td_maxack)
            fresh = Side(flags=tcp.seen[direction].flags & BE_LIBERAL)
            self.tcp = replace(tcp, last_flags=flags).with_side(tcp.last_dir, side).with_side(direction, fresh)
            self.tcp = replace(self.tcp, state=SYN_SENT)
            self.old, self.new = SYN_SENT, SYN_RECV
            return self._window()
        tcp = replace(
            tcp,
            last_index=self.index,
            last_dir=direction,
            last_seq=skb.tcp_seq,
            last_end=segment_end(skb),
            last_win=skb.window,
        )
        if self.index == SYN and direction == ORIGINAL:
            offered = with_options(Side(), skb)
            flags = offered.flags & (WINDOW_SCALE | SACK_PERM)
            if self.old == LAST_ACK:
                flags |= EXP_CHALLENGE_ACK
            scale = offered.td_scale if offered.flags & WINDOW_SCALE else 0
            tcp = replace(tcp, last_flags=flags, last_wscale=scale)
        if self.old == SYN_SENT and self.index == ACK and direction == REPLY:
            tcp = replace(tcp, last_ack=skb.tcp_ack)
        self.tcp = tcp
        self._store()
        return ACCEPTED

    def _challenge_ack(self) -> bool:
        """An RFC 5961 challenge ACK for an ignored SYN is not the ACK of the last FIN."""
        tcp = self.tcp
        if not (
            self.old == LAST_ACK
            and self.index == ACK
            and tcp.last_dir != self.direction
            and tcp.last_index == SYN
            and tcp.last_flags & EXP_CHALLENGE_ACK
        ):
            return False
        self.tcp = replace(tcp, last_flags=tcp.last_flags & ~EXP_CHALLENGE_ACK)
        self._store()
        return True

    def _reset(self) -> str | None:
        """A RST that would close: None = go on to the window check, else the final word."""
        tcp, skb, direction = self.tcp, self.skb, self.direction
        if self.old in (FIN_WAIT, LAST_ACK, TIME_WAIT, CLOSE, CLOSE_WAIT):
            return self._in_window()  # tcp_can_early_drop(): the ends may have reused the tuple already
        peer = tcp.seen[1 - direction]
        if peer.flags & MAXACK_SET and tcp.last_index != SYN:
            settled = self.old == ESTABLISHED and bool(self.conn.status & IPS_ASSURED)
            if skb.tcp_seq == 0 and not settled:
                return None
            if before(skb.tcp_seq, peer.td_maxack) and not self.ctx.sysctl_int(
                "net.netfilter.nf_conntrack_tcp_ignore_invalid_rst", 0, (1,)
            ):
                return INVALID
            if not settled or skb.tcp_seq == peer.td_maxack:
                return None
            if tcp.last_index == ACK and tcp.last_dir == direction and skb.tcp_seq == tcp.last_end:
                return None
            self.new = self.old  # not exactly the next number: leave room for a challenge ACK
        answers_syn = self.conn.status & IPS_SEEN_REPLY and tcp.last_index == SYN and tcp.last_dir != direction
        half_open = not self.conn.status & IPS_ASSURED and tcp.last_index == ACK
        if (answers_syn or half_open) and skb.tcp_ack == tcp.last_end:
            return self._in_window()
        if self.old == SYN_SENT and tcp.last_index == ACK and tcp.last_dir == REPLY and skb.tcp_seq == tcp.last_ack:
            return self._in_window()
        return None

    def _window(self) -> str:
        verdict = self._tcp_in_window()
        if verdict == "ignore":
            self._store()
            return ACCEPTED
        if verdict == INVALID:
            self._handle_invalid()
            return INVALID
        return self._in_window()

    def _liberal(self, side: Side, otherwise: str) -> str:
        """nf_tcp_store_invalid()"""
        if side.flags & BE_LIBERAL:
            return ACCEPTED
        if self.ctx.sysctl_int("net.netfilter.nf_conntrack_tcp_be_liberal", 0, (1,) if otherwise == INVALID else ()):
            return ACCEPTED
        return otherwise

    def _tcp_in_window(self) -> str:
        """tcp_in_window(): ``ACCEPTED``, ``INVALID`` or ``ignore``; updates both sides in ``self.tcp``."""
        skb, direction = self.skb, self.direction
        sender, receiver = self.tcp.seen[direction], self.tcp.seen[1 - direction]
        flags, seq, ack = skb.tcp_flags, skb.tcp_seq, skb.tcp_ack
        sack = _highest_sack(skb, ack) if receiver.flags & SACK_PERM else ack
        if self.conn.status & IPS_SEQ_ADJUST:
            from ..helpers import seqadj

            shift = seqadj.offset(self.ctx, self.conn, 1 - direction, (ack - 1) & _M)
            ack, sack = (ack - shift) & _M, (sack - shift) & _M
        win, end = skb.window, segment_end(skb)

        if sender.td_maxwin == 0 and not flags & TH_SYN:
            # The middle of a connection whose history is lost: believe the packet. (The entry of a dump does have a
            # history, and what the segment carries is most likely new to it.)
            scaled = max(1, win << sender.td_scale)
            sender = replace(
                sender, td_end=end if self.tcp.known else seq, td_maxwin=scaled, td_maxend=(end + scaled) & _M
            )
            if receiver.td_maxwin == 0:
                receiver = replace(receiver, td_end=sack, td_maxend=sack)
            elif sack == (receiver.td_end + 1) & _M:
                receiver = replace(receiver, td_end=sack)  # a reply to a keep-alive
        elif flags & TH_SYN and (
            sender.td_maxwin == 0 or (after(end, sender.td_end) and self.tcp.state in (SYN_SENT, SYN_RECV))
        ):
            first = sender.td_maxwin == 0
            sender, receiver = self._init_sender(sender, receiver, end, win)
            if not flags & TH_ACK and (first or direction == REPLY):
                self._keep(sender, receiver)
                return ACCEPTED  # simultaneous open

        if not flags & TH_ACK or (flags & TH_RST and ack == 0):
            ack = sack = receiver.td_end
        if flags & TH_RST and seq == 0 and self.tcp.state == SYN_SENT:
            seq = end = sender.td_end  # answers a SYN
        return self._check_bounds(sender, receiver, seq, ack, sack, end, win)

    def _init_sender(self, sender: Side, receiver: Side, end: int, win: int) -> tuple[Side, Side]:
        """tcp_init_sender()"""
        sender = with_options(replace(sender, td_end=end, td_maxend=end, td_maxwin=max(1, win)), self.skb)
        known = not (sender.flags | receiver.flags) & SCALE_UNKNOWN
        if self.direction == REPLY and known and not sender.flags & receiver.flags & WINDOW_SCALE:
            return replace(sender, td_scale=0), replace(receiver, td_scale=0)
        return sender, receiver

    def _keep(self, sender: Side, receiver: Side) -> None:
        self.tcp = self.tcp.with_side(self.direction, sender).with_side(1 - self.direction, receiver)

    def _check_bounds(
        self, sender: Side, receiver: Side, seq: int, ack: int, sack: int, end: int, win: int
    ) -> str:  # fmt: skip
        """Bounds I to IV of the comment above segment_seq_plus_len()."""
        max_ack_window = max(sender.td_maxwin, MAXACKWINCONST)
        ack_recent = after(sack, (receiver.td_end - max_ack_window - 1) & _M)
        in_recv_win = after(end, (sender.td_end - receiver.td_maxwin - 1) & _M)
        ack_seen = before(sack, (receiver.td_end + 1) & _M)
        if not before(seq, (sender.td_maxend + 1) & _M):
            overshot = (end - sender.td_maxend + 1) & _M
            if receiver.td_maxwin and in_recv_win and ack_recent and ack_seen and overshot <= receiver.td_maxwin:
                sender = replace(sender, td_end=end, flags=sender.flags | DATA_UNACKNOWLEDGED)
                self._keep(sender, receiver)
                return self._liberal(sender, "ignore")
            self._keep(sender, receiver)
            if self._scale_may_help(sender, receiver, seq):
                return ACCEPTED
            return self._liberal(sender, INVALID)
        if not ack_seen:
            self._keep(sender, receiver)
            return self._liberal(sender, INVALID)
        if (receiver.td_maxwin and not in_recv_win) or not ack_recent:
            self._keep(sender, receiver)
            return self._liberal(sender, "ignore")
        self._advance(sender, receiver, seq, ack, sack, end, win)
        return ACCEPTED

    def _scale_may_help(self, sender: Side, receiver: Side, seq: int) -> bool:
        """Whether a segment beyond the window could be within it, had the SYNs' unknown options scaled it."""
        maybe = SCALE_UNKNOWN | WINDOW_SCALE
        if not (sender.flags & maybe and receiver.flags & maybe and receiver.flags & SCALE_UNKNOWN):
            return False
        if (seq - sender.td_maxend) & _M > receiver.td_maxwin << TCP_MAX_WSCALE:
            return False
        return self.ctx.unknown(
            f"whether sequence number {seq} is within the window: the SYNs' window scale options are not known",
            "missing_input",
        )

    def _advance(self, sender: Side, receiver: Side, seq: int, ack: int, sack: int, end: int, win: int) -> None:
        """The second half of tcp_in_window(): what a good segment teaches about both sides."""
        flags = self.skb.tcp_flags
        if not flags & TH_SYN:
            win <<= sender.td_scale
        sender_flags, maxack, td_end = sender.flags, sender.td_maxack, sender.td_end
        if after(end, td_end):
            td_end = end
            sender_flags |= DATA_UNACKNOWLEDGED
        if flags & TH_ACK:
            if not sender_flags & MAXACK_SET or after(ack, maxack):
                maxack = ack
            sender_flags |= MAXACK_SET
        maxwin = max(sender.td_maxwin, win + ((sack - ack) & _M))
        maxend = sender.td_maxend
        sender = replace(sender, td_end=td_end, td_maxwin=maxwin, td_maxack=maxack, flags=sender_flags)

        peer_win, peer_maxend = receiver.td_maxwin, receiver.td_maxend
        if peer_win and after(end, maxend):
            peer_win = (peer_win + end - maxend) & _M
        if after((sack + win) & _M, (peer_maxend - 1) & _M):
            peer_maxend = (sack + win + (win == 0)) & _M
        peer_flags = receiver.flags
        if ack == receiver.td_end:
            peer_flags &= ~DATA_UNACKNOWLEDGED
        receiver = replace(receiver, td_maxwin=peer_win, td_maxend=peer_maxend, flags=peer_flags)
        self._keep(sender, receiver)
        if self.index == ACK:
            self._count_retransmission(seq, ack, end)

    def _count_retransmission(self, seq: int, ack: int, end: int) -> None:
        tcp, last = self.tcp, (self.direction, seq, ack, end, self.skb.window)
        if (tcp.last_dir, tcp.last_seq, tcp.last_ack, tcp.last_end, tcp.last_win) == last:
            self.tcp = replace(tcp, retrans=tcp.retrans + 1)
            return
        self.tcp = replace(tcp, last_dir=last[0], last_seq=seq, last_ack=ack, last_end=end, last_win=last[4], retrans=0)

    def _handle_invalid(self) -> None:
        """nf_tcp_handle_invalid(): FINs or RSTs beyond the window from both sides shorten a long timeout."""
        tcp, conn = self.tcp, self.conn
        if conn.status & IPS_ASSURED and not conn.status & IPS_FIXED_TIMEOUT and self.index in (RST, FIN):
            if tcp.last_dir != self.direction and tcp.last_index in (FIN, RST):
                left = (conn.timeout_at or self.ctx.now) - self.ctx.now
                unack = timeout(self.ctx, conn, *UNACK)
                if left >= 120 and left > unack:
                    self.conn = self.ctx.hs.ct.update(conn, timeout_at=self.ctx.now + unack, timeout_s=unack)
            else:
                self.tcp = replace(tcp, last_index=self.index, last_dir=self.direction)
        if conn.confirmed:
            self._store()

    def _in_window(self) -> str:
        """The tail of nf_conntrack_tcp_packet(): a good segment moves the state and the timeout."""
        ctx, skb = self.ctx, self.skb
        tcp = replace(self.tcp, last_index=self.index, last_dir=self.direction, state=self.new)
        if self.old != self.new and self.new == FIN_WAIT:
            side = tcp.seen[self.direction]
            tcp = tcp.with_side(self.direction, replace(side, flags=side.flags | CLOSE_INIT))
        self.tcp = tcp
        self._store()
        conn = self.conn
        if not conn.status & IPS_SEEN_REPLY:
            if skb.tcp_flags & TH_RST:
                kill(ctx, conn, skb)  # nothing but a RST ever came back
                return ACCEPTED
            if self.index == SYN and self.old == SYN_SENT:
                return ACCEPTED  # a retransmitted SYN does not renew the timeout
        elif not conn.status & IPS_ASSURED and self.old in (SYN_RECV, ESTABLISHED) and self.new == ESTABLISHED:
            conn = set_status(ctx, conn, IPS_ASSURED)
        refresh(ctx, skb, conn, self._timeout(conn))
        return ACCEPTED

    def _timeout(self, conn: Conn) -> int:
        """Seconds until the entry expires, in the order in which the kernel asks."""
        ctx, tcp = self.ctx, self.tcp
        seconds = timeout(ctx, conn, *TIMEOUT[self.new])
        if tcp.retrans and tcp.retrans >= ctx.sysctl_int("net.netfilter.nf_conntrack_tcp_max_retrans", 3):
            found = self._at_most(conn, seconds, RETRANS)
            if found < seconds:
                return found
        if self.index == RST and self.new == ESTABLISHED:
            # 6.12 falls back to "unacknowledged"; 6.18 was seen to use "close".
            found = self._at_most(conn, seconds, TIMEOUT[CLOSE] if ctx.host.kernel > (6, 12) else UNACK)
        elif (tcp.seen[0].flags | tcp.seen[1].flags) & DATA_UNACKNOWLEDGED:
            found = self._at_most(conn, seconds, UNACK)
        elif tcp.last_win == 0:
            found = self._at_most(conn, seconds, RETRANS)
        else:
            found = seconds
        if not conn.status & IPS_SEEN_REPLY and self.new == ESTABLISHED:
            found = self._at_most(conn, found, UNACK)
        return found

    def _at_most(self, conn: Conn, seconds: int, limit: tuple[str, int]) -> int:
        """The shorter of the two; a sysctl that is at its default and longer anyway is not even read."""
        name, default = limit
        if seconds <= default and f"net.netfilter.nf_conntrack_{name}" not in self.ctx.host.sysctl:
            return seconds
        return min(seconds, timeout(self.ctx, conn, name, default))


def set_closing(ctx: Ctx, conn: Conn) -> None:
    """nf_conntrack_tcp_set_closing(): REJECT --reject-with tcp-reset closes the flow it rejects."""
    if not conn.confirmed or conn.status & IPS_DYING:
        return
    tcp = state_of(conn)
    conn = ctx.hs.ct.update(conn, proto_state=replace(tcp, state=CLOSE))
    if tcp.state == CLOSE or conn.status & IPS_FIXED_TIMEOUT:
        return
    seconds = timeout(ctx, conn, *TIMEOUT[CLOSE])
    ctx.hs.ct.update(conn, timeout_at=ctx.now + seconds, timeout_s=seconds)


def may_be_evicted(ctx: Ctx, old: Conn, new: Conn) -> bool:
    """nf_nat_may_kill() and nf_seq_has_advanced(): whether NAT may take the port of a finished connection."""
    tcp = state_of(old)
    if tcp.state < TIME_WAIT or old.status & (IPS_FIXED_TIMEOUT | IPS_DYING) or not old.status & IPS_SRC_NAT:
        return False
    if not tcp.known and not tcp.seen[0].td_end:
        return ctx.unknown(
            f"whether the new SYN's sequence number is past that of entry #{old.conn_id} ({tcp.name}), whose port "
            "could then be taken over: no dump says",
            "missing_input",
            old.where,
        )
    advanced = (state_of(new).seen[0].td_end - tcp.seen[0].td_end) & _M
    return 0 < advanced <= 0x7FFFFFFF
