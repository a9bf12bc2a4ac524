"""Where in a save file the chains of a table and their rules are.

Two answers to the same questions. A table as iptables-save writes it (chain lines, then ``-A`` lines, then COMMIT) is
recognised by one regular expression and never taken apart: a chain is searched for when it is asked for
(:class:`Searched`). A table written otherwise is read line by line at once (:class:`Listed`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import InputError, RuleError
from ..model.rule import HOOK_NUMBER
from ..record import NamedTuple
from . import known
from .savetext import COUNTERS, SaveText, split_rule

SEARCHES = 32  # chains searched for one by one; whoever wants more of them gets all listed
# Like -s and -d in any spelling, with a list of addresses: one line is several rules
ADDRESS_LIST = re.compile(r"""(?:-s|-d|--s[a-z]*|--d[a-z]*)[ =\t]+"?[0-9A-Fa-f.:/x]*,""")
_HEAD_END = re.compile(r"\n(?!:)")
# All lines of one chain that follow each other: one step for the regular expression engine, and one entry to keep
_RUN = r"""\n{0}-A ([^ \t\r\f\v\n"]++)(?: [^\n]*+)?+(?=\n)(?:\n{0}-A \1(?: [^\n]*+)?+(?=\n))*+"""
_RUNS = re.compile(_RUN.format(""))
_RUNS_COUNTED = re.compile(_RUN.format(r"\[[0-9]{1,20}:[0-9]{1,20}\] "))

Row = int | tuple[int, int]  # offset of a line; (offset, which of the rules that it makes)


class Declared(NamedTuple):
    """What the text says about a chain besides its rules."""

    policy: str | None
    counters: tuple[int, int] | None
    offset: int


def _runs(text: str, head_end: int) -> Any:
    """The pattern for a table whose first rule begins after ``head_end``: all of its lines have counters, or none."""
    return _RUNS_COUNTED if text.startswith("[", head_end + 1) else _RUNS  # Any: the type checker knows no scanner()


def _all_runs(text: str, head_end: int) -> dict[str, list[int]]:
    """Every place where lines of a chain begin."""
    found: dict[str, list[int]] = {}
    for run in iter(_runs(text, head_end).scanner(text, head_end).match, None):
        found.setdefault(run[1], []).append(run.start())
    return found


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
    ``end``: the one before COMMIT; ``_runs``: chain → where its lines begin; all such places where they are ``_several``.
    """

    __slots__ = ("_asked", "_names", "_runs", "_several", "end", "head_end", "save", "start", "table")

    def __init__(self, save: SaveText, table: str, start: int, head_end: int, end: int,
                 runs: dict[str, int], several: Mapping[str, Sequence[int]]) -> None:  # fmt: skip
        self.save, self.table = save, table
        self.start, self.head_end, self.end, self._runs, self._several = start, head_end, end, runs, several
        self._asked: dict[str, int | None] = {}  # what has been searched for
        self._names: dict[str, int] | None = None  # name → offset of its line

    @classmethod
    def recognise(cls, save: SaveText, table: str, start: int) -> Searched | None:
        """The table whose ``*name`` line ends at ``start``, or None where it isn't written like that."""
        text = save.text
        head = _HEAD_END.search(text, start)
        if head is None:
            return None
        head_end = end = head.start()
        runs: dict[str, int] = {}
        several: Mapping[str, Sequence[int]] = {}
        run, count = None, 0
        for run in iter(_runs(text, head_end).scanner(text, head_end).match, None):
            runs[run[1]] = run.start()
            count += 1
        if run is not None:
            end = run.end()
        if len(runs) < count:  # a file put together by hand
            several = _all_runs(text, head_end)
        return cls(save, table, start, head_end, end, runs, several) if text.startswith("\nCOMMIT\n", end) else None

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
        if name not in self._asked:
            if len(self._asked) >= SEARCHES:
                return self._declarations().get(name)
            self._asked[name] = self._search(name)
        return self._asked[name]

    def _search(self, name: str) -> int | None:
        text, needle = self.save.text, f"\n:{name}"
        place = text.find(needle, self.start, self.head_end)
        while place >= 0 and text[place + len(needle)] not in " \n":
            place = text.find(needle, place + 1, self.head_end)
        return place + 1 if place >= 0 and name and " " not in name and "\n" not in name else None

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
        first = self._runs.get(name, -1)
        text, runs = self.save.text, _runs(self.save.text, self.head_end)
        rows: list[Row] = []
        for start in self._several.get(name) or ((first,) if first >= 0 else ()):
            offset = start + 1
            for line in runs.match(text, start)[0][1:].split("\n"):
                rows.append(offset)
                offset += len(line) + 1
        return rows

    def count(self) -> int:
        text, before = self.save.text, self.head_end
        return text.count("\n[" if text.startswith("[", before + 1) else "\n-A ", before, self.end)

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
