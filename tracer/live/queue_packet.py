"""A packet of a queue as the kernel hands it over: NFQNL_MSG_PACKET, enum nfqnl_attr_type."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import Any, NamedTuple

from ...sim.model.rule import HOOK_NAME
from .ctevents import ConntrackEvent, decode_entry
from .nfnl.wire import attributes, number

CTINFO = {0: "ESTABLISHED", 1: "RELATED", 2: "NEW", 3: "ESTABLISHED", 4: "RELATED", 7: "UNTRACKED"}


class TapPoint(NamedTuple):
    """Where to look: before everything of a later priority at that hook."""

    hook: int
    priority: int

    def __str__(self) -> str:
        return f"{HOOK_NAME[self.hook]} {self.priority}"


class Seen:
    """A packet as it was at a tap. ``entry``: its conntrack entry, None without one; ``ctinfo``: the state word."""

    __slots__ = (
        "__dict__", "ctinfo", "ctinfo_number", "data", "entry", "full_length", "id", "indev", "mark", "outdev", "point", "reply",
        "skb_info", "time", "uid",
    )  # fmt: skip

    def __init__(self, point: TapPoint, body: bytes, now: int) -> None:
        a = attributes(body)
        self.point, self.time = point, now
        self.id = struct.unpack_from(">I", a[1])[0] if 1 in a else 0
        self.mark = number(a.get(3)) or 0
        self.indev, self.outdev = number(a.get(5)), number(a.get(6))
        self.data = a.get(10, b"")
        self.full_length = number(a.get(13)) or len(self.data)
        self.skb_info = number(a.get(14)) or 0
        self.uid = number(a.get(16))
        info = number(a.get(12))
        self.ctinfo_number = info
        self.ctinfo = None if info is None else CTINFO.get(info, str(info))
        self.reply = info in (3, 4)
        self.entry: ConntrackEvent | None = decode_entry(a[11], _family(self.data), now) if 11 in a else None

    @cached_property
    def packet(self) -> Any:
        """The packet as scapy has it (a copy each time it is first asked for)."""
        from .dissect import dissect

        return dissect(self.data)

    def header(self) -> dict[str, Any]:
        """As ``simulate`` writes packets, the mark with it."""
        from .dissect import header

        return header(self.data) | {"mark": self.mark}


def _family(data: bytes) -> int:
    return 10 if data[:1] and data[0] >> 4 == 6 else 2
