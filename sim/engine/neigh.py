"""Who takes a packet on a link: neighbour entries, and who would answer an ARP request (net/ipv4/arp.c)."""

from __future__ import annotations

from ..model.addr import AF_INET, format_addr, is_limited_broadcast, is_loopback, is_multicast
from ..model.packet import Skb
from ..model.route import RT_SCOPE_HOST, RT_SCOPE_LINK, Link, Neighbour
from ..model.where import Where
from ..model.world import Port, Segment
from ..record import NamedTuple
from . import routing
from .neigh_state import entry, state_is_valid
from .run import Ctx, Option
from .source import addresses, confirm_address, has_ip, on_link, select_source

REACHABLE_S = 30  # base_reachable_time; then the entry is STALE, and asked for anew when it is used


class Resolution(NamedTuple):
    """``kind``: port (one taker), broadcast (``ports``, maybe none), edge (leaves the known world), failed.

    ``silent``: failed without anybody noticing (a static entry with a MAC that nobody has): no host unreachable.
    """

    kind: str
    port: Port | None = None
    reason: str | None = None
    where: Where | None = None
    note: str | None = None
    ports: tuple[Port, ...] = ()
    silent: bool = False


def resolve(ctx: Ctx, dev: str, nexthop: int, family: int, src: int = 0) -> Resolution:
    """What becomes of a packet for ``nexthop`` on ``dev``. ``src``: the packet's source (an ARP request may use it)."""
    link = ctx.host.links.get(dev)
    if link is not None and not (link.up and link.carrier):
        why = "has no carrier" if link.up else "is down"
        return Resolution("failed", reason=f"{dev} of {ctx.host.name} {why}", where=link.where)
    segment = ctx.run.world.segment_of(ctx.host.name, dev)
    if segment is None:
        return _edge(ctx, dev, nexthop, family, src)
    others = tuple(port for port in _alive(ctx, segment) if port != Port(ctx.host.name, dev))
    if _to_everyone(ctx, nexthop, family):
        return Resolution("broadcast", ports=others)
    if link is not None and (link.noarp or link.pointopoint or (link.mac is None and link.kind)):
        return _without_arp(ctx, link, others, segment)
    known = entry(ctx.host, family, dev, nexthop)
    learned: Learned | None = ctx.hs.match_state.get(("learned", family, dev, nexthop))
    if learned is not None and ctx.now < learned.until and not _static(known):
        return Resolution("port", learned.port)
    if known is not None and known.mac is not None and state_is_valid(known.state):
        taken = _by_mac(ctx, known, others)
        if taken is not None:
            return taken
    return _ask(ctx, dev, nexthop, family, src, others, segment)


class Learned(NamedTuple):
    """A neighbour entry made while packets pass. ``updated``: when the address last moved."""

    port: Port
    until: float
    updated: float


def _learn(ctx: Ctx, family: int, dev: str, addr: int, port: Port) -> None:
    """Who has an address is known for a while; meanwhile nobody is asked, whatever the source of a packet."""
    old: Learned | None = ctx.hs.match_state.get(("learned", family, dev, addr))
    same = old is not None and old.port == port and ctx.now < old.until
    updated = old.updated if old is not None and same else ctx.now
    ctx.hs.match_state["learned", family, dev, addr] = Learned(port, ctx.now + REACHABLE_S, updated)
    ctx.hs.neigh[dev, addr] = "ok"


def _overhear(ctx: Ctx, dev: str, sender: int, port: Port) -> None:
    """The end of arp_process(): a request is news for whoever has an entry of its sender, be it one that failed.

    An entry that is good is not moved within locktime of its last change.
    """
    known = entry(ctx.host, AF_INET, dev, sender)
    if _static(known) or (known is None and (dev, sender) not in ctx.hs.neigh):
        return
    old: Learned | None = ctx.hs.match_state.get(("learned", AF_INET, dev, sender))
    good = old is not None and ctx.now < old.until and ctx.hs.neigh.get((dev, sender)) == "ok"
    if old is not None and good and old.port != port and ctx.now <= old.updated + _locktime_s(ctx, dev):
        return
    _learn(ctx, AF_INET, dev, sender, port)


def _locktime_s(ctx: Ctx, dev: str) -> float:
    """How long an entry keeps its address against others (in hundredths of a second)."""
    return ctx.sysctl_int(f"net.ipv4.neigh.{dev.replace('.', '/')}.locktime", 100, ()) / 100


def _static(known: Neighbour | None) -> bool:
    return known is not None and ("PERMANENT" in known.state.upper() or "NOARP" in known.state.upper())


def _deaf(ctx: Ctx, dev: str, sender: int) -> bool:
    """arp_process() drops answers to a loopback address: who asks with one as its own never hears them."""
    return is_loopback(AF_INET, sender) and not ctx.conf(dev, "route_localnet")


def _unheard(ctx: Ctx, dev: str, nexthop: int, sender: int) -> Resolution:
    asked = f"{format_addr(AF_INET, nexthop)} on {dev} of {ctx.host.name}"
    why = f"asked for with the source {format_addr(AF_INET, sender)}, whose answers are dropped (route_localnet is 0)"
    return Resolution("failed", reason=f"{asked} is {why}")


def _edge(ctx: Ctx, dev: str, nexthop: int, family: int, src: int) -> Resolution:
    known = entry(ctx.host, family, dev, nexthop)
    if known is not None and "FAILED" in known.state.upper():
        text = (
            f"the neighbour table of {ctx.host.name} says that {format_addr(family, nexthop)} on {dev} does not answer"
        )
        return Resolution("failed", reason=text, where=known.where)
    if family == AF_INET and known is None:
        heard: float | None = ctx.hs.match_state.get(("heard", dev, nexthop))
        if heard is None or ctx.now >= heard:
            if is_loopback(family, src) and _deaf(ctx, dev, sender := _sender(ctx, dev, nexthop, src)):
                return _unheard(ctx, dev, nexthop, sender)
            ctx.hs.match_state["heard", dev, nexthop] = ctx.now + REACHABLE_S
    return Resolution("edge", note=f"{dev} of {ctx.host.name} is the edge of the known world")


def _alive(ctx: Ctx, segment: Segment) -> tuple[Port, ...]:
    """The members that receive at all: known to the snapshot, up, with carrier."""
    alive = []
    for port in segment.members:
        host = ctx.run.world.hosts.get(port.host)
        link = host.links.get(port.dev) if host is not None else None
        if host is not None and (link is None or (link.up and link.carrier)):
            alive.append(port)
    return tuple(alive)


def _to_everyone(ctx: Ctx, nexthop: int, family: int) -> bool:
    """arp_constructor: broadcast and multicast addresses need no resolution."""
    if is_multicast(family, nexthop) or is_limited_broadcast(family, nexthop):
        return True
    return family == AF_INET and routing.addr_type(ctx, family, nexthop) == "BROADCAST"


def _without_arp(ctx: Ctx, link: Link, others: tuple[Port, ...], segment: Segment) -> Resolution:
    """NOARP and point-to-point devices: whoever is at the other end."""
    if link.noarp and link.mac is not None and not link.pointopoint:
        others = tuple(port for port in others if _mac_of(ctx, port) == link.mac)  # sent to the device's own address
    if not others:
        text = f"nobody is at the other end of {link.name} (segment {segment.name})"
        return Resolution("failed", reason=text, where=link.where, silent=True)
    if len(others) == 1:
        return Resolution("port", others[0])
    return Resolution("broadcast", ports=others)


def _mac_of(ctx: Ctx, port: Port) -> int | None:
    link = ctx.run.world.hosts[port.host].links.get(port.dev)
    return link.mac if link is not None else None


def _by_mac(ctx: Ctx, known: Neighbour, others: tuple[Port, ...]) -> Resolution | None:
    """The member that has the entry's MAC. A learned MAC that nobody has is forgotten, a static one is used in vain."""
    owners = [port for port in others if _mac_of(ctx, port) == known.mac]
    static = _static(known)
    if owners:
        note = f"neighbour entry {known.state}"
        return Resolution("port", owners[0], where=known.where if static else None, note=note)
    if not static:
        return None
    text = (
        f"the static neighbour entry of {format_addr(known.family, known.addr)} has a MAC that nobody on the link has"
    )
    return Resolution("failed", reason=text, where=known.where, silent=True)


def _ask(ctx: Ctx, dev: str, nexthop: int, family: int, src: int, others: tuple[Port, ...],
         segment: Segment) -> Resolution:  # fmt: skip
    """Send the request and see who answers."""
    target = format_addr(family, nexthop)
    sender = _sender(ctx, dev, nexthop, src) if family == AF_INET else 0
    if _deaf(ctx, dev, sender):
        return _unheard(ctx, dev, nexthop, sender)
    answering, me = [], Port(ctx.host.name, dev)
    for port in others:
        there = Ctx(ctx.run, ctx.run.world.hosts[port.host], ctx.ws.host(port.host))
        if family != AF_INET:
            reaction = ANSWERS if _advertises(there, port.dev, nexthop) else SILENT
        else:
            reaction = _reaction(there, port.dev, sender, nexthop)
        if reaction == ANSWERS:
            answering.append(port)
            if sender:
                _learn(there, family, port.dev, sender, me)  # who answers has learned the asker's address
        elif reaction == OVERHEARS:
            _overhear(there, port.dev, sender, me)
    if not answering:
        ctx.hs.match_state.pop(("learned", family, dev, nexthop), None)
        ctx.hs.neigh[dev, nexthop] = "failed"
        silent = _silent_owner(ctx, nexthop, family, others)
        text = silent or f"nobody on segment {segment.name} has {target}"
        return Resolution("failed", reason=f"{target} on {dev} of {ctx.host.name} does not answer: {text}")
    ctx.hs.neigh[dev, nexthop] = "ok"
    if len(answering) == 1:
        _learn(ctx, family, dev, nexthop, answering[0])
        return Resolution("port", answering[0])
    key = ("neighbour", dev, nexthop)
    first: Port | None = ctx.hs.match_state.get(key)
    if first not in answering:
        options = tuple(Option(None, str(port), port) for port in answering)
        first = ctx.run.choose(f"which of those that answer for {target} on {dev} of {ctx.host.name} is first", options)
        ctx.hs.match_state[key] = first
    assert first is not None
    _learn(ctx, family, dev, nexthop, first)
    several = ", ".join(map(str, answering))
    return Resolution("port", first, note=f"{several} all answer for {target}; the first answer counts")


def _silent_owner(ctx: Ctx, addr: int, family: int, others: tuple[Port, ...]) -> str | None:
    """Words for the case that the address is there and yet nobody answers."""
    for port in others:
        host = ctx.run.world.hosts[port.host]
        if (family, addr) in addresses(host).by_local:
            return f"{port} would have it, but does not answer (arp_ignore, arp_filter or its rp_filter)"
    return None


def _sender(ctx: Ctx, dev: str, target: int, src: int) -> int:
    """arp_solicit: the sender address of the request, by arp_announce."""
    how = ctx.conf(dev, "arp_announce", 0, "max", ()) if src else 2
    if how < 2 and src and routing.addr_type(ctx, AF_INET, src) == "LOCAL":
        if how == 0 or on_link(ctx.host, AF_INET, dev, target, src):
            return src
    return select_source(ctx, dev, target, RT_SCOPE_LINK) or 0


ANSWERS, SILENT, OVERHEARS = "answers", "silent", "overhears"


def _reaction(ctx: Ctx, dev: str, sip: int, tip: int) -> str:
    """arp_process: what this host does on ``dev`` when ``sip`` asks for ``tip``: answer, nothing, or only listen."""
    link = ctx.host.links.get(dev)
    if (link is not None and link.noarp) or not has_ip(ctx.host, dev) or is_multicast(AF_INET, tip):
        return SILENT
    if is_loopback(AF_INET, tip) and not ctx.conf(dev, "route_localnet"):
        return SILENT
    if not sip:
        own = routing.addr_type(ctx, AF_INET, tip) == "LOCAL"
        return ANSWERS if own and not _ignores(ctx, dev, sip, tip) else SILENT
    rt = routing.input(ctx, Skb(AF_INET, 0, sip, tip), dev)
    if rt.kind == "local":
        return SILENT if _ignores(ctx, dev, sip, tip) or _filtered(ctx, dev, sip, tip) else ANSWERS
    if rt.kind != "unicast":
        return OVERHEARS
    if rt.dev == dev:  # private VLAN: back into the same link
        proxied = sip != tip and bool(ctx.conf(dev, "proxy_arp_pvlan"))
    else:
        proxied = _proxy_arp(ctx, dev, rt.dev or "") or _proxy_entry(ctx, dev, tip)
    return ANSWERS if proxied else OVERHEARS


def _ignores(ctx: Ctx, dev: str, sip: int, tip: int) -> bool:
    """arp_ignore."""
    on_dev = any(a.local == tip for a in addresses(ctx.host).by_dev.get((AF_INET, dev), ()))
    how = ctx.conf(dev, "arp_ignore", 0, "max", () if on_dev else (1,))
    if how == 1:
        return confirm_address(ctx, dev, 0, tip, RT_SCOPE_HOST) is None
    if how == 2:
        return confirm_address(ctx, dev, sip, tip, RT_SCOPE_HOST) is None
    if how == 3:
        return confirm_address(ctx, None, 0, tip, RT_SCOPE_LINK) is None
    return how == 8


def _filtered(ctx: Ctx, dev: str, sip: int, tip: int) -> bool:
    """arp_filter: answer only where the kernel would send to the asker."""
    if not ctx.conf(dev, "arp_filter", 0, "or", ()):
        return False
    return routing.output(ctx, family=AF_INET, dst=sip, src=tip).dev != dev


def _proxy_arp(ctx: Ctx, dev: str, outdev: str) -> bool:
    """arp_fwd_proxy."""
    if not ctx.conf(dev, "proxy_arp"):
        return False
    mine = ctx.conf(dev, "medium_id", 0, "dev", ())
    if mine in (0, -1):
        return mine == 0
    other = ctx.conf(outdev, "medium_id", 0, "dev", ())
    return other not in (mine, -1)


def _proxy_entry(ctx: Ctx, dev: str, tip: int) -> bool:
    """pneigh_lookup: ``ip neigh add proxy``."""
    return any(n.proxy and n.family == AF_INET and n.addr == tip and n.dev in (dev, "") for n in ctx.host.neighbours)


def _advertises(ctx: Ctx, dev: str, target: int) -> bool:
    """ndisc_recv_ns: the address is on that very device and usable, or proxied there."""
    for address in addresses(ctx.host).by_dev.get((10, dev), ()):
        if address.local == target:
            return not address.tentative
    if not ctx.conf(dev, "proxy_ndp", 0, "or", (), "ipv6"):
        return False
    return any(n.proxy and n.family == 10 and n.addr == target and n.dev == dev for n in ctx.host.neighbours)
