"""Fixes: candidates applied to a copy of the world and simulated there and back; only what works is offered.

The search goes obstacle by obstacle: a change that gets the flow farther, but not home, is kept and the next
obstacle's candidates are added to it. Where no single change of the usual ones is enough, every other single change that
could bear on the flow is tried before two are combined, so that nothing smaller would do than what is offered. Known
remedies that fail are kept too, as failing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from ..errors import NattraceError
from ..flow import Question
from ..model.drawn import Drawn
from ..record import dataclass, field
from .candidates import Candidate, candidates
from .full import DeleteGroup
from .goal import Goal
from .levers import levers
from .onlink import stranger
from .parts import FAILS, FORWARD_ONLY, SAMPLE, WORKS
from .paste import WAIT, persistent, rollback
from .sample import flows, outcome, side_effects
from .stale import hit_words
from .toward import toward
from .trial import FORWARD, Trial, attempt, progress
from .whatif import ConntrackDelete, Edit, apply_all

MAX_TRIALS = 64  # worlds tried per question, of the usual remedies
MAX_SWEEP = 2000  # single changes tried where those are not enough by themselves
PATIENCE = 0.8  # seconds of CPU time for all of it; what was not tried by then is not tried
BEYOND = 0.15  # of these, for pairs of which neither half is usual, once no single change was found to be enough
MAX_SECOND = 6  # single changes that get the flow farther, on top of which every other one is tried
ENOUGH = 3  # single changes that work: more would only be variants
MAX_DEPTH = 4  # obstacles overcome in a row
OFFERED, FAILING = 4, 3


@dataclass(slots=True)
class Fix:
    """A change that was tried. ``rough``: passes on which a reply was no part of its connection.

    ``unlikely``: guesses in the change, and hosts that would send the packet back where it came from.
    """

    edits: tuple[Edit, ...]
    trial: Trial
    result: str
    text: str
    rough: int = 0
    unlikely: int = 0
    bypassed: int = 0  # hosts that the packet does not come by any more
    side_effects: list[str] = field(default_factory=list)
    flows_sampled: int = 0
    also_cured: int = 0
    lab: dict[str, Any] | None = None  # what the real kernel said, where it was asked

    @property
    def hosts(self) -> list[str]:
        return list(dict.fromkeys(e.host for e in self.edits))

    def steps(self) -> list[tuple[str, str]]:
        """(host, command) in order."""
        return [(e.host, command) for e in self.edits for command in e.commands()]

    def to_json(self) -> dict[str, Any]:
        several = len(self.hosts) > 1
        commands = [f"ip netns exec {host} {command}" if several else command for host, command in self.steps()]
        return {
            "host": None if several else self.hosts[0],
            "commands": commands,
            "steps": [{"host": host, "command": command} for host, command in self.steps()],
            "result": self.result,
            "text": self.text,
            "forward": self.trial.leaf.outcome,
            "reply": self.trial.back.outcome if self.trial.back is not None else None,
            "side_effects": self.side_effects,
            "flows_sampled": self.flows_sampled,
            "also_cured": self.also_cured,
            "persistent": persistent(self.edits),
            "rollback": [{"host": host, "script": script} for host, script in self.scripts()],
            "lab": self.lab,
        }

    def scripts(self, wait: int = WAIT) -> list[tuple[str, str]]:
        """(host, script that applies its part and takes it back unless confirmed)."""
        return [(host, rollback([e for e in self.edits if e.host == host], wait)) for host in self.hosts]


def find_fixes(trial: Trial, sample: int = SAMPLE, goal: Goal | None = None) -> list[Fix]:
    """Changes that reach the goal (without one: the flow works both ways), best first, then known remedies that do not."""
    goal = goal or Goal()
    if goal.reached(trial):
        return []
    search = Search(trial, goal)
    found, failing = search.run()
    plain = {tuple(command for _, command in f.steps()) for f in found}
    found = [f for f in found if not _only_stronger(f, plain)]
    found.sort(key=_rank)
    offered = found[:OFFERED]
    shortest = min(found, key=lambda f: len(f.edits), default=None)
    if shortest is not None and all(len(f.edits) > len(shortest.edits) for f in offered):
        offered[-1] = shortest  # a cleaner change comes first, but that a smaller one exists is not kept back
    if offered and sample:
        base = [outcome(trial.world, q) for q in flows(trial.world, trial.question, sample)]
        for fix in offered[:3]:
            fix.side_effects, fix.also_cured = side_effects(base, fix.trial.world, fix.edits, trial.world)
            fix.flows_sampled = len(base)
        offered[:3] = sorted(offered[:3], key=lambda f: (_rank(f)[:2], len(f.side_effects), _rank(f)))
    failing.sort(key=lambda f: (f.result != FORWARD_ONLY, len(f.edits)))
    return offered + failing[:FAILING]


def _only_stronger(fix: Fix, plain: set[tuple[str, ...]]) -> bool:
    """The same routes in table local, which is asked first, although the main table was enough."""
    commands = tuple(command for _, command in fix.steps())
    return (weaker := tuple(c.replace(" table local", "") for c in commands)) != commands and weaker in plain


def _weight(fix: Fix) -> int:
    """Commands, and one more for each that opens more than the flow needs; three for each that relies on proxy ARP."""
    heavy = {" -D ": 1, " -P ": 2, "rp_filter=0": 1, " route del ": 1, " rule del ": 1, " table local": 1}
    opened = sum(cost for _, command in fix.steps() for word, cost in heavy.items() if word in command)
    hoped = 3 * sum(1 for e in fix.edits if stranger(fix.trial.world, e))
    return len(fix.edits) + opened + hoped + bool(fix.bypassed) + bool(_id_changed(fix.trial))


def _rank(fix: Fix) -> tuple[int, int, int, int]:
    return (_weight(fix) + 4 * min(fix.rough, 1), fix.unlikely, fix.rough, len(fix.hosts))


Place = tuple[tuple[Edit, ...], Trial, str]  # what was changed so far, where that leads, what it rests on


class Search:
    """One question: worlds tried, what works, and the known remedies that do not."""

    def __init__(self, trial: Trial, goal: Goal) -> None:
        self.trial, self.goal = trial, goal
        self.works: list[Fix] = []
        self.failing: list[Fix] = []
        self.queue: deque[Place] = deque()
        self.tried: set[tuple[Edit, ...]] = set()
        self.budget = MAX_TRIALS
        self.until = time.process_time() + PATIENCE

    def run(self) -> tuple[list[Fix], list[Fix]]:
        """(what works, known remedies that do not)."""
        start: Place = ((), self.trial, "")
        self.expand(start, self.usual(self.trial))
        onward: list[Place] = []
        if not any(len(f.edits) == 1 for f in self.works):
            onward = self.sweep(start)
        self.budget = max(self.budget, MAX_TRIALS // 2)
        self.until = max(self.until, time.process_time() + BEYOND)  # the usual pairs are tried on a slow machine too
        self.drain()
        if not self.works:  # nothing usual is enough on top of anything usual
            self.queue += onward
            self.drain()
        self.until = min(self.until, time.process_time() + BEYOND)
        for place in onward:
            if not self.works:
                self.sweep(place)
        best = min(self.works, key=_rank, default=None)
        begun = best.edits if best is not None else ()
        failing = [f for f in self.failing if not (f.edits == begun[: len(f.edits)] and len(begun) > len(f.edits))]
        return self.works, failing

    def drain(self) -> None:
        """Go on from everything that got the flow farther, as long as it may lead to something smaller."""
        while self.queue:
            place = self.queue.popleft()
            most = min((_weight(f) for f in self.works), default=MAX_DEPTH)
            if len(place[0]) < min(most, MAX_DEPTH) and time.process_time() < self.until:
                self.expand(place, self.usual(place[1]))

    def usual(self, here: Trial) -> list[Candidate]:
        """What helps against the obstacle, and what leads to the expectation."""
        found = [] if self.goal.stops else candidates(here)
        return [*toward(self.goal, here), *found] if self.goal.texts else found

    def expand(self, place: Place, options: Iterable[Candidate]) -> None:
        """Try each option on top of what a place has changed; queue what gets the flow farther."""
        done, here, guess = place
        for candidate in options:
            if self.budget <= 0 or (done and time.process_time() > self.until):
                return
            fix = self.attempt(place, candidate)
            if fix is None:
                continue
            self.budget -= 1
            if fix.result == WORKS:
                continue
            if not done and candidate.known:
                self.failing.append(fix)
            if self.farther(fix, here):
                self.queue.append((fix.edits, fix.trial, candidate.guess or guess))

    def sweep(self, place: Place) -> list[Place]:
        """Every single change on top of a place; returns what got the flow farther, the likeliest first.

        Once some changes work, the rest would only be variants of them.
        """
        budget, farther = MAX_SWEEP, []
        for candidate in levers(place[1]):
            enough = sum(1 for f in self.works if len(f.edits) <= len(place[0]) + 1) >= ENOUGH
            if budget <= 0 or enough or time.process_time() > self.until:
                break
            fix = self.attempt(place, candidate)
            budget -= fix is not None
            if fix is not None and fix.result != WORKS and self.farther(fix, place[1]):
                farther.append((candidate.unlikely + fix.bypassed, (fix.edits, fix.trial, candidate.guess)))
        known = {p[0] for p in self.queue}
        return [p for _, p in sorted(farther, key=lambda pair: pair[0]) if p[0] not in known][:MAX_SECOND]

    def attempt(self, place: Place, candidate: Candidate) -> Fix | None:
        """A candidate tried on top of what a place has changed; None: tried before, or not possible."""
        done, here, guess = place
        edits = (*done, *candidate.edits)
        if edits in self.tried:
            return None
        self.tried.add(edits)
        fix = _try(self.trial, here, edits, candidate._replace(guess=candidate.guess or guess), self.goal)
        if fix is not None and fix.result == WORKS and all(set(fix.edits) != set(w.edits) for w in self.works):
            self.works.append(fix)  # not the same changes in another order
        return fix

    def farther(self, fix: Fix, here: Trial) -> bool:
        """Whether a change brings the flow nearer to the goal: past the obstacle, if only to the next one behind it."""
        nearer = self.goal.met(fix.trial, fix.edits) > self.goal.met(here)
        if fix.trial.leaf.outcome == "looped" != here.leaf.outcome:
            return nearer  # however many hosts it passes, it comes back to where it was
        if nearer or self.goal.stops or fix.trial.obstacle is None or here.obstacle is None:
            return nearer or (not self.goal.stops and progress(fix.trial) > progress(here))
        another = fix.trial.obstacle.code != here.obstacle.code
        return progress(fix.trial) > progress(here) or (another and progress(fix.trial) == progress(here))


def _try(original: Trial, here: Trial, edits: tuple[Edit, ...], candidate: Candidate, goal: Goal) -> Fix | None:
    try:
        world = apply_all(here.world, candidate.edits)
        if world is here.world:
            return None
        trial = attempt(world, candidate.ask or original.question)
    except NattraceError:
        return None
    result = goal.judge(trial, original, edits)
    text = describe(trial)
    if candidate.ask is not None:
        result, text = _judged_later(trial, candidate.ask, here)
    if result == FAILS and trial.leaf.outcome == original.leaf.outcome and trial.leaf.reason == original.leaf.reason:
        text = f"still {text}"
    elif result == FAILS and progress(trial) > progress(original):
        text = f"gets farther, but {text}"
    deleted = [e for e in candidate.edits if isinstance(e, ConntrackDelete)]
    if deleted and result == WORKS:
        text += hit_words(sum(e.hits(here.world) for e in deleted) - len(deleted))
    if result == WORKS:
        text += "".join(f", {e.words(here.world)}" for e in candidate.edits if isinstance(e, DeleteGroup))
    if guesses := [g for g in (candidate.guess, *(stranger(here.world, e) for e in edits)) if g]:
        text = f"{' and '.join(dict.fromkeys(guesses))}, {text}"
    hairpins = sum(1 for h in trial.leaf.hops if h.in_dev is not None and h.in_dev == h.out_dev)
    bypassed = {h.host for h in original.leaf.hops} - {h.host for h in trial.leaf.hops}
    left_out = len(bypassed) if original.leaf.outcome != "looped" and trial.leaf.outcome in ("left", "delivered") else 0
    return Fix(edits, trial, result, text, _roughness(trial), candidate.unlikely + hairpins, left_out)


def _roughness(trial: Trial) -> int:
    hops = trial.back.hops if trial.back is not None else []
    states = [s.conntrack or "" for h in hops for s in h.steps if s.stage == "conntrack"]
    return sum(1 for s in states if s.startswith(("INVALID", "NEW")))


def describe(trial: Trial) -> str:
    """What re-simulation said, in a line."""
    leaf, back = trial.leaf, trial.back
    p = leaf.packet
    if leaf.outcome == "left":
        first = f"leaves as {p['src']}"
        if p["dst"] != trial.question.packet["dst"]:
            first += f" → {p['dst']}"
        first += _id_changed(trial)
    elif leaf.outcome == "delivered":
        first = f"delivered at {leaf.at['host']}"
    else:
        return f"{leaf.outcome.replace('_', ' ')}: {leaf.reason.text}"
    if trial.obstacle is not None and trial.obstacle.phase == FORWARD:
        return f"{first}; {trial.obstacle.text}"
    if back is None:
        return first
    if trial.obstacle is not None:
        return f"{first}, but {trial.obstacle.text}"
    home = f"reaches {back.at.get('host')}" if back.outcome == "delivered" else f"leaves by {back.at.get('interface')}"
    rough = _roughness(trial)
    tail = f", although conntrack takes it for {_taken_for(trial)} on the way" if rough else ""
    return f"{first}, reply {home}{tail}"


def _taken_for(trial: Trial) -> str:
    states = (
        [s.conntrack or "" for h in trial.back.hops for s in h.steps if s.stage == "conntrack"] if trial.back else []
    )
    return "INVALID" if any(s.startswith("INVALID") for s in states) else "NEW"


def _id_changed(trial: Trial) -> str:
    key = "icmp_id" if "icmp_id" in trial.leaf.packet else "sport"
    asked = trial.asked.skb.icmp_id if key == "icmp_id" else trial.asked.skb.sport
    got = trial.leaf.packet.get(key)
    if got is None or got == asked:
        return ""
    what = "ICMP id" if key == "icmp_id" else "source port"
    if isinstance(got, Drawn):
        return f" ({what} drawn anew)"
    hosts = [h.host for h in trial.leaf.hops]
    holder = "the entry of the first pass holds" if any(hosts.count(h) > 1 for h in hosts) else "another entry holds"
    why = "" if isinstance(asked, Drawn) else f": {holder} {asked} already"
    return f" (its {what} becomes {got}{why})"


def _judged_later(trial: Trial, ask: Question, here: Trial) -> tuple[str, str]:
    """A change that cannot help the packet asked about, but the connections made after it: their SYN tells."""
    offered = ask.packet["mss"]
    header = int(here.question.packet.get("len") or here.leaf.arrival[1].length) - offered
    clamped = [s.changes["mss"][1] for h in trial.leaf.hops for s in h.steps if "mss" in s.changes]
    if not clamped:
        return FAILS, f"the mss {offered} of a new connection's SYN is not lowered"
    lowest = min(int(c) for c in clamped)
    if not trial.ok:
        return FAILS, f"the mss of a new connection's SYN becomes {lowest}, but {describe(trial)}"
    text = f"for new connections: the mss {offered} of their SYN becomes {lowest}"
    return WORKS, f"{text}, segments have {lowest + header} bytes at most and fit"
