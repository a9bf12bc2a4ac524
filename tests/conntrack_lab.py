"""One router built in Python, for tests of conntrack and NAT at function level: packets pass its hooks in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nattrace.sim.engine import conntrack, nat
from nattrace.sim.engine.rt import Rt
from nattrace.sim.engine.run import Ctx, Run
from nattrace.sim.model.addr import AF_INET, Prefix, format_addr, parse_addr
from nattrace.sim.model.conntrack import CTINFO_NAME, Conn
from nattrace.sim.model.packet import IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, PROTO_NUMBER, Skb, flags_from_text
from nattrace.sim.model.result import Hop, Step
from nattrace.sim.model.route import Address, Link
from nattrace.sim.model.rule import ACCEPT, V_ACCEPT, Verdict
from nattrace.sim.model.state import WorldState
from nattrace.sim.model.world import Host, Setting, World

PRE, IN, FWD, OUT, POST = range(5)
Rule = Callable[[Ctx, Skb], Verdict]


def ip(text: str) -> int:
    return parse_addr(text)[1]


def address(dev: str, text: str, **more: Any) -> Address:
    addr, _, plen = text.partition("/")
    return Address(AF_INET, dev, ip(addr), int(plen or 32), **more)


def packet(proto: str, src: str, dst: str, flags: str = "", **fields: Any) -> Skb:
    """``packet("udp", "10.0.0.1:5", "10.0.0.2:6")``; ICMP takes icmp_type, icmp_id."""
    source, _, sport = src.partition(":")
    target, _, dport = dst.partition(":")
    skb = Skb(AF_INET, PROTO_NUMBER.get(proto) or int(proto), ip(source), ip(target))
    skb.sport, skb.dport = int(sport or 0), int(dport or 0)
    skb.length = {IPPROTO_TCP: 40, IPPROTO_UDP: 28, IPPROTO_ICMP: 28}.get(skb.proto, 20)
    if skb.proto == IPPROTO_ICMP and "icmp_type" not in fields:
        skb.icmp_type = 8
    if flags:
        skb.tcp_flags = flags_from_text(flags)
    data = fields.pop("data", b"")
    if data:
        skb.payload = data
        skb.length += len(data)
    for name, value in fields.items():
        setattr(skb, name, value)
    return skb


@dataclass
class Passed:
    """What became of a packet: verdict, the packet as it is now, its state, what was recorded."""

    verdict: Verdict
    skb: Skb
    state: str
    conn: Conn | None
    steps: list[Step] = field(default_factory=list)

    @property
    def source(self) -> str:
        return f"{format_addr(self.skb.family, self.skb.src)}:{self.skb.sport}"

    @property
    def target(self) -> str:
        return f"{format_addr(self.skb.family, self.skb.dst)}:{self.skb.dport}"

    @property
    def ok(self) -> bool:
        return self.verdict.code == ACCEPT

    @property
    def notes(self) -> str:
        return " / ".join(s.note or "" for s in self.steps)


class Lab:
    """A gateway: lan 192.168.1.1/24, up0 10.0.0.1/24, up1 203.0.113.2/24."""

    def __init__(self, sysctl: dict[str, object] | None = None, kernel: tuple[int, int] = (6, 18), **host: Any) -> None:
        links = {
            "lo": Link("lo", 1, loopback=True),
            "lan": Link("lan", 2),
            "up0": Link("up0", 3),
            "up1": Link("up1", 4),
        }
        addresses = (
            address("lo", "127.0.0.1/8", scope=254),
            address("lan", "192.168.1.1/24"),
            address("up0", "10.0.0.1/24"),
            address("up1", "203.0.113.2/24"),
        )
        settings = {f"net.netfilter.nf_conntrack_{k}": Setting(str(v)) for k, v in (sysctl or {}).items()}
        fields: dict[str, Any] = {"links": links, "addresses": addresses, "sysctl": settings, "kernel": kernel}
        self.host = Host("gw", **{**fields, **host})
        self.world = World({"gw": self.host})
        self.ws = WorldState(self.world)
        self.run = Run(self.ws)

    @property
    def table(self) -> Any:
        return self.ws.host("gw").ct

    def conns(self) -> list[Conn]:
        return list(self.table.confirmed())

    def ctx(self, hook: int, indev: str | None, outdev: str | None, run: Run | None = None) -> Ctx:
        run = run or self.run
        return Ctx(run, self.host, run.ws.host("gw"), hook, indev, outdev)

    def send(self, skb: Skb, way: str = "forward", indev: str = "lan", outdev: str = "up0", dst_rule: Rule | None = None,
             src_rule: Rule | None = None, zone: tuple[int, int] | None = None, nat_on: bool = True,
             run: Run | None = None, until: int | None = None, template: Any = None) -> Passed:  # fmt: skip
        """Pass the hooks of a forwarded, local ("in": delivered, "out": sent) packet in order.

        ``dst_rule``/``src_rule``: what a nat chain of that kind does with the packet; None: no such rule.
        ``until``: the last hook that is passed.
        """
        run = run or self.run
        run.hop = Hop("gw", indev)
        hooks = {"forward": (PRE, FWD, POST), "in": (PRE, IN), "out": (OUT, POST)}[way]
        if zone is not None or template is not None:
            skb.template = template or conntrack.Template(zones=zone or (0, 0))
        if skb.rt is None and way != "in":
            skb.rt = Rt(kind="unicast", dev=outdev, gateway=None)
        verdict = V_ACCEPT
        for hook in hooks:
            inside = indev if hook in (PRE, IN, FWD) else None
            outside = outdev if hook in (FWD, OUT, POST) else None
            verdict = self._hook(self.ctx(hook, inside, outside, run), skb, dst_rule, src_rule, nat_on)
            if verdict.code != ACCEPT or hook == until:
                break
        ctx = self.ctx(PRE, indev, outdev, run)
        state = CTINFO_NAME[skb.ctinfo]
        return Passed(verdict, skb, state, ctx.ct(skb), run.hop.steps)

    def _hook(self, ctx: Ctx, skb: Skb, dst_rule: Rule | None, src_rule: Rule | None, nat_on: bool) -> Verdict:
        steps: list[Callable[[], Verdict]] = []
        rule = dst_rule if ctx.hook in (PRE, OUT) else src_rule
        if ctx.hook in (PRE, OUT):
            steps.append(lambda: conntrack.track(ctx, skb))
        if nat_on and ctx.hook != FWD:
            chains: list[Any] = [rule] if rule else []
            steps.append(lambda: nat.nat_hook(ctx, skb, chains, lambda chosen: chosen(ctx, skb)))  # type: ignore[operator]
        if ctx.hook in (IN, POST):
            steps.append(lambda: conntrack.confirm(ctx, skb))
        for step in steps:
            verdict = step()
            if verdict.code != ACCEPT:
                return verdict
        return V_ACCEPT


def snat(text: str, flags: int = 0) -> Rule:
    """``--to-source``: A, A-B, A:P, A:P-Q."""
    rng = _range(text, flags)
    return lambda ctx, skb: nat.setup_info(ctx, skb, rng, nat.MANIP_SRC)


def dnat(text: str, flags: int = 0, base: int = 0) -> Rule:
    rng = _range(text, flags)._replace(base_port=base)
    return lambda ctx, skb: nat.setup_info(ctx, skb, rng, nat.MANIP_DST)


def masquerade(ports: str = "", flags: int = 0) -> Rule:
    rng = _range(f":{ports}" if ports else "", flags)
    return lambda ctx, skb: nat.masquerade(ctx, skb, rng)


def redirect(ports: str = "") -> Rule:
    rng = _range(f":{ports}" if ports else "", 0)
    return lambda ctx, skb: nat.redirect(ctx, skb, rng)


def accept(ctx: Ctx, skb: Skb) -> Verdict:
    return V_ACCEPT


def _range(text: str, flags: int) -> nat.NatRange:
    addrs, _, ports = text.partition(":")
    fields: dict[str, int] = {}
    if addrs:
        low, _, high = addrs.partition("-")
        fields |= {"min_addr": ip(low), "max_addr": ip(high or low)}
        flags |= nat.NF_NAT_RANGE_MAP_IPS
    if ports:
        low, _, high = ports.partition("-")
        fields |= {"min_port": int(low), "max_port": int(high or low)}
        flags |= nat.NF_NAT_RANGE_PROTO_SPECIFIED
    return nat.NatRange(**fields, flags=flags)


__all__ = [
    "FWD", "IN", "OUT", "POST", "PRE", "Lab", "Passed", "Prefix", "accept", "address", "dnat", "ip", "masquerade",
    "packet", "redirect", "snat",
]  # fmt: skip
