"""``-m connlimit``: how many live connections share a masked address. net/netfilter/xt_connlimit.c, nf_conncount.c.

The kernel counts the connections whose packets reached this rule and that still exist; TCP ones in TIME_WAIT or CLOSE
no longer count. What it had counted before is in no dump: every entry of conntrack.txt with that address is assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine import conntrack
from ..model.addr import BITS, format_addr, mask_of
from ..model.conntrack import IPS_ASSURED, IPS_CONFIRMED, Conn, Tuple
from ..model.packet import IPPROTO_TCP
from ..model.rule import HotDrop, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U32, assume_fresh, by_name, entry, is_fresh, number, opt, prefix_length, said, transport_ports

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

Counted = tuple[int, Tuple]  # zone of the original direction, original tuple
MAX_COLLECT = 64  # CONNCOUNT_GC_MAX_COLLECT


@match("connlimit", doc="-m connlimit --connlimit-above 2 --connlimit-mask 24 --connlimit-saddr")
@dataclass(frozen=True, slots=True)
class Connlimit(Match):
    """``above``: matches beyond ``limit``, otherwise up to it."""

    tracks = True
    options = (
        Opt("--connlimit-upto", 1, True),
        Opt("--connlimit-above", 1, True),
        Opt("--connlimit-mask", 1),
        Opt("--connlimit-saddr", 0),
        Opt("--connlimit-daddr", 0),
    )
    limit: int
    above: bool
    plen: int = 32
    dest: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Connlimit:
        got = by_name(found)
        limits = [got[name] for name in ("--connlimit-upto", "--connlimit-above") if name in got]
        if len(limits) != 1:
            raise at.error("-m connlimit needs one of --connlimit-above, --connlimit-upto")
        if "--connlimit-saddr" in got and "--connlimit-daddr" in got:
            raise at.error("--connlimit-saddr and --connlimit-daddr exclude each other")
        plen = BITS[at.family]
        if "--connlimit-mask" in got:
            plen = prefix_length(at, "--connlimit-mask", got["--connlimit-mask"].args[0])
        one = limits[0]
        above = (one.name == "--connlimit-above") != one.negated
        return cls(number(at, one.name, one.args[0], U32), above, plen, "--connlimit-daddr" in got)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        conn = self._entry(skb, ctx)
        lists = ctx.hs.match_state.get(ctx.slot) or {}
        mask = mask_of(skb.family, self.plen)
        addr = (skb.dst if self.dest else skb.src) & mask
        zones = _zones(conn, skb)
        zone = zones[0] or zones[1]
        counted = lists.get((addr, zone)) or self._earlier(addr, mask, zone, ctx) or None
        if (addr, zone) in lists or counted:
            counted = self._add(counted or (), conn, skb, ctx, zone)
        else:
            counted = (self._own(conn, skb, ctx),)
            ctx.hs.match_state[self._swept(ctx, skb, zone)] = (ctx.now, 1)
        ctx.hs.match_state[ctx.slot] = {**lists, (addr, zone): counted}
        if not counted:
            raise HotDrop  # connlimit_mt() takes a count of 0 for a failure
        return (len(counted) > self.limit) == self.above

    def _earlier(self, addr: int, mask: int, zone: int, ctx: Ctx) -> tuple[Counted, ...]:
        """What the kernel had counted when the snapshot was taken."""
        if is_fresh(ctx):
            return ()
        assume_fresh(ctx, "-m connlimit is taken to have counted every entry of conntrack.txt with this address")
        field = "dst" if self.dest else "src"
        old = (c for c in ctx.hs.ct.confirmed() if c.where is not None)
        return tuple(
            (c.zones[0], c.tuples[0])
            for c in old
            if getattr(c.tuples[0], field) & mask == addr and (c.zones[0] or c.zones[1]) == zone
        )

    def _swept(self, ctx: Ctx, skb: Skb, zone: int) -> tuple[Any, ...]:
        """Where it is kept when a list was last looked through, and how many were left."""
        addr = (skb.dst if self.dest else skb.src) & mask_of(skb.family, self.plen)
        return "conncount", ctx.slot, addr, zone

    def _add(self, counted: tuple[Counted, ...], conn: Conn | None, skb: Skb, ctx: Ctx,
             zone: int) -> tuple[Counted, ...]:  # fmt: skip
        """__nf_conncount_add(): a list is looked through once a tick. What one packet causes happens in one tick; two
        packets with different times are taken to be further apart."""
        key = self._swept(ctx, skb, zone)
        at, left = ctx.hs.match_state.get(key) or (None, 0)
        settled = IPS_CONFIRMED | IPS_ASSURED
        if conn is not None and conn.status & settled == settled:
            if at == ctx.now:
                return counted
            # -EEXIST, nf_conncount_gc_list(): an assured connection is never added late, and goes like others when closed
            alive = ((one, _live(one, ctx)) for one in counted)
            kept = tuple(one for one, other in alive if other is not None and not _closed(other))
            ctx.hs.match_state[key] = (ctx.now, len(kept))
            return kept
        mine = self._own(conn, skb, ctx)
        confirmed = conn is not None and conn.status & IPS_CONFIRMED
        if not confirmed and at == ctx.now and len(counted) - left < MAX_COLLECT:
            return (*counted, mine)
        kept = ()
        for place, one in enumerate(counted):
            other = _live(one, ctx)
            if other is None:
                continue
            if _same(one, mine, ctx):
                return (*kept, *counted[place:])  # "already exists" ends the loop
            if not _closed(other):
                kept = (*kept, one)
        ctx.hs.match_state[key] = (ctx.now, len(kept))
        return (*kept, mine)

    def _entry(self, skb: Skb, ctx: Ctx) -> Conn | None:
        """get_ct_or_tuple_from_skb(): the packet's entry or, where it carries none, the one its addresses belong to;
        what is counted is the packet's own tuple then (_own)."""
        conn = entry(skb, ctx)
        if conn is not None and conn.conn_id:
            return conn
        found = conntrack.find_get(ctx, _zones(conn, skb), _tuple(skb, ctx))
        return conn if found is None else found[0]

    def _own(self, conn: Conn | None, skb: Skb, ctx: Ctx) -> Counted:
        """get_ct_or_tuple_from_skb()"""
        carried = entry(skb, ctx)
        if conn is not None and carried is not None and conn.conn_id == carried.conn_id != 0:
            return conn.zones[0], conn.tuples[0]
        return _zones(conn, skb)[0], _tuple(skb, ctx)

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        lists = ctx.hs.match_state.get(ctx.slot) or {}
        addr = (skb.dst if self.dest else skb.src) & mask_of(skb.family, self.plen)
        count = sum(len(counted) for (one, _), counted in lists.items() if one == addr)
        words = self.words()
        actual = f"{format_addr(skb.family, addr)}/{self.plen} has {count} connections"
        return Miss(f"{words[0]} {words[1]}", f"{said(not self.above)}more than {self.limit}", actual)

    def words(self) -> list[str]:
        out = opt("--connlimit-above" if self.above else "--connlimit-upto", False, self.limit)
        return [*out, "--connlimit-mask", str(self.plen), "--connlimit-daddr" if self.dest else "--connlimit-saddr"]


def _zones(conn: Conn | None, skb: Skb) -> tuple[int, int]:
    """nf_ct_zone() of the entry or, before conntrack, of the template that -j CT put in its place."""
    if conn is not None and conn.conn_id:
        return conn.zones
    return skb.template.zones if skb.template is not None else (0, 0)


def _tuple(skb: Skb, ctx: Ctx) -> Tuple:
    """The packet's own tuple, for a packet without entry."""
    if skb.has_ports and (skb.frag or transport_ports(skb, ctx) is None):
        raise HotDrop
    return conntrack.get_tuple(ctx.ws, skb)


def _same(a: Counted, b: Counted, ctx: Ctx) -> bool:
    """Equal, where a drawn port that is known by now counts as its number."""
    if a[0] != b[0] or a[1][:4] != b[1][:4]:
        return False
    known = ctx.ws.known
    return all(known(x) == known(y) for x, y in zip(a[1][4:], b[1][4:], strict=True))


def _live(one: Counted, ctx: Ctx) -> Conn | None:
    found = ctx.hs.ct.by_tuple.get(one)
    conn = None if found is None else ctx.hs.ct.get(found[0])
    return None if conn is None or conntrack.expired(ctx, conn) else conn


def _closed(conn: Conn) -> bool:
    """already_closed()."""
    return conn.tuples[0].proto == IPPROTO_TCP and conntrack.proto_state_name(conn) in ("TIME_WAIT", "CLOSE")
