"""Command lines of ``why`` in which every option is written out: read without click, which costs a third of an answer.

Whatever is not plainly understood here (help, ``--option=value``, abbreviations, mistakes) is left to click. Both read
the same table of options; a test holds one against the other.
"""

from __future__ import annotations

from typing import Any

from .table import FLAG, MANY, MAYBE, NUMBER, SNAPSHOT, WHY, Option, spelled


def understood(arguments: list[str]) -> tuple[tuple[str, ...], dict[str, Any]] | None:
    """The words of the flow and the value of every option, or None: click's."""
    known: dict[str, Option] = {name: option for option in (*SNAPSHOT, *WHY) for name in option.names}
    values: dict[str, Any] = {option.key: _unsaid(option) for option in known.values()}
    flow: list[str] = []
    words = iter(spelled(arguments))
    for word in words:
        if word[:1] != "-":
            flow.append(word)
            continue
        option = known.get(word)
        name, _, file = word.partition("=")
        if option is None and name in known and known[name].kind == MAYBE:
            values[known[name].key] = file
            continue
        if option is None:
            return None
        if option.kind == FLAG:
            values[option.key] = True
            continue
        value = next(words, "-")
        if value[:1] == "-":
            return None
        if option.kind == MANY:
            values[option.key] += (value,)
        elif option.kind == NUMBER:
            if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) <= option.most):
                return None
            values[option.key] = int(value)
        else:
            values[option.key] = value
    return (tuple(flow), values) if flow else None


def _unsaid(option: Option) -> Any:
    return {FLAG: False, MANY: ()}.get(option.kind)
