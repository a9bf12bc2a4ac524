"""The words of ``ip route`` and ``ip rule`` as changes to a host: what-if edits of routing.

Only what a person types after ``ip route add`` / ``ip rule add``; dumps are read in ``nattrace.sim.snapshot``.
"""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..model.addr import AF_INET, AF_INET6, Prefix, parse_addr, parse_prefix
from ..model.packet import PROTO_NUMBER
from ..model.route import SCOPE_NUMBER, FibRule, Nexthop, Route
from ..model.where import Where
from ..model.world import Host

WHERE = Where("what-if")
TABLES = {"local": 255, "main": 254, "default": 253}
_ACTIONS = ("blackhole", "unreachable", "prohibit", "nop")
_ALIAS = {
    "priority": "prio", "preference": "prio", "pref": "prio", "order": "prio", "table": "lookup", "dev": "iif", "dsfield": "tos",
}  # fmt: skip
_TYPES = ("unicast", "local", "broadcast", "multicast", "unreachable", "prohibit", "blackhole", "throw")


def _table(word: str, text: str) -> int:
    if word in TABLES:
        return TABLES[word]
    return _int(word, text, "table")


def _int(word: str, text: str, what: str) -> int:
    try:
        return int(word, 0)
    except ValueError:
        raise InputError(f"{text!r}: {what}: expected a number, got {word!r}") from None


def _prefix(word: str, text: str, family: int | None) -> Prefix:
    if word in ("default", "all", "any", "0/0"):
        return Prefix(family or AF_INET, 0, 0)
    try:
        return parse_prefix(word)
    except (ValueError, OSError):
        raise InputError(
            f"{text!r}: not a network: {word!r}", remedy="example: 10.0.0.0/8 via 192.0.2.1 dev eth0"
        ) from None


def _addr(word: str, text: str) -> tuple[int, int]:
    try:
        return parse_addr(word)
    except (ValueError, OSError):
        raise InputError(f"{text!r}: not an address: {word!r}") from None


def _pairs(words: list[str], text: str, flags: tuple[str, ...], known: set[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    i = 0
    while i < len(words):
        word = words[i]
        if word in flags:
            out[word] = True
            i += 1
            continue
        if word not in known:
            raise InputError(f"{text!r}: unknown word {word!r}", remedy=f"known: {' '.join(sorted(known))}")
        if i + 1 >= len(words):
            raise InputError(f"{text!r}: {word!r} needs a value")
        out[word] = words[i + 1]
        i += 2
    return out


def parse_route(host: Host, text: str) -> Route:
    """``[TYPE] PREFIX [via GW] [dev DEV] [table T] [metric M] [src A] [mtu N] [tos N] [onlink]``."""
    words = text.split()
    kind = "unicast"
    if words and words[0] in _TYPES:
        kind = words.pop(0)
    if not words:
        raise InputError(f"{text!r}: the destination is missing", remedy="example: default via 192.0.2.1 dev eth0")
    known = {"via", "dev", "table", "metric", "src", "mtu", "tos", "scope", "proto", "preference"}
    options = _pairs(words[1:], text, ("onlink",), known)
    via = _addr(options["via"], text) if "via" in options else None
    prefix = _prefix(words[0], text, via[0] if via else None)
    family = prefix.family
    dev = options.get("dev")
    if dev is not None and host.links and dev not in host.links:
        raise InputError(
            f"{text!r}: {host.name} has no interface {dev!r}", remedy=f"interfaces: {', '.join(host.links)}"
        )
    if dev is None and via is not None:
        dev = _device_towards(host, via)
        if dev is None:
            raise InputError(f"{text!r}: the gateway is on no network of {host.name}", remedy="add dev DEV onlink")
    if dev is None and kind == "unicast":
        raise InputError(f"{text!r}: neither gateway nor device", remedy="add via ADDRESS or dev DEV")
    src = _addr(options["src"], text)[1] if "src" in options else None
    scope = SCOPE_NUMBER.get(str(options.get("scope")), 0 if via or kind != "unicast" else 253)
    hops = (Nexthop(dev, via[1] if via else None, via[0] if via else family, onlink="onlink" in options),)
    return Route(
        prefix,
        _table(options.get("table", "main"), text),
        kind,
        hops if kind in ("unicast", "local", "broadcast", "multicast") else (),
        _int(options.get("metric", options.get("preference", "0")), text, "metric"),
        _int(options.get("tos", "0"), text, "tos"),
        scope,
        src,
        "boot",
        _int(options["mtu"], text, "mtu") if "mtu" in options else None,
        text=text,
        where=WHERE,
    )


def _device_towards(host: Host, via: tuple[int, int]) -> str | None:
    family, addr = via
    near = [a for a in host.addresses if a.family == family and addr in a.network and a.local != addr]
    return max(near, key=lambda a: a.plen).dev if near else None


def add_route(host: Host, route: Route, replace: bool = False) -> Host:
    key = (route.prefix.family, route.table)
    old = host.routes.get(key, ())
    same = [r for r in old if (r.prefix, r.metric, r.tos) == (route.prefix, route.metric, route.tos)]
    if replace:
        old = tuple(r for r in old if r not in same)
    return host.with_(routes={**host.routes, key: (route, *old)}, files=host.files | {"route"})


def delete_route(host: Host, route: Route, text: str) -> Host:
    """The first route that fits what was named."""
    key = (route.prefix.family, route.table)
    old = host.routes.get(key, ())
    for i, have in enumerate(old):
        via = route.nexthops[0].via if route.nexthops else None
        fits = have.prefix == route.prefix and (not route.metric or have.metric == route.metric)
        if fits and (via is None or any(n.via == via for n in have.nexthops)):
            return host.with_(routes={**host.routes, key: old[:i] + old[i + 1 :]})
    raise InputError(f"{text!r}: {host.name} has no such route")


def parse_fib_rule(host: Host, text: str) -> FibRule:
    """``[not] [from P] [to P] [iif D] [oif D] [fwmark M[/M]] [tos N] [uidrange A-B] [prio N] lookup T | TYPE``."""
    words = text.split()
    invert = bool(words) and words[0] == "not"
    action = "table"
    for kind in _ACTIONS:
        if kind in words:
            action = kind
            words.remove(kind)
    words = [_ALIAS.get(w, w) for w in words[invert:]]
    known = {
        "from",
        "to",
        "iif",
        "oif",
        "fwmark",
        "tos",
        "uidrange",
        "prio",
        "lookup",
        "ipproto",
        "sport",
        "dport",
        "goto",
    }
    got = _pairs(words, text, (), known)
    if action == "table" and "goto" in got:
        action = "goto"
    elif action == "table" and "lookup" not in got:
        raise InputError(f"{text!r}: the table is missing", remedy="example: from 10.0.0.5 lookup 100")
    src = None if got.get("from") in (None, "all") else _prefix(got["from"], text, None)
    dst = None if got.get("to") in (None, "all") else _prefix(got["to"], text, None)
    family = next((p.family for p in (src, dst) if p is not None), AF_INET)
    mark, _, mask = str(got.get("fwmark", "")).partition("/")
    return FibRule(
        _int(got["prio"], text, "prio") if "prio" in got else _default_priority(host, family),
        family,
        invert,
        src,
        dst,
        got.get("iif"),
        got.get("oif"),
        _int(mark, text, "fwmark") if mark else None,
        _int(mask, text, "fwmark") if mask else 0xFFFFFFFF,
        _int(got["tos"], text, "tos") if "tos" in got else None,
        uid_range=_range(got.get("uidrange"), text),
        ipproto=PROTO_NUMBER.get(got["ipproto"]) or _int(got["ipproto"], text, "ipproto") if "ipproto" in got else None,
        sport=_range(got.get("sport"), text),
        dport=_range(got.get("dport"), text),
        action=action,
        table=_table(got["lookup"], text) if "lookup" in got else 0,
        goto=_int(got["goto"], text, "goto") if action == "goto" else None,
        text=text,
        where=WHERE,
    )


def _range(word: str | None, text: str) -> tuple[int, int] | None:
    if word is None:
        return None
    low, dash, high = word.partition("-")
    return _int(low, text, "range"), _int(high if dash else low, text, "range")


def _default_priority(host: Host, family: int) -> int:
    """fib_default_rule_pref(): one less than the second rule's."""
    rules = _rules(host, family)
    return max(rules[1].priority - 1, 0) if len(rules) > 1 else 32765


def _rules(host: Host, family: int) -> tuple[FibRule, ...]:
    """The host's rules; where its dumps do not have them, the ones that every host starts with."""
    from ..engine.fib_rules import DEFAULT_RULES

    return host.rules.get(family) or DEFAULT_RULES[family]


def add_fib_rule(host: Host, rule: FibRule) -> Host:
    """Insert after the rules of the same priority."""
    old = _rules(host, rule.family)
    place = sum(1 for r in old if r.priority <= rule.priority)
    return host.with_(
        rules={**host.rules, rule.family: (*old[:place], rule, *old[place:])}, files=host.files | {"rule"}
    )


_NAMED = {
    "from": "src", "to": "dst", "iif": "iif", "oif": "oif", "fwmark": "fwmark", "prio": "priority", "lookup": "table",
    "tos": "tos", "uidrange": "uid_range", "ipproto": "ipproto", "sport": "sport", "dport": "dport", "goto": "goto",
}  # fmt: skip


def delete_fib_rule(host: Host, text: str) -> Host:
    """The first rule that has everything that was named; ``priority 102`` alone will do (fib_rules.c rule_find())."""
    words = [_ALIAS.get(w, w) for w in text.split()]
    if not words:
        raise InputError("ip rule del: which rule?", remedy="example: del priority 102")
    says_where = any(w in _ACTIONS or w in ("lookup", "goto") for w in words)
    wanted = parse_fib_rule(host, text if says_where else f"{text} lookup main")
    named = [field for word, field in _NAMED.items() if word in words]
    named += ["action"] if any(w in _ACTIONS for w in words) else []
    named += ["invert"] if words[0] == "not" else []
    families = (wanted.family,) if wanted.src or wanted.dst else (AF_INET, AF_INET6)
    for family in families:
        old = _rules(host, family)
        for i, have in enumerate(old):
            if all(getattr(have, field) == getattr(wanted, field) for field in named):
                return host.with_(rules={**host.rules, family: old[:i] + old[i + 1 :]})
    known = ", ".join(str(r.priority) for r in _rules(host, families[0]))
    raise InputError(f"{text!r}: {host.name} has no such rule", remedy=f"priorities in use: {known or 'none'}")


__all__ = ["AF_INET6", "add_fib_rule", "add_route", "delete_fib_rule", "delete_route", "parse_fib_rule", "parse_route"]
