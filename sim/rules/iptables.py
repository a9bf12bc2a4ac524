"""Provisional: eager reader of iptables-save (replaced by the lazy one)."""

from __future__ import annotations

from typing import Any

from ..errors import RuleError
from ..model.addr import mask_of, parse_addr, parse_prefix
from ..model.packet import PROTO_NUMBER
from ..model.rule import ListChain, ListTable, Match, Rule, RuleId, Target
from ..model.where import Where
from . import header
from .jump import Goto, Jump
from .lexer import save_words, typed_words
from .registry import At, Got, find_match, find_target
from .unmodelled import UnmodelledMatch

LONG = {"--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d", "--in-interface": "-i",
        "--out-interface": "-o", "--protocol": "-p", "--jump": "-j", "--goto": "-g", "--match": "-m", "--append": "-A",
        "--fragment": "-f", "--proto": "-p"}  # fmt: skip


def parse_rule(line: str, *, table: str, family: int = 2, backend: str = "iptables", index: int = 0,
               where: Where | None = None, users: Any = None, groups: Any = None) -> Rule:  # fmt: skip
    words = typed_words(line)
    return _parse(words, table, family, backend, index, where, users or {}, groups or {})


def _parse(words: list[str], table: str, family: int, backend: str, index: int, where: Where | None, users: Any,
           groups: Any, counters: Any = None) -> Rule:  # fmt: skip
    i, negated, chain = 0, False, ""
    heads: list[Match] = []
    mods: list[tuple[Any, list[Got]]] = []
    target: tuple[Any, list[Got]] | None = None
    jump: Target | None = None
    proto, pneg = 0, False
    if words and words[0] in ("-A", "--append"):
        chain, i = words[1], 2
    text = " ".join(words[i:])

    def at() -> At:
        return At(family, table, chain, proto, pneg, where, users, groups)

    while i < len(words):
        word = LONG.get(words[i], words[i])
        if word == "!":
            negated = True
            i += 1
            continue
        if word in ("-s", "-d"):
            cls = header.Source if word == "-s" else header.Destination
            value = words[i + 1]
            head, _, tail = value.partition("/")
            if "." in tail:
                mask = parse_addr(tail)[1]
                heads.append(cls(family, parse_addr(head)[1] & mask, mask, negated))
            else:
                p = parse_prefix(value)
                heads.append(cls(family, p.value, mask_of(family, p.plen), negated))
            i += 2
        elif word in ("-i", "-o"):
            heads.append((header.InInterface if word == "-i" else header.OutInterface)(words[i + 1], negated))
            i += 2
        elif word == "-p":
            name = words[i + 1].lower()
            proto = int(name) if name.isdigit() else 0 if name == "all" else PROTO_NUMBER[name]
            pneg = negated
            if proto:
                heads.append(header.Protocol(proto, negated))
            i += 2
        elif word == "-f":
            heads.append(header.Fragment(negated))
            i += 1
        elif word == "-m":
            info = find_match(words[i + 1])
            if info is None:
                raise RuleError(f"unknown match {words[i + 1]}", where)
            mods.append((info, []))
            i += 2
        elif word in ("-j", "-g"):
            name = words[i + 1]
            info = find_target(name) if word == "-j" else None
            if info is None:
                jump = Jump(name) if word == "-j" else Goto(name)
            else:
                target = (info, [])
            i += 2
        else:
            holders = [m for m in reversed(mods) if word in m[0].options]
            holder = target if target is not None and word in target[0].options else holders[0] if holders else None
            if holder is None and proto:
                from ..model.packet import PROTO_NAME

                info = find_match(PROTO_NAME.get(proto, ""))
                if info is not None and word in info.options:
                    holder = (info, [])
                    mods.append(holder)
            if holder is None:
                raise RuleError(f"unknown option {word}", where)
            opt = holder[0].options[word]
            if opt.args == -1:
                n = 1 if i + 1 < len(words) and not words[i + 1].startswith("-") and words[i + 1] != "!" else 0
            else:
                n = opt.args
            holder[1].append(Got(opt.name, negated, tuple(words[i + 1 : i + 1 + n])))
            i += 1 + n
        negated = False
    heads.sort(key=lambda h: h.place)  # type: ignore[attr-defined]
    matches = [*heads, *(m[0].cls.parse(tuple(m[1]), at()) for m in mods)]
    if target is not None:
        jump = target[0].cls.parse(tuple(target[1]), at())
    return Rule(RuleId(backend, family, table, chain, index), tuple(matches), jump, text, where, None, counters)


def parse_save(text: str, *, file: str, family: int = 2, backend: str = "iptables", users: Any = None, groups: Any = None,
               strict: bool = False) -> list[Any]:  # fmt: skip
    tables: list[Any] = []
    chains: dict[str, list[Rule]] = {}
    policies: dict[str, Any] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("*"):
            name, chains, policies = line[1:], {}, {}
        elif line.startswith(":"):
            words = line[1:].split()
            chains[words[0]], policies[words[0]] = [], None if words[1] == "-" else words[1]
        elif line == "COMMIT":
            tables.append(ListTable(backend, family, name, {c: ListChain(c, tuple(r), policies.get(c), Where(file, 0))
                                                            for c, r in chains.items()}, file))  # fmt: skip
        else:
            if line.startswith("["):
                line = line.partition("] ")[2]
            words = save_words(line)
            rules = chains.setdefault(words[1], [])
            rules.append(_parse(words, name, family, backend, len(rules) + 1, Where(file, number), users or {}, groups or {}))
    return tables


__all__ = ["UnmodelledMatch", "parse_rule", "parse_save"]
