"""NFQUEUE and QUEUE: net/netfilter/xt_NFQUEUE.c nfqueue_tg_v3(), nf_queue.c nf_queue().

Whether a program listens on a queue is in no dump of a tool. Without --queue-bypass the packet counts as queued
(nobody listening would drop it); with it, nobody is taken to listen, and the packet goes on: the answer says so.
Where ``meta.json`` lists the queues that have one (``"queues": [0, 5]``), that decides: no listener means ACCEPT with
--queue-bypass and a silent drop without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import DROP, QUEUE, V_ACCEPT, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options, c_int

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb


def hand_over(ctx: Ctx, skb: Skb, first: int, last: int, bypass: bool, fanout: bool = False) -> Verdict:
    """The verdict for one of the queues ``first`` to ``last``; ``fanout``: by CPU instead of by flow."""
    shown = str(first) if first == last else f"{first}:{last}"
    known = ctx.host.meta.get("queues")
    if not isinstance(known, list):
        if bypass:
            ctx.run.note(f"{ctx.host.name}: nobody listens on queue {shown} (a snapshot does not say): bypassed")
            return V_ACCEPT
        ctx.run.note(
            f"{ctx.host.name}: a program listens on queue {shown} (a snapshot does not say; without one the packet "
            f"would be dropped)"
        )
        return Verdict(QUEUE, reason="queued", text=f"queue {shown}")
    served = [number in known for number in range(first, last + 1)]
    if all(served) or not any(served):
        listener = served[0]
    elif fanout:
        listener = ctx.unknown(f"which of the queues {shown} it is: the CPU that handles the packet decides")
    else:
        listener = _by_hash(ctx, skb, served, shown)
    if listener:
        return Verdict(QUEUE, reason="queued", text=f"queue {shown}")
    if bypass:
        return V_ACCEPT
    return Verdict(DROP, reason="queue_without_listener", text=f"nobody listens on queue {shown}")


def _by_hash(ctx: Ctx, skb: Skb, served: list[bool], shown: str) -> bool:
    """nfqueue_hash(): 32 bits of the two addresses, in either order, and the protocol, with a random key of the boot.

    What is known of a pair's hash is kept, so that all its packets, and other rules, go the same way.
    """
    from ..engine.run import Option

    key = ("nfqueue", frozenset((skb.src, skb.dst)), skb.proto)
    known: tuple[tuple[int, int], ...] = ctx.hs.match_state.get(key, ((0, 1 << 32),))
    parts: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for number, ok in enumerate(served):
        # reciprocal_scale(): the hashes of one queue are the ones whose share of the range rounds down to it
        start, end = (-(-(n << 32) // len(served)) for n in (number, number + 1))
        cut = ((max(low, start), min(high, end)) for low, high in known)
        parts[ok] += [(low, high) for low, high in cut if low < high]
    total = sum(high - low for low, high in known)
    words = {True: "a queue with a listener", False: "a queue without one"}
    options = [
        Option(sum(high - low for low, high in part) / total, words[ok], (ok, tuple(part)))
        for ok, part in parts.items()
        if part
    ]
    listener, rest = ctx.run.choose(f"queue of {shown}", options)
    ctx.hs.match_state[key] = rest
    return bool(listener)


@target("NFQUEUE", doc="-j NFQUEUE --queue-balance 1:3 --queue-bypass --queue-cpu-fanout")
@dataclass(frozen=True, slots=True)
class Nfqueue(Target):
    """Hands the packet to a program; what that decides is beyond the model."""

    options = (
        Opt("--queue-num"),
        Opt("--queue-balance"),
        Opt("--queue-bypass", 0),
        Opt("--queue-cpu-fanout", 0),
    )
    terminal = True

    first: int = 0
    last: int = 0
    bypass: bool = False
    cpu_fanout: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Nfqueue:
        options = Options("NFQUEUE", found, at)
        first = last = options.number("--queue-num", 0, 0xFFFF) or 0
        balance = options.text("--queue-balance")
        if balance is not None:
            if "--queue-num" in options:
                raise at.error('NFQUEUE: option "--queue-num" cannot be used together with "--queue-balance"')
            first, last = _range(options, balance)
        elif "--queue-cpu-fanout" in options:
            raise at.error('NFQUEUE: option "--queue-cpu-fanout" also requires "--queue-balance"')
        return cls(first, last, "--queue-bypass" in options, "--queue-cpu-fanout" in options)

    def words(self) -> list[str]:
        if self.first == self.last:
            out = ["--queue-num", str(self.first)]
        else:
            out = ["--queue-balance", f"{self.first}:{self.last}"]
        if self.bypass:
            out.append("--queue-bypass")
        return [*out, "--queue-cpu-fanout"] if self.cpu_fanout else out

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return hand_over(ctx, skb, self.first, self.last, self.bypass, self.cpu_fanout)


def _range(options: Options, text: str) -> tuple[int, int]:
    low, colon, high = text.partition(":")
    try:
        first, last = c_int(low), c_int(high)
    except ValueError:
        raise options.bad("--queue-balance", "FIRST:LAST, both from 0 to 65535") from None
    if not colon or last > 0xFFFF or first >= last:
        raise options.bad("--queue-balance", "FIRST:LAST, FIRST less than LAST, both from 0 to 65535")
    return first, last


@target("QUEUE", doc="-j QUEUE")
@dataclass(frozen=True, slots=True)
class Queue(Target):
    """Queue 0; only in rule sets of iptables-legacy (a standard verdict, no module)."""

    terminal = True

    @classmethod
    def parse(cls, found: Found, at: At) -> Queue:
        return cls()

    def words(self) -> list[str]:
        return []

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        return hand_over(ctx, skb, 0, 0, False)
