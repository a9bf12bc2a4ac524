"""``iptables -I/-A/-R/-D/-P/-N/-F/-X`` on a copy: each function returns a new Table and leaves the old one as it is.

Rules that nobody has parsed yet stay unparsed; those behind the place of an edit get their new numbers when read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..model.addr import AF_INET
from ..model.rule import Chain, ListChain, ListTable, Rule, RuleId, Table
from ..model.where import Where
from . import known
from .names import nearest
from .printer import print_spec
from .save import Item, LazyChain, LazyTable, renumbered
from .typed import parse_rules

WHAT_IF = Where("(what-if)")
_POLICIES = ("ACCEPT", "DROP")
_COMMANDS = ("-A", "--append", "-I", "--insert")


def empty_table(name: str, family: int = AF_INET, backend: str = "iptables") -> ListTable:
    """A table with its built-in chains and no rule, as the kernel has it before anybody touches it."""
    if name not in known.BUILT_IN:
        raise InputError(f"there is no table {name!r}", remedy=f"tables: {', '.join(known.BUILT_IN)}")
    chains: dict[str, Chain] = {chain: ListChain(chain, policy="ACCEPT") for chain in known.BUILT_IN[name]}
    return ListTable(backend, family, name, chains)


def append_rule(table: Table, chain: str, line: str, *, users: Mapping[str, int] | None = None,
                groups: Mapping[str, int] | None = None, where: Where = WHAT_IF) -> Table:  # fmt: skip
    """``-A``. ``line``: the rule with or without ``-A CHAIN`` before it. Raises InputError."""
    old = find_chain(table, chain)
    return _changed(table, chain, len(old), len(old), _parse(table, chain, line, users, groups, where))


def insert_rule(table: Table, chain: str, index: int, line: str, *, users: Mapping[str, int] | None = None,
                groups: Mapping[str, int] | None = None, where: Where = WHAT_IF) -> Table:  # fmt: skip
    """``-I CHAIN INDEX``, from 1; one more than there are rules appends. Raises InputError."""
    old = find_chain(table, chain)
    if not 1 <= index <= len(old) + 1:
        raise InputError(f"-I {chain} {index}: the chain has {len(old)} rules", remedy=f"1 to {len(old) + 1}")
    return _changed(table, chain, index - 1, index - 1, _parse(table, chain, line, users, groups, where))


def replace_rule(table: Table, chain: str, index: int, line: str, *, users: Mapping[str, int] | None = None,
                 groups: Mapping[str, int] | None = None, where: Where = WHAT_IF) -> Table:  # fmt: skip
    """``-R CHAIN INDEX``. Raises InputError."""
    _existing(table, chain, index)
    return _changed(table, chain, index - 1, index, _parse(table, chain, line, users, groups, where))


def delete_rule(table: Table, chain: str, which: int | str, *, users: Mapping[str, int] | None = None,
                groups: Mapping[str, int] | None = None) -> Table:  # fmt: skip
    """``-D CHAIN INDEX`` or ``-D CHAIN rule…`` (the first that prints the same). Raises InputError."""
    if isinstance(which, int):
        _existing(table, chain, which)
        return _changed(table, chain, which - 1, which, [])
    for wanted in _parse(table, chain, which, users, groups, WHAT_IF):
        index = find_rule(table, chain, wanted)
        if index is None:
            raise InputError(f"chain {chain} of table {table.name} has no such rule: {print_spec(wanted)}")
        table = _changed(table, chain, index - 1, index, [])
    return table


def find_rule(table: Table, chain: str, wanted: Rule) -> int | None:
    """Index of the first rule that prints as ``wanted`` does, or None. Parses the chain."""
    text = print_spec(wanted)
    old = find_chain(table, chain)
    return next((i for i in range(1, len(old) + 1) if print_spec(old.rule(i)) == text), None)


def set_policy(table: Table, chain: str, policy: str) -> Table:
    """``-P``. Raises InputError."""
    old = find_chain(table, chain)
    if old.policy is None:
        raise InputError(f"-P {chain}: a user chain has no policy")
    if policy not in _POLICIES or (table.name == "nat" and policy == "DROP"):
        raise InputError(
            f"-P {chain} {policy}: table {table.name} takes no such policy", remedy="ACCEPT or DROP (not in nat)"
        )
    return _with_chain(table, chain, _rebuilt(old, _items(old), policy, WHAT_IF))


def new_chain(table: Table, chain: str) -> Table:
    """``-N``. Raises InputError."""
    if chain in table.chains or chain in known.BUILT_IN.get(table.name, ()):
        raise InputError(f"-N {chain}: the chain exists already in table {table.name}")
    if not chain or chain[0] in "-!" or len(chain) > 28 or chain.split() != [chain] or chain in known.TARGETS:
        raise InputError(
            f"-N {chain!r}: not a name for a chain", remedy="1-28 characters, no space, no - or ! in front"
        )
    return _with_chain(table, chain, ListChain(chain, where=WHAT_IF))


def flush_chain(table: Table, chain: str) -> Table:
    """``-F CHAIN``. Raises InputError."""
    old = find_chain(table, chain)
    return _with_chain(table, chain, ListChain(chain, (), old.policy, old.where, old.policy_counters))


def find_chain(table: Table, chain: str) -> Chain:
    """The chain; a built-in one that the dump didn't show is empty and accepts. Raises InputError."""
    found = table.chains.get(chain)
    if found is not None:
        return found
    if chain in known.BUILT_IN.get(table.name, ()):
        return ListChain(chain, policy="ACCEPT")
    guess = nearest(chain, table.chains)
    remedy = f"did you mean {guess}?" if guess else "make it with -N first"
    raise InputError(f"table {table.name} has no chain {chain!r}", remedy=remedy)


def _existing(table: Table, chain: str, index: int) -> None:
    count = len(find_chain(table, chain))
    if not 1 <= index <= count:
        raise InputError(f"chain {chain} of table {table.name} has no rule {index}: it has {count}")


def _parse(table: Table, chain: str, line: str, users: Mapping[str, int] | None, groups: Mapping[str, int] | None,
           where: Where) -> list[Rule]:  # fmt: skip
    head = line.split(None, 2)
    if not head or head[0] not in _COMMANDS:
        line = f"-A {chain} {line}"
    elif len(head) > 1 and head[1] != chain:
        raise InputError(f"the rule is for chain {head[1]}, not {chain}")
    return parse_rules(line, table=table.name, family=table.family, backend=table.backend, where=where, users=users,
                       groups=groups, chains=table.chains)  # fmt: skip


def _items(chain: Chain) -> list[Any]:
    if isinstance(chain, LazyChain):
        return list(chain.items)
    return [chain.rule(index) for index in range(1, len(chain) + 1)]


def _rebuilt(old: Chain, items: list[Any], policy: str | None, where: Where | None) -> Chain:
    if isinstance(old, LazyChain):
        return LazyChain(old.source, old.name, items, policy, where, old.policy_counters)
    return ListChain(old.name, tuple(items), policy, where, old.policy_counters)


def _changed(table: Table, chain: str, first: int, last: int, new: list[Rule]) -> Table:
    """The table with the items [first, last) of a chain replaced by ``new``."""
    old = find_chain(table, chain)
    items: list[Item] = _items(old)
    items[first:last] = new
    if not isinstance(old, LazyChain):
        numbered = enumerate(items, 1)
        items = [
            renumbered(rule, RuleId(table.backend, table.family, table.name, chain, index))
            for index, rule in numbered
            if isinstance(rule, Rule)
        ]
    return _with_chain(table, chain, _rebuilt(old, items, old.policy, old.where))


def _with_chain(table: Table, name: str, chain: Chain) -> Table:
    if isinstance(table, LazyTable):
        return table.with_chain(name, chain)
    return ListTable(table.backend, table.family, table.name, {**table.chains, name: chain}, table.file)
