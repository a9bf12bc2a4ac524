"""More candidates: rules that miss by one criterion, rules in the way or in the wrong chain, entries, tracking, gateways.

As in :mod:`.candidates` nothing here says that a change works; each is applied to a copy and simulated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from ..model.addr import AF_INET, format_addr
from ..model.drawn import Drawn
from ..model.packet import PROTO_NAME
from ..model.result import Hop, Step
from ..model.rule import Rule
from .astray import late_mark
from .full import room
from .passes import tried_rules
from .whatif import ConntrackDelete, Edit, PolicyRuleEdit, RouteEdit, RuleEdit, SetSysctl
from .whatif_ipset import IpsetAdd

if TYPE_CHECKING:
    from .candidates import Candidate, Scene

SPECIFIC = ("-s", "-d", "-i", "-o", "-p", "--sport", "--dport")  # what a rule says of a flow, positively
MOST_MISSES = 6


def more(scene: Scene) -> Iterator[Candidate]:
    """What to try beside the obstacle's own candidates."""
    yield from _delete_entries(scene)
    for make in _MAKERS.get(scene.obstacle.code, ()):
        yield from make(scene)


def _candidate(*edits: Edit, known: bool = False, unlikely: int = 0, guess: str = "") -> Candidate:
    from .candidates import Candidate

    return Candidate(tuple(edits), known, unlikely, guess)


# ------------------------------------------------------------------------------- rules that nearly match


def near_accepts(hop: Hop, stop: Step | None) -> list[Step]:
    """ACCEPT rules of the chain in which the packet ended that did not match, and say more of a flow than what failed."""
    if stop is None:
        return []
    steps = [
        s for s in hop.steps
        if s.matched is False and (s.chain, s.table) == (stop.chain, stop.table) and s.target == "ACCEPT" and s.rule
    ]  # fmt: skip
    return [s for s in steps if len(_said(s.text or "") - {failed_option(s)}) > 0][:MOST_MISSES]


def failed_option(step: Step) -> str:
    """The option of the criterion that failed: ``--dport`` of ``--dport 8080, but …``."""
    words = (step.note or "").partition(", but ")[0].split()
    words = words[1:] if words[:1] == ["!"] else words
    return words[0] if words else ""


def _said(text: str) -> set[str]:
    """Options of SPECIFIC that stand in a rule without negation."""
    words = text.split()
    return {w for before, w in zip(["", *words], words, strict=False) if w in SPECIFIC and before != "!"}


def _mend(scene: Scene) -> Iterator[Candidate]:
    """The rule that would have accepted but for one criterion, with that criterion as the packet has it."""
    from .candidates import _decisive

    stop = _decisive(scene.hop)
    for step in near_accepts(scene.hop, stop or _policy_step(scene.hop)):
        for text in _mended(scene, step):
            table = "" if step.table == "filter" else f"-t {step.table} "
            yield _candidate(scene.rule(f"{table}-R {step.chain} {step.rule} {text}"))
        element = _element(scene, step)
        if element is not None:
            yield _candidate(IpsetAdd(scene.host.name, *element))


def _policy_step(hop: Hop) -> Step | None:
    """The step of a policy that ended the packet's way."""
    return next((s for s in reversed(hop.steps) if s.verdict == "DROP" and not s.rule), None)


def _mended(scene: Scene, step: Step) -> Iterator[str]:
    """The rule's text with the failed criterion put right."""
    text, option = step.text or "", failed_option(step)
    if option == "--match-set":
        found = re.search(r"--match-set (\S+) (\S+)", text)
        if found:
            count = found[2].count(",") + 1
            for flags in product(("src", "dst"), repeat=count):
                if ",".join(flags) != found[2]:
                    yield text.replace(found[0], f"--match-set {found[1]} {','.join(flags)}")
        return
    actual = _actual(scene, option)
    if actual is not None:
        pattern = rf"(?<!! ){re.escape(option)} \S+"
        if len(re.findall(pattern, text)) == 1:
            yield re.sub(pattern, f"{option} {actual}", text)


def _actual(scene: Scene, option: str) -> str | None:
    skb = scene.skb
    rt = getattr(skb, "rt", None)
    values: dict[str, Any] = {
        "-s": scene.addr(skb.src), "-d": scene.addr(skb.dst), "-i": scene.hop.in_dev,
        "-o": scene.hop.out_dev or getattr(rt, "dev", None), "-p": PROTO_NAME.get(skb.proto),
        "--dport": skb.dport, "--sport": skb.sport,
    }  # fmt: skip
    value = values.get(option)
    return None if value is None or isinstance(value, Drawn) else str(value)


def _element(scene: Scene, step: Step) -> tuple[str, str] | None:
    """(set, element) that would make a --match-set rule match."""
    if failed_option(step) != "--match-set":
        return None
    found = re.search(r"--match-set (\S+) (\S+)", step.text or "")
    known = scene.host.sets.get(found[1]) if found else None
    if found is None or known is None:
        return None
    skb = scene.skb
    parts = []
    for name, side in zip(known.type.partition(":")[2].split(","), found[2].split(","), strict=False):
        if name in ("ip", "net"):
            parts.append(scene.addr(skb.src if side == "src" else skb.dst))
        elif name == "port":
            port = skb.sport if side == "src" else skb.dport
            if isinstance(port, Drawn):
                return None
            parts.append(f"{PROTO_NAME.get(skb.proto, skb.proto)}:{port}")
        else:
            return None
    return (found[1], ",".join(parts)) if parts else None


# -------------------------------------------------------------------------- rules in the way, wrong chains


def _nat_accepts(scene: Scene) -> Iterator[Candidate]:
    """A rule of nat POSTROUTING that ends the chain without a translation, before one that would translate."""
    for step in scene.hop.steps:
        if step.table == "nat" and step.hook == "POSTROUTING" and step.matched and step.target in ("ACCEPT", "RETURN"):
            yield _candidate(scene.rule(f"-t nat -D {step.chain} {step.rule}"))


def _from_input(scene: Scene) -> Iterator[Candidate]:
    """A source translation in nat INPUT, where only what is delivered here comes by."""
    for rule in _would_match(scene, "INPUT"):
        out = f"-o {scene.leaf.at['interface']} " if " -o " not in f" {rule.text} " else ""
        yield _candidate(
            scene.rule(f"-t nat -D INPUT {rule.rule_id.index}"), scene.rule(f"-t nat -A POSTROUTING {out}{rule.text}")
        )


def _for_local(scene: Scene) -> Iterator[Candidate]:
    """A destination translation in nat PREROUTING that a packet of the host itself does not come by."""
    if scene.trial.asked.in_dev is not None:
        return
    for rule in _would_match(scene, "PREROUTING"):
        yield _candidate(scene.rule(f"-t nat -A OUTPUT {rule.text}"))


def _would_match(scene: Scene, chain: str) -> list[Rule]:
    hop = scene.trial.leaf.hops[-1 if chain == "INPUT" else 0]
    return [rule for rule, miss in tried_rules(scene.trial.world, scene.trial.leaf, hop, chain) if miss is None][:2]


def _other_backend(scene: Scene) -> Iterator[Candidate]:
    """The rule that refuses, deleted with the tool that shows it."""
    from .candidates import _decisive

    step = _decisive(scene.hop)
    backends = {t.backend for t in scene.host.tables if t.family == scene.family}
    if step is not None and step.rule and step.backend == "legacy" and len(backends) > 1:
        table = "" if step.table == "filter" else f"-t {step.table} "
        text = f"{table}-D {step.chain} {step.rule}"
        yield _candidate(RuleEdit(scene.host.name, text, scene.family, "legacy"))


def _narrow(scene: Scene) -> Iterator[Candidate]:
    """A DNAT rule that takes everything, for what comes in where it was meant."""
    for hop in scene.trial.leaf.hops:
        step = next((s for s in hop.steps if "dst" in s.changes and s.table == "nat" and s.rule), None)
        if step is None:
            continue
        uplinks = [
            n.dev for (family, _), routes in scene.world.hosts[hop.host].routes.items() if family == scene.family
            for r in routes if r.prefix.plen == 0 for n in r.nexthops
        ]  # fmt: skip
        for dev in dict.fromkeys(d for d in uplinks if d != hop.in_dev):
            yield _candidate(scene.rule(f"-t nat -R {step.chain} {step.rule} -i {dev} {step.text}", hop.host))
        return


def _except_owner(scene: Scene) -> Iterator[Candidate]:
    """The redirection without what the proxy's own user sends."""
    uid = scene.trial.question.packet.get("uid")
    step = next((s for s in scene.trial.leaf.hops[0].steps if "dst" in s.changes and s.table == "nat" and s.rule), None)
    if step is not None and uid is not None:
        text = f"-t nat -R {step.chain} {step.rule} -m owner ! --uid-owner {uid} {step.text}"
        yield _candidate(scene.rule(text))


def _to_the_proxy(scene: Scene) -> Iterator[Candidate]:
    """The policy rule and the local route that TPROXY needs, for the mark that it sets."""
    for hop in scene.trial.leaf.hops:
        step = next((s for s in hop.steps if s.target == "TPROXY" and s.matched), None)
        found = re.search(r"--tproxy-mark (\S+)", step.text or "") if step is not None else None
        if found is None:
            continue
        mark = found[1].removesuffix("/0xffffffff")
        family = scene.world.hosts[hop.host].routes
        table = next(t for t in range(100, 200) if (scene.family, t) not in family)
        yield _candidate(
            PolicyRuleEdit(hop.host, f"fwmark {mark} lookup {table}"),
            RouteEdit(hop.host, f"local default dev lo table {table}"),
        )
        return


# -------------------------------------------------------------------------------- marks, entries, tracking


def _mark_in_time(scene: Scene) -> Iterator[Candidate]:
    """The MARK rule in the chain after which the packet is routed."""
    found = late_mark(scene.trial)
    if found is None:
        return
    index, _, step, _ = found
    hop = scene.trial.leaf.hops[index]
    chain = "OUTPUT" if hop.in_dev is None else "PREROUTING"
    text = re.sub(r"(! )?-o \S+ ?", "", step.text or "")
    yield _candidate(scene.rule(f"-t mangle -A {chain} {text}", hop.host))


def _delete_entries(scene: Scene) -> Iterator[Candidate]:
    """Entries of the snapshot that the packet was found in: what they hold may be older than the rules."""
    for hop in scene.trial.leaf.hops:
        if hop.conntrack is None or scene.trial.leaf.state is None:
            continue
        conn = scene.trial.leaf.state.host(hop.host).ct.get(hop.conntrack.get("id"))
        if conn is not None and conn.where is not None:
            yield _candidate(ConntrackDelete(hop.host, conn.tuples[0], *conn.zones))


def _track(scene: Scene) -> Iterator[Candidate]:
    """What switched tracking off, or kept the packet out of every connection."""
    for step in scene.hop.steps:
        if (
            step.matched
            and step.table == "raw"
            and step.target in ("CT", "NOTRACK")
            and "--zone" not in (step.text or "")
        ):
            yield _candidate(scene.rule(f"-t raw -D {step.chain} {step.rule}"))
    states = [s.conntrack or "" for s in scene.hop.steps if s.stage == "conntrack"]
    if any(s.startswith("INVALID") for s in states) and scene.skb.proto == 6:
        yield _candidate(SetSysctl(scene.host.name, "net.netfilter.nf_conntrack_tcp_loose", "1"))


def _free_ports(scene: Scene) -> Iterator[Candidate]:
    """A SNAT rule without its port, or without its range of ports."""
    for step in scene.hop.steps:
        if step.table == "nat" and step.matched and step.rule and step.target == "SNAT":
            text = re.sub(r"(--to-source [\d.]+(?:-[\d.]+)?):\d+(?:-\d+)?", r"\1", step.text or "")
            if text != step.text:
                yield _candidate(scene.rule(f"-t nat -R {step.chain} {step.rule} {text}"))
        if step.table == "nat" and step.matched and step.rule and step.target == "MASQUERADE":
            text = re.sub(r" --to-ports \S+", "", step.text or "")
            if text != step.text:
                yield _candidate(scene.rule(f"-t nat -R {step.chain} {step.rule} {text}"))


# --------------------------------------------------------------------------------- routes, ttl, addresses


def _guessed_gateway(scene: Scene) -> Iterator[Candidate]:
    """A default route by the uplink whose gateway nobody names: its network's last address, said to be a guess."""
    routed = [
        r for (f, _), routes in scene.host.routes.items() if f == scene.family for r in routes if r.prefix.plen == 0
    ]
    if routed:
        return
    for address in scene.host.addresses:
        inside = scene.world.segment_of(scene.host.name, address.dev) is not None
        if address.family != AF_INET or address.plen > 30 or address.local >> 24 == 127 or inside:
            continue
        gateway = format_addr(AF_INET, address.network.value + (1 << (32 - address.plen)) - 2)
        edit = RouteEdit(scene.host.name, f"default via {gateway} dev {address.dev}")
        yield _candidate(edit, unlikely=1, guess=f"if {gateway} is the gateway")


def _out_of_the_loop(scene: Scene) -> Iterator[Candidate]:
    """A default route by the uplink of a host that sends the packet back, over a gateway that nobody names: a guess."""
    for name in dict.fromkeys(hop.host for hop in scene.leaf.hops if hop.in_dev is not None):
        host = scene.world.hosts[name]
        for address in host.addresses:
            inside = scene.world.segment_of(name, address.dev) is not None
            if address.family != AF_INET or address.plen > 30 or address.local >> 24 == 127 or inside:
                continue
            gateway = format_addr(AF_INET, address.network.value + (1 << (32 - address.plen)) - 2)
            edit = RouteEdit(name, f"default via {gateway} dev {address.dev}", "replace")
            yield _candidate(edit, unlikely=1, guess=f"if {gateway} is the gateway of {address.dev}")


def _by_uplink(scene: Scene) -> Iterator[Candidate]:
    """Answers out of the interface the request came in by, over a gateway that nobody names."""
    asked = scene.trial.asked
    known = [
        n for (f, _), routes in scene.host.routes.items() if f == scene.family for r in routes if r.prefix.plen == 0
        for n in r.nexthops if n.dev == asked.in_dev
    ]  # fmt: skip
    if asked.in_dev is None or known:
        return
    source = scene.leaf.hops[0].before.get("src") if scene.leaf.hops else None
    came = f" iif {scene.hop.in_dev}" if scene.hop.in_dev else ""
    for address in scene.host.addresses_of(asked.in_dev):
        gateway = format_addr(AF_INET, address.network.value + (1 << (32 - address.plen)) - 2)
        route = RouteEdit(scene.host.name, f"default via {gateway} dev {asked.in_dev} table 100")
        rule = PolicyRuleEdit(scene.host.name, f"from {source}{came} lookup 100")
        yield _candidate(route, rule, unlikely=1, guess=f"if {gateway} is the gateway of {asked.in_dev}")
        return


def _more_ttl(scene: Scene) -> Iterator[Candidate]:
    if scene.hop.in_dev is not None:
        yield _candidate(scene.rule(f"-t mangle -A PREROUTING -i {scene.hop.in_dev} -j TTL --ttl-set 64"))


def _reroute_by_uplink(scene: Scene) -> Iterator[Candidate]:
    """Translate what leaves by the uplink that the address does not belong to."""
    out = scene.leaf.at.get("interface")
    yield _candidate(scene.rule(f"-t nat -A POSTROUTING -o {out} -j MASQUERADE"))


def _answer_for(scene: Scene) -> Iterator[Candidate]:
    """The host that chose the source answers ARP for it."""
    forward = scene.trial.leaf
    asked = scene.trial.reply_asked
    if asked is None:
        return
    source = scene.addr(asked.skb.dst)
    for hop in reversed(forward.hops):
        if any("src" in s.changes and str(s.changes["src"][1]) == source for s in hop.steps) and hop.out_dev:
            from .whatif_addr import AddressEdit

            yield _candidate(AddressEdit(hop.host, f"{source}/32", hop.out_dev))
            return


_POLICY = ("dropped_by_policy", "dropped_by_rule", "rejected_by_rule")
_MAKERS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(_POLICY, (_mend, _other_backend)),
    "private_source_leaves": (_nat_accepts, _from_input, _mark_in_time, _track),
    "no_listener": (_for_local,),
    "mark_too_late": (_mark_in_time,),
    "tproxy_without_route": (_to_the_proxy,),
    "dnat_too_wide": (_narrow,),
    "proxy_redirects_itself": (_except_owner,),
    "source_chosen_before_rerouting": (_reroute_by_uplink,),
    "nat_ports_exhausted": (_free_ports,),
    "conntrack_clash": (_free_ports,),
    "conntrack_invalid": (_track,),
    "conntrack_full": (room,),
    "no_route": (_guessed_gateway,),
    "looped": (_out_of_the_loop,),
    "asymmetric_return": (_by_uplink,),
    "ttl_exceeded": (_more_ttl,),
    "neighbour_failed": (_answer_for,),
}
