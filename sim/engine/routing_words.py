"""Rules and routes in the words of ``ip rule`` and ``ip route``, for the text of a routing decision."""

from __future__ import annotations

from ..model.addr import AF_INET, format_addr
from ..model.route import FibRule, Nexthop, Route
from .fib_rules import table_name


def rule_words(rule: FibRule) -> str:
    """``100: from 10.10.1.0/24 iif eth0 lookup 100`` without its action."""
    words = [f"rule {rule.priority}:"]
    if rule.invert:
        words.append("not")
    words.append(f"from {rule.src if rule.src is not None and rule.src.plen else 'all'}")
    if rule.dst is not None and rule.dst.plen:
        words.append(f"to {rule.dst}")
    if rule.tos:
        words.append(f"tos {rule.tos:#04x}")
    if rule.dscp is not None:
        words.append(f"dscp {rule.dscp}")
    if rule.fwmark is not None:
        mask = "" if rule.fwmask == 0xFFFFFFFF else f"/{rule.fwmask:#x}"
        words.append(f"fwmark {rule.fwmark:#x}{mask}")
    words += [f"{name} {value}" for name, value in (("iif", rule.iif), ("oif", rule.oif)) if value]
    if rule.uid_range is not None:
        words.append(f"uidrange {rule.uid_range[0]}-{rule.uid_range[1]}")
    if rule.ipproto:
        words.append(f"ipproto {rule.ipproto}")
    for name, span in (("sport", rule.sport), ("dport", rule.dport)):
        if span is not None:
            words.append(f"{name} {span[0]}" if span[0] == span[1] else f"{name} {span[0]}-{span[1]}")
    return " ".join(words)


def leg_words(leg: Nexthop) -> str:
    """``via 10.0.0.1 dev eth0``."""
    words = []
    if leg.via is not None:
        words.append(f"via {format_addr(leg.via_family, leg.via)}")
    if leg.dev:
        words.append(f"dev {leg.dev}")
    return " ".join(words)


def route_words(route: Route, leg: Nexthop | None) -> str:
    """``default via 10.0.0.1 dev eth0 src 10.0.0.2 metric 5``, with the one leg that was taken."""
    prefix = "default" if not route.prefix.plen else str(route.prefix)
    bits = 32 if route.prefix.family == AF_INET else 128
    if route.prefix.plen == bits:
        prefix = format_addr(route.prefix.family, route.prefix.value)
    words = [] if route.type == "unicast" else [route.type]
    words.append(prefix)
    if leg is not None:
        words.append(leg_words(leg))
    if route.tos:
        words.append(f"tos {route.tos:#04x}")
    if route.prefsrc is not None:
        words.append(f"src {format_addr(route.prefix.family, route.prefsrc)}")
    if route.metric:
        words.append(f"metric {route.metric}")
    return " ".join(w for w in words if w)


def decision(rule: FibRule | None, route: Route | None, leg: Nexthop | None) -> str:
    """``rule 100: from 10.10.1.0/24 → table 100: default via 10.10.2.1 dev proxy-veth0``."""
    parts = []
    if rule is not None:
        parts.append(rule_words(rule))
        if route is None:
            parts.append(rule.action)
    if route is not None:
        parts.append(f"table {table_name(route.table)}: {route_words(route, leg)}")
    return " → ".join(parts)
