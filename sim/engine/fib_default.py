"""Several default routes of one metric: the first whose gateway is not known to be dead (fib_select_default)."""

from __future__ import annotations

from .fib_rules import has_custom_rules, shared_trie
from .fib_table import TOS_MASK, Flow, Hit, Index, index_of, leg_dead, legs_of
from .neigh_state import neighbour_state, state_is_valid
from .run import Ctx


def _index(ctx: Ctx, hit: Hit, family: int) -> Index | None:
    if not has_custom_rules(ctx.host, family) and hit.route.table in (254, 255):
        return shared_trie(ctx.host)
    return index_of(ctx.host, family, hit.route.table)


def select_default(ctx: Ctx, flow: Flow, hit: Hit) -> Hit:
    """The default route to use instead of ``hit``, or ``hit`` itself."""
    if hit.route.prefix.plen or hit.route.type != "unicast":
        return hit
    index = _index(ctx, hit, flow.family)
    if index is None or index.defaults < 2:
        return hit
    last_resort: Hit | None = None
    for order, candidate in enumerate(_equals(ctx, index, flow, hit)):
        leg = candidate.leg
        assert leg is not None and leg.dev is not None and leg.via is not None
        state = neighbour_state(ctx, leg.via_family, leg.dev, leg.via)
        if state is None or state_is_valid(state):
            return candidate
        if last_resort is None and order >= 0 and state.upper() != "INCOMPLETE":
            last_resort = candidate
    return last_resort or hit


def _equals(ctx: Ctx, index: Index, flow: Flow, hit: Hit) -> list[Hit]:
    """The gatewayed unicast defaults of the metric and scope of ``hit``, from it on."""
    found: list[Hit] = []
    for route in index.matching(flow.dst):
        if route.prefix.plen or route.table != hit.route.table or route.metric != hit.route.metric:
            continue
        if route.tos and route.tos != flow.tos & TOS_MASK:
            continue
        legs = legs_of(ctx.host, route)
        if route.type != "unicast" or route.scope != hit.route.scope or not legs or legs[0].via is None:
            continue
        if legs[0].dev is None or leg_dead(ctx, route, legs[0]):
            continue
        if not found and route is not hit.route:
            return []
        found.append(Hit(route, legs[0], hit.rule))
    return found if len(found) > 1 else []
