"""Which namespaces a flow passes when nobody names them: those wired to where it begins, and of these the predicted path.

    around(flow)                    # [Namespace, …]: this one, or where the flow begins, and all that its wires lead to
    on_path(flow, spaces, folder)   # Path: of these the hosts that the flow is predicted to pass; the others are closed

Every namespace with a name, a process or a container is looked at (devices and addresses only); the rest is read only of
those that are wired together, whatever the wire is: a veth, a macvlan, a VLAN device (IFLA_LINK_NETNSID).
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ...sim.errors import InputError, MissingFacility
from . import netns
from .netns import IFLA_LINK_NETNSID, NLM_DUMP, RTM_GETLINK, Namespace, _attributes, _nsid

if TYPE_CHECKING:
    from ...sim.flow import Question
    from ...sim.model.world import World

RTM_GETADDR, IFA_ADDRESS, IFA_LOCAL = 22, 1, 2
NLMSG_ERROR, NLMSG_DONE = 2, 3
LINK_HEADER, ADDRESS_HEADER = 16, 8  # struct ifinfomsg, ifaddrmsg
MOST = 64  # namespaces that are read for one question
_ADDRESS = re.compile(r"[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]+")


class Way(NamedTuple):
    """``flow``: with the place that was added where it was needed."""

    spaces: list[Namespace]
    world: World
    flow: str
    others: list[str]  # wired to them, not on the path


def reachable() -> list[Namespace]:
    """This namespace first, then every other one with a name, a container or a process, each once."""
    from ..capture.snapshot import _all_places

    found = [netns.current()]
    for name, path in _all_places().items():
        if path is None:
            continue
        with suppress(OSError):  # gone since it was listed, or not ours to open
            ns = Namespace(name, path)
            if all(ns.inum != other.inum for other in found):
                found.append(ns)
            else:
                ns.close()
    return found


def _keep(spaces: list[Namespace], chosen: list[Namespace]) -> list[Namespace]:
    for ns in spaces:
        if ns not in chosen:
            ns.close()
    return chosen


def around(flow: str) -> list[Namespace]:
    """Where FLOW begins, and what is wired to it."""
    everything = reachable()
    if len(everything) == 1:
        return everything
    looked = {ns.inum: _look(ns, everything) for ns in everything}
    starts = _starts(flow, everything, {inum: own for inum, (own, _) in looked.items()})
    wires: dict[int, set[int]] = {}
    for inum, (_, peers) in looked.items():
        for peer in peers:
            wires.setdefault(inum, set()).add(peer)
            wires.setdefault(peer, set()).add(inum)
    todo, inside = [ns.inum for ns in starts], set[int]()
    while todo:
        inum = todo.pop()
        if inum not in inside:
            inside.add(inum)
            todo += wires.get(inum, ())
    return _keep(everything, [ns for ns in everything if ns.inum in inside])


def _starts(flow: str, everything: list[Namespace], owned: dict[int, set[str]]) -> list[Namespace]:
    """A namespace that FLOW names; else those that own its first address, this one before others; else this one."""
    words = flow.split()
    named = [ns for ns in everything if ns.name in words]
    if named:
        return named
    first = _ADDRESS.search(flow.partition("->")[0])
    source = _plain(first[0]) if first else ""
    owners = [ns for ns in everything if source and source in owned[ns.inum]]
    return everything[:1] if not owners or owners[0] is everything[0] else owners


def _plain(text: str) -> str:
    """An address as the kernel's own are written; a port behind an IPv4 address is cut off."""
    if text.count(":") == 1:
        text = text.partition(":")[0]
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            return socket.inet_ntop(family, socket.inet_pton(family, text.rstrip(":.")))
    return ""


def _look(ns: Namespace, everything: list[Namespace]) -> tuple[set[str], set[int]]:
    """(addresses, the namespaces that its devices lead to) of one namespace; nothing of one that cannot be entered."""
    try:
        with ns.inside():
            own = {
                address for header, attrs in _dump(RTM_GETADDR, ADDRESS_HEADER) if (address := _address(header, attrs))
            }
            far = {
                attrs[IFLA_LINK_NETNSID] for _, attrs in _dump(RTM_GETLINK, LINK_HEADER) if IFLA_LINK_NETNSID in attrs
            }
            numbers = {_nsid(other.fd): other.inum for other in everything} if far else {}
    except (OSError, MissingFacility):
        return set(), set()
    return own, {numbers[n] for (n,) in (struct.unpack("<i", raw) for raw in far) if n in numbers}


def _address(header: bytes, attrs: dict[int, bytes]) -> str:
    raw = attrs.get(IFA_LOCAL) or attrs.get(IFA_ADDRESS) or b""
    return socket.inet_ntop(header[0], raw) if len(raw) in (4, 16) else ""


def _dump(kind: int, size: int) -> Iterator[tuple[bytes, dict[int, bytes]]]:
    """What rtnetlink lists: header and attributes of each object."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.send(struct.pack("<IHHII", 16 + size, kind, NLM_DUMP, 1, 0) + bytes(size))
        while True:
            data, at = sock.recv(1 << 18), 0
            while at + 16 <= len(data):
                length, found = struct.unpack_from("<IH", data, at)
                if found in (NLMSG_ERROR, NLMSG_DONE):
                    return
                yield data[at + 16 : at + 16 + size], _attributes(data[at + 16 + size : at + length])
                at += length + 3 & ~3


# ------------------------------------------------------------------------------------------------ the path


def on_path(flow: str, spaces: list[Namespace], folder: Path) -> Way:
    """The hosts of the predicted way and of the reply's. Raises InputError for a flow that is not understood."""
    from ...sim.explain.trial import attempt
    from .confirm import captured

    if len(spaces) > MOST:
        raise InputError(
            f"{len(spaces)} namespaces are wired together here", remedy="--netns NAME, one for each host to watch"
        )
    world = captured(folder, spaces)
    asked, question = _understood(flow, world, spaces[0].name)
    trial = attempt(world, question)
    leaves = [leaf for answer in (trial.forward, trial.reply) if answer is not None for leaf in answer.leaves]
    hosts = {hop.host for leaf in leaves for hop in leaf.hops} | {question.host}
    others = [ns.name for ns in spaces if ns.name not in hosts]
    return Way(_keep(spaces, [ns for ns in spaces if ns.name in hosts]), world, asked, others)


def _understood(flow: str, world: World, here: str) -> tuple[str, Question]:
    """Where several hosts could be meant, this one is."""
    from .worlds import understood

    try:
        return flow, understood(flow, world)
    except InputError as error:
        if " at " in f" {flow} ":
            raise
        with suppress(InputError):
            return f"{flow} at {here}", understood(f"{flow} at {here}", world)
        raise error
