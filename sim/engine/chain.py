"""Walking a chain: base chain, rules, matches, target. net/ipv4/netfilter/ip_tables.c ipt_do_table()."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import RuleError
from ..model.addr import FAMILY_NAME, format_addr
from ..model.packet import Skb, flags_to_text
from ..model.result import Step
from ..model.rule import (
    ACCEPT,
    CONTINUE,
    DROP,
    QUEUE,
    RETURN,
    STOLEN,
    V_ACCEPT,
    V_DROP,
    Chain,
    HotDrop,
    Match,
    Miss,
    Rule,
    RuleId,
    Table,
    Verdict,
)
from .run import Ctx

MOST_JUMPS = (
    10_000  # of one traversal: chains that call the next one twice, and so on, make two to the power of their number
)
NEAR_MISSES_PER_CHAIN = 64  # of one traversal; a chain of thousands is not listed
_WATCHED = (
    "src",
    "dst",
    "sport",
    "dport",
    "icmp_id",
    "ttl",
    "tos",
    "mark",
    "length",
    "mss",
    "tcp_options",
    "tcp_flags",
    "df",
    "priority",
)
_JSON_NAME = {"length": "len", "tcp_flags": "flags"}


def run_base_chain(table: Table, chain_name: str, skb: Skb, ctx: Ctx) -> Verdict:
    """Run a base chain to its verdict (ACCEPT, DROP, STOLEN or QUEUE); a table without the chain accepts."""
    chain = table.chains.get(chain_name)
    if chain is None:
        return V_ACCEPT
    ctx.table = table.name
    verdict = _walk(table, chain, skb, ctx)
    ctx.rule = ctx.slot = None
    return verdict


def _walk(table: Table, base: Chain, skb: Skb, ctx: Ctx) -> Verdict:
    """One traversal with its stack of callers: (chain, its remaining rules, length of ``trail`` in it).

    ``trail``: the chains that led here. The kernel refuses a rule set whose chains call each other in a circle
    (mark_source_chains(), nft_chain_validate()), so meeting one of them again means that the dump is wrong.
    """
    stack: list[tuple[Chain, Iterator[Rule], int]] = []
    chain, rules = base, base.candidates(skb, 1)
    trail = [base.name]
    misses = jumps = 0
    while True:
        rule = next(rules, None)
        if rule is None:
            if not stack:
                return _policy(table, base, skb, ctx)
            chain, rules, depth = stack.pop()
            del trail[depth:]
            continue
        ctx.rule = rule
        failed = _first_miss(rule, skb, ctx)
        if failed is _HOTDROP:
            _record(table, rule, ctx, True, DROP, note="malformed packet: dropped by the match itself (hotdrop)")
            return Verdict(DROP, reason="hotdrop", text="a match found the packet malformed")
        if failed is not None:
            if ctx.run.verbose and misses < NEAR_MISSES_PER_CHAIN:
                misses += 1
                _record_miss(table, rule, failed, skb, ctx)
            continue
        verdict = _apply(table, rule, skb, ctx)
        if verdict.code == CONTINUE:
            continue
        if verdict.code in ("JUMP", "GOTO"):
            called = _called(table, rule, verdict.chain or "", trail)
            jumps += 1
            if jumps > MOST_JUMPS:
                raise RuleError(f"the packet jumps from chain to chain more than {MOST_JUMPS} times", rule.where)
            if verdict.code == "JUMP":
                stack.append((chain, rules, len(trail)))
            trail.append(called.name)
            chain, rules = called, called.candidates(skb, 1)
            continue
        if verdict.code == RETURN:
            if not stack:
                return _policy(table, base, skb, ctx)
            chain, rules, depth = stack.pop()
            del trail[depth:]
            continue
        return verdict


def _called(table: Table, rule: Rule, name: str, trail: list[str]) -> Chain:
    """The chain that a rule calls. Raises RuleError where the kernel would not have taken the rule set."""
    called = table.chains.get(name)
    if called is None:
        remedy = f"add :{name} - [0:0] after *{table.name}, or take the whole dump: iptables-save"
        raise RuleError(f"table {table.name} has no chain {name!r}", rule.where, remedy)
    if name in trail:
        circle = " → ".join([*trail[trail.index(name) :], name])
        text = f"chains of table {table.name} call each other in a circle: {circle}"
        raise RuleError(text, rule.where, "the kernel refuses such a rule set: is the dump complete and unedited?")
    return called


_HOTDROP: Any = object()


def _first_miss(rule: Rule, skb: Skb, ctx: Ctx) -> Any:
    """The first match that fails, None when all hold (stateful ones to its left have consumed state)."""
    try:
        for position, criterion in enumerate(rule.matches):
            ctx.slot = (rule.rule_id, position)
            if not criterion.test(skb, ctx):
                return criterion
    except HotDrop:
        return _HOTDROP
    return None


def _apply(table: Table, rule: Rule, skb: Skb, ctx: Ctx) -> Verdict:
    """Count the rule and run its target; the fields that changed go into the step."""
    ctx.hs.count(rule.rule_id, skb.length)
    if rule.target is None:
        _record(table, rule, ctx, True, None)
        return Verdict(CONTINUE)
    ctx.slot = (rule.rule_id, -1)
    before = [getattr(skb, name) for name in _WATCHED]
    place = len(ctx.run.hop.steps) if ctx.run.hop is not None else 0
    verdict = rule.target.apply(skb, ctx)
    ctx.rule = rule
    changes = diff(before, skb)
    shown = None if verdict.code == CONTINUE else verdict.code
    step = _step(table, rule, ctx, True, shown, verdict.text, changes)
    if ctx.run.hop is not None:
        ctx.run.hop.steps.insert(place, step)  # before what the target itself recorded (a NAT decision, a reset)
    if verdict.code == DROP and verdict.reason is None:
        verdict = Verdict(DROP, reason="dropped_by_rule", text=verdict.text)
    return verdict


def snapshot_fields(skb: Skb) -> list[Any]:
    """The fields that :func:`diff` compares."""
    return [getattr(skb, name) for name in _WATCHED]


def diff(before: list[Any], skb: Skb) -> dict[str, tuple[Any, Any]]:
    """Changed fields as {JSON name: (before, after)}."""
    changes: dict[str, tuple[Any, Any]] = {}
    for name, old in zip(_WATCHED, before, strict=True):
        new = getattr(skb, name)
        if new == old and type(new) is type(old):
            continue
        if name in ("src", "dst"):
            old, new = format_addr(skb.family, old), format_addr(skb.family, new)
        elif name == "tcp_options":
            old, new = (None if o is None else o.hex() for o in (old, new))
        elif name == "tcp_flags":
            old, new = flags_to_text(old), flags_to_text(new)
        changes[_JSON_NAME.get(name, name)] = (old, new)
    return changes


def _policy(table: Table, base: Chain, skb: Skb, ctx: Ctx) -> Verdict:
    policy = base.policy or ACCEPT
    ctx.hs.count(RuleId(table.backend, table.family, table.name, base.name, 0), skb.length)
    if policy == DROP:
        ctx.step(
            table.name,
            table=table.name,
            family=FAMILY_NAME.get(table.family),
            chain=base.name,
            text=f"policy {policy}",
            where=base.where,
            matched=True,
            verdict=DROP,
            backend=table.backend,
        )
        return Verdict(DROP, chain=base.name, reason="dropped_by_policy")
    return V_ACCEPT


def _step(table: Table, rule: Rule, ctx: Ctx, matched: bool, verdict: str | None, note: str | None = None,
          changes: dict[str, tuple[Any, Any]] | None = None) -> Step:  # fmt: skip
    return Step(
        ctx.hook_name,
        table.name,
        table=table.name,
        family=FAMILY_NAME.get(table.family),
        chain=rule.rule_id.chain,
        rule=rule.rule_id.index,
        handle=rule.handle,
        text=rule.text,
        where=rule.where,
        matched=matched,
        verdict=verdict,
        changes=changes or {},
        note=note,
        backend=table.backend,
        target=rule.target.name if rule.target else None,
    )


def _record(table: Table, rule: Rule, ctx: Ctx, matched: bool, verdict: str | None, note: str | None = None) -> None:
    ctx.run.step(_step(table, rule, ctx, matched, verdict, note))


def _record_miss(table: Table, rule: Rule, failed: Match, skb: Skb, ctx: Ctx) -> None:
    miss = failed.miss(skb, ctx)
    _record(table, rule, ctx, False, None, str(miss))


def why_not(rule: Rule, skb: Skb, ctx: Ctx) -> Miss | None:
    """The first criterion of a rule that this packet fails, without counting or consuming anything.

    For rules that were never evaluated ("it would have matched", "it would not have matched anyway").
    """
    from .run import Run

    probe = Ctx(Run(ctx.ws.fork()), ctx.host, ctx.hs.fork(), ctx.hook, ctx.indev, ctx.outdev)
    probe.rule = rule
    failed = _first_miss(rule, skb, probe)
    if failed is None:
        return None
    if failed is _HOTDROP:
        return Miss("(malformed packet)", "well-formed", f"flags {flags_to_text(skb.tcp_flags)}")
    return failed.miss(skb, probe)


__all__ = ["DROP", "QUEUE", "STOLEN", "V_DROP", "diff", "run_base_chain", "snapshot_fields", "why_not"]
