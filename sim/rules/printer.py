"""A rule as iptables-save prints it. iptables/iptables.c print_rule4(), iptables/nft-shared.c nft_ipv46_save_rule().

Matches print their words ready to use; words of targets and of extensions that are not modelled are values, which
are quoted here.
"""

from __future__ import annotations

import re

from ..model.rule import Rule, Target
from .header import HeaderMatch
from .jump import Goto, Jump
from .lexer import save_string
from .unmodelled import UnmodelledMatch

# Options of targets whose value goes through xtables_save_string()
_STRINGS = frozenset(("--log-prefix", "--nflog-prefix", "--ulog-prefix"))
_MUST_QUOTE = re.compile(r'[\s"\\]|\A\Z')


def print_rule(rule: Rule) -> str:
    """``-A CHAIN …`` without counters."""
    return " ".join(["-A", rule.rule_id.chain, *rule_words(rule)])


def print_spec(rule: Rule) -> str:
    """The text after ``-A CHAIN``."""
    return " ".join(rule_words(rule))


def rule_words(rule: Rule) -> list[str]:
    out: list[str] = []
    for match in rule.matches:
        if isinstance(match, HeaderMatch):
            out += match.words()
        elif isinstance(match, UnmodelledMatch):
            out += ["-m", match.name, *map(_as_needed, match.words())]
        else:
            out += ["-m", match.name, *match.words()]
    if rule.target is not None:
        out += _target_words(rule.target)
    return out


def _target_words(target: Target) -> list[str]:
    if isinstance(target, Jump):
        return ["-j", target.chain]
    if isinstance(target, Goto):
        return ["-g", target.chain]
    out = ["-j", target.name]
    before = ""
    for word in target.words():
        out.append(save_string(word) if before in _STRINGS else _as_needed(word))
        before = word
    return out


def _as_needed(word: str) -> str:
    return save_string(word) if _MUST_QUOTE.search(word) else word
