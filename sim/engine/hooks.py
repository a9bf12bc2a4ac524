"""The ordered list of what runs at each hook. include/uapi/linux/netfilter_ipv4.h, net/netfilter/core.c.

Conntrack, tables and NAT are equal citizens of one list per (family, hook), sorted by priority.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from ..model.addr import AF_INET
from ..model.rule import (
    HOOK_NAME,
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    BaseHook,
    ForeignChain,
)
from ..model.world import Host
from ..record import NamedTuple
from . import conntrack

PRE, IN, FWD, OUT, POST = (
    NF_INET_PRE_ROUTING,
    NF_INET_LOCAL_IN,
    NF_INET_FORWARD,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
)

# enum nf_ip_hook_priorities
NF_IP_PRI_CONNTRACK_DEFRAG, NF_IP_PRI_RAW, NF_IP_PRI_CONNTRACK = -400, -300, -200
NF_IP_PRI_MANGLE, NF_IP_PRI_NAT_DST, NF_IP_PRI_FILTER = -150, -100, 0
NF_IP_PRI_SECURITY, NF_IP_PRI_NAT_SRC, NF_IP_PRI_CONNTRACK_CONFIRM = 50, 100, 2**31 - 1
NFT_PRI_SECURITY = (
    150  # what iptables-nft registers (iptables/nft.c): behind source NAT, which the kernel's own table precedes
)

# which hooks an iptables table registers, and its priority there
TABLE_HOOKS: dict[str, tuple[tuple[int, ...], int]] = {
    "raw": ((PRE, OUT), NF_IP_PRI_RAW),
    "mangle": ((PRE, IN, FWD, OUT, POST), NF_IP_PRI_MANGLE),
    "filter": ((IN, FWD, OUT), NF_IP_PRI_FILTER),
    "security": ((IN, FWD, OUT), NF_IP_PRI_SECURITY),
    "nat": ((PRE, IN, OUT, POST), 0),
}


class Entry(NamedTuple):
    """One function of a hook list. ``kind``: table, conntrack, nat, confirm, foreign; ``item`` what it runs."""

    priority: int
    kind: str
    item: Any = None


class HookLists:
    """All hook lists of one host and family."""

    __slots__ = ("entries", "nat_chains", "tracking", "twins")

    def __init__(self, host: Host, family: int) -> None:
        self.tracking = conntrack.active(host, family)
        self.nat_chains: dict[int, list[BaseHook]] = {}
        tables = [t for t in host.tables if t.family == family]
        natted = self.tracking and any(t.name == "nat" for t in tables)
        # Both backends at one priority: the dump does not say which registered first (semantics 1.3).
        names = [t.name for t in tables]
        self.twins = any(names.count(name) > 1 for name in names)
        self.entries: dict[int, tuple[Entry, ...]] = {}
        for hook in (PRE, IN, FWD, OUT, POST):
            found = list(_table_entries(tables, hook))
            if self.tracking and hook in (PRE, OUT):
                found.append(Entry(NF_IP_PRI_CONNTRACK, "conntrack"))
            if self.tracking and hook in (IN, POST):
                found.append(Entry(NF_IP_PRI_CONNTRACK_CONFIRM, "confirm"))
            if natted and hook != FWD:
                self.nat_chains[hook] = [
                    BaseHook(hook, 0, "nat", table, HOOK_NAME[hook], order)
                    for order, table in enumerate(t for t in tables if t.name == "nat")
                    if HOOK_NAME[hook] in table.chains
                ]
                found.append(Entry(NF_IP_PRI_NAT_DST if hook in (PRE, OUT) else NF_IP_PRI_NAT_SRC, "nat"))
            found += [Entry(f.priority, "foreign", f) for f in _foreign(host, family, hook)]
            self.entries[hook] = tuple(sorted(found, key=lambda e: e.priority))

    def ordered(self, hook: int, legacy_first: bool) -> tuple[Entry, ...]:
        """The list with equal priorities of the two iptables backends in the given order."""
        if not self.twins:
            return self.entries[hook]
        return tuple(sorted(self.entries[hook], key=lambda e: (e.priority, _is_legacy(e) != legacy_first)))

    def ordered_nat(self, hook: int, legacy_first: bool) -> list[BaseHook]:
        chains = self.nat_chains.get(hook, [])
        return sorted(chains, key=lambda c: (c.table.backend == "legacy") != legacy_first)


def _is_legacy(entry: Entry) -> bool:
    return entry.kind == "table" and entry.item.table.backend == "legacy"


def _table_entries(tables: list[Any], hook: int) -> list[Entry]:
    out = []
    for order, table in enumerate(tables):
        hooks, priority = TABLE_HOOKS.get(table.name, ((), 0))
        if table.name == "security" and table.backend != "legacy":
            priority = NFT_PRI_SECURITY
        if table.name == "nat" or hook not in hooks or HOOK_NAME[hook] not in table.chains:
            continue
        kind = "route" if table.name == "mangle" and hook == OUT else "filter"
        out.append(Entry(priority, "table", BaseHook(hook, priority, kind, table, HOOK_NAME[hook], order)))
    return out


def _foreign(host: Host, family: int, hook: int) -> list[ForeignChain]:
    wanted = ("ip", "inet") if family == AF_INET else ("ip6", "inet")
    return [f for f in host.foreign if f.hook == hook and f.family in wanted]


_cache: WeakKeyDictionary[Host, dict[int, HookLists]] = WeakKeyDictionary()


def hook_lists(host: Host, family: int) -> HookLists:
    """The hook lists of a host (built once; a Host never changes)."""
    per_host = _cache.setdefault(host, {})
    lists = per_host.get(family)
    if lists is None:
        lists = per_host[family] = HookLists(host, family)
    return lists
