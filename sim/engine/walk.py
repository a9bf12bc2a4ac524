"""A packet's whole way across the hosts: one loop over hosts, until it is delivered, leaves, stops or loops."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..model.packet import Skb
from ..model.result import Leaf, Reason
from .host import End, Fate, Transfer, receive, send_local
from .run import Run

MAX_HOPS = 512  # ttl 255 across two hosts; more than any packet can live


class Local(NamedTuple):
    """A packet that is routed already and about to enter OUTPUT of its own host."""

    host: str
    skb: Skb


def follow(run: Run, start: Transfer | Local) -> Fate:
    """Walk to the end. A packet that comes by the same place again is followed until its ttl ends, as in life."""
    run.follow = follow
    end: End
    if isinstance(start, Local):
        end = send_local(run, start.host, start.skb)
    else:
        end = receive(run, *start)
    seen: dict[Any, int] = {}
    looped = False
    for _ in range(MAX_HOPS):
        if isinstance(end, Fate):
            return _as_loop(end) if looped and end.reason.code == "ttl_exceeded" else end
        place = (end.host, end.dev, end.skb.src, end.skb.dst, end.skb.sport, end.skb.dport, end.skb.mark)
        seen[place] = seen.get(place, 0) + 1
        looped = looped or seen[place] > 2
        end = receive(run, end.host, end.dev, end.skb)
    if isinstance(end, Transfer):
        reason = Reason("looped", "the packet comes by again and again and its ttl never ends")
        return Fate("looped", end.host, end.dev, None, reason, end.skb)
    return end


def _as_loop(fate: Fate) -> Fate:
    text = f"goes round among the hosts until its ttl ends at {fate.host}"
    return fate._replace(outcome="looped", reason=Reason("looped", text, fate.reason.where))


def leaf_of(run: Run, fate: Fate) -> Leaf:
    """What is kept of a finished walk."""
    return Leaf(
        outcome=fate.outcome,
        at={"host": fate.host, "interface": fate.interface, "hook": fate.hook},
        packet=fate.skb.header(),
        reason=fate.reason,
        errno=fate.errno,
        hops=run.hops,
        responses=run.responses,
        copies=run.copies,
        arrival=(fate.host, fate.skb, fate.socket, fate.interface),
    )
