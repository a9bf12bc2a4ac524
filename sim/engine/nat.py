"""Address translation: nf_nat_core.c, nf_nat_proto.c, nf_nat_masquerade.c, nf_nat_redirect.c (net/netfilter).

A connection gets exactly one decision about its destination and one about its source, each at the first hook of
that kind that its first packet passes (:func:`nat_hook`); :func:`setup_info` takes it. Every later packet is
rewritten by the entry (:func:`packet`), and no chain is asked again. Which port is free is in ``ports``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..model.addr import AF_INET, format_addr, is_loopback
from ..model.conntrack import (
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IPS_DST_NAT,
    IPS_DST_NAT_DONE,
    IPS_NAT_MASK,
    IPS_SEQ_ADJUST,
    IPS_SRC_NAT,
    IPS_SRC_NAT_DONE,
    ORIGINAL,
    REPLY,
    Conn,
    Expectation,
    Tuple,
    ctinfo2dir,
)
from ..model.packet import ICMP_REDIRECT, IPPROTO_GRE, IPPROTO_ICMP, IPPROTO_ICMPV6, Skb
from ..model.rule import (
    ACCEPT,
    DROP,
    HOOK_NAME,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    V_ACCEPT,
    BaseHook,
    Verdict,
)
from ..model.world import Host
from ..record import NamedTuple
from . import conntrack
from .chain import diff, snapshot_fields
from .conntrack import ICMP_PROTOCOLS, invert, zone_id
from .jhash import jhash2, reciprocal_scale
from .ports import in_port_range, unique_port, used, used_new
from .run import Ctx, Option
from .trackers import common, icmp, keyed_by_ports

MANIP_SRC, MANIP_DST = 0, 1  # enum nf_nat_manip_type
MANIP_NAME = ("source", "destination")

# include/uapi/linux/netfilter/nf_nat.h
NF_NAT_RANGE_MAP_IPS = 1
NF_NAT_RANGE_PROTO_SPECIFIED = 2
NF_NAT_RANGE_PROTO_RANDOM = 4
NF_NAT_RANGE_PERSISTENT = 8
NF_NAT_RANGE_PROTO_RANDOM_FULLY = 16
NF_NAT_RANGE_PROTO_OFFSET = 32
NF_NAT_RANGE_NETMAP = 64
NF_NAT_RANGE_PROTO_RANDOM_ALL = NF_NAT_RANGE_PROTO_RANDOM | NF_NAT_RANGE_PROTO_RANDOM_FULLY

NAT_DONE_MASK = IPS_SRC_NAT_DONE | IPS_DST_NAT_DONE
_DONE = (IPS_SRC_NAT_DONE, IPS_DST_NAT_DONE)
_BIT = (IPS_SRC_NAT, IPS_DST_NAT)
INADDR_LOOPBACK = 0x7F000001
GRE_MANIP_SIZE = 8  # sizeof(struct pptp_gre_header) - 8


class NatRange(NamedTuple):
    """struct nf_nat_range2: what a rule allows the translation to be. Ports also stand for ICMP ids."""

    min_addr: int = 0
    max_addr: int = 0
    min_port: int = 0
    max_port: int = 0
    base_port: int = 0
    flags: int = 0


def hook2manip(hook: int) -> int:
    """HOOK2MANIP: PREROUTING and OUTPUT decide about the destination, INPUT and POSTROUTING about the source."""
    return MANIP_SRC if hook in (NF_INET_POST_ROUTING, NF_INET_LOCAL_IN) else MANIP_DST


def initialized(conn: Conn, manip: int) -> bool:
    """nf_nat_initialized()"""
    return bool(conn.status & _DONE[manip])


# ------------------------------------------------------------------------------------------ the decision


def setup_info(ctx: Ctx, skb: Skb, rng: NatRange, manip: int) -> Verdict:
    """nf_nat_setup_info() for the packet's entry, as NAT targets call it; the packet is rewritten at once.

    (The kernel rewrites it when the chain has returned; nothing can look at it in between.)
    """
    conn = ctx.ct(skb)
    if conn is None or conn.confirmed:
        return V_ACCEPT
    if initialized(conn, manip):
        return Verdict(
            DROP, reason="dropped_by_rule", text=f"{MANIP_NAME[manip]} NAT of this connection is decided already"
        )
    _setup(ctx, conn, rng, manip)
    return packet(ctx, skb)


def _setup(ctx: Ctx, conn: Conn, rng: NatRange, manip: int) -> Conn:
    """nf_nat_setup_info(): find the tuple, turn the expected reply round, set the status bits."""
    table = ctx.hs.ct
    current = invert(conn.tuples[REPLY])
    assert current is not None
    chosen = get_unique_tuple(ctx, conn, current, rng, manip)
    status = conn.status | _DONE[manip]
    tuples = conn.tuples
    if chosen != current:
        reply = invert(chosen)
        assert reply is not None
        tuples = (conn.tuples[ORIGINAL], reply)
        status |= _BIT[manip]
    conn = table.update(common.current(ctx, conn), tuples=tuples, status=status)
    if manip == MANIP_SRC:
        key = _source_key(conn.zones, conn.tuples[ORIGINAL])
        table.by_source[key] = (*table.by_source.get(key, ()), conn.conn_id)
    return conn


def _source_key(zones: tuple[int, int], t: Tuple) -> tuple[Any, ...]:
    return (zones[ORIGINAL], t.family, t.proto, t.src, t.sport)


def null_binding(ctx: Ctx, conn: Conn, manip: int) -> Conn:
    """__nf_nat_alloc_null_binding(): no rule decided; the address stays, the port moves where it must."""
    reply = conn.tuples[REPLY]
    addr = reply.dst if manip == MANIP_SRC else reply.src
    return _setup(ctx, conn, NatRange(addr, addr, flags=NF_NAT_RANGE_MAP_IPS), manip)


def follow_master(ctx: Ctx, conn: Conn, master: Conn, expectation: Expectation) -> Conn:
    """nf_nat_follow_master(): an expected connection is translated as the one that announced it."""
    other = master.tuples[1 - expectation.direction]
    conn = _setup(ctx, conn, NatRange(other.dst, other.dst, flags=NF_NAT_RANGE_MAP_IPS), MANIP_SRC)
    port = expectation.saved_port if expectation.saved_port is not None else expectation.dport
    assert isinstance(port, int)  # whoever announces a drawn port says what it leads to
    flags = NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED
    return _setup(ctx, conn, NatRange(other.src, other.src, port, port, flags=flags), MANIP_DST)


def get_unique_tuple(ctx: Ctx, conn: Conn, orig: Tuple, rng: NatRange, manip: int) -> Tuple:
    """get_unique_tuple(): keep what fits, else reuse this source's mapping, else choose address and port."""
    flags = rng.flags
    random = flags & NF_NAT_RANGE_PROTO_RANDOM_ALL
    if manip == MANIP_SRC and not random:
        if _in_range(ctx, orig, rng):
            if not used_new(ctx, conn, orig):
                return orig
        else:
            found = find_appropriate_src(ctx, conn, orig, rng)
            if found is not None and not used(ctx, conn, found):
                return found
    t = find_best_ips_proto(conn, orig, rng, manip)
    if not random:
        if flags & NF_NAT_RANGE_PROTO_SPECIFIED:
            if (
                not flags & NF_NAT_RANGE_PROTO_OFFSET
                and in_port_range(ctx, t, manip, rng.min_port, rng.max_port)
                and (rng.min_port == rng.max_port or not used(ctx, conn, t))
            ):
                return t
        elif not used(ctx, conn, t):
            return t
    ports = (rng.min_port, rng.max_port) if flags & NF_NAT_RANGE_PROTO_SPECIFIED else None
    base = rng.base_port if flags & NF_NAT_RANGE_PROTO_OFFSET else None
    return unique_port(ctx, conn, t, manip, ports, base, bool(random))


def _in_range(ctx: Ctx, t: Tuple, rng: NatRange) -> bool:
    """nf_in_range()"""
    if rng.flags & NF_NAT_RANGE_MAP_IPS and not rng.min_addr <= t.src <= rng.max_addr:
        return False
    if not rng.flags & NF_NAT_RANGE_PROTO_SPECIFIED:
        return True
    return in_port_range(ctx, t, MANIP_SRC, rng.min_port, rng.max_port)


def find_appropriate_src(ctx: Ctx, conn: Conn, orig: Tuple, rng: NatRange) -> Tuple | None:
    """find_appropriate_src(): how this source address and port is mapped already, the newest mapping first."""
    table = ctx.hs.ct
    own: list[Tuple] = []
    dumped: list[Tuple] = []  # their order in the bucket is in no dump
    for conn_id in reversed(table.by_source.get(_source_key(conn.zones, orig), ())):
        other = table.entries.get(conn_id)
        if other is None or other.conn_id == conn.conn_id or conntrack.expired(ctx, other):
            continue
        mapped = invert(other.tuples[REPLY])
        if mapped is None:
            continue
        result = _take_source(mapped, orig)
        if _in_range(ctx, result, rng):
            (dumped if other.where is not None else own).append(result)
    if own:
        return own[0]
    choices = list(dict.fromkeys(dumped))
    if len(choices) < 2:
        return choices[0] if choices else None
    options = [Option(None, f"{format_addr(t.family, t.src)}:{t.sport}", t) for t in choices]
    found: Tuple = ctx.run.choose("which of several live mappings of this source is found first", options)
    return found


def _take_source(mapped: Tuple, orig: Tuple) -> Tuple:
    """Source part of one tuple, the rest of another (ICMP: the id is the source part)."""
    return orig._replace(src=mapped.src, sport=mapped.sport)


def find_best_ips_proto(conn: Conn, t: Tuple, rng: NatRange, manip: int) -> Tuple:
    """find_best_ips_proto(): the pool's address for this source and destination, by hash (little-endian hosts)."""
    if not rng.flags & NF_NAT_RANGE_MAP_IPS:
        return t
    field = "src" if manip == MANIP_SRC else "dst"
    if rng.min_addr == rng.max_addr:
        return t._replace(**{field: rng.min_addr})
    size = 4 if t.family == AF_INET else 16
    persistent = bool(rng.flags & NF_NAT_RANGE_PERSISTENT)
    source, target = _cpu_words(t.src, size), _cpu_words(t.dst, size)
    low, high = _net_words(rng.min_addr, size), _net_words(rng.max_addr, size)
    last = size // 4 - 1
    j = jhash2(source + [0] * (3 - last), 0 if persistent else target[last] ^ zone_id(conn.zones))
    words: list[int] = []
    full_range = False
    for i in range(last + 1):
        base, dist = (0, 0xFFFFFFFF) if full_range else (low[i], high[i] - low[i] + 1)
        word = (base + reciprocal_scale(j, dist)) & 0xFFFFFFFF
        words.append(word)
        full_range = full_range or word != high[i]
        if not persistent:
            # For DNAT the destination in the tuple has been overwritten by now.
            j ^= target[i] if manip == MANIP_SRC else int.from_bytes(word.to_bytes(4, "big"), "little")
    chosen = 0
    for word in words:
        chosen = chosen << 32 | word
    return t._replace(**{field: chosen})


def _net_words(addr: int, size: int) -> list[int]:
    raw = addr.to_bytes(size, "big")
    return [int.from_bytes(raw[i : i + 4], "big") for i in range(0, size, 4)]


def _cpu_words(addr: int, size: int) -> list[int]:
    """The 32-bit words of an address in network byte order, as a little-endian CPU reads them."""
    raw = addr.to_bytes(size, "big")
    return [int.from_bytes(raw[i : i + 4], "little") for i in range(0, size, 4)]


# ---------------------------------------------------------------------------------------------- targets


def masquerade(ctx: Ctx, skb: Skb, rng: NatRange) -> Verdict:
    """nf_nat_masquerade_ipv4/6(): the source becomes an address of the device that the packet leaves by."""
    conn = ctx.ct(skb)
    if conn is None:
        return V_ACCEPT
    if skb.family == AF_INET and conn.tuples[ORIGINAL].src == 0:
        return V_ACCEPT
    out = ctx.outdev or ""
    addr = _masquerade_address(ctx, skb, out)
    if not addr:
        text = f"MASQUERADE on {ctx.host.name} found no address on {out or 'the outgoing device'} or any other device"
        return Verdict(DROP, reason="masquerade_no_address", text=text)
    if not conn.confirmed:
        ctx.hs.ct.update(conn, masq_ifindex=ifindex(ctx.host, out))
    flags = rng.flags | NF_NAT_RANGE_MAP_IPS
    return setup_info(ctx, skb, rng._replace(min_addr=addr, max_addr=addr, flags=flags), MANIP_SRC)


def _masquerade_address(ctx: Ctx, skb: Skb, out: str) -> int | None:
    from . import routing

    if skb.family != AF_INET:
        return _source_v6(ctx.host, out, skb.dst)
    gateway = getattr(skb.rt, "gateway", None)
    if gateway is not None and getattr(skb.rt, "gateway_family", AF_INET) != AF_INET:
        gateway = None  # rt_nexthop(): an IPv6 gateway has no say
    return routing.select_source(ctx, out, skb.dst if gateway is None else gateway)


def _source_v6(host: Host, dev: str, dst: int) -> int | None:
    """The part of ipv6_dev_get_saddr() that matters for global destinations: scope, preferred, longest match."""
    usable = [a for a in host.addresses_of(dev, 10) if not a.tentative and not is_loopback(10, a.local)]
    if not usable:
        return None

    def rank(addr: Any) -> tuple[Any, ...]:
        same = 128 - (addr.local ^ dst).bit_length()
        return (addr.local == dst, addr.scope == 0 or dst >> 118 == 0x3FA, not addr.deprecated, same)

    return max(usable, key=rank).local


def ifindex(host: Host, dev: str) -> int:
    """A device's index; for one that no dump lists, a number that no real device has."""
    link = host.links.get(dev)
    if link is not None:
        return link.ifindex
    from zlib import crc32

    return -1 - crc32(dev.encode())


def redirect(ctx: Ctx, skb: Skb, rng: NatRange) -> Verdict:
    """nf_nat_redirect_ipv4/6(): the destination becomes this host: loopback, or the receiving device's address."""
    if ctx.hook == NF_INET_LOCAL_OUT:
        addr: int | None = INADDR_LOOPBACK if skb.family == AF_INET else 1
    else:
        addr = _redirect_address(ctx.host, ctx.indev or "", skb)
    if not addr:
        text = f"REDIRECT on {ctx.host.name}: {ctx.indev} has no address"
        return Verdict(DROP, reason="redirect_no_address", text=text)
    flags = rng.flags | NF_NAT_RANGE_MAP_IPS
    return setup_info(ctx, skb, rng._replace(min_addr=addr, max_addr=addr, flags=flags), MANIP_DST)


def _redirect_address(host: Host, dev: str, skb: Skb) -> int | None:
    """The first of the device's list (primaries stand before secondaries); IPv6: usable and of the same scope."""
    found = host.addresses_of(dev, skb.family)
    if skb.family == AF_INET:
        first = next((a for a in found if not a.secondary), found[0] if found else None)
        return first.local if first is not None else None
    link_local = skb.dst >> 118 == 0x3FA
    return next((a.local for a in found if not a.tentative and (a.local >> 118 == 0x3FA) == link_local), None)


# ------------------------------------------------------------------------------------------ the dispatcher


def nat_hook(
    ctx: Ctx, skb: Skb, chains: Sequence[BaseHook], run_chain: Callable[[BaseHook], Verdict]
) -> Verdict:  # fmt: skip
    """nf_nat_ipv4_fn(), nf_nat_inet_fn(): ask the chains about a new connection, then rewrite the packet."""
    conn = ctx.ct(skb)
    if conn is None:
        return V_ACCEPT
    if skb.ctinfo in (IP_CT_RELATED, IP_CT_RELATED_REPLY) and skb.proto in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        return icmp_reply_translation(ctx, skb, conn, bool(chains))
    manip = hook2manip(ctx.hook)
    if skb.ctinfo in (IP_CT_NEW, IP_CT_RELATED, IP_CT_RELATED_REPLY) and not initialized(conn, manip):
        return _decide(ctx, skb, conn, manip, chains, run_chain)
    if _oif_changed(ctx, skb, conn):
        common.kill(ctx, conn, skb)
        text = (
            f"the connection was masqueraded for another device and now leaves {ctx.host.name} by {ctx.outdev}: "
            "its entry is deleted, the next packet starts afresh"
        )
        ctx.step("nat", note=text, verdict=DROP, where=conn.where)
        return Verdict(DROP, reason="masquerade_interface_changed", text=text)
    return _apply_known(ctx, skb, conn, manip, bool(chains))


def _decide(ctx: Ctx, skb: Skb, conn: Conn, manip: int, chains: Sequence[BaseHook],
            run_chain: Callable[[BaseHook], Verdict]) -> Verdict:  # fmt: skip
    """The chains in order until one sets the translation up; none does: null binding."""
    for base in chains:
        verdict = run_chain(base)
        if verdict.code != ACCEPT:
            return verdict
        conn = common.current(ctx, conn)
        if initialized(conn, manip):
            return packet(ctx, skb)
    before = conn.tuples[REPLY]
    conn = null_binding(ctx, conn, manip)
    fields = snapshot_fields(skb)
    verdict = packet(ctx, skb)
    _note_null_binding(ctx, conn, before, manip, diff(fields, skb), bool(chains))
    return verdict


def _note_null_binding(ctx: Ctx, conn: Conn, before: Tuple, manip: int, changes: dict[str, Any], asked: bool) -> None:
    """Record that nothing is translated from now on, or that a port had to move although no rule asked."""
    if conn.tuples[REPLY] != before:
        holder = ctx.hs.ct.by_tuple.get((conn.zones[REPLY], before))
        other = ctx.hs.ct.entries.get(holder[0]) if holder else None
        whose = f"entry #{other.conn_id} ({conntrack.entry_text(other)})" if other else "another entry"
        note = (
            f"no rule translates this connection, but its reply would look like a packet of {whose}: its port changes"
        )
        _nat_step(ctx, note, changes, other)
    elif asked:
        _nat_step(ctx, f"no rule matched: {MANIP_NAME[manip]} NAT of this connection is decided: none", {}, None)


def _nat_step(ctx: Ctx, note: str, changes: dict[str, Any], conn: Conn | None) -> None:
    ctx.step(
        "nat",
        table="nat",
        chain=HOOK_NAME[ctx.hook],
        note=note,
        changes=changes,
        conntrack=f"#{conn.conn_id}" if conn is not None else None,
        where=conn.where if conn is not None else None,
    )


def _apply_known(ctx: Ctx, skb: Skb, conn: Conn, manip: int, asked: bool) -> Verdict:
    """An entry that is decided: rewrite by it, and say that no chain was asked."""
    fields = snapshot_fields(skb)
    verdict = packet(ctx, skb)
    changes = diff(fields, skb)
    if verdict is not V_ACCEPT or (not changes and not asked):
        return verdict
    since = f"{MANIP_NAME[manip]} NAT of this connection was decided when entry #{conn.conn_id} was made"
    if conn.where is not None:
        since += f" ({conn.where})"
    if changes:
        note = f"translated by entry #{conn.conn_id}" + (f"; rules not consulted: {since}" if asked else "")
    else:
        note = f"not consulted: {since}"
    _nat_step(ctx, note, changes, conn)
    return V_ACCEPT


def _oif_changed(ctx: Ctx, skb: Skb, conn: Conn) -> bool:
    """nf_nat_oif_changed(): a masqueraded connection leaves by another device than it began on."""
    if ctx.hook != NF_INET_POST_ROUTING or ctinfo2dir(skb.ctinfo or 0) != ORIGINAL:
        return False
    if conn.masq_ifindex:
        return conn.masq_ifindex != ifindex(ctx.host, ctx.outdev or "")
    return conn.where is not None and bool(conn.status & IPS_SRC_NAT) and _dumped_for_another_device(ctx, conn)


def _dumped_for_another_device(ctx: Ctx, conn: Conn) -> bool:
    """Whether a dumped entry was masqueraded for a device that the packet doesn't leave by: no dump says either, but
    MASQUERADE takes an address of that device, and only where a rule with it exists."""
    source, family = conn.tuples[REPLY].dst, conn.tuples[REPLY].family
    owners = {a.dev for a in ctx.host.addresses if a.family == family and a.local == source}
    if not owners or ctx.outdev in owners:
        return False
    names = {r.target.name for t in ctx.host.tables if t.name == "nat" for r in t.all_rules() if r.target is not None}
    if "MASQUERADE" not in names:
        return False
    if not names & {"SNAT", "NETMAP", "SAME"}:
        return True
    return ctx.unknown(
        f"whether entry #{conn.conn_id} was made by MASQUERADE (then it is deleted, since its packets now leave by "
        f"{ctx.outdev}) or by another rule: no dump says",
        "missing_input",
        conn.where,
    )


# ----------------------------------------------------------------------------------------- the rewriting


def _status_bit(manip: int, direction: int) -> int:
    """Which translation this hook undoes or does: replies go the other way round."""
    bit = _BIT[manip]
    return bit ^ IPS_NAT_MASK if direction == REPLY else bit


def packet(ctx: Ctx, skb: Skb) -> Verdict:
    """nf_nat_packet(), nf_nat_manip_pkt(): make the packet look like the inverse of the other direction."""
    conn = ctx.ct(skb)
    if conn is None or skb.ctinfo is None:
        return V_ACCEPT
    manip, direction = hook2manip(ctx.hook), ctinfo2dir(skb.ctinfo)
    if not conn.status & _status_bit(manip, direction):
        return V_ACCEPT
    target = invert(conn.tuples[1 - direction])
    if target is None:
        return V_ACCEPT
    if _too_short(skb):
        return _short_verdict(ctx)
    _manip(ctx, skb, target, manip)
    return V_ACCEPT


def _too_short(skb: Skb) -> bool:
    """gre_manip_pkt(): half of the optional fields is touched whether it is there or not (skb_ensure_writable). The
    trackers of other protocols have refused such a packet before."""
    header = 20 + len(skb.ip_options) if skb.family == AF_INET else 40
    return skb.proto == IPPROTO_GRE and skb.length < header + GRE_MANIP_SIZE


def _short_verdict(ctx: Ctx) -> Verdict:
    text = f"NAT on {ctx.host.name} drops a GRE packet that has less than {GRE_MANIP_SIZE} bytes behind its IP header"
    ctx.step("nat", verdict=DROP, note=text)
    return Verdict(DROP, reason="nat_packet_too_short", text=text)


def _manip(ctx: Ctx, skb: Skb, target: Tuple, manip: int) -> None:
    """nf_nat_ipv4_manip_pkt(), l4proto_manip_pkt(): one address and its port, or the ICMP id."""
    if keyed_by_ports(ctx.host, target.proto) and skb.proto == target.proto:
        if manip == MANIP_SRC:
            skb.sport = ctx.ws.known(target.sport)
        else:
            skb.dport = ctx.ws.known(target.dport)
    elif target.proto in ICMP_PROTOCOLS and skb.proto == target.proto and _has_id(skb):
        skb.icmp_id = ctx.ws.known(target.sport)
    if manip == MANIP_SRC:
        skb.src = target.src
    else:
        skb.dst = target.dst


def _has_id(skb: Skb) -> bool:
    """icmp_manip_pkt(): only queries and their answers have an id."""
    return icmp.invert_type(skb.proto, skb.icmp_type) is not None


def icmp_reply_translation(ctx: Ctx, skb: Skb, conn: Conn, asked: bool = False) -> Verdict:
    """nf_nat_icmp_reply_translation(): an error is translated like the flow it is about, inside and outside."""
    manip, direction = hook2manip(ctx.hook), ctinfo2dir(skb.ctinfo or 0)
    if skb.family == AF_INET and skb.icmp_type == ICMP_REDIRECT:
        undecided = conn.status & NAT_DONE_MASK != NAT_DONE_MASK
        if undecided or conn.status & IPS_NAT_MASK:
            why = "whose NAT is not decided yet" if undecided else "that is translated"
            text = f"NAT on {ctx.host.name} drops the ICMP redirect: it is about a connection {why}"
            ctx.step("nat", verdict=DROP, note=text)
            return Verdict(DROP, reason="redirect_of_translated_flow", text=text)
    if not conn.status & _status_bit(manip, direction):
        return V_ACCEPT
    other = conn.tuples[1 - direction]
    fields = snapshot_fields(skb)
    inner_fields = snapshot_fields(skb.inner) if skb.inner is not None else []
    if skb.inner is not None:
        if _too_short(skb.inner):
            return _short_verdict(ctx)
        _manip(ctx, skb.inner, other, 1 - manip)
    target = invert(other)
    if target is not None:
        if manip == MANIP_SRC:
            skb.src = target.src
        else:
            skb.dst = target.dst
    changes: dict[str, Any] = diff(fields, skb)
    if skb.inner is not None:
        changes.update({f"inner {name}": pair for name, pair in diff(inner_fields, skb.inner).items()})
    if changes:
        note = f"translated like entry #{conn.conn_id}, which the error is about, together with the packet it quotes"
        _nat_step(ctx, note + ("; rules are never consulted for an ICMP error" if asked else ""), changes, conn)
    return V_ACCEPT


__all__ = [
    "IPS_SEQ_ADJUST", "MANIP_DST", "MANIP_SRC", "NF_NAT_RANGE_MAP_IPS", "NF_NAT_RANGE_NETMAP", "NF_NAT_RANGE_PERSISTENT",
    "NF_NAT_RANGE_PROTO_OFFSET", "NF_NAT_RANGE_PROTO_RANDOM", "NF_NAT_RANGE_PROTO_RANDOM_FULLY",
    "NF_NAT_RANGE_PROTO_SPECIFIED", "NatRange", "masquerade", "nat_hook", "redirect", "setup_info",
]  # fmt: skip
