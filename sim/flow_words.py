"""The words of a FLOW: cutting the text up with columns, and reading single values.

Nothing here knows the snapshot except through the ``Names`` it is handed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .errors import FlowError
from .model.addr import AF_INET, AF_INET6, parse_addr
from .model.packet import PROTO_NUMBER, flags_from_text
from .record import NamedTuple

EXAMPLE = "example: tcp 10.0.0.2:40000 -> 8.8.8.8:443 in eth1"
ARROWS = ("->", "→", ">", "to", "=>")
MAX_TEXT = 4096

DSCP_NAME = {
    "CS0": 0, "CS1": 8, "CS2": 16, "CS3": 24, "CS4": 32, "CS5": 40, "CS6": 48, "CS7": 56, "EF": 46, "VA": 44, "LE": 1,
    "AF11": 10, "AF12": 12, "AF13": 14, "AF21": 18, "AF22": 20, "AF23": 22, "AF31": 26, "AF32": 28, "AF33": 30,
    "AF41": 34, "AF42": 36, "AF43": 38, "BE": 0,
}  # fmt: skip
ICMP_TYPE_NAME = {
    "echo-reply": 0, "pong": 0, "destination-unreachable": 3, "unreachable": 3, "source-quench": 4, "redirect": 5,
    "echo-request": 8, "echo": 8, "ping": 8, "time-exceeded": 11, "ttl-exceeded": 11, "parameter-problem": 12,
    "timestamp-request": 13, "timestamp-reply": 14, "address-mask-request": 17, "address-mask-reply": 18,
}  # fmt: skip


class Word(NamedTuple):
    """A word and the column it starts at."""

    text: str
    column: int


class Endpoint(NamedTuple):
    """One side of a flow as written. ``port`` None: not given; ``protos``: what a service name or suffix implies."""

    family: int
    addr: int
    port: int | None = None
    protos: tuple[str, ...] = ()
    scope: str | None = None  # of fe80::1%eth0
    suffix: str | None = None  # tcp of 1.2.3.4:443/tcp


Names = Callable[[str], tuple[int, int] | None]


def words_of(text: str) -> list[Word]:
    """Cut at blanks, and around arrows that stick to addresses."""
    out: list[Word] = []
    for found in re.finditer(r"\S+", text):
        for piece in re.finditer(r"->|=>|→|>|(?:(?!->|=>|→|>).)+", found.group()):
            out.append(Word(piece.group(), found.start() + piece.start()))
    return out


def fail(text: str, column: int | None, message: str, remedy: str = EXAMPLE) -> FlowError:
    """A FlowError whose caret stays within what is shown."""
    shown = text if len(text) <= 400 else text[:400] + "…"
    if column is not None:
        column = min(column, len(shown))
    return FlowError(message, shown, column, remedy)


def number(text: str, word: Word, what: str, low: int, high: int) -> int:
    """A decimal or 0x number within bounds."""
    raw = word.text
    try:
        if raw.lower().startswith("0x"):
            value = int(raw[2:], 16) if raw.isascii() and "_" not in raw else -1
        else:
            value = int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 12 else -1
    except ValueError:
        value = -1
    if not low <= value <= high:
        raise fail(text, word.column, f"{what}: expected a number from {low} to {high}, got {raw!r}")
    return value


def protocol(word: str) -> int | None:
    """The number of a protocol named by ``word``; None when it names none."""
    return PROTO_NUMBER.get(word.lower(), {"ping": 1, "icmp4": 1, "ping6": 58}.get(word.lower()))


def tos_value(text: str, word: Word) -> int:
    names = {"minimize-delay": 0x10, "lowdelay": 0x10, "throughput": 8, "maximize-throughput": 8, "reliability": 4,
             "maximize-reliability": 4, "mincost": 2, "minimize-cost": 2, "normal-service": 0}  # fmt: skip
    known = names.get(word.text.lower())
    return known if known is not None else number(text, word, "tos", 0, 255)


def dscp_value(text: str, word: Word) -> int:
    known = DSCP_NAME.get(word.text.upper())
    return (known if known is not None else number(text, word, "dscp", 0, 63)) << 2


def icmp_type(text: str, word: Word) -> int:
    known = ICMP_TYPE_NAME.get(word.text.lower())
    return known if known is not None else number(text, word, "type", 0, 255)


def tcp_flags(text: str, word: Word) -> str:
    letters = word.text.replace(",", "") or "-"
    by_name = {"SYN": "S", "ACK": "A", "RST": "R", "FIN": "F", "PSH": "P", "URG": "U", "NONE": "-"}
    parts = re.split(r"[,|/+-]", word.text.upper())
    if all(p in by_name for p in parts):
        letters = "".join(by_name[p] for p in parts)
    try:
        flags_from_text(letters)
    except ValueError as error:
        raise fail(text, word.column, f"flags: {error}", "example: flags S, flags SA, flags R") from None
    return letters


def mac_value(text: str, word: Word) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}", word.text, re.ASCII):
        raise fail(text, word.column, f"mac: not a hardware address: {word.text!r}", "example: mac 02:42:ac:11:00:02")
    return ":".join(part.zfill(2).lower() for part in word.text.split(":"))


def time_value(text: str, word: Word) -> float:
    """Seconds since the epoch, or ISO 8601 (UTC where no zone is given)."""
    from datetime import UTC, datetime

    raw = word.text
    if re.fullmatch(r"\d{1,11}(\.\d{1,9})?", raw, re.ASCII):
        return float(raw)
    try:
        when = datetime.fromisoformat(raw)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return when.timestamp()
    except (ValueError, OverflowError):
        raise fail(text, word.column, f"time: not a time: {raw!r}", "example: time 2026-03-01T18:30:00") from None


def endpoint(text: str, word: Word, names: Names) -> Endpoint:
    """``A``, ``A:PORT``, ``[A6]:PORT``, ``A6%dev``, ``NAME:SERVICE``, each with an optional ``/proto``."""
    raw, suffix = word.text, None
    head, slash, tail = raw.rpartition("/")
    if slash:
        if protocol(tail) is None:
            place = word.column + len(head) + 1
            if tail.isdigit():
                raise fail(text, place - 1, f"a network is no end of a flow: {raw!r}", "name one address of it")
            raise fail(text, place, f"unknown protocol {tail!r}", "example: 1.2.3.4:443/tcp")
        raw, suffix = head, tail.lower()
    host, port_text, port_column = _split_port(text, word, raw)
    scope = None
    if "%" in host:
        host, _, scope = host.partition("%")
    family, addr = _address(text, word, host, names)
    port: int | None = None
    protos: tuple[str, ...] = ()
    if port_text is not None:
        port, protos = port_of(text, Word(port_text, port_column))
    return Endpoint(family, addr, port, protos, scope, suffix)


def _split_port(text: str, word: Word, raw: str) -> tuple[str, str | None, int]:
    if raw.startswith("["):
        end = raw.find("]")
        if end < 0:
            raise fail(text, word.column, "'[' without ']'", "example: [2001:db8::5]:53")
        rest = raw[end + 1 :]
        if rest and not rest.startswith(":"):
            raise fail(
                text, word.column + end + 1, f"expected ':PORT' after ']', got {rest!r}", "example: [2001:db8::5]:53"
            )
        return raw[1:end], rest[1:] if rest else None, word.column + end + 2
    if raw.count(":") == 1:
        host, _, port = raw.partition(":")
        return host, port, word.column + len(host) + 1
    if raw.count(".") == 4 and ":" not in raw:  # tcpdump's 10.0.0.1.443
        host, _, port = raw.rpartition(".")
        if re.fullmatch(r"[\d.]+", host, re.ASCII):
            return host, port, word.column + len(host) + 1
    return raw, None, 0


def port_of(text: str, word: Word) -> tuple[int, tuple[str, ...]]:
    """A port number or a service name, with the protocols that the name implies."""
    if word.text.isascii() and word.text.isdigit():
        return number(text, word, "port", 0, 65535), ()
    from .services import find_service

    known = find_service(word.text)
    if known is None:
        raise fail(text, word.column, f"unknown port or service {word.text!r}", "give the number: 1.2.3.4:8443")
    return known


def _address(text: str, word: Word, host: str, names: Names) -> tuple[int, int]:
    try:
        return parse_addr(host)
    except (ValueError, OSError):
        pass
    if re.fullmatch(r"[\d.]+", host, re.ASCII) or ":" in host or not host:
        raise fail(text, word.column, f"not an address: {host!r}" if host else "an address is missing") from None
    found = names(host)
    if found is None:
        remedy = "names are looked up in the snapshot's hosts.txt, never in DNS; give the address"
        raise fail(text, word.column, f"unknown name or word {host!r}", f"{remedy}\n  {EXAMPLE}")
    return found


def family_text(family: int) -> str:
    return {AF_INET: "IPv4", AF_INET6: "IPv6"}[family]


Keys = dict[str, tuple[Any, Word]]
