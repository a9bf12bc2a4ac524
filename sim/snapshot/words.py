"""Words that several dumps share: numbers, names of protocols, tables, scopes, tos values, MAC addresses.

All raise ValueError with a message that names what was expected and what was found.
"""

from __future__ import annotations

from ..model.route import SCOPE_NUMBER
from .problems import excerpt

TABLES = {"local": 255, "main": 254, "default": 253, "unspec": 0, "all": 0}
UNNAMED = 1 << 32  # tables known by a name only get numbers that no kernel uses
# rt_dsfield of iproute2 (old and new), as the number of the whole byte
DSFIELD = {
    "default": 0, "lowdelay": 0x10, "throughput": 0x08, "reliability": 0x04, "mincost": 0x02,
    "EF": 0xB8, "VA": 0xB0, "LE": 0x04, "VOICE-ADMIT": 0xB0,
    **{f"CS{n}": n << 5 for n in range(8)},
    **{f"AF{c}{d}": c << 5 | d << 3 for c in range(1, 5) for d in range(1, 4)},
}  # fmt: skip


def unsigned(text: object, what: str, most: int = 0xFFFFFFFFFFFFFFFF) -> int:
    """A number in decimal or, with 0x, hexadecimal."""
    value: int | None = None
    if type(text) is int:
        value = text
    elif isinstance(text, str) and text.isascii() and len(text) <= 40:
        if text.isdigit():
            value = int(text)
        elif text[:2].lower() == "0x" and text[2:].isalnum():
            try:
                value = int(text, 16)
            except ValueError:
                value = None
    if value is None:
        raise ValueError(f"{what}: expected a number, got {excerpt(text)}")
    if not 0 <= value <= most:
        raise ValueError(f"{what}: {excerpt(value)} is not between 0 and {most}")
    return value


def parse_mac(text: str) -> int:
    """``02:00:00:00:00:01`` as a number."""
    parts = text.split(":")
    if len(parts) != 6 or any(len(part) != 2 for part in parts):
        raise ValueError(f"not a MAC address: {excerpt(text)}")
    try:
        return int("".join(parts), 16)
    except ValueError:
        raise ValueError(f"not a MAC address: {excerpt(text)}") from None


def proto_number(text: object) -> int:
    """A protocol by name or number."""
    from ..rules.names import protocol_number

    number = protocol_number(text) if isinstance(text, str) else unsigned(text, "protocol", 255)
    if number is None:
        raise ValueError(f"unknown protocol {excerpt(text)}")
    return number


def service_port(text: str) -> int:
    """A port by number or service name."""
    if text.isascii() and text.isdigit():
        return unsigned(text, "port", 65535)
    from ..services import find_service

    found = find_service(text)
    if found is None:
        raise ValueError(f"unknown port {excerpt(text)}")
    return found[0]


def scope_number(text: object) -> int:
    if isinstance(text, str) and text in SCOPE_NUMBER:
        return SCOPE_NUMBER[text]
    return unsigned(text, "scope", 255)


def dsfield(text: object, what: str = "tos") -> int:
    """A tos byte: hexadecimal as iproute2 prints it, or a name of rt_dsfield."""
    if isinstance(text, str):
        if text in DSFIELD:
            return DSFIELD[text]
        if text[:2].lower() != "0x":
            text = f"0x{text}"  # iproute2 before 4.x printed bare hexadecimal digits
    return unsigned(text, what, 255)


def realms(text: object) -> int:
    """``to`` or ``from/to`` as the kernel's number (from << 16 | to)."""
    head, slash, tail = str(text).partition("/")
    if slash:
        return unsigned(_realm(head), "realm", 0xFFFF) << 16 | unsigned(_realm(tail), "realm", 0xFFFF)
    return unsigned(_realm(head), "realm", 0xFFFFFFFF)


def _realm(text: str) -> str:
    return "0" if text in ("cosmos", "unknown") else text


class TableNames:
    """Routing tables by name: the standard ones, and names of the host's rt_tables, whose numbers a dump hides."""

    def __init__(self) -> None:
        self.known: dict[str, int] = dict(TABLES)
        self._memo: dict[str, int] = dict(TABLES)

    def number(self, text: object) -> int:
        found = self._memo.get(text) if isinstance(text, str) else None
        if found is not None:
            return found
        if isinstance(text, str) and text and not text[0].isdigit():
            value = self.known[text] = UNNAMED + len(self.known)
        else:
            value = unsigned(text, "table", 0xFFFFFFFF)
        if isinstance(text, str):
            self._memo[text] = value
        return value

    @property
    def invented(self) -> dict[str, int]:
        """Names whose numbers the dumps don't tell."""
        return {name: number for name, number in self.known.items() if number >= UNNAMED}
