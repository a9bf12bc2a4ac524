"""``iptables-save`` read lazily: the text is indexed, a rule is parsed when something looks at it."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import ErrorList, InputError, RuleError
from ..model.rule import HOOK_NUMBER, Rule, RuleId
from ..model.where import Where
from . import tracking
from .builder import Scope
from .layout import ADDRESS_LIST, Layout, Row, excerpt
from .lexer import MAX_LINE, LexError, save_words
from .reader import MAX_ERRORS, Reader
from .savetext import SaveText, read_counters, split_rule

_FEW = 16  # destinations: searching a chain for more of them costs more than reading it
INDEX_FROM = 16  # rules of a chain below which looking at each is cheaper than an index

Item = Row | Rule  # a place in the text, or a rule that an edit made


class Source:
    """A table's text and how to read a rule from it."""

    __slots__ = ("backend", "save", "scope", "table")

    def __init__(self, save: SaveText, table: str, backend: str, scope: Scope) -> None:
        self.save, self.table, self.backend, self.scope = save, table, backend, scope

    def rule(self, item: Item, rule_id: RuleId) -> Rule:
        """Parse one rule. Raises RuleError with file and line."""
        if isinstance(item, Rule):
            return renumbered(item, rule_id)
        offset, which = item if isinstance(item, tuple) else (item, -1)
        counters, spec = split_rule(self.save.line(offset))
        place = self.scope.place(rule_id.chain)
        where = self.save.where(offset)
        try:
            check_length(spec)
            parts = place.build(spec) if which < 0 else place.exact(spec)[which]
        except RuleError as error:
            error.where = error.where or where
            raise
        packets = read_counters(counters) if counters else None
        return Rule(rule_id, parts.matches, parts.target, spec.strip(), where, None, packets, parts.comment)

    def text(self, item: Item) -> str:
        """The rule as written, after one space; nothing is parsed."""
        if isinstance(item, Rule):
            return " " + item.text
        return split_rule(self.save.line(item if isinstance(item, int) else item[0]))[1]


def check_length(spec: str) -> None:
    if len(spec) > MAX_LINE:
        raise RuleError(f"a line of more than {MAX_LINE} characters, which iptables-restore cannot read")


def renumbered(rule: Rule, rule_id: RuleId) -> Rule:
    """The same rule at another place."""
    if rule.rule_id == rule_id:
        return rule
    return Rule(rule_id, rule.matches, rule.target, rule.text, rule.where, rule.handle, rule.counters, rule.comment)


class LazyChain:
    """A chain whose rules are parsed when reached. Immutable; what has been parsed is kept."""

    __slots__ = ("_id", "_index", "_rules", "items", "name", "policy", "policy_counters", "source", "where")

    def __init__(self, source: Source, name: str, items: Sequence[Item], policy: str | None, where: Where | None,
                 policy_counters: tuple[int, int] | None = None) -> None:  # fmt: skip
        self.name, self.policy, self.where, self.policy_counters = name, policy, where, policy_counters
        self.source, self.items = source, items
        self._rules: dict[int, Rule] = {}
        self._index: Any = None  # ChainIndex or TextIndex
        self._id = (source.backend, source.scope.family, source.table, name)

    def __len__(self) -> int:
        return len(self.items)

    def rule(self, index: int) -> Rule:
        rule = self._rules.get(index)
        if rule is None:
            if index < 1:
                raise IndexError(index)
            rule = self._rules[index] = self.source.rule(self.items[index - 1], RuleId(*self._id, index))
        return rule

    def candidates(self, skb: Any, start: int) -> Iterator[Rule]:
        """Rules from ``start`` on that could match; those left out fail a criterion without side effects."""
        if len(self.items) < INDEX_FROM:
            return map(self.rule, range(start, len(self.items) + 1))
        return self._indexed(skb, start)

    def _indexed(self, skb: Any, start: int) -> Iterator[Rule]:
        from .index import ChainIndex, TextIndex  # only where a chain is long

        index = self._index
        if index is None:
            index = self._index = TextIndex.of(self.source.save.text, self.items, self.source.scope.family)
        if index is None or index.worn():
            index = self._index = ChainIndex(map(self._told, self.items), self.source.scope.family)
        while True:
            key = index.key(skb)
            for number in index.lookup(key, start):
                yield self.rule(number)
                if index.key(skb) != key:  # a target in mid-chain changed what decides (DNPT …)
                    start = number + 1
                    break
            else:
                return

    def _told(self, item: Item) -> str:
        """What the index may judge by: nothing for one of several rules of a line."""
        return self.source.text(item) if isinstance(item, (int, Rule)) else ""

    def texts(self) -> Iterator[str]:
        """The text of each rule as written, for those who only look for words; nothing is parsed."""
        return (self.source.text(item).strip() for item in self.items)

    def texts_for(self, destinations: set[int]) -> Iterator[str]:
        """Like :meth:`texts`; a long chain leaves out rules that name another destination and no interface."""
        from .index import TextIndex

        if self._index is None and len(destinations) <= _FEW:
            self._index = TextIndex.of(self.source.save.text, self.items, self.source.scope.family)
        index = self._index
        if len(destinations) > _FEW or not isinstance(index, TextIndex) or index.names_interfaces():
            return self.texts()
        numbers = sorted({number for address in destinations for number in index.lookup(address, 1)})
        return (self.source.text(self.items[number - 1]).strip() for number in numbers)

    def unread(self) -> int:
        """How many rules have not been parsed."""
        return sum(not isinstance(item, Rule) and i not in self._rules for i, item in enumerate(self.items, 1))


class LazyChains(Mapping[str, LazyChain]):
    """The chains of a table by name; most chains of a big rule set never become objects."""

    __slots__ = ("_made", "layout", "source")

    def __init__(self, source: Source, layout: Layout) -> None:
        self.source, self.layout = source, layout
        self._made: dict[str, LazyChain] = {}

    def __getitem__(self, name: str) -> LazyChain:
        chain = self._made.get(name)
        if chain is None:
            declared = self.layout.declared(name)
            if declared is None:
                raise KeyError(name)
            rows = self._expanded(name, self.layout.rows(name))
            where = self.source.save.where(declared.offset)
            chain = self._made[name] = LazyChain(self.source, name, rows, declared.policy, where, declared.counters)
        return chain

    def _expanded(self, name: str, rows: list[Row]) -> Sequence[Item]:
        """The rows with those that hold address lists taken apart (the line by line reader has done it already)."""
        offsets = [row for row in rows if isinstance(row, int)]
        if not rows or len(offsets) < len(rows):
            return rows
        save = self.source.save
        last = max(offsets)
        if save.text.find(",", min(offsets), last + len(save.line(last))) < 0:
            return rows
        found: list[Item] = []
        for offset in offsets:
            line = save.line(offset)
            count = variants(self.source.scope, name, line) if "," in line and ADDRESS_LIST.search(line) else 1
            found += [offset] if count == 1 else [(offset, which) for which in range(count)]
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._made or (isinstance(name, str) and self.layout.declared(name) is not None)

    def __iter__(self) -> Iterator[str]:
        return self.layout.names()

    def __len__(self) -> int:
        return sum(1 for _ in self.layout.names())

    def unread(self) -> int:
        read = sum(len(chain) - chain.unread() for chain in self._made.values())
        return max(0, self.layout.count() - read)


class LazyTable:
    """A table of a save file. ``notes``: what a reader of the answer should know about how the file was read.

    ``edited``: chains that are no longer what ``region`` of the text says.
    """

    __slots__ = (
        "_base", "_checked", "_tracking", "backend", "chains", "edited", "family", "file", "name", "notes", "region", "source",
    )  # fmt: skip

    def __init__(self, source: Source, base: LazyChains, region: tuple[int, int], notes: tuple[str, ...] = (),
                 edited: Mapping[str, Any] | None = None, checked: bool = False) -> None:  # fmt: skip
        self.source, self.region, self.edited = source, region, edited or {}
        unedited: Any = base  # a ChainMap only writes to its first map
        self.chains: Mapping[str, Any] = ChainMap(dict(self.edited), unedited) if edited else base
        self._base, self._checked = base, checked
        self.backend, self.family, self.name = source.backend, source.scope.family, source.table
        self.file, self.notes = source.save.file, notes
        self._tracking: bool | None = None

    def with_chain(self, name: str, chain: Any) -> LazyTable:
        """The table with another chain of that name; nothing is read for it."""
        edited = {**self.edited, name: chain}
        return LazyTable(self.source, self._base, self.region, self.notes, edited, self._checked)

    def all_rules(self) -> Iterator[Rule]:
        for chain in self.chains.values():
            for index in range(1, len(chain) + 1):
                yield chain.rule(index)

    def mentions(self, word: str) -> bool:
        """Whether the text of its rules, or of those that an edit replaced, holds ``word``; nothing is parsed."""
        if self.source.save.text.find(word, *self.region) >= 0:
            return True
        return any(word in text for chain in self.edited.values() for text in _texts(chain))

    def texts(self) -> Iterator[tuple[str, str]]:
        """(chain, text) of every rule without parsing any."""
        for chain in self.chains.values():
            for text in _texts(chain):
                yield chain.name, text

    def unread(self) -> int:
        """How many rules nobody has looked at: they are not validated either."""
        if self._checked:
            return 0
        replaced = sum(self._base[name].unread() for name in self.edited if name in self._base)
        new = sum(chain.unread() for chain in self.edited.values() if isinstance(chain, LazyChain))
        return self._base.unread() - replaced + new

    def uses_tracking(self) -> bool:
        """Whether a rule anywhere in it switches connection tracking on (semantics 1.6)."""
        if self._tracking is None:
            suspects = tracking.suspects(self.source.save.text, *self.region)
            self._tracking = any(map(self._line_tracks, suspects)) or any(
                tracking.tracks(chain.rule(index))
                for chain in self.edited.values()
                for index, text in enumerate(_texts(chain), 1)
                if tracking.SUSPECT.search(" " + text)
            )
        return self._tracking

    def _line_tracks(self, offset: int) -> bool:
        """Whether the line at ``offset``, which names something that tracks, is a rule that does."""
        source = self.source
        try:
            words = save_words(source.save.line(offset))
            at = next(i for i, word in enumerate(words) if word in ("-A", "--append", "-I", "--insert"))
            if words[at + 1] in self.edited:
                return False
            spec = split_rule(source.save.line(offset))[1]
            return any(tracking.tracks(parts) for parts in source.scope.place(words[at + 1]).exact(spec))
        except (RuleError, LexError, StopIteration, IndexError):
            return False  # no rule, or a bad one: reading its chain will say so

    def validate(self) -> list[InputError]:
        """Read all of it: every RuleError, undeclared chains, and jumps in a circle."""
        errors: list[InputError] = []
        if self.edited:
            for chain in self.chains.values():
                for index in range(1, len(chain) + 1):
                    try:
                        chain.rule(index)
                    except RuleError as error:
                        errors.append(error)
            return errors
        layout, source = self._base.layout, self.source
        layout.check_declarations(errors)
        chains = set(layout.names())
        source.scope.know_chains(chains - HOOK_NUMBER.keys())
        calls: dict[str, dict[str, None]] = {}
        place_of = {name: source.scope.place(name) for name in chains}
        for name, offset, spec in layout.lines():
            try:
                place = place_of.get(name)
                if place is None:
                    remedy = f"add :{name} - [0:0] after *{self.name}"
                    raise RuleError(f"chain {excerpt(name)} is used and never declared", None, remedy)
                check_length(spec)
                called = place.check(spec)
            except RuleError as error:
                error.where = error.where or source.save.where(offset)
                errors.append(error)
                if len(errors) > MAX_ERRORS:
                    return errors
                continue
            if called is not None:
                calls.setdefault(name, {})[called] = None
        loop = circle(calls)
        if loop:
            where = self.chains[loop[0]].where
            errors.append(
                RuleError(f"chains of table {self.name} call each other in a circle: {' → '.join(loop)}", where)
            )
        self._checked = not errors
        return errors


def _texts(chain: Any) -> Iterator[str]:
    return chain.texts() if isinstance(chain, LazyChain) else (rule.text for rule in chain.rules)


def circle(calls: Mapping[str, Mapping[str, None]]) -> list[str]:
    """A circle of calls, or an empty list: depth first without recursion."""
    done: set[str] = set()
    for first in calls:
        if first in done:
            continue
        path = [first]
        on_path = {first}
        stack = [iter(calls[first])]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
                name = path.pop()
                on_path.discard(name)
                done.add(name)
            elif following in on_path:
                return [*path[path.index(following) :], following]
            elif following in calls and following not in done:
                stack.append(iter(calls[following]))
                path.append(following)
                on_path.add(following)
    return []


def variants(scope: Scope, chain: str, line: str) -> int:
    """How many rules the address lists of a line make; 1 where the line is wrong (said when it is parsed)."""
    try:
        return len(scope.place(chain).exact(split_rule(line)[1]))
    except RuleError:
        return 1


def parse_save(text: str, *, file: str, family: int = 2, backend: str = "iptables",
               users: Mapping[str, int] | None = None, groups: Mapping[str, int] | None = None,
               strict: bool = False) -> list[LazyTable]:  # fmt: skip
    """The tables of ``iptables-save`` output. Raises ErrorList: of a file that isn't that; ``strict``: of all rules."""
    save = SaveText(text, file)

    def count(table: str, chain: str, line: str) -> int:
        return variants(Scope(table, family, users, groups, None), chain, line)

    reader = Reader(save, backend == "legacy", count)
    reader.read()
    tables: list[LazyTable] = []
    for found in reader.tables.values():
        source = Source(save, found.name, backend, Scope(found.name, family, users, groups, found.layout))
        notes: tuple[str, ...] = ()
        if found.again:
            notes = (f"{save.where(found.start)}: a second *{found.name} replaces the first, as iptables-restore does",)
        tables.append(LazyTable(source, LazyChains(source, found.layout), (found.rules, found.end), notes))
    errors = reader.errors
    if strict:
        for table in tables:
            errors += table.validate() if len(errors) < MAX_ERRORS else []
    if errors:
        errors.sort(key=lambda e: e.where.line if e.where and e.where.line else 0)
        raise ErrorList(errors[:MAX_ERRORS])
    return tables


__all__ = ["LazyChain", "LazyChains", "LazyTable", "parse_save"]
