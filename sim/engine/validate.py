"""Source validation of received packets: rp_filter, own addresses, redirects (fib_frontend.c fib_validate_source)."""

from __future__ import annotations

from ..model.addr import AF_INET, format_addr
from ..model.packet import IPPROTO_AH, IPPROTO_ESP, Skb
from ..model.result import Reason
from ..model.where import Where
from ..model.world import Host
from ..record import NamedTuple
from .fib_rules import assume_rules_untouched, dissects, fib_lookup, has_custom_rules, local_index
from .fib_table import EINVAL, EXDEV, Flow, Hit, IdentityCache, Miss, table_lookup, uses_dev
from .routing_words import decision
from .run import Ctx
from .source import gateway_of, has_address, loopback_name, own_address


class Checked(NamedTuple):
    """``errno`` 0: accepted. ``onlink``: the sender is reached without a gateway (what redirects ask)."""

    errno: int = 0
    onlink: bool = False
    reason: Reason | None = None


def dissect(ctx: Ctx, skb: Skb, flow: Flow, swap: bool = False) -> None:
    """fib4_rules_early_flow_dissect: protocol and ports, only if some rule could ask for them."""
    if not dissects(ctx.host, skb.family):
        return
    flow.proto = skb.proto
    sport, dport = skb.sport, skb.dport
    if skb.proto in (IPPROTO_ESP, IPPROTO_AH):  # the first four bytes are taken for ports
        sport, dport = skb.spi >> 16, skb.spi & 0xFFFF
    elif not skb.has_ports:
        sport = dport = 0
    if skb.mf or skb.frag:
        sport = dport = 0
    flow.sport, flow.dport = (dport, sport) if swap else (sport, dport)


_cache = IdentityCache()


def has_custom_local_routes(host: Host) -> bool:
    """Whether somebody added a route of type local by hand (fib_has_custom_local_routes)."""
    tables = tuple(routes for (family, _), routes in host.routes.items() if family == AF_INET)

    def any_custom() -> bool:
        return any(r.type == "local" and r.protocol not in ("kernel", "") for routes in tables for r in routes)

    return _cache.get(tables, any_custom) if tables else False


def rp_filter(ctx: Ctx, dev: str) -> int:
    return ctx.conf(dev, "rp_filter", 0, "max")


def rp_filter_where(ctx: Ctx, dev: str) -> Where | None:
    """The sysctl line that asks for the check: of the device if that alone suffices, else of all."""
    mine = f"net.ipv4.conf.{dev.replace('.', '/')}.rp_filter"
    if ctx.sysctl_int(mine, 0):
        return ctx.where_sysctl(mine)
    return ctx.where_sysctl("net.ipv4.conf.all.rp_filter")


def validate_source(ctx: Ctx, skb: Skb, dst: int, indev: str, outdev: str | None) -> Checked:
    """fib_validate_source. ``dst``: 0 for broadcast; ``outdev``: None for local delivery."""
    strict = rp_filter(ctx, indev)
    redirects = outdev == indev and bool(ctx.conf(indev, "send_redirects", 1))
    if strict or redirects:
        return _full_check(ctx, skb, dst, indev, outdev, strict)
    own = own_address(ctx.host, AF_INET, skb.src) is not None
    plain = not own and _plain_source(ctx, skb)
    if plain:
        return Checked()
    if ctx.conf(indev, "accept_local"):
        return Checked()
    if has_custom_local_routes(ctx.host) or has_custom_rules(ctx.host, AF_INET):
        return _full_check(ctx, skb, dst, indev, outdev, strict)
    if own:
        return _own_address(ctx, skb, indev)
    # An attached broadcast address and the like: accepted unless a policy rule has ever been touched.
    full = _full_check(ctx, skb, dst, indev, outdev, strict)
    return full if full.errno and not assume_rules_untouched(ctx, AF_INET) else Checked()


def _plain_source(ctx: Ctx, skb: Skb) -> bool:
    """Whether neither check could object: every lookup of the source ends in a unicast route or in nothing."""
    if has_custom_rules(ctx.host, AF_INET) or has_custom_local_routes(ctx.host):
        return False
    index = local_index(ctx, AF_INET, skb.src)
    found = table_lookup(ctx, index, Flow(AF_INET, skb.src))
    return not isinstance(found, Hit) or found.route.type == "unicast"


def _own_address(ctx: Ctx, skb: Skb, indev: str) -> Checked:
    source = format_addr(AF_INET, skb.src)
    text = f"the source {source} is {ctx.host.name}'s own address and accept_local is 0 on {indev} (martian source)"
    where = ctx.where_sysctl(f"net.ipv4.conf.{indev.replace('.', '/')}.accept_local")
    return Checked(EINVAL, False, Reason("accept_local_off", text, where))


def _full_check(ctx: Ctx, skb: Skb, dst: int, indev: str, outdev: str | None, strict: int) -> Checked:
    """__fib_validate_source."""
    host = ctx.host
    flow = Flow(AF_INET, skb.src, dst, outdev or loopback_name(host), tos=skb.tos & 0xFC)
    if skb.mark and ctx.conf(indev, "src_valid_mark"):
        flow.mark = skb.mark
    dissect(ctx, skb, flow, swap=True)
    found = fib_lookup(ctx, flow)
    if isinstance(found, Miss):
        return _last_resort(ctx, skb, indev, strict, found)
    kind = found.route.type
    if kind != "unicast" and (kind != "local" or not ctx.conf(indev, "accept_local")):
        if kind == "local":
            return _own_address(ctx, skb, indev)
        text = f"the source {format_addr(AF_INET, skb.src)} is a {kind} address here (martian source)"
        return Checked(EINVAL, False, Reason("martian_source", text, found.route.where))
    if uses_dev(host, found.route, indev) or (kind == "local" and indev == loopback_name(host)):
        return Checked(0, found.leg is not None and gateway_of(ctx, found.route, found.leg) is None)
    if not has_address(host, AF_INET, indev):
        return _last_resort(ctx, skb, indev, strict, found)
    if strict == 1:
        return _rp_failed(ctx, skb, indev, strict, found)
    flow.oif = indev
    again = fib_lookup(ctx, flow, ignore_linkstate=True)
    if isinstance(again, Hit) and again.route.type == "unicast":
        return Checked(0, again.leg is not None and gateway_of(ctx, again.route, again.leg) is None)
    return Checked()


def _last_resort(ctx: Ctx, skb: Skb, indev: str, strict: int, found: Hit | Miss) -> Checked:
    return _rp_failed(ctx, skb, indev, strict, found) if strict else Checked()


def _rp_failed(ctx: Ctx, skb: Skb, indev: str, strict: int, found: Hit | Miss) -> Checked:
    leg = found.leg if isinstance(found, Hit) else None
    back = decision(found.rule, found.route, leg) or "no route"
    mode = "strict" if strict == 1 else "loose"
    text = (
        f"reverse path filter ({mode}, rp_filter={strict}) on {indev}: the way back to"
        f" {format_addr(AF_INET, skb.src)} is not through {indev} ({back})"
    )
    return Checked(EXDEV, False, Reason("rp_filter", text, rp_filter_where(ctx, indev)))
