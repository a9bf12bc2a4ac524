"""Predicting packets as they were really seen: each observed story put to the engine, state carried from one to the next.

    judged = judge(world, question, stories, observed_hosts)
    judged[0].comparison.first

The first headers seen (ports, ICMP id, length, flags) are bound into the question; its mark is not, unless FLOW says
one: a mark that comes from elsewhere is a divergence. What the kernel drew is pinned to what was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...sim.engine import conntrack
from ...sim.engine.play import Answer, Injection
from ...sim.engine.simulate import Simulator, injection_of, result_json
from ...sim.errors import InputError
from ...sim.model.drawn import Drawn
from ...sim.model.packet import Sk
from ...sim.model.result import Leaf, Reason, Response
from .compare import DIFFERS, Comparison, Row, compare
from .event import AF_INET, AF_INET6, KIND, NO_UID
from .plan import OUT, POST
from .scene import ATTACHED

if TYPE_CHECKING:
    from ...sim.flow import Question
    from ...sim.model.world import World
    from .scene import Scene
    from .story import Story

REQUEST, REPLY = "request", "reply"
_BOUND = (
    "proto",
    "src",
    "dst",
    "sport",
    "dport",
    "type",
    "code",
    "icmp_id",
    "seq",
    "flags",
    "tcp_seq",
    "tcp_ack",
    "ttl",
    "tos",
    "len",
    "df",
)
ERRORS = {"icmp": (3, 5, 11, 12), "icmpv6": (1, 2, 3, 4)}
ANSWERS = {"icmp": (0, 14, 16, 18), "icmpv6": (129,)}
WINDOW = 65535  # what a recording does not hold: wide open, so that tracking never finds a segment outside of it


@dataclass
class Judged:
    """One packet. ``comparison`` None: not predicted, ``note`` says why. ``certainty``: of the prediction."""

    story: Story
    direction: str
    leaf: Leaf | None = None
    comparison: Comparison | None = None
    certainty: str = "exact"
    note: str | None = None

    @property
    def first(self) -> Row | None:
        return self.comparison.first if self.comparison is not None else None

    @property
    def open(self) -> list[str]:
        """Why nothing can be said for sure, although nothing differs."""
        if self.comparison is None:
            return []
        found = list(self.comparison.undecided)
        if self.leaf is not None and self.leaf.outcome in ("queued", "stolen"):
            found = [text for text in found if ": the packet after " not in text]
        if self.certainty == "unknown" and self.leaf is not None:
            why = self.leaf.unknowns[0].text if self.leaf.unknowns else "the snapshot does not tell which outcome comes"
            found.append(f"the prediction is unknown: {why}")
        return found


def judge(world: World, question: Question | None, stories: Sequence[Story], observed: frozenset[str],
          bind_mark: bool = False) -> list[Judged]:  # fmt: skip
    """All packets in their order. ``bind_mark``: take the mark from what was seen too."""
    if question is not None:
        world = question.prepare(world)
    simulator, begin, found = Simulator(world, verbose=True), None, []
    answers: list[tuple[Response, Leaf]] = []
    for story in sorted((s for s in stories if s.hops), key=lambda s: s.start):
        begin = story.start if begin is None else begin
        one = _as_answer(answers, story, question, observed)
        if one is None:
            one = _judged(simulator, question, story, observed, (story.start - begin) / 1e9, bind_mark)
            answers += [(response, one.leaf) for response in one.leaf.responses] if one.leaf is not None else []
        found.append(one)
    return found


def from_the_wire(story: Story, scene: Scene) -> Story:
    """A packet that a packet socket sent (a probe, dhclient, a capture that is played) begins where it is received.

    It meets no hook of its sender (net/packet/af_packet.c packet_snd()): where the taps of OUTPUT are in place and nothing
    was lost, one that no tap saw there was never routed.
    """
    if len(story.hops) < 2 or story.hops[0].in_dev is not None or story.events is None or story.incomplete:
        return story
    first = story.events[story.events["kind"] != KIND.fib][:1]
    if not len(first):
        return story
    inum, pf = int(first["netns"][0]), AF_INET6 if ":" in str(story.hops[0].before.get("dst")) else AF_INET
    mine = story.events["netns"] == inum
    passed = int(np.flatnonzero(~mine)[0]) if (~mine).any() else len(mine)
    met = (story.events["kind"][:passed] == KIND.tap).any()
    watched = all(any(tap.state == ATTACHED for tap in scene.at(inum, pf, hook)) for hook in (OUT, POST))
    if met or not watched:
        return story
    return replace(story, hops=story.hops[1:], times=story.times[1:], events=story.events[passed:],
                   hits=story.hits[1:] if story.hits else story.hits)  # fmt: skip


def _as_answer(answers: list[tuple[Response, Leaf]], story: Story, question: Question | None,
               observed: frozenset[str]) -> Judged | None:  # fmt: skip
    """An error or reset that the prediction of its cause has made already, with its own way; None for any other packet."""
    head = story.hops[0].before
    for pair in answers:
        response, leaf = pair
        sent = response.hops[0] if response.hops else None
        if sent is None or sent.host != story.hops[0].host or story.hops[0].in_dev is not None:
            continue
        keys = ("proto", "dst", "sport", "dport", "type", "code")
        told = "R" in str(head.get("flags", "")) if response.kind == "tcp_reset" else head.get("type") == response.type
        if told and all(head.get(k) == sent.before.get(k) for k in keys):
            answers.remove(pair)
            reason = response.reason or Reason("answer", "an answer to an earlier packet")
            way = Leaf(
                response.outcome, response.at or {}, response.packet, reason, hops=list(response.hops), state=leaf.state
            )
            comparison = compare(way, story, observed)
            if not response.at:  # what became of it was not played
                comparison.rows = [row for row in comparison.rows if row.stage != "end"]
            return Judged(story, REPLY, way, comparison)
    return None


def _judged(simulator: Simulator, question: Question | None, story: Story, observed: frozenset[str], at: float,
            bind_mark: bool) -> Judged:  # fmt: skip
    judged = Judged(story, direction_of(story, question))
    head = story.hops[0].before
    if head.get("type") in ERRORS.get(str(head.get("proto")), ()):
        judged.note = "an ICMP error that no predicted packet has caused: what it quotes is not recorded"
        return judged
    if head.get("fragment"):
        judged.note = "a later fragment: it shows no ports"
        return judged
    host, in_dev = story.hops[0].host, story.hops[0].in_dev
    if host not in simulator.world.hosts:
        judged.note = f"{host} is not in the snapshot"
        return judged
    try:
        injection = injection_for(simulator.world, question, story, at, bind_mark)
    except InputError as error:
        row = Row(
            0,
            host,
            "PREROUTING" if in_dev else "OUTPUT",
            "start",
            error.message,
            f"in {in_dev}" if in_dev else "sent",
            DIFFERS,
            "device",
        )
        judged.comparison = Comparison([row], list(story.incomplete))
        return judged
    answer = simulator.ask(injection)
    judged.leaf, judged.comparison = _nearest(answer, story, observed)
    judged.certainty = str(result_json(answer)["certainty"])
    _pin(simulator, judged.leaf, story)
    return judged


def injection_for(
    world: World, question: Question | None, story: Story, at: float, bind_mark: bool = False
) -> Injection:
    """The packet as it was first seen. Raises InputError where the world has no such device."""
    hop = story.hops[0]
    record: dict[str, Any] = {k: hop.before[k] for k in _BOUND if hop.before.get(k) is not None}
    record |= {"host": hop.host, "in": hop.in_dev, "at": max(at, 0.0)}
    if record["proto"] == "tcp":
        record["window"] = WINDOW
    uid = int(story.events["uid"][0]) if story.events is not None and len(story.events) else NO_UID
    if hop.in_dev is None:
        asked = question.packet.get("uid") if question is not None else None
        record["uid"] = uid if uid != NO_UID else asked or 0
    injection = injection_of(world, record)
    skb = injection.skb
    if hop.in_dev is None:
        mark = (
            int(question.packet.get("mark") or 0)
            if question is not None and direction_of(story, question) == REQUEST
            else 0
        )
        skb.mark = hop.before["mark"] if bind_mark else mark
        begins = record["proto"] != "tcp" or record.get("flags") == "S"
        kernel_made = record.get("type") in ANSWERS.get(record["proto"], ()) or (
            record["proto"] == "tcp" and uid == NO_UID
        )
        free = kernel_made or not begins or direction_of(story, question) == REPLY
        skb.sk = Sk(skb.uid, skb.uid, mark=skb.mark, transparent=free, has_file=not kernel_made)
    elif bind_mark:
        skb.mark = hop.before["mark"]
    return injection


def _nearest(answer: Answer, story: Story, observed: frozenset[str]) -> tuple[Leaf, Comparison]:
    """Of all that may happen, what is nearest to what did."""
    pairs = [(leaf, compare(leaf, story, observed)) for group in answer.groups() for leaf in group]
    return min(pairs, key=lambda pair: (pair[1].differing > 0, _position(pair[1]), pair[1].differing))


def _position(comparison: Comparison) -> int:
    """How far they go together, negated."""
    first = comparison.first
    return 0 if first is None else -comparison.rows.index(first)


def _pin(simulator: Simulator, leaf: Leaf, story: Story) -> None:
    """The world that happened is the one that later packets meet."""
    for key, value in leaf.packet.items():
        seen = story.packet.get(key)
        if isinstance(value, Drawn) and isinstance(seen, int):
            conntrack.pin(leaf.state, value, seen)
    simulator.worlds = [(1.0, leaf.state)]


def direction_of(story: Story, question: Question | None) -> str:
    """By the entry; without one, by the addresses of the question."""
    for hop in story.hops:
        if hop.conntrack is not None:
            return REPLY if hop.conntrack.get("reply_direction") else REQUEST
    head = story.hops[0].before if story.hops else {}
    back = (
        question is not None and head.get("src") == question.packet["dst"] and head.get("dst") != question.packet["dst"]
    )
    return REPLY if back else REQUEST
