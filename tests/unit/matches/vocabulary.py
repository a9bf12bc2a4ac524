"""Words for the tests of matches: read criteria as iptables-save prints them, make packets, hosts and a context."""

from __future__ import annotations

import shlex
from typing import Any

from nattrace.sim.engine.run import Ctx, Run, explore
from nattrace.sim.errors import RuleError
from nattrace.sim.model.addr import AF_INET, parse_addr
from nattrace.sim.model.conntrack import IPS_CONFIRMED, Conn, Tuple
from nattrace.sim.model.packet import PROTO_NUMBER, Sk, Skb
from nattrace.sim.model.result import Leaf, Reason
from nattrace.sim.model.route import Link
from nattrace.sim.model.rule import HOOK_NUMBER, HotDrop, Match, Rule, RuleId
from nattrace.sim.model.state import WorldState
from nattrace.sim.model.world import Host, World
from nattrace.sim.rules.registry import At, Got, Info, find_match


def ip(text: str) -> int:
    return parse_addr(text)[1]


def read(text: str, family: int = AF_INET, chain: str = "INPUT") -> list[Match]:
    """``[! -p PROTO] -m NAME OPTIONS…`` to matches. The program's own parser is tested elsewhere."""
    words, proto, negated, proto_negated = shlex.split(text), 0, False, False
    found: list[tuple[Info, list[Got]]] = []
    while words:
        word = words.pop(0)
        if word == "!":
            negated = True
            continue
        if word == "-p":
            name = words.pop(0)
            proto, proto_negated = PROTO_NUMBER[name] if name in PROTO_NUMBER else int(name), negated
        elif word == "-m":
            info = find_match(words.pop(0))
            assert info is not None, text
            found.append((info, []))
        else:
            option = found[-1][0].options.get(word)
            if option is None or (negated and not option.negatable):
                raise RuleError(f"{word} in {text}")
            count = option.args
            if count < 0:
                count = int(bool(words) and words[0] != "!" and not words[0].startswith("-"))
            args, words = tuple(words[:count]), words[count:]
            if len(args) < count:
                raise RuleError(f"{word} lacks its value in {text}")
            found[-1][1].append(Got(option.name, negated, args))
        negated = False
    users = {"root": 0, "alice": 1000}
    at = At(family, "filter", chain, proto, proto_negated, None, users, users)
    return [info.cls.parse(tuple(got), at) for info, got in found]


def criterion(text: str, **where: Any) -> Match:
    """The last match of ``text``."""
    return read(text, **where)[-1]


def printed(text: str, **where: Any) -> str:
    """The options of every match as iptables-save would print them."""
    return " ".join(" ".join(["-m", m.name, *m.words()]) for m in read(text, **where))


def packet(proto: str | int = "tcp", src: str = "10.0.0.2", dst: str = "192.0.2.9", **fields: Any) -> Skb:
    """A packet with its headers; ``length`` by default what the headers need."""
    number = proto if isinstance(proto, int) else PROTO_NUMBER[proto]
    skb = Skb(AF_INET, number, ip(src), ip(dst))
    skb.length = 20 + {6: 20, 17: 8, 1: 8, 132: 28, 33: 28, 50: 16, 51: 24, 108: 8, 136: 8}.get(number, 0)
    for name, value in fields.items():
        setattr(skb, name, value)
    return skb


def local(uid: int = 1000, gid: int = 1000, **fields: Any) -> Sk:
    return Sk(uid, gid, **fields)


def link(name: str, **fields: Any) -> Link:
    return Link(name, {"lo": 1, "eth0": 2, "eth1": 3}.get(name, 9), **{"mac": 0x020000000001, **fields})


class Bench:
    """One host with one packet after another; ``test`` gives the answer where there is exactly one."""

    def __init__(self, hook: str = "FORWARD", indev: str | None = "eth0", outdev: str | None = "eth1",
                 backend: str = "legacy", **host: Any) -> None:  # fmt: skip
        host.setdefault("links", {n: link(n) for n in ("eth0", "eth1")} | {"lo": link("lo", loopback=True, mac=None)})
        host.setdefault("meta", {"fresh": True})
        self.world = World({"h": Host("h", **host)})
        self.state = WorldState(self.world)
        self.hook, self.indev, self.outdev, self.backend = HOOK_NUMBER[hook], indev, outdev, backend
        self.table = "filter"
        self.counters: tuple[int, int] | None = None
        self.notes: list[str] = []

    @property
    def hs(self) -> Any:
        return self.state.host("h")

    def ctx(self, run: Run | None = None, matches: tuple[Match, ...] = (), index: int = 1) -> Ctx:
        run = run or Run(self.state)
        ctx = Ctx(run, self.world.hosts["h"], run.ws.host("h"), self.hook, self.indev, self.outdev)
        rule_id = RuleId(self.backend, AF_INET, self.table, "X", index)
        ctx.rule = Rule(rule_id, matches, None, "", counters=self.counters)
        ctx.slot, ctx.table = (rule_id, 0), self.table
        return ctx

    def conn(
        self, skb: Skb, status: int = IPS_CONFIRMED, ctinfo: int = 2, reply: Tuple | None = None, **fields: Any
    ) -> Conn:
        """Give the packet a conntrack entry."""
        near, far = (skb.icmp_id, skb.icmp_type << 8) if skb.is_icmp else (skb.sport, skb.dport)
        orig = Tuple(skb.family, skb.proto, skb.src, skb.dst, near, far)
        back = reply or Tuple(skb.family, skb.proto, skb.dst, skb.src, far, near)
        conn: Conn = self.hs.ct.create((orig, back), status=status, **fields)
        if status & IPS_CONFIRMED:
            self.hs.ct.insert(conn)
        skb.ct, skb.ctinfo = conn.conn_id, ctinfo
        return conn

    def outcomes(self, match: Match | str, skb: Skb, index: int = 1) -> list[tuple[float | None, bool | str]]:
        """(probability, answer) of every possible world; "hotdrop" where the packet is dropped by the match."""
        one = criterion(match) if isinstance(match, str) else match

        def play(run: Run) -> Leaf:
            ctx = self.ctx(run, (one,), index)
            try:
                answer: bool | str = one.test(skb.copy() if skb.inner is None else skb, ctx)
            except HotDrop:
                answer = "hotdrop"
            if answer is False:
                miss = one.miss(skb, ctx)
                assert miss.criterion and miss.actual, one
            return Leaf(str(answer), {}, {}, Reason("", ""))

        leaves, _ = explore(self.state, play)
        self.unknowns = [reason.text for leaf in leaves for reason in leaf.unknowns]
        self.notes = [text for leaf in leaves for text in leaf.assumptions]
        if len(leaves) == 1:
            self.state = leaves[0].state
        self.leaves = leaves
        return [(leaf.probability, {"True": True, "False": False}.get(leaf.outcome, leaf.outcome)) for leaf in leaves]

    def test(self, match: Match | str, skb: Skb, index: int = 1) -> bool | str:
        outcomes = self.outcomes(match, skb, index)
        assert len(outcomes) == 1, (match, outcomes, self.unknowns)
        return outcomes[0][1]

    def undecided(self, match: Match | str, skb: Skb) -> bool:
        """Whether both answers are possible and the match says why."""
        outcomes = self.outcomes(match, skb)
        return {answer for _, answer in outcomes} == {True, False} and bool(self.unknowns)


__all__ = ["Bench", "criterion", "ip", "link", "local", "packet", "printed", "read"]
