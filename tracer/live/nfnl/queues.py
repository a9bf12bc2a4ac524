"""The queues of a namespace that somebody has bound: /proc/net/netfilter/nfnetlink_queue.

When any base chain of a namespace goes, the kernel drops what all its queues hold (nf_unregister_net_hook() →
nf_queue_nf_hook_drop()), those of other programs too; so a table of ours goes in a moment in which none holds anything.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .sock import InNetns, entered

PATIENCE, PAUSE = 0.5, 0.002  # seconds


class QueueState(NamedTuple):
    """A line of /proc/net/netfilter/nfnetlink_queue."""

    number: int
    port: int
    waiting: int
    dropped: int
    user_dropped: int


def queue_states(netns: InNetns | None = None) -> list[QueueState]:
    """The queues that are bound in a namespace; empty where the kernel has none."""
    with entered(netns):
        try:
            lines = Path("/proc/thread-self/net/netfilter/nfnetlink_queue").read_text().splitlines()
        except OSError:
            return []
    rows = [[int(word) for word in line.split()] for line in lines]
    return [QueueState(row[0], row[1], row[2], row[5], row[6]) for row in rows if len(row) >= 7]


def wait_until_empty(netns: InNetns | None) -> bool:
    """Wait for a moment in which no queue of the namespace holds a packet, but not for long; whether there was one."""
    deadline = time.monotonic() + PATIENCE
    with suppress(OSError):  # the namespace is closed already
        while any(state.waiting for state in queue_states(netns)):
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE)
    return True
