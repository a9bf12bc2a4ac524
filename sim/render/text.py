"""An explanation as text: verdict, cause, folded path, way back, fixes. Decides nothing, only lays out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..explain.answer import Explanation, captures, ends
from ..explain.parts import SHOWN, WORKS
from ..explain.trial import FORWARD, REPLY
from ..model.result import Hop, Leaf, Step
from ..record import NamedTuple
from .style import Style, clean, fit, wrap

if TYPE_CHECKING:
    from ..explain.difference import Difference
    from ..explain.fixes import Fix

INDENT = 6
SCREEN = 25  # lines that an answer should fit in: what matters least is left to -v until it does
MOST_TERSE = 5
LEFT = 46  # columns that the left part of the path takes where names are short
DULL_FIELDS = {"ttl"}
QUIET = {None, "ACCEPT", "CONTINUE", "RETURN", "JUMP", "GOTO"}


class Line(NamedTuple):
    """A laid-out line and how to paint it."""

    text: str
    paint: tuple[str, ...] = ()


class Row(NamedTuple):
    """A line of the path: who, addresses, zone, conntrack's view. Laid out when all rows are known.

    ``extra``: goes after ``left`` where there is room.
    """

    left: str
    ends: str
    zone: str = ""
    state: str = ""
    paint: tuple[str, ...] = ()
    extra: str = ""


def columns(lines: list[Line | Row], width: int) -> list[Line]:
    """Rows in columns as wide as their cells need; what does not fit beside its left part goes below it."""
    rows = [line for line in lines if isinstance(line, Row)]
    room = max((len(row.ends) for row in rows), default=0)
    state = max((len(row.state) for row in rows), default=0)
    right = room + 6 + (2 + state if state else 0)
    needed = max((len(row.left) for row in rows), default=0)
    wanted = max((len(row.left + row.extra) for row in rows), default=0)
    at = min(max(needed, min(wanted, LEFT)) + 2, max(width - right, 8))
    out: list[Line] = []
    for line in lines:
        if isinstance(line, Line):
            out.append(line)
            continue
        cells = f"{line.ends:<{room}}  {line.zone:>4}  {line.state}".rstrip()
        if len(line.left) < at and at + len(cells) <= width:
            left = line.left + line.extra if len(line.left + line.extra) < at else line.left
            out.append(Line(left.ljust(at) + cells, line.paint))
            continue
        out.append(Line(fit(line.left, width), line.paint))
        loose = " ".join(p for p in (line.ends, line.zone and f"zone {line.zone}", line.state) if p)
        beside = at + len(cells) <= width
        out += [Line((" " * at + cells) if beside else fit(" " * 8 + loose, width), line.paint)]
    return out


def render(
    explanation: Explanation,
    *,
    width: int = 100,
    verbose: bool = False,
    quiet: bool = False,
    colour: bool = False,
    persistent: bool = False,
) -> str:
    """The whole answer, each line no wider than ``width``. ``persistent``: with what keeps a fix over a reboot."""
    page = Page(explanation, width, verbose)
    page.persistent = persistent
    lines = [page.one_line()] if quiet else page.whole()
    if len(lines) > SCREEN and not (verbose or quiet):
        lines = next((short for short in map(page.shorter, range(1, MOST_TERSE + 1)) if len(short) <= SCREEN), lines)
    style = Style(colour)
    return "\n".join(style(line.text.rstrip(), *line.paint) for line in lines) + "\n"


class Page:
    """One answer being laid out."""

    def __init__(self, explanation: Explanation, width: int, verbose: bool) -> None:
        self.x = explanation
        self.width = width
        self.verbose = verbose
        self.persistent = False
        self.several = len(explanation.trial.world.hosts) > 1
        self.terse = 0  # 1: no second fix … 5: only the decisive steps

    def whole(self) -> list[Line]:
        return [*self.verdict(), *self.body()]

    def shorter(self, terse: int) -> list[Line]:
        self.terse = terse
        return self.whole()

    # ------------------------------------------------------------------------------------------ parts

    def one_line(self) -> Line:
        return Line(f"{clean(self.x.verdict)} [{self.x.code}]", ("bold", self.colour()))

    def colour(self) -> str:
        return "green" if self.x.trial.ok and self.x.trial.leaf.outcome in ("left", "delivered") else "red"

    def verdict(self) -> list[Line]:
        code = f"[{self.x.code}]"
        colour = self.colour()
        lines = wrap(clean(self.x.verdict), self.width)
        if len(lines[-1]) + 2 + len(code) <= self.width:
            lines[-1] = lines[-1].ljust(self.width - len(code)) + code
        else:
            lines.append(code.rjust(self.width))
        return [Line(text, ("bold", colour)) for text in lines]

    def body(self) -> list[Line]:
        lines: list[Line] = []
        if self.x.before is not None:
            lines += self.block("WITH", "; ".join(self.x.edits))
            lines += self.block("BEFORE", f"{self.x.before.verdict} [{self.x.before.code}]")
        for expectation in self.x.expectations:
            word = {True: "as expected", False: "not as expected", None: "undecided"}[expectation.met]
            lines += self.block("EXPECT", f"{expectation.text}: {word}; {expectation.why}", gap=False)
            if expectation.differs is not None:
                lines += self.block("PARTS ", self.parting(expectation.differs), gap=False)
        if self.x.cause:
            lines += self.block("WHY", self.x.cause)
        lines += self.symptom()
        lines += self.also()
        lines += self.path()
        lines += self.fixes()
        lines += self.confirm()
        lines += self.assumptions()
        return lines

    def parting(self, differs: Difference) -> str:
        """The first deciding point: what is there, and what would be for the expectation to hold."""
        number = self.x.numbers.get(differs.place, 0) if differs.place is not None else 0
        at = f"at step {number}" if number else f"on {differs.host}"
        return f"{at} {differs.actual}; as expected it would be {differs.expected}"

    def symptom(self) -> list[Line]:
        """What was tested for a symptom, the hypotheses that explain it first; of the others what was found."""
        finding = self.x.symptom
        if finding is None:
            return []
        head = "explained" if finding.explained else "nothing that was tested explains it"
        taken = "" if finding.text == finding.symptom.name else f" (taken as '{finding.symptom.name}')"
        lines = self.block("SYMPTOM", f"{finding.text}{taken}: {head}", gap=not self.x.cause)
        for one in finding.hypotheses:
            same = one.code == self.x.code and one.explains and self.x.cause
            said = "the cause above" if same else one.text
            tested = one.tested if self.verbose else one.tested.split(": it ")[0]
            tail = f" [{one.code}] (tested: {tested})" if self.verbose or one.explains else ""
            lines += self.block(f"   {'✓' if one.explains else '-'}", f"{said}{tail}", gap=False)
        return lines

    def also(self) -> list[Line]:
        """Further causes, then remarks."""
        causes = [d for d in self.x.diagnosis[1:] if self.verbose or d.code != "private_source_leaves"]
        if self.x.symptom is not None and not self.verbose:
            causes = []  # the hypotheses have said it
        most = None if self.verbose else 2 if self.terse < 2 else 1 if self.terse < 4 else 0
        shown = [*causes[:most], *self.x.remarks[:most]]
        lines: list[Line] = []
        for item in shown:
            text = f"{self.x.numbered(item.text, item)} [{item.code}]"
            lines += self.block("ALSO", text, gap=not lines and not self.x.cause)
        return lines

    def block(self, label: str, text: str, gap: bool = True) -> list[Line]:
        indent = max(INDENT, len(label) + 2)
        pieces = wrap(clean(text), self.width - indent)
        head = [Line("")] if gap else []
        return head + [Line((label if i == 0 else "").ljust(indent) + piece) for i, piece in enumerate(pieces)]

    # ------------------------------------------------------------------------------------------- path

    def path(self) -> list[Line]:
        return columns([Line(""), *self.rows()], self.width)

    def rows(self) -> list[Line | Row]:
        """The path and the way back, not laid out yet."""
        leaf = self.x.trial.leaf
        lines: list[Line | Row] = [Row("PATH", "src → dst", "zone", "conntrack", ("dim",))]
        lines += self.way(leaf, FORWARD)
        for response in leaf.responses:
            kind = "TCP reset" if response.kind == "tcp_reset" else f"ICMP {response.type}/{response.code}"
            if response.type == 5:
                kind = f"ICMP redirect (use {response.packet.get('gateway')})"
            lines.append(
                Line(fit(f"  answer   {response.sender} sends {kind} to {response.to}: {response.outcome}", self.width))
            )
        lines += self.reply()
        if self.verbose:
            lines += self.captures()
        return lines

    def way(self, leaf: Leaf, phase: str) -> list[Line | Row]:
        counts: dict[str, int] = {}
        total = [h.host for h in leaf.hops]
        lines: list[Line | Row] = []
        folded = self.folded(leaf)
        for index, hop in enumerate(leaf.hops):
            if index in folded:
                if index == folded.start:
                    lines.append(Line(f"  … {len(folded)} more passes like these"))
                counts[hop.host] = counts.get(hop.host, 0) + 1
                continue
            counts[hop.host] = counts.get(hop.host, 0) + 1
            name = clean(hop.host)
            if total.count(hop.host) > 1:
                name = f"pass {counts[hop.host]}  {name}"
            lines += self.hop(leaf, phase, index, hop, name)
        return lines

    def folded(self, leaf: Leaf) -> range:
        """Passes of a packet that goes round and round which say nothing new."""
        rounds = len(leaf.hops)
        return range(5, rounds - 1) if leaf.outcome == "looped" and rounds > 8 and not self.verbose else range(0)

    def hop(self, leaf: Leaf, phase: str, index: int, hop: Hop, name: str) -> list[Line | Row]:
        last = index == len(leaf.hops) - 1
        shown = [(i, s) for i, s in enumerate(hop.steps) if self.shown(phase, index, i, s, last)]
        conn = hop.conntrack or {}
        zone, state = str(conn.get("zone", "")) if conn else "", _state(hop)
        dull = all(s.stage in ("routing", "forward") for _, s in shown) and not last
        if dull and not self.verbose:
            way = f"sends by {hop.out_dev}" if hop.in_dev is None else f"forwarded {hop.in_dev} → {hop.out_dev}"
            where = ends(hop.after or hop.before, leaf.state)
            return [Row(f"  {name}  {clean(way)}", where, zone, state, extra=_ttl(hop))]
        head = f"  {name}  " + (f"in {clean(hop.in_dev)}" if hop.in_dev else "sent by the host itself")
        lines: list[Line | Row] = [Row(head, ends(hop.before, leaf.state), zone, state, ("bold",))]
        for i, step in shown:
            lines += self.step(phase, index, i, step)
        if hop.out_dev and (last or self.verbose or ends(hop.before) != ends(hop.after)):
            lines.append(Row(f"        out {clean(hop.out_dev)}", ends(hop.after, leaf.state)))
        return lines

    def shown(self, phase: str, hop: int, index: int, step: Step, last: bool) -> bool:
        if self.verbose or (phase, hop, index) in self.x.marks:
            return True
        if step.matched is False or (self.terse >= 3 and step.stage == "routing" and _dull_routing(step)):
            return False
        if self.terse >= 5 and not step.changes.keys() - DULL_FIELDS:
            return False
        if step.stage in ("rerouting", "fragmentation"):
            return True
        if step.stage == "routing":
            return last or not (step.text or "").startswith("rule 32766")
        if step.changes.keys() - DULL_FIELDS:
            return True
        return (
            bool(step.rule and step.matched and (step.verdict not in QUIET or step.verdict == "ACCEPT"))
            or step.verdict == "DROP"
        )

    def step(self, phase: str, hop: int, index: int, step: Step) -> list[Line]:
        mark = self.x.marks.get((phase, hop, index), SHOWN)
        number = self.x.numbers.get((phase, hop, index), 0)
        where = clean(f"{step.table} {step.chain}") if step.table and step.chain else step.stage
        if step.rule:
            where += f" {step.rule}"
        label = f"   {mark.sign or ' '}{number:>4}  {where:<12} "
        said = clean(mark.text) if mark.text is not None else "  ".join(clean(p) for p in step_words(step) if p)
        room = self.width - len(label)
        pieces = wrap(said, room) or [""]
        if step.rule and len(pieces) == 2 and " -j " in said:
            head, _, target = said.rpartition(" -j ")
            pieces = [head, f"-j {target}"] if max(len(head), len(target) + 3) <= room else pieces
        if not self.verbose and len(pieces) > 2:
            pieces = _shortened(step, said, room)
        if mark.tail and len(pieces[-1]) + len(mark.tail) + 3 <= room:
            pieces[-1] += "   " + mark.tail
        paint = ("red",) if mark.sign or step.verdict == "DROP" else ("yellow",) if mark.tail else ()
        return [Line((label if i == 0 else " " * len(label)) + piece, paint) for i, piece in enumerate(pieces)]

    def reply(self) -> list[Line | Row]:
        trial = self.x.trial
        obstacle, back = trial.obstacle, trial.back
        if obstacle is not None and obstacle.phase == FORWARD:
            if obstacle.code == "private_source_leaves":
                return [
                    Line(
                        fit(f"  reply    would need the network beyond to route {trial.leaf.packet['src']}", self.width)
                    )
                ]
            return []
        if back is None:
            return []
        if obstacle is not None or self.verbose:
            return [Line("  reply", ("bold",)), *self.way(back, REPLY)]
        start = back.hops[0] if back.hops else None
        if start is None:
            return []
        hosts = " → ".join(dict.fromkeys(clean(h.host) for h in back.hops))
        left = f"  reply    {hosts}"
        end = "arrives" if back.outcome == "delivered" else back.outcome
        return [Row(left, ends(back.packet, back.state), "", end)]

    def captures(self) -> list[Line | Row]:
        lines: list[Line | Row] = [Line(""), Line("CAPTURE  what tcpdump shows at each interface, in order")]
        for point in captures(self.x.trial):
            packet = point["packet"]
            text = f"  {point['phase']:<8} {point['host']} {point['interface']} {point['way']}"
            lines.append(Row(text, ends(packet), "", f"ttl {packet.get('ttl')}"))
        return lines

    # ------------------------------------------------------------------------------------------ fixes

    def fixes(self) -> list[Line]:
        works = [f for f in self.x.fixes if f.result == WORKS]
        if not self.verbose and len(works) > 1 and _alike(works[0], works[1]):
            works = works[:1]  # a variant of the first, not another way
        failing = [f for f in self.x.fixes if f.result != WORKS]
        lines: list[Line] = []
        for i, fix in enumerate(works[: None if self.verbose else 2 if self.terse < 1 else 1]):
            lines += [Line("")] if i == 0 else []
            lines += self.fix("FIX" if i == 0 else "OR", fix, ("green",))
        for fix in failing[: None if self.verbose else (1 if works else 2)]:
            lines += [] if lines else [Line("")]
            lines += self.fix("NOT", fix, ("dim",))
        return lines

    def fix(self, label: str, fix: Fix, paint: tuple[str, ...]) -> list[Line]:
        several = len(fix.hosts) > 1
        lines = []
        for i, (host, command) in enumerate(fix.steps()):
            head = (label if i == 0 else "").ljust(INDENT)
            typed = clean(f"{host}: {command}" if several else command)
            lines += [Line(piece, paint) for piece in _continued(head, typed, self.width)]
        where = f"on {fix.hosts[0]}, " if self.several and not several else ""
        text = f"{where}re-simulated: {fix.text}{_sampled(fix)}"
        lines += [
            Line(" " * (INDENT + 2) + piece, paint[-1:] if label == "NOT" else ())
            for piece in wrap(clean(text), self.width - INDENT - 2)
        ]
        lines += self.kept(fix) if self.persistent and label != "NOT" else []
        lines += self.lab(fix)
        for effect in fix.side_effects if self.verbose else ():
            lines.append(Line(fit(" " * (INDENT + 2) + "changes " + clean(effect), self.width), ("yellow",)))
        return lines

    def kept(self, fix: Fix) -> list[Line]:
        """What keeps the fix over a reboot; lines to paste are not broken, notes are."""
        from ..explain.paste import persistent

        lines = [Line(" " * INDENT + "to keep it:", ("dim",))]
        for text in persistent(fix.edits):
            pieces = wrap(clean(text), self.width - INDENT - 4) if text.startswith("# ") else [clean(text)]
            lines += [Line(" " * INDENT + ("# " if i else "") + piece) for i, piece in enumerate(pieces)]
        return lines

    def lab(self, fix: Fix) -> list[Line]:
        """What the kernel did in the lab, before and after."""
        if fix.lab is None:
            return []
        lines: list[Line] = []
        for when in ("before", "after"):
            side = fix.lab[when]
            reply = f"; the reply {side['reply']['text']}" if side["reply"] is not None else ""
            lines += self.block(f"  LAB {when}", f"{side['forward']['text']}{reply}", gap=False)
        word = "does as predicted" if fix.lab["agrees"] else "does NOT do as predicted: please report it"
        lines += self.block("  LAB", f"the kernel {word}", gap=False)
        for note in fix.lab["notes"] if self.verbose else fix.lab["notes"][:2]:
            lines += self.block("  LAB", f"note: {note}", gap=False)
        return lines

    def confirm(self) -> list[Line]:
        """How to look for oneself: a capture where the packet was seen last."""
        leaf = self.x.trial.leaf
        if leaf.outcome == "never_sent" or not leaf.hops:
            return []
        hop = leaf.hops[-1]
        dev = hop.out_dev or hop.in_dev or "any"
        packet = self.x.question.packet
        proto = {"icmpv6": "icmp6"}.get(packet["proto"], packet["proto"])
        named = f"{proto} and host {leaf.packet['dst']}" if not str(proto).isdigit() else f"host {leaf.packet['dst']}"
        at = f"on {hop.host}: " if self.several else ""
        return [Line(""), Line(f"CONFIRM  {at}tcpdump -ni {clean(dev)} '{named}'", ("dim",))]  # to paste: never cut

    def assumptions(self) -> list[Line]:
        shown = self.x.assumptions if self.verbose else self.x.assumptions[:3]
        lines: list[Line] = []
        for i, text in enumerate(shown):
            lines += (
                self.block("ASSUMED" if i == 0 else "", text, gap=False)
                if i == 0
                else self.block("       ", text, gap=False)
            )
        rest = len(self.x.assumptions) - len(shown)
        if rest:
            lines.append(Line(f"         … and {rest} more (-v)"))
        if self.x.unread:
            rules = "1 rule" if self.x.unread == 1 else f"{self.x.unread} rules"
            lines += self.block(
                "UNREAD ", f"{rules} in chains that the packet does not reach (--strict reads all)", gap=False
            )
        return lines


def _dull_routing(step: Step) -> bool:
    """Local delivery, and what the routing rules that every host has lead to."""
    return (step.text or "").startswith(("local ", "main: ", "rule 32766"))


def _alike(first: Fix, other: Fix) -> bool:
    """Whether at least half of the other fix's commands are the first one's."""
    return 2 * len(set(first.steps()) & set(other.steps())) >= len(other.steps())


def _continued(head: str, command: str, width: int) -> list[str]:
    """A command that is too long, continued the shell's way before its target: it can still be pasted."""
    first, target, rest = command.partition(" -j ")
    if len(head + command) <= width or not target or len(head + first) + 2 > width:
        return [head + command]
    return [f"{head}{first} \\", f"{' ' * len(head)}  -j {rest}"]


def _state(hop: Hop) -> str:
    first = next((s.conntrack for s in hop.steps if s.stage == "conntrack" and s.conntrack), "")
    text = (first or "").split(" zone ")[0].lower()
    if text == "new" and any(s.stage == "nat" and s.note and "not consulted" in s.note for s in hop.steps):
        return "same entry"
    return text


def _ttl(hop: Hop) -> str:
    before, after = hop.before.get("ttl"), hop.after.get("ttl")
    return f", ttl {before} → {after}" if after is not None and before != after else ""


def step_words(step: Step) -> list[str]:
    """What a step says, piece by piece."""
    words: list[str] = []
    if step.stage == "conntrack":
        words.append(step.conntrack or "")
    if step.matched is False:
        return [f"no match: {step.note}"]
    if step.changes:
        words.append(", ".join(f"{k} {_shown(a)} → {_shown(b)}" for k, (a, b) in step.changes.items()))
    if step.text:
        words.append(_plain_routing(step.text) if step.stage == "routing" else step.text)
    if step.note:
        words.append(step.note if not step.text else f"({step.note})")
    if step.verdict not in QUIET and str(step.verdict) not in (step.text or ""):
        words.append(f"→ {step.verdict}")
    return words


def _plain_routing(text: str) -> str:
    """The two rules that every host has go without saying: the table's name tells."""
    for usual, short in (("rule 32766: from all → table main: ", "main: "), ("rule 0: from all → table local: ", "")):
        if text.startswith(usual):
            return short + text[len(usual) :]
    return text


def _shortened(step: Step, said: str, room: int) -> list[str]:
    """Two lines: of a rule its target, whatever its criteria; of anything else the beginning."""
    head, dash, target = said.rpartition(" -j ")
    if not step.rule or not dash:
        first, *rest = wrap(said, room)
        return [first, fit(" ".join(rest), room)]
    target = f"-j {target}"
    if len(target) > room:
        return [fit(head, room), *wrap(target, room)[:3]]
    return [fit(head, room), target]


def _shown(value: Any) -> str:
    return "none" if value is None else str(value) if not isinstance(value, tuple) else "drawn"


def _sampled(fix: Fix) -> str:
    if not fix.flows_sampled:
        return ""
    parts = []
    if fix.also_cured:
        parts.append(f"{fix.also_cured} cured too")
    parts.append(
        _changed(fix.side_effects) if fix.side_effects else "none else changes" if fix.also_cured else "none changes"
    )
    return f"; {fix.flows_sampled} other flows sampled, {', '.join(parts)}"


def _changed(effects: list[str]) -> str:
    """Which flows fare differently: the first one by name, before and after with -v."""
    more = f" and {len(effects) - 1} more" if len(effects) > 1 else ""
    return f"changes {effects[0].partition(': ')[0]}{more} (-v: how)"


__all__ = ["render", "step_words"]
