"""Every single change that could bear on a flow: rules where it passed, settings, routes, policy rules, entries it met.

:mod:`.candidates` knows what usually helps against an obstacle; this module leaves nothing out. It is asked when none of the
usual changes is enough by itself, so that what is offered is the smallest: two changes only where no single one will do.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ..model.addr import format_addr, parse_addr
from ..model.packet import WITH_PORTS
from ..model.result import Hop
from ..model.world import Host
from ..record import replace
from .candidates import Candidate, Scene
from .candidates import _gateways as gateways
from .passes import passes_of
from .spots import Spot, end_of, selector, spots, ways
from .toward import fit, routing_tables, scene_of, verb_for
from .trial import REPLY, Trial
from .whatif import ConntrackDelete, PolicyRuleEdit, RouteEdit, RuleEdit, SetSysctl
from .whatif_move import RuleMove

MOST_RULES = 64  # of one chain are looked at for one that would serve if it were met
MOST_ENTRIES, MOST_ROUTES, MOST_PLACES = 40, 8, 6
ESTABLISHED = "-m conntrack --ctstate RELATED,ESTABLISHED"


def levers(trial: Trial) -> Iterator[Candidate]:
    """Single changes, the harmless ones first; no two that the flow could not tell apart."""
    places = spots(trial)
    return chain(
        _entries(trial), _passes(trial, places), _policy(trial), _deleted(trial, places), _settings(trial), _routes(trial),
        _existing(trial, places), _translations(trial, places), _marks(trial, places), _tracking(trial, places),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- rules


def _put(trial: Trial, spot: Spot, rule: str) -> Iterator[RuleEdit]:
    """The rule at each place of the spot that the packet can tell from the others."""
    scene = scene_of(trial, spot.hop, spot.phase)
    table = "" if spot.table == "filter" else f"-t {spot.table} "
    seen: set[tuple[str | None, int]] = set()
    for step in spot.steps[:MOST_PLACES]:
        if step.rule and (step.chain, step.rule) not in seen:
            seen.add((step.chain, step.rule))
            number = f"{step.rule} " if step.rule > 1 else ""
            yield scene.rule(f"{table}-I {step.chain} {number}{rule}")
    yield scene.rule(f"{table}-A {spot.chain} {rule}")


def _passes(trial: Trial, places: list[Spot]) -> Iterator[Candidate]:
    """An exemption for the flow before each rule that did something to it, and before a policy."""
    for spot in places:
        if not spot.steps:
            continue
        rules = [f"{selector(spot)} -j ACCEPT"]
        if spot.phase == REPLY and spot.table not in ("raw",):
            rules.insert(0, f"{ESTABLISHED} -j ACCEPT")
        for rule in rules:
            for edit in _put(trial, spot, rule):
                yield Candidate((edit,))
        scene = scene_of(trial, spot.hop, spot.phase)
        table = "" if spot.table == "filter" else f"-t {spot.table} "
        for step in spot.steps:
            if step.rule:
                edit = scene.rule(f"{table}-R {step.chain} {step.rule} {selector(spot)} -j ACCEPT")
                yield Candidate((edit,), unlikely=1)
            if step.chain != spot.hook and step.rule:
                number = f"{step.rule} " if step.rule > 1 else ""
                yield Candidate((scene.rule(f"{table}-I {step.chain} {number}{selector(spot)} -j RETURN"),))


def _deleted(trial: Trial, places: list[Spot]) -> Iterator[Candidate]:
    for spot in places:
        scene = scene_of(trial, spot.hop, spot.phase)
        table = "" if spot.table == "filter" else f"-t {spot.table} "
        for step in spot.steps:
            if step.rule:
                yield Candidate((scene.rule(f"{table}-D {step.chain} {step.rule}"),), unlikely=1)
            elif step.verdict == "DROP":
                yield Candidate((scene.rule(f"{table}-P {step.chain} ACCEPT"),), unlikely=1)


def _existing(trial: Trial, places: list[Spot]) -> Iterator[Candidate]:
    """Rules of the chains on the way that do something and were not met: fitted to the flow, or moved to where it is."""
    for spot in places:
        met = {(s.chain, s.rule) for s in spot.steps}
        for table in trial.world.hosts[spot.hop.host].tables:
            rules = (
                table.chains.get(spot.hook)
                if (table.name, table.family) == (spot.table, trial.question.family)
                else None
            )
            for number in range(1, min(len(rules), MOST_RULES) + 1) if rules is not None else ():
                rule = rules.rule(number)  # type: ignore[union-attr]
                if rule.target is None or (spot.hook, number) in met:
                    continue
                fitted = fit(trial, spot, rule)
                if fitted is None:
                    continue
                name = "" if spot.table == "filter" else f"-t {spot.table} "
                backend = "legacy" if table.backend == "legacy" else None
                host, family = spot.hop.host, table.family
                if fitted != rule.text:
                    yield Candidate((RuleEdit(host, f"{name}-R {spot.hook} {number} {fitted}", family, backend),))
                    continue
                before = [s.rule for s in spot.steps if s.chain == spot.hook and s.rule and s.rule < number]
                for to in before[:MOST_PLACES]:
                    yield Candidate((RuleMove(host, spot.table, spot.hook, number, to, fitted, family, backend),))


def _translations(trial: Trial, places: list[Spot]) -> Iterator[Candidate]:
    """Source and destination translation where the flow meets the nat table."""
    for spot in places:
        if spot.table != "nat" or spot.phase == REPLY:
            continue
        match = selector(spot)
        if spot.hook == "POSTROUTING":
            out = f" -o {spot.hop.out_dev}" if spot.hop.out_dev else ""
            targets = ["MASQUERADE", *(f"SNAT --to-source {a}" for a in _own(trial, spot.hop))]
            rules = [f"{match}{out} -j {t}" for t in targets]
        elif spot.hook in ("PREROUTING", "OUTPUT"):
            rules = [f"{match} -j {t}" for t in _destinations(trial, spot)]
        else:
            continue
        for n, rule in enumerate(rules):
            for edit in _put(trial, spot, rule):
                yield Candidate((edit,), unlikely=min(n, 2))


def _own(trial: Trial, hop: Hop) -> list[str]:
    host = trial.world.hosts[hop.host]
    return [format_addr(a.family, a.local) for a in host.addresses
            if a.family == trial.question.family and (a.dev == hop.out_dev or a.secondary)][:4]  # fmt: skip


def _destinations(trial: Trial, spot: Spot) -> Iterator[str]:
    """Sockets of the very host that wait for the port, at another address. Another host is not what was asked for."""
    if spot.hop.host != trial.leaf.at.get("host") or spot.hop.out_dev is not None:
        return
    for socket in trial.world.hosts[spot.hop.host].sockets or ():
        if socket.lport == spot.fields.get("dport") and socket.local and socket.proto in WITH_PORTS:
            yield f"DNAT --to-destination {format_addr(socket.family, socket.local)}"


def _marks(trial: Trial, places: list[Spot]) -> Iterator[Candidate]:
    """Marks that policy rules wait for, and none where one was set."""
    for spot in places:
        if spot.table != "mangle" or spot.hook not in ("PREROUTING", "OUTPUT"):
            continue
        rules = trial.world.hosts[spot.hop.host].rules.get(trial.question.family, ())
        marks = {r.fwmark for r in rules if r.fwmark is not None} | ({0} if rules else set())
        for mark in sorted(marks)[:6]:
            for edit in _put(trial, spot, f"{selector(spot)} -j MARK --set-mark {mark}"):
                yield Candidate((edit,), unlikely=1)


def _tracking(trial: Trial, places: list[Spot]) -> Iterator[Candidate]:
    """Zones, or no tracking, for the flow."""
    zones = {h.conntrack["zone"] for _, hops in ways(trial) for h in hops if h.conntrack}
    fresh = max(zones, default=0) + 1
    for spot in places:
        if spot.table != "raw":
            continue
        for option in (
            "--notrack",
            *(f"--zone{d} {z}" for z in sorted({*zones, fresh}) for d in ("-orig", "", "-reply")),
        ):
            for edit in _put(trial, spot, f"{selector(spot)} -j CT {option}"):
                yield Candidate((edit,), unlikely=2)


# -------------------------------------------------------------------------------------------- settings

# What the way of a packet can depend on: (name, values); DEV is the input and the output device, and all
SETTINGS = (
    ("net.ipv4.ip_forward", ("1",)), ("net.ipv4.conf.DEV.forwarding", ("1",)), ("net.ipv4.conf.DEV.rp_filter", ("2", "0")),
    ("net.ipv4.conf.DEV.accept_local", ("1",)), ("net.ipv4.conf.DEV.route_localnet", ("1",)),
    ("net.ipv4.conf.DEV.src_valid_mark", ("1",)), ("net.ipv4.conf.DEV.proxy_arp", ("1",)),
    ("net.ipv4.conf.DEV.arp_ignore", ("0",)), ("net.ipv4.conf.DEV.arp_filter", ("0",)),
    ("net.ipv4.conf.DEV.arp_announce", ("2", "0")), ("net.ipv4.conf.DEV.bc_forwarding", ("1",)),
    ("net.ipv4.conf.DEV.ignore_routes_with_linkdown", ("0",)), ("net.ipv4.fwmark_reflect", ("1", "0")),
    ("net.ipv4.icmp_echo_ignore_all", ("0",)), ("net.ipv4.icmp_echo_ignore_broadcasts", ("0",)),
    ("net.ipv4.ip_default_ttl", ("64",)), ("net.ipv4.ip_forward_use_pmtu", ("0",)), ("net.ipv4.ip_no_pmtu_disc", ("1", "0")),
    ("net.netfilter.nf_conntrack_tcp_be_liberal", ("1",)), ("net.netfilter.nf_conntrack_tcp_loose", ("1",)),
    ("net.netfilter.nf_conntrack_checksum", ("0",)),
)  # fmt: skip


def _settings(trial: Trial) -> Iterator[Candidate]:
    """Sysctls of the hosts on the way, and, where nobody answered, of those on the wire."""
    for name, devices in _hosts(trial).items():
        known = trial.world.hosts[name].sysctl
        for key, values in SETTINGS:
            for dev in (*devices, "all") if "DEV" in key else ("",):
                setting = key.replace("DEV", dev.replace(".", "/"))
                for value in values:
                    if setting in known and known[setting].value.strip() == value:
                        continue
                    yield Candidate((SetSysctl(name, setting, value),), unlikely=int(dev == "all"))


def _hosts(trial: Trial) -> dict[str, list[str]]:
    """Hosts that can matter, each with the devices that the flow uses there."""
    found: dict[str, list[str]] = {}
    for _, hops in ways(trial):
        for hop in hops:
            found.setdefault(hop.host, [])
            found[hop.host] += [d for d in (hop.in_dev, hop.out_dev) if d and d not in found[hop.host]]
    if trial.obstacle is not None and trial.obstacle.code == "neighbour_failed":
        for host in trial.world.hosts.values():
            found.setdefault(host.name, [link.name for link in host.links.values() if not link.loopback])
    return found


# --------------------------------------------------------------------------------------------- routing


def _stations(trial: Trial) -> Iterator[tuple[str, Hop, Host, str | None, str | None]]:
    """(phase, hop, host, source, destination) of every routing decision; and of hosts on the wire that did not answer."""
    for phase, hops in ways(trial):
        for hop in hops:
            host = trial.world.hosts[hop.host]
            yield phase, hop, host, hop.before.get("src"), end_of(hop).get("dst")
            if trial.obstacle is None or trial.obstacle.code != "neighbour_failed" or hop is not hops[-1]:
                continue
            asks = {a.local for a in host.addresses if a.family == trial.question.family and a.local >> 24 != 127}
            for other in trial.world.hosts.values():
                for asker in sorted(asks) if other is not host and _share_wire(trial, host, other) else ():
                    address = format_addr(trial.question.family, asker)
                    yield phase, replace(hop, host=other.name, steps=[]), other, address, address


def _share_wire(trial: Trial, host: Host, other: Host) -> bool:
    return any({host.name, other.name} <= {m.host for m in s.members} for s in trial.world.segments)


def _routes(trial: Trial) -> Iterator[Candidate]:
    """Routes for both ends of the flow at each host, by every neighbour; routes in the way deleted."""
    for phase, hop, host, src, dst in _stations(trial):
        scene = scene_of(trial, hop, phase)
        yield from _in_the_way(trial, host, dst)
        for target in dict.fromkeys([dst, src, "default"]):
            if target is not None:
                yield from _towards(scene, host, hop, target)


def _towards(scene: Scene, host: Host, hop: Hop, target: str) -> Iterator[Candidate]:
    legs = [f"via {g} dev {d}" for g, d in _next_hops(scene, host)]
    if target != "default":
        legs += [f"dev {link.name}" for link in host.links.values() if not link.loopback and link.up]
    named = [str(r.table) for r in host.rules.get(scene.family, ()) if r.table not in (0, 253, 254, 255)]
    for table in dict.fromkeys(["", *(f" table {t}" for t in (*routing_tables(hop), *named, "local"))]):
        verb = verb_for(host, scene.family, target, table)
        for leg in legs[:MOST_ROUTES]:
            odd = int("via" not in leg) + 2 * (table == " table local")
            yield Candidate((RouteEdit(host.name, f"{target} {leg}{table}", verb),), unlikely=odd)


def _next_hops(scene: Scene, host: Host) -> list[tuple[str, str]]:
    """Neighbours that could forward: hosts and neighbours on the wires, and gateways that routes name."""
    found = gateways(scene, host)
    for (family, _), routes in host.routes.items():
        for route in routes[:200] if family == scene.family else ():
            found += [(scene.addr(n.via), n.dev) for n in route.nexthops if n.via is not None and n.dev]
    return list(dict.fromkeys(found))


def _in_the_way(trial: Trial, host: Host, dst: str | None) -> Iterator[Candidate]:
    """Routes that cover the destination, deleted."""
    if dst is None:
        return
    family, number = parse_addr(dst)
    for (fam, table), routes in host.routes.items():
        if fam != family or table == 255:
            continue
        covering = sorted((r for r in routes if number in r.prefix), key=lambda r: -r.prefix.plen)
        for route in covering[:3]:
            if route.protocol == "kernel":
                continue
            kind = "" if route.type == "unicast" else f"{route.type} "
            leg = next(
                (
                    f" via {format_addr(n.via_family, n.via)}" if n.via is not None else f" dev {n.dev}"
                    for n in route.nexthops
                ),
                "",
            )
            prefix = route.prefix if route.prefix.plen else "default"
            words = f"{kind}{prefix}{leg}{f' metric {route.metric}' if route.metric else ''}"
            yield Candidate(
                (RouteEdit(host.name, f"{words}{f' table {table}' if table != 254 else ''}", "del"),), unlikely=1
            )


def _policy(trial: Trial) -> Iterator[Candidate]:
    """Policy rules deleted, and tables that exist looked up for the flow."""
    seen: set[tuple[str, str, str]] = set()
    family = trial.question.family
    for _, hop, host, src, dst in _stations(trial):
        for rule in host.rules.get(family, ()):
            key = (hop.host, "del", str(rule.priority))
            if rule.priority not in (0, 32766, 32767) and key not in seen:
                seen.add(key)
                yield Candidate((PolicyRuleEdit(hop.host, f"priority {rule.priority}", "del"),), unlikely=1)
        tables = [t for f, t in host.routes if f == family and t not in (253, 255)]
        for table in tables if src and dst else ():
            for selectors in (f"from {src} to {dst}", f"from {src}", f"to {dst}"):
                name = "main" if table == 254 else table
                if (hop.host, selectors, str(name)) not in seen:
                    seen.add((hop.host, selectors, str(name)))
                    yield Candidate((PolicyRuleEdit(hop.host, f"{selectors} priority 1 lookup {name}"),), unlikely=1)


# --------------------------------------------------------------------------------------------- entries


def _entries(trial: Trial) -> Iterator[Candidate]:
    """Connection entries of the snapshot that the flow met, and those of the same ends."""
    met: dict[tuple[str, int], Candidate] = {}
    ends = {
        parse_addr(hop.before[k])[1]
        for _, hops in ways(trial)
        for hop in hops
        for k in ("src", "dst")
        if hop.before.get(k)
    }
    for leaf in (trial.leaf, trial.back):
        for one in passes_of(trial.world, leaf) if leaf is not None else ():
            if one.conn_where is not None:
                edit = ConntrackDelete(one.hop.host, one.conn.tuples[0], *one.conn.zones)
                met[one.hop.host, one.conn.conn_id] = Candidate((edit,))
    for host in dict.fromkeys(h.host for _, hops in ways(trial) for h in hops):
        for conn in trial.world.hosts[host].conns:
            near = {conn.tuples[0].src, conn.tuples[0].dst, conn.tuples[1].src, conn.tuples[1].dst} & ends
            if len(met) < MOST_ENTRIES and len(near) > 1:
                met.setdefault((host, conn.conn_id), Candidate((ConntrackDelete(host, conn.tuples[0], *conn.zones),)))
    yield from met.values()
