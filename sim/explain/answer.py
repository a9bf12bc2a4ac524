"""The answer tree of ``why``: verdict, cause, path, way back, captures, assumptions, fixes. Data; no layout.

explanation = explain(world, question)
explanation.verdict          # "NOT TRANSLATED: leaves host by enp4s0 as …"
explanation.to_json()        # the contract's document
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine.simulate import immaterial, plain, reason_json, result_json
from ..flow import Question
from ..model.drawn import Drawn
from ..model.result import Hop, Leaf, Reason
from ..model.world import World
from ..record import dataclass, field
from .parts import DECIDED_HERE, SAMPLE, WORKS, WRONG, Diagnosis, Mark, Place
from .trial import FORWARD, REPLY, Trial, attempt

if TYPE_CHECKING:
    from .expect import Expectation
    from .fixes import Fix
    from .stale import Stale
    from .symptoms import Finding

SCHEMA = "nattrace/why/1"


@dataclass(slots=True)
class Explanation:
    """Everything a renderer needs. ``marks``: place → label in the margin; ``numbers``: place → step number."""

    question: Question
    trial: Trial
    verdict: str
    code: str
    cause: str | None
    diagnosis: list[Diagnosis] = field(default_factory=list)
    remarks: list[Diagnosis] = field(default_factory=list)  # worth a word, but no cause
    fixes: list[Fix] = field(default_factory=list)
    marks: dict[Place, Mark] = field(default_factory=dict)
    numbers: dict[Place, int] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    unread: int = 0  # rules that nobody looked at: the packet did not get near them, so they are not validated
    expectations: list[Expectation] = field(default_factory=list)
    symptom: Finding | None = None
    stale: list[Stale] = field(default_factory=list)
    before: Explanation | None = None
    edits: list[str] = field(default_factory=list)

    @property
    def certainty(self) -> str:
        return str(result_json(self.trial.forward)["certainty"])

    def to_json(self) -> dict[str, Any]:
        document = result_json(self.trial.forward, schema=SCHEMA)
        document["assumptions"] = self.assumptions
        document["unread_rules"] = self.unread
        document["verdict"] = self.verdict
        document["question"] = self.question.to_json()
        document["reply"] = None
        if self.trial.reply is not None:
            document["reply"] = result_json(self.trial.reply, schema=SCHEMA)
        document["diagnosis"] = [
            {"code": d.code, "text": self.numbered(d.text, d), "evidence": [str(w) for w in d.evidence]}
            for d in (*self.diagnosis, *self.remarks)
        ]
        document["fixes"] = [f.to_json() for f in self.fixes]
        document["captures"] = captures(self.trial)
        if self.expectations:
            document["expect"] = [e.to_json(self.numbers) for e in self.expectations]
        if self.symptom is not None:
            document["symptom"] = self.symptom.to_json()
        if self.stale:
            document["stale_entries"] = [s.to_json() for s in self.stale]
        if self.before is not None:
            document["what_if"] = self.edits
            document["before"] = self.before.to_json()
        return document

    def numbered(self, text: str, diagnosis: Diagnosis) -> str:
        """Put step numbers into a diagnosis text that refers to its places."""
        if "{decided}" not in text:
            return text
        decided = next((self.numbers[place] for place, mark in diagnosis.places if mark.tail == DECIDED_HERE), 0)
        return text.replace("{decided}", f"step {decided}").replace("{confirmed}", f"step {decided + 1}")


def explain(
    world: World,
    question: Question,
    *,
    expect: tuple[str, ...] = (),
    sample: int = SAMPLE,
    fixes: bool = True,
    symptom: str | None = None,
) -> Explanation:
    """Play, judge, diagnose and look for fixes. ``symptom``: the trouble in its user's words, to be explained by tests."""
    if symptom is not None:
        from .symptoms import understand

        understand(symptom)
    trial = attempt(world, question, verbose=True)
    expectations: list[Expectation] = []
    goal = None
    if expect:
        from .expect import check
        from .goal import goal_of

        expectations = [check(trial, text) for text in expect]
        goal = goal_of(trial, expect)
    remedies: list[Fix] = []
    found: list[Diagnosis] = []
    wanting = trial.obstacle is not None if goal is None else not goal.reached(trial)
    if trial.obstacle is not None or wanting:  # the search costs nothing, not even its import, where nothing is wrong
        from .diagnose import diagnose
        from .fixes import find_fixes

        hopeless = (
            trial.forward.breeds
        )  # hundreds of packets in every trial, and none would say what becomes of them all
        remedies = find_fixes(trial, sample, goal) if fixes and wanting and not hopeless else []
        found = diagnose(trial, remedies)
    unsure = undecided(trial)
    code = unsure.code if unsure else found[0].code if found else trial.leaf.reason.code
    from .remarks import remarks

    out = Explanation(question, trial, "", code, None, found, remarks(trial, {d.code for d in found}), remedies)
    out.numbers = _numbers(trial)
    for item in found[:1] if found and found[0].code != "criterion_failed" else found:
        for place, label in item.places:
            out.marks.setdefault(
                place, label if label.text is None else label._replace(text=out.numbered(label.text, item))
            )
    if found:
        out.cause = out.numbered(found[0].text, found[0])
    out.verdict = verdict(trial, found)
    out.assumptions = _assumptions(world, trial)
    out.unread = unread_rules(trial.world)
    out.expectations = [_parting(out, e) for e in expectations]
    if any(host.conns for host in trial.world.hosts.values()):
        from .stale import stale_entries, stale_fixes, stale_remark

        out.stale = stale_entries(trial)
        named = code == "stale_entry"
        out.remarks += [stale_remark(one, named) for one in out.stale[:2] if not named or one.wider_hits > 1]
        if fixes and out.stale and not out.fixes:
            from .fixes import Fix

            offered = [pair for one in out.stale[:2] for pair in stale_fixes(one) if one.trial.ok]
            out.fixes = [Fix((edit,), out.stale[0].trial, WORKS, text) for edit, text in offered]
    if symptom is not None:
        _examined(out, symptom, sample if fixes else None)
    return out


def _examined(out: Explanation, symptom: str, sample: int | None) -> None:
    """Test what the symptom can come from; what cures the likeliest explanation joins the fixes. ``sample`` None: no fixes."""
    from .symptoms import examine

    out.symptom = examine(out.trial, symptom, [d._replace(text=out.numbered(d.text, d)) for d in out.diagnosis])
    if out.fixes or sample is None:
        return
    for hypothesis in out.symptom.explained:
        out.fixes += hypothesis.fixes
        if hypothesis.cure is not None and not out.fixes:
            from .fixes import find_fixes

            out.fixes += find_fixes(hypothesis.cure, sample)


def _parting(out: Explanation, expectation: Expectation) -> Expectation:
    """An expectation that is not met, with the first point at which the world in which it is met goes another way."""
    best = next((f for f in out.fixes if f.result == WORKS), None)
    if expectation.met is not False or best is None:
        return expectation
    from .difference import difference

    found = difference(out.trial, attempt(best.trial.world, out.question, verbose=True))
    if found is not None and found.place is not None:
        out.marks.setdefault(found.place, WRONG)
    return expectation._replace(differs=found)


def unread_rules(world: World) -> int:
    """How many rules of all hosts have not been parsed."""
    tables = (table for host in world.hosts.values() for table in host.tables)
    return sum(table.unread() for table in tables if hasattr(table, "unread"))


def _numbers(trial: Trial) -> dict[Place, int]:
    numbers: dict[Place, int] = {}
    for phase, leaf in ((FORWARD, trial.leaf), (REPLY, trial.back)):
        for i, hop in enumerate(leaf.hops if leaf is not None else ()):
            for j in range(len(hop.steps)):
                numbers[phase, i, j] = len(numbers) + 1
    return numbers


def _assumptions(world: World, trial: Trial) -> list[str]:
    found = list(trial.question.derived)
    found += [
        n
        for n in trial.world.notes
        if trial.question.family == 10 or not ("IPv6" in n or "route6" in n or "ip6tables" in n)
    ]
    for answer in (trial.forward, trial.reply):
        for leaf in answer.leaves if answer is not None else ():
            found += leaf.assumptions
        found += immaterial(answer) if answer is not None else []
    return list(dict.fromkeys(found))


# ---------------------------------------------------------------------------------------------- the verdict


def ends(packet: dict[str, Any], state: Any = None) -> str:
    """``10.0.0.1:40000 → 8.8.8.8:443`` of a header."""
    return f"{_end(packet, 'src', 'sport', state)} → {_end(packet, 'dst', 'dport', state)}"


def _end(packet: dict[str, Any], addr: str, port: str, state: Any) -> str:
    value = packet.get(port)
    text = str(packet.get(addr))
    if value is None:
        return text
    shown = number_text(value, state)
    return f"[{text}]:{shown}" if ":" in text else f"{text}:{shown}"


def number_text(value: Any, state: Any) -> str:
    """A port as people read it; a drawn one as its candidates."""
    if isinstance(value, Drawn):
        found = plain(value, state)
        if isinstance(found, dict):
            return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in found["ranges"][:3]) or "?"
        return str(found)
    return str(value)


_LEAD = {
    "delivered": "DELIVERED", "left": "LEAVES", "dropped": "DROPPED", "rejected": "REJECTED", "unreachable": "UNREACHABLE",
    "never_sent": "NEVER SENT", "queued": "QUEUED", "stolen": "TAKEN OVER", "looped": "LOOPS",
}  # fmt: skip
ERRNO = {
    1: "EPERM",
    13: "EACCES",
    22: "EINVAL",
    90: "EMSGSIZE",
    99: "EADDRNOTAVAIL",
    101: "ENETUNREACH",
    105: "ENOBUFS",
    113: "EHOSTUNREACH",
}


def verdict(trial: Trial, found: list[Diagnosis]) -> str:
    """The first sentence: what happens, and whether it works both ways."""
    leaf, obstacle = trial.leaf, trial.obstacle
    groups = trial.forward.groups()
    unsure = undecided(trial)
    if unsure is not None:
        what = " or ".join(dict.fromkeys(g[0].outcome.replace("_", " ") for g in groups))
        return f"UNKNOWN: {what}; {unsure.text}"
    text = _forward_words(trial, leaf)
    if len(groups) > 1:
        others = "; ".join(
            f"{(sum(m.probability or 0 for m in g)):.0%} {_forward_words(trial, g[0])}" for g in groups[:4]
        )
        return f"ONE OF {len(groups)}: {others}"
    if obstacle is None:
        if leaf.outcome not in ("left", "delivered"):
            return f"{_LEAD[leaf.outcome]}{_joint(leaf)}{text}"
        return f"{_LEAD[leaf.outcome]}: {text}{_reply_words(trial)}."
    if obstacle.phase == REPLY:
        return f"NO REPLY: {text}, but {_short_reply(trial)}."
    if leaf.outcome == "left":
        lead = {"private_source_leaves": "NOT TRANSLATED", "left_at_edge": "GOES ASTRAY"}.get(
            obstacle.code, "NO ANSWER"
        )
        return f"{lead}: {text}; {_clause(obstacle.text)}."
    if obstacle.code == "no_listener":
        return f"NOBODY LISTENS: {text}, where no socket waits{_answer_sent(leaf)}."
    return f"{_LEAD[leaf.outcome]}{_joint(leaf)}{text}."


def _joint(leaf: Leaf) -> str:
    """Between the first words and a text that begins with the place, or with what was done."""
    return ": " if leaf.outcome == "never_sent" else " "


def _clause(text: str) -> str:
    """The text up to its first ``: ``; colons of ports and of IPv6 addresses stay."""
    return text.split(": ")[0]


def undecided(trial: Trial) -> Reason | None:
    """Why the outcome is not known, where it is not; None for one that is, or is drawn with known probabilities."""
    groups = trial.forward.groups()
    if trial.forward.complete and (len(groups) < 2 or all(m.probability is not None for g in groups for m in g)):
        return None
    found = next((u for g in groups for m in g for u in m.unknowns), None)
    return found or Reason("missing_input", "the snapshot does not tell which of these happens")


def _forward_words(trial: Trial, leaf: Leaf) -> str:
    at, packet = leaf.at, leaf.packet
    shown = ends(packet, leaf.state)
    if leaf.outcome == "left":
        return f"leaves {at['host']} by {at['interface']} as {shown}"
    if leaf.outcome == "delivered":
        asked = trial.question.packet
        same = packet.get("dst") == asked["dst"] and packet.get("dport") == asked.get("dport")
        return f"reaches {at['host']}{'' if same and len(leaf.hops) < 2 else ' as ' + shown}"
    if leaf.outcome == "never_sent":
        name = ERRNO.get(leaf.errno or 0, str(leaf.errno))
        return f"send() on {at['host']} fails with {name} before any packet exists: {leaf.reason.text}"
    where = f"at {at['host']}"
    if at.get("interface"):
        where += f" ({'in' if leaf.hops and leaf.hops[-1].in_dev == at['interface'] else 'out'} {at['interface']})"
    return f"{where}: {leaf.reason.text}{_answer_sent(leaf)}"


_ICMP_NAME = {
    (3, 0): "net unreachable",
    (3, 1): "host unreachable",
    (3, 2): "protocol unreachable",
    (3, 3): "port unreachable",
    (3, 4): "fragmentation needed",
    (3, 9): "net prohibited",
    (3, 10): "host prohibited",
    (3, 13): "administratively prohibited",
    (11, 0): "time exceeded",
}


def _answer_sent(leaf: Leaf) -> str:
    """What the sender is told."""
    for response in leaf.responses:
        if response.kind == "tcp_reset":
            return f"; {response.sender} answers with a TCP reset"
        if response.type != 5:
            name = _ICMP_NAME.get((response.type or 0, response.code or 0))
            return f"; {response.sender} sends ICMP {name or f'{response.type}/{response.code}'}"
    return ""


def _reply_words(trial: Trial) -> str:
    back = trial.back
    if back is None:
        return ""
    groups = trial.reply.groups() if trial.reply is not None else []
    if len(groups) > 1:
        return f"; the reply may end in {len(groups)} ways"
    home = back.at["host"] if back.outcome == "delivered" else f"{back.at['interface']} of {back.at['host']}"
    if back.outcome == "left":
        return f"; the reply leaves by {home} as {ends(back.packet, back.state)}"
    return f"; the reply comes back to {home}"


def _short_reply(trial: Trial) -> str:
    assert trial.obstacle is not None and trial.back is not None
    back = trial.back
    if back.outcome in ("left", "delivered"):
        return _clause(trial.obstacle.text)
    return f"the reply is {back.outcome.replace('_', ' ')} at {back.at['host']}: {back.reason.text}"


# ------------------------------------------------------------------------------------------ capture points


def captures(trial: Trial) -> list[dict[str, Any]]:
    """What tcpdump at each interface would show, in order: before the first hook in, after the last hook out."""
    seen: list[dict[str, Any]] = []
    for phase, leaf in ((FORWARD, trial.leaf), (REPLY, trial.back)):
        for hop in leaf.hops if leaf is not None else ():
            for dev, way, packet in _points(hop):
                seen.append(
                    {
                        "host": hop.host,
                        "interface": dev,
                        "way": way,
                        "phase": phase,
                        "packet": plain(packet, leaf.state if leaf else None),
                    }
                )
    return seen


def _points(hop: Hop) -> list[tuple[str, str, dict[str, Any]]]:
    found = []
    if hop.in_dev:
        found.append((hop.in_dev, "in", hop.before))
    if hop.out_dev:
        found.append((hop.out_dev, "out", hop.after))
    return found


__all__ = ["Explanation", "captures", "explain", "reason_json", "verdict"]
