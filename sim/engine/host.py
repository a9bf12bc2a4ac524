"""What one host does with one packet: the only place that spells out the order of hooks and routing.

    receive ─ PREROUTING ─ route ─┬─ INPUT ─ socket
                                  └─ forward checks ─ FORWARD ─ POSTROUTING ─ transmit
    send ─ OUTPUT (reroute) ─ POSTROUTING ─ transmit

Every function returns a :class:`Fate` (the packet's way ends) or a :class:`Transfer` (it goes on elsewhere).
Sources: net/ipv4/ip_input.c, ip_forward.c, ip_output.c, route.c, net/netfilter/core.c.
"""

from __future__ import annotations

from typing import Any

from ..model.addr import AF_INET, format_addr, is_multicast
from ..model.conntrack import CTINFO_NAME, IP_CT_UNTRACKED, REPLY, ctinfo2dir
from ..model.packet import (
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_LOOPBACK,
    PACKET_MULTICAST,
    Skb,
)
from ..model.result import Hop, Reason
from ..model.rule import ACCEPT, DROP, HOOK_NAME, QUEUE, STOLEN, V_ACCEPT, BaseHook, ForeignChain, Verdict
from ..model.world import Port
from ..record import NamedTuple, replace
from . import bridge, conntrack, icmp, nat, neigh, routing, sockets
from .chain import diff as diff_fields
from .chain import run_base_chain, snapshot_fields
from .hooks import FWD, IN, OUT, POST, PRE, hook_lists
from .run import Ctx, Option, Run

EPERM, EHOSTUNREACH, EMSGSIZE, EINVAL, EADDRNOTAVAIL = 1, 113, 90, 22, 99
ALL_HOSTS_GROUP = 0xE0000001
TCP_SYN_ONLY = 0x02


class Fate(NamedTuple):
    """How a packet's way ended. ``socket``: who received it (model Socket) or None."""

    outcome: str
    host: str
    interface: str | None
    hook: str | None
    reason: Reason
    skb: Skb
    errno: int | None = None
    socket: Any = None


class Transfer(NamedTuple):
    """The packet goes on: received by ``dev`` of ``host``, put on the wire by ``sender`` (None: from outside).

    ``to``: ``dev`` is a bridge, and the frame is for another member of its segment.
    """

    host: str
    dev: str
    skb: Skb
    sender: Port | None = None
    to: Port | None = None


End = Fate | Transfer


def new_ctx(run: Run, host_name: str) -> Ctx:
    return Ctx(run, run.world.hosts[host_name], run.ws.host(host_name))


# ---------------------------------------------------------------------------------------------- hooks


def run_hook(ctx: Ctx, skb: Skb) -> Verdict:
    """All functions of a hook list in order (nf_hook_slow). Rerouting after OUTPUT chains happens in here."""
    lists = hook_lists(ctx.host, skb.family)
    legacy_first = _backend_order(ctx, lists.twins)
    for entry in lists.ordered(ctx.hook, legacy_first):
        if entry.kind == "table":
            verdict = _run_table(ctx, skb, entry.item)
        elif entry.kind == "conntrack":
            verdict = _track(ctx, skb)
        elif entry.kind == "nat":
            verdict = _run_nat(ctx, skb, lists.ordered_nat(ctx.hook, legacy_first))
        elif entry.kind == "confirm":
            verdict = conntrack.confirm(ctx, skb)
        else:
            verdict = _run_foreign(ctx, skb, entry.item)
        if verdict.code != ACCEPT:
            return verdict
    return V_ACCEPT


def _backend_order(ctx: Ctx, twins: bool) -> bool:
    """Which iptables backend registered last (and so runs first at equal priority): the dump does not say."""
    if not twins:
        return False
    key = ("backend order", ctx.host.name)
    known = ctx.hs.misc.get(str(key))
    if known is None:
        known = ctx.run.choose(
            f"{ctx.host.name}: which iptables backend runs first at equal priority",
            (Option(None, "iptables-nft first", False), Option(None, "iptables-legacy first", True)),
        )
        ctx.hs.misc[str(key)] = known
    return bool(known)


def _run_table(ctx: Ctx, skb: Skb, base: BaseHook) -> Verdict:
    if base.kind != "route":
        return run_base_chain(base.table, base.chain, skb, ctx)
    # ipt_mangle_out(), nf_route_table_hook4(): net change of saddr, daddr, mark or tos → ip_route_me_harder
    before = (skb.src, skb.dst, skb.mark, skb.tos)
    verdict = run_base_chain(base.table, base.chain, skb, ctx)
    if verdict.code == ACCEPT and (skb.src, skb.dst, skb.mark, skb.tos) != before:
        return _reroute(ctx, skb, "the mangle table changed the packet")
    return verdict


def _reroute(ctx: Ctx, skb: Skb, why: str) -> Verdict:
    """ip_route_me_harder(); ``-o`` of later OUTPUT chains keeps the first device (the hook state is filled once)."""
    rt = routing.reroute(ctx, skb)
    if rt.errno:
        ctx.step("rerouting", text=rt.text, where=rt.where, verdict=DROP, note=why)
        return Verdict(DROP, reason=rt.reason.code if rt.reason else "no_route", text=f"errno {rt.errno}")
    skb.rt = rt
    ctx.step("rerouting", text=rt.text, where=rt.where, note=why)
    return V_ACCEPT


def _track(ctx: Ctx, skb: Skb) -> Verdict:
    had = skb.ct
    verdict = conntrack.track(ctx, skb)
    if verdict.code == ACCEPT:
        ctx.step("conntrack", conntrack=ct_text(ctx, skb), note="kept from the first pass over lo" if had else None)
    return verdict


def ct_text(ctx: Ctx, skb: Skb) -> str:
    """``NEW zone 0``, ``ESTABLISHED reply zone 1``, ``INVALID``, ``UNTRACKED``."""
    conn = ctx.ct(skb)
    if conn is None:
        return "UNTRACKED" if skb.ctinfo == IP_CT_UNTRACKED else "INVALID"
    direction = ctinfo2dir(skb.ctinfo or 0)
    back = " reply" if direction == REPLY else ""
    return f"{CTINFO_NAME.get(skb.ctinfo, '?')}{back} zone {conn.zones[direction]}"


def _run_nat(ctx: Ctx, skb: Skb, chains: list[BaseHook]) -> Verdict:
    src, dst = skb.src, skb.dst

    def run_chain(base: BaseHook) -> Verdict:
        return run_base_chain(base.table, base.chain, skb, ctx)

    verdict = nat.nat_hook(ctx, skb, chains, run_chain)
    if verdict.code != ACCEPT:
        return verdict
    if ctx.hook == PRE and skb.dst != dst:
        skb.rt = None  # nf_nat_ipv4_pre_routing(): skb_dst_drop
    if ctx.hook == OUT and _needs_reroute(ctx, skb, src, dst):
        return _reroute(ctx, skb, "destination NAT changed the address")
    return verdict


def _needs_reroute(ctx: Ctx, skb: Skb, src: int, dst: int) -> bool:
    """nf_nat_ipv4_local_fn(): the entry's destination differs from the other direction's source."""
    conn = ctx.ct(skb)
    if conn is None or skb.ctinfo is None:
        return False
    direction = ctinfo2dir(skb.ctinfo)
    return conn.tuples[direction].dst != conn.tuples[1 - direction].src


def _run_foreign(ctx: Ctx, skb: Skb, chain: ForeignChain) -> Verdict:
    """A native nft base chain: seen, named, not modelled; a chain that cannot drop or change is no question."""
    if chain.rules == 0:
        if chain.policy and chain.policy.upper() == DROP:
            return Verdict(DROP, chain=chain.chain, reason="dropped_by_policy")
        return V_ACCEPT
    text = f"nft chain {chain.family} {chain.table} {chain.chain} at {HOOK_NAME[chain.hook]} drops the packet ({chain.why})"
    ctx.step("nft", chain=chain.chain, table=chain.table, family=chain.family, where=chain.where, note=chain.why)
    if ctx.unknown(text, where=chain.where):
        return Verdict(DROP, reason="unmodelled_match", text=text)
    return V_ACCEPT


# -------------------------------------------------------------------------------------------- verdicts


def stopped(ctx: Ctx, skb: Skb, verdict: Verdict, local: bool = False) -> Fate:
    """The Fate of a packet that a hook did not let through. ``local``: it was being sent by this host."""
    hook = ctx.hook_name
    outcome, errno = "dropped", None
    code = verdict.reason or "dropped_by_rule"
    if verdict.code == QUEUE:
        outcome, code = "queued", verdict.reason or "queued"
    elif verdict.code == STOLEN:
        outcome, code = "stolen", verdict.reason or "stolen"
    elif code == "rejected_by_rule":
        outcome = "rejected"
    if verdict.code == DROP and local:
        errno = _send_errno(skb, verdict)
    reason = Reason(code, _stop_text(ctx, verdict, code), _stop_where(ctx, verdict))
    iface = ctx.indev if ctx.hook in (PRE, IN) else ctx.outdev
    return Fate(outcome, ctx.host.name, iface, hook, reason, skb, errno)


def _send_errno(skb: Skb, verdict: Verdict) -> int | None:
    """What send() returns: EPERM, the error of a failed reroute, or nothing (a TCP connect retries silently)."""
    if verdict.text and verdict.text.startswith("errno "):
        return int(verdict.text.split()[1])
    if skb.sk is None or (skb.proto == 6 and skb.tcp_flags == TCP_SYN_ONLY):
        return None
    if verdict.reason == "queue_without_listener":
        return None  # nf_queue() frees the packet and calls that no error
    return EPERM


def _stop_where(ctx: Ctx, verdict: Verdict) -> Any:
    steps = ctx.run.hop.steps if ctx.run.hop else []
    for step in reversed(steps):
        if step.verdict in (verdict.code, DROP, STOLEN, QUEUE) and step.where is not None:
            return step.where
    return None


def _stop_text(ctx: Ctx, verdict: Verdict, code: str) -> str:
    if verdict.text and not verdict.text.startswith("errno "):
        return verdict.text
    last = ctx.run.hop.steps[-1] if ctx.run.hop and ctx.run.hop.steps else None
    steps = ctx.run.hop.steps if ctx.run.hop else []
    last = next((s for s in reversed(steps) if s.verdict == verdict.code and s.text), last)
    if last is not None and last.rule:
        return f"{last.table} {last.chain} rule {last.rule} on {ctx.host.name}: {last.text}"
    if code == "dropped_by_policy":
        return f"policy DROP of {ctx.table} {verdict.chain or ctx.hook_name} on {ctx.host.name}"
    return f"{code.replace('_', ' ')} at {ctx.hook_name} on {ctx.host.name}"


# --------------------------------------------------------------------------------------------- receive


def receive(run: Run, host_name: str, dev: str, skb: Skb, sender: Port | None = None, to: Port | None = None) -> End:
    """ip_rcv() to its end: PREROUTING, routing, then INPUT or FORWARD. Of a bridge: br_nf_pre_routing()."""
    base = new_ctx(run, host_name)
    run.hop = Hop(host_name, dev, before=skb.header())
    run.hops.append(run.hop)
    ctx = base.at(PRE, dev, None)
    bridge.entered(base, dev, skb, sender)
    if skb.piece and hook_lists(base.host, skb.family).tracking:
        skb.piece = 0  # nf_conntrack_defrag(): whole again for everything that follows
    if to is not None and skb.bridge is None:
        return _switch(base, skb, dev, to)
    dst = skb.dst
    verdict = run_hook(ctx, skb)
    if verdict.code != ACCEPT:
        return _close(ctx, skb, stopped(ctx, skb, verdict))
    if skb.bridge is not None and skb.dst != dst:
        return _turned(ctx, base, skb, dev, to is not None)
    if to is not None:
        return _switch(base, skb, dev, to)
    return _routed(ctx, base, skb, dev)


def _routed(ctx: Ctx, base: Ctx, skb: Skb, dev: str) -> End:
    """ip_rcv_finish(): the routing decision, unless it was taken already."""
    if skb.rt is None:
        skb.rt = routing.input(ctx, skb, dev)
        ctx.step("routing", hook=None, text=skb.rt.text, where=skb.rt.where)
    rt = skb.rt
    if rt.kind in ("local", "broadcast", "multicast"):
        return _local_in(base, skb, dev)
    if rt.kind == "unicast":
        return _forward(base, skb, dev)
    return _close(ctx, skb, _routing_refused(ctx, skb))


def _turned(ctx: Ctx, base: Ctx, skb: Skb, dev: str, otherhost: bool) -> End:
    """br_nf_pre_routing_finish(): destination NAT of a frame. What stays on the bridge is switched there, not routed.

    ``otherhost``: the frame was addressed to somebody else (PACKET_OTHERHOST), about which no ICMP error is sent.
    """
    skb.rt = rt = routing.input(ctx, skb, dev)
    ctx.step("routing", hook=None, text=rt.text, where=rt.where)
    if rt.kind != "unicast" or rt.dev != dev:
        return _routed(ctx, base, skb, dev)
    nexthop = skb.dst if rt.gateway is None else rt.gateway
    found = neigh.resolve(ctx, dev, nexthop, rt.gateway_family or skb.family, skb.src)
    ctx.step("neighbour", hook=None, text=_neighbour_text(ctx, found, nexthop, rt), where=found.where, note=found.note)
    if found.kind != "failed":
        return _switch(base, skb, dev, found.port or bridge.OUTSIDE)
    if not otherhost and not found.silent:
        return _close(ctx, skb, _neighbour_failed(ctx, skb, found, local=False))
    reason = Reason("neighbour_failed", found.reason or "no such neighbour", found.where)
    return _close(ctx, skb, Fate("dropped", base.host.name, dev, None, reason, skb))


def _switch(base: Ctx, skb: Skb, dev: str, to: Port) -> End:
    """br_forward(): FORWARD and POSTROUTING with the bridge on both sides, and no routing."""
    name, came = base.host.name, skb.bridge
    out = bridge.port_of(base, Port(name, dev), to)
    fwd = base.at(FWD, dev, dev)
    fwd.step("bridge", hook=None, text=f"{dev} switches the frame to {bridge.words(out, to)}")
    if why := bridge.shut_out(base, dev, skb, out):
        reason = Reason("bridge_hairpin_off", why, base.host.links[out or dev].where)
        return _close(fwd, skb, Fate("dropped", name, dev, None, reason, skb))
    if came is not None:
        skb.bridge = came._replace(switched=True, physout=out)
        skb.pkttype = PACKET_HOST
        skb.rt = skb.rt or bridge.fake_route(dev)
        for ctx in (fwd, base.at(POST, None, dev)):
            verdict = run_hook(ctx, skb)
            if verdict.code != ACCEPT:
                return _close(ctx, skb, stopped(ctx, skb, verdict))
    post = base.at(POST, None, dev)
    if to == bridge.OUTSIDE:
        text = f"{dev} of {name} switches it to somebody outside the known world"
        return _close(post, skb, Fate("left", name, dev, "POSTROUTING", Reason("left_at_edge", text), skb))
    end = Transfer(to.host, to.dev, skb, None if came is None else came.sender)
    _close(post, skb, end)
    mac = skb.mac_src
    _scrub(skb, to.host == name, None, PACKET_HOST)
    skb.mac_src = mac
    return end


def _routing_refused(ctx: Ctx, skb: Skb) -> Fate:
    """ip_error(): unreachable, prohibit and missing routes are answered; martians and the like are not."""
    rt = skb.rt
    reason = rt.reason or Reason("no_route", "no route", rt.where)
    if rt.icmp is None:
        return Fate("dropped", ctx.host.name, ctx.indev, None, reason, skb)
    if icmp.error_allowed(ctx, skb.src):
        icmp.icmp_send(ctx, skb, *rt.icmp)
    else:
        ctx.step("icmp", hook=None, note="no ICMP error is sent: rate limit of errors about routes")
    return Fate("unreachable", ctx.host.name, ctx.indev, None, reason, skb)


def _local_in(base: Ctx, skb: Skb, dev: str) -> Fate:
    ctx = base.at(IN, dev, None)
    skb.piece = 0  # ip_local_deliver() puts fragments together
    verdict = run_hook(ctx, skb)
    if verdict.code != ACCEPT:
        fate = stopped(ctx, skb, verdict)
    else:
        fate = _to_transport(ctx, skb, dev)
    _close(ctx, skb, fate)
    return fate


def _to_transport(ctx: Ctx, skb: Skb, dev: str) -> Fate:
    """ip_local_deliver_finish(): the socket, or the error that its absence causes."""
    name = ctx.host.name
    if skb.is_icmp_error:
        _learn(ctx, skb)
        sockets.hear_error(ctx, skb)
    found = sockets.lookup(ctx, skb)
    if found.kind in ("socket", "kernel", "unknown"):
        text = found.note or f"delivered to {name}"
        where = getattr(found.socket, "where", None)
        return Fate("delivered", name, dev, "INPUT", Reason("delivered_local", text, where), skb, None, found)
    if skb.rt is not None and skb.rt.kind == "local" and skb.pkttype == PACKET_HOST:
        icmp.no_listener(ctx, skb, found.kind)
    text = found.note or f"nobody on {name} listens"
    return Fate("delivered", name, dev, "INPUT", Reason("no_listener", text, None), skb, None, found)


def _learn(ctx: Ctx, skb: Skb) -> None:
    """Errors that change the host's own routing: redirects and path MTU."""
    if skb.inner is None or skb.family != AF_INET:
        return
    if skb.icmp_type == 5:
        routing.learn_redirect(ctx, skb)
    elif skb.icmp_type == 3 and skb.icmp_code == 4:
        routing.learn_pmtu(ctx, skb)


# --------------------------------------------------------------------------------------------- forward


def _forward(base: Ctx, skb: Skb, dev: str) -> End:
    """ip_forward(): ttl and size are judged before FORWARD, which therefore never sees those packets."""
    rt = skb.rt
    pre = base.at(PRE, dev, None)
    name = base.host.name
    if skb.pkttype != PACKET_HOST:
        reason = Reason(
            "dropped_not_for_us", f"{name} forwards no packet that came as a layer-2 broadcast or multicast"
        )
        return _close(pre, skb, Fate("dropped", name, dev, None, reason, skb))
    if skb.ttl <= 1:
        icmp.icmp_send(pre, skb, 11, 0)
        reason = Reason("ttl_exceeded", f"ttl {skb.ttl} is used up at {name}, which would have to forward the packet")
        return _close(pre, skb, Fate("unreachable", name, dev, None, reason, skb))
    if skb.df and rt.mtu and skb.length > rt.mtu:
        icmp.icmp_send(pre, skb, 3, 4, rt.mtu)
        text = f"{skb.length} bytes with DF do not fit through {rt.dev} of {name} (mtu {rt.mtu})"
        return _close(
            pre, skb, Fate("unreachable", name, dev, None, Reason("fragmentation_needed", text, rt.where), skb)
        )
    before = snapshot_fields(skb)
    skb.ttl -= 1
    pre.step("forward", hook=None, changes=diff_fields(before, skb), note="forwarded: ttl decremented")
    if rt.redirect:
        icmp.send_redirect(pre, skb)
    ctx = base.at(FWD, dev, rt.dev)
    verdict = run_hook(ctx, skb)
    if verdict.code != ACCEPT:
        return _close(ctx, skb, stopped(ctx, skb, verdict))
    return _output(base, skb, dev, local=False)


# ------------------------------------------------------------------------------------------------ send


def send_local(run: Run, host_name: str, skb: Skb, new_hop: bool = True) -> End:
    """A packet that is routed already leaves through OUTPUT and POSTROUTING (__ip_local_out, dst_output)."""
    base = new_ctx(run, host_name)
    if new_hop:
        run.hop = Hop(host_name, None, before=skb.header())
        run.hops.append(run.hop)
    ctx = base.at(OUT, None, skb.rt.dev)
    ctx.step("routing", text=skb.rt.text, where=skb.rt.where)
    verdict = run_hook(ctx, skb)
    if verdict.code != ACCEPT:
        return _close(ctx, skb, stopped(ctx, skb, verdict, local=True))
    return _output(base, skb, None, local=True)


def _output(base: Ctx, skb: Skb, indev: str | None, local: bool) -> End:
    """ip_output() / ip_mc_output(): POSTROUTING with the final device, then the wire."""
    rt = skb.rt
    if local and rt.kind in ("broadcast", "multicast"):
        _loop_back_copy(base, skb, rt)
    if rt.kind in ("unreachable", "prohibit", "blackhole", "none"):
        ctx = base.at(OUT, None, rt.dev)
        return _close(ctx, skb, Fate("dropped", base.host.name, rt.dev, "OUTPUT", rt.reason, skb, rt.errno))
    ctx = base.at(POST, indev, rt.dev)
    verdict = run_hook(ctx, skb)
    if verdict.code != ACCEPT:
        return _close(ctx, skb, stopped(ctx, skb, verdict, local=local))
    return _transmit(ctx, skb, local)


def _loop_back_copy(base: Ctx, skb: Skb, rt: Any) -> None:
    """ip_mc_output(): a local broadcast, or multicast to a joined group, is also received by its sender."""
    if rt.kind == "multicast" and skb.dst != ALL_HOSTS_GROUP:
        return  # RTCF_LOCAL only where the group is joined; 224.0.0.1 is, everywhere
    copy = skb.copy()
    copy.sk = None  # skb_clone()
    run = base.run
    ctx = base.at(POST, None, rt.dev)
    hop, hops = run.hop, run.hops
    run.hops = []
    run.hop = Hop(base.host.name, None, rt.dev, before=copy.header())
    if run_hook(ctx, copy).code == ACCEPT:
        copy.rt = replace(rt, kind="local")
        copy.pkttype = PACKET_LOOPBACK  # dev_loopback_xmit()
        run.aside(Transfer(base.host.name, rt.dev, copy))
        run.settle()
    run.hop, run.hops = hop, hops
    skb.ct, skb.ctinfo = copy.ct, copy.ctinfo


def _transmit(ctx: Ctx, skb: Skb, local: bool) -> End:
    """ip_finish_output(): size, neighbour, device; then the far end of the wire."""
    rt = skb.rt
    name = ctx.host.name
    link = ctx.host.links.get(rt.dev)
    if link is not None and link.loopback:
        return _close(ctx, skb, Transfer(name, rt.dev, _looped(skb)))
    if rt.mtu and skb.length > rt.mtu:
        if skb.df:  # ip_fragment(): it fitted the first route, but not the one that NAT or a mark led to
            icmp.icmp_send(ctx, skb, 3, 4, rt.mtu)
            text = f"{skb.length} bytes with DF do not fit through {rt.dev} of {name} (mtu {rt.mtu})"
            reason = Reason("fragmentation_needed", text, rt.where)
            errno = EMSGSIZE if local and skb.sk else None
            return _close(ctx, skb, Fate("unreachable", name, rt.dev, "POSTROUTING", reason, skb, errno))
        ctx.step("fragmentation", hook=None, note=f"leaves in fragments: {skb.length} bytes, mtu {rt.mtu}")
        skb.piece = min(skb.piece or skb.length, 20 + (rt.mtu - 20) // 8 * 8)
    nexthop = skb.dst if rt.gateway is None else rt.gateway
    found = neigh.resolve(ctx, rt.dev, nexthop, rt.gateway_family or skb.family, skb.src)
    ctx.step("neighbour", hook=None, text=_neighbour_text(ctx, found, nexthop, rt), where=found.where, note=found.note)
    if found.kind == "failed" and found.silent:
        reason = Reason("neighbour_failed", found.reason or "no such neighbour", found.where)
        return _close(ctx, skb, Fate("dropped", name, rt.dev, None, reason, skb))
    if found.kind == "failed":
        return _close(ctx, skb, _neighbour_failed(ctx, skb, found, local))
    if found.kind == "edge":
        text = f"leaves {name} by {rt.dev} as {format_addr(skb.family, skb.src)} → {format_addr(skb.family, skb.dst)}"
        return _close(ctx, skb, Fate("left", name, rt.dev, "POSTROUTING", Reason("left_at_edge", text), skb))
    if found.kind == "broadcast":
        return _to_everyone(ctx, skb, found.ports, link)
    port = found.port
    assert port is not None  # of kind "port"
    me, hubs = Port(name, rt.dev), bridge.between(ctx, rt.dev, port, skb.family)
    end = Transfer(port.host, port.dev, skb, me)
    if len(hubs) > 1:
        text = f"rules of several bridges between {me} and {port} ({', '.join(map(str, hubs))}) drop the frame"
        if ctx.unknown(text):
            return _close(ctx, skb, Fate("dropped", name, rt.dev, None, Reason("unmodelled_match", text), skb))
    elif hubs:
        end = Transfer(*hubs[0], skb, me, port)
    _close(ctx, skb, end)
    _scrub(skb, end.host == name, link, PACKET_HOST)
    return end


def _to_everyone(ctx: Ctx, skb: Skb, ports: tuple[Port, ...], link: Any) -> End:
    """A layer-2 broadcast or multicast: every member receives a copy; the last one is the packet itself."""
    name, rt = ctx.host.name, skb.rt
    pkttype = PACKET_MULTICAST if is_multicast(skb.family, skb.dst) else PACKET_BROADCAST
    if not ports:
        text = f"leaves {name} by {rt.dev} to everybody on the segment; nobody else is there"
        return _close(ctx, skb, Fate("left", name, rt.dev, "POSTROUTING", Reason("left_at_edge", text), skb))
    me = Port(name, rt.dev)
    _many_frames(ctx, rt.dev, ports, skb.family)
    for port in ports[:-1]:
        copy = skb.copy()
        _scrub(copy, port.host == name, link, pkttype)
        ctx.run.aside(Transfer(port.host, port.dev, copy, me))
    end = Transfer(ports[-1].host, ports[-1].dev, skb, me)
    _close(ctx, skb, end)
    _scrub(skb, ports[-1].host == name, link, pkttype)
    return end


def _many_frames(ctx: Ctx, dev: str, ports: tuple[Port, ...], family: int) -> None:
    """What a bridge's rules do to every single copy of a flooded frame is not modelled: undecided where there are any."""
    for hub in {hub for port in ports for hub in bridge.between(ctx, dev, port, family)}:
        lists = hook_lists(ctx.run.world.hosts[hub.host], family)
        if any(
            entry.kind in ("table", "nat", "foreign") for hook in (FWD, POST) for entry in lists.ordered(hook, False)
        ):
            ctx.unknown(f"rules of {hub} in FORWARD or POSTROUTING treat a copy of the flooded frame")


def _neighbour_text(ctx: Ctx, found: Any, nexthop: int, rt: Any) -> str:
    text = f"{format_addr(rt.gateway_family or AF_INET, nexthop)} dev {rt.dev}"
    return text + {"port": f" is {found.port}", "edge": " (edge of the known world)", "failed": ": nobody answers"}.get(
        found.kind, ""
    )


def _neighbour_failed(ctx: Ctx, skb: Skb, found: Any, local: bool) -> Fate:
    """arp_error_report() → ipv4_link_failure() → icmp_send(host unreachable), after the probes gave up."""
    name, rt = ctx.host.name, skb.rt
    text = found.reason or f"nobody answers on {rt.dev} of {name}"
    run, hop, cause = ctx.run, ctx.run.hop, skb.copy()

    def give_up() -> None:
        started, run.hop = ctx.ws.now, hop
        ctx.ws.now += _probing_s(ctx, rt.dev)
        icmp.icmp_send(ctx, cause, 3, 1)
        ctx.ws.now = started

    run.timers.append(give_up)
    reason = Reason("neighbour_failed", text, found.where)
    return Fate("unreachable", name, rt.dev, None, reason, skb, EHOSTUNREACH if local and skb.sk else None)


def _looped(skb: Skb) -> Skb:
    """loopback_xmit(): the socket is gone; conntrack, mark and route stay."""
    skb.sk = None
    skb.pkttype = PACKET_HOST
    return skb


def _probing_s(ctx: Ctx, dev: str) -> float:
    """How long a neighbour is asked for before the packet is given up: mcast_solicit × retrans_time_ms."""
    base = f"net.ipv4.neigh.{dev.replace('.', '/')}."
    return ctx.sysctl_int(base + "mcast_solicit", 3) * ctx.sysctl_int(base + "retrans_time_ms", 1000) / 1000


def _scrub(skb: Skb, same_host: bool, link: Any, pkttype: int) -> None:
    """skb_scrub_packet(): everything that belongs to a namespace is cleared; inside one the mark stays."""
    skb.ct, skb.ctinfo, skb.template, skb.rt, skb.sk, skb.tproxy = None, None, None, None, None, None
    skb.bridge = None
    skb.pkttype = pkttype
    if not same_host:
        skb.mark = skb.priority = 0
        skb.nf_trace = False
    skb.uid = 0
    skb.mac_src = link.mac if link is not None else None
    skb.cause = None


def _close(ctx: Ctx, skb: Skb, end: Any) -> Any:
    """Complete the hop's record: device, headers and entry as the packet left it."""
    hop = ctx.run.hop
    if hop is None:
        return end
    hop.after = skb.header()
    if isinstance(end, Transfer) or (isinstance(end, Fate) and end.outcome == "left"):
        hop.out_dev = ctx.outdev
    conn = ctx.hs.ct.entries.get(skb.ct) if skb.ct is not None else None
    hop.conntrack = None if conn is None else conntrack.describe(conn) | {"state": CTINFO_NAME.get(skb.ctinfo)}
    return end
