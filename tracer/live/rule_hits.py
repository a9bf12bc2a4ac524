"""Which rules each packet really met, as evidence for ``confirm``: rows of the comparison, and what a bundle keeps.

    with watching(rules) ...: rules.hits(story)      # rule_steps.Rules; a HopRules for each hop, None: not traced there
    evidence = Evidence("trace", lost, {story.number: story.hits})
    rule_rows(hop, hits)                             # (hook, table, predicted, observed, verdict, where) of one hop

Without --allow-changes nothing tells of single packets; then the counters of the rules are compared with how often the
prediction of the packets that were seen has each rule match. A counter that rose by more says nothing: others send too.

Rules are told apart by table, chain and text, so two rules of one text in one chain are one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ...sim.model.result import Hop, Step

if TYPE_CHECKING:
    from .story import Story

SAME, DIFFERS, NOT_OBSERVED, MORE = "same", "differs", "not observed", "more"
NFTRACE, NFLOG = "nftrace", "nflog"
NATIVE = "nft"
FIELDS = ("hook", "stage", "table", "family", "chain", "rule", "handle", "text", "verdict", "backend", "target", "note")
RAW = frozenset(("raw",))  # before conntrack: a reply that only its entry tells is not marked yet


class HopRules(NamedTuple):
    """Of one pass through one host: the rules in order; ``sure``: the tracers that had the packet marked, so that what
    they did not tell did not happen."""

    steps: tuple[Step, ...]
    sure: frozenset[str]


class Count(NamedTuple):
    """How often the rule matched by the prediction of what was seen, and by how much its counter rose."""

    host: str
    table: str
    chain: str
    text: str
    predicted: int
    rose: int

    @property
    def verdict(self) -> str:
        if self.rose == self.predicted:
            return SAME
        return DIFFERS if self.rose < self.predicted else MORE

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "verdict": self.verdict}


class Rise(NamedTuple):
    """A counter that went up."""

    host: str
    table: str
    chain: str
    text: str
    packets: int


@dataclass
class Evidence:
    """``how``: trace (exact) or counters. ``lost``: messages about rules that were lost or never made."""

    how: str
    lost: int = 0
    stories: dict[int, list[HopRules | None]] = field(default_factory=dict)
    rises: list[Rise] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)

    def into(self, stories: Iterable[Story]) -> None:
        """Each story gets what was seen of it."""
        for story in stories:
            story.hits, story.rules_lost = self.stories.get(story.number), bool(self.lost)

    def to_json(self) -> dict[str, Any]:
        return {
            "how": self.how, "lost": self.lost, "hosts": self.hosts, "rises": [list(r) for r in self.rises],
            "stories": {str(n): [_hop_json(h) for h in hops] for n, hops in self.stories.items()},
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Evidence:
        """Raises ValueError, KeyError, TypeError or AttributeError for what to_json() did not write."""
        rises = [Rise(str(h), str(t), str(c), str(x), int(n)) for h, t, c, x, n in data["rises"]]
        stories = {int(n): [_hop_of(h) for h in hops] for n, hops in data["stories"].items()}
        return cls(str(data["how"]), int(data["lost"]), stories, rises, [str(h) for h in data["hosts"]])


def _hop_json(hop: HopRules | None) -> Any:
    if hop is None:
        return None
    return {"steps": [{k: getattr(s, k) for k in FIELDS} for s in hop.steps], "sure": sorted(hop.sure)}


def _hop_of(data: Any) -> HopRules | None:
    if data is None:
        return None
    steps = []
    for item in data["steps"]:
        told: dict[str, Any] = {
            k: None if item[k] is None else str(item[k]) for k in FIELDS if k not in ("rule", "handle")
        }
        told |= {k: None if item[k] is None else int(item[k]) for k in ("rule", "handle")}
        stage = told.pop("stage") or ""
        steps.append(Step(told.pop("hook"), stage, matched=True, **told))
    return HopRules(tuple(steps), frozenset(map(str, data["sure"])))


# ------------------------------------------------------------------------------------------------- comparing


class RuleRow(NamedTuple):
    """One table at one hook."""

    hook: str
    table: str
    predicted: str
    observed: str
    verdict: str
    where: str | None


def rule_rows(hop: Hop, seen: HopRules, reply: bool, lost: bool) -> Iterator[RuleRow]:
    """``reply``: the packet may have been known by its entry only. ``lost``: messages about rules were lost."""
    theirs, mine = _by_table(hop.steps), _by_table(seen.steps)
    for place in dict.fromkeys((*theirs, *mine)):
        hook, table = place
        one, other = theirs.get(place, []), mine.get(place, [])
        same = [_key(s) for s in one] == [_key(s) for s in other]
        if same:
            verdict = SAME
        elif any(s.backend == NATIVE for s in other):
            verdict = NOT_OBSERVED  # native rules are not predicted
        else:
            tracers = {NFLOG if s.backend == "legacy" else NFTRACE for s in (*one, *other)}
            blind = lost or not tracers <= seen.sure or (reply and table in RAW)
            verdict = NOT_OBSERVED if blind and len(other) < len(one) else DIFFERS
        where = next((str(s.where) for s in one if s.where), None)
        empty = "not seen" if verdict == NOT_OBSERVED else "none"
        yield RuleRow(hook, table, _words(one) or "none", _words(other) or empty, verdict, where)


def _by_table(steps: Iterable[Step]) -> dict[tuple[str, str], list[Step]]:
    found: dict[tuple[str, str], list[Step]] = {}
    for step in steps:
        if step.rule and step.matched and step.hook and step.table:
            found.setdefault((step.hook, step.table), []).append(step)
    return found


def _key(step: Step) -> tuple[str | None, str]:
    return step.chain, " ".join((step.text or "").split())


def _words(steps: Sequence[Step]) -> str:
    return "; ".join(f"{s.chain} {s.rule}: {s.text or 'a rule of nft'}" for s in steps)


# ------------------------------------------------------------------------------------------------- counters


def counted(evidence: Evidence, predicted: Iterable[Hop]) -> list[Count]:
    """Every rule that the prediction has match, or whose counter rose, on the hosts whose counters were read."""
    mine: Counter[tuple[str, str, str, str]] = Counter()
    for hop in predicted:
        for step in hop.steps:
            if step.rule and step.matched and step.table and hop.host in evidence.hosts and step.backend != NATIVE:
                mine[hop.host, step.table, *_named(step)] += 1
    rose: Counter[tuple[str, str, str, str]] = Counter()
    for rise in evidence.rises:
        rose[rise.host, rise.table, rise.chain, " ".join(rise.text.split())] += rise.packets
    return [Count(*key, mine[key], rose[key]) for key in dict.fromkeys((*mine, *rose))]


def _named(step: Step) -> tuple[str, str]:
    chain, text = _key(step)
    return chain or "", text
