"""Packets that were never made: the prediction is that the send fails, and what the kernel's own lookups tell of it.

That no packet was seen is no proof. A route lookup for this destination that found nothing is one, where the prediction
is that routing refuses the send (net/ipv4/route.c ip_route_output_key_hash_rcu()).
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from ...sim.explain.trial import attempt
from .compare import NOWHERE
from .event import KIND
from .steps import FIB_ERRORS, TABLES

if TYPE_CHECKING:
    from ...sim.flow import Question
    from ...sim.model.result import Leaf
    from ...sim.model.world import World
    from .scene import Scene


def never_sent(world: World, question: Question | None) -> Leaf | None:
    """The prediction, where it is that the send itself fails."""
    if question is None or question.in_dev is not None:
        return None
    leaf = attempt(world, question).leaf
    return leaf if leaf.outcome == "never_sent" else None


def said(leaf: Leaf) -> str:
    """``no route to …; the send fails with ENETUNREACH``."""
    name = "" if leaf.errno is None else errno.errorcode.get(leaf.errno, str(leaf.errno))
    return leaf.reason.text + (f" [{name}]" if name else "")


def refused(leaf: Leaf, question: Question, events: Any, scene: Scene) -> str | None:
    """The lookups that found no route, in words; None where there were none, or one found a route."""
    if leaf.reason.code not in NOWHERE or events is None:
        return None
    inums = [inum for inum, name in scene.names.items() if name == question.host]
    family = socket.AF_INET6 if ":" in question.packet["dst"] else socket.AF_INET
    wanted = socket.inet_pton(family, question.packet["dst"])
    found = []
    for event in events[events["kind"] == KIND.fib]:
        if int(event["netns"]) in inums and bytes(event["t"]["d"])[: len(wanted)] == wanted and not int(event["skb"]):
            code = -int(event["reason"].astype("i4"))
            if not code:
                return None
            table = int(event["table"])
            found.append(f"table {TABLES.get(table, table)}: {FIB_ERRORS.get(code, code)}")
    return ", ".join(dict.fromkeys(found)) or None
