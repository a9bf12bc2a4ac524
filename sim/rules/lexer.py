"""Words of a rule in a file: reading them as iptables-restore does, writing them as iptables-save does.

iptables-restore (add_param_to_argv() in iptables/xshared.c) knows only double quotes, ends a word at the closing quote
and takes any character after a backslash within quotes. A typed line is different: see shell.py.
"""

from __future__ import annotations

import re

# One run of ordinary characters, or one whole quoted part: linear in the length of the line.
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
_PLAIN = re.compile(r'[^\s"]+')
_SPACE = re.compile(r"\s+")
_ESCAPE = re.compile(r"\\(.)", re.S)

MAX_LINE = 10239  # of a line that iptables-restore reads at once (iptables-restore.c, buffer)

# xtables_save_string() in libxtables/xtables.c
_UNQUOTED = re.compile(r"[A-Za-z0-9_-]+\Z")
_TO_ESCAPE = re.compile(r"""(["\\'])""")


class LexError(ValueError):
    """A quote that is never closed."""


def save_words(line: str) -> list[str]:
    """Split a line of a save file exactly as iptables-restore does. Raises LexError."""
    if '"' not in line:
        return line.split()
    words: list[str] = []
    position, end, pending = 0, len(line), ""
    while position < end:
        found = _SPACE.match(line, position)
        if found:
            if pending:
                words.append(pending)
                pending = ""
            position = found.end()
            continue
        found = _PLAIN.match(line, position)
        if found:
            pending += found.group()
            position = found.end()
            continue
        found = QUOTED.match(line, position)
        if not found:
            raise LexError('a double quote (") is opened and never closed')
        text = found.group(1)
        words.append(pending + (_ESCAPE.sub(r"\1", text) if "\\" in text else text))
        pending = ""
        position = found.end()
    if pending:
        words.append(pending)
    return words


def save_string(text: str) -> str:
    """A value as xtables_save_string() prints it: bare, or in quotes with ``" \\ '`` escaped."""
    if _UNQUOTED.match(text):
        return text
    return '"' + _TO_ESCAPE.sub(r"\\\1", text) + '"'
