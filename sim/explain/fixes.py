"""Fixes: candidates applied to a copy of the world and simulated there and back; only what works is offered.

The search goes obstacle by obstacle: a change that gets the flow farther, but not home, is kept and the next
obstacle's candidates are added to it. Known remedies that fail are kept too, as failing.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from ..errors import NattraceError
from ..flow import Question
from ..model.drawn import Drawn
from ..record import dataclass, field
from .candidates import Candidate, candidates
from .parts import FAILS, FORWARD_ONLY, SAMPLE, WORKS
from .sample import flows, outcome, side_effects
from .trial import FORWARD, Trial, attempt, progress
from .whatif import Edit, apply_all

MAX_TRIALS = 32  # worlds tried per question
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
    side_effects: list[str] = field(default_factory=list)
    flows_sampled: int = 0
    also_cured: int = 0

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
        }


def find_fixes(trial: Trial, sample: int = SAMPLE) -> list[Fix]:
    """Fixes that work, best first, then known remedies that do not."""
    if trial.obstacle is None:
        return []
    found, failing = _search(trial)
    found.sort(key=_rank)
    offered = found[:OFFERED]
    if offered and sample:
        base = [outcome(trial.world, q) for q in flows(trial.world, trial.question, sample)]
        for fix in offered[:3]:
            fix.side_effects, fix.also_cured = side_effects(base, fix.trial.world, fix.edits, trial.world)
            fix.flows_sampled = len(base)
        offered[:3] = sorted(offered[:3], key=lambda f: (_rank(f)[:2], len(f.side_effects), _rank(f)))
    failing.sort(key=lambda f: (f.result != FORWARD_ONLY, len(f.edits)))
    return offered + failing[:FAILING]


def _weight(fix: Fix) -> int:
    """Commands, and one more for each that opens more than the flow needs."""
    heavy = {" -D ": 1, " -P ": 2, "rp_filter=0": 1}
    opened = sum(cost for _, command in fix.steps() for word, cost in heavy.items() if word in command)
    return len(fix.edits) + opened + bool(_id_changed(fix.trial))


def _rank(fix: Fix) -> tuple[int, int, int, int]:
    return (_weight(fix) + 4 * min(fix.rough, 1), fix.unlikely, fix.rough, len(fix.hosts))


def _search(trial: Trial) -> tuple[list[Fix], list[Fix]]:
    works: list[Fix] = []
    failing: list[Fix] = []
    queue: deque[tuple[tuple[Edit, ...], Trial, str]] = deque([((), trial, "")])
    tried: set[tuple[Edit, ...]] = set()
    budget = MAX_TRIALS
    depth_found = MAX_DEPTH
    while queue:
        done, here, guess = queue.popleft()
        depth = _depth(done, tried, trial)
        if works and len(done) >= depth_found:
            continue
        for candidate in candidates(here):
            edits = (*done, *candidate.edits)
            if edits in tried or budget <= 0:
                continue
            tried.add(edits)
            budget -= 1
            fix = _try(trial, here, edits, candidate._replace(guess=candidate.guess or guess))
            if fix is None:
                continue
            if fix.result == WORKS and any(set(fix.edits) == set(w.edits) for w in works):
                continue  # the same changes in another order
            if fix.result == WORKS:
                works.append(fix)
                depth_found = min(depth_found, _weight(fix))
            else:
                if not done and candidate.known:
                    failing.append(fix)
                if depth < MAX_DEPTH and progress(fix.trial) > progress(here):
                    queue.append((edits, fix.trial, candidate.guess or guess))
    known = [
        f
        for f in failing
        if not any(f.edits == w.edits[: len(f.edits)] and len(w.edits) > len(f.edits) for w in works[:1])
    ]
    return works, known


def _depth(done: tuple[Edit, ...], tried: set[tuple[Edit, ...]], trial: Trial) -> int:
    return sum(1 for n in range(1, len(done) + 1) if done[:n] in tried)


def _try(original: Trial, here: Trial, edits: tuple[Edit, ...], candidate: Candidate) -> Fix | None:
    try:
        world = apply_all(here.world, candidate.edits)
        if world is here.world:
            return None
        trial = attempt(world, candidate.ask or original.question)
    except NattraceError:
        return None
    result = WORKS if trial.ok else FAILS
    if not trial.ok and trial.forward_ok and original.obstacle is not None and original.obstacle.phase == FORWARD:
        result = FORWARD_ONLY
    text = describe(trial)
    if candidate.ask is not None:
        result, text = _judged_later(trial, candidate.ask, here)
    if result == FAILS and trial.leaf.outcome == original.leaf.outcome and trial.leaf.reason == original.leaf.reason:
        text = f"still {text}"
    elif result == FAILS and progress(trial) > progress(original):
        text = f"gets farther, but {text}"
    if candidate.guess:
        text = f"{candidate.guess}, {text}"
    hairpins = sum(1 for h in trial.leaf.hops if h.in_dev is not None and h.in_dev == h.out_dev)
    return Fix(edits, trial, result, text, _roughness(trial), candidate.unlikely + hairpins)


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
