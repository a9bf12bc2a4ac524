"""Where rules could have acted on a flow: the tables it passed at each hook, and its headers as they were there.

A rule put anywhere else cannot change what happens to the flow; between two rules that did something to it, one place is
as good as the other. So the number of places follows the path, not the size of the rule set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..model.result import Hop, Step
from ..record import NamedTuple
from .trial import FORWARD, REPLY, Trial

# Tables of each hook in the kernel's order (nf_ip_hook_priorities); security stands aside: it only labels
AT = {
    "PREROUTING": ("raw", "mangle", "nat"), "INPUT": ("mangle", "filter", "nat"), "FORWARD": ("mangle", "filter"),
    "OUTPUT": ("raw", "mangle", "nat", "filter"), "POSTROUTING": ("mangle", "nat"),
}  # fmt: skip
IDLE = {"LOG", "NFLOG", "AUDIT", "TRACE", "CHECKSUM", "CLASSIFY", "RATEEST", "LED", None}
FIELDS = ("src", "dst", "sport", "dport", "mark", "icmp_id", "ttl", "tos", "len")


class Spot(NamedTuple):
    """A table at a hook. ``fields``: the header there; ``steps``: rules and policy that did something to the packet."""

    phase: str
    hop: Hop
    hook: str
    table: str
    fields: dict[str, Any]
    steps: tuple[Step, ...] = ()

    @property
    def chain(self) -> str:
        """The base chain."""
        return self.hook

    def first(self) -> int:
        """Number of the base chain's rule before which a new one is met by the packet for certain."""
        return next((s.rule for s in self.steps if s.rule and s.chain == self.hook), 1)


def ways(trial: Trial) -> list[tuple[str, list[Hop]]]:
    """The hops of both directions."""
    back = trial.back.hops if trial.back is not None else []
    return [(FORWARD, trial.leaf.hops), (REPLY, back)]


def spots(trial: Trial) -> list[Spot]:
    """Every place on the way there and back."""
    return [spot for phase, hops in ways(trial) for hop in hops for spot in _of_hop(phase, hop)]


def _of_hop(phase: str, hop: Hop) -> Iterator[Spot]:
    fields = dict(hop.before)
    passed = {s.hook for s in hop.steps}
    hooks = ["PREROUTING"] if hop.in_dev is not None else ["OUTPUT"]
    if hop.out_dev is not None or passed & {"FORWARD", "POSTROUTING"}:
        hooks += ["FORWARD"] if hop.in_dev is not None else []
        hooks += ["POSTROUTING"]
    elif hop.in_dev is not None:
        hooks += ["INPUT"]
    for hook in hooks:
        here = [s for s in hop.steps if s.hook == hook]
        for table in AT[hook]:
            acted = tuple(s for s in here if s.table == table and s.matched and not _idle(s))
            yield Spot(phase, hop, hook, table, dict(fields), acted)
        for step in here:
            fields |= {k: v[1] for k, v in step.changes.items() if k in FIELDS}


def _idle(step: Step) -> bool:
    return step.target in IDLE and not step.changes and step.verdict in (None, "CONTINUE")


def end_of(hop: Hop) -> dict[str, Any]:
    """The header as far as the hop changed it."""
    fields = dict(hop.before)
    for step in hop.steps:
        fields |= {k: v[1] for k, v in step.changes.items() if k in FIELDS}
    return fields


def selector(spot: Spot) -> str:
    """Criteria that pick out the flow where the spot is."""
    f = spot.fields
    words = [f"-s {f['src']}"] if f.get("src") else []
    words += [f"-d {f['dst']}", f"-p {f.get('proto')}"]
    port = "dport" if spot.phase == FORWARD else "sport"
    if isinstance(f.get(port), int) and f.get("proto") in ("tcp", "udp", "sctp", "dccp"):
        words.append(f"--{port} {f[port]}" if f["proto"] in ("tcp", "udp") else f"-m {f['proto']} --{port} {f[port]}")
    return " ".join(words)
