"""``iptables-save`` read lazily: the text is indexed once, a rule is parsed when something looks at it.

The file means what iptables-restore would make of it: a second ``*table`` block replaces the first, ``-I`` inserts,
chains need not be contiguous, an address list is several rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import ErrorList, InputError, RuleError
from ..model.rule import Rule, RuleId
from ..model.where import Where
from . import known, tracking
from .builder import Scope
from .index import ChainIndex
from .jump import Goto, Jump
from .lexer import MAX_LINE, LexError, save_words
from .names import nearest

MAX_ERRORS = 100  # of one file that are reported in full
INDEX_FROM = 16  # rules of a chain below which looking at each is cheaper than an index
_COUNTERS = re.compile(r"\[(\d{1,20}):(\d{1,20})\]\s*")
_ADDRESS_LIST = re.compile(r"""(?:-s|-d|--s(?:ou)?rc?[a-z]*|--de?st[a-z]*)[ =\t]+"?[0-9A-Fa-f.:/]*,""")
_APPEND = re.compile(r"(?:\[[^\]]{0,50}\]\s*)?(?:-A|--append|-I|--insert)\s+(?:\"[^\"]*\"|\S+)(?:\s+(?=[0-9]+(?:\s|$))[0-9]+)?")

Item = int | tuple[int, int] | Rule  # line number; (line number, which of its rules); a rule made by an edit


class Source:
    """The lines of one table of a file, and how to read a rule from one."""

    __slots__ = ("backend", "file", "lines", "scope", "table")

    def __init__(self, lines: list[str], file: str, table: str, backend: str, scope: Scope) -> None:
        self.lines, self.file, self.table, self.backend, self.scope = lines, file, table, backend, scope

    def spec(self, number: int) -> tuple[str, str]:
        """(counters or "", text from the first criterion on with one space before it) of a line."""
        line = self.lines[number - 1]
        counters = ""
        if line[:1] == "[":
            counters, _, line = line.partition("] ")
        if line[:3] == "-A " and line[3:4] not in ' "\t':
            cut = line.find(" ", 3)
            return counters, line[cut:] if cut > 0 else ""
        line = self.lines[number - 1].strip()
        found = _APPEND.match(line)
        return line if line[:1] == "[" else "", " " + line[found.end() :].strip() if found else ""

    def where(self, number: int) -> Where:
        return Where(self.file, number)

    def rule(self, item: Item, rule_id: RuleId) -> Rule:
        """Parse one rule. Raises RuleError with file and line."""
        if isinstance(item, Rule):
            return _renumbered(item, rule_id)
        number, which = item if isinstance(item, tuple) else (item, -1)
        counters, spec = self.spec(number)
        place = self.scope.place(rule_id.chain)
        where = Where(self.file, number)
        try:
            parts = place.build(spec) if which < 0 else place.exact(spec)[which]
        except RuleError as error:
            error.where = error.where or where
            raise
        return Rule(rule_id, parts.matches, parts.target, spec.strip(), where, None, _counters(counters, spec), parts.comment)

    def variants(self, number: int, chain: str) -> int:
        """How many rules the address lists of a line make; 1 where the line is wrong (said when it is parsed)."""
        try:
            return len(self.scope.place(chain).exact(self.spec(number)[1]))
        except RuleError:
            return 1


def _renumbered(rule: Rule, rule_id: RuleId) -> Rule:
    if rule.rule_id == rule_id:
        return rule
    return Rule(rule_id, rule.matches, rule.target, rule.text, rule.where, rule.handle, rule.counters, rule.comment)


def _counters(text: str, spec: str) -> tuple[int, int] | None:
    if text:
        head, _, tail = text[1:].partition(":")
        tail = tail.partition("]")[0]
        if head.isdigit() and tail.isdigit() and len(text) < 64:
            return int(head), int(tail)
    return None


class LazyChain:
    """A chain whose rules are parsed when reached. Immutable; what has been parsed is kept."""

    __slots__ = ("_checked", "_id", "_index", "_items", "_rules", "_source", "name", "policy", "policy_counters", "where")

    def __init__(self, source: Source, name: str, items: list[Item], policy: str | None, where: Where | None,
                 policy_counters: tuple[int, int] | None = None) -> None:  # fmt: skip
        self.name, self.policy, self.where, self.policy_counters = name, policy, where, policy_counters
        self._source, self._items = source, items
        self._rules: dict[int, Rule] = {}
        self._index: ChainIndex | None = None
        self._checked = False
        self._id = (source.backend, source.scope.family, source.table, name)

    def __len__(self) -> int:
        return len(self._items)

    def rule(self, index: int) -> Rule:
        rule = self._rules.get(index)
        if rule is None:
            if index < 1:
                raise IndexError(index)
            rule = self._source.rule(self._items[index - 1], RuleId(*self._id, index))
            self._rules[index] = rule
        return rule

    def candidates(self, skb: Any, start: int) -> Iterator[Rule]:
        """Rules from ``start`` on that could match; those left out fail a criterion without side effects."""
        if len(self._items) < INDEX_FROM:
            return map(self.rule, range(start, len(self._items) + 1))
        return self._indexed(skb, start)

    def _indexed(self, skb: Any, start: int) -> Iterator[Rule]:
        if self._index is None:
            self._index = ChainIndex(self.specs(), self._source.scope.family)
        index, rule = self._index, self.rule
        while True:
            key = index.key(skb)
            for number in index.lookup(key, start):
                yield rule(number)
                if index.key(skb) != key:  # a target in mid-chain changed what decides (DNPT …)
                    start = number + 1
                    break
            else:
                return

    def specs(self) -> Iterator[str]:
        """The text of each rule, unparsed; empty where it needs parsing to be known."""
        source = self._source
        for item in self._items:
            yield source.spec(item)[1] if type(item) is int else ""

    def texts(self) -> Iterator[str]:
        """The text of each rule as written, for those who only look for words; nothing is parsed."""
        source = self._source
        for item in self._items:
            if isinstance(item, Rule):
                yield item.text
            else:
                yield source.spec(item if isinstance(item, int) else item[0])[1].strip()

    def unread(self) -> int:
        """How many rules have neither been parsed nor checked."""
        if self._checked:
            return 0
        return sum(not isinstance(item, Rule) and i not in self._rules for i, item in enumerate(self._items, 1))

    def check(self, errors: list[InputError]) -> set[str]:
        """Validate every rule; the names of the chains they call. Adds the errors to ``errors``."""
        source, place = self._source, self._source.scope.place(self.name)
        calls: set[str] = set()
        self._checked = True
        for index, item in enumerate(self._items, 1):
            if isinstance(item, Rule):
                called = item.target.chain if isinstance(item.target, (Jump, Goto)) else None
            elif isinstance(item, int):
                try:
                    called = place.check(source.spec(item)[1])
                except RuleError as error:
                    error.where = error.where or Where(source.file, item)
                    errors.append(error)
                    continue
            else:
                target = self.rule(index).target
                called = target.chain if isinstance(target, (Jump, Goto)) else None
            if called is not None:
                calls.add(called)
        return calls


class Declared(NamedTuple):
    """What the text says about a chain besides its rules."""

    policy: str | None
    counters: tuple[int, int] | None
    line: int


class LazyChains(Mapping[str, LazyChain]):
    """The chains of a table by name; most chains of a big rule set never become objects."""

    __slots__ = ("_facts", "_items", "_lines", "_made", "_source")

    def __init__(self, source: Source, items: dict[str, list[Item]], facts: dict[str, Declared], lines: dict[str, int]) -> None:
        self._source, self._items, self._facts, self._lines = source, items, facts, lines
        self._made: dict[str, LazyChain] = {}

    def __getitem__(self, name: str) -> LazyChain:
        chain = self._made.get(name)
        if chain is None:
            rows = self._items[name]
            policy, counters, line = self._facts.get(name) or Declared(None, (0, 0), self._lines[name])
            chain = self._made[name] = LazyChain(self._source, name, rows, policy, self._source.where(line), counters)
        return chain

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def untouched(self) -> int:
        """Rules in chains that nobody asked for."""
        return sum(map(len, self._items.values())) - sum(len(self._items[name]) for name in self._made)

    def made(self) -> Iterator[LazyChain]:
        return iter(self._made.values())

    def check(self, name: str, errors: list[InputError]) -> set[str]:
        """Validate a chain without making it where nothing has."""
        return self[name].check(errors)


class LazyTable:
    """A table of a save file. ``notes``: what a reader of the answer should know about how the file was read."""

    __slots__ = ("_chains", "_region", "_source", "_tracking", "backend", "family", "file", "name", "notes")

    def __init__(self, source: Source, chains: LazyChains, region: tracking.Region | None,
                 notes: tuple[str, ...] = ()) -> None:  # fmt: skip
        self._source, self._chains, self._region = source, chains, region
        self.backend, self.family, self.name = source.backend, source.scope.family, source.table
        self.file, self.notes = source.file, notes
        self._tracking: bool | None = None

    @property
    def chains(self) -> Mapping[str, LazyChain]:
        return self._chains

    def all_rules(self) -> Iterator[Rule]:
        for chain in self._chains.values():
            for index in range(1, len(chain) + 1):
                yield chain.rule(index)

    def texts(self) -> Iterator[tuple[str, str]]:
        """(chain, text) of every rule without parsing any."""
        for chain in self._chains.values():
            for text in chain.texts():
                yield chain.name, text

    def unread(self) -> int:
        """How many rules nobody has looked at: they are not validated either."""
        return self._chains.untouched() + sum(chain.unread() for chain in self._chains.made())

    def uses_tracking(self) -> bool:
        if self._tracking is None:
            self._tracking = self._find_tracking()
        return self._tracking

    def _find_tracking(self) -> bool:
        if self._region is not None:
            source = self._source
            return any(_tracks(source, number) for number in self._region.suspects(source.lines))
        for chain in self._chains.values():  # edited: the text no longer is the table
            for index, text in enumerate(chain.texts(), 1):
                if tracking.SUSPECT.search(text) and tracking.tracks(chain.rule(index)):
                    return True
        return False

    def validate(self) -> list[InputError]:
        """Read all of it: every RuleError, and jumps in a circle."""
        errors: list[InputError] = []
        calls = {name: chain.check(errors) for name, chain in self._chains.items()}
        loop = _circle(calls)
        if loop:
            where = self._chains[loop[0]].where
            errors.append(RuleError(f"chains of table {self.name} call each other in a circle: {' → '.join(loop)}", where))
        return errors


def _tracks(source: Source, number: int) -> bool:
    line = source.lines[number - 1]
    try:
        words = save_words(line)
        chain = next((words[i + 1] for i, w in enumerate(words[:-1]) if w in ("-A", "--append", "-I", "--insert")), "")
        rule = source.rule(number, RuleId(source.backend, source.scope.family, source.table, chain, 0))
    except (RuleError, LexError):
        return True  # a bad line that names it; parsing the chain will say so
    return tracking.tracks(rule)


def _circle(calls: Mapping[str, set[str]]) -> list[str]:
    """A circle of calls, or an empty list: depth first without recursion."""
    done: set[str] = set()
    for first in calls:
        path: list[str] = []
        on_path: set[str] = set()
        stack = [(first, iter(sorted(calls.get(first, ()))))] if first not in done else []
        path.append(first)
        on_path.add(first)
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                path.pop()
                on_path.discard(name)
                done.add(name)
            elif following in on_path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                stack.append((following, iter(sorted(calls.get(following, ())))))
                path.append(following)
                on_path.add(following)
    return []


class _Block:
    """One ``*table`` … ``COMMIT`` while it is being read."""

    def __init__(self, name: str, line: int) -> None:
        self.name, self.line = name, line
        self.declared: dict[str, Declared] = {}
        self.lines: dict[str, int] = {}  # where user chains are declared without counters
        self.items: dict[str, list[Item]] = {}
        self.reader: Source | None = None


class _Indexer:
    """Finds tables, chains and the lines of their rules; complains about everything else."""

    def __init__(self, text: str, file: str, family: int, backend: str, users: Mapping[str, int] | None,
                 groups: Mapping[str, int] | None) -> None:  # fmt: skip
        self.file, self.family, self.backend = file, family, backend
        self.users, self.groups = users, groups
        self.lines = (text.replace("\r\n", "\n") if "\r" in text else text).split("\n")
        self.errors: list[InputError] = []
        self.tables: dict[str, LazyTable] = {}
        self.block: _Block | None = None
        self.lost = False

    def error(self, line: int, message: str, remedy: str | None = None) -> None:
        self.errors.append(RuleError(message, Where(self.file, line), remedy))

    def read(self) -> None:
        """One pass over the lines; the plainest ones are filed at once."""
        for number in _too_long(self.lines):
            self.error(number, f"a line of more than {MAX_LINE} characters, which iptables-restore cannot read")
            self.lines[number - 1] = "#"
        items: dict[str, list[Item]] = {}
        for number, line in enumerate(self.lines, 1):
            at = line.find("-A ", 0, 48)
            if at == 0 or (at > 0 and line[0] == "[" and line[at - 2] == "]"):
                cut = line.find(" ", at + 3)
                rows = items.get(line[at + 3 : cut] if cut > 0 else line[at + 3 :])
                if rows is not None and ("," not in line or not _ADDRESS_LIST.search(line)):
                    rows.append(number)
                    continue
            elif line[-8:] == " - [0:0]" and line[0] == ":" and self._user_chain(line[1:-8], number):
                continue
            if line:
                self._line(number, line.strip())
                items = self.block.items if self.block is not None else {}
                if len(self.errors) >= MAX_ERRORS:
                    return
        if self.block is not None:
            last = len(self.lines) - (not self.lines[-1])
            self.error(last, f"the file ends inside table {self.block.name}: no COMMIT", "it is cut off; capture it again")

    def _user_chain(self, name: str, number: int) -> bool:
        """``:NAME - [0:0]`` as iptables-save writes it: nine tenths of the chain lines of a big rule set."""
        block = self.block
        if block is None or " " in name or not name or name in known.BUILT_IN.get(block.name, ()):
            return False
        block.items[name] = []
        block.lines[name] = number
        return True

    def _line(self, number: int, line: str) -> None:
        if not line or line[0] == "#":
            return
        if line[0] == "*":
            self._open(number, line[1:].strip())
        elif self.block is None:
            if not self.lost:  # said once, not for each line of a file that is something else
                remedy = "this is no output of iptables-save; capture it with: iptables-save -c"
                self.error(number, f"expected *TABLE, found {_excerpt(line)}", remedy)
            self.lost = True
        elif line == "COMMIT":
            self._commit(self.block, number)
        elif line[0] == ":":
            self._declare(self.block, number, line)
        else:
            self._command(self.block, number, line)

    def _open(self, number: int, name: str) -> None:
        if self.block is not None:
            self.error(number, f"*{name} begins inside table {self.block.name}", "add the missing COMMIT")
        if name not in known.BUILT_IN:
            guess = nearest(name, known.BUILT_IN)
            remedy = f"did you mean *{guess}?" if guess else f"tables: {', '.join(known.BUILT_IN)}"
            self.error(number, f"there is no table {_excerpt(name)}", remedy)
        self.block, self.lost = _Block(name, number), False

    def _declare(self, block: _Block, number: int, line: str) -> None:
        words = line[1:].split()
        if not words or len(words) > 3:
            self.error(number, f"a bad chain line: {_excerpt(line)}", "it looks like :NAME POLICY [packets:bytes]")
            return
        name, policy = words[0], words[1] if len(words) > 1 else "-"
        counters = None
        if len(words) == 3:
            found = _COUNTERS.fullmatch(words[2])
            if not found:
                self.error(number, f"bad counters of chain {name}: {_excerpt(words[2])}", "they look like [0:0]")
            else:
                counters = int(found.group(1)), int(found.group(2))
        built_in = name in known.BUILT_IN.get(block.name, ())
        if policy != "-" and not built_in:
            self.error(number, f"chain {_excerpt(name)} cannot have the policy {_excerpt(policy)}", "user chains have -")
        elif policy not in ("-", "ACCEPT", "DROP"):
            self.error(number, f"chain {name} cannot have the policy {_excerpt(policy)}", "ACCEPT or DROP")
        wanted = (None if policy == "-" else policy) if not built_in else ("ACCEPT" if policy == "-" else policy)
        block.declared[name] = Declared(wanted, counters, number)
        block.items[name] = []

    def _command(self, block: _Block, number: int, line: str) -> None:
        """Anything else: a rule with counters, inserted, or spelled unusually; or another command."""
        try:
            counters = _COUNTERS.match(line)
            rest = line[counters.end() :] if counters else line
            words = save_words(rest)
        except LexError as error:
            self.error(number, f"{error}: {_excerpt(line)}", "close it")
            return
        command = words[0] if words else ""
        name = words[1] if len(words) > 1 else ""
        if command in ("-A", "--append", "-I", "--insert") and name:
            self._rule(block, number, line, words, name)
        elif command in ("-P", "--policy") and len(words) > 2:
            self._declare(block, number, f":{name} {words[2]}") if name not in block.items else self._policy(block, number, words)
        elif command in ("-N", "--new-chain") and name:
            self._declare(block, number, f":{name} -")
        elif command in ("-F", "--flush"):
            for chain in [name] if name else list(block.items):
                block.items[chain] = []
        elif command not in ("-Z", "--zero"):
            remedy = "a rule looks like: -A CHAIN -s 10.0.0.0/8 -j ACCEPT; capture it again with iptables-save -c"
            self.error(number, f"not a line of iptables-save: {_excerpt(line)}", remedy)

    def _policy(self, block: _Block, number: int, words: list[str]) -> None:
        """``-P CHAIN POLICY`` for a chain that has rules already."""
        rows = block.items[words[1]]
        self._declare(block, number, f":{words[1]} {words[2]}")
        block.items[words[1]] = rows

    def _rule(self, block: _Block, number: int, line: str, words: list[str], name: str) -> None:
        rows = block.items.setdefault(name, [])
        new: list[Item] = [number]
        if "," in line and _ADDRESS_LIST.search(line):
            count = self._source(block).variants(number, name)
            if count > 1:
                new = [(number, which) for which in range(count)]
        if words[0] in ("-A", "--append"):
            rows += new
            return
        place = 1
        if len(words) > 2 and words[2].isascii() and words[2].isdigit() and len(words[2]) < 10:
            place = int(words[2])
        if not 1 <= place <= len(rows) + 1:
            self.error(number, f"-I {name} {place}: the chain has only {len(rows)} rules here", "insert at 1 or append")
            return
        rows[place - 1 : place - 1] = new

    def _source(self, block: _Block) -> Source:
        if block.reader is None:
            scope = Scope(block.name, self.family, self.users, self.groups, block.items)
            block.reader = Source(self.lines, self.file, block.name, self.backend, scope)
        return block.reader

    def _commit(self, block: _Block, number: int) -> None:
        self.block = None
        built_in = known.BUILT_IN.get(block.name, ())
        before = self.tables.get(block.name)
        notes: tuple[str, ...] = ()
        if before is not None:
            notes = (f"{self.file}:{block.line}: a second *{block.name} replaces the first, as iptables-restore does",)
        user_chains = dict.fromkeys(name for name in block.items if name not in built_in)
        scope = Scope(block.name, self.family, self.users, self.groups, user_chains)
        source = Source(self.lines, self.file, block.name, self.backend, scope)
        facts: dict[str, Declared] = {}
        for name, rows in block.items.items():
            if name in block.lines:
                continue
            if name in block.declared:
                facts[name] = block.declared[name]
            elif name in built_in:
                facts[name] = Declared(self._old_policy(before, name), None, block.line)
            else:
                line = _line_of(rows[0]) if rows else number
                remedy = f"add :{name} - [0:0] after *{block.name}"
                self.error(line or number, f"chain {_excerpt(name)} is used and never declared", remedy)
        chains = LazyChains(source, block.items, facts, block.lines)
        region = tracking.Region(block.line, number)
        self.tables[block.name] = LazyTable(source, chains, region, notes)

    def _old_policy(self, before: LazyTable | None, name: str) -> str:
        """The policy of a chain that a block doesn't mention: legacy keeps what an earlier block set."""
        if before is not None and self.backend == "legacy" and name in before.chains:
            return before.chains[name].policy or "ACCEPT"
        return "ACCEPT"


def _too_long(lines: list[str]) -> list[int]:
    if max(map(len, lines)) <= MAX_LINE:
        return []
    return [number for number, line in enumerate(lines, 1) if len(line) > MAX_LINE][:MAX_ERRORS]


def _line_of(item: Item) -> int | None:
    return item if isinstance(item, int) else item[0] if isinstance(item, tuple) else None  # type: ignore[return-value]


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def parse_save(text: str, *, file: str, family: int = 2, backend: str = "iptables",
               users: Mapping[str, int] | None = None, groups: Mapping[str, int] | None = None,
               strict: bool = False) -> list[LazyTable]:  # fmt: skip
    """The tables of ``iptables-save`` output. Raises ErrorList: of a file that isn't that; ``strict``: of all rules."""
    indexer = _Indexer(text, file, family, backend, users, groups)
    indexer.read()
    errors = indexer.errors
    tables = list(indexer.tables.values())
    if strict:
        for table in tables:
            if len(errors) < MAX_ERRORS:
                errors += table.validate()
    if errors:
        errors.sort(key=lambda e: e.where.line if e.where and e.where.line else 0)
        left = len(errors) - MAX_ERRORS
        if left > 0:
            errors[MAX_ERRORS:] = [RuleError(f"and {left} more errors", Where(file))]
        raise ErrorList(errors)
    return tables


__all__ = ["LazyChain", "LazyTable", "parse_save"]
