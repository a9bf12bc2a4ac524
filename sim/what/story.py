"""The flows of a capture, each with what the host must have done before and after the place of the capture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..engine.simulate import hop_json, plain, reason_json
from ..explain.answer import ends
from ..model.result import Hop, Leaf
from ..model.state import WorldState
from ..model.world import World
from ..record import dataclass, field
from .origins import origins
from .sighting import IN, Sighting, Way, enter, settle

MOST_FOLLOWED = 200  # packets of one flow that are played; the rest is counted


@dataclass(slots=True)
class Account:
    """What one or several packets of a flow and a direction went through alike.

    ``ways``: for packets seen going out, every origin that explains them (none: nothing in the snapshot does);
    for packets seen coming in, the one way that follows.
    """

    way: str
    first: Sighting
    ways: list[Way]
    numbers: list[int] = field(default_factory=list)

    def key(self) -> tuple[Any, ...]:
        return (self.way, _seen_ends(self.first), tuple(_shape(w) for w in self.ways))


@dataclass(slots=True)
class FlowStory:
    """All sightings of one flow. ``beyond``: how many were not followed."""

    first: Sighting
    accounts: list[Account] = field(default_factory=list)
    packets: int = 0
    beyond: int = 0


def stories(world: World, sightings: Iterable[Sighting]) -> list[FlowStory]:
    """Follow every packet in order; state (conntrack, counters) is carried through the whole capture."""
    state = WorldState(world)
    found: dict[Any, FlowStory] = {}
    for seen in sightings:
        story = found.setdefault(seen.flow(), FlowStory(seen))
        story.packets += 1
        if story.packets > MOST_FOLLOWED:
            story.beyond += 1
            continue
        state.now = max(state.now, seen.at)
        ways = _followed(world, state, seen)
        if ways:
            state = ways[0].leaf.state
        _add(story, Account(seen.way, seen, ways, [seen.number]))
    return list(found.values())


def _followed(world: World, state: WorldState, seen: Sighting) -> list[Way]:
    if seen.way == IN:
        from ..engine.simulate import injection_of
        from .sighting import record_of

        entry = injection_of(world, {**record_of(seen.packet), "host": seen.host, "in": seen.dev, "at": seen.at})
        leaf = enter(world, state, seen.host, seen.dev, seen.packet, seen.at)
        return [Way(entry, leaf, leaf.hops[0])]
    ways = origins(world, state, seen)
    for way in ways[:1]:
        settle(way.leaf, way.hop.after, seen.packet)
    return ways


def _add(story: FlowStory, account: Account) -> None:
    for known in story.accounts:
        if known.key() == account.key():
            known.numbers += account.numbers
            return
    story.accounts.append(account)


def _seen_ends(seen: Sighting) -> tuple[Any, ...]:
    p = seen.packet
    return (p["proto"], p["src"], p.get("sport"), p["dst"], p.get("dport"), p.get("type"))


def _shape(way: Way) -> tuple[Any, ...]:
    leaf, skb = way.leaf, way.entry.skb
    return (way.entry.in_dev, skb.src, skb.dst, leaf.outcome, tuple(leaf.at.values()), leaf.reason.code, way.any_of)


# ------------------------------------------------------------------------------------------------ words


def came(way: Way) -> str:
    """``came in by eth1 as 10.0.0.2:40000 → 1.2.3.4:443``."""
    shown = ends(way.hop.before, way.leaf.state)
    if way.any_of:
        shown = shown.replace(str(way.hop.before.get("src")), f"some host of {way.any_of}", 1)
    return (
        f"sent by {way.hop.host} itself as {shown}"
        if way.entry.in_dev is None
        else f"came in by {way.entry.in_dev} as {shown}"
    )


def went(leaf: Leaf) -> str:
    """How the packet's way ended."""
    shown = ends(leaf.packet, leaf.state)
    if leaf.outcome == "left":
        return f"leaves {leaf.at['host']} by {leaf.at['interface']} as {shown}"
    if leaf.outcome == "delivered":
        return f"is delivered to {leaf.at['host']} as {shown}"
    return f"is {leaf.outcome.replace('_', ' ')} at {leaf.at['host']}: {leaf.reason.text}"


def changes(hop: Hop, state: Any) -> list[str]:
    """``nat POSTROUTING 1 (-o eth0 -j MASQUERADE): src 10.0.0.2 → 5.5.5.5`` for every step that rewrote something."""
    found = []
    for step in hop.steps:
        parts = [
            f"{key} {plain(a, state)} → {_number(plain(b, state))}"
            for key, (a, b) in step.changes.items()
            if key in ("src", "dst", "sport", "dport", "icmp_id", "mark")
        ]
        if parts:
            rule = f"{step.table} {step.chain} {step.rule}" if step.rule else f"{step.stage} {step.hook or ''}".strip()
            text = f" ({step.text}{f', {step.where}' if step.where else ''})" if step.text and step.rule else ""
            found.append(f"{rule}{text}: {', '.join(parts)}")
    return found


def _number(value: Any) -> Any:
    if isinstance(value, dict):
        return " or ".join(f"{a}-{b}" if a != b else str(a) for a, b in value["ranges"][:3])
    return value


# ------------------------------------------------------------------------------------------------- JSON


def story_json(story: FlowStory) -> dict[str, Any]:
    """One flow of ``what --json``."""
    return {
        "flow": flow_text(story.first),
        "packets": story.packets,
        "not_followed": story.beyond,
        "accounts": [_account_json(a) for a in story.accounts],
    }


def _account_json(account: Account) -> dict[str, Any]:
    return {
        "way": account.way,
        "host": account.first.host,
        "interface": account.first.dev,
        "numbers": account.numbers,
        "seen": {k: v for k, v in account.first.packet.items() if k != "payload"},
        "explained": bool(account.ways),
        "ways": [_way_json(w) for w in account.ways],
    }


def _way_json(way: Way) -> dict[str, Any]:
    state = way.leaf.state
    return {
        "in": way.entry.in_dev,
        "any_of": way.any_of,
        "before": plain(way.hop.before, state),
        "outcome": way.leaf.outcome,
        "at": way.leaf.at,
        "after": plain(way.leaf.packet, state),
        "reason": reason_json(way.leaf.reason),
        "hops": [hop_json(h, state) for h in way.leaf.hops],
    }


def flow_text(seen: Sighting) -> str:
    """``tcp 10.0.0.2:40000 → 8.8.8.8:443``."""
    quoted = seen.packet.get("inner")
    about = " (an error about it)" if isinstance(quoted, dict) else ""
    p = quoted if isinstance(quoted, dict) else seen.packet
    return f"{p['proto']} {ends(p)}{about}"
