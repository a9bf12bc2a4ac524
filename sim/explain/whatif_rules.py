"""One ``iptables`` command line on a copy of a host: table, verb and chain are read here, the change is ``rules.edit``'s."""

from __future__ import annotations

import shlex
from typing import Any

from ..errors import InputError, NattraceError
from ..model.rule import Table
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
    from ..rules.edit import empty_table

    name, verb, chain, words = _read(text)
    tables = [t for t in host.tables if t.family == family and t.name == name and backend in (None, t.backend)]
    try:
        table: Table = tables[0] if tables else empty_table(name, family, backend or "iptables")
        changed = _changed(host, table, verb, chain, words)
    except NattraceError as error:
        raise InputError(f"{text!r} on {host.name}: {error.message}", remedy=error.remedy) from None
    if not tables:
        return host.with_(tables=(*host.tables, changed))
    return host.with_(tables=tuple(changed if t is table else t for t in host.tables))


def _read(text: str) -> tuple[str, str, str, list[str]]:
    """(table, verb, chain, the rest)."""
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
    return table, verb, chain, rest


def _changed(host: Host, table: Table, verb: str, chain: str, words: list[str]) -> Table:
    from ..rules import edit

    names: dict[str, Any] = {"users": host.users, "groups": host.groups}
    if verb == "policy":
        return edit.set_policy(table, chain, words[0] if words else "")
    if verb == "new":
        return edit.new_chain(table, chain)
    if verb == "flush":
        return edit.flush_chain(table, chain)
    numbered = verb != "add" and words and words[0].isascii() and words[0].isdigit() and len(words[0]) < 10
    index = int(words.pop(0)) if numbered else None
    line = " ".join(map(shlex.quote, words))
    if verb == "delete":
        return edit.delete_rule(table, chain, line if index is None else index, **names)
    if verb == "insert":
        return edit.insert_rule(table, chain, 1 if index is None else index, line, where=WHERE, **names)
    if verb == "replace":
        if index is None:
            raise InputError("-R needs the number of the rule")
        return edit.replace_rule(table, chain, index, line, where=WHERE, **names)
    return edit.append_rule(table, chain, line, where=WHERE, **names)
