"""Where taps go: between every two chains of a hook, and around the first and the last.

What counts is the order of priorities (net/netfilter/core.c: nf_hook_entries_grow), in which conntrack, iptables tables
and nftables chains are equals. A hook without chains gets a tap only where the end of its way is told (INPUT,
POSTROUTING) or an entry is made (PREROUTING, OUTPUT). Fewer taps cost packets less, and nothing that is owed is left out.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from .event import AF_INET, AF_INET6, HOOKS
from .netns import Namespace

PRE, IN, FWD, OUT, POST = range(5)
CONNTRACK, LAST = -200, 2**31 - 2  # NF_IP_PRI_CONNTRACK; the kernel keeps INT_MAX for the confirmation
LEGACY = {  # net/ipv4/netfilter/iptable_*.c: where the tables of iptables-legacy hook in
    "raw": {PRE: -300, OUT: -300},
    "mangle": dict.fromkeys((PRE, IN, FWD, OUT, POST), -150),
    "nat": {PRE: -100, IN: 100, OUT: -100, POST: 100},
    "filter": dict.fromkeys((IN, FWD, OUT), 0),
    "security": dict.fromkeys((IN, FWD, OUT), 50),
}
OURS = "nattrace-"  # tables of the rule tracer and of queue taps: no stage of the packet
NFPROTO_INET = 1
NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN, NFT_MSG_GETFLOWTABLE = 10, 4, 23
NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE = 1, 0x300, 2, 3


@dataclass(frozen=True)
class Chain:
    """A base chain, or what hooks in like one: ``kind`` nft, legacy or kernel.

    ``prio`` is where packets meet it. A chain of type nat runs inside the NAT core, which hooks in at fixed priorities
    whatever the chain asked for (net/netfilter/nf_nat_proto.c).
    """

    pf: int
    hook: int
    prio: int
    table: str
    name: str
    kind: str
    nat: bool = False


@dataclass(frozen=True)
class Slot:
    """A tap that is owed: behind ``after`` and in front of ``before`` (either may be empty) at a hook.

    ``low``, ``high``: the priorities that tell the same, ends excluded. ``prio``: where it sits, None if nowhere.
    ``state``: attached, taken (every priority of its place is in use: unobservable), unsupported.
    """

    netns: Namespace
    pf: int
    hook: int
    wanted: int
    low: int
    high: int
    after: tuple[Chain, ...] = ()
    before: tuple[Chain, ...] = ()
    prio: int | None = None
    state: str = "planned"
    note: str = ""

    def __str__(self) -> str:
        family = "IPv6 " if self.pf == AF_INET6 else ""
        where = self.wanted if self.prio is None else self.prio
        return f"{self.netns.name} {family}{HOOKS[self.hook]} {where}"


@dataclass
class Chains:
    """What hooks in, in one namespace; ``unknown`` says what could not be asked, ``unobservable`` what no tap can see."""

    chains: list[Chain] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unobservable: list[str] = field(default_factory=list)

    def at(self, pf: int, hook: int) -> list[Chain]:
        """Those a packet of a family meets at a hook, in the order it meets them."""
        return sorted((c for c in self.chains if c.pf == pf and c.hook == hook), key=lambda c: c.prio)


def chains_of(netns: Namespace) -> Chains:
    """Base chains of nftables (iptables-nft included) and tables of iptables-legacy, asked without changing anything."""
    found = Chains()
    with netns.inside():
        try:
            found.chains += [chain for chain in chains_of_here() if not chain.table.startswith(OURS)]
        except OSError as error:
            if error.errno not in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP):
                found.unknown.append(f"nftables chains: {error.strerror}")
        with suppress(OSError):
            found.unobservable = _unobservable()
        for pf, file in ((AF_INET, "ip_tables_names"), (AF_INET6, "ip6_tables_names")):
            found.chains += _legacy_chains(pf, file)
    for pf in (AF_INET, AF_INET6):
        for hook in (PRE, OUT):
            found.chains.append(Chain(pf, hook, CONNTRACK, "", "conntrack", "kernel"))
    return found


def _legacy_chains(pf: int, file: str) -> list[Chain]:
    try:
        with open(f"/proc/thread-self/net/{file}") as stream:
            names = stream.read().split()
    except OSError:  # the module is not there: no tables
        return []
    return [
        Chain(pf, hook, prio, name, HOOKS[hook], "legacy")
        for name in names
        for hook, prio in LEGACY.get(name, {}).items()
    ]


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("<HH", data, at)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += size + 3 & ~3
    return found


def chains_of_here() -> list[Chain]:
    """Base chains of nftables in the namespace of this thread (NFT_MSG_GETCHAIN). Raises OSError without nf_tables."""
    found: list[Chain] = []
    for family, attrs in _dump(NFT_MSG_GETCHAIN):
        hook = _attributes(attrs.get(4, b""))  # NFTA_CHAIN_HOOK
        if 1 not in hook or 2 not in hook:
            continue
        (number,), (prio,) = struct.unpack(">I", hook[1]), struct.unpack(">i", hook[2])
        table, name = _text(attrs, 1), _text(attrs, 3)
        families = {AF_INET: (AF_INET,), AF_INET6: (AF_INET6,), NFPROTO_INET: (AF_INET, AF_INET6)}.get(family, ())
        if number < len(HOOKS):
            nat = attrs.get(7, b"").rstrip(b"\0") == b"nat"  # NFTA_CHAIN_TYPE
            place = LEGACY["nat"].get(number, prio) if nat else prio
            found += [Chain(pf, number, place, table, name, "nft", nat) for pf in families]
    return found


FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}


def _unobservable() -> list[str]:
    """Chains where the kernel lets no program in (bridge, arp, ingress), and flowtables, which lead past all taps."""
    found = []
    for family, attrs in _dump(NFT_MSG_GETCHAIN):
        hook = _attributes(attrs.get(4, b""))
        if 1 in hook and (
            family not in (AF_INET, AF_INET6, NFPROTO_INET) or struct.unpack(">I", hook[1])[0] >= len(HOOKS)
        ):
            found.append(f"chain {FAMILIES.get(family, family)} {_text(attrs, 1)} {_text(attrs, 3)}")
    for family, attrs in _dump(NFT_MSG_GETFLOWTABLE):
        found.append(
            f"flowtable {FAMILIES.get(family, family)} {_text(attrs, 1)} {_text(attrs, 2)}: its flows pass no hook"
        )
    return found


def _text(attrs: dict[int, bytes], key: int) -> str:
    return attrs.get(key, b"").split(b"\0")[0].decode(errors="replace")


def _dump(message: int) -> Iterator[tuple[int, dict[int, bytes]]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:  # NETLINK_NETFILTER
        sock.bind((0, 0))
        kind = NFNL_SUBSYS_NFTABLES << 8 | message
        sock.send(struct.pack("<IHHIIBBH", 20, kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0, 0, 0, 0))
        while True:
            data, at = sock.recv(1 << 18), 0
            while at + 16 <= len(data):
                size, kind = struct.unpack_from("<IH", data, at)
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    (code,) = struct.unpack_from("<i", data, at + 16)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
                yield data[at + 16], _attributes(data[at + 20 : at + size])
                at += size + 3 & ~3


def slots(netns: Namespace, chains: Chains, families: tuple[int, ...] = (AF_INET, AF_INET6)) -> list[Slot]:
    """The taps that are owed in a namespace.

    Nothing happens to a packet between the last chain of FORWARD or OUTPUT and the first of POSTROUTING: where both have
    a tap at their end, POSTROUTING needs none in front.
    """
    found: list[Slot] = []
    for pf in families:
        for hook in range(5):
            told = hook == POST and bool(chains.at(pf, FWD)) and bool(chains.at(pf, OUT))
            found += _at_hook(netns, pf, hook, chains.at(pf, hook), told)
    return found


def _at_hook(netns: Namespace, pf: int, hook: int, chains: list[Chain], told: bool) -> Iterator[Slot]:
    prios = sorted({chain.prio for chain in chains})
    by_prio = {prio: tuple(c for c in chains if c.prio == prio) for prio in prios}
    if not prios:
        if hook in (IN, POST):
            yield Slot(netns, pf, hook, LAST, -(2**31), LAST + 1)
        return
    if prios[0] != CONNTRACK and not told:
        yield Slot(netns, pf, hook, prios[0] - 1, -(2**31), prios[0], (), by_prio[prios[0]])
    for at, prio in enumerate(prios):
        following = prios[at + 1] if at + 1 < len(prios) else LAST + 1
        before = by_prio.get(following, ())
        state = "planned" if following - prio > 1 else "taken"
        note = "" if state == "planned" else "no priority is left between the two chains"
        yield Slot(netns, pf, hook, prio + 1, prio, following, by_prio[prio], before, None, state, note)


def candidates(slot: Slot, most: int = 64) -> Iterator[int]:
    """Priorities that tell the same, the wanted one first."""
    yield slot.wanted
    for step in range(1, most):
        for prio in (slot.wanted + step, slot.wanted - step):
            if slot.low < prio < slot.high:
                yield prio
