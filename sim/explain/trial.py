"""One question tried in one world: the way there, the way back, and the first thing that goes wrong.

A :class:`Trial` holds facts of the engine; :func:`attempt` compares them with what the asker wants: that the packet
arrives (or leaves with a source that can be answered) and that the natural answer comes back to where it began.
"""

from __future__ import annotations

from typing import Any

from ..engine.play import Answer, Injection, natural_reply, play
from ..flow import Question
from ..model.addr import AF_INET, format_addr, is_loopback, is_multicast, is_private
from ..model.drawn import Drawn
from ..model.result import Hop, Leaf, Step
from ..model.where import Where
from ..model.world import World
from ..record import NamedTuple, dataclass

FORWARD, REPLY = "forward", "reply"


class Obstacle(NamedTuple):
    """What stops the flow. ``phase``: forward or reply; ``code``: reason or diagnosis code; ``host``: where."""

    code: str
    phase: str
    host: str
    text: str
    where: Where | None = None


@dataclass(slots=True)
class Trial:
    """Facts of both directions. ``reply`` None: nothing answers (or nothing arrived that could be answered)."""

    world: World
    question: Question
    asked: Injection
    forward: Answer
    reply: Answer | None = None
    reply_asked: Injection | None = None
    obstacle: Obstacle | None = None

    @property
    def leaf(self) -> Leaf:
        return self.forward.main

    @property
    def back(self) -> Leaf | None:
        return self.reply.main if self.reply is not None else None

    @property
    def forward_ok(self) -> bool:
        return self.obstacle is None or self.obstacle.phase == REPLY

    @property
    def ok(self) -> bool:
        return self.obstacle is None

    @property
    def certain(self) -> bool:
        """Whether every possible world was played and ends alike."""
        whole = self.forward.complete and len(self.forward.groups()) == 1
        return whole and (self.reply is None or (self.reply.complete and len(self.reply.groups()) == 1))


def attempt(world: World, question: Question, verbose: bool = False) -> Trial:
    """Play the question and, from where it ended, its natural answer."""
    world = question.prepare(world)
    state, injection = question.start(world)
    trial = Trial(world, question, injection, play(world, state, injection, verbose))
    leaf = trial.leaf
    trial.obstacle = judge_forward(trial)
    if trial.obstacle is None:
        from .astray import astray

        trial.obstacle = astray(trial)
    back = natural_reply(world, leaf) if trial.obstacle is None else None
    if back is not None:
        trial.reply_asked = back
        trial.reply = play(world, leaf.state, back, verbose)
        trial.obstacle = _judge_reply(trial)
    return trial


# ---------------------------------------------------------------------------------------------- judging


def judge_forward(trial: Trial) -> Obstacle | None:
    """The obstacle on the way there; None when the packet arrives, or leaves in a form that can be answered."""
    leaf = trial.leaf
    host = str(leaf.at.get("host"))
    if leaf.outcome in ("queued", "stolen"):
        return None
    if leaf.outcome == "delivered":
        if leaf.reason.code == "no_listener":
            return Obstacle("no_listener", FORWARD, host, leaf.reason.text, leaf.reason.where)
    elif leaf.outcome == "left":
        unanswerable = source_lost(trial.world, leaf)
        if unanswerable is not None:
            return unanswerable
    else:
        return Obstacle(leaf.reason.code, FORWARD, host, leaf.reason.text, leaf.reason.where)
    return None


def source_lost(world: World, leaf: Leaf) -> Obstacle | None:
    """Whether the outside can answer the source that the packet left with."""
    host_name, skb, _, dev = leaf.arrival
    family, src = skb.family, skb.src
    if is_multicast(family, skb.dst) or dev is None:
        return None
    host = world.hosts[host_name]
    owner = next(
        (h.name for h in world.hosts.values() for a in h.addresses if (a.family, a.local) == (family, skb.dst)), None
    )
    if owner is not None:
        text = (
            f"leaves the known world, although {owner} has {format_addr(family, skb.dst)}: this way does not lead there"
        )
        return Obstacle("left_at_edge", FORWARD, host_name, text, leaf.reason.where)
    on_link = [a for a in host.addresses if a.dev == dev and a.family == family]
    if any(
        a.local == src
        for h in world.hosts.values()
        for a in h.addresses
        if a.family == family and (h is host or _on(world, h, host, dev))
    ):
        return None
    source = format_addr(family, src)
    if any(src in a.network and a.plen < (32 if family == AF_INET else 128) for a in on_link):
        translated = _was_translated(leaf)
        if translated is None or _proxied(host, dev, src):
            return None
        text = f"{source} lies in the network of {dev}, but no host has it: nobody answers the neighbour request for the reply"
        return Obstacle("source_not_owned", FORWARD, host_name, text, translated.where)
    if is_loopback(family, src):
        return Obstacle("private_source_leaves", FORWARD, host_name, f"{source} never comes back from a network")
    inside = _known_elsewhere(world, host_name, dev, family, src)
    outside_private = bool(on_link) and all(is_private(family, a.local) for a in on_link)
    if is_private(family, skb.dst) or is_multicast(family, skb.dst):
        return None  # within somebody's private network: routes back may well exist
    if is_private(family, src):
        text = f"a private source on the uplink gets no answer: the internet does not route {source}"
        return Obstacle("private_source_leaves", FORWARD, host_name, text)
    if inside and outside_private:
        text = f"{source} is known only behind {host_name}; what lies beyond {dev} has no way back to it"
        return Obstacle("private_source_leaves", FORWARD, host_name, text)
    return None


def _on(world: World, other: Any, host: Any, dev: str) -> bool:
    """Whether another host sits on the segment of the interface."""
    segment = world.segment_of(host.name, dev)
    return segment is not None and any(p.host == other.name for p in segment.members)


def _proxied(host: Any, dev: str, addr: int) -> bool:
    return any(n.proxy and n.dev == dev and n.addr == addr for n in host.neighbours)


def _known_elsewhere(world: World, host_name: str, dev: str, family: int, addr: int) -> bool:
    return any(
        addr in a.network and (h.name, a.dev) != (host_name, dev)
        for h in world.hosts.values()
        for a in h.addresses
        if a.family == family
    )


def _was_translated(leaf: Leaf) -> Step | None:
    """The step that changed the source, if one did."""
    for hop in reversed(leaf.hops):
        for step in reversed(hop.steps):
            if "src" in step.changes:
                return step
    return None


def _judge_reply(trial: Trial) -> Obstacle | None:
    back, asked = trial.back, trial.asked
    if back is None:
        return None
    host = str(back.at.get("host"))
    if back.outcome in ("queued", "stolen"):
        return None
    if back.outcome not in ("delivered", "left"):
        return Obstacle(back.reason.code, REPLY, host, back.reason.text, back.reason.where)
    skb = back.arrival[1]
    source = _source_of(trial)
    home = (skb.dst, skb.dport if skb.has_ports else 0) == source
    place = _came_home(trial, back, home)
    if place is not None:
        return place
    want = (asked.skb.dst, asked.skb.dport if skb.has_ports else 0)
    got = (skb.src, skb.sport if skb.has_ports else 0)
    same_id = not skb.is_icmp or _same(skb.icmp_id, asked.skb.icmp_id)
    if got == want and home and same_id:
        return None
    names = [_name(skb.family, addr, port) for addr, port in (got, want)]
    if got[0] == want[0]:
        names[0] = "another port" + (" (drawn by the kernel)" if isinstance(got[1], Drawn) else f", {got[1]}")
    text = f"the reply arrives from {names[0]}, not from {names[1]}: it does not belong to the flow and is refused"
    if not same_id:
        text = "the reply arrives with another ICMP id than the request had: it does not belong to the flow"
    return Obstacle("reply_bypasses_nat", REPLY, host, text)


def _same(a: Any, b: Any) -> bool:
    return a == b


def _name(family: int, addr: int, port: Any) -> str:
    text = format_addr(family, addr)
    if isinstance(port, Drawn):
        return f"{text} (port drawn by the kernel)"
    return f"{text}:{port}" if port else text


def _source_of(trial: Trial) -> tuple[int, Any]:
    """Source address and port as the asker sent them (the address may have been chosen by routing)."""
    from ..model.addr import parse_addr

    first = trial.leaf.hops[0].before if trial.leaf.hops else {}
    skb = trial.asked.skb
    src = skb.src or (parse_addr(first["src"])[1] if first.get("src") else 0)
    return src, skb.sport if skb.has_ports else 0


def _came_home(trial: Trial, back: Leaf, home: bool) -> Obstacle | None:
    """Whether the reply ended where the request began; else the obstacle."""
    asked = trial.asked
    host, dev = str(back.at.get("host")), back.at.get("interface")
    if asked.in_dev is None:
        if back.outcome == "delivered" and host == asked.host:
            return None
    elif back.outcome == "left":
        if host == asked.host and dev == asked.in_dev:
            return None
        if host == asked.host:
            text = f"the reply leaves by {dev}, the request came in by {asked.in_dev}"
            return Obstacle("asymmetric_return", REPLY, host, text)
    elif back.outcome == "delivered" and trial.world.segment_of(asked.host, asked.in_dev) is not None and home:
        return None
    if back.outcome == "delivered":
        code = _misdelivered(trial, back)
        zone = f" of zone {(back.hops[-1].conntrack or {}).get('zone', 0)}" if code == "zone_mismatch" else ""
        text = f"the reply is found in no entry{zone} and ends at {host} itself"
        return Obstacle(code, REPLY, host, text, _delivery_where(back))
    text = f"the reply leaves by {dev} of {host} and never comes back to {asked.host}"
    return Obstacle("no_return_route" if not nat_hosts(trial) else "reply_bypasses_nat", REPLY, host, text)


def _delivery_where(back: Leaf) -> Where | None:
    steps = [s for h in back.hops for s in h.steps if s.stage == "routing" and s.where]
    return steps[-1].where if steps else None


def nat_hosts(trial: Trial) -> list[str]:
    """Hosts that translated the request, in order."""
    found = []
    for hop in trial.leaf.hops:
        if any({"src", "dst", "sport", "dport"} & s.changes.keys() for s in hop.steps) and hop.host not in found:
            found.append(hop.host)
    return found


def _misdelivered(trial: Trial, back: Leaf) -> str:
    """Delivered to the wrong host: another zone, or another way than the NAT."""
    host = str(back.at.get("host"))
    last: Hop | None = back.hops[-1] if back.hops else None
    if last is None or host not in nat_hosts(trial):
        return "reply_bypasses_nat" if nat_hosts(trial) else "no_return_route"
    conn = last.conntrack or {}
    zones = {h.conntrack.get("zone") for h in trial.leaf.hops if h.host == host and h.conntrack}
    if conn.get("state") in ("NEW", None) and len(zones | {conn.get("zone")}) > 1:
        return "zone_mismatch"
    return "reply_bypasses_nat"


def progress(trial: Trial) -> tuple[int, int, int]:
    """How far a flow gets: the phase, then the hosts passed; larger is farther."""
    if trial.obstacle is None:
        return 3, 0, 0
    if trial.obstacle.phase == REPLY:
        return 2, len(trial.back.hops) if trial.back else 0, 0
    arrived = trial.leaf.outcome in ("left", "delivered") and trial.obstacle.code not in ("no_listener", "left_at_edge")
    return int(arrived), len(trial.leaf.hops), 0
