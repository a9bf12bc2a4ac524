"""What is worth trying for an expectation that is not met: an end for the packet, a translation, a way out, a rule met.

As with an obstacle's candidates (:mod:`.candidates`), nothing here says that a change works: :mod:`.fixes` simulates it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import NattraceError
from ..model.addr import Prefix, format_addr, parse_addr, parse_prefix
from ..model.packet import PROTO_NAME
from ..model.result import Hop
from ..model.rule import HOOK_NUMBER, Rule
from ..model.world import Host
from .candidates import Candidate, Scene
from .candidates import _gateways as gateways
from .candidates import _translate as translate
from .expect import end_of as named_end
from .goal import Goal, target_name
from .passes import NAT_TARGETS, passes_of
from .spots import Spot, end_of, selector, spots
from .trial import FORWARD, REPLY, Obstacle, Trial
from .whatif import WHERE, ConntrackDelete, Edit, PolicyRuleEdit, RouteEdit, RuleEdit
from .whatif_ip import TABLES
from .whatif_move import RuleMove

MOST_CRITERIA = 8  # of one rule are fitted to the packet


def toward(goal: Goal, trial: Trial) -> list[Candidate]:
    """Changes worth trying for what is expected and does not happen, smallest first."""
    found: list[Candidate] = []
    for text in goal.texts:
        words = text.split()
        if goal.one(trial, text, ()):
            continue
        verb = words[0].lower().replace("-", "_")
        makers = {"snat": _translated, "dnat": _translated, "out": _leaving_by, "rule": _meeting}
        made = makers.get(verb, _ending)(goal, trial, words)
        found += [c for c in made if c not in found]
    return sorted(found, key=lambda c: (len(c.edits), c.unlikely))


def scene_of(trial: Trial, hop: Hop, phase: str = FORWARD) -> Scene:
    """A hop of a trial as the candidate makers see it."""
    leaf = trial.leaf if phase == FORWARD else trial.back
    assert leaf is not None
    return Scene(trial, Obstacle("", phase, hop.host, ""), leaf, hop, trial.world.hosts[hop.host])


_ENDS = {"dropped": "DROP", "rejected": "REJECT", "queued": "NFQUEUE"}


def _ending(goal: Goal, trial: Trial, words: list[str]) -> Iterator[Candidate]:
    """Stop the packet: one rule for the flow at each host, or a route for its destination."""
    verb = words[0].lower().replace("-", "_")
    if verb in _ENDS:
        for spot in spots(trial):
            if spot.phase == REPLY or spot.table != "filter":
                continue
            scene = scene_of(trial, spot.hop)
            place = spot.first()
            rule = f"-I {spot.chain} {f'{place} ' if place > 1 else ''}{selector(spot)} -j {_ENDS[verb]}"
            sender = spot.hop.in_dev is None  # who wants it stopped is rarely the sender
            yield Candidate((scene.rule(rule),), unlikely=int(sender))
    kind = {"dropped": "blackhole", "unreachable": "unreachable", "never_sent": "unreachable"}.get(verb)
    for hop in trial.leaf.hops if kind is not None else ():
        if verb == "never_sent" and hop.in_dev is not None:
            continue
        dst = end_of(hop)["dst"]
        yield Candidate((RouteEdit(hop.host, f"{kind} {dst}"),), unlikely=1)


def _translated(goal: Goal, trial: Trial, words: list[str]) -> Iterator[Candidate]:
    """``snat A[:P]`` or ``dnat A[:P]``: an existing rule made to apply, or one for the flow."""
    source = words[0].lower() == "snat"
    chains = ("POSTROUTING",) if source else ("PREROUTING", "OUTPUT")
    target = f"SNAT --to-source {words[1]}" if source else f"DNAT --to-destination {words[1]}"
    address, port = named_end(words[1])
    here = [s for s in spots(trial) if s.phase == FORWARD and s.table == "nat" and s.chain in chains]
    owners = {
        h.name for h in trial.world.hosts.values() for a in h.addresses if format_addr(a.family, a.local) == address
    }
    numbers = {p.index: p for p in passes_of(trial.world, trial.leaf)}
    for far, spot in enumerate(reversed(here) if source else here):
        scene = scene_of(trial, spot.hop)
        aside = far + (2 if source and owners and spot.hop.host not in owners else 0)
        done = numbers.get(trial.leaf.hops.index(spot.hop))
        free: list[tuple[Edit, ...]] = [()]
        if done is not None and done.conn_where is not None:
            free = [(ConntrackDelete(spot.hop.host, done.conn.tuples[0], *done.conn.zones),)]
            yield Candidate(free[0], unlikely=aside)
        elif done is not None and done.decided_at is not None:
            free = [c.edits for c in translate(scene) if any("-j CT" in w for e in c.edits for w in e.commands())]
            yield from (Candidate(edits, unlikely=aside) for edits in free[:6])
        existing = [*_rules_giving(trial, spot, address, source)]
        for prefix in [(), *free[:4]] if free != [()] else [()]:
            for edit in (e for rule in existing for e in _made_to_match(trial, spot, rule)):
                yield Candidate((*prefix, edit), unlikely=aside)
            if not port or spot.fields.get("proto") in ("tcp", "udp"):
                for more, made in enumerate(_new_rules(scene, spot, target, source)):
                    yield Candidate((*prefix, made), unlikely=aside + more)


def _new_rules(scene: Scene, spot: Spot, target: str, source: bool) -> Iterator[RuleEdit]:
    """A rule for the flow that translates it, and the rule that translates it now with another target."""
    match = f"{selector(spot)}{f' -o {spot.hop.out_dev}' if source and spot.hop.out_dev else ''}"
    number = f" {spot.first()}" if spot.first() > 1 else ""
    place = f"-I {spot.chain}{number}" if spot.steps else f"-A {spot.chain}"
    yield scene.rule(f"-t nat {place} {match} -j {target}")
    edit = _other_target(scene, spot, target)
    if edit is not None:
        yield edit


def _other_target(scene: Scene, spot: Spot, target: str) -> RuleEdit | None:
    """The rule that translates now, with another target."""
    now = next((s for s in spot.steps if s.rule and s.target in NAT_TARGETS[spot.chain]), None)
    if now is None or " -j " not in f" {now.text}":
        return None
    head = f" {now.text}".rpartition(" -j ")[0].strip()
    return scene.rule(f"-t nat -R {now.chain} {now.rule} {f'{head} ' if head else ''}-j {target}")


def _rules_giving(trial: Trial, spot: Spot, address: str, source: bool) -> Iterator[Rule]:
    """Rules of the chain that translate to the address already, if they applied."""
    host = trial.world.hosts[spot.hop.host]
    own = {format_addr(a.family, a.local) for a in host.addresses if a.dev == spot.hop.out_dev}
    for table in host.tables:
        chain = table.chains.get(spot.chain) if table.name == "nat" and table.family == trial.question.family else None
        for number in range(1, min(len(chain), 200) + 1) if chain is not None else ():
            rule = chain.rule(number)  # type: ignore[union-attr]
            words = rule.text.split()
            gives = any(w.partition(":")[0] == address or w == address for w in words[-2:])
            if gives or (source and address in own and target_name(rule) == "MASQUERADE"):
                yield rule


def _leaving_by(goal: Goal, trial: Trial, words: list[str]) -> Iterator[Candidate]:
    """``out IFACE``: a route or a policy rule that leads out of it."""
    dev = words[1]
    for far, hop in enumerate(h for h in trial.leaf.hops if dev in trial.world.hosts[h.host].links):
        host, family = trial.world.hosts[hop.host], trial.question.family
        end = end_of(hop)
        dst, src = end["dst"], hop.before.get("src") or end["src"]
        number = parse_addr(dst)[1]
        scene = scene_of(trial, hop)
        tables = [
            table for (fam, table), routes in host.routes.items()
            if fam == family and table not in (254, 255)
            and any(number in r.prefix and any(n.dev == dev for n in r.nexthops) for r in routes)
        ]  # fmt: skip
        iif = f" iif {hop.in_dev}" if hop.in_dev else ""
        for table in tables:
            yield Candidate((PolicyRuleEdit(hop.host, f"from {src}{iif} lookup {table}"),), unlikely=far)
            yield Candidate((PolicyRuleEdit(hop.host, f"to {dst} lookup {table}"),), unlikely=far)
        near = [g for g, d in gateways(scene, host, dev) if d == dev]
        for via in [f"via {g} " for g in near[:3]] or [""]:
            for where in ["", *(f" table {t}" for t in routing_tables(hop))]:
                verb = verb_for(host, family, dst, where)
                yield Candidate((RouteEdit(hop.host, f"{dst} {via}dev {dev}{where}", verb),), unlikely=far)
            if (family, 100) not in host.routes:
                route = RouteEdit(hop.host, f"default {via}dev {dev} table 100")
                yield Candidate((route, PolicyRuleEdit(hop.host, f"from {src}{iif} lookup 100")), unlikely=far)


def verb_for(host: Host, family: int, target: str, table: str) -> str:
    """``replace`` where the table has a route for just this prefix already (``add`` would fail: File exists)."""
    prefix = Prefix(family, 0, 0) if target == "default" else parse_prefix(target)
    name = table.split()[1] if table else "main"
    number = TABLES[name] if name in TABLES else int(name)
    same = any(r.prefix == prefix and not r.tos and not r.metric for r in host.routes.get((family, number), ()))
    return "replace" if same else "add"


def routing_tables(hop: Hop) -> list[str]:
    """Tables other than main that decided about a packet on a hop."""
    texts = [s.text or "" for s in hop.steps if s.stage in ("routing", "rerouting")]
    named = [text.split(" → table ")[1].split(":")[0].split()[0] for text in texts if " → table " in text]
    return [t for t in dict.fromkeys(named) if t not in ("main", "local", "default")]


def _meeting(goal: Goal, trial: Trial, words: list[str]) -> Iterator[Candidate]:
    """``rule TABLE:CHAIN:N``: its criteria fitted to the packet, moved before what ends the chain, a decision undone."""
    for wanted in goal.rules:
        rule_id = wanted.rule.rule_id
        own = rule_id.chain not in HOOK_NUMBER  # a chain of the user's: wherever its table is met
        here = [s for s in spots(trial) if (s.hop.host, s.table) == (wanted.host, rule_id.table)]
        here = [s for s in here if own or s.chain == rule_id.chain]
        for spot in here:
            scene = scene_of(trial, spot.hop, spot.phase)
            made = list(_made_to_match(trial, spot, wanted.rule))
            for edit in made:
                yield Candidate((edit,))
            for step in spot.steps:
                if step.rule and step.chain == rule_id.chain and step.rule < rule_id.index and step.verdict:
                    yield Candidate((scene.rule(f"{_table(spot.table)}-D {step.chain} {step.rule}"),), unlikely=1)
            for done in passes_of(trial.world, trial.leaf) if spot.table == "nat" and spot.phase == FORWARD else ():
                if done.hop is not spot.hop:
                    continue
                if done.conn_where is not None:
                    gone = ConntrackDelete(wanted.host, done.conn.tuples[0], *done.conn.zones)
                    yield from (Candidate((gone, *more)) for more in [(), *((e,) for e in made)])
                elif done.decided_at is not None:
                    for c in translate(scene):
                        if any("-j CT" in w for e in c.edits for w in e.commands()):
                            yield from (Candidate((*c.edits, *more)) for more in [(), *((e,) for e in made)])


def _table(name: str) -> str:
    return "" if name == "filter" else f"-t {name} "


def _made_to_match(trial: Trial, spot: Spot, rule: Rule) -> Iterator[Edit]:
    """Edits after which the packet meets the rule: criteria it fails dropped or fitted; moved before what ends the chain."""
    fitted = fit(trial, spot, rule)
    number, host = rule.rule_id.index, spot.hop.host
    ends = [s for s in spot.steps if s.rule and s.chain == rule.rule_id.chain and s.rule < number and s.verdict]
    family, backend = rule.rule_id.family, "legacy" if rule.rule_id.backend == "legacy" else None
    if fitted is None:
        return
    if fitted != rule.text:
        text = f"{_table(spot.table)}-R {rule.rule_id.chain} {number} {fitted}"
        yield RuleEdit(host, text, family, backend)
    if ends:
        yield RuleMove(host, spot.table, rule.rule_id.chain, number, ends[0].rule or 1, fitted, family, backend)


def fit(trial: Trial, spot: Spot, rule: Rule) -> str | None:
    """The rule's text with every criterion that the packet fails fitted to it; None where that cannot be written."""
    text, host = rule.text, trial.world.hosts[spot.hop.host]
    for _ in range(MOST_CRITERIA):
        try:
            judged = _parsed(host, rule, text)
        except NattraceError:
            return None
        miss = why_misses(trial, spot, judged)
        if miss is None:
            return text
        changed = _without(text, miss.criterion, spot)
        if changed is None or changed == text:
            return None
        text = changed
    return None


def _parsed(host: Host, rule: Rule, text: str) -> Rule:
    """The rule with another text."""
    from ..rules.typed import parse_rules

    table = next(t for t in host.tables if (t.name, t.family, t.backend) == _home(rule))
    line = f"-A {rule.rule_id.chain} {text}"
    return parse_rules(line, table=table.name, family=table.family, backend=table.backend, where=WHERE, users=host.users,
                       groups=host.groups, chains=table.chains)[0]  # fmt: skip


def _home(rule: Rule) -> tuple[str, int, str]:
    return rule.rule_id.table, rule.rule_id.family, rule.rule_id.backend


def why_misses(trial: Trial, spot: Spot, rule: Rule) -> Any:
    """The first criterion of a rule that the packet fails where the spot is (passes.tried_rules() for any chain)."""
    from ..engine.chain import why_not
    from ..engine.run import Ctx, Run
    from ..engine.simulate import packet_of

    leaf = trial.leaf if spot.phase == FORWARD else trial.back
    assert leaf is not None
    host = trial.world.hosts[spot.hop.host]
    run = Run(leaf.state.fork())
    ctx = Ctx(run, host, run.ws.host(host.name), HOOK_NUMBER[spot.hook], spot.hop.in_dev, spot.hop.out_dev)
    ctx.table = spot.table
    if spot.hook in ("PREROUTING", "INPUT"):
        ctx.outdev = None
    if spot.hook in ("OUTPUT", "POSTROUTING"):
        ctx.indev = None
    record = {
        k: v for k, v in spot.fields.items() if k not in ("inner", "mtu", "gateway") and isinstance(v, (int, str))
    }
    skb = packet_of(record)
    skb.mark = int(spot.fields.get("mark") or 0)
    return why_not(rule, skb, ctx)


def _without(text: str, criterion: str, spot: Spot) -> str | None:
    """The text with a criterion replaced by what the packet has, or without it."""
    padded = f" {text} "
    place = padded.find(f" {criterion} ")
    if place < 0:
        return None
    option = criterion.removeprefix("! ").split()[0]
    here = {"-i": spot.hop.in_dev, "-o": spot.hop.out_dev, "-s": spot.fields.get("src"), "-d": spot.fields.get("dst")}
    has = here.get(option) if option in here else spot.fields.get({"-p": "proto"}.get(option, option[2:]))
    put = f"{option} {has}" if isinstance(has, (str, int)) and not criterion.startswith("!") else ""
    changed = padded.replace(f" {criterion} ", f" {put} " if put else " ", 1)
    if option == "-p" and put:
        changed = changed.replace(f" -m {criterion.split()[-1]} ", f" -m {PROTO_NAME.get(0, has)} ")
    words = changed.split()
    kept = []
    for i, word in enumerate(words):  # -m NAME whose only option went
        if (
            word == "-m"
            and i + 2 <= len(words)
            and not put
            and words[i + 1] not in ("tcp", "udp")
            and (i + 2 == len(words) or words[i + 2] in ("-m", "-j", "-g", "-s", "-d", "-i", "-o", "-p"))
        ):
            words[i + 1] = ""
            continue
        if word:
            kept.append(word)
    return " ".join(kept)


__all__ = ["fit", "routing_tables", "scene_of", "toward", "verb_for"]
