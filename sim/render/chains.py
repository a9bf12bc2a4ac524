"""The chains that a packet met, as a reader of the rule set wants them: the rules that were decisive and their neighbours.

A chain of 20 000 rules is not shown whole: of each only what lies around the rules that the answer names.
"""

from __future__ import annotations

from typing import Any

from ..errors import NattraceError
from ..record import NamedTuple
from .journey import Event, Journey

AROUND, FIRST, MOST_RULES, MOST_CHAINS = 3, 3, 40, 40


class Shown(NamedTuple):
    """One rule. ``event``: the step that names it, if one does."""

    number: int
    text: str
    where: str
    event: Event | None


class ChainView(NamedTuple):
    """A window into a chain; ``rules`` counts all of them. None among ``shown`` is a gap."""

    host: str
    table: str
    name: str
    policy: str | None
    rules: int
    shown: tuple[Shown | None, ...]


def met(world: Any, journey: Journey) -> list[ChainView]:
    """Chains in the order in which the packet came to them."""
    named: dict[tuple[str, str, str], dict[int, Event]] = {}
    for one in journey.passes:
        for e in one.events:
            if e.step.table and e.step.chain:
                rules = named.setdefault((one.host, e.step.table, e.step.chain), {})
                if e.step.rule:
                    rules.setdefault(e.step.rule, e)
    found = []
    for (host_name, table_name, chain_name), events in list(named.items())[:MOST_CHAINS]:
        host = world.hosts.get(host_name)
        for table in host.tables if host is not None else ():
            if table.name == table_name and chain_name in table.chains:
                found.append(_view(host_name, table_name, table.chains[chain_name], chain_name, events))
                break
    return [c for c in found if c.rules]


def _view(host: str, table: str, chain: Any, name: str, events: dict[int, Event]) -> ChainView:
    wanted = set(range(1, FIRST + 1)) if len(events) < 2 else set()
    for number in sorted(events)[: MOST_RULES // (2 * AROUND + 1)]:
        wanted |= set(range(number - AROUND, number + AROUND + 1))
    shown: list[Shown | None] = []
    last = 0
    for number in sorted(n for n in wanted if 1 <= n <= len(chain)):
        if number > last + 1:
            shown.append(None)
        shown.append(_rule(chain, number, events.get(number)))
        last = number
    if last < len(chain):
        shown.append(None)
    return ChainView(host, table, name, chain.policy, len(chain), tuple(shown))


def _rule(chain: Any, number: int, event: Event | None) -> Shown:
    try:
        rule = chain.rule(number)
    except NattraceError as error:
        return Shown(number, f"cannot be read: {error}", "", event)
    return Shown(number, rule.text, str(rule.where or ""), event)
