"""Passes of one packet through hosts: which connection entry it met, and who had decided its translation."""

from __future__ import annotations

from typing import Any

from ..model.result import Hop, Leaf, Step
from ..model.rule import HOOK_NUMBER, Miss, Rule
from ..model.where import Where
from ..model.world import World
from ..record import dataclass

NAT_TARGETS = {
    "POSTROUTING": {"SNAT", "MASQUERADE", "NETMAP"}, "INPUT": {"SNAT", "NETMAP"},
    "PREROUTING": {"DNAT", "REDIRECT", "NETMAP"}, "OUTPUT": {"DNAT", "REDIRECT", "NETMAP"},
}  # fmt: skip
MOST_RULES = 512  # of a chain are looked at for "it would have matched"


@dataclass(slots=True)
class Pass:
    """One traversal of a host. ``number`` counts from 1 per host. ``decided_before``: its entry existed already.

    ``skipped``: rules of nat POSTROUTING that would match here but were not consulted; ``unfit``: those that would
    not match even then, and why; ``decided_at``: index of the earlier pass on which source NAT was decided;
    ``conn_where``: the entry came with the snapshot.
    """

    hop: Hop
    number: int
    index: int
    conn: Any = None
    decided_before: bool = False
    decided_at: int | None = None
    skipped: tuple[Rule, ...] = ()
    unfit: tuple[tuple[Rule, Miss], ...] = ()
    conn_where: Where | None = None

    @property
    def zone(self) -> int:
        return int((self.hop.conntrack or {}).get("zone") or 0)


def passes_of(world: World, leaf: Leaf) -> list[Pass]:
    """All passes in order, with what is known about their entries."""
    seen: dict[str, int] = {}
    found: list[Pass] = []
    for index, hop in enumerate(leaf.hops):
        seen[hop.host] = seen.get(hop.host, 0) + 1
        one = Pass(hop, seen[hop.host], index)
        found.append(one)
        if hop.conntrack is None or leaf.state is None:
            continue
        one.conn = leaf.state.host(hop.host).ct.get(hop.conntrack.get("id"))
        one.conn_where = getattr(one.conn, "where", None)
        earlier = [p for p in found[:-1] if p.hop.host == hop.host and p.conn is not None and p.conn is one.conn]
        one.decided_before = bool(earlier) or one.conn_where is not None
        one.decided_at = earlier[0].index if earlier else None
        if one.decided_before and not_consulted(hop, "POSTROUTING") is not None:
            judged = tried_rules(world, leaf, hop, "POSTROUTING")
            one.skipped = tuple(rule for rule, miss in judged if miss is None)
            one.unfit = tuple((rule, miss) for rule, miss in judged if miss is not None)
    return found


def not_consulted(hop: Hop, chain: str) -> Step | None:
    """The step that says that a nat chain was not asked on this pass."""
    for step in hop.steps:
        if (
            step.stage == "nat"
            and step.hook == chain
            and step.rule is None
            and step.note
            and "not consulted" in step.note
        ):
            return step
    return None


def tried_rules(world: World, leaf: Leaf, hop: Hop, chain_name: str) -> list[tuple[Rule, Miss | None]]:
    """Translating rules of a nat chain with why each would not match the packet as it left the hop (None: it would)."""
    from ..engine.chain import why_not
    from ..engine.run import Ctx, Run
    from ..engine.simulate import packet_of

    host = world.hosts[hop.host]
    run = Run(leaf.state.fork())
    ctx = Ctx(run, host, run.ws.host(host.name), HOOK_NUMBER[chain_name], hop.in_dev, hop.out_dev)
    if chain_name in ("PREROUTING", "INPUT"):
        ctx.outdev = None
    record = {k: v for k, v in hop.after.items() if k != "inner" and v is not None and (isinstance(v, (int, str)))}
    record.pop("mtu", None)
    skb = packet_of({k: v for k, v in record.items() if k != "gateway"})
    skb.mark = int(hop.after.get("mark") or 0)
    found = []
    for table in host.tables:
        chain = table.chains.get(chain_name) if table.name == "nat" and table.family == skb.family else None
        for position in range(1, min(len(chain), MOST_RULES) + 1) if chain is not None else ():
            rule = chain.rule(position)  # type: ignore[union-attr]
            if rule.target is not None and rule.target.name in NAT_TARGETS[chain_name]:
                found.append((rule, why_not(rule, skb, ctx)))
    return found
