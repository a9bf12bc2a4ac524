"""The one place that decided: a setting, a route, a rule, by name and by file:line, and what follows from it.

The verdict says what happened; the cause never repeats it.
"""

from __future__ import annotations

from typing import Any

from ..model.addr import format_addr
from ..model.result import Hop, Leaf, Step
from ..model.route import Route
from ..model.where import Where
from ..model.world import Host
from .full import why_full
from .trial import FORWARD, Obstacle, Trial

_MEANS = {
    "ip_forward_disabled": "{host} is no router. What is not for {host} itself ends in the routing decision, "
    "before FORWARD and nat POSTROUTING, and nobody is told",
    "forwarding_disabled_on_interface": "what comes in by {dev} is not forwarded, whatever the other interfaces say",
    "rp_filter": "a source whose way back does not lead out of {dev} is refused (of conf.all and conf.{dev} the "
    "larger value counts)",
    "bridge_hairpin_off": "a bridge sends no frame back out of the port it came in by, unless that port is in hairpin mode",
    "accept_local_off": "a source that is an address of {host} itself is refused on {dev}",
    "route_localnet_off": "127.0.0.0/8 neither enters nor leaves by {dev}",
}


def cause_of(trial: Trial, obstacle: Obstacle) -> str:
    """Place and consequence of an obstacle, in other words than the verdict's."""
    leaf = trial.leaf if obstacle.phase == FORWARD else trial.back
    host = trial.world.hosts.get(obstacle.host)
    if leaf is None or host is None or not leaf.hops:
        return obstacle.text
    hop = next((h for h in reversed(leaf.hops) if h.host == obstacle.host), leaf.hops[-1])
    make = _SPECIAL.get(obstacle.code)
    if make is not None:
        return str(make(host, hop, leaf, obstacle))
    means = _MEANS.get(obstacle.code)
    said = means.format(host=host.name, dev=hop.in_dev or hop.out_dev or "this interface") if means else ""
    place = place_of(host, hop, obstacle.where)
    if place is None:
        return f"{said} (a default: the snapshot does not set it)" if said else _in_general(obstacle.code)
    return f"{place}: {said or _in_general(obstacle.code)}"


def _in_general(code: str) -> str:
    """What a code means, in one sentence: for causes that have no words of their own here."""
    from .reasons import find

    entry = find(code)
    return entry.meaning.split(". ")[0].rstrip(".") if entry is not None else code.replace("_", " ")


def place_of(host: Host, hop: Hop, where: Where | None) -> str | None:
    """What stands at a place of the snapshot: ``net.ipv4.ip_forward=0 (host/sysctl.txt:182)``."""
    if where is None:
        return None
    for name, setting in host.sysctl.items():
        if setting.where == where:
            return f"{name}={setting.value} ({where})"
    for step in hop.steps:
        if step.where == where and step.rule:
            return rule_label(step)
    for step in reversed(hop.steps):
        if step.where == where and step.stage in ("routing", "rerouting", "neighbour"):
            return f"{step.text} ({where})"
    return str(where)


def rule_label(step: Step) -> str:
    """``nat POSTROUTING 1 (MASQUERADE, host/iptables-save.txt:6)``."""
    where = f", {step.where}" if step.where else ""
    return f"{step.table} {step.chain} {step.rule} ({step.target or 'no target'}{where})"


def _routing(hop: Hop) -> Step | None:
    return next((s for s in reversed(hop.steps) if s.stage in ("routing", "rerouting") and s.text), None)


def _no_route(host: Host, hop: Hop, leaf: Leaf, obstacle: Obstacle) -> str:
    family = leaf.arrival[1].family if leaf.arrival else 2
    have = [
        _route(r)
        for (f, table), routes in host.routes.items()
        if f == family and table not in (255, 253)
        for r in routes
    ]
    place = f" ({obstacle.where})" if obstacle.where else ""
    if not have:
        return f"the routing tables of {host.name}{place} are empty: there is not even a default route"
    shown = "; ".join(have[:3]) + (f" and {len(have) - 3} more" if len(have) > 3 else "")
    return f"the routing tables of {host.name}{place} hold {shown}: nothing for {hop.before.get('dst')}, and no default route"


def _route(route: Route) -> str:
    legs = [f"dev {n.dev}" for n in route.nexthops if n.dev]
    return " ".join(["default" if not route.prefix.plen else str(route.prefix), *legs[:1]])


def _neighbour(host: Host, hop: Hop, leaf: Leaf, obstacle: Obstacle) -> str:
    rt = getattr(leaf.arrival[1], "rt", None) if leaf.arrival else None
    dst = str(hop.after.get("dst") or hop.before.get("dst"))
    known = f"; its neighbour entry says so ({obstacle.where})" if obstacle.where else ""
    route = getattr(rt, "route", None)
    if rt is None or route is None:
        return f"{_in_general('neighbour_failed')}{known}"
    place = f" ({route.where})" if route.where else ""
    dev = hop.out_dev or getattr(rt, "dev", None)
    if rt.gateway is None:
        return (
            f"route {_route(route)}{place} makes {dst} a direct neighbour on {dev}: its owner has to answer there "
            f"for itself, and nobody does{known}"
        )
    gateway = format_addr(rt.gateway_family, rt.gateway)
    return (
        f"route {_route(route)}{place} hands the packet to the gateway {gateway} on {dev}, which does not answer{known}"
    )


def _too_big(host: Host, hop: Hop, leaf: Leaf, obstacle: Obstacle) -> str:
    rt = getattr(leaf.arrival[1], "rt", None) if leaf.arrival else None
    dev = hop.out_dev or getattr(rt, "dev", None) or getattr(getattr(rt, "leg", None), "dev", None)
    place = f" ({obstacle.where})" if obstacle.where else ""
    told = any(
        r.kind == "icmp" and (r.type, r.code) in ((3, 4), (2, 0)) and r.outcome == "delivered" for r in leaf.responses
    )
    after = (
        "the sender learns the mtu from the ICMP error and may send smaller packets from now on; where that error is "
        "filtered on the way, the connection hangs"
        if told
        else "the sender is not told: it goes on sending packets of this size"
    )
    return f"the route of {host.name}{place} leads out of {dev or 'a narrower link'}, DF forbids fragments; {after}"


def _by_rule(host: Host, hop: Hop, leaf: Leaf, obstacle: Obstacle) -> str:
    steps = [s for s in hop.steps if s.rule and s.matched and s.where == obstacle.where]
    if not steps:
        place = place_of(host, hop, obstacle.where)
        return f"{place or 'a rule'}: {_in_general(obstacle.code)}"
    before = sum(
        1 for s in hop.steps if s.matched is False and (s.table, s.chain) == (steps[-1].table, steps[-1].chain)
    )
    tail = f"; no rule before it let the packet pass ({before} did not match)" if before else ""
    return f"{rule_label(steps[-1])} is the first rule that decides about it{tail}"


def _by_policy(host: Host, hop: Hop, leaf: Leaf, obstacle: Obstacle) -> str:
    last = next((s for s in reversed(hop.steps) if s.verdict == "DROP"), None)
    place = f" ({str(obstacle.where).strip('()')})" if obstacle.where else ""
    if last is None:
        return f"the policy{place} decides: {_in_general('dropped_by_policy')}"
    tried = sum(1 for s in hop.steps if s.matched is False and (s.table, s.chain) == (last.table, last.chain))
    rules = "it has no rule that decides" if not tried else f"none of the {tried} rules it was held against matches"
    return f"{last.table} {last.chain} has policy DROP{place}: {rules.replace('the 1 rules', 'the one rule')}, so the policy does"


def _listener(host: Host, hop: Hop, leaf: Leaf, obstacle: Obstacle) -> str:
    p = leaf.packet
    known = [s for s in host.sockets or () if s.state in ("LISTEN", "UNCONN")]
    if not known:
        return f"the packet is through all hooks of {host.name}; nothing is bound to {p.get('proto')} port {p.get('dport')} there"
    file = next((s.where.file for s in known if s.where), "sockets")
    bound = f"is bound to {p.get('proto')} port {p.get('dport')}"
    return f"none of the {len(known)} listening sockets of {host.name} ({file}) {bound}"


def disguised(leaf: Leaf) -> tuple[int, int] | None:
    """(hop, step) that last changed whom the reply seems to come from."""
    for i in range(len(leaf.hops) - 1, -1, -1):
        steps = leaf.hops[i].steps
        for j in range(len(steps) - 1, -1, -1):
            if {"src", "sport"} & steps[j].changes.keys():
                return i, j
    return None


def _other_sender(host: Host, hop: Hop, leaf: Leaf, obstacle: Obstacle) -> str:
    """The reply came back changed, or by another way than the one that would restore it."""
    found = disguised(leaf)
    if leaf.outcome == "delivered" and found is not None:
        at, step = leaf.hops[found[0]].host, leaf.hops[found[0]].steps[found[1]]
        what = rule_label(step) if step.rule else f"{step.stage} {step.hook or ''}".strip()
        return f"{what} of {at} gave the reply another sender" + (f": {step.note}" if step.note else "")
    return _sent_by(host, hop, leaf, obstacle)


def _sent_by(host: Host, hop: Hop, leaf: Leaf, obstacle: Obstacle) -> str:
    step = _routing(hop)
    if step is None:
        return obstacle.text
    place = f" ({step.where})" if step.where else ""
    return f"{hop.host} decides by {step.text}{place}; the request came another way"


def _astray(host: Host, hop: Hop, leaf: Leaf, obstacle: Obstacle) -> str:
    step = _routing(hop)
    if step is None:
        return obstacle.text
    place = f" ({step.where})" if step.where else ""
    return f"{hop.host} decides by {step.text}{place}: no rule or route of it leads to {hop.after.get('dst')} inside the snapshot"


def _untranslated(host: Host, hop: Hop, leaf: Leaf, obstacle: Obstacle) -> str:
    rules = [t for t in host.tables if t.name == "nat" and "POSTROUTING" in t.chains]
    count = sum(len(t.chains["POSTROUTING"]) for t in rules)
    place = next((t.chains["POSTROUTING"].where for t in rules), None)
    have = {0: "has no rule", 1: "has one rule, which does not apply"}.get(count, f"has {count} rules, none applies")
    chain = f"nat POSTROUTING of {host.name}" + (f" ({place})" if place else "")
    return f"{chain} {have}: nothing gives {leaf.packet.get('src')} a public address"


def _full(host: Host, hop: Hop, leaf: Leaf, obstacle: Obstacle) -> str:
    return why_full(host)


_SPECIAL: dict[str, Any] = {
    "conntrack_full": _full,
    "no_route": _no_route,
    "neighbour_failed": _neighbour,
    "fragmentation_needed": _too_big,
    "dropped_by_rule": _by_rule,
    "rejected_by_rule": _by_rule,
    "dropped_by_policy": _by_policy,
    "no_listener": _listener,
    "private_source_leaves": _untranslated,
    "left_at_edge": _astray,
    "reply_bypasses_nat": _other_sender,
    "asymmetric_return": _sent_by,
    "no_return_route": _sent_by,
}
