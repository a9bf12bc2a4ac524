"""Words for the tests of targets: read a rule's target as written, print it, make packets, hosts and a context."""

from __future__ import annotations

import re
import shlex
from typing import Any

from nattrace.sim.engine.run import Ctx, Run, explore
from nattrace.sim.model.addr import AF_INET, parse_addr
from nattrace.sim.model.conntrack import IP_CT_NEW, Conn, Tuple
from nattrace.sim.model.packet import PROTO_NUMBER, Skb, flags_from_text
from nattrace.sim.model.result import Leaf, Reason
from nattrace.sim.model.route import Link
from nattrace.sim.model.rule import HOOK_NUMBER, Rule, RuleId, Target, Verdict
from nattrace.sim.model.state import WorldState
from nattrace.sim.model.world import Host, World
from nattrace.sim.rules.registry import At, Got, find_target

LINKS = {"lo": Link("lo", 1, mtu=65536, loopback=True), "eth0": Link("eth0", 2), "eth1": Link("eth1", 3, mtu=1400)}


def ip(text: str) -> int:
    return parse_addr(text)[1]


def read(text: str, table: str = "filter", chain: str = "INPUT", family: int = AF_INET) -> Target:
    """The target of ``[-p PROTO] … -j NAME OPTIONS…``; other criteria are skipped. The real parser is tested elsewhere."""
    head, _, tail = text.partition("-j ")
    proto = 0
    if found := re.search(r"-p (\S+)", head):
        proto = PROTO_NUMBER.get(found[1], 0)
    name, *words = shlex.split(tail)
    info = find_target(name)
    assert info is not None, f"unknown target {name}"
    got = []
    while words:
        option = info.options.get(words[0])
        if option is None:
            raise at_of(family, table, chain, proto).error(f"unknown option {words[0]}")
        got.append(Got(option.name, False, tuple(words[1 : 1 + option.args])))
        del words[: 1 + option.args]
    return info.cls.parse(tuple(got), at_of(family, table, chain, proto))  # type: ignore[no-any-return]


def at_of(family: int, table: str, chain: str, proto: int) -> At:
    return At(family, table, chain, proto)


def quoted(word: str) -> str:
    """xtables_save_string()"""
    if re.fullmatch(r"[A-Za-z0-9_-]+", word) or not re.search(r"[\s\"'\\:]", word) or word.startswith("--"):
        return word
    return '"' + re.sub(r"([\"'\\])", r"\\\1", word) + '"'


def written(target: Target) -> str:
    """``-j NAME OPTIONS…`` with nothing quoted but a log prefix."""
    words = target.words()
    for place, word in enumerate(words):
        if place and words[place - 1] in ("--log-prefix", "--nflog-prefix"):
            words[place] = quoted(word)
    return " ".join(["-j", target.name, *words])


def packet(proto: str = "tcp", src: str = "10.0.0.2", dst: str = "192.0.2.9", sport: int = 40000, dport: int = 443,
           flags: str = "S", **fields: Any) -> Skb:  # fmt: skip
    skb = Skb(AF_INET, PROTO_NUMBER[proto], ip(src), ip(dst))
    if skb.has_ports:
        skb.sport, skb.dport = sport, dport
    if proto == "tcp":
        skb.tcp_flags, skb.length = flags_from_text(flags), 40
    for name, value in fields.items():
        setattr(skb, name, value)
    return skb


def context(hook: str = "PREROUTING", indev: str | None = "eth0", outdev: str | None = None, **host: Any) -> Ctx:
    fields: dict[str, Any] = {"links": LINKS, **host}
    world = World({"h": Host("h", **fields)})
    run = Run(WorldState(world))
    return in_run(run, hook, indev, outdev)


def in_run(run: Run, hook: str = "PREROUTING", indev: str | None = "eth0", outdev: str | None = None) -> Ctx:
    ctx = Ctx(run, run.world.hosts["h"], run.ws.host("h"), HOOK_NUMBER[hook], indev, outdev)
    ctx.rule = Rule(RuleId("iptables", AF_INET, "mangle", hook, 1), (), None, "")
    ctx.slot = (ctx.rule.rule_id, -1)
    return ctx


def tracked(skb: Skb, ctx: Ctx, mark: int = 0) -> Conn:
    """Give the packet a new, unconfirmed entry."""
    orig = Tuple(skb.family, skb.proto, skb.src, skb.dst, skb.sport, skb.dport)
    reply = Tuple(skb.family, skb.proto, skb.dst, skb.src, skb.dport, skb.sport)
    conn = ctx.hs.ct.create((orig, reply), mark=mark)
    skb.ct, skb.ctinfo = conn.conn_id, IP_CT_NEW
    return conn


def mark_of(skb: Skb, ctx: Ctx) -> int:
    conn = ctx.ct(skb)
    assert conn is not None
    return conn.mark


def every_verdict(target: Target, make: Any, **host: Any) -> list[tuple[str, str | None, float | None]]:
    """All branches of one application: (verdict, reason, probability)."""
    world = World({"h": Host("h", **{"links": LINKS, **host})})

    def play(run: Run) -> Leaf:
        verdict: Verdict = target.apply(make(), in_run(run))
        return Leaf(verdict.code, {}, {"reason": verdict.reason}, Reason("x", ""))

    leaves, _ = explore(WorldState(world), play)
    return sorted(((leaf.outcome, leaf.packet["reason"], leaf.probability) for leaf in leaves), key=str)
