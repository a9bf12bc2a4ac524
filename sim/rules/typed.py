"""One rule as somebody types it: ``-A CHAIN …`` with a shell's quoting."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

from ..errors import RuleError
from ..model.rule import Rule, RuleId
from ..model.where import Where
from .builder import Scope
from .lexer import MAX_LINE, LexError
from .shell import typed_words
from .words import read_typed

_COMMAND = re.compile(r"\s*(?:-A|--append|-I|--insert)\s+\S+\s*")
EXAMPLE = "-A FORWARD -i eth0 -p tcp --dport 80 -j ACCEPT"


def parse_rules(line: str, *, table: str, family: int = 2, backend: str = "iptables", index: int = 0,
                where: Where | None = None, users: Mapping[str, int] | None = None,
                groups: Mapping[str, int] | None = None, chains: Container[str] | None = None) -> list[Rule]:  # fmt: skip
    """The rules that one line makes: several where ``-s`` or ``-d`` is a list; numbered from ``index`` on.

    ``chains``: the table's user chains where they are known; then a jump to anything else is an error.
    Raises RuleError.
    """
    if len(line) > MAX_LINE:
        raise RuleError(f"a rule of more than {MAX_LINE} characters", where)
    try:
        words = typed_words(line)
    except LexError as error:
        raise RuleError(str(error), where, "close the quote") from None
    if len(words) < 2 or words[0] not in ("-A", "--append", "-I", "--insert"):
        raise RuleError("a rule begins with -A CHAIN", where, f"example: {EXAMPLE}")
    chain, rest = words[1], words[2:]
    scope = Scope(table, family, users, groups, chains, typed=True)
    found = _COMMAND.match(line)
    text = line[found.end() :].strip() if found else " ".join(rest)
    try:
        parts, counters = read_typed(rest, scope.place(chain))
    except RuleError as error:
        error.where = error.where or where
        raise
    return [
        Rule(RuleId(backend, family, table, chain, index + i if index else 0), one.matches, one.target, text, where, None,
             counters, one.comment)
        for i, one in enumerate(parts)
    ]  # fmt: skip


def parse_rule(line: str, *, table: str, family: int = 2, backend: str = "iptables", index: int = 0,
               where: Where | None = None, users: Mapping[str, int] | None = None,
               groups: Mapping[str, int] | None = None, chains: Container[str] | None = None) -> Rule:  # fmt: skip
    """The one rule of a line. Raises RuleError, also for a line that makes several."""
    rules = parse_rules(line, table=table, family=family, backend=backend, index=index, where=where, users=users,
                        groups=groups, chains=chains)  # fmt: skip
    if len(rules) != 1:
        raise RuleError(f"this line makes {len(rules)} rules, one for each address", where, "write them one by one")
    return rules[0]
