"""Packets are cut where their way cannot go on, whatever the allocator does with addresses."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from nattrace.tracer.live.event import EVENT, KIND
from nattrace.tracer.live.group import Stream, group
from nattrace.tracer.live.session import LOSS

PRE, IN, FWD, OUT, POST = range(5)
ROUTER, SERVER = 4026532001, 4026532002


class Trace:
    """Events as a kernel would emit them: a clock, and a number in every packet that must never mix."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.now = 1_000

    def add(
        self, number: int, kind: KIND, skb: int, netns: int = ROUTER, hook: int = 255, prio: int = 0, **more: Any
    ) -> None:
        self.now += 10
        row = {"ts": self.now, "skb": skb, "head": skb + 1, "kind": kind, "netns": netns, "hook": hook, "prio": prio}
        row |= {"ipid": number & 0xFFFF, "number": number, "seq": len(self.rows)} | more
        self.rows.append(row)

    def forward(self, number: int, skb: int, end: KIND | None = KIND.tx, server: bool = False) -> None:
        """One packet through the router (and into the server)."""
        self.add(number, KIND.rx, skb, indev=2, ttl=64)
        for hook, prio in ((PRE, -199), (PRE, -99), (FWD, -1), (FWD, 1), (POST, 101)):
            self.add(
                number,
                KIND.tap,
                skb,
                hook=hook,
                prio=prio,
                ttl=64 if hook == PRE else 63,
                indev=2,
                outdev=0 if hook == PRE else 3,
            )
        if end is not None:
            self.add(number, end, skb, outdev=3, ttl=63)
        if server:
            self.add(number, KIND.rx, skb, SERVER, indev=7, ttl=63)
            self.add(number, KIND.tap, skb, SERVER, IN, 2**31 - 2, ttl=63)
            self.add(number, KIND.consume, skb, SERVER, ttl=63)

    def events(self, keep: Iterable[int] | None = None) -> np.ndarray:
        rows = self.rows if keep is None else [self.rows[i] for i in keep]
        found = np.zeros(len(rows), EVENT)
        for i, row in enumerate(rows):
            for name, value in row.items():
                if name == "number":
                    found["pay"][i] = np.frombuffer(int(value).to_bytes(8, "little"), "u1")
                else:
                    found[name][i] = value
        found["t"]["proto"] = 17
        return found

    def losses(self, lost: Iterable[int]) -> np.ndarray:
        found = np.zeros(0, LOSS)
        for i in lost:
            row = np.zeros(1, LOSS)
            for name in ("ts", "skb", "prio", "netns", "kind", "hook", "seq"):
                row[name] = self.rows[i][name]
            found = np.concatenate([found, row])
        return found


def numbers(events: np.ndarray, rows: np.ndarray) -> set[int]:
    return {int.from_bytes(bytes(events["pay"][i]), "little") for i in rows}


def test_one_address_for_all_packets_of_a_flow() -> None:
    trace = Trace()
    for number in range(50):
        trace.forward(number, skb=0xFFFF8000, server=True)
    packets = group(trace.events())
    assert packets.count == 50
    assert packets.complete.all()
    assert [numbers(trace.events(), rows) for rows in packets] == [{n} for n in range(50)]


def test_a_packet_goes_on_in_the_next_namespace_but_not_from_a_device_that_leads_elsewhere() -> None:
    trace = Trace()
    trace.forward(1, 0x100, server=True)
    events = trace.events()
    assert group(events).count == 1
    assert group(events, peers={(ROUTER, 3): (SERVER, 7)}).count == 1
    assert group(events, peers={(ROUTER, 3): (SERVER, 8)}).count == 2


def test_reuse_of_an_address_after_a_silent_end_starts_a_packet() -> None:
    trace = Trace()
    trace.forward(1, 0x100, end=None)  # stolen behind POSTROUTING, nobody tells
    trace.add(2, KIND.tap, 0x100, hook=OUT, prio=-199)
    trace.add(2, KIND.tap, 0x100, hook=POST, prio=101)
    trace.add(2, KIND.tx, 0x100, outdev=3)
    trace.add(3, KIND.tap, 0x100, hook=POST, prio=101)  # its beginning was not seen
    packets = group(trace.events())
    assert [numbers(trace.events(), rows) for rows in packets] == [{1}, {2}, {3}]
    assert packets.complete.tolist() == [True, True, False]


def test_identical_packets_over_the_same_way_are_kept_apart() -> None:
    trace = Trace()
    for _ in range(10):
        trace.forward(7, 0x100, end=KIND.drop)
    for _ in range(10):
        trace.add(7, KIND.rx, 0x100, indev=2)
        trace.add(7, KIND.tap, 0x100, hook=PRE, prio=-199, indev=2)
    for _ in range(10):
        trace.add(7, KIND.rx, 0x100, indev=2)
        trace.add(7, KIND.tap, 0x100, hook=FWD, prio=1, indev=2, outdev=3)
    assert group(trace.events()).count == 30


@pytest.mark.parametrize(
    "kept", [{KIND.tap}, {KIND.tap, KIND.rx}, {KIND.tap, KIND.tx}, {KIND.tap, KIND.rx, KIND.tx}], ids=len
)
def test_packets_alike_in_every_octet_are_kept_apart_whatever_is_watched(kept: set[KIND]) -> None:
    trace = Trace()
    for _ in range(30):
        trace.forward(0, 0x100)
    packets = group(trace.events(i for i, row in enumerate(trace.rows) if row["kind"] in kept))
    assert packets.count == 30


def test_a_packet_that_comes_back_is_the_same() -> None:
    trace = Trace()
    trace.forward(1, 0x100)
    trace.add(1, KIND.rx, 0x100, indev=4, ttl=62)  # through a router that nobody watches
    trace.add(1, KIND.tap, 0x100, hook=PRE, prio=-199, ttl=62, indev=4)
    trace.add(2, KIND.tap, 0x100, hook=OUT, prio=-199, ttl=64, outdev=1)
    trace.add(2, KIND.tx, 0x100, ttl=64, outdev=1)
    trace.add(2, KIND.rx, 0x100, ttl=64, indev=1)  # the loopback device
    trace.add(2, KIND.drop, 0x100, ttl=64)
    trace.add(3, KIND.rx, 0x100, ttl=64, indev=5)
    trace.add(3, KIND.tx, 0x100, ttl=64, outdev=6)
    trace.add(3, KIND.rx, 0x100, ttl=64, indev=7)  # switched, and back at another port
    assert [len(rows) for rows in group(trace.events())] == [9, 4, 3]


def test_stacked_devices_are_one_packet_and_a_repeated_device_is_not() -> None:
    trace = Trace()
    trace.add(1, KIND.rx, 0x100, indev=2)
    trace.add(1, KIND.rx, 0x100, indev=9)  # the bridge above
    trace.add(1, KIND.tap, 0x100, hook=PRE, prio=-199)
    trace.add(1, KIND.tx, 0x100, outdev=8)
    trace.add(1, KIND.tx, 0x100, outdev=3)  # the port below
    assert group(trace.events()).count == 1
    again = Trace()
    again.add(1, KIND.rx, 0x100, indev=2)
    again.add(1, KIND.rx, 0x100, indev=2)
    assert group(again.events()).count == 2


def test_side_events_belong_to_the_packet_at_work() -> None:
    trace = Trace()
    trace.add(1, KIND.rx, 0x100, indev=2)
    trace.add(0, KIND.fib, 0x100)
    trace.add(1, KIND.tap, 0x100, hook=IN, prio=1)
    trace.add(0, KIND.icmp_send, 0x100)
    trace.add(1, KIND.drop, 0x100)
    trace.add(2, KIND.rx, 0x100, indev=2)
    trace.add(0, KIND.fib, 0)
    packets = group(trace.events())
    assert [len(rows) for rows in packets] == [5, 1]
    assert packets.loose.tolist() == [6]


def test_copies_name_their_original() -> None:
    trace = Trace()
    trace.add(5, KIND.rx, 0x100, indev=2)
    trace.add(5, KIND.tap, 0x100, hook=PRE, prio=-149)
    trace.add(5, KIND.tap, 0x900, hook=OUT, prio=-199)  # TEE made it
    trace.add(5, KIND.tx, 0x900, outdev=4)
    trace.add(5, KIND.tap, 0x100, hook=IN, prio=1)
    trace.add(6, KIND.rx, 0x200, indev=2)
    packets = group(trace.events())
    first = [int(packets.order[s]) for s in packets.start[:-1]]
    copy = first.index(2)
    assert packets.copy_of[copy] == first.index(0)
    assert packets.copy_of[first.index(0)] == packets.copy_of[first.index(5)] == -1


@pytest.mark.parametrize("seed", range(20))
def test_losses_never_merge_packets_and_every_touched_packet_is_marked(seed: int) -> None:
    rng = random.Random(seed)
    trace = Trace()
    pool = [0x1000 * n for n in range(1, 4)]
    for number in range(1, 60):
        trace.forward(number, rng.choice(pool), rng.choice([KIND.tx, KIND.drop]), server=False)
    lost = sorted(rng.sample(range(len(trace.rows)), len(trace.rows) // 6))
    kept = [i for i in range(len(trace.rows)) if i not in set(lost)]
    events = trace.events(kept)
    packets = group(events, trace.losses(lost))
    touched = {trace.rows[i]["number"] for i in lost}
    for i, rows in enumerate(packets):
        found = numbers(events, rows)
        assert len(found) == 1, "two packets merged"
        if found & touched:
            assert packets.lost_near[i]
            assert not packets.complete[i]
    assert not packets.lost_near.all(), "and the others are not"


def test_losses_without_a_record_mark_who_was_alive_at_the_gap() -> None:
    trace = Trace()
    for number in range(1, 10):
        trace.forward(number, 0x1000 * (number % 3 + 1), KIND.drop)
    lost = [17, 18]
    events = trace.events(i for i in range(len(trace.rows)) if i not in lost)
    packets = group(events, None, unlogged=2)
    marked = {n for i, rows in enumerate(packets) if packets.lost_near[i] for n in numbers(events, rows)}
    assert trace.rows[17]["number"] in marked
    assert marked < set(range(1, 10))


def test_time_order_is_restored_and_addresses_that_share_a_hash_stay_apart() -> None:
    rng = random.Random(3)
    trace = Trace()
    for number in range(3000):
        trace.forward(number, 64 * rng.randrange(1, 1 << 40), server=True)
    events = trace.events()
    shuffled = events[np.array(rng.sample(range(len(events)), len(events)))]
    packets = group(shuffled)
    assert packets.count == 3000
    assert packets.complete.all()
    assert all((np.diff(shuffled["ts"][rows].astype(np.int64)) > 0).all() for rows in packets)


def test_a_stream_hands_out_each_packet_once_and_whole() -> None:
    trace = Trace()
    for number in range(200):
        trace.forward(number, 0x1000 * (number % 4 + 1), server=True)
    events = trace.events()
    stream = Stream(settle=1e-7)
    found: list[frozenset[int]] = []
    for at in range(0, len(events), 37):
        result = stream.feed(events[at : at + 37])
        if result is not None:
            done, packets = result
            found += [frozenset(numbers(done, rows)) for rows in packets]
            assert packets.complete.all()
    rest = stream.finish()
    if rest is not None:
        found += [frozenset(numbers(rest[0], rows)) for rows in rest[1]]
    assert sorted(next(iter(x)) for x in found) == list(range(200))


def test_nothing_is_no_packet() -> None:
    packets = group(np.zeros(0, EVENT))
    assert packets.count == 0
    assert list(packets) == []
