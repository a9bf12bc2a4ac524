"""Routes that take a remote address for a neighbour: they work only where somebody on the wire answers for it."""

from __future__ import annotations

from ..model.addr import parse_prefix
from ..model.world import World
from .whatif import Edit, RouteEdit


def stranger(world: World, edit: Edit) -> str | None:
    """What a route without a gateway relies on, in words; None: on nothing that the snapshot would not tell.

    On a segment of the snapshot the owners of addresses are known, and the simulation has asked them. At the edge of
    the known world every neighbour is taken to answer, which for an address of no network of the interface is
    proxy ARP (arp_ignore() and arp_fwd_proxy() of whoever is there).
    """
    if not isinstance(edit, RouteEdit) or edit.verb == "del":
        return None
    words = edit.spec.split()
    if "dev" not in words[1:-1] or "via" in words:
        return None
    dev = words[words.index("dev") + 1]
    host = world.hosts.get(edit.host)
    link = host.links.get(dev) if host is not None else None
    if host is None or link is None or link.loopback or link.noarp or world.segment_of(host.name, dev) is not None:
        return None
    if words[0] == "default":
        return f"if somebody on {dev} answers ARP for everybody"
    try:
        prefix = parse_prefix(words[0])
    except ValueError:
        return None  # of another type: local, unreachable …
    near = any(a.family == prefix.family and prefix.value in a.network for a in host.addresses_of(dev, prefix.family))
    return None if near else f"if somebody on {dev} answers ARP for {words[0]}"
