"""From events to packets, in numpy columns: which events are of one packet, in the order they happened.

The address of an sk_buff is no identity: in a steady flow the allocator hands out the same one for every packet. So the
events of one address are cut into packets where the way a packet takes through the kernel cannot go on: behind a drop,
at a new receive, at a hook that lies before the last one. Where a packet may go on (from a device into another
namespace, to another device of a stack), it must be the same packet by what no hook changes: protocol, IP id, first
octets of its payload. Where an event was lost in between, that is asked everywhere.

    packets = group(events, losses)
    packets.count, packets.complete.sum()
    for i in range(packets.count):
        rows = events[packets.rows(i)]            # this packet's events in causal order
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .event import KIND, join

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# states of a packet on its way: taps by hook, then the kinds that carry it on
RX, PRE, IN, FWD, OUT, POST, TX, XMIT, DROP, END, SIDE = range(11)
NEW, SAME, LATER, ALIKE, MOVED = range(5)
"""Whether an event can be of the packet of the one before it: never; in the same namespace; there and at a later priority
of the hook; if it is alike; if it is alike and at another device."""

_RULES = np.full((11, 11), NEW, np.uint8)
for _before in (RX, PRE, IN, FWD, OUT, POST, TX, XMIT):
    _RULES[_before, [DROP, END]] = ALIKE
    _RULES[_before, [TX, XMIT]] = ALIKE
_RULES[RX, [PRE, IN, FWD]] = SAME
_RULES[RX, RX] = MOVED  # bridge, vlan, macvlan: the same packet on the device above
_RULES[RX, POST] = ALIKE
_RULES[PRE, PRE] = _RULES[IN, IN] = _RULES[FWD, FWD] = _RULES[OUT, OUT] = _RULES[POST, POST] = LATER
_RULES[PRE, [IN, FWD, POST]] = SAME
_RULES[[PRE, IN, FWD], RX] = MOVED
_RULES[IN, [OUT, POST]] = ALIKE  # IPVS sends from INPUT
_RULES[FWD, POST] = _RULES[OUT, POST] = SAME
_RULES[[OUT, POST], RX] = _RULES[[OUT, POST], PRE] = ALIKE  # the loopback device, or tracepoints are off
_RULES[[TX, XMIT], RX] = _RULES[[TX, XMIT], PRE] = _RULES[[TX, XMIT], POST] = ALIKE
_RULES[TX, TX] = _RULES[XMIT, TX] = _RULES[XMIT, XMIT] = MOVED  # vlan, bond, bridge: the device below
_RULES[TX, XMIT] = ALIKE

_STATE = np.full((16, 256), SIDE, np.uint8)  # kind, hook
for _hook, _state in enumerate((PRE, IN, FWD, OUT, POST)):
    _STATE[KIND.tap, _hook] = _state
for _kind, _state in ((KIND.rx, RX), (KIND.tx, TX), (KIND.xmit, XMIT), (KIND.drop, DROP), (KIND.consume, END)):
    _STATE[_kind, :] = _state


@dataclass
class Packets:
    """Packets of an array of events. ``order``: indices of events, packet by packet; ``start``: where each packet begins
    in it, and the end of the last; ``loose``: events of no packet (a route lookup before there was one).

    They come in the order in which they began.

    ``lost_near``: an event of this packet, or of the one that had its sk_buff before or after, was lost.
    ``complete``: seen from its beginning to an end, and nothing lost. ``copy_of``: the packet whose copy this is (TEE, a
    clone, a segment), or that it continues under a new sk_buff; -1 without one. ``followed``: another packet had its sk_buff
    afterwards, so nothing more can come.
    """

    order: Index
    start: Index
    complete: Flags
    lost_near: Flags
    loose: Index
    copy_of: Index = field(default_factory=lambda: np.zeros(0, np.int64))
    followed: Flags = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def count(self) -> int:
        """How many packets."""
        return len(self.start) - 1

    def rows(self, packet: int) -> Index:
        """Indices of a packet's events in the array that was grouped."""
        return self.order[self.start[packet] : self.start[packet + 1]]

    def __iter__(self) -> Iterator[Index]:
        return (self.rows(i) for i in range(self.count))

    def split(self, events: Array, wanted: Flags) -> tuple[Array, Array, Packets]:
        """(events of the other packets, events of the wanted ones and the loose ones, the wanted packets)."""
        stays = np.zeros(len(events), bool)
        chosen = self.order[np.repeat(wanted, np.diff(self.start))]
        stays[chosen] = True
        stays[self.loose] = True
        place = np.cumsum(stays) - 1
        number = np.append(np.cumsum(wanted) - 1, -1)
        copies = self.copy_of[wanted]
        kept = np.append(wanted, False)[copies]
        packets = Packets(
            place[chosen],
            np.append(0, np.cumsum(np.diff(self.start)[wanted])),
            self.complete[wanted],
            self.lost_near[wanted],
            place[self.loose],
            np.where(kept, number[copies], -1),
            self.followed[wanted],
        )
        return events[~stays], events[stays], packets

    def packet_of(self) -> Index:
        """The packet of each entry of ``order``."""
        return np.repeat(np.arange(self.count), np.diff(self.start))


def group(
    events: Array,
    losses: Array | None = None,
    unlogged: int = 0,
    peers: dict[tuple[int, int], tuple[int, int]] | None = None,
) -> Packets:
    """Cut events into packets. ``losses``: Session.losses(); ``unlogged``: losses without a record: then every packet
    alive at a gap of the sequence numbers counts as touched. ``peers``: netns.veth_peers(), where a device leads.
    """
    if not len(events):
        nothing = np.zeros(0, np.int64)
        return Packets(nothing, np.zeros(1, np.int64), np.zeros(0, bool), np.zeros(0, bool), nothing, nothing)
    columns = _Columns(events)
    order = columns.lanes()
    attached = columns.skb[order] != 0
    loose, order = order[~attached], order[attached]
    lossy = _lossy(columns, order, losses)
    first = _cuts(columns, order, lossy, peers)
    start = np.append(np.flatnonzero(first), len(order))
    packets = Packets(order, start, np.zeros(0, bool), np.zeros(0, bool), loose)
    packets.lost_near = _touched(columns, packets, losses, unlogged)
    packets.complete = _complete(columns, packets) & ~packets.lost_near
    packets.copy_of = _copies(columns, packets)
    return _by_time(columns, packets)


def _by_time(columns: _Columns, packets: Packets) -> Packets:
    """Packets in the order they began."""
    opener, length = packets.order[packets.start[:-1]], np.diff(packets.start)
    skb = columns.skb[opener]
    followed = np.append(skb[1:] == skb[:-1], False) if len(skb) else np.zeros(0, bool)
    ranked = np.argsort(columns.ts[opener], kind="stable")
    start = np.append(0, np.cumsum(length[ranked]))
    shift = np.repeat(packets.start[:-1][ranked] - start[:-1], length[ranked])
    order = packets.order[np.arange(len(packets.order)) + shift]
    number = np.empty(len(ranked) + 1, np.int64)
    number[ranked] = np.arange(len(ranked))
    number[-1] = -1
    return Packets(
        order,
        start,
        packets.complete[ranked],
        packets.lost_near[ranked],
        packets.loose,
        number[packets.copy_of[ranked]],
        followed[ranked],
    )


class _Columns:
    """What grouping asks of events, each field contiguous."""

    def __init__(self, events: Array) -> None:
        take = np.ascontiguousarray
        self.skb = take(events["skb"])
        self.ts = take(events["ts"]).view(np.int64)
        kind, hook = events["kind"], events["hook"]
        self.state = _STATE[kind & 15, hook]
        self.prio = take(events["prio"])
        self.netns = take(events["netns"])
        self.indev, self.outdev = take(events["indev"]), take(events["outdev"])
        self.seq, self.cpu = take(events["seq"]), take(events["cpu"])
        self.head = take(events["head"])
        # protocol, IP id and payload: what makes two events alike
        self.pay = take(events["pay"]).view(np.uint64).reshape(-1)
        self.frag, self.ttl = take(events["frag"]), take(events["ttl"])
        self._tuples = events["t"]
        self.ident = events["ipid"].astype(np.uint32) | events["t"]["proto"].astype(np.uint32) << np.uint32(16)

    def pair(self, rows: Index) -> Array:
        """Source and destination of some events, in one number each."""
        some = self._tuples[rows]
        source, target = (np.ascontiguousarray(some[side]).view("<u4").astype(np.uint64) for side in ("s", "d"))
        mixed: Array = (source.sum(axis=1) * np.uint64(31) + target.sum(axis=1)) & np.uint64(0xFFFFFFFF)
        return mixed

    def lanes(self) -> Index:
        """Indices sorted by sk_buff, and by time within each."""
        backwards = np.flatnonzero(np.diff(self.ts) < 0)
        by_time = np.argsort(self.ts, kind="stable") if len(backwards) else None
        skb = self.skb if by_time is None else self.skb[by_time]
        key = ((skb >> np.uint64(6)) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(48)).astype(np.uint16)
        order = np.argsort(key, kind="stable")  # of 16 bits: a radix sort
        sorted_skb, sorted_key = skb[order], key[order]
        borders = np.flatnonzero(sorted_key[1:] != sorted_key[:-1]) + 1
        changes = np.flatnonzero(sorted_skb[1:] != sorted_skb[:-1]) + 1
        if len(changes) > len(borders):  # two addresses share a key: sort those few by the address itself
            mixed = np.unique(sorted_key[changes[~np.isin(changes, borders, assume_unique=True)]])
            places = np.flatnonzero(np.isin(sorted_key, mixed))
            inner = np.lexsort((sorted_skb[places], sorted_key[places]))
            order[places] = order[places][inner]
        return order if by_time is None else by_time[order]


def _lossy(columns: _Columns, order: Index, losses: Array | None) -> Flags:
    """For each event in order: was one of its sk_buff lost since the event before it?"""
    found = np.zeros(len(order), bool)
    if losses is None or not len(losses) or not len(order):
        return found
    after = _next_in_lane(columns, order, losses["skb"], losses["ts"].astype(np.int64))
    inside = after < len(order)
    found[after[inside]] = True
    return found


def _next_in_lane(columns: _Columns, order: Index, skb: Array, ts: Array) -> Index:
    """For each (sk_buff, time): the place in order of the first event of that lane at or after it, or of the next lane."""
    lane_skb = columns.skb[order]
    borders = np.append(0, np.flatnonzero(lane_skb[1:] != lane_skb[:-1]) + 1)
    lanes = lane_skb[borders]
    by_address = np.argsort(lanes, kind="stable")
    at = np.searchsorted(lanes[by_address], skb)
    at = np.minimum(at, len(lanes) - 1)
    lane = by_address[at]
    known = lanes[lane] == skb
    ends = np.append(borders[1:], len(order))
    times = columns.ts[order]
    result = np.full(len(skb), len(order), np.int64)
    for number in np.unique(lane[known]):
        these = np.flatnonzero(known & (lane == number))
        low, high = borders[number], ends[number]
        result[these] = low + np.searchsorted(times[low:high], ts[these])
    return result


def _cuts(columns: _Columns, order: Index, lossy: Flags, peers: dict[tuple[int, int], tuple[int, int]] | None) -> Flags:
    """True where a packet begins. Side events (a lookup, an ICMP error made) belong to the packet at work before them."""
    count = len(order)
    first = np.zeros(count, bool)
    if not count:
        return first
    skb = columns.skb[order]
    lane = np.append(True, skb[1:] != skb[:-1])
    state = columns.state[order]
    main = np.flatnonzero(state != SIDE)
    first[lane] = True
    if not len(main):
        return first
    # between consecutive main events of one lane
    here, before = order[main[1:]], order[main[:-1]]
    lane_number = np.cumsum(lane)
    same_lane = lane_number[main[1:]] == lane_number[main[:-1]]
    rule = _RULES[columns.state[before], columns.state[here]]
    alike = (columns.ident[here] == columns.ident[before]) & (columns.pay[here] == columns.pay[before])
    same_ns = columns.netns[here] == columns.netns[before]
    joined = np.zeros(len(rule), bool)
    joined |= (rule == SAME) & same_ns
    later = rule == LATER
    if later.any():
        joined |= later & same_ns & (columns.prio[here] > columns.prio[before])
    joined |= (rule == ALIKE) & alike
    # what was sent is dropped where it was sent; a drop elsewhere, where nobody watches, is no end of this story
    sent = np.isin(columns.state[before], (TX, XMIT)) & (columns.state[here] == DROP)
    joined &= ~sent | same_ns
    moved = rule == MOVED
    received = columns.state[here] == RX
    entrance = received & _other_entrance(columns, order, main)
    if moved.any():
        device = np.where(received, entrance, columns.outdev[here] != columns.outdev[before])
        joined |= moved & alike & (device | ~same_ns)
    joined &= _may_return(columns, here, before, entrance, same_ns)
    # a loss in between: also where the way alone would do, the packet must be alike
    gaps = np.append(0, np.cumsum(lossy))
    lost_between = gaps[main[1:] + 1] != gaps[main[:-1] + 1]
    joined &= ~lost_between | alike
    if peers:
        joined &= _reachable(columns, here, before, peers)
    joined &= same_lane
    first[main[1:][~joined & same_lane]] = True
    # a side event that opens its lane is part of what follows
    opening = np.flatnonzero(lane & (state == SIDE))
    for place in opening:
        following = main[np.searchsorted(main, place)] if np.searchsorted(main, place) < len(main) else -1
        if following >= 0 and skb[following] == skb[place]:
            first[following] = False
    return first


def _may_return(columns: _Columns, here: Index, before: Index, entrance: Flags, same_ns: Flags) -> Flags:
    """What was sent and comes in again: is it the same packet, or the next one, which may be alike in every octet?

    A time to live never grows. With the same one it is the same packet if it came over the loopback device, at another
    entrance than before, or in another namespace; it then was switched, not routed, in between.
    """
    crossing = np.isin(columns.state[before], (OUT, POST, TX, XMIT)) & np.isin(columns.state[here], (RX, PRE))
    sent, come = columns.ttl[before], columns.ttl[here]
    looped = columns.outdev[before] == columns.indev[here]
    good: Flags = ~crossing | (come < sent) | ((come == sent) & (~same_ns | looped | entrance))
    return good


def _other_entrance(columns: _Columns, order: Index, main: Index) -> Flags:
    """For each main event but the first: does it name another device than the last receive before it?

    The taps in between do not tell: a bridge runs PREROUTING with itself as the device, and receives on it afterwards.
    Nor does a receive of an earlier packet: where PREROUTING was met without one, a filter (``in br0``) left out the port's.
    """
    states, devices = columns.state[order[main]], columns.indev[order[main]]
    place = np.maximum.accumulate(np.where(states == RX, np.arange(len(main)), -1))[:-1]
    lane = columns.skb[order[main]]
    known = (place >= 0) & (lane[np.maximum(place, 0)] == lane[1:])
    last = np.where(known, devices[np.maximum(place, 0)], devices[:-1])
    different: Flags = devices[1:] != last
    other = np.maximum.accumulate(np.where(states != PRE, np.arange(len(main)), -1))[:-1]
    received = (other >= 0) & (lane[np.maximum(other, 0)] == lane[1:]) & (states[np.maximum(other, 0)] == RX)
    return different | ((states[:-1] == PRE) & ~received)


def _reachable(columns: _Columns, here: Index, before: Index, peers: dict[tuple[int, int], tuple[int, int]]) -> Flags:
    """A packet sent by a veth device comes out of its peer and nowhere else."""
    good = np.ones(len(here), bool)
    crossing = np.flatnonzero(np.isin(columns.state[before], (TX, XMIT)) & (columns.state[here] == RX))
    if not len(crossing):
        return good
    source = columns.netns[before[crossing]].astype(np.uint64) << np.uint64(32) | columns.outdev[before[crossing]]
    target = columns.netns[here[crossing]].astype(np.uint64) << np.uint64(32) | columns.indev[here[crossing]]
    for (netns, device), (other_ns, other_device) in peers.items():
        from_here = source == (np.uint64(netns) << np.uint64(32) | np.uint64(device))
        if from_here.any():
            good[crossing[from_here & (target != (np.uint64(other_ns) << np.uint64(32) | np.uint64(other_device)))]] = (
                False
            )
    return good


def _complete(columns: _Columns, packets: Packets) -> Flags:
    """Begins where packets begin and ends where they end."""
    state = columns.state[packets.order]
    main = state != SIDE
    kept = np.flatnonzero(main)
    owner = packets.packet_of()[kept]
    complete = np.zeros(packets.count, bool)
    if not len(kept):
        return complete
    firsts = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
    lasts = np.append(firsts[1:], len(kept)) - 1
    begins = np.isin(state[kept[firsts]], (RX, PRE, OUT))
    ends = np.isin(state[kept[lasts]], (IN, TX, XMIT, DROP, END, POST))
    complete[owner[firsts]] = begins & ends
    return complete


def _touched(columns: _Columns, packets: Packets, losses: Array | None, unlogged: int) -> Flags:
    """Packets that may own a lost event."""
    touched = np.zeros(packets.count, bool)
    order = packets.order
    if not packets.count:
        return touched
    if losses is not None and len(losses):
        places = _next_in_lane(columns, order, losses["skb"], losses["ts"].astype(np.int64))
        places = places[places < len(order) + 1]
        skb = columns.skb[order]
        owner = packets.packet_of()
        wanted = losses["skb"]
        for side in (places, places - 1):  # the packet after it, and the one before it
            inside = (side >= 0) & (side < len(order))
            inside[inside] &= skb[side[inside]] == wanted[inside]
            touched[owner[side[inside]]] = True
    if unlogged:
        touched |= _alive_at_gaps(columns, packets)
    return touched


def _alive_at_gaps(columns: _Columns, packets: Packets) -> Flags:
    """Packets that were alive between two events of a CPU whose numbers do not follow each other."""
    touched = np.zeros(packets.count, bool)
    begin = columns.ts[packets.order[packets.start[:-1]]]
    last = packets.order[packets.start[1:] - 1]
    end = columns.ts[last].copy()
    skb = columns.skb[last]
    open_end = columns.state[last] != DROP
    following = np.append(skb[1:] == skb[:-1], False)
    until = np.where(following, np.append(begin[1:], 0), np.iinfo(np.int64).max)
    end[open_end] = until[open_end]
    for cpu in np.unique(columns.cpu):
        mine = np.flatnonzero(columns.cpu == cpu)
        mine = mine[np.argsort(columns.seq[mine].astype(np.int64), kind="stable")]
        step = np.diff(columns.seq[mine].astype(np.int64))
        for gap in np.flatnonzero(step > 1):
            low, high = columns.ts[mine[gap]], columns.ts[mine[gap + 1]]
            touched |= (begin <= high) & (end >= low)
    return touched


COPY_WITHIN = 50_000_000  # nanoseconds: how long after its original a copy or continuation may begin


def _copies(columns: _Columns, packets: Packets) -> Index:
    """The packet each one is a copy or continuation of: alike, begun earlier, and still at work or just sent."""
    found = np.full(packets.count, -1, np.int64)
    if packets.count < 2:
        return found
    opener = packets.order[packets.start[:-1]]
    ident, pay, begin = columns.ident[opener].astype(np.uint64), columns.pay[opener], columns.ts[opener]
    end = columns.ts[packets.order[packets.start[1:] - 1]]
    key = (ident * np.uint64(0x9E3779B97F4A7C15)) ^ pay
    by_key = np.lexsort((begin, key))
    same = (key[by_key[1:]] == key[by_key[:-1]]) & (columns.skb[opener[by_key[1:]]] != columns.skb[opener[by_key[:-1]]])
    near = begin[by_key[1:]] <= end[by_key[:-1]] + COPY_WITHIN
    pair = same & near
    found[by_key[1:][pair]] = by_key[:-1][pair]
    return _fragments(columns, packets, found)


def _fragments(columns: _Columns, packets: Packets, found: Index) -> Index:
    """Later fragments of a datagram: they share its IP id and addresses, and have no payload to compare."""
    opener = packets.order[packets.start[:-1]]
    later = (columns.frag[opener] & 0x1FFF) != 0
    if not later.any():
        return found
    idents = np.unique(columns.ident[opener[later]])
    some = np.flatnonzero(np.isin(columns.ident[opener], idents))
    begin = columns.ts[opener[some]]
    key = columns.ident[opener[some]].astype(np.uint64) << np.uint64(32) ^ columns.pair(opener[some])
    ranked = some[np.lexsort((begin, key))]
    key = key[np.lexsort((begin, key))]
    near = columns.ts[opener[ranked[1:]]] - columns.ts[opener[ranked[:-1]]] <= COPY_WITHIN
    pair = (key[1:] == key[:-1]) & near & later[ranked[1:]] & (found[ranked[1:]] < 0)
    found[ranked[1:][pair]] = ranked[:-1][pair]
    return found


class Stream:
    """Packets of a session that goes on: those at rest are handed out, the others wait for their next events.

    >>> stream = Stream(settle=0.2)
    >>> for events, packets in stream.feed(batch): ...
    """

    def __init__(self, settle: float = 0.2) -> None:
        self.settle = int(settle * 1e9)
        self._kept: Array | None = None

    def feed(
        self,
        batch: Array | None,
        losses: Array | None = None,
        unlogged: int = 0,
        peers: dict[tuple[int, int], tuple[int, int]] | None = None,
        now: int | None = None,
    ) -> tuple[Array, Packets] | None:
        """Add a batch; (events, packets) of what is at rest since ``settle`` seconds before ``now`` (CLOCK_MONOTONIC ns)."""
        parts = [part for part in (self._kept, batch) if part is not None and len(part)]
        if not parts:
            return None
        events = join(parts) if len(parts) > 1 else parts[0]
        border = (now if now is not None else int(events["ts"].max())) - self.settle
        packets = group(events, losses, unlogged, peers)
        last = packets.order[packets.start[1:] - 1]
        done = packets.followed | (events["ts"][last].astype(np.int64) <= border)
        self._kept, events, packets = packets.split(events, done)
        return (events, packets) if len(events) else None

    def finish(
        self,
        losses: Array | None = None,
        unlogged: int = 0,
        peers: dict[tuple[int, int], tuple[int, int]] | None = None,
    ) -> tuple[Array, Packets] | None:
        """Everything that is left."""
        events, self._kept = self._kept, None
        return (events, group(events, losses, unlogged, peers)) if events is not None and len(events) else None
