"""Small ANSI styling and safe text: no library, honours NO_COLOR, never lets foreign bytes reach a terminal."""

from __future__ import annotations

import os
from typing import IO, Any

CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
DEFAULT_WIDTH, NARROWEST = 100, 60


def clean(text: str) -> str:
    """Text from outside with control, format and other unprintable characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


_ASCII = str.maketrans(
    {"→": ">", "←": "<", "↩": "<", "✗": "x", "✓": "+", "…": "...", "–": "-", "—": "-", "·": ".", "≤": "<=", "≥": ">=", "×": "x",
     "“": '"', "”": '"', "’": "'", "¦": "|"}
)  # fmt: skip


def ascii_only(text: str) -> str:
    """Symbols as ASCII characters of the same width where there is one; what has none is written as its escape."""
    if text.isascii():
        return text
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")


def wants_colour(stream: IO[Any]) -> bool:
    """A terminal, and NO_COLOR unset (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(getattr(stream, "isatty", lambda: False)())


def width_of(stream: IO[Any]) -> int:
    """Columns of the terminal; COLUMNS where set; 100 where unknown."""
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and 0 < int(given[:6]) < 10000:
        return max(int(given[:6]), NARROWEST)
    try:
        if stream.isatty():
            return max(os.get_terminal_size(stream.fileno()).columns, NARROWEST)
    except (OSError, ValueError, AttributeError):
        pass
    return DEFAULT_WIDTH


class Style:
    """Paints words, or leaves them as they are."""

    def __init__(self, colour: bool = False) -> None:
        self.colour = colour

    def __call__(self, text: str, *names: str) -> str:
        if not self.colour or not text or not names:
            return text
        return f"\x1b[{';'.join(CODES[n] for n in names)}m{text}\x1b[0m"


def wrap(text: str, width: int) -> list[str]:
    """Break at blanks; a word longer than the width is cut."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        while len(word) > width:
            room = width - len(line) - (1 if line else 0)
            if room < 8 and line:
                lines.append(line)
                line = ""
                continue
            line = f"{line} {word[:room]}".strip()
            word = word[room:]
            lines.append(line)
            line = ""
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line] if line else lines


def fit(text: str, width: int) -> str:
    """Cut with an ellipsis where it is too long."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"
