"""``iptables -A/-I/-D/-R/-P/-N/-F`` on a copy of a host's tables (what-if edits and candidate fixes)."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from ..engine.hooks import TABLE_HOOKS
from ..errors import InputError, NattraceError
from ..model.rule import HOOK_NAME, Chain, ListChain, ListTable, Rule, RuleId, Table
from ..model.where import Where
from ..model.world import Host

WHERE = Where("what-if")
_VERBS = {
    "-A": "add", "--append": "add", "-I": "insert", "--insert": "insert", "-D": "delete", "--delete": "delete", "-R": "replace",
    "--replace": "replace", "-P": "policy", "--policy": "policy", "-N": "new", "--new-chain": "new", "-F": "flush",
    "--flush": "flush",
}  # fmt: skip


def edit_rules(host: Host, text: str, family: int = 2, backend: str | None = None) -> Host:
    """The host after one iptables command. Raises InputError for one that iptables would refuse."""
    table_name, verb, chain_name, words = _read(text)
    tables = [t for t in host.tables if t.family == family and t.name == table_name]
    if backend is not None:
        tables = [t for t in tables if t.backend == backend]
    table: Table = tables[0] if tables else _new_table(table_name, family, backend or "iptables")
    chains: dict[str, Chain] = dict(table.chains)
    if verb == "new":
        chains[chain_name] = ListChain(chain_name)
    else:
        chain = chains.get(chain_name)
        if chain is None:
            if verb not in ("add", "insert", "policy") or not _built_in(table_name, chain_name):
                known = ", ".join(chains)
                raise InputError(
                    f"{text!r}: table {table_name} of {host.name} has no chain {chain_name!r}",
                    remedy=f"chains: {known}",
                )
            chain = ListChain(chain_name, policy="ACCEPT")
        chains[chain_name] = _edited(host, table, chain, verb, words, text)
    changed = ListTable(table.backend, family, table_name, chains, table.file or "what-if")
    if not tables:
        return host.with_(tables=(*host.tables, changed))
    return host.with_(tables=tuple(changed if t is table else t for t in host.tables))


def _read(text: str) -> tuple[str, str, str, list[str]]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"{text!r}: {error}") from None
    table, verb, chain, rest = "filter", "", "", []
    i = 0
    while i < len(words):
        word = words[i]
        if word in ("-t", "--table") and i + 1 < len(words):
            table, i = words[i + 1], i + 2
        elif word in _VERBS and not verb and i + 1 < len(words):
            verb, chain, i = _VERBS[word], words[i + 1], i + 2
        elif word in ("-w", "--wait", "-v"):
            i += 1
        else:
            rest.append(word)
            i += 1
    if not verb:
        raise InputError(
            f"{text!r}: no command", remedy="example: iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE"
        )
    if table not in TABLE_HOOKS:
        raise InputError(f"{text!r}: no table {table!r}", remedy=f"tables: {', '.join(TABLE_HOOKS)}")
    return table, verb, chain, rest


def _built_in(table: str, chain: str) -> bool:
    return any(HOOK_NAME[h] == chain for h in TABLE_HOOKS[table][0])


def _new_table(name: str, family: int, backend: str) -> ListTable:
    chains: dict[str, Chain] = {HOOK_NAME[h]: ListChain(HOOK_NAME[h], policy="ACCEPT") for h in TABLE_HOOKS[name][0]}
    return ListTable(backend, family, name, chains)


def _edited(host: Host, table: Table, chain: Chain, verb: str, words: list[str], text: str) -> ListChain:
    rules = [chain.rule(i) for i in range(1, len(chain) + 1)]
    policy = chain.policy
    if verb == "policy":
        if chain.policy is None or words[:1] not in (["ACCEPT"], ["DROP"]):
            raise InputError(f"{text!r}: a policy is ACCEPT or DROP of a built-in chain")
        policy = words[0]
    elif verb == "flush":
        rules = []
    else:
        place = _place(verb, words, len(rules), text)
        if verb == "delete":
            del rules[_found(host, table, chain, rules, words, text) if place is None else place]
        else:
            rule = _parsed(host, table, chain.name, words, text)
            if verb == "add":
                rules.append(rule)
            elif verb == "insert":
                rules.insert(place or 0, rule)
            else:
                rules[place or 0] = rule
    numbered = (_numbered(rule, table, chain.name, i) for i, rule in enumerate(rules, 1))
    return ListChain(chain.name, tuple(numbered), policy, chain.where, chain.policy_counters)


def _place(verb: str, words: list[str], count: int, text: str) -> int | None:
    """The 0-based place that a leading rule number names (consumed from ``words``)."""
    if verb == "add" or not words or not words[0].isdigit():
        if verb == "replace":
            raise InputError(f"{text!r}: -R needs the number of the rule")
        return None
    number = int(words.pop(0))
    if not 1 <= number <= count + (verb == "insert"):
        raise InputError(f"{text!r}: there is no rule {number}; the chain has {count}")
    return number - 1


def _parsed(host: Host, table: Table, chain: str, words: list[str], text: str) -> Rule:
    from ..rules.iptables import parse_rule

    line = " ".join(["-A", shlex.quote(chain), *map(shlex.quote, words)])
    try:
        return parse_rule(
            line, table=table.name, family=table.family, backend=table.backend, where=WHERE, users=host.users, groups=host.groups
        )  # fmt: skip
    except NattraceError as error:
        raise InputError(f"{text!r}: {error.message}", remedy=error.remedy) from None


def _numbered(rule: Rule, table: Table, chain: str, index: int) -> Rule:
    wanted = RuleId(table.backend, table.family, table.name, chain, index)
    return rule if rule.rule_id == wanted else replace(rule, rule_id=wanted)


def _found(host: Host, table: Table, chain: Chain, rules: list[Rule], words: list[str], text: str) -> int:
    wanted = _meaning(_parsed(host, table, chain.name, words, text))
    for i, rule in enumerate(rules):
        if _meaning(rule) == wanted:
            return i
    raise InputError(f"{text!r}: {chain.name} of table {table.name} on {host.name} has no such rule")


def _meaning(rule: Rule) -> Any:
    target = rule.target
    return sorted((m.name, m.words()) for m in rule.matches), target and (target.name, target.words())
