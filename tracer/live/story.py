"""One packet's story: its events, in causal order, as the simulator's hops and steps; where it ended; what was not seen.

    packets = group(events, *session.losses())
    for story in stories(events, packets, Scene.of(session)):
        story.hops                  # sim.model.result.Hop, with Steps like those of the simulator
        story.end                   # outcome, place, Reason; the kernel's drop reason
        story.incomplete            # owed but unseen; never read as "did not happen"

What is not seen says nothing, unless nothing was lost, the tap was in place and the stream was there. A packet ends as
``delivered`` or ``left`` only then; otherwise its outcome is None.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np

from ...sim.model.result import Response
from .builder import Builder, ended
from .event import KIND
from .group import Packets
from .plan import POST, PRE
from .scene import Scene
from .told import End, Story, to_json

# --------------------------------------------------------------------------------------------- stories


def story_of(rows: Any, scene: Scene, number: int = 1, lost: bool = False) -> Story:
    """The story of one packet from its events in order."""
    builder = Builder(number, scene)
    for row in rows:
        builder.feed(row)
    return builder.finish(lost, rows)


def stories(events: Any, packets: Packets, scene: Scene, first: int = 1) -> list[Story]:
    """All packets of group.group(events), in the order of their beginnings; a copy is an aside of what it was made of."""
    rows = [events[packets.rows(i)] for i in range(packets.count)]
    loose = _Loose(events[packets.loose])
    parent = [int(p) for p in packets.copy_of]
    lost = [bool(f) for f in packets.lost_near]
    copies: dict[int, list[int]] = {}
    merged: dict[int, int] = {}
    for i in sorted(range(packets.count), key=lambda i: int(rows[i]["ts"][0])):
        of = parent[i]
        while of in merged:
            of = merged[of]
        if of < 0 or of == i:
            continue
        if _goes_on(rows[of], rows[i]):
            rows[of], lost[of], merged[i] = np.concatenate([rows[of], rows[i]]), lost[of] or lost[i], of
        elif rows[of]["ts"][0] <= rows[i]["ts"][0] <= rows[of]["ts"][-1]:
            copies.setdefault(of, []).append(i)
    _held(rows, copies, merged)
    aside = {i for group_ in copies.values() for i in group_}
    told = {i: story_of(loose.before(rows[i]), scene, 0, lost[i]) for i in range(packets.count)
        if i not in merged and not np.isin(rows[i]["kind"], (KIND.fib, KIND.neigh)).all() and rows[i]["netns"].any()}  # fmt: skip
    for of, made in copies.items():
        if of in told:
            told[of].asides += [told[i] for i in made if i in told]
    kept = sorted((s for i, s in told.items() if i not in aside), key=lambda story: story.start)
    for number, story in enumerate(kept, first):
        story.number = number
    _link_answers(kept)
    return kept


def _held(rows: list[Any], copies: dict[int, list[int]], merged: dict[int, int]) -> None:
    """What was only seen being thrown away: a copy that a socket held (an error queue, a capture) of an earlier packet."""
    known = {i for group_ in copies.values() for i in group_}
    seen: dict[tuple[int, int, bytes], int] = {}
    for i in sorted(range(len(rows)), key=lambda i: int(rows[i]["ts"][0])):
        first = rows[i][0]
        key = (int(first["ipid"]), int(first["t"]["proto"]), bytes(first["pay"]))
        if i in known or i in merged:
            continue
        if np.isin(rows[i]["kind"], (KIND.drop, KIND.consume)).all():
            if key in seen:
                copies.setdefault(seen[key], []).append(i)
        else:
            seen[key] = i


def _goes_on(parent: Any, child: Any) -> bool:
    """Whether a packet under a new sk_buff is the same one, sent on: it comes in where the other was sent."""
    end, begin = parent[-1], child[0]
    sent = int(end["kind"]) in (KIND.tx, KIND.xmit) or (int(end["kind"]) == KIND.tap and int(end["hook"]) == POST)
    comes = int(begin["kind"]) == KIND.rx or (int(begin["kind"]) == KIND.tap and int(begin["hook"]) == PRE)
    return sent and comes and bool(begin["ts"] >= end["ts"])


class _Loose:
    """Lookups made before there was a packet: each belongs to the packet that its namespace sends next to that address."""

    WITHIN = 20_000_000  # ns

    def __init__(self, events: Any) -> None:
        self.events = events[events["kind"] == KIND.fib]
        self.free = np.ones(len(self.events), bool)

    def before(self, rows: Any) -> Any:
        """A locally sent packet's events, with its own lookups in front."""
        first = rows[0]
        if not len(self.events) or int(first["kind"]) not in (KIND.tap, KIND.tx) or first["indev"]:
            return rows
        e, start = self.events, int(first["ts"])
        mine = self.free & (e["ts"] <= start) & (e["ts"] + self.WITHIN >= start) & (e["netns"] == first["netns"])
        mine &= (e["t"]["d"] == first["t"]["d"]).all(axis=1)
        self.free &= ~mine
        return np.concatenate([e[mine], rows]) if mine.any() else rows


def _link_answers(found: list[Story]) -> None:
    """What became of an ICMP error: the story of the error itself, where it was seen."""
    starts = [story.start for story in found]
    for story in found:
        _unannounced(story, found, starts)
        for at, response in enumerate(story.responses):
            meanwhile = found[bisect_left(starts, story.start) : bisect_right(starts, int(story.events["ts"][-1]))]
            answer = next((s for s in meanwhile if _is_answer(s, response, story)), None)
            if answer is not None and answer.end.outcome is not None:
                story.responses[at] = _arrived(response, answer)


def _unannounced(story: Story, found: list[Story], starts: list[int]) -> None:
    """An answer that no tracepoint tells (ICMPv6, a reset by a rule): sent by the host that dropped the packet, meanwhile."""
    end = story.end
    if end.drop is None or story.responses or not story.hops:
        return
    host, source = str(end.at.get("host")), story.hops[-1].before.get("src")
    until = int(story.events["ts"][-1])
    taps = story.events["ts"][story.events["kind"] == KIND.tap]
    since = int(taps[-1]) if len(taps) else story.start
    for other in found[bisect_left(starts, since) : bisect_right(starts, until)]:
        packet = other.hops[0].before if other.hops else {}
        if not other.hops or other.hops[0].host != host or other.hops[0].in_dev is not None:
            continue
        error = packet.get("proto") == "icmpv6" and packet.get("type", 200) < 128
        error |= packet.get("proto") == "icmp" and packet.get("type") in (3, 11, 12)
        reset = "R" in str(packet.get("flags", ""))
        if packet.get("dst") == source and (error or reset):
            kind = "icmp" if error else "tcp_reset"
            story.responses.append(Response(kind, packet.get("type"), packet.get("code"), host, str(source), "sent"))
            story.end = ended(end, story.responses)
            return


def _arrived(response: Response, answer: Story) -> Response:
    """The response with its way."""
    end = answer.end
    return Response(response.kind, response.type, response.code, response.sender, response.to, end.outcome or "sent",
                    answer.packet, tuple(answer.hops), end.at, end.reason)  # fmt: skip


def _is_answer(story: Story, response: Response, cause: Story) -> bool:
    if story is cause or not story.hops or not cause.start < story.start:
        return False
    packet = story.hops[0].before
    if response.kind == "icmp":
        return (
            packet.get("type") == response.type and packet.get("code") == response.code and packet["dst"] == response.to
        )
    return "R" in str(packet.get("flags", "")) and packet["dst"] == response.to


__all__ = ["End", "Story", "stories", "story_of", "to_json"]
