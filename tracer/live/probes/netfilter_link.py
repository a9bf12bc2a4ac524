"""Taps as links of BPF_PROG_TYPE_NETFILTER (net/netfilter/nf_bpf_link.c, since 6.4): one program for each priority."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace

from .. import bpfsys
from ..plan import Slot, candidates

Loader = Callable[[int], int]  # priority -> descriptor of the program


def attach(slots: list[Slot], load: Loader) -> tuple[list[Slot], list[int]]:
    """Attach every slot: (slots with what became of them, descriptors of links and programs).

    Where another hook holds the priority (EBUSY), a neighbour that lies between the same two chains serves as well.
    """
    done: list[Slot] = []
    links: list[int] = []
    loaded: dict[int, int] = {}
    by_netns: dict[int, list[Slot]] = {}
    for slot in slots:
        by_netns.setdefault(slot.netns.inum, []).append(slot)
    try:
        for group in by_netns.values():
            with group[0].netns.inside():
                for slot in group:
                    done.append(_place(slot, load, loaded, links))
    except BaseException:
        for fd in [*links, *loaded.values()]:
            os.close(fd)
        raise
    for fd in loaded.values():
        os.close(fd)  # the links hold the programs
    return done, links


def _place(slot: Slot, load: Loader, loaded: dict[int, int], links: list[int]) -> Slot:
    if slot.state != "planned":
        return slot
    for prio in candidates(slot):
        if prio not in loaded:
            loaded[prio] = load(prio)
        try:
            links.append(bpfsys.netfilter_link(loaded[prio], slot.pf, slot.hook, prio))
        except bpfsys.BpfError as error:
            if error.errno == errno.EBUSY:
                continue
            if error.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL, errno.EPROTO):
                return replace(slot, state="unsupported", note=error.strerror or "")
            raise
        return replace(slot, state="attached", prio=prio)
    return replace(slot, state="taken", note="other hooks hold every priority of this place")
