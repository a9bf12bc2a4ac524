"""Which rules of a long chain could match a packet, by what their text begins with.

A rule is filed under its positive single ``-d``, else its positive single ``-s``, else its ``-p tcp|udp … --dport N``;
all others are looked at every time. A rule that is left out fails in its header part, or in the port directly after
it, so nothing to its left would have kept or consumed any state. Order is kept by merging ascending numbers.
"""

from __future__ import annotations

import _socket as socket  # as in model.addr
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from typing import TYPE_CHECKING, Any

from ..model.addr import AF_INET, BITS, format_addr
from .names import PROTOCOLS

if TYPE_CHECKING:
    from ..model.packet import Skb

_WORD = r"""[^\s"\\]+"""
_HEAD = re.compile(
    rf""" (?:(! )?-s ({_WORD}) )?(?:(! )?-d ({_WORD}) )?(?:-i {_WORD} )?"""
    rf"""(?:-p (tcp|udp) (?:-m comment --comment (?:{_WORD}|"[^"\\]*") )?-m \5 --dport ([1-9][0-9]{{0,4}}) )?"""
)
_SHORTEST = {6: 20, 17: 8}  # bytes of a whole transport header

_LOOKUPS = 8  # destinations searched for, after which a real index pays
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
# The lines of a chain that are not plainly for one destination
_OTHERS = rf"\n(?:\[[0-9]+:[0-9]+\] )?-A (?![^ \n]+ -d {_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}/32 )"

_INTERFACES = (" -i ", " -o ", "-interface")

Key = tuple[bytes, bytes, Any]


class ChainIndex:
    """Made once per chain from the texts of its rules (an empty text: always a candidate)."""

    __slots__ = ("_ports", "_residual", "_size", "by_dport", "by_dst", "by_src", "family")

    def __init__(self, specs: Iterable[str], family: int) -> None:
        self.family = family
        self.by_dst: dict[bytes, list[int]] = {}
        self.by_src: dict[bytes, list[int]] = {}
        self.by_dport: dict[tuple[int, int], list[int]] = {}
        self._residual: list[int] = []
        self._size = BITS[family] >> 3
        host = f"/{BITS[family]}"
        number = 0
        for number, spec in enumerate(specs, 1):
            self._file(number, spec, host)
        self._ports = sorted(n for rows in self.by_dport.values() for n in rows)

    def _file(self, number: int, spec: str, host: str) -> None:
        found = _HEAD.match(spec + " ")
        if found is None:
            self._residual.append(number)
            return
        not_src, src, not_dst, dst, proto, dport = found.groups()
        for negated, text, rows in ((not_dst, dst, self.by_dst), (not_src, src, self.by_src)):
            if text is not None and negated is None:
                key = self._address(text.removesuffix(host))
                if key is not None:
                    rows.setdefault(key, []).append(number)
                    return
        if proto is not None:
            self.by_dport.setdefault((PROTOCOLS[proto], int(dport)), []).append(number)
        else:
            self._residual.append(number)

    def _address(self, text: str) -> bytes | None:
        """One address in the strict spelling (inet_pton() knows no octal numbers), else None."""
        try:
            return socket.inet_pton(self.family, text)
        except (OSError, ValueError):
            return None

    def worn(self) -> bool:
        return False

    def key(self, skb: Skb) -> Key:
        """What decides which rules are candidates."""
        size = self._size
        port: Any = None
        if self.by_dport:
            port = self._port(skb)
        return skb.dst.to_bytes(size, "big"), skb.src.to_bytes(size, "big"), port

    def _port(self, skb: Skb) -> Any:
        """(proto, dport); None where a port match may do more than compare (cut headers, drawn ports)."""
        shortest = _SHORTEST.get(skb.proto)
        if shortest is None:
            return skb.proto, -1
        header = 20 + len(skb.ip_options) if self.family == AF_INET else 40
        if skb.frag or type(skb.dport) is not int or skb.length < header + shortest:
            return None
        return skb.proto, skb.dport

    def lookup(self, key: Key, start: int) -> Iterator[int]:
        """Numbers of the candidates from ``start`` on, ascending."""
        dst, src, port = key
        ports = self._ports if port is None else self.by_dport.get(port, ())
        rows = [r for r in (self.by_dst.get(dst), self.by_src.get(src), ports, self._residual) if r]
        if start > 1:
            rows = [r[bisect_left(r, start) :] for r in rows]
        return iter(rows[0]) if len(rows) == 1 else merge(*rows)


class TextIndex:
    """For one look into a chain of many ``-d A/32``: the lines for A are searched in the text, nothing is filed.

    Made of contiguous plain lines only; :meth:`worn` after a few destinations.
    """

    __slots__ = ("_end", "_found", "_named", "_others", "_start", "_starts", "_text")

    def __init__(self, text: str, starts: list[int], end: int, others: list[int]) -> None:
        self._text, self._starts, self._others = text, starts, others
        self._start, self._end = starts[0], end
        self._found: dict[int, list[int]] = {}  # destination → numbers of the candidates
        self._named: bool | None = None  # an interface; None: nobody has asked

    @classmethod
    def of(cls, text: str, items: Sequence[Any], family: int) -> TextIndex | None:
        """The index, or None where it would not pay or be right."""
        if family != AF_INET or len(items) < 256 or not all(type(item) is int for item in items):
            return None
        starts = list(items)
        end = text.find("\n", starts[-1]) + 1
        if not starts[0] or not end or text.count("\n", starts[0], end) != len(starts):
            return None
        others: list[int] = []
        for found in re.finditer(_OTHERS, text[starts[0] - 1 : end]):
            others.append(bisect_left(starts, starts[0] + found.start()) + 1)
            if len(others) > len(starts) >> 3:
                return None
        return cls(text, starts, end, others)

    def names_interfaces(self) -> bool:
        """Whether a line of the chain may name an interface."""
        if self._named is None:
            self._named = any(self._text.find(word, self._start, self._end) >= 0 for word in _INTERFACES)
        return self._named

    def worn(self) -> bool:
        return len(self._found) >= _LOOKUPS

    def key(self, skb: Skb) -> int:
        return skb.dst

    def lookup(self, key: int, start: int) -> Iterator[int]:
        """Numbers of the candidates from ``start`` on, ascending."""
        rows = self._found.get(key)
        if rows is None:
            rows = self._found[key] = self._search(key)
        return iter(rows[bisect_left(rows, start) :])

    def _search(self, address: int) -> list[int]:
        text, needle = self._text, f" -d {format_addr(AF_INET, address)}/32 "
        mine: list[int] = []
        place = text.find(needle, self._start, self._end)
        while place >= 0:
            number = bisect_right(self._starts, place)
            if not mine or mine[-1] != number:
                mine.append(number)
            place = text.find(needle, place + 1, self._end)
        return sorted({*mine, *self._others})  # a line that only mentions the address is a candidate too many
