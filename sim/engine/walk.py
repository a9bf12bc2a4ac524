"""A packet's whole way across the hosts: one loop over hosts, until it is delivered, leaves, stops or loops."""

from __future__ import annotations

from typing import Any

from ..model.packet import Skb
from ..model.result import Leaf, Reason
from ..record import NamedTuple
from .host import End, Fate, Transfer, receive, send_local
from .run import MAX_PASSES, Run, Way

MAX_HOPS = 512  # ttl 255 across two hosts; more than any packet can live


class Local(NamedTuple):
    """A packet that is routed already and about to enter OUTPUT of its own host."""

    host: str
    skb: Skb


def follow(run: Run, start: Transfer | Local) -> Fate:
    """Walk to the end, with all that the packet causes, in the order of the kernel: one queue of what is on a wire,
    and when that is empty the timers. A packet that comes by the same place again is followed until its ttl ends.
    """
    fates: list[Fate] = []
    mine = Way(run.hops, lambda fate, _: fates.append(fate))
    run.launch, run.drain, run.main = launch, drain, mine
    run.softirq = not isinstance(start, Local)
    launch(run, start, mine)
    run.softirq = True
    drain(run)
    if run.timers:
        run.unbound_sender = None  # seconds have passed: the sender's datagram socket is connected by now
    while run.timers:
        run.timers.popleft()()
        drain(run)
    run.hops, run.hop = mine.hops, None
    return fates[0]


def drain(run: Run) -> None:
    """process_backlog(): first in, first out, with what that adds."""
    while run.wire:
        _pass(run, *run.wire.popleft())


def launch(run: Run, start: Transfer | Local, way: Way) -> None:
    """The first step: through its own host's hooks, if it is sent there, and onto the wire."""
    if isinstance(start, Local):
        _went(run, way, send_local(run, start.host, start.skb))
    else:
        way.seen[_place(start)] = -1  # where it is put in it has not come by
        _went(run, way, start)


def _place(at: Transfer) -> tuple[Any, ...]:
    return at.host, at.dev, at.skb.src, at.skb.dst, at.skb.sport, at.skb.dport, at.skb.mark


def _went(run: Run, way: Way, end: End) -> None:
    if isinstance(end, Transfer):
        run.wire.append((way, end))
    else:
        way.done(_as_loop(end) if way.looped and end.reason.code == "ttl_exceeded" else end, way.hops)


def _pass(run: Run, way: Way, at: Transfer) -> None:
    """One packet through one host."""
    place = _place(at)
    way.seen[place] = way.seen.get(place, 0) + 1
    way.looped = way.looped or way.seen[place] > 2
    way.passes += 1
    run.work += 1
    if way.passes > MAX_HOPS:
        reason = Reason("looped", "the packet comes by again and again and its ttl never ends")
        way.done(Fate("looped", at.host, at.dev, None, reason, at.skb), way.hops)
        return
    if way is not run.main:
        run.passes += 1
        if run.passes > MAX_PASSES:
            run.cut_short()
            return
    run.hops = way.hops
    _went(run, way, receive(run, *at))


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
        responses=[run.responses[number] for number in sorted(run.responses)],
        copies=run.copies,
        arrival=(fate.host, fate.skb, fate.socket, fate.interface),
    )
