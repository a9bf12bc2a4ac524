"""Small worlds for the routing tests, built from the text of ``ip`` as one would type it."""

from __future__ import annotations

from nattrace.sim.engine.run import Ctx, Run
from nattrace.sim.model.addr import AF_INET, parse_addr, parse_prefix
from nattrace.sim.model.packet import Skb
from nattrace.sim.model.route import Address, FibRule, Link, Nexthop, Route
from nattrace.sim.model.state import WorldState
from nattrace.sim.model.world import Host, Port, Segment, Setting, World


def ip4(text: str) -> int:
    return parse_addr(text)[1]


def route(prefix: str, *legs: str, table: int = 254, kind: str = "unicast", **more: object) -> Route:
    """``route("default", "via 10.0.0.1 dev eth0", "dev eth1 weight 2")``."""
    hops = []
    for text in legs:
        words = text.split()
        pairs = dict(zip(words[::2], words[1::2], strict=True))
        via = ip4(pairs["via"]) if "via" in pairs else None
        hops.append(Nexthop(pairs.get("dev"), via, weight=int(pairs.get("weight", 1))))
    scope = 254 if kind == "local" else 0 if not hops or hops[0].via is not None else 253
    return Route(parse_prefix("0.0.0.0/0" if prefix == "default" else prefix), table, kind, tuple(hops),
                 **{"scope": scope, **more})  # type: ignore[arg-type]  # fmt: skip


def host(name: str, addresses: dict[str, list[str]], *routes: Route, rules: tuple[FibRule, ...] = (),
         sysctl: dict[str, str] | None = None, **more: object) -> Host:  # fmt: skip
    """A host with the connected and local routes that its addresses make."""
    links = {"lo": Link("lo", 1, mtu=65536, loopback=True)}
    for number, dev in enumerate(addresses, 2):
        links[dev] = Link(dev, number, mac=hash((name, dev)) & 0xFFFFFFFFFFFF)
    configured = [Address(AF_INET, "lo", ip4("127.0.0.1"), 8, 254)]
    table: dict[tuple[int, int], list[Route]] = {}
    made = [route("127.0.0.0/8", "dev lo", table=255, kind="local", protocol="kernel")]
    for dev, texts in addresses.items():
        for text in texts:
            local, _, plen = text.partition("/")
            address = Address(AF_INET, dev, ip4(local), int(plen))
            configured.append(address)
            made.append(
                route(f"{local}/32", f"dev {dev}", table=255, kind="local", prefsrc=ip4(local), protocol="kernel")
            )
            made.append(route(str(address.network), f"dev {dev}", prefsrc=ip4(local), protocol="kernel"))
            if int(plen) < 31:
                last = address.network.value | (1 << 32 - int(plen)) - 1
                broadcast = Route(parse_prefix(str(address.network))._replace(value=last, plen=32), 255, "broadcast",
                                  (Nexthop(dev),), scope=253, prefsrc=ip4(local), protocol="kernel")  # fmt: skip
                made.append(broadcast)
    for entry in (*made, *routes):
        table.setdefault((AF_INET, entry.table), []).append(entry)
    settings = {key: Setting(value) for key, value in (sysctl or {}).items()}
    return Host(name, links=links, addresses=tuple(configured), routes={k: tuple(v) for k, v in table.items()},
                rules={AF_INET: rules} if rules else {}, sysctl=settings, **more)  # type: ignore[arg-type]  # fmt: skip


def context(*hosts: Host, lan: tuple[str, ...] = (), prefix: tuple[int, ...] = (), at: str | None = None) -> Ctx:
    """A Ctx on the first host (or ``at``); ``lan``: the members of one segment, ``host:dev``."""
    ports = tuple(Port(*member.split(":")) for member in lan)
    world = World({h.name: h for h in hosts}, (Segment("lan", ports),) if ports else ())
    run = Run(WorldState(world), prefix)
    chosen = world.hosts[at] if at else hosts[0]
    return Ctx(run, chosen, run.ws.host(chosen.name))


def packet(src: str, dst: str, proto: int = 17, sport: int = 1000, dport: int = 53) -> Skb:
    skb = Skb(AF_INET, proto, ip4(src), ip4(dst))
    skb.sport, skb.dport = sport, dport
    return skb
