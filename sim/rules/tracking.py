"""Which rules switch connection tracking on (semantics 1.6), found without parsing a table.

A name that stands in the text only points at a line; the line is then parsed, so that a comment which contains
``-j MASQUERADE`` doesn't count, nor ``-j CT --notrack``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.rule import Rule
    from .builder import Parts

NAMES = (
    "cluster", "connbytes", "connlabel", "connlimit", "connmark", "conntrack", "helper", "state",
    "CLUSTERIP", "CONNMARK", "CONNSECMARK", "CT", "DNAT", "MASQUERADE", "NETMAP", "REDIRECT", "SAME", "SNAT", "SYNPROXY",
)  # fmt: skip
# As the name of a match or target, in every spelling of the option before it.
SUSPECT = re.compile(r'[ \t]-(?:[mj]|-m[a-z]{0,4}|-j[a-z]{0,3})[ \t="]+(?:' + "|".join(NAMES) + r")(?![A-Za-z0-9_])")


def suspects(text: str, start: int, end: int) -> Iterator[int]:
    """Offsets of the lines in a part of the text that seem to name such a match or target."""
    found = SUSPECT.search(text, start, end)
    while found:
        yield text.rfind("\n", 0, found.start()) + 1
        after = text.find("\n", found.end())
        found = SUSPECT.search(text, after, end) if 0 <= after < end else None


def tracks(rule: Rule | Parts) -> bool:
    """Whether this rule switches tracking on, matching or not."""
    return any(m.tracks for m in rule.matches) or (rule.target is not None and rule.target.tracks)
