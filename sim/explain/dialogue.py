"""A flow beyond its first exchange: further packets, either way, at once or after a pause, small or as big as they get."""

from __future__ import annotations

from typing import Any

from ..engine.play import REPLY_ISN, Injection, play
from ..model.addr import parse_addr
from ..model.packet import IPPROTO_TCP, TH_ACK, TH_PUSH, Skb
from ..model.result import Leaf
from ..record import NamedTuple
from .trial import Trial

FULL = 1500  # bytes of a full-size packet where an Ethernet sends it


class Said(NamedTuple):
    """A later packet: where it ended, and whether that is where the exchange before it did."""

    leaf: Leaf
    arrived: bool

    @property
    def fate(self) -> str:
        """What became of it, in a few words."""
        leaf = self.leaf
        if self.arrived:
            return "arrives"
        p, host = leaf.packet, leaf.at.get("host")
        if leaf.outcome == "delivered":
            return f"ends at {host} itself as {p.get('src')} → {p.get('dst')}"
        if leaf.outcome == "left":
            return f"leaves {host} by {leaf.at.get('interface')} as {p.get('src')} → {p.get('dst')}"
        return f"{leaf.outcome.replace('_', ' ')}: {leaf.reason.text}"


class Dialogue:
    """Goes on from a trial whose first packet and answer got through."""

    def __init__(self, trial: Trial) -> None:
        assert trial.back is not None and trial.reply_asked is not None
        self.trial, self.state = trial, trial.back.state
        self.last = trial.asked.at
        if trial.asked.skb.proto == IPPROTO_TCP:
            self.client(flags=TH_ACK)  # the handshake's third packet

    def client(self, pause: float = 0.0, length: int | None = None, df: bool = False, flags: int | None = None) -> Said:
        """The next packet of whoever asked."""
        asked = self.trial.asked
        skb = _next(asked.skb, True)
        if not skb.src:
            first = self.trial.leaf.hops[0].before
            skb.src = parse_addr(str(first["src"]))[1]
        if flags is not None:
            skb.tcp_flags, length = flags, 40
        return self._say(asked, skb, self.trial.leaf, pause, length, df)

    def server(self, pause: float = 0.0, length: int | None = None, df: bool = False) -> Said:
        """The next packet of whoever answered."""
        asked, end = self.trial.reply_asked, self.trial.back
        assert asked is not None and end is not None
        return self._say(asked, _next(asked.skb, False), end, pause, length, df)

    def _say(self, like: Injection, skb: Skb, end: Leaf, pause: float, length: int | None, df: bool) -> Said:
        skb.length = length or max(skb.length, 41 if skb.proto == IPPROTO_TCP else skb.length)
        skb.df = df or skb.proto == IPPROTO_TCP
        self.last += pause
        leaf = play(self.trial.world, self.state, Injection(like.host, like.in_dev, skb, self.last, like.oif)).main
        if leaf.state is not None:
            self.state = leaf.state
        return Said(leaf, _end(leaf) == _end(end))


def _end(leaf: Leaf) -> tuple[Any, ...]:
    return leaf.outcome, leaf.at.get("host"), leaf.at.get("interface"), leaf.packet.get("src"), leaf.packet.get("dst")


def _next(skb: Skb, asks: bool) -> Skb:
    """The packet that follows in the same direction."""
    out = skb.copy()
    out.rt = None
    if skb.proto == IPPROTO_TCP:
        out.tcp_flags = TH_ACK | TH_PUSH
        out.tcp_seq = (skb.tcp_seq + 1) & 0xFFFFFFFF
        out.tcp_ack = (REPLY_ISN + 1) & 0xFFFFFFFF if asks else skb.tcp_ack
        out.mss = None
    elif skb.is_icmp:
        out.icmp_seq = skb.icmp_seq + 1
    return out
