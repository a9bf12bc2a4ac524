"""Which rules switch connection tracking on (semantics 1.6), found without parsing a table.

A name that stands in the text only points at a line; the line is then parsed, so that a comment which contains
``-j MASQUERADE`` doesn't count, nor ``-j CT --notrack``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ..model.rule import Rule

# The commonest first: the search ends at the first that holds.
NAMES = (
    "conntrack", "MASQUERADE", "DNAT", "SNAT", "state", "REDIRECT", "NETMAP", "CONNMARK", "connmark", "CT", "connlimit",
    "connbytes", "connlabel", "helper", "cluster", "SYNPROXY", "CONNSECMARK", "nat", "SAME",
)  # fmt: skip
# As the name of a match or target, in every spelling of the option before it.
SUSPECT = re.compile(
    r"""(?:-[mj]|--m[a-z]{0,4}|--j[a-z]{0,3})[ \t="]+(?:""" + "|".join(NAMES) + r""")(?![A-Za-z0-9_])"""
)


class Region(NamedTuple):
    """The lines of a table in its file, from the one with ``*`` to the one with COMMIT (both from 1)."""

    first: int
    last: int

    def suspects(self, lines: list[str]) -> Iterator[int]:
        """Numbers of the lines that seem to name such a match or target."""
        block = "\n".join(lines[self.first : self.last - 1])
        for name in NAMES:
            position = block.find(name)
            while position >= 0:
                start = block.rfind("\n", 0, position) + 1
                end = block.find("\n", position)
                end = len(block) if end < 0 else end
                if SUSPECT.search(block, start, end):
                    yield self.first + 1 + block.count("\n", 0, start)
                position = block.find(name, end)


def tracks(rule: Rule) -> bool:
    """Whether this rule switches tracking on, matching or not."""
    return any(m.tracks for m in rule.matches) or (rule.target is not None and rule.target.tracks)
