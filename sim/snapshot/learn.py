"""A network for hosts of which only the rules are known, learned from the packets that are put into them.

``simulate`` reads its packets one by one: the first one to a host decides what is assumed of it, as in ``why``; later
ones add the interfaces that they come in by, and that their sources are behind these.
"""

from __future__ import annotations

from typing import Any

from ..model.addr import AF_INET, parse_addr
from ..model.world import Host, World
from .infer import FlowFacts, infer_network, lacks_network

MOST = 256  # flows that teach a host something


class Learner:
    """Called with each record before it is played: the world that it is played in, and what is assumed there."""

    def __init__(self, world: World) -> None:
        self.told = world  # as the snapshot has it
        self.world = world
        self._flows: dict[str, dict[FlowFacts, None]] = {}
        self._assumed: dict[str, tuple[str, ...]] = {}

    def __call__(self, record: Any) -> tuple[World, tuple[str, ...]]:
        host = self._host(record)
        if host is not None:
            facts = _facts(record)
            if facts is not None and lacks_network(host, facts.family):
                self._learn(host, facts)
            return self.world, self._assumed.get(host.name, ())
        return self.world, ()

    def _host(self, record: Any) -> Host | None:
        name = record.get("host") if isinstance(record, dict) else None
        if name is None and len(self.told.hosts) == 1:
            name = next(iter(self.told.hosts))
        return self.told.hosts.get(name) if isinstance(name, str) else None

    def _learn(self, host: Host, facts: FlowFacts) -> None:
        flows = self._flows.setdefault(host.name, {})
        same = [f for f in flows if f.family == facts.family]
        if same:
            facts = facts._replace(
                dst=None
            )  # where the first packet went decided what the host's own addresses are not
        known = facts.indev is None or any(f.indev == facts.indev for f in same)
        if facts in flows or (known and (facts.indev is None or len(flows) >= MOST) and same):
            return
        flows[facts] = None
        found = infer_network(host, *_split([*same, facts]))
        self._assumed[host.name] = found.assumptions
        self.world = self.world.with_host(found.host)


def _split(flows: list[FlowFacts]) -> tuple[FlowFacts, tuple[FlowFacts, ...]]:
    return flows[0], tuple(flows[1:])


def _facts(record: Any) -> FlowFacts | None:
    """What a record says; None for one that is no packet (whoever plays it says why)."""
    indev = record.get("in") if isinstance(record, dict) else None
    if not (indev is None or _is_device(indev)):
        return None
    try:
        ends = [None if (text := record.get(key)) is None else parse_addr(text) for key in ("src", "dst")]
    except (ValueError, OSError, TypeError, AttributeError):
        return None
    src, dst = ends
    family = dst[0] if dst else AF_INET
    return FlowFacts(family, src[1] if src else None, dst[1] if dst else None, indev)


def _is_device(name: Any) -> bool:
    """Whether it can be the name of an interface: dev_valid_name() of net/core/dev.c."""
    return isinstance(name, str) and 0 < len(name) < 16 and "/" not in name and name.isprintable() and " " not in name
