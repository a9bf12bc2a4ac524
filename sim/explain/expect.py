"""``--expect``: whether what the asker expected happened, and if not, why not.

Forms: ``delivered``, ``dropped`` … (any outcome), ``rule TABLE:CHAIN:N``, ``snat A[:P]``, ``dnat A[:P]``, ``out IFACE``,
``reply``.
"""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..model.addr import format_addr, parse_addr
from ..model.packet import PROTO_NAME, WITH_PORTS
from ..model.result import Hop, Step
from ..model.rule import HOOK_NUMBER
from ..record import NamedTuple
from .difference import Difference
from .parts import Place
from .passes import NAT_TARGETS
from .trial import Trial

OUTCOMES = {"delivered", "left", "dropped", "rejected", "unreachable", "never_sent", "queued", "stolen", "looped"}
FORMS = "delivered | left | dropped | rejected | unreachable | rule nat:POSTROUTING:3 | snat A | dnat A:P | out IFACE | reply"


class Expectation(NamedTuple):
    """``met`` None: undecided (the outcome is unknown). ``differs``: the first point at which a world in which it holds parts."""

    text: str
    met: bool | None
    why: str
    differs: Difference | None = None

    def to_json(self, numbers: dict[Place, int]) -> dict[str, Any]:
        """``differs.step``: its number in the path."""
        out: dict[str, Any] = {"text": self.text, "met": self.met, "why": self.why, "differs": None}
        if self.differs is not None:
            step = numbers.get(self.differs.place) if self.differs.place is not None else None
            d = self.differs
            out["differs"] = {"host": d.host, "step": step, "actual": d.actual, "expected": d.expected}
        return out


def check(trial: Trial, text: str) -> Expectation:
    """Judge one expectation. Raises InputError for a form that is not known."""
    words = text.split()
    if not words:
        raise InputError("--expect: nothing is expected", remedy=f"one of: {FORMS}")
    verb = words[0].lower().replace("-", "_")
    if verb in OUTCOMES and len(words) == 1:
        found = _outcome(trial, verb)
    elif verb == "reply" and len(words) == 1:
        found = (trial.back is not None and trial.ok, _why(trial))
    elif verb == "rule" and len(words) == 2:
        found = _rule(trial, words[1])
    elif verb in ("snat", "dnat") and len(words) == 2:
        found = _translated(trial, verb, words[1])
    elif verb == "out" and len(words) == 2:
        found = _out(trial, words[1])
    else:
        raise InputError(f"--expect {text!r} is not understood", remedy=f"one of: {FORMS}")
    decided = len(trial.forward.groups()) == 1 and trial.forward.complete
    return Expectation(text, found[0] if decided or verb == "rule" else None, found[1])


def _why(trial: Trial) -> str:
    if trial.obstacle is not None:
        return trial.obstacle.text
    return trial.leaf.reason.text


def _outcome(trial: Trial, wanted: str) -> tuple[bool, str]:
    have = trial.leaf.outcome
    met = have == wanted
    if have == "left":  # nothing is known of what is beyond: 'delivered' is for hosts of the snapshot
        hint = "; what is beyond is not in the snapshot (expect 'left' or 'reply')" if wanted == "delivered" else ""
        return met, f"the packet {trial.leaf.reason.text}{hint}"
    return met, f"the packet is {have.replace('_', ' ')}: {trial.leaf.reason.text}"


def _rule(trial: Trial, spec: str) -> tuple[bool, str]:
    parts = spec.split(":")
    if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdigit() and len(parts[2]) < 10 and int(parts[2])):
        raise InputError(
            f"--expect 'rule {spec}': expected TABLE:CHAIN:NUMBER", remedy="example: rule nat:POSTROUTING:3"
        )
    table, chain, number = parts[0], parts[1], int(parts[2])
    hops = trial.leaf.hops
    for hop in hops:
        for step in hop.steps:
            if (step.table, step.chain, step.rule) == (table, chain, number):
                if step.matched:
                    return True, f"matched on {hop.host}"
    exists = any(
        chain in t.chains and len(t.chains[chain]) >= number
        for h in trial.world.hosts.values()
        for t in h.tables
        if t.name == table
    )
    if not exists:
        raise InputError(f"--expect 'rule {spec}': there is no such rule in the snapshot")
    return False, "; ".join(
        _rule_miss(trial, hop, table, chain, number) for hop in hops if _has(trial, hop, table, chain, number)
    ) or (f"the packet never comes by a host with {table} {chain} {number}")


def _has(trial: Trial, hop: Hop, table: str, chain: str, number: int) -> bool:
    tables = trial.world.hosts[hop.host].tables
    return any(t.name == table and chain in t.chains and len(t.chains[chain]) >= number for t in tables)


def _rule_miss(trial: Trial, hop: Hop, table: str, chain: str, number: int) -> str:
    """Why a rule did not match on one pass."""
    at = f"on {hop.host}"
    same = [s for s in hop.steps if s.table == table and s.chain == chain]
    miss = next((s for s in same if s.rule == number and s.matched is False), None)
    if miss is not None:
        return f"{at}: {miss.note}"
    before = next(
        (s for s in same if s.matched and s.rule and s.rule < number and s.verdict in ("ACCEPT", "DROP", "RETURN")),
        None,
    )
    if before is not None:
        return f"{at}: never reached: rule {before.rule} ({before.text}) ended the chain with {before.verdict}"
    skipped = next(
        (
            s
            for s in hop.steps
            if s.stage == "nat" and s.table == table and s.hook == chain and s.note and "not consulted" in s.note
        ),
        None,
    )
    if skipped is not None:
        return f"{at}: {skipped.note}"
    return f"{at}: {_not_visited(hop, table, chain)}"


def _not_visited(hop: Hop, table: str, chain: str) -> str:
    if chain not in HOOK_NUMBER:
        return f"chain {chain} was not called"
    if chain == "FORWARD" and (hop.in_dev is None or hop.out_dev is None):
        return "FORWARD is for packets that are forwarded; this one " + (
            "was sent by the host itself" if hop.in_dev is None else "is not"
        )
    if chain == "OUTPUT" and hop.in_dev is not None:
        return "OUTPUT is for the host's own packets; this one was received"
    if chain == "PREROUTING" and hop.in_dev is None:
        return "PREROUTING is for received packets; this one was sent by the host itself (wrong_chain_for_local)"
    if chain == "INPUT" and hop.out_dev is not None:
        return "INPUT is for packets to the host itself; this one left it"
    if table == "nat" and any(s.stage == "conntrack" and s.conntrack in ("INVALID", "UNTRACKED") for s in hop.steps):
        return "the nat table is skipped: the packet has no connection entry"
    return f"the packet did not get as far as {chain}" if hop.out_dev is None else f"{chain} has no rule that was met"


def end_of(text: str) -> tuple[str, str]:
    """``A:P``, ``[A]:P`` or ``A`` as address and port (empty: any)."""
    if text.startswith("["):
        addr, _, port = text[1:].partition("]")
        return addr, port.removeprefix(":")
    addr, colon, port = text.rpartition(":")
    return (addr, port) if colon and ":" not in addr else (text, "")


def _read_end(verb: str, wanted: str) -> tuple[str, str]:
    """Address and port as results write them. Raises InputError for what can never be met."""
    addr, port = end_of(wanted)
    try:
        addr = format_addr(*parse_addr(addr))
    except ValueError as error:
        raise InputError(f"--expect '{verb} {wanted}': {error}", remedy=f"example: {verb} 203.0.113.9:8080") from None
    if port and not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 1 << 16):
        raise InputError(f"--expect '{verb} {wanted}': {port[:20]!r} is no port", remedy=f"example: {verb} {addr}:8080")
    return addr, port


def _translated(trial: Trial, verb: str, wanted: str) -> tuple[bool, str]:
    addr, port = _read_end(verb, wanted)
    if port and trial.asked.skb.proto not in WITH_PORTS:
        name = PROTO_NAME.get(trial.asked.skb.proto, trial.asked.skb.proto)
        raise InputError(f"--expect '{verb} {wanted}': {name} has no ports", remedy=f"example: {verb} {addr}")
    key, port_key = ("src", "sport") if verb == "snat" else ("dst", "dport")
    last = "the source stays" if verb == "snat" else "the destination stays"
    for hop in trial.leaf.hops:
        for step in hop.steps:
            if key in step.changes or port_key in step.changes:
                new = str(step.changes.get(key, (None, trial.leaf.packet.get(key)))[1])
                new_port = str(step.changes.get(port_key, (None, trial.leaf.packet.get(port_key)))[1])
                if new == addr and (not port or new_port == port):
                    return True, f"translated on {hop.host} to {wanted}"
                last = f"translated on {hop.host} to {new}{':' + new_port if port else ''} instead"
    chains = ("POSTROUTING", "INPUT") if verb == "snat" else ("PREROUTING", "OUTPUT")
    reasons = [
        f"{hop.host} {step.table} {step.chain}{' ' + str(step.rule) if step.rule else ''}: {step.note}"
        for hop in trial.leaf.hops
        for step in hop.steps
        if _explains(step, chains)
    ]
    return False, f"{last}; " + ("; ".join(reasons[:3]) or "no rule of the path translates it")


def _explains(step: Step, chains: tuple[str, ...]) -> bool:
    if step.hook not in chains or not step.note:
        return False
    if step.stage == "nat" and step.rule is None and "not consulted" in step.note:
        return True
    return step.matched is False and step.table == "nat" and step.target in NAT_TARGETS[step.hook]


def _out(trial: Trial, dev: str) -> tuple[bool, str]:
    hops = trial.leaf.hops
    if any(h.out_dev == dev for h in hops):
        return True, f"leaves by {dev}"
    if not hops:
        return False, f"the packet is never sent: {trial.leaf.reason.text}"
    owners = [h for h in hops if dev in trial.world.hosts[h.host].links]
    owners = [h for h in owners if h.out_dev] or owners
    if not owners:
        outs = ", ".join(f"{h.host} {h.out_dev}" for h in hops if h.out_dev) or "no interface"
        return False, f"no host on its way has {dev}; it leaves by {outs}"
    return False, "; ".join(dict.fromkeys(_left_by(trial, hop, dev) for hop in owners))


def _left_by(trial: Trial, hop: Hop, dev: str) -> str:
    """Which way a host that has the interface sends the packet, and which table would lead out of it."""
    step = next((s for s in reversed(hop.steps) if s.stage in ("routing", "rerouting") and s.text), None)
    went = f"leaves by {hop.out_dev}" if hop.out_dev else "does not send it on"
    text = f"{hop.host} {went}" + (f": {step.text}" if step is not None else "")
    return f"{text}; {_leading_to(trial, hop, dev, text)}"


def _leading_to(trial: Trial, hop: Hop, dev: str, said: str) -> str:
    """A route out of the interface for the destination, and the rule that would have to look it up."""
    host, family = trial.world.hosts[hop.host], trial.question.family
    dst = parse_addr(str(hop.after.get("dst") or hop.before["dst"]))[1]
    tables = [
        table
        for (fam, table), routes in host.routes.items()
        if fam == family
        and table != 255
        and any(dst in r.prefix and any(n.dev == dev for n in r.nexthops) for r in routes)
    ]
    for table in sorted(tables, key=lambda t: t == 254):
        rules = [r for r in host.rules.get(family, ()) if r.table == table and r.action == "table"]
        if table == 254:
            later = "its metric or its prefix comes second" if "table main" in said else "it is asked later"
            return f"table main has a route out of {dev} too, but {later}"
        wants = f"rule {rules[0].priority} wants: {rules[0].text}" if rules else "no rule looks it up"
        return f"table {table} would leave by {dev}, {wants}"
    return f"no route of {hop.host} for this destination leads out of {dev}"
