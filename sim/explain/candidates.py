"""Candidate fixes: for the obstacle a flow met, the changes worth trying. Nothing here says that one works.

Every generator looks at facts of the obstacle (where the packet was, which rule or route decided) and yields
:class:`Candidate` objects; :mod:`.fixes` applies them to a copy of the world and simulates both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..flow import Question
from ..model.addr import AF_INET, BITS, Prefix, format_addr, is_private
from ..model.packet import PROTO_NAME, WITH_PORTS
from ..model.result import Hop, Leaf, Step
from ..model.world import Host, World
from ..record import NamedTuple, dataclass, replace
from .passes import Pass, passes_of
from .remedies import more
from .trial import FORWARD, REPLY, Obstacle, Trial
from .whatif import ConntrackDelete, Edit, PolicyRuleEdit, RouteEdit, RuleEdit, SetSysctl
from .whatif_addr import AddressEdit
from .whatif_link import HairpinEdit


class Candidate(NamedTuple):
    """Changes that go together. ``known``: a remedy people try; it is shown even where it fails.

    ``unlikely``: how far the change is from what the asker may have meant (a guessed address …); ``guess`` says it.
    ``ask``: another packet to judge the change by, where it can only help later packets than the one asked about.
    """

    edits: tuple[Edit, ...]
    known: bool = False
    unlikely: int = 0
    guess: str = ""
    ask: Question | None = None


@dataclass(slots=True)
class Scene:
    """The obstacle with the facts around it. ``leaf``/``hop``: the way and the pass on which it was met."""

    trial: Trial
    obstacle: Obstacle
    leaf: Leaf
    hop: Hop
    host: Host

    @property
    def world(self) -> World:
        return self.trial.world

    @property
    def skb(self) -> Any:
        return self.leaf.arrival[1]

    @property
    def family(self) -> int:
        return int(self.skb.family)

    def rule(self, text: str, host: str | None = None) -> RuleEdit:
        """An iptables command for a host, for the backend that its rule set uses."""
        name = host or self.host.name
        backends = {t.backend for t in self.world.hosts[name].tables if t.family == self.family}
        return RuleEdit(name, text, self.family, "legacy" if backends == {"legacy"} else None)

    def addr(self, value: int) -> str:
        return format_addr(self.family, value)

    def sysctl(self, key: str, value: str, dev: str | None = None) -> SetSysctl:
        name = f"net.ipv4.conf.{dev.replace('.', '/')}.{key}" if dev else f"net.ipv4.{key}"
        return SetSysctl(self.host.name, name, value)


def candidates(trial: Trial) -> list[Candidate]:
    """What to try against the trial's obstacle, smallest change first."""
    obstacle = trial.obstacle
    if obstacle is None:
        return []
    leaf = trial.leaf if obstacle.phase == FORWARD else trial.back
    if leaf is None or not leaf.hops or leaf.arrival is None:
        return []
    hop = next((h for h in reversed(leaf.hops) if h.host == obstacle.host), leaf.hops[-1])
    scene = Scene(trial, obstacle, leaf, hop, trial.world.hosts[hop.host])
    found: list[Candidate] = []
    for make in _MAKERS.get(obstacle.code, ()):
        found += [c for c in make(scene) if c not in found]
    if obstacle.phase == REPLY:
        for make in (_steer_reply,):
            found += [c for c in make(scene) if c not in found]
    found += [c for c in more(scene) if c not in found]
    return sorted(found, key=lambda c: len(c.edits))


# -------------------------------------------------------------------------------------- forwarding, sysctls


def _ip_forward(scene: Scene) -> Iterator[Candidate]:
    yield Candidate((scene.sysctl("ip_forward", "1"),), known=True)
    natted = [t for t in scene.host.tables if t.name == "nat" and any(len(c) for c in t.chains.values())]
    if not natted:
        yield Candidate((scene.rule(f"-t nat -A POSTROUTING -s {_inside(scene)} -j MASQUERADE"),), known=True)


def _forward_here(scene: Scene) -> Iterator[Candidate]:
    if scene.hop.in_dev:
        yield Candidate((scene.sysctl("forwarding", "1", scene.hop.in_dev),))
    yield Candidate((scene.sysctl("ip_forward", "1"),), known=True)


def _rp_filter(scene: Scene) -> Iterator[Candidate]:
    dev = scene.hop.in_dev
    if dev is None:
        return
    loose, off, all_off = (
        scene.sysctl("rp_filter", "2", dev),
        scene.sysctl("rp_filter", "0", dev),
        scene.sysctl("rp_filter", "0", "all"),
    )
    yield Candidate((loose,), known=True)
    yield Candidate((off,), known=True)
    yield Candidate((all_off,), known=True)
    yield Candidate((all_off, off))
    if scene.skb.mark:
        yield Candidate((scene.sysctl("src_valid_mark", "1", "all"),))


def _conf(key: str) -> Callable[[Scene], Iterator[Candidate]]:
    def make(scene: Scene) -> Iterator[Candidate]:
        if scene.hop.in_dev:
            yield Candidate((scene.sysctl(key, "1", scene.hop.in_dev),))

    return make


# ------------------------------------------------------------------------------------------------- routes


def _gateways(scene: Scene, host: Host, dev: str | None = None) -> list[tuple[str, str]]:
    """(address, device) of neighbours that could forward for ``host``: hosts on its segments, then known neighbours."""
    found: list[tuple[str, str]] = []
    for link in host.links.values():
        if link.loopback or (dev is not None and link.name != dev):
            continue
        segment = scene.world.segment_of(host.name, link.name)
        mine = [a for a in host.addresses if a.dev == link.name and a.family == scene.family]
        for port in segment.members if segment else ():
            other = scene.world.hosts.get(port.host)
            if other is None or port.host == host.name:
                continue
            for a in other.addresses:
                if a.dev == port.dev and a.family == scene.family and any(a.local in m.network for m in mine):
                    found.append((scene.addr(a.local), link.name))
        for n in host.neighbours:
            usable = (
                n.dev == link.name
                and n.family == scene.family
                and not n.proxy
                and n.state not in ("FAILED", "NOARP", "INCOMPLETE")
            )
            if usable and any(n.addr in m.network for m in mine):
                found.append((scene.addr(n.addr), link.name))
    return list(dict.fromkeys(found))


def _route_missing(scene: Scene) -> Iterator[Candidate]:
    plural = _gateways(scene, scene.host)
    for gateway, _ in plural[:3]:
        yield Candidate((RouteEdit(scene.host.name, f"default via {gateway}"),))
    if not plural:
        for dev in [link.name for link in scene.host.links.values() if not link.loopback and link.up][:2]:
            yield Candidate((RouteEdit(scene.host.name, f"default dev {dev}"),))


def _route_in_the_way(scene: Scene) -> Iterator[Candidate]:
    dst = scene.skb.dst
    for (family, table), routes in scene.host.routes.items():
        if family != scene.family:
            continue
        for route in routes:
            if route.type in ("unreachable", "prohibit", "blackhole") and dst in route.prefix:
                tail = f" table {table}" if table != 254 else ""
                yield Candidate((RouteEdit(scene.host.name, f"{route.type} {route.prefix}{tail}", "del"),))
    for rule in scene.host.rules.get(scene.family, ()):
        if rule.action in ("blackhole", "unreachable", "prohibit"):
            words = f"from {rule.src} " if rule.src else ""
            words += f"to {rule.dst} " if rule.dst else ""
            words += f"iif {rule.iif} " if rule.iif else ""
            words += f"prio {rule.priority} {rule.action}"
            yield Candidate((PolicyRuleEdit(scene.host.name, words, "del"),))


def _nobody_answers(scene: Scene) -> Iterator[Candidate]:
    """The next hop is nobody's: another gateway, a way around for this destination, or a translation of it."""
    rt = scene.skb.rt
    dst = scene.addr(scene.skb.dst)
    dev = scene.hop.out_dev or getattr(rt, "dev", None)
    if rt is not None and rt.gateway is not None:
        for gateway, out in _gateways(scene, scene.host)[:3]:
            if gateway != scene.addr(rt.gateway):
                prefix = rt.route.prefix if rt.route is not None else "default"
                shown = "default" if str(prefix).endswith("/0") else prefix
                yield Candidate((RouteEdit(scene.host.name, f"{shown} via {gateway} dev {out}", "replace"),))
        return
    came_from = {h.host for h in scene.leaf.hops} - {scene.host.name}
    for gateway, out in _gateways(scene, scene.host, dev):
        if _owner(scene.world, scene.family, gateway) not in came_from:
            yield Candidate((RouteEdit(scene.host.name, f"{dst} via {gateway} dev {out}"),))
    if scene.hop.in_dev is not None:
        for target in _other_ends(scene, dev)[:4]:
            rule = f"-t nat -A PREROUTING -d {dst} -i {scene.hop.in_dev} -j DNAT --to-destination {target}"
            alike = target.rpartition(".")[2] == dst.rpartition(".")[2]
            yield Candidate((scene.rule(rule),), unlikely=not alike, guess=f"if {target} is the host meant")


def _owner(world: World, family: int, addr: str) -> str | None:
    for host in world.hosts.values():
        if any(a.family == family and format_addr(family, a.local) == addr for a in host.addresses):
            return host.name
    return None


def _other_ends(scene: Scene, dev: str | None) -> list[str]:
    """Addresses of hosts that the packet has not passed, the one with the same last digits first."""
    passed = {h.host for h in scene.leaf.hops}
    routers = {  # nobody who names a host means the gateway of its network
        n.via for h in scene.world.hosts.values() for routes in h.routes.values() for r in routes for n in r.nexthops
    }  # fmt: skip
    bits = 0xFF if scene.family == AF_INET else 0xFFFF
    found = [
        a.local
        for h in scene.world.hosts.values()
        if h.name not in passed
        for a in h.addresses
        if a.family == scene.family and a.local >> 24 != 127 and a.local not in routers
    ]
    found.sort(key=lambda a: (a & bits) != (scene.skb.dst & bits))
    return [scene.addr(a) for a in found]


# ----------------------------------------------------------------------------------------- dropped by rules


def _decisive(hop: Hop) -> Step | None:
    """The rule that ended the packet's way."""
    return next(
        (
            s
            for s in reversed(hop.steps)
            if s.matched and s.verdict not in (None, "ACCEPT", "CONTINUE", "RETURN", "JUMP")
        ),
        None,
    )


def _selector(scene: Scene) -> str:
    skb = scene.skb
    words = f"-s {scene.addr(skb.src)} -d {scene.addr(skb.dst)} -p {PROTO_NAME.get(skb.proto, skb.proto)}"
    if skb.proto in WITH_PORTS and isinstance(skb.dport, int):
        words += f" --dport {skb.dport}"
    return words


def _let_pass(scene: Scene) -> Iterator[Candidate]:
    step = _decisive(scene.hop)
    if step is None or not step.chain:
        return
    table = "" if step.table == "filter" else f"-t {step.table} "
    selector = _selector(scene)
    if step.rule:
        place = f"{table}-I {step.chain} {step.rule}"
        if scene.obstacle.phase == REPLY:
            yield Candidate((scene.rule(f"{place} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),))
        else:
            yield Candidate((scene.rule(f"{place} {selector} -j ACCEPT"),))
        yield Candidate((scene.rule(f"{table}-A {step.chain} {selector} -j ACCEPT"),), known=True)
        yield Candidate((scene.rule(f"{table}-D {step.chain} {step.rule}"),))
    else:
        if scene.obstacle.phase == REPLY:
            yield Candidate(
                (scene.rule(f"{table}-A {step.chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),)
            )
        else:
            yield Candidate((scene.rule(f"{table}-A {step.chain} {selector} -j ACCEPT"),))
        yield Candidate((scene.rule(f"{table}-P {step.chain} ACCEPT"),))


def _not_switched_frames(scene: Scene) -> Iterator[Candidate]:
    """The rules of a router stopped a frame that its bridge switches: they need not see such frames at all."""
    if any(step.stage == "bridge" for step in scene.hop.steps):
        yield Candidate((SetSysctl(scene.host.name, "net.bridge.bridge-nf-call-iptables", "0"),), known=True)


def _hairpin(scene: Scene) -> Iterator[Candidate]:
    port = scene.skb.bridge.physin if scene.skb.bridge is not None else None
    if port is not None:
        yield Candidate((HairpinEdit(scene.host.name, port),), known=True)


# ------------------------------------------------------------------------------------------------- size


def _smaller_segments(scene: Scene) -> Iterator[Candidate]:
    """A TCP packet that is too big: connections made from now on agree on segments that fit. Judged by their SYN."""
    packet = scene.trial.question.packet
    if packet.get("proto") != "tcp":
        return
    rt = getattr(scene.skb, "rt", None)
    dev = scene.hop.out_dev or getattr(rt, "dev", None) or getattr(getattr(rt, "leg", None), "dev", None)
    own = scene.hop.in_dev is None
    chain = "OUTPUT" if own else "FORWARD"
    out = f" -o {dev}" if dev else ""
    rule = f"-t mangle -A {chain}{out} -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"
    header = 40 if scene.family == AF_INET else 60
    size = int(packet.get("len") or scene.skb.length)
    syn = {k: v for k, v in packet.items() if k not in ("len", "payload", "flags", "tcp_flags", "df")}
    ask = replace(scene.trial.question, packet={**syn, "flags": "S", "mss": size - header})
    yield Candidate((scene.rule(rule),), known=True, ask=ask)


# ------------------------------------------------------------------------------------------ source address


def _inside(scene: Scene, hop: Hop | None = None) -> str:
    """The network the source lives in, as the host sees it: the inner interface's, else the address itself."""
    hop = hop or scene.hop
    return str(_network(scene.world, hop, scene.family, scene.skb.src))


def _network(world: World, hop: Hop, family: int, src: int) -> Prefix:
    host = world.hosts[hop.host]
    near = [a.network for a in host.addresses if a.family == family and src in a.network and a.plen < BITS[family]]
    if near:
        return max(near, key=lambda p: p.plen)
    for other in world.hosts.values():
        own = [a.network for a in other.addresses if a.family == family and a.local == src]
        if own and own[0].plen < BITS[family]:
            return own[0]
    return Prefix(family, src, BITS[family])


def _translate(scene: Scene) -> Iterator[Candidate]:
    """A source that nobody can answer: translate it where it leaves, in a connection that is still undecided."""
    out = scene.leaf.at.get("interface")
    here = [p for p in passes_of(scene.trial.world, scene.leaf) if p.hop.host == scene.host.name]
    last = here[-1] if here else None
    inside = _inside(scene)
    masquerade = scene.rule(f"-t nat -A POSTROUTING -s {inside} -o {out} -j MASQUERADE")
    if last is not None and last.conn_where is not None:
        conn = last.conn
        yield Candidate((ConntrackDelete(scene.host.name, conn.tuples[0], *conn.zones),))
    if last is not None and last.decided_at is not None:
        for extra in [()] if last.skipped else _mended(scene, last, inside) or [(masquerade,)]:
            for candidate in _separate_passes(scene, here, inside):
                yield Candidate((*candidate.edits, *extra), candidate.known)
    for mended in _mended(scene, last, inside) if last is not None else ():
        yield Candidate(mended)
    yield Candidate((masquerade,), known=True)
    own = next((a for a in scene.host.addresses if a.dev == out and a.family == scene.family and not a.secondary), None)
    if own is not None and not (last is not None and last.skipped):
        yield Candidate(
            (scene.rule(f"-t nat -A POSTROUTING -s {inside} -o {out} -j SNAT --to-source {scene.addr(own.local)}"),)
        )


def _mended(scene: Scene, last: Pass, inside: str) -> list[tuple[Edit, ...]]:
    """A translating rule whose only fault is its source: put right in its place, rather than a second rule added."""
    from .passes import tried_rules

    found: list[tuple[Edit, ...]] = []
    for rule, miss in tried_rules(scene.trial.world, scene.leaf, last.hop, "POSTROUTING"):
        if miss is None or not miss.criterion.startswith("-s ") or rule.text.count(f"{miss.criterion} ") != 1:
            continue
        text = rule.text.replace(miss.criterion, f"-s {inside}")
        found.append((scene.rule(f"-t nat -R POSTROUTING {rule.rule_id.index} {text}"),))
    return found[:1]


def _separate_passes(scene: Scene, here: list[Pass], inside: str) -> Iterator[Candidate]:
    """Zones (numbered like the passes) or no tracking, so that the last pass is a connection of its own."""
    first, last = here[-2].hop, here[-1].hop
    taken = {z for p in here for z in (p.zone,) if z}
    one, two = (n + max(taken, default=0) for n in (len(here) - 1, len(here)))
    raw = "-t raw -A PREROUTING"
    yield from _zone_per_pass(scene, [p.hop for p in here], inside)
    if first.in_dev is None or last.in_dev is None:
        chain = "-t raw -A OUTPUT" if first.in_dev is None else raw
        where = "" if first.in_dev is None else f" -i {first.in_dev}"
        yield Candidate((scene.rule(f"{chain}{where} -s {inside} -j CT --zone-orig {one}"),))
        return
    yield Candidate((scene.rule(f"{raw} -i {last.in_dev} -s {inside} -j CT --zone-orig {two}"),))
    yield Candidate(
        (
            scene.rule(f"{raw} -i {first.in_dev} -j CT --zone {one}"),
            scene.rule(f"{raw} -i {last.in_dev} -d {inside} -j CT --zone {one}"),
        )
    )
    yield Candidate((scene.rule(f"{raw} -i {first.in_dev} -j CT --zone {one}"),))
    yield Candidate((scene.rule(f"{raw} -i {last.in_dev} -j CT --zone {two}"),), known=True)
    yield Candidate((scene.rule(f"{raw} -i {first.in_dev} -j CT --notrack"),), known=True)


def _own_address(scene: Scene) -> Iterator[Candidate]:
    out = scene.leaf.at.get("interface")
    own = next((a for a in scene.host.addresses if a.dev == out and a.family == scene.family), None)
    if own is not None:
        yield Candidate((AddressEdit(scene.host.name, f"{scene.addr(scene.skb.src)}/{own.plen}", str(out)),))


# ---------------------------------------------------------------------------------------------- way back


def _steer_reply(scene: Scene) -> Iterator[Candidate]:
    """The answer goes elsewhere: make it come back by the host that forwarded the request."""
    forward = scene.trial.leaf
    if forward.outcome != "delivered" or len(forward.hops) < 2:
        return
    end, router = forward.hops[-1], forward.hops[-2]
    asker = forward.arrival[1]
    inner = _network(scene.world, router, asker.family, asker.src)
    yield Candidate(
        (scene.rule(f"-t nat -A POSTROUTING -o {router.out_dev} -s {inner} -j MASQUERADE", router.host),), known=True
    )
    responder = scene.world.hosts[end.host]
    near = [a for a in responder.addresses if a.dev == end.in_dev and a.family == asker.family]
    for a in scene.world.hosts[router.host].addresses:
        if a.dev == router.out_dev and any(a.local in n.network for n in near):
            yield Candidate((RouteEdit(end.host, f"{inner} via {scene.addr(a.local)} dev {end.in_dev}"),))
            return


def _zone_per_pass(scene: Scene, passes: list[Hop], inside: str) -> Iterator[Candidate]:
    """Zone rules that the flow meets, replaced by a consistent pair: the first pass has its zone in both directions.

    Its requests come in by the first interface, its replies by the last one, for the inside; all else stays in zone 0.
    """
    first, last = passes[0], passes[-1]
    have = _zone_rules(scene)
    if len(passes) != 2 or not have or first.in_dev is None or last.in_dev is None:
        return
    wanted = [f"-i {first.in_dev} -j CT --zone 1", f"-i {last.in_dev} -d {inside} -j CT --zone 1"]
    missing = [w for w in wanted if w not in have.values()]
    wrong = [index for index, text in have.items() if text not in wanted]
    raw = "-t raw"
    edits = [
        scene.rule(f"{raw} -R PREROUTING {index} {text}") for index, text in zip(wrong, missing[::-1], strict=False)
    ]
    edits += [scene.rule(f"{raw} -D PREROUTING {index}") for index in sorted(wrong[len(missing) :], reverse=True)]
    edits += [scene.rule(f"{raw} -A PREROUTING {text}") for text in missing[::-1][len(wrong) :]]
    if edits:
        yield Candidate(tuple(edits))


def _zone_rules(scene: Scene) -> dict[int, str]:
    """Rules of raw PREROUTING that give zones to packets of this flow, by number."""
    ways = [scene.trial.leaf, *([scene.trial.back] if scene.trial.back is not None else [])]
    return {
        s.rule: s.text or ""
        for leaf in ways for hop in leaf.hops if hop.host == scene.host.name for s in hop.steps
        if s.matched and s.target == "CT" and s.chain == "PREROUTING" and s.rule and "--zone" in (s.text or "")
    }  # fmt: skip


def _same_zone(scene: Scene) -> Iterator[Candidate]:
    zones = [h.conntrack["zone"] for h in scene.trial.leaf.hops if h.host == scene.host.name and h.conntrack]
    arrived = next((h.in_dev for h in scene.leaf.hops if h.host == scene.host.name), None)
    passes = [h for h in scene.trial.leaf.hops if h.host == scene.host.name]
    if len(passes) > 1:
        asker = scene.trial.asked.skb
        src = asker.src or scene.skb.src
        yield from _zone_per_pass(scene, passes, str(_network(scene.world, passes[0], asker.family, src)))
    for table in scene.host.tables:  # a rule that puts both directions into the zone could do so for one only
        chain = table.chains.get("PREROUTING") if table.name == "raw" and table.family == scene.family else None
        for index in range(1, min(len(chain), 200) + 1) if chain is not None else ():
            text = chain.rule(index).text  # type: ignore[union-attr]
            if " --zone " in text:
                better = text.replace(" --zone ", " --zone-orig ")
                # Whoever gave a zone to an interface meant the pass, not one direction of it
                yield Candidate((scene.rule(f"-t raw -R PREROUTING {index} {better}"),), unlikely=1)
    for zone in dict.fromkeys(z for z in reversed(zones) if z):
        yield Candidate((scene.rule(f"-t raw -A PREROUTING -i {arrived} -j CT --zone {zone}"),))


def _same_uplink(scene: Scene) -> Iterator[Candidate]:
    """Send the answer out of the interface the request came in by."""
    name, dev = scene.host.name, scene.trial.asked.in_dev
    asked_first = scene.leaf.hops[0]
    answer_src = asked_first.before.get("src")
    near = [a for a in scene.host.addresses if a.dev == dev and a.family == scene.family]
    tables = [
        table
        for (family, table), routes in scene.host.routes.items()
        if family == scene.family and table not in (253, 254, 255)
        for r in routes
        if r.prefix.plen == 0 and any(n.dev == dev for n in r.nexthops)
    ]
    iif = f" iif {asked_first.in_dev}" if asked_first.in_dev else ""
    for table in dict.fromkeys(tables):
        yield Candidate((PolicyRuleEdit(name, f"from {answer_src}{iif} lookup {table}"),))
    if not tables and near:
        gateways = [
            scene.addr(n.via) for (family, _), routes in scene.host.routes.items() if family == scene.family
            for r in routes if r.prefix.plen == 0 for n in r.nexthops if n.dev == dev and n.via is not None
        ] or [g for g, d in _gateways(scene, scene.host, dev)]  # fmt: skip
        for gateway in gateways[:1]:
            route = RouteEdit(name, f"default via {gateway} dev {dev} table 100")
            yield Candidate((route, PolicyRuleEdit(name, f"from {answer_src}{iif} lookup 100")))


def _is_private(scene: Scene) -> bool:
    return is_private(scene.family, scene.skb.src)


_Maker = Callable[[Scene], Iterator[Candidate]]
_MAKERS: dict[str, tuple[_Maker, ...]] = {
    "ip_forward_disabled": (_ip_forward,),
    "forwarding_disabled_on_interface": (_forward_here,),
    "rp_filter": (_rp_filter,),
    "src_valid_mark_off": (_rp_filter,),
    "martian_source": (_conf("accept_local"), _conf("route_localnet")),
    "martian_destination": (_conf("route_localnet"),),
    "accept_local_off": (_conf("accept_local"),),
    "route_localnet_off": (_conf("route_localnet"),),
    "no_route": (_route_missing,),
    "no_return_route": (_route_missing,),
    "route_unreachable": (_route_in_the_way,),
    "route_prohibit": (_route_in_the_way,),
    "route_blackhole": (_route_in_the_way,),
    "rule_blackhole": (_route_in_the_way,),
    "neighbour_failed": (_nobody_answers,),
    "fragmentation_needed": (_smaller_segments,),
    "dropped_by_rule": (_let_pass, _not_switched_frames),
    "rejected_by_rule": (_let_pass, _not_switched_frames),
    "dropped_by_policy": (_let_pass, _not_switched_frames),
    "bridge_hairpin_off": (_hairpin,),
    "private_source_leaves": (_translate,),
    "source_not_owned": (_own_address,),
    "zone_mismatch": (_same_zone,),
    "asymmetric_return": (_same_uplink,),
}
