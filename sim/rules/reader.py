"""Reads a save file: finds its tables, and goes through those not written by iptables-save line by line.

The file means what iptables-restore would make of it: a second ``*table`` replaces the first, ``-I`` inserts, chains
need not be contiguous, an address list is several rules. Commands other than these are errors.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InputError, RuleError
from . import known
from .layout import ADDRESS_LIST, Declared, Layout, Listed, Row, Searched, excerpt, read_declaration
from .lexer import MAX_LINE, LexError, save_words
from .names import nearest
from .savetext import COUNTERS, SaveText

MAX_ERRORS = 100  # of one file that are reported in full
Variants = Callable[[str, str, str], int]  # (table, chain, rule line) → how many rules it makes


class Found:
    """A table of the file. ``start``/``end``: offsets of its text; ``again``: it replaces an earlier one."""

    __slots__ = ("again", "end", "layout", "name", "start")

    def __init__(self, name: str, layout: Layout, start: int, end: int, again: bool) -> None:
        self.name, self.layout, self.start, self.end, self.again = name, layout, start, end, again

    @property
    def rules(self) -> int:
        """Where its rules begin, at the earliest."""
        return self.layout.head_end if isinstance(self.layout, Searched) else self.start


class _Block:
    """One ``*table`` … ``COMMIT`` while it is read line by line."""

    def __init__(self, name: str, start: int) -> None:
        self.name, self.start = name, start
        self.declared: dict[str, Declared] = {}
        self.rows: dict[str, list[Row]] = {}


class Reader:
    """One pass over a file; ``tables`` and ``errors`` are the result."""

    def __init__(self, save: SaveText, legacy: bool, variants: Variants) -> None:
        self.save, self.legacy, self.variants = save, legacy, variants
        self.tables: dict[str, Found] = {}
        self.errors: list[InputError] = []
        self._block: _Block | None = None
        self._lost = False

    def error(self, offset: int, message: str, remedy: str | None = None) -> None:
        self.errors.append(RuleError(message, self.save.where(offset), remedy))

    def read(self) -> None:
        text = self.save.text
        offset, end = 0, len(text)
        while offset < end and len(self.errors) < MAX_ERRORS:
            stop = text.find("\n", offset)
            stop = end if stop < 0 else stop
            line = text[offset : min(stop, offset + MAX_LINE + 2)].strip()
            if self._block is None and line[:1] == "*":
                after = self._plain_table(line[1:].strip(), offset, stop)
                if after is not None:
                    offset = after
                    continue
            if stop - offset > MAX_LINE:
                self.error(offset, f"a line of more than {MAX_LINE} characters, which iptables-restore cannot read")
            elif line and line[0] != "#":
                self._line(offset, line)
            offset = stop + 1
        if self._block is not None and len(self.errors) < MAX_ERRORS:
            what = f"the file ends inside table {self._block.name}: no COMMIT"
            self.error(max(0, end - 1), what, "it is cut off; capture it again")

    def _plain_table(self, name: str, offset: int, stop: int) -> int | None:
        """The offset after a table in the form of iptables-save; None where it has another."""
        if name not in known.BUILT_IN:
            return None
        layout = Searched.recognise(self.save, name, stop)
        if layout is None:
            return None
        before = self.tables.get(name)
        for chain in known.BUILT_IN[name] if before is None or not self.legacy else ():
            try:
                layout.declared(chain)
            except RuleError:
                return None  # the line by line reader says where
        if before is not None and self.legacy:
            return None
        self._add(name, layout, offset, layout.end)
        return layout.end + len("\nCOMMIT\n")

    def _add(self, name: str, layout: Layout, start: int, end: int) -> None:
        self.tables[name] = Found(name, layout, start, end, name in self.tables)

    def _line(self, offset: int, line: str) -> None:
        if line[0] == "*":
            self._open(offset, line[1:].strip())
        elif self._block is None:
            if not self._lost:  # said once, not for each line of a file that is something else
                remedy = "this is no output of iptables-save; capture it with: iptables-save -c"
                self.error(offset, f"expected *TABLE, found {excerpt(line)}", remedy)
            self._lost = True
        elif line == "COMMIT":
            self._commit(self._block, offset)
        elif line[0] == ":":
            self._declare(self._block, offset, line)
        else:
            self._command(self._block, offset, line)

    def _open(self, offset: int, name: str) -> None:
        if self._block is not None:
            self.error(offset, f"*{name} begins inside table {self._block.name}", "add the missing COMMIT")
        if name not in known.BUILT_IN:
            guess = nearest(name, known.BUILT_IN)
            remedy = f"did you mean *{guess}?" if guess else f"tables: {', '.join(known.BUILT_IN)}"
            self.error(offset, f"there is no table {excerpt(name)}", remedy)
        self._block, self._lost = _Block(name, offset), False

    def _declare(self, block: _Block, offset: int, line: str, keep: bool = False) -> None:
        try:
            name, declared = read_declaration(line, block.name, offset)
        except RuleError as error:
            error.where = self.save.where(offset)
            self.errors.append(error)
            return
        block.declared[name] = declared
        if not keep or name not in block.rows:
            block.rows[name] = []  # a chain declared twice is emptied (iptables-nft-restore)

    def _command(self, block: _Block, offset: int, line: str) -> None:
        """A rule, or another of the commands that iptables-restore takes."""
        counters = COUNTERS.match(line)
        try:
            words = save_words(line[counters.end() :] if counters else line)
        except LexError as error:
            self.error(offset, f"{error}: {excerpt(line)}", "close it")
            return
        command = words[0] if words else ""
        name = words[1] if len(words) > 1 else ""
        if command in ("-A", "--append", "-I", "--insert") and name:
            self._rule(block, offset, line, words, name)
        elif command in ("-P", "--policy") and len(words) > 2:
            self._declare(block, offset, f":{name} {words[2]}", keep=True)
        elif command in ("-N", "--new-chain") and name:
            self._declare(block, offset, f":{name} -")
        elif command in ("-F", "--flush"):
            for chain in [name] if name else list(block.rows):
                block.rows[chain] = []
        elif command not in ("-Z", "--zero"):
            remedy = "a rule looks like: -A CHAIN -s 10.0.0.0/8 -j ACCEPT; capture it again with: iptables-save -c"
            self.error(offset, f"not a line of iptables-save: {excerpt(line)}", remedy)

    def _rule(self, block: _Block, offset: int, line: str, words: list[str], name: str) -> None:
        rows = block.rows.setdefault(name, [])
        new: list[Row] = [offset]
        if "," in line and ADDRESS_LIST.search(line):
            count = self.variants(block.name, name, line)
            if count > 1:
                new = [(offset, which) for which in range(count)]
        if words[0] in ("-A", "--append"):
            rows += new
            return
        place = 1
        if len(words) > 2 and words[2].isascii() and words[2].isdigit() and len(words[2]) < 10:
            place = int(words[2])
        if not 1 <= place <= len(rows) + 1:
            self.error(offset, f"-I {name} {place}: the chain has {len(rows)} rules here", "insert at 1, or append")
            return
        rows[place - 1 : place - 1] = new

    def _commit(self, block: _Block, offset: int) -> None:
        self._block = None
        built_in = known.BUILT_IN.get(block.name, ())
        before = self.tables.get(block.name)
        for name, rows in block.rows.items():
            if name in block.declared:
                continue
            if name in built_in:
                block.declared[name] = Declared(self._old_policy(before, name), None, block.start)
            else:
                first = rows[0] if rows else offset
                where = first if isinstance(first, int) else first[0]
                remedy = f"add :{name} - [0:0] after *{block.name}"
                self.error(where, f"chain {excerpt(name)} is used and never declared", remedy)
        if before is not None and self.legacy:
            for name in before.layout.names():
                if name in built_in and name not in block.declared:
                    block.declared[name] = Declared(self._old_policy(before, name), None, block.start)
        self._add(block.name, Listed(self.save, block.declared, block.rows), block.start, offset)

    def _old_policy(self, before: Found | None, name: str) -> str:
        """The policy of a chain that a block doesn't mention: legacy keeps what an earlier block set."""
        declared = before.layout.declared(name) if before is not None and self.legacy else None
        return (declared.policy if declared is not None else None) or "ACCEPT"
