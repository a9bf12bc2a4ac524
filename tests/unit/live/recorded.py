"""Netlink datagrams as the kernel sent them (tests/data/live)."""

from __future__ import annotations

from pathlib import Path

from nattrace.tracer.live.nfnl.wire import Message, messages

FILE = Path(__file__).parents[2] / "data" / "live" / "netlink-6.18.txt"


def recorded(kind: str) -> list[Message]:
    """All messages of a kind, in the order in which they came."""
    lines = (line.split() for line in FILE.read_text().splitlines() if not line.startswith("#"))
    return [message for word, data in lines if word == kind for message in messages(bytes.fromhex(data))]
