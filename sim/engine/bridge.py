"""Frames that a bridge switches and iptables sees all the same: net/bridge/br_netfilter_hooks.c.

With ``net.bridge.bridge-nf-call-iptables`` (or the bridge's own ``nf_call_iptables``) every IP frame meets PREROUTING as
it enters a port, with the bridge as input device. What is for the host itself goes up and does not meet PREROUTING
again; what is switched meets FORWARD and POSTROUTING without being routed: no ttl is taken, no forwarding is needed.
"""

from __future__ import annotations

from ..model.addr import AF_INET
from ..model.packet import NfBridge, Skb
from ..model.route import Link
from ..model.world import Port
from . import neigh, routing
from .rt import Rt
from .run import Ctx

# kind of the route that a switched frame carries (DST_FAKE_RTABLE): enough for targets, leads nowhere
FAKE = "switched"
OUTSIDE = Port("", "")  # somebody behind the bridge whom the snapshot does not have


def fake_route(dev: str) -> Rt:
    """bridge_parent_rtable()."""
    return Rt(FAKE, dev)


def calls_iptables(ctx: Ctx, link: Link | None, family: int) -> bool:
    """br_nf_pre_routing(): whether frames of this bridge meet the rules of the IP layer."""
    if link is None or link.kind != "bridge":
        return False
    if link.nf_call_iptables and family == AF_INET:
        return True
    name = f"net.bridge.bridge-nf-call-{'iptables' if family == AF_INET else 'ip6tables'}"
    known = ctx.host.sysctl
    if name not in known and len(known) and not any(key.startswith("net.bridge.") for key in known):
        return False  # the module that brings the setting is not loaded
    return bool(ctx.sysctl_int(name, 1, (0,)))


def entered(ctx: Ctx, dev: str, skb: Skb, sender: Port | None) -> None:
    """setup_pre_routing(): from here on the packet knows the port it came in on. ``sender``: who put it on the wire."""
    told, skb.bridge = skb.bridge, None
    if calls_iptables(ctx, ctx.host.links.get(dev), skb.family):
        port = None if sender is None else port_of(ctx, Port(ctx.host.name, dev), sender)
        skb.bridge = told or NfBridge(port, sender)


def between(ctx: Ctx, dev: str, there: Port, family: int) -> tuple[Port, ...]:
    """The bridges whose rules see a frame from ``dev`` of this host to ``there``, one port apart at most."""
    segment = ctx.run.world.segment_of(ctx.host.name, dev)
    if segment is None or len(segment.members) < 3:
        return ()
    me, found = Port(ctx.host.name, dev), []
    for member in segment.members:
        host = ctx.run.world.hosts.get(member.host)
        if (
            host is None
            or member in (me, there)
            or (link := host.links.get(member.dev)) is None
            or link.kind != "bridge"
        ):
            continue
        there_ctx = Ctx(ctx.run, host, ctx.ws.host(host.name))
        near, far = port_of(there_ctx, member, me), port_of(there_ctx, member, there)
        if (near is None or near != far) and calls_iptables(there_ctx, link, family):
            found.append(member)
    return tuple(found)


def ports(ctx: Ctx, bridge: str) -> tuple[Link, ...]:
    """The ports of a bridge of this host."""
    return tuple(link for link in ctx.host.links.values() if link.master == bridge)


def port_of(ctx: Ctx, bridge: Port, member: Port) -> str | None:
    """The port of ``bridge`` (a device of this host) behind which another member of its segment is; None: not known.

    Both ends of a veth pair name the interface index of the other one; what hangs on a further bridge names nobody here.
    """
    host = ctx.run.world.hosts.get(member.host)
    link = host.links.get(member.dev) if host is not None else None
    if link is None or link.peer_ifindex is None:
        return None
    fits = [
        port.name
        for port in ports(ctx, bridge.dev)
        if port.ifindex == link.peer_ifindex and port.peer_ifindex == link.ifindex
    ]
    return fits[0] if len(fits) == 1 else None


def words(port: str | None, to: Port) -> str:
    """Where a frame goes: the port, and who is behind it."""
    who = "somebody outside the known world" if to == OUTSIDE else str(to)
    return f"{port} ({who})" if port else who


def of(ctx: Ctx, dev: str) -> str | None:
    """The bridge that a device is, with ports, or is a port of."""
    link = ctx.host.links.get(dev)
    name = dev if link is not None and link.kind == "bridge" else link.master if link is not None else None
    bridge = ctx.host.links.get(name or "")
    return name if bridge is not None and bridge.kind == "bridge" and ports(ctx, bridge.name) else None


def arriving(ctx: Ctx, bridge: str, dev: str, skb: Skb) -> tuple[Port | None, Port | None]:
    """A frame that comes in by a bridge or one of its ports: who sent it, and for whom it is (None: for this host).

    Nobody says the frame's address. It is taken to be that of the packet's destination where this is somebody else on
    the bridge's network, whom a sender asks for directly; else the bridge's.
    """
    host, family = ctx.host, skb.family
    me, whom = Port(host.name, bridge), f"{host.name}: the frame that comes in by {dev} is taken to be addressed to"
    segment = ctx.run.world.segment_of(host.name, bridge)
    behind = [m for m in (segment.members if segment else ()) if m != me and port_of(ctx, me, m) == dev]
    sender = behind[0] if len(behind) == 1 else None
    if host.addresses_of(bridge, family):
        rt = routing.output(ctx, family=family, dst=skb.dst)
        if rt.kind != "unicast" or rt.dev != bridge or rt.gateway is not None:
            ctx.run.note(f"{whom} {host.name}")
            return sender, None
    found = neigh.resolve(ctx, bridge, skb.dst, family)
    to = OUTSIDE if found.kind == "edge" else found.port
    ctx.run.note(f"{whom} {'its destination' if to else host.name}")
    return sender, to


def shut_out(ctx: Ctx, bridge: str, skb: Skb, out: str | None) -> str | None:
    """should_deliver(): why the bridge does not send the frame out of ``out``, or None.

    Where a port is not known: what is turned to its own sender goes back by the port it came in on, whichever that is.
    """
    came = skb.bridge.physin if skb.bridge is not None else None
    if came != out if came and out else skb.src != skb.dst:
        return None
    port = came or out
    modes = {link.hairpin for link in ports(ctx, bridge) if port in (None, link.name)}
    text = (
        f"{bridge} of {ctx.host.name} sends no frame back out of the port it came in on ({port or 'not known which'})"
    )
    if len(modes) > 1:
        return (
            text if ctx.unknown(f"which port of {bridge} it came in on is not known: {text}", "missing_input") else None
        )
    return None if modes == {True} else text
