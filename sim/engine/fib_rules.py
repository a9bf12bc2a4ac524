"""Policy rules: which table a flow is looked up in (fib_rules.c of net/core, net/ipv4 and net/ipv6)."""

from __future__ import annotations

from ..model.addr import AF_INET
from ..model.route import RT_TABLE_DEFAULT, RT_TABLE_LOCAL, RT_TABLE_MAIN, FibRule
from ..model.world import Host
from .fib_table import (
    EACCES,
    EINVAL,
    ENETUNREACH,
    TOS_MASK,
    Flow,
    Hit,
    IdentityCache,
    Index,
    Miss,
    index_of,
    legs_of,
    table_lookup,
)  # fmt: skip
from .run import Ctx

TABLE_NAME = {RT_TABLE_LOCAL: "local", RT_TABLE_MAIN: "main", RT_TABLE_DEFAULT: "default"}

DEFAULT_RULES = {
    AF_INET: (
        FibRule(0, table=RT_TABLE_LOCAL),
        FibRule(32766, table=RT_TABLE_MAIN),
        FibRule(32767, table=RT_TABLE_DEFAULT),
    ),
    10: (FibRule(0, 10, table=RT_TABLE_LOCAL), FibRule(32766, 10, table=RT_TABLE_MAIN)),
}

_ACTION_ERROR = {"unreachable": ENETUNREACH, "prohibit": EACCES, "blackhole": EINVAL}


class _Policy:
    """What is worth knowing about a rule list before using it.

    ``custom``: not the kernel's own rules (fib_has_custom_rules). ``dissects``: a rule looks at protocol or ports
    of received packets (fib_rules_require_fldissect, which rules with ``iif lo`` do not raise).
    """

    __slots__ = ("custom", "dissects", "position")

    def __init__(self, family: int, rules: tuple[FibRule, ...]) -> None:
        self.custom = rules is not DEFAULT_RULES[family] and not _is_default(rules, family)
        self.dissects = any(r.iif != "lo" and (r.ipproto or r.sport or r.dport) for r in rules)
        self.position: dict[int, int] = {}
        for position, rule in enumerate(rules):
            self.position.setdefault(rule.priority, position)


def _is_default(rules: tuple[FibRule, ...], family: int) -> bool:
    plain = [(r.priority, r.table) for r in rules if r.action == "table" and matches_all(r)]
    return len(plain) == len(rules) and plain == [(r.priority, r.table) for r in DEFAULT_RULES[family]]


def matches_all(rule: FibRule) -> bool:
    """Whether a rule has no selector and no suppressor at all."""
    return (
        not (rule.invert or (rule.src and rule.src.plen) or (rule.dst and rule.dst.plen) or rule.iif or rule.oif)
        and not (rule.fwmark is not None or rule.tos or rule.dscp is not None or rule.uid_range or rule.ipproto)
        and not (rule.sport or rule.dport or rule.l3mdev or rule.tun_id)
        and rule.suppress_prefixlen is None
        and rule.suppress_ifgroup is None
    )


_policies = IdentityCache()


def rules_of(host: Host, family: int) -> tuple[FibRule, ...]:
    """The rules in order; the kernel's own where the snapshot has none."""
    return host.rules.get(family) or DEFAULT_RULES[family]


def _policy(host: Host, family: int) -> _Policy:
    rules = rules_of(host, family)
    return _policies.get((rules,), lambda: _Policy(family, rules))


def has_custom_rules(host: Host, family: int) -> bool:
    """Whether the rules in the snapshot prove that the namespace's custom-rules flag is set."""
    return _policy(host, family).custom


def dissects(host: Host, family: int) -> bool:
    """Whether received and rerouted packets are looked up with protocol and ports (else with zeros)."""
    return _policy(host, family).dissects


def assume_rules_untouched(ctx: Ctx, family: int) -> bool:
    """The flag is sticky: a rule added and deleted leaves no trace in a dump. Asked only where it matters."""
    file = ctx.host.file_of.get("rule", "rule.json")
    text = f"{ctx.host.name}: no policy rule was ever added or deleted in this network namespace"
    return ctx.run.assume(f"{ctx.host.name}:custom rules {family}", text, "yes", ("no",), file) == "yes"


def rule_matches(ctx: Ctx, rule: FibRule, flow: Flow) -> bool:
    """fib_rule_match with fib4_rule_match."""
    return _selectors_match(ctx, rule, flow) != rule.invert


def _selectors_match(ctx: Ctx, rule: FibRule, flow: Flow) -> bool:
    if rule.iif is not None and rule.iif != flow.iif:
        return False
    if rule.oif is not None and rule.oif != flow.oif:
        return False
    if rule.fwmark is not None and (flow.mark ^ rule.fwmark) & rule.fwmask:
        return False
    if rule.tun_id or rule.l3mdev:  # no VRF and no tunnel metadata in the model
        return False
    if rule.uid_range is not None and not rule.uid_range[0] <= flow.uid <= rule.uid_range[1]:
        return False
    if rule.src is not None and flow.src not in rule.src:
        return False
    if rule.dst is not None and flow.dst not in rule.dst:
        return False
    if rule.dscp is not None:
        if rule.dscp != flow.tos >> 2:
            return False
    elif rule.tos and rule.tos != flow.tos & (TOS_MASK if flow.family == AF_INET else 0xFC):
        return False
    if rule.ipproto and rule.ipproto != flow.proto:
        return False
    if rule.sport is not None and not ctx.in_range(flow.sport, *rule.sport):
        return False
    return rule.dport is None or ctx.in_range(flow.dport, *rule.dport)


def fib_lookup(ctx: Ctx, flow: Flow, ignore_linkstate: bool = False) -> Hit | Miss:
    """fib_lookup: through the rules, or through the trie that local and main share while there were none."""
    host, family = ctx.host, flow.family
    if family == AF_INET and not has_custom_rules(host, family):
        return _merged_lookup(ctx, flow, ignore_linkstate)
    return _rules_lookup(ctx, flow, ignore_linkstate)


def _rules_lookup(ctx: Ctx, flow: Flow, ignore_linkstate: bool) -> Hit | Miss:
    """fib_rules_lookup."""
    rules = rules_of(ctx.host, flow.family)
    position = _policy(ctx.host, flow.family).position
    at = 0
    while at < len(rules):
        rule = rules[at]
        at += 1
        if not rule_matches(ctx, rule, flow) or rule.action == "nop":
            continue
        if rule.action == "goto":
            target = position.get(rule.goto) if rule.goto is not None else None
            if target is not None and target >= at:
                at = target
            continue
        if rule.action != "table":
            return Miss(rule.action, _ACTION_ERROR.get(rule.action, EINVAL), None, rule)
        found = table_lookup(ctx, index_of(ctx.host, flow.family, rule.table), flow, ignore_linkstate)
        if found is None or (isinstance(found, Hit) and _suppressed(ctx, rule, found)):
            continue
        return found._replace(rule=rule)
    return Miss("none", ENETUNREACH)


def _suppressed(ctx: Ctx, rule: FibRule, hit: Hit) -> bool:
    """fib4_rule_suppress."""
    if rule.suppress_prefixlen is not None and hit.route.prefix.plen <= rule.suppress_prefixlen:
        return True
    if rule.suppress_ifgroup is None:
        return False
    legs = legs_of(ctx.host, hit.route)
    link = ctx.host.links.get(legs[0].dev) if legs and legs[0].dev else None
    return link is not None and link.group == rule.suppress_ifgroup


def _merged_lookup(ctx: Ctx, flow: Flow, ignore_linkstate: bool) -> Hit | Miss:
    """The lookup while no rule was ever touched: a longer prefix of main wins over a shorter one of local."""
    found = table_lookup(ctx, shared_trie(ctx.host), flow, ignore_linkstate)
    rules = rules_of(ctx.host, flow.family)
    if found is None:
        found = table_lookup(ctx, index_of(ctx.host, flow.family, RT_TABLE_DEFAULT), flow, ignore_linkstate)
        return Miss("none", ENETUNREACH) if found is None else found._replace(rule=rules[-1])
    if found.route is not None and found.route.table == RT_TABLE_LOCAL:
        return found._replace(rule=rules[0])
    if hides_local(ctx, flow.dst):
        separate = _rules_lookup(ctx, flow, ignore_linkstate)
        if separate != found._replace(rule=separate.rule) and not assume_rules_untouched(ctx, flow.family):
            return separate
    return found._replace(rule=rules[1])


def shared_trie(host: Host) -> Index | None:
    return index_of(host, AF_INET, RT_TABLE_LOCAL, RT_TABLE_MAIN)


def hides_local(ctx: Ctx, dst: int) -> bool:
    """Whether table local alone has a route for an address (asked when the shared trie preferred main's)."""
    local = index_of(ctx.host, AF_INET, RT_TABLE_LOCAL)
    return local is not None and next(local.matching(dst), None) is not None


def local_index(ctx: Ctx, family: int, dst: int) -> Index | None:
    """What a lookup "in table local" really searches: the shared trie while it is shared."""
    if family == AF_INET and not has_custom_rules(ctx.host, family):
        shared = shared_trie(ctx.host)
        if shared is not None:
            first = next(shared.matching(dst), None)
            if first is None or first.table == RT_TABLE_LOCAL or not hides_local(ctx, dst):
                return shared
            return shared if assume_rules_untouched(ctx, family) else index_of(ctx.host, family, RT_TABLE_LOCAL)
    return index_of(ctx.host, family, RT_TABLE_LOCAL)


def table_name(table: int) -> str:
    return TABLE_NAME.get(table, str(table))
