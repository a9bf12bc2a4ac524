"""A minimal plausible network for a host of which only the rules are known.

Interfaces and addresses are taken from the rules and the flow, forwarding is assumed; everything assumed is said.
What a dump does tell is never overruled.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from ..model.addr import AF_INET, AF_INET6, BITS, Prefix, format_addr, parse_prefix
from ..model.route import (
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    Address,
    Link,
    Nexthop,
    Route,
)  # fmt: skip
from ..model.world import Host, Setting
from ..record import NamedTuple, dataclass, field
from .reach import address_of, reached

PLACEHOLDER = {
    AF_INET: 0xC0000200,
    AF_INET6: 0x20010DB8 << 96,
}  # 192.0.2.0/24 and 2001:db8::/32, RFC 5737 and 3849
MOST_RULES = 20_000  # that many are looked at
FEW = 4  # names that are told one by one


class FlowFacts(NamedTuple):
    """What the FLOW says: addresses as integers, the receiving interface; None where it doesn't."""

    family: int = AF_INET
    src: int | None = None
    dst: int | None = None
    indev: str | None = None


class Inferred(NamedTuple):
    """The host with what was missing, and one text for each thing assumed."""

    host: Host
    assumptions: tuple[str, ...]


@dataclass(slots=True)
class Facts:
    """What rules and flow say: ``own`` address → interface (None: unsaid), ``behind`` network → interface."""

    devs: dict[str, None] = field(default_factory=dict)
    own: dict[int, str | None] = field(default_factory=dict)
    behind: dict[Prefix, str] = field(default_factory=dict)
    uplinks: dict[str, None] = field(default_factory=dict)
    inner: dict[int, str | None] = field(default_factory=dict)  # DNAT destination → the interface it isn't behind
    received: bool = False  # a packet comes in


def lacks_network(host: Host, family: int = AF_INET) -> bool:
    """Whether links, addresses or routes are missing."""
    return not host.links or _no_addresses(host) or _no_routes(host, family)


def _no_addresses(host: Host) -> bool:
    return not host.addresses and "addr" not in host.files


def _no_routes(host: Host, family: int) -> bool:
    kind = "route" if family == AF_INET else "route6"
    # without a dump of the routes there are still those that a dump of the addresses implies
    return kind not in host.files and ("addr" in host.files or (family, RT_TABLE_MAIN) not in host.routes)


def infer_network(host: Host, flow: FlowFacts, later: tuple[FlowFacts, ...] = ()) -> Inferred:
    """Links, addresses, routes and forwarding for a host whose dumps lack them (kinds absent from ``host.files``).

    ``later``: flows that came after ``flow``: they add interfaces and what is behind them, and change nothing else.
    """
    no_links, no_addresses, no_routes = not host.links, _no_addresses(host), _no_routes(host, flow.family)
    if not (no_links or no_addresses or no_routes):
        return Inferred(host, ())
    facts = _facts(host, (flow, *later))
    said: list[str] = []
    if no_links:
        host = _with_links(host, facts, said)
    if no_addresses:
        host = _with_addresses(host, facts, flow, said)
    if no_routes:
        host = _with_routes(host, facts, flow, said)
    if "sysctl" not in host.files:
        host = _with_forwarding(host, flow.family, said)
    return Inferred(host, tuple(said))


# ── what is known ────────────────────────────────────────────────────────────────────────────────────────


def _facts(host: Host, flows: tuple[FlowFacts, ...]) -> Facts:
    facts = Facts()
    family = flows[0].family
    for address in host.addresses:
        facts.devs[address.dev] = None
    for routes in host.routes.values():
        for route in routes:
            facts.devs.update((leg.dev, None) for leg in route.nexthops if leg.dev)
    told = reached((table for table in host.tables if table.family == family), flows[0].dst)
    for chain, words in islice(told, MOST_RULES):  # none is parsed for this, so none has to be right
        _rule_facts(facts, chain, words, family)
    for flow in flows:
        if flow.indev:
            facts.devs[flow.indev] = None
            facts.received = True
            if flow.src and flow.src not in facts.own and flow.family == family:
                facts.behind.setdefault(Prefix(family, flow.src, BITS[family]), flow.indev)
    facts.devs.pop("lo", None)
    return facts


def _rule_facts(facts: Facts, chain: str, words: list[str], family: int) -> None:
    said: dict[str, str] = {}
    for at, word in enumerate(words[:-1]):
        if word in _ASKED and (at == 0 or words[at - 1] != "!"):
            said.setdefault(_ASKED[word], words[at + 1])
    indev, outdev = (_plain_dev(said.get(key)) for key in ("in", "out"))
    for dev in (indev, outdev):
        if dev:
            facts.devs[dev] = None
    src, dst = (_prefix(said.get(key), family) for key in ("src", "dst"))
    if indev and src is not None:
        facts.behind.setdefault(src, indev)
    if outdev and dst is not None:
        facts.behind.setdefault(dst, outdev)
    target = said.get("target")
    if outdev and target in ("MASQUERADE", "SNAT"):
        facts.uplinks[outdev] = None
    if target == "SNAT" and (own := _address(said.get("to-source"), family)) is not None:
        facts.own.setdefault(own, outdev)
    if target == "DNAT":
        if (inner := _address(said.get("to-destination"), family)) is not None:
            facts.inner.setdefault(inner, indev)
    single = dst.value if dst is not None and dst.plen == BITS[family] else None
    if single is not None and single != 0x7F000001 and (target in ("DNAT", "REDIRECT") or chain == "INPUT"):
        facts.own.setdefault(single, indev)


_ASKED = {
    "-i": "in", "--in-interface": "in", "-o": "out", "--out-interface": "out", "-s": "src", "--source": "src",
    "-d": "dst", "--destination": "dst", "-j": "target", "--jump": "target", "--to-source": "to-source",
    "--to-destination": "to-destination",
}  # fmt: skip


def _plain_dev(name: str | None) -> str | None:
    return name if name and not name.endswith("+") and name != "lo" and len(name) < 16 else None


def _prefix(text: str | None, family: int) -> Prefix | None:
    try:
        found = parse_prefix(text) if text else None
    except (ValueError, OSError):
        return None
    return found if found is not None and found.family == family and found.plen else None


def _address(text: str | None, family: int) -> int | None:
    """An address that a target leads to."""
    found = address_of(text) if text else None
    return found[1] if found is not None and found[0] == family else None


# ── what is assumed ──────────────────────────────────────────────────────────────────────────────────────


def _with_links(host: Host, facts: Facts, said: list[str]) -> Host:
    told = "named in the rules and the flow" if facts.devs else "assumed"
    names = list(facts.devs) or ["eth0"]
    if len(names) == 1 and (facts.inner or facts.received):
        names.append(
            "eth1" if names[0] != "eth1" else "eth2"
        )  # what it sends on, or translates to, sits somewhere else
    facts.devs = dict.fromkeys(names)
    links = {"lo": Link("lo", 1, mtu=65536, mac=0, loopback=True)}
    for index, name in enumerate(names, 2):
        links[name] = Link(name, index)
    said.append(f"{host.name}: no link.json: its interfaces are those {told}: {', '.join(names)}; all up, mtu 1500")
    return host.with_(links=links)


def _devs(host: Host, facts: Facts) -> list[str]:
    return list(facts.devs) or [name for name, link in host.links.items() if not link.loopback]


def _with_addresses(host: Host, facts: Facts, flow: FlowFacts, said: list[str]) -> Host:
    family, bits = flow.family, BITS[flow.family]
    devs = _devs(host, facts)
    outside = next(iter(facts.uplinks), devs[0] if devs else "eth0")
    loopback = Address(
        family, "lo", 0x7F000001 if family == AF_INET else 1, 8 if family == AF_INET else 128, RT_SCOPE_HOST
    )
    found = [loopback]
    taken_for: dict[str, list[str]] = {}
    for value, said_dev in facts.own.items():
        dev = said_dev or outside
        found.append(Address(family, dev, value, bits))
        taken_for.setdefault(dev, []).append(format_addr(family, value))
    for dev, names in taken_for.items():
        said += [f"{host.name}: no addr.json: {some} taken for its own (on {dev})" for some in _folded(names)]
    held = {address.dev for address in found}
    taken = {flow.src, flow.dst, *facts.own}
    candidates = (PLACEHOLDER[family] + n for n in range(1, 1 << 16))
    for dev in devs:
        if dev in held:
            continue
        value = next(c for c in candidates if c not in taken)
        found.append(Address(family, dev, value, bits))
        said.append(f"{host.name}: no addr.json: {format_addr(family, value)} stands for the unknown address of {dev}")
    return host.with_(addresses=(*host.addresses, *found))


def _with_routes(host: Host, facts: Facts, flow: FlowFacts, said: list[str]) -> Host:
    family, bits = flow.family, BITS[flow.family]
    devs = _devs(host, facts) or ["eth0"]
    outside = next((d for d in facts.uplinks if d != flow.indev), None)
    if outside is None:
        outside = next((d for d in devs if d != flow.indev), devs[0])

    def leg(dev: str) -> tuple[Nexthop, ...]:
        return (Nexthop(dev, None, family),)

    known = host.routes.get((family, RT_TABLE_MAIN), ())
    main = [
        *known,
        Route(Prefix(family, 0, 0), nexthops=leg(outside), scope=RT_SCOPE_LINK, text=f"default dev {outside}"),
    ]
    said.append(f"{host.name}: no route.json: what nothing else says is reached through {outside}")
    placed: dict[str, list[str]] = {}
    for prefix, dev in _behind(facts, devs, outside, family).items():
        if dev != outside and not any(prefix.value in route.prefix for route in known):
            main.append(Route(prefix, nexthops=leg(dev), scope=RT_SCOPE_LINK, text=f"{prefix} dev {dev}"))
            placed.setdefault(dev, []).append(str(prefix))
    for dev, names in placed.items():
        said += [f"{host.name}: no route.json: {some} taken to be behind {dev}" for some in _folded(names)]
    routes = {**host.routes, (family, RT_TABLE_MAIN): tuple(main)}
    if (family, RT_TABLE_LOCAL) not in routes:
        own = [a for a in host.addresses if a.family == family]
        local = [_local(Prefix(family, a.local, bits), a) for a in own]
        local += [_local(a.network, a) for a in own if a.dev == "lo" and a.plen < bits]
        routes[family, RT_TABLE_LOCAL] = tuple(local)
    return host.with_(routes=routes)


def _local(prefix: Prefix, address: Address) -> Route:
    return Route(
        prefix, RT_TABLE_LOCAL, "local", (Nexthop(address.dev, None, address.family),), scope=RT_SCOPE_HOST,
        prefsrc=address.local, text=f"local {prefix} dev {address.dev}",
    )  # fmt: skip


def _behind(facts: Facts, devs: list[str], outside: str, family: int) -> dict[Prefix, str]:
    found, bits = dict(facts.behind), BITS[family]
    networks = {(known.plen, known.value) for known in found}
    shifts = {bits - plen for plen, _ in networks}
    for inner, not_dev in facts.inner.items():
        if not any((bits - shift, inner >> shift << shift) in networks for shift in shifts):
            avoid = not_dev or outside
            found[Prefix(family, inner, bits)] = next((d for d in devs if d != avoid), avoid)
    return found


def _folded(names: list[str]) -> Iterable[str]:
    """One text for each of a few names, one for all of many."""
    if len(names) <= FEW:
        return [f"{name} is" for name in names]
    return [f"{', '.join(names[:FEW])} and {len(names) - FEW} more are"]


def _with_forwarding(host: Host, family: int, said: list[str]) -> Host:
    version = "ipv4" if family == AF_INET else "ipv6"
    names = [f"net.{version}.conf.{dev.replace('.', '/')}.forwarding" for dev in ("all", "default", *host.links)]
    if family == AF_INET:
        names.append("net.ipv4.ip_forward")
    sysctl = {**host.sysctl, **{name: Setting("1") for name in names if name not in host.sysctl}}
    said.append(f"{host.name}: no sysctl.txt: forwarding is taken to be on")
    return host.with_(sysctl=sysctl)
