"""Diagnosis: why the asker is unhappy with the outcome, most decisive first, each with its evidence.

A cause counts when flipping it changes the fate: codes that rest on "it would have matched" or "without this entry"
are set from passes and fixes that were simulated, not from the look of a rule set.
"""

from __future__ import annotations

from ..model.result import Hop, Leaf, Step
from ..model.rule import Miss, Rule
from ..model.where import Where
from ..model.world import World
from .cause import cause_of, disguised, rule_label
from .fixes import Fix
from .parts import DECIDED_HERE, SHOWN, WORKS, WRONG, Diagnosis, Mark, Place
from .passes import NAT_TARGETS, Pass, passes_of
from .special import specialists
from .trial import FORWARD, REPLY, Trial, nat_hosts
from .whatif import ConntrackDelete, RuleEdit


def diagnose(trial: Trial, fixes: list[Fix]) -> list[Diagnosis]:
    """All causes found, the most decisive first."""
    obstacle = trial.obstacle
    if obstacle is None:
        return []
    found: list[Diagnosis] = []
    if obstacle.phase == FORWARD and obstacle.code in ("private_source_leaves", "source_not_owned"):
        found += _untranslated(trial, fixes)
    elif obstacle.code in ("dropped_by_rule", "rejected_by_rule", "dropped_by_policy"):
        found += _refused(trial, fixes)
    elif obstacle.phase == REPLY:
        found += _no_way_back(trial)
    elif obstacle.code == "no_listener":
        found += _listener(trial)
    if all(d.code != obstacle.code for d in found):
        leaf = trial.leaf if obstacle.phase == FORWARD else trial.back
        pointed = obstacle.code == "no_listener" or any(d.places for d in found)
        place = _turn_place if obstacle.code == "asymmetric_return" else _end_place
        places = () if pointed else place(obstacle.phase, leaf)
        changed = disguised(leaf) if obstacle.code == "reply_bypasses_nat" and leaf is not None else None
        if changed is not None and leaf is not None and leaf.outcome == "delivered" and not pointed:
            places = (((obstacle.phase, *changed), WRONG),)
        text = obstacle.text if found else cause_of(trial, obstacle)
        found.append(Diagnosis(obstacle.code, text, _where(obstacle.where), places))
    if obstacle.code == "zone_mismatch":
        found = [_other_zone(trial, found[-1])]
    first = specialists(trial, fixes)
    return first + [d for d in found if all((d.code, d.evidence) != (f.code, f.evidence) for f in first)]


def _other_zone(trial: Trial, plain: Diagnosis) -> Diagnosis:
    """The request's entry is in a zone that the reply does not come by."""
    assert trial.obstacle is not None and trial.back is not None
    host = trial.obstacle.host
    zones = [h.conntrack["zone"] for h in trial.leaf.hops if h.host == host and h.conntrack]
    rules = [s for h in trial.leaf.hops if h.host == host for s in h.steps if s.matched and s.target == "CT"]
    who = f", put there by {rule_label(rules[-1])}" if rules else ""
    came = trial.back.hops[-1].in_dev
    text = (
        f"the request's connection on {host} is in conntrack zone {zones[-1] if zones else 0}{who}; "
        f"the reply comes in by {came}, which no rule puts into that zone, and conntrack looks only there"
    )
    return Diagnosis("zone_mismatch", text, _where(*(r.where for r in rules[-1:]), *plain.evidence), plain.places)


def _where(*places: Where | None) -> tuple[Where, ...]:
    return tuple(dict.fromkeys(p for p in places if p is not None))


def _end_place(phase: str, leaf: Leaf | None) -> tuple[tuple[Place, Mark], ...]:
    """The last step of the packet's way: where it stopped."""
    if leaf is None or not leaf.hops or not leaf.hops[-1].steps:
        return ()
    steps = leaf.hops[-1].steps
    stop = next(
        (
            i
            for i in range(len(steps) - 1, -1, -1)
            if steps[i].verdict not in (None, "ACCEPT") and steps[i].matched is not False
        ),
        None,
    )
    return (((phase, len(leaf.hops) - 1, len(steps) - 1 if stop is None else stop), WRONG),)


def _turn_place(phase: str, leaf: Leaf | None) -> tuple[tuple[Place, Mark], ...]:
    """The routing decision by which the packet left, where that is what was wrong with it."""
    steps = leaf.hops[-1].steps if leaf is not None and leaf.hops else []
    routed = next((i for i in range(len(steps) - 1, -1, -1) if steps[i].stage in ("routing", "rerouting")), None)
    if leaf is None or routed is None:
        return _end_place(phase, leaf)
    return (((phase, len(leaf.hops) - 1, routed), WRONG),)


# ------------------------------------------------------------------------------------------ not translated


def _untranslated(trial: Trial, fixes: list[Fix]) -> list[Diagnosis]:
    leaf = trial.leaf
    passes = passes_of(trial.world, leaf)
    last = passes[-1]
    found: list[Diagnosis] = []
    if last.skipped and last.conn_where is not None:
        found.append(_stale(trial, last, fixes))
    elif last.skipped and last.decided_at is not None:
        found.append(_decided_earlier(trial, passes, last))
    if not last.skipped:
        found += _near_misses(trial.world, last.hop, last.index, "POSTROUTING")
        found += [_unfit(trial, last, rule, miss) for rule, miss in last.unfit[:3]]
        if last.hop.conntrack is None and _tracked_host(last.hop):
            text = f"conntrack has no entry for this packet on {last.hop.host} ({_state(last.hop)}), so the nat table is skipped"
            code = "conntrack_invalid" if "INVALID" in _state(last.hop) else "chain_not_consulted"
            found.insert(0, Diagnosis(code, text))
    return found


def _tracked_host(hop: Hop) -> bool:
    return any(s.stage == "conntrack" for s in hop.steps)


def _state(hop: Hop) -> str:
    return next((s.conntrack or "" for s in hop.steps if s.stage == "conntrack"), "untracked")


def _unfit(trial: Trial, last: Pass, rule: Rule, miss: Miss) -> Diagnosis:
    text = (
        f"{_rule_name(rule)} was not consulted (the connection was decided before) and would not match anyway: {miss}"
        f"{_nobodys(trial.world, miss.criterion)}"
    )
    skipped = _step_index(last.hop, "nat", "POSTROUTING", "not consulted")
    mark = Mark("✗", "", f"{rule.rule_id.index} not consulted; it would not match: {miss}")
    places = (((FORWARD, last.index, skipped), mark),) if skipped is not None else ()
    return Diagnosis("criterion_failed", text, _where(rule.where), places)


def _nobodys(world: World, criterion: str) -> str:
    """A word about a source or destination that nothing in the snapshot has: mistyped, most likely."""
    option, _, named = criterion.partition(" ")
    if option not in ("-s", "-d"):
        return ""
    from ..model.addr import parse_prefix

    try:
        prefix = parse_prefix(named)
    except ValueError:
        return ""
    hosts = world.hosts.values()
    owned = any(a.family == prefix.family and a.local in prefix for h in hosts for a in h.addresses)
    routed = any(
        route.prefix.plen and (route.prefix.value in prefix or prefix.value in route.prefix)
        for h in hosts for (family, _), routes in h.routes.items() if family == prefix.family for route in routes
    )  # fmt: skip
    if owned or routed:
        return ""
    return f". Nothing in the snapshot has {named}, no interface and no route: is it mistyped?"


def _rule_name(rule: Rule) -> str:
    target = rule.target.name if rule.target else ""
    return f"nat {rule.rule_id.chain} {rule.rule_id.index} ({target}{', ' + str(rule.where) if rule.where else ''})"


def _step_index(hop: Hop, stage: str, hook: str, words: str) -> int | None:
    for i, step in enumerate(hop.steps):
        if step.stage == stage and step.hook == hook and step.rule is None and words in (step.note or ""):
            return i
    return None


def _decided_earlier(trial: Trial, passes: list[Pass], last: Pass) -> Diagnosis:
    assert last.decided_at is not None
    first = passes[last.decided_at]
    decided = _step_index(first.hop, "nat", "POSTROUTING", "is decided")
    confirmed = _step_index(first.hop, "confirm", "POSTROUTING", "")
    skipped = _step_index(last.hop, "nat", "POSTROUTING", "not consulted")
    zone = f"zone {last.zone}" if last.zone else "zone"
    text = (
        f"{_rule_name(last.skipped[0])} was never consulted for this packet. The flow crosses {last.hop.host} "
        f"{'twice' if last.number == 2 else f'{last.number} times'} in the same conntrack {zone}. Source NAT was decided on pass "
        f"{first.number} ({{decided}}: no rule matched → none) and fixed when the entry was confirmed ({{confirmed}}); "
        f"on pass {last.number} "
        "conntrack finds that entry, so the nat table is skipped, although --ctstate still says NEW."
    )
    here = Mark("", DECIDED_HERE, "no rule matched → source NAT: none")
    there = Mark("✗", "", f"{last.skipped[0].rule_id.index} not consulted (decided in {{decided}}); it would match")
    marks: list[tuple[Place, Mark]] = []
    for hop, step, label in ((first, decided, here), (first, confirmed, SHOWN), (last, skipped, there)):
        if step is not None:
            marks.append(((FORWARD, hop.index, step), label))
    for i, near in enumerate(first.hop.steps):
        same = (near.table, near.hook, near.rule) == ("nat", "POSTROUTING", last.skipped[0].rule_id.index)
        if same and near.matched is False:
            marks.insert(0, ((FORWARD, first.index, i), SHOWN))
    return Diagnosis(
        "nat_decided_earlier",
        text,
        _where(last.skipped[0].where, *(s.where for s in first.hop.steps if s.stage == "routing")),
        tuple(marks),
    )


def _stale(trial: Trial, last: Pass, fixes: list[Fix]) -> Diagnosis:
    cured = any(f.result == WORKS and any(isinstance(e, ConntrackDelete) for e in f.edits) for f in fixes)
    code = "stale_entry" if cured else "existing_entry"
    text = (
        f"{_rule_name(last.skipped[0])} was not consulted: the connection is in the conntrack table already "
        f"({last.conn_where}), made before this rule "
        "could decide, and only the first packet of a connection consults the nat table."
    )
    skipped = _step_index(last.hop, "nat", "POSTROUTING", "not consulted")
    places = (((FORWARD, last.index, skipped), WRONG),) if skipped is not None else ()
    return Diagnosis(code, text, _where(last.conn_where, last.skipped[0].where), places)


def _criterion(note: str | None) -> str:
    """The criterion in a near miss's note (``-s 10.0.0.1/32, but the source is …``)."""
    return (note or "").partition(", but ")[0]


def _near_misses(world: World, hop: Hop, index: int, chain: str, phase: str = FORWARD) -> list[Diagnosis]:
    """Translating rules that were consulted and did not match: the first criterion that failed."""
    found = []
    for i, step in enumerate(hop.steps):
        if step.matched is False and step.table == "nat" and step.hook == chain and step.target in NAT_TARGETS[chain]:
            code = "criterion_failed"
            if "owner" in (step.note or "") or ("-m owner" in (step.text or "") and "uid" in (step.note or "")):
                code = "owner_never_matches" if hop.in_dev is not None else code
            elif "match-set" in (step.note or ""):
                code = "set_mismatch"
            text = f"{rule_label(step)} does not match: {step.note}{_nobodys(world, _criterion(step.note))}"
            found.append(Diagnosis(code, text, _where(step.where), (((phase, index, i), WRONG),)))
    return found


# ------------------------------------------------------------------------------------------------- refused


def _refused(trial: Trial, fixes: list[Fix]) -> list[Diagnosis]:
    obstacle = trial.obstacle
    assert obstacle is not None
    leaf = trial.leaf if obstacle.phase == FORWARD else trial.back
    assert leaf is not None
    index = len(leaf.hops) - 1
    hop = leaf.hops[-1]
    end = _end_place(obstacle.phase, leaf)
    found = [Diagnosis(obstacle.code, cause_of(trial, obstacle), _where(obstacle.where), end)]
    found += _switched(trial, hop, obstacle.phase, index)
    stop = hop.steps[end[0][0][2]] if end else None
    if stop is None:
        return found
    shadowed = _shadowed(stop, index, fixes)
    if shadowed is not None:
        found.append(shadowed)
    for i, step in enumerate(hop.steps):
        near = step.matched is False and step.chain == stop.chain and step.table == stop.table and step.verdict is None
        if near and step.target == "ACCEPT":
            code = "set_mismatch" if "match-set" in (step.note or "") else "criterion_failed"
            text = f"{rule_label(step)} would have let it pass, but does not match: {step.note}"
            found.append(Diagnosis(code, text, _where(step.where), (((obstacle.phase, index, i), SHOWN),)))
    return found[:4]


def _switched(trial: Trial, hop: Hop, phase: str, index: int) -> list[Diagnosis]:
    """Nobody expects rules of FORWARD to stop what is not routed: the setting that lets them see frames."""
    number = next((i for i, step in enumerate(hop.steps) if step.stage == "bridge"), None)
    if number is None:
        return []
    setting = trial.world.hosts[hop.host].sysctl.get("net.bridge.bridge-nf-call-iptables")
    where = setting.where if setting is not None else None
    switch = f"net.bridge.bridge-nf-call-iptables=1{f' ({where})' if where else ''}"
    text = (
        f"{hop.host} does not route this packet, its bridge {hop.in_dev} switches it; rules see such frames by {switch}"
    )
    return [Diagnosis("switched_frame_filtered", text, _where(where), (((phase, index, number), SHOWN),))]


def _shadowed(stop: Step, index: int, fixes: list[Fix]) -> Diagnosis | None:
    """Without the refusing rule a later one accepts: that one is shadowed."""
    for fix in fixes:
        deletes = [e for e in fix.edits if isinstance(e, RuleEdit) and f"-D {stop.chain} {stop.rule}" in e.text]
        if not deletes or fix.trial.leaf.hops[index : index + 1] == []:
            continue
        for step in fix.trial.leaf.hops[index].steps:
            later = (
                step.chain == stop.chain
                and step.table == stop.table
                and step.rule
                and stop.rule
                and step.rule >= stop.rule
            )
            if later and step.matched and step.verdict == "ACCEPT":
                later_rule = f"{step.chain} {(step.rule or 0) + 1} ({step.text})"
                text = f"{stop.chain} {stop.rule} stands before {later_rule}, which would accept the packet"
                return Diagnosis("rule_shadowed", text, _where(stop.where, step.where))
    return None


# ------------------------------------------------------------------------------------------- the way back


def _no_way_back(trial: Trial) -> list[Diagnosis]:
    obstacle, back, asked = trial.obstacle, trial.back, trial.reply_asked
    assert obstacle is not None and back is not None and asked is not None
    end = _end_place(REPLY, back)
    natted = [h for h in nat_hosts(trial) if h != asked.host]
    bypassed = [h for h in natted if h not in {hop.host for hop in back.hops}]
    lost = obstacle.code in (
        "no_route",
        "neighbour_failed",
        "no_return_route",
        "reply_bypasses_nat",
        "ip_forward_disabled",
    )
    if not lost or obstacle.host in natted:
        return []
    found = []
    source = asked.skb.dst
    from ..model.addr import format_addr

    target = format_addr(asked.skb.family, source)
    route = next((s for s in back.hops[0].steps if s.stage == "routing"), None) if back.hops else None
    if route is not None:
        end = (((REPLY, 0, back.hops[0].steps.index(route)), WRONG),)
    leads = f" leads elsewhere ({route.text})" if route is not None and route.text else " is missing"
    if trial.leaf.outcome == "delivered" and (
        bypassed or obstacle.code in ("no_route", "neighbour_failed", "no_return_route")
    ):
        text = f"{asked.host} receives the request, but its way back to {target}{leads}: {obstacle.text}"
        if bypassed:
            text = f"no route of {asked.host} leads back over {bypassed[0]}: {obstacle.text}"
        found.append(Diagnosis("no_return_route", text, _where(route.where if route else None, obstacle.where), end))
    if bypassed:
        text = f"the reply has to pass {bypassed[0]}, which translated the request, and does not"
        if route is not None and route.text:
            place = f" ({route.where})" if route.where else ""
            text += f": {asked.host} sends it by {route.text}{place}"
        item = Diagnosis("reply_bypasses_nat", text, _where(obstacle.where), end)
        found.append(item)
    if obstacle.code == "reply_bypasses_nat":
        found.sort(key=lambda d: d.code != "reply_bypasses_nat")
    return found


def _listener(trial: Trial) -> list[Diagnosis]:
    """Somebody listens on the port, but on another address."""
    leaf = trial.leaf
    host, skb = leaf.arrival[0], leaf.arrival[1]
    for socket in trial.world.hosts[host].sockets or ():
        same = socket.proto == skb.proto and socket.lport == skb.dport and socket.state in ("LISTEN", "UNCONN")
        if same and socket.local is not None and socket.local != skb.dst:
            from ..model.addr import format_addr

            mine, asked = format_addr(socket.family, socket.local), format_addr(skb.family, skb.dst)
            text = f"{socket.process or 'a socket'} listens on {mine}:{socket.lport} only, not on {asked}"
            return [Diagnosis("listener_bound_elsewhere", text, _where(socket.where))]
    return []
