"""The exact reader: one rule given as words, in any of the spellings that iptables accepts.

Follows do_parse() and command_default() in iptables/xshared.c: base options, then options of the extensions loaded
so far, the latest first; an option that nobody knows loads the extension of ``-p``; ``!`` may stand before an option
or, as releases before 1.4.3 wrote it, before its value.
"""

from __future__ import annotations

import _socket as socket  # as in model.addr
from typing import Any

from ..errors import RuleError
from ..model.addr import AF_INET, BITS, mask_of
from ..model.rule import Match, Target
from . import header, known
from .builder import NotPlain, Parts, Place, comment_in
from .names import EXTENSION_OF_PROTOCOL, nearest, protocol_name, protocol_number, small_int
from .registry import Got, Info, Opt
from .unmodelled import UnmodelledMatch, UnmodelledTarget

MAX_RULES = 4096  # that one line with address lists may become
MAX_MATCHES = 512  # the kernel's rules end at 64 KiB (legacy) and 128 expressions (nft)
IFNAMSIZ = 16  # include/uapi/linux/if.h, with the terminating zero
_HEADER_OPTIONS = frozenset(("-s", "-d", "-i", "-o", "-p", "-f"))
_NO_INPUT_DEVICE = ("OUTPUT", "POSTROUTING")
_NO_OUTPUT_DEVICE = ("PREROUTING", "INPUT")


class _Extension:
    """``-m name`` or ``-j NAME`` with what was found of its options; ``info`` None: not modelled."""

    __slots__ = ("dash", "found", "info", "name", "raw", "seen")

    def __init__(self, dash: str, name: str, info: Info | None) -> None:
        self.dash, self.name, self.info = dash, name, info
        self.found: list[Got] = []
        self.raw: list[str] = []
        self.seen: set[str] = set()


class _Reader:
    """State while reading the words of one rule."""

    def __init__(self, words: list[str], place: Place) -> None:
        self.words, self.place = words, place
        self.i = 0
        self.negated = False
        self.header: dict[str, list[Match]] = {}
        self.proto, self.proto_negated = 0, False
        self.matches: list[_Extension] = []
        self.target: _Extension | None = None
        self.chain_target: Target | None = None
        self.latest: list[_Extension] = []  # latest first: whose options are looked at first
        self.auto_loaded = False
        self.counters: tuple[int, int] | None = None

    # ── words ──

    def read(self) -> None:
        while self.i < len(self.words):
            word = self.words[self.i]
            self.i += 1
            if word == "!":
                if self.negated:
                    raise RuleError("two ! in a row", None, "write one ! before the option")
                self.negated = True
                continue
            self._option(word)
            self.negated = False
        if self.negated:
            raise RuleError("a ! stands at the end with nothing after it")

    def _option(self, word: str) -> None:
        holder = self.latest[0] if self.latest else None
        if holder is not None and holder.info is None and word not in known.BASE_OPTIONS:
            # Nobody knows what belongs to an extension that is not modelled: all, up to the next base option.
            holder.raw += ["!", word] if self.negated else [word]
            return
        if len(word) < 2 or word[0] != "-":
            raise RuleError(
                f"{_short(word)}: a word that belongs to no option", None, "quote values that contain spaces"
            )
        name, equals, value = word.partition("=") if word[:2] == "--" else (word, "", "")
        inline = value if equals else None
        base, extension, opt = self._resolve(name)
        if base is not None:
            self._base(base, name, inline)
        elif extension is not None and opt is not None:
            self._extension_option(extension, opt, name, inline)
        else:
            self._unknown(name)

    def _resolve(self, name: str) -> tuple[str | None, _Extension | None, Opt | None]:
        """(base option, or the extension and its option) for a spelling. Raises RuleError where it is ambiguous."""
        if name in known.BASE_OPTIONS:
            return known.LONG.get(name, name), None, None
        for extension in self.latest:
            if extension.info is not None and name in extension.info.options:
                return None, extension, extension.info.options[name]
        loaded = self._load_protocol(name)
        if loaded is not None:
            assert loaded.info is not None
            return None, loaded, loaded.info.options[name]
        if len(name) < 4 or name[:2] != "--":
            return None, None, None
        return self._abbreviated(name)

    def _abbreviated(self, name: str) -> tuple[str | None, _Extension | None, Opt | None]:
        bases = {known.LONG[long] for long in known.LONG if long.startswith(name)}
        found: dict[str, tuple[_Extension, Opt]] = {}
        for extension in self.latest:
            for spelling, opt in (extension.info.options if extension.info else {}).items():
                if spelling.startswith(name):
                    found.setdefault(opt.name, (extension, opt))
        if len(bases) + len(found) > 1:
            choices = sorted({*found, *(long for long in known.LONG if long.startswith(name))})
            raise RuleError(f"{_short(name)} is ambiguous", None, f"it may be {' or '.join(choices)}")
        if bases:
            return bases.pop(), None, None
        if found:
            return None, *next(iter(found.values()))
        return None, None, None

    def _load_protocol(self, name: str) -> _Extension | None:
        """load_proto(): an option nobody knows makes ``-p tcp`` load ``-m tcp``, once."""
        if not self.proto or self.auto_loaded:
            return None
        protocol = protocol_name(self.proto)
        protocol = EXTENSION_OF_PROTOCOL.get(protocol, protocol)
        if protocol not in known.MATCHES:
            return None
        info = self.place.scope.match_info(protocol)
        if info is None or name not in info.options:
            return None
        self.auto_loaded = True
        extension = _Extension("-m", protocol, info)
        self.matches.append(extension)
        self.latest.insert(0, extension)
        return extension

    def _unknown(self, name: str) -> None:
        spellings = set(known.LONG)
        for extension in self.latest:
            spellings.update(extension.info.options if extension.info else ())
        if self.proto:
            info = (
                self.place.scope.match_info(protocol_name(self.proto))
                if protocol_name(self.proto) in known.MATCHES
                else None
            )
            spellings.update(info.options if info else ())
        guess = nearest(name, spellings)
        remedy = (
            f"did you mean {guess}?" if guess else "write -m NAME before the options of a match, -p before its ports"
        )
        raise RuleError(f"unknown option {_short(name)}", None, remedy)

    def _value(self, option: str, inline: str | None) -> str:
        if inline is not None:
            return inline
        if self.i < len(self.words) and self.words[self.i] == "!" and not self.negated and option in _HEADER_OPTIONS:
            self.negated = True  # as iptables before 1.4.3 wrote it: -s ! 10.0.0.1
            self.i += 1
        if self.i >= len(self.words):
            raise RuleError(f"{option} needs a value")
        self.i += 1
        return self.words[self.i - 1]

    # ── base options ──

    def _base(self, option: str, name: str, inline: str | None) -> None:
        if option in _HEADER_OPTIONS:
            self._header(option, inline)
            return
        if self.negated:
            raise RuleError(f"! cannot stand before {name}", None, "negate one of its options instead")
        if option == "-m":
            self._match(self._value("-m", inline))
        elif option in ("-j", "-g"):
            self._jump(option, self._value(option, inline))
        elif option == "-c":
            first = self._value("-c", inline)
            pair = first.split(",") if "," in first else [first, self._value("-c", None)]
            if len(pair) != 2 or not all(p.isascii() and p.isdigit() and len(p) <= 20 for p in pair):
                raise RuleError("-c needs two numbers: packets and bytes")
            self.counters = int(pair[0]), int(pair[1])
        elif option in ("-w", "-v", "-4", "-6"):
            if option == "-w" and self.i < len(self.words) and self.words[self.i].isdigit():
                self.i += 1
            if option in ("-4", "-6") and (option == "-4") != (self.place.scope.family == AF_INET):
                raise RuleError(f"{option} stands in a rule of the other address family")
        else:
            raise RuleError(f"{name} cannot stand inside a rule")

    def _header(self, option: str, inline: str | None) -> None:
        value = "" if option == "-f" else self._value(option, inline)
        if option in self.header:
            raise RuleError(f"{option} is given twice", None, "a rule has one of each; write two rules, or a list a,b")
        negated = self.negated
        if option == "-f":
            if self.place.scope.family != AF_INET:
                raise RuleError("-f does not exist for IPv6", None, "use -m frag or -m ipv6header")
            self.header[option] = [header.Fragment(negated)]
        elif option == "-p":
            self.proto, self.proto_negated = _protocol(value, negated), negated
            self.header[option] = [header.Protocol(self.proto, negated)] if self.proto else []
        elif option in ("-i", "-o"):
            self.header[option] = _interface(option, value, negated, self.place.chain)
        else:
            self.header[option] = _addresses(option, value, negated, self.place.scope.family)

    def _match(self, name: str) -> None:
        if len(self.matches) >= MAX_MATCHES:
            raise RuleError(f"more than {MAX_MATCHES} matches in one rule")
        extension = _Extension("-m", name, self.place.scope.match_info(name))
        self.matches.append(extension)
        self.latest.insert(0, extension)

    def _jump(self, option: str, name: str) -> None:
        if self.target is not None or self.chain_target is not None:
            raise RuleError(f"a second {option}: a rule has one target", None, "write a rule for each target")
        scope = self.place.scope
        info = None
        if option == "-j" and name not in self.place.calls:
            info = scope.target_info(name)
        if info is None:
            found = self.place.chain_target(name, option == "-g") if " " not in name else _no_such(name)
            if not isinstance(found, UnmodelledTarget):
                self.chain_target = found
                return
        self.target = _Extension("-j", name, info)
        self.latest.insert(0, self.target)

    # ── options of extensions ──

    def _extension_option(self, extension: _Extension, opt: Opt, name: str, inline: str | None) -> None:
        label = f"{extension.dash} {extension.name}: {name}"
        words, count = self.words, opt.args
        if count != 0 and inline is None and not self.negated and opt.negatable and words[self.i : self.i + 1] == ["!"]:
            self.negated = True  # --dport ! 80, as before 1.4.3
            self.i += 1
        if count < 0:
            following = words[self.i : self.i + 1]
            count = 1 if inline is not None or (following and following[0][:1] != "-" and following[0] != "!") else 0
        args = [] if inline is None else [inline]
        if len(args) > count:
            raise RuleError(f"{label} takes no value")
        missing = count - len(args)
        if len(words) - self.i < missing:
            raise RuleError(f"{label} needs {'a value' if count == 1 else f'{count} values'}")
        args += words[self.i : self.i + missing]
        self.i += missing
        if self.negated and not opt.negatable:
            raise RuleError(f"{label} cannot be negated with !")
        if opt.name == "--next":
            extension.seen.clear()
        elif opt.name in extension.seen:
            raise RuleError(f"{label} can only be used once", None, f"write -m {extension.name} twice, or two rules")
        extension.seen.add(opt.name)
        extension.found.append(Got(opt.name, self.negated, tuple(args)))

    # ── the result ──

    def heads(self) -> list[tuple[Match, ...]]:
        """The header criteria in the kernel's order; one row for each pair of a source and a destination."""
        sources: list[Any] = self.header.get("-s") or [None]
        destinations: list[Any] = self.header.get("-d") or [None]
        if len(sources) * len(destinations) > MAX_RULES:
            raise RuleError(f"the address lists make {len(sources) * len(destinations)} rules", None, "use an ipset")
        others = [found[0] for option in ("-i", "-o", "-p", "-f") if (found := self.header.get(option))]
        return [
            tuple(m for m in (source, destination, *others) if m is not None and not _is_any(m))
            for source in sources
            for destination in destinations
        ]

    def parts(self) -> list[Parts]:
        heads = self.heads()
        at = self.place.for_proto(self.proto, self.proto_negated).at
        tail: list[Match] = []
        comment = None
        for one in self.matches:
            if one.info is None:
                tail.append(UnmodelledMatch(one.name, tuple(one.raw)))
                continue
            found = tuple(one.found)
            tail.append(self.place.construct("-m", one.name, one.info, found, at))
            comment = comment_in(one.name, found) or comment
        target: Any = self.chain_target
        if self.target is not None:
            one = self.target
            if one.info is None:
                target = UnmodelledTarget(one.name, tuple(one.raw))
            else:
                target = self.place.construct("-j", one.name, one.info, tuple(one.found), at)
        return [Parts((*head, *tail), target, comment) for head in heads]


def read_words(words: list[str], place: Place) -> list[Parts]:
    """The rules that the words after ``-A CHAIN`` make: one, or several for address lists. Raises RuleError."""
    reader = _Reader(words, place)
    reader.read()
    return reader.parts()


def read_typed(words: list[str], place: Place) -> tuple[list[Parts], tuple[int, int] | None]:
    """As :func:`read_words`, with the counters of ``-c``."""
    reader = _Reader(words, place)
    reader.read()
    return reader.parts(), reader.counters


def read_header(words: list[str], place: Place) -> tuple[tuple[Match, ...], int, bool]:
    """Header criteria only, for the quick way. Raises NotPlain for anything else, RuleError for a bad value."""
    for i, word in enumerate(words):
        if '"' in word or (word[:1] == "-" and word not in _HEADER_OPTIONS and words[i - 1] not in ("-i", "-o")):
            raise NotPlain
    reader = _Reader(words, place)
    reader.read()
    heads = reader.heads()
    if len(heads) != 1:
        raise NotPlain
    return heads[0], reader.proto, reader.proto_negated


def _short(word: str) -> str:
    return repr(word if len(word) <= 64 else word[:61] + "...")


def _no_such(name: str) -> Target:
    raise RuleError(f"there is no chain or target called {_short(name)}")


def _protocol(text: str, negated: bool) -> int:
    number = protocol_number(text)
    if number is None:
        from .names import PROTOCOLS

        guess = nearest(text.lower(), ("tcp", "udp", "icmp", "sctp", "gre", "esp")) or nearest(text.lower(), PROTOCOLS)
        raise RuleError(
            f"-p {_short(text)}: no such protocol", None, f"did you mean {guess}?" if guess else "0-255 or a name"
        )
    if not number and negated:
        raise RuleError("! -p all never matches")
    return number


def _interface(option: str, text: str, negated: bool, chain: str) -> list[Match]:
    if chain in (_NO_INPUT_DEVICE if option == "-i" else _NO_OUTPUT_DEVICE):
        direction, other = ("incoming", "-o") if option == "-i" else ("outgoing", "-i")
        raise RuleError(f"{option} is not allowed in {chain}: there is no {direction} interface", None, f"use {other}")
    if not text or text == "!":
        raise RuleError(f"{option}: the name of the interface is empty")
    if len(text.encode("utf-8", "surrogateescape")) >= IFNAMSIZ:
        raise RuleError(f"{option} {_short(text)}: an interface name has at most {IFNAMSIZ - 1} characters")
    if text == "+" and not negated:
        return []
    return [(header.InInterface if option == "-i" else header.OutInterface)(text, negated)]


def _addresses(option: str, text: str, negated: bool, family: int) -> list[Match]:
    cls = header.Source if option == "-s" else header.Destination
    items = text.split(",") if "," in text else [text]
    if negated and len(items) > 1:
        raise RuleError(f"! {option} takes one address, not a list", None, "write a chain, or use an ipset")
    if len(items) > MAX_RULES:
        raise RuleError(f"{option}: a list of {len(items)} addresses", None, "use an ipset")
    found: list[Match] = []
    for item in items:
        value, mask = _network(option, item, family)
        found.append(cls(family, value & mask, mask, negated))
    return found


def _is_any(match: Match) -> bool:
    """``-s 0.0.0.0/0``: no criterion, and not printed (its negation never matches, and is)."""
    return isinstance(match, (header.Source, header.Destination)) and not match.mask and not match.negated


def _network(option: str, text: str, family: int) -> tuple[int, int]:
    head, slash, tail = text.partition("/")
    value = _host(head, family)
    if value is None:
        other = "an IPv6 address in an IPv4 rule" if ":" in head and family == AF_INET else "not an address"
        raise RuleError(
            f"{option} {_short(text)}: {other}", None, "names are not looked up: DNS may answer differently"
        )
    if not slash:
        return value, mask_of(family, BITS[family])
    bits = small_int(tail)
    if bits is not None and bits <= BITS[family]:
        return value, mask_of(family, bits)
    mask = _host(tail, family) if tail.count(".") == 3 or ":" in tail else None
    if mask is None:
        raise RuleError(
            f"{option} {_short(text)}: a bad mask", None, f"a length of 0-{BITS[family]}, or a mask in full"
        )
    return value, mask


def _host(text: str, family: int) -> int | None:
    """xtables_numeric_to_ipaddr(): up to four numbers, missing ones are 0, octal and hexadecimal are read as such."""
    if family != AF_INET:
        try:
            return int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big")
        except (OSError, ValueError):
            return None
    if len(text) > 64:
        return None
    numbers = [small_int(part) for part in text.split(".")]
    if len(numbers) > 4:
        return None
    value = 0
    for number in numbers + [0] * (4 - len(numbers)):
        if number is None or number > 255:
            return None
        value = value << 8 | number
    return value
