"""Which rules matched, by their counters before and after: changes nothing, and any other traffic counts too.

    counters = Counters(netns, host)
    ...                                            # the packet passes
    for rise in counters.rises():
        rise.rule.text, rise.packets               # and rise.step(): a Step that says so in its note
    counters.unmeasured                            # native nft rules without ``counter``: nothing can be said

iptables counts in both backends; native nft only where a rule says ``counter``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ....sim.model.result import Step
from ....sim.model.rule import HOOK_NUMBER
from ..nfnl.sock import InNetns
from .book import KnownRule, Place, RuleBook

if TYPE_CHECKING:
    from ....sim.model.world import Host


class Rise(NamedTuple):
    """A rule (``rule.number`` 0: a policy) whose counter went up by so much."""

    rule: KnownRule
    packets: int
    bytes: int

    def step(self) -> Step:
        """As a step; its hook is known only in a built-in chain, its verdict not at all."""
        note = f"its counter rose by {self.packets}; other traffic may have done that"
        return self.rule.step(HOOK_NUMBER.get(self.rule.chain), None, note)


class Counters:
    """The counters of a namespace at one moment, to be compared with a later one."""

    def __init__(self, netns: InNetns | None = None, host: Host | None = None) -> None:
        self.netns, self.host = netns, host
        self.before = RuleBook.read(netns, host)
        self.changed = False

    @property
    def unmeasured(self) -> list[KnownRule]:
        """Rules without a counter."""
        return [rule for rule in self.before.rules.values() if rule.packets is None]

    def rises(self) -> list[Rise]:
        """What went up since; rules are told by handle or place. ``changed`` says if the rule set itself did."""
        after = RuleBook.read(self.netns, self.host)
        self.changed = {(p, r.text) for p, r in self.before.rules.items()} != {
            (p, r.text) for p, r in after.rules.items()
        }
        old = {_identity(rule): rule for rule in self.before.rules.values()}
        found = []
        for rule in after.rules.values():
            was = old.get(_identity(rule))
            base = (was.packets or 0, was.bytes or 0) if was is not None and was.text == rule.text else (0, 0)
            if rule.packets is not None and rule.packets > base[0]:
                found.append(Rise(rule, rule.packets - base[0], (rule.bytes or 0) - base[1]))
        return found


def _identity(rule: KnownRule) -> Place | tuple[Place, int]:
    """A handle stays when rules are inserted before it; legacy rules have their number only."""
    return rule.place if rule.handle is None else (rule.place._replace(number=-1), rule.handle)
