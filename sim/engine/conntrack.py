"""Connection tracking: lookup, new entries, confirmation. net/netfilter/nf_conntrack_core.c.

The protocols are in ``trackers``, helpers and expectations in ``helpers``, address translation in ``nat``.
Entries are immutable: whoever holds a ``Conn`` after something else ran looks it up again (``ctx.ct(skb)``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from ..model.addr import AF_INET, format_addr
from ..model.conntrack import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_EXPECTED,
    IPS_FIXED_TIMEOUT,
    IPS_HELPER,
    IPS_NAT_CLASH,
    IPS_SEEN_REPLY,
    IPS_SEQ_ADJUST,
    ORIGINAL,
    REPLY,
    Conn,
    ConntrackTable,
    Expectation,
    Tuple,
    ctinfo2dir,
)
from ..model.drawn import Domain, Drawn, Number
from ..model.packet import (
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    PROTO_NAME,
    WITH_PORTS,
    Skb,
)
from ..model.rule import DROP, NF_INET_LOCAL_OUT, V_ACCEPT, Verdict
from ..model.state import WorldState
from ..model.world import Host, Setting
from ..record import dataclass, replace
from .run import Ctx, Option
from .trackers import common, icmp, keyed_by_ports, tracker

ICMP_PROTOCOLS = (IPPROTO_ICMP, IPPROTO_ICMPV6)
CLASH_TIMEOUT_S = 1  # nf_ct_resolve_clash_harder()
NF_CT_EVICTION_RANGE = 8
MAX_SPLITS = 16  # entries that one drawn port may turn out to meet before the possibility is only noted

Zones = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Template:
    """What ``-j CT`` attaches to a packet before conntrack sees it (struct nf_conn with IPS_TEMPLATE).

    ``zones``: zone id that the original and the reply tuple are keyed with: ``--zone N`` (N, N), ``--zone-orig N``
    (N, 0), ``--zone-reply N`` (0, N). ``timeout``: name of a policy. Events only say what ctnetlink reports.
    ``by_mark``: for ``--zone mark``, whether each tuple takes the mark that the packet has when conntrack sees it.
    """

    zones: Zones = (0, 0)
    helper: str | None = None
    timeout: str | None = None
    ctevents: tuple[str, ...] = ()
    expevents: tuple[str, ...] = ()
    by_mark: tuple[bool, bool] = (False, False)

    def for_packet(self, skb: Skb) -> Template:
        """nf_ct_zone_tmpl(): the zone of ``--zone mark`` is known only now; ids have 16 bits."""
        if not any(self.by_mark):
            return self
        zone = skb.mark & 0xFFFF
        return replace(self, zones=(zone * self.by_mark[ORIGINAL], zone * self.by_mark[REPLY]), by_mark=(False, False))


NO_TEMPLATE = Template()


# ------------------------------------------------------------------------------------------- activation


def active(host: Host, family: int | None = None) -> bool:
    """Whether conntrack is hooked in (nf_ct_netns_get): something in the namespace needs it (semantics 1.6).

    ``family`` None: for any family. Entries in the snapshot prove that it was on when they were dumped.
    """
    if any(t.uses_tracking() for t in host.tables if family is None or t.family == family):
        return True
    return any(family is None or conn.tuples[0].family == family for conn in host.conns)


# ----------------------------------------------------------------------------------------------- tuples


def get_tuple(ws: WorldState, skb: Skb, host: Host | None = None) -> Tuple:
    """nf_ct_get_tuple(): what the packet is looked up by; drawn values of which one is left become numbers.

    ``host``: whose kernel looks (which protocols have ports there); None: any.
    """
    sport: Number = 0
    dport: Number = 0
    if skb.proto in WITH_PORTS and (host is None or keyed_by_ports(host, skb.proto)):
        sport, dport = ws.known(skb.sport), ws.known(skb.dport)
    elif skb.proto in ICMP_PROTOCOLS:
        sport, dport = ws.known(skb.icmp_id), skb.icmp_type << 8 | skb.icmp_code
    # GRE version 0 and protocols without a tracker: addresses alone
    return Tuple(skb.family, skb.proto, skb.src, skb.dst, sport, dport)


def invert(t: Tuple) -> Tuple | None:
    """nf_ct_invert_tuple(): what the answer looks like; None for an ICMP type that has no answer."""
    if t.proto in ICMP_PROTOCOLS:
        answer = icmp.invert_type(t.proto, int(t.dport) >> 8)  # type: ignore[arg-type]
        if answer is None:
            return None
        return Tuple(t.family, t.proto, t.dst, t.src, t.sport, answer << 8 | int(t.dport) & 0xFF)  # type: ignore[arg-type]
    return Tuple(t.family, t.proto, t.dst, t.src, t.dport, t.sport)


def zone_id(zones: Zones) -> int:
    """zone->id, whichever directions it is valid for."""
    return zones[0] or zones[1]


# ----------------------------------------------------------------------------------------------- lookup


def expired(ctx: Ctx, conn: Conn) -> bool:
    """nf_ct_is_expired(); an expired entry is invisible, and removed by whoever comes across it."""
    if conn.timeout_at is None or conn.timeout_at > ctx.now:
        return False
    delete(ctx, conn)
    return True


def _has_key(conn: Conn, direction: int, zones: Zones) -> bool:
    """nf_ct_key_equal(): the zone counts in the direction of the entry's tuple, and only confirmed entries do."""
    return conn.zones[direction] == zones[direction] and bool(conn.status & IPS_CONFIRMED)


def _may_be(a: Number, b: Number) -> bool:
    return a == b or isinstance(a, Drawn) or isinstance(b, Drawn)


def _may_equal(a: Tuple, b: Tuple) -> bool:
    """Whether two tuples agree in all that is a number, so that a drawn port alone decides."""
    return a[:4] == b[:4] and _may_be(a.sport, b.sport) and _may_be(a.dport, b.dport)


def _can_be(ws: WorldState, a: Number, b: Number) -> bool:
    """Whether a drawn value's candidates hold the other; two different draws are never taken for equal (Ctx.same)."""
    a, b = ws.known(a), ws.known(b)
    if isinstance(a, Drawn):
        a, b = b, a
    return a == b or (isinstance(b, Drawn) and not isinstance(a, Drawn) and ws.domains[b.draw_id].holds(a))


def _can_equal(ws: WorldState, a: Tuple, b: Tuple) -> bool:
    return _can_be(ws, a.sport, b.sport) and _can_be(ws, a.dport, b.dport)


def _candidates(ctx: Ctx, zone: int, t: Tuple) -> Iterator[tuple[Conn, int]]:
    """Entries that a drawn port could make equal to ``t``."""
    table = ctx.hs.ct
    if t.drawn:
        for (key_zone, other), (conn_id, direction) in tuple(table.by_tuple.items()):
            if key_zone == zone and other != t and _may_equal(other, t):
                yield table.entries[conn_id], direction
        return
    for conn_id in table.drawn:
        conn = table.entries.get(conn_id)
        if conn is None:
            continue
        for direction in (ORIGINAL, REPLY):
            other = conn.tuples[direction]
            if conn.zones[direction] == zone and other.drawn and _may_equal(other, t):
                yield conn, direction


def in_bucket(ctx: Ctx, zone: int, zones: Zones, t: Tuple, skip: int | None = None) -> tuple[Conn, int] | None:
    """One hash bucket walked for ``t``: the tuples keyed with zone id ``zone``. Returns (entry, direction)."""
    table = ctx.hs.ct
    for hit in table.at(zone, t):
        if hit[0] == skip:
            continue
        conn = table.entries[hit[0]]
        if _has_key(conn, hit[1], zones) and not expired(ctx, conn):
            return conn, hit[1]
    if not t.drawn and not table.drawn:
        return None
    found = [c for c in _candidates(ctx, zone, t) if c[0].conn_id != skip and _has_key(c[0], c[1], zones)]
    found = [c for c in found if _can_equal(ctx.ws, c[0].tuples[c[1]], t) and not expired(ctx, c[0])]
    if len(found) > MAX_SPLITS:
        ctx.run.note(
            f"{ctx.host.name}: the drawn port could coincide with one of {len(found)} entries; "
            "the answer is for the case that it does not"
        )
        return None
    for conn, direction in found:
        other = conn.tuples[direction]
        if ctx.same(other.sport, t.sport) and ctx.same(other.dport, t.dport):
            return conn, direction
    return None


def find_get(ctx: Ctx, zones: Zones, t: Tuple) -> tuple[Conn, int] | None:
    """nf_conntrack_find_get(): by the zone id of the original direction, then by that of the reply direction."""
    found = in_bucket(ctx, zones[ORIGINAL], zones, t)
    if found is None and zones[REPLY] != zones[ORIGINAL]:
        found = in_bucket(ctx, zones[REPLY], zones, t)
    return found


def delete(ctx: Ctx, conn: Conn) -> None:
    """nf_ct_delete(): the entry and its expectations leave the table at once."""
    common.kill(ctx, conn)


# ------------------------------------------------------------------------------------------ nf_conntrack_in


def track(ctx: Ctx, skb: Skb) -> Verdict:
    """nf_conntrack_in(): attach the packet's entry, or find it invalid or untracked."""
    if ctx.ct(skb) is not None or skb.ctinfo == IP_CT_UNTRACKED:
        return V_ACCEPT
    if ctx.run.alone:
        ctx.hs.ct.sweep()
    template = (skb.template or NO_TEMPLATE).for_packet(skb)
    skb.template = None
    skb.ct = skb.ctinfo = None
    if skb.frag or (ctx.hook == NF_INET_LOCAL_OUT and skb.mf):
        return V_ACCEPT  # get_l4proto(), ipv4_conntrack_local(): a single fragment has no transport header
    if skb.proto == _icmp_of(skb.family):
        verdict = _handle_icmp(ctx, skb, template)
        if verdict is not None:
            return verdict
    return _resolve(ctx, skb, template)


def _icmp_of(family: int) -> int:
    return IPPROTO_ICMP if family == AF_INET else IPPROTO_ICMPV6


def _resolve(ctx: Ctx, skb: Skb, template: Template) -> Verdict:
    """resolve_normal_ct() and what its caller does with the tracker's word."""
    for _ in range(8):  # the kernel repeats without end; each round has killed an entry
        found = find_get(ctx, template.zones, get_tuple(ctx.ws, skb, ctx.host))
        if found is None:
            conn = init_conntrack(ctx, skb, template)
            if isinstance(conn, Verdict):
                return conn
            if conn is None:
                return V_ACCEPT
            direction = ORIGINAL
        else:
            conn, direction = found
        skb.ct, skb.ctinfo = conn.conn_id, _ctinfo(conn, direction)
        word = tracker(ctx.host, conn.tuples[0].proto).packet(ctx, skb, conn)
        if word == common.ACCEPTED:
            conn = common.current(ctx, conn)
            if skb.ctinfo == IP_CT_ESTABLISHED_REPLY:
                common.set_status(ctx, conn, IPS_SEEN_REPLY)
            return V_ACCEPT
        skb.ct = skb.ctinfo = None
        if not conn.confirmed:
            ctx.hs.ct.remove(conn)
        if word != common.REPEAT:
            return V_ACCEPT
    return V_ACCEPT


def _ctinfo(conn: Conn, direction: int) -> int:
    if direction == REPLY:
        return IP_CT_ESTABLISHED_REPLY
    if conn.status & IPS_SEEN_REPLY:
        return IP_CT_ESTABLISHED
    return IP_CT_RELATED if conn.status & IPS_EXPECTED else IP_CT_NEW


def _handle_icmp(ctx: Ctx, skb: Skb, template: Template) -> Verdict | None:
    """nf_conntrack_icmpv4_error(), nf_conntrack_icmpv6_error(); None: an ordinary query, go on."""
    if skb.family == AF_INET and skb.icmp_type > icmp.NR_ICMP_TYPES:
        return V_ACCEPT
    if skb.family != AF_INET and skb.icmp_type in icmp.UNTRACKED_V6:
        skb.ctinfo = IP_CT_UNTRACKED
        return V_ACCEPT
    if not skb.is_icmp_error:
        return None
    _inet_error(ctx, skb, template)
    return V_ACCEPT


def _inet_error(ctx: Ctx, skb: Skb, template: Template) -> None:
    """nf_conntrack_inet_error(): an error belongs to the entry of the packet that it quotes."""
    if skb.inner is None:
        return
    inner = invert(get_tuple(ctx.ws, skb.inner, ctx.host))
    found = find_get(ctx, template.zones, inner) if inner is not None else None
    if found is None:
        return
    conn, direction = found
    if conn.tuples[direction].dst != skb.dst:
        ctx.run.note(
            f"{ctx.host.name}: ICMP error to {format_addr(skb.family, skb.dst)} about a flow of "
            f"{format_addr(skb.family, conn.tuples[direction].dst)}: INVALID"
        )
        return
    skb.ct = conn.conn_id
    skb.ctinfo = IP_CT_RELATED_REPLY if direction == REPLY else IP_CT_RELATED


# ----------------------------------------------------------------------------------------- new entries


def init_conntrack(ctx: Ctx, skb: Skb, template: Template) -> Conn | Verdict | None:
    """init_conntrack(): a new unconfirmed entry; None: no answer is possible; a Verdict: the table is full."""
    orig = get_tuple(ctx.ws, skb, ctx.host)
    reply = invert(orig)
    if reply is None:
        return None
    full = _make_room(ctx)
    if full is not None:
        return full
    conn = ctx.hs.ct.create(
        (orig, reply),
        zones=template.zones,
        created_at=ctx.now,
        timeout_policy=template.timeout,
        acct=((0, 0), (0, 0)) if _counting(ctx.host) else None,
    )
    expectation = _find_expectation(ctx, zone_id(template.zones), orig)
    if expectation is not None:
        return _expected(ctx, conn, expectation)
    if "helpers not heard" in ctx.hs.misc:
        from .helpers import may_be_expected

        if may_be_expected(ctx, orig):
            return ctx.hs.ct.update(conn, status=conn.status | IPS_EXPECTED)
    helper = template.helper or _automatic_helper(ctx, reply)
    if helper:
        conn = ctx.hs.ct.update(conn, helper=helper, status=conn.status | IPS_HELPER)
    return conn


def _has_connbytes(table: Any) -> bool:
    if hasattr(table, "mentions") and not table.mentions("connbytes"):
        return False  # nothing was parsed for this
    return any(m.name == "connbytes" for rule in table.all_rules() for m in rule.matches)


_connbytes: WeakKeyDictionary[Host, bool] = WeakKeyDictionary()


def _counting(host: Host) -> bool:
    """nf_conntrack_acct; where no dump says, a rule with ``-m connbytes`` has switched it on (connbytes_mt_check())."""
    setting = host.sysctl.get("net.netfilter.nf_conntrack_acct")
    if setting is not None:
        return setting.value.strip() != "0"
    known = _connbytes.get(host)
    if known is None:
        known = _connbytes[host] = any(t.uses_tracking() and _has_connbytes(t) for t in host.tables)
    return known


# nf_conntrack_helper=1 of kernels before 6.0: helpers by port of the server
_HELPER_PORTS = {
    (6, 21): "ftp", (17, 69): "tftp", (6, 5060): "sip", (17, 5060): "sip", (6, 6667): "irc", (6, 1723): "pptp",
    (17, 10080): "amanda", (17, 137): "netbios-ns", (17, 161): "snmp", (6, 6566): "sane", (6, 1720): "Q.931", (17, 1719): "RAS",
}  # fmt: skip


def _automatic_helper(ctx: Ctx, reply: Tuple) -> str | None:
    """nf_ct_lookup_helper() of older kernels: only where the dump shows that the sysctl exists and is on."""
    setting = ctx.host.sysctl.get("net.netfilter.nf_conntrack_helper")
    if setting is None or setting.value.strip() == "0" or isinstance(reply.sport, Drawn):
        return None
    return _HELPER_PORTS.get((reply.proto, reply.sport))


def _make_room(ctx: Ctx) -> Verdict | None:
    """__nf_conntrack_alloc(): beyond nf_conntrack_max an unassured entry must go (early_drop), or the packet."""
    limit, count = _limit_and_count(ctx)
    if limit is None or count < limit:
        return None
    text = f"the conntrack table of {ctx.host.name} is full ({count} of {limit} entries)"
    table = ctx.hs.ct
    victims = [c for c in table.confirmed() if not c.status & IPS_ASSURED and not expired(ctx, c)]
    if not victims and _confirmed(table) >= limit:
        return _full(ctx, text)
    if not victims:
        # The count is known, the entries are not.
        if ctx.unknown(f"{text}; whether an unassured entry can be evicted", "missing_input"):
            return None
        return _full(ctx, text)
    buckets = max(1, ctx.sysctl_int("net.netfilter.nf_conntrack_buckets", max(1, limit)))
    hit = 1 - (1 - min(1.0, NF_CT_EVICTION_RANGE / buckets)) ** (2 * len(victims))
    options = [Option(1 - hit, "no unassured entry in the eight buckets looked at", None)] if hit < 1 else []
    if len(victims) <= MAX_SPLITS:
        options += [Option(hit / len(victims), f"entry #{v.conn_id} is evicted", v) for v in victims]
    else:
        options.append(Option(hit, "some unassured entry is evicted", False))
    chosen = ctx.run.choose(text, options)
    if chosen is None:
        return _full(ctx, text)
    if chosen:
        delete(ctx, chosen)
    return None


def _confirmed(table: ConntrackTable) -> int:
    """How many entries are in the table: those that are not are among its leftovers."""
    others = (table.entries.get(i) for i in set(table.leftover))
    return len(table.entries) - sum(1 for c in others if c and (not c.confirmed or c.status & IPS_DYING))


def _full(ctx: Ctx, text: str) -> Verdict:
    """No entry for a packet that needs one: nf_conntrack_in() answers NF_DROP."""
    setting = _limit(ctx)
    ctx.step("conntrack", text=text, where=setting.where if setting else None, verdict=DROP)
    return Verdict(DROP, reason="conntrack_full", text=text)


def _limit(ctx: Ctx) -> Setting | None:
    sysctl = ctx.host.sysctl
    return sysctl.get("net.netfilter.nf_conntrack_max") or sysctl.get("net.nf_conntrack_max")


def _limit_and_count(ctx: Ctx) -> tuple[int | None, int]:
    """nf_conntrack_max where the snapshot says it (its default is far away), and how many entries there are."""
    sysctl = ctx.host.sysctl
    setting = _limit(ctx)
    if setting is None or setting.value.strip() == "0":
        return None, 0
    table = ctx.hs.ct
    count = len(table.entries) - sum(
        1 for i in table.leftover if i in table.entries and table.entries[i].status & IPS_DYING
    )
    stated = sysctl.get("net.netfilter.nf_conntrack_count")
    if stated is not None and "conntrack" not in ctx.host.files:
        count += int(stated.value)
    return int(setting.value), count


# ----------------------------------------------------------------------------------------- expectations


def _find_expectation(ctx: Ctx, zone: int, t: Tuple) -> Expectation | None:
    """nf_ct_find_expectation(): the newest one that fits; one-shot ones are used up."""
    table = ctx.hs.ct
    for expectation in reversed(table.expectations):
        if expectation.timeout_at is not None and expectation.timeout_at <= ctx.now:
            continue
        if not _fits(ctx, expectation, zone, t):
            continue
        master = table.get(expectation.master)
        if expectation.master is not None and (master is None or not master.confirmed or master.status & IPS_DYING):
            return None  # the other end cannot know of it yet
        if not expectation.permanent:
            table.expectations = tuple(e for e in table.expectations if e is not expectation)
        return expectation
    return None


def _fits(ctx: Ctx, e: Expectation, zone: int, t: Tuple) -> bool:
    """nf_ct_exp_equal(): None in the expectation is a mask of 0."""
    if (e.family, e.proto, e.dst, e.zone) != (t.family, t.proto, t.dst, zone):
        return False
    if e.src is not None and (e.src ^ t.src) & (-1 if e.src_mask is None else e.src_mask):
        return False
    return ctx.same(t.dport, e.dport) and (e.sport is None or ctx.same(t.sport, e.sport))


def _expected(ctx: Ctx, conn: Conn, expectation: Expectation) -> Conn:
    """The part of init_conntrack() for an expected connection: master, mark, and NAT that follows the master's."""
    master = ctx.hs.ct.get(expectation.master)
    conn = ctx.hs.ct.update(
        conn,
        status=conn.status | IPS_EXPECTED,
        master=expectation.master,
        mark=master.mark if master is not None else 0,
        secmark=master.secmark if master is not None else 0,
    )
    if expectation.follow_master and master is not None:
        from . import nat

        conn = nat.follow_master(ctx, conn, master, expectation)
    return conn


def expect_related(ctx: Ctx, expectation: Expectation, max_expected: int) -> bool:
    """nf_ct_expect_related(): register; False when an expectation of another master is in the way."""
    table = ctx.hs.ct
    kept: list[Expectation] = []
    for other in table.expectations:
        if other.timeout_at is not None and other.timeout_at <= ctx.now:
            continue
        same_key = (other.family, other.proto, other.dst, other.dport, other.zone) == (
            expectation.family, expectation.proto, expectation.dst, expectation.dport, expectation.zone,
        )  # fmt: skip
        overlaps = same_key and (other.src == expectation.src or None in (other.src, expectation.src))
        if not overlaps:
            kept.append(other)
        elif (other.master, other.src) != (expectation.master, expectation.src):
            return False
    mine = [e for e in kept if e.master == expectation.master]
    if max_expected and len(mine) >= max_expected:
        kept.remove(mine[0])
    table.expectations = (*kept, expectation)
    return True


# ----------------------------------------------------------------------------------------- confirmation


def confirm(ctx: Ctx, skb: Skb) -> Verdict:
    """nf_confirm(): the helper looks at the packet, then a new entry goes into the table for good."""
    conn = ctx.ct(skb)
    if conn is None:
        return V_ACCEPT
    if conn.helper and skb.ctinfo != IP_CT_RELATED_REPLY:
        from .helpers import run_helper

        verdict = run_helper(ctx, skb, conn)
        if verdict is not V_ACCEPT:
            return verdict
        conn = common.current(ctx, conn)
    if conn.status & IPS_SEQ_ADJUST and not _over_loopback(ctx) and skb.ctinfo != IP_CT_RELATED_REPLY:
        from .helpers import seqadj

        seqadj.adjust(ctx, skb, conn)
    if conn.confirmed or ctinfo2dir(skb.ctinfo or 0) != ORIGINAL:
        return V_ACCEPT
    return _confirm(ctx, skb, conn)


def _over_loopback(ctx: Ctx) -> bool:
    """nf_is_loopback_packet()"""
    link = ctx.host.links.get(ctx.indev or "")
    return link is not None and link.loopback


def _confirm(ctx: Ctx, skb: Skb, conn: Conn) -> Verdict:
    """__nf_conntrack_confirm()"""
    if conn.status & IPS_DYING:
        return Verdict(DROP, reason="conntrack_clash", text="its conntrack entry was deleted while it was on its way")
    for direction in (ORIGINAL, REPLY):
        found = in_bucket(ctx, conn.zones[direction], conn.zones, conn.tuples[direction])
        if found is not None:
            return _resolve_clash(ctx, skb, conn, found[0], direction)
    conn = conn.with_(status=conn.status | IPS_CONFIRMED, timeout_at=ctx.now + (conn.timeout_s or 0))
    ctx.hs.ct.insert(conn)
    ctx.step("confirm", conntrack=f"#{conn.conn_id}", note=entry_text(conn), where=conn.where)
    return V_ACCEPT


def _resolve_clash(ctx: Ctx, skb: Skb, loser: Conn, winner: Conn, direction: int) -> Verdict:
    """nf_ct_resolve_clash(): adopt an identical entry, keep one that only sees replies, or drop the packet."""
    allowed = tracker(ctx.host, winner.tuples[0].proto).ALLOW_CLASH
    if allowed and _can_merge(winner, loser):
        return _adopt(ctx, skb, loser, winner)
    if allowed:
        other = in_bucket(ctx, loser.zones[REPLY], loser.zones, loser.tuples[REPLY])
        if other is not None and _can_merge(other[0], loser):
            return _adopt(ctx, skb, loser, other[0])
        if other is None:
            return _insert_reply_only(ctx, loser)
        winner, direction = other[0], REPLY
    if ctx.hs.misc.get(f"nat ports exhausted #{loser.conn_id}"):
        text = f"NAT on {ctx.host.name} found no free port for {entry_text(loser)}"
        ctx.step("confirm", verdict=DROP, note=text, where=winner.where)
        return Verdict(DROP, reason="nat_ports_exhausted", text=text)
    which = "reply" if direction == REPLY else "original"
    text = (
        f"{ctx.host.name} cannot insert the connection {entry_text(loser)}: its {which} tuple is that of "
        f"entry #{winner.conn_id} ({entry_text(winner)})"
    )
    ctx.step("confirm", verdict=DROP, conntrack=f"clash with #{winner.conn_id}", note=text, where=winner.where)
    return Verdict(DROP, reason="conntrack_clash", text=text)


def _can_merge(winner: Conn, loser: Conn) -> bool:
    """nf_ct_match() or nf_ct_match_reverse()"""
    if winner.tuples == loser.tuples and winner.zones == loser.zones:
        return True
    return winner.tuples == loser.tuples[::-1] and winner.zones == loser.zones[::-1]


def _adopt(ctx: Ctx, skb: Skb, loser: Conn, winner: Conn) -> Verdict:
    """__nf_ct_resolve_clash(): the packet goes on with the entry that was there first."""
    ctx.hs.ct.remove(loser)
    skb.ct = winner.conn_id
    if winner.acct is not None:
        ctx.hs.ct.update(winner, acct=common.counted(winner, skb))
    ctx.step("confirm", conntrack=f"#{winner.conn_id}", note="adopted the identical entry that is in the table already")
    return V_ACCEPT


def _insert_reply_only(ctx: Ctx, conn: Conn) -> Verdict:
    """nf_ct_resolve_clash_harder(): hashed under its reply tuple only, gone after a second."""
    status = conn.status | IPS_FIXED_TIMEOUT | IPS_NAT_CLASH | IPS_CONFIRMED
    table = ctx.hs.ct
    conn = table.update(conn, status=status, timeout_at=ctx.now + CLASH_TIMEOUT_S)
    table.hash(conn, REPLY)
    if conn.tuples[REPLY].drawn:
        table.drawn += (conn.conn_id,)
    ctx.step(
        "confirm", conntrack=f"#{conn.conn_id}", note=f"NAT clash: {entry_text(conn)} lives a second, for replies only"
    )
    return V_ACCEPT


# ------------------------------------------------------------------------------------- for other modules


def attach(ctx: Ctx, new: Skb, old: Skb) -> None:
    """nf_ct_attach(): an error or reset about ``old`` belongs to its entry, confirmed or not, the other way round."""
    if ctx.ct(old) is None:
        return
    new.ct = old.ct
    new.ctinfo = IP_CT_RELATED_REPLY if ctinfo2dir(old.ctinfo or 0) == ORIGINAL else IP_CT_RELATED


def set_closing(ctx: Ctx, skb: Skb) -> None:
    """nf_ct_set_closing(): the flow of a packet rejected with tcp-reset is over."""
    conn = ctx.ct(skb)
    if conn is not None and conn.tuples[0].proto == IPPROTO_TCP:
        tracker(ctx.host, IPPROTO_TCP).set_closing(ctx, conn)


def pin(ws: WorldState, value: Number, number: int) -> bool:
    """A drawn value turned out to be ``number`` (it was observed). False when it cannot have been."""
    if not isinstance(value, Drawn):
        return value == number
    if not ws.domains[value.draw_id].holds(number):
        return False
    ws.domains[value.draw_id] = Domain(((number, number),))
    for name in ws.world.hosts:
        _exclude(ws, ws.host(name).ct, value, number)
    return True


def _exclude(ws: WorldState, table: ConntrackTable, value: Drawn, number: int) -> None:
    """Two tuples of one table are never equal: other draws that differ from this one in nothing else lose the number."""
    drawn = [(c.zones[d], c.tuples[d]) for i in table.drawn if (c := table.entries.get(i)) for d in (ORIGINAL, REPLY)]
    mine = [x for x in drawn if value in (x[1].sport, x[1].dport)]
    for zone, t in mine:
        for other_zone, other in drawn:
            rival = other.sport if t.sport == value else other.dport
            alike = other._replace(sport=value) if t.sport == value else other._replace(dport=value)
            if other_zone == zone and alike == t and isinstance(rival, Drawn) and rival != value:
                left = ws.domains[rival.draw_id].without(number, number)
                if left.size:
                    ws.domains[rival.draw_id] = left


def _tuple_text(t: Tuple) -> str:
    src, dst = format_addr(t.family, t.src), format_addr(t.family, t.dst)
    if t.proto in ICMP_PROTOCOLS:
        return f"{src} → {dst} id {t.sport}"
    if t.proto in WITH_PORTS:
        return f"{src}:{t.sport} → {dst}:{t.dport}"
    return f"{src} → {dst}"


def entry_text(conn: Conn) -> str:
    """``tcp 10.0.0.2:40000 → 8.8.8.8:443 | reply 8.8.8.8:443 → 5.5.5.5:40000``"""
    name = PROTO_NAME.get(conn.tuples[0].proto, str(conn.tuples[0].proto))
    return f"{name} {_tuple_text(conn.tuples[0])} | reply {_tuple_text(conn.tuples[1])}"


def tuple_json(t: Tuple) -> dict[str, Any]:
    """One direction of an entry as plain values (a drawn port stays a Drawn)."""
    out: dict[str, Any] = {
        "proto": PROTO_NAME.get(t.proto, str(t.proto)),
        "src": format_addr(t.family, t.src),
        "dst": format_addr(t.family, t.dst),
    }
    if t.proto in WITH_PORTS:
        out["sport"], out["dport"] = t.sport, t.dport
    elif t.proto in ICMP_PROTOCOLS:
        out["type"], out["code"] = int(t.dport) >> 8, int(t.dport) & 0xFF  # type: ignore[arg-type]
        out["icmp_id"] = t.sport
    return out


def proto_state_name(conn: Conn) -> str | None:
    """``ESTABLISHED``, ``COOKIE_WAIT`` … as ``conntrack -L`` prints it; None for protocols without states."""
    state = conn.proto_state
    if isinstance(state, tuple) and len(state) > 1 and isinstance(state[1], str):
        return state[1]
    return getattr(state, "name", None)


def describe(conn: Conn, now: float | None = None) -> dict[str, Any]:
    """The contract's ``conntrack`` of a hop. ``now``: to turn the deadline into the seconds that are left."""
    orig_zone, reply_zone = conn.zones
    replied = bool(conn.status & IPS_SEEN_REPLY)
    out: dict[str, Any] = {
        "state": "ESTABLISHED" if replied else "RELATED" if conn.status & IPS_EXPECTED else "NEW",
        "zone": orig_zone or reply_zone,
        "orig": tuple_json(conn.tuples[ORIGINAL]),
        "reply": tuple_json(conn.tuples[REPLY]),
        "status": conn.status_names(),
        "id": conn.conn_id,
        "mark": conn.mark,
    }
    if orig_zone != reply_zone:
        out["zone_orig"], out["zone_reply"] = orig_zone, reply_zone
    name = proto_state_name(conn)
    if name:
        out["proto_state"] = name
    if conn.helper:
        out["helper"] = conn.helper
    if conn.master is not None:
        out["master"] = conn.master
    if conn.timeout_at is not None and now is not None:
        out["timeout"] = max(0.0, conn.timeout_at - now)
    elif conn.timeout_s is not None:
        out["timeout"] = conn.timeout_s
    if conn.where is not None:
        out["where"] = str(conn.where)
    return out
