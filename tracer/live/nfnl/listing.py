"""What nf_tables holds in a namespace: base chains and rules, by netlink and with nothing loaded or changed.

    >>> for chain in base_chains(netns):                                    # doctest: +SKIP
    ...     print(chain.family, chain.table, chain.name, chain.hook, chain.priority, chain.kind)
    ip nat POSTROUTING 4 100 nat

Expressions are not decoded: what a rule means is the business of nft and iptables-save, only its handle, its place
and the names of its expressions are needed here.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from .sock import InNetns, Nfnl, Refused, no_privilege
from .tables import GETCHAIN, GETGEN, GETRULE
from .wire import FAMILY_WORD, NFTABLES, attribute, attribute_list, attributes, number, text

XT_CT_NOTRACK = 1  # first byte of struct xt_ct_target_info; such a rule does not need conntrack
TRIES = 5  # a dump is asked for again when the tables changed under it


class NftChain(NamedTuple):
    """A base chain. ``hook`` and ``priority`` as the kernel counts them; ``policy``: ACCEPT or DROP."""

    family: str
    table: str
    name: str
    hook: int
    priority: int
    kind: str  # filter, route, nat
    policy: str


class NftRule(NamedTuple):
    """``number``: from 1 within its chain, which is iptables' rule number where iptables-nft made the table.

    ``encoded``: its expressions as the kernel tells them, read only when somebody asks what they are.
    """

    family: str
    table: str
    chain: str
    number: int
    handle: int
    encoded: bytes = b""

    @property
    def expressions(self) -> tuple[tuple[str, str | None], ...]:
        """(name, name of the xt match or target or None) of each."""
        return _names(self.encoded)


def generation(sock: Nfnl) -> int:
    """The kernel's count of changes to the rule set: equal before and after means nothing changed between."""
    try:
        return number(attributes(sock.get(NFTABLES << 8 | GETGEN, 0).body).get(1)) or 0
    except Refused as error:
        raise no_privilege(error, "listing rules") from None


def base_chains(netns: InNetns | None = None, sock: Nfnl | None = None) -> list[NftChain]:
    """Every base chain; empty where the kernel has no nf_tables."""
    found = []
    for family, body in _dump(netns, sock, GETCHAIN):
        a = attributes(body)
        if 4 not in a:
            continue
        hook = attributes(a[4])
        priority = int.from_bytes(hook.get(2, b"\0"), "big", signed=True)
        policy = "DROP" if number(a.get(5)) == 0 else "ACCEPT"
        where = (FAMILY_WORD.get(family, str(family)), text(a.get(1)) or "", text(a.get(3)) or "")
        found.append(NftChain(*where, number(hook.get(1)) or 0, priority, text(a.get(7)) or "filter", policy))
    return found


def rules(netns: InNetns | None = None, sock: Nfnl | None = None) -> list[NftRule]:
    """Every rule, in order."""
    found = []
    counts: dict[tuple[str, str, str], int] = {}
    for family, body in _dump(netns, sock, GETRULE):
        a = attributes(body)
        place = (FAMILY_WORD.get(family, str(family)), text(a.get(1)) or "", text(a.get(2)) or "")
        counts[place] = counts.get(place, 0) + 1
        found.append(NftRule(*place, counts[place], number(a.get(3)) or 0, a.get(4, b"")))
    return found


def _names(blob: bytes) -> tuple[tuple[str, str | None], ...]:
    """Expression names of a rule, and of nft_compat's two the name of the extension they stand for."""
    found = []
    for _, element in attribute_list(blob):
        a = attributes(element)
        name = text(a.get(1)) or ""
        extension = None
        if name in ("match", "target"):
            data = attributes(a.get(2, b""))
            extension = text(data.get(1))
            if extension == "CT" and data.get(3, b"\0")[0] & XT_CT_NOTRACK:
                extension = "NOTRACK"
        found.append((name, extension))
    return tuple(found)


def _dump(netns: InNetns | None, sock: Nfnl | None, kind: int) -> list[tuple[int, bytes]]:
    own = sock or Nfnl(netns)
    try:
        for attempt in range(TRIES):
            try:
                return [(m.family, m.body) for m in own.dump(NFTABLES << 8 | kind)]
            except Refused as error:
                if error.errno == errno.EOPNOTSUPP or (error.errno == errno.EINVAL and not attempt):
                    return []  # no nf_tables in this kernel
                if error.errno != errno.EINTR or attempt == TRIES - 1:
                    raise no_privilege(error, "listing rules") from None
        return []
    finally:
        if sock is None:
            own.close()


def rule_counters(sock: Nfnl, family: int, table: str, chain: str) -> list[tuple[int, int]]:
    """(packets, bytes) of every ``counter`` in a chain, in order."""
    found = []
    body = attribute(1, table.encode() + b"\0") + attribute(2, chain.encode() + b"\0")
    for message in sock.dump(NFTABLES << 8 | GETRULE, family, body):
        a = attributes(message.body)
        if (text(a.get(1)), text(a.get(2))) != (table, chain):
            continue  # an older kernel does not filter
        for _, element in attribute_list(a.get(4, b"")):
            part = attributes(element)
            if text(part.get(1)) == "counter":
                counts = attributes(part.get(2, b""))
                found.append((number(counts.get(2)) or 0, number(counts.get(1)) or 0))
    return found
