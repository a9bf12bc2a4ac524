"""Where in a save file the chains of a table and their rules are.

Two answers to the same questions. A table as iptables-save writes it (chain lines, then ``-A`` lines, then COMMIT) is
recognised by one regular expression and never taken apart: a chain is searched for when it is asked for
(:class:`Searched`). A table written otherwise is read line by line at once (:class:`Listed`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import InputError, RuleError
from ..model.rule import HOOK_NUMBER
from . import known
from .savetext import COUNTERS, SaveText, split_rule

SEARCHES = 32  # chains searched for one by one; whoever wants more of them gets all listed
# Like -s and -d in any spelling, with a list of addresses: one line is several rules
ADDRESS_LIST = re.compile(r"""(?:-s|-d|--s[a-z]*|--d[a-z]*)[ =\t]+"?[0-9A-Fa-f.:/x]*,""")
_HEAD_END = re.compile(r"\n(?!:)")
_BODY_END = re.compile(r"\n(?!-A |\[[0-9]{1,20}:[0-9]{1,20}\] -A )")

Row = int | tuple[int, int]  # offset of a line; (offset, which of the rules that it makes)


class Declared(NamedTuple):
    """What the text says about a chain besides its rules."""

    policy: str | None
    counters: tuple[int, int] | None
    offset: int


def excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def read_declaration(line: str, table: str, offset: int) -> tuple[str, Declared]:
    """``:NAME POLICY [packets:bytes]``. Raises RuleError without a place."""
    words = line[1:].split()
    if not words or len(words) > 3:
        raise RuleError(f"a bad chain line: {excerpt(line)}", None, "it looks like :NAME POLICY [packets:bytes]")
    name, policy = words[0], words[1] if len(words) > 1 else "-"
    counters = None
    if len(words) == 3:
        found = COUNTERS.fullmatch(words[2])
        if not found:
            raise RuleError(f"bad counters of chain {name}: {excerpt(words[2])}", None, "they look like [0:0]")
        counters = int(found.group(1)), int(found.group(2))
    built_in = name in known.BUILT_IN.get(table, ())
    if policy != "-" and not built_in:
        raise RuleError(f"chain {excerpt(name)} cannot have the policy {excerpt(policy)}", None, "user chains have -")
    if policy not in ("-", "ACCEPT", "DROP"):
        raise RuleError(f"chain {name} cannot have the policy {excerpt(policy)}", None, "ACCEPT or DROP")
    kept = None if not built_in else "ACCEPT" if policy == "-" else policy
    return name, Declared(kept, counters, offset)


class Listed:
    """Chains and rows as an exact reader found them."""

    __slots__ = ("_declared", "_rows", "_save")

    def __init__(self, save: SaveText, declared: dict[str, Declared], rows: dict[str, list[Row]]) -> None:
        self._save, self._declared, self._rows = save, declared, rows

    def declared(self, name: str) -> Declared | None:
        return self._declared.get(name)

    def rows(self, name: str) -> list[Row]:
        return self._rows.get(name, [])

    def names(self) -> Iterator[str]:
        return iter(self._declared)

    def check_declarations(self, errors: list[InputError]) -> None:
        """Nothing to do: the reader has checked them."""

    def __contains__(self, name: object) -> bool:
        """Whether it is a user chain: what a rule may jump to."""
        return name in self._declared and name not in HOOK_NUMBER

    def count(self) -> int:
        return sum(map(len, self._rows.values()))

    def lines(self) -> Iterator[tuple[str, int, str]]:
        """(chain, offset, text from the first criterion on with one space before it) of every rule line."""
        for name, rows in self._rows.items():
            before = -1
            for row in rows:
                offset = row if isinstance(row, int) else row[0]
                if offset != before:  # an address list is checked once
                    yield name, offset, split_rule(self._save.line(offset))[1]
                before = offset


class Searched:
    """A table in the form of iptables-save, of which only what is asked for is looked at.

    ``start``: the line feed before the first chain line; ``head_end``: the one before the first rule;
    ``end``: the one before COMMIT.
    """

    __slots__ = ("_all", "_counted", "_names", "_searches", "end", "head_end", "save", "start", "table")

    def __init__(self, save: SaveText, table: str, start: int, head_end: int, end: int) -> None:
        self.save, self.table = save, table
        self.start, self.head_end, self.end = start, head_end, end
        self._counted = save.text.startswith("[", head_end + 1)
        self._searches = 0
        self._names: dict[str, int] | None = None  # name → offset of its line
        self._all: dict[str, list[Row]] | None = None

    @classmethod
    def recognise(cls, save: SaveText, table: str, start: int) -> Searched | None:
        """The table whose ``*name`` line ends at ``start``, or None where it isn't written like that."""
        text = save.text
        head = _HEAD_END.search(text, start)
        body = _BODY_END.search(text, head.start()) if head else None
        if head is None or body is None or not text.startswith("\nCOMMIT\n", body.start()):
            return None
        mixed = text.find("\n-A " if text.startswith("[", head.start() + 1) else "\n[", head.start(), body.start())
        if mixed >= 0:
            return None
        return cls(save, table, start, head.start(), body.start())

    def _declarations(self) -> dict[str, int]:
        if self._names is None:
            offset, found = self.start + 1, {}
            for line in self.save.text[offset : self.head_end].split("\n") if self.head_end > self.start else ():
                found[line[1 : line.find(" ")] if " " in line else line[1:]] = offset
                offset += len(line) + 1
            self._names = found
        return self._names

    def check_declarations(self, errors: list[InputError]) -> None:
        """Add an error for each chain line that isn't one; the usual one of a user chain is no work."""
        offset = self.start + 1
        for line in self.save.text[offset : self.head_end].split("\n") if self.head_end > self.start else ():
            if line[-8:] != " - [0:0]" or line.count(" ") != 2:
                try:
                    read_declaration(line, self.table, offset)
                except RuleError as error:
                    error.where = self.save.where(offset)
                    errors.append(error)
            offset += len(line) + 1

    def _offset(self, name: str) -> int | None:
        """Where the chain's line begins."""
        if self._names is not None:
            return self._names.get(name)
        if not name or " " in name or "\n" in name:
            return None
        found = self.save.text.find(f"\n:{name} ", self.start, self.head_end)
        if found >= 0:
            return found + 1
        self._searches += 1
        return self._declarations().get(name) if self._searches > SEARCHES else None

    def declared(self, name: str) -> Declared | None:
        offset = self._offset(name)
        if offset is not None:
            try:
                return read_declaration(self.save.line(offset), self.table, offset)[1]
            except RuleError as error:
                error.where = error.where or self.save.where(offset)
                raise
        if name in known.BUILT_IN[self.table] and self.rows(name):
            return Declared("ACCEPT", None, self.start)
        return None

    def __contains__(self, name: object) -> bool:
        """Whether it is a user chain: what a rule may jump to."""
        return isinstance(name, str) and name not in HOOK_NUMBER and self._offset(name) is not None

    def names(self) -> Iterator[str]:
        names = self._declarations()
        yield from names
        for name in known.BUILT_IN[self.table]:
            if name not in names and self.rows(name):
                yield name

    def rows(self, name: str) -> list[Row]:
        if self._all is not None:
            return self._all.get(name, [])
        self._searches += 1
        if self._searches > SEARCHES:
            self._all = {}
            for chain, offset, _ in self.lines():
                self._all.setdefault(chain, []).append(offset)
            return self._all.get(name, [])
        return self._search(name)

    def _search(self, name: str) -> list[Row]:
        find = self.save.text.find
        rows: list[Row] = []
        needle = f"] -A {name}" if self._counted else f"\n-A {name}"
        after, end = len(needle), self.end + 1
        text = self.save.text
        place = find(needle, self.head_end, end)
        while place >= 0:
            if text[place + after] in " \n":
                if not self._counted:
                    rows.append(place + 1)
                else:
                    start = text.rfind("\n", self.head_end, place) + 1
                    if find("] -A ", start) == place:  # and not the same words in a comment
                        rows.append(start)
            place = find(needle, place + after, end)
        return rows

    def count(self) -> int:
        return self.save.number(self.end) - self.save.number(self.head_end)

    def lines(self) -> Iterator[tuple[str, int, str]]:
        """(chain, offset, text from the first criterion on with one space before it) of every rule line."""
        offset = self.head_end + 1
        for line in self.save.text[offset : self.end].split("\n") if self.end > self.head_end else ():
            at = 3 if line[0] == "-" else line.find("] -A ") + 5
            cut = line.find(" ", at)
            if cut > 0:
                yield line[at:cut], offset, line[cut:]
            else:
                yield line[at:], offset, ""
            offset += len(line) + 1


Layout = Searched | Listed
