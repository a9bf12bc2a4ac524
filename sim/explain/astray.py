"""Flows that arrive and still are not what anybody can have meant: each finding is an obstacle like a drop.

The packet was delivered or left, but a rule did to it what its author cannot have wanted: a mark that a routing rule waits
for comes too late, a DNAT without any place takes traffic to the world, a proxy's requests come back to itself, a
rerouted packet carries the address of the uplink it does not use.
"""

from __future__ import annotations

from ..model.addr import format_addr, parse_addr
from ..model.result import Hop, Step
from ..model.world import Host
from .trial import FORWARD, Obstacle, Trial


def astray(trial: Trial) -> Obstacle | None:
    """The obstacle of a flow that arrives somewhere, or None."""
    if trial.leaf.outcome not in ("delivered", "left"):
        return None
    for judge in (_late_mark, _redirected_to_itself, _taken_away, _foreign_uplink, _past_the_proxy):
        found = judge(trial)
        if found is not None:
            return found
    return None


def late_mark(trial: Trial) -> tuple[int, int, Step, str] | None:
    """(hop, step, the step, rule's words) of a mark that a routing rule waits for, set where no routing follows."""
    for index, hop in enumerate(trial.leaf.hops):
        rules = [r for r in trial.world.hosts[hop.host].rules.get(trial.question.family, ()) if r.fwmark is not None]
        for i, step in enumerate(hop.steps):
            late = step.hook in ("FORWARD", "POSTROUTING", "INPUT") or (
                step.hook == "OUTPUT" and step.table != "mangle"
            )
            if not late or "mark" not in step.changes:
                continue
            mark = int(step.changes["mark"][1] or 0)
            rule = next((r for r in rules if r.fwmark is not None and (mark ^ r.fwmark) & r.fwmask == 0), None)
            if rule is not None:
                return index, i, step, f"rule {rule.priority} ({rule.text})"
    return None


def _late_mark(trial: Trial) -> Obstacle | None:
    found = late_mark(trial)
    if found is None:
        return None
    index, _, step, rule = found
    text = f"the mark that {rule} waits for is set after routing"
    return Obstacle("mark_too_late", FORWARD, trial.leaf.hops[index].host, text, step.where)


def _redirected_to_itself(trial: Trial) -> Obstacle | None:
    """A local connection that nat OUTPUT turns round to a listener of the user who made it."""
    leaf = trial.leaf
    uid = trial.question.packet.get("uid")
    if (
        leaf.outcome != "delivered"
        or trial.asked.in_dev is not None
        or uid is None
        or leaf.at["host"] != trial.asked.host
    ):
        return None
    step = _rewriting(leaf.hops[0], "dst", "OUTPUT")
    socket = getattr(leaf.arrival[2], "socket", None)
    if step is None or socket is None or socket.uid != uid or socket.state not in ("LISTEN", "UNCONN"):
        return None
    text = (
        f"{step.table} {step.chain} {step.rule} ({step.target}) sends what uid {uid} sends to a socket of uid {uid} itself: "
        "a proxy that is redirected so asks itself for ever"
    )
    return Obstacle("proxy_redirects_itself", FORWARD, trial.asked.host, text, step.where)


def _taken_away(trial: Trial) -> Obstacle | None:
    """A DNAT rule without address and interface took a flow whose destination is nobody's here."""
    asked = parse_addr(trial.question.packet["dst"])
    if any((a.family, a.local) == asked for h in trial.world.hosts.values() for a in h.addresses):
        return None
    for hop in trial.leaf.hops:
        step = _rewriting(hop, "dst", "PREROUTING")
        if step is None or step.target != "DNAT" or step.changes["dst"][0] != trial.question.packet["dst"]:
            continue
        if any(w in ("-d", "-i", "--dst-type", "--match-set", "--dst-range") for w in _words_on_the_way(hop, step)):
            continue
        text = (
            f"{step.table} {step.chain} {step.rule} has neither -d nor -i: it takes what is meant for "
            f"{format_addr(*asked)} as well"
        )
        return Obstacle("dnat_too_wide", FORWARD, hop.host, text, step.where)
    return None


def _words_on_the_way(hop: Hop, step: Step) -> list[str]:
    """The words of a rule and of the jumps that led to its chain: what they ask for, the rule need not repeat."""
    words = (step.text or "").split()
    chain = step.chain
    for before in reversed(hop.steps[: hop.steps.index(step)]):
        text = (before.text or "").split()
        jumps = before.verdict in ("JUMP", "GOTO") and (before.table, before.hook) == (step.table, step.hook)
        if jumps and chain == text[-1]:
            words += text
            chain = before.chain
    return words


def _rewriting(hop: Hop, key: str, hook: str) -> Step | None:
    return next((s for s in hop.steps if key in s.changes and s.hook == hook and s.table == "nat" and s.rule), None)


def _foreign_uplink(trial: Trial) -> Obstacle | None:
    """A local packet whose source routing chose, rerouted to an interface that does not have this address."""
    leaf = trial.leaf
    if trial.asked.in_dev is not None or trial.question.packet.get("src") is not None or leaf.outcome != "left":
        return None
    hop = leaf.hops[0]
    rerouted = next((s for s in hop.steps if s.stage == "rerouting"), None)
    source = str(hop.after.get("src"))
    if rerouted is None or len(leaf.hops) > 1 or source != hop.before.get("src"):
        return None
    host = trial.world.hosts[hop.host]
    owner = _device_of(host, source)
    if owner is None or owner in (hop.out_dev, "lo"):
        return None
    text = (
        f"{source} belongs to {owner} and was chosen by the first routing decision; rerouting changed the way to "
        f"{hop.out_dev}, never the address: answers come back by {owner}, if at all"
    )
    return Obstacle("source_chosen_before_rerouting", FORWARD, hop.host, text, rerouted.where)


def _past_the_proxy(trial: Trial) -> Obstacle | None:
    """TPROXY found its socket, but routing took the packet on: only a local route brings it there."""
    for hop in trial.leaf.hops:
        step = next((s for s in hop.steps if s.target == "TPROXY" and s.matched and s.verdict == "ACCEPT"), None)
        if step is None or hop.out_dev is None:
            continue
        text = (
            f"{step.table} {step.chain} {step.rule} (TPROXY) gives the packet to a socket of {hop.host} and marks it, but no "
            f"policy rule leads that mark to a local route: it is forwarded by {hop.out_dev}, past the proxy"
        )
        return Obstacle("tproxy_without_route", FORWARD, hop.host, text, step.where)
    return None


def _device_of(host: Host, address: str) -> str | None:
    wanted = parse_addr(address)
    return next((a.dev for a in host.addresses if (a.family, a.local) == wanted), None)
