"""Which rules a flow can come to, as text: from the built-in chains along the jumps, nothing parsed.

Of a long chain only what isn't plainly for another destination counts, so that a rule set of a hundred thousand rules
costs what the flow needs of it. What DNAT on the way leads to is a destination too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..model.addr import parse_addr
from ..rules import known

_JUMPS = frozenset(("-j", "--jump", "-g", "--goto"))
Line = tuple[str, list[str]]  # chain, words


def reached(tables: Iterable[Any], destination: int | None) -> Iterator[Line]:
    """Chain and words of the rules that a packet to ``destination`` (None: to anywhere) can come to."""
    tables = list(tables)
    wanted = None
    if destination is not None:
        wanted = {destination}
        for table in tables:
            if table.name == "nat":
                wanted |= {a for _, words in _walk(table, {destination}) if (a := translated_to(words)) is not None}
    for table in tables:
        yield from _walk(table, wanted)


def _walk(table: Any, destinations: set[int] | None) -> Iterator[Line]:
    chains = table.chains
    pending = [name for name in reversed(known.BUILT_IN.get(table.name, ())) if name in chains]
    seen = set(pending)  # targets too, so that each is looked for among the chains once
    while pending:
        name = pending.pop()
        called = []
        for text in _texts(chains[name], destinations):
            words = text.split()
            yield name, words
            for at, word in enumerate(words[:-1]):
                target = words[at + 1]
                if word in _JUMPS and target not in seen:
                    seen.add(target)
                    called += [target] if target in chains else []
        pending += reversed(called)


def _texts(chain: Any, destinations: set[int] | None) -> Iterable[str]:
    if not hasattr(chain, "texts"):
        return (rule.text for rule in chain.rules)
    texts: Iterable[str] = chain.texts() if destinations is None else chain.texts_for(destinations)
    return texts


def translated_to(words: list[str]) -> int | None:
    """The (first) address that a rule's ``--to-destination`` names; None: none, or none that can be read."""
    if "--to-destination" not in words[:-1]:
        return None
    found = address_of(words[words.index("--to-destination") + 1])
    return found[1] if found is not None else None


def address_of(text: str) -> tuple[int, int] | None:
    """Family and first address of ``A``, ``A-B``, ``A:port`` or ``[A]:port``."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return parse_addr(text.partition("-")[0])
    except (ValueError, OSError):
        return None
