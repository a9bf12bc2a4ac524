"""Reading the options of targets: numbers as xtables reads them, one clear error for each wrong one.

Follows libxtables/xtoptions.c: numbers take C prefixes (0x.., 0..), an option may be given once only.
"""

from __future__ import annotations

from ..model.addr import AF_INET, AF_INET6, format_addr, parse_addr
from ..record import NamedTuple
from ..rules.registry import At, Found, Got

U32 = 0xFFFFFFFF


def c_int(text: str) -> int:
    """strtoul(text, &end, 0) that accepts nothing after the number. Raises ValueError."""
    if not text.isascii() or not text[:1].isdigit() or "_" in text:
        raise ValueError(text)
    if text[:2].lower() == "0x":
        return int(text[2:], 16)
    return int(text, 8) if len(text) > 1 and text[0] == "0" else int(text)


class ValueMask(NamedTuple):
    """``value/mask`` of a mark; ``mask`` is all ones where none was written."""

    value: int
    mask: int


class Options:
    """The options found on one rule, by name. ``target`` is for the error messages."""

    __slots__ = ("_got", "at", "target")

    def __init__(self, target: str, found: Found, at: At) -> None:
        self.target, self.at = target, at
        self._got: dict[str, Got] = {}
        for got in found:
            if got.name in self._got:
                raise at.error(f'{target}: option "{got.name}" can only be used once')
            if got.negated:
                raise at.error(f'{target}: option "{got.name}" cannot be inverted')
            self._got[got.name] = got

    def __contains__(self, name: str) -> bool:
        return name in self._got

    def names(self) -> tuple[str, ...]:
        return tuple(self._got)

    def text(self, name: str) -> str | None:
        """The word after ``name``, or None where the option is absent."""
        got = self._got.get(name)
        return None if got is None else got.args[0]

    def need(self, name: str) -> str:
        """The word after a mandatory option."""
        got = self._got.get(name)
        if got is None:
            raise self.at.error(f'{self.target}: option "{name}" must be specified')
        return got.args[0]

    def one_of(self, *names: str) -> str:
        """Which one of the alternatives was given; exactly one must be."""
        given = [name for name in names if name in self._got]
        if not given:
            raise self.at.error(f"{self.target}: one of {', '.join(names)} is required")
        if len(given) > 1:
            raise self.at.error(f'{self.target}: option "{given[0]}" cannot be used together with "{given[1]}"')
        return given[0]

    def bad(self, name: str, wanted: str) -> Exception:
        return self.at.error(f'{self.target}: bad value {self.text(name)!r} for option "{name}": {wanted}')

    def number(self, name: str, low: int = 0, high: int = U32) -> int | None:
        """An integer in [low, high], or None where the option is absent."""
        text = self.text(name)
        if text is None:
            return None
        try:
            value = c_int(text)
        except ValueError:
            raise self.bad(name, f"a number from {low} to {high}") from None
        if not low <= value <= high:
            raise self.bad(name, f"out of range ({low}-{high})")
        return value

    def value_mask(self, name: str, high: int = U32) -> ValueMask | None:
        """``value[/mask]``, or None where the option is absent."""
        text = self.text(name)
        if text is None:
            return None
        head, slash, tail = text.partition("/")
        try:
            value, mask = c_int(head), c_int(tail) if slash else high
        except ValueError:
            raise self.bad(name, "value or value/mask, both numbers") from None
        if value > high or mask > high:
            raise self.bad(name, f"out of range (0-{high:#x})")
        return ValueMask(value, mask)

    def addr(self, name: str) -> int | None:
        """An address of the rule's family as an integer, or None where the option is absent."""
        text = self.text(name)
        if text is None:
            return None
        family, value = _addr(text, name, self)
        return value if family == self.at.family else self._wrong_family(name)

    def _wrong_family(self, name: str) -> int:
        raise self.bad(name, f"an {'IPv4' if self.at.family == AF_INET else 'IPv6'} address")


def _addr(text: str, name: str, options: Options) -> tuple[int, int]:
    try:
        return parse_addr(text)
    except (ValueError, OSError):
        raise options.bad(name, "an address") from None


def port_number(text: str, proto: int = 0) -> int:
    """A port as a number or a service name. Raises ValueError."""
    if text[:1].isdigit():
        value = c_int(text)
        if value > 0xFFFF:
            raise ValueError(text)
        return value
    import socket

    try:
        return socket.getservbyname(text, {17: "udp", 132: "sctp"}.get(proto, "tcp"))
    except OSError as error:
        raise ValueError(text) from error


def show_addr(family: int, value: int, bracketed: bool = False) -> str:
    """An address as text, an IPv6 one in brackets where a port follows."""
    text = format_addr(family, value)
    return f"[{text}]" if bracketed and family == AF_INET6 else text
