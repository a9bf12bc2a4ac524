"""From the words of a rule to its matches and target.

Two ways to the same result. iptables-save writes each ``-m name`` directly before its own options, so a line falls
into pieces at `` -m `` and `` -j ``, and a piece seen before (the same text under the same ``-p``) costs one look-up:
:meth:`Place.build`. Whatever is written otherwise (options of several extensions mixed, ``-p tcp --dport 80`` without
``-m tcp``, long or abbreviated options, address lists) goes to the exact reader in ``words.py``, which follows
do_command() of iptables/xshared.c word by word and owns all error messages.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

from ..errors import RuleError
from ..model.addr import AF_INET, FAMILY_NAME
from ..model.rule import HOOK_NAME, HOOK_NUMBER, Match, Target
from ..record import NamedTuple
from . import known
from .jump import Goto, Jump
from .lexer import LexError, save_words
from .names import PROTOCOLS, nearest
from .registry import At, Found, Got, Info, find_match, find_target
from .unmodelled import UnmodelledMatch, UnmodelledTarget

# How every target in the kernel and in xtables-addons is written: another word after -j is a chain that is missing
EXTENSION = re.compile(r"[A-Z][A-Z0-9_]{1,27}")
MEMO_SIZE = 1 << 18  # pieces remembered; a file of endless different ones doesn't grow memory for ever


class Parts(NamedTuple):
    """A rule without its identity."""

    matches: tuple[Match, ...]
    target: Target | None
    comment: str | None


class Scope:
    """What the meaning of a rule depends on besides its words and its chain.

    ``chains``: names of the table's user chains; None: not known, then an unknown ``-j NAME`` is a chain.
    ``typed``: the rule was typed by someone now, so an unknown name is a slip and not an extension of another system.
    """

    __slots__ = ("_matches", "_places", "_targets", "chains", "family", "groups", "table", "typed", "users")

    def __init__(self, table: str, family: int, users: Mapping[str, int] | None, groups: Mapping[str, int] | None,
                 chains: Container[str] | None, typed: bool = False) -> None:  # fmt: skip
        self.table, self.family = table, family
        self.users, self.groups = users or {}, groups or {}
        self.chains, self.typed = chains, typed
        self._matches: dict[str, Info | None] = {}
        self._targets: dict[str, Info | None] = {}
        self._places: dict[str, Place] = {}

    def place(self, chain: str) -> Place:
        """What is remembered for a chain; user chains share one place, since nothing depends on their names."""
        name = chain if chain in HOOK_NUMBER else ""
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = Place(self, name)
        return place

    def know_chains(self, names: Container[str]) -> None:
        """The same names in a form that is quick to ask often."""
        self.chains = names
        for place in self._places.values():
            place.calls = names

    def match_info(self, name: str) -> Info | None:
        """The registered match, None for one that is not modelled. Raises RuleError for a mistyped name."""
        if name not in self._matches:
            info = find_match(known.MATCH_ALIAS.get(name, name))
            if info is None and self.typed and name not in known.MATCHES:
                guess = nearest(name, known.MATCHES)
                raise RuleError(
                    f"there is no match called {name!r}", None, f"did you mean -m {guess}?" if guess else None
                )
            self._matches[name] = info
        return self._matches[name]

    def target_info(self, name: str) -> Info | None:
        if name not in self._targets:
            self._targets[name] = find_target(name)
        return self._targets[name]


class ForProto:
    """Pieces read so far under one ``-p``."""

    __slots__ = ("at", "matches", "proven", "targets")

    def __init__(self, at: At) -> None:
        self.at = at
        self.proven: set[str] = set()  # names of which a piece of the shape in shortcuts was accepted here
        self.matches: dict[str, tuple[Match, str | None]] = {}
        self.targets: dict[str, Target] = {}


class NotPlain(Exception):
    """A line that the quick way does not understand; the exact one will, or will say what is wrong."""


class Place:
    """Reads the rules of one built-in chain, or of all user chains of a table."""

    __slots__ = ("_checked_headers", "_headers", "_protos", "_proven", "_shapes", "_size", "calls", "chain", "scope")

    def __init__(self, scope: Scope, chain: str) -> None:
        self.scope, self.chain = scope, chain
        self._protos: dict[tuple[int, bool], ForProto] = {}
        self._headers: dict[str, tuple[tuple[Match, ...], ForProto]] = {}
        self._shapes: Any = None  # the module shortcuts, once somebody validates
        self._checked_headers: dict[str, ForProto] = {}
        self._proven: set[tuple[str | None, ...]] = set()  # shapes of whole rules of which one was accepted here
        self.calls: Container[str] = () if scope.chains is None else scope.chains
        self._size = 0

    def for_proto(self, proto: int, negated: bool) -> ForProto:
        found = self._protos.get((proto, negated))
        if found is None:
            scope = self.scope
            at = At(scope.family, scope.table, self.chain, proto, negated, None, scope.users, scope.groups)
            found = self._protos[proto, negated] = ForProto(at)
        return found

    def build(self, spec: str) -> Parts:
        """The rule in ``spec``: its text from the first criterion on, after one space. Raises RuleError."""
        try:
            return self._plain(spec)
        except NotPlain:
            return self.exact(spec)[0]

    def exact(self, spec: str) -> list[Parts]:
        """The rules in ``spec`` (several where ``-s`` or ``-d`` is a list). Raises RuleError."""
        from .words import read_words

        try:
            words = save_words(spec)
        except LexError as error:
            raise RuleError(str(error), None, 'close it, or write \\" where a quote is meant') from None
        return read_words(words, self)

    def _plain(self, spec: str) -> Parts:
        header, rest, action, goto = split_spec(spec)
        found = self._headers.get(header)
        if found is None:
            found = self._read_header(header)
        matches, under = found
        comment = None
        if rest:
            known_pieces = under.matches
            more = []
            for piece in rest:
                entry = known_pieces.get(piece)
                if entry is None:
                    entry = self._read_match(piece, under)
                more.append(entry[0])
                if entry[1] is not None:
                    comment = entry[1]
            matches = (*matches, *more)
        if action is None:
            return Parts(matches, None, comment)
        if goto:
            return Parts(matches, self.chain_target(action, True), comment)
        target = under.targets.get(action)
        if target is None:
            target = self._read_target(action, under)
        return Parts(matches, target, comment)

    def check(self, spec: str) -> str | None:
        """As :meth:`build` without making a rule: the name of the chain it calls, if any. Raises RuleError."""
        shapes = self._shapes
        if shapes is None:
            from . import shortcuts as shapes  # only where all of a file is read

            self._shapes = shapes
        found = shapes.RULE.fullmatch(spec) if self.scope.family == AF_INET else None
        if found is None:
            return self._check(spec)
        proto, comment, ports, dport, share, action, option = found.groups()
        calls = option is None and action in self.calls
        shape = (proto, comment, ports, dport, share, "" if calls else action, option)
        if shape in self._proven:
            return action if calls else None
        called = self._check(spec)
        if len(self._proven) < MEMO_SIZE:
            self._proven.add(shape)
        return called

    def _check(self, spec: str) -> str | None:
        """:meth:`check` piece by piece."""
        shapes = self._shapes
        try:
            header, rest, action, goto = split_spec(spec)
            under = self._checked_headers.get(header)
            if under is None:
                under = self._check_header(header)
            pieces = under.matches
            for piece in rest:
                if piece not in pieces:
                    self._check_piece(piece, under, shapes.MATCHES, False)
            if action is None:
                return None
            if not goto:
                if action in self.calls:
                    return action
                if action in under.targets:
                    return None
                target = self._check_piece(action, under, shapes.TARGETS, True)
            else:
                target = self.chain_target(action, True)
        except NotPlain:
            target = self.exact(spec)[0].target
        return target.chain if isinstance(target, (Jump, Goto)) else None

    def _check_header(self, header: str) -> ForProto:
        shape = self._shapes.HEADER.fullmatch(header)
        if shape is None or self.scope.family != AF_INET:
            under = self._read_header(header)[1]
        else:
            proto = shape.group(1)
            under = self.for_proto(0 if proto is None else PROTOCOLS[proto[4:]], False)
            if shape.end() == len(proto or ""):  # without addresses: it will come again
                self._checked_headers[header] = under
        return under

    def _check_piece(self, piece: str, under: ForProto, patterns: Mapping[str, re.Pattern[str]], action: bool) -> Any:
        """A piece after ``-m`` or ``-j`` that is not remembered."""
        name = piece[: piece.find(" ")]
        shape = patterns.get(name)
        if shape is not None and shape.fullmatch(piece) is None:
            shape = None
        if shape is not None and name in under.proven:
            return None
        result = self._read_target(piece, under) if action else self._read_match(piece, under)
        if shape is not None:
            under.proven.add(name)
        return result

    def _remember(self, memo: dict[str, Any], piece: str, value: Any) -> None:
        if self._size >= MEMO_SIZE:
            self._size = 0
            self._headers.clear()
            self._protos.clear()
            self._checked_headers.clear()
        self._size += 1
        memo[piece] = value

    def _read_header(self, piece: str) -> tuple[tuple[Match, ...], ForProto]:
        from .words import read_header

        matches, proto, negated = read_header(piece.split(), self)
        found = matches, self.for_proto(proto, negated)
        self._remember(self._headers, piece, found)
        return found

    def _read_match(self, piece: str, under: ForProto) -> tuple[Match, str | None]:
        words = _words(piece)
        name = words[0]
        info = self.scope.match_info(name)
        if info is None:
            if not known.BASE_OPTIONS.isdisjoint(words):
                raise NotPlain
            entry: tuple[Match, str | None] = (UnmodelledMatch(name, tuple(words[1:])), None)
        else:
            got = own_options(info.options, words)
            entry = self.construct("-m", name, info, got, under.at), comment_in(name, got)
        self._remember(under.matches, piece, entry)
        return entry

    def _read_target(self, piece: str, under: ForProto) -> Target:
        words = _words(piece)
        name = words[0]
        info = None
        if name not in self.calls:
            info = self.scope.target_info(name)
        if info is not None:
            target: Target = self.construct("-j", name, info, own_options(info.options, words), under.at)
        elif len(words) > 1:
            raise NotPlain
        else:
            target = self.chain_target(name, False)
        self._remember(under.targets, piece, target)
        return target

    def chain_target(self, name: str, goto: bool) -> Target:
        """``-j NAME`` or ``-g NAME`` where NAME is not a registered target."""
        chains, table = self.scope.chains, self.scope.table
        if " " in name:
            raise NotPlain
        if name in HOOK_NUMBER:
            raise RuleError(
                f"{name} is a built-in chain: rules cannot jump to it", None, "jump to a chain made with -N"
            )
        if not goto and name in known.TARGETS and name not in self.calls:
            return UnmodelledTarget(name)
        if chains is None or name in chains:
            return Goto(name) if goto else Jump(name)
        if not goto and not self.scope.typed and EXTENSION.fullmatch(name):
            return UnmodelledTarget(name)
        options = [*(chains if isinstance(chains, Iterable) else ()), *known.TARGETS]
        guess = nearest(name, options)
        what = "chain" if goto else "chain or target"
        raise RuleError(
            f"table {table} has no {what} called {name!r}", None, f"did you mean {guess}?" if guess else None
        )

    def construct(self, dash: str, name: str, info: Info, found: Found, at: At) -> Any:
        """Make a registered match or target after checking that the kernel takes it at this place."""
        scope = self.scope
        if scope.family not in info.families:
            raise RuleError(f"{dash} {name} does not exist for {FAMILY_NAME[scope.family]}")
        if info.tables is not None and scope.table not in info.tables:
            tables = " or ".join(info.tables)
            raise RuleError(f"{dash} {name} is not allowed in table {scope.table}", None, f"it works in table {tables}")
        if info.hooks is not None and self.chain and HOOK_NUMBER[self.chain] not in info.hooks:
            chains = ", ".join(HOOK_NAME[hook] for hook in info.hooks)
            raise RuleError(f"{dash} {name} is not allowed in chain {self.chain}", None, f"it works in {chains}")
        return info.cls.parse(found, at)


def split_spec(spec: str) -> tuple[str, list[str], str | None, bool]:
    """(header, pieces after -m, action, whether it is -g). Raises NotPlain where quotes make that unsafe."""
    if '"' in spec:
        if "\\" in spec:
            raise NotPlain
        parts = spec.split('"')
        if not len(parts) & 1:
            raise NotPlain
        for quoted in parts[1::2]:
            if " -" in quoted and (" -m " in quoted or " -j " in quoted or " -g " in quoted):
                raise NotPlain
    body, found, action = spec.partition(" -j ")
    goto = False
    if not found:
        body, found, action = spec.partition(" -g ")
        goto = True
    header, *rest = body.split(" -m ")
    return header, rest, action if found else None, goto


def _words(piece: str) -> list[str]:
    try:
        words = save_words(piece)
    except LexError:
        raise NotPlain from None
    if not words:
        raise NotPlain
    return words


def own_options(options: Mapping[str, Any], words: list[str]) -> Found:
    """The options after ``words[0]`` where all are this extension's own and well formed. Raises NotPlain."""
    found: list[Got] = []
    seen: set[str] = set()
    negated = False
    i, end = 1, len(words)
    while i < end:
        word = words[i]
        i += 1
        opt = options.get(word)
        if opt is None:
            if word != "!" or negated:
                raise NotPlain
            negated = True
            continue
        name, count, negatable, _ = opt
        if name == "--next":
            seen.clear()  # libxt_policy.c: each element has its own options
        elif name in seen:
            raise NotPlain
        seen.add(name)
        if count < 0:
            count = 1 if i < end and words[i][:1] != "-" and words[i] != "!" else 0
        args = tuple(words[i : i + count])
        if len(args) < count or (negated and not negatable) or "!" in args:
            raise NotPlain
        i += count
        found.append(Got(name, negated, args))
        negated = False
    if negated:
        raise NotPlain
    return tuple(found)


def comment_in(name: str, found: Found) -> str | None:
    if name != "comment":
        return None
    return next((got.args[0] for got in found if got.name == "--comment"), None)
