"""``nft.json`` and ``nft.txt``: which base chains exist beside iptables, and where they hook.

Native rules are not evaluated yet: each of their base chains becomes a ForeignChain (ip, ip6, inet) or a line of
``Host.unmodelled`` (bridge, netdev, arp). Tables that iptables-nft made are in ``iptables-save.txt`` with all their
options and count there; only where that file lacks them are they foreign, and the reason names the file.
"""

from __future__ import annotations

import re
from typing import Any

from ..model.rule import ForeignChain
from ..model.where import Where
from ..record import NamedTuple
from .problems import Problems, excerpt

HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
BUILTIN = {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
IPTABLES = {"filter", "nat", "mangle", "raw", "security"}
PRIORITY = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
BRIDGE_PRIORITY = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}
SAVE_FILE = {"ip": "iptables-save", "ip6": "ip6tables-save"}
OBSERVER = re.compile(r"nattrace-(?:trace|queue)-\d+-[0-9a-f]{6}")  # tables of a nattrace that was tracing meanwhile


class BaseChain(NamedTuple):
    """A base chain as a dump shows it. ``xt``: it holds a match or target whose options nft can't print."""

    family: str
    table: str
    name: str
    kind: str
    hook: str
    priority: int
    policy: str
    rules: int
    xt: bool
    where: Where


class Ruleset(NamedTuple):
    """``managed``: (family, table) that the dump itself says iptables-nft made."""

    chains: tuple[BaseChain, ...]
    managed: frozenset[tuple[str, str]]


class _Chain:
    """A chain while the rest of the dump is being read."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.base: tuple[str, str, int, str] | None = None  # kind, hook, priority, policy
        self.rules = 0
        self.xt = False


class _Builder:
    def __init__(self) -> None:
        self.chains: dict[tuple[str, str, str], _Chain] = {}
        self.managed: set[tuple[str, str]] = set()

    def finish(self) -> Ruleset:
        found = []
        for (family, table, name), chain in self.chains.items():
            if chain.base is not None:
                kind, hook, priority, policy = chain.base
                base = (family, table, name, kind, hook, priority, policy)
                found.append(BaseChain(*base, chain.rules, chain.xt, chain.where))
        return Ruleset(tuple(found), frozenset(self.managed))


def read_json(data: Any, file: str, problems: Problems) -> Ruleset:
    """``nft -j -a list ruleset``."""
    objects = data.get("nftables") if isinstance(data, dict) else None
    if not isinstance(objects, list):
        problems.error('expected {"nftables": […]}', file, 1, "it is the output of: nft -j -a list ruleset")
        return Ruleset((), frozenset())
    build = _Builder()
    for position, item in enumerate(objects, 1):
        try:
            _json_object(item, build, Where(file))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problems.error(f"object {position}: unexpected form ({error})", file)
    return build.finish()


def _json_object(item: Any, build: _Builder, where: Where) -> None:
    if not isinstance(item, dict):
        raise ValueError(f"expected an object, got {excerpt(item)}")
    chain = item.get("chain")
    if chain is not None:
        made = build.chains[_text(chain, "family"), _text(chain, "table"), _text(chain, "name")] = _Chain(where)
        if "hook" in chain:
            priority = chain.get("prio", 0)
            if type(priority) is not int or abs(priority) > 1 << 31:
                raise ValueError(f"prio: expected a number, got {excerpt(priority)}")
            policy = str(chain.get("policy", "accept"))
            made.base = (str(chain.get("type", "filter")), str(chain["hook"]), priority, policy)
    rule = item.get("rule")
    if rule is not None:
        found = build.chains.get((_text(rule, "family"), _text(rule, "table"), _text(rule, "chain")))
        if found is None:
            raise ValueError("a rule of a chain that was not listed before")
        found.rules += 1
        if any(isinstance(part, dict) and "xt" in part for part in rule.get("expr") or ()):
            found.xt = True


def _text(item: Any, key: str) -> str:
    value = item[key]
    if not isinstance(value, str):
        raise ValueError(f"{key}: expected a name, got {excerpt(value)}")
    return value


# ── plain form ───────────────────────────────────────────────────────────────────────────────────────────

_TABLE = re.compile(r"table (?:(?P<family>ip|ip6|inet|arp|bridge|netdev) )?(?P<name>\S+)\s*\{")
_CHAIN = re.compile(r"\s*chain (?P<name>\S+)\s*\{")
_BASE = re.compile(
    r"\s*type (?P<kind>\w+) hook (?P<hook>\w+)(?: devices? (?:=\s*)?(?:\{[^}]*\}|\S+))? priority (?P<priority>[^;]+);"
    r"(?:\s*policy (?P<policy>accept|drop);)?"
)
_MANAGED = re.compile(r"# Warning: table (?P<family>\S+) (?P<name>\S+) is managed by iptables-nft")
_OTHER_BLOCKS = re.compile(
    r"\s*(?:set|map|flowtable|counter|quota|limit|ct (?:helper|timeout|expectation)|secmark|synproxy|meter)\b"
    r"[^{]*\{\s*(?:#.*)?$"
)


def read_text(text: str, file: str, problems: Problems) -> Ruleset:
    """``nft -a list ruleset``: tables, chains, hooks; of rules only how many there are."""
    build = _Builder()
    table: tuple[str, str] | None = None
    chain: _Chain | None = None
    depth = 0  # braces of a set, map or other block within the table
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            if managed := _MANAGED.match(stripped):
                build.managed.add((managed["family"], managed["name"]))
            continue
        if depth:
            depth += stripped.count("{") - stripped.count("}")
            depth = max(depth, 0)
        elif table is None:
            found = _TABLE.match(stripped)
            if found is None:
                problems.error(
                    f"expected a table, got {excerpt(line)}",
                    file,
                    number,
                    "it is the output of: nft -a list ruleset",
                )
                continue
            table = found["family"] or "ip", found["name"]
        elif chain is None:
            if stripped.startswith("}"):
                table = None
            elif found := _CHAIN.match(stripped):
                chain = build.chains.setdefault((*table, found["name"]), _Chain(Where(file, number)))
            elif _OTHER_BLOCKS.match(line):
                depth = 1
        elif stripped.startswith("}"):
            chain = None
        elif base := _BASE.match(stripped):
            try:
                priority = _priority(base["priority"], table[0])
            except ValueError as error:
                problems.error(str(error), file, number)
                continue
            chain.base = (base["kind"], base["hook"], priority, base["policy"] or "accept")
        else:
            chain.rules += 1
            chain.xt = chain.xt or " xt " in f" {stripped} "
    return build.finish()


def _priority(text: str, family: str) -> int:
    """``-5``, ``filter``, ``srcnat + 10``."""
    words = text.replace("+", " + ").replace("-", " - ").split()
    names = BRIDGE_PRIORITY if family == "bridge" else PRIORITY
    total, sign = 0, 1
    for word in words:
        if word in "+-":
            sign = 1 if word == "+" else -1
        elif word in names:
            total += names[word]
        elif word.isascii() and word.isdigit() and len(word) < 12:
            total, sign = total + sign * int(word), 1
        else:
            raise ValueError(f"unknown priority {excerpt(text)}")
    return total


# ── what counts ──────────────────────────────────────────────────────────────────────────────────────────


class Native(NamedTuple):
    """What the rule set adds to what iptables-save shows."""

    foreign: tuple[ForeignChain, ...]
    unmodelled: tuple[tuple[str, Where | None], ...]


def native(ruleset: Ruleset, saved: dict[str, frozenset[str] | None]) -> Native:
    """Base chains that ``iptables-save`` doesn't tell about.

    ``saved``: family ("ip", "ip6") → tables of that family's iptables-save file of the nft backend; None: no such file.
    """
    foreign: list[ForeignChain] = []
    unmodelled: list[tuple[str, Where | None]] = []
    for chain in ruleset.chains:
        if OBSERVER.fullmatch(chain.table):
            continue  # marks or holds packets, decides nothing about them
        tables = saved.get(chain.family)
        if tables is not None and chain.table in tables and chain.name in BUILTIN:
            continue
        if not chain.rules and chain.policy == "accept":
            continue  # nothing can happen in it
        if chain.family not in ("ip", "ip6", "inet") or chain.hook not in HOOKS:
            text = f"nft chain {chain.family} {chain.table} {chain.name} (hook {chain.hook}, {chain.rules} rules)"
            unmodelled.append((text, chain.where))
            continue
        foreign.append(
            ForeignChain(
                HOOKS[chain.hook], chain.priority, chain.family, chain.table, chain.name, chain.policy.upper(),
                chain.rules, chain.where, _why(chain, ruleset, tables),
            )
        )  # fmt: skip
    return Native(tuple(foreign), tuple(unmodelled))


def _why(chain: BaseChain, ruleset: Ruleset, tables: frozenset[str] | None) -> str:
    by_iptables = chain.xt or (chain.family, chain.table) in ruleset.managed
    looks_like_it = chain.family in SAVE_FILE and chain.table in IPTABLES and chain.name in BUILTIN
    if looks_like_it and tables is None and (by_iptables or chain.rules):
        return f"its rules were made by iptables, whose options only {SAVE_FILE[chain.family]}.txt tells: it is missing"
    if looks_like_it and by_iptables:
        return f"{SAVE_FILE[chain.family]}.txt has no table {chain.table}: dump it again, with the nft backend"
    return "native nftables rules are not modelled"
