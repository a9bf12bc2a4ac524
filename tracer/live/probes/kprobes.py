"""Taps by kprobes, for kernels before netfilter links (6.4): at entry and return of every function that hooks in.

The events are those of the links: the priority told is that of the plan, so a reader cannot tell the backends apart.
The functions are those of net/netfilter (nft_do_chain, nf_nat_ipv4_out, ipv4_conntrack_in, …) and of iptables-legacy.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import replace

from .. import bpfsys
from ..plan import Chain, Slot

TABLE, NFT, CONN, NAT, CONFIRM, NAT_INPUT = range(6)  # as in nattrace.c
FUNCTIONS = {
    "ipt_do_table": TABLE,
    "ip6t_do_table": TABLE,
    "nft_do_chain": NFT,
    "ipv4_conntrack_in": CONN,
    "ipv4_conntrack_local": CONN,
    "ipv6_conntrack_in": CONN,
    "ipv6_conntrack_local": CONN,
    "nf_nat_ipv4_pre_routing": NAT,
    "nf_nat_ipv4_in": NAT,
    "nf_nat_ipv4_local_in": NAT,
    "nf_nat_ipv4_local_fn": NAT,
    "nf_nat_ipv4_out": NAT,
    "nf_nat_ipv6_in": NAT,
    "nf_nat_ipv6_local_fn": NAT,
    "nf_nat_ipv6_out": NAT,
    "nf_nat_ipv4_fn": NAT_INPUT,  # the others call these two; by themselves they hook in at INPUT
    "nf_nat_ipv6_fn": NAT_INPUT,
    "ipv4_confirm": CONFIRM,
    "ipv6_confirm": CONFIRM,
    "nf_confirm": CONFIRM,  # took over from the two above in 6.3; before, it was called otherwise
}
UNLESS = {  # left out where another of its kind exists: the one calls the other
    "nf_confirm": "ipv4_confirm",
    "nf_nat_ipv4_in": "nf_nat_ipv4_pre_routing",
    "nf_nat_ipv4_fn": "nf_nat_ipv4_local_in",
}
WANT_ENTRY, WANT_RETURN = 1, 2
PLACE, OWED = struct.Struct("<IiBBBx"), struct.Struct("<iiI")
MAX_PLACES = 4096


def places(slots: list[Slot]) -> dict[bytes, bytes]:
    """What the map of owed places holds: where a slot is told by the return of a chain, or by the entry of the next."""
    owed: dict[bytes, list[int]] = {}
    for slot in slots:
        if slot.state != "planned":
            continue
        if slot.after:
            key, want = _key(slot, slot.after[-1]), WANT_RETURN
        elif slot.before:
            key, want = _key(slot, slot.before[0]), WANT_ENTRY
        else:
            key, want = PLACE.pack(slot.netns.inum, 0, slot.pf, slot.hook, CONFIRM), WANT_ENTRY
        row = owed.setdefault(key, [0, 0, 0])
        row[0 if want == WANT_ENTRY else 1] = slot.wanted
        row[2] |= want
    return {key: OWED.pack(*row) for key, row in owed.items()}


def _key(slot: Slot, chain: Chain) -> bytes:
    kind, prio = TABLE, chain.prio
    if chain.kind == "kernel":
        kind, prio = CONN, 0
    elif chain.nat:
        kind, prio = NAT, 0
    return PLACE.pack(slot.netns.inum, prio, slot.pf, slot.hook, kind)


def attach(slots: list[Slot], load: Callable[[str, int], int], places_map: int) -> tuple[list[Slot], list[int]]:
    """Fill the map and attach what this kernel has: (slots with what became of them, descriptors)."""
    held: list[int] = []
    there: set[int] = set()
    names = _names()
    loaded: dict[int, int] = {}
    back = load("on_return", 0)
    try:
        for function, kind in FUNCTIONS.items():
            if function not in names or UNLESS.get(function) in names:
                continue
            if kind not in loaded:
                loaded[kind] = load("on_call", kind)
            try:
                held.append(bpfsys.kprobe(loaded[kind], function, at_return=False))
                if kind != CONFIRM:
                    held.append(bpfsys.kprobe(back, function, at_return=True))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV):
                    raise
                continue
            there.add({NFT: TABLE, NAT_INPUT: NAT}.get(kind, kind))
        for key, value in places(slots).items():
            bpfsys.map_update(places_map, key, value)
    except BaseException:
        for fd in held:
            os.close(fd)
        raise
    finally:
        for fd in [back, *loaded.values()]:
            os.close(fd)
    return [_done(slot, there) for slot in slots], held


def _done(slot: Slot, there: set[int]) -> Slot:
    if slot.state != "planned":
        return slot
    chain = slot.after[-1] if slot.after else slot.before[0] if slot.before else None
    kind = CONFIRM if chain is None else CONN if chain.kind == "kernel" else NAT if chain.nat else TABLE
    if kind in there:
        return replace(slot, state="attached", prio=slot.wanted)
    return replace(slot, state="unsupported", note="this kernel has no function to probe there")


def _names() -> set[str]:
    """Which of the functions the kernel has now: those of modules come with the module."""
    with open("/proc/kallsyms") as file:
        return {name for line in file if (name := line.split(maxsplit=3)[2].strip()) in FUNCTIONS}
