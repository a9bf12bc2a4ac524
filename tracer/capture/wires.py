"""Which interfaces are wired together: veth peers across namespaces, bridges, and so the layer-2 segments.

A veth names its peer as (interface index, namespace id as seen from its own namespace); RTM_GETNSID translates such an
id for a namespace that we hold open (net/core/net_namespace.c rtnl_net_getid).
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from ..lab.netns import inside

RTM_GETNSID = 90
NETNSA_NSID, NETNSA_FD = 1, 3


def nsid_of(netns_path: str) -> int | None:
    """The id that the current namespace has for another one; None: it has none."""
    try:
        fd = os.open(netns_path, os.O_RDONLY)
    except OSError:  # it went away since it was listed
        return None
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            body = struct.pack("=BxxxHHi", 0, 8, NETNSA_FD, fd)
            sock.sendto(struct.pack("=IHHII", 16 + len(body), RTM_GETNSID, 1, 1, 0) + body, (0, 0))
            answer = sock.recv(4096)
    finally:
        os.close(fd)
    kind = struct.unpack_from("=H", answer, 4)[0]
    at = 20
    if kind == 2:  # NLMSG_ERROR
        return None
    while at + 8 <= len(answer):
        length, attribute, value = struct.unpack_from("=HHi", answer, at)
        if attribute == NETNSA_NSID:
            return value if value >= 0 else None
        at += (length + 3) & ~3 or 4
    return None


class _Union:
    def __init__(self) -> None:
        self.up: dict[tuple[str, str], tuple[str, str]] = {}

    def find(self, x: tuple[str, str]) -> tuple[str, str]:
        self.up.setdefault(x, x)
        while self.up[x] != x:
            self.up[x] = self.up[self.up[x]]
            x = self.up[x]
        return x

    def join(self, a: tuple[str, str], b: tuple[str, str]) -> None:
        self.up[self.find(a)] = self.find(b)


def segments(
    links: dict[str, list[dict[str, Any]]], paths: dict[str, str | None], wanted: set[str]
) -> list[dict[str, Any]]:
    """Segments among the ``wanted`` hosts. ``links``: host → ``ip -j -d link``, also of namespaces that are only
    wires; ``paths``: host → path of its namespace."""
    by_index = {host: {int(x["ifindex"]): x["ifname"] for x in rows} for host, rows in links.items()}
    ids: dict[str, dict[int, str]] = {host: {} for host in links}
    for host, path in paths.items():
        if any("link_netnsid" in x for x in links[host]):
            try:
                with inside(path):
                    for other, there in paths.items():
                        nsid = nsid_of(there) if there is not None else None
                        if nsid is not None:
                            ids[host][nsid] = other
            except OSError:  # somebody else's namespace, gone since it was listed or not mounted yet
                if host in wanted:
                    raise
    joined = _Union()
    enslaved: set[tuple[str, str]] = set()
    for host, rows in links.items():
        names = {x["ifname"] for x in rows}
        for link in rows:
            port = (host, link["ifname"])
            if link.get("linkinfo", {}).get("info_kind") == "veth":
                peer = _peer(host, link, by_index, ids)
                if peer is not None:
                    joined.join(port, peer)
            master = link.get("master")
            if master is not None and master in names and _kind(rows, master) == "bridge":
                joined.join(port, (host, master))
                enslaved.add(port)
    _join_vlans(joined, links, by_index, ids)
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for port in joined.up:
        groups.setdefault(joined.find(port), []).append(port)
    out = []
    for group in groups.values():
        members = sorted(p for p in group if p[0] in wanted and p not in enslaved)
        if len(members) > 1:
            out.append([f"{h}:{d}" for h, d in members])
    return [{"name": f"net{i}", "members": members} for i, members in enumerate(sorted(out))]


def _join_vlans(joined: _Union, links: dict[str, list[dict[str, Any]]], by_index: dict[str, dict[int, str]],
                ids: dict[str, dict[int, str]]) -> None:  # fmt: skip
    """VLAN devices of one number on devices of one wire share a wire of their own; they may carry further ones."""
    tagged = [
        (lower, _vlan_id(link), (host, str(link["ifname"])))
        for host, rows in links.items()
        for link in rows
        if _vlan_id(link) is not None and (lower := _peer(host, link, by_index, ids)) is not None
    ]
    before = -1
    while before != (before := _join_once(joined, tagged)):
        pass


def _join_once(joined: _Union, tagged: list[tuple[tuple[str, str], Any, tuple[str, str]]]) -> int:
    """Joins what is known to share a wire by now; returns how many wires that leaves."""
    first: dict[Any, tuple[str, str]] = {}
    for lower, number, port in tagged:
        joined.join(port, first.setdefault((joined.find(lower), number), port))
    return len({joined.find(port) for _, _, port in tagged})


def _vlan_id(link: dict[str, Any]) -> Any:
    """(protocol, number) of a VLAN device; None for any other."""
    info = link.get("linkinfo", {})
    data = info.get("info_data", {})
    return (data.get("protocol"), data.get("id")) if info.get("info_kind") == "vlan" else None


def _kind(rows: list[dict[str, Any]], name: str) -> str:
    return next((x.get("linkinfo", {}).get("info_kind", "") for x in rows if x["ifname"] == name), "")


def _peer(
    host: str, link: dict[str, Any], by_index: dict[str, dict[int, str]], ids: dict[str, dict[int, str]]
) -> tuple[str, str] | None:
    if link.get("link") and "link_netnsid" not in link:
        return host, str(link["link"])  # both ends in one namespace
    index = link.get("link_index")
    other = ids[host].get(link["link_netnsid"]) if "link_netnsid" in link else host
    if index is None or other is None:
        return None
    name = by_index[other].get(int(index))
    return (other, name) if name else None
