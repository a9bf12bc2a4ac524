"""What a change is looked for: that the flow works both ways, or that what the asker expected happens."""

from __future__ import annotations

from ..model.rule import Rule
from ..record import NamedTuple, dataclass
from .expect import OUTCOMES, check
from .parts import FAILS, FORWARD_ONLY, WORKS
from .trial import FORWARD, Trial
from .whatif import WHERE, Edit, RuleEdit
from .whatif_move import RuleMove

ARRIVING = {"delivered", "left"}


class Wanted(NamedTuple):
    """The rule that ``rule TABLE:CHAIN:N`` names, wherever a change moves it to."""

    host: str
    rule: Rule


@dataclass(slots=True)
class Goal:
    """``texts``: what is expected, all of it. None: the flow works in both directions."""

    texts: tuple[str, ...] = ()
    rules: tuple[Wanted, ...] = ()

    @property
    def stops(self) -> bool:
        """Whether the packet is meant to end on its way: nothing has to come back then."""
        return any(t.split()[0] in OUTCOMES - ARRIVING for t in self.texts if t.split())

    def met(self, trial: Trial, edits: tuple[Edit, ...] = ()) -> bool:
        """Whether everything expected happens."""
        return all(self.one(trial, text, edits) for text in self.texts)

    def one(self, trial: Trial, text: str, edits: tuple[Edit, ...]) -> bool:
        if text.split()[:1] != ["rule"]:
            return check(trial, text).met is True
        spec = text.split()[1].split(":")
        wanted = [w for w in self.rules if (w.rule.rule_id.table, w.rule.rule_id.chain) == tuple(spec[:2])]
        return any(_matched(trial, w, edits) for w in wanted if str(w.rule.rule_id.index) == spec[2])

    def reached(self, trial: Trial, edits: tuple[Edit, ...] = ()) -> bool:
        """Whether a trial is what was wanted, there and back."""
        return self.met(trial, edits) and (self.stops or trial.ok)

    def judge(self, trial: Trial, original: Trial, edits: tuple[Edit, ...]) -> str:
        """``works``, ``forward_only`` or ``fails``."""
        if self.reached(trial, edits):
            return WORKS
        if self.texts:
            half = self.met(trial, edits) and trial.forward_ok and not trial.ok
            return FORWARD_ONLY if half and (original.ok or _stuck(original)) else FAILS
        return FORWARD_ONLY if trial.forward_ok and _stuck(original) else FAILS


def _stuck(trial: Trial) -> bool:
    return trial.obstacle is not None and trial.obstacle.phase == FORWARD


def goal_of(trial: Trial, texts: tuple[str, ...]) -> Goal:
    """The goal of expectations that check() has understood."""
    rules = []
    for text in texts:
        words = text.split()
        if words[0] != "rule":
            continue
        table_name, chain_name, number = words[1].split(":")
        for host in dict.fromkeys(h.host for h in trial.leaf.hops):
            for table in trial.world.hosts[host].tables:
                chain = table.chains.get(chain_name) if table.name == table_name else None
                if chain is not None and int(number) <= len(chain):
                    rules.append(Wanted(host, chain.rule(int(number))))
    return Goal(texts, tuple(rules))


def _matched(trial: Trial, wanted: Wanted, edits: tuple[Edit, ...]) -> bool:
    """Whether the packet meets the rule itself, or what an edit has put in its place."""
    rule = wanted.rule
    place = (rule.rule_id.table, rule.rule_id.chain)
    stands = any(_stands_for(edit, wanted) for edit in edits)
    for hop in trial.leaf.hops:
        for step in hop.steps if hop.host == wanted.host else ():
            if not step.matched or (step.table, step.chain) != place or step.target != target_name(rule):
                continue
            if step.where == rule.where if rule.where is not None else step.text == rule.text:
                return True
            if stands and step.where == WHERE:
                return True
    return False


def _stands_for(edit: Edit, wanted: Wanted) -> bool:
    chain, index = wanted.rule.rule_id.chain, wanted.rule.rule_id.index
    if isinstance(edit, RuleMove):
        return (edit.host, edit.table, edit.chain, edit.number) == (
            wanted.host,
            wanted.rule.rule_id.table,
            chain,
            index,
        )
    return isinstance(edit, RuleEdit) and edit.host == wanted.host and f"-R {chain} {index} " in edit.text


def target_name(rule: Rule) -> str | None:
    return rule.target.name if rule.target is not None else None


__all__ = ["Goal", "Wanted", "goal_of", "target_name"]
