"""The class of the first divergence, decided by evidence: what was seen, what is there now, and what it then predicts.

Each test asks for a proof of its own; where none is found, nothing else explains it and the class is ``model_wrong``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ...sim.record import replace
from .compare import DIFFERS, NOWHERE, Row
from .event import KIND, STATUS
from .plan import IN
from .predict import Judged, judge

if TYPE_CHECKING:
    from ...sim.flow import Question
    from ...sim.model.world import Host, World
    from .scene import Scene
    from .story import Story

CLASSES = {
    "rule_set_changed": "rules, routes or settings differ from the snapshot",
    "entry_existed": "the connection was tracked before it was observed",
    "entry_gone": "an entry of the snapshot is not there any more",
    "mark_from_elsewhere": "a mark was set by what is no rule",
    "bypassed": "the packet took a short cut past the hooks",
    "other_table": "a chain acts that the snapshot does not have",
    "never_came": "no packet of the flow was seen",
    "events_lost": "events were lost",
    "model_wrong": "nothing known explains it",
}  # fmt: skip


# predictions that end a received packet in the routing decision (net/ipv4/route.c ip_route_input_slow())
BY_ROUTING = NOWHERE | {"rp_filter", "martian_source", "martian_destination", "accept_local_off", "route_localnet_off"}


class Finding(NamedTuple):
    """``name``: one of CLASSES; ``how``: the evidence that decided it; ``next``: the way to look further."""

    name: str
    how: str
    next: str


class Case(NamedTuple):
    """What is known. ``now``: the world as it is at this moment, None where it cannot be asked."""

    world: World
    question: Question | None
    stories: Sequence[Story]
    judged: Sequence[Judged]
    observed: frozenset[str]
    scene: Scene
    now: Callable[[], World | None]


def classify(case: Case, at: Judged, row: Row) -> Finding:
    """The first test that is proven."""
    for test in (_lost, _bypassed, _existed, _gone, _marked, _other_table, _changed):
        found = test(case, at, row)
        if found is not None:
            return found
    how = (
        "the host is now as in the snapshot, and predicts the same as before"
        if case.now() is not None
        else "the host as it is now could not be read"
    )
    return Finding(
        "model_wrong", how, "save the evidence with --save FILE and report it: the model, or what it was told, is wrong"
    )


def _lost(case: Case, at: Judged, row: Row) -> Finding | None:
    lost = [text for text in at.story.incomplete if "lost" in text]
    return Finding("events_lost", lost[0], "observe less: a narrower FLOW, fewer --netns") if lost else None


def _bypassed(case: Case, at: Judged, row: Row) -> Finding | None:
    for event in at.story.events:
        if STATUS.OFFLOAD in STATUS(int(event["status"])):
            return Finding(
                "bypassed",
                "its entry has the status OFFLOAD: a flowtable forwards it",
                "nft list flowtables; conntrack -L | grep OFFLOAD",
            )
    if row.key == "hooks":
        return Finding(
            "bypassed",
            f"it came to {row.host} and left, and no hook there saw it",
            "nft list flowtables; tc filter show; ip link show (XDP)",
        )
    return _demultiplexed(case, at, row)


def _demultiplexed(case: Case, at: Judged, row: Row) -> Finding | None:
    """Routing was predicted to end it; no lookup was made, for its socket was found first.

    net/ipv4/ip_input.c ip_rcv_finish_core(): tcp_v4_early_demux(), udp_v4_early_demux().
    """
    leaf = at.leaf
    if leaf is None or leaf.reason.code not in BY_ROUTING or leaf.at.get("host") != row.host:
        return None
    inums = {i for i, name in case.scene.names.items() if name == row.host}
    mine = [e for e in at.story.events if int(e["netns"]) in inums]
    came_in = any(int(e["kind"]) == KIND.tap and int(e["hook"]) == IN for e in mine)
    looked_up = any(int(e["kind"]) == KIND.fib for e in mine)
    if not came_in or looked_up or "fib" not in case.scene.streams:
        return None
    return Finding(
        "bypassed",
        f"no route was looked up at {row.host}: the packet was matched to a connected socket before (early demultiplexing)",
        f"sysctl net.ipv4.ip_early_demux on {row.host}; ss -tun shows the socket",
    )


def _state_row(row: Row) -> bool:
    return row.key in ("state", "entry") or row.stage == "nat"


def _tracked(case: Case, at: Judged, row: Row) -> list[Any]:
    """The packet's events with an entry of the host; what -j CT hangs on a packet is a template, not its entry."""
    inums = {i for i, name in case.scene.names.items() if name == row.host}
    found = [e for e in at.story.events if int(e["netns"]) in inums and e["ct"]]
    return [e for e in found if STATUS.TEMPLATE not in STATUS(int(e["status"]))]


def _existed(case: Case, at: Judged, row: Row) -> Finding | None:
    """Its entry was confirmed when the first packet that we saw of it met it, while a new one was predicted."""
    if row.key == "state" and not row.predicted.startswith("NEW"):
        return None
    if not _state_row(row):
        return None
    tracked = _tracked(case, at, row)
    if not tracked or STATUS.CONFIRMED not in STATUS(int(tracked[0]["status"])):
        return None
    entry = int(tracked[0]["ct"])
    for judged in case.judged:
        if judged.story.start < at.story.start and any(int(e["ct"]) == entry for e in judged.story.events):
            return None
    how = f"the first packet seen at {row.host} met an entry that was confirmed already"
    return Finding(
        "entry_existed", how, f"conntrack -L on {row.host}; conntrack -D removes the entry, then confirm again"
    )


def _gone(case: Case, at: Judged, row: Row) -> Finding | None:
    """The snapshot's own entry was predicted to be met, and the kernel made a new one."""
    host = case.world.hosts.get(row.host)
    if host is None or not host.conns or not _state_row(row):
        return None
    if row.key == "state" and row.predicted.startswith("NEW"):
        return None
    tracked = _tracked(case, at, row)
    if tracked and STATUS.CONFIRMED in STATUS(int(tracked[0]["status"])):
        return None
    without = case.world.with_host(host.with_(conns=()))
    if _agrees(case, without, at):
        return Finding(
            "entry_gone", f"without the snapshot's entries of {row.host} the prediction agrees", "take a new snapshot"
        )
    return None


def _marked(case: Case, at: Judged, row: Row) -> Finding | None:
    """Where the packet was first seen on a host it had a mark already, and with that mark the prediction agrees."""
    if row.key != "start" or "mark" not in row.names:
        return None
    again = judge(case.world, case.question, case.stories, case.observed, bind_mark=True)
    if any(j.first is not None for j in again if j.story is at.story):
        return None
    how = "it had the mark before any chain saw it; with that mark everything agrees"
    return Finding(
        "mark_from_elsewhere", how, "SO_MARK of its socket, a tc or BPF program, fwmark_reflect; say it in FLOW: mark N"
    )


def _other_table(case: Case, at: Judged, row: Row) -> Finding | None:
    """A chain that stands where the divergence is, and not in the snapshot."""
    host = case.world.hosts.get(row.host)
    if host is None or row.hook is None or row.key not in ("changes", "drop", "rules", "end"):
        return None
    known = _chains_of(host)
    inums = {i for i, name in case.scene.names.items() if name == row.host}
    for event in at.story.events:
        if int(event["netns"]) not in inums:
            continue
        for chain in case.scene.chains(int(event["netns"]), int(event["pf"]), _hook(row.hook)):
            here = row.stage.removesuffix(" rules") in (chain.table, f"nft {chain.table} {chain.name}", "end", "change")
            if chain.kind != "kernel" and here and (chain.kind == "legacy", chain.table, chain.name) not in known:
                tool = "iptables-legacy" if chain.kind == "legacy" else "nft"
                what = f"{tool} {chain.table} {chain.name} (priority {chain.prio})"
                how = f"{what} is hooked at {row.hook} of {row.host}, and the snapshot has no such chain"
                return Finding("other_table", how, "nft list ruleset; iptables-legacy-save; take a new snapshot")
        break
    return None


def _chains_of(host: Host) -> set[tuple[bool, str, str]]:
    found = {(table.backend == "legacy", table.name, chain) for table in host.tables for chain in table.chains}
    return found | {(False, chain.table, chain.chain) for chain in host.foreign}


def _hook(name: str) -> int:
    from .event import HOOKS

    return HOOKS.index(name)


def _changed(case: Case, at: Judged, row: Row) -> Finding | None:
    """The host as it is now predicts what was seen; entries stay the snapshot's, for this flow has made one meanwhile."""
    now = case.now()
    if now is None:
        return None
    hosts = {name: host.with_(conns=case.world.hosts[name].conns, expectations=case.world.hosts[name].expectations)
             if name in case.world.hosts else host for name, host in now.hosts.items()}  # fmt: skip
    merged = case.world
    for host in hosts.values():
        if host.name in merged.hosts:
            merged = merged.with_host(host)
    if case.world.hosts.keys() <= now.hosts.keys():
        merged = replace(merged, segments=now.segments)
    if _agrees(case, merged, at):
        changed = differences(case.world, merged)
        how = "read again now, the hosts predict what was seen" + (
            f"; changed: {', '.join(changed)}" if changed else ""
        )
        return Finding("rule_set_changed", how, "take a new snapshot (nattrace snapshot), or confirm without -S")
    return None


def _agrees(case: Case, world: World, at: Judged) -> bool:
    again = judge(world, case.question, case.stories, case.observed)
    return not any(j.comparison is not None and any(r.verdict == DIFFERS for r in j.comparison.rows) for j in again
                   if j.story is at.story)  # fmt: skip


def differences(before: World, after: World) -> list[str]:
    """Which parts of which hosts are not what they were."""
    found = []
    for name, new in after.hosts.items():
        old = before.hosts.get(name)
        if old is None or old is new:
            continue
        parts = {
            what: _plain(old, what) != _plain(new, what)
            for what in ("rules", "routes", "policy rules", "settings", "devices")
        }
        found += [f"{what} of {name}" for what, differs in parts.items() if differs]
    return found


# what decides about packets; the others differ from machine to machine, or count
SETTINGS = ("ip_forward", "forwarding", "rp_filter", "route_localnet", "accept_local", "src_valid_mark", "fwmark_reflect",
            "ip_default_ttl", "nf_conntrack_max", "tcp_loose", "be_liberal", "nf_conntrack_helper")  # fmt: skip


def _plain(host: Host, what: str) -> Any:
    """One part of a host, without the places where it was read."""
    if what == "rules":
        return [(t.name, [r.text for r in t.all_rules()], [c.policy for c in t.chains.values()]) for t in host.tables]
    if what == "settings":
        return {k: v.value for k, v in host.sysctl.items() if k.endswith(SETTINGS)}
    if what == "devices":
        return set(host.links)
    part = host.routes if what == "routes" else host.rules
    return sorted(
        re.sub(r"(where|file)=(Where\([^)]*\)|'[^']*')", "", repr(item)) for group in part.values() for item in group
    )
