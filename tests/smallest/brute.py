"""Brute force over single changes: everything, everywhere, whether or not the flow comes by.

Add (with the criteria of the flow, at every position of every chain), delete, replace or move one rule; one sysctl; one
route; one policy rule; one entry deleted. It shares nothing with the search under test but the edits themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from nattrace.sim.errors import NattraceError
from nattrace.sim.explain.trial import Trial, attempt
from nattrace.sim.explain.whatif import ConntrackDelete, Edit, PolicyRuleEdit, RouteEdit, RuleEdit, SetSysctl
from nattrace.sim.explain.whatif_move import RuleMove
from nattrace.sim.model.addr import AF_INET, format_addr
from nattrace.sim.model.world import Host, World

CHAINS = {
    "raw": ("PREROUTING", "OUTPUT"), "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"), "filter": ("INPUT", "FORWARD", "OUTPUT"),
}  # fmt: skip
DEVICE = {"rp_filter": "02", "forwarding": "1", "accept_local": "1", "route_localnet": "1", "src_valid_mark": "01",
          "proxy_arp": "1", "arp_ignore": "0", "arp_filter": "0", "arp_announce": "02"}  # fmt: skip
HOST = {"net.ipv4.ip_forward": "1", "net.ipv4.fwmark_reflect": "1", "net.ipv4.icmp_echo_ignore_all": "0",
        "net.netfilter.nf_conntrack_tcp_be_liberal": "1", "net.netfilter.nf_conntrack_tcp_loose": "1"}  # fmt: skip


def smaller(trial: Trial) -> Edit | None:
    """A single change after which the flow works both ways, or None."""
    for edit in singles(trial):
        try:
            world = edit.apply(trial.world)
            if world is not trial.world and attempt(world, trial.question).ok:
                return edit
        except NattraceError:
            continue
    return None


def singles(trial: Trial) -> Iterator[Edit]:
    """All single changes to all hosts."""
    for host in trial.world.hosts.values():
        yield from (ConntrackDelete(host.name, c.tuples[0], c.zones[0]) for c in host.conns)
        yield from _sysctls(host)
        yield from _routing(trial.world, host, *_ends(trial))
        yield from _rules(trial, host)


def _ends(trial: Trial) -> tuple[list[str], list[str]]:
    """Sources and destinations of the packet and its answer on their whole way, whatever they were changed to."""
    hops = [*trial.leaf.hops, *(trial.back.hops if trial.back is not None else [])]
    packets = [p for h in hops for p in (h.before, h.after) if p.get("dst")]
    return tuple(list(dict.fromkeys(str(p[k]) for p in packets if p.get(k))) for k in ("src", "dst"))  # type: ignore[return-value]


def _sysctls(host: Host) -> Iterator[Edit]:
    for name, value in HOST.items():
        yield SetSysctl(host.name, name, value)
    for dev, (key, values) in product([*host.links, "all", "default"], DEVICE.items()):
        yield from (SetSysctl(host.name, f"net.ipv4.conf.{dev}.{key}", value) for value in values)


def _routing(world: World, host: Host, sources: list[str], destinations: list[str]) -> Iterator[Edit]:
    legs = [f"dev {d}" for d in host.links if d != "lo"]
    near = [a for h in world.hosts.values() for a in h.addresses if a.family == AF_INET and h is not host]
    vias = {n.via for routes in host.routes.values() for r in routes for n in r.nexthops if n.via is not None}
    for own in (a for a in host.addresses if a.family == AF_INET and a.dev != "lo"):
        found = {a.local for a in near if a.local in own.network} | {v for v in vias if v in own.network}
        legs += [f"via {format_addr(AF_INET, v)} dev {own.dev}" for v in sorted(found)]
    tables = sorted(
        {t for f, t in host.routes if f == AF_INET and t != 255}
        | {r.table for r in host.rules.get(AF_INET, ()) if r.table}
    )
    for target, leg, table, verb in product([*sources, *destinations, "default"], legs, tables, ("add", "replace")):
        yield RouteEdit(host.name, f"{target} {leg} table {table}", verb)
    for (family, table), routes in host.routes.items():
        for route in routes if family == AF_INET and table != 255 else ():
            legs_of = [f" via {format_addr(AF_INET, n.via)}" for n in route.nexthops if n.via is not None]
            kind = route.type if route.type != "unicast" else ""
            dev = f" dev {route.nexthops[0].dev}" if route.nexthops and not legs_of else ""
            yield RouteEdit(
                host.name, f"{kind} {route.prefix}{legs_of[0] if legs_of else dev} table {table}".strip(), "del"
            )
    for rule in host.rules.get(AF_INET, ()):
        yield PolicyRuleEdit(host.name, f"priority {rule.priority}", "del")
    for src, dst, table, priority in product(["", *sources], ["", *destinations], tables, (1, 220, 32765)):
        words = (
            f"{f'from {src} ' if src else 'from all '}{f'to {dst} ' if dst else ''}priority {priority} lookup {table}"
        )
        yield PolicyRuleEdit(host.name, words)


def _rules(trial: Trial, host: Host) -> Iterator[Edit]:
    sources, destinations = _ends(trial)
    proto, port = trial.question.packet["proto"], trial.question.packet.get("dport")
    ports = [f" --dport {port}", f" --sport {port}"] if port is not None and proto in ("tcp", "udp") else [""]
    flows = [f"-s {s} -d {d} -p {proto}{p}" for s, d, p in product(sources, destinations, ports) if s != d]
    for table, bases in CHAINS.items():
        known = next((t for t in host.tables if t.name == table and t.family == AF_INET), None)
        chains = list(dict.fromkeys([*bases, *(known.chains if known is not None else ())]))
        for chain in chains:
            count = len(known.chains[chain]) if known is not None and chain in known.chains else 0
            where = f"-t {table}"
            rules = [known.chains[chain].rule(n).text for n in range(1, count + 1)] if known is not None else []
            for number in range(1, count + 1):
                yield RuleEdit(host.name, f"{where} -D {chain} {number}")
                for to in range(1, count + 1):
                    if to not in (number, number + 1):
                        yield RuleMove(host.name, table, chain, number, to, rules[number - 1])
            if chain in bases and table != "nat":
                yield RuleEdit(host.name, f"{where} -P {chain} ACCEPT")
            for flow, target in product(flows, _targets(table, chain, host)):
                for number in range(1, count + 1):
                    yield RuleEdit(host.name, f"{where} -I {chain} {number} {flow} -j {target}")
                    yield RuleEdit(host.name, f"{where} -R {chain} {number} {flow} -j {target}")
                yield RuleEdit(host.name, f"{where} -A {chain} {flow} -j {target}")


def _targets(table: str, chain: str, host: Host) -> list[str]:
    """What a rule with the flow's criteria could do for it; sending it to another host than it asks for is no cure."""
    if table == "raw":
        return ["ACCEPT", "CT --notrack", *(f"CT --zone{d} {z}" for d in ("", "-orig", "-reply") for z in (1, 2, 3))]
    if table == "mangle":
        marks = sorted({0, 1, *(r.fwmark for r in host.rules.get(AF_INET, ()) if r.fwmark is not None)})
        ttl = ["TTL --ttl-set 64"] if chain != "OUTPUT" else []
        return ["ACCEPT", *(f"MARK --set-mark {m}" for m in marks), *ttl]
    if table == "nat" and chain in ("POSTROUTING", "INPUT"):
        own = [format_addr(AF_INET, a.local) for a in host.addresses if a.family == AF_INET and a.dev != "lo"]
        return ["ACCEPT", *(["MASQUERADE"] if chain == "POSTROUTING" else []), *(f"SNAT --to-source {a}" for a in own)]
    return ["ACCEPT"]
