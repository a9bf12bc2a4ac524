"""A connection table as full as a snapshot's, although its limit is the machine's and is left alone.

``nf_conntrack_max`` holds for every network namespace and is set in the initial one. What counts is how many entries there is
still room for, so the rest of the table is taken by entries of nobody, which the kernel does not evict (ASSURED).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .netns import ToolFailed

if TYPE_CHECKING:
    from ...sim.model.world import Host
    from .build import Lab

NEARLY = 16  # entries: a table with more room than that is not made full
LIMITS = ("net.netfilter.nf_conntrack_max", "net.nf_conntrack_max")
PORTS = 60000


def sets_limit(command: str) -> bool:
    """Whether a command would change the limit of the whole machine."""
    return any(f"{name}=" in command for name in LIMITS)


def room_of(host: Host, count: int) -> int | None:
    """How many entries a table with ``count`` of them has room for; None: for enough, or nothing says."""
    setting = next((host.sysctl[name] for name in LIMITS if name in host.sysctl), None)
    limit = int(setting.value) if setting is not None and setting.value.strip().isdigit() else 0
    room = max(limit - count, 0)
    return room if limit and room <= NEARLY else None


def fill(lab: Lab, host: str, room: int) -> None:
    """Entries of nobody, until there is room for ``room`` more. A table of 262,144 takes three seconds.

    Raises ToolFailed where conntrack is missing or refuses.
    """
    limit, count = (int(lab.run(host, "cat", f"/proc/sys/net/netfilter/nf_conntrack_{n}")) for n in ("max", "count"))
    if limit and limit - room > count:
        lab.run(host, "conntrack", "-R", "-", text="".join(_nobodys(limit - room - count)))


def _nobodys(count: int) -> Iterator[str]:
    """Lines for ``conntrack -R``: UDP between addresses that are set aside for tests of equipment (RFC 2544)."""
    for number in range(count):
        last, port = divmod(number, PORTS)
        yield (
            f"-A -p udp -s 198.18.0.1 -d 198.19.{last >> 8}.{last & 255} --sport {1024 + port} --dport 9 "
            f"-r 198.19.{last >> 8}.{last & 255} -q 198.18.0.1 --reply-port-src 9 --reply-port-dst {1024 + port} "
            "-t 86400 -u ASSURED,SEEN_REPLY\n"
        )


def crowd(lab: Lab, host: Host, count: int, notes: list[str]) -> None:
    """Leave as much room as ``host`` has beside ``count`` entries, where that is little; ``notes`` says what was done."""
    room = room_of(host, count)
    if room is None:
        return
    try:
        fill(lab, host.name, room)
        notes.append(
            f"{host.name}: nf_conntrack_max is the machine's; the table was filled with entries of nobody instead"
        )
    except ToolFailed as error:
        notes.append(f"{host.name}: the table could not be filled: {error}")
