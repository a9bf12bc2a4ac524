"""Whether a host is still what its snapshot says: nf_tables' generation, and rtnetlink's word of everything else.

iptables-legacy and sysctls tell nobody when they change; what they change shows as a disagreement, and then the snapshot
is taken anew and the connection judged again.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from contextlib import suppress

from ..netns import Namespace
from ..nfnl.listing import generation
from ..nfnl.sock import Nfnl

# linux/rtnetlink.h: links, IPv4 and IPv6 addresses, routes and rules, and nexthops
GROUPS = (1, 5, 7, 8, 9, 11, 19, 32)
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1


class Changes:
    """Tells once for each change of any namespace. It only listens."""

    def __init__(self, spaces: Sequence[Namespace]) -> None:
        self.spaces = list(spaces)
        self.tables = [Nfnl(ns) for ns in spaces]
        self.routes = [_listener(ns) for ns in spaces]
        self.generations = [self._generation(sock) for sock in self.tables]

    @staticmethod
    def _generation(sock: Nfnl) -> int:
        with suppress(OSError):
            return generation(sock)
        return 0

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: object) -> None:
        for table in self.tables:
            table.close()
        for route in self.routes:
            route.close()

    def happened(self) -> list[str]:
        """Names of the namespaces that changed since the last question."""
        found = []
        for number, ns in enumerate(self.spaces):
            now = self._generation(self.tables[number])
            told = _told(self.routes[number])
            if now != self.generations[number] or told:
                found.append(ns.name)
            self.generations[number] = now
        return found


def _listener(ns: Namespace) -> socket.socket:
    with ns.inside():
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    sock.bind((0, 0))
    for group in GROUPS:
        with suppress(OSError):  # nexthops: since 5.3
            sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    return sock


def _told(sock: socket.socket) -> bool:
    """Whether messages were there; all of them are read. ENOBUFS means that there were more than it could hold."""
    found = False
    while True:
        try:
            sock.recv(65536)
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
        found = True


__all__ = ["Changes"]
