"""Words of a rule as somebody types it: single quotes, and backslashes outside quotes, count too."""

from __future__ import annotations

import re

from .lexer import QUOTED, LexError

_PLAIN = re.compile(r"""[^\s"'\\]+""")
_ESCAPE = re.compile(r"""\\(["'\\$`])""")


def typed_words(line: str) -> list[str]:
    """Split a typed line as a shell does; a pasted line of a save file comes out right too. Raises LexError."""
    if '"' not in line and "'" not in line and "\\" not in line:
        return line.split()
    words: list[str] = []
    pending: list[str] = []
    open_word = False
    position, end = 0, len(line)
    while position < end:
        letter = line[position]
        if letter.isspace():
            if open_word:
                words.append("".join(pending))
                pending, open_word = [], False
            position += 1
            continue
        open_word = True
        if letter == '"':
            found = QUOTED.match(line, position)
            if not found:
                raise LexError('a double quote (") is opened and never closed')
            pending.append(_ESCAPE.sub(r"\1", found.group(1)))
            position = found.end()
        elif letter == "'":
            close = line.find("'", position + 1)
            if close < 0:
                raise LexError("a single quote (') is opened and never closed")
            pending.append(line[position + 1 : close])
            position = close + 1
        elif letter == "\\":
            pending.append(line[position + 1 : position + 2])
            position += 2
        else:
            found = _PLAIN.match(line, position)
            assert found is not None
            pending.append(found.group())
            position = found.end()
    if open_word:
        words.append("".join(pending))
    return words
